//! What settlements say of many events is stored once for all of them, and goes when the last of them goes.

mod common;

use std::time::Duration;

use hookwire_model::{EventId, Shard};
use hookwire_queue::{
    DeliveryFilter, EventFate, Inspect as _, LeaseEvents, LeasedEvent, NewEvent, Queue as _, Settlement,
    StoreLimits, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);
/// So many that what is said of them goes to the server beside the script.
const EVENTS: usize = 100;

async fn open(server: &RedisServer, history_bytes_max: u64) -> RedisQueue {
    let url = RedisUrl::parse(&server.url()).unwrap();
    let limits = StoreLimits { history_bytes_max, ..StoreLimits::default() };
    RedisQueue::open(&url, RedisOptions { limits, ..RedisOptions::default() }).await.unwrap()
}

async fn publish_and_lease(queue: &RedisQueue) -> Vec<LeasedEvent> {
    publish_and_lease_from(queue, 0).await
}

async fn publish_and_lease_from(queue: &RedisQueue, first: usize) -> Vec<LeasedEvent> {
    let event = |number| NewEvent {
        id: EventId::new(&format!("evt-{number}")).unwrap(),
        payload: format!(r#"{{"event":"created","object_type":"a.b","data":{{"id":{number}}}}}"#).into(),
    };
    queue.publish(SHARD, (first..first + EVENTS).map(event).collect()).await.unwrap();
    let request = LeaseEvents {
        worker: WorkerId::new("worker"),
        lease: Duration::from_secs(60),
        max: EVENTS,
        suspects_max: 1,
    };
    let leased = queue.lease_events(SHARD, request).await.unwrap();
    assert_eq!(leased.len(), EVENTS);
    assert!(leased.is_sorted_by_key(|event| event.sequence));
    leased
}

fn blocks(server: &RedisServer) -> usize {
    server.command(&["KEYS", "{hw:0}:f:*"]).lines().filter(|line| !line.is_empty()).count()
}

async fn assert_on_record(queue: &RedisQueue) {
    let page = queue.list(SHARD, &DeliveryFilter::default(), None, 2 * EVENTS).await.unwrap();
    assert_eq!(page.items.len(), EVENTS);
    assert!(page.items.iter().all(|delivery| delivery.rule.as_ref().unwrap().as_str() == "rule"));
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!((stats.delivered, stats.events_leased, stats.pending_bytes), (EVENTS as u64, 0, 0));
}

#[tokio::test]
async fn a_block_serves_many_events_and_goes_with_them() {
    let server = RedisServer::start();
    let queue = open(&server, 1 << 30).await;
    let mut settlement = delivered(SHARD, publish_and_lease(&queue).await);
    let late = Settlement { events: settlement.events.split_off(EVENTS - 1), deliveries: Vec::new() };
    for settlement in [&settlement, &settlement, &late, &late, &settlement] {
        assert!(queue.settle(SHARD, settlement).await.unwrap().lost.is_empty(), "it may be repeated");
    }
    assert_eq!(blocks(&server), 2, "one for each settlement");
    assert_on_record(&queue).await;

    let queue = open(&server, 0).await;
    queue.tidy().await.unwrap();
    assert_eq!((blocks(&server), server.command(&["EXISTS", "{hw:0}:blocks"]).trim()), (0, "0"));
    assert_eq!(queue.stats(SHARD).await.unwrap().history_bytes, 0);
    // A settlement that comes again after everything is gone leaves nothing behind.
    queue.settle(SHARD, &settlement).await.unwrap();
    assert_eq!(blocks(&server), 0);
}

/// So many events in runs are remembered, as `lease_runs.lua` tells.
const REMEMBERED: usize = 16384;

#[tokio::test]
async fn a_run_stays_as_long_as_its_blocks() {
    let server = RedisServer::start();
    let queue = open(&server, 1 << 30).await;
    let runs = || server.command(&["HLEN", "{hw:0}:runs"]).trim().parse::<usize>().unwrap();
    let count = REMEMBERED / EVENTS + 6;
    let mut first = None;
    for number in 0..count {
        let settlement = delivered(SHARD, publish_and_lease_from(&queue, EVENTS * number).await);
        queue.settle(SHARD, &settlement).await.unwrap();
        first.get_or_insert(settlement);
    }
    assert_eq!(
        runs(),
        count,
        "nobody asks about the leases of the first ones, but their events are on record"
    );
    let EventFate::FannedOut { deliveries, .. } = &first.unwrap().events[0].fate else { unreachable!() };
    let kept = queue.delivery(deliveries[0].id).await.unwrap().unwrap();
    assert_eq!(kept.rule.unwrap().as_str(), "rule");

    let queue = open(&server, 0).await;
    queue.tidy().await.unwrap();
    assert_eq!((runs(), blocks(&server)), (REMEMBERED / EVENTS, 0));
    assert_eq!(server.command(&["EXISTS", "{hw:0}:spans"]).trim(), "0");
}

#[tokio::test]
async fn a_server_without_room_still_takes_what_makes_room() {
    let server = RedisServer::start();
    let queue = open(&server, 1 << 30).await;
    let settlement = delivered(SHARD, publish_and_lease(&queue).await);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let more = NewEvent { id: EventId::new("more").unwrap(), payload: "{}".into() };
    assert!(queue.publish(SHARD, vec![more]).await.is_err(), "there is no room for more");
    assert!(queue.settle(SHARD, &settlement).await.unwrap().lost.is_empty());
    assert_on_record(&queue).await;
}

#[tokio::test]
async fn a_transaction_that_is_refused_says_why() {
    let server = RedisServer::start();
    let queue = open(&server, 1 << 30).await;
    let settlement = delivered(SHARD, publish_and_lease(&queue).await);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = queue.settle(SHARD, &settlement).await.unwrap_err();
    assert!(refused.to_string().contains("read-only replica"), "{refused}");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert!(queue.settle(SHARD, &settlement).await.unwrap().lost.is_empty());
    assert_on_record(&queue).await;
}
