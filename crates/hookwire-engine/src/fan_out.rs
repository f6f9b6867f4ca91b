//! One event: which deliveries it becomes, and what became of them.
//!
//! The task that handles an event and the lane that settles it share a [`Progress`]. While the event is not settled, the
//! task writes results there, and the lane takes all of them at once: the fast path costs no message. After 250 ms the
//! lane **cuts** the event off: what is finished is settled with it, what is not is stored as running, and the task
//! sends those results one by one.
//!
//! Invariant: each delivery's result is taken exactly once, either with its event or as one that came late.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hookwire_definitions::Route;
use hookwire_dispatch::Dispatch;
use hookwire_model::{
    AttemptError, DeadReason, DeliveryId, ErrorKind, Event, EventId, Ordering, Peeked, RuleName, Sequence,
    Shard, Timestamp, WaitingReason, Webhook, WebhookName,
};
use hookwire_queue::{EventFate, Fate, NewDelivery, Order};
use tokio::sync::mpsc;

use crate::deliver::{Finished, Past, deliver_guarded, panic_message};
use crate::{Clock, Metrics, Shared, Snapshot};

/// How many leases an event may lose before it is taken for one that takes its worker down.
const LOSSES_MAX: u32 = 5;

/// An event on its way through the worker.
pub(crate) struct Work {
    pub(crate) id: EventId,
    pub(crate) sequence: Sequence,
    pub(crate) payload: Bytes,
    pub(crate) accepted_at: Timestamp,
    pub(crate) losses: u32,
    /// Deliveries of a suspect that are on record already.
    pub(crate) recorded: Vec<DeliveryId>,
    /// Why the store says that it is not to be fanned out.
    pub(crate) refused: Option<String>,
}

/// A delivery that came to its end after its event was cut off.
pub(crate) struct Late {
    pub(crate) id: DeliveryId,
    pub(crate) finished: Finished,
}

/// What task and lane share of an event.
#[derive(Default)]
pub(crate) struct Progress(Mutex<State>);

/// What becomes of deliveries without a result when their event is settled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unfinished {
    /// They go on, leased for so long.
    Run(Duration),
    /// They wait.
    Wait,
    /// They were ended where they were: those of which something may have been sent are interrupted, and the others wait.
    Ended,
}

#[derive(Default)]
struct State {
    fanned_out: Option<FannedOut>,
    dead: Option<(DeliveryId, DeadReason, AttemptError)>,
    cut: bool,
}

struct FannedOut {
    event: Arc<str>,
    object_type: Arc<str>,
    slots: Vec<Slot>,
}

struct Slot {
    id: DeliveryId,
    rule: RuleName,
    webhook: WebhookName,
    order: Option<Order>,
    /// Whether anything of it may have been sent.
    begun: bool,
    finished: Option<Finished>,
}

impl Progress {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each section below leaves the state whole, so a panic elsewhere cannot have left it half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a result down, or hands it back if the event was cut off meanwhile.
    fn finish(&self, place: usize, finished: Finished) -> Option<Finished> {
        let mut state = self.lock();
        if state.cut {
            return Some(finished);
        }
        if let Some(fanned_out) = &mut state.fanned_out {
            fanned_out.slots[place].finished = Some(finished);
        }
        None
    }

    /// Something of a delivery may be sent from now on.
    fn begin(&self, place: usize) {
        if let Some(fanned_out) = &mut self.lock().fanned_out {
            fanned_out.slots[place].begun = true;
        }
    }

    /// Ends the sharing: what the event is settled with. The second member tells the deliveries that go on.
    ///
    /// `None`: it was not fanned out yet, and the sharing goes on.
    pub(crate) fn cut(&self, unfinished: Unfinished) -> Option<(EventFate, Vec<DeliveryId>)> {
        let mut state = self.lock();
        if let Some((id, reason, error)) = state.dead.take() {
            state.cut = true;
            return Some((EventFate::Dead { id, reason, error: Some(error) }, Vec::new()));
        }
        let FannedOut { event, object_type, slots } = state.fanned_out.take()?;
        state.cut = true;
        drop(state);
        let mut running = Vec::new();
        let deliveries = slots.into_iter().map(|slot| {
            let finished = slot.finished.unwrap_or_else(|| match unfinished {
                Unfinished::Run(lease) => {
                    running.push(slot.id);
                    Finished { endpoint: None, attempts: Vec::new(), fate: Fate::Running { lease } }
                }
                Unfinished::Ended if slot.begun => Finished::interrupted(),
                Unfinished::Ended | Unfinished::Wait => {
                    Finished::waits(None, Duration::ZERO, WaitingReason::Worker)
                }
            });
            NewDelivery {
                id: slot.id,
                rule: slot.rule,
                webhook: slot.webhook,
                endpoint: finished.endpoint,
                order: slot.order,
                attempts: finished.attempts,
                fate: finished.fate,
            }
        });
        let deliveries = deliveries.collect();
        Some((EventFate::FannedOut { event, object_type, deliveries }, running))
    }

    /// Marks an event dead whose task panicked outside all guards.
    pub(crate) fn panicked(&self, shard: Shard, work: (&EventId, Sequence), message: String) {
        let id = DeliveryId::of_event(shard, work.1, work.0);
        let error = AttemptError { kind: ErrorKind::Internal, message };
        let mut state = self.lock();
        state.fanned_out = None;
        state.dead = Some((id, DeadReason::Panic, error));
    }
}

/// A delivery to be made now.
struct Planned {
    /// Which of the event's deliveries it is.
    place: usize,
    id: DeliveryId,
    route: Route,
}

/// Fans an event out and makes the first attempts. Returns when every delivery has a result.
///
/// Cancel safety: what has no result in `progress` yet is cut off.
pub(crate) async fn handle_event<D: Dispatch, C: Clock>(
    shared: &Arc<Shared<D, C>>,
    shard: Shard,
    work: Work,
    progress: &Arc<Progress>,
    late: &mpsc::Sender<Late>,
) {
    if work.losses >= LOSSES_MAX {
        let message = format!(
            "{} workers that held this event died or lost it; look for a crash in their logs before redriving it",
            work.losses
        );
        let error = AttemptError { kind: ErrorKind::Internal, message };
        return bury(shard, &work, progress, DeadReason::PoisonEvent, error);
    }
    let snapshot = shared.in_force.snapshot();
    let planned = catch_unwind(AssertUnwindSafe(|| plan(&shared.metrics, &snapshot, shard, &work, progress)));
    let mut planned = match planned {
        Ok(Ok(planned)) => planned,
        Ok(Err((reason, error))) => return bury(shard, &work, progress, reason, error),
        Err(panic) => return progress.panicked(shard, (&work.id, work.sequence), panic_message(&*panic)),
    };
    if work.losses > 0 {
        // A suspect: it is rendered here, where it harms only this worker, and stored before anything is sent.
        for delivery in &planned {
            let rendered = catch_unwind(AssertUnwindSafe(|| {
                delivery
                    .route
                    .webhook
                    .prepare(&delivery.route.context, delivery.id, 1, shared.clock.now())
                    .is_ok()
            }));
            drop(rendered);
            let waits = Finished::waits(None, Duration::ZERO, WaitingReason::Worker);
            drop(progress.finish(delivery.place, waits));
        }
        return;
    }
    // What was read of it is all that is needed from here on: let the next event have the memory.
    let since = work.accepted_at;
    drop(work);
    let past = |id| Past { id, endpoint: None, attempts: 0, interrupted: 0, forgiven: 0, since };
    if planned.len() == 1 {
        let Planned { place, id, route } = planned.remove(0);
        let finished = deliver_guarded(shared, &snapshot, route, past(id), &|| progress.begin(place)).await;
        return report(progress, late, place, id, finished).await;
    }
    // The deliveries of one event run side by side: a slow one must not hold up its sisters. They share a task, because
    // one for each would cost more than a second processor gains while there are other events.
    let deliveries = planned.into_iter().map(|Planned { place, id, route }| {
        let (snapshot, past) = (&snapshot, past(id));
        async move {
            let finished = deliver_guarded(shared, snapshot, route, past, &|| progress.begin(place)).await;
            report(progress, late, place, id, finished).await;
        }
    });
    let mut deliveries: FuturesUnordered<_> = deliveries.collect();
    while deliveries.next().await.is_some() {}
}

/// Makes a dead letter of an event that has no deliveries.
fn bury(shard: Shard, work: &Work, progress: &Progress, reason: DeadReason, error: AttemptError) {
    let id = DeliveryId::of_event(shard, work.sequence, &work.id);
    tracing::warn!(event = %work.id, delivery = %id, %reason, error = error.message, "an event is a dead letter");
    progress.lock().dead = Some((id, reason, error));
}

/// The place of an event's deliveries to a webhook in the order of its object, where the webhook asks for order.
fn order_of(event: &Event, webhook: &Webhook) -> Option<Order> {
    let object_id = match webhook.ordering {
        Ordering::None => return None,
        Ordering::Object => event.object_id.as_ref()?,
    };
    // Names hold no control characters, so that no two keys run together.
    let key = format!("{}\n{}\n{object_id}", webhook.name, event.object_type.as_str());
    Some(Order { key: key.into(), on_failure: webhook.on_failure })
}

/// Puts a result where the lane finds it.
async fn report(
    progress: &Progress,
    late: &mpsc::Sender<Late>,
    place: usize,
    id: DeliveryId,
    finished: Finished,
) {
    if let Some(finished) = progress.finish(place, finished) {
        // The lane lives as long as its tasks; if it is gone, so is the reason to report.
        let _ = late.send(Late { id, finished }).await;
    }
}

/// Which deliveries the event becomes; they stand in `progress` when this returns.
fn plan(
    metrics: &Metrics,
    snapshot: &Snapshot,
    shard: Shard,
    work: &Work,
    progress: &Progress,
) -> Result<Vec<Planned>, (DeadReason, AttemptError)> {
    let unreadable =
        |message| (DeadReason::UnreadableEvent, AttemptError { kind: ErrorKind::Event, message });
    if let Some(refused) = &work.refused {
        return Err(unreadable(refused.clone()));
    }
    let definitions = snapshot.definitions();
    if let Some(Peeked { event, matched_type, object_type }) = Event::peek(&work.payload)
        && !definitions.any_about(object_type, matched_type)
    {
        let (event, object_type) = (event.into(), object_type.into());
        progress.lock().fanned_out = Some(FannedOut { event, object_type, slots: Vec::new() });
        return Ok(Vec::new());
    }
    let event = Event::from_payload(&work.payload)
        .map_err(|error| unreadable(format!("the event cannot be read: {error}")))?;
    let event = Arc::new(event);
    let mut planned = Vec::new();
    let mut slots = Vec::new();
    let fan_out = definitions.fan_out(&event);
    for (rule, error) in &fan_out.errors {
        metrics.condition_error(rule);
        // It does not match, event after event, until the rule is mended; `hookwire explain` says the same at leisure.
        tracing::debug!(event = %work.id, %rule, error = %error, "a condition cannot be evaluated; its rule does not match");
    }
    for route in fan_out.routes {
        let (rule, webhook) = (&route.rule, &route.webhook.webhook().name);
        let id = DeliveryId::derive(shard, work.sequence, &work.id, rule, webhook);
        if work.recorded.contains(&id) {
            continue;
        }
        // Ordered ones go by way of the store, which knows whether something is before them. Where it is known without
        // rendering, they count in the backlog of their endpoint from the beginning.
        let order = order_of(&event, route.webhook.webhook());
        let waits =
            || Finished::waits(snapshot.literal_endpoint(webhook), Duration::ZERO, WaitingReason::Order);
        let finished = order.is_some().then(waits);
        let ordered = finished.is_some();
        slots.push(Slot { id, rule: rule.clone(), webhook: webhook.clone(), order, begun: false, finished });
        if ordered {
            continue;
        }
        planned.push(Planned { place: slots.len() - 1, id, route });
    }
    progress.lock().fanned_out = Some(FannedOut {
        event: Arc::clone(&event.event),
        object_type: event.object_type.as_str().into(),
        slots,
    });
    Ok(planned)
}
