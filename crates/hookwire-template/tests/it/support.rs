//! What all tests need: a context, a webhook, and what it renders to.

use std::sync::Arc;

use hookwire_model::{
    Engine, Escape, Event, EventDefaults, EventId, TemplateContext, Timestamp, Undefined, Webhook,
    WebhookName,
};
use hookwire_template::{Limits, Rendered, TemplateError, WebhookTemplates};
use serde_json::{Map, Value, json};

/// A context with these members over an event that has the required ones.
pub(crate) fn context(members: Value) -> TemplateContext {
    let mut event = json!({"event": "created", "object_type": "dcim.site", "data": {}});
    for (name, value) in members.as_object().expect("a context is an object") {
        if name != "model" {
            event[name] = value.clone();
        }
    }
    let mut new_id = || EventId::new("test").unwrap();
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = Event::parse(&event.to_string(), &mut defaults).unwrap();
    TemplateContext::new(Arc::new(event), &Map::new())
}

/// A context with this `data`.
pub(crate) fn data(data: Value) -> TemplateContext {
    context(json!({"data": data}))
}

pub(crate) fn webhook(engine: Engine) -> Webhook {
    let mut webhook = Webhook::new(WebhookName::new("test").unwrap(), "https://example.org/hook");
    webhook.template_engine = engine;
    webhook
}

/// As NetBox renders: Jinja, no escaping, unknown names print nothing.
pub(crate) fn netbox() -> Webhook {
    let mut webhook = webhook(Engine::Jinja);
    webhook.escape = Escape::None;
    webhook.undefined = Undefined::Lenient;
    webhook
}

pub(crate) fn render(webhook: &Webhook, context: &TemplateContext) -> Result<Rendered, Vec<TemplateError>> {
    render_within(webhook, context, &Limits::default())
}

pub(crate) fn render_within(
    webhook: &Webhook,
    context: &TemplateContext,
    limits: &Limits,
) -> Result<Rendered, Vec<TemplateError>> {
    WebhookTemplates::compile(webhook, limits)?.render(context).map_err(|error| vec![error])
}

/// The rendered body of a webhook with this template.
pub(crate) fn body(webhook: &Webhook, template: &str, context: &TemplateContext) -> Result<String, String> {
    let webhook = Webhook { body_template: Some(template.into()), ..webhook.clone() };
    match render(&webhook, context) {
        Ok(rendered) => Ok(String::from_utf8(rendered.body.into()).unwrap()),
        Err(errors) => Err(lines(&errors)),
    }
}

/// Errors as people read them, one a line.
pub(crate) fn lines(errors: &[TemplateError]) -> String {
    errors.iter().map(|error| format!("{}: {error}", error.kind)).collect::<Vec<_>>().join("\n")
}
