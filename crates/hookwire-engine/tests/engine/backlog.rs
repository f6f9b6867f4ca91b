//! Backlogs: their limits, and what is told of them.

use std::num::NonZeroU32;
use std::time::Duration;

use hookwire_engine::{EndpointAct, Metrics, act_on_endpoint, count_waiting, publish, tell_what_holds};
use hookwire_model::{
    Authority, DeadReason, Delivery, DeliveryState, EndpointId, Event, Ordering, RetryPolicy, Schedule,
    Shard, WaitingReason, Webhook,
};
use hookwire_queue::{Change, Inspect as _, MemoryQueue, StoreLimits};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::world::{Act, START, World, parse, webhook};

fn endpoint(name: &str) -> EndpointId {
    let authority = Authority { https: false, host: "127.0.0.1".into(), port: 9000 };
    EndpointId::derive(&webhook(name, "/").name, &authority)
}

/// A policy that tries once an hour.
fn hourly() -> RetryPolicy {
    RetryPolicy {
        max_attempts: NonZeroU32::new(1000).unwrap(),
        schedule: Schedule::Steps(vec![Duration::from_secs(3600)]),
        jitter: 0.0,
        max_age: None,
    }
}

fn standing(deliveries: &[Delivery]) -> Vec<(DeliveryState, Option<DeadReason>)> {
    deliveries.iter().map(|delivery| (delivery.state, delivery.dead_reason)).collect()
}

/// What the metrics tell under this name and reason.
fn counted(metrics: &Metrics, name: &str, reason: &str) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let begin = format!("{name}_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_too_long_is_a_dead_letter() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.backlog_age_max = Duration::from_secs(3 * 3600 + 60);
    world.webhooks[0].retry = hourly();
    world.script.always("/a", Act::Answer(500));
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let metrics = Metrics::default();
    let running = world.start_counting(world.queue.clone(), shutdown.clone(), metrics.clone());
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    world.publish(1).await;
    assert_eq!(counted(&metrics, "dead_letters", "backlog_limit"), "0");
    tokio::time::sleep(Duration::from_secs(180)).await;
    let deliveries = world.deliveries().await;
    assert_eq!(
        standing(&deliveries)[0],
        (DeliveryState::Dead, Some(DeadReason::BacklogLimit)),
        "{deliveries:?}"
    );
    assert_eq!(deliveries[0].attempts, 4, "at once, and at each hour");
    assert_eq!(counted(&metrics, "dead_letters", "backlog_limit"), "1");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_takes_nothing_new_and_other_endpoints_do_not_notice() {
    check_full_backlog(Ordering::None).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_in_order_takes_nothing_new_either() {
    check_full_backlog(Ordering::Object).await;
}

async fn check_full_backlog(ordering: Ordering) {
    let mut world = World::new();
    world.publish(1).await;
    let payload = world.queue.stats(Shard(0)).await.unwrap().pending_bytes;
    let limits = StoreLimits { backlog_bytes_max: 2 * payload, ..StoreLimits::default() };
    world.queue = MemoryQueue::on_tokio_time(limits, START);
    world.webhooks = vec![webhook("a", "/a"), webhook("b", "/b")];
    world.webhooks[0].ordering = ordering;
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    act_on_endpoint(&world.queue, snapshot.definitions(), endpoint("a"), EndpointAct::Pause, world.now())
        .await
        .unwrap();
    world.publish(5).await;
    let metrics = Metrics::default();
    world
        .start_counting(world.queue.clone(), CancellationToken::new(), metrics.clone())
        .await
        .unwrap()
        .unwrap();
    let deliveries = world.deliveries().await;
    let (to_a, to_b): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| delivery.webhook.as_ref().unwrap().as_str() == "a");
    let dead = (DeliveryState::Dead, Some(DeadReason::BacklogLimit));
    let waiting = (DeliveryState::Waiting, None);
    let backlog = world.queue.backlogs(Shard(0)).await.unwrap()[0];
    assert_eq!((backlog.endpoint, backlog.deliveries), (endpoint("a"), 2), "{backlog:?}");
    let mut stood = standing(&to_a);
    stood.sort_by_key(|(state, _)| *state == DeliveryState::Dead);
    assert_eq!(stood, [waiting, waiting, dead, dead, dead]);
    assert!(to_b.iter().all(|delivery| delivery.state == DeliveryState::Delivered), "{to_b:?}");
    assert_eq!(counted(&metrics, "dead_letters", "backlog_limit"), "3");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_counted_by_what_keeps_it_now() {
    let mut world = World::new();
    world.webhooks =
        ["paused", "failing", "late", "disabled"].map(|name| webhook(name, &format!("/{name}"))).to_vec();
    for webhook in &mut world.webhooks {
        webhook.retry = hourly();
    }
    world.webhooks[3].enabled = false;
    world.script.always("/failing", Act::Answer(500));
    world.script.always("/late", Act::Answer(422));
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    let pause = EndpointAct::Pause;
    act_on_endpoint(&world.queue, snapshot.definitions(), endpoint("paused"), pause, world.now())
        .await
        .unwrap();
    world.publish(20).await;
    world.run().await;
    let waiting = world.queue.stats(Shard(0)).await.unwrap().waiting;
    let definitions = snapshot.definitions();
    let counts = count_waiting(&world.queue, definitions, waiting, world.now()).await.unwrap();
    let told: Vec<(WaitingReason, u64)> = hookwire_engine::WAITING_FOR.into_iter().zip(counts).collect();
    assert_eq!(
        told,
        [
            (WaitingReason::Retry, 20),
            (WaitingReason::RateLimit, 0),
            (WaitingReason::Unhealthy, 20),
            (WaitingReason::Paused, 20),
            (WaitingReason::WebhookDisabled, 20),
            (WaitingReason::WebhookRemoved, 0),
        ]
    );
    // A person who sends them again now does not change what holds them back.
    world.act(Change::Retry).await;
    let mut deliveries = world.deliveries().await;
    assert!(deliveries.iter().all(|delivery| delivery.waiting_reason == Some(WaitingReason::Worker)));
    tell_what_holds(&world.queue, Some(definitions), &mut deliveries, world.now()).await.unwrap();
    for delivery in &deliveries {
        let expected = match delivery.webhook.as_ref().unwrap().as_str() {
            "paused" => WaitingReason::Paused,
            "failing" => WaitingReason::Unhealthy,
            "disabled" => WaitingReason::WebhookDisabled,
            _ => WaitingReason::Worker,
        };
        assert_eq!(delivery.waiting_reason, Some(expected), "{:?}", delivery.webhook);
    }
    // What is kept for webhooks that are gone shows as that.
    world.webhooks.truncate(2);
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    let counts = count_waiting(&world.queue, snapshot.definitions(), waiting, world.now()).await.unwrap();
    assert_eq!(counts, [0, 0, 20, 20, 0, 40]);
}

/// Runs for so long, and lets the engine stop.
async fn run_for(world: &World, time: Duration) {
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(time).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

/// A worker with sixteen places, and two webhooks that get every event: one answers after 5 ms, the other after this.
fn slow_and_fast(slow: Duration) -> World {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks = vec![webhook("slow", "/slow"), webhook("fast", "/fast")];
    for webhook in &mut world.webhooks {
        webhook.concurrency = NonZeroU32::new(100).unwrap();
    }
    world.script.always("/slow", Act::AnswerAfter(slow, 200));
    world.script.always("/fast", Act::AnswerAfter(Duration::from_millis(5), 200));
    world
}

/// In ten seconds eight of the sixteen places send eighty that take a second each, and thousands that take 5 ms.
#[tokio::test(start_paused = true)]
async fn turns_go_by_the_time_that_endpoints_use() {
    let world = slow_and_fast(Duration::from_secs(1));
    world.publish(1000).await;
    run_for(&world, Duration::from_secs(10)).await;
    let (slow, fast) = (world.script.count("/slow"), world.script.count("/fast"));
    assert_eq!(fast, 1000, "slow {slow}");
    assert!(slow >= 70, "slow {slow}, fast {fast}");
}

#[tokio::test(start_paused = true)]
async fn turns_in_backlogs_go_by_the_time_that_endpoints_use() {
    let mut world = slow_and_fast(Duration::from_secs(1));
    for webhook in &mut world.webhooks {
        webhook.enabled = false;
    }
    world.publish(3000).await;
    run_for(&world, Duration::from_secs(1)).await;
    assert_eq!(world.queue.stats(Shard(0)).await.unwrap().waiting, 6000);
    for webhook in &mut world.webhooks {
        webhook.enabled = true;
    }
    world.act(Change::Retry).await;
    // The store holds what was disabled for half a minute at most.
    run_for(&world, Duration::from_secs(40)).await;
    let seen = world.script.seen();
    let began = seen[0].2;
    let within = |path: &str, time: Duration| {
        seen.iter().filter(|(seen, _, at)| seen == path && *at < began + time).count()
    };
    let time = Duration::from_secs(3);
    let (slow, fast) = (within("/slow", time), within("/fast", time));
    // Half of the places send 1,600 a second, and eight.
    assert!(fast >= 2400, "slow {slow}, fast {fast}");
    assert!((16..=56).contains(&slow), "slow {slow}, fast {fast}");
}

/// Where the fast one has nothing to send, the slow one has all places.
#[tokio::test(start_paused = true)]
async fn places_that_nobody_else_wants_are_used() {
    let world = slow_and_fast(Duration::from_secs(1));
    world.publish(300).await;
    run_for(&world, Duration::from_secs(12)).await;
    let (slow, fast) = (world.script.count("/slow"), world.script.count("/fast"));
    assert_eq!(fast, 300);
    assert!(slow >= 150, "slow {slow}");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_take_the_same_time_are_left_alone() {
    let world = slow_and_fast(Duration::from_millis(6));
    world.publish(2000).await;
    run_for(&world, Duration::from_secs(2)).await;
    assert_eq!((world.script.count("/slow"), world.script.count("/fast")), (2000, 2000));
}

/// Events with more deliveries than the worker has places: they go by turns, one event after the other, and none goes by
/// way of a backlog, although all of them together take longer than a delivery waits for a place.
#[tokio::test(start_paused = true)]
async fn an_event_with_many_deliveries_takes_turns_for_the_worker_s_places() {
    let mut world = World::new();
    world.webhooks = (0..100).map(|number| webhook(&format!("w{number}"), "/a")).collect();
    world.script.always("/a", Act::AnswerAfter(Duration::from_millis(5), 200));
    world.publish(40).await;
    let metrics = Metrics::default();
    let ended = world.start_counting(world.queue.clone(), CancellationToken::new(), metrics.clone());
    ended.await.unwrap().unwrap();
    assert_eq!((world.script.count("/a"), world.script.most_in_flight()), (4000, world.settings.concurrency));
    assert_eq!(counted(&metrics, "waits", "room"), "0");
}

/// An event that a template makes a request to this host and path of.
fn event_to(host: &str, path: &str, number: usize) -> Event {
    let data = format!(r#"{{"host":"{host}","path":"{path}"}}"#);
    parse(&format!(r#"{{"id":"{host}-{number}","event":"created","object_type":"a.b","data":{data}}}"#))
}

/// A worker whose places are all taken by receivers that take five seconds, each of them as slow as the others: what
/// waits for them does not keep what comes after it from a receiver that is quick.
#[tokio::test(start_paused = true)]
async fn slow_receivers_that_fill_the_worker_stand_aside() {
    check_quick_among_slow(vec![]).await;
}

#[tokio::test(start_paused = true)]
async fn so_do_those_that_have_no_room_of_their_own() {
    let mut one = webhook("one", "/slow");
    one.concurrency = NonZeroU32::MIN;
    check_quick_among_slow(vec![one]).await;
}

/// `more`: webhooks that get every event, too.
async fn check_quick_among_slow(more: Vec<Webhook>) {
    let mut world = World::new();
    world.webhooks.extend(more);
    world.settings.until_idle = false;
    world.settings.concurrency = 8;
    world.webhooks[0].url = "http://{{data.host}}.example/{{data.path}}".into();
    world.script.always("/slow", Act::AnswerAfter(Duration::from_secs(5), 200));
    let slow: Vec<_> =
        (0..500).map(|number| event_to(&format!("slow{}", number % 5), "slow", number)).collect();
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    publish(&world.queue, &slow).await.unwrap();
    for number in 0..4 {
        // Not at the moment at which the slow ones end.
        tokio::time::sleep(Duration::from_millis(3_700)).await;
        publish(&world.queue, &[event_to("quick", "quick", number)]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let seen = world.script.seen();
    let quick: Vec<_> = seen.iter().filter(|(path, _, _)| path == "/quick").map(|(_, _, at)| *at).collect();
    // As soon as one of the places comes free, of which none does before its five seconds are over.
    for (number, at) in (1..).zip(&quick) {
        let waited = at.saturating_sub(Duration::from_millis(3_700) * number);
        assert!(waited < Duration::from_millis(5_100), "{quick:?}");
    }
    assert_eq!(quick.len(), 4);
}

/// It is the worker that has no place for what stands aside: it counts in no endpoint's backlog, which would be over its
/// limit at once, and nothing becomes a dead letter that would have been delivered.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_place_fills_no_backlog() {
    let mut world = World::new();
    let limits = StoreLimits { backlog_bytes_max: 1_000, ..StoreLimits::default() };
    world.queue = MemoryQueue::on_tokio_time(limits, START);
    world.settings.until_idle = false;
    world.settings.concurrency = 8;
    world.webhooks[0].url = "http://{{data.host}}.example/{{data.path}}".into();
    world.script.always("/slow", Act::AnswerAfter(Duration::from_secs(2), 200));
    let slow: Vec<_> =
        (0..400).map(|number| event_to(&format!("slow{}", number % 2), "slow", number)).collect();
    publish(&world.queue, &slow).await.unwrap();
    run_for(&world, Duration::from_secs(1)).await;
    let stats = world.queue.stats(Shard(0)).await.unwrap();
    assert!(stats.waiting > 300, "they stand aside: {stats:?}");
    run_for(&world, Duration::from_secs(120)).await;
    let stats = world.queue.stats(Shard(0)).await.unwrap();
    assert_eq!((stats.delivered, stats.dead), (400, 0), "{stats:?}");
    assert_eq!(world.script.most_in_flight(), 8);
}
