//! Waiting until replicas have what was published.
//!
//! Invariants:
//! - `WAIT` blocks, so it has a connection of its own, and one `WAIT` at a time answers all who asked before it began.
//! - It counts only what its own connection wrote. So a write that changes nothing that matters goes before it, and is
//!   behind whatever was published until then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookwire_queue::QueueError;
use redis::{Pipeline, Value};
use tokio::sync::Mutex;

use crate::error::odd_answer;
use crate::link::{Link, Waiter};

/// How long replicas may take to confirm.
pub(crate) const REPLICAS_MAX: Duration = Duration::from_secs(2);
/// How long it may take in all, with those who ask before: a server that is silent keeps nobody for each of them.
const ALL_MAX: Duration = Duration::from_secs(15);
/// How long the key of the write is there afterwards.
const KEY_MAX: Duration = Duration::from_secs(60);

/// Those who wait for the replicas of a shard.
#[derive(Default)]
pub(crate) struct Replicas {
    /// How often somebody asked.
    asked: AtomicU64,
    // Held while the server is asked, so that others wait for the answer.
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// All who asked up to here have their answer.
    up_to: u64,
    have: i64,
    waiter: Option<Waiter>,
}

impl Replicas {
    /// How many replicas have what was written before, as soon as `wanted` have it, or after [`REPLICAS_MAX`]. `key` is
    /// written, and is in the shard's slot.
    ///
    /// Cancel safety: those who wait for the same answer ask anew.
    pub(crate) async fn have(&self, link: &Link, key: &str, wanted: u32) -> Result<i64, QueueError> {
        match tokio::time::timeout(ALL_MAX, self.ask(link, key, wanted)).await {
            Ok(have) => have,
            Err(_) => Err(link.is_silent()),
        }
    }

    async fn ask(&self, link: &Link, key: &str, wanted: u32) -> Result<i64, QueueError> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut told = self.told.lock().await;
        if turn <= told.up_to {
            return Ok(told.have);
        }
        let up_to = self.asked.load(Ordering::SeqCst);
        let mut ask = Pipeline::with_capacity(2);
        ask.cmd("SET").arg(key).arg(0).arg("EX").arg(KEY_MAX.as_secs());
        ask.cmd("WAIT").arg(wanted).arg(u64::try_from(REPLICAS_MAX.as_millis()).unwrap_or(u64::MAX));
        let used = told.waiter.take();
        let was_used = used.is_some();
        let mut waiter = match used {
            Some(waiter) => waiter,
            None => link.waiter(REPLICAS_MAX, None).await?,
        };
        let mut answers = link.wait_for_all(&mut waiter, &ask, REPLICAS_MAX).await;
        if was_used && answers.as_ref().is_err_and(QueueError::is_transient) {
            // The connection may have been cut while nobody used it.
            waiter = link.waiter(REPLICAS_MAX, None).await?;
            answers = link.wait_for_all(&mut waiter, &ask, REPLICAS_MAX).await;
        }
        match answers?.pop() {
            Some(Value::Int(have)) => {
                *told = Told { up_to, have, waiter: Some(waiter) };
                Ok(have)
            }
            _ => Err(odd_answer("WAIT")),
        }
    }
}
