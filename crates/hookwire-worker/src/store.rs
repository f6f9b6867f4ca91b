//! The choice of backend: a URL becomes a store.
//!
//! [`Store`] is one type for all backends, so that everything above is written once. It only passes calls on.

use std::time::Duration;

use bytes::Bytes;
use hookwire_config::StoreUrl;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard};
use hookwire_queue::{
    Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Inspect, Lease, LeaseDeliveries,
    LeaseEvents, LeasedDeliveries, LeasedEvent, MemoryQueue, NewEvent, PendingItem, Published, PutEndpoint,
    Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoreLimits, StoredEvent, Subject,
};
use hookwire_queue_embedded::EmbeddedQueue;

/// A store of any kind. Cloning gives another handle to the same store.
#[derive(Clone)]
pub enum Store {
    /// In memory: gone at the end of the process.
    Memory(MemoryQueue),
    /// In one file: survives the process, owned by one process at a time.
    Embedded(EmbeddedQueue),
}

impl Store {
    /// Opens the store at a URL, waiting up to `wait` for one that another process holds.
    ///
    /// # Errors
    /// [`QueueError`] if it cannot be opened.
    pub async fn open(url: &StoreUrl, limits: StoreLimits, wait: Duration) -> Result<Store, QueueError> {
        Ok(match url {
            StoreUrl::Memory => Store::Memory(MemoryQueue::new(limits)),
            StoreUrl::Embedded(folder) => Store::Embedded(EmbeddedQueue::open(folder, limits, wait).await?),
        })
    }

    /// Finishes what is under way and gives the store back.
    pub async fn close(self) {
        match self {
            Store::Memory(_) => {}
            Store::Embedded(store) => store.close().await,
        }
    }
}

/// Passes a call on to whichever store it is.
macro_rules! pass_on {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Memory($store) => $call,
            Store::Embedded($store) => $call,
        }
    };
}

impl Queue for Store {
    fn shards(&self) -> u16 {
        pass_on!(self, store => store.shards())
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        pass_on!(self, store => store.publish(shard, events).await)
    }

    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        pass_on!(self, store => store.lease_events(shard, request).await)
    }

    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        pass_on!(self, store => store.lease_deliveries(shard, request).await)
    }

    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        pass_on!(self, store => store.extend(shard, leases, lease).await)
    }

    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        pass_on!(self, store => store.settle(shard, settlement).await)
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        pass_on!(self, store => store.hold(shard, endpoint, hold).await)
    }

    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        pass_on!(self, store => store.wait(shard, timeout).await)
    }
}

impl Inspect for Store {
    async fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        pass_on!(self, store => store.list(shard, filter, before, limit).await)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        pass_on!(self, store => store.delivery(id).await)
    }

    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        pass_on!(self, store => store.event(shard, id).await)
    }

    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        pass_on!(self, store => store.stats(shard).await)
    }

    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        pass_on!(self, store => store.change(shard, change, selection, dry_run).await)
    }

    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        pass_on!(self, store => store.endpoint(shard, id).await)
    }

    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        pass_on!(self, store => store.endpoints(shard).await)
    }

    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        pass_on!(self, store => store.put_endpoint(shard, id, expected, state).await)
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        pass_on!(self, store => store.scan(shard, after, limit).await)
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        pass_on!(self, store => store.restore(shard, items).await)
    }
}
