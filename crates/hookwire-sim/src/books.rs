//! What really happened, as nobody inside the simulation can know it; and the rules that are checked while it happens.
//!
//! Invariants:
//! - The books are written in the same step as what they tell of.
//! - A breach of a rule is noted and the run goes on: the first one is the one to look at.

mod attempts;
mod fates;
mod leases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hookwire_engine::EndpointState;
use hookwire_model::{
    Delivery, DeliveryId, DeliveryState, EndpointId, EventId, OnFailure, Ordering, RuleName, Sequence, Shard,
    WebhookName,
};
use hookwire_queue::{Change, Inspect as _, MemoryQueue, Published, PutEndpoint, Subject};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::life::Life;
use crate::plan::{EventPlan, Plan};
use crate::trace::{About, Trace};

pub(crate) use attempts::{AttemptBook, is_starved};

/// More calls of the store than this without any time passing are a loop that never ends.
const CALLS_AT_ONCE_MAX: u32 = 20_000;
/// More calls than this in a second by one worker are a storm: its work here needs some hundred.
const CALLS_PER_SECOND_MAX: u32 = 2_000;
/// A worker may pause for so long after the store failed, and renew its leases late by as much.
const STORE_BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a pause takes at most to reach a worker: it looks every two seconds.
const PAUSE_REACHES_IN: Duration = Duration::from_secs(3);

/// All of it.
pub(crate) struct Books {
    pub(crate) plan: Arc<Plan>,
    pub(crate) store: MemoryQueue,
    pub(crate) began: Instant,
    pub(crate) trace: Trace,
    /// What a run was planned to publish, by id.
    pub(crate) planned: BTreeMap<EventId, EventPlan>,
    pub(crate) events: BTreeMap<Sequence, EventBook>,
    pub(crate) lives: Vec<LifeBook>,
    pub(crate) attempts: Vec<AttemptBook>,
    pub(crate) by_delivery: BTreeMap<DeliveryId, Vec<usize>>,
    on_the_wire: BTreeSet<usize>,
    pub(crate) begun: BTreeMap<EndpointId, Vec<Duration>>,
    leases: BTreeMap<Subject, Held>,
    /// Tokens of settlements that took effect, and of those whose worker knows.
    ended: BTreeSet<u64>,
    told: BTreeSet<u64>,
    /// What lost a lease at some time: it may be repeated.
    pub(crate) lost: BTreeSet<Subject>,
    /// What failed at least once.
    failures: BTreeSet<DeliveryId>,
    orders: BTreeMap<(usize, u32), BTreeSet<DeliveryId>>,
    /// Which webhooks were in force, one set after the other; never empty.
    in_force: Vec<BTreeSet<usize>>,
    /// What people did, and to what.
    pub(crate) cancelled: BTreeSet<DeliveryId>,
    pub(crate) purged: BTreeSet<DeliveryId>,
    pub(crate) sent_again: BTreeMap<DeliveryId, u32>,
    /// Until when the store holds backlogs.
    pub(crate) holds: BTreeMap<EndpointId, Duration>,
    paused: BTreeMap<EndpointId, Duration>,
    paused_webhooks: BTreeMap<usize, Duration>,
    /// Until when an endpoint asked to be left alone, as each life knows it.
    silent: BTreeMap<(usize, EndpointId), Duration>,
    calls_at: (Duration, u32),
    /// Calls of the store, by name.
    pub(crate) calls: BTreeMap<&'static str, u64>,
    /// Going on makes no sense.
    pub(crate) is_hopeless: bool,
    pub(crate) hopeless: Arc<Notify>,
}

/// An event that was accepted.
#[derive(Debug, Clone)]
pub(crate) struct EventBook {
    pub(crate) id: EventId,
    pub(crate) plan: EventPlan,
    pub(crate) fanned_out: bool,
    /// How often it was leased, since it was last put back.
    pub(crate) leased: u32,
    /// Which definitions were in force when it was leased last.
    leased_under: usize,
}

/// A process of a worker.
pub(crate) struct LifeBook {
    pub(crate) life: Arc<Life>,
    concurrency: usize,
    /// The last time at which the store failed it, or it stalled.
    troubled_until: Duration,
    calls: (u64, u32),
    /// Its attempts were cut off because the grace period was over.
    pub(crate) cut_off: bool,
    pub(crate) crashed: bool,
    pub(crate) ended: Option<Duration>,
}

/// A lease that somebody holds.
#[derive(Debug, Clone)]
struct Held {
    token: u64,
    life: usize,
    until: Duration,
    /// Of a delivery: attempts, interrupted and forgiven ones as they were told.
    attempts: (u32, u32, u32),
    /// Of a delivery: from when its age counts.
    since: Duration,
}

impl Books {
    pub(crate) fn new(plan: Arc<Plan>, store: MemoryQueue, tracing: bool) -> Books {
        let in_force = vec![(0..plan.targets.len()).collect()];
        Books {
            plan,
            store,
            began: Instant::now(),
            trace: Trace::new(tracing),
            planned: BTreeMap::new(),
            events: BTreeMap::new(),
            lives: Vec::new(),
            attempts: Vec::new(),
            by_delivery: BTreeMap::new(),
            on_the_wire: BTreeSet::new(),
            begun: BTreeMap::new(),
            leases: BTreeMap::new(),
            ended: BTreeSet::new(),
            told: BTreeSet::new(),
            lost: BTreeSet::new(),
            failures: BTreeSet::new(),
            orders: BTreeMap::new(),
            in_force,
            cancelled: BTreeSet::new(),
            purged: BTreeSet::new(),
            sent_again: BTreeMap::new(),
            holds: BTreeMap::new(),
            paused: BTreeMap::new(),
            paused_webhooks: BTreeMap::new(),
            silent: BTreeMap::new(),
            calls_at: (Duration::ZERO, 0),
            calls: BTreeMap::new(),
            is_hopeless: false,
            hopeless: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes what is worth reading in a trace.
    pub(crate) fn note(&mut self, about: About, text: impl FnOnce() -> String) {
        let now = self.now();
        self.trace.note(now, about, text);
    }

    /// Notes that a rule was broken.
    pub(crate) fn breach(&mut self, about: About, text: String) {
        let now = self.now();
        self.trace.breach(now, about, text);
    }

    /// How a life is called in traces.
    pub(crate) fn who(&self, life: Option<usize>) -> String {
        life.map_or("somebody".to_owned(), |life| self.lives[life].life.name.clone())
    }

    // --- lives

    pub(crate) fn life_begins(&mut self, life: &Arc<Life>, concurrency: usize) {
        self.note(About::All, || format!("{} starts", life.name));
        self.lives.push(LifeBook {
            life: Arc::clone(life),
            concurrency,
            troubled_until: Duration::ZERO,
            calls: (0, 0),
            cut_off: false,
            crashed: false,
            ended: None,
        });
    }

    pub(crate) fn life_ends(&mut self, life: usize, how: &str) {
        let now = self.now();
        self.lives[life].ended = Some(now);
        let name = self.lives[life].life.name.clone();
        self.note(About::All, || format!("{name} {how}"));
    }

    /// A life that ended as it was asked to, and was not in trouble, has given back what it held.
    pub(crate) fn check_given_back(&mut self, life: usize, asked: Duration) {
        // It knows nothing of leases whose reply was lost, or comes too late.
        if self.lives[life].troubled_until + self.plan.lease >= asked {
            return;
        }
        let now = self.now();
        let kept: Vec<Subject> = self
            .leases
            .iter()
            .filter_map(|(subject, held)| (held.life == life && held.until > now).then_some(*subject))
            .collect();
        for subject in kept {
            let text = format!("{} stopped, and kept its lease on {subject:?}", self.who(Some(life)));
            self.breach(About::of(subject), text);
        }
    }

    /// The store lets a life wait.
    pub(crate) fn troubled(&mut self, life: Option<usize>, late: Option<(&str, Duration)>) {
        let until = self.now() + late.map_or(Duration::ZERO, |(_, late)| late);
        if let Some(life) = life {
            let book = &mut self.lives[life];
            book.troubled_until = book.troubled_until.max(until);
        }
        if let Some((call, late)) = late {
            let who = self.who(life);
            self.note(About::Life(life), || format!("{who}: {call} is late by {late:?}"));
        }
    }

    /// A call of the store fails.
    pub(crate) fn failed(&mut self, life: Option<usize>, call: &str, how: &str) {
        self.troubled(life, None);
        let who = self.who(life);
        self.note(About::Life(life), || format!("{who}: {call} {how}"));
    }

    /// Somebody calls the store.
    pub(crate) fn called(&mut self, life: Option<usize>, call: &'static str) {
        let now = self.now();
        *self.calls.entry(call).or_default() += 1;
        self.calls_at = if self.calls_at.0 == now { (now, self.calls_at.1 + 1) } else { (now, 1) };
        let who = |books: &Books| books.who(life);
        if self.calls_at.1 == CALLS_AT_ONCE_MAX {
            let text = format!("{} calls {call} for ever, and no time passes", who(self));
            self.breach(About::All, text);
            self.is_hopeless = true;
            self.hopeless.notify_one();
        }
        let Some(life) = life else { return };
        let calls = &mut self.lives[life].calls;
        *calls = if calls.0 == now.as_secs() { (calls.0, calls.1 + 1) } else { (now.as_secs(), 1) };
        if calls.1 == CALLS_PER_SECOND_MAX {
            let text = format!("{} called the store {CALLS_PER_SECOND_MAX} times in a second", who(self));
            self.breach(About::All, text);
        }
    }

    // --- events

    /// The store took events, or knew them.
    pub(crate) fn published(&mut self, ids: &[EventId], published: &[Published]) {
        for (id, Published { sequence, duplicate }) in ids.iter().zip(published) {
            let known = self.events.get(sequence).is_some_and(|event| event.id == *id);
            if *duplicate != known {
                let text = format!("{id} has number {sequence}, and was told as duplicate: {duplicate}");
                self.breach(About::Event(*sequence), text);
            }
            if known {
                self.note(About::Event(*sequence), || format!("{id} was published again"));
                continue;
            }
            let plan = self.planned[id].clone();
            let about = About::Event(*sequence);
            self.note(about, || format!("#{sequence} is {id}: object {}, {}", plan.object, plan.kind));
            let leased_under = self.in_force.len() - 1;
            let id = id.clone();
            let event = EventBook { id, plan, fanned_out: false, leased: 0, leased_under };
            self.events.insert(*sequence, event);
        }
    }

    /// The deliveries that an event becomes under these webhooks.
    pub(crate) fn deliveries_of(&self, sequence: Sequence, webhooks: &BTreeSet<usize>) -> Vec<DeliveryId> {
        let event = &self.events[&sequence];
        let mut ids = Vec::new();
        if !event.plan.readable {
            return ids;
        }
        for &number in webhooks {
            let target = &self.plan.targets[number];
            let updates = target.by_updates && event.plan.kind == "updated";
            for (rule, applies) in [(ALL, target.by_all), (UPDATES, updates)] {
                if applies {
                    let rule = RuleName::new(rule).expect("it is a name");
                    let webhook = &target.webhook.name;
                    ids.push(DeliveryId::derive(Shard(0), sequence, &event.id, &rule, webhook));
                }
            }
        }
        ids
    }

    /// Webhooks that were in force all along since those definitions, and those that were at some time.
    fn in_force_since(&self, first: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
        let mut sets = self.in_force[first..].iter();
        let begin = sets.next().cloned().unwrap_or_default();
        sets.fold((begin.clone(), begin), |(all, any), set| (&all & set, &any | set))
    }

    pub(crate) fn reloaded(&mut self, webhooks: BTreeSet<usize>, what: &str) {
        self.in_force.push(webhooks);
        self.note(About::All, || format!("somebody {what}"));
    }

    /// A delivery as the store has it now.
    pub(crate) fn stored(&self, id: DeliveryId) -> Option<Delivery> {
        let found = self.store.delivery(id).now_or_never().expect("the memory queue answers at once");
        found.expect("the memory queue does not fail")
    }

    /// The order that a delivery to a webhook has its place in, if it has one.
    pub(crate) fn order_of(&self, sequence: Sequence, webhook: usize) -> Option<((usize, u32), OnFailure)> {
        let target = &self.plan.targets[webhook].webhook;
        let object = self.events.get(&sequence)?.plan.object;
        (target.ordering == Ordering::Object).then_some(((webhook, object), target.on_failure))
    }

    /// Which webhook has this name.
    pub(crate) fn webhook(&self, name: &WebhookName) -> usize {
        let place = self.plan.targets.iter().position(|target| target.webhook.name == *name);
        place.expect("there are no webhooks but those of the plan")
    }

    // --- people

    /// A person does this to deliveries, which are in these states.
    pub(crate) fn acted(&mut self, change: Change, before: &[Delivery]) {
        for delivery in before.iter().filter(|delivery| change.applies_to(delivery.state)) {
            let (id, state) = (delivery.id, delivery.state);
            match change {
                Change::Cancel => {
                    self.cancelled.insert(id);
                }
                Change::Purge => {
                    self.purged.insert(id);
                }
                Change::Retry | Change::Redrive => {
                    *self.sent_again.entry(id).or_default() += 1;
                    if state == DeliveryState::Dead {
                        // Given up without an attempt, perhaps; it was passed over all the same.
                        self.failures.insert(id);
                    }
                    if delivery.rule.is_none()
                        && let Some(event) = self.events.get_mut(&id.sequence())
                    {
                        (event.fanned_out, event.leased) = (false, 0);
                    }
                }
            }
            self.note(About::Event(id.sequence()), || format!("somebody: {change:?} of {id}, {state}"));
        }
    }

    pub(crate) fn paused(&mut self, endpoint: EndpointId, paused: bool) {
        let now = self.now();
        self.note(About::Endpoint(endpoint), || {
            format!("somebody {} {endpoint}", if paused { "pauses" } else { "resumes" })
        });
        match paused {
            true => drop(self.paused.entry(endpoint).or_insert(now)),
            false => drop(self.paused.remove(&endpoint)),
        }
        if !paused {
            self.silent.retain(|(_, silent), _| *silent != endpoint);
        }
    }

    pub(crate) fn webhook_paused(&mut self, webhook: usize, paused: bool) {
        let now = self.now();
        self.note(About::All, || {
            format!("somebody {} webhook w{webhook}", if paused { "pauses" } else { "resumes" })
        });
        match paused {
            true => drop(self.paused_webhooks.entry(webhook).or_insert(now)),
            false => drop(self.paused_webhooks.remove(&webhook)),
        }
    }

    pub(crate) fn probed(&mut self, endpoint: EndpointId) {
        self.note(About::Endpoint(endpoint), || format!("somebody probes {endpoint}"));
        self.silent.retain(|(_, silent), _| *silent != endpoint);
    }

    /// An endpoint's record was written, or was not.
    pub(crate) fn endpoint_put(
        &mut self,
        life: Option<usize>,
        endpoint: EndpointId,
        record: &Bytes,
        put: &PutEndpoint,
    ) {
        let who = self.who(life);
        if life.is_none() && matches!(put, PutEndpoint::Written(_)) {
            // What a person does ends a silence in this step, even if the command goes on to fail.
            self.silent.retain(|(_, silent), _| *silent != endpoint);
        }
        self.note(About::Endpoint(endpoint), || {
            if record.is_empty() {
                return format!("{who} removes {endpoint}: {put:?}");
            }
            let state = EndpointState::read(record).expect("nobody writes another layout");
            let health = &state.health;
            let paused = if health.is_paused() { ", paused" } else { "" };
            let rate = health.rate().map_or(String::new(), |rate| format!(", rate {rate:.1}"));
            let put = if matches!(put, PutEndpoint::Written(_)) { "writes" } else { "may not write" };
            format!("{who} {put} {endpoint}: {}{rate}{paused}", health.circuit())
        });
    }

    /// An endpoint's backlog is held, or let go.
    pub(crate) fn held(&mut self, life: Option<usize>, endpoint: EndpointId, hold: Option<Duration>) {
        let who = self.who(life);
        match hold {
            Some(hold) => self.holds.insert(endpoint, self.now() + hold),
            None => self.holds.remove(&endpoint),
        };
        self.note(About::Endpoint(endpoint), || match hold {
            Some(hold) => format!("{who} holds {endpoint} for {hold:?}"),
            None => format!("{who} lets {endpoint} go"),
        });
    }
}

/// The name of the rule that matches everything.
pub(crate) const ALL: &str = "all";
/// The name of the rule that matches updates.
pub(crate) const UPDATES: &str = "updates";
