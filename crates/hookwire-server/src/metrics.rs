//! `/metrics`: the worker's counters, and what the store tells at this moment, in OpenMetrics text.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hookwire_engine::{Clock, WAITING_FOR, count_waiting};
use hookwire_model::Shard;
use hookwire_queue::{Inspect, Queue, QueueError, Stats};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::timeout;

use crate::api::App;
use crate::problem::Problem;
use crate::stats::{STORE_PATIENCE, takes_events};

/// What encoding gives (OpenMetrics 1.0, section 3.1).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// All metrics. A store that is away leaves its own out, and says so.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operation",
    operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics 1.0.", body = String,
        content_type = "application/openmetrics-text"))
)]
pub(crate) async fn metrics<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
) -> Result<Response, Problem> {
    let mut registry = Registry::with_prefix("hookwire");
    app.api.metrics.register(&mut registry);
    let up = Gauge::<i64>::default();
    registry.register("store_up", "Whether every shard of the store takes events: 1, or 0", up.clone());
    let is_up = timeout(STORE_PATIENCE, takes_events(&*app.api.queue)).await;
    up.set(i64::from(matches!(is_up, Ok(Ok(())))));
    // A store that takes nothing may still be looked into.
    match timeout(STORE_PATIENCE, look(&app)).await {
        Ok(Ok((stats, waiting))) => {
            register_stats(&mut registry, &stats, &app);
            register_waiting(&mut registry, waiting);
        }
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "no counts of the store");
        }
        Err(_) => tracing::debug!("no counts of the store: it does not answer"),
    }
    register_definitions(&mut registry, &app);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string does not fail");
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn register_stats<Q, C: Clock>(registry: &mut Registry, all: &[Stats], app: &App<Q, C>) {
    let sum = |count: fn(&Stats) -> u64| all.iter().map(count).sum::<u64>() as i64;
    let events = Family::<StateLabels, Gauge>::default();
    for (state, count) in [("queued", sum(|s| s.events_queued)), ("leased", sum(|s| s.events_leased))] {
        events.get_or_create(&StateLabels { state }).set(count);
    }
    registry.register("events_pending", "Events that were not fanned out yet, by state", events);
    let deliveries = Family::<StateLabels, Gauge>::default();
    for (state, count) in [
        ("waiting", sum(|s| s.waiting)),
        ("running", sum(|s| s.running)),
        ("dead", sum(|s| s.dead)),
        ("delivered", sum(|s| s.delivered)),
        ("cancelled", sum(|s| s.cancelled)),
        ("superseded", sum(|s| s.superseded)),
    ] {
        deliveries.get_or_create(&StateLabels { state }).set(count);
    }
    registry.register("deliveries", "Deliveries on record, by state", deliveries);
    let now = app.api.clock.now();
    let oldest = all.iter().filter_map(|stats| stats.oldest_pending_at).min();
    let age = Gauge::<i64>::default();
    age.set(oldest.map_or(0, |at| now.saturating_since(at).as_secs() as i64));
    registry.register_with_unit(
        "oldest_pending_age",
        "How long ago the oldest event was accepted that is queued or has a waiting delivery; 0 without any",
        Unit::Seconds,
        age,
    );
    for (name, help, value) in [
        ("pending", "Payloads of what is queued, waits or runs", sum(|s| s.pending_bytes)),
        ("history", "Finished deliveries and their events, about", sum(|s| s.history_bytes)),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register_with_unit(name, help, Unit::Bytes, gauge);
    }
}

/// The counts of every shard, and of what waits by what keeps it.
async fn look<Q: Queue + Inspect, C: Clock>(
    app: &App<Q, C>,
) -> Result<(Vec<Stats>, [u64; WAITING_FOR.len()]), QueueError> {
    let queue = &*app.api.queue;
    let mut all = Vec::new();
    for shard in 0..queue.shards() {
        all.push(queue.stats(Shard(shard)).await?);
    }
    let waiting = all.iter().map(|stats| stats.waiting).sum();
    let snapshot = app.api.in_force.snapshot();
    let counts = count_waiting(queue, snapshot.definitions(), waiting, app.api.clock.now()).await?;
    Ok((all, counts))
}

fn register_waiting(registry: &mut Registry, counts: [u64; WAITING_FOR.len()]) {
    let family = Family::<ReasonLabels, Gauge>::default();
    for (reason, count) in WAITING_FOR.iter().zip(counts) {
        family.get_or_create(&ReasonLabels { reason: reason.as_str() }).set(count as i64);
    }
    registry.register("waiting", "Waiting deliveries, by what keeps them now", family);
}

fn register_definitions<Q, C: Clock>(registry: &mut Registry, app: &App<Q, C>) {
    let state = app.api.in_force.state();
    let gauge = |value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        gauge
    };
    registry.register(
        "definitions_loaded_timestamp_seconds",
        "When the definitions in force were loaded",
        gauge(state.loaded_at.as_secs()),
    );
    registry.register(
        "definitions_refused",
        "Whether newer definitions were refused, so that older ones are in force: 1, or 0",
        gauge(i64::from(state.refused.is_some())),
    );
    let fingerprint = app.api.in_force.snapshot().definitions().fingerprint();
    registry.register(
        "definitions",
        "The definitions in force; workers on one store should have the same fingerprint",
        Info::new(vec![("fingerprint", format!("{fingerprint:016x}"))]),
    );
}
