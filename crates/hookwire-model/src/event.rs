//! The event: something that happened, told by a producer, never changed.
//!
//! Invariants:
//! - An unknown member is refused with its path: a typo must not vanish.
//! - [`Event::to_payload`] and [`Event::parse`] are inverses: what a store keeps reads back as the same event.
//! - `data`, `request`, `snapshots` and `context` are kept as text and parsed only when somebody looks into them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use hookwire_json::Json;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

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
        match serde_json::from_str::<Wire<'_>>(text) {
            Ok(wire) => wire.into_event(text, defaults),
            Err(error) => Err(diagnose(text, &error)),
        }
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
        let rest = [&self.request, &self.snapshots, &self.context]
            .into_iter()
            .flatten()
            .map(|json| json.as_str().len());
        let mut out = String::with_capacity(self.data.as_str().len() + rest.sum::<usize>() + 320);
        out.push_str("{\"id\":");
        push_text(&mut out, self.id.as_str());
        push_member(&mut out, "event", Some(&self.event));
        if let Some(event_type) = &self.event_type {
            push_member(&mut out, "event_type", Some(event_type));
        }
        push_member(&mut out, "object_type", Some(self.object_type.as_str()));
        if let Some(object_id) = &self.object_id {
            push_member(&mut out, "object_id", Some(object_id));
        }
        push_member(&mut out, "timestamp", Some(self.timestamp.as_str()));
        push_member(&mut out, "username", self.username.as_deref());
        push_member(&mut out, "request_id", self.request_id.as_deref());
        let documents = [
            ("data", Some(&self.data)),
            ("request", self.request.as_ref()),
            ("snapshots", self.snapshots.as_ref()),
            ("context", self.context.as_ref()),
        ];
        for (name, document) in documents {
            if let Some(document) = document {
                let _ = write!(out, ",\"{name}\":{}", document.as_str());
            }
        }
        out.push('}');
        out
    }

    /// What rules match: `event_type` if there is one, else `event`.
    pub fn matched_type(&self) -> &str {
        self.event_type.as_deref().unwrap_or(&self.event)
    }
}

/// Appends a string as a JSON string literal.
pub(crate) fn push_text(out: &mut String, text: &str) {
    // Nearly every string needs no escape; those that do take serde_json's way.
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

fn push_member(out: &mut String, name: &str, value: Option<&str>) {
    let _ = write!(out, ",\"{name}\":");
    match value {
        Some(text) => push_text(out, text),
        None => out.push_str("null"),
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

/// An event as it stands in JSON. Everything that [`diagnose`] tells in detail is refused here without detail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    object_type: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    object_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    username: Nullable<'a>,
    #[serde(borrow, default)]
    request_id: Nullable<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "present")]
    request: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    snapshots: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<&'a RawValue>,
}

/// A member that may be null, which is not the same as absent.
#[derive(Default)]
enum Nullable<'a> {
    #[default]
    Absent,
    Null,
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Nullable<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
        Ok(match Option::<Text<'a>>::deserialize(deserializer)? {
            Some(Text(text)) => Nullable::Text(text),
            None => Nullable::Null,
        })
    }
}

impl Nullable<'_> {
    fn is_present(&self) -> bool {
        !matches!(self, Nullable::Absent)
    }

    fn into_text(self) -> Option<Arc<str>> {
        match self {
            Nullable::Text(text) => Some(text.into()),
            Nullable::Absent | Nullable::Null => None,
        }
    }
}

/// Reads a member that may be absent but not null: serde would take null for absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Wire<'_> {
    fn into_event(self, text: &str, defaults: &mut EventDefaults<'_>) -> Result<Event, EventError> {
        let mut problems = Problems::default();
        let identified =
            self.timestamp.is_some() && self.username.is_present() && self.request_id.is_present();
        let id = self.id.map(|id| problems.check("/id", EventId::new(&id)));
        problems.event_name("/event", &self.event);
        if let Some(event_type) = &self.event_type {
            problems.event_name("/event_type", event_type);
        }
        let object_type = problems.check("/object_type", ObjectType::new(&self.object_type));
        if let (Some(model), Some(object_type)) = (&self.model, &object_type) {
            problems.model(model, object_type);
        }
        if let Some(object_id) = &self.object_id {
            problems.object_id(object_id);
        }
        let timestamp = match self.timestamp {
            Some(text) => problems.check("/timestamp", text.parse::<EventTime>()),
            None => Some(defaults.now.into()),
        };
        let data = problems.object("/data", self.data);
        let request = self.request.map(|raw| problems.object("/request", raw));
        let snapshots = self.snapshots.map(|raw| problems.snapshots(raw));
        let context = self.context.map(|raw| problems.object("/context", raw));
        let (Some(object_type), Some(timestamp), Some(data), true) =
            (object_type, timestamp, data, problems.0.is_empty())
        else {
            return Err(EventError { problems: problems.0 });
        };
        let object_id = self.object_id.map(Arc::from).or_else(|| object_id_of(&data));
        Ok(Event {
            id: match id.flatten() {
                Some(id) => id,
                None if identified => EventId::from_content(text.trim().as_bytes()),
                None => (defaults.new_id)(),
            },
            event: short_event_name(&self.event).into(),
            event_type: self
                .event_type
                .map(|event_type| Arc::from(short_event_name(&event_type)))
                .filter(|event_type: &Arc<str>| **event_type != *short_event_name(&self.event)),
            object_type,
            object_id,
            timestamp,
            username: self.username.into_text(),
            request_id: self.request_id.into_text(),
            data,
            request: request.flatten(),
            snapshots: snapshots.flatten(),
            context: context.flatten(),
        })
    }
}

/// The text of `data.id`, if it is a string or a number; read without making the tree.
fn object_id_of(data: &Json) -> Option<Arc<str>> {
    #[derive(Deserialize)]
    struct Identity<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_str::<Identity<'_>>(data.as_str()).ok()?.id?.get();
    let text: Arc<str> = match id.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(id).ok()?.into(),
        b'-' | b'0'..=b'9' => id.into(),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= OBJECT_ID_LEN_MAX).then_some(text)
}

/// Longest object id, in bytes: it becomes part of keys.
const OBJECT_ID_LEN_MAX: usize = 256;
const EVENT_NAME_LEN_MAX: usize = 128;

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

/// Collects what is wrong, so that a producer sees all of it at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, pointer: &str, message: impl Into<String>) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    fn check<T, E: std::fmt::Display>(&mut self, pointer: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(pointer, error.to_string())).ok()
    }

    fn event_name(&mut self, pointer: &str, name: &str) {
        if name.is_empty()
            || name.len() > EVENT_NAME_LEN_MAX
            || name.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            self.add(pointer, format!("{:?} is no event name: it needs 1 to {EVENT_NAME_LEN_MAX} bytes without white space, such as \"created\"", excerpt(name)));
        }
    }

    fn object_id(&mut self, object_id: &str) {
        if object_id.is_empty() || object_id.len() > OBJECT_ID_LEN_MAX {
            self.add("/object_id", format!("needs 1 to {OBJECT_ID_LEN_MAX} bytes, has {}; leave it out if the object has no identity", object_id.len()));
        }
    }

    fn model(&mut self, model: &str, object_type: &ObjectType) {
        if model != object_type.model() {
            self.add(
                "/model",
                format!(
                    "{:?} is not the model of object_type \"{object_type}\"; leave it out",
                    excerpt(model)
                ),
            );
        }
    }

    fn object(&mut self, pointer: &str, raw: &RawValue) -> Option<Json> {
        let json = self.check(pointer, Json::parse(raw.get()))?;
        if json.is_object() {
            Some(json)
        } else {
            self.add(pointer, format!("needs an object, has {}", kind_of(json.as_str())));
            None
        }
    }

    fn snapshots(&mut self, raw: &RawValue) -> Option<Json> {
        #[derive(Deserialize)]
        struct Snapshots<'a>(#[serde(borrow)] std::collections::BTreeMap<Cow<'a, str>, &'a RawValue>);
        let json = self.object("/snapshots", raw)?;
        let before = self.0.len();
        let members = serde_json::from_str::<Snapshots<'_>>(json.as_str()).map(|Snapshots(members)| members);
        for (name, value) in self.check("/snapshots", members)? {
            let pointer = format!("/snapshots/{}", pointer_token(&name));
            if !matches!(&*name, "prechange" | "postchange") {
                self.add(&pointer, "unknown member; snapshots has prechange and postchange");
            } else if !value.get().starts_with(['{', 'n']) {
                self.add(&pointer, format!("needs an object or null, has {}", kind_of(value.get())));
            }
        }
        (self.0.len() == before).then_some(json)
    }
}

/// Says in detail what is wrong with a text that serde refused. It costs a second parse, which only a refused event pays.
fn diagnose(text: &str, refusal: &serde_json::Error) -> EventError {
    let members = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(members)) => members,
        Ok(other) => {
            return EventError::one(
                "",
                format!("an event is a JSON object, this is {}", kind_of(&other.to_string())),
            );
        }
        Err(error) => return EventError::one("", format!("not valid JSON: {error}")),
    };
    let mut problems = Problems::default();
    for (name, value) in &members {
        let pointer = format!("/{}", pointer_token(name));
        match name.as_str() {
            "id" | "event" | "event_type" | "object_type" | "model" | "object_id" | "timestamp" => {
                if !value.is_string() {
                    problems.add(&pointer, format!("needs a string, has {}", kind_of(&value.to_string())));
                }
            }
            "username" | "request_id" => {
                if !value.is_string() && !value.is_null() {
                    problems.add(
                        &pointer,
                        format!("needs a string or null, has {}", kind_of(&value.to_string())),
                    );
                }
            }
            "data" | "request" | "snapshots" | "context" => {
                if !value.is_object() {
                    problems.add(&pointer, format!("needs an object, has {}", kind_of(&value.to_string())));
                }
            }
            _ => problems.add(&pointer, unknown_member(name)),
        }
    }
    for (name, what) in [
        ("event", "what happened, such as \"created\""),
        ("object_type", "the kind of object, such as \"dcim.site\""),
        ("data", "the object as it is now"),
    ] {
        if !members.contains_key(name) {
            problems.add(&format!("/{name}"), format!("missing: {what}"));
        }
    }
    if problems.0.is_empty() {
        // Such as a member that stands there twice: a tree cannot show that.
        problems.add("", refusal.to_string());
    }
    EventError { problems: problems.0 }
}

const MEMBERS: [&str; 12] = [
    "id",
    "event",
    "event_type",
    "object_type",
    "object_id",
    "timestamp",
    "username",
    "request_id",
    "data",
    "request",
    "snapshots",
    "context",
];

fn unknown_member(name: &str) -> String {
    let folded = name.to_lowercase().replace(['-', ' '], "_");
    let close = MEMBERS.iter().find(|member| {
        **member == folded
            || member.strip_suffix('s') == Some(folded.as_str())
            || folded.strip_suffix('s') == Some(member)
    });
    match close {
        Some(member) => format!("unknown member; did you mean \"{member}\"?"),
        None => format!(
            "unknown member; an event has {}; put anything else under \"context\"",
            MEMBERS.join(", ")
        ),
    }
}

/// What kind of JSON value a text is, for a message.
fn kind_of(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// RFC 6901 section 3.
fn pointer_token(name: &str) -> String {
    excerpt(name).replace('~', "~0").replace('/', "~1")
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
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
            refusals(r#"{"event": "a b", "object_type": "site", "id": "a.b", "timestamp": "today", "data": {}, "snapshots": {"pre": 1, "prechange": 2}, "model": "x"}"#)
                .iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect::<Vec<_>>(),
            ["/id", "/event", "/object_type", "/timestamp", "/snapshots/pre", "/snapshots/prechange"]
        );
        assert_eq!(refusals("[]"), [": an event is a JSON object, this is an array"]);
        assert!(refusals("{").first().unwrap().contains("line 1 column 1"));
        assert!(
            refusals(r#"{"event":"a","event":"b","object_type":"a.b","data":{}}"#)[0]
                .contains("duplicate field")
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
