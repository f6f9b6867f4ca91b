//! The members of a definition that differ from the defaults, in the order of the documentation.

use std::path::Path;
use std::time::Duration;

use hookwire_model::{Ordering, RetryPolicy, Schedule, Webhook, WebhookName};
use serde_json::{Map, Value, json};

use super::RuleDefinition;

type Members = Vec<(&'static str, Value)>;

pub(super) fn webhook(webhook: &Webhook) -> Members {
    let default = Webhook::new(WebhookName::new("default").expect("a plain word is a name"), "");
    let mut members: Members =
        vec![("name", webhook.name.as_str().into()), ("url", webhook.url.as_str().into())];
    let mut add = |differs: bool, name, value: Value| {
        if differs {
            members.push((name, value));
        }
    };
    let Webhook { tls, secrets, retry, .. } = webhook;
    add(webhook.method != default.method, "method", webhook.method.as_str().into());
    add(webhook.content_type != default.content_type, "content_type", webhook.content_type.as_str().into());
    let headers = webhook.additional_headers.as_str();
    add(headers != default.additional_headers, "additional_headers", headers.into());
    if let Some(body) = &webhook.body_template {
        add(true, "body_template", body.as_str().into());
    }
    let (engine, escape) = (webhook.template_engine, webhook.escape);
    add(engine != default.template_engine, "template_engine", engine.as_str().into());
    add(escape != default.escape, "escape", escape.as_str().into());
    add(webhook.undefined != default.undefined, "undefined", webhook.undefined.as_str().into());
    add(webhook.default_body != default.default_body, "default_body", webhook.default_body.as_str().into());
    let mut exposed = secrets.iter().map(|secret| Value::from(secret.expose()));
    if let Some(secret) = exposed.next() {
        add(true, "secret", secret);
    }
    let previous: Vec<Value> = exposed.collect();
    add(!previous.is_empty(), "previous_secrets", previous.into());
    let schemes = webhook.signature.iter().map(|scheme| Value::from(scheme.as_str())).collect();
    add(webhook.signature != default.signature, "signature", schemes);
    add(!tls.ssl_verification, "ssl_verification", false.into());
    for (name, file) in
        [("ca_file", &tls.ca_file), ("client_cert", &tls.client_cert), ("client_key", &tls.client_key)]
    {
        if let Some(file) = file {
            add(true, name, path(file));
        }
    }
    add(webhook.timeout != default.timeout, "timeout", duration(webhook.timeout));
    add(webhook.follow_redirects, "follow_redirects", true.into());
    add(!webhook.enabled, "enabled", false.into());
    add(webhook.concurrency != default.concurrency, "concurrency", webhook.concurrency.get().into());
    if let Some(limit) = &webhook.rate_limit {
        add(true, "rate_limit", limit.to_string().into());
    }
    add(webhook.ordering != Ordering::None, "ordering", webhook.ordering.as_str().into());
    add(webhook.on_failure != default.on_failure, "on_failure", webhook.on_failure.as_str().into());
    let retry = self::retry(retry, &default.retry);
    add(!retry.is_empty(), "retry", Value::Object(retry));
    members
}

fn retry(retry: &RetryPolicy, default: &RetryPolicy) -> Map<String, Value> {
    let mut members = Map::new();
    if retry.max_attempts != default.max_attempts {
        members.insert("max_attempts".into(), retry.max_attempts.get().into());
    }
    match &retry.schedule {
        schedule if *schedule == default.schedule => {}
        Schedule::Steps(steps) => {
            members.insert("schedule".into(), steps.iter().map(|step| duration(*step)).collect());
        }
        Schedule::Exponential { initial, factor, max_delay } => {
            members.insert("initial".into(), duration(*initial));
            members.insert("factor".into(), json!(factor));
            members.insert("max_delay".into(), duration(*max_delay));
        }
    }
    if let Some(max_age) = retry.max_age {
        members.insert("max_age".into(), duration(max_age));
    }
    if retry.jitter != default.jitter {
        members.insert("jitter".into(), json!(retry.jitter));
    }
    members
}

pub(super) fn rule(definition: &RuleDefinition) -> Members {
    let rule = &definition.rule;
    let object_types = rule.object_types.iter().map(|pattern| Value::from(pattern.to_string())).collect();
    let event_types = rule.event_types.iter().map(|pattern| Value::from(pattern.to_string())).collect();
    let webhooks = rule.webhooks.iter().map(|name| Value::from(name.as_str())).collect();
    let mut members: Members = vec![
        ("name", rule.name.as_str().into()),
        ("object_types", object_types),
        ("event_types", event_types),
    ];
    let conditions = rule.conditions.as_ref().map(|condition| condition.to_value());
    members.extend(definition.broken_conditions.clone().or(conditions).map(|document| match document {
        // A string in the place of a document holds JSON.
        Value::String(_) => ("conditions", document.to_string().into()),
        _ => ("conditions", document),
    }));
    members.push(("webhooks", webhooks));
    if !rule.action_data.is_empty() {
        members.push(("action_data", Value::Object(rule.action_data.clone())));
    }
    if !rule.enabled {
        members.push(("enabled", false.into()));
    }
    members
}

fn path(path: &Path) -> Value {
    // Paths come out of definitions, which are UTF-8.
    path.to_string_lossy().into_owned().into()
}

/// A duration in the largest units: `90 s` is `1m30s`. Definitions know nothing finer than a millisecond.
fn duration(duration: Duration) -> Value {
    let mut millis = duration.as_millis();
    let mut text = String::new();
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= factor {
            text += &format!("{}{unit}", millis / factor);
            millis %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text.into() }
}
