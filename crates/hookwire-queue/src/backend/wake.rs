//! Waking those who wait for something to lease.
//!
//! Invariant: something that came after the last look is never slept through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Wakes those who wait for something to lease.
#[derive(Debug, Default)]
pub struct Wake {
    events: News,
    deliveries: News,
    notify: Notify,
}

/// Whether anything came since somebody last looked.
#[derive(Debug, Default)]
struct News {
    came: AtomicU64,
    seen: AtomicU64,
}

impl News {
    fn pending(&self) -> bool {
        self.came.load(Ordering::SeqCst) > self.seen.load(Ordering::SeqCst)
    }
}

impl Wake {
    /// There is an event to lease that was not there before.
    pub fn event_came(&self) {
        self.events.came.fetch_add(1, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// There is a delivery to lease, now or later, that was not there before.
    pub fn delivery_came(&self) {
        self.deliveries.came.fetch_add(1, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// What to give to [`looked_for_events`](Self::looked_for_events); to be taken before looking.
    pub fn events_stamp(&self) -> u64 {
        self.events.came.load(Ordering::SeqCst)
    }

    /// What to give to [`looked_for_deliveries`](Self::looked_for_deliveries); to be taken before looking.
    pub fn deliveries_stamp(&self) -> u64 {
        self.deliveries.came.load(Ordering::SeqCst)
    }

    /// Somebody leased all the events that were there. Not to be called when some were left behind.
    pub fn looked_for_events(&self, stamp: u64) {
        self.events.seen.fetch_max(stamp, Ordering::SeqCst);
    }

    /// Somebody leased all the deliveries that were due. Not to be called when some were left behind.
    pub fn looked_for_deliveries(&self, stamp: u64) {
        self.deliveries.seen.fetch_max(stamp, Ordering::SeqCst);
    }

    /// Returns when something came since the last look, at the latest after `timeout`. Dropping it is harmless.
    pub async fn wait(&self, timeout: Duration) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        // From here on a notification is not missed; what came before is found by the look at the counts.
        notified.as_mut().enable();
        if self.events.pending() || self.deliveries.pending() {
            return;
        }
        // A timeout is no failure here: the caller asked to be woken then.
        let _ = tokio::time::timeout(timeout, notified).await;
    }
}
