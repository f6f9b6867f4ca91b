//! Deliveries and their attempts: what was promised, what was tried, and how each try ended.
//!
//! Invariants:
//! - An attempt is recorded as it was. What the other side did is an [`Outcome`], never an `Err`.
//! - The serde forms of [`Attempt`] and [`Delivery`] are the JSON that the command line and the API show.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{DeliveryId, EndpointId, EventId, HeaderText, RuleName, Timestamp, ValueError, WebhookName};

/// A closed set of words, as they stand in JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that stands in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = InvalidWord;

            fn from_str(text: &str) -> Result<Self, InvalidWord> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(ValueError::new(text, [$($word),+].join(", "))),
                }
            }
        }
    };
}

/// A word outside its closed set.
pub type InvalidWord = ValueError;

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// It waits to be sent; `waiting_reason` says for what.
        Waiting = "waiting",
        /// A worker holds it.
        Running = "running",
        /// The receiver answered with a 2xx status.
        Delivered = "delivered",
        /// It gets no more attempts by itself; `dead_reason` says why.
        Dead = "dead",
        /// A person took it back.
        Cancelled = "cancelled",
        /// A newer state of the same object was sent in its place.
        Superseded = "superseded",
    }
}

impl DeliveryState {
    /// Whether nothing more happens to it by itself or by a worker, dead letters apart.
    pub fn is_finished(self) -> bool {
        matches!(self, DeliveryState::Delivered | DeliveryState::Cancelled | DeliveryState::Superseded)
    }
}

words! {
    /// What a waiting delivery waits for.
    WaitingReason {
        /// The next attempt after a failed one.
        Retry = "retry",
        /// Room at its endpoint: as many attempts as allowed are in flight.
        Room = "room",
        /// The endpoint's rate limit.
        RateLimit = "rate_limit",
        /// The endpoint fails, and is only probed now and then.
        Unhealthy = "unhealthy",
        /// The endpoint or webhook is paused.
        Paused = "paused",
        /// The webhook is disabled.
        WebhookDisabled = "webhook_disabled",
        /// The definitions have no such webhook now.
        WebhookRemoved = "webhook_removed",
        /// An earlier delivery of the same object.
        Order = "order",
        /// A worker: a person asked for it to be sent, or the worker that held it stopped.
        Worker = "worker",
    }
}

words! {
    /// Why a delivery became a dead letter.
    DeadReason {
        /// All attempts were used up.
        AttemptsExhausted = "attempts_exhausted",
        /// It got older than the webhook allows.
        AgeExceeded = "age_exceeded",
        /// The receiver answered 410: it wants no more.
        Gone = "gone",
        /// URL, headers or body could not be rendered.
        RenderError = "render_error",
        /// What was rendered is no valid URL or header.
        InvalidRequest = "invalid_request",
        /// The egress policy forbids the address.
        EgressRefused = "egress_refused",
        /// The event cannot be read.
        UnreadableEvent = "unreadable_event",
        /// Workers that held the event died, again and again.
        PoisonEvent = "poison_event",
        /// Handling the event broke an assumption of the worker, which went on with the others.
        Panic = "panic",
        /// The endpoint's backlog went past its limit.
        BacklogLimit = "backlog_limit",
    }
}

words! {
    /// How an attempt ended, in one word.
    OutcomeKind {
        /// A 2xx status within the deadline.
        Succeeded = "succeeded",
        /// Any other status.
        Rejected = "rejected",
        /// No response head came: resolving, connecting, TLS, sending or waiting failed.
        Unanswered = "unanswered",
        /// Nothing was sent: the request could not be made, or may not be.
        Unsent = "unsent",
    }
}

words! {
    /// What went wrong with an attempt.
    ErrorKind {
        /// The URL could not be rendered, or is none.
        Url = "url",
        /// The headers could not be rendered, or HTTP forbids them.
        Headers = "headers",
        /// The body could not be rendered.
        Body = "body",
        /// The egress policy forbids the address.
        Egress = "egress",
        /// The host's name could not be resolved.
        Dns = "dns",
        /// No connection came about.
        Connect = "connect",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The connection broke before the response head was there.
        Reset = "reset",
        /// What came back is no HTTP.
        Protocol = "protocol",
        /// The deadline passed before the response head was there.
        Timeout = "timeout",
        /// The response body broke off, or went on past the deadline.
        ResponseBody = "response_body",
        /// A redirect could not be followed: too many, or nowhere to.
        Redirect = "redirect",
        /// The event cannot be read, or is larger than is allowed.
        Event = "event",
        /// The worker broke an assumption of its own.
        Internal = "internal",
    }
}

/// What went wrong, for people (`message`) and programs (`kind`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptError {
    /// The class of the error.
    pub kind: ErrorKind,
    /// What happened, with its cause.
    pub message: String,
}

/// How an attempt ended: a value, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A response head came within the deadline.
    Answered {
        /// The status of the response.
        status: u16,
        /// `Retry-After`, as it was sent.
        retry_after: Option<String>,
    },
    /// No response head came.
    Unanswered(AttemptError),
    /// Nothing was sent: the request could not be made, or may not be. With [`ErrorKind::Connect`] or [`ErrorKind::Dns`]
    /// this process had nothing to send it with, such as a socket, and it was no attempt.
    Unsent(AttemptError),
}

impl Outcome {
    /// The outcome in one word.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Answered { status: 200..=299, .. } => OutcomeKind::Succeeded,
            Outcome::Answered { .. } => OutcomeKind::Rejected,
            Outcome::Unanswered(_) => OutcomeKind::Unanswered,
            Outcome::Unsent(_) => OutcomeKind::Unsent,
        }
    }
}

/// One HTTP request for a delivery, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds with microsecond digits.
    #[serde(rename = "duration_ms", with = "duration_ms")]
    pub duration: Duration,
    /// How it ended, in one word.
    pub outcome: OutcomeKind,
    /// The response's status.
    pub status: Option<u16>,
    /// What went wrong; also with a status, where the response's body broke off.
    pub error: Option<AttemptError>,
    /// The address that was dialled.
    pub address: Option<SocketAddr>,
    /// The redirects that were followed.
    pub hops: Vec<Hop>,
    /// Where the time went.
    pub timings: Timings,
    /// What was sent; `None` if nothing could be made to send.
    pub request: Option<RequestRecord>,
    /// What came back.
    pub response: Option<ResponseRecord>,
}

/// One redirect that was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The status that redirected.
    pub status: u16,
    /// Where it led to.
    pub url: String,
    /// The address that was dialled for it.
    pub address: Option<SocketAddr>,
}

/// Where the time of an attempt went. A phase that did not happen is absent: a reused connection has no `connect`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Resolving the host's name.
    #[serde(
        rename = "resolve_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub resolve: Option<Duration>,
    /// Connecting.
    #[serde(
        rename = "connect_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub connect: Option<Duration>,
    /// The TLS handshake.
    #[serde(
        rename = "tls_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub tls: Option<Duration>,
    /// From the first byte sent to the response head.
    #[serde(
        rename = "head_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub head: Option<Duration>,
    /// From the response head to the end of its body.
    #[serde(
        rename = "body_ms",
        with = "optional_duration_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub body: Option<Duration>,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The request method.
    pub method: String,
    /// The URL, user and password left out.
    pub url: String,
    /// Header names and values in the order they went out, secrets masked.
    pub headers: Vec<(HeaderText, String)>,
    /// Size of the body in bytes.
    pub body_bytes: u64,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// The body itself, if the history keeps bodies.
    #[serde(with = "optional_base64")]
    pub body_base64: Option<Bytes>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseRecord {
    /// The response's status.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    #[serde(with = "base64")]
    pub body_base64: Bytes,
    /// Whether there was more of the body than is kept here.
    pub truncated: bool,
}

/// A delivery with its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same over all attempts.
    pub id: DeliveryId,
    /// The event it delivers.
    pub event_id: EventId,
    /// What happened, as templates see it; `None` if the event cannot be read.
    pub event: Option<String>,
    /// The type of the object; `None` if the event cannot be read.
    pub object_type: Option<String>,
    /// The rule that matched; `None` for an event that never reached fan-out.
    pub rule: Option<RuleName>,
    /// The webhook it goes to; `None` for an event that never reached fan-out.
    pub webhook: Option<WebhookName>,
    /// The endpoint, once it was rendered.
    pub endpoint: Option<EndpointId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// What it waits for.
    pub waiting_reason: Option<WaitingReason>,
    /// How many attempts were made, interrupted ones among them.
    pub attempts: u32,
    /// How many attempts were cut off, as far as is known: their worker died or lost its lease.
    pub interrupted: u32,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When its event was accepted.
    pub created_at: Timestamp,
    /// When it was delivered, died, was cancelled or superseded.
    pub finished_at: Option<Timestamp>,
    /// Status of the last attempt that got one.
    pub last_status: Option<u16>,
    /// Error of the last attempt.
    pub last_error: Option<AttemptError>,
    /// Why it is a dead letter.
    pub dead_reason: Option<DeadReason>,
    /// All recorded attempts; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_log: Option<Vec<Attempt>>,
}

mod duration_ms {
    //! A duration as a JSON number of milliseconds, to the microsecond.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_micros() as f64 / 1000.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let millis = f64::deserialize(deserializer)?;
        Ok(Duration::from_micros((millis * 1000.0).round() as u64))
    }
}

mod optional_duration_ms {
    //! The same, where it may be absent.

    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration_ms::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let millis = Option::<f64>::deserialize(deserializer)?;
        Ok(millis.map(|millis| Duration::from_micros((millis * 1000.0).round() as u64)))
    }
}

mod base64 {
    //! Bytes as base 64 (RFC 4648 section 4).

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

mod optional_base64 {
    //! The same, where it may be null.

    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::base64")] Bytes);

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::base64::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_reads_back_as_it_was_written() {
        let attempt = Attempt {
            number: 2,
            started_at: Timestamp::from_micros(1_700_000_000_123_456),
            duration: Duration::from_micros(12_345),
            outcome: OutcomeKind::Rejected,
            status: Some(503),
            error: None,
            address: Some("127.0.0.1:9000".parse().unwrap()),
            hops: vec![],
            timings: Timings { connect: Some(Duration::from_micros(200)), ..Timings::default() },
            request: Some(RequestRecord {
                method: "POST".into(),
                url: "http://localhost:9000/".into(),
                headers: vec![("Content-Type".into(), "application/json".into())],
                body_bytes: 2,
                body_sha256: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
                body_base64: None,
            }),
            response: Some(ResponseRecord {
                status: 503,
                headers: vec![],
                body_base64: Bytes::from_static(b"busy"),
                truncated: false,
            }),
        };
        let json = serde_json::to_string(&attempt).unwrap();
        assert_eq!(serde_json::from_str::<Attempt>(&json).unwrap(), attempt);
        assert!(
            json.contains(r#""duration_ms":12.345"#) && json.contains(r#""body_base64":"YnVzeQ==""#),
            "{json}"
        );
    }

    #[test]
    fn words_read_back_as_they_were_written() {
        for state in DeliveryState::ALL {
            assert_eq!(state.as_str().parse::<DeliveryState>().unwrap(), *state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn only_a_2xx_status_is_a_success() {
        let kind = |status| Outcome::Answered { status, retry_after: None }.kind();
        assert_eq!(
            [199, 200, 299, 300].map(kind),
            [OutcomeKind::Rejected, OutcomeKind::Succeeded, OutcomeKind::Succeeded, OutcomeKind::Rejected]
        );
    }
}
