//! What a lane has leased and not begun: at most one batch.
//!
//! Invariant: an event is in it once, with the lease that came last.

use std::collections::VecDeque;

use hookwire_model::Sequence;
use hookwire_queue::{EventFate, Lease, LeasedEvent, SettledEvent, Subject};
use tokio::time::Instant;

/// Events that are leased and not begun, in their order.
#[derive(Default)]
pub(super) struct Intake {
    ready: VecDeque<Ready>,
    /// The greatest number that was ever among them.
    up_to: Option<Sequence>,
}

struct Ready {
    leased: LeasedEvent,
    /// When it came.
    since: Instant,
    /// Until when its lease lasts at least, by this process' own clock.
    until: Instant,
}

impl Intake {
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes an event whose lease lasts until then; one that is there already has the new lease from now on.
    pub(super) fn take(&mut self, leased: LeasedEvent, until: Instant) {
        let new = Ready { leased, since: Instant::now(), until };
        let sequence = new.leased.sequence;
        // They come in order, but for those that come again: only these can be there already.
        let comes_again = Some(sequence) <= self.up_to;
        self.up_to = self.up_to.max(Some(sequence));
        let mut known = comes_again.then(|| self.ready.iter_mut()).into_iter().flatten();
        match known.find(|ready| ready.leased.sequence == sequence) {
            Some(ready) => *ready = new,
            None => self.ready.push_back(new),
        }
    }

    /// The next to be begun.
    pub(super) fn next(&mut self) -> Option<LeasedEvent> {
        self.ready.pop_front().map(|ready| ready.leased)
    }

    /// Leaves alone what was leased so long ago that its lease may have run out, and tells whether there was any.
    pub(super) fn drop_run_out(&mut self, now: Instant) -> bool {
        let before = self.ready.len();
        while self.ready.front().is_some_and(|ready| ready.until <= now) {
            self.ready.pop_front();
        }
        self.ready.len() < before
    }

    /// The leases of what was there at that time last until then.
    pub(super) fn renewed(&mut self, at: Instant, until: Instant) {
        for ready in self.ready.iter_mut().filter(|ready| ready.since <= at) {
            ready.until = until;
        }
    }

    /// A lease was lost; tells whether it was one of these.
    pub(super) fn lose(&mut self, subject: Subject) -> bool {
        let before = self.ready.len();
        self.ready.retain(|ready| ready.leased.lease.subject != subject);
        self.ready.len() < before
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) -> impl Iterator<Item = SettledEvent> {
        self.ready
            .drain(..)
            .map(|ready| SettledEvent { lease: ready.leased.lease, fate: EventFate::Released })
    }

    pub(super) fn has(&self, sequence: Sequence) -> bool {
        self.ready.iter().any(|ready| ready.leased.sequence == sequence)
    }

    /// Whether it holds one whose lease was lost before.
    pub(super) fn has_suspect(&self) -> bool {
        self.ready.iter().any(|ready| ready.leased.losses > 0)
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.ready.iter().map(|ready| &ready.leased.lease)
    }
}
