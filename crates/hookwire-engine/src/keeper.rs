//! The keeper: shares what is known of endpoints with the store, and so with other workers and with people.
//!
//! Invariants:
//! - A record is written only over the version that was read; on a conflict both are joined, and written again.
//! - The fast path never waits for it. Only a probe does, because one worker makes it for all.
//! - A store that fails keeps nobody from working: what could not be written is written later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hookwire_model::{DeadReason, EndpointId, Shard};
use hookwire_queue::{EndpointRecord, Inspect, PutEndpoint, Queue, QueueError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::endpoint_state::{EndpointState, home_shard};
use crate::endpoints::{Endpoints, HoldChange, Unwritten};
use crate::{Clock, Metrics};

/// How often records of others are looked for: so long a pause takes at most to reach a worker that has nothing to
/// send, and half a command per second and shard is what it costs a Redis server.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often rates and spent tokens are shared: as long as a rate's burst lasts.
const SHARE_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked whether anything has waited for too long.
const GIVE_UP_EVERY: Duration = Duration::from_secs(60);
/// So many deliveries are looked at in one step.
const GIVE_UP_STEP: usize = 500;
/// Writes on their way at once: a store commits them together.
const WRITES_MAX: usize = 32;
/// Conflicts in a row before a record is left for the next round: others are at it.
const CONFLICTS_MAX: usize = 3;

/// A probe that asks to be the only one.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) endpoint: EndpointId,
    /// Whether it is.
    pub(crate) reply: oneshot::Sender<bool>,
}

pub(crate) struct Keeper<Q, C> {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) queue: Arc<Q>,
    pub(crate) clock: Arc<C>,
    pub(crate) claims: mpsc::Receiver<Claim>,
    pub(crate) metrics: Metrics,
    /// How long a delivery may wait.
    pub(crate) backlog_age_max: Duration,
    /// Versions of records that say nothing about an endpoint in use here.
    pub(crate) seen: BTreeMap<EndpointId, u64>,
}

impl<Q: Queue + Inspect, C: Clock> Keeper<Q, C> {
    /// Keeps until `shutdown`, and then writes what is left.
    ///
    /// Cancel safety: dropping it loses what was not written, which is found out again.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut look_at = Instant::now() + LOOK_EVERY;
        let mut give_up_at = Instant::now();
        loop {
            let share_at = self.endpoints.has_unwritten().then(|| Instant::now() + SHARE_EVERY);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(claim) = self.claims.recv() => self.claim(claim).await,
                () = self.endpoints.news.notified() => self.share().await,
                // From here on there is a time to share it at.
                () = self.endpoints.stirred.notified() => {}
                () = tokio::time::sleep_until(share_at.map_or(look_at, |at| at.min(look_at))) => {
                    if look_at <= Instant::now() {
                        look_at = Instant::now() + LOOK_EVERY;
                        if let Err(error) = self.look().await {
                            failed(&error);
                        }
                        self.forget().await;
                        self.metrics.endpoint_states(&self.endpoints.states());
                        if give_up_at <= Instant::now() {
                            give_up_at = Instant::now() + GIVE_UP_EVERY;
                            self.give_up().await;
                        }
                    }
                    self.share().await;
                }
            }
        }
        self.share().await;
    }

    /// Reads all records: what is known of endpoints when the worker starts, and what others wrote since.
    ///
    /// # Errors
    /// [`QueueError`] if they cannot be read; what was read of them is known then, and no pause of a webhook has ended.
    pub(crate) async fn look(&mut self) -> Result<(), QueueError> {
        let (mut paused_webhooks, mut there) = (BTreeSet::new(), BTreeSet::new());
        for shard in 0..self.queue.state_shards() {
            for EndpointRecord { id, version, state } in self.queue.endpoints(Shard(shard)).await? {
                there.insert(id);
                let known = self.endpoints.version(id).max(self.seen.get(&id).copied().unwrap_or(0));
                // A record that stands for a webhook is read each time: few have one.
                let Some(state) = EndpointState::read(&state) else { continue };
                if state.authority.is_none() {
                    if state.health.is_paused() {
                        paused_webhooks.insert(state.webhook);
                    }
                } else if known != version {
                    self.seen.insert(id, version);
                    self.endpoints.learn(id, Some((version, state)), self.clock.now());
                }
            }
        }
        self.seen.retain(|id, _| there.contains(id));
        self.endpoints.learn_gone(&there, self.clock.now());
        self.endpoints.learn_paused_webhooks(paused_webhooks);
        self.hold().await;
        Ok(())
    }

    /// Forgets endpoints at rest, here and in the store. One that somebody has written about meanwhile is learnt again.
    async fn forget(&mut self) {
        let gone = self.endpoints.forget(self.clock.now());
        for (endpoint, _) in &gone {
            self.seen.remove(endpoint);
        }
        let queue = &self.queue;
        let removed = stream::iter(gone.into_iter().map(Ok));
        let removed = removed.try_for_each_concurrent(WRITES_MAX, async |(endpoint, version)| {
            let home = home_shard(endpoint, queue.state_shards());
            queue.put_endpoint(home, endpoint, version, Bytes::new()).await.map(drop)
        });
        // Those that are left are learnt again, and forgotten again.
        if let Err(error) = removed.await {
            failed(&error);
        }
    }

    /// Makes dead letters of what has waited for too long.
    async fn give_up(&self) {
        for shard in 0..self.queue.shards() {
            let (mut after, mut dead) = (None, 0);
            loop {
                match self.queue.expire(Shard(shard), self.backlog_age_max, after, GIVE_UP_STEP).await {
                    Ok(expired) => {
                        dead += expired.dead;
                        after = expired.next;
                    }
                    Err(error) => {
                        failed(&error);
                        after = None;
                    }
                }
                if after.is_none() {
                    break;
                }
            }
            if dead > 0 {
                self.metrics.dead(DeadReason::BacklogLimit, dead);
                tracing::warn!(
                    deliveries = dead,
                    shard,
                    "deliveries have waited for longer than store.max_backlog_age, and are dead letters now; \
                     `hookwire dead redrive` sends them again"
                );
            }
        }
    }

    /// Writes what others should know.
    async fn share(&mut self) {
        let unwritten = self.endpoints.unwritten();
        let written = stream::iter(unwritten).map(|unwritten| self.write(unwritten));
        written.buffer_unordered(WRITES_MAX).for_each(|()| std::future::ready(())).await;
        self.hold().await;
    }

    async fn claim(&self, Claim { endpoint, reply }: Claim) {
        // A probe that was given up meanwhile is nobody's loss.
        let _ = reply.send(self.claim_probe(endpoint).await);
    }

    /// Whether this worker makes the probe. Whoever wrote in between may be making it, or may have written something
    /// else; then it is tried once more.
    async fn claim_probe(&self, endpoint: EndpointId) -> bool {
        let home = home_shard(endpoint, self.queue.state_shards());
        for _ in 0..CONFLICTS_MAX {
            let Some(unwritten) = self.endpoints.unwritten_of(endpoint) else { return true };
            let record = unwritten.state.to_record();
            match self.queue.put_endpoint(home, endpoint, unwritten.version, record).await {
                Ok(PutEndpoint::Written(version)) => {
                    self.endpoints.written(&unwritten, version);
                    return true;
                }
                Ok(PutEndpoint::Conflict(other)) => {
                    let still = self.endpoints.yield_probe(endpoint, read(other), self.clock.now());
                    self.endpoints.still_unwritten(endpoint);
                    if !still {
                        return false;
                    }
                }
                Err(error) => {
                    failed(&error);
                    self.endpoints.still_unwritten(endpoint);
                    return true;
                }
            }
        }
        false
    }

    /// Writes one record, joining what others wrote.
    async fn write(&self, mut unwritten: Unwritten) {
        let endpoint = unwritten.endpoint;
        let home = home_shard(endpoint, self.queue.state_shards());
        for _ in 0..CONFLICTS_MAX {
            let record = unwritten.state.to_record();
            match self.queue.put_endpoint(home, endpoint, unwritten.version, record).await {
                Ok(PutEndpoint::Written(version)) => {
                    return self.endpoints.written(&unwritten, version);
                }
                Ok(PutEndpoint::Conflict(other)) => {
                    self.endpoints.learn(endpoint, read(other), self.clock.now());
                    match self.endpoints.unwritten_of(endpoint) {
                        Some(joined) => unwritten = joined,
                        None => return,
                    }
                }
                Err(error) => {
                    failed(&error);
                    return self.endpoints.still_unwritten(endpoint);
                }
            }
        }
        self.endpoints.still_unwritten(endpoint);
    }

    /// Has the store hold the backlogs of endpoints that let nothing through.
    async fn hold(&self) {
        let now = self.clock.now();
        for change in self.endpoints.hold_changes(now) {
            let HoldChange { endpoint, until } = change;
            let hold = until.map(|until| until.saturating_since(now));
            for shard in 0..self.queue.shards() {
                if let Err(error) = self.queue.hold(Shard(shard), endpoint, hold).await {
                    return failed(&error);
                }
            }
            self.endpoints.held(change);
        }
    }
}

/// What somebody else wrote, with its version; a record of another layout is none.
fn read(other: Option<EndpointRecord>) -> Option<(u64, EndpointState)> {
    other.and_then(|record| EndpointState::read(&record.state).map(|state| (record.version, state)))
}

/// The lanes say aloud that the store fails; here it only means that sharing waits.
fn failed(error: &QueueError) {
    tracing::debug!(error = error as &dyn std::error::Error, "endpoint states cannot be shared now");
}
