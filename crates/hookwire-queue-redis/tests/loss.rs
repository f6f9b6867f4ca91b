//! A store that lost data: numbers and tokens that it gave out before come to nobody else's harm.

mod common;

use std::time::Duration;

use hookwire_model::{EventId, Sequence, Shard};
use hookwire_queue::{Inspect as _, LeaseEvents, LeasedEvent, NewEvent, Queue as _, Subject, WorkerId};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);

async fn open(server: &RedisServer) -> RedisQueue {
    let url = RedisUrl::parse(&server.url()).unwrap();
    RedisQueue::open(&url, RedisOptions::default()).await.unwrap()
}

async fn publish(queue: &RedisQueue, id: &str) -> Sequence {
    let payload = format!(r#"{{"event":"created","object_type":"a.b","id":"{id}","data":{{}}}}"#);
    let event = NewEvent { id: EventId::new(id).unwrap(), payload: payload.into() };
    queue.publish(SHARD, vec![event]).await.unwrap()[0].sequence
}

async fn lease(queue: &RedisQueue, worker: &str) -> Vec<LeasedEvent> {
    let request = LeaseEvents {
        worker: WorkerId::new(worker.to_owned()),
        lease: Duration::from_secs(60),
        max: 10,
        suspects_max: 1,
    };
    queue.lease_events(SHARD, request).await.unwrap()
}

/// A second event gets the number of a first one that the store lost; it is settled by its own lease only, whatever the
/// first one's worker says.
async fn assert_apart(queue: &RedisQueue, first: LeasedEvent) {
    let number = first.sequence;
    assert_eq!(publish(queue, "second").await, number, "the store begins where its data ends");
    let second = lease(queue, "b").await.remove(0);
    assert_eq!((second.sequence, second.id.as_str()), (number, "second"));
    assert_ne!(second.lease.token, first.lease.token, "a token is given out once");
    let before = queue.stats(SHARD).await.unwrap().delivered;
    let late = queue.settle(SHARD, &delivered(SHARD, [first])).await.unwrap();
    assert_eq!(late.lost, [Subject::Event(number)]);
    let seen = queue.event(SHARD, &second.id).await.unwrap().unwrap();
    assert!(seen.deliveries.is_empty(), "a delivery of another event stands under this one");
    assert_eq!(queue.stats(SHARD).await.unwrap().events_leased, 1);
    assert_eq!(queue.settle(SHARD, &delivered(SHARD, [second])).await.unwrap().lost, []);
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!((stats.events_leased, stats.delivered, stats.pending_bytes), (0, before + 1, 0));
}

#[tokio::test]
async fn a_number_given_again_after_a_flush_is_another_event() {
    let server = RedisServer::start();
    let queue = open(&server).await;
    publish(&queue, "first").await;
    let first = lease(&queue, "a").await.remove(0);
    server.command(&["FLUSHALL"]);
    assert_apart(&queue, first).await;
}

#[tokio::test]
async fn a_number_given_again_after_a_crash_that_lost_the_newest_is_another_event() {
    let mut server = RedisServer::start();
    let queue = open(&server).await;
    publish(&queue, "kept").await;
    let kept = lease(&queue, "a").await.remove(0);
    queue.settle(SHARD, &delivered(SHARD, [kept])).await.unwrap();
    server.command(&["SAVE"]);
    publish(&queue, "first").await;
    let first = lease(&queue, "a").await.remove(0);
    server.kill();
    server.restart();
    assert_apart(&open(&server).await, first).await;
}
