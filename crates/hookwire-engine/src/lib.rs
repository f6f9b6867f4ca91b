//! The loops of hookwire: lease, fan out, deliver, settle; bounded everywhere.
//!
//! [`run`] drives one lane per shard of the queue. A lane leases events in batches, and gives each to one of its hands: a
//! task that matches the event's rules, renders, signs and sends what they ask for, and decides what comes next. The lane
//! settles whatever is finished in one call. What cannot be finished at once is stored, so that nothing slow stands in the
//! fast path, and leased again when it is due and its endpoint has room.
//!
//! Invariants:
//! - An event is never acknowledged while a delivery of it is neither finished nor stored: both are one settlement.
//! - The engine is generic over queue, dispatcher and clock, and draws from one seeded random source; it runs on a
//!   current-thread runtime too, and never iterates a map whose order is chance.
//! - Dropping the future of [`run`] is a crash of the worker: nothing is tidied up on the way out.
//!
//! Absences: this crate names no backend, reads no files, and knows nothing of HTTP beyond a prepared request.

mod clock;
mod deliver;
mod endpoint_state;
mod endpoints;
mod fan_out;
mod hands;
mod in_force;
mod keeper;
mod lane;
mod metrics;
mod migrate;
mod operate;
mod outage;
mod publish;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookwire_dispatch::Dispatch;
use hookwire_model::{EndpointId, Shard};
use hookwire_queue::{Inspect, Queue, QueueError, WorkerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use clock::{Chance, Clock, SystemClock};
pub use endpoint_state::{EndpointState, PausedBy, home_shard};
pub use in_force::{InForce, RefusedReload, ReloadState};
pub use metrics::Metrics;
pub use migrate::{MigrateError, Migrated, migrate};
pub use operate::{
    Endpoint, EndpointAct, OperateError, WAITING_FOR, act_on_endpoint, count_waiting, list_endpoints,
    pause_webhook, tell_what_holds,
};
pub use publish::{Batch, Receipt, publish};
pub use snapshot::{Snapshot, SnapshotError};

use endpoints::Endpoints;
use keeper::{Claim, Keeper};
use lane::Lane;
use outage::{Lasting, Outage};

/// How often to look whether a store has more shards than it had: each has a loop of its own.
const SHARDS_LOOK: Duration = Duration::from_secs(2);
/// How long a store that failed is left alone before it is asked once more what waits.
const STATS_PAUSE: Duration = Duration::from_secs(1);

/// How a worker works.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Who this worker is; unique for each start of a process.
    pub worker: WorkerId,
    /// Attempts in flight at most.
    pub concurrency: usize,
    /// How long a lease lasts; it is renewed at a third while work is in flight.
    pub lease: Duration,
    /// How long attempts in flight may go on after a shutdown was asked for; `None`: as long as the definitions that
    /// are in force then make it ([`Definitions::grace`](hookwire_definitions::Definitions::grace)).
    pub grace: Option<Duration>,
    /// End when nothing is due any more.
    pub until_idle: bool,
    /// Whether the record keeps the bodies that were sent.
    pub keep_bodies: bool,
    /// How long a delivery may wait until it becomes a dead letter.
    pub backlog_age_max: Duration,
}

/// What an engine works with.
pub struct Engine<Q, D, C> {
    /// Where work comes from and results go.
    pub queue: Arc<Q>,
    /// Makes attempts.
    pub dispatcher: Arc<D>,
    /// Tells the time for records.
    pub clock: C,
    /// Draws the jitter.
    pub chance: Chance,
    /// The definitions in force.
    pub in_force: Arc<InForce>,
    /// What it counts.
    pub metrics: Metrics,
    /// How to work.
    pub settings: EngineSettings,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Some deliveries wait for a later time.
    pub waits_for_later: bool,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed in a way that does not pass by itself.
    #[error("the store failed")]
    Store(#[source] QueueError),
    /// The loop itself panicked: a fault in hookwire. Leases run out, and another worker goes on.
    #[error("the worker's loop {0}")]
    Panicked(String),
}

/// What the tasks of an engine share.
pub(crate) struct Shared<D, C> {
    pub(crate) dispatcher: Arc<D>,
    pub(crate) clock: Arc<C>,
    pub(crate) chance: Chance,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) metrics: Metrics,
    pub(crate) settings: EngineSettings,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) outage: Outage,
    /// Attempts that cannot be made, for want of a socket.
    pub(crate) starved: Lasting,
    claims: mpsc::Sender<Claim>,
}

impl<D, C> Shared<D, C> {
    /// Whether this worker makes the probe of an endpoint. Where nobody can be asked, it does: a probe too many does
    /// less harm than none.
    pub(crate) async fn claim(&self, endpoint: EndpointId) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.claims.send(Claim { endpoint, reply }).await.is_err() {
            return true;
        }
        answer.await.unwrap_or(true)
    }
}

/// How long a starting worker waits before it asks a store again that fails: nothing else can be done meanwhile.
const FIRST_LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Runs until `shutdown` is cancelled and the work in flight has ended or the grace period is over; with `until_idle`
/// until nothing is due.
///
/// Cancel safety: dropping the future is a crash of this worker. Nothing is lost; attempts in flight may be repeated.
///
/// # Errors
/// [`EngineError`] if the store fails in a way that does not pass by itself. A store that is away for a while is waited
/// for.
pub async fn run<Q, D, C>(
    engine: Engine<Q, D, C>,
    shutdown: CancellationToken,
) -> Result<Summary, EngineError>
where
    Q: Queue + Inspect,
    D: Dispatch,
    C: Clock,
{
    let Engine { queue, dispatcher, clock, chance, in_force, metrics, settings } = engine;
    let clock = Arc::new(clock);
    let endpoints = Endpoints::new(settings.concurrency);
    // A probe waits for its turn: there are few at a time.
    let (claims, claimed) = mpsc::channel(16);
    let mut keeper = Keeper {
        endpoints: Arc::clone(&endpoints),
        queue: Arc::clone(&queue),
        clock: Arc::clone(&clock),
        claims: claimed,
        metrics: metrics.clone(),
        backlog_age_max: settings.backlog_age_max,
        seen: BTreeMap::new(),
    };
    // Nothing goes out before it is known what must not: to a paused endpoint, or past an open breaker.
    while let Err(error) = keeper.look().await {
        if !error.is_transient() {
            return Err(EngineError::Store(error));
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the store does not tell about endpoints; asking again before anything is sent"
        );
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Summary::default()),
            () = tokio::time::sleep(FIRST_LOOK_PAUSE) => {}
        }
    }
    let kept = CancellationToken::new();
    let mut keeping = JoinSet::new();
    keeping.spawn(keeper.run(kept.clone()));
    let until_idle = settings.until_idle;
    let shared = Arc::new(Shared {
        dispatcher,
        clock,
        chance,
        in_force,
        metrics,
        settings,
        endpoints,
        outage: Outage::default(),
        starved: Lasting::default(),
        claims,
    });
    let mut lanes = JoinSet::new();
    let mut begun = 0;
    let mut summary = Summary::default();
    loop {
        // There are more when the number of shards was changed.
        for shard in begun..queue.shards() {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            lanes.spawn(Lane::new(shared, queue, Shard(shard), shutdown.clone()).run());
        }
        begun = queue.shards();
        let ended = tokio::select! {
            ended = lanes.join_next() => ended,
            () = tokio::time::sleep(SHARDS_LOOK) => continue,
        };
        let Some(ended) = ended else { break };
        let lane =
            ended.map_err(|error| EngineError::Panicked(deliver::panic_message(&*error.into_panic())))??;
        summary.waits_for_later |= lane.waits_for_later;
    }
    kept.cancel();
    while keeping.join_next().await.is_some() {}
    if until_idle {
        // What an endpoint keeps back is due and does not go out.
        for shard in 0..queue.shards() {
            let waiting = loop {
                match queue.stats(Shard(shard)).await {
                    Ok(stats) => break stats.waiting + stats.events_queued > 0,
                    Err(error) if error.is_transient() && !shutdown.is_cancelled() => {
                        tokio::time::sleep(STATS_PAUSE).await;
                    }
                    Err(error) => return Err(EngineError::Store(error)),
                }
            };
            summary.waits_for_later |= waiting;
        }
    }
    Ok(summary)
}
