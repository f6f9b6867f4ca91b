//! CloudEvents 1.0 over HTTP become events: structured, batched and binary (CloudEvents HTTP protocol binding 1.0.2,
//! sections 3.1 to 3.3; JSON event format 1.0.2).
//!
//! The last segment of `type` becomes `event`, the rest `object_type`; `subject` becomes `object_id`, `time` becomes
//! `timestamp`. The id is made of `source` and `id`, which together identify a CloudEvent.
//!
//! Invariants:
//! - Every attribute is kept, in its order and spelling, under `context`.
//! - Data that is a JSON object becomes `data`; anything else becomes `data.value`, and bytes that are no text become
//!   their base64 there, with `data.encoding` saying so.
//! - A refusal points into the CloudEvent that was sent, not into what it would have become.

use std::fmt::{self, Write as _};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hookwire_model::{Event, EventId, ObjectType, Problem};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ingest::{Reading, Refusal, parse_own};

/// Media type of one event in JSON.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";
/// Media type of an array of events in JSON.
pub(crate) const BATCHED: &str = "application/cloudevents-batch+json";

/// Longest `subject` that is taken as the identity of the object; a longer one stays in `context` alone.
const SUBJECT_LEN_MAX: usize = 256;

/// Whether headers carry an event in binary mode. One attribute is enough, so that one that was forgotten is told.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    ["ce-specversion", "ce-id", "ce-source", "ce-type"].iter().any(|name| headers.contains_key(*name))
}

/// Reads an event in structured mode.
pub(crate) fn parse_structured(text: &str, reading: &mut Reading<'_>) -> Result<Event, Refusal> {
    let members: Members<'_> =
        serde_json::from_str(text).map_err(|error| one("", format!("not a CloudEvent in JSON: {error}")))?;
    let mut attributes = Attributes::default();
    let mut data = Data::Absent;
    for (name, raw) in members.0 {
        match name.as_str() {
            // Null is the same as absent (JSON event format, section 2.2), but for data, which may be null.
            name if name != "data" && raw.get() == "null" => {}
            "data" | "data_base64" if !matches!(data, Data::Absent) => {
                attributes.problem("/data_base64", "there is also data; send one of them");
            }
            "data" => data = Data::Json(raw.get()),
            "data_base64" => match serde_json::from_str::<String>(raw.get())
                .ok()
                .and_then(|text| BASE64_STANDARD.decode(text).ok())
            {
                Some(bytes) => data = Data::Bytes(bytes),
                None => attributes.problem("/data_base64", "needs a string in base64"),
            },
            _ => attributes.push(name, raw.get().to_owned()),
        }
    }
    into_event(attributes, &data, reading)
}

/// Reads an event in binary mode: attributes in headers, data in the body.
///
/// # Errors
/// [`Refusal`] with everything that is wrong.
pub(crate) fn read_binary(
    headers: &HeaderMap,
    body: &[u8],
    reading: &mut Reading<'_>,
) -> Result<Event, Refusal> {
    if body.len() > reading.event_bytes_max {
        let message =
            format!("the data has {} bytes, and the limit is {}", body.len(), reading.event_bytes_max);
        return Err(Refusal { too_large: true, ..one("/data", message) });
    }
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        let attribute = match name.as_str() {
            // Section 3.1.1: the content type stands for this attribute.
            "ce-datacontenttype" => continue,
            name => match name.strip_prefix("ce-") {
                Some(attribute) => attribute,
                None if name == header::CONTENT_TYPE.as_str() => "datacontenttype",
                None => continue,
            },
        };
        match header_text(value.as_bytes()) {
            Some(text) => attributes.push(attribute.to_owned(), Value::from(text).to_string()),
            None => {
                let message = format!("the header {name} is not UTF-8 after percent-decoding");
                attributes.problem(&format!("/{attribute}"), message);
            }
        }
    }
    let data = if body.is_empty() { Data::Absent } else { Data::Bytes(body.to_vec()) };
    into_event(attributes, &data, reading)
}

/// The data of a CloudEvent.
enum Data<'a> {
    Absent,
    /// A JSON text.
    Json(&'a str),
    /// Bytes, whose content type says what they are.
    Bytes(Vec<u8>),
}

/// Attributes by name, as JSON, and what is wrong so far.
#[derive(Default)]
struct Attributes {
    all: Vec<(String, String)>,
    problems: Vec<Problem>,
}

impl Attributes {
    fn problem(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(Problem { pointer: pointer.to_owned(), message: message.into() });
    }

    fn push(&mut self, name: String, json: String) {
        if self.all.iter().any(|(have, _)| *have == name) {
            self.problem(&format!("/{}", token(&name)), "stands there twice");
        } else {
            self.all.push((name, json));
        }
    }

    /// An attribute that is a string; empty strings are refused, as no attribute allows them.
    fn text(&mut self, name: &str) -> Option<String> {
        let json = &self.all.iter().find(|(have, _)| have == name)?.1;
        match serde_json::from_str::<String>(json) {
            Ok(text) if !text.is_empty() => return Some(text),
            Ok(_) => self.problem(&format!("/{name}"), "is empty"),
            Err(_) => self.problem(&format!("/{name}"), "needs a string"),
        }
        None
    }

    fn required(&mut self, name: &str, what: &str) -> Option<String> {
        let pointer = format!("/{name}");
        let told = self.problems.iter().any(|problem| problem.pointer == pointer);
        if !told && !self.all.iter().any(|(have, _)| have == name) {
            self.problem(&pointer, format!("missing: {what}"));
        }
        self.text(name)
    }
}

fn into_event(
    mut attributes: Attributes,
    data: &Data<'_>,
    reading: &mut Reading<'_>,
) -> Result<Event, Refusal> {
    let version = attributes.required("specversion", "the version of CloudEvents, \"1.0\"");
    if version.is_some_and(|version| version != "1.0") {
        attributes.problem("/specversion", "only CloudEvents 1.0 is understood; send \"1.0\"");
    }
    let id = attributes.required("id", "what identifies the event at its source");
    let source = attributes.required("source", "where the event comes from, as a URI reference");
    let kind = attributes.required("type", "what happened to what, such as \"dcim.site.created\"");
    let kind = kind.and_then(|kind| match split_type(&kind) {
        Some((object_type, event)) => Some((object_type.to_owned(), event.to_owned())),
        None => {
            let message = "needs at least three segments, as \"dcim.site.created\": the last one becomes event, \
                           the others object_type";
            attributes.problem("/type", message);
            None
        }
    });
    let subject = attributes.text("subject").filter(|subject| subject.len() <= SUBJECT_LEN_MAX);
    let time = attributes.text("time");
    let content_type = attributes.text("datacontenttype");
    // It is only passed on, in `context`; that it is sound is asked all the same.
    let _ = attributes.text("dataschema");
    let data = data_json(data, content_type.as_deref());
    if let Err(message) = &data {
        attributes.problem("/data", message.clone());
    }
    let (Some(id), Some(source), Some((object_type, event)), Ok(data), true) =
        (id, source, kind, data, attributes.problems.is_empty())
    else {
        return Err(Refusal { too_large: false, problems: attributes.problems });
    };
    let mut own = String::with_capacity(data.len() + 512);
    let _ = write!(own, "{{\"id\":\"{}\"", EventId::from_cloud_event(&source, &id));
    let texts = [
        ("event", Some(event)),
        ("object_type", Some(object_type)),
        ("object_id", subject),
        ("timestamp", time),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            let _ = write!(own, ",\"{name}\":{}", Value::from(text));
        }
    }
    let _ = write!(own, ",\"data\":{data},\"context\":{{");
    for (at, (name, json)) in attributes.all.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(own, "{comma}{}:{json}", Value::from(name.as_str()));
    }
    own.push_str("}}");
    if own.len() > reading.event_bytes_max {
        let message =
            format!("the event would have {} bytes, and the limit is {}", own.len(), reading.event_bytes_max);
        return Err(Refusal { too_large: true, ..one("", message) });
    }
    parse_own(&own, reading).map_err(|refusal| Refusal {
        problems: refusal.problems.into_iter().map(in_cloud_event).collect(),
        ..refusal
    })
}

/// `dcim.site.created` into `dcim.site` and `created`.
fn split_type(kind: &str) -> Option<(&str, &str)> {
    let (object_type, event) = kind.rsplit_once('.')?;
    (ObjectType::new(object_type).is_ok() && !event.is_empty()).then_some((object_type, event))
}

/// `data` as JSON; it is always an object.
fn data_json(data: &Data<'_>, content_type: Option<&str>) -> Result<String, String> {
    let value = match data {
        Data::Absent => return Ok("{}".into()),
        Data::Json(text) => return Ok(wrapped(text)),
        Data::Bytes(bytes) => match std::str::from_utf8(bytes) {
            // Without a content type it is JSON (CloudEvents 1.0.2, section "datacontenttype").
            Ok(text) if content_type.is_none_or(is_json) => {
                let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
                    format!("not valid JSON, which is what its content type says: {error}")
                })?;
                return Ok(wrapped(raw.get()));
            }
            Ok(text) => text.to_owned(),
            Err(_) if content_type.is_none_or(is_json) => {
                return Err("not UTF-8, which JSON has to be".into());
            }
            Err(_) => {
                let base64 = BASE64_STANDARD.encode(bytes);
                return Ok(format!("{{\"value\":\"{base64}\",\"encoding\":\"base64\"}}"));
            }
        },
    };
    Ok(format!("{{\"value\":{}}}", Value::from(value)))
}

fn wrapped(json: &str) -> String {
    if json.trim_start().starts_with('{') { json.to_owned() } else { format!("{{\"value\":{json}}}") }
}

/// `application/json`, `text/json`, and anything that ends in `+json`.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.rsplit(['/', '+']).next() == Some("json")
}

/// The text that a header stands for: unquoted, then percent-decoded once (HTTP binding, section 3.1.3.2).
fn header_text(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut quoted = false;
    let mut rest = value.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => bytes.extend(rest.next()),
            _ => bytes.push(byte),
        }
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex_byte);
        decoded.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(digits[0])? << 4 | digit(digits[1])?)
}

/// A problem of the event that a CloudEvent became, at its place in the CloudEvent.
fn in_cloud_event(problem: Problem) -> Problem {
    let pointer = match problem.pointer.as_str() {
        "/event" | "/object_type" => "/type".into(),
        "/timestamp" => "/time".into(),
        "/object_id" => "/subject".into(),
        "/context" => String::new(),
        _ => problem.pointer,
    };
    Problem { pointer, message: problem.message }
}

fn one(pointer: &str, message: String) -> Refusal {
    Refusal { too_large: false, problems: vec![Problem { pointer: pointer.to_owned(), message }] }
}

/// RFC 6901 section 3.
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The members of an object, in order, also those that stand there twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_unquoted_and_decoded_once() {
        for (value, text) in [
            ("plain", Some("plain")),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", Some("Euro € 😀")),
            ("%e2%82%ac%41", Some("€A")),
            (r#""a \"b\" \\ c""#, Some(r#"a "b" \ c"#)),
            ("%2541", Some("%41")),
            ("100%", Some("100%")),
            ("%zz", Some("%zz")),
            ("%C0%A0", None),
        ] {
            assert_eq!(header_text(value.as_bytes()).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn content_types_that_mean_json() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.example+json", true),
            ("text/json", true),
            ("application/jsonl", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }
}
