//! Talking to a running server.

use std::io;
use std::time::Duration;

use hookwire_model::Delivery;
use hookwire_worker::{Exit, Failure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long a connection may take; a server on this machine answers at once, and one elsewhere should.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

/// A page of deliveries, as `GET /v1/deliveries` gives it.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Delivery>,
    pub(crate) next_cursor: Option<String>,
}

/// The answer to publishing.
#[derive(Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) ids: Vec<String>,
    pub(crate) duplicates: Vec<String>,
}

/// The body of an answer that says what went wrong (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    detail: String,
    #[serde(default)]
    errors: Vec<ProblemPlace>,
}

#[derive(Debug, Deserialize)]
struct ProblemPlace {
    pointer: String,
    message: String,
}

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No server is there, or it went away.
    Unreachable(String),
    /// The server has no room now, and asks to come back.
    Busy(String),
    /// The server says no.
    Refused(u16, String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unreachable(message) | Refusal::Busy(message) => {
                Failure::message(Exit::Unavailable, message)
            }
            Refusal::Refused(404, message) => Failure::message(Exit::No, message),
            Refusal::Refused(400 | 413 | 422, message) => Failure::message(Exit::Data, message),
            Refusal::Refused(_, message) => Failure::message(Exit::Unavailable, message),
        }
    }
}

impl Client {
    /// A client of the server at a URL, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(url: &str, token: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(REQUEST_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Client { agent, url: url.trim_end_matches('/').to_owned(), token }
    }

    /// Whether a server answers there.
    pub(crate) fn is_alive(&self) -> bool {
        self.agent.get(format!("{}/healthz", self.url)).call().is_ok()
    }

    /// Deliveries that match a query such as `state=dead&limit=10`.
    pub(crate) fn deliveries(&self, query: &str) -> Result<Page, Refusal> {
        self.get(&format!("/v1/deliveries?{query}"))
    }

    /// One delivery with its attempts.
    pub(crate) fn delivery(&self, id: &str) -> Result<Delivery, Refusal> {
        self.get(&format!("/v1/deliveries/{id}"))
    }

    /// Publishes events: JSON, an array, or one a line.
    pub(crate) fn publish(&self, events: &str, content_type: &str) -> Result<Published, Refusal> {
        let request = self.agent.post(format!("{}/v1/events", self.url)).header("content-type", content_type);
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        self.read(request.send(events))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        self.read(request.call())
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Refusal> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
        if (200..300).contains(&status) {
            return serde_json::from_str(&body).map_err(|error| {
                Refusal::Refused(
                    status,
                    format!("{} answers something else than hookwire: {error}", self.url),
                )
            });
        }
        let message = match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => {
                let mut message = format!("{}: {}", problem.title, problem.detail);
                for ProblemPlace { pointer, message: what } in problem.errors {
                    message += &format!("\n  {pointer}: {what}");
                }
                message
            }
            Err(_) => format!("{} answers with status {status}", self.url),
        };
        Err(match status {
            429 | 503 => Refusal::Busy(message),
            _ => Refusal::Refused(status, message),
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Refusal {
        let hint = match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens there; start it with `hookwire serve`"
            }
            _ => "is a hookwire server running there?",
        };
        Refusal::Unreachable(format!("{} cannot be reached: {error} ({hint})", self.url))
    }
}
