//! What a worker counts, for Prometheus.
//!
//! Invariants:
//! - Every label has a bounded set of values: words of ours, and names of the definitions.
//! - Counting on the path of an event takes no lock for writing, and no allocation.

use std::fmt::Write as _;
use std::time::Duration;

use hookwire_model::{DeadReason, OutcomeKind, RuleName, WaitingReason, WebhookName};
use hookwire_queue::{EventFate, Fate, Lease, Settled, Settlement};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Receipt;

/// From a receiver on the same machine to the longest usual timeout.
const ATTEMPT_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];
/// From the fast path to the end of a long schedule.
const DELIVERED_SECONDS: [f64; 14] =
    [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0, 21_600.0, 86_400.0];
const BATCH: [f64; 8] = [0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0];

/// The counters of a process. Cloning gives another handle to the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: Family<EventLabels, Counter>,
    pub(crate) matches: Counter,
    condition_errors: Family<RuleLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    attempt_seconds: Histogram,
    delivered_seconds: Histogram,
    dead_letters: Family<ReasonLabels, Counter>,
    waits: Family<ReasonLabels, Counter>,
    batches: Family<CallLabels, Histogram>,
    pub(crate) leases_lost: Counter,
    pub(crate) store_errors: Counter,
    pub(crate) in_flight: Gauge,
    endpoints: Family<StateLabels, Gauge>,
}

/// A call of the store whose batches are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BatchCall {
    LeaseEvents,
    LeaseDeliveries,
    Settle,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    webhook: Webhook,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Webhook(WebhookName);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rule(RuleName);

impl EncodeLabelValue for Webhook {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

impl EncodeLabelValue for Rule {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

impl Default for Metrics {
    /// Everything at 0, and there: a rate over a counter that appears with its first count misses that count.
    fn default() -> Self {
        let metrics = Metrics {
            events: Family::default(),
            matches: Counter::default(),
            condition_errors: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Histogram::new(ATTEMPT_SECONDS),
            delivered_seconds: Histogram::new(DELIVERED_SECONDS),
            dead_letters: Family::default(),
            waits: Family::default(),
            batches: Family::new_with_constructor(|| Histogram::new(BATCH)),
            leases_lost: Counter::default(),
            store_errors: Counter::default(),
            in_flight: Gauge::default(),
            endpoints: Family::default(),
        };
        for result in ["accepted", "duplicate"] {
            drop(metrics.events.get_or_create(&EventLabels { result }));
        }
        for reason in DeadReason::ALL {
            drop(metrics.dead_letters.get_or_create(&ReasonLabels { reason: reason.as_str() }));
        }
        for reason in WaitingReason::ALL {
            drop(metrics.waits.get_or_create(&ReasonLabels { reason: reason.as_str() }));
        }
        for call in [BatchCall::LeaseEvents, BatchCall::LeaseDeliveries, BatchCall::Settle] {
            drop(metrics.batches.get_or_create(&CallLabels { call: call.as_str() }));
        }
        metrics.endpoint_states(&[("closed", 0), ("half_open", 0), ("open", 0), ("paused", 0)]);
        metrics
    }
}

impl BatchCall {
    fn as_str(self) -> &'static str {
        match self {
            BatchCall::LeaseEvents => "lease_events",
            BatchCall::LeaseDeliveries => "lease_deliveries",
            BatchCall::Settle => "settle",
        }
    }
}

impl Metrics {
    /// Registers all of them. `docs/reference/metrics.md` says what each means.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("events", "Events published, by what became of them", self.events.clone());
        registry.register("matches", "Deliveries that events became", self.matches.clone());
        registry.register(
            "condition_errors",
            "Conditions that could not be evaluated, so that their rule did not match",
            self.condition_errors.clone(),
        );
        registry.register("attempts", "Attempts, by webhook and outcome", self.attempts.clone());
        registry.register(
            "attempt_duration_seconds",
            "From the beginning of an attempt to its end",
            self.attempt_seconds.clone(),
        );
        registry.register(
            "publish_to_delivered_seconds",
            "From accepting an event, or redriving, to a 2xx status",
            self.delivered_seconds.clone(),
        );
        registry.register("dead_letters", "Deliveries that died, by reason", self.dead_letters.clone());
        registry.register(
            "waits",
            "How often a delivery was put off, by what it waits for",
            self.waits.clone(),
        );
        registry.register(
            "store_batch_size",
            "Events or deliveries in one call of the store; the count of a call is how often it was made",
            self.batches.clone(),
        );
        registry.register(
            "leases_lost",
            "Leases that ran out while this worker held them",
            self.leases_lost.clone(),
        );
        registry.register("store_errors", "Calls of the store that failed", self.store_errors.clone());
        registry.register("attempts_in_flight", "Requests on the wire", self.in_flight.clone());
        registry.register(
            "endpoints",
            "Endpoints that this worker knows of, by state; those at rest are not among them",
            self.endpoints.clone(),
        );
    }

    /// Events were published.
    pub fn published(&self, receipts: &[Receipt]) {
        let duplicates = receipts.iter().filter(|receipt| receipt.duplicate).count() as u64;
        self.events.get_or_create(&EventLabels { result: "duplicate" }).inc_by(duplicates);
        let accepted = receipts.len() as u64 - duplicates;
        self.events.get_or_create(&EventLabels { result: "accepted" }).inc_by(accepted);
    }

    pub(crate) fn condition_error(&self, rule: &RuleName) {
        self.condition_errors.get_or_create(&RuleLabels { rule: Rule(rule.clone()) }).inc();
    }

    /// An attempt ended; `delivered` tells how long after its event was accepted, where it succeeded.
    pub(crate) fn attempt(
        &self,
        webhook: &WebhookName,
        outcome: OutcomeKind,
        duration: Duration,
        delivered: Option<Duration>,
    ) {
        let labels = AttemptLabels { webhook: Webhook(webhook.clone()), outcome: outcome.as_str() };
        self.attempts.get_or_create(&labels).inc();
        self.attempt_seconds.observe(duration.as_secs_f64());
        if let Some(delivered) = delivered {
            self.delivered_seconds.observe(delivered.as_secs_f64());
        }
    }

    pub(crate) fn batch(&self, call: BatchCall, size: usize) {
        self.batches.get_or_create(&CallLabels { call: call.as_str() }).observe(size as f64);
    }

    /// A settlement is in the store, but for what the reply says: for some of its deliveries there was no room, and what
    /// its lease was lost of is told by whoever has it now.
    pub(crate) fn settled(&self, settlement: &Settlement, reply: &Settled) {
        self.batch(BatchCall::Settle, settlement.events.len() + settlement.deliveries.len());
        let Settled { over, lost, .. } = reply;
        let holds = |lease: &Lease| !lost.contains(&lease.subject);
        for settled in settlement.events.iter().filter(|settled| holds(&settled.lease)) {
            match &settled.fate {
                EventFate::FannedOut { deliveries, .. } => {
                    self.matches.inc_by(deliveries.len() as u64);
                    let stored = deliveries.iter().filter(|delivery| !over.contains(&delivery.id));
                    stored.for_each(|delivery| self.fate(&delivery.fate));
                }
                EventFate::Dead { reason, .. } => self.dead(*reason, 1),
                EventFate::Released => {}
            }
        }
        let deliveries = settlement.deliveries.iter().filter(|settled| holds(&settled.lease));
        deliveries.for_each(|settled| self.fate(&settled.fate));
        self.dead(DeadReason::BacklogLimit, over.len() as u64);
    }

    fn fate(&self, fate: &Fate) {
        match fate {
            Fate::Dead { reason, .. } => self.dead(*reason, 1),
            Fate::Waiting { reason, .. } => {
                self.waits.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
            }
            Fate::Delivered | Fate::Running { .. } => {}
        }
    }

    /// Deliveries became dead letters.
    pub(crate) fn dead(&self, reason: DeadReason, count: u64) {
        self.dead_letters.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc_by(count);
    }

    /// How many endpoints there are in each state.
    pub(crate) fn endpoint_states(&self, states: &[(&'static str, usize)]) {
        for (state, count) in states {
            self.endpoints.get_or_create(&StateLabels { state }).set(*count as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookwire_model::{DeliveryId, EventId, Sequence, Shard};
    use hookwire_queue::{NewDelivery, SettledDelivery, SettledEvent, Subject};

    use super::*;

    /// An event with one delivery that waits, and a stored delivery that is a dead letter, as one of these.
    fn settlement(number: u64) -> Settlement {
        let (rule, webhook) = (RuleName::new("r").unwrap(), WebhookName::new("w").unwrap());
        let id = |number| {
            let event = EventId::new(&format!("e{number}")).unwrap();
            DeliveryId::derive(Shard(0), Sequence(number), &event, &rule, &webhook)
        };
        let waits = Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Retry };
        let lease = |subject| Lease { subject, token: 1 };
        let delivery = NewDelivery {
            id: id(number),
            rule: rule.clone(),
            webhook: webhook.clone(),
            endpoint: None,
            order: None,
            attempts: Vec::new(),
            fate: waits,
        };
        let fate = EventFate::FannedOut {
            event: "created".into(),
            object_type: "a.b".into(),
            deliveries: vec![delivery],
        };
        let event = SettledEvent { lease: lease(Subject::Event(Sequence(number))), fate };
        let stored = SettledDelivery {
            lease: lease(Subject::Delivery(id(100 + number))),
            endpoint: None,
            attempts: Vec::new(),
            fate: Fate::Dead { reason: DeadReason::Gone, error: None },
        };
        Settlement { events: vec![event], deliveries: vec![stored] }
    }

    fn counted(metrics: &Metrics) -> (u64, u64, u64) {
        let reason = |reason| ReasonLabels { reason };
        (
            metrics.matches.get(),
            metrics.waits.get_or_create(&reason(WaitingReason::Retry.as_str())).get(),
            metrics.dead_letters.get_or_create(&reason(DeadReason::Gone.as_str())).get(),
        )
    }

    #[test]
    fn what_its_lease_was_lost_of_is_counted_by_whoever_has_it_then() {
        let metrics = Metrics::default();
        let first = settlement(1);
        let mut lost = vec![first.events[0].lease.subject];
        metrics.settled(&first, &Settled { lost: lost.clone(), ..Settled::default() });
        assert_eq!(counted(&metrics), (0, 0, 1));
        lost.push(first.deliveries[0].lease.subject);
        metrics.settled(&first, &Settled { lost, ..Settled::default() });
        assert_eq!(counted(&metrics), (0, 0, 1));
        metrics.settled(&first, &Settled::default());
        assert_eq!(counted(&metrics), (1, 1, 2));
    }
}
