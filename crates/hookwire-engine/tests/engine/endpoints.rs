//! One endpoint that fails, asks for less, is limited or paused: what it gets, and that the others do not notice.

use std::time::Duration;

use bytes::Bytes;
use hookwire_engine::{
    Endpoint, EndpointAct, EndpointState, OperateError, PausedBy, act_on_endpoint, home_shard,
    list_endpoints, pause_webhook,
};
use hookwire_model::{Authority, DeliveryState, EndpointId, Shard, WaitingReason};
use hookwire_queue::{Inspect as _, PutEndpoint, Queue as _, WorkerId};
use tokio_util::sync::CancellationToken;

use crate::troubled::Troubled;
use crate::world::{Act, World, webhook};

/// The endpoint of a webhook of these tests.
fn endpoint(name: &str) -> EndpointId {
    let authority = Authority { https: false, host: "127.0.0.1".into(), port: 9000 };
    EndpointId::derive(&webhook(name, "/").name, &authority)
}

/// What the store knows of the endpoint of a webhook.
async fn stored(world: &World, name: &str) -> Option<EndpointState> {
    let record = world.queue.endpoint(home_shard(endpoint(name), 1), endpoint(name)).await.unwrap();
    record.map(|record| EndpointState::read(&record.state).unwrap())
}

/// What a person does.
async fn person(world: &World, act: EndpointAct) {
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    act_on_endpoint(&world.queue, snapshot.definitions(), endpoint("a"), act, world.now()).await.unwrap();
}

/// What a person does to a webhook.
async fn person_pauses_webhook(world: &World, pause: bool) {
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    let name = &world.webhooks[0].name;
    pause_webhook(&world.queue, snapshot.definitions(), name, pause, world.now()).await.unwrap();
}

/// What a person sees.
async fn listed(world: &World) -> Vec<Endpoint> {
    let in_force = world.in_force();
    list_endpoints(&world.queue, in_force.snapshot().definitions(), world.now()).await.unwrap()
}

/// Runs an engine for so long, and lets it stop.
async fn run_for(world: &World, time: Duration) {
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(time).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_costs_a_probe_now_and_then_and_the_others_nothing() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks.push(webhook("b", "/b"));
    world.script.always("/a", Act::Answer(500));
    world.publish(200).await;
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(world.script.count("/b"), 200, "the other one got everything");
    // Up to 16 were in flight when it opened, and then probes after 1, 2, 4, 8, 16 and 32 seconds.
    let calls = world.script.count("/a");
    assert!((15..=26).contains(&calls), "{calls}");
    assert_eq!(stored(&world, "a").await.unwrap().health.circuit(), "open");
    assert_eq!(stored(&world, "b").await, None, "there is nothing to say about it");
    let deliveries = world.deliveries().await;
    let unhealthy =
        deliveries.iter().filter(|delivery| delivery.waiting_reason == Some(WaitingReason::Unhealthy));
    assert!(unhealthy.count() > 150);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_stays_open_over_a_restart_and_closes_with_everything_delivered() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(100).await;
    run_for(&world, Duration::from_secs(40)).await;
    let calls = world.script.count("/a");
    world.script.always("/a", Act::Answer(200));
    // The next probe is due within 32 seconds; before that nothing is sent.
    run_for(&world, Duration::from_secs(5)).await;
    assert_eq!(world.script.count("/a"), calls, "the new worker knows that it is open");
    run_for(&world, Duration::from_secs(1000)).await;
    let deliveries = world.deliveries().await;
    assert!(deliveries.iter().all(|delivery| delivery.state == DeliveryState::Delivered));
}

#[tokio::test(start_paused = true)]
async fn one_delivery_at_a_time_goes_to_an_endpoint_that_is_probed() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::AnswerAfter(Duration::from_secs(5), 500));
    world.publish(50).await;
    run_for(&world, Duration::from_secs(200)).await;
    let mut seen = world.script.seen().split_off(16);
    seen.dedup_by_key(|(_, _, at)| *at);
    for pair in seen.windows(2) {
        assert!(pair[1].2 - pair[0].2 >= Duration::from_secs(6), "{seen:?}");
    }
    assert!(seen.len() >= 4, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_and_is_used() {
    let mut world = World::new();
    world.webhooks[0].rate_limit = Some("10/s".parse().unwrap());
    world.publish(100).await;
    let summary = world.run().await;
    assert!(!summary.waits_for_later, "what a rate keeps back for a moment is waited for");
    let seen = world.script.seen();
    assert_eq!(seen.len(), 100);
    let last = seen.last().unwrap().2.as_secs_f64();
    assert!((9.0..11.0).contains(&last), "100 at 10/s take 10 s and not {last}");
    for second in 0..9 {
        let within = |at: &Duration| (second..second + 1).contains(&at.as_secs());
        let count = seen.iter().filter(|(_, _, at)| within(at)).count();
        assert!((8..=13).contains(&count), "{count} in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_says_gone_is_paused_and_its_backlog_kept() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 1;
    world.script.on("/a", [Act::Answer(200), Act::Answer(410)]);
    world.publish(20).await;
    run_for(&world, Duration::from_secs(3600)).await;
    assert_eq!(world.script.count("/a"), 2);
    let state = stored(&world, "a").await.unwrap();
    assert_eq!((state.paused_by, state.health.is_paused()), (Some(PausedBy::Gone), true));
    let mut states: Vec<_> = world.deliveries().await.iter().map(|delivery| delivery.state).collect();
    states.dedup();
    assert_eq!(states, [DeliveryState::Delivered, DeliveryState::Dead, DeliveryState::Waiting]);
    // A person resumes it: the backlog goes out.
    person(&world, EndpointAct::Resume).await;
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(world.script.count("/a"), 20);
}

#[tokio::test(start_paused = true)]
async fn a_pause_reaches_a_running_worker_and_so_does_its_end() {
    let mut world = World::new();
    world.settings.until_idle = false;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    world.publish(3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.script.count("/a"), 3);
    person(&world, EndpointAct::Pause).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more: Vec<_> = (3..6).map(|number| crate::world::event(&format!("e{number}"))).collect();
    hookwire_engine::publish(&world.queue, &more).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.script.count("/a"), 3, "nothing goes out while it is paused");
    let waiting = world.deliveries().await;
    let reasons: Vec<_> = waiting.iter().filter_map(|delivery| delivery.waiting_reason).collect();
    assert_eq!(reasons, [WaitingReason::Paused; 3]);
    person(&world, EndpointAct::Resume).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.script.count("/a"), 6);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_backlog_of_an_outage_does_not_come_as_a_storm() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(400).await;
    run_for(&world, Duration::from_secs(20)).await;
    world.script.always("/a", Act::Answer(200));
    let before = world.script.seen().len();
    run_for(&world, Duration::from_secs(600)).await;
    let seen = world.script.seen().split_off(before);
    let first = seen[0].2;
    let within =
        |seconds: f64| seen.iter().filter(|(_, _, at)| (*at - first).as_secs_f64() <= seconds).count();
    assert!(within(1.0) <= 12, "{} in the first second", within(1.0));
    assert!(within(30.0) >= 380, "{} in half a minute", within(30.0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_webhook_keeps_the_backlogs_of_all_its_endpoints_and_lets_them_go() {
    let mut world = World::new();
    world.settings.until_idle = false;
    // Endpoints that only rendering tells.
    world.webhooks[0].url = "http://127.0.0.1:{{data.port}}/a".into();
    person_pauses_webhook(&world, true).await;
    let events = (0..6).map(|number| {
        let text = format!(
            r#"{{"id":"e{number}","event":"created","object_type":"dcim.site","data":{{"port":{}}}}}"#,
            9000 + number % 3
        );
        crate::world::parse(&text)
    });
    hookwire_engine::publish(&world.queue, &events.collect::<Vec<_>>()).await.unwrap();
    run_for(&world, Duration::from_secs(600)).await;
    assert_eq!(world.script.count("/a"), 0);
    let endpoints = listed(&world).await;
    let told: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.state.as_str(), endpoint.paused_by, endpoint.waiting))
        .collect();
    assert_eq!(told, [("paused", Some(PausedBy::Webhook), 2); 3]);
    person_pauses_webhook(&world, false).await;
    run_for(&world, Duration::from_secs(10)).await;
    assert_eq!(world.script.count("/a"), 6);
}

#[tokio::test(start_paused = true)]
async fn a_person_sees_what_holds_an_endpoint_back_and_may_have_it_probed() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(40).await;
    run_for(&world, Duration::from_secs(100)).await;
    let seen = listed(&world).await.remove(0);
    assert_eq!((seen.state.as_str(), seen.waiting, seen.id), ("open", 40, endpoint("a")));
    assert!(seen.waits_until.is_some_and(|until| until > world.now()), "{seen:?}");
    let calls = world.script.count("/a");
    world.script.always("/a", Act::Answer(200));
    person(&world, EndpointAct::Probe).await;
    run_for(&world, Duration::from_secs(5)).await;
    assert!(world.script.count("/a") > calls, "the probe went out at once");
    assert_eq!(listed(&world).await[0].state, "closed");
}

#[tokio::test(start_paused = true)]
async fn acts_on_what_does_not_exist_are_refused() {
    let world = World::new();
    let in_force = world.in_force();
    let snapshot = in_force.snapshot();
    let unknown = EndpointId::from_u64(7);
    let act = act_on_endpoint(&world.queue, snapshot.definitions(), unknown, EndpointAct::Pause, world.now());
    assert!(matches!(act.await, Err(OperateError::UnknownEndpoint(id)) if id == unknown));
    let name = &webhook("nobody", "/").name;
    let act = pause_webhook(&world.queue, snapshot.definitions(), name, true, world.now());
    assert!(matches!(act.await, Err(OperateError::UnknownWebhook(_))));
    person(&world, EndpointAct::Pause).await;
    let act =
        act_on_endpoint(&world.queue, snapshot.definitions(), endpoint("a"), EndpointAct::Probe, world.now());
    assert!(matches!(act.await, Err(OperateError::Paused(_))));
    // The same where its webhook is.
    person(&world, EndpointAct::Resume).await;
    person_pauses_webhook(&world, true).await;
    let act =
        act_on_endpoint(&world.queue, snapshot.definitions(), endpoint("a"), EndpointAct::Probe, world.now());
    assert!(matches!(act.await, Err(OperateError::WebhookPaused(_))));
    person_pauses_webhook(&world, false).await;
    person(&world, EndpointAct::Probe).await;
}

#[tokio::test(start_paused = true)]
async fn the_backlog_of_a_disabled_webhook_is_looked_at_by_samples() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks[0].enabled = false;
    world.publish(500).await;
    let queue = Troubled::counting(&world.queue);
    let leased = queue.leased();
    let shutdown = CancellationToken::new();
    let running = world.start(queue, shutdown.clone());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let leased = leased.load(std::sync::atomic::Ordering::Relaxed);
    assert!(leased <= 120 * 16, "{leased} leases of deliveries in an hour, where all each time are 60,000");
    world.webhooks[0].enabled = true;
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(world.script.count("/a"), 500);
}

/// Two workers whose clocks differ: one has the store hold a backlog for longer than the other, who lets it go.
#[tokio::test(start_paused = true)]
async fn a_backlog_that_another_worker_let_go_goes_round_no_more_than_once() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(50).await;
    let shutdown = CancellationToken::new();
    let running = world.start(Troubled::bounded(&world.queue, 1_000), shutdown.clone());
    // By then it is open for half a minute.
    tokio::time::sleep(Duration::from_secs(40)).await;
    let calls = world.script.count("/a");
    world.queue.hold(Shard(0), endpoint("a"), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.script.count("/a"), calls);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_over_workers_that_send_little() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks[0].rate_limit = Some("1/s".parse().unwrap());
    world.publish(60).await;
    let shutdown = CancellationToken::new();
    let mut running = Vec::new();
    for name in ["w1", "w2", "w3"] {
        world.settings.worker = WorkerId::new(name);
        running.push(world.start(world.queue.clone(), shutdown.clone()));
    }
    // One for each worker at once, before they know of each other, and one each second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let first = world.script.count("/a");
    assert!((3..=6).contains(&first), "{first} in 2.5 s");
    tokio::time::sleep(Duration::from_millis(17_500)).await;
    let count = world.script.count("/a");
    assert!((18..=24).contains(&count), "{count} in 20 s");
    shutdown.cancel();
    for running in running {
        running.await.unwrap().unwrap();
    }
}

/// The probe's time came, and a person had paused the webhook: neither lets anything through.
#[tokio::test(start_paused = true)]
async fn a_paused_webhook_whose_breaker_is_open_is_left_alone() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(50).await;
    let shutdown = CancellationToken::new();
    let running = world.start(Troubled::bounded(&world.queue, 1_000), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(20)).await;
    person_pauses_webhook(&world, true).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let calls = world.script.count("/a");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.script.count("/a"), calls);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_made_although_somebody_else_wrote_before_it() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.always("/a", Act::Answer(500));
    world.publish(50).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let calls = world.script.count("/a");
    // Nothing new, but another version than the worker knows; its probe is due half a second later.
    let record = world.queue.endpoint(home_shard(endpoint("a"), 1), endpoint("a")).await.unwrap().unwrap();
    world.queue.put_endpoint(Shard(0), endpoint("a"), record.version, record.state).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.script.count("/a"), calls + 1);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

/// A worker asks the store to hold what is paused, and dies before it learns that the pause has ended.
#[tokio::test(start_paused = true)]
async fn a_hold_that_outlives_its_pause_ends_by_itself() {
    let mut world = World::new();
    world.settings.until_idle = false;
    person(&world, EndpointAct::Pause).await;
    world.publish(3).await;
    let worker = world.start(world.queue.clone(), CancellationToken::new());
    // Not at the moment at which it looks.
    tokio::time::sleep(Duration::from_secs(999)).await;
    assert_eq!(world.script.count("/a"), 0, "the hold was renewed");
    let mut state = stored(&world, "a").await.unwrap();
    state.resume(world.now());
    let version = world.queue.endpoint(Shard(0), endpoint("a")).await.unwrap().unwrap().version;
    world.queue.put_endpoint(Shard(0), endpoint("a"), version, state.to_record()).await.unwrap();
    worker.abort();
    run_for(&world, Duration::from_secs(330)).await;
    assert_eq!(world.script.count("/a"), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_of_a_backlog_is_leased_than_there_is_room_for() {
    let mut world = World::new();
    world.webhooks[0].concurrency = 2.try_into().unwrap();
    world.script.always("/a", Act::AnswerAfter(Duration::from_millis(10), 200));
    world.publish(100).await;
    let queue = Troubled::counting(&world.queue);
    let leased = queue.leased();
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(world.script.count("/a"), 100);
    let leased = leased.load(std::sync::atomic::Ordering::Relaxed);
    assert!(leased <= 110, "{leased} leases of 98 deliveries");
}

/// The endpoint is full when the store is asked, and has room before the answer comes: what was left out of the answer
/// is looked for again.
#[tokio::test(start_paused = true)]
async fn room_that_comes_while_the_store_answers_is_used() {
    for look_takes in [1, 4, 11, 30].map(Duration::from_millis) {
        let mut world = World::new();
        world.settings.until_idle = false;
        world.webhooks[0].concurrency = 2.try_into().unwrap();
        world.script.always("/a", Act::AnswerAfter(Duration::from_millis(10), 200));
        world.publish(40).await;
        let shutdown = CancellationToken::new();
        let running = world.start(Troubled::tells_late(&world.queue, look_takes), shutdown.clone());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(world.script.count("/a"), 40, "a store that answers after {look_takes:?}");
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_come_while_the_store_answers_are_used() {
    for look_takes in [1, 9, 15, 40].map(Duration::from_millis) {
        let mut world = World::new();
        world.settings.until_idle = false;
        world.webhooks[0].rate_limit = Some("100/s".parse().unwrap());
        world.publish(400).await;
        let shutdown = CancellationToken::new();
        let running = world.start(Troubled::tells_late(&world.queue, look_takes), shutdown.clone());
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(world.script.count("/a"), 400, "a store that answers after {look_takes:?}");
        shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}

/// A worker that starts while the store fails must not take a paused endpoint for one that may be called.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_it_is_known_what_is_paused() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.publish(3).await;
    person_pauses_webhook(&world, true).await;
    let shutdown = CancellationToken::new();
    let running = world.start(Troubled::fails_to_tell(&world.queue, 3), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.script.count("/a"), 0);
    person_pauses_webhook(&world, false).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.script.count("/a"), 3);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

/// Data may choose how many endpoints there are, so what is known of them does not stay for ever.
#[tokio::test(start_paused = true)]
async fn trouble_that_nothing_is_sent_to_any_more_is_forgotten() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks[0].retry.max_attempts = std::num::NonZeroU32::MIN;
    world.script.always("/a", Act::Answer(503));
    world.publish(1).await;
    run_for(&world, Duration::from_secs(5)).await;
    assert!(stored(&world, "a").await.unwrap().health.rate().is_some());
    run_for(&world, Duration::from_secs(25 * 3600)).await;
    assert_eq!(stored(&world, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_also_for_a_worker_that_sees_only_that_the_record_is_gone() {
    let mut world = World::new();
    world.settings.until_idle = false;
    person(&world, EndpointAct::Pause).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    world.publish(1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.script.count("/a"), 0);
    // Another worker was sooner to take note of it, and had nothing more to say.
    let record = world.queue.endpoint(Shard(0), endpoint("a")).await.unwrap().unwrap();
    let removed = world.queue.put_endpoint(Shard(0), endpoint("a"), record.version, Bytes::new()).await;
    assert_eq!(removed.unwrap(), PutEndpoint::Written(0));
    world.queue.hold(Shard(0), endpoint("a"), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.script.count("/a"), 1);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
