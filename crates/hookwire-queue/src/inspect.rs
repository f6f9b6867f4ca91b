//! The looking and acting side of a store: lists, counts, retry, cancel, redrive, purge, endpoint state, scan, restore.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, RuleName, Sequence, Shard, Timestamp,
    WebhookName,
};

use crate::{Order, QueueError};

/// The looking and acting side of a store. See the [contract](crate).
///
/// Cancel safety: as for [`Queue`](crate::Queue).
pub trait Inspect: Send + Sync + 'static {
    /// Deliveries that match, newest first, without their attempts (I1).
    fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> impl Future<Output = Result<DeliveryPage, QueueError>> + Send;

    /// One delivery with its attempts; its id tells its shard.
    fn delivery(&self, id: DeliveryId) -> impl Future<Output = Result<Option<Delivery>, QueueError>> + Send;

    /// One event, also before it was fanned out.
    fn event(
        &self,
        shard: Shard,
        id: &EventId,
    ) -> impl Future<Output = Result<Option<StoredEvent>, QueueError>> + Send;

    /// Counts.
    fn stats(&self, shard: Shard) -> impl Future<Output = Result<Stats, QueueError>> + Send;

    /// Whether a shard takes events now: `Ok` if publishing would not be refused for the state the store is in.
    fn ready(&self, shard: Shard) -> impl Future<Output = Result<(), QueueError>> + Send
    where
        Self: Sync,
    {
        async move { self.stats(shard).await.map(drop) }
    }

    /// Acts on deliveries (I2 to I4).
    fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> impl Future<Output = Result<Changed, QueueError>> + Send;

    /// The state of an endpoint (N1).
    fn endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
    ) -> impl Future<Output = Result<Option<EndpointRecord>, QueueError>> + Send;

    /// The states of all endpoints whose home is this shard, by id.
    fn endpoints(&self, shard: Shard)
    -> impl Future<Output = Result<Vec<EndpointRecord>, QueueError>> + Send;

    /// Writes the state of an endpoint if its version is still `expected`, where 0 stands for none; an empty state removes
    /// it (N1).
    fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> impl Future<Output = Result<PutEndpoint, QueueError>> + Send;

    /// How much waits for each endpoint (B1), by id; those that nothing waits for are left out, and so are deliveries
    /// that have no endpoint yet.
    fn backlogs(&self, shard: Shard) -> impl Future<Output = Result<Vec<Backlog>, QueueError>> + Send;

    /// Everything that is pending, in the order of sequence numbers, in pages: queued events, and events with waiting,
    /// running or dead deliveries (I5).
    fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> impl Future<Output = Result<ScanPage, QueueError>> + Send;

    /// Puts what a scan of another store gave into this one (I5). The events get new sequence numbers in the order
    /// given; an id that is known here is left as it is. Returns how many events were new.
    fn restore(
        &self,
        shard: Shard,
        items: Vec<PendingItem>,
    ) -> impl Future<Output = Result<u64, QueueError>> + Send;
}

/// Which deliveries; a member that is `None` lets all through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// In this state.
    pub state: Option<DeliveryState>,
    /// To this webhook.
    pub webhook: Option<WebhookName>,
    /// Under this rule.
    pub rule: Option<RuleName>,
    /// At this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this event.
    pub event_id: Option<EventId>,
}

impl DeliveryFilter {
    /// Whether a delivery is among those meant.
    pub fn matches(&self, delivery: &Delivery) -> bool {
        fn fits<T: PartialEq>(wanted: &Option<T>, found: Option<&T>) -> bool {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        }
        fits(&self.state, Some(&delivery.state))
            && fits(&self.webhook, delivery.webhook.as_ref())
            && fits(&self.rule, delivery.rule.as_ref())
            && fits(&self.endpoint, delivery.endpoint.as_ref())
            && fits(&self.event_id, Some(&delivery.event_id))
    }
}

/// A page of deliveries.
#[derive(Debug, Default)]
pub struct DeliveryPage {
    /// Newest first.
    pub items: Vec<Delivery>,
    /// What to give as `before` for the next page; `None` at the end.
    pub next: Option<DeliveryId>,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventState {
    /// It waits for its fan-out.
    Queued,
    /// A worker fans it out.
    Leased,
    /// Its deliveries are on record.
    FannedOut,
}

/// An event with its deliveries.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its idempotency key.
    pub id: EventId,
    /// Its number in its shard.
    pub sequence: Sequence,
    /// What was published.
    pub payload: Bytes,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Where it stands.
    pub state: EventState,
    /// How many leases on it were lost; 0 once its deliveries are on record.
    pub losses: u32,
    /// Its deliveries on record, by id, without their attempts.
    pub deliveries: Vec<Delivery>,
}

/// Counts of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Events that wait for their fan-out.
    pub events_queued: u64,
    /// Events that a worker fans out.
    pub events_leased: u64,
    /// Deliveries that wait.
    pub waiting: u64,
    /// Deliveries that a worker holds.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered ones that are kept.
    pub delivered: u64,
    /// Cancelled ones that are kept.
    pub cancelled: u64,
    /// Superseded ones that are kept.
    pub superseded: u64,
    /// When the oldest event was accepted that is queued or has a waiting delivery.
    pub oldest_pending_at: Option<Timestamp>,
    /// Payload bytes of queued events and of events with waiting or running deliveries.
    pub pending_bytes: u64,
    /// Bytes of finished deliveries and their events, about.
    pub history_bytes: u64,
    /// How many event ids are remembered.
    pub dedup_ids: u64,
    /// How far back event ids are remembered now: less than the setting where the count limits it.
    pub dedup_window_ms: u64,
}

/// What to do with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Send now: a waiting delivery at once, a dead letter again, a delivered one once more.
    Retry,
    /// Send no more: waiting deliveries and dead letters.
    Cancel,
    /// Send dead letters again, with all their attempts anew.
    Redrive,
    /// Remove dead letters from the record.
    Purge,
}

impl Change {
    /// Whether it does anything to a delivery in this state (I3).
    pub fn applies_to(self, state: DeliveryState) -> bool {
        match state {
            DeliveryState::Waiting => matches!(self, Change::Retry | Change::Cancel),
            DeliveryState::Dead => true,
            DeliveryState::Delivered => self == Change::Retry,
            DeliveryState::Running | DeliveryState::Cancelled | DeliveryState::Superseded => false,
        }
    }
}

/// Which deliveries to act on.
#[derive(Debug, Clone)]
pub enum Selection {
    /// These.
    Ids(Vec<DeliveryId>),
    /// All that match.
    Filter(DeliveryFilter),
}

/// What came of acting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// How many were, or in a dry run would be, changed.
    pub changed: u64,
    /// Of the selection by id: those that do not exist.
    pub unknown: Vec<DeliveryId>,
    /// Of the selection by id: those that this change does not apply to, with the state they are in; by filter such
    /// are passed over.
    pub unfit: Vec<(DeliveryId, DeliveryState)>,
}

/// The state of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Which endpoint.
    pub id: EndpointId,
    /// Grows with each write; never 0.
    pub version: u64,
    /// What was written.
    pub state: Bytes,
}

/// What waits for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// How many deliveries; never 0.
    pub deliveries: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
}

/// What came of writing an endpoint's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutEndpoint {
    /// It was written, and has this version now; 0 if it was removed.
    Written(u64),
    /// Somebody else wrote in between: this is what is there; `None` if nothing is.
    Conflict(Option<EndpointRecord>),
}

/// A page of what is pending.
#[derive(Debug, Default)]
pub struct ScanPage {
    /// In the order of sequence numbers.
    pub items: Vec<PendingItem>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<Sequence>,
}

/// An event that is pending, or has deliveries that are.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingItem {
    /// The event.
    pub event: PendingEvent,
    /// Its waiting, running and dead deliveries. Of a queued event none.
    pub deliveries: Vec<PendingDelivery>,
}

/// An event on its way to another store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    /// Its idempotency key.
    pub id: EventId,
    /// What was published.
    pub payload: Bytes,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whether it still waits for its fan-out.
    pub queued: bool,
}

/// A delivery on its way to another store; there it waits, or is a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingDelivery {
    /// As it is on record, with its attempts. Its id changes with the event's sequence number.
    pub delivery: Delivery,
    /// Its place in an order, if it has one.
    pub order: Option<Order>,
    /// How long until it is due.
    pub due_in: Duration,
    /// How many attempts were made before it was last redriven.
    pub forgiven: u32,
    /// From when its age counts.
    pub since: Timestamp,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
}
