//! Renders a webhook for an event, and shows what a typo gives.
//!
//! `cargo run -p hookwire-template --example render`

use std::sync::Arc;

use hookwire_model::{
    Engine, Event, EventDefaults, EventId, TemplateContext, Timestamp, Webhook, WebhookName,
};
use hookwire_template::{Limits, WebhookTemplates};

const EVENT: &str = r#"{
    "event": "created", "object_type": "ipam.ipaddress", "username": "Zoë \"Z\"",
    "data": {"id": 7, "address": "10.0.0.1/24", "tags": ["prod", "edge"]}
}"#;

fn main() {
    let mut new_id = || EventId::new("evt-1").expect("the id is visible ASCII");
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = Event::parse(EVENT, &mut defaults).expect("the event is complete");
    let context = TemplateContext::new(Arc::new(event), &Default::default());

    let name = WebhookName::new("slack").expect("the name is a word");
    let mut webhook = Webhook::new(name, "https://hooks.example/{{object_type}}?id={{data.id}}");
    webhook.additional_headers = "X-Event: {{event}}".into();
    webhook.body_template =
        Some(r#"{"text": "{{data.address}} was {{event}} by {{username}}", "tags": {{data.tags}}}"#.into());
    show(&webhook, &context);

    webhook.template_engine = Engine::Jinja;
    webhook.body_template = Some(
        r#"{"text": "{{ data.address }} was {{ event }} by {{ username }}", "tags": {{ data.tags }}}"#.into(),
    );
    show(&webhook, &context);

    webhook.body_template = Some(r#"{"text": "{{ data.adress }}"}"#.into());
    show(&webhook, &context);
}

fn show(webhook: &Webhook, context: &TemplateContext) {
    println!("{}", webhook.template_engine);
    let templates = match WebhookTemplates::compile(webhook, &Limits::default()) {
        Ok(templates) => templates,
        Err(errors) => return errors.iter().for_each(|error| println!("  {error}")),
    };
    match templates.render(context) {
        Ok(rendered) => {
            println!("  {}{}", rendered.authority, rendered.target);
            for (name, value) in &rendered.headers {
                println!("  {name}: {}", value.escape_ascii());
            }
            println!("  {}", String::from_utf8_lossy(&rendered.body));
        }
        Err(error) => println!("  {error}"),
    }
}
