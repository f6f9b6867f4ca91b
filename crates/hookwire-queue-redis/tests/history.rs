//! What was delivered is kept as long as the store is told now, not as long as it was told when that was delivered.

mod common;

use std::time::Duration;

use hookwire_model::{EventId, Shard, Timestamp};
use hookwire_queue::backend::ManualClock;
use hookwire_queue::{
    Inspect as _, LeaseEvents, NewEvent, PendingEvent, PendingItem, Queue as _, StoreLimits, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);
const HOUR: Duration = Duration::from_secs(3600);

async fn open(server: &RedisServer, clock: &ManualClock, history_age_max: Duration) -> RedisQueue {
    let url = RedisUrl::parse(&server.url()).unwrap();
    let limits = StoreLimits { history_age_max, ..StoreLimits::default() };
    let options = RedisOptions { limits, ..RedisOptions::default() };
    RedisQueue::open_with_clock(&url, options, Some(clock.store_clock())).await.unwrap()
}

async fn deliver(queue: &RedisQueue, id: &str) {
    let payload = format!(r#"{{"event":"created","object_type":"a.b","id":"{id}","data":{{}}}}"#);
    let event = NewEvent { id: EventId::new(id).unwrap(), payload: payload.into() };
    queue.publish(SHARD, vec![event]).await.unwrap();
    let request = LeaseEvents { worker: WorkerId::new("w".to_owned()), lease: HOUR, max: 1, suspects_max: 1 };
    let leased = queue.lease_events(SHARD, request).await.unwrap();
    assert_eq!(leased.len(), 1);
    assert_eq!(queue.settle(SHARD, &delivered(SHARD, leased)).await.unwrap().lost, []);
}

#[tokio::test]
async fn a_lower_age_holds_for_what_is_there_already() {
    let server = RedisServer::start();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let long = open(&server, &clock, 7 * 24 * HOUR).await;
    deliver(&long, "old").await;
    clock.advance(2 * HOUR);
    deliver(&long, "new").await;
    // By now the store knows that nothing is too old for days.
    long.tidy().await.unwrap();
    assert_eq!(long.stats(SHARD).await.unwrap().delivered, 2);

    let short = open(&server, &clock, HOUR).await;
    short.tidy().await.unwrap();
    assert_eq!(short.stats(SHARD).await.unwrap().delivered, 1);
    let is_there = async |id| short.event(SHARD, &EventId::new(id).unwrap()).await.unwrap().is_some();
    assert_eq!((is_there("old").await, is_there("new").await), (false, true));
}

#[tokio::test]
async fn what_is_restored_leaves_nothing_behind_of_what_leasing_needs() {
    let server = RedisServer::start();
    let queue = open(&server, &ManualClock::new(Timestamp::from_secs(1_800_000_000)), HOUR).await;
    let item = |number: u64| PendingItem {
        event: PendingEvent {
            id: EventId::new(&format!("e{number}")).unwrap(),
            payload: r#"{"event":"created","object_type":"a.b","data":{}}"#.into(),
            accepted_at: Timestamp::from_secs(1_700_000_000),
            queued: false,
        },
        deliveries: Vec::new(),
    };
    assert_eq!(queue.restore(SHARD, (0..2_500).map(item).collect()).await.unwrap(), 2_500);
    // The sizes of events that wait to be leased, a thousand in a key.
    let answer = server.command(&["KEYS", "*:sizes:*"]);
    assert_eq!(answer.lines().filter(|line| line.contains(":sizes:")).count(), 1, "{answer}");
}
