//! Answers that say what went wrong: `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hookwire_model::Problem as EventProblem;
use hookwire_queue::QueueError;
use serde::Serialize;

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
    #[serde(skip)]
    retry_after_secs: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Problem {
            status: status.as_u16(),
            title,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_secs: None,
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad request", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    pub(crate) fn with_errors(mut self, errors: Vec<EventProblem>) -> Self {
        self.errors = errors;
        self
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let detail = error.to_string();
        tracing::warn!(error = &error as &dyn std::error::Error, "a request failed at the store");
        match error {
            QueueError::Full { .. } | QueueError::Unavailable { .. } | QueueError::NotWritable { .. } => {
                let retry_after = match &error {
                    QueueError::Unavailable { retry_after: Some(after), .. } => after.as_secs().max(1),
                    // A backlog does not go away in a second, nor does a full disk.
                    _ => 5,
                };
                let mut problem =
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the store takes nothing now", detail);
                problem.retry_after_secs = Some(retry_after);
                problem
            }
            QueueError::InUse { .. } | QueueError::UnknownVersion { .. } | QueueError::Damaged(_) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("numbers and strings always serialise");
        let mut response = (status, body).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
