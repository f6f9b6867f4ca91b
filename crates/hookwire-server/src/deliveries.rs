//! Looking at deliveries and acting on them: one by its id, or many by filter or by their ids.
//!
//! Invariants:
//! - Acting on everything needs `all`: a filter that a script left empty must not purge or send all there is.
//! - A dry run goes the same way and changes nothing.

use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use hookwire_engine::Clock;
use hookwire_model::{
    Delivery, DeliveryId, DeliveryState, EndpointId, EventId, IdError, RuleName, Shard, WebhookName,
};
use hookwire_queue::{Change, Changed, DeliveryFilter, DeliveryPage, Inspect, Queue, Selection};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::api::App;
use crate::problem::{PROBLEM, Problem};
use crate::schema::{self, ActOnDeadTwin, ActTwin, DeliveryTwin, ProblemTwin};
use crate::segment::Segment;

/// How many items a page has if nobody says, and at most.
pub(crate) const PAGE: (usize, usize) = (50, 500);

/// How many bytes a request to act may have: room for some 30,000 ids, which the store takes in one step.
const ACT_BYTES_MAX: usize = 1 << 20;

/// Which deliveries, as a query or a body says it.
struct FilterText {
    state: Option<String>,
    webhook: Option<String>,
    rule: Option<String>,
    endpoint: Option<String>,
    event_id: Option<String>,
}

impl FilterText {
    fn filter(&self, refused: impl Fn(&str, String) -> Problem) -> Result<DeliveryFilter, Problem> {
        fn read<T, E: Display>(
            name: &str,
            text: &Option<String>,
            parse: impl Fn(&str) -> Result<T, E>,
            refused: &impl Fn(&str, String) -> Problem,
        ) -> Result<Option<T>, Problem> {
            text.as_deref().map(parse).transpose().map_err(|error| refused(name, error.to_string()))
        }
        Ok(DeliveryFilter {
            state: read("state", &self.state, str::parse::<DeliveryState>, &refused)?,
            webhook: read("webhook", &self.webhook, WebhookName::new, &refused)?,
            rule: read("rule", &self.rule, RuleName::new, &refused)?,
            endpoint: read("endpoint", &self.endpoint, str::parse::<EndpointId>, &refused)?,
            event_id: read("event_id", &self.event_id, EventId::new, &refused)?,
        })
    }
}

/// Which page of which deliveries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    state: Option<String>,
    webhook: Option<String>,
    rule: Option<String>,
    endpoint: Option<String>,
    event_id: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page {
    /// Newest first.
    #[schema(value_type = Vec<DeliveryTwin>)]
    items: Vec<Delivery>,
    /// What to give as `cursor` for the next page; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Deliveries, newest first.
#[utoipa::path(
    get,
    path = "/v1/deliveries",
    tag = "deliveries",
    operation_id = "deliveries",
    params(schema::StateParam, schema::PageParams),
    responses(
        (status = 200, description = "A page of them.", body = Page),
        (status = 400, description = "Bad parameters.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn list<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Json(mut page) = page(&*app.api.queue, read_query(query)?).await?;
    app.tell_what_holds(&mut page.items).await?;
    Ok(Json(page))
}

/// Dead letters, newest first.
#[utoipa::path(
    get,
    path = "/v1/dead",
    tag = "deliveries",
    operation_id = "dead",
    params(schema::PageParams),
    responses(
        (status = 200, description = "A page of them.", body = Page),
        (status = 400, description = "Bad parameters.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn dead<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let query = read_query(query)?;
    if query.state.is_some() {
        return Err(Problem::bad_request(
            "query parameter state: only dead letters are listed here; leave it out",
        ));
    }
    let state = Some(DeliveryState::Dead.to_string());
    page(&*app.api.queue, ListQuery { state, ..query }).await
}

fn read_query(query: Result<Query<ListQuery>, QueryRejection>) -> Result<ListQuery, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::bad_request(error.body_text()))
}

async fn page<Q: Queue + Inspect>(queue: &Q, query: ListQuery) -> Result<Json<Page>, Problem> {
    let ListQuery { state, webhook, rule, endpoint, event_id, limit, cursor } = query;
    let filter = FilterText { state, webhook, rule, endpoint, event_id };
    let filter =
        filter.filter(|name, message| Problem::bad_request(format!("query parameter {name}: {message}")))?;
    let limit = limit.unwrap_or(PAGE.0);
    if !(1..=PAGE.1).contains(&limit) {
        return Err(Problem::bad_request(format!("query parameter limit: from 1 to {}", PAGE.1)));
    }
    let mut before = None;
    let mut first = queue.shards() - 1;
    if let Some(cursor) = &cursor {
        let id: DeliveryId = cursor.parse().map_err(|_| {
            Problem::bad_request("query parameter cursor: give next_cursor of the page before")
        })?;
        first = first.min(id.shard().0);
        before = Some(id);
    }
    // Shard after shard, each newest first: an id tells its shard, so that a cursor is one id.
    let mut items = Vec::new();
    for shard in (0..=first).rev() {
        let page = queue.list(Shard(shard), &filter, before.take(), limit - items.len()).await?;
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

/// One delivery with its attempts.
#[utoipa::path(
    get,
    path = "/v1/deliveries/{id}",
    tag = "deliveries",
    operation_id = "delivery",
    params(schema::DeliveryParam),
    responses(
        (status = 200, description = "The delivery.", body = DeliveryTwin),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none, or it is no longer kept.", body = ProblemTwin,
            content_type = PROBLEM)
    )
)]
pub(crate) async fn show<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Result<Json<Delivery>, Problem> {
    let id = delivery_id(&id)?;
    if id.shard().0 < app.api.queue.shards()
        && let Some(mut delivery) = app.api.queue.delivery(id).await?
    {
        app.tell_what_holds(std::slice::from_mut(&mut delivery)).await?;
        return Ok(Json(delivery));
    }
    Err(unknown(id))
}

fn delivery_id(text: &str) -> Result<DeliveryId, Problem> {
    text.parse().map_err(|error: IdError| Problem::bad_request(error.to_string()))
}

fn unknown(id: DeliveryId) -> Problem {
    Problem::not_found(format!("no delivery has the id {id}, or it is no longer kept"))
}

/// What came of acting on one delivery, endpoint or webhook.
#[derive(Serialize, ToSchema)]
pub(crate) struct OneChanged {
    /// Always 1.
    changed: u64,
}

impl OneChanged {
    pub(crate) fn new() -> Self {
        OneChanged { changed: 1 }
    }
}

/// Sends one delivery now: a waiting one at once, a dead letter again, a delivered one once more.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/retry",
    tag = "deliveries",
    operation_id = "retry_delivery",
    params(schema::DeliveryParam),
    responses(
        (status = 200, description = "It is due now.", body = OneChanged),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none, or it is no longer kept.", body = ProblemTwin,
            content_type = PROBLEM),
        (status = 409, description = "Its state does not allow it.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 409, "title": "conflict", "state": "running",
                "detail": "the delivery dlv_000000000003ccee9yf1c0yjjt is running: ..."}))
    )
)]
pub(crate) async fn retry_one<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Result<Json<OneChanged>, Problem> {
    change_one(&*app.api.queue, Change::Retry, &id).await
}

/// Sends one delivery no more: a waiting one, or a dead letter.
#[utoipa::path(
    post,
    path = "/v1/deliveries/{id}/cancel",
    tag = "deliveries",
    operation_id = "cancel_delivery",
    params(schema::DeliveryParam),
    responses(
        (status = 200, description = "It is sent no more.", body = OneChanged),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none, or it is no longer kept.", body = ProblemTwin,
            content_type = PROBLEM),
        (status = 409, description = "Its state does not allow it.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 409, "title": "conflict", "state": "running",
                "detail": "the delivery dlv_000000000003ccee9yf1c0yjjt is running: ..."}))
    )
)]
pub(crate) async fn cancel_one<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Result<Json<OneChanged>, Problem> {
    change_one(&*app.api.queue, Change::Cancel, &id).await
}

async fn change_one<Q: Queue + Inspect>(
    queue: &Q,
    change: Change,
    id: &str,
) -> Result<Json<OneChanged>, Problem> {
    let id = delivery_id(id)?;
    if id.shard().0 >= queue.shards() {
        return Err(unknown(id));
    }
    let Changed { changed, unfit, .. } =
        queue.change(id.shard(), change, &Selection::Ids(vec![id]), false).await?;
    match unfit.first() {
        Some((_, state)) => Err(Problem::conflict(*state, unfit_detail(change, id, *state))),
        None if changed == 0 => Err(unknown(id)),
        None => Ok(Json(OneChanged { changed })),
    }
}

/// Why a delivery in this state cannot be changed so, and what can be done.
fn unfit_detail(change: Change, id: DeliveryId, state: DeliveryState) -> String {
    let remedy = match (change, state) {
        (Change::Cancel, DeliveryState::Running) => {
            "an attempt is under way and cannot be called back; cancel it if it waits again after that"
        }
        (_, DeliveryState::Running) => "a worker is sending it; look again when the attempt has ended",
        (Change::Cancel, DeliveryState::Delivered) => "nothing is left to cancel",
        (Change::Cancel, DeliveryState::Cancelled | DeliveryState::Superseded) => {
            "it is sent no more already"
        }
        (_, DeliveryState::Cancelled | DeliveryState::Superseded) => {
            "it is not sent again; publish the event anew, under another id"
        }
        // It has changed between the answer and this: such states are what the change applies to.
        (_, DeliveryState::Waiting | DeliveryState::Dead | DeliveryState::Delivered) => "look at it again",
    };
    format!("the delivery {id} is {state}: {remedy}")
}

/// Which deliveries to act on: a filter, `ids`, or `all`.
// A member that is null is refused: a script that means a filter and has no value for it must not act on more than it
// means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    #[serde(default, deserialize_with = "present")]
    state: Option<String>,
    #[serde(default, deserialize_with = "present")]
    webhook: Option<String>,
    #[serde(default, deserialize_with = "present")]
    rule: Option<String>,
    #[serde(default, deserialize_with = "present")]
    endpoint: Option<String>,
    #[serde(default, deserialize_with = "present")]
    event_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    ids: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Reads a member that may be absent but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What came of acting on many.
#[derive(Serialize, ToSchema)]
pub(crate) struct ManyChanged {
    /// How many were changed, or in a dry run would be.
    changed: u64,
    dry_run: bool,
    /// Of `ids`: those that do not exist.
    #[schema(value_type = Vec<String>)]
    unknown: Vec<DeliveryId>,
    /// Of `ids`: those that the action does not apply to.
    unfit: Vec<Unfit>,
}

/// A delivery that the action does not apply to.
#[derive(Serialize, ToSchema)]
struct Unfit {
    #[schema(schema_with = schema::delivery_id)]
    id: DeliveryId,
    #[schema(schema_with = schema::states)]
    state: DeliveryState,
}

/// Sends many deliveries now.
#[utoipa::path(
    post,
    path = "/v1/deliveries/retry",
    tag = "deliveries",
    operation_id = "retry_deliveries",
    request_body(content = ActTwin, example = json!({"webhook": "slack", "dry_run": true})),
    responses(
        (status = 200, description = "What was done.", body = ManyChanged),
        (status = 400, description = "Nothing was done.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 400, "title": "bad request",
                "detail": "nothing was done; mend what `errors` names",
                "errors": [{"pointer": "/webhok", "message": "unknown field `webhok`, ..."}]}))
    )
)]
pub(crate) async fn retry_many<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ManyChanged>, Problem> {
    change_many(&app, Change::Retry, &headers, body).await
}

/// Sends many deliveries no more.
#[utoipa::path(
    post,
    path = "/v1/deliveries/cancel",
    tag = "deliveries",
    operation_id = "cancel_deliveries",
    request_body(content = ActTwin, example = json!({"webhook": "slack", "dry_run": true})),
    responses(
        (status = 200, description = "What was done.", body = ManyChanged),
        (status = 400, description = "Nothing was done.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 400, "title": "bad request",
                "detail": "nothing was done; mend what `errors` names",
                "errors": [{"pointer": "/webhok", "message": "unknown field `webhok`, ..."}]}))
    )
)]
pub(crate) async fn cancel_many<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ManyChanged>, Problem> {
    change_many(&app, Change::Cancel, &headers, body).await
}

/// Sends dead letters again.
#[utoipa::path(
    post,
    path = "/v1/dead/redrive",
    tag = "deliveries",
    operation_id = "redrive_dead",
    request_body(content = ActOnDeadTwin, example = json!({"webhook": "slack", "dry_run": true})),
    responses(
        (status = 200, description = "What was done.", body = ManyChanged),
        (status = 400, description = "Nothing was done.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 400, "title": "bad request",
                "detail": "nothing was done; mend what `errors` names",
                "errors": [{"pointer": "/webhok", "message": "unknown field `webhok`, ..."}]}))
    )
)]
pub(crate) async fn redrive<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ManyChanged>, Problem> {
    change_many(&app, Change::Redrive, &headers, body).await
}

/// Removes dead letters from the record.
#[utoipa::path(
    post,
    path = "/v1/dead/purge",
    tag = "deliveries",
    operation_id = "purge_dead",
    request_body(content = ActOnDeadTwin, example = json!({"webhook": "slack", "dry_run": true})),
    responses(
        (status = 200, description = "What was done.", body = ManyChanged),
        (status = 400, description = "Nothing was done.", body = ProblemTwin, content_type = PROBLEM,
            example = json!({"status": 400, "title": "bad request",
                "detail": "nothing was done; mend what `errors` names",
                "errors": [{"pointer": "/webhok", "message": "unknown field `webhok`, ..."}]}))
    )
)]
pub(crate) async fn purge<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ManyChanged>, Problem> {
    change_many(&app, Change::Purge, &headers, body).await
}

async fn change_many<Q: Queue + Inspect, C: Clock>(
    app: &App<Q, C>,
    change: Change,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<ManyChanged>, Problem> {
    let body = app.room.read(headers, body, ACT_BYTES_MAX).await?;
    let act = Act::read(body.text()?)?;
    let dry_run = act.dry_run;
    let queue = &*app.api.queue;
    let mut sum = ManyChanged { changed: 0, dry_run, unknown: Vec::new(), unfit: Vec::new() };
    match act.selection(change)? {
        Selection::Ids(mut ids) => {
            ids.sort_unstable();
            ids.dedup();
            // Ids sort by shard first.
            for of_shard in ids.chunk_by(|a, b| a.shard() == b.shard()) {
                match of_shard[0].shard() {
                    shard if shard.0 < queue.shards() => {
                        let selection = Selection::Ids(of_shard.to_vec());
                        sum.add(queue.change(shard, change, &selection, dry_run).await?);
                    }
                    _ => sum.unknown.extend(of_shard),
                }
            }
        }
        selection @ Selection::Filter(_) => {
            for shard in 0..queue.shards() {
                sum.add(queue.change(Shard(shard), change, &selection, dry_run).await?);
            }
        }
    }
    Ok(Json(sum))
}

impl ManyChanged {
    fn add(&mut self, changed: Changed) {
        self.changed += changed.changed;
        self.unknown.extend(changed.unknown);
        self.unfit.extend(changed.unfit.into_iter().map(|(id, state)| Unfit { id, state }));
    }
}

impl Act {
    fn read(text: &str) -> Result<Self, Problem> {
        // serde would take an array for the members in their order.
        if !text.trim_start().starts_with('{') {
            return Err(Problem::bad_body(
                "",
                "needs a JSON object, such as {\"webhook\": \"slack\", \"dry_run\": true}",
            ));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let act = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let pointer = pointer(error.path());
            Problem::bad_body(pointer, without_place(error.into_inner()))
        })?;
        deserializer.end().map_err(|error| Problem::bad_body("", error.to_string()))?;
        Ok(act)
    }

    fn selection(self, change: Change) -> Result<Selection, Problem> {
        let Act { state, webhook, rule, endpoint, event_id, ids, all, dry_run: _ } = self;
        if state.is_some() && matches!(change, Change::Redrive | Change::Purge) {
            return Err(Problem::bad_body("/state", "only dead letters are meant here; leave it out"));
        }
        let filter = FilterText { state, webhook, rule, endpoint, event_id };
        let filter = filter.filter(|name, message| Problem::bad_body(format!("/{name}"), message))?;
        let filters = filter != DeliveryFilter::default();
        match ids {
            Some(_) if filters || all => Err(Problem::bad_body(
                "/ids",
                "ids stand alone; leave out the filters and \"all\", or the ids",
            )),
            Some(ids) => {
                let ids = ids.iter().enumerate().map(|(at, id)| {
                    id.parse()
                        .map_err(|error: IdError| Problem::bad_body(format!("/ids/{at}"), error.to_string()))
                });
                Ok(Selection::Ids(ids.collect::<Result<_, _>>()?))
            }
            None if filters && all => {
                Err(Problem::bad_body("/all", "there are filters too; leave out either them or \"all\""))
            }
            None if !filters && !all => Err(Problem::bad_body(
                "",
                "says nothing about which deliveries; give a filter or \"ids\", or \"all\": true for all of them",
            )),
            None => Ok(Selection::Filter(filter)),
        }
    }
}

/// What is wrong. Where a pointer tells the place, line and column say nothing more.
fn without_place(error: serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, _)) if error.is_data() => message.to_owned(),
        _ => message,
    }
}

/// A place in a body as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let tokens = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    });
    tokens.collect()
}
