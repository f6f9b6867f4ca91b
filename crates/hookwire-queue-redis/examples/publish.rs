//! Publishes an event into a store on Redis: what an application does that has the store at hand, and no hookwire server.
//!
//! `cargo run -p hookwire-queue-redis --example publish -- redis://localhost:6379/0`

use std::time::SystemTime;

use hookwire_model::{Event, EventDefaults, EventId, Timestamp};
use hookwire_queue::{NewEvent, Queue as _, open_shard};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost:6379/0".to_owned());
    publish(&url).await
}

/// Publishes one event.
pub(crate) async fn publish(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    // A store that is there already has as many shards as `store.shards` of its workers says.
    let queue = RedisQueue::open(&RedisUrl::parse(url)?, RedisOptions::default()).await?;

    let text = r#"{"event": "created", "object_type": "dcim.site", "id": "order-8f3a", "data": {"id": 7}}"#;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Timestamp::from_micros(i64::try_from(now.as_micros())?);
    // For events that bring no id of their own: without one, a publisher that tries again publishes twice.
    let mut new_id = || EventId::from_content(text.as_bytes());
    let event = Event::parse(text, &mut EventDefaults { now, new_id: &mut new_id })?;
    let new = NewEvent { id: event.id.clone(), payload: event.to_payload().into() };
    let published = queue.publish(open_shard(&event, &queue.open_shards()), vec![new]).await?;
    println!("{}{}", event.id, if published[0].duplicate { ", which was published before" } else { "" });
    Ok(())
}
