//! The store's clock.
//!
//! Invariant: it never goes back while the process lives, so that a lease can neither be revived nor last for ever when
//! somebody sets the system's clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookwire_model::Timestamp;

/// Where a store gets the time from.
#[derive(Clone)]
pub struct StoreClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl StoreClock {
    /// Takes a function that tells the time; what it tells must not go back.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        StoreClock(Arc::new(clock))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for StoreClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreClock")
    }
}

/// The system's time, made monotonic: it goes on with the monotonic clock, and jumps forward when the system's time
/// does, but never back.
pub fn system_clock() -> StoreClock {
    let wall = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    };
    let begin = Instant::now();
    let begin_micros = wall();
    // How far the system's time has been seen ahead of the monotonic clock, in microseconds.
    let ahead = AtomicI64::new(0);
    StoreClock::new(move || {
        let monotonic = begin_micros + i64::try_from(begin.elapsed().as_micros()).unwrap_or(i64::MAX / 2);
        let difference = wall() - monotonic;
        let ahead = ahead.fetch_max(difference, Ordering::Relaxed).max(difference);
        Timestamp::from_micros(monotonic + ahead)
    })
}

/// A clock that stands still until somebody moves it. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time.
    pub fn new(start: Timestamp) -> Self {
        ManualClock(Arc::new(AtomicI64::new(start.as_micros())))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX / 4), Ordering::SeqCst);
    }

    /// The same clock, for a store.
    pub fn store_clock(&self) -> StoreClock {
        let clock = self.clone();
        StoreClock::new(move || clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let clock = system_clock();
        let mut last = clock.now();
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
