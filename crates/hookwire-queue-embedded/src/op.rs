//! What callers hand to the writer: owned, and as far prepared as it can be without the store, so that the one writing
//! thread has little left to do.

use std::borrow::Cow;
use std::sync::Arc;

use hookwire_model::{AttemptError, DeadReason, DeliveryId, EndpointId, RuleName, WebhookName};
use hookwire_queue::{
    EventFate, Fate, Lease, Order, PackedAttempt, SettledDelivery, SettledEvent, Settlement,
};

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
    pub(crate) attempts: Vec<PackedAttempt>,
    pub(crate) fate: Fate,
}

/// A stored delivery whose lease ends.
#[derive(Debug)]
pub(crate) struct DeliveryOp {
    pub(crate) lease: Lease,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) attempts: Vec<PackedAttempt>,
    pub(crate) fate: Fate,
}

/// A second handle on a lease. Leases are not `Clone`, so that a caller cannot settle one twice in two ways; the writer
/// needs its own while the settlement stays with the caller.
pub(crate) fn copy_of(lease: &Lease) -> Lease {
    Lease { subject: lease.subject, token: lease.token }
}

impl SettleOp {
    /// Whether it records anything that happened outside the store. What only puts events into backlogs, or finds that
    /// nobody wants them, comes out again when it is done once more.
    pub(crate) fn tells_news(&self) -> bool {
        let is_inward = |event: &EventOp| match &event.fate {
            EventFateOp::FannedOut { deliveries, .. } => deliveries
                .iter()
                .all(|new| new.attempts.is_empty() && matches!(new.fate, Fate::Waiting { .. })),
            EventFateOp::Dead { .. } | EventFateOp::Released => false,
        };
        !self.deliveries.is_empty() || !self.events.iter().all(is_inward)
    }
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
                        attempts: new.attempts.clone(),
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
            attempts: settled.attempts.clone(),
            fate: settled.fate.clone(),
        }
    }
}

/// The log of attempts that a delivery is first stored with; nothing for none.
pub(crate) fn log<'a>(attempts: &[&'a PackedAttempt]) -> Option<Cow<'a, [u8]>> {
    match attempts {
        [] => None,
        [only] => Some(Cow::Borrowed(only.bytes())),
        several => Some(several.iter().flat_map(|attempt| attempt.bytes()).copied().collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookwire_model::{Attempt, EventId, OutcomeKind, Sequence, Shard, Timestamp, Timings, WaitingReason};
    use hookwire_queue::Subject;

    use super::*;

    #[test]
    fn only_what_a_receiver_may_have_seen_is_news() {
        let event = EventId::new("e").unwrap();
        let lease = || Lease { subject: Subject::Event(Sequence(1)), token: 1 };
        let new = |fate, attempts| NewDeliveryOp {
            id: DeliveryId::of_event(Shard(0), Sequence(1), &event),
            rule: RuleName::new("r").unwrap(),
            webhook: WebhookName::new("w").unwrap(),
            endpoint: None,
            order: None,
            attempts,
            fate,
        };
        let fanned_out = |deliveries| {
            let fate =
                EventFateOp::FannedOut { event: "created".into(), object_type: "a.b".into(), deliveries };
            SettleOp { events: vec![EventOp { lease: lease(), fate }], deliveries: vec![] }
        };
        let waits = || Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Worker };
        let attempt = || {
            PackedAttempt::from(&Attempt {
                number: 1,
                started_at: Timestamp::UNIX_EPOCH,
                duration: Duration::ZERO,
                outcome: OutcomeKind::Rejected,
                status: Some(500),
                error: None,
                address: None,
                hops: vec![],
                timings: Timings::default(),
                request: None,
                response: None,
            })
        };
        assert!(!fanned_out(vec![]).tells_news());
        assert!(!fanned_out(vec![new(waits(), vec![])]).tells_news());
        assert!(fanned_out(vec![new(waits(), vec![]), new(waits(), vec![attempt()])]).tells_news());
        assert!(fanned_out(vec![new(Fate::Delivered, vec![attempt()])]).tells_news());
        assert!(fanned_out(vec![new(Fate::Running { lease: Duration::ZERO }, vec![])]).tells_news());
        let released = EventOp { lease: lease(), fate: EventFateOp::Released };
        assert!(SettleOp { events: vec![released], deliveries: vec![] }.tells_news());
        let delivery = DeliveryOp { lease: lease(), endpoint: None, attempts: vec![], fate: waits() };
        assert!(SettleOp { events: vec![], deliveries: vec![delivery] }.tells_news());
    }
}
