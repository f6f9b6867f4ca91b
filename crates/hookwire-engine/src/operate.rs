//! What people see of endpoints, and do to them: list, pause, resume, probe.
//!
//! It goes by way of the store, so that it works from a server, from a command beside one, and where no worker runs.
//!
//! Invariants:
//! - What was done is in the store when the call returns; backlogs are held, or let go, at once. A worker that is running
//!   knows of it within two seconds.
//! - Nothing here drops a delivery.

use std::collections::{BTreeMap, BTreeSet};

use hookwire_definitions::Definitions;
use hookwire_model::{Delivery, EndpointId, Shard, Timestamp, WaitingReason, WebhookName};
use hookwire_queue::{Backlog, DeliveryFilter, EndpointRecord, Inspect, PutEndpoint, Queue, QueueError};
use serde::{Deserialize, Serialize};

use crate::endpoint_state::{EndpointState, PausedBy, home_shard};
use crate::endpoints::PAUSE_HOLD;

/// Conflicts in a row before it is given up: a worker writes a few times a second at most.
const CONFLICTS_MAX: usize = 20;

/// An endpoint as people see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its webhook.
    pub webhook: WebhookName,
    /// Scheme, host and port.
    pub authority: String,
    /// `closed`: deliveries go out. `open`: it failed, and nothing goes out but a probe now and then. `half_open`: a
    /// probe is on its way. `paused`: nothing goes out until it is resumed.
    pub state: String,
    /// Who paused it, where it is paused.
    pub paused_by: Option<PausedBy>,
    /// Since when it is paused.
    pub paused_since: Option<Timestamp>,
    /// Attempts per second that it is held to, because it asked for less or was down; `None` without such a limit.
    pub rate: Option<f64>,
    /// Not before then: a probe is due, or the silence that it asked for ends.
    pub waits_until: Option<Timestamp>,
    /// Deliveries that wait for it.
    pub waiting: u64,
}

/// What to do to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointAct {
    /// Let nothing through until it is resumed; the backlog is kept.
    Pause,
    /// End a pause, whoever began it; the backlog goes out at a rate that grows.
    Resume,
    /// Let one attempt through now, where the breaker is open.
    Probe,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// No endpoint has this id.
    #[error("no endpoint has the id {0}; `hookwire endpoints list` shows those there are")]
    UnknownEndpoint(EndpointId),
    /// No webhook has this name.
    #[error("no webhook has the name {0} in the definitions in force")]
    UnknownWebhook(WebhookName),
    /// A probe of an endpoint that is paused.
    #[error("the endpoint {0} is paused; resume it instead")]
    Paused(EndpointId),
    /// A probe of an endpoint whose webhook is paused.
    #[error("the webhook {0} is paused; resume it instead")]
    WebhookPaused(WebhookName),
    /// Others wrote at the same time, again and again.
    #[error("the endpoint {0} is being changed by others at this moment; try again")]
    Contended(EndpointId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] QueueError),
}

/// All endpoints that something is known of, by webhook and id: those of webhooks without a template in their URL, and
/// those that have been in trouble.
///
/// # Errors
/// [`QueueError`] if the store cannot be read.
///
/// Cancel safety: it changes nothing.
pub async fn list_endpoints<Q: Queue + Inspect>(
    queue: &Q,
    definitions: &Definitions,
    now: Timestamp,
) -> Result<Vec<Endpoint>, QueueError> {
    let mut states = literal_endpoints(definitions);
    let paused_webhooks = read_states(queue, &mut states).await?;
    let backlogs = backlogs(queue).await?;
    let mut endpoints = Vec::with_capacity(states.len());
    for (id, state) in states {
        let waiting = backlogs.get(&id).copied().unwrap_or(0);
        let paused_since = state.health.paused_since();
        let by_webhook = paused_webhooks.get(&state.webhook).copied();
        let word = match paused_since.or(by_webhook) {
            Some(_) => "paused",
            None => state.health.circuit(),
        };
        endpoints.push(Endpoint {
            id,
            webhook: state.webhook,
            authority: state.authority.unwrap_or_default(),
            state: word.to_owned(),
            paused_by: match (paused_since, by_webhook) {
                (Some(_), _) => state.paused_by,
                (None, Some(_)) => Some(PausedBy::Webhook),
                (None, None) => None,
            },
            paused_since: paused_since.or(by_webhook),
            rate: state.health.rate(),
            waits_until: state.health.waits_until(now),
            waiting,
        });
    }
    endpoints.sort_by(|a, b| (&a.webhook, a.id).cmp(&(&b.webhook, b.id)));
    Ok(endpoints)
}

/// What waiting deliveries wait for, by the present state of their endpoints: words of [`WaitingReason`], where `retry`
/// stands for all that only wait for their time or turn.
pub const WAITING_FOR: [WaitingReason; 6] = [
    WaitingReason::Retry,
    WaitingReason::RateLimit,
    WaitingReason::Unhealthy,
    WaitingReason::Paused,
    WaitingReason::WebhookDisabled,
    WaitingReason::WebhookRemoved,
];

/// Counts what deliveries wait for now, in the order of [`WAITING_FOR`]. `waiting` is how many wait in all.
///
/// An endpoint that nothing is known of is taken for a healthy one where there are webhooks whose authority is a
/// template, and otherwise for one of a webhook that was removed.
///
/// # Errors
/// [`QueueError`] if the store cannot be read.
///
/// Cancel safety: it changes nothing.
pub async fn count_waiting<Q: Queue + Inspect>(
    queue: &Q,
    definitions: &Definitions,
    waiting: u64,
    now: Timestamp,
) -> Result<[u64; WAITING_FOR.len()], QueueError> {
    let backlogs = backlogs(queue).await?;
    let mut states = literal_endpoints(definitions);
    let paused_webhooks = read_states(queue, &mut states).await?;
    let holds = Holds { states, paused_webhooks, definitions: Some(definitions) };
    let any_template = definitions.webhooks().any(|webhook| webhook.literal_authority().is_none());
    let unknown = if any_template { WaitingReason::Retry } else { WaitingReason::WebhookRemoved };
    let mut counts = [0; WAITING_FOR.len()];
    let mut count = |reason: WaitingReason, deliveries: u64| {
        let place = WAITING_FOR.iter().position(|word| *word == reason);
        counts[place.expect("each reason here is one of them")] += deliveries;
    };
    for (id, deliveries) in &backlogs {
        let reason = holds.states.get(id).map(|state| holds.reason(&state.webhook, Some(*id), now));
        count(reason.map_or(unknown, |reason| reason.unwrap_or(WaitingReason::Retry)), *deliveries);
    }
    // Those without an endpoint. Counted at another moment, there may have been fewer.
    count(WaitingReason::Retry, waiting.saturating_sub(backlogs.values().sum()));
    Ok(counts)
}

/// Tells of waiting deliveries what holds them back at this moment, where that is another thing than when they were stored:
/// a pause that came since, a receiver that failed since. `definitions`: those in force, where that is known.
///
/// # Errors
/// [`QueueError`] if the store cannot be read.
///
/// Cancel safety: it changes nothing in the store.
pub async fn tell_what_holds<Q: Queue + Inspect>(
    queue: &Q,
    definitions: Option<&Definitions>,
    deliveries: &mut [Delivery],
    now: Timestamp,
) -> Result<(), QueueError> {
    // One that waits for its turn goes by what the first of its order waits for.
    let waits =
        |delivery: &Delivery| delivery.waiting_reason.is_some_and(|reason| reason != WaitingReason::Order);
    if !deliveries.iter().any(waits) {
        return Ok(());
    }
    let mut states = BTreeMap::new();
    let paused_webhooks = read_states(queue, &mut states).await?;
    let holds = Holds { states, paused_webhooks, definitions };
    for delivery in deliveries.iter_mut().filter(|delivery| waits(delivery)) {
        let Some(webhook) = &delivery.webhook else { continue };
        let reason = holds.reason(webhook, delivery.endpoint, now);
        let is_due = delivery.next_attempt_at.is_none_or(|due| due <= now);
        // Before its time comes, it waits for that.
        if reason.is_some_and(|reason| {
            is_due || !matches!(reason, WaitingReason::Unhealthy | WaitingReason::RateLimit)
        }) {
            delivery.waiting_reason = reason;
        }
    }
    Ok(())
}

/// What may hold deliveries back.
struct Holds<'d> {
    states: BTreeMap<EndpointId, EndpointState>,
    /// With the time since when.
    paused_webhooks: BTreeMap<WebhookName, Timestamp>,
    definitions: Option<&'d Definitions>,
}

impl Holds<'_> {
    /// What holds deliveries of a webhook to an endpoint back now; `None`: they wait for their time or turn only.
    fn reason(
        &self,
        webhook: &WebhookName,
        endpoint: Option<EndpointId>,
        now: Timestamp,
    ) -> Option<WaitingReason> {
        let health = endpoint.and_then(|id| self.states.get(&id)).map(|state| &state.health);
        if self.paused_webhooks.contains_key(webhook) || health.is_some_and(|health| health.is_paused()) {
            return Some(WaitingReason::Paused);
        }
        match self.definitions.map(|definitions| definitions.webhook(webhook)) {
            Some(None) => return Some(WaitingReason::WebhookRemoved),
            Some(Some(definition)) if !definition.webhook().enabled => {
                return Some(WaitingReason::WebhookDisabled);
            }
            Some(Some(_)) | None => {}
        }
        let health = health?;
        if health.circuit() != "closed" {
            Some(WaitingReason::Unhealthy)
        } else {
            let is_slowed = health.rate().is_some() || health.waits_until(now).is_some();
            is_slowed.then_some(WaitingReason::RateLimit)
        }
    }
}

/// Adds the states that the store has to those that are known, and tells which webhooks are paused, and since when.
async fn read_states<Q: Queue + Inspect>(
    queue: &Q,
    states: &mut BTreeMap<EndpointId, EndpointState>,
) -> Result<BTreeMap<WebhookName, Timestamp>, QueueError> {
    let mut paused_webhooks = BTreeMap::new();
    for shard in 0..queue.state_shards() {
        for EndpointRecord { id, state, .. } in queue.endpoints(Shard(shard)).await? {
            let Some(state) = EndpointState::read(&state) else { continue };
            if state.authority.is_some() {
                states.insert(id, state);
            } else if let Some(since) = state.health.paused_since() {
                paused_webhooks.insert(state.webhook, since);
            }
        }
    }
    Ok(paused_webhooks)
}

/// Acts on one endpoint.
///
/// # Errors
/// [`OperateError`]; then nothing was done, or the store could not be asked to hold the backlog or let it go, which a
/// worker makes up for.
///
/// Cancel safety: dropped, it may have been done.
pub async fn act_on_endpoint<Q: Queue + Inspect>(
    queue: &Q,
    definitions: &Definitions,
    id: EndpointId,
    act: EndpointAct,
    now: Timestamp,
) -> Result<(), OperateError> {
    let home = home_shard(id, queue.state_shards());
    for _ in 0..CONFLICTS_MAX {
        let record = queue.endpoint(home, id).await?;
        let version = record.as_ref().map_or(0, |record| record.version);
        let known = record.and_then(|record| EndpointState::read(&record.state));
        let mut state = match known.or_else(|| literal_endpoints(definitions).remove(&id)) {
            Some(state) => state,
            None => from_deliveries(queue, id).await?.ok_or(OperateError::UnknownEndpoint(id))?,
        };
        match act {
            EndpointAct::Pause => state.pause(PausedBy::Person, now),
            EndpointAct::Resume => state.resume(now),
            EndpointAct::Probe if state.health.is_paused() => return Err(OperateError::Paused(id)),
            EndpointAct::Probe if is_webhook_paused(queue, &state.webhook).await? => {
                return Err(OperateError::WebhookPaused(state.webhook));
            }
            EndpointAct::Probe => state.health.probe(now),
        }
        match queue.put_endpoint(home, id, version, state.to_record()).await? {
            PutEndpoint::Written(_) => return Ok(hold(queue, id, act == EndpointAct::Pause).await?),
            PutEndpoint::Conflict(_) => {}
        }
    }
    Err(OperateError::Contended(id))
}

/// Whether a person paused a whole webhook.
async fn is_webhook_paused<Q: Queue + Inspect>(queue: &Q, webhook: &WebhookName) -> Result<bool, QueueError> {
    let id = EndpointId::of_webhook(webhook);
    let record = queue.endpoint(home_shard(id, queue.state_shards()), id).await?;
    let state = record.and_then(|record| EndpointState::read(&record.state));
    Ok(state.is_some_and(|state| state.health.is_paused()))
}

/// Pauses or resumes a whole webhook: all its endpoints, those that nobody has met yet among them.
///
/// # Errors
/// As for [`act_on_endpoint`].
///
/// Cancel safety: dropped, it may have been done.
pub async fn pause_webhook<Q: Queue + Inspect>(
    queue: &Q,
    definitions: &Definitions,
    webhook: &WebhookName,
    pause: bool,
    now: Timestamp,
) -> Result<(), OperateError> {
    let id = EndpointId::of_webhook(webhook);
    let home = home_shard(id, queue.state_shards());
    let mut written = false;
    for _ in 0..CONFLICTS_MAX {
        let record = queue.endpoint(home, id).await?;
        if record.is_none() && definitions.webhook(webhook).is_none() {
            return Err(OperateError::UnknownWebhook(webhook.clone()));
        }
        let version = record.as_ref().map_or(0, |record| record.version);
        let known = record.and_then(|record| EndpointState::read(&record.state));
        let mut state = known.unwrap_or_else(|| EndpointState::new(webhook.clone(), None));
        if pause {
            state.pause(PausedBy::Person, now);
        } else {
            state.resume(now);
        }
        if let PutEndpoint::Written(_) = queue.put_endpoint(home, id, version, state.to_record()).await? {
            written = true;
            break;
        }
    }
    if !written {
        return Err(OperateError::Contended(id));
    }
    let mut ids: BTreeSet<EndpointId> = literal_endpoints(definitions)
        .into_iter()
        .filter(|(_, state)| state.webhook == *webhook)
        .map(|(id, _)| id)
        .collect();
    for shard in 0..queue.state_shards() {
        for EndpointRecord { id, state, .. } in queue.endpoints(Shard(shard)).await? {
            let state = EndpointState::read(&state)
                .filter(|state| state.webhook == *webhook && state.authority.is_some());
            match state {
                // One that was paused by itself stays so.
                Some(state) if !pause && state.health.is_paused() => {
                    ids.remove(&id);
                }
                Some(_) => {
                    ids.insert(id);
                }
                None => {}
            }
        }
    }
    for id in ids {
        hold(queue, id, pause).await?;
    }
    Ok(())
}

/// Has every shard hold an endpoint's backlog, or let it go.
pub(crate) async fn hold<Q: Queue>(queue: &Q, id: EndpointId, hold: bool) -> Result<(), QueueError> {
    for shard in 0..queue.shards() {
        queue.hold(Shard(shard), id, hold.then_some(PAUSE_HOLD)).await?;
    }
    Ok(())
}

/// The endpoints of webhooks without a template in the authority of their URL: each has exactly one.
fn literal_endpoints(definitions: &Definitions) -> BTreeMap<EndpointId, EndpointState> {
    let literal = definitions.webhooks().filter_map(|compiled| {
        let authority = compiled.literal_authority()?;
        let name = &compiled.webhook().name;
        let state = EndpointState::new(name.clone(), Some(authority.to_string()));
        Some((EndpointId::derive(name, authority), state))
    });
    literal.collect()
}

/// An endpoint without a record that deliveries were rendered to.
async fn from_deliveries<Q: Queue + Inspect>(
    queue: &Q,
    id: EndpointId,
) -> Result<Option<EndpointState>, QueueError> {
    let filter = DeliveryFilter { endpoint: Some(id), ..DeliveryFilter::default() };
    for shard in 0..queue.shards() {
        let Some(found) = queue.list(Shard(shard), &filter, None, 1).await?.items.into_iter().next() else {
            continue;
        };
        let Some(webhook) = found.webhook else { continue };
        let log =
            queue.delivery(found.id).await?.and_then(|delivery| delivery.attempt_log).unwrap_or_default();
        let url = log.into_iter().rev().find_map(|attempt| attempt.request).map(|request| request.url);
        // Scheme and authority: up to the slash that begins the path.
        let authority = url.map(|url| {
            let path = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
            url[..path].to_owned()
        });
        return Ok(Some(EndpointState::new(webhook, Some(authority.unwrap_or_default()))));
    }
    Ok(None)
}

/// How many deliveries wait for each endpoint.
async fn backlogs<Q: Queue + Inspect>(queue: &Q) -> Result<BTreeMap<EndpointId, u64>, QueueError> {
    let mut all = BTreeMap::new();
    for shard in 0..queue.shards() {
        for Backlog { endpoint, deliveries, .. } in queue.backlogs(Shard(shard)).await? {
            *all.entry(endpoint).or_default() += deliveries;
        }
    }
    Ok(all)
}
