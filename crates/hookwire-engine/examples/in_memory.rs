//! An engine with the memory queue: publishes one event to the URL given on the command line, and tells what became of
//! it. Without a URL it sends to http://127.0.0.1:9000/, where `webhook_receiver` listens.

use std::error::Error;
use std::sync::Arc;

use hookwire_definitions::Definitions;
use hookwire_dispatch::{DispatchSettings, HttpDispatcher};
use hookwire_engine::{
    Chance, Clock as _, Engine, EngineSettings, InForce, Metrics, Snapshot, SystemClock, publish, run,
};
use hookwire_model::{Event, EventDefaults, EventId, EventRule, RuleName, Shard, Webhook, WebhookName};
use hookwire_queue::{Inspect as _, MemoryQueue, StoreLimits, WorkerId};
use tokio_util::sync::CancellationToken;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:9000/".into());
    let webhook = Webhook::new(WebhookName::new("example")?, url);
    let rule = EventRule {
        name: RuleName::new("everything")?,
        object_types: vec!["*".parse()?],
        event_types: vec!["*".parse()?],
        conditions: None,
        webhooks: vec![webhook.name.clone()],
        action_data: serde_json::Map::new(),
        enabled: true,
    };
    let definitions =
        Definitions::compile(vec![webhook], vec![rule]).map_err(|errors| format!("{errors:?}"))?;
    let snapshot = Snapshot::new(definitions).map_err(|errors| format!("{errors:?}"))?;

    let queue = MemoryQueue::new(StoreLimits::default());
    let text = r#"{"event": "created", "object_type": "dcim.site", "data": {"id": 7, "name": "Berlin"}}"#;
    let id = EventId::new("example-1")?;
    let mut new_id = || id.clone();
    let event = Event::parse(text, &mut EventDefaults { now: SystemClock.now(), new_id: &mut new_id })?;
    publish(&queue, &[event]).await?;

    let engine = Engine {
        queue: Arc::new(queue.clone()),
        dispatcher: Arc::new(HttpDispatcher::new(DispatchSettings::default())),
        clock: SystemClock,
        chance: Chance::seeded(0),
        in_force: InForce::new(snapshot, SystemClock.now()),
        metrics: Metrics::default(),
        settings: EngineSettings {
            worker: WorkerId::new("example"),
            concurrency: 16,
            lease: std::time::Duration::from_secs(15),
            grace: None,
            until_idle: true,
            keep_bodies: false,
            backlog_age_max: std::time::Duration::from_secs(30 * 24 * 3600),
        },
    };
    run(engine, CancellationToken::new()).await?;

    let stored = queue.event(Shard(0), &id).await?.ok_or("the event was published")?;
    for delivery in stored.deliveries {
        println!(
            "{} {} after {} attempt(s): {:?}",
            delivery.id, delivery.state, delivery.attempts, delivery.last_status
        );
    }
    Ok(())
}
