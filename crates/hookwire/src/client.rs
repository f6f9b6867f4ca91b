//! Talking to a running server.

use std::io;
use std::time::Duration;

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::{Delivery, DeliveryId};
use hookwire_worker::{Exit, Failure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{StatusCode, Uri, header};

use crate::target::percent_encoded;

/// How long a connection may take; a server on this machine answers at once, and one elsewhere should.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How long it may take to say that a server is there: whoever waits longer finds out by the request itself.
const ALIVE_MAX: Duration = Duration::from_secs(5);
/// The largest answer that is read: a page of deliveries has half a megabyte, a delivery with its bodies some more.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Deliveries in a page, as many as a server gives.
pub(crate) const PAGE_MAX: usize = 500;

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

/// Who answers where a server is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A server that works on the store that is meant.
    Ours,
    /// A server that works on another store.
    Another,
    /// No server of hookwire.
    Nobody,
}

/// A page of deliveries, as `GET /v1/deliveries` gives it.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<Delivery>,
    pub(crate) next_cursor: Option<DeliveryId>,
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
    /// No server is there, or it went away: it may come back.
    Unreachable(String),
    /// The server has no room now, and asks to come back, perhaps not before so long.
    Busy(String, Option<Duration>),
    /// The server says no.
    Refused(StatusCode, String),
    /// It is no server to talk to: a certificate that does not hold, an answer that is none of ours.
    Strange(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (exit, message) = match refusal {
            Refusal::Unreachable(message) | Refusal::Busy(message, _) | Refusal::Strange(message) => {
                (Exit::Unavailable, message)
            }
            Refusal::Refused(StatusCode::NOT_FOUND | StatusCode::CONFLICT, message) => (Exit::No, message),
            Refusal::Refused(
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY,
                message,
            ) => (Exit::Data, message),
            Refusal::Refused(_, message) => (Exit::Unavailable, message),
        };
        Failure::message(exit, message)
    }
}

impl Client {
    /// A client of the server at a URL, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// Exit code 2 for what is no such URL.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let parsed = url.parse::<Uri>().ok();
        let fits = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !fits {
            let message = format!("{url:?} is no URL of a server; write it like http://127.0.0.1:8080");
            return Err(Failure::message(Exit::Usage, message));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(REQUEST_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Client { agent, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Who answers there: a server that works on this store (or on any, without one), one that works on another, or none
    /// of ours, since another program may have the port.
    pub(crate) fn who(&self, store: Option<&str>) -> Who {
        let query = store.map(|store| format!("?store={}", percent_encoded(store))).unwrap_or_default();
        let asked = self.agent.get(format!("{}/healthz{query}", self.url));
        let answer = asked.config().timeout_global(Some(ALIVE_MAX)).build().call();
        let Ok(mut answer) = answer else { return Who::Nobody };
        match (answer.status(), answer.body_mut().read_to_string().as_deref()) {
            // An older server does not look at the name.
            (_, Ok("ok\n")) => Who::Ours,
            (StatusCode::MISDIRECTED_REQUEST, _) => Who::Another,
            _ => Who::Nobody,
        }
    }

    /// What a path shows.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        self.read(request.call())
    }

    /// Does what a path is for, with a JSON body.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Refusal> {
        self.send(path, &body.to_string(), "application/json")
    }

    /// Publishes events, one a line.
    pub(crate) fn publish(&self, lines: &str) -> Result<Published, Refusal> {
        self.send("/v1/events", lines, "application/x-ndjson")
    }

    fn send<T: DeserializeOwned>(&self, path: &str, body: &str, content_type: &str) -> Result<T, Refusal> {
        let request =
            self.agent.post(format!("{}{path}", self.url)).header(header::CONTENT_TYPE, content_type);
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        self.read(request.send(body))
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Refusal> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after =
            retry_after.and_then(|value| hookwire_policy::retry_after(value, SystemClock.now()));
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if status.is_success() {
            return serde_json::from_str(&body).map_err(|error| {
                Refusal::Strange(format!("{} answers something else than hookwire: {error}", self.url))
            });
        }
        let message = match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => {
                let mut message = format!("{} says: {}: {}", self.url, problem.title, problem.detail);
                if status == StatusCode::UNAUTHORIZED {
                    message += " (the token is taken from the environment variable HOOKWIRE_TOKEN)";
                }
                for ProblemPlace { pointer, message: what } in problem.errors {
                    message += &format!("\n  {pointer}: {what}");
                }
                message
            }
            Err(_) => format!("{} answers with status {status}", self.url),
        };
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Refusal::Busy(message, retry_after)
            }
            // What a proxy says of a server that is away.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Refusal::Unreachable(message),
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
        let message = format!("{} cannot be reached: {error} ({hint})", self.url);
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyStalled => Refusal::Unreachable(message),
            _ => Refusal::Strange(message),
        }
    }
}
