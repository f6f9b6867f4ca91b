//! Prints what would be sent for an event, and why a second rule does not match it.

use std::sync::Arc;

use hookwire_definitions::{Definitions, PreviewFilter};
use hookwire_model::{
    Event, EventDefaults, EventId, EventRule, RuleName, Secret, Timestamp, Webhook, WebhookName,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let slack = WebhookName::new("slack")?;
    let webhook = Webhook {
        body_template: Some(r#"{"text": "{{data.name}} was {{event}} by {{username}}"}"#.into()),
        additional_headers: "X-Object: {{object_type}}".into(),
        secrets: vec![Secret::new("s3cret")],
        ..Webhook::new(slack.clone(), "http://localhost:9000/")
    };
    let rule = |name: &str, event_type: &str| -> Result<EventRule, Box<dyn std::error::Error>> {
        Ok(EventRule {
            name: RuleName::new(name)?,
            object_types: vec!["dcim.*".parse()?],
            event_types: vec![event_type.parse()?],
            conditions: None,
            webhooks: vec![slack.clone()],
            action_data: Default::default(),
            enabled: true,
        })
    };
    let rules = vec![rule("site-created", "created")?, rule("site-deleted", "deleted")?];
    let definitions = Definitions::compile(vec![webhook], rules).map_err(|errors| errors[0].clone())?;

    let text = r#"{"event": "created", "object_type": "dcim.site", "username": "ada", "data": {"id": 7, "name": "Berlin"}}"#;
    let now: Timestamp = "2026-11-23T16:40:00Z".parse()?;
    let id = EventId::new("evt-1")?;
    let mut new_id = || id.clone();
    let event = Arc::new(Event::parse(text, &mut EventDefaults { now, new_id: &mut new_id })?);
    for preview in definitions.preview(&event, &PreviewFilter::default(), now, &|_, _| None) {
        println!("{preview}");
    }
    Ok(())
}
