//! Tells a monitoring system when a device becomes active, and when it stops being so.
//!
//! Run with `cargo run -p hookwire-rules --example became_active`.

use std::sync::Arc;

use hookwire_model::{Condition, Event, EventDefaults, EventId, EventRule, RuleName, Timestamp};
use hookwire_rules::CompiledRules;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = CompiledRules::compile(vec![
        rule("became-active", json!({"attr": "status", "op": "changed_to", "value": "active"}))?,
        rule("stopped-being-active", json!({"attr": "status", "op": "changed_from", "value": "active"}))?,
        rule("in-production", json!({"attr": "tags.slug", "op": "contains", "value": "prod"}))?,
    ])?;

    let event = Arc::new(event(&json!({
        "event": "updated",
        "object_type": "dcim.device",
        "data": {"id": 3, "name": "edge-1", "status": {"value": "active"}, "tags": [{"slug": "lab"}]},
        "snapshots": {"prechange": {"status": "planned"}, "postchange": {"status": "active"}},
    }))?);

    for index in rules.matching(&event).rules {
        println!("{} matches\n", rules.rule(index).name);
    }
    for explanation in rules.explain(&event) {
        print!("{explanation}");
    }
    Ok(())
}

fn rule(name: &str, conditions: Value) -> Result<EventRule, Box<dyn std::error::Error>> {
    Ok(EventRule {
        name: RuleName::new(name)?,
        object_types: vec!["dcim.device".parse()?],
        event_types: vec!["*".parse()?],
        conditions: Condition::parse(&conditions)?,
        webhooks: vec![],
        action_data: serde_json::Map::new(),
        enabled: true,
    })
}

fn event(json: &Value) -> Result<Event, Box<dyn std::error::Error>> {
    let id = EventId::new("evt-1")?;
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut || id.clone() };
    Ok(Event::parse(&json.to_string(), &mut defaults)?)
}
