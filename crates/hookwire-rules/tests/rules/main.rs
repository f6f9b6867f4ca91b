//! The tests that look at the crate from outside.

mod corpus;
mod explain;
mod matching;
mod operators;
mod patterns;

use std::sync::Arc;

use hookwire_model::{Condition, Event, EventDefaults, EventId, EventRule, RuleName, Timestamp};
use serde_json::Value;

/// An event from its JSON.
fn event(json: Value) -> Arc<Event> {
    let mut new_id = || EventId::new("evt-1").unwrap();
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    Arc::new(Event::parse(&json.to_string(), &mut defaults).unwrap())
}

/// An enabled rule.
fn rule(name: &str, object_types: &[&str], event_types: &[&str], conditions: Value) -> EventRule {
    EventRule {
        name: RuleName::new(name).unwrap(),
        object_types: object_types.iter().map(|text| text.parse().unwrap()).collect(),
        event_types: event_types.iter().map(|text| text.parse().unwrap()).collect(),
        conditions: Condition::parse(&conditions).unwrap(),
        webhooks: vec![],
        action_data: serde_json::Map::new(),
        enabled: true,
    }
}
