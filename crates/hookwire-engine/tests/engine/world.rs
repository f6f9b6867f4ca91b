//! What the tests run an engine in: a queue in memory, a script of answers, a clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookwire_definitions::Definitions;
use hookwire_dispatch::{AttemptOptions, AttemptReport, Dispatch};
use hookwire_engine::{
    Chance, Clock, Engine, EngineError, EngineSettings, InForce, Metrics, Snapshot, Summary, publish, run,
};
use hookwire_model::{
    AttemptError, Delivery, DeliveryState, ErrorKind, Event, EventDefaults, EventId, EventRule, Outcome,
    PreparedRequest, RuleName, Shard, Timestamp, Timings, Webhook, WebhookName,
};
use hookwire_queue::{Change, DeliveryFilter, Inspect, MemoryQueue, Queue, Selection, StoreLimits, WorkerId};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const START: Timestamp = Timestamp::UNIX_EPOCH;

/// What the scripted dispatcher does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(u16),
    AnswerAfter(Duration, u16),
    /// 503, with this for `Retry-After`.
    Quiet(&'static str),
    /// There is no socket for it.
    Starve,
    Panic,
}

/// Does what the script of a path says, and 200 where there is none; remembers what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    acts: Mutex<BTreeMap<String, VecDeque<Act>>>,
    /// What a path answers when its script has run out, where that is not 200.
    otherwise: Mutex<BTreeMap<String, Act>>,
    seen: Mutex<Vec<(String, String, Duration)>>,
    in_flight: Mutex<(usize, usize)>,
    start: Mutex<Option<Instant>>,
}

impl Script {
    pub(crate) fn on(self: &Arc<Self>, path: &str, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().insert(path.to_owned(), acts.into_iter().collect());
    }

    /// From now on a path always does this.
    pub(crate) fn always(&self, path: &str, act: Act) {
        self.otherwise.lock().unwrap().insert(path.to_owned(), act);
    }

    /// How many requests a path got.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(seen, _, _)| seen == path).count()
    }

    /// Path, attempt number and time since the start of each request.
    pub(crate) fn seen(&self) -> Vec<(String, String, Duration)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.in_flight.lock().unwrap().1
    }
}

pub(crate) struct InFlight<'a>(&'a Script);

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
        let otherwise = self.otherwise.lock().unwrap().get(&request.target).cloned();
        let answer = |status| Outcome::Answered { status, retry_after: None };
        let outcome = match act.or(otherwise).unwrap_or(Act::Answer(200)) {
            Act::Answer(status) => answer(status),
            Act::Quiet(wait) => Outcome::Answered { status: 503, retry_after: Some(wait.to_owned()) },
            Act::AnswerAfter(wait, status) => {
                tokio::time::sleep(wait).await;
                answer(status)
            }
            Act::Starve => {
                let message = "no connection: Too many open files".to_owned();
                Outcome::Unsent(AttemptError { kind: ErrorKind::Connect, message })
            }
            Act::Panic => panic!("the script says so"),
        };
        AttemptReport {
            outcome,
            late_error: None,
            address: None,
            hops: vec![],
            timings: Timings::default(),
            response: None,
            duration: Duration::from_millis(1),
        }
    }
}

pub(crate) struct World {
    pub(crate) queue: MemoryQueue,
    pub(crate) script: Arc<Script>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) settings: EngineSettings,
    /// When the clock stood at [`START`].
    began: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            queue: MemoryQueue::on_tokio_time(StoreLimits::default(), START),
            script: Arc::default(),
            webhooks: vec![webhook("a", "/a")],
            settings: EngineSettings {
                worker: WorkerId::new("w"),
                concurrency: 16,
                lease: Duration::from_secs(15),
                grace: None,
                until_idle: true,
                keep_bodies: false,
                backlog_age_max: Duration::from_secs(30 * 24 * 3600),
            },
            began: Instant::now(),
        }
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        InForce::new(self.snapshot(), Timestamp::UNIX_EPOCH)
    }

    /// The webhooks as they are now, and a rule for everything.
    pub(crate) fn snapshot(&self) -> Snapshot {
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
        Snapshot::new(definitions).unwrap()
    }

    pub(crate) fn start<Q: Queue + Inspect>(
        &self,
        queue: Q,
        shutdown: CancellationToken,
    ) -> JoinHandle<Result<Summary, EngineError>> {
        self.start_counting(queue, shutdown, Metrics::default())
    }

    /// The same, with the counters for looking at.
    pub(crate) fn start_counting<Q: Queue + Inspect>(
        &self,
        queue: Q,
        shutdown: CancellationToken,
        metrics: Metrics,
    ) -> JoinHandle<Result<Summary, EngineError>> {
        let began = self.began;
        let clock = move || clock(began);
        tokio::spawn(run(Engine { metrics, ..self.engine(queue, clock) }, shutdown))
    }

    pub(crate) fn engine<Q: Queue + Inspect, C: Clock>(&self, queue: Q, clock: C) -> Engine<Q, Script, C> {
        Engine {
            queue: Arc::new(queue),
            dispatcher: Arc::clone(&self.script),
            clock,
            chance: Chance::seeded(7),
            in_force: self.in_force(),
            metrics: Metrics::default(),
            settings: self.settings.clone(),
        }
    }

    /// The time it is for the engine.
    pub(crate) fn now(&self) -> Timestamp {
        clock(self.began)
    }

    pub(crate) async fn publish(&self, count: usize) -> Vec<EventId> {
        let events: Vec<Event> = (0..count).map(|number| event(&format!("e{number}"))).collect();
        let receipts = publish(&self.queue, &events).await.unwrap();
        receipts.into_iter().map(|receipt| receipt.id).collect()
    }

    /// Runs until nothing is due.
    pub(crate) async fn run(&self) -> Summary {
        self.start(self.queue.clone(), CancellationToken::new()).await.unwrap().unwrap()
    }

    /// Acts on all deliveries that it can be done to.
    pub(crate) async fn act(&self, change: Change) {
        let all = Selection::Filter(DeliveryFilter::default());
        self.queue.change(Shard(0), change, &all, false).await.unwrap();
    }

    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        let page = self.queue.list(Shard(0), &DeliveryFilter::default(), None, 1000).await.unwrap();
        let mut deliveries = Vec::new();
        for item in page.items.iter().rev() {
            deliveries.push(self.queue.delivery(item.id).await.unwrap().unwrap());
        }
        deliveries
    }
}

pub(crate) fn webhook(name: &str, path: &str) -> Webhook {
    Webhook::new(WebhookName::new(name).unwrap(), format!("http://127.0.0.1:9000{path}"))
}

pub(crate) fn event(id: &str) -> Event {
    parse(&format!(r#"{{"id":"{id}","event":"created","object_type":"dcim.site","data":{{"id":"{id}"}}}}"#))
}

/// An event that brings its id.
pub(crate) fn parse(text: &str) -> Event {
    let mut new_id = || unreachable!("the event brings its id");
    Event::parse(text, &mut EventDefaults { now: START, new_id: &mut new_id }).unwrap()
}

pub(crate) fn states(deliveries: &[Delivery]) -> Vec<DeliveryState> {
    deliveries.iter().map(|delivery| delivery.state).collect()
}

fn clock(began: Instant) -> Timestamp {
    // Not at 1970 itself, which stands for never.
    START.saturating_add(began.elapsed() + Duration::from_millis(1))
}
