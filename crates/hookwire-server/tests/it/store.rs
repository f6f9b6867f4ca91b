//! A store for tests: several shards in memory, and a switch that makes it go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard};
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Expired, Inspect, Lease,
    LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent, MemoryQueue, NewEvent, PendingItem,
    Published, PutEndpoint, Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoreLimits,
    StoredEvent, Subject,
};

/// Several shards, each a store in memory.
pub(crate) struct TestStore {
    shards: Vec<MemoryQueue>,
    away: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
}

impl TestStore {
    pub(crate) fn new(shards: u16, limits: &StoreLimits) -> Self {
        let shards = (0..shards).map(|_| MemoryQueue::new(limits.clone())).collect();
        TestStore { shards, away: Arc::default(), silent: Arc::default() }
    }

    /// From now on every call fails, or none does.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// From now on looking how it is is never answered, or is.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    async fn answers(&self) {
        if self.silent.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    fn at(&self, shard: Shard) -> Result<&MemoryQueue, QueueError> {
        if self.away.load(Ordering::Relaxed) {
            let retry_after = Some(Duration::from_secs(7));
            let message = "the connection was refused".to_owned();
            return Err(QueueError::Unavailable { message, retry_after, source: None });
        }
        Ok(&self.shards[usize::from(shard.0)])
    }
}

impl Queue for TestStore {
    fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap()
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        self.at(shard)?.publish(shard, events).await
    }

    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        self.at(shard)?.lease_events(shard, request).await
    }

    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        self.at(shard)?.lease_deliveries(shard, request).await
    }

    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        self.at(shard)?.extend(shard, leases, lease).await
    }

    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        self.at(shard)?.settle(shard, settlement).await
    }

    async fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        self.at(shard)?.expire(shard, age, after, max).await
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        self.at(shard)?.hold(shard, endpoint, hold).await
    }

    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        self.at(shard)?.wait(shard, timeout).await
    }
}

impl Inspect for TestStore {
    async fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        self.at(shard)?.list(shard, filter, before, limit).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        self.at(id.shard())?.delivery(id).await
    }

    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        self.at(shard)?.event(shard, id).await
    }

    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        self.answers().await;
        self.at(shard)?.stats(shard).await
    }

    async fn ready(&self, shard: Shard) -> Result<(), QueueError> {
        self.answers().await;
        self.at(shard)?.ready(shard).await
    }

    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        self.at(shard)?.change(shard, change, selection, dry_run).await
    }

    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        self.at(shard)?.endpoint(shard, id).await
    }

    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        self.at(shard)?.endpoints(shard).await
    }

    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        self.at(shard)?.put_endpoint(shard, id, expected, state).await
    }

    async fn backlogs(&self, shard: Shard) -> Result<Vec<Backlog>, QueueError> {
        self.at(shard)?.backlogs(shard).await
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        self.at(shard)?.scan(shard, after, limit).await
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        self.at(shard)?.restore(shard, items).await
    }
}
