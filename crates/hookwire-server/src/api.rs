//! The routes, and what they work with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use hookwire_engine::{Clock, InForce};
use hookwire_model::EventId;
use hookwire_queue::{Inspect, Queue};

use crate::body::BodyRoom;
use crate::guard::{Tokens, guard};
use crate::problem::Problem;
use crate::{definitions, deliveries, events, stats};

/// What requests may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// How many bytes an event may have.
    pub event_bytes_max: usize,
    /// How many bytes a request may have.
    pub request_bytes_max: usize,
    /// How many events a request may have: a small event takes many times its bytes while it is read.
    pub request_events_max: usize,
    /// How many bytes of bodies all requests together may hold in memory; a request that finds no room is answered 429.
    /// What is made of a body while it is read comes on top, some three times as much.
    pub held_bytes_max: usize,
    /// How long a body may take to come in.
    pub body_timeout: Duration,
}

impl Default for ApiLimits {
    /// 1 MiB an event; 32 MiB and 100,000 events a request, which is a batch of some ten thousand usual events;
    /// 96 MiB in all; a minute for a body, so that a full batch comes in over a slow line (4 Mbit/s).
    fn default() -> Self {
        ApiLimits {
            event_bytes_max: 1 << 20,
            request_bytes_max: 32 << 20,
            request_events_max: 100_000,
            held_bytes_max: 96 << 20,
            body_timeout: Duration::from_secs(60),
        }
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
    /// What requests may bring.
    pub limits: ApiLimits,
    /// Who may ask.
    pub tokens: Tokens,
    /// The definitions in force.
    pub in_force: Arc<InForce>,
    /// Whether a worker runs in this process and its store answers: what `/readyz` tells.
    pub ready: Arc<AtomicBool>,
}

/// The state of the routes.
pub(crate) struct App<Q, C> {
    pub(crate) api: Api<Q, C>,
    pub(crate) room: BodyRoom,
}

/// The routes, guarded.
pub fn router<Q: Queue + Inspect, C: Clock>(api: Api<Q, C>) -> Router {
    let tokens = Arc::new(api.tokens.clone());
    let room = BodyRoom::new(api.limits.held_bytes_max, api.limits.body_timeout);
    let router = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    router
        .fallback(|| async { Problem::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed",
                "this path takes another method, which the Allow header names",
            )
        })
        .layer(axum::middleware::from_fn_with_state(tokens, guard))
        .with_state(Arc::new(App { api, room }))
}

/// A path with its methods.
type Route<Q, C> = (&'static str, MethodRouter<Arc<App<Q, C>>>);

/// Every path with its methods.
fn routes<Q: Queue + Inspect, C: Clock>() -> Vec<Route<Q, C>> {
    vec![
        ("/v1/events", post(events::publish)),
        ("/v1/events/{id}", get(events::event)),
        ("/v1/deliveries", get(deliveries::list)),
        ("/v1/deliveries/{id}", get(deliveries::show)),
        ("/v1/deliveries/{id}/retry", post(deliveries::retry_one)),
        ("/v1/deliveries/{id}/cancel", post(deliveries::cancel_one)),
        ("/v1/deliveries/retry", post(deliveries::retry_many)),
        ("/v1/deliveries/cancel", post(deliveries::cancel_many)),
        ("/v1/dead", get(deliveries::dead)),
        ("/v1/dead/redrive", post(deliveries::redrive)),
        ("/v1/dead/purge", post(deliveries::purge)),
        ("/v1/rules", get(definitions::rules)),
        ("/v1/webhooks", get(definitions::webhooks)),
        ("/v1/preview", post(definitions::preview)),
        ("/v1/stats", get(stats::stats)),
        ("/healthz", get(stats::healthz)),
        ("/readyz", get(stats::readyz)),
    ]
}
