//! An attempt as stores keep it: MessagePack without names of members, two thirds of its JSON, and made in a third of
//! the time.
//!
//! Invariants:
//! - What is read is what was written, with times to the microsecond.
//! - Attempts that stand one after another, with nothing in between, can be told apart: that is a log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, AttemptError, ErrorKind, Hop, OutcomeKind, RequestRecord, ResponseRecord, Timestamp, Timings,
};
use rmp::encode;
use serde::{Deserialize, Serialize as _};

use crate::QueueError;

/// What is stored. The order of the members is the format; [`write_attempt`] writes it member by member, which takes a
/// third of what a serialiser takes.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
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

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct PackedRequest<'a> {
    method: Cow<'a, str>,
    url: Cow<'a, str>,
    headers: Cow<'a, [(String, String)]>,
    body_bytes: u64,
    body_sha256: Cow<'a, str>,
    body: Option<Cow<'a, Bytes>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct PackedResponse<'a> {
    status: u16,
    headers: Cow<'a, [(String, String)]>,
    body: Cow<'a, Bytes>,
    truncated: bool,
}

/// An attempt on its way to a store: packed at once, because the attempt itself takes some thirty pieces of memory, and
/// may wait for others to be settled with; beside it what settling needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedAttempt {
    /// Its number, from 1.
    pub number: u32,
    /// The answer's status, if there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<AttemptError>,
    packed: Arc<[u8]>,
}

impl PackedAttempt {
    /// As stores keep it. Several, one behind the other, are a log.
    pub fn bytes(&self) -> &[u8] {
        &self.packed
    }

    /// The attempt again, with times to the microsecond.
    pub fn unpack(&self) -> Attempt {
        let attempts = unpack_attempts(&self.packed).ok().and_then(|mut attempts| attempts.pop());
        attempts.expect("what was packed can be read")
    }
}

impl From<&Attempt> for PackedAttempt {
    fn from(attempt: &Attempt) -> Self {
        let mut packed = Vec::with_capacity(USUAL_BYTES);
        write_attempt(&mut packed, attempt);
        PackedAttempt {
            number: attempt.number,
            status: attempt.status,
            error: attempt.error.clone(),
            packed: packed.into(),
        }
    }
}

/// Most attempts have less than this; growing by steps would copy.
const USUAL_BYTES: usize = 768;

fn write_attempt(out: &mut Vec<u8>, attempt: &Attempt) {
    let Timings { resolve, connect, tls, head, body } = attempt.timings;
    let mut out = Writer(out);
    out.list(11);
    out.uint(u64::from(attempt.number));
    out.int(attempt.started_at.as_micros());
    out.uint(micros(attempt.duration));
    out.text(attempt.outcome.as_str());
    out.option(attempt.status, |out, status| out.uint(u64::from(status)));
    out.option(attempt.error.as_ref(), |out, error| {
        out.list(2);
        out.text(error.kind.as_str());
        out.text(&error.message);
    });
    out.option(attempt.address, Writer::address);
    out.list(attempt.hops.len());
    for hop in &attempt.hops {
        out.list(3);
        out.uint(u64::from(hop.status));
        out.text(&hop.url);
        out.option(hop.address, Writer::address);
    }
    out.list(5);
    for phase in [resolve, connect, tls, head, body] {
        out.option(phase, |out, phase| out.uint(micros(phase)));
    }
    out.option(attempt.request.as_ref(), |out, request| {
        out.list(6);
        out.text(&request.method);
        out.text(&request.url);
        out.headers(request.headers.iter().map(|(name, value)| (&**name, &**value)));
        out.uint(request.body_bytes);
        out.text(&request.body_sha256);
        out.option(request.body_base64.as_ref(), |out, body| out.bytes(body));
    });
    out.option(attempt.response.as_ref(), |out, response| {
        out.list(4);
        out.uint(u64::from(response.status));
        out.headers(response.headers.iter().map(|(name, value)| (&**name, &**value)));
        out.bytes(&response.body_base64);
        out.bool(response.truncated);
    });
}

/// Writes MessagePack to memory.
struct Writer<'a>(&'a mut Vec<u8>);

/// Memory takes whatever is written; lengths are far below what four bytes count.
const NO_FAILURE: &str = "an attempt holds nothing that MessagePack cannot say";

impl Writer<'_> {
    fn list(&mut self, len: usize) {
        encode::write_array_len(self.0, len as u32).expect(NO_FAILURE);
    }

    fn uint(&mut self, value: u64) {
        encode::write_uint(self.0, value).expect(NO_FAILURE);
    }

    fn int(&mut self, value: i64) {
        encode::write_sint(self.0, value).expect(NO_FAILURE);
    }

    fn bool(&mut self, value: bool) {
        encode::write_bool(self.0, value).expect(NO_FAILURE);
    }

    fn text(&mut self, text: &str) {
        encode::write_str(self.0, text).expect(NO_FAILURE);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        encode::write_bin(self.0, bytes).expect(NO_FAILURE);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => encode::write_nil(self.0).expect(NO_FAILURE),
        }
    }

    fn headers<'h>(&mut self, headers: impl ExactSizeIterator<Item = (&'h str, &'h str)>) {
        self.list(headers.len());
        for (name, value) in headers {
            self.list(2);
            self.text(name);
            self.text(value);
        }
    }

    fn address(&mut self, address: SocketAddr) {
        address.serialize(&mut rmp_serde::Serializer::new(&mut *self.0)).expect(NO_FAILURE);
    }
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
                headers: request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone().into(), value.clone()))
                    .collect(),
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

    fn packed(attempt: &Attempt) -> Vec<u8> {
        PackedAttempt::from(attempt).bytes().to_vec()
    }

    #[test]
    fn a_log_reads_back_as_it_was_written() {
        let attempts = attempts();
        let log: Vec<u8> = attempts.iter().flat_map(packed).collect();
        assert_eq!(attempts.each_ref().map(|attempt| PackedAttempt::from(attempt).unpack()), attempts);
        assert_eq!(unpack_attempts(&log).unwrap(), attempts);
        assert_eq!(unpack_attempts(&[]).unwrap(), []);
        let json: usize = attempts.iter().map(|attempt| serde_json::to_string(attempt).unwrap().len()).sum();
        assert!(log.len() * 3 < json * 2, "{} of {json} bytes", log.len());
    }

    /// What the serialiser makes of the structure that is read.
    #[test]
    fn what_is_written_is_what_the_members_say() {
        for attempt in attempts() {
            let packed = packed(&attempt);
            let read: Packed<'_> = rmp_serde::from_slice(&packed).unwrap();
            assert_eq!(rmp_serde::to_vec(&read).unwrap(), packed);
        }
    }

    #[test]
    fn a_broken_log_is_told() {
        let log = packed(&attempts()[1]);
        for end in 1..log.len() {
            let error = unpack_attempts(&log[..end]).unwrap_err();
            assert!(matches!(error, QueueError::Damaged(_)), "{error}");
        }
    }
}
