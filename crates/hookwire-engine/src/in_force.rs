//! The definitions in force, and how they came to be: what a reload swaps.
//!
//! Invariants:
//! - There is always one whole snapshot in force; a reload that fails leaves it in place and says so.
//! - Reading it takes no lock: every event does.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use hookwire_model::Timestamp;
use serde::Serialize;

use crate::Snapshot;

/// The definitions in force, shared by everything that works with them.
#[derive(Debug)]
pub struct InForce {
    snapshot: ArcSwap<Snapshot>,
    /// A short section, never held across an await.
    state: Mutex<ReloadState>,
}

/// How the definitions in force came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadState {
    /// When the definitions in force were loaded.
    pub loaded_at: Timestamp,
    /// How often they were replaced since the process started.
    pub reloads: u64,
    /// The last attempt to replace them, where it failed and none has succeeded since.
    pub refused: Option<RefusedReload>,
}

/// A reload that left the definitions as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedReload {
    /// When it was tried.
    pub at: Timestamp,
    /// What is wrong with the new definitions, as a person reads it.
    pub message: String,
}

impl InForce {
    /// Puts the first snapshot in force.
    pub fn new(snapshot: Snapshot, now: Timestamp) -> Arc<Self> {
        let state = ReloadState { loaded_at: now, reloads: 0, refused: None };
        Arc::new(InForce { snapshot: ArcSwap::from_pointee(snapshot), state: Mutex::new(state) })
    }

    /// The snapshot in force, to keep for as long as one piece of work takes.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The snapshot in force, for a look.
    pub(crate) fn look(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts another snapshot in force. Work that has begun keeps the one it has.
    pub fn replace(&self, snapshot: Snapshot, now: Timestamp) {
        self.snapshot.store(Arc::new(snapshot));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = ReloadState { loaded_at: now, reloads: state.reloads + 1, refused: None };
    }

    /// Notes that new definitions were refused; those in force stay.
    pub fn refuse(&self, message: String, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused = Some(RefusedReload { at: now, message });
    }

    /// How the definitions in force came to be.
    pub fn state(&self) -> ReloadState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
