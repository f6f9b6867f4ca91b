//! What settling and acting make of a delivery: plain functions over its record, without a store.
//!
//! Invariants:
//! - A waiting delivery, and no other, has a due time and a reason to wait.
//! - `attempts` counts every attempt once: on record, or interrupted.

use std::collections::BTreeSet;

use hookwire_model::{
    AttemptError, DeadReason, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, OnFailure, RuleName,
    Sequence, Shard, Timestamp, WaitingReason, WebhookName,
};

use crate::{Change, Fate, Order, PendingDelivery};

/// A delivery as a store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What lists show, without the attempts.
    pub delivery: Delivery,
    /// Its place in an order, if it has one.
    pub order: Option<Order>,
    /// Whether an attempt of it failed, so that those behind it in its order may go on.
    pub failed: bool,
    /// How many attempts were made before it was last redriven.
    pub forgiven: u32,
    /// From when its age counts.
    pub since: Timestamp,
    /// The numbers of the attempts on record.
    pub numbers: BTreeSet<u32>,
}

/// What a delivery's record takes from its event.
#[derive(Debug, Clone)]
pub struct EventHead {
    /// The event's idempotency key.
    pub id: EventId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// What happened; `None` if the event cannot be read.
    pub event: Option<String>,
    /// The type of the object; `None` if the event cannot be read.
    pub object_type: Option<String>,
}

/// What acting did to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Acted {
    /// The record was changed.
    Changed,
    /// The record is to be removed.
    Removed,
    /// The record is to be removed, and its event is to be put back into the queue.
    EventBack,
    /// It does not apply to the state the delivery is in; nothing was changed.
    Unfit,
}

impl Record {
    /// A delivery that fan-out made. It is nowhere yet: [`settle`](Self::settle) comes next.
    pub fn fanned_out(
        id: DeliveryId,
        event: &EventHead,
        rule: RuleName,
        webhook: WebhookName,
        endpoint: Option<EndpointId>,
        order: Option<Order>,
    ) -> Self {
        let mut record = Record::blank(id, event);
        record.delivery.rule = Some(rule);
        record.delivery.webhook = Some(webhook);
        record.delivery.endpoint = endpoint;
        record.order = order;
        record
    }

    /// The dead letter of an event that cannot be fanned out.
    pub fn dead_event(
        id: DeliveryId,
        event: &EventHead,
        now: Timestamp,
        reason: DeadReason,
        error: Option<AttemptError>,
    ) -> Self {
        let mut record = Record::blank(id, event);
        record.settle(now, false, &Fate::Dead { reason, error });
        record
    }

    /// A delivery that another store gave, for an event that has this number here. What ran there waits here: nobody
    /// works on it any more.
    pub fn restored(shard: Shard, sequence: Sequence, pending: &PendingDelivery, now: Timestamp) -> Self {
        let mut delivery = pending.delivery.clone();
        delivery.id = DeliveryId::from_parts(shard, sequence, delivery.id.digest());
        delivery.attempt_log = None;
        let reason = delivery.waiting_reason.unwrap_or(WaitingReason::Worker);
        // As `settle` and `act` leave it: what was redriven begins anew, but where others have passed it.
        let is_passed = pending.order.as_ref().is_some_and(|order| order.on_failure == OnFailure::Skip);
        let forgiven = if is_passed { 0 } else { pending.forgiven };
        let has_failed = pending.attempts.iter().any(|attempt| attempt.number > forgiven);
        let mut record = Record {
            order: pending.order.clone(),
            failed: has_failed || delivery.state == DeliveryState::Dead,
            forgiven: pending.forgiven,
            since: pending.since,
            numbers: pending.attempts.iter().map(|attempt| attempt.number).collect(),
            delivery,
        };
        match record.delivery.state {
            DeliveryState::Waiting | DeliveryState::Running => {
                record.clear();
                record.wait(now.saturating_add(pending.due_in), reason);
            }
            _ => {}
        }
        record
    }

    fn blank(id: DeliveryId, event: &EventHead) -> Self {
        Record {
            delivery: Delivery {
                id,
                event_id: event.id.clone(),
                event: event.event.clone(),
                object_type: event.object_type.clone(),
                rule: None,
                webhook: None,
                endpoint: None,
                state: DeliveryState::Running,
                waiting_reason: None,
                attempts: 0,
                interrupted: 0,
                next_attempt_at: None,
                created_at: event.accepted_at,
                finished_at: None,
                last_status: None,
                last_error: None,
                dead_reason: None,
                attempt_log: None,
            },
            order: None,
            failed: false,
            forgiven: 0,
            since: event.accepted_at,
            numbers: BTreeSet::new(),
        }
    }

    /// Counts an attempt; `false` if it is on record already.
    ///
    /// A lost lease counted an attempt as interrupted; when its outcome comes in late after all, it is known.
    pub fn attempted(&mut self, number: u32, status: Option<u16>, error: Option<&AttemptError>) -> bool {
        let newest = self.numbers.last().is_none_or(|last| number > *last);
        if !self.numbers.insert(number) {
            return false;
        }
        if number <= self.delivery.attempts {
            self.delivery.interrupted = self.delivery.interrupted.saturating_sub(1);
        } else {
            self.delivery.attempts = number;
        }
        if newest {
            self.delivery.last_status = status.or(self.delivery.last_status);
            self.delivery.last_error = error.cloned();
        }
        true
    }

    /// Puts the delivery where its fate says. `attempted` tells whether the settlement brought attempts.
    pub fn settle(&mut self, now: Timestamp, attempted: bool, fate: &Fate) {
        self.clear();
        match fate {
            Fate::Delivered => self.finish(now, DeliveryState::Delivered),
            Fate::Dead { reason, error } => {
                self.finish(now, DeliveryState::Dead);
                self.delivery.dead_reason = Some(*reason);
                if error.is_some() {
                    self.delivery.last_error.clone_from(error);
                }
                self.failed = true;
            }
            Fate::Waiting { due_in, reason } => {
                self.wait(now.saturating_add(*due_in), *reason);
                self.failed |= attempted;
            }
            Fate::Running { .. } => self.delivery.state = DeliveryState::Running,
        }
    }

    /// A worker takes it.
    pub fn lease(&mut self) {
        self.clear();
        self.delivery.state = DeliveryState::Running;
    }

    /// The lease ran out: it is due again, and an attempt may have been made of which nobody knows.
    pub fn lose_lease(&mut self, now: Timestamp) {
        self.clear();
        self.delivery.attempts += 1;
        self.delivery.interrupted += 1;
        self.wait(now, WaitingReason::Worker);
    }

    /// A newer one of the same order goes in its place.
    pub fn supersede(&mut self, now: Timestamp) {
        self.clear();
        self.finish(now, DeliveryState::Superseded);
    }

    /// Does what a person asks for.
    pub fn act(&mut self, change: Change, now: Timestamp) -> Acted {
        let before = self.delivery.state;
        let acted = match (change, before) {
            (_, before) if !change.applies_to(before) => Acted::Unfit,
            (Change::Purge, _) => Acted::Removed,
            (Change::Retry | Change::Redrive, DeliveryState::Dead) if self.delivery.rule.is_none() => {
                Acted::EventBack
            }
            _ => Acted::Changed,
        };
        if acted != Acted::Changed {
            return acted;
        }
        self.clear();
        if change == Change::Cancel {
            self.finish(now, DeliveryState::Cancelled);
            return acted;
        }
        self.wait(now, WaitingReason::Worker);
        if before != DeliveryState::Waiting {
            self.forgiven = self.delivery.attempts;
            self.since = now;
            // Who was passed over in its order goes on by itself; others take their place again.
            self.failed &= self.order.as_ref().is_some_and(|order| order.on_failure == OnFailure::Skip);
        }
        acted
    }

    /// Whether it takes part in its order: it goes only when it is the first, and keeps those behind it waiting.
    pub fn in_order(&self) -> bool {
        let Some(order) = &self.order else { return false };
        match self.delivery.state {
            DeliveryState::Waiting | DeliveryState::Running => {
                !(self.failed && order.on_failure == OnFailure::Skip)
            }
            DeliveryState::Dead => order.on_failure == OnFailure::Block,
            DeliveryState::Delivered | DeliveryState::Cancelled | DeliveryState::Superseded => false,
        }
    }

    /// Whether, as the first of its order, it gives way to the newest one behind it.
    pub fn gives_way(&self) -> bool {
        self.failed
            && self.delivery.state == DeliveryState::Waiting
            && self.order.as_ref().is_some_and(|order| order.on_failure == OnFailure::Supersede)
    }

    fn clear(&mut self) {
        self.delivery.waiting_reason = None;
        self.delivery.next_attempt_at = None;
        self.delivery.finished_at = None;
        self.delivery.dead_reason = None;
    }

    fn wait(&mut self, due: Timestamp, reason: WaitingReason) {
        self.delivery.state = DeliveryState::Waiting;
        self.delivery.waiting_reason = Some(reason);
        self.delivery.next_attempt_at = Some(due);
    }

    fn finish(&mut self, now: Timestamp, state: DeliveryState) {
        self.delivery.state = state;
        self.delivery.finished_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let event = EventHead {
            id: EventId::new("e").unwrap(),
            accepted_at: Timestamp::from_secs(1),
            event: None,
            object_type: None,
        };
        let id = DeliveryId::from_parts(Shard(0), Sequence(1), 7);
        let (rule, webhook) = (RuleName::new("r").unwrap(), WebhookName::new("w").unwrap());
        Record::fanned_out(id, &event, rule, webhook, None, None)
    }

    #[test]
    fn an_interrupted_attempt_whose_outcome_comes_late_is_no_longer_interrupted() {
        let mut record = record();
        record.lose_lease(Timestamp::from_secs(2));
        assert_eq!((record.delivery.attempts, record.delivery.interrupted), (1, 1));
        assert!(record.attempted(2, Some(500), None));
        assert!(record.attempted(1, Some(200), None));
        assert!(!record.attempted(1, Some(204), None));
        assert_eq!((record.delivery.attempts, record.delivery.interrupted), (2, 0));
        assert_eq!(record.delivery.last_status, Some(500), "the later attempt stays the last");
    }

    #[test]
    fn only_what_waits_has_a_due_time() {
        let mut record = record();
        let now = Timestamp::from_secs(9);
        let waiting = Fate::Waiting { due_in: std::time::Duration::ZERO, reason: WaitingReason::Retry };
        for fate in [waiting, Fate::Delivered] {
            record.settle(now, true, &fate);
            let waits = record.delivery.state == DeliveryState::Waiting;
            assert_eq!(record.delivery.next_attempt_at.is_some(), waits);
            assert_eq!(record.delivery.waiting_reason.is_some(), waits);
            assert_eq!(record.delivery.finished_at.is_some(), !waits);
        }
    }
}
