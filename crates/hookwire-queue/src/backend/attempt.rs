//! An attempt as stores keep it: MessagePack without names of members, two thirds of its JSON, and made in a third of
//! the time.
//!
//! Invariants:
//! - What is read is what was written, with times to the microsecond.
//! - Attempts that stand one after another, with nothing in between, can be told apart: that is a log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, AttemptError, ErrorKind, Hop, OutcomeKind, RequestRecord, ResponseRecord, Timestamp, Timings,
};
use serde::{Deserialize, Serialize};

use crate::QueueError;

/// What is stored. The order of the members is the format.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    number: u32,
    /// Microseconds since 1970.
    started_at: i64,
    /// Microseconds, as all durations here.
    duration: u64,
    outcome: OutcomeKind,
    status: Option<u16>,
    error: Option<(ErrorKind, Cow<'a, str>)>,
    address: Option<SocketAddr>,
    hops: Vec<(u16, Cow<'a, str>, Option<SocketAddr>)>,
    /// Resolve, connect, TLS, head, body.
    timings: [Option<u64>; 5],
    request: Option<PackedRequest<'a>>,
    response: Option<PackedResponse<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PackedRequest<'a> {
    method: Cow<'a, str>,
    url: Cow<'a, str>,
    headers: Cow<'a, [(String, String)]>,
    body_bytes: u64,
    body_sha256: Cow<'a, str>,
    body: Option<Cow<'a, Bytes>>,
}

#[derive(Serialize, Deserialize)]
struct PackedResponse<'a> {
    status: u16,
    headers: Cow<'a, [(String, String)]>,
    body: Cow<'a, Bytes>,
    truncated: bool,
}

/// Writes an attempt.
pub fn pack_attempt(attempt: &Attempt) -> Vec<u8> {
    let Attempt { error, hops, timings, request, response, .. } = attempt;
    let Timings { resolve, connect, tls, head, body } = *timings;
    let packed = Packed {
        number: attempt.number,
        started_at: attempt.started_at.as_micros(),
        duration: micros(attempt.duration),
        outcome: attempt.outcome,
        status: attempt.status,
        error: error.as_ref().map(|error| (error.kind, Cow::from(&error.message))),
        address: attempt.address,
        hops: hops.iter().map(|hop| (hop.status, Cow::from(&hop.url), hop.address)).collect(),
        timings: [resolve, connect, tls, head, body].map(|phase| phase.map(micros)),
        request: request.as_ref().map(|request| PackedRequest {
            method: (&request.method).into(),
            url: (&request.url).into(),
            headers: (&request.headers).into(),
            body_bytes: request.body_bytes,
            body_sha256: (&request.body_sha256).into(),
            body: request.body_base64.as_ref().map(Cow::Borrowed),
        }),
        response: response.as_ref().map(|response| PackedResponse {
            status: response.status,
            headers: (&response.headers).into(),
            body: Cow::Borrowed(&response.body_base64),
            truncated: response.truncated,
        }),
    };
    // Most have less than this; growing by steps would copy.
    let mut out = Vec::with_capacity(768);
    rmp_serde::encode::write(&mut out, &packed)
        .expect("an attempt holds nothing that MessagePack cannot say");
    out
}

/// Reads the attempts of a log, in the order in which they stand.
///
/// # Errors
/// [`QueueError::Damaged`] if something in it is no attempt.
pub fn unpack_attempts(mut log: &[u8]) -> Result<Vec<Attempt>, QueueError> {
    let mut attempts = Vec::new();
    while !log.is_empty() {
        let packed = Packed::deserialize(&mut rmp_serde::Deserializer::new(&mut log));
        let packed =
            packed.map_err(|error| QueueError::Damaged(format!("an attempt cannot be read: {error}")))?;
        attempts.push(packed.into());
    }
    Ok(attempts)
}

impl From<Packed<'_>> for Attempt {
    fn from(packed: Packed<'_>) -> Self {
        let [resolve, connect, tls, head, body] =
            packed.timings.map(|phase| phase.map(Duration::from_micros));
        Attempt {
            number: packed.number,
            started_at: Timestamp::from_micros(packed.started_at),
            duration: Duration::from_micros(packed.duration),
            outcome: packed.outcome,
            status: packed.status,
            error: packed.error.map(|(kind, message)| AttemptError { kind, message: message.into_owned() }),
            address: packed.address,
            hops: packed
                .hops
                .into_iter()
                .map(|(status, url, address)| Hop { status, url: url.into_owned(), address })
                .collect(),
            timings: Timings { resolve, connect, tls, head, body },
            request: packed.request.map(|request| RequestRecord {
                method: request.method.into_owned(),
                url: request.url.into_owned(),
                headers: request.headers.into_owned(),
                body_bytes: request.body_bytes,
                body_sha256: request.body_sha256.into_owned(),
                body_base64: request.body.map(Cow::into_owned),
            }),
            response: packed.response.map(|response| ResponseRecord {
                status: response.status,
                headers: response.headers.into_owned(),
                body_base64: response.body.into_owned(),
                truncated: response.truncated,
            }),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with every member, and one with as few as there can be.
    fn attempts() -> [Attempt; 2] {
        let address = Some("[::1]:9000".parse().unwrap());
        let full = Attempt {
            number: 2,
            started_at: Timestamp::from_micros(1_700_000_000_123_456),
            duration: Duration::from_micros(12_345),
            outcome: OutcomeKind::Rejected,
            status: Some(503),
            error: Some(AttemptError { kind: ErrorKind::ResponseBody, message: "broke off".into() }),
            address,
            hops: vec![Hop { status: 302, url: "http://localhost/é".into(), address }],
            timings: Timings {
                connect: Some(Duration::from_micros(200)),
                body: Some(Duration::ZERO),
                ..Timings::default()
            },
            request: Some(RequestRecord {
                method: "POST".into(),
                url: "http://localhost:9000/".into(),
                headers: vec![("Content-Type".into(), "application/json".into())],
                body_bytes: 2,
                body_sha256: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
                body_base64: Some(Bytes::from_static(b"{}")),
            }),
            response: Some(ResponseRecord {
                status: 503,
                headers: vec![("a".into(), "\u{e9}".into())],
                body_base64: Bytes::from_static(b"\xff\0busy"),
                truncated: true,
            }),
        };
        let bare = Attempt {
            number: 1,
            outcome: OutcomeKind::Unsent,
            status: None,
            error: None,
            address: None,
            hops: Vec::new(),
            timings: Timings::default(),
            request: None,
            response: None,
            ..full.clone()
        };
        [bare, full]
    }

    #[test]
    fn a_log_reads_back_as_it_was_written() {
        let attempts = attempts();
        let log: Vec<u8> = attempts.iter().flat_map(pack_attempt).collect();
        assert_eq!(unpack_attempts(&log).unwrap(), attempts);
        assert_eq!(unpack_attempts(&[]).unwrap(), []);
        let json: usize = attempts.iter().map(|attempt| serde_json::to_string(attempt).unwrap().len()).sum();
        assert!(log.len() * 3 < json * 2, "{} of {json} bytes", log.len());
    }

    #[test]
    fn a_broken_log_is_told() {
        let log = pack_attempt(&attempts()[1]);
        for end in 1..log.len() {
            let error = unpack_attempts(&log[..end]).unwrap_err();
            assert!(matches!(error, QueueError::Damaged(_)), "{error}");
        }
    }
}
