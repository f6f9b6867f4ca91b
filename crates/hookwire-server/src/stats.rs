//! Counts and health.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hookwire_engine::{Clock, RefusedReload};
use hookwire_model::{Shard, Timestamp};
use hookwire_queue::{Inspect, Queue, Stats};
use serde::{Deserialize, Serialize};

use crate::api::App;
use crate::problem::Problem;
use crate::schema::{StatsTwin, StoreParam};

#[derive(Serialize)]
pub(crate) struct StatsView {
    shards: Vec<Stats>,
    definitions: DefinitionsState,
}

/// The definitions in force: how many, and how they came to be.
#[derive(Serialize)]
struct DefinitionsState {
    rules: usize,
    webhooks: usize,
    loaded_at: Timestamp,
    reloads: u64,
    refused: Option<RefusedReload>,
}

/// Counts of every shard, and the state of the definitions.
#[utoipa::path(
    get,
    path = "/v1/stats",
    tag = "operation",
    operation_id = "stats",
    responses((status = 200, description = "Counts and state.", body = StatsTwin))
)]
pub(crate) async fn stats<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
) -> Result<Json<StatsView>, Problem> {
    let queue = &app.api.queue;
    let mut shards = Vec::new();
    for shard in 0..queue.shards() {
        shards.push(queue.stats(Shard(shard)).await?);
    }
    let snapshot = app.api.in_force.snapshot();
    let state = app.api.in_force.state();
    let definitions = DefinitionsState {
        rules: snapshot.definitions().rules().count(),
        webhooks: snapshot.definitions().webhooks().count(),
        loaded_at: state.loaded_at,
        reloads: state.reloads,
        refused: state.refused,
    };
    Ok(Json(StatsView { shards, definitions }))
}

/// Which store whoever asks means.
#[derive(Debug, Deserialize)]
pub(crate) struct StoreQuery {
    store: Option<String>,
}

/// Whether the process answers, and works on a store.
///
/// Commands ask so before they turn to a server that merely listens where they expect theirs.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operation",
    operation_id = "healthz",
    params(StoreParam),
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain", example = "ok\n"),
        (status = 421, description = "It works on another store than the one named.", body = String,
            content_type = "text/plain")
    )
)]
pub(crate) async fn healthz<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    query: Result<Query<StoreQuery>, QueryRejection>,
) -> Response {
    // A probe is about health, and is not refused for how its query is written.
    let named = query.ok().and_then(|Query(query)| query.store);
    match (named, &app.api.store) {
        (Some(named), Some(own)) if named != *own => {
            (StatusCode::MISDIRECTED_REQUEST, "this server works on another store\n").into_response()
        }
        _ => "ok\n".into_response(),
    }
}

/// Whether a worker runs and every shard of its store takes events.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It does.", body = String, content_type = "text/plain", example = "ready\n"),
        (status = 503, description = "Not now; the text says why.", body = String, content_type = "text/plain")
    )
)]
pub(crate) async fn readyz<Q: Queue + Inspect, C: Clock>(State(app): State<Arc<App<Q, C>>>) -> Response {
    let queue = &app.api.queue;
    for shard in queue.open_shards() {
        if let Err(error) = queue.ready(Shard(shard)).await {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
        }
    }
    match app.api.ready.load(Ordering::Relaxed) {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response(),
    }
}
