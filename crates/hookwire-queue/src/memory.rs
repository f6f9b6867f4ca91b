//! The simplest correct backend; the others are measured against it.
//!
//! Invariants:
//! - A delivery's record changes only between `take` and `put`, which keep the indexes and counts with it.
//! - Nothing depends on the order of a hash map: the same calls at the same times give the same answers.
//!
//! Absences: nothing outlives the process, and no thread or task runs in the background; what time does to leases,
//! history and remembered ids is caught up with at the beginning of each call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, DeadReason, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, Sequence, Shard, Timestamp,
};

use crate::backend::{
    Acted, EventHead, Leases, Record, StoreClock, Wake, next_endpoint_version, system_clock,
};
use crate::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, EventFate, EventState, Expired,
    Fate, Inspect, Lease, LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedDelivery, LeasedEvent,
    NewDelivery, NewEvent, PackedAttempt, PendingDelivery, PendingEvent, PendingItem, Published, PutEndpoint,
    Queue, QueueError, ScanPage, Selection, Settled, SettledDelivery, SettledEvent, Settlement, Stats,
    StoreLimits, StoredEvent, Subject,
};

/// What a finished delivery counts in the history besides its attempts: names, numbers, and their overhead.
const RECORD_BYTES: u64 = 256;

/// A store in memory, with one shard, whatever number callers give it. Clones are handles to the same store.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Held only for the length of a call, never across an `.await`.
    state: Mutex<State>,
    wake: Wake,
    clock: StoreClock,
    limits: StoreLimits,
}

impl MemoryQueue {
    /// An empty store on the system's clock.
    pub fn new(limits: StoreLimits) -> Self {
        Self::with_clock(limits, system_clock())
    }

    /// An empty store on a clock of its own.
    pub fn with_clock(limits: StoreLimits, clock: StoreClock) -> Self {
        let shared = Shared { state: Mutex::new(State::new()), wake: Wake::default(), clock, limits };
        MemoryQueue { shared: Arc::new(shared) }
    }

    /// An empty store on tokio's clock, which tests and simulations pause: it is `start` now.
    pub fn on_tokio_time(limits: StoreLimits, start: Timestamp) -> Self {
        let begin = tokio::time::Instant::now();
        Self::with_clock(limits, StoreClock::new(move || start.saturating_add(begin.elapsed())))
    }

    /// The state as it is now: with what time has done to it.
    fn state(&self) -> (MutexGuard<'_, State>, Timestamp) {
        // A panic under the lock is a broken invariant in this file. The state is whole all the same, since each step
        // that can fail comes before the first change; so the other workers may go on.
        let mut state = self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = self.shared.clock.now();
        let (events, deliveries) = state.catch_up(now, &self.shared.limits);
        if events {
            self.shared.wake.event_came();
        }
        if deliveries {
            self.shared.wake.delivery_came();
        }
        (state, now)
    }

    /// Wakes those who wait for what a step made available.
    fn announce(&self, state: &mut State) {
        if std::mem::take(&mut state.news.events) {
            self.shared.wake.event_came();
        }
        if std::mem::take(&mut state.news.deliveries) {
            self.shared.wake.delivery_came();
        }
    }
}

impl Queue for MemoryQueue {
    fn shards(&self) -> u16 {
        1
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        let (mut state, now) = self.state();
        let published = state.publish(shard, events, now, &self.shared.limits)?;
        self.announce(&mut state);
        Ok(published)
    }

    async fn lease_events(&self, _: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        let (mut state, now) = self.state();
        let stamp = self.shared.wake.events_stamp();
        let leased = state.lease_events(&request, now);
        if leased.len() < request.max {
            self.shared.wake.looked_for_events(stamp);
        }
        Ok(leased)
    }

    async fn lease_deliveries(
        &self,
        _: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        let (mut state, now) = self.state();
        let stamp = self.shared.wake.deliveries_stamp();
        let leased = state.lease_deliveries(&request, now);
        if leased.deliveries.len() < request.max {
            self.shared.wake.looked_for_deliveries(stamp);
        }
        Ok(leased)
    }

    async fn extend(&self, _: Shard, leases: &[&Lease], lease: Duration) -> Result<Vec<Subject>, QueueError> {
        let (mut state, now) = self.state();
        let lost = leases.iter().filter(|held| !state.leases.extend(held, now, lease));
        Ok(lost.map(|held| held.subject).collect())
    }

    async fn settle(&self, _: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        let (mut state, now) = self.state();
        let mut settled = Settled::default();
        for event in &settlement.events {
            state.settle_event(event, now, self.shared.limits.backlog_bytes_max, &mut settled);
        }
        for delivery in &settlement.deliveries {
            state.settle_delivery(delivery, now, &mut settled);
        }
        state.leases.commit();
        self.announce(&mut state);
        Ok(settled)
    }

    async fn expire(
        &self,
        _: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        let (mut state, now) = self.state();
        let expired = state.expire(age, after, max, now);
        self.announce(&mut state);
        Ok(expired)
    }

    async fn hold(&self, _: Shard, endpoint: EndpointId, hold: Option<Duration>) -> Result<(), QueueError> {
        let (mut state, now) = self.state();
        match hold {
            Some(hold) => state.holds.insert(endpoint, now.saturating_add(hold)),
            None => state.holds.remove(&endpoint),
        };
        state.news.deliveries = true;
        self.announce(&mut state);
        Ok(())
    }

    async fn wait(&self, _: Shard, timeout: Duration) -> Result<(), QueueError> {
        let next_end = {
            let (state, now) = self.state();
            state.leases.next_end().map(|end| end.saturating_since(now))
        };
        // A lease that runs out makes something available, and nobody else would tell.
        self.shared.wake.wait(next_end.map_or(timeout, |end| end.min(timeout))).await;
        Ok(())
    }
}

impl Inspect for MemoryQueue {
    async fn list(
        &self,
        _: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        let (state, _) = self.state();
        let end = before.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut matching = state
            .deliveries
            .range((std::ops::Bound::Unbounded, end))
            .rev()
            .map(|(_, stored)| &stored.record.delivery)
            .filter(|delivery| filter.matches(delivery));
        let items: Vec<Delivery> = matching.by_ref().take(limit).cloned().collect();
        let next = matching.next().and(items.last()).map(|last| last.id);
        Ok(DeliveryPage { items, next })
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        let (state, _) = self.state();
        Ok(state.deliveries.get(&id).map(|stored| {
            let log = stored.log.values().cloned().collect();
            Delivery { attempt_log: Some(log), ..stored.record.delivery.clone() }
        }))
    }

    async fn event(&self, _: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        let (state, _) = self.state();
        let Some((&sequence, event)) = state.events.iter().rev().find(|(_, event)| event.id == *id) else {
            return Ok(None);
        };
        Ok(Some(StoredEvent {
            id: event.id.clone(),
            sequence,
            payload: event.payload.clone(),
            accepted_at: event.accepted_at,
            state: match event.stage {
                Stage::Queued if state.leases.of(Subject::Event(sequence)).is_some() => EventState::Leased,
                Stage::Queued => EventState::Queued,
                Stage::FannedOut => EventState::FannedOut,
            },
            losses: if event.stage == Stage::Queued { event.losses } else { 0 },
            deliveries: state.of_event(sequence).map(|stored| stored.record.delivery.clone()).collect(),
        }))
    }

    async fn stats(&self, _: Shard) -> Result<Stats, QueueError> {
        let (state, now) = self.state();
        Ok(state.stats(now, &self.shared.limits))
    }

    async fn change(
        &self,
        _: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        let (mut state, now) = self.state();
        let (ids, by_id) = match selection {
            Selection::Ids(ids) => (ids.clone(), true),
            Selection::Filter(filter) => {
                let matching = state.deliveries.iter();
                let matching = matching.filter(|(_, stored)| filter.matches(&stored.record.delivery));
                (matching.map(|(id, _)| *id).collect(), false)
            }
        };
        let mut changed = Changed::default();
        let mut seen = BTreeSet::new();
        for id in ids.into_iter().filter(|id| seen.insert(*id)) {
            match state.act(id, change, now, dry_run) {
                None => changed.unknown.push(id),
                Some((Acted::Unfit, found)) => changed.unfit.push((id, found)),
                Some(_) => changed.changed += 1,
            }
        }
        if !by_id {
            changed.unknown.clear();
            changed.unfit.clear();
        }
        self.announce(&mut state);
        Ok(changed)
    }

    async fn endpoint(&self, _: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        Ok(self.state().0.endpoints.get(&id).cloned())
    }

    async fn endpoints(&self, _: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        Ok(self.state().0.endpoints.values().cloned().collect())
    }

    async fn put_endpoint(
        &self,
        _: Shard,
        id: EndpointId,
        expected: u64,
        bytes: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        let (mut state, now) = self.state();
        let found = state.endpoints.get(&id);
        let version = found.map_or(0, |record| record.version);
        if version != expected {
            return Ok(PutEndpoint::Conflict(found.cloned()));
        }
        if bytes.is_empty() {
            state.endpoints.remove(&id);
            return Ok(PutEndpoint::Written(0));
        }
        let version = next_endpoint_version(version, now);
        state.endpoints.insert(id, EndpointRecord { id, version, state: bytes });
        Ok(PutEndpoint::Written(version))
    }

    async fn backlogs(&self, _: Shard) -> Result<Vec<Backlog>, QueueError> {
        let (state, _) = self.state();
        let backlogs = state.waiting.iter().filter_map(|(endpoint, waiting)| {
            let (endpoint, deliveries) = ((*endpoint)?, waiting.len() as u64);
            Some(Backlog { endpoint, deliveries, bytes: state.backlog_bytes[&endpoint] })
        });
        Ok(backlogs.collect())
    }

    async fn scan(&self, _: Shard, after: Option<Sequence>, limit: usize) -> Result<ScanPage, QueueError> {
        let (state, now) = self.state();
        let begin = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut pending = state
            .events
            .range((begin, std::ops::Bound::Unbounded))
            .filter(|(_, event)| event.stage == Stage::Queued || event.open + event.dead > 0);
        let page = pending.by_ref().take(limit).map(|(&sequence, event)| state.pending(sequence, event, now));
        let items: Vec<(Sequence, PendingItem)> = page.collect();
        let next = pending.next().and(items.last()).map(|(sequence, _)| *sequence);
        Ok(ScanPage { items: items.into_iter().map(|(_, item)| item).collect(), next })
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        let (mut state, now) = self.state();
        let mut new = 0;
        for item in items {
            new += u64::from(state.restore(shard, item, now));
        }
        self.announce(&mut state);
        Ok(new)
    }
}

/// Where an event stands, its lease apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    FannedOut,
}

#[derive(Debug)]
struct Event {
    /// What it was published under, and the ids of its deliveries begin with.
    shard: Shard,
    id: EventId,
    payload: Bytes,
    accepted_at: Timestamp,
    stage: Stage,
    losses: u32,
    /// How many of its deliveries wait or run.
    open: u64,
    /// How many are dead letters.
    dead: u64,
    /// Since when there is nothing left to do for it, and what it counts in the history.
    closed: Option<(Timestamp, u64)>,
    /// Whether its payload counts as pending.
    pending: bool,
}

#[derive(Debug)]
struct Stored {
    record: Record,
    log: BTreeMap<u32, Attempt>,
}

/// What a step made available that was not there before.
#[derive(Debug, Default)]
struct News {
    events: bool,
    deliveries: bool,
}

#[derive(Debug)]
struct State {
    last: u64,
    events: BTreeMap<Sequence, Event>,
    /// Ids within the de-duplication window, and their order of acceptance.
    ids: BTreeMap<EventId, Sequence>,
    remembered: VecDeque<(Sequence, EventId, Timestamp)>,
    /// Events to be fanned out, leased ones among them.
    queued: BTreeSet<Sequence>,
    deliveries: BTreeMap<DeliveryId, Stored>,
    /// The backlogs: waiting deliveries by endpoint, the earliest due first.
    waiting: BTreeMap<Option<EndpointId>, BTreeSet<(Timestamp, DeliveryId)>>,
    /// The payload bytes of each backlog, by the same endpoints.
    backlog_bytes: BTreeMap<EndpointId, u64>,
    /// Unfinished deliveries by order key.
    orders: BTreeMap<Arc<str>, BTreeSet<DeliveryId>>,
    /// Whose backlog was served last.
    served: Option<Option<EndpointId>>,
    leases: Leases<()>,
    endpoints: BTreeMap<EndpointId, EndpointRecord>,
    holds: BTreeMap<EndpointId, Timestamp>,
    /// Events with nothing left to do, in the order in which they came to be so.
    history: BTreeSet<(Timestamp, Sequence)>,
    pending_bytes: u64,
    history_bytes: u64,
    news: News,
}

impl State {
    fn new() -> Self {
        State {
            last: 0,
            events: BTreeMap::new(),
            ids: BTreeMap::new(),
            remembered: VecDeque::new(),
            queued: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            waiting: BTreeMap::new(),
            backlog_bytes: BTreeMap::new(),
            orders: BTreeMap::new(),
            served: None,
            leases: Leases::new(0),
            endpoints: BTreeMap::new(),
            holds: BTreeMap::new(),
            history: BTreeSet::new(),
            pending_bytes: 0,
            history_bytes: 0,
            news: News::default(),
        }
    }

    /// Does what time does: leases run out, ids are forgotten, history goes. Tells whether events and deliveries became
    /// available by it.
    fn catch_up(&mut self, now: Timestamp, limits: &StoreLimits) -> (bool, bool) {
        let (mut events, mut deliveries) = (false, false);
        for (subject, ()) in self.leases.run_out(now) {
            match subject {
                Subject::Event(sequence) => {
                    if let Some(event) = self.events.get_mut(&sequence) {
                        event.losses += 1;
                        events = true;
                    }
                }
                Subject::Delivery(id) => {
                    if let Some(mut stored) = self.take(id) {
                        stored.record.lose_lease(now);
                        self.put(stored, now);
                        deliveries = true;
                    }
                }
            }
        }
        self.leases.commit();
        self.forget_ids(now, limits);
        while let Some(&(closed_at, sequence)) = self.history.first()
            && (self.history_bytes > limits.history_bytes_max
                || now.saturating_since(closed_at) >= limits.history_age_max)
        {
            self.forget(sequence);
        }
        (events, deliveries)
    }

    /// Forgets the ids that are out of the de-duplication window.
    fn forget_ids(&mut self, now: Timestamp, limits: &StoreLimits) {
        while let Some((sequence, id, accepted_at)) = self.remembered.front()
            && (self.remembered.len() as u64 > limits.dedup_max_ids
                || now.saturating_since(*accepted_at) >= limits.dedup_window)
        {
            if self.ids.get(id) == Some(sequence) {
                self.ids.remove(id);
            }
            self.remembered.pop_front();
        }
    }

    /// Removes an event with nothing left to do, and its deliveries, from the record.
    fn forget(&mut self, sequence: Sequence) {
        let ids: Vec<DeliveryId> = self.of_event(sequence).map(|stored| stored.record.delivery.id).collect();
        for id in ids {
            self.take(id);
        }
        if let Some((closed_at, bytes)) = self.events.remove(&sequence).and_then(|event| event.closed) {
            self.history.remove(&(closed_at, sequence));
            self.history_bytes -= bytes;
        }
    }

    fn of_event(&self, sequence: Sequence) -> impl Iterator<Item = &Stored> {
        let ids = self.events.get(&sequence).map(|event| {
            let id = |digest| DeliveryId::from_parts(event.shard, sequence, digest);
            id(0)..=id(u64::MAX)
        });
        ids.into_iter().flat_map(|ids| self.deliveries.range(ids)).map(|(_, stored)| stored)
    }

    /// Takes a delivery out of the record and all indexes, to be changed and [`put`](Self::put) back.
    fn take(&mut self, id: DeliveryId) -> Option<Stored> {
        let stored = self.deliveries.remove(&id)?;
        let record = &stored.record;
        if let Some(due) = record.delivery.next_attempt_at
            && let Some(backlog) = self.waiting.get_mut(&record.delivery.endpoint)
        {
            backlog.remove(&(due, id));
            if backlog.is_empty() {
                self.waiting.remove(&record.delivery.endpoint);
            }
            if let Some(endpoint) = record.delivery.endpoint
                && let Some(bytes) = self.backlog_bytes.get_mut(&endpoint)
            {
                *bytes -= self.events[&id.sequence()].payload.len() as u64;
                if !self.waiting.contains_key(&Some(endpoint)) {
                    self.backlog_bytes.remove(&endpoint);
                }
            }
        }
        if let Some(order) = &record.order
            && let Some(members) = self.orders.get_mut(&order.key)
        {
            members.remove(&id);
            if members.is_empty() {
                self.orders.remove(&order.key);
            }
        }
        if let Some(event) = self.events.get_mut(&id.sequence()) {
            match record.delivery.state {
                DeliveryState::Waiting | DeliveryState::Running => event.open -= 1,
                DeliveryState::Dead => event.dead -= 1,
                DeliveryState::Delivered | DeliveryState::Cancelled | DeliveryState::Superseded => {}
            }
        }
        Some(stored)
    }

    /// Puts a delivery into the record and all indexes, and lets its order take note.
    fn put(&mut self, stored: Stored, now: Timestamp) {
        let record = &stored.record;
        let id = record.delivery.id;
        if let Some(due) = record.delivery.next_attempt_at {
            self.waiting.entry(record.delivery.endpoint).or_default().insert((due, id));
            if let Some(endpoint) = record.delivery.endpoint {
                let bytes = self.events[&id.sequence()].payload.len() as u64;
                *self.backlog_bytes.entry(endpoint).or_default() += bytes;
            }
            self.news.deliveries = true;
        }
        let order = record.order.as_ref().map(|order| order.key.clone());
        if let Some(key) = &order
            && !record.delivery.state.is_finished()
        {
            self.orders.entry(key.clone()).or_default().insert(id);
        }
        if let Some(event) = self.events.get_mut(&id.sequence()) {
            match record.delivery.state {
                DeliveryState::Waiting | DeliveryState::Running => event.open += 1,
                DeliveryState::Dead => event.dead += 1,
                DeliveryState::Delivered | DeliveryState::Cancelled | DeliveryState::Superseded => {}
            }
        }
        self.deliveries.insert(id, stored);
        self.tally(id.sequence(), now);
        if let Some(key) = order {
            self.give_way(&key, now);
            // Whoever waited behind it may be able to go.
            self.news.deliveries = true;
        }
    }

    /// Where the first of an order gives way to the newest behind it, all but the newest end as superseded (O3).
    fn give_way(&mut self, key: &Arc<str>, now: Timestamp) {
        let Some(members) = self.orders.get(key) else { return };
        let in_order: Vec<&Record> =
            members.iter().map(|id| &self.deliveries[id].record).filter(|record| record.in_order()).collect();
        let [first, .., _] = in_order[..] else { return };
        if !first.gives_way() {
            return;
        }
        let waiting = in_order.iter().filter(|record| record.delivery.state == DeliveryState::Waiting);
        let mut passed: Vec<DeliveryId> = waiting.map(|record| record.delivery.id).collect();
        passed.pop();
        for id in passed {
            if let Some(mut stored) = self.take(id) {
                stored.record.supersede(now);
                self.put(stored, now);
            }
        }
    }

    /// Whether order lets a delivery go (O1, O2).
    fn may_go(&self, record: &Record) -> bool {
        let Some(order) = &record.order else { return true };
        if !record.in_order() {
            return true;
        }
        let id = record.delivery.id;
        let in_order = self.orders[&order.key].iter().filter(|id| self.deliveries[id].record.in_order());
        let mut others = in_order.clone().filter(|other| **other != id);
        let runs = |id: &DeliveryId| self.deliveries[id].record.delivery.state == DeliveryState::Running;
        let is_first = in_order.clone().next() == Some(&id);
        is_first && !others.any(runs) && self.queued.first().is_none_or(|queued| *queued >= id.sequence())
    }

    /// Brings an event's place among pending and finished ones up to date.
    fn tally(&mut self, sequence: Sequence, now: Timestamp) {
        let bytes: u64 = self.of_event(sequence).map(history_bytes).sum();
        let Some(event) = self.events.get_mut(&sequence) else { return };
        let size = event.payload.len() as u64;
        let pending = event.stage == Stage::Queued || event.open > 0;
        match (event.pending, pending) {
            (false, true) => self.pending_bytes += size,
            (true, false) => self.pending_bytes -= size,
            _ => {}
        }
        event.pending = pending;
        let mut closed_at = now;
        if let Some((since, bytes)) = event.closed.take() {
            closed_at = since;
            self.history.remove(&(since, sequence));
            self.history_bytes -= bytes;
        }
        if !pending && event.dead == 0 {
            event.closed = Some((closed_at, bytes + size));
            self.history.insert((closed_at, sequence));
            self.history_bytes += bytes + size;
        }
    }

    fn accept(
        &mut self,
        shard: Shard,
        NewEvent { id, payload }: NewEvent,
        accepted_at: Timestamp,
        now: Timestamp,
    ) -> Sequence {
        self.last += 1;
        let sequence = Sequence(self.last);
        self.ids.insert(id.clone(), sequence);
        self.remembered.push_back((sequence, id.clone(), now));
        self.pending_bytes += payload.len() as u64;
        let event = Event {
            shard,
            id,
            payload,
            accepted_at,
            stage: Stage::Queued,
            losses: 0,
            open: 0,
            dead: 0,
            closed: None,
            pending: true,
        };
        self.events.insert(sequence, event);
        self.queued.insert(sequence);
        self.news.events = true;
        sequence
    }

    fn publish(
        &mut self,
        shard: Shard,
        events: Vec<NewEvent>,
        now: Timestamp,
        limits: &StoreLimits,
    ) -> Result<Vec<Published>, QueueError> {
        let mut new = BTreeMap::new();
        for event in events.iter().filter(|event| !self.ids.contains_key(&event.id)) {
            new.entry(&event.id).or_insert(event.payload.len() as u64);
        }
        let more: u64 = new.values().sum();
        if more > 0 && self.pending_bytes + more > limits.pending_bytes_max {
            return Err(QueueError::Full {
                pending_bytes: self.pending_bytes,
                limit: limits.pending_bytes_max,
            });
        }
        let published = events.into_iter().map(|event| match self.ids.get(&event.id) {
            Some(&sequence) => Published { sequence, duplicate: true },
            None => {
                let sequence = self.accept(shard, event, now, now);
                self.forget_ids(now, limits);
                Published { sequence, duplicate: false }
            }
        });
        Ok(published.collect())
    }

    fn lease_events(&mut self, request: &LeaseEvents, now: Timestamp) -> Vec<LeasedEvent> {
        let mut suspects = 0;
        let mut chosen = Vec::new();
        for &sequence in &self.queued {
            if chosen.len() == request.max {
                break;
            }
            let is_suspect = self.events[&sequence].losses > 0;
            if self.leases.of(Subject::Event(sequence)).is_some()
                || (is_suspect && suspects == request.suspects_max)
            {
                continue;
            }
            suspects += usize::from(is_suspect);
            chosen.push(sequence);
        }
        let leased = chosen.into_iter().map(|sequence| {
            let lease = self.leases.give(Subject::Event(sequence), now, request.lease, ());
            let recorded = self.of_event(sequence).map(|stored| stored.record.delivery.id).collect();
            let event = &self.events[&sequence];
            LeasedEvent {
                lease,
                id: event.id.clone(),
                sequence,
                payload: event.payload.clone(),
                accepted_at: event.accepted_at,
                leased_at: now,
                losses: event.losses,
                recorded,
                refused: None,
            }
        });
        let leased = leased.collect();
        self.leases.commit();
        leased
    }

    fn lease_deliveries(&mut self, request: &LeaseDeliveries, now: Timestamp) -> LeasedDeliveries {
        let rooms: BTreeMap<EndpointId, u32> = request.rooms.exceptions.iter().copied().collect();
        let mut next_due: Option<Timestamp> = None;
        let mut turns: Vec<VecDeque<DeliveryId>> = Vec::new();
        let mut left_behind = false;
        for endpoint in self.endpoints_in_turn() {
            let room = endpoint.map_or(u32::MAX, |id| *rooms.get(&id).unwrap_or(&request.rooms.default));
            if room == 0 {
                continue;
            }
            let hold = endpoint.and_then(|id| self.holds.get(&id)).copied().unwrap_or(Timestamp::UNIX_EPOCH);
            let mut ready = VecDeque::new();
            for &(due, id) in &self.waiting[&endpoint] {
                if !self.may_go(&self.deliveries[&id].record) {
                    continue;
                }
                if due.max(hold) > now {
                    let due = due.max(hold);
                    next_due = Some(next_due.map_or(due, |next| next.min(due)));
                    break;
                }
                if ready.len() == request.max.min(room as usize) {
                    left_behind = true;
                    break;
                }
                ready.push_back(id);
            }
            turns.push(ready);
        }
        let mut chosen = Vec::new();
        while turns.iter().any(|ready| !ready.is_empty()) {
            for ready in &mut turns {
                if let Some(&id) = ready.front()
                    && chosen.len() < request.max
                {
                    ready.pop_front();
                    chosen.push(id);
                }
            }
            if chosen.len() == request.max {
                left_behind |= turns.iter().any(|ready| !ready.is_empty());
                break;
            }
        }
        let deliveries =
            chosen.into_iter().filter_map(|id| self.lease_delivery(id, request.lease, now)).collect();
        self.leases.commit();
        let next_due =
            if left_behind { Some(Duration::ZERO) } else { next_due.map(|due| due.saturating_since(now)) };
        LeasedDeliveries { deliveries, next_due }
    }

    /// The endpoints with a backlog, beginning after the one that was served last.
    fn endpoints_in_turn(&self) -> Vec<Option<EndpointId>> {
        let mut endpoints: Vec<_> = self.waiting.keys().copied().collect();
        if let Some(served) = self.served {
            let begin = endpoints.partition_point(|endpoint| *endpoint <= served);
            endpoints.rotate_left(begin);
        }
        endpoints
    }

    fn lease_delivery(&mut self, id: DeliveryId, lease: Duration, now: Timestamp) -> Option<LeasedDelivery> {
        let mut stored = self.take(id)?;
        self.served = Some(stored.record.delivery.endpoint);
        stored.record.lease();
        let event = &self.events[&id.sequence()];
        let record = &stored.record;
        let leased = LeasedDelivery {
            lease: self.leases.give(Subject::Delivery(id), now, lease, ()),
            id,
            event_id: event.id.clone(),
            payload: event.payload.clone(),
            accepted_at: event.accepted_at,
            // Only the dead letter of an event has neither, and it never waits.
            rule: record.delivery.rule.clone()?,
            webhook: record.delivery.webhook.clone()?,
            endpoint: record.delivery.endpoint,
            attempts: record.delivery.attempts,
            interrupted: record.delivery.interrupted,
            forgiven: record.forgiven,
            since: record.since,
        };
        self.put(stored, now);
        Some(leased)
    }

    fn settle_event(
        &mut self,
        settled: &SettledEvent,
        now: Timestamp,
        backlog_bytes_max: u64,
        reply: &mut Settled,
    ) {
        let Subject::Event(sequence) = settled.lease.subject else {
            reply.lost.push(settled.lease.subject);
            return;
        };
        if self.leases.repeat(settled.lease.token, reply) {
            return;
        }
        let held = self.leases.find(&settled.lease).is_some();
        if !held {
            reply.lost.push(settled.lease.subject);
        }
        let Some(event) = self.events.get(&sequence) else { return };
        let mut head = EventHead {
            id: event.id.clone(),
            accepted_at: event.accepted_at,
            event: None,
            object_type: None,
        };
        let mut given = Vec::new();
        match &settled.fate {
            EventFate::FannedOut { event, object_type, deliveries } => {
                head.event = Some(event.to_string());
                head.object_type = Some(object_type.to_string());
                for new in deliveries.iter().filter(|new| held || new.fate == Fate::Delivered) {
                    let stored = self.take(new.id);
                    let is_new = stored.is_none();
                    let mut stored = stored.unwrap_or_else(|| {
                        let (rule, webhook) = (new.rule.clone(), new.webhook.clone());
                        let record =
                            Record::fanned_out(new.id, &head, rule, webhook, new.endpoint, new.order.clone());
                        Stored { record, log: BTreeMap::new() }
                    });
                    let unfinished = !stored.record.delivery.state.is_finished();
                    if is_new || (unfinished && new.fate == Fate::Delivered) {
                        self.leases.end(Subject::Delivery(new.id));
                        stored.record.delivery.endpoint = new.endpoint.or(stored.record.delivery.endpoint);
                        stored.attempted(&new.attempts);
                        let is_over = is_new && self.is_over(sequence, new, backlog_bytes_max);
                        let dead = Fate::Dead { reason: DeadReason::BacklogLimit, error: None };
                        let fate = if is_over { &dead } else { &new.fate };
                        stored.record.settle(now, !new.attempts.is_empty(), fate);
                        if is_over {
                            given.push((new.id, None));
                            reply.over.push(new.id);
                        }
                        if let Fate::Running { lease } = new.fate {
                            // One that has run out already is there for others.
                            self.news.deliveries |= lease.is_zero();
                            let lease = self.leases.give(Subject::Delivery(new.id), now, lease, ());
                            given.push((new.id, Some(lease.token)));
                            reply.leases.push((new.id, lease));
                        }
                    }
                    self.put(stored, now);
                }
            }
            EventFate::Dead { id, reason, error } if held => {
                let record = Record::dead_event(*id, &head, now, *reason, error.clone());
                self.take(*id);
                self.put(Stored { record, log: BTreeMap::new() }, now);
            }
            EventFate::Dead { .. } => {}
            EventFate::Released if held => {
                self.leases.end(settled.lease.subject);
                self.leases.remember(settled.lease.token, Vec::new());
                self.news.events = true;
                return;
            }
            EventFate::Released => {}
        }
        if held {
            self.leases.end(settled.lease.subject);
            self.leases.remember(settled.lease.token, given);
            self.queued.remove(&sequence);
            // An order may have waited for this event (O2).
            self.news.deliveries |= !self.orders.is_empty();
            if let Some(event) = self.events.get_mut(&sequence) {
                event.stage = Stage::FannedOut;
            }
            self.tally(sequence, now);
        }
    }

    /// Whether a delivery that fan-out made would fill its endpoint's backlog beyond the limit (B2).
    fn is_over(&self, sequence: Sequence, new: &NewDelivery, backlog_bytes_max: u64) -> bool {
        let (Fate::Waiting { .. }, Some(endpoint)) = (&new.fate, new.endpoint) else { return false };
        let bytes = self.backlog_bytes.get(&endpoint).copied().unwrap_or(0);
        bytes + self.events[&sequence].payload.len() as u64 > backlog_bytes_max
    }

    /// Gives up waiting deliveries that are too old (B3).
    fn expire(&mut self, age: Duration, after: Option<Sequence>, max: usize, now: Timestamp) -> Expired {
        let begin = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let events = self.events.range((begin, std::ops::Bound::Unbounded));
        let open = events.filter(|(_, event)| event.open > 0);
        let mut looked = 0;
        let mut expired = Expired::default();
        let mut old = Vec::new();
        for (&sequence, event) in open {
            if looked >= max || now.saturating_since(event.accepted_at) < age {
                break;
            }
            expired.next = Some(sequence);
            looked += self.of_event(sequence).count();
            let is_old = |stored: &&Stored| {
                stored.record.delivery.state == DeliveryState::Waiting
                    && now.saturating_since(stored.record.since) >= age
            };
            old.extend(self.of_event(sequence).filter(is_old).map(|stored| stored.record.delivery.id));
        }
        expired.next = expired.next.filter(|_| looked >= max);
        for id in old {
            // The end of one before it may have superseded it.
            let waits = self.deliveries[&id].record.delivery.state == DeliveryState::Waiting;
            if waits && let Some(mut stored) = self.take(id) {
                let dead = Fate::Dead { reason: DeadReason::BacklogLimit, error: None };
                stored.record.settle(now, false, &dead);
                self.put(stored, now);
                expired.dead += 1;
            }
        }
        expired
    }

    fn settle_delivery(&mut self, settled: &SettledDelivery, now: Timestamp, reply: &mut Settled) {
        let subject = settled.lease.subject;
        let Subject::Delivery(id) = subject else {
            reply.lost.push(subject);
            return;
        };
        if self.leases.repeat(settled.lease.token, reply) {
            return;
        }
        let held = self.leases.find(&settled.lease).is_some();
        let believed = settled.fate == Fate::Delivered
            && self.deliveries.get(&id).is_some_and(|stored| !stored.record.delivery.state.is_finished());
        if !held && !believed {
            reply.lost.push(subject);
            return;
        }
        self.leases.end(subject);
        let Some(mut stored) = self.take(id) else { return };
        stored.record.delivery.endpoint = settled.endpoint.or(stored.record.delivery.endpoint);
        stored.attempted(&settled.attempts);
        stored.record.settle(now, !settled.attempts.is_empty(), &settled.fate);
        self.put(stored, now);
        let mut given = Vec::new();
        if let Fate::Running { lease } = settled.fate {
            self.news.deliveries |= lease.is_zero();
            let lease = self.leases.give(subject, now, lease, ());
            given.push((id, Some(lease.token)));
            reply.leases.push((id, lease));
        }
        self.leases.remember(settled.lease.token, given);
    }

    /// Acts on one delivery; tells what was done and the state it was in, or `None` if it does not exist.
    fn act(
        &mut self,
        id: DeliveryId,
        change: Change,
        now: Timestamp,
        dry_run: bool,
    ) -> Option<(Acted, DeliveryState)> {
        let found = self.deliveries.get(&id)?.record.delivery.state;
        let mut planned = self.deliveries.get(&id)?.record.clone();
        let acted = planned.act(change, now);
        if dry_run || acted == Acted::Unfit {
            return Some((acted, found));
        }
        let mut stored = self.take(id)?;
        stored.record = planned;
        match acted {
            Acted::Changed | Acted::Unfit => self.put(stored, now),
            Acted::Removed => {
                self.tally(id.sequence(), now);
                self.news.deliveries |= stored.record.order.is_some();
            }
            Acted::EventBack => {
                if let Some(event) = self.events.get_mut(&id.sequence()) {
                    event.stage = Stage::Queued;
                    event.losses = 0;
                    self.queued.insert(id.sequence());
                    self.news.events = true;
                }
                self.tally(id.sequence(), now);
            }
        }
        Some((acted, found))
    }

    fn pending(&self, sequence: Sequence, event: &Event, now: Timestamp) -> (Sequence, PendingItem) {
        let queued = event.stage == Stage::Queued;
        let unfinished =
            self.of_event(sequence).filter(|stored| !queued && !stored.record.delivery.state.is_finished());
        let deliveries = unfinished.map(|stored| PendingDelivery {
            delivery: stored.record.delivery.clone(),
            order: stored.record.order.clone(),
            due_in: stored
                .record
                .delivery
                .next_attempt_at
                .map_or(Duration::ZERO, |due| due.saturating_since(now)),
            forgiven: stored.record.forgiven,
            since: stored.record.since,
            attempts: stored.log.values().cloned().collect(),
        });
        let item = PendingItem {
            event: PendingEvent {
                id: event.id.clone(),
                payload: event.payload.clone(),
                accepted_at: event.accepted_at,
                queued,
            },
            deliveries: deliveries.collect(),
        };
        (sequence, item)
    }

    fn restore(&mut self, shard: Shard, item: PendingItem, now: Timestamp) -> bool {
        let PendingItem { event, deliveries } = item;
        // Another event may have had the id, long enough before or after to be no duplicate.
        let came_over = |known: &Event| known.id == event.id && known.accepted_at == event.accepted_at;
        let is_gone = self.ids.get(&event.id).is_some_and(|sequence| !self.events.contains_key(sequence));
        if is_gone || self.events.values().any(came_over) {
            return false;
        }
        let new = NewEvent { id: event.id, payload: event.payload };
        let sequence = self.accept(shard, new, event.accepted_at, now);
        if event.queued {
            return true;
        }
        self.queued.remove(&sequence);
        if let Some(event) = self.events.get_mut(&sequence) {
            event.stage = Stage::FannedOut;
        }
        for pending in deliveries {
            let record = Record::restored(shard, sequence, &pending, now);
            let log = pending.attempts.into_iter().map(|attempt| (attempt.number, attempt)).collect();
            self.put(Stored { record, log }, now);
        }
        self.tally(sequence, now);
        true
    }

    fn stats(&self, now: Timestamp, limits: &StoreLimits) -> Stats {
        let count = |state| {
            self.deliveries.values().filter(|stored| stored.record.delivery.state == state).count() as u64
        };
        let events_leased =
            self.leases.iter().filter(|(subject, _)| matches!(subject, Subject::Event(_))).count() as u64;
        let first_pending = self.events.iter().find(|(sequence, event)| {
            let waits = |stored: &Stored| stored.record.delivery.state == DeliveryState::Waiting;
            event.stage == Stage::Queued || self.of_event(**sequence).any(waits)
        });
        let limited_by_count = self.remembered.len() as u64 >= limits.dedup_max_ids;
        let oldest_id = self.remembered.front().map(|(_, _, at)| now.saturating_since(*at));
        let window = oldest_id.filter(|_| limited_by_count).unwrap_or(limits.dedup_window);
        Stats {
            events_queued: self.queued.len() as u64 - events_leased,
            events_leased,
            waiting: count(DeliveryState::Waiting),
            running: count(DeliveryState::Running),
            dead: count(DeliveryState::Dead),
            delivered: count(DeliveryState::Delivered),
            cancelled: count(DeliveryState::Cancelled),
            superseded: count(DeliveryState::Superseded),
            oldest_pending_at: first_pending.map(|(_, event)| event.accepted_at),
            pending_bytes: self.pending_bytes,
            history_bytes: self.history_bytes,
            dedup_ids: self.remembered.len() as u64,
            dedup_window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Stored {
    /// Puts attempts on record that are not there yet (S8).
    fn attempted(&mut self, attempts: &[PackedAttempt]) {
        for attempt in attempts {
            if self.record.attempted(attempt.number, attempt.status, attempt.error.as_ref()) {
                self.log.insert(attempt.number, attempt.unpack());
            }
        }
    }
}

/// What a delivery counts in the history.
fn history_bytes(stored: &Stored) -> u64 {
    let attempts: u64 = stored.log.values().map(attempt_bytes).sum();
    RECORD_BYTES + attempts
}

fn attempt_bytes(attempt: &Attempt) -> u64 {
    let request = attempt.request.as_ref().map_or(0, |request| {
        let headers = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        request.url.len() + headers + request.body_base64.as_ref().map_or(0, Bytes::len)
    });
    let response = attempt.response.as_ref().map_or(0, |response| {
        let headers = response.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        headers + response.body_base64.len()
    });
    RECORD_BYTES + (request + response) as u64
}
