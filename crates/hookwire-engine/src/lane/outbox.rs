//! What waits to be settled.
//!
//! Invariant: what was taken out stays with the caller until the store has answered, and comes back as it was if it has
//! not taken it: a lost reply repeats it.

use std::time::Duration;

use hookwire_queue::{EventFate, Fate, Lease, NewDelivery, SettledDelivery, SettledEvent, Settlement};
use tokio::time::Instant;

/// How long events that are over wait at most for others to be settled with, while there are such.
const COMPANY_MAX: Duration = Duration::from_millis(5);

/// A settlement that grows.
pub(super) struct Outbox {
    settlement: Settlement,
    /// How many of its events may wait for company, because nothing depends on their being settled; and until when.
    patient: usize,
    patient_until: Instant,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Outbox { settlement: Settlement::default(), patient: 0, patient_until: Instant::now() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settlement.is_empty()
    }

    pub(super) fn add_event(&mut self, settled: SettledEvent) {
        if is_patient(&settled.fate) {
            if self.patient == 0 {
                self.patient_until = Instant::now() + COMPANY_MAX;
            }
            self.patient += 1;
        }
        self.settlement.events.push(settled);
    }

    pub(super) fn add_delivery(&mut self, settled: SettledDelivery) {
        self.settlement.deliveries.push(settled);
    }

    /// Whether it may wait for others that will be over soon, as long as they are fewer than `many`: the more share a round
    /// trip and a step of the store, the less it costs each.
    pub(super) fn waits_for_company(&self, now: Instant, many: usize) -> bool {
        self.patient == self.settlement.events.len()
            && self.settlement.deliveries.is_empty()
            && self.patient < many
            && now < self.patient_until
    }

    /// Until when it waits for company, if it does.
    pub(super) fn company_until(&self) -> Option<Instant> {
        (self.patient > 0).then_some(self.patient_until)
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Settlement {
        self.patient = 0;
        std::mem::take(&mut self.settlement)
    }

    /// Puts back what was not settled, before what has come since.
    pub(super) fn put_back(&mut self, settlement: Settlement) {
        let since = std::mem::replace(&mut self.settlement, settlement);
        self.settlement.events.extend(since.events);
        self.settlement.deliveries.extend(since.deliveries);
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        let events = self.settlement.events.iter().map(|settled| &settled.lease);
        events.chain(self.settlement.deliveries.iter().map(|settled| &settled.lease))
    }
}

/// Whether nothing depends on an event's being settled at once: nobody works on it any more, and no other waits for its
/// turn after it.
fn is_patient(fate: &EventFate) -> bool {
    let is_over = |new: &NewDelivery| !matches!(new.fate, Fate::Running { .. }) && new.order.is_none();
    matches!(fate, EventFate::FannedOut { deliveries, .. } if deliveries.iter().all(is_over))
}
