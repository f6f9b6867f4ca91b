//! The routes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hookwire_engine::{Clock, InForce};
use hookwire_model::{Delivery, DeliveryId, EndpointId, Event, EventId, RuleName, Shard, WebhookName};
use hookwire_queue::{DeliveryFilter, DeliveryPage, EventState, Inspect, Queue, StoredEvent};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::guard::{Tokens, guard};
use crate::ingest::{Format, Reading, read_events};
use crate::problem::Problem;

/// What a request may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// How many bytes an event may have.
    pub event_bytes_max: usize,
    /// How many bytes a request may have.
    pub request_bytes_max: usize,
}

impl Default for ApiLimits {
    /// 1 MiB an event, 32 MiB a request: a batch of some ten thousand usual events.
    fn default() -> Self {
        ApiLimits { event_bytes_max: 1 << 20, request_bytes_max: 32 << 20 }
    }
}

/// What the routes work with.
pub struct Api<Q, C> {
    /// Where events go, and deliveries are seen.
    pub queue: Arc<Q>,
    /// The time, for events that bring none.
    pub clock: C,
    /// Makes ids for events that bring none.
    pub new_id: fn() -> EventId,
    /// What a request may bring.
    pub limits: ApiLimits,
    /// Who may ask.
    pub tokens: Tokens,
    /// The definitions in force.
    pub in_force: Arc<InForce>,
    /// Whether a worker runs in this process and its store answers: what `/readyz` tells.
    pub ready: Arc<AtomicBool>,
}

/// How many items a page has if nobody says, and at most.
const PAGE: (usize, usize) = (50, 500);

/// The routes, guarded.
pub fn router<Q: Queue + Inspect, C: Clock>(api: Api<Q, C>) -> Router {
    let tokens = Arc::new(api.tokens.clone());
    Router::new()
        .route("/v1/events", post(publish::<Q, C>))
        .route("/v1/events/{id}", get(event::<Q, C>))
        .route("/v1/deliveries", get(deliveries::<Q, C>))
        .route("/v1/deliveries/{id}", get(delivery::<Q, C>))
        .route("/v1/stats", get(stats::<Q, C>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<Q, C>))
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed",
                "this path takes another method",
            )
        })
        .layer(axum::middleware::from_fn_with_state(tokens, guard))
        .with_state(Arc::new(api))
}

/// Serves until `shutdown` ends, and the requests under way have been answered.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

#[derive(Serialize)]
struct Published {
    ids: Vec<EventId>,
    duplicates: Vec<EventId>,
}

async fn publish<Q: Queue + Inspect, C: Clock>(
    State(api): State<Arc<Api<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let too_large = || {
        let detail =
            format!("a request may have {} bytes; send smaller batches", api.limits.request_bytes_max);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", detail)
    };
    let bytes = match Limited::new(body, api.limits.request_bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
        Err(error) => return Err(Problem::bad_request(format!("the body broke off: {error}"))),
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        Problem::bad_request(format!("the body is not UTF-8 from byte {}", error.valid_up_to()))
    })?;
    let events = read(&api, &headers, text)?;
    let receipts = hookwire_engine::publish(&*api.queue, &events).await?;
    let duplicates =
        receipts.iter().filter(|receipt| receipt.duplicate).map(|receipt| receipt.id.clone()).collect();
    let ids = receipts.into_iter().map(|receipt| receipt.id).collect();
    Ok((StatusCode::ACCEPTED, Json(Published { ids, duplicates })).into_response())
}

/// The events of a request.
fn read<Q, C: Clock>(api: &Api<Q, C>, headers: &HeaderMap, text: &str) -> Result<Vec<Event>, Problem> {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Lines,
        _ => Format::guess(text),
    };
    let mut new_id = api.new_id;
    let mut reading =
        Reading { now: api.clock.now(), new_id: &mut new_id, event_bytes_max: api.limits.event_bytes_max };
    read_events(text, format, &mut reading).map_err(|refusal| {
        let (status, title) = match refusal.too_large {
            true => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
            false => (StatusCode::BAD_REQUEST, "bad events"),
        };
        Problem::new(
            status,
            title,
            "nothing was taken; mend what `errors` names and send the whole batch again",
        )
        .with_errors(refusal.problems)
    })
}

/// An event as the API shows it.
#[derive(Serialize)]
struct EventView {
    id: EventId,
    sequence: u64,
    state: &'static str,
    accepted_at: hookwire_model::Timestamp,
    event: Option<Box<RawValue>>,
    deliveries: Vec<Delivery>,
}

impl From<StoredEvent> for EventView {
    fn from(stored: StoredEvent) -> Self {
        EventView {
            id: stored.id,
            sequence: stored.sequence.0,
            state: match stored.state {
                EventState::Queued => "queued",
                EventState::Leased => "leased",
                EventState::FannedOut => "fanned_out",
            },
            accepted_at: stored.accepted_at,
            event: serde_json::from_slice(&stored.payload).ok(),
            deliveries: stored.deliveries,
        }
    }
}

async fn event<Q: Queue + Inspect, C: Clock>(
    State(api): State<Arc<Api<Q, C>>>,
    Path(id): Path<String>,
) -> Result<Json<EventView>, Problem> {
    let id = EventId::new(&id).map_err(|error| Problem::bad_request(error.to_string()))?;
    for shard in 0..api.queue.shards() {
        if let Some(stored) = api.queue.event(Shard(shard), &id).await? {
            return Ok(Json(stored.into()));
        }
    }
    Err(Problem::not_found(format!("no event has the id {id}, or it is no longer kept")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    state: Option<String>,
    webhook: Option<String>,
    rule: Option<String>,
    endpoint: Option<String>,
    event_id: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Result<DeliveryFilter, Problem> {
        fn read<T, E: std::fmt::Display>(
            name: &str,
            text: &Option<String>,
            parse: impl Fn(&str) -> Result<T, E>,
        ) -> Result<Option<T>, Problem> {
            let value = text.as_deref().map(parse).transpose();
            value.map_err(|error| Problem::bad_request(format!("query parameter {name}: {error}")))
        }
        Ok(DeliveryFilter {
            state: read("state", &self.state, str::parse)?,
            webhook: read("webhook", &self.webhook, WebhookName::new)?,
            rule: read("rule", &self.rule, RuleName::new)?,
            endpoint: read("endpoint", &self.endpoint, str::parse::<EndpointId>)?,
            event_id: read("event_id", &self.event_id, EventId::new)?,
        })
    }
}

#[derive(Serialize)]
struct Page {
    items: Vec<Delivery>,
    next_cursor: Option<String>,
}

async fn deliveries<Q: Queue + Inspect, C: Clock>(
    State(api): State<Arc<Api<Q, C>>>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let filter = query.filter()?;
    let limit = query.limit.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(Problem::bad_request(format!("query parameter limit: from 1 to {}", PAGE.1)));
    }
    let mut before = None;
    let mut first = api.queue.shards() - 1;
    if let Some(cursor) = &query.cursor {
        let id: DeliveryId = cursor.parse().map_err(|_| {
            Problem::bad_request("query parameter cursor: give next_cursor of the page before")
        })?;
        first = id.shard().0;
        before = Some(id);
    }
    // Shard after shard, each newest first: an id tells its shard, so that a cursor is one id.
    let mut items = Vec::new();
    for shard in (0..=first).rev() {
        let page = api.queue.list(Shard(shard), &filter, before.take(), limit - items.len()).await?;
        let DeliveryPage { items: more, next } = page;
        items.extend(more);
        if let (Some(next), true) = (next, items.len() >= limit) {
            return Ok(Json(Page { items, next_cursor: Some(next.to_string()) }));
        }
        if items.len() >= limit {
            let next_cursor = (shard > 0).then(|| items.last().map(|last| last.id.to_string())).flatten();
            return Ok(Json(Page { items, next_cursor }));
        }
    }
    Ok(Json(Page { items, next_cursor: None }))
}

async fn delivery<Q: Queue + Inspect, C: Clock>(
    State(api): State<Arc<Api<Q, C>>>,
    Path(id): Path<String>,
) -> Result<Json<Delivery>, Problem> {
    let id: DeliveryId =
        id.parse().map_err(|error: hookwire_model::IdError| Problem::bad_request(error.to_string()))?;
    if id.shard().0 < api.queue.shards()
        && let Some(delivery) = api.queue.delivery(id).await?
    {
        return Ok(Json(delivery));
    }
    Err(Problem::not_found(format!("no delivery has the id {id}, or it is no longer kept")))
}

async fn stats<Q: Queue + Inspect, C: Clock>(
    State(api): State<Arc<Api<Q, C>>>,
) -> Result<Json<serde_json::Value>, Problem> {
    let mut shards = Vec::new();
    for shard in 0..api.queue.shards() {
        shards.push(api.queue.stats(Shard(shard)).await?);
    }
    Ok(Json(serde_json::json!({ "shards": shards })))
}

async fn readyz<Q: Queue + Inspect, C: Clock>(State(api): State<Arc<Api<Q, C>>>) -> Response {
    let answers = api.queue.stats(Shard(0)).await;
    match answers {
        Ok(_) if api.ready.load(Ordering::Relaxed) => "ready\n".into_response(),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
