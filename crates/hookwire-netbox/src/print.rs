//! Definitions as text: TOML as a person would write it, or JSON of the same shape.
//!
//! Invariants:
//! - Only what differs from the defaults is written, in the order of the documentation.
//! - What was written reads back as the same definitions.

mod members;
mod toml;

use hookwire_model::{EventRule, Webhook};
use serde_json::{Map, Value};

/// Definitions to write, with what should stand beside them for whoever reads the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Definitions {
    /// Lines for the top of the file.
    pub heading: Vec<String>,
    /// The webhooks, in order.
    pub webhooks: Vec<WebhookDefinition>,
    /// The event rules, in order.
    pub event_rules: Vec<RuleDefinition>,
}

/// A webhook to write.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookDefinition {
    /// The definition.
    pub webhook: Webhook,
    /// Lines for above it.
    pub comments: Vec<String>,
}

/// An event rule to write.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleDefinition {
    /// The definition.
    pub rule: EventRule,
    /// Lines for above it.
    pub comments: Vec<String>,
    /// The document of a condition that is refused, written in the place of `rule.conditions`. Such a rule is disabled.
    pub broken_conditions: Option<Value>,
}

impl Definitions {
    /// Whether secrets may stand in them: such a file is for its owner only. Webhooks have them in more places than
    /// `secret`: headers, URLs whose path is all that a receiver asks for, bodies.
    pub fn may_hold_secrets(&self) -> bool {
        !self.webhooks.is_empty()
    }

    /// The text of a TOML file.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        toml::comments(&mut out, &self.heading);
        for WebhookDefinition { webhook, comments } in &self.webhooks {
            toml::table(&mut out, "webhooks", comments, &members::webhook(webhook));
        }
        for definition in &self.event_rules {
            toml::table(&mut out, "event_rules", &definition.comments, &members::rule(definition));
        }
        out
    }

    /// The text of a JSON file. JSON has no comments, so those of the definitions are not in it.
    pub fn to_json(&self) -> String {
        let object = |members: Vec<(&str, Value)>| {
            Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        };
        let webhooks =
            self.webhooks.iter().map(|definition| object(members::webhook(&definition.webhook))).collect();
        let rules = self.event_rules.iter().map(|definition| object(members::rule(definition))).collect();
        let mut root = Map::new();
        root.insert("webhooks".into(), Value::Array(webhooks));
        root.insert("event_rules".into(), Value::Array(rules));
        root.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
        format!("{:#}\n", Value::Object(root))
    }
}
