//! The memory queue behind a fault injector, as one worker or the publisher sees it.
//!
//! Invariants:
//! - Whatever has an effect is told to the books in the same step, before anybody else can see it.
//! - A call is late, fails before its effect, or loses its reply after it, as a real store does; it never does half.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard};
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Expired, Inspect, Lease,
    LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent, NewEvent, PendingItem, Published,
    PutEndpoint, Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoredEvent, Subject,
};
use tokio::time::sleep;

use crate::books::Books;
use crate::life::Life;
use crate::world::World;

/// The store, for one life; without one, for whoever is not a worker.
pub(crate) struct Store {
    pub(crate) world: Arc<World>,
    pub(crate) life: Option<Arc<Life>>,
}

/// What goes wrong with a call.
#[derive(Debug, Default)]
struct Fault {
    error: bool,
    late_before: Option<Duration>,
    late_after: Option<Duration>,
    lost_reply: bool,
}

impl Store {
    async fn call<T>(
        &self,
        name: &'static str,
        effect: impl Future<Output = Result<T, QueueError>>,
        note: impl FnOnce(&mut Books, &T),
    ) -> Result<T, QueueError> {
        self.step().await;
        let fault = self.draw();
        let troubled = |late| self.world.books().troubled(self.number(), late);
        self.world.books().called(self.number(), name);
        if self.world.is_halted() {
            return std::future::pending().await;
        }
        if let Some(late) = fault.late_before {
            troubled(Some((name, late)));
            sleep(late).await;
            self.step().await;
        }
        if fault.error {
            self.world.books().failed(self.number(), name, "fails");
            return Err(unavailable());
        }
        let reply = effect.await;
        if let Ok(reply) = &reply {
            note(&mut self.world.books(), reply);
        }
        if let Some(late) = fault.late_after {
            troubled(Some((name, late)));
            sleep(late).await;
        }
        self.step().await;
        if fault.lost_reply {
            self.world.books().failed(self.number(), name, "loses its reply");
            return Err(unavailable());
        }
        reply
    }

    async fn step(&self) {
        if let Some(life) = &self.life {
            life.step().await;
        }
    }

    fn number(&self) -> Option<usize> {
        self.life.as_ref().map(|life| life.number)
    }

    fn draw(&self) -> Fault {
        if !self.world.in_trouble() {
            return Fault::default();
        }
        let faults = &self.world.plan.faults;
        let now = self.world.now();
        if faults.outages.iter().any(|(begin, end)| (*begin..*end).contains(&now)) {
            return Fault { error: true, ..Fault::default() };
        }
        let mut chance = self.world.chance();
        let mut happens = |of_thousand: u32| of_thousand > 0 && chance.u32(..1000) < of_thousand;
        let (error, lost_reply) = (happens(faults.errors), happens(faults.lost_replies));
        let (before, after) = (happens(faults.delays), happens(faults.delays));
        let most = faults.delay_most.as_millis() as u64;
        let mut late = |happens: bool| happens.then(|| Duration::from_millis(chance.u64(1..=most)));
        Fault { error, lost_reply, late_before: late(before), late_after: late(after) }
    }
}

fn unavailable() -> QueueError {
    QueueError::Unavailable { message: "the simulation says so".into(), retry_after: None, source: None }
}

impl Queue for Store {
    fn shards(&self) -> u16 {
        self.world.store.shards()
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        let ids: Vec<EventId> = events.iter().map(|event| event.id.clone()).collect();
        let effect = self.world.store.publish(shard, events);
        self.call("publish", effect, |books, published| books.published(&ids, published)).await
    }

    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        let lease = request.lease;
        let effect = self.world.store.lease_events(shard, request);
        self.call("lease_events", effect, |books, leased| {
            let Some(life) = &self.life else { return };
            if books.events_leased(life.number, lease, leased) && self.world.in_trouble() {
                life.doom();
            }
        })
        .await
    }

    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        let lease = request.lease;
        let effect = self.world.store.lease_deliveries(shard, request);
        self.call("lease_deliveries", effect, |books, leased| {
            let Some(life) = &self.life else { return };
            books.deliveries_leased(life.number, lease, leased);
        })
        .await
    }

    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        let effect = self.world.store.extend(shard, leases, lease);
        self.call("extend", effect, |books, _| books.extended(leases, lease)).await
    }

    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        let Some(life) = self.number() else { return self.world.store.settle(shard, settlement).await };
        self.world.books().settling(life, settlement);
        let effect = self.world.store.settle(shard, settlement);
        let settled =
            self.call("settle", effect, |books, settled| books.settled(life, settlement, settled)).await?;
        self.world.books().settled_and_told(settlement);
        Ok(settled)
    }

    async fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        self.call("expire", self.world.store.expire(shard, age, after, max), |_, _| {}).await
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        let life = self.number();
        let effect = self.world.store.hold(shard, endpoint, hold);
        self.call("hold", effect, |books, ()| books.held(life, endpoint, hold)).await
    }

    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        self.call("wait", self.world.store.wait(shard, timeout), |_, ()| {}).await
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
        let effect = self.world.store.list(shard, filter, before, limit);
        self.call("list", effect, |_, _| {}).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        self.call("delivery", self.world.store.delivery(id), |_, _| {}).await
    }

    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        self.call("event", self.world.store.event(shard, id), |_, _| {}).await
    }

    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        self.call("stats", self.world.store.stats(shard), |_, _| {}).await
    }

    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        let effect = self.world.store.change(shard, change, selection, dry_run);
        self.call("change", effect, |_, _| {}).await
    }

    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        self.call("endpoint", self.world.store.endpoint(shard, id), |_, _| {}).await
    }

    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        self.call("endpoints", self.world.store.endpoints(shard), |_, _| {}).await
    }

    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        let life = self.number();
        let written = state.clone();
        let effect = self.world.store.put_endpoint(shard, id, expected, state);
        self.call("put_endpoint", effect, |books, put| books.endpoint_put(life, id, &written, put)).await
    }

    async fn backlogs(&self, shard: Shard) -> Result<Vec<Backlog>, QueueError> {
        self.call("backlogs", self.world.store.backlogs(shard), |_, _| {}).await
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        self.call("scan", self.world.store.scan(shard, after, limit), |_, _| {}).await
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        self.call("restore", self.world.store.restore(shard, items), |_, _| {}).await
    }
}
