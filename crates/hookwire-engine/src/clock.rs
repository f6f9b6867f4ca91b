//! Time and chance as arguments: whoever runs the engine owns them.
//!
//! Invariant: nothing else in this crate asks what time it is or draws a random number. Waiting goes through tokio's
//! timers, which a test pauses.

use std::sync::{Mutex, PoisonError};

use hookwire_model::Timestamp;

/// Tells what time it is, for records. The queue has a clock of its own, which decides what is due.
pub trait Clock: Send + Sync + 'static {
    /// The time it is.
    fn now(&self) -> Timestamp;
}

impl<F: Fn() -> Timestamp + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A seeded random source: the same seed draws the same numbers in the same order.
#[derive(Debug)]
pub struct Chance(Mutex<fastrand::Rng>);

impl Chance {
    /// A source that draws what this seed says.
    pub fn seeded(seed: u64) -> Self {
        Chance(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// The next number, at least 0 and less than 1.
    pub fn draw(&self) -> f64 {
        // A panic cannot leave the generator half-way: its state is one number.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}
