//! Stores that another version of hookwire wrote.

mod common;

use std::time::Duration;

use hookwire_model::{
    Attempt, AttemptError, ErrorKind, EventId, OutcomeKind, Shard, Timestamp, Timings, WaitingReason,
};
use hookwire_queue::{
    Change, EventFate, Fate, Inspect as _, LeaseEvents, NewEvent, PackedAttempt, Queue as _, QueueError,
    Selection, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);

async fn open(server: &RedisServer) -> Result<RedisQueue, QueueError> {
    RedisQueue::open(&RedisUrl::parse(&server.url()).unwrap(), RedisOptions::default()).await
}

async fn publish(queue: &RedisQueue, id: &str) {
    let payload = r#"{"event":"created","object_type":"a.b","data":{}}"#.into();
    queue.publish(SHARD, vec![NewEvent { id: EventId::new(id).unwrap(), payload }]).await.unwrap();
}

fn one() -> LeaseEvents {
    LeaseEvents { worker: WorkerId::new("worker"), lease: Duration::from_secs(60), max: 1, suspects_max: 0 }
}

fn version(server: &RedisServer) -> String {
    server.command(&["HGET", "{hw:0}:meta", "v"]).trim().to_owned()
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        started_at: Timestamp::from_secs(1_800_000_000),
        duration: Duration::from_micros(1234),
        outcome: OutcomeKind::Unanswered,
        status: None,
        error: Some(AttemptError { kind: ErrorKind::Connect, message: "refused, öfter".into() }),
        address: None,
        hops: Vec::new(),
        timings: Timings::default(),
        request: None,
        response: None,
    }
}

#[tokio::test]
async fn attempts_of_the_first_version_are_read_and_the_store_becomes_a_new_one() {
    let server = RedisServer::start();
    let queue = open(&server).await.unwrap();
    publish(&queue, "evt").await;
    let mut settlement = delivered(SHARD, queue.lease_events(SHARD, one()).await.unwrap());
    let EventFate::FannedOut { deliveries, .. } = &mut settlement.events[0].fate else { unreachable!() };
    let id = deliveries[0].id;
    deliveries[0].attempts = vec![PackedAttempt::from(&attempt())];
    deliveries[0].fate = Fate::Waiting { due_in: Duration::from_secs(3600), reason: WaitingReason::Retry };
    queue.settle(SHARD, &settlement).await.unwrap();
    let log = |delivery: Option<hookwire_model::Delivery>| delivery.unwrap().attempt_log.unwrap();
    assert_eq!(log(queue.delivery(id).await.unwrap()), [attempt()]);

    // As the first version kept it.
    let field = format!("{:012x}{:016x}:1", id.sequence().0, id.digest());
    let json = serde_json::to_string(&attempt()).unwrap();
    assert_eq!(server.command(&["HSET", "{hw:0}:att", &field, &json]).trim(), "0", "it was there");
    server.command(&["HSET", "{hw:0}:meta", "v", "1"]);
    let queue = open(&server).await.unwrap();
    assert_eq!(log(queue.delivery(id).await.unwrap()), [attempt()]);
    assert_eq!(version(&server), "1", "looking changes nothing");
    publish(&queue, "another").await;
    assert_eq!(version(&server), "4");
}

#[tokio::test]
async fn what_the_second_version_kept_of_single_events_is_read() {
    let server = RedisServer::start();
    let queue = open(&server).await.unwrap();
    publish(&queue, "evt").await;
    let settlement = delivered(SHARD, queue.lease_events(SHARD, one()).await.unwrap());
    queue.settle(SHARD, &settlement).await.unwrap();
    let EventFate::FannedOut { deliveries, .. } = &settlement.events[0].fate else { unreachable!() };
    let id = deliveries[0].id;
    let kept = queue.delivery(id).await.unwrap().unwrap();

    // What the run and the block say was in `evt`, and the run only said that the event was settled.
    let (token, run) = (server.command(&["HKEYS", "{hw:0}:runs"]), server.command(&["HVALS", "{hw:0}:runs"]));
    let (head, size) = (&run[..20], &run[21..28]);
    let (name, at) = run[29..].trim().split_once(' ').unwrap();
    let place = server.command(&["GETRANGE", &format!("{{hw:0}}:f:{name}"), "-30", "-10"]);
    let value = format!("F-{at}{size}{}{}{name}", "0".repeat(16), place.trim());
    assert_eq!(server.command(&["HSET", "{hw:0}:evt", "1", &value]).trim(), "1", "it was not there");
    server.command(&["HSET", "{hw:0}:runs", token.trim(), &format!("{head}1{size}")]);
    server.command(&["DEL", "{hw:0}:spans"]);
    server.command(&["HSET", "{hw:0}:meta", "v", "2"]);

    let queue = open(&server).await.unwrap();
    assert_eq!(queue.delivery(id).await.unwrap().unwrap(), kept);
    let changed = queue.change(SHARD, Change::Retry, &Selection::Ids(vec![id]), false).await.unwrap();
    assert_eq!(changed.changed, 1);
    assert_eq!(version(&server), "4");
    assert_eq!(
        server.command(&["EXISTS", &format!("{{hw:0}}:f:{name}")]).trim(),
        "0",
        "it is kept by itself"
    );
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let server = RedisServer::start();
    publish(&open(&server).await.unwrap(), "evt").await;
    server.command(&["HSET", "{hw:0}:meta", "v", "5"]);
    let refused = open(&server).await.unwrap_err();
    assert!(matches!(refused, QueueError::UnknownVersion { found: 5, known: 4 }), "{refused}");
    assert_eq!(version(&server), "5");
}
