//! Measures what making one request costs: read the event, match it, render the body, sign it.
//!
//! Prints processor time for each event. Under `valgrind --tool=callgrind` it shows where it goes:
//!
//! ```text
//! cargo build --release -p hookwire-definitions --example request_cost
//! valgrind --tool=callgrind target/release/examples/request_cost 2000
//! callgrind_annotate --inclusive=yes callgrind.out.*
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use hookwire_definitions::Definitions;
use hookwire_model::{
    Condition, DeliveryId, Engine, Event, EventRule, RuleName, Secret, Sequence, Shard, Timestamp, Webhook,
    WebhookName,
};
use serde_json::json;

type Error = Box<dyn std::error::Error>;

/// Some 1 KB once rendered.
const BODY: &str = r#"{"text": "Device {{ data.name }} in {{ data.site.name }} is now {{ data.status.label }} (set by {{ username }})",
"event": "{{ event }}", "type": "{{ object_type }}", "at": "{{ timestamp }}", "request": "{{ request_id }}",
"device": {"id": {{ data.id }}, "serial": "{{ data.serial }}", "rack": "{{ data.rack.name }}", "comments": "{{ data.comments }}"},
"was": "{{ snapshots.prechange.status }}", "is": "{{ snapshots.postchange.status }}",
"tags": [{% for tag in data.tags %}"{{ tag.slug }}"{% if not loop.last %}, {% endif %}{% endfor %}]}"#;

fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse::<u64>())?;
    let definitions = definitions()?;
    let payload = payload();
    // The first one pays for what is made once.
    let body = request(&definitions, payload.as_bytes(), 0)?;
    let began = Instant::now();
    for number in 1..=count {
        black_box(request(&definitions, black_box(payload.as_bytes()), number)?);
    }
    let each = began.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{} bytes of event become {body} bytes of body in {each:.2} us", payload.len());
    Ok(())
}

/// Makes the request for an event, and tells the size of its body.
fn request(definitions: &Definitions, payload: &[u8], number: u64) -> Result<usize, Error> {
    let event = Arc::new(Event::from_payload(payload)?);
    let route = definitions.routes(&event).pop().ok_or("the rule matches this event")?;
    let id =
        DeliveryId::derive(Shard(0), Sequence(number), &event.id, &route.rule, &route.webhook.webhook().name);
    Ok(route.webhook.prepare(&route.context, id, 1, Timestamp::from_secs(1_700_000_000))?.body.len())
}

fn definitions() -> Result<Definitions, Error> {
    let sink = WebhookName::new("sink")?;
    let webhook = Webhook {
        template_engine: Engine::Jinja,
        body_template: Some(BODY.into()),
        secrets: vec![Secret::new("a secret of usual length")],
        ..Webhook::new(sink.clone(), "http://127.0.0.1:9/hooks")
    };
    let condition = json!({ "and": [
        { "attr": "status.value", "value": "active" },
        { "attr": "role.slug", "op": "in", "value": ["leaf", "spine", "core"] },
        { "attr": "tags.slug", "op": "contains", "value": "prod" },
    ]});
    let rule = EventRule {
        name: RuleName::new("active devices")?,
        object_types: vec!["dcim.device".parse()?],
        event_types: vec!["updated".parse()?],
        conditions: Condition::parse(&condition)?,
        webhooks: vec![sink],
        action_data: Default::default(),
        enabled: true,
    };
    Definitions::compile(vec![webhook], vec![rule]).map_err(|errors| errors[0].clone().into())
}

fn payload() -> String {
    json!({
        "id": "bench-1",
        "event": "updated",
        "object_type": "dcim.device",
        "timestamp": "2026-11-23T16:40:00.123456Z",
        "username": "admin",
        "request_id": "17af32f0-852a-46ca-a7d4-33ecd0c13de6",
        "data": {
            "id": 1, "name": "leaf-1", "serial": "FDO24180A9Z", "made": 0,
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
