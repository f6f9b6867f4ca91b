//! What hurt users of other webhook senders, and must not happen here. `docs/testing.md` lists them; that a body which
//! drips for ever frees its slot is tested where bodies are read, in `hookwire-dispatch`.

use std::time::Duration;

use hookwire_model::{DeadReason, DeliveryState, Shard, Webhook, WebhookName};
use hookwire_queue::{
    Change, DeliveryFilter, EventFate, Inspect, LeaseEvents, Queue, Selection, SettledEvent, Settlement,
    WorkerId,
};
use tokio_util::sync::CancellationToken;

use crate::world::{Act, World, states, webhook};

/// Lets two workers run for so long.
async fn run_two(world: &World, time: Duration) {
    let shutdown = CancellationToken::new();
    let running = [0, 1].map(|_| world.start(world.queue.clone(), shutdown.clone()));
    tokio::time::sleep(time).await;
    shutdown.cancel();
    for worker in running {
        worker.await.unwrap().unwrap();
    }
}

/// Queues that give work again after a while gave the same delayed work to several workers, where the delay was longer
/// than that while.
#[tokio::test(start_paused = true)]
async fn delayed_work_longer_than_the_lease_is_not_repeated() {
    let mut world = World::new();
    world.settings.until_idle = false;
    // The attempt takes four leases, the waits after it up to two hours.
    world.script.always("/a", Act::AnswerAfter(4 * world.settings.lease, 500));
    world.publish(5).await;
    run_two(&world, Duration::from_secs(4 * 3600)).await;
    let deliveries = world.deliveries().await;
    for delivery in &deliveries {
        let numbers: Vec<u32> = delivery.attempt_log.iter().flatten().map(|attempt| attempt.number).collect();
        let expected: Vec<u32> = (1..=delivery.attempts).collect();
        assert_eq!((numbers, delivery.interrupted), (expected, 0), "each attempt was made once");
        assert!(delivery.attempts >= 3, "{} attempts", delivery.attempts);
    }
    let attempts: u32 = deliveries.iter().map(|delivery| delivery.attempts).sum();
    assert_eq!(world.script.seen().len(), attempts as usize);
}

/// A resend by hand that failed ended the delivery, whatever the schedule still had in store for it.
#[tokio::test(start_paused = true)]
async fn a_manual_retry_that_fails_leaves_the_automatic_ones() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", [Act::Answer(500), Act::Answer(500), Act::Answer(500)]);
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    // The second attempt is done, the third is due in five minutes.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.script.count("/a"), 2);
    world.act(Change::Retry).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.script.count("/a"), 3);
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Waiting]);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
    assert_eq!(world.script.count("/a"), 4);
}

/// A bulk resend that went through the list page by page missed some and sent others twice, since the list changed
/// under it.
#[tokio::test(start_paused = true)]
async fn a_bulk_redrive_over_interleaved_attempts_misses_none_and_repeats_none() {
    const EVENTS: usize = 450;
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 64;
    world.webhooks.push(webhook("b", "/b"));
    for webhook in &mut world.webhooks {
        webhook.retry.max_attempts = 1.try_into().unwrap();
        webhook.concurrency = 32.try_into().unwrap();
    }
    // The deaths at both come between each other, and both work on while the dead are sent again.
    for path in ["/a", "/b"] {
        world.script.on(path, std::iter::repeat_n(Act::Answer(400), EVENTS));
        world.script.always(path, Act::AnswerAfter(Duration::from_millis(20), 200));
    }
    world.publish(EVENTS).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    let mut redriven = 0;
    while redriven < 2 * EVENTS as u64 {
        let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
        let dead = Selection::Filter(dead);
        redriven += world.queue.change(Shard(0), Change::Redrive, &dead, false).await.unwrap().changed;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 2 * EVENTS]);
    assert!(deliveries.iter().all(|delivery| delivery.attempts == 2));
    assert_eq!((world.script.count("/a"), world.script.count("/b")), (2 * EVENTS, 2 * EVENTS));
}

/// "Resend what failed since" went by the event: what one endpoint had got was sent to it again, because another had
/// not.
#[tokio::test(start_paused = true)]
async fn what_failed_is_resent_to_the_endpoint_where_it_failed() {
    let mut world = World::new();
    world.webhooks =
        vec![webhook("a", "/a"), Webhook::new(WebhookName::new("b").unwrap(), "http://127.0.0.2:9000/b")];
    for webhook in &mut world.webhooks {
        webhook.retry.max_attempts = 1.try_into().unwrap();
    }
    world.script.on("/a", [Act::Answer(400), Act::Answer(200), Act::Answer(400)]);
    world.script.on("/b", [Act::Answer(400)]);
    world.publish(3).await;
    world.run().await;
    let dead: Vec<_> = world
        .deliveries()
        .await
        .into_iter()
        .filter(|delivery| delivery.state == DeliveryState::Dead)
        .collect();
    assert_eq!(dead.len(), 3);
    let at_a = dead.iter().find(|delivery| delivery.webhook.as_ref().unwrap().as_str() == "a").unwrap();
    let filter = DeliveryFilter {
        state: Some(DeliveryState::Dead),
        endpoint: at_a.endpoint,
        ..DeliveryFilter::default()
    };
    let changed = world.queue.change(Shard(0), Change::Redrive, &Selection::Filter(filter), false).await;
    assert_eq!(changed.unwrap().changed, 2);
    world.run().await;
    assert_eq!((world.script.count("/a"), world.script.count("/b")), (3 + 2, 3));
    let left = world.deliveries().await;
    let left: Vec<_> = left.iter().filter(|delivery| delivery.state == DeliveryState::Dead).collect();
    assert_eq!((left.len(), left[0].webhook.as_ref().unwrap().as_str()), (1, "b"));
}

/// An event that takes its worker down took the events leased together with it into the dead letters, since all of them
/// had lost their leases as often.
#[tokio::test(start_paused = true)]
async fn a_poison_event_does_not_take_its_neighbours_into_the_dead_letters() {
    let world = World::new();
    let poison = world.publish(20).await.swap_remove(7);
    let mut crashes = 0;
    // Workers, each of which dies as soon as it has the poison among what it leased.
    loop {
        let request = LeaseEvents {
            worker: WorkerId::new("doomed"),
            lease: world.settings.lease,
            max: 10,
            suspects_max: 1,
        };
        let leased = world.queue.lease_events(Shard(0), request).await.unwrap();
        if leased.iter().any(|event| event.id == poison && event.losses >= 5) || leased.is_empty() {
            break;
        }
        if leased.iter().any(|event| event.id == poison) {
            crashes += 1;
        } else {
            let settled = leased.into_iter().map(|event| {
                assert!(event.losses <= 2, "{} lost {} leases", event.id, event.losses);
                let (event_word, object_type) = ("created".into(), "dcim.site".into());
                let fate = EventFate::FannedOut { event: event_word, object_type, deliveries: vec![] };
                SettledEvent { lease: event.lease, fate }
            });
            let settlement = Settlement { events: settled.collect(), deliveries: vec![] };
            world.queue.settle(Shard(0), &settlement).await.unwrap();
            continue;
        }
        tokio::time::sleep(world.settings.lease + Duration::from_secs(1)).await;
    }
    tokio::time::sleep(world.settings.lease + Duration::from_secs(1)).await;
    world.run().await;
    assert!(crashes >= 5, "{crashes} crashes");
    for delivery in world.deliveries().await {
        let reason = (delivery.event_id == poison).then_some(DeadReason::PoisonEvent);
        assert_eq!(delivery.dead_reason, reason, "{}", delivery.event_id);
    }
    assert!(
        world.queue.event(Shard(0), &poison).await.unwrap().is_some_and(|event| !event.deliveries.is_empty())
    );
}
