//! Writes a store that has something of everything, to be kept as what this version of the layout left behind.
//!
//! `cargo run -p hookwire-queue-embedded --example write_fixture -- tests/fixtures/embedded-v3`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookwire_model::{
    Attempt, AttemptError, DeadReason, DeliveryId, EndpointId, ErrorKind, EventId, OnFailure, OutcomeKind,
    RuleName, Shard, Timestamp, Timings, WaitingReason, WebhookName,
};
use hookwire_queue::backend::ManualClock;
use hookwire_queue::{
    EventFate, Fate, Inspect as _, LeaseEvents, LeasedEvent, NewDelivery, NewEvent, Order, Queue as _,
    SettledEvent, Settlement, StoreLimits, WorkerId,
};
use hookwire_queue_embedded::EmbeddedQueue;

const SHARD: Shard = Shard(0);

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("usage: write_fixture FOLDER")?;
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let limits = StoreLimits::default();
    let queue =
        EmbeddedQueue::open_with_clock(Path::new(&folder), limits, Duration::ZERO, clock.store_clock())
            .await?;
    let waiting = || Fate::Waiting { due_in: Duration::from_secs(300), reason: WaitingReason::Retry };
    let dead = || Fate::Dead { reason: DeadReason::AttemptsExhausted, error: None };
    let ordered = Some(Order { key: Arc::from("dcim.site/1"), on_failure: OnFailure::Supersede });

    let event = lease(&queue, "fanned-out").await?;
    let deliveries = vec![
        delivery(&event, "delivered", Fate::Delivered, vec![attempt(1, 200)])?,
        delivery(&event, "waiting", waiting(), vec![attempt(1, 500), attempt(2, 503)])?,
        delivery(&event, "running", Fate::Running { lease: Duration::from_secs(60) }, vec![])?,
        delivery(&event, "dead", dead(), vec![attempt(1, 410)])?,
    ];
    settle(&queue, event, fanned_out(deliveries)).await?;
    for id in ["ordered-1", "ordered-2"] {
        let event = lease(&queue, id).await?;
        let first = delivery(&event, "ordered", waiting(), vec![attempt(1, 500)])?;
        settle(&queue, event, fanned_out(vec![NewDelivery { order: ordered.clone(), ..first }])).await?;
    }
    let event = lease(&queue, "unreadable").await?;
    let id = DeliveryId::of_event(SHARD, event.sequence, &event.id);
    let error = Some(AttemptError { kind: ErrorKind::Internal, message: "no JSON".into() });
    settle(&queue, event, EventFate::Dead { id, reason: DeadReason::UnreadableEvent, error }).await?;
    let event = lease(&queue, "matched-nothing").await?;
    settle(&queue, event, fanned_out(vec![])).await?;
    queue.put_endpoint(SHARD, EndpointId::from_u64(7), 0, "first".into()).await?;
    queue.put_endpoint(SHARD, EndpointId::from_u64(7), 1, "state".into()).await?;
    queue.hold(SHARD, EndpointId::from_u64(2), Some(Duration::from_secs(1_000_000))).await?;
    lease(&queue, "leased").await?;
    publish(&queue, "queued").await?;
    queue.close().await;
    println!("written to {folder}");
    Ok(())
}

async fn publish(queue: &EmbeddedQueue, id: &str) -> Result<(), Failure> {
    let payload = r#"{"event":"created","object_type":"dcim.site","data":{"id":1}}"#;
    queue.publish(SHARD, vec![NewEvent { id: EventId::new(id)?, payload: payload.into() }]).await?;
    Ok(())
}

async fn lease(queue: &EmbeddedQueue, id: &str) -> Result<LeasedEvent, Failure> {
    publish(queue, id).await?;
    let request = LeaseEvents {
        worker: WorkerId::new("fixture"),
        lease: Duration::from_secs(60),
        max: 1,
        suspects_max: 0,
    };
    Ok(queue.lease_events(SHARD, request).await?.pop().ok_or("it was published just now")?)
}

async fn settle(queue: &EmbeddedQueue, event: LeasedEvent, fate: EventFate) -> Result<(), Failure> {
    let events = vec![SettledEvent { lease: event.lease, fate }];
    queue.settle(SHARD, &Settlement { events, deliveries: vec![] }).await?;
    Ok(())
}

fn fanned_out(deliveries: Vec<NewDelivery>) -> EventFate {
    EventFate::FannedOut { event: "created".into(), object_type: "dcim.site".into(), deliveries }
}

fn delivery(
    event: &LeasedEvent,
    webhook: &str,
    fate: Fate,
    attempts: Vec<Attempt>,
) -> Result<NewDelivery, Failure> {
    let endpoint = if webhook == "running" { 1 } else { 2 };
    let (rule, webhook) = (RuleName::new("rule")?, WebhookName::new(webhook)?);
    Ok(NewDelivery {
        id: DeliveryId::derive(SHARD, event.sequence, &event.id, &rule, &webhook),
        rule,
        webhook,
        endpoint: Some(EndpointId::from_u64(endpoint)),
        order: None,
        attempts: attempts.iter().map(hookwire_queue::PackedAttempt::from).collect(),
        fate,
    })
}

fn attempt(number: u32, status: u16) -> Attempt {
    Attempt {
        number,
        started_at: Timestamp::from_secs(1_800_000_000),
        duration: Duration::from_micros(1234),
        outcome: if status == 200 { OutcomeKind::Succeeded } else { OutcomeKind::Rejected },
        status: Some(status),
        error: None,
        address: Some(([127, 0, 0, 1], 9000).into()),
        hops: vec![],
        timings: Timings::default(),
        request: None,
        response: None,
    }
}
