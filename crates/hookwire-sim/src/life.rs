//! One process of a worker, from its start to its end: where it may die or stall.
//!
//! Invariant: once it is dead nothing of it has an effect any more, however many of its tasks still lie about: whatever
//! they ask for stays pending.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A process.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its place among all lives.
    pub(crate) number: usize,
    pub(crate) name: String,
    dead: AtomicBool,
    died: Notify,
    /// After so many steps it dies; a negative number never comes to an end.
    steps_left: AtomicI64,
    stalled_until: Mutex<Option<Instant>>,
}

impl Life {
    pub(crate) fn new(number: usize, name: String, steps: Option<u32>) -> Life {
        Life {
            number,
            name,
            dead: AtomicBool::new(false),
            died: Notify::new(),
            steps_left: AtomicI64::new(steps.map_or(-1, i64::from)),
            stalled_until: Mutex::new(None),
        }
    }

    /// Passes a point where the process may be found dead or stalled: before and after whatever has an effect outside
    /// of it.
    ///
    /// Cancel safety: dropping it is harmless.
    pub(crate) async fn step(&self) {
        loop {
            if self.is_dead() {
                return std::future::pending().await;
            }
            let stalled = *self.stalled_until.lock().expect("nothing panics while it is locked");
            match stalled {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => break,
            }
        }
        if self.steps_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.die();
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Returns when it is dead.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// It dies at its next step.
    pub(crate) fn doom(&self) {
        self.steps_left.store(1, Ordering::SeqCst);
    }

    /// It no longer dies at a step.
    pub(crate) fn spare(&self) {
        self.steps_left.store(-1, Ordering::SeqCst);
    }

    pub(crate) fn stall(&self, time: Duration) {
        let until = Instant::now() + time;
        *self.stalled_until.lock().expect("nothing panics while it is locked") = Some(until);
    }
}
