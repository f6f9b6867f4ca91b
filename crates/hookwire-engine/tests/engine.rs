//! The engine with the memory queue, a scripted dispatcher and tokio's paused clock: no time passes but what the test or
//! an idle runtime lets pass.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hookwire_definitions::Definitions;
use hookwire_dispatch::{AttemptOptions, AttemptReport, Dispatch};
use hookwire_engine::{
    Chance, Clock, Engine, EngineError, EngineSettings, InForce, Snapshot, Summary, publish, run,
};
use hookwire_model::{
    AttemptError, DeadReason, Delivery, DeliveryState, ErrorKind, Event, EventDefaults, EventId, EventRule,
    Outcome, PreparedRequest, RuleName, Shard, Timestamp, Timings, WaitingReason, Webhook, WebhookName,
};
use hookwire_queue::{
    DeliveryFilter, EventState, Inspect, Lease, LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent,
    MemoryQueue, NewEvent, Published, Queue, QueueError, Settled, Settlement, StoreLimits, Subject, WorkerId,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const START: Timestamp = Timestamp::UNIX_EPOCH;

/// What the scripted dispatcher does with a request.
#[derive(Clone, Debug)]
enum Act {
    Answer(u16),
    AnswerAfter(Duration, u16),
    Panic,
}

/// Does what the script of a path says, and 200 where there is none; remembers what it was asked.
#[derive(Default)]
struct Script {
    acts: Mutex<BTreeMap<String, VecDeque<Act>>>,
    seen: Mutex<Vec<(String, String, Duration)>>,
    in_flight: Mutex<(usize, usize)>,
    start: Mutex<Option<Instant>>,
}

impl Script {
    fn on(self: &Arc<Self>, path: &str, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().insert(path.to_owned(), acts.into_iter().collect());
    }

    /// Path, attempt number and time since the start of each request.
    fn seen(&self) -> Vec<(String, String, Duration)> {
        self.seen.lock().unwrap().clone()
    }

    fn most_in_flight(&self) -> usize {
        self.in_flight.lock().unwrap().1
    }
}

struct InFlight<'a>(&'a Script);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.lock().unwrap().0 -= 1;
    }
}

impl Dispatch for Script {
    async fn attempt(&self, request: &PreparedRequest, _: &AttemptOptions) -> AttemptReport {
        let attempt = String::from_utf8(request.header("webhook-attempt").unwrap().to_vec()).unwrap();
        let since = self.start.lock().unwrap().get_or_insert_with(Instant::now).elapsed();
        self.seen.lock().unwrap().push((request.target.clone(), attempt, since));
        {
            let mut in_flight = self.in_flight.lock().unwrap();
            in_flight.0 += 1;
            in_flight.1 = in_flight.1.max(in_flight.0);
        }
        let _in_flight = InFlight(self);
        let act = self.acts.lock().unwrap().get_mut(&request.target).and_then(VecDeque::pop_front);
        let status = match act.unwrap_or(Act::Answer(200)) {
            Act::Answer(status) => status,
            Act::AnswerAfter(wait, status) => {
                tokio::time::sleep(wait).await;
                status
            }
            Act::Panic => panic!("the script says so"),
        };
        AttemptReport {
            outcome: Outcome::Answered { status, retry_after: None },
            late_error: None,
            address: None,
            hops: vec![],
            timings: Timings::default(),
            response: None,
            duration: Duration::from_millis(1),
        }
    }
}

/// A memory queue that is slow, or whose replies to settlements get lost after they took effect.
struct Troubled {
    queue: MemoryQueue,
    /// How many more replies get lost.
    losses: Mutex<u32>,
    lease_takes: Duration,
    settle_takes: Duration,
}

impl Troubled {
    fn loses_replies(queue: &MemoryQueue, losses: u32) -> Self {
        let (lease_takes, settle_takes) = (Duration::ZERO, Duration::ZERO);
        Troubled { queue: queue.clone(), losses: Mutex::new(losses), lease_takes, settle_takes }
    }

    fn slow(queue: &MemoryQueue) -> Self {
        let (lease_takes, settle_takes) = (Duration::from_millis(7), Duration::from_millis(3));
        Troubled { queue: queue.clone(), losses: Mutex::new(0), lease_takes, settle_takes }
    }
}

impl Queue for Troubled {
    fn shards(&self) -> u16 {
        self.queue.shards()
    }
    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        self.queue.publish(shard, events).await
    }
    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        let leased = self.queue.lease_events(shard, request).await;
        tokio::time::sleep(self.lease_takes).await;
        leased
    }
    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        self.queue.lease_deliveries(shard, request).await
    }
    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        self.queue.extend(shard, leases, lease).await
    }
    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        tokio::time::sleep(self.settle_takes).await;
        let settled = self.queue.settle(shard, settlement).await?;
        let mut losses = self.losses.lock().unwrap();
        if *losses > 0 {
            *losses -= 1;
            return Err(QueueError::Unavailable {
                message: "reply lost".into(),
                retry_after: None,
                source: None,
            });
        }
        Ok(settled)
    }
    async fn hold(
        &self,
        shard: Shard,
        endpoint: hookwire_model::EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        self.queue.hold(shard, endpoint, hold).await
    }
    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        self.queue.wait(shard, timeout).await
    }
}

struct World {
    queue: MemoryQueue,
    script: Arc<Script>,
    webhooks: Vec<Webhook>,
    settings: EngineSettings,
}

impl World {
    fn new() -> Self {
        World {
            queue: MemoryQueue::on_tokio_time(StoreLimits::default(), START),
            script: Arc::default(),
            webhooks: vec![webhook("a", "/a")],
            settings: EngineSettings {
                worker: WorkerId::new("w"),
                concurrency: 16,
                lease: Duration::from_secs(15),
                grace: Duration::from_secs(11),
                until_idle: true,
                keep_bodies: false,
            },
        }
    }

    fn in_force(&self) -> Arc<InForce> {
        let rule = EventRule {
            name: RuleName::new("all").unwrap(),
            object_types: vec!["*".parse().unwrap()],
            event_types: vec!["*".parse().unwrap()],
            conditions: None,
            webhooks: self.webhooks.iter().map(|webhook| webhook.name.clone()).collect(),
            action_data: serde_json::Map::new(),
            enabled: true,
        };
        let definitions = Definitions::compile(self.webhooks.clone(), vec![rule]).unwrap();
        InForce::new(Snapshot::new(definitions).unwrap(), Timestamp::UNIX_EPOCH)
    }

    fn start<Q: Queue>(
        &self,
        queue: Q,
        shutdown: CancellationToken,
    ) -> JoinHandle<Result<Summary, EngineError>> {
        let start = Instant::now();
        let clock = move || START.saturating_add(start.elapsed());
        tokio::spawn(run(self.engine(queue, clock), shutdown))
    }

    fn engine<Q: Queue, C: Clock>(&self, queue: Q, clock: C) -> Engine<Q, Script, C> {
        Engine {
            queue: Arc::new(queue),
            dispatcher: Arc::clone(&self.script),
            clock,
            chance: Chance::seeded(7),
            in_force: self.in_force(),
            settings: self.settings.clone(),
        }
    }

    async fn publish(&self, count: usize) -> Vec<EventId> {
        let events: Vec<Event> = (0..count).map(|number| event(&format!("e{number}"))).collect();
        let receipts = publish(&self.queue, &events).await.unwrap();
        receipts.into_iter().map(|receipt| receipt.id).collect()
    }

    /// Runs until nothing is due.
    async fn run(&self) -> Summary {
        self.start(self.queue.clone(), CancellationToken::new()).await.unwrap().unwrap()
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        let page = self.queue.list(Shard(0), &DeliveryFilter::default(), None, 1000).await.unwrap();
        let mut deliveries = Vec::new();
        for item in page.items.iter().rev() {
            deliveries.push(self.queue.delivery(item.id).await.unwrap().unwrap());
        }
        deliveries
    }
}

fn webhook(name: &str, path: &str) -> Webhook {
    Webhook::new(WebhookName::new(name).unwrap(), format!("http://127.0.0.1:9000{path}"))
}

fn event(id: &str) -> Event {
    let text =
        format!(r#"{{"id":"{id}","event":"created","object_type":"dcim.site","data":{{"id":"{id}"}}}}"#);
    let mut new_id = || unreachable!("the event brings its id");
    Event::parse(&text, &mut EventDefaults { now: START, new_id: &mut new_id }).unwrap()
}

fn states(deliveries: &[Delivery]) -> Vec<DeliveryState> {
    deliveries.iter().map(|delivery| delivery.state).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_to_every_webhook_of_its_rules() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.publish(3).await;
    assert_eq!(world.run().await, Summary { waits_for_later: false });
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 6]);
    let log = deliveries[0].attempt_log.as_ref().unwrap();
    assert_eq!((log.len(), log[0].number, log[0].status), (1, 1, Some(200)));
    assert_eq!(world.script.seen().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failing_receiver_gets_its_attempts_by_the_schedule() {
    let world = World::new();
    world.script.on("/a", [Act::Answer(500), Act::Answer(500), Act::Answer(200)]);
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let mut world = world;
    world.settings.until_idle = false;
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1000)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let seen = world.script.seen();
    let attempts: Vec<&str> = seen.iter().map(|(_, attempt, _)| attempt.as_str()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    // 5 s and 5 min, each ±20 %.
    assert!((4.0..6.5).contains(&seen[1].2.as_secs_f64()), "{seen:?}");
    assert!((240.0..361.0).contains(&(seen[2].2 - seen[1].2).as_secs_f64()), "{seen:?}");
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 3));
    let statuses: Vec<_> =
        delivery.attempt_log.as_ref().unwrap().iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(500), Some(500), Some(200)]);
}

#[tokio::test(start_paused = true)]
async fn until_idle_ends_while_something_waits_for_later() {
    let world = World::new();
    world.script.on("/a", [Act::Answer(503)]);
    world.publish(1).await;
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    let delivery = &world.deliveries().await[0];
    assert_eq!(
        (delivery.state, delivery.waiting_reason),
        (DeliveryState::Waiting, Some(WaitingReason::Retry))
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_delivery_holds_up_neither_its_event_nor_its_sisters() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    let id = world.publish(1).await.remove(0);
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stored = world.queue.event(Shard(0), &id).await.unwrap().unwrap();
    assert_eq!(stored.state, EventState::FannedOut);
    let mut now: Vec<_> = stored.deliveries.iter().map(|delivery| delivery.state).collect();
    now.sort();
    assert_eq!(now, [DeliveryState::Running, DeliveryState::Delivered]);
    // Longer than the lease: it is renewed, and nothing is repeated.
    tokio::time::sleep(Duration::from_secs(100)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 2]);
    assert_eq!(world.script.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_has_no_more_attempts_in_flight_than_its_room() {
    let mut world = World::new();
    world.webhooks[0].concurrency = 3.try_into().unwrap();
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(1), 200), 20));
    world.publish(20).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 20]);
    assert_eq!((world.script.most_in_flight(), world.script.seen().len()), (3, 20));
}

#[tokio::test(start_paused = true)]
async fn the_worker_has_no_more_attempts_in_flight_than_its_concurrency() {
    let mut world = World::new();
    world.settings.concurrency = 5;
    world.webhooks.push(webhook("b", "/b"));
    for path in ["/a", "/b"] {
        world.script.on(path, std::iter::repeat_n(Act::AnswerAfter(Duration::from_millis(600), 200), 30));
    }
    world.publish(30).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 60]);
    assert!(world.script.most_in_flight() <= 5, "{} in flight", world.script.most_in_flight());
    assert_eq!(world.script.seen().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_attempts_finish_and_gives_the_rest_back() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 4;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(5), 200), 100));
    world.publish(30).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let first = world.script.seen().len();
    assert_eq!(first, 4);
    let stats = world.queue.stats(Shard(0)).await.unwrap();
    assert_eq!((stats.delivered, stats.events_leased, stats.running), (4, 0, 0));
    // The next worker does the rest, and none of it is a suspect.
    world.settings.until_idle = true;
    world.script.on("/a", []);
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 30]);
    assert_eq!(world.script.seen().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_the_grace_period_goes_back_to_the_queue() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?}", asked.elapsed());
    let delivery = &world.deliveries().await[0];
    assert_eq!(
        (delivery.state, delivery.waiting_reason),
        (DeliveryState::Waiting, Some(WaitingReason::Worker))
    );
    world.settings.until_idle = true;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_repeats_the_settlement_and_nothing_else() {
    let world = World::new();
    world.publish(50).await;
    let queue = Troubled::loses_replies(&world.queue, 3);
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 50]);
    assert!(deliveries.iter().all(|delivery| delivery.attempt_log.as_ref().unwrap().len() == 1));
    assert_eq!(world.script.seen().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_storing_a_running_delivery_is_made_good() {
    let world = World::new();
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(2), 200)]);
    world.publish(1).await;
    let queue = Troubled::loses_replies(&world.queue, 2);
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
    assert_eq!(world.script.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_delivery_as_a_dead_letter_and_nothing_else() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.script.on("/a", [Act::Answer(200), Act::Panic]);
    world.publish(3).await;
    world.run().await;
    let deliveries = world.deliveries().await;
    let dead: Vec<_> = deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Dead).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].dead_reason, Some(DeadReason::Panic));
    assert_eq!(
        dead[0].last_error,
        Some(AttemptError { kind: ErrorKind::Internal, message: "panicked: the script says so".into() })
    );
    assert_eq!(deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Delivered).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_becomes_a_dead_letter() {
    let world = World::new();
    let broken = NewEvent { id: EventId::new("broken").unwrap(), payload: Bytes::from_static(b"{") };
    world.queue.publish(Shard(0), vec![broken]).await.unwrap();
    world.publish(1).await;
    world.run().await;
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Dead, DeliveryState::Delivered]);
    assert_eq!((deliveries[0].dead_reason, &deliveries[0].rule), (Some(DeadReason::UnreadableEvent), &None));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_takes_its_workers_down_becomes_a_dead_letter() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(3600), 200), 10));
    world.publish(1).await;
    for _ in 0..5 {
        // A worker leases the event and dies at once: dropping the engine's future is a crash.
        let request = LeaseEvents {
            worker: WorkerId::new("doomed"),
            lease: Duration::from_secs(15),
            max: 1,
            suspects_max: 1,
        };
        assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(16)).await;
    }
    world.settings.until_idle = true;
    world.run().await;
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries[0].dead_reason, Some(DeadReason::PoisonEvent));
    assert_eq!(world.script.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_stored_before_it_is_sent() {
    let world = World::new();
    world.publish(2).await;
    let request = LeaseEvents {
        worker: WorkerId::new("doomed"),
        lease: Duration::from_secs(15),
        max: 2,
        suspects_max: 1,
    };
    assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(16)).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 2]);
    assert_eq!(world.script.seen().len(), 2);
}

/// A store whose leases take a while, so that other things happen while one is under way.
#[tokio::test(start_paused = true)]
async fn many_suspects_follow_one_another_without_a_pause() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.publish(100).await;
    let request = LeaseEvents {
        worker: WorkerId::new("doomed"),
        lease: Duration::from_secs(15),
        max: 100,
        suspects_max: 1,
    };
    assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 100);
    tokio::time::sleep(Duration::from_secs(16)).await;
    let shutdown = CancellationToken::new();
    let slow = Troubled::slow(&world.queue);
    let running = world.start(slow, shutdown.clone());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.script.seen().len(), 100, "each of them takes a few round trips, and no timer");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_at_most_what_was_in_flight() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_millis(100), 200), 40));
    world.publish(40).await;
    let crashed = world.start(world.queue.clone(), CancellationToken::new());
    tokio::time::sleep(Duration::from_millis(150)).await;
    crashed.abort();
    let _ = crashed.await;
    let before = world.script.seen().len();
    assert!((1..40).contains(&before), "{before} attempts before the crash");
    let settled = world.queue.stats(Shard(0)).await.unwrap().delivered;
    // The leases run out by themselves.
    tokio::time::sleep(Duration::from_secs(16)).await;
    world.settings.until_idle = true;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 40]);
    let repeats = world.script.seen().len() - 40;
    assert!(
        repeats <= before - usize::try_from(settled).unwrap(),
        "{repeats} repeats of {before}, {settled} settled"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deliveries_of_a_disabled_webhook_wait() {
    let mut world = World::new();
    world.webhooks[0].enabled = false;
    world.publish(1).await;
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    let delivery = &world.deliveries().await[0];
    assert_eq!(
        (delivery.state, delivery.waiting_reason, delivery.attempts),
        (DeliveryState::Waiting, Some(WaitingReason::WebhookDisabled), 0)
    );
    world.webhooks[0].enabled = true;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_fails_makes_a_dead_letter_with_the_place() {
    let mut world = World::new();
    world.webhooks[0].body_template = Some("{\n\"x\": {{data.missing}}}".into());
    world.publish(1).await;
    world.run().await;
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.dead_reason), (DeliveryState::Dead, Some(DeadReason::RenderError)));
    let error = delivery.last_error.as_ref().unwrap();
    assert_eq!(error.kind, ErrorKind::Body);
    assert!(error.message.contains("line 2") && error.message.contains("missing"), "{}", error.message);
    assert_eq!(world.script.seen().len(), 0);
}

/// The engine is a plain future: whoever owns it may drop it at any await.
#[test]
fn the_future_can_be_sent_and_dropped() {
    fn is_send<F: Future + Send>(_: F) {}
    let world = World::new();
    is_send(run(world.engine(world.queue.clone(), || START), CancellationToken::new()));
}
