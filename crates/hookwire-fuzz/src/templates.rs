//! Templates: any text with any context ends within the limits, and gives the same each time; escaped into JSON it gives
//! JSON.

use std::sync::{Arc, OnceLock};

use hookwire_model::{
    Engine, Escape, Event, EventDefaults, EventId, TemplateContext, Timestamp, Undefined, Webhook,
    WebhookName,
};
use hookwire_template::{Limits, WebhookTemplates};
use serde_json::{Map, Value, json};

/// Less than by default, so that what runs into a limit does so soon: a fuzzer is to see many inputs.
pub(crate) fn limits() -> Limits {
    Limits { output_bytes: 1 << 18, steps: 50_000, source_bytes: 16 << 10, ..Limits::default() }
}

pub(crate) fn webhook(engine: Engine, escape: Escape) -> Webhook {
    let name = WebhookName::new("fuzz").expect("a word is a name");
    let mut webhook = Webhook::new(name, "http://localhost/");
    webhook.template_engine = engine;
    webhook.escape = escape;
    if escape == Escape::None {
        webhook.undefined = Undefined::Lenient;
        webhook.content_type = "text/plain".into();
    }
    webhook
}

/// A context with a little of everything.
pub(crate) fn usual_context() -> &'static TemplateContext {
    static CONTEXT: OnceLock<TemplateContext> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        context(json!({
            "id": 42, "name": "Zürich <HQ> & \"Lab\" 'A'", "slug": "zurich-hq", "none": null, "yes": true,
            "one": 1.0, "big": 123_456_789_012_345_678_u64, "text": "line1\nline2\r\n\tx\u{2028}\\", "empty": "",
            "status": {"value": "active", "label": "Active"}, "list": ["b", "a", 3, null, 1.5, ["x"]],
            "tags": [{"name": "Prod", "slug": "prod"}, {"name": "Edge", "slug": "edge"}], "dict": {"b": 1, "a": {}},
            "date": "2026-03-06T15:11:23.503186+00:00", "emoji": "🚀", "items": 5, "": "nameless",
        }))
        .expect("the usual context is an event's")
    })
}

/// The context of an event with this data; `None` if there is no such event.
fn context(data: Value) -> Option<TemplateContext> {
    let event = json!({"event": "updated", "object_type": "dcim.site", "username": "zoë", "data": data,
        "snapshots": {"prechange": null, "postchange": {"status": "active"}}});
    let mut new_id = || EventId::new("fuzz").expect("a word is an id");
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = Event::parse(&event.to_string(), &mut defaults).ok()?;
    Some(TemplateContext::new(Arc::new(event), &Map::new()))
}

pub(crate) fn run(engine: Engine, parts: &[&str]) {
    let own = parts.get(1).and_then(|text| serde_json::from_str(text).ok()).and_then(context);
    let context = own.as_ref().unwrap_or_else(|| usual_context());
    for escape in [Escape::None, Escape::Auto] {
        let mut webhook = webhook(engine, escape);
        webhook.body_template = Some(parts[0].to_owned());
        let Ok(templates) = WebhookTemplates::compile(&webhook, &limits()) else { continue };
        let rendered = templates.render(context);
        if let Ok(rendered) = &rendered {
            assert!(rendered.body.len() <= limits().output_bytes, "{} bytes", rendered.body.len());
            let text = std::str::from_utf8(&rendered.body).expect("a body is UTF-8");
            if escape == Escape::Auto {
                serde_json::from_str::<&serde_json::value::RawValue>(text).expect("a JSON body is JSON");
            }
        }
        assert_eq!(rendered, templates.render(context), "the same context gives the same request");
    }
}
