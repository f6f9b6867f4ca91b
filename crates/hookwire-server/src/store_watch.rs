//! Saying once that requests fail at the store, and once that they do not any more, however many come meanwhile.
//!
//! Invariant: looking and changing are told apart, since a store that takes nothing may still be looked into.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::problem::StoreFailed;

/// What fails at the moment.
#[derive(Debug, Default)]
pub(crate) struct StoreWatch {
    looking: AtomicBool,
    changing: AtomicBool,
}

/// Passes a request on that needs the store, and says how it went where that is news.
pub(crate) async fn watch_store(
    State(watch): State<Arc<StoreWatch>>,
    request: Request,
    next: Next,
) -> Response {
    let is_looking = matches!(*request.method(), Method::GET | Method::HEAD);
    let (fails, what) = if is_looking { (&watch.looking, "looking") } else { (&watch.changing, "changing") };
    let response = next.run(request).await;
    if let Some(StoreFailed(error)) = response.extensions().get() {
        if !fails.swap(true, Ordering::Relaxed) {
            let error = &**error as &(dyn std::error::Error + 'static);
            tracing::warn!(what, error, "requests fail at the store; this is said once, and when it is over");
        }
    } else if response.status().is_success() && fails.swap(false, Ordering::Relaxed) {
        tracing::info!(what, "requests no longer fail at the store");
    }
    response
}
