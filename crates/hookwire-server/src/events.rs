//! Events in, and one event with its deliveries.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use hookwire_engine::{Batch, Clock};
use hookwire_model::{Delivery, Event, EventId, Shard, Timestamp};
use hookwire_queue::{EventState, Inspect, Queue, StoredEvent};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::{Api, App};
use crate::body::HeldBody;
use crate::cloud_events;
use crate::ingest::{Format, Reading, Refusal, read_array, read_at_most, read_single};
use crate::problem::{PROBLEM, Problem};
use crate::schema::{self, CloudEventTwin, EventTwin, ProblemTwin, StoredEventTwin};
use crate::segment::Segment;

/// A batch from which reading does not go on in the async thread: parsing this much takes a millisecond or so, and
/// other requests and the worker wait for it.
const READ_APART_BYTES_MIN: usize = 256 << 10;

/// Events that were taken: they are as durable as the store makes anything.
#[derive(Serialize, ToSchema)]
pub(crate) struct Published {
    /// The ids of all events, in their order.
    #[schema(value_type = Vec<String>)]
    ids: Vec<EventId>,
    /// Those that were accepted before, and changed nothing.
    #[schema(value_type = Vec<String>)]
    duplicates: Vec<EventId>,
}

/// Takes one event, an array, one a line, or CloudEvents.
///
/// A batch that holds a mistake is refused whole. A 503 may come after some events of a batch were taken, where the store
/// has several shards or waits for replicas: send it again with the same ids, and nothing is repeated. CloudEvents in
/// binary mode have their attributes in `ce-` headers, and any content type.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    operation_id = "publish",
    request_body(content(
        (EventOrEvents = "application/json"),
        (String = "application/x-ndjson", example = "{\"event\":\"created\",\"object_type\":\"dcim.site\",\"data\":{}}\n"),
        (CloudEventTwin = "application/cloudevents+json"),
        (Vec<CloudEventTwin> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "Taken.", body = Published,
            example = json!({"ids": ["evt_68ba649638eed70a96f4c5e786059013"], "duplicates": []})),
        (status = 400, description = "Nothing was taken.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 400, "title": "bad events",
                "detail": "nothing was taken; mend what `errors` names and send the whole batch again",
                "errors": [{"pointer": "/1/data", "message": "missing: the object as it is now"}]})),
        (status = 415, description = "A CloudEvent in another format than JSON.", body = ProblemTwin,
            content_type = PROBLEM)
    )
)]
pub(crate) async fn publish<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Published>), Problem> {
    let body = app.room.read(&headers, body, app.api.limits.request_bytes_max).await?;
    let source = Source::new(&app.api, headers);
    // The body is held until its events are in the store, so that what it takes stays counted.
    let (batch, _body) = source.read(body, Batch::new(&*app.api.queue)).await?;
    let receipts = batch.publish(&*app.api.queue).await?;
    app.api.metrics.published(&receipts);
    let duplicates =
        receipts.iter().filter(|receipt| receipt.duplicate).map(|receipt| receipt.id.clone()).collect();
    let ids = receipts.into_iter().map(|receipt| receipt.id).collect();
    Ok((StatusCode::ACCEPTED, Json(Published { ids, duplicates })))
}

/// What reading the events of a body needs to know, apart from the body.
pub(crate) struct Source {
    headers: HeaderMap,
    now: Timestamp,
    new_id: fn() -> EventId,
    event_bytes_max: usize,
    events_max: usize,
}

impl Source {
    pub(crate) fn new<Q, C: Clock>(api: &Api<Q, C>, headers: HeaderMap) -> Self {
        let limits = &api.limits;
        Source {
            headers,
            now: api.clock.now(),
            new_id: api.new_id,
            event_bytes_max: limits.event_bytes_max,
            events_max: limits.request_events_max,
        }
    }

    /// Reads all events of a body, adds them to others, and gives the body back.
    pub(crate) async fn read<E: Extend<Event> + Send + 'static>(
        self,
        body: HeldBody,
        mut events: E,
    ) -> Result<(E, HeldBody), Problem> {
        let is_short = body.bytes().len() < READ_APART_BYTES_MIN;
        let read = move || self.events(&body, &mut events).map(|()| (events, body));
        if is_short {
            return read();
        }
        let read = tokio::task::spawn_blocking(read);
        read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn events(&self, body: &HeldBody, events: &mut impl Extend<Event>) -> Result<(), Problem> {
        let mut new_id = self.new_id;
        let mut reading =
            Reading { now: self.now, new_id: &mut new_id, event_bytes_max: self.event_bytes_max };
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let read = match media_type.to_ascii_lowercase().as_str() {
            cloud_events::STRUCTURED => {
                read_single(body.text()?, &mut reading, cloud_events::parse_structured, events)
            }
            cloud_events::BATCHED => {
                let parse = cloud_events::parse_structured;
                read_array(self.events_max, body.text()?, &mut reading, parse, events)
            }
            other if other.starts_with("application/cloudevents") => {
                let detail = format!(
                    "CloudEvents are understood in JSON: as {}, as {}, or with their attributes in headers",
                    cloud_events::STRUCTURED,
                    cloud_events::BATCHED
                );
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unsupported media type",
                    detail,
                ));
            }
            _ if cloud_events::is_binary(&self.headers) => {
                let event = cloud_events::read_binary(&self.headers, body.bytes(), &mut reading);
                event.map(|event| events.extend([event]))
            }
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                read_at_most(self.events_max, body.text()?, Format::Lines, &mut reading, events)
            }
            _ => {
                let text = body.text()?;
                read_at_most(self.events_max, text, Format::guess(text), &mut reading, events)
            }
        };
        read.map_err(refused)
    }
}

fn refused(refusal: Refusal) -> Problem {
    let (status, title) = match refusal.too_large {
        true => (StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        false => (StatusCode::BAD_REQUEST, "bad events"),
    };
    let detail = "nothing was taken; mend what `errors` names and send the whole batch again";
    Problem::new(status, title, detail).with_errors(refusal.problems)
}

/// One event, or several.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its shape counts")]
enum EventOrEvents {
    One(Box<EventTwin>),
    Several(Vec<EventTwin>),
}

/// An event as the API shows it.
#[derive(Serialize)]
pub(crate) struct EventView {
    id: EventId,
    sequence: u64,
    state: &'static str,
    accepted_at: Timestamp,
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

/// One event with its deliveries, also before its fan-out.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "events",
    operation_id = "event",
    params(schema::EventParam),
    responses(
        (status = 200, description = "The event.", body = StoredEventTwin),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none, or it is no longer kept.", body = ProblemTwin,
            content_type = PROBLEM)
    )
)]
pub(crate) async fn event<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Result<Json<EventView>, Problem> {
    let id = EventId::new(&id).map_err(|error| Problem::bad_request(error.to_string()))?;
    let queue = &app.api.queue;
    // More than one may have had the id, in shards of before and after their number was changed.
    let mut newest: Option<StoredEvent> = None;
    for shard in 0..queue.shards() {
        let found = queue.event(Shard(shard), &id).await?;
        newest = newest.into_iter().chain(found).max_by_key(|event| event.accepted_at);
    }
    match newest {
        Some(event) => Ok(Json(event.into())),
        None => Err(Problem::not_found(format!("no event has the id {id}, or it is no longer kept"))),
    }
}
