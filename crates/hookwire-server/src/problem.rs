//! Answers that say what went wrong: `application/problem+json` (RFC 9457).

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hookwire_model::{DeliveryState, Problem as EventProblem};
use hookwire_queue::QueueError;
use serde::Serialize;

/// Media type of a problem.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// Goes with an answer whose request failed at the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreFailed(pub(crate) Arc<QueueError>);

/// What went wrong with a request.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    /// The status again, for whoever has only the body.
    status: u16,
    /// What kind of problem, in a few words.
    title: &'static str,
    /// This very problem, and what to do about it.
    detail: String,
    /// Each thing that is wrong with the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<EventProblem>,
    /// The state of the delivery that cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<DeliveryState>,
    /// The failure of the store that it is about.
    #[serde(skip)]
    failure: Option<StoreFailed>,
    /// A header that belongs to the status, beside the content type.
    #[serde(skip)]
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            status: status.as_u16(),
            title,
            detail: detail.into(),
            errors: Vec::new(),
            state: None,
            failure: None,
            header: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad request", detail)
    }

    /// One thing that is wrong with a body, with its place as a JSON pointer.
    pub(crate) fn bad_body(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = Problem::bad_request("nothing was done; mend what `errors` names");
        problem.with_errors(vec![EventProblem { pointer: pointer.into(), message: message.into() }])
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too large", detail)
    }

    /// Something that was asked of a delivery cannot be done in the state it is in.
    pub(crate) fn conflict(state: DeliveryState, detail: impl Into<String>) -> Self {
        Problem { state: Some(state), ..Problem::new(StatusCode::CONFLICT, "conflict", detail) }
    }

    pub(crate) fn with_errors(mut self, errors: Vec<EventProblem>) -> Self {
        self.errors = errors;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// Asks to come back after a time, in whole seconds and at least one (RFC 9110 section 10.2.3).
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)))
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let detail = error.to_string();
        let error = Arc::new(error);
        let failure = StoreFailed(Arc::clone(&error));
        let problem = match &*error {
            QueueError::Full { .. } | QueueError::Unavailable { .. } | QueueError::NotWritable { .. } => {
                let retry_after = match &*error {
                    QueueError::Unavailable { retry_after: Some(after), .. } => *after,
                    // A backlog does not go away in a second, nor does a full disk.
                    _ => Duration::from_secs(5),
                };
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store takes nothing now", detail)
                    .retry_after(retry_after)
            }
            QueueError::InUse { .. } | QueueError::UnknownVersion { .. } | QueueError::Damaged(_) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed", detail)
            }
        };
        Problem { failure: Some(failure), ..problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let header = self.header.take();
        let failure = self.failure.take();
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("numbers and strings always serialise");
        let mut response = (status, body).into_response();
        let json = HeaderValue::from_static(PROBLEM);
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(failure) = failure {
            response.extensions_mut().insert(failure);
        }
        if let Some(header) = header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        response
    }
}
