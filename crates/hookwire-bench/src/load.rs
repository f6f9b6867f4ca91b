//! What is sent: events of about 1.2 KB, a rule with a condition of three clauses, and a body of about 1 KB.

use std::sync::Arc;

use anyhow::anyhow;
use hookwire_definitions::Definitions;
use hookwire_model::{Event, EventDefaults, EventId, Timestamp};
use serde_json::{Value, json};

/// How many attempts are in flight, here and in every baseline.
pub(crate) const CONCURRENCY: u32 = 64;

/// The template of the body: some 1 KB once rendered.
const JINJA: &str = r#"{"text": "Device {{ data.name }} in {{ data.site.name }} is now {{ data.status.label }} (set by {{ username }})",
"event": "{{ event }}", "type": "{{ object_type }}", "at": "{{ timestamp }}", "request": "{{ request_id }}",
"device": {"id": {{ data.id }}, "serial": "{{ data.serial }}", "rack": "{{ data.rack.name }}", "comments": "{{ data.comments }}"},
"was": "{{ snapshots.prechange.status }}", "is": "{{ snapshots.postchange.status }}",
"tags": [{% for tag in data.tags %}"{{ tag.slug }}"{% if not loop.last %}, {% endif %}{% endfor %}]}"#;

/// The same in Handlebars.
const HANDLEBARS: &str = r#"{"text": "Device {{data.name}} in {{data.site.name}} is now {{data.status.label}} (set by {{username}})",
"event": "{{event}}", "type": "{{object_type}}", "at": "{{timestamp}}", "request": "{{request_id}}",
"device": {"id": {{data.id}}, "serial": "{{data.serial}}", "rack": "{{data.rack.name}}", "comments": "{{data.comments}}"},
"was": "{{snapshots.prechange.status}}", "is": "{{snapshots.postchange.status}}",
"tags": [{{#each data.tags}}"{{slug}}"{{#unless @last}}, {{/unless}}{{/each}}]}"#;

/// How the body is made and signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Jinja, HMAC-SHA512.
    Jinja,
    /// Jinja, Standard Webhooks: HMAC-SHA256.
    Standard,
    /// Handlebars, HMAC-SHA512.
    Handlebars,
    /// No template, HMAC-SHA512.
    Default,
}

/// A webhook.
pub(crate) fn webhook(name: &str, url: &str, flavour: Flavour) -> Value {
    let mut webhook = json!({ "name": name, "url": url, "concurrency": CONCURRENCY });
    let (engine, template) = match flavour {
        Flavour::Jinja | Flavour::Standard => ("jinja", Some(JINJA)),
        Flavour::Handlebars => ("handlebars", Some(HANDLEBARS)),
        Flavour::Default => ("handlebars", None),
    };
    webhook["template_engine"] = engine.into();
    if let Some(template) = template {
        webhook["body_template"] = template.into();
    }
    if flavour == Flavour::Standard {
        webhook["signature"] = json!(["standard"]);
        webhook["secret"] = "whsec_YSBzZWNyZXQgb2YgdGhlIHVzdWFsIGxlbmd0aCwgMzI=".into();
    } else {
        webhook["secret"] = "a secret of usual length".into();
    }
    webhook
}

/// The webhook that every event of a scenario goes to.
pub(crate) fn sink(port: u16, flavour: Flavour) -> Value {
    webhook("sink", &format!("http://127.0.0.1:{port}/hooks"), flavour)
}

/// A rule with a condition of three clauses that holds for every event of an object type.
pub(crate) fn rule(name: &str, object_type: &str, webhooks: &[&str]) -> Value {
    json!({
        "name": name,
        "object_types": [object_type],
        "event_types": ["updated"],
        "conditions": { "and": [
            { "attr": "status.value", "value": "active" },
            { "attr": "role.slug", "op": "in", "value": ["leaf", "spine", "core"] },
            { "attr": "tags.slug", "op": "contains", "value": "prod" },
        ]},
        "webhooks": webhooks,
    })
}

/// What the object type of events is where it makes no difference.
pub(crate) const OBJECT_TYPE: &str = "dcim.device";

/// So many events, each of another object.
pub(crate) fn events(count: usize) -> anyhow::Result<Vec<Event>> {
    (0..count).map(|number| event(number, OBJECT_TYPE, 0)).collect()
}

/// An event that tells when it was made, in microseconds since 1970.
pub(crate) fn event(number: usize, object_type: &str, made: u64) -> anyhow::Result<Event> {
    let fallback = EventId::new("bench")?;
    let mut new_id = || fallback.clone();
    let text = event_text(number, object_type, made);
    Event::parse(&text, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id })
        .map_err(|error| anyhow!("{error}"))
}

/// The same as it is published over HTTP.
pub(crate) fn event_text(number: usize, object_type: &str, made: u64) -> String {
    json!({
        "id": format!("bench-{number}"),
        "event": "updated",
        "object_type": object_type,
        "timestamp": "2026-11-23T16:40:00.123456Z",
        "username": "admin",
        "request_id": "17af32f0-852a-46ca-a7d4-33ecd0c13de6",
        "data": {
            "id": number, "name": format!("leaf-{number}"), "serial": "FDO24180A9Z", "made": made,
            "status": { "value": "active", "label": "Active" },
            "role": { "id": 3, "name": "Leaf", "slug": "leaf" },
            "site": { "id": 12, "name": "Berlin \"Mitte\"", "slug": "berlin" },
            "rack": { "id": 40, "name": "B-17" },
            "comments": "Moved from the old hall; power feed B is on the second unit. See the change ticket before touching it. "
                .repeat(6),
            "tags": [{ "id": 1, "name": "Prod", "slug": "prod" }, { "id": 2, "name": "Edge", "slug": "edge" }],
        },
        "snapshots": { "prechange": { "status": "planned" }, "postchange": { "status": "active" } },
    })
    .to_string()
}

/// The first route of an event: there is exactly one.
pub(crate) fn route(definitions: &Definitions, event: Event) -> anyhow::Result<hookwire_definitions::Route> {
    definitions
        .routes(&Arc::new(event))
        .pop()
        .ok_or_else(|| anyhow!("the rule matches every event of the bench"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Setup;

    /// The bodies of both engines are the same, so that they are compared for the same work.
    #[test]
    fn every_flavour_renders() {
        let body = |flavour| {
            let folder = tempfile::tempdir().unwrap();
            let setup = Setup::one(sink(9, flavour), rule("r", OBJECT_TYPE, &["sink"]));
            let definitions = setup.load(folder.path(), "memory:").unwrap().definitions;
            let prepared =
                crate::client::prepare(&definitions, event(7, OBJECT_TYPE, 5).unwrap(), 7).unwrap();
            String::from_utf8(prepared.body.to_vec()).unwrap()
        };
        let jinja = body(Flavour::Jinja);
        assert!((900..1100).contains(&jinja.len()), "{} bytes: {jinja}", jinja.len());
        assert_eq!((&body(Flavour::Handlebars), &body(Flavour::Standard)), (&jinja, &jinja));
        assert!(body(Flavour::Default).contains("\"model\":\"device\""));
    }
}
