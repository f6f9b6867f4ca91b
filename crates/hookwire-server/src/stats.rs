//! Counts and health.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hookwire_engine::{Clock, RefusedReload};
use hookwire_model::{Shard, Timestamp};
use hookwire_queue::{Inspect, Queue, QueueError, Stats};
use serde::{Deserialize, Serialize};

use crate::api::App;
use crate::problem::Problem;
use crate::schema::{StatsTwin, StoreParam};

/// How long a store may take that is asked how it is: whoever asks does not wait for long, and a store that takes longer
/// does not do well.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(2);

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
    fingerprint: String,
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
        fingerprint: format!("{:016x}", snapshot.definitions().fingerprint()),
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
    let refusal = match tokio::time::timeout(STORE_PATIENCE, takes_events(&*app.api.queue)).await {
        Ok(Ok(())) if app.api.ready.load(Ordering::Relaxed) => return "ready\n".into_response(),
        Ok(Ok(())) => "starting or stopping".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")).into_response()
}

/// Whether every shard that is for new events takes them.
///
/// # Errors
/// Why one does not.
pub(crate) async fn takes_events<Q: Queue + Inspect>(queue: &Q) -> Result<(), QueueError> {
    for shard in queue.open_shards() {
        queue.ready(Shard(shard)).await?;
    }
    Ok(())
}
