//! The event: something that happened, told by a producer, never changed.
//!
//! Invariants:
//! - An unknown member is refused with its path: a typo must not vanish.
//! - [`Event::to_payload`] and [`Event::parse`] are inverses: what a store keeps reads back as the same event.
//! - `data`, `request`, `snapshots` and `context` are parts of the text that was read, and share it.

mod read;

use std::sync::Arc;

use hookwire_json::{Json, plain_len};
use serde_json::Value;

use crate::{EventId, EventTime, ObjectType, Shard, Timestamp};

/// Something that happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The idempotency key: the same id published twice within the window is one event.
    pub id: EventId,
    /// What happened, as templates see it: `created`, `updated`, `deleted` or any other name.
    pub event: Arc<str>,
    /// What rules match, where it differs from `event` (NetBox: `job_completed`, while templates see `job_ended`).
    pub event_type: Option<Arc<str>>,
    /// `app_label.model`, such as `dcim.site`.
    pub object_type: ObjectType,
    /// The identity of the object: together with its type the unit of order. `None`: no order.
    pub object_id: Option<Arc<str>>,
    /// When it happened, as the producer wrote it.
    pub timestamp: EventTime,
    /// Who did it.
    pub username: Option<Arc<str>>,
    /// In which request.
    pub request_id: Option<Arc<str>>,
    /// The object as it is now: a JSON object.
    pub data: Json,
    /// The request that led to the event: a JSON object.
    pub request: Option<Json>,
    /// The object before and after: a JSON object with `prechange` and `postchange`, each an object or null.
    pub snapshots: Option<Json>,
    /// Whatever else templates may use: a JSON object.
    pub context: Option<Json>,
}

/// What an event that lacks them gets. The caller owns clock and chance.
pub struct EventDefaults<'a> {
    /// The time it is now, for an event without `timestamp`.
    pub now: Timestamp,
    /// Makes a new unique id, for an event without `id` whose bytes do not identify it.
    pub new_id: &'a mut dyn FnMut() -> EventId,
}

impl Event {
    /// Reads one event from its JSON.
    ///
    /// An event without `id` gets a hash of its bytes if `timestamp`, `username` and `request_id` are all there, else a
    /// new id.
    ///
    /// # Errors
    /// [`EventError`] with every problem there is, each with a JSON pointer (RFC 6901).
    pub fn parse(text: &str, defaults: &mut EventDefaults<'_>) -> Result<Event, EventError> {
        read::event(text, defaults)
    }

    /// Reads an event back from the payload that [`to_payload`](Self::to_payload) made.
    ///
    /// # Errors
    /// [`EventError`] if it is no event, or lacks what a payload always has.
    pub fn from_payload(payload: &[u8]) -> Result<Event, EventError> {
        let text = std::str::from_utf8(payload)
            .map_err(|error| EventError::one("", format!("not UTF-8: {error}")))?;
        let mut missing_id = false;
        let mut new_id = || {
            missing_id = true;
            EventId::from_content(payload)
        };
        let event =
            Event::parse(text, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id })?;
        if missing_id { Err(EventError::one("/id", "missing from a stored event")) } else { Ok(event) }
    }

    /// The shard it belongs to, of so many: that of its object, or, without an object, one that follows from its id.
    ///
    /// FNV-1a over the object's type, a zero byte and its id (or over the event's id), because it must give the same
    /// shard in every version, in every language and on every machine; it need not resist an attacker, who could at
    /// worst fill one shard with events of objects that are theirs to name anyway.
    pub fn shard(&self, shards: u16) -> Shard {
        if shards <= 1 {
            return Shard(0);
        }
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        match &self.object_id {
            Some(object_id) => {
                mix(self.object_type.as_str().as_bytes());
                mix(&[0]);
                mix(object_id.as_bytes());
            }
            None => mix(self.id.as_str().as_bytes()),
        }
        Shard(u16::try_from(hash % u64::from(shards)).expect("the remainder is below a u16"))
    }

    /// The event as compact JSON, complete with id, timestamp and object id: what a store keeps.
    pub fn to_payload(&self) -> String {
        let documents = [
            (",\"data\":", Some(&self.data)),
            (",\"request\":", self.request.as_ref()),
            (",\"snapshots\":", self.snapshots.as_ref()),
            (",\"context\":", self.context.as_ref()),
        ];
        let len = documents.iter().flat_map(|(_, json)| json).map(|json| json.as_str().len()).sum::<usize>();
        let mut out = String::with_capacity(len + 320);
        // `peek` relies on the order of these.
        push_member(&mut out, "{\"id\":", Some(self.id.as_str()));
        push_member(&mut out, ",\"event\":", Some(&self.event));
        if let Some(event_type) = &self.event_type {
            push_member(&mut out, ",\"event_type\":", Some(event_type));
        }
        push_member(&mut out, ",\"object_type\":", Some(self.object_type.as_str()));
        if let Some(object_id) = &self.object_id {
            push_member(&mut out, ",\"object_id\":", Some(object_id));
        }
        push_member(&mut out, ",\"timestamp\":", Some(self.timestamp.as_str()));
        push_member(&mut out, ",\"username\":", self.username.as_deref());
        push_member(&mut out, ",\"request_id\":", self.request_id.as_deref());
        for (name, json) in documents {
            push_document(&mut out, name, json);
        }
        out.push('}');
        out
    }

    /// What a payload that [`to_payload`](Self::to_payload) made is about, at a glance: enough to learn whether any rule
    /// could be about the event, without reading it as a whole.
    ///
    /// Nothing if the payload does not begin as such payloads do, or if what it begins with holds an escape; then the
    /// event has to be read. An answer does not say that the payload is sound, and holds only if
    /// [`to_payload`](Self::to_payload) made it.
    pub fn peek(payload: &[u8]) -> Option<Peeked<'_>> {
        let (_, rest) = peek_member(payload, b"{\"id\":\"")?;
        let (event, rest) = peek_member(rest, b",\"event\":\"")?;
        let (matched_type, rest) = peek_member(rest, b",\"event_type\":\"").unwrap_or((event, rest));
        let (object_type, rest) = peek_member(rest, b",\"object_type\":\"")?;
        // What follows tells that no `event_type` comes out of its place.
        let is_whole = rest.starts_with(b",\"object_id\":\"") || rest.starts_with(b",\"timestamp\":\"");
        if !is_whole {
            return None;
        }
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Some(Peeked {
            event: short_event_name(text(event)?),
            matched_type: short_event_name(text(matched_type)?),
            object_type: text(object_type)?,
        })
    }

    /// What rules match: `event_type` if there is one, else `event`.
    pub fn matched_type(&self) -> &str {
        self.event_type.as_deref().unwrap_or(&self.event)
    }
}

/// What [`Event::peek`] sees of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked<'a> {
    /// What happened, as [`Event::event`].
    pub event: &'a str,
    /// What rules match, as [`Event::matched_type`].
    pub matched_type: &'a str,
    /// `app_label.model`, unchecked.
    pub object_type: &'a str,
}

/// The string without escapes that follows this beginning, and what stands behind it.
#[inline(always)]
fn peek_member<'a>(payload: &'a [u8], beginning: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let content = payload.strip_prefix(beginning)?;
    let (text, end) = content.split_at(plain_len(content));
    Some((text, end.strip_prefix(b"\"")?))
}

/// Appends a string as a JSON string literal.
pub(crate) fn push_text(out: &mut String, text: &str) {
    // Nearly every string needs no escape; those that do take serde_json's way.
    if plain_len(text.as_bytes()) == text.len() {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// Appends a member that is a string or null; `name` comes with what stands around it.
pub(crate) fn push_member(out: &mut String, name: &str, text: Option<&str>) {
    out.push_str(name);
    match text {
        Some(text) => push_text(out, text),
        None => out.push_str("null"),
    }
}

/// Appends a member that is a document, if it is there; `name` comes with what stands around it.
pub(crate) fn push_document(out: &mut String, name: &str, document: Option<&Json>) {
    if let Some(document) = document {
        out.push_str(name);
        out.push_str(document.as_str());
    }
}

/// NetBox calls its events `object_created` and so on in rules, and `created` in templates; hookwire knows the short
/// form only.
pub fn short_event_name(name: &str) -> &str {
    match name {
        "object_created" => "created",
        "object_updated" => "updated",
        "object_deleted" => "deleted",
        other => other,
    }
}

/// One thing that is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What, and what to do about it.
    pub message: String,
}

/// Why a text was refused as an event: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError {
    /// At least one, in the order of the document.
    pub problems: Vec<Problem>,
}

impl EventError {
    fn one(pointer: &str, message: impl Into<String>) -> Self {
        EventError { problems: vec![Problem { pointer: pointer.into(), message: message.into() }] }
    }
}

impl std::fmt::Display for EventError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            match problem.pointer.as_str() {
                "" => write!(f, "{separator}{}", problem.message)?,
                pointer => write!(f, "{separator}{pointer}: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for EventError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Event, EventError> {
        let mut new_id = || EventId::new("new").unwrap();
        Event::parse(
            text,
            &mut EventDefaults { now: Timestamp::from_secs(1_700_000_000), new_id: &mut new_id },
        )
    }

    fn refusals(text: &str) -> Vec<String> {
        let error = parse(text).expect_err("the event should be refused");
        error
            .problems
            .into_iter()
            .map(|problem| format!("{}: {}", problem.pointer, problem.message))
            .collect()
    }

    #[test]
    fn the_least_event_gets_its_defaults() {
        let event = parse(r#"{"event":"object_created","object_type":"dcim.site","data":{"id":7}}"#).unwrap();
        assert_eq!(
            (event.id.as_str(), &*event.event, event.object_id.as_deref()),
            ("new", "created", Some("7"))
        );
        assert_eq!(event.timestamp.as_str(), "2023-11-14T22:13:20.000000Z");
        assert_eq!(event.matched_type(), "created");
    }

    #[test]
    fn an_event_that_tells_who_when_and_where_is_identified_by_its_bytes() {
        let text = r#"{"event":"created","object_type":"a.b","data":{},"timestamp":"2026-01-01 00:00:00Z","username":null,"request_id":"r"}"#;
        let event = parse(text).unwrap();
        assert_eq!(event.id, EventId::from_content(text.as_bytes()));
        assert_eq!(parse(&format!(" {text}\n")).unwrap().id, event.id);
        assert_eq!(event.timestamp.as_str(), "2026-01-01 00:00:00Z");
    }

    #[test]
    fn a_payload_reads_back_as_the_same_event() {
        let text = r#"{"event":"job_ended","event_type":"job_completed","object_type":"core.job","object_id":"x\"y","username":"zoë","request_id":null,
            "data":{"big": 123456789012345678901234567890, "one": 1.0}, "request": {}, "snapshots": {"prechange": null}, "context": {"a": "\u0001"}}"#;
        let event = parse(text).unwrap();
        let payload = event.to_payload();
        assert_eq!(Event::from_payload(payload.as_bytes()).unwrap(), event);
        assert!(payload.contains(r#""data":{"big":123456789012345678901234567890,"one":1.0}"#), "{payload}");
        assert_eq!(event.matched_type(), "job_completed");
    }

    #[test]
    fn a_payload_tells_at_a_glance_what_it_is_about() {
        let peek = |text: &str| {
            let payload = parse(text).unwrap().to_payload();
            Event::peek(payload.as_bytes())
                .map(|seen| (seen.matched_type.to_owned(), seen.object_type.to_owned()))
        };
        let seen = |event: &str, object: &str| Some((event.to_owned(), object.to_owned()));
        assert_eq!(
            peek(r#"{"event":"object_updated","object_type":"dcim.site","data":{"id":7}}"#),
            seen("updated", "dcim.site")
        );
        assert_eq!(
            peek(r#"{"event":"job_ended","event_type":"job_completed","object_type":"core.job","data":{}}"#),
            seen("job_completed", "core.job")
        );
        assert_eq!(peek(r#"{"event":"a\"b","object_type":"a.b","data":{}}"#), None);
        for payload in [
            "",
            "{}",
            r#"{"id":"a","event":"b"#,
            r#"{"id":"a","event":"b","object_type":"a.b"}"#,
            r#"{"id":"a","event":"b","object_type":"a.b","event_type":"c","timestamp":"2026-01-01T00:00:00Z"}"#,
            r#"{"event":"b","id":"a","object_type":"a.b","timestamp":"2026-01-01T00:00:00Z"}"#,
            r#"{"id":"a", "event":"b","object_type":"a.b","timestamp":"2026-01-01T00:00:00Z"}"#,
            r#"{"id":"a","event":"b","event_type":null,"object_type":"a.b","timestamp":"2026-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(Event::peek(payload.as_bytes()), None, "{payload}");
        }
        assert_eq!(
            Event::peek(b"{\"id\":\"a\",\"event\":\"\xff\",\"object_type\":\"a.b\",\"timestamp\":\"\""),
            None
        );
    }

    proptest! {
        #[test]
        fn a_glance_tells_what_reading_tells(
            event in "(object_)?(created|job)|[a-c\"\\\\/é]{1,9}",
            event_type in prop::option::of("(object_)?(created|job)|[a-c\"\\\\/é]{1,9}"),
            object_type in "[a-z\"\\\\]{1,9}\\.[a-z]{1,9}",
            object_id in prop::option::of("[a-z\"]{1,9}"),
        ) {
            let mut members = serde_json::json!({"event": event, "object_type": object_type, "data": {}});
            for (name, value) in [("event_type", event_type), ("object_id", object_id)] {
                if let Some(value) = value {
                    members[name] = value.into();
                }
            }
            let payload = parse(&members.to_string()).unwrap().to_payload();
            let read = Event::from_payload(payload.as_bytes()).unwrap();
            let seen = Event::peek(payload.as_bytes());
            let holds_escape = [read.event.as_ref(), read.matched_type(), read.object_type.as_str()]
                .iter()
                .any(|text| text.contains(['"', '\\']));
            prop_assert_eq!(seen.is_none(), holds_escape);
            if let Some(seen) = seen {
                prop_assert_eq!(seen.event, &*read.event);
                prop_assert_eq!(seen.matched_type, read.matched_type());
                prop_assert_eq!(seen.object_type, read.object_type.as_str());
            }
        }
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        assert_eq!(
            refusals(
                r#"{"event": 1, "object_type": "dcim.site", "snapshot": {}, "username": [], "data": []}"#
            ),
            [
                "/event: needs a string, has a number",
                "/snapshot: unknown member; did you mean \"snapshots\"?",
                "/username: needs a string or null, has an array",
                "/data: needs an object, has an array",
            ]
        );
        assert_eq!(
            refusals(r#"{"event": "a b", "object_type": "site", "id": "a.b", "timestamp": "today", "data": {}, "snapshots": {"pre": 1, "prechange": 2}, "request": {"id": 1, "nope": 1, "user": null}, "model": "x"}"#)
                .iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>(),
            ["/id", "/event", "/object_type", "/timestamp", "/request/id", "/request/nope", "/snapshots/pre", "/snapshots/prechange"]
        );
        assert_eq!(refusals("[]"), [": an event is a JSON object, this is an array"]);
        assert!(refusals("{").first().unwrap().contains("line 1 column 1"));
        assert_eq!(
            refusals(r#"{"event":"a","event":"b","object_type":"a.b","data":{}}"#),
            ["/event: stands there more than once"]
        );
        let deep = format!(
            r#"{{"event":"a","object_type":"a.b","data":{{"a":{}}}}}"#,
            "[".repeat(200) + &"]".repeat(200)
        );
        assert_eq!(refusals(&deep), ["/data: nested more than 100 deep"]);
        assert_eq!(
            refusals(
                r#"{"context":{"a":"\udc00"},"username":"\ud83d","event":"a","object_type":"a.b","data":{}}"#
            ),
            [
                r"/username: a string holds the lone surrogate \ud83d, which is no character",
                r"/context: a string holds the lone surrogate \udc00, which is no character",
            ]
        );
        assert_eq!(
            refusals(r#"{"event":"a","object_type":"a.b"}"#),
            ["/data: missing: the object as it is now"]
        );
        assert_eq!(
            refusals(r#"{"event":"a","object_type":"a.b","data":{},"request":null}"#),
            ["/request: needs an object, has null"]
        );
    }

    #[test]
    fn a_stored_event_without_its_id_is_refused() {
        let error = Event::from_payload(br#"{"event":"a","object_type":"a.b","data":{}}"#).unwrap_err();
        assert_eq!(error.to_string(), "/id: missing from a stored event");
    }
}
