//! An event is published, fanned out, fails once, waits, is sent again and is delivered; prints what the queue shows.

use std::time::Duration;

use hookwire_model::{
    Attempt, DeliveryId, EventId, OutcomeKind, RuleName, Shard, Timestamp, Timings, WaitingReason,
    WebhookName,
};
use hookwire_queue::backend::ManualClock;
use hookwire_queue::{
    DeliveryFilter, EventFate, Fate, Inspect as _, LeaseDeliveries, LeaseEvents, MemoryQueue, NewDelivery,
    NewEvent, PackedAttempt, Queue as _, Rooms, SettledDelivery, SettledEvent, Settlement, StoreLimits,
    WorkerId,
};

const SHARD: Shard = Shard(0);
const LEASE: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let queue = MemoryQueue::with_clock(StoreLimits::default(), clock.store_clock());
    let worker = WorkerId::new("worker-1");

    let event = NewEvent { id: EventId::new("evt-1")?, payload: r#"{"event": "created"}"#.into() };
    queue.publish(SHARD, vec![event]).await?;
    let request = LeaseEvents { worker: worker.clone(), lease: LEASE, max: 10, suspects_max: 1 };
    for event in queue.lease_events(SHARD, request).await? {
        let (rule, webhook) = (RuleName::new("ip-created")?, WebhookName::new("slack")?);
        let delivery = NewDelivery {
            id: DeliveryId::derive(SHARD, event.sequence, &event.id, &rule, &webhook),
            rule,
            webhook,
            endpoint: None,
            order: None,
            attempts: vec![PackedAttempt::from(&attempt(1, 503, clock.now()))],
            fate: Fate::Waiting { due_in: Duration::from_secs(5), reason: WaitingReason::Retry },
        };
        let fate = EventFate::FannedOut {
            event: "created".into(),
            object_type: "ipam.ipaddress".into(),
            deliveries: vec![delivery],
        };
        let events = vec![SettledEvent { lease: event.lease, fate }];
        queue.settle(SHARD, &Settlement { events, deliveries: vec![] }).await?;
    }
    show(&queue).await?;

    let rooms = Rooms { default: 32, exceptions: vec![] };
    let request = LeaseDeliveries { worker, lease: LEASE, max: 10, rooms };
    let early = queue.lease_deliveries(SHARD, request.clone()).await?;
    println!("nothing is due; look again in {:?}", early.next_due);
    clock.advance(Duration::from_secs(5));
    for delivery in queue.lease_deliveries(SHARD, request).await?.deliveries {
        show(&queue).await?;
        let attempts = vec![PackedAttempt::from(&attempt(delivery.attempts + 1, 200, clock.now()))];
        let settled =
            SettledDelivery { lease: delivery.lease, endpoint: None, attempts, fate: Fate::Delivered };
        queue.settle(SHARD, &Settlement { events: vec![], deliveries: vec![settled] }).await?;
    }
    show(&queue).await
}

async fn show(queue: &MemoryQueue) -> Result<(), Box<dyn std::error::Error>> {
    for delivery in queue.list(SHARD, &DeliveryFilter::default(), None, 10).await?.items {
        println!(
            "{} of {}: {}, attempts {}, last status {:?}",
            delivery.id, delivery.event_id, delivery.state, delivery.attempts, delivery.last_status
        );
    }
    Ok(())
}

fn attempt(number: u32, status: u16, started_at: Timestamp) -> Attempt {
    Attempt {
        number,
        started_at,
        duration: Duration::from_millis(12),
        outcome: if status == 200 { OutcomeKind::Succeeded } else { OutcomeKind::Rejected },
        status: Some(status),
        error: None,
        address: None,
        hops: vec![],
        timings: Timings::default(),
        request: None,
        response: None,
    }
}
