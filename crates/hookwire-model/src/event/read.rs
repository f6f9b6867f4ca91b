//! Reads an event from its JSON, or says everything that is wrong with it.
//!
//! Invariants:
//! - The text is read once; the documents of the event are parts of what was read.
//! - What is wrong with the shape of the event (its members, their kinds) is told before what is wrong with values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hookwire_json::{Content, JSON_DEPTH_MAX, Json, JsonError, Node, Object};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, EventDefaults, EventError, Problem, short_event_name};
use crate::{EventId, EventTime, ObjectType};

/// Reads an event.
pub(super) fn event(text: &str, defaults: &mut EventDefaults<'_>) -> Result<Event, EventError> {
    // The documents may be nested as deep as any, and the event is around them.
    let json = Json::parse_nested(text, JSON_DEPTH_MAX + 1).map_err(|error| unreadable(text, &error))?;
    Wire::read(&json)?.into_event(text, &json, defaults)
}

/// The members of an event as they stand in its JSON.
#[derive(Default)]
struct Wire<'a> {
    id: Option<&'a str>,
    event: Option<&'a str>,
    event_type: Option<&'a str>,
    object_type: Option<&'a str>,
    model: Option<&'a str>,
    object_id: Option<&'a str>,
    timestamp: Option<&'a str>,
    username: Option<Nullable<'a>>,
    request_id: Option<Nullable<'a>>,
    data: Option<Node<'a>>,
    request: Option<Node<'a>>,
    snapshots: Option<Node<'a>>,
    context: Option<Node<'a>>,
}

/// A string or null.
type Nullable<'a> = Option<&'a str>;

impl<'a> Wire<'a> {
    /// Takes the members apart. What is required is there if nothing is wrong.
    fn read(json: &'a Json) -> Result<Self, EventError> {
        let Some(members) = json.root().as_object() else {
            let kind = kind_of(json.root());
            return Err(EventError::one("", format!("an event is a JSON object, this is {kind}")));
        };
        let mut wire = Wire::default();
        let mut problems = Problems::default();
        for (name, node) in members.iter() {
            match name {
                "id" => wire.id = problems.text(name, node),
                "event" => wire.event = problems.text(name, node),
                "event_type" => wire.event_type = problems.text(name, node),
                "object_type" => wire.object_type = problems.text(name, node),
                "model" => wire.model = problems.text(name, node),
                "object_id" => wire.object_id = problems.text(name, node),
                "timestamp" => wire.timestamp = problems.text(name, node),
                "username" => wire.username = problems.nullable(name, node),
                "request_id" => wire.request_id = problems.nullable(name, node),
                "data" => wire.data = problems.object(name, node),
                "request" => wire.request = problems.object(name, node),
                "snapshots" => wire.snapshots = problems.object(name, node),
                "context" => wire.context = problems.object(name, node),
                _ => problems.add(&format!("/{}", pointer_token(name)), unknown_member(name)),
            }
        }
        if let Some(name) = json.repeated_name() {
            problems.add(&format!("/{}", pointer_token(name)), "stands there more than once");
        }
        for (name, is_read, what) in [
            ("event", wire.event.is_some(), "what happened, such as \"created\""),
            ("object_type", wire.object_type.is_some(), "the kind of object, such as \"dcim.site\""),
            ("data", wire.data.is_some(), "the object as it is now"),
        ] {
            if !is_read && members.get(name).is_none() {
                problems.add(&format!("/{name}"), format!("missing: {what}"));
            }
        }
        problems.into_result(Some(wire))
    }

    fn into_event(
        self,
        text: &str,
        json: &Json,
        defaults: &mut EventDefaults<'_>,
    ) -> Result<Event, EventError> {
        let (Some(event), Some(object_type), Some(data)) = (self.event, self.object_type, self.data) else {
            unreachable!("an event without what it needs was refused")
        };
        let mut problems = Problems::default();
        let id = self.id.map(|id| problems.check("/id", EventId::new(id)));
        problems.event_name("/event", event);
        if let Some(event_type) = self.event_type {
            problems.event_name("/event_type", event_type);
        }
        let object_type = problems.check("/object_type", ObjectType::new(object_type));
        if let (Some(model), Some(object_type)) = (self.model, &object_type) {
            problems.model(model, object_type);
        }
        if let Some(object_id) = self.object_id {
            problems.object_id(object_id);
        }
        let timestamp = match self.timestamp {
            Some(text) => problems.check("/timestamp", text.parse::<EventTime>()),
            None => Some(defaults.now.into()),
        };
        if let Some(request) = self.request {
            problems.request(request);
        }
        if let Some(snapshots) = self.snapshots {
            problems.snapshots(snapshots);
        }
        let (object_type, timestamp) = problems.into_result(object_type.zip(timestamp))?;
        let identified = self.timestamp.is_some() && self.username.is_some() && self.request_id.is_some();
        let part = |node| json.part(node);
        Ok(Event {
            id: match id.flatten() {
                Some(id) => id,
                None if identified => EventId::from_content(text.trim().as_bytes()),
                None => (defaults.new_id)(),
            },
            event: short_event_name(event).into(),
            event_type: self
                .event_type
                .map(short_event_name)
                .filter(|event_type| *event_type != short_event_name(event))
                .map(Arc::from),
            object_type,
            object_id: self.object_id.or_else(|| object_id_of(data)).map(Arc::from),
            timestamp,
            username: self.username.flatten().map(Arc::from),
            request_id: self.request_id.flatten().map(Arc::from),
            data: part(data),
            request: self.request.map(part),
            snapshots: self.snapshots.map(part),
            context: self.context.map(part),
        })
    }
}

/// The text of `data.id`, if it is a string or a number.
fn object_id_of(data: Node<'_>) -> Option<&str> {
    let text = match data.get("id")?.content() {
        Content::Text(text) | Content::Number(text) => text,
        _ => return None,
    };
    (!text.is_empty() && text.len() <= OBJECT_ID_LEN_MAX).then_some(text)
}

/// Says why a text cannot be read: it is no JSON, or something in it could not be passed on.
fn unreadable(text: &str, error: &JsonError) -> EventError {
    #[derive(Deserialize)]
    struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);
    if let JsonError::Syntax(error) = error {
        return EventError::one("", format!("not valid JSON: {error}"));
    }
    let mut problems = Problems::default();
    if let Ok(Members(members)) = serde_json::from_str(text) {
        for name in MEMBERS {
            if let Some(raw) = members.get(name) {
                problems.check(&format!("/{name}"), Json::parse(raw.get()));
            }
        }
    }
    if problems.0.is_empty() {
        // Such as a name that is no text, or a member that should not be there at all.
        problems.add("", error.to_string());
    }
    EventError { problems: problems.0 }
}

/// Longest object id, in bytes: it becomes part of keys.
const OBJECT_ID_LEN_MAX: usize = 256;
const EVENT_NAME_LEN_MAX: usize = 128;

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
        let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty()
            || name.len() > EVENT_NAME_LEN_MAX
            || !is_plain && name.chars().any(|c| c.is_control() || c.is_whitespace())
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

    /// The value of a member that has to be a string.
    fn text<'a>(&mut self, name: &str, node: Node<'a>) -> Option<&'a str> {
        let text = node.as_text();
        if text.is_none() {
            self.needs(name, "a string", node);
        }
        text
    }

    /// The value of a member that has to be a string or null.
    fn nullable<'a>(&mut self, name: &str, node: Node<'a>) -> Option<Nullable<'a>> {
        let text = node.as_text();
        if text.is_none() && !node.is_null() {
            self.needs(name, "a string or null", node);
            return None;
        }
        Some(text)
    }

    /// The value of a member that has to be an object.
    fn object<'a>(&mut self, name: &str, node: Node<'a>) -> Option<Node<'a>> {
        if node.as_object().is_none() {
            self.needs(name, "an object", node);
            return None;
        }
        Some(node)
    }

    fn needs(&mut self, path: &str, what: &str, node: Node<'_>) {
        self.add(&format!("/{path}"), format!("needs {what}, has {}", kind_of(node)));
    }

    fn request(&mut self, node: Node<'_>) {
        for (name, value) in node.as_object().into_iter().flat_map(Object::iter) {
            let path = || format!("request/{}", pointer_token(name));
            if !matches!(name, "id" | "method" | "path" | "user") {
                self.add(&format!("/{}", path()), "unknown member; request has id, method, path and user");
            } else if value.as_text().is_none() && !value.is_null() {
                self.needs(&path(), "a string or null", value);
            }
        }
    }

    fn snapshots(&mut self, node: Node<'_>) {
        for (name, snapshot) in node.as_object().into_iter().flat_map(Object::iter) {
            let path = || format!("snapshots/{}", pointer_token(name));
            if !matches!(name, "prechange" | "postchange") {
                self.add(&format!("/{}", path()), "unknown member; snapshots has prechange and postchange");
            } else if !matches!(snapshot.content(), Content::Object(_) | Content::Null) {
                self.needs(&path(), "an object or null", snapshot);
            }
        }
    }

    fn into_result<T>(self, value: Option<T>) -> Result<T, EventError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(EventError { problems: self.0 }),
        }
    }
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

/// What kind of JSON value it is, for a message.
fn kind_of(node: Node<'_>) -> &'static str {
    match node.content() {
        Content::Object(_) => "an object",
        Content::List(_) => "an array",
        Content::Text(_) => "a string",
        Content::Bool(_) => "a boolean",
        Content::Null => "null",
        Content::Number(_) => "a number",
    }
}

/// RFC 6901 section 3.
fn pointer_token(name: &str) -> String {
    excerpt(name).replace('~', "~0").replace('/', "~1")
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}
