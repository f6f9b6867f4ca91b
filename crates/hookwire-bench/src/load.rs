//! What is sent: events of about 1 KB, a rule with a condition of three clauses, a Jinja body of about 1 KB, and an
//! HMAC-SHA512 signature.

use std::sync::Arc;

use anyhow::anyhow;
use hookwire_definitions::Definitions;
use hookwire_model::{
    Condition, Engine, Event, EventDefaults, EventId, EventRule, RuleName, Secret, Timestamp, Webhook,
    WebhookName,
};

/// The template of the body: some 1 KB once rendered.
const BODY: &str = r#"{"text": "Device {{ data.name }} in {{ data.site.name }} is now {{ data.status.label }} (set by {{ username }})",
"event": "{{ event }}", "type": "{{ object_type }}", "at": "{{ timestamp }}", "request": "{{ request_id }}",
"device": {"id": {{ data.id }}, "serial": "{{ data.serial }}", "rack": "{{ data.rack.name }}", "comments": "{{ data.comments }}"},
"was": "{{ snapshots.prechange.status }}", "is": "{{ snapshots.postchange.status }}",
"tags": [{% for tag in data.tags %}"{{ tag.slug }}"{% if not loop.last %}, {% endif %}{% endfor %}]}"#;

/// The definitions, sending to a sink on this port.
pub(crate) fn definitions(port: u16) -> anyhow::Result<Definitions> {
    let mut webhook = Webhook::new(WebhookName::new("sink")?, format!("http://127.0.0.1:{port}/hooks"));
    webhook.template_engine = Engine::Jinja;
    webhook.body_template = Some(BODY.to_owned());
    webhook.secrets = vec![Secret::new("a secret of usual length")];
    webhook.concurrency = CONCURRENCY.try_into()?;
    let conditions = serde_json::json!({ "and": [
        { "attr": "status.value", "value": "active" },
        { "attr": "role.slug", "op": "in", "value": ["leaf", "spine", "core"] },
        { "attr": "tags.slug", "op": "contains", "value": "prod" },
    ]});
    let rule = EventRule {
        name: RuleName::new("active devices")?,
        object_types: vec!["dcim.device".parse()?],
        event_types: vec!["updated".parse()?],
        conditions: Condition::parse(&conditions).map_err(|error| anyhow!("{error}"))?,
        webhooks: vec![webhook.name.clone()],
        action_data: serde_json::Map::new(),
        enabled: true,
    };
    Definitions::compile(vec![webhook], vec![rule]).map_err(|errors| anyhow!("{errors:?}"))
}

/// How many attempts are in flight, here and in every baseline.
pub(crate) const CONCURRENCY: u32 = 64;

/// So many events, each of another object.
pub(crate) fn events(count: usize) -> anyhow::Result<Vec<Event>> {
    (0..count).map(event).collect()
}

fn event(number: usize) -> anyhow::Result<Event> {
    let text = serde_json::json!({
        "id": format!("bench-{number}"),
        "event": "updated",
        "object_type": "dcim.device",
        "timestamp": "2026-11-23T16:40:00.123456Z",
        "username": "admin",
        "request_id": "17af32f0-852a-46ca-a7d4-33ecd0c13de6",
        "data": {
            "id": number, "name": format!("leaf-{number}"), "serial": "FDO24180A9Z",
            "status": { "value": "active", "label": "Active" },
            "role": { "id": 3, "name": "Leaf", "slug": "leaf" },
            "site": { "id": 12, "name": "Berlin \"Mitte\"", "slug": "berlin" },
            "rack": { "id": 40, "name": "B-17" },
            "comments": "Moved from the old hall; power feed B is on the second unit. See the change ticket before touching it. "
                .repeat(3),
            "tags": [{ "id": 1, "name": "Prod", "slug": "prod" }, { "id": 2, "name": "Edge", "slug": "edge" }],
        },
        "snapshots": { "prechange": { "status": "planned" }, "postchange": { "status": "active" } },
    })
    .to_string();
    let fallback = EventId::new("bench")?;
    let mut new_id = || fallback.clone();
    Event::parse(&text, &mut EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id })
        .map_err(|error| anyhow!("{error}"))
}

/// The first route of an event: there is exactly one.
pub(crate) fn route(definitions: &Definitions, event: Event) -> anyhow::Result<hookwire_definitions::Route> {
    definitions
        .routes(&Arc::new(event))
        .pop()
        .ok_or_else(|| anyhow!("the rule matches every event of the bench"))
}
