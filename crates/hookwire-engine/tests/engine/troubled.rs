//! A store that is not at its best.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard};
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Expired, Inspect, Lease,
    LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent, MemoryQueue, NewEvent, PendingItem,
    Published, PutEndpoint, Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoredEvent,
    Subject, WorkerId,
};

/// A memory queue that is slow, fails, or whose replies to settlements get lost after they took effect.
pub(crate) struct Troubled {
    queue: MemoryQueue,
    /// Further shards.
    more: Vec<MemoryQueue>,
    /// How many more replies get lost.
    losses: Mutex<u32>,
    lease_takes: Duration,
    settle_takes: Duration,
    look_takes: Duration,
    /// How late the next answer about events, or deliveries, that brings some comes besides.
    next_events_late: Mutex<Duration>,
    next_deliveries_late: Mutex<Duration>,
    never_extends: bool,
    /// Whoever waits is handed what comes, and is not woken.
    hands_over: bool,
    handed: Mutex<Vec<LeasedEvent>>,
    /// How many more times it cannot tell what waits.
    stats_fail: Mutex<u32>,
    /// How many more times it cannot tell about endpoints.
    endpoints_fail: Mutex<u32>,
    /// How many deliveries were leased.
    leased: Arc<AtomicUsize>,
    /// How often somebody looked for deliveries in further shards.
    looks: Arc<AtomicUsize>,
    /// How often nothing was asked for but what was handed over.
    let_go: Arc<AtomicUsize>,
    /// How many more times deliveries may be leased before it is taken for a loop that never ends.
    looks_left: AtomicUsize,
}

impl Troubled {
    /// One that only counts.
    pub(crate) fn counting(queue: &MemoryQueue) -> Self {
        Troubled {
            queue: queue.clone(),
            more: Vec::new(),
            losses: Mutex::new(0),
            lease_takes: Duration::ZERO,
            settle_takes: Duration::ZERO,
            look_takes: Duration::ZERO,
            next_events_late: Mutex::default(),
            next_deliveries_late: Mutex::default(),
            never_extends: false,
            hands_over: false,
            handed: Mutex::default(),
            stats_fail: Mutex::new(0),
            endpoints_fail: Mutex::new(0),
            leased: Arc::default(),
            looks: Arc::default(),
            let_go: Arc::default(),
            looks_left: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn loses_replies(queue: &MemoryQueue, losses: u32) -> Self {
        Troubled { losses: Mutex::new(losses), ..Troubled::counting(queue) }
    }

    /// One with two shards, which is not troubled at all.
    pub(crate) fn sharded(first: &MemoryQueue, second: &MemoryQueue) -> Self {
        Troubled { more: vec![second.clone()], ..Troubled::counting(first) }
    }

    fn at(&self, shard: Shard) -> &MemoryQueue {
        if shard.0 == 0 { &self.queue } else { &self.more[usize::from(shard.0) - 1] }
    }

    pub(crate) fn looks(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.looks)
    }

    pub(crate) fn leased(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.leased)
    }

    pub(crate) fn let_go(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.let_go)
    }

    pub(crate) fn slow(queue: &MemoryQueue) -> Self {
        let (lease_takes, settle_takes) = (Duration::from_millis(7), Duration::from_millis(3));
        Troubled { lease_takes, settle_takes, ..Troubled::counting(queue) }
    }

    /// What it has of deliveries is told late.
    pub(crate) fn tells_late(queue: &MemoryQueue, look_takes: Duration) -> Self {
        Troubled { look_takes, ..Troubled::counting(queue) }
    }

    /// The first events that it gives come so late.
    pub(crate) fn gives_events_late(queue: &MemoryQueue, late: Duration) -> Self {
        Troubled { next_events_late: Mutex::new(late), ..Troubled::counting(queue) }
    }

    /// The first deliveries that it gives come so late.
    pub(crate) fn gives_deliveries_late(queue: &MemoryQueue, late: Duration) -> Self {
        Troubled { next_deliveries_late: Mutex::new(late), ..Troubled::counting(queue) }
    }

    /// No lease can be renewed.
    pub(crate) fn never_extends(queue: &MemoryQueue) -> Self {
        Troubled { never_extends: true, ..Troubled::counting(queue) }
    }

    /// Events are handed over to whoever waits, as late as can be.
    pub(crate) fn hands_over(queue: &MemoryQueue) -> Self {
        Troubled { hands_over: true, ..Troubled::counting(queue) }
    }

    /// So many times it cannot tell what waits.
    pub(crate) fn fails_to_count(queue: &MemoryQueue, times: u32) -> Self {
        Troubled { stats_fail: Mutex::new(times), ..Troubled::counting(queue) }
    }

    /// So many times it cannot tell about endpoints.
    pub(crate) fn fails_to_tell(queue: &MemoryQueue, times: u32) -> Self {
        Troubled { endpoints_fail: Mutex::new(times), ..Troubled::counting(queue) }
    }

    /// A panic where deliveries are leased more often than this.
    pub(crate) fn bounded(queue: &MemoryQueue, looks: usize) -> Self {
        Troubled { looks_left: AtomicUsize::new(looks), ..Troubled::counting(queue) }
    }
}

/// Fails as often as it is still to.
fn once_less(times: &Mutex<u32>) -> Result<(), QueueError> {
    let mut times = times.lock().unwrap();
    if *times == 0 {
        return Ok(());
    }
    *times -= 1;
    Err(unavailable())
}

fn unavailable() -> QueueError {
    QueueError::Unavailable { message: "the test says so".into(), retry_after: None, source: None }
}

impl Queue for Troubled {
    fn shards(&self) -> u16 {
        1 + u16::try_from(self.more.len()).unwrap()
    }
    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        self.at(shard).publish(shard, events).await
    }
    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        if request.max == 0 {
            self.let_go.fetch_add(1, Ordering::Relaxed);
        }
        let mut leased = self.at(shard).lease_events(shard, request).await?;
        leased.append(&mut self.handed.lock().unwrap());
        tokio::time::sleep(self.lease_takes).await;
        if !leased.is_empty() {
            let late = std::mem::take(&mut *self.next_events_late.lock().unwrap());
            tokio::time::sleep(late).await;
        }
        Ok(leased)
    }
    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        self.looks.fetch_add(usize::from(shard.0 > 0), Ordering::Relaxed);
        let leased = self.at(shard).lease_deliveries(shard, request).await?;
        self.leased.fetch_add(leased.deliveries.len(), Ordering::Relaxed);
        let left = self.looks_left.fetch_sub(1, Ordering::Relaxed);
        assert!(left > 0, "deliveries are leased again and again: this never ends");
        tokio::time::sleep(self.look_takes).await;
        if !leased.deliveries.is_empty() {
            let late = std::mem::take(&mut *self.next_deliveries_late.lock().unwrap());
            tokio::time::sleep(late).await;
        }
        Ok(leased)
    }
    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        if self.never_extends {
            return Err(unavailable());
        }
        self.at(shard).extend(shard, leases, lease).await
    }
    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        tokio::time::sleep(self.settle_takes).await;
        let settled = self.at(shard).settle(shard, settlement).await?;
        let mut losses = self.losses.lock().unwrap();
        if *losses > 0 {
            *losses -= 1;
            return Err(unavailable());
        }
        Ok(settled)
    }
    async fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        self.at(shard).expire(shard, age, after, max).await
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        self.at(shard).hold(shard, endpoint, hold).await
    }
    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        if !self.hands_over {
            return self.at(shard).wait(shard, timeout).await;
        }
        loop {
            self.at(shard).wait(shard, timeout).await?;
            let (worker, lease) = (WorkerId::new("handed"), Duration::from_secs(3600));
            let request = LeaseEvents { worker, lease, max: 10, suspects_max: 0 };
            let mut leased = self.at(shard).lease_events(shard, request).await?;
            self.handed.lock().unwrap().append(&mut leased);
        }
    }
}

/// What people and other workers do, it lets through.
impl Inspect for Troubled {
    async fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        self.at(shard).list(shard, filter, before, limit).await
    }
    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        self.at(id.shard()).delivery(id).await
    }
    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        self.at(shard).event(shard, id).await
    }
    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        once_less(&self.stats_fail)?;
        self.at(shard).stats(shard).await
    }
    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        self.at(shard).change(shard, change, selection, dry_run).await
    }
    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        self.at(shard).endpoint(shard, id).await
    }
    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        once_less(&self.endpoints_fail)?;
        self.at(shard).endpoints(shard).await
    }
    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        self.at(shard).put_endpoint(shard, id, expected, state).await
    }
    async fn backlogs(&self, shard: Shard) -> Result<Vec<Backlog>, QueueError> {
        self.at(shard).backlogs(shard).await
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        self.at(shard).scan(shard, after, limit).await
    }
    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        self.at(shard).restore(shard, items).await
    }
}
