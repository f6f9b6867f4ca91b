//! The comparison with the memory backend: the same random calls on both, and the same answers from both.
//!
//! Invariant: everything that can be observed is compared, after every call, except sizes of the history (which a
//! backend may reckon by its own records) and lease tokens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use hookwire_model::{
    Attempt, AttemptError, DeadReason, Delivery, DeliveryId, DeliveryState, EndpointId, ErrorKind, EventId,
    OnFailure, OutcomeKind, RuleName, Sequence, Shard, Timestamp, Timings, WaitingReason, WebhookName,
};

use super::TestStore;
use crate::{
    Change, DeliveryFilter, EventFate, Fate, Inspect, Lease, LeaseDeliveries, LeaseEvents, MemoryQueue,
    NewDelivery, NewEvent, Order, PackedAttempt, Queue, Rooms, Selection, SettledDelivery, SettledEvent,
    Settlement, StoreLimits, Subject, WorkerId,
};

const SHARD: Shard = Shard(0);

/// Enough that each kind of call meets each state many times; the suite stays fast; 300 seeds were run when it was written.
const SEEDS: u64 = 8;
const CALLS: usize = 100;

/// Runs the same random calls on the backend and on the memory backend.
pub async fn model_random_calls_give_the_same_as_the_memory_backend<S: TestStore>(store: S) {
    // Without a clock of its own a backend's times differ by the time that calls take, and so do its answers.
    let Some(clock) = store.clock() else { return };
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        // Every other run keeps no history at all, so that it makes no difference when it goes.
        let keeps_history = seed.is_multiple_of(2);
        let limits = StoreLimits {
            dedup_window: Duration::from_secs(60),
            dedup_max_ids: 25,
            pending_bytes_max: 400,
            backlog_bytes_max: 150,
            history_age_max: if keeps_history { Duration::from_secs(1_000_000) } else { Duration::ZERO },
            ..StoreLimits::default()
        };
        let mut pair = Pair {
            seed,
            keeps_history,
            model: MemoryQueue::with_clock(limits.clone(), clock.store_clock()),
            backend: store.open(limits).await,
            held: Vec::new(),
            settled: Vec::new(),
            events: Vec::new(),
            known: Vec::new(),
            trace: Vec::new(),
        };
        for _ in 0..CALLS {
            if rng.u8(..5) == 0 {
                let by = Duration::from_millis(rng.u64(..8000));
                pair.trace.push(format!("advance {by:?}"));
                store.advance(by).await;
            }
            pair.call(&mut rng).await;
            store.tidy(&pair.backend).await;
            pair.compare().await;
        }
    }
}

/// How many deliveries are given up for their age, however many steps that takes.
async fn given_up(queue: &impl Queue, age: Duration, max: usize) -> u64 {
    let (mut after, mut dead) = (None, 0);
    loop {
        let expired = queue.expire(SHARD, age, after, max).await.expect("the store works");
        dead += expired.dead;
        after = expired.next;
        if after.is_none() {
            return dead;
        }
    }
}

/// A lease of each of the two.
#[derive(Debug, Clone)]
struct Held {
    subject: Subject,
    tokens: [u64; 2],
    /// Attempts that were made before.
    attempts: u32,
}

impl Held {
    fn lease(&self, which: usize) -> Lease {
        Lease { subject: self.subject, token: self.tokens[which] }
    }
}

struct Pair<Q> {
    seed: u64,
    keeps_history: bool,
    model: MemoryQueue,
    backend: Q,
    /// Leases that were given out, also those that are over: late settlements are part of the game.
    held: Vec<Held>,
    /// Settlements to repeat.
    settled: Vec<[Settlement; 2]>,
    /// Events that were leased.
    events: Vec<(Sequence, EventId)>,
    /// Deliveries that may be on record.
    known: Vec<DeliveryId>,
    trace: Vec<String>,
}

impl<Q: Queue + Inspect> Pair<Q> {
    fn same(&self, what: &str, model: impl std::fmt::Debug, backend: impl std::fmt::Debug) {
        if format!("{model:?}") != format!("{backend:?}") {
            let (model, backend) = (format!("{model:#?}"), format!("{backend:#?}"));
            let trace = self.trace.join("\n  ");
            panic!(
                "seed {}: {what} differs after\n  {trace}\nmemory: {model}\nbackend: {backend}",
                self.seed
            );
        }
    }

    async fn call(&mut self, rng: &mut Rng) {
        match rng.u8(..15) {
            0..=2 => self.publish(rng).await,
            3 | 4 => self.lease_events(rng).await,
            5 | 6 => self.lease_deliveries(rng).await,
            7..=9 => self.settle(rng).await,
            10 => self.change(rng).await,
            11 => self.extend(rng).await,
            12 => self.hold(rng).await,
            13 => self.expire(rng).await,
            _ => self.repeat(rng).await,
        }
    }

    async fn publish(&mut self, rng: &mut Rng) {
        let events: Vec<NewEvent> = (0..rng.usize(1..4))
            .map(|_| NewEvent {
                id: EventId::new(&format!("e{}", rng.u8(..40))).expect("a letter and a number"),
                payload: Bytes::from(vec![b'x'; rng.usize(..40)]),
            })
            .collect();
        self.trace
            .push(format!("publish {:?}", events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>()));
        let model = self.model.publish(SHARD, events.clone()).await.map_err(|error| error.to_string());
        let backend = self.backend.publish(SHARD, events).await.map_err(|error| error.to_string());
        self.same("publish", model, backend);
    }

    async fn lease_events(&mut self, rng: &mut Rng) {
        let request = LeaseEvents {
            worker: WorkerId::new("w"),
            lease: Duration::from_secs(rng.u64(1..10)),
            max: rng.usize(..4),
            suspects_max: rng.usize(..3),
        };
        self.trace.push(format!("{request:?}"));
        let model = self.model.lease_events(SHARD, request.clone()).await.expect("memory does not fail");
        let backend = self.backend.lease_events(SHARD, request).await.expect("the backend works");
        for (a, b) in model.iter().zip(&backend) {
            let tokens = [a.lease.token, b.lease.token];
            self.held.push(Held { subject: a.lease.subject, tokens, attempts: 0 });
            self.events.push((a.sequence, a.id.clone()));
        }
        let show = |leased: Vec<crate::LeasedEvent>| -> Vec<String> {
            let show = |event: crate::LeasedEvent| {
                let crate::LeasedEvent {
                    lease,
                    id,
                    sequence,
                    payload,
                    accepted_at,
                    leased_at,
                    losses,
                    recorded,
                    refused: _,
                } = event;
                format!(
                    "{:?} {id} {sequence} {payload:?} {accepted_at} {leased_at} {losses} {recorded:?}",
                    lease.subject
                )
            };
            leased.into_iter().map(show).collect()
        };
        self.same("lease_events", show(model), show(backend));
    }

    async fn lease_deliveries(&mut self, rng: &mut Rng) {
        let request = LeaseDeliveries {
            worker: WorkerId::new("w"),
            lease: Duration::from_secs(rng.u64(1..10)),
            max: rng.usize(..8),
            rooms: Rooms {
                default: rng.u32(1..4),
                exceptions: vec![(EndpointId::from_u64(rng.u64(1..4)), rng.u32(..3))],
            },
        };
        self.trace.push(format!("{request:?}"));
        let model = self.model.lease_deliveries(SHARD, request.clone()).await.expect("memory does not fail");
        let backend = self.backend.lease_deliveries(SHARD, request).await.expect("the backend works");
        for (a, b) in model.deliveries.iter().zip(&backend.deliveries) {
            let tokens = [a.lease.token, b.lease.token];
            self.held.push(Held { subject: a.lease.subject, tokens, attempts: a.attempts });
        }
        // To look again earlier than necessary is harmless; later is not, nor is to look again at once for nothing.
        let (latest, told) = (model.next_due, backend.next_due);
        let zero = Some(Duration::ZERO);
        let is_fine = (latest == zero) == (told == zero)
            && latest.is_none_or(|latest| told.is_some_and(|told| told <= latest));
        if !is_fine {
            self.same("next_due", latest, told);
        }
        let show = |leased: crate::LeasedDeliveries| {
            let mut deliveries = leased.deliveries;
            for delivery in &mut deliveries {
                delivery.lease.token = 0;
            }
            deliveries
        };
        self.same("lease_deliveries", show(model), show(backend));
    }

    async fn settle(&mut self, rng: &mut Rng) {
        let mut settlements = [Settlement::default(), Settlement::default()];
        for _ in 0..rng.usize(1..4) {
            if self.held.is_empty() {
                return;
            }
            // Mostly the newest ones, which are still held.
            let begin = if rng.u8(..4) == 0 { 0 } else { self.held.len().saturating_sub(4) };
            let held = self.held[rng.usize(begin..self.held.len())].clone();
            let draw = rng.u64(..);
            for (which, settlement) in settlements.iter_mut().enumerate() {
                let mut rng = Rng::with_seed(draw);
                match held.subject {
                    Subject::Event(sequence) => {
                        let fate = self.event_fate(&mut rng, sequence);
                        settlement.events.push(SettledEvent { lease: held.lease(which), fate });
                    }
                    Subject::Delivery(_) => {
                        let fate = fate(&mut rng);
                        settlement.deliveries.push(SettledDelivery {
                            lease: held.lease(which),
                            endpoint: place(&mut rng),
                            attempts: attempts(&mut rng, held.attempts, &fate),
                            fate,
                        });
                    }
                }
            }
        }
        for event in &settlements[0].events {
            match &event.fate {
                EventFate::FannedOut { deliveries, .. } => {
                    self.known.extend(deliveries.iter().map(|new| new.id));
                }
                EventFate::Dead { id, .. } => self.known.push(*id),
                EventFate::Released => {}
            }
        }
        self.known.sort_unstable();
        self.known.dedup();
        self.carry_out(settlements).await;
    }

    async fn repeat(&mut self, rng: &mut Rng) {
        if !self.settled.is_empty() {
            let settlements = self.settled.swap_remove(rng.usize(..self.settled.len()));
            self.carry_out(settlements).await;
        }
    }

    async fn carry_out(&mut self, settlements: [Settlement; 2]) {
        self.trace.push(format!("{:?}", settlements[0]));
        let model = self.model.settle(SHARD, &settlements[0]).await.expect("memory does not fail");
        let backend = self.backend.settle(SHARD, &settlements[1]).await.expect("the backend works");
        for ((id, a), (_, b)) in model.leases.iter().zip(&backend.leases) {
            let tokens = [a.token, b.token];
            self.held.push(Held { subject: Subject::Delivery(*id), tokens, attempts: 3 });
        }
        let show = |mut settled: crate::Settled| {
            // Where one is settled twice at once, it is not told which of the two was lost.
            settled.lost.sort_unstable();
            let ids: Vec<DeliveryId> = settled.leases.iter().map(|(id, _)| *id).collect();
            (ids, settled.lost, settled.over)
        };
        self.same("settle", show(model), show(backend));
        self.settled.push(settlements);
    }

    fn event_fate(&self, rng: &mut Rng, sequence: Sequence) -> EventFate {
        let (_, id) = self.events.iter().find(|(known, _)| *known == sequence).expect("it was leased");
        match rng.u8(..8) {
            0 => EventFate::Released,
            1 => EventFate::Dead {
                id: DeliveryId::of_event(SHARD, sequence, id),
                reason: DeadReason::PoisonEvent,
                error: error(rng),
            },
            _ => EventFate::FannedOut {
                event: "created".into(),
                object_type: "dcim.site".into(),
                deliveries: (0..rng.usize(..4))
                    .map(|number| new_delivery(rng, sequence, id, number))
                    .collect(),
            },
        }
    }

    async fn change(&mut self, rng: &mut Rng) {
        let change =
            rng.choice([Change::Retry, Change::Cancel, Change::Redrive, Change::Purge]).expect("four");
        let selection = if rng.bool() {
            let ids = (0..rng.usize(1..4)).filter_map(|_| rng.choice(&self.known).copied()).collect();
            Selection::Ids(ids)
        } else {
            Selection::Filter(filter(rng))
        };
        let dry_run = rng.u8(..4) == 0;
        self.trace.push(format!("{change:?} {selection:?} dry_run {dry_run}"));
        let model =
            self.model.change(SHARD, change, &selection, dry_run).await.expect("memory does not fail");
        let backend =
            self.backend.change(SHARD, change, &selection, dry_run).await.expect("the backend works");
        self.same("change", model, backend);
    }

    async fn expire(&mut self, rng: &mut Rng) {
        let age = Duration::from_secs(rng.u64(..120));
        let max = rng.usize(1..10);
        self.trace.push(format!("expire {age:?} max {max}"));
        let model = given_up(&self.model, age, max).await;
        let backend = given_up(&self.backend, age, max).await;
        self.same("expire", model, backend);
    }

    async fn extend(&mut self, rng: &mut Rng) {
        let held: Vec<Held> = (0..2).filter_map(|_| rng.choice(&self.held).cloned()).collect();
        let lease = Duration::from_secs(rng.u64(1..10));
        self.trace.push(format!("extend {held:?} {lease:?}"));
        let leases = |which| held.iter().map(|held| held.lease(which)).collect::<Vec<_>>();
        let (a, b) = (leases(0), leases(1));
        let model = self.model.extend(SHARD, &a.iter().collect::<Vec<_>>(), lease).await;
        let backend = self.backend.extend(SHARD, &b.iter().collect::<Vec<_>>(), lease).await;
        self.same("extend", model, backend);
    }

    async fn hold(&mut self, rng: &mut Rng) {
        let endpoint = EndpointId::from_u64(rng.u64(1..4));
        if rng.bool() {
            let hold = rng.bool().then(|| Duration::from_secs(rng.u64(..10)));
            self.trace.push(format!("hold {endpoint} {hold:?}"));
            self.model.hold(SHARD, endpoint, hold).await.expect("memory does not fail");
            self.backend.hold(SHARD, endpoint, hold).await.expect("the backend works");
        } else {
            let record = self.model.endpoint(SHARD, endpoint).await.expect("memory does not fail");
            let expected = record.map_or(0, |record| record.version) + rng.u64(..6) / 5;
            let state = if rng.u64(..4) == 0 { Bytes::new() } else { Bytes::from_static(b"s") };
            self.trace.push(format!("put {endpoint} {expected} {state:?}"));
            let model = self.model.put_endpoint(SHARD, endpoint, expected, state.clone()).await;
            let backend = self.backend.put_endpoint(SHARD, endpoint, expected, state).await;
            self.same("put_endpoint", model, backend);
        }
    }

    async fn compare(&self) {
        let mut stats = [
            self.model.stats(SHARD).await.expect("memory does not fail"),
            self.backend.stats(SHARD).await.expect("the backend works"),
        ];
        for stats in &mut stats {
            // These are about, or caught up with in idle moments.
            (stats.dedup_ids, stats.dedup_window_ms) = (0, 0);
            if self.keeps_history {
                stats.history_bytes = 0;
            }
        }
        let [model, backend] = stats;
        self.same("stats", model, backend);
        let all = DeliveryFilter::default();
        let model = self.model.list(SHARD, &all, None, 1000).await.expect("memory does not fail");
        let backend = self.backend.list(SHARD, &all, None, 1000).await.expect("the backend works");
        self.same("list", &model.items, &backend.items);
        let model = self.model.scan(SHARD, None, 1000).await.expect("memory does not fail");
        let backend = self.backend.scan(SHARD, None, 1000).await.expect("the backend works");
        self.same("scan", model, backend);
        let mut rng = Rng::with_seed(self.trace.len() as u64);
        let filter = filter(&mut rng);
        let before = rng.choice(&self.known).copied().filter(|_| rng.bool());
        let limit = rng.usize(1..5);
        let model = self.model.list(SHARD, &filter, before, limit).await;
        let backend = self.backend.list(SHARD, &filter, before, limit).await;
        self.same("filtered list", model, backend);
        let after = Some(Sequence(rng.u64(..20)));
        let (model, backend) =
            (self.model.scan(SHARD, after, limit).await, self.backend.scan(SHARD, after, limit).await);
        self.same("scan of a page", model, backend);
        if let Some(id) = rng.choice(&self.known) {
            let model: Option<Delivery> = self.model.delivery(*id).await.expect("memory does not fail");
            let backend = self.backend.delivery(*id).await.expect("the backend works");
            self.same("delivery", model, backend);
        }
        if let Some((_, id)) = rng.choice(&self.events) {
            let model = self.model.event(SHARD, id).await.expect("memory does not fail");
            let backend = self.backend.event(SHARD, id).await.expect("the backend works");
            self.same("event", model, backend);
        }
        let (model, backend) = (self.model.endpoints(SHARD).await, self.backend.endpoints(SHARD).await);
        self.same("endpoints", model, backend);
        let (model, backend) = (self.model.backlogs(SHARD).await, self.backend.backlogs(SHARD).await);
        self.same("backlogs", model, backend);
    }
}

fn filter(rng: &mut Rng) -> DeliveryFilter {
    DeliveryFilter {
        state: rng.bool().then(|| rng.choice(DeliveryState::ALL).copied().expect("there are some")),
        webhook: rng
            .bool()
            .then(|| WebhookName::new(&format!("w{}", rng.u8(..3))).expect("a letter and a number")),
        rule: None,
        endpoint: rng.bool().then(|| EndpointId::from_u64(rng.u64(1..4))),
        event_id: (rng.u8(..4) == 0)
            .then(|| EventId::new(&format!("e{}", rng.u8(..40))).expect("a letter and a number")),
    }
}

fn place(rng: &mut Rng) -> Option<EndpointId> {
    rng.bool().then(|| EndpointId::from_u64(rng.u64(1..4)))
}

fn error(rng: &mut Rng) -> Option<AttemptError> {
    rng.bool().then(|| AttemptError { kind: ErrorKind::Timeout, message: format!("after {} s", rng.u8(..9)) })
}

fn fate(rng: &mut Rng) -> Fate {
    match rng.u8(..10) {
        0..=2 => Fate::Delivered,
        3 | 4 => Fate::Dead { reason: DeadReason::AttemptsExhausted, error: error(rng) },
        5 => Fate::Running { lease: Duration::from_secs(rng.u64(1..10)) },
        _ => Fate::Waiting { due_in: Duration::from_millis(rng.u64(..6000)), reason: WaitingReason::Retry },
    }
}

fn attempts(rng: &mut Rng, before: u32, fate: &Fate) -> Vec<PackedAttempt> {
    let count = rng.u32(..3);
    (0..count)
        .map(|number| {
            PackedAttempt::from(&Attempt {
                number: before + 1 + number,
                started_at: Timestamp::from_secs(1_800_000_000),
                duration: Duration::from_millis(u64::from(number)),
                outcome: if *fate == Fate::Delivered {
                    OutcomeKind::Succeeded
                } else {
                    OutcomeKind::Rejected
                },
                status: rng.bool().then(|| rng.u16(200..599)),
                error: error(rng),
                address: None,
                hops: vec![],
                timings: Timings::default(),
                request: None,
                response: None,
            })
        })
        .collect()
}

fn new_delivery(rng: &mut Rng, sequence: Sequence, event: &EventId, number: usize) -> NewDelivery {
    let rule = RuleName::new("rule").expect("a word");
    let webhook = WebhookName::new(&format!("w{number}")).expect("a letter and a number");
    // Each key keeps to one way to fail, as the definitions of one webhook do.
    let order = rng.bool().then(|| {
        let key = rng.usize(..3);
        Order { key: Arc::from(format!("k{key}")), on_failure: OnFailure::ALL[key] }
    });
    let fate = match order {
        // What has a place in an order skips the fast path.
        Some(_) => {
            Fate::Waiting { due_in: Duration::from_millis(rng.u64(..3000)), reason: WaitingReason::Order }
        }
        None => fate(rng),
    };
    NewDelivery {
        id: DeliveryId::derive(SHARD, sequence, event, &rule, &webhook),
        rule,
        webhook,
        endpoint: place(rng),
        order,
        attempts: attempts(rng, 0, &fate),
        fate,
    }
}
