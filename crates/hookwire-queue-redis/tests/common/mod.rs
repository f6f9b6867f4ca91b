//! What several of these tests do.

use hookwire_model::{DeliveryId, RuleName, Shard, WebhookName};
use hookwire_queue::{EventFate, Fate, LeasedEvent, NewDelivery, SettledEvent, Settlement};

/// What settles events of a shard as delivered, each to one webhook at the first attempt.
pub(crate) fn delivered(shard: Shard, leased: impl IntoIterator<Item = LeasedEvent>) -> Settlement {
    let (rule, webhook) = (RuleName::new("rule").unwrap(), WebhookName::new("webhook").unwrap());
    let settle = |event: LeasedEvent| {
        let delivery = NewDelivery {
            id: DeliveryId::derive(shard, event.sequence, &event.id, &rule, &webhook),
            rule: rule.clone(),
            webhook: webhook.clone(),
            endpoint: None,
            order: None,
            attempts: Vec::new(),
            fate: Fate::Delivered,
        };
        let fate = EventFate::FannedOut {
            event: "created".into(),
            object_type: "a.b".into(),
            deliveries: vec![delivery],
        };
        SettledEvent { lease: event.lease, fate }
    };
    Settlement { events: leased.into_iter().map(settle).collect(), deliveries: Vec::new() }
}
