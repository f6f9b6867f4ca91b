//! From one store to another, beside whoever works on the other.

use std::time::Duration;

use hookwire_engine::{EndpointAct, act_on_endpoint, list_endpoints, migrate, pause_webhook, publish};
use hookwire_model::Shard;
use hookwire_queue::{Inspect as _, MemoryQueue, StoreLimits};
use tokio_util::sync::CancellationToken;

use crate::world::{START, World, event, webhook};

#[tokio::test(start_paused = true)]
async fn what_is_migrated_to_a_store_at_work_does_not_go_out_to_what_is_paused() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks.push(webhook("b", "/b"));
    let from = MemoryQueue::on_tokio_time(StoreLimits::default(), START);
    let snapshot = world.in_force().snapshot();
    let (definitions, now) = (snapshot.definitions(), world.now());
    let [paused, single] = [&world.webhooks[0], &world.webhooks[1]];
    pause_webhook(&from, definitions, &paused.name, true, now).await.unwrap();
    let id = list_endpoints(&from, definitions, now).await.unwrap();
    let id = id.into_iter().find(|endpoint| endpoint.webhook == single.name).unwrap().id;
    act_on_endpoint(&from, definitions, id, EndpointAct::Pause, now).await.unwrap();
    let events: Vec<_> = (0..5).map(|number| event(&format!("e{number}"))).collect();
    publish(&from, &events).await.unwrap();
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_millis(1_234)).await;
    let migrated = migrate(&from, &world.queue, |_| {}).await.unwrap();
    assert_eq!((migrated.events, migrated.new, migrated.endpoints), (5, 5, 2));
    // Again, where it is known already; and with something new.
    publish(&from, &[event("later")]).await.unwrap();
    let migrated = migrate(&from, &world.queue, |_| {}).await.unwrap();
    assert_eq!((migrated.events, migrated.new, migrated.endpoints), (6, 1, 0));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.script.seen(), []);
    assert_eq!(world.queue.stats(Shard(0)).await.unwrap().waiting, 12);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
