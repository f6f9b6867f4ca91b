//! What everybody in a run shares: plan, store, books, chance and time.
//!
//! Invariant: everything that is left to chance draws from one source, in an order that the runtime gives: on one thread
//! and on a paused clock it is always the same.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use hookwire_definitions::Definitions;
use hookwire_engine::{InForce, Snapshot};
use hookwire_model::{EndpointId, EventRule, RuleName, Timestamp, Webhook};
use hookwire_queue::{MemoryQueue, StoreLimits};
use tokio::time::Instant;

use crate::books::{ALL, Books, UPDATES};
use crate::plan::{Behaviour, Plan};

/// When the simulation begins: Tue, 14 Nov 2023 22:13:20 GMT.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

/// A time of the store as a time since the beginning.
pub(crate) fn since_start(at: Timestamp) -> Duration {
    at.saturating_since(start())
}

/// What everybody shares.
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) store: MemoryQueue,
    books: Mutex<Books>,
    chance: Mutex<Rng>,
    began: Instant,
    healed: AtomicBool,
    definitions: Mutex<InForceNow>,
}

/// The definitions as they are now, and those who work with them.
pub(crate) struct InForceNow {
    pub(crate) removed: BTreeSet<usize>,
    pub(crate) disabled: BTreeSet<usize>,
    of_lives: Vec<Arc<InForce>>,
}

impl World {
    /// To be called on the runtime that will carry it out.
    pub(crate) fn new(plan: Plan, seed: u64, tracing: bool) -> Arc<World> {
        let plan = Arc::new(plan);
        let limits = StoreLimits {
            pending_bytes_max: plan.pending_bytes_max,
            backlog_bytes_max: plan.backlog_bytes_max,
            ..StoreLimits::default()
        };
        let store = MemoryQueue::on_tokio_time(limits, start());
        let books = Books::new(Arc::clone(&plan), store.clone(), tracing);
        Arc::new(World {
            began: books.began,
            plan,
            store,
            books: Mutex::new(books),
            // Another stream than the plan's.
            chance: Mutex::new(Rng::with_seed(!seed)),
            healed: AtomicBool::new(false),
            definitions: Mutex::new(InForceNow {
                removed: BTreeSet::new(),
                disabled: BTreeSet::new(),
                of_lives: Vec::new(),
            }),
        })
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("a panic in the books ends the run")
    }

    pub(crate) fn chance(&self) -> MutexGuard<'_, Rng> {
        self.chance.lock().expect("drawing does not panic")
    }

    /// The time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The same as others read it on a clock.
    pub(crate) fn clock(&self) -> Timestamp {
        start().saturating_add(self.now())
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn in_trouble(&self) -> bool {
        !self.healed.load(Ordering::SeqCst)
    }

    /// From here on everything works.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    /// Whether going on makes no sense.
    pub(crate) fn is_halted(&self) -> bool {
        self.books().is_hopeless
    }

    /// How a receiver behaves now.
    pub(crate) fn behaviour(&self, target: usize, receiver: usize) -> Behaviour {
        if !self.in_trouble() {
            return Behaviour::Healthy { millis: 20 };
        }
        let script = &self.plan.targets[target].scripts[receiver];
        let now = self.now();
        // Of those that begin at the same time the last one holds; there is one for the beginning.
        script.iter().rfind(|(from, _)| *from <= now).unwrap_or(&script[0]).1
    }

    /// The endpoint of one of a webhook's receivers.
    pub(crate) fn endpoint(&self, target: usize, receiver: usize) -> EndpointId {
        let host = format!("w{target}-{receiver}.test");
        let authority = hookwire_model::Authority { https: false, host, port: 8080 };
        EndpointId::derive(&self.plan.targets[target].webhook.name, &authority)
    }

    /// The definitions for a worker that starts now. It takes part in reloads from then on.
    pub(crate) fn definitions(&self) -> Arc<InForce> {
        let mut definitions = self.definitions.lock().expect("compiling does not panic");
        let in_force = InForce::new(definitions.snapshot(&self.plan), self.clock());
        definitions.of_lives.push(Arc::clone(&in_force));
        in_force
    }

    /// Whoever acts needs the definitions, too.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.definitions.lock().expect("compiling does not panic").snapshot(&self.plan)
    }

    /// Changes the definitions, everywhere at once.
    pub(crate) fn reload(&self, what: &str, change: impl FnOnce(&mut InForceNow)) {
        let mut definitions = self.definitions.lock().expect("compiling does not panic");
        change(&mut definitions);
        let targets = 0..self.plan.targets.len();
        let webhooks = targets.filter(|target| !definitions.removed.contains(target)).collect();
        definitions.of_lives.retain(|in_force| Arc::strong_count(in_force) > 1);
        for in_force in &definitions.of_lives {
            in_force.replace(definitions.snapshot(&self.plan), self.clock());
        }
        self.books().reloaded(webhooks, what);
    }
}

impl InForceNow {
    fn snapshot(&self, plan: &Plan) -> Snapshot {
        let targets = plan.targets.iter().enumerate().filter(|(target, _)| !self.removed.contains(target));
        let targets: Vec<_> = targets.collect();
        let webhooks: Vec<Webhook> = targets
            .iter()
            .map(|(number, target)| Webhook {
                enabled: !self.disabled.contains(number),
                ..target.webhook.clone()
            })
            .collect();
        let rule = |name: &str, event: &str, names: Vec<_>| EventRule {
            name: RuleName::new(name).expect("it is a name"),
            object_types: vec!["*".parse().expect("it is a pattern")],
            event_types: vec![event.parse().expect("it is a pattern")],
            conditions: None,
            webhooks: names,
            action_data: serde_json::Map::new(),
            enabled: true,
        };
        let named = |fits: fn(&crate::plan::Target) -> bool| {
            let fitting = targets.iter().filter(|(_, target)| fits(target));
            fitting.map(|(_, target)| target.webhook.name.clone()).collect::<Vec<_>>()
        };
        let rules = [
            rule(ALL, "*", named(|target| target.by_all)),
            rule(UPDATES, "updated", named(|target| target.by_updates)),
        ];
        let rules = rules.into_iter().filter(|rule| !rule.webhooks.is_empty()).collect();
        let definitions = Definitions::compile(webhooks, rules).expect("the plan's definitions are sound");
        Snapshot::new(definitions).expect("there are no certificates to read")
    }
}
