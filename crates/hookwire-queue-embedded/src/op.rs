//! What callers hand to the writer: owned, and as far prepared as it can be without the store, so that the one writing
//! thread has little left to do.

use std::borrow::Cow;
use std::sync::Arc;

use hookwire_model::{Attempt, AttemptError, DeadReason, DeliveryId, EndpointId, RuleName, WebhookName};
use hookwire_queue::backend::pack_attempt;
use hookwire_queue::{EventFate, Fate, Lease, Order, SettledDelivery, SettledEvent, Settlement};

/// A settlement, owned.
#[derive(Debug)]
pub(crate) struct SettleOp {
    pub(crate) events: Vec<EventOp>,
    pub(crate) deliveries: Vec<DeliveryOp>,
}

/// An event that is settled.
#[derive(Debug)]
pub(crate) struct EventOp {
    pub(crate) lease: Lease,
    pub(crate) fate: EventFateOp,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum EventFateOp {
    FannedOut { event: Arc<str>, object_type: Arc<str>, deliveries: Vec<NewDeliveryOp> },
    Dead { id: DeliveryId, reason: DeadReason, error: Option<AttemptError> },
    Released,
}

/// A delivery that fan-out made.
#[derive(Debug)]
pub(crate) struct NewDeliveryOp {
    pub(crate) id: DeliveryId,
    pub(crate) rule: RuleName,
    pub(crate) webhook: WebhookName,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) order: Option<Order>,
    pub(crate) attempts: Vec<AttemptOp>,
    pub(crate) fate: Fate,
}

/// A stored delivery whose lease ends.
#[derive(Debug)]
pub(crate) struct DeliveryOp {
    pub(crate) lease: Lease,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) attempts: Vec<AttemptOp>,
    pub(crate) fate: Fate,
}

/// An attempt, packed already.
#[derive(Debug)]
pub(crate) struct AttemptOp {
    pub(crate) number: u32,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<AttemptError>,
    pub(crate) packed: Vec<u8>,
}

/// A second handle on a lease. Leases are not `Clone`, so that a caller cannot settle one twice in two ways; the writer
/// needs its own while the settlement stays with the caller.
pub(crate) fn copy_of(lease: &Lease) -> Lease {
    Lease { subject: lease.subject, token: lease.token }
}

impl From<&Settlement> for SettleOp {
    fn from(settlement: &Settlement) -> Self {
        SettleOp {
            events: settlement.events.iter().map(EventOp::from).collect(),
            deliveries: settlement.deliveries.iter().map(DeliveryOp::from).collect(),
        }
    }
}

impl From<&SettledEvent> for EventOp {
    fn from(settled: &SettledEvent) -> Self {
        let fate = match &settled.fate {
            EventFate::FannedOut { event, object_type, deliveries } => EventFateOp::FannedOut {
                event: event.clone(),
                object_type: object_type.clone(),
                deliveries: deliveries
                    .iter()
                    .map(|new| NewDeliveryOp {
                        id: new.id,
                        rule: new.rule.clone(),
                        webhook: new.webhook.clone(),
                        endpoint: new.endpoint,
                        order: new.order.clone(),
                        attempts: new.attempts.iter().map(AttemptOp::from).collect(),
                        fate: new.fate.clone(),
                    })
                    .collect(),
            },
            EventFate::Dead { id, reason, error } => {
                EventFateOp::Dead { id: *id, reason: *reason, error: error.clone() }
            }
            EventFate::Released => EventFateOp::Released,
        };
        EventOp { lease: copy_of(&settled.lease), fate }
    }
}

impl From<&SettledDelivery> for DeliveryOp {
    fn from(settled: &SettledDelivery) -> Self {
        DeliveryOp {
            lease: copy_of(&settled.lease),
            endpoint: settled.endpoint,
            attempts: settled.attempts.iter().map(AttemptOp::from).collect(),
            fate: settled.fate.clone(),
        }
    }
}

impl From<&Attempt> for AttemptOp {
    fn from(attempt: &Attempt) -> Self {
        AttemptOp {
            number: attempt.number,
            status: attempt.status,
            error: attempt.error.clone(),
            packed: pack_attempt(attempt),
        }
    }
}

/// The log of attempts that a delivery is first stored with; nothing for none.
pub(crate) fn log<'a>(attempts: &[&'a AttemptOp]) -> Option<Cow<'a, [u8]>> {
    match attempts {
        [] => None,
        [only] => Some(Cow::Borrowed(&only.packed)),
        several => Some(several.iter().flat_map(|attempt| &attempt.packed).copied().collect()),
    }
}
