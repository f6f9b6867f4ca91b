//! What a worker asks of a server while there is nothing to do: one look after each long wait, a word that it listens twice
//! in the time of a lease, and the endpoints' records every two seconds.

use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{EndpointId, EventId, Shard};
use hookwire_queue::{Inspect as _, LeaseDeliveries, LeaseEvents, NewEvent, Queue as _, Rooms, WorkerId};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

const SHARD: Shard = Shard(0);
/// What one look for work may cost, together with the wait before it, in commands: those of its three scripts count. With
/// a look every thirty seconds that is little more than one in a second.
const LOOK_MAX: u64 = 40;

async fn look(queue: &RedisQueue) {
    let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(15));
    let request = LeaseEvents { worker: worker.clone(), lease, max: 100, suspects_max: 1 };
    assert!(queue.lease_events(SHARD, request).await.unwrap().is_empty());
    let rooms = Rooms { default: 32, exceptions: Vec::new() };
    let request = LeaseDeliveries { worker, lease, max: 100, rooms };
    assert!(queue.lease_deliveries(SHARD, request).await.unwrap().deliveries.is_empty());
}

#[tokio::test]
async fn a_look_that_finds_nothing_is_a_few_commands() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let queue = RedisQueue::open(&url, RedisOptions::default()).await.unwrap();
    // The first one makes connections and loads scripts.
    look(&queue).await;
    queue.wait(SHARD, Duration::from_millis(1)).await.unwrap();
    let before = server.commands_processed();
    look(&queue).await;
    queue.wait(SHARD, Duration::from_millis(1)).await.unwrap();
    let took = server.commands_processed() - before;
    assert!(took <= LOOK_MAX, "a look took {took} commands");
}

#[tokio::test]
async fn asking_for_endpoints_is_one_command() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let queue = RedisQueue::open(&url, RedisOptions::default()).await.unwrap();
    let state = Bytes::from_static(b"state");
    queue.put_endpoint(SHARD, EndpointId::from_u64(1), 0, state).await.unwrap();
    let before = server.commands_processed();
    for _ in 0..10 {
        assert_eq!(queue.endpoints(SHARD).await.unwrap().len(), 1);
    }
    // One more is the question itself.
    assert_eq!(server.commands_processed() - before, 10 + 1);
}

/// The store's clock does not jump back with the server's, and it does not stand still either: nothing that waits for a
/// time would come, until somebody publishes.
#[tokio::test]
async fn a_clock_that_was_set_back_goes_on_although_nothing_happens() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let queue = RedisQueue::open(&url, RedisOptions::default()).await.unwrap();
    let payload = r#"{"event":"created","object_type":"a.b","id":"e","data":{}}"#;
    let event = NewEvent { id: EventId::new("e").unwrap(), payload: payload.into() };
    queue.publish(SHARD, vec![event]).await.unwrap();
    // The last line of an answer is its value.
    let ask = |parts: &[&str]| server.command(parts).lines().last().unwrap().to_owned();
    let meta = ask(&["KEYS", "*meta"]);
    let number = |field| ask(&["HGET", &meta, field]).parse::<i64>().unwrap();
    // What it looks like after the server's clock was set back by ten minutes.
    let (known, ten_minutes) = (number("time"), 600_000_000);
    ask(&["HSET", &meta, "time", &(known + ten_minutes).to_string()]);
    let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(15));
    let rooms = Rooms { default: 32, exceptions: Vec::new() };
    let request = LeaseDeliveries { worker, lease, max: 100, rooms };
    assert!(queue.lease_deliveries(SHARD, request).await.unwrap().deliveries.is_empty());
    let (seen, ahead) = (number("time"), number("ahead"));
    assert!((known..known + ten_minutes).contains(&seen), "{seen}");
    assert_eq!(seen + ahead, known + ten_minutes, "it goes on from where it was");
}
