//! What goes in with publishing, and what comes out with leasing.
//!
//! Invariant: a [`Lease`] cannot be copied; settling moves it into the settlement, so that the same work is not settled
//! twice in two ways.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{DeliveryId, EndpointId, EventId, RuleName, Sequence, Timestamp, WebhookName};

/// An event on its way into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its idempotency key.
    pub id: EventId,
    /// What leasing gives back, byte for byte.
    pub payload: Bytes,
}

/// What became of a published event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its number; of a duplicate the number that it got the first time.
    pub sequence: Sequence,
    /// Whether the id was known, so that nothing was stored.
    pub duplicate: bool,
}

/// A worker, unique for each start of a process: a fixed name would let a new process take itself for the old one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// Takes a name that nobody else has had.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        WorkerId(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a lease is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An event that is to be fanned out.
    Event(Sequence),
    /// A delivery that is to be attempted.
    Delivery(DeliveryId),
}

/// The time-limited right to work on something.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is about.
    pub subject: Subject,
    /// Tells this lease from earlier and later ones of the same subject.
    pub token: u64,
}

/// Which events to lease.
#[derive(Debug, Clone)]
pub struct LeaseEvents {
    /// Who leases.
    pub worker: WorkerId,
    /// How long the lease lasts unless it is extended.
    pub lease: Duration,
    /// At most so many.
    pub max: usize,
    /// At most so many suspects among them (E3).
    pub suspects_max: usize,
}

/// An event to be fanned out.
#[derive(Debug)]
pub struct LeasedEvent {
    /// The right to do so.
    pub lease: Lease,
    /// Its idempotency key.
    pub id: EventId,
    /// Its number in its shard.
    pub sequence: Sequence,
    /// What was published.
    pub payload: Bytes,
    /// When it was accepted, by the store's clock.
    pub accepted_at: Timestamp,
    /// The store's clock when it was leased.
    pub leased_at: Timestamp,
    /// How many leases on it were lost. Not zero: a suspect.
    pub losses: u32,
    /// Deliveries of a suspect that are on record already (E5).
    pub recorded: Vec<DeliveryId>,
    /// Why it is not to be fanned out, where nobody could refuse it when it came: it was put into the store past
    /// [`publish`](crate::Queue::publish).
    pub refused: Option<String>,
}

/// Which deliveries to lease.
#[derive(Debug, Clone)]
pub struct LeaseDeliveries {
    /// Who leases.
    pub worker: WorkerId,
    /// How long the leases last unless they are extended.
    pub lease: Duration,
    /// At most so many.
    pub max: usize,
    /// How many of each endpoint.
    pub rooms: Rooms,
}

/// How many deliveries of each endpoint may be leased.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// For endpoints that are not named.
    pub default: u32,
    /// For these; 0 leaves an endpoint out, of `next_due`, too.
    pub exceptions: Vec<(EndpointId, u32)>,
}

/// Due deliveries, and when to look again.
#[derive(Debug, Default)]
pub struct LeasedDeliveries {
    /// The deliveries, in the order in which they should be attempted.
    pub deliveries: Vec<LeasedDelivery>,
    /// How long from now until the next waiting delivery is due, held endpoints considered; zero if some are due that
    /// this call had no place for. `None`: none waits.
    pub next_due: Option<Duration>,
}

/// A delivery to be attempted.
#[derive(Debug)]
pub struct LeasedDelivery {
    /// The right to do so.
    pub lease: Lease,
    /// Its id.
    pub id: DeliveryId,
    /// The event's idempotency key.
    pub event_id: EventId,
    /// The event as it was published.
    pub payload: Bytes,
    /// When the event was accepted, by the store's clock.
    pub accepted_at: Timestamp,
    /// The rule that matched.
    pub rule: RuleName,
    /// The webhook it goes to.
    pub webhook: WebhookName,
    /// The endpoint it rendered to last.
    pub endpoint: Option<EndpointId>,
    /// Attempts made so far, interrupted ones among them.
    pub attempts: u32,
    /// How many of them were interrupted: their outcome is unknown.
    pub interrupted: u32,
    /// How many of the attempts were made before it was last redriven: they no longer count towards giving up.
    pub forgiven: u32,
    /// From when its age counts: its acceptance, or its last redrive.
    pub since: Timestamp,
}
