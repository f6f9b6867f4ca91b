//! Events that are published together stand in strings of their own, and go when the last of them goes.

mod common;

use std::time::Duration;

use hookwire_model::{EventId, Shard, WaitingReason};
use hookwire_queue::{
    EventFate, Fate, Inspect as _, LeaseDeliveries, LeaseEvents, LeasedDelivery, LeasedEvent, NewEvent,
    Queue as _, QueueError, Rooms, SettledDelivery, Settlement, StoreLimits, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);

async fn open(server: &RedisServer, limits: StoreLimits) -> RedisQueue {
    let url = RedisUrl::parse(&server.url()).unwrap();
    RedisQueue::open(&url, RedisOptions { limits, ..RedisOptions::default() }).await.unwrap()
}

fn event(number: usize) -> NewEvent {
    let payload = format!(r#"{{"event":"created","object_type":"a.b","data":{{"id":{number}}}}}"#);
    NewEvent { id: EventId::new(&format!("evt-{number}")).unwrap(), payload: payload.into() }
}

async fn lease(queue: &RedisQueue, max: usize) -> Vec<LeasedEvent> {
    let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(60));
    queue.lease_events(SHARD, LeaseEvents { worker, lease, max, suspects_max: 1 }).await.unwrap()
}

async fn lease_deliveries(queue: &RedisQueue) -> Vec<LeasedDelivery> {
    let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(60));
    let rooms = Rooms { default: 10, exceptions: Vec::new() };
    let request = LeaseDeliveries { worker, lease, max: 10, rooms };
    queue.lease_deliveries(SHARD, request).await.unwrap().deliveries
}

/// What was published as events of these numbers, in this order.
fn assert_events(leased: &[LeasedEvent], numbers: impl IntoIterator<Item = usize>) {
    let expected: Vec<NewEvent> = numbers.into_iter().map(event).collect();
    let ids: Vec<_> = leased.iter().map(|leased| leased.id.as_str()).collect();
    assert_eq!(ids, expected.iter().map(|event| event.id.as_str()).collect::<Vec<_>>());
    assert!(leased.iter().zip(&expected).all(|(leased, event)| leased.payload == event.payload));
}

fn keys(server: &RedisServer, pattern: &str) -> usize {
    server.command(&["KEYS", pattern]).lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test]
async fn batches_and_single_events_are_leased_in_their_order_whatever_their_number() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    let mut first = 0;
    for count in [1, 40, 3, 100, 1, 1, 4, 70] {
        queue.publish(SHARD, (first..first + count).map(event).collect()).await.unwrap();
        first += count;
    }
    assert_eq!(server.command(&["XLEN", "{hw:0}:events"]).trim(), "6");
    assert_eq!(keys(&server, "{hw:0}:e:*"), 2 + 4 + 1 + 3, "32 in each, and what is left");
    assert_eq!(keys(&server, "{hw:0}:new:*"), 0);
    let mut leased = Vec::new();
    for max in [1, 5, 33, 7, 64, 1000] {
        let before = leased.len();
        leased.extend(lease(&queue, max).await);
        assert_eq!(leased.len() - before, max.min(first - before));
    }
    assert_events(&leased, 0..first);
}

#[tokio::test]
async fn what_is_known_already_is_not_taken_in_again_and_leaves_nothing() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    queue.publish(SHARD, (0..50).map(event).collect()).await.unwrap();
    let again = queue.publish(SHARD, (40..90).map(event).collect()).await.unwrap();
    assert_eq!(again.iter().filter(|published| published.duplicate).count(), 10);
    assert_eq!((again[0].sequence.0, again[10].sequence.0), (41, 51));
    assert_eq!((keys(&server, "{hw:0}:e:*"), keys(&server, "{hw:0}:new:*")), (2, 0));
    assert_events(&lease(&queue, 100).await, 0..90);

    let full = open(&server, StoreLimits { pending_bytes_max: 0, ..StoreLimits::default() }).await;
    let refused = full.publish(SHARD, (100..110).map(event).collect()).await.unwrap_err();
    assert!(matches!(refused, QueueError::Full { .. }), "{refused}");
    assert_eq!((keys(&server, "{hw:0}:e:*"), keys(&server, "{hw:0}:new:*")), (2, 0));
}

#[tokio::test]
async fn a_batch_goes_with_the_last_of_its_events() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    queue.publish(SHARD, (0..64).map(event).collect()).await.unwrap();
    let leased = lease(&queue, 64).await;
    let mut settlement = delivered(SHARD, leased);
    let waits = Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Retry };
    for number in [5, 40] {
        let EventFate::FannedOut { deliveries, .. } = &mut settlement.events[number].fate else {
            unreachable!()
        };
        deliveries[0].fate = waits.clone();
    }
    queue.settle(SHARD, &settlement).await.unwrap();

    // Nothing is kept but what is still to be done: all of the history is gone, and both batches with it.
    let queue = open(&server, StoreLimits { history_bytes_max: 0, ..StoreLimits::default() }).await;
    queue.tidy().await.unwrap();
    assert_eq!((keys(&server, "{hw:0}:e:*"), keys(&server, "{hw:0}:batches")), (0, 0));
    let left = lease_deliveries(&queue).await;
    let payloads: Vec<_> = left.iter().map(|delivery| delivery.payload.clone()).collect();
    assert_eq!(payloads, [event(5).payload, event(40).payload]);
}

#[tokio::test]
async fn one_that_was_finished_later_is_removed_by_itself() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    queue.publish(SHARD, (0..8).map(event).collect()).await.unwrap();
    let mut settlement = delivered(SHARD, lease(&queue, 4).await);
    let EventFate::FannedOut { deliveries, .. } = &mut settlement.events[2].fate else { unreachable!() };
    let (rule, webhook) = (deliveries[0].rule.clone(), deliveries[0].webhook.clone());
    deliveries[0].fate = Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Retry };
    let second = Settlement { events: settlement.events.split_off(2), deliveries: Vec::new() };
    queue.settle(SHARD, &second).await.unwrap();
    let retried = lease_deliveries(&queue).await.remove(0);
    assert_eq!((&retried.rule, &retried.webhook), (&rule, &webhook));
    let id = retried.id;
    let done =
        SettledDelivery { lease: retried.lease, endpoint: None, attempts: Vec::new(), fate: Fate::Delivered };
    queue.settle(SHARD, &Settlement { events: Vec::new(), deliveries: vec![done] }).await.unwrap();

    // What comes before it is finished after it, so it goes first, out of the middle of its batch.
    queue.settle(SHARD, &settlement).await.unwrap();
    let tight = open(&server, StoreLimits { history_bytes_max: 0, ..StoreLimits::default() }).await;
    tight.tidy().await.unwrap();
    assert!(tight.delivery(id).await.unwrap().is_none());
    assert!(tight.event(SHARD, &event(2).id).await.unwrap().is_none());
    for name in ["kept", "old", "evt", "rec"] {
        assert_eq!(keys(&server, &format!("{{hw:0}}:{name}")), 0, "{name}");
    }
    assert_events(&lease(&tight, 10).await, 4..8);
}

/// The state that a worker finds where the history went past a batch between its lease and its reading.
#[tokio::test]
async fn what_was_kept_of_a_batch_that_went_is_leased() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    queue.publish(SHARD, (0..6).map(event).collect()).await.unwrap();
    for number in [0, 1, 2, 4, 5] {
        let NewEvent { id, payload } = event(number);
        let payload = std::str::from_utf8(&payload).unwrap();
        let entry = format!("1800000000000000 {} {payload}", id.as_str());
        server.command(&["HSET", "{hw:0}:kept", &(number + 1).to_string(), &entry]);
    }
    server.command(&["DEL", "{hw:0}:e:1"]);
    assert_events(&lease(&queue, 10).await, [0, 1, 2, 4, 5]);
}

#[tokio::test]
async fn one_known_id_among_very_many_does_not_hold_the_server_up() {
    let server = RedisServer::start();
    let queue = open(&server, StoreLimits::default()).await;
    queue.publish(SHARD, vec![event(0)]).await.unwrap();
    let published = queue.publish(SHARD, (0..50_000).map(event).collect()).await.unwrap();
    assert_eq!(published.iter().filter(|published| published.duplicate).count(), 1);
    assert_eq!(published.last().unwrap().sequence.0, 50_000);
    assert_eq!(keys(&server, "{hw:0}:new:*"), 0);
    assert_events(&lease(&queue, 500).await, 0..500);
}
