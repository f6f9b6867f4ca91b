//! How leases end: what became of events and deliveries.

use std::sync::Arc;
use std::time::Duration;

use hookwire_model::{
    AttemptError, DeadReason, DeliveryId, EndpointId, OnFailure, RuleName, Sequence, WaitingReason,
    WebhookName,
};

use crate::{Lease, PackedAttempt, Subject};

/// Leases that end, in one call.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Events, each settled as a whole.
    pub events: Vec<SettledEvent>,
    /// Deliveries that were stored before.
    pub deliveries: Vec<SettledDelivery>,
}

impl Settlement {
    /// Whether there is nothing to settle.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.deliveries.is_empty()
    }
}

/// What became of an event.
#[derive(Debug)]
pub struct SettledEvent {
    /// The right to settle it.
    pub lease: Lease,
    /// What became of it.
    pub fate: EventFate,
}

/// What became of an event.
#[derive(Debug)]
pub enum EventFate {
    /// It was fanned out to these deliveries; to none, if no rule matched.
    FannedOut {
        /// What happened, for lists.
        event: Arc<str>,
        /// The object's type, for lists.
        object_type: Arc<str>,
        /// One for each matching rule and webhook.
        deliveries: Vec<NewDelivery>,
    },
    /// It cannot be fanned out: it becomes a dead letter of its own.
    Dead {
        /// The dead letter's id.
        id: DeliveryId,
        /// Why.
        reason: DeadReason,
        /// What is wrong with it.
        error: Option<AttemptError>,
    },
    /// The worker stops, and leaves it to others.
    Released,
}

/// A delivery that fan-out made.
#[derive(Debug)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The rule that matched.
    pub rule: RuleName,
    /// The webhook it goes to.
    pub webhook: WebhookName,
    /// The endpoint, once it was rendered.
    pub endpoint: Option<EndpointId>,
    /// Its place in an order, if it has one.
    pub order: Option<Order>,
    /// The attempts made so far.
    pub attempts: Vec<PackedAttempt>,
    /// What became of it.
    pub fate: Fate,
}

/// A place in an order: deliveries with the same key go one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The same for all deliveries that must not overtake each other.
    pub key: Arc<str>,
    /// What a failed one means for those behind it.
    pub on_failure: OnFailure,
}

/// A stored delivery whose lease ends.
#[derive(Debug)]
pub struct SettledDelivery {
    /// The right to settle it.
    pub lease: Lease,
    /// The endpoint it rendered to last, which may differ from the one it was stored under.
    pub endpoint: Option<EndpointId>,
    /// The attempts made under this lease.
    pub attempts: Vec<PackedAttempt>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has it.
    Delivered,
    /// It gets no more attempts by itself.
    Dead {
        /// Why.
        reason: DeadReason,
        /// What went wrong, where no attempt tells it.
        error: Option<AttemptError>,
    },
    /// It goes to its endpoint's backlog.
    Waiting {
        /// How long from now until it is due.
        due_in: Duration,
        /// What it waits for.
        reason: WaitingReason,
    },
    /// It is stored and stays with this worker, leased anew.
    Running {
        /// How long the lease lasts unless it is extended. None at all: an attempt was ended of which nobody knows what
        /// came, and it counts as interrupted at once.
        lease: Duration,
    },
}

/// The answer to a settlement.
#[derive(Debug, Default)]
pub struct Settled {
    /// The leases of deliveries that stay with this worker.
    pub leases: Vec<(DeliveryId, Lease)>,
    /// What was no longer held, so that nothing changed (S3).
    pub lost: Vec<Subject>,
    /// Deliveries that were to wait and became dead letters, because their endpoint's backlog is full (B2).
    pub over: Vec<DeliveryId>,
}

/// What came of looking for deliveries that have waited for too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many became dead letters.
    pub dead: u64,
    /// What to give as `after` to go on; `None`: nothing else is old enough.
    pub next: Option<Sequence>,
}
