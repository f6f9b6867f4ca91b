//! Saying once that the store fails, and once that it answers again, however many lanes find out.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use hookwire_model::Shard;
use hookwire_queue::QueueError;

/// The shards that fail at the moment.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    // Held only to look and note, never across an `.await`.
    failing: Mutex<BTreeSet<Shard>>,
}

impl Outage {
    /// A shard failed in a way that may pass.
    pub(crate) fn fails(&self, shard: Shard, error: &QueueError) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = failing.is_empty();
        if failing.insert(shard) && is_first {
            tracing::warn!(
                %shard,
                error = error as &dyn std::error::Error,
                "the store fails; trying again until it answers"
            );
        }
    }

    /// A shard that failed answers.
    pub(crate) fn answers(&self, shard: Shard) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.remove(&shard) && failing.is_empty() {
            tracing::info!("the store answers again");
        }
    }
}
