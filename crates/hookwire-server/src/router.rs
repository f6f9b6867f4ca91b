//! The routes, and what guards them.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use hookwire_engine::Clock;
use hookwire_queue::{Inspect, Queue};

use crate::api::{Api, App};
use crate::body::BodyRoom;
use crate::guard::guard;
use crate::problem::Problem;
use crate::store_watch::{StoreWatch, watch_store};
use crate::{definitions, deliveries, endpoints, events, metrics, openapi, stats};

/// The routes, guarded.
pub fn router<Q: Queue + Inspect, C: Clock>(api: Api<Q, C>) -> Router {
    let watch = Arc::new(StoreWatch::default());
    // Those that do without the store tell nothing about it.
    let at_store = store_routes().into_iter().map(|(path, route)| {
        (path, route.layer(axum::middleware::from_fn_with_state(Arc::clone(&watch), watch_store)))
    });
    guarded(api, at_store.chain(other_routes()).chain(own_routes()))
}

/// Only the routes that tell how the process is, guarded in the same way: for a worker without a server.
pub fn own_router<Q: Queue + Inspect, C: Clock>(api: Api<Q, C>) -> Router {
    guarded(api, own_routes().into_iter())
}

fn guarded<Q: Queue + Inspect, C: Clock>(
    api: Api<Q, C>,
    routes: impl Iterator<Item = Route<Q, C>>,
) -> Router {
    let tokens = Arc::new(api.tokens.clone());
    let room = BodyRoom::new(api.limits.held_bytes_max, api.limits.body_timeout);
    routes
        .fold(Router::new(), |router, (path, route)| router.route(path, route))
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

/// What asks the store. The description in [`openapi`] has these and the others, which a test checks.
fn store_routes<Q: Queue + Inspect, C: Clock>() -> Vec<Route<Q, C>> {
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
        ("/v1/endpoints", get(endpoints::list)),
        ("/v1/endpoints/{id}/pause", post(endpoints::pause)),
        ("/v1/endpoints/{id}/resume", post(endpoints::resume)),
        ("/v1/endpoints/{id}/probe", post(endpoints::probe)),
        ("/v1/webhooks/{name}/pause", post(endpoints::pause_all)),
        ("/v1/webhooks/{name}/resume", post(endpoints::resume_all)),
        ("/v1/stats", get(stats::stats)),
    ]
}

/// What is answered from the definitions, or always in the same way.
fn other_routes<Q: Queue + Inspect, C: Clock>() -> Vec<Route<Q, C>> {
    vec![
        ("/v1/rules", get(definitions::rules)),
        ("/v1/webhooks", get(definitions::webhooks)),
        ("/v1/preview", post(definitions::preview)),
        ("/v1/openapi.json", get(openapi::show)),
    ]
}

/// What tells how this process is.
fn own_routes<Q: Queue + Inspect, C: Clock>() -> Vec<Route<Q, C>> {
    vec![
        ("/metrics", get(metrics::metrics)),
        ("/healthz", get(stats::healthz)),
        ("/readyz", get(stats::readyz)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;
    use axum::http::{Method, Request, header};
    use hookwire_definitions::Definitions;
    use hookwire_engine::{InForce, Metrics, Snapshot, SystemClock};
    use hookwire_model::{EventId, Timestamp};
    use hookwire_queue::{MemoryQueue, StoreLimits};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{ApiLimits, Tokens};

    fn app() -> Arc<App<MemoryQueue, SystemClock>> {
        let snapshot = Snapshot::new(Definitions::default()).unwrap();
        let limits = ApiLimits::default();
        let api = Api {
            queue: Arc::new(MemoryQueue::new(StoreLimits::default())),
            clock: SystemClock,
            new_id: || EventId::new("new").unwrap(),
            limits,
            tokens: Tokens::default(),
            store: None,
            metrics: Metrics::default(),
            in_force: InForce::new(snapshot, Timestamp::UNIX_EPOCH),
            refusal: Arc::new(|_, _| None),
            ready: Arc::default(),
        };
        Arc::new(App { api, room: BodyRoom::new(limits.held_bytes_max, limits.body_timeout) })
    }

    #[tokio::test]
    async fn the_description_has_every_route_and_no_other() {
        let mut routed = BTreeSet::new();
        let routes = store_routes::<MemoryQueue, SystemClock>().into_iter().chain(other_routes());
        for (path, route) in routes.chain(own_routes()) {
            // Asked for a method that no route has, each names those it has.
            let request = Request::builder().method(Method::TRACE).body(Body::empty()).unwrap();
            let answer = route.with_state(app()).oneshot(request).await.unwrap();
            let allowed = answer.headers()[header::ALLOW].to_str().unwrap().to_owned();
            for method in allowed.split(',').filter(|method| *method != "HEAD") {
                routed.insert((path.to_owned(), method.to_ascii_lowercase()));
            }
        }
        let description = serde_json::to_value(openapi::description()).unwrap();
        let described = description["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone()))
        });
        assert_eq!(routed, described.collect());
    }
}
