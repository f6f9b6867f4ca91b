//! One delivery, one attempt: render, sign, send, decide.
//!
//! Invariants:
//! - A [`Room`] is held while a request may be on the wire, and no longer.
//! - Whatever happens, the result says what is to be stored; nothing here writes anything.
//! - A panic in a template or a decision ends this delivery as a dead letter, and nothing else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hookwire_definitions::{CompiledWebhook, Route};
use hookwire_dispatch::Dispatch;
use hookwire_model::{
    Attempt, AttemptError, DeadReason, DeliveryId, EndpointId, ErrorKind, Outcome, OutcomeKind,
    PreparedRequest, TemplateContext, Timestamp, Timings, WaitingReason, WebhookName,
};
use hookwire_policy::{Attempted, Decision, Due, Verdict};
use hookwire_queue::{Fate, PackedAttempt};
use tokio::time::Instant;

use crate::endpoints::{Entrance, PLACE_WAIT_MAX, Room, SHUT_FOR};
use crate::{Clock, Metrics, Shared, Snapshot};

/// What is known of a delivery before its attempt.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) id: DeliveryId,
    /// The endpoint that it rendered to last.
    pub(crate) endpoint: Option<EndpointId>,
    /// Attempts made so far, interrupted ones among them.
    pub(crate) attempts: u32,
    /// How many of them were interrupted.
    pub(crate) interrupted: u32,
    /// How many no longer count towards giving up.
    pub(crate) forgiven: u32,
    /// From when its age counts.
    pub(crate) since: Timestamp,
}

/// What is to be stored of a delivery.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) attempts: Vec<PackedAttempt>,
    pub(crate) fate: Fate,
}

impl Finished {
    /// It waits, and no attempt was made.
    pub(crate) fn waits(endpoint: Option<EndpointId>, due_in: Duration, reason: WaitingReason) -> Self {
        Finished { endpoint, attempts: Vec::new(), fate: Fate::Waiting { due_in, reason } }
    }

    /// Its attempt was ended, and what came of it is unknown: the store counts it as interrupted, as that of a worker
    /// whose lease ran out.
    pub(crate) fn interrupted() -> Self {
        Finished { endpoint: None, attempts: Vec::new(), fate: Fate::Running { lease: Duration::ZERO } }
    }

    /// It ends as a dead letter without a further attempt.
    fn dead(reason: DeadReason) -> Self {
        Finished { endpoint: None, attempts: Vec::new(), fate: Fate::Dead { reason, error: None } }
    }

    /// It ends as a dead letter without an attempt, because the worker broke an assumption of its own.
    pub(crate) fn panicked(endpoint: Option<EndpointId>, message: String) -> Self {
        let error = Some(AttemptError { kind: ErrorKind::Internal, message });
        Finished { endpoint, attempts: Vec::new(), fate: Fate::Dead { reason: DeadReason::Panic, error } }
    }
}

/// A delivery whose webhook is disabled, or not among the definitions in force.
pub(crate) fn unavailable<D, C: Clock>(
    shared: &Shared<D, C>,
    endpoint: Option<EndpointId>,
    webhook: &WebhookName,
    reason: WaitingReason,
) -> Finished {
    if let Some(endpoint) = endpoint {
        let now = shared.clock.now();
        shared.endpoints.shut(endpoint, webhook, now);
    }
    Finished::waits(endpoint, SHUT_FOR, reason)
}

/// Makes one attempt, if there is room for it, and decides what comes next. A panic on the way is the delivery's end.
/// `begin` is called before anything of it may be sent.
///
/// Cancel safety: dropping it cuts the attempt off, which is then unknown to the record.
pub(crate) async fn deliver_guarded<D: Dispatch, C: Clock>(
    shared: &Arc<Shared<D, C>>,
    snapshot: &Snapshot,
    route: Route,
    past: Past,
    begin: &(dyn Fn() + Sync),
) -> Finished {
    let id = past.id;
    AssertUnwindSafe(deliver(shared, snapshot, route, past, begin)).catch_unwind().await.unwrap_or_else(
        |panic| {
            let message = panic_message(&*panic);
            tracing::error!(delivery = %id, message, "a delivery ends as a dead letter");
            Finished::panicked(None, message)
        },
    )
}

async fn deliver<D: Dispatch, C: Clock>(
    shared: &Arc<Shared<D, C>>,
    snapshot: &Snapshot,
    route: Route,
    past: Past,
    begin: &(dyn Fn() + Sync),
) -> Finished {
    let Route { webhook, context, .. } = route;
    if !webhook.webhook().enabled {
        let endpoint = past.endpoint.or_else(|| snapshot.literal_endpoint(&webhook.webhook().name));
        return unavailable(shared, endpoint, &webhook.webhook().name, WaitingReason::WebhookDisabled);
    }
    let mut started_at = shared.clock.now();
    let mut request = match prepare(shared, &webhook, &context, &past, started_at) {
        Ok(request) => request,
        Err(finished) => return finished,
    };
    let endpoint = snapshot.endpoint(&webhook.webhook().name, &request.authority);
    let mut until = None;
    let entrance = loop {
        let entrance = shared.endpoints.enter(endpoint, webhook.webhook(), &request.authority, started_at);
        if !matches!(entrance, Entrance::Full) {
            break entrance;
        }
        let until = *until.get_or_insert_with(|| Instant::now() + PLACE_WAIT_MAX);
        if !shared.endpoints.place(until).await {
            break entrance;
        }
        started_at = shared.clock.now();
    };
    let room = match entrance {
        Entrance::Room(room) => room,
        Entrance::Probe(room) if shared.claim(endpoint).await => {
            // The store took its time: what was due then may be too old by now, and its signature would be.
            started_at = shared.clock.now();
            request = match prepare(shared, &webhook, &context, &past, started_at) {
                Ok(request) => request,
                Err(finished) => return finished,
            };
            room
        }
        Entrance::Probe(_) => {
            return Finished::waits(Some(endpoint), Duration::ZERO, WaitingReason::Unhealthy);
        }
        Entrance::Full => return Finished::waits(Some(endpoint), Duration::ZERO, WaitingReason::Room),
        // It is the worker that has no place. With the endpoint's own backlog, and what that may hold, it has nothing to
        // do.
        Entrance::Aside => return Finished::waits(None, Duration::ZERO, WaitingReason::Worker),
        Entrance::Refused(reason) => return Finished::waits(Some(endpoint), Duration::ZERO, reason),
    };
    // While the request is under way, others may have the memory that the event took.
    drop(context);
    // Those that were begun together are sent together, after all of them were rendered. Either takes more code than the
    // nearest caches hold, and by turns each delivery would fetch all of it anew.
    tokio::task::yield_now().await;
    begin();
    let in_flight = InFlight::new(&shared.metrics);
    let report = shared.dispatcher.attempt(&request, snapshot.options(&webhook.webhook().name)).await;
    drop(in_flight);
    let outcome = report.outcome.clone();
    let record = hookwire_dispatch::record(&request, shared.settings.keep_bodies);
    let attempt = report.into_attempt(past.attempts + 1, started_at, Some(record));
    conclude(shared, &webhook, &past, Some((endpoint, room)), attempt, &outcome, true)
}

/// Makes the request of the next attempt, if there is one to be made now.
fn prepare<D: Dispatch, C: Clock>(
    shared: &Shared<D, C>,
    webhook: &CompiledWebhook,
    context: &TemplateContext,
    past: &Past,
    now: Timestamp,
) -> Result<PreparedRequest, Finished> {
    let counted = past.attempts.saturating_sub(past.forgiven);
    let known = hookwire_policy::Past::new(past.attempts, past.interrupted);
    let due = hookwire_policy::before_attempt(counted, known, past.since, now, &webhook.webhook().retry);
    if let Due::DeadLetter(reason) = due {
        return Err(Finished::dead(reason));
    }
    let number = past.attempts + 1;
    webhook.prepare(context, past.id, number, now).map_err(|error| {
        let outcome = Outcome::Unsent(error.attempt_error());
        let attempt = unsent(number, now, error.attempt_error());
        conclude(shared, webhook, past, None, attempt, &outcome, error.rendered())
    })
}

/// An attempt on the wire, counted as long as this lives.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Decides, and says so in the log.
fn conclude<D: Dispatch, C: Clock>(
    shared: &Shared<D, C>,
    webhook: &CompiledWebhook,
    past: &Past,
    place: Option<(EndpointId, Room)>,
    attempt: Attempt,
    outcome: &Outcome,
    rendered: bool,
) -> Finished {
    let now = shared.clock.now();
    let attempted = Attempted {
        outcome,
        rendered,
        attempts: attempt.number.saturating_sub(past.forgiven),
        accepted_at: past.since,
        now,
        policy: &webhook.webhook().retry,
        jitter: shared.chance.draw(),
    };
    let Verdict { decision, endpoint: effect } = hookwire_policy::decide(&attempted);
    let endpoint = place.map(|(endpoint, room)| {
        room.leave(effect, now);
        endpoint
    });
    let fate = match decision {
        Decision::Done => Fate::Delivered,
        Decision::RetryAfter(due_in) => Fate::Waiting { due_in, reason: WaitingReason::Retry },
        Decision::DeadLetter(reason) => Fate::Dead { reason, error: None },
        Decision::NotMade(due_in) => {
            if shared.starved.is_news() {
                let error = attempt.error.as_ref().map(|error| error.message.as_str());
                tracing::warn!(
                    webhook = %webhook.webhook().name,
                    error,
                    "no attempt can be made now; raise the limit on open files, or lower worker.concurrency, if this \
                     goes on"
                );
            }
            return Finished::waits(endpoint, due_in, WaitingReason::Worker);
        }
    };
    let delivered = (decision == Decision::Done).then(|| now.saturating_since(past.since));
    shared.metrics.attempt(&webhook.webhook().name, attempt.outcome, attempt.duration, delivered);
    log_attempt(past, &webhook.webhook().name, &attempt, &fate);
    Finished { endpoint, attempts: vec![PackedAttempt::from(&attempt)], fate }
}

/// What went well is told at `debug`: a line for each delivery would cost more than it tells.
fn log_attempt(past: &Past, webhook: &WebhookName, attempt: &Attempt, fate: &Fate) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                delivery = %past.id,
                %webhook,
                attempt = attempt.number,
                outcome = attempt.outcome.as_str(),
                status = attempt.status,
                error = attempt.error.as_ref().map(|error| error.message.as_str()),
                duration_ms = attempt.duration.as_micros() as f64 / 1000.0,
                decision = fate_word(fate),
                "attempt",
            )
        };
    }
    match fate {
        Fate::Delivered | Fate::Running { .. } => log!(debug),
        Fate::Waiting { .. } => log!(info),
        Fate::Dead { .. } => log!(warn),
    }
}

fn fate_word(fate: &Fate) -> &'static str {
    match fate {
        Fate::Delivered => "done",
        Fate::Dead { reason, .. } => reason.as_str(),
        Fate::Waiting { .. } => "retry",
        Fate::Running { .. } => "running",
    }
}

/// The record of an attempt of which nothing went out.
fn unsent(number: u32, started_at: Timestamp, error: AttemptError) -> Attempt {
    Attempt {
        number,
        started_at,
        duration: Duration::ZERO,
        outcome: OutcomeKind::Unsent,
        status: None,
        error: Some(error),
        address: None,
        hops: Vec::new(),
        timings: Timings::default(),
        request: None,
        response: None,
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", said.unwrap_or_else(|| "no message".to_owned()))
}
