//! The template context: what templates see of an event, and the default body.
//!
//! Invariants:
//! - The members stand in the order `event, timestamp, object_type, model, username, request_id, data, request,
//!   snapshots, context`; the last three and nothing else may be absent.
//! - The default body is made from the event's text, as it stands there, unless `action_data` has to be merged.

use std::sync::{Arc, OnceLock};

use hookwire_json::{Json, Object};
use serde_json::{Map, Value};

use crate::Event;
use crate::event::{push_document, push_member, push_text};

/// What templates see of an event under a rule. Made once per event and rule, and shared.
#[derive(Debug, Clone)]
pub struct TemplateContext {
    event: Arc<Event>,
    /// `data` with the rule's `action_data` under it, if there is any.
    merged: Option<Json>,
    root: OnceLock<Json>,
}

/// The names of the members of the template context, in order; the last three may be absent.
pub const CONTEXT_MEMBERS: [&str; 10] = [
    "event",
    "timestamp",
    "object_type",
    "model",
    "username",
    "request_id",
    "data",
    "request",
    "snapshots",
    "context",
];

/// One member of the template context.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// A string, or null.
    Text(Option<&'a str>),
    /// A JSON object.
    Document(&'a Json),
}

impl TemplateContext {
    /// The context of an event under a rule with this `action_data`.
    pub fn new(event: Arc<Event>, action_data: &Map<String, Value>) -> Self {
        let merged = (!action_data.is_empty()).then(|| merged(&event.data, action_data));
        TemplateContext { event, merged, root: OnceLock::new() }
    }

    /// The event.
    pub fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// `data` as templates see it.
    pub fn data(&self) -> &Json {
        self.merged.as_ref().unwrap_or(&self.event.data)
    }

    /// All members that are there, in order.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, Member<'_>)> {
        CONTEXT_MEMBERS.iter().filter_map(|name| Some((*name, self.member(name)?)))
    }

    /// The member of this name, if it is there.
    pub fn member(&self, name: &str) -> Option<Member<'_>> {
        let event = &*self.event;
        match name {
            "event" => Some(Member::Text(Some(&event.event))),
            "timestamp" => Some(Member::Text(Some(event.timestamp.as_str()))),
            "object_type" => Some(Member::Text(Some(event.object_type.as_str()))),
            "model" => Some(Member::Text(Some(event.object_type.model()))),
            "username" => Some(Member::Text(event.username.as_deref())),
            "request_id" => Some(Member::Text(event.request_id.as_deref())),
            "data" => Some(Member::Document(self.data())),
            "request" => event.request.as_ref().map(Member::Document),
            "snapshots" => event.snapshots.as_ref().map(Member::Document),
            "context" => event.context.as_ref().map(Member::Document),
            _ => None,
        }
    }

    /// The whole context as a document; made at the first call, for a template that asks for all of it.
    pub fn root(&self) -> &Json {
        self.root.get_or_init(|| read(&self.to_json()))
    }

    /// The whole context as compact JSON: the default body.
    pub fn to_json(&self) -> String {
        let event = &*self.event;
        let documents = [
            (",\"data\":", Some(self.data())),
            (",\"request\":", event.request.as_ref()),
            (",\"snapshots\":", event.snapshots.as_ref()),
            (",\"context\":", event.context.as_ref()),
        ];
        let len = documents.iter().flat_map(|(_, json)| json).map(|json| json.as_str().len()).sum::<usize>();
        let mut out = String::with_capacity(len + 512);
        for (name, text) in [
            ("{\"event\":", Some(&*event.event)),
            (",\"timestamp\":", Some(event.timestamp.as_str())),
            (",\"object_type\":", Some(event.object_type.as_str())),
            (",\"model\":", Some(event.object_type.model())),
            (",\"username\":", event.username.as_deref()),
            (",\"request_id\":", event.request_id.as_deref()),
        ] {
            push_member(&mut out, name, text);
        }
        for (name, json) in documents {
            push_document(&mut out, name, json);
        }
        out.push('}');
        out
    }
}

/// `data` with `action_data` under it. A member of both keeps its place and takes the value of `data`, as a Python
/// dict's `update` does.
fn merged(data: &Json, action_data: &Map<String, Value>) -> Json {
    let data = data.root();
    let mut out = String::with_capacity(data.as_str().len() + 256);
    let mut push = |name: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        push_text(&mut out, name);
        out.push(':');
        out.push_str(value);
    };
    for (name, value) in action_data {
        match data.get(name) {
            Some(member) => push(name, member.as_str()),
            None => push(name, &value.to_string()),
        }
    }
    let members = data.as_object().into_iter().flat_map(Object::iter);
    for (name, member) in members.filter(|(name, _)| !action_data.contains_key(*name)) {
        push(name, member.as_str());
    }
    out.push('}');
    read(&out)
}

/// Reads what was put together from documents.
fn read(text: &str) -> Json {
    // Each was checked by itself; together they may be nested deeper than one may be.
    Json::parse_nested(text, usize::MAX).expect("documents put together are a document")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventDefaults, EventId, Timestamp};

    fn event(text: &str) -> Arc<Event> {
        let mut new_id = || EventId::new("e").unwrap();
        Arc::new(
            Event::parse(text, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id })
                .unwrap(),
        )
    }

    #[test]
    fn the_default_body_has_the_members_in_order() {
        let event = event(
            r#"{"data":{"n": 1.0},"object_type":"dcim.site","event":"created","timestamp":"2026-01-01 00:00:00Z","username":"a\"b","snapshots":{"prechange":null}}"#,
        );
        let context = TemplateContext::new(event, &Map::new());
        let json = context.to_json();
        assert_eq!(
            json,
            r#"{"event":"created","timestamp":"2026-01-01 00:00:00Z","object_type":"dcim.site","model":"site","username":"a\"b","request_id":null,"data":{"n":1.0},"snapshots":{"prechange":null}}"#
        );
        assert_eq!(context.root().as_str(), json);
        let members = context.root().root().as_object().unwrap().iter().map(|(name, _)| name);
        assert!(members.eq(context.members().map(|(name, _)| name)));
    }

    #[test]
    fn action_data_lies_under_data() {
        let event = event(r#"{"data":{"b":2,"c":3},"object_type":"a.b","event":"x"}"#);
        let action_data = serde_json::from_str(r#"{"a":1,"b":1}"#).unwrap();
        assert_eq!(TemplateContext::new(event, &action_data).data().as_str(), r#"{"a":1,"b":2,"c":3}"#);
    }
}
