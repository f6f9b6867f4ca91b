//! Saying things once, however many find out: that the store fails, that it answers again, and what goes on for long.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hookwire_model::Shard;
use hookwire_queue::QueueError;
use tokio::time::Instant;

/// What goes on is no news for so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

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

/// Something that lasts, and is told once a minute.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    // Held only to look and note, never across an `.await`.
    told: Mutex<Option<Instant>>,
}

impl Lasting {
    /// Whether it is to be told now, which then counts as done.
    pub(crate) fn is_news(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_none_or(|at| at.elapsed() >= TOLD_EVERY);
        if is_news {
            *told = Some(Instant::now());
        }
        is_news
    }
}
