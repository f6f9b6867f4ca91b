//! Leases, and what ends them.
//!
//! Rules checked here:
//! - A lease never runs out in the hands of a worker whom the store has not failed.
//! - Nothing is settled twice, and no result twice in one settlement.
//! - When an event leaves the queue, each of its deliveries is on record.
//! - A delivery of an order is leased only when nothing stands before it.

use std::collections::BTreeSet;
use std::time::Duration;

use hookwire_model::{DeliveryId, DeliveryState, OnFailure, Sequence};
use hookwire_queue::{
    EventFate, Fate, Lease, LeasedDeliveries, LeasedDelivery, LeasedEvent, Settled, Settlement, Subject,
};

use super::{Books, Held, STORE_BACKOFF_MAX};
use crate::trace::About;
use crate::world::since_start;

impl Books {
    /// Events were leased. Tells whether one of them is such that its worker dies.
    pub(crate) fn events_leased(&mut self, life: usize, lease: Duration, leased: &[LeasedEvent]) -> bool {
        let mut deadly = false;
        for event in leased {
            self.give(&event.lease, life, lease, ((0, 0, 0), since_start(event.accepted_at)));
            let Some(book) = self.events.get_mut(&event.sequence) else {
                let text = format!("event {} was leased, and nobody published it", event.sequence);
                self.breach(About::Event(event.sequence), text);
                continue;
            };
            book.leased += 1;
            book.leased_under = self.in_force.len() - 1;
            deadly |= book.plan.poison && event.losses < 5;
            let who = self.who(Some(life));
            let (sequence, losses) = (event.sequence, event.losses);
            self.note(About::Event(sequence), || {
                format!("{who} leases event #{sequence}, lost {losses} times")
            });
        }
        deadly
    }

    pub(crate) fn deliveries_leased(&mut self, life: usize, lease: Duration, leased: &LeasedDeliveries) {
        for delivery in &leased.deliveries {
            let attempts = (delivery.attempts, delivery.interrupted, delivery.forgiven);
            self.give(&delivery.lease, life, lease, (attempts, since_start(delivery.since)));
            let who = self.who(Some(life));
            let (id, made, cut) = (delivery.id, delivery.attempts, delivery.interrupted);
            self.note(About::Event(id.sequence()), || {
                format!("{who} leases {id}, {made} attempts, {cut} interrupted")
            });
            self.check_order(delivery);
        }
    }

    fn give(&mut self, lease: &Lease, life: usize, time: Duration, told: ((u32, u32, u32), Duration)) {
        let now = self.now();
        let Lease { subject, token } = *lease;
        let (attempts, since) = told;
        let held = Held { token, life, until: now + time, attempts, since };
        if let Some(before) = self.leases.insert(subject, held) {
            self.lease_lost(subject, &before);
        }
    }

    /// A lease ran out. It may have if its worker died, or the store failed it for a while.
    fn lease_lost(&mut self, subject: Subject, held: &Held) {
        self.lost.insert(subject);
        let now = self.now();
        let book = &self.lives[held.life];
        let name = book.life.name.clone();
        let trouble = book.troubled_until + self.plan.lease + STORE_BACKOFF_MAX;
        let excused = book.life.is_dead()
            || book.cut_off
            || (trouble >= held.until && book.troubled_until > Duration::ZERO);
        if now < held.until {
            let text = format!("{subject:?} was leased again {:?} too early", held.until - now);
            self.breach(About::of(subject), text);
        } else if !excused {
            let text = format!("the lease on {subject:?} ran out at {:?}, and {name} was well", held.until);
            self.breach(About::of(subject), text);
        }
    }

    pub(crate) fn extended(&mut self, leases: &[&Lease], lease: Duration) {
        let now = self.now();
        for held in leases {
            // By token: a worker may hold an old lease of the same subject, too.
            let known = self.leases.get_mut(&held.subject).filter(|known| known.token == held.token);
            if let Some(known) = known.filter(|known| known.until > now) {
                known.until = now + lease;
            }
        }
    }

    /// A worker is about to settle.
    pub(crate) fn settling(&mut self, life: usize, settlement: &Settlement) {
        let leases = settlement.events.iter().map(|event| &event.lease);
        let leases = leases.chain(settlement.deliveries.iter().map(|delivery| &delivery.lease));
        let mut seen = BTreeSet::new();
        for lease in leases {
            let again = self.told.contains(&lease.token);
            if again || !seen.insert(lease.token) {
                let text = format!("{} settles {:?} twice", self.who(Some(life)), lease.subject);
                self.breach(About::of(lease.subject), text);
            }
        }
    }

    /// The worker has the reply.
    pub(crate) fn settled_and_told(&mut self, settlement: &Settlement) {
        self.told.extend(settlement.events.iter().map(|event| event.lease.token));
        self.told.extend(settlement.deliveries.iter().map(|delivery| delivery.lease.token));
    }

    /// The store carried out a settlement.
    pub(crate) fn settled(&mut self, life: usize, settlement: &Settlement, settled: &Settled) {
        for event in &settlement.events {
            let Subject::Event(sequence) = event.lease.subject else { continue };
            let lost = self.is_lost(&event.lease, settled);
            let before = self.settled_one(life, &event.lease, lost);
            if let EventFate::FannedOut { deliveries, .. } = &event.fate {
                for delivery in deliveries {
                    if delivery.fate == Fate::Delivered {
                        self.leases.remove(&Subject::Delivery(delivery.id));
                    }
                    let before = before.clone().or(Some(self.no_lease(life)));
                    self.check_fate(delivery.id, &delivery.attempts, &delivery.fate, before, lost);
                    let webhook = self.webhook(&delivery.webhook);
                    if !lost && let Some((key, _)) = self.order_of(sequence, webhook) {
                        self.orders.entry(key).or_default().insert(delivery.id);
                    }
                }
            }
            if lost {
                self.note(About::Event(sequence), || format!("event #{sequence} was settled too late"));
                continue;
            }
            self.event_settled(sequence, &event.fate, before.is_some());
        }
        for delivery in &settlement.deliveries {
            let Subject::Delivery(id) = delivery.lease.subject else { continue };
            let lost = self.is_lost(&delivery.lease, settled);
            let before = self.settled_one(life, &delivery.lease, lost);
            self.check_fate(id, &delivery.attempts, &delivery.fate, before, lost);
        }
        for (_, lease) in &settled.leases {
            let Subject::Delivery(id) = lease.subject else { continue };
            let Some(lease_time) = asked_for(settlement, id).filter(|time| !time.is_zero()) else {
                // Its worker ended the attempt.
                self.lost.insert(lease.subject);
                continue;
            };
            let accepted =
                self.stored(id).map_or(Duration::ZERO, |delivery| since_start(delivery.created_at));
            // The reply to a settlement that is repeated tells what was given the first time.
            if self.leases.get(&lease.subject).is_none_or(|held| held.token < lease.token) {
                self.give(lease, life, lease_time, ((0, 0, 0), accepted));
            }
        }
    }

    /// Whether a lease was lost. The store tells it by subject, and a worker may have leased the same one again.
    fn is_lost(&self, lease: &Lease, settled: &Settled) -> bool {
        let now = self.now();
        let held = self.leases.get(&lease.subject);
        let holds = held.is_some_and(|held| held.token == lease.token && held.until > now);
        settled.lost.contains(&lease.subject) && !holds && !self.ended.contains(&lease.token)
    }

    /// Ends a lease; tells what was known of it.
    fn settled_one(&mut self, life: usize, lease: &Lease, lost: bool) -> Option<Held> {
        let held = self.leases.get(&lease.subject).cloned();
        let own = held.clone().filter(|held| held.token == lease.token);
        if lost {
            self.lost.insert(lease.subject);
            return None;
        }
        // Once more, because the reply was lost: the store answers the same, and changes nothing.
        let repeated = !self.ended.insert(lease.token);
        let believed = !repeated && own.is_none();
        if believed && held.is_some() {
            // Said to be delivered after another worker had leased it: it is believed.
            self.lost.insert(lease.subject);
            let who = self.who(Some(life));
            self.note(About::of(lease.subject), || format!("{who} is believed about {:?}", lease.subject));
        }
        if held.is_some_and(|held| held.token <= lease.token || believed) {
            self.leases.remove(&lease.subject);
        }
        own
    }

    fn no_lease(&self, life: usize) -> Held {
        Held { token: 0, life, until: Duration::ZERO, attempts: (0, 0, 0), since: Duration::ZERO }
    }

    /// An event left the queue, or was given back. `first`: it is no repetition of a call whose reply was lost.
    fn event_settled(&mut self, sequence: Sequence, fate: &EventFate, first: bool) {
        let about = About::Event(sequence);
        match fate {
            EventFate::Released => {
                if let Some(event) = self.events.get_mut(&sequence).filter(|_| first) {
                    // It lost no lease.
                    event.leased = event.leased.saturating_sub(1);
                }
                self.note(about, || format!("event #{sequence} is given back"));
            }
            EventFate::Dead { reason, .. } => {
                if let Some(event) = self.events.get_mut(&sequence) {
                    event.fanned_out = true;
                }
                self.note(about, || format!("event #{sequence} is dead: {reason}"));
            }
            EventFate::FannedOut { deliveries, .. } => {
                self.note(about, || {
                    let fates = deliveries.iter().map(|delivery| {
                        let [id, fate] = [delivery.id.to_string(), format!("{:?}", delivery.fate)];
                        format!("{id} to {} {fate}", delivery.webhook)
                    });
                    format!("event #{sequence} is settled: {}", fates.collect::<Vec<_>>().join(", "))
                });
                let Some(event) = self.events.get_mut(&sequence) else { return };
                event.fanned_out = true;
                let since = event.leased_under;
                let (all, any) = self.in_force_since(since);
                for id in self.deliveries_of(sequence, &all) {
                    if self.stored(id).is_none() && !self.purged.contains(&id) {
                        let text = format!("event #{sequence} left the queue, and {id} is not on record");
                        self.breach(about, text);
                    }
                }
                let allowed = self.deliveries_of(sequence, &any);
                for delivery in deliveries.iter().filter(|delivery| !allowed.contains(&delivery.id)) {
                    let text = format!("event #{sequence} became {}, which no rule asks for", delivery.id);
                    self.breach(about, text);
                }
            }
        }
    }

    /// Whether order lets a delivery go that was leased just now.
    fn check_order(&mut self, leased: &LeasedDelivery) {
        let (id, sequence) = (leased.id, leased.id.sequence());
        let webhook = self.webhook(&leased.webhook);
        let Some((key, on_failure)) = self.order_of(sequence, webhook) else { return };
        self.orders.entry(key).or_default().insert(id);
        if on_failure == OnFailure::Skip && self.has_failed(id) {
            return;
        }
        let members = &self.orders[&key];
        let before: Vec<DeliveryId> = members.range(..id).copied().collect();
        for earlier in before {
            let Some(delivery) = self.stored(earlier) else { continue };
            let blocks = match (delivery.state, on_failure) {
                (state, _) if state.is_finished() => false,
                (DeliveryState::Dead, OnFailure::Block) => true,
                (DeliveryState::Dead, _) => false,
                (_, OnFailure::Skip) => !self.has_failed(earlier),
                _ => true,
            };
            if blocks {
                let text = format!("{id} was leased while {earlier}, {}, stands before it", delivery.state);
                self.breach(About::Event(sequence), text);
            }
        }
        let queued = self.events.range(..sequence).find(|(_, event)| !event.fanned_out);
        if let Some((queued, _)) = queued {
            let text = format!("{id} was leased while event #{queued} is still to be fanned out");
            self.breach(About::Event(sequence), text);
        }
    }

    /// Whether an attempt of a delivery, or the delivery itself, is known to have failed.
    pub(super) fn has_failed(&self, id: DeliveryId) -> bool {
        self.failures.contains(&id)
    }
}

/// How long a lease a settlement asks for, for a delivery that stays with its worker.
fn asked_for(settlement: &Settlement, id: DeliveryId) -> Option<Duration> {
    let fanned_out = settlement.events.iter().flat_map(|event| match &event.fate {
        EventFate::FannedOut { deliveries, .. } => &deliveries[..],
        EventFate::Released | EventFate::Dead { .. } => &[],
    });
    let new = fanned_out.map(|delivery| (delivery.id, &delivery.fate));
    let stored = settlement.deliveries.iter().filter_map(|delivery| match delivery.lease.subject {
        Subject::Delivery(id) => Some((id, &delivery.fate)),
        Subject::Event(_) => None,
    });
    let (_, fate) = new.chain(stored).find(|(of, _)| *of == id)?;
    match fate {
        Fate::Running { lease } => Some(*lease),
        _ => None,
    }
}
