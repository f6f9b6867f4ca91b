//! Events that are handed over to whoever waits for them.

mod common;

use std::collections::BTreeSet;
use std::future::Future as _;
use std::time::Duration;

use hookwire_model::{EventId, Shard, Timestamp};
use hookwire_queue::backend::{ManualClock, StoreClock};
use hookwire_queue::{
    EventFate, LeaseEvents, LeasedEvent, NewEvent, Queue as _, SettledEvent, Settlement, StoreLimits,
    WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

use common::delivered;

const SHARD: Shard = Shard(0);
const LEASE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(600);
/// Whoever is woken is so long before.
const SOON: Duration = Duration::from_secs(20);
/// Ends at once where there is nothing, and goes on listening.
const MOMENT: Duration = Duration::from_millis(1);

async fn open(server: &RedisServer) -> RedisQueue {
    open_at(&server.url(), None).await
}

async fn open_at(url: &str, clock: Option<StoreClock>) -> RedisQueue {
    let url = RedisUrl::parse(url).unwrap();
    RedisQueue::open_with_clock(&url, RedisOptions::default(), clock).await.unwrap()
}

async fn publish(queue: &RedisQueue, numbers: impl IntoIterator<Item = usize>) {
    let event = |number| {
        let payload = format!(r#"{{"event":"created","object_type":"a.b","data":{{"id":{number}}}}}"#);
        NewEvent { id: EventId::new(&format!("evt-{number}")).unwrap(), payload: payload.into() }
    };
    queue.publish(SHARD, numbers.into_iter().map(event).collect()).await.unwrap();
}

async fn lease(queue: &RedisQueue, max: usize) -> Vec<LeasedEvent> {
    lease_for(queue, LEASE, max).await
}

async fn lease_for(queue: &RedisQueue, lease: Duration, max: usize) -> Vec<LeasedEvent> {
    let worker = WorkerId::new("worker");
    queue.lease_events(SHARD, LeaseEvents { worker, lease, max, suspects_max: 1 }).await.unwrap()
}

/// Looks, finds nothing, and waits, so that events are handed over from now on.
async fn listen(queue: &RedisQueue) {
    listen_for(queue, LEASE).await;
}

async fn listen_for(queue: &RedisQueue, lease: Duration) {
    assert_eq!(ids(&lease_for(queue, lease, 100).await), [""; 0]);
    queue.wait(SHARD, MOMENT).await.unwrap();
}

fn ids(leased: &[LeasedEvent]) -> Vec<&str> {
    leased.iter().map(|event| event.id.as_str()).collect()
}

#[tokio::test]
async fn who_waits_has_the_event_without_asking() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server).await, open(&server).await);
    listen(&waits).await;
    let (waited, ()) = tokio::join!(waits.wait(SHARD, LONG), publish(&other, [1]));
    waited.unwrap();
    assert_eq!(ids(&lease(&other, 10).await), [""; 0], "it is leased");
    let before = server.commands_processed();
    let leased = lease(&waits, 10).await;
    assert_eq!(server.commands_processed() - before, 1, "but for the question itself");
    assert_eq!(ids(&leased), ["evt-1"]);
    assert_eq!((leased[0].losses, leased[0].sequence.0), (0, 1));
    assert_eq!(&leased[0].payload[..], br#"{"event":"created","object_type":"a.b","data":{"id":1}}"#);
    assert_eq!(waits.settle(SHARD, &delivered(SHARD, leased)).await.unwrap().lost, []);

    // Three at once, and then what comes in a batch, which is leased as ever.
    let (waited, ()) = tokio::join!(waits.wait(SHARD, LONG), publish(&other, 2..5));
    waited.unwrap();
    assert_eq!(ids(&lease(&waits, 2).await), ["evt-2", "evt-3"]);
    assert_eq!(ids(&lease(&waits, 2).await), ["evt-4"]);
    let (waited, ()) = tokio::join!(waits.wait(SHARD, LONG), publish(&other, 5..15));
    waited.unwrap();
    assert_eq!(lease(&other, 4).await.len(), 4);
    assert_eq!(lease(&waits, 10).await.len(), 6);
}

#[tokio::test]
async fn nothing_is_handed_to_one_who_is_gone() {
    let server = RedisServer::start();
    let (gone, other) = (open(&server).await, open(&server).await);
    listen(&gone).await;
    assert_eq!(server.command(&["HLEN", "{hw:0}:listeners"]).trim(), "1");
    drop(gone);
    // The server sees that the connection is closed before it takes the next command of another.
    while server.command(&["PUBSUB", "CHANNELS"]).trim() != "" {
        tokio::task::yield_now().await;
    }
    publish(&other, [1]).await;
    assert_eq!(ids(&lease(&other, 10).await), ["evt-1"]);
    assert_eq!(server.command(&["EXISTS", "{hw:0}:listeners"]).trim(), "0");
}

#[tokio::test]
async fn what_was_handed_to_a_process_that_ended_is_given_again_when_its_lease_runs_out() {
    let server = RedisServer::start();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let (ends, other) = (
        open_at(&server.url(), Some(clock.store_clock())).await,
        open_at(&server.url(), Some(clock.store_clock())).await,
    );
    listen(&ends).await;
    publish(&other, [1]).await;
    drop(ends);
    assert_eq!(ids(&lease(&other, 10).await), [""; 0]);
    clock.advance(LEASE);
    let leased = lease(&other, 10).await;
    assert_eq!((ids(&leased), leased[0].losses), (vec!["evt-1"], 1));
}

#[tokio::test]
async fn who_listens_sees_when_the_lease_of_another_runs_out() {
    const SHORT: Duration = Duration::from_millis(400);
    let server = RedisServer::start();
    let (stays, ends, other) = (open(&server).await, open(&server).await, open(&server).await);
    listen_for(&stays, SHORT).await;
    publish(&other, [1]).await;
    // It takes one more than the other does now.
    listen_for(&ends, SHORT).await;
    publish(&other, [2]).await;
    drop(ends);
    stays.wait(SHARD, LONG).await.unwrap();
    let leased = lease_for(&stays, SHORT, 10).await;
    assert_eq!(ids(&leased), ["evt-1"]);
    stays.settle(SHARD, &delivered(SHARD, leased)).await.unwrap();
    // Nobody tells it of the second one, which was leased after it had looked.
    stays.wait(SHARD, LONG).await.unwrap();
    let leased = lease_for(&stays, SHORT, 10).await;
    assert_eq!((ids(&leased), leased[0].losses), (vec!["evt-2"], 1));
}

#[tokio::test]
async fn who_goes_gets_what_was_handed_over_and_no_more() {
    let server = RedisServer::start();
    let (goes, other) = (open(&server).await, open(&server).await);
    listen(&goes).await;
    publish(&other, [1]).await;
    publish(&other, [2]).await;
    // One was read while it waited, the other is still there.
    goes.wait(SHARD, LONG).await.unwrap();
    publish(&other, [3]).await;
    assert_eq!(ids(&lease(&goes, 0).await), ["evt-1", "evt-2", "evt-3"]);
    publish(&other, [4]).await;
    assert_eq!(ids(&lease(&goes, 0).await), [""; 0]);
    assert_eq!(ids(&lease(&other, 10).await), ["evt-4"]);
}

#[tokio::test]
async fn a_wait_that_is_dropped_loses_nothing() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server).await, open(&server).await);
    listen(&waits).await;
    {
        let mut waiting = std::pin::pin!(waits.wait(SHARD, LONG));
        while server.info("blocked_clients") != "1" {
            let poll = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx)));
            assert!(poll.await.is_pending());
            tokio::task::yield_now().await;
        }
        publish(&other, [1]).await;
    }
    assert_eq!(ids(&lease(&waits, 10).await), ["evt-1"]);
    // And it listens again, by another connection.
    listen(&waits).await;
    publish(&other, [2]).await;
    assert_eq!(ids(&lease(&other, 10).await), [""; 0]);
    waits.wait(SHARD, LONG).await.unwrap();
    assert_eq!(ids(&lease(&waits, 10).await), ["evt-2"]);
}

#[tokio::test]
async fn no_more_is_handed_over_than_was_asked_for() {
    let server = RedisServer::start();
    let (slow, other) = (open(&server).await, open(&server).await);
    listen(&slow).await;
    for number in 1..=40 {
        publish(&other, [number]).await;
    }
    let others = lease(&other, 100).await.len();
    let mut have = 0;
    while have < 40 - others {
        slow.wait(SHARD, LONG).await.unwrap();
        have += lease(&slow, 100).await.len();
    }
    assert_eq!((have, others), (32, 8));
}

#[tokio::test]
async fn many_who_wait_get_each_event_once() {
    const EVENTS: usize = 400;
    let server = RedisServer::start();
    let publisher = open(&server).await;
    let (done, is_done) = tokio::sync::watch::channel(false);
    let (got, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let handed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (queue, mut is_done, got) = (open(&server).await, is_done.clone(), got.clone());
        let handed = handed.clone();
        workers.spawn(async move {
            loop {
                let leased = lease(&queue, 20).await;
                if leased.is_empty() {
                    tokio::select! {
                        waited = queue.wait(SHARD, LONG) => waited.unwrap(),
                        _ = is_done.wait_for(|done| *done) => break,
                    }
                    continue;
                }
                for event in &leased {
                    assert_eq!(event.losses, 0, "it was left until its lease ran out");
                    let at_once = event.leased_at == event.accepted_at;
                    handed.fetch_add(usize::from(at_once), std::sync::atomic::Ordering::Relaxed);
                    got.send(event.sequence).unwrap();
                }
                let settled = queue.settle(SHARD, &delivered(SHARD, leased)).await.unwrap();
                assert_eq!(settled.lost, []);
            }
        });
    }
    // One at a time, two, and so many that they come in a batch.
    let mut number = 0;
    while number < EVENTS {
        let count = [1, 1, 2, 1, 5][number % 5].min(EVENTS - number);
        publish(&publisher, number..number + count).await;
        number += count;
    }
    let mut numbers = BTreeSet::new();
    while numbers.len() < EVENTS {
        assert!(numbers.insert(seen.recv().await.unwrap()), "an event came twice");
    }
    done.send(true).unwrap();
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert!(seen.try_recv().is_err(), "an event came twice");
    assert!(handed.load(std::sync::atomic::Ordering::Relaxed) > 0, "nothing was handed over");
}

#[tokio::test]
async fn who_reads_more_slowly_than_others_publish_loses_nothing() {
    let server = RedisServer::start();
    let (slow, other) = (open(&server).await, open(&server).await);
    listen(&slow).await;
    let (mut published, mut have) = (0, Vec::new());
    while have.len() < 300 {
        if published < 300 {
            publish(&other, published..published + 1 + usize::from(published % 3 == 0)).await;
            published += 1 + usize::from(published % 3 == 0);
        }
        slow.wait(SHARD, LONG).await.unwrap();
        for event in lease(&slow, 100).await {
            assert_eq!(event.losses, 0);
            have.push(event.sequence.0);
        }
    }
    assert_eq!(have, (1..=have.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_handed_over_keeps_nothing_else_waiting() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server).await, open(&server).await);
    publish(&other, [1]).await;
    let given_back = lease(&other, 1).await;
    listen(&waits).await;
    // One comes back, one comes by plain commands: nothing is handed over before these are leased.
    let events =
        given_back.into_iter().map(|event| SettledEvent { lease: event.lease, fate: EventFate::Released });
    other.settle(SHARD, &Settlement { events: events.collect(), deliveries: Vec::new() }).await.unwrap();
    publish(&other, [2]).await;
    waits.wait(SHARD, LONG).await.unwrap();
    assert_eq!(ids(&lease(&waits, 10).await), ["evt-1", "evt-2"]);
    listen(&waits).await;
    publish(&other, [3]).await;
    server.command(&[
        "XADD",
        "{hw:0}:in",
        "*",
        "event",
        r#"{"id":"evt-4","event":"created","object_type":"a.b","data":{}}"#,
    ]);
    publish(&other, [5]).await;
    waits.wait(SHARD, LONG).await.unwrap();
    assert_eq!(ids(&lease(&waits, 10).await), ["evt-3", "evt-4", "evt-5"]);
}

#[tokio::test]
async fn of_two_who_wait_at_once_one_listens() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server).await, open(&server).await);
    assert_eq!(ids(&lease(&waits, 10).await), [""; 0]);
    let (first, second) = tokio::join!(waits.wait(SHARD, MOMENT), waits.wait(SHARD, MOMENT));
    first.and(second).unwrap();
    waits.wait(SHARD, MOMENT).await.unwrap();
    assert_eq!(server.command(&["HLEN", "{hw:0}:listeners"]).trim(), "1");
    for number in 1..=40 {
        publish(&other, [number]).await;
        waits.wait(SHARD, LONG).await.unwrap();
        assert_eq!(lease(&waits, 10).await.len(), 1);
    }
}

#[tokio::test]
async fn a_store_that_lost_its_data_hands_over_again() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server).await, open(&server).await);
    listen(&waits).await;
    for round in 0..2 {
        publish(&other, [1]).await;
        tokio::time::timeout(SOON, waits.wait(SHARD, LONG)).await.expect("it is told").unwrap();
        assert_eq!(ids(&lease(&waits, 10).await), ["evt-1"]);
        server.command(&["FLUSHALL"]);
        assert_eq!(lease(&waits, 10).await.len(), 0, "{round}");
        for _ in 0..2 {
            waits.wait(SHARD, MOMENT).await.unwrap();
            assert_eq!(lease(&waits, 10).await.len(), 0, "{round}");
        }
        waits.wait(SHARD, MOMENT).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_who_may_not_listen_is_told_that_there_is_something() {
    let server = RedisServer::start();
    server.command(&["ACL", "SETUSER", "plain", "on", "nopass", "~*", "+@all", "resetchannels"]);
    let url = format!("unix://{}?user=plain&pass=x", server.socket().display());
    let (waits, other) = (open_at(&url, None).await, open(&server).await);
    listen(&waits).await;
    assert_eq!(server.command(&["EXISTS", "{hw:0}:listeners"]).trim(), "0");
    let waited = async { tokio::join!(waits.wait(SHARD, LONG), publish(&other, [1])).0 };
    tokio::time::timeout(SOON, waited).await.expect("it is told").unwrap();
    assert_eq!(ids(&lease(&waits, 10).await), ["evt-1"]);
}

#[tokio::test]
async fn the_rules_for_a_user_in_the_docs_are_enough() {
    let docs = include_str!("../../../docs/queue.md");
    let rules =
        docs.lines().find_map(|line| line.strip_prefix("ACL SETUSER hookwire on >password ")).unwrap();
    let server = RedisServer::start();
    let mut command = vec!["ACL", "SETUSER", "hookwire", "on", ">password"];
    command.extend(rules.split(' '));
    assert_eq!(server.command(&command).trim(), "OK");
    let url = format!("unix://{}?user=hookwire&pass=password", server.socket().display());
    let (waits, other) = (open_at(&url, None).await, open_at(&url, None).await);
    listen(&waits).await;
    publish(&other, [1]).await;
    assert_eq!(ids(&lease(&other, 10).await), [""; 0], "it was handed over");
    waits.wait(SHARD, LONG).await.unwrap();
    let leased = lease(&waits, 10).await;
    assert_eq!(waits.settle(SHARD, &delivered(SHARD, leased)).await.unwrap().lost, []);
}

#[tokio::test]
async fn what_was_handed_over_long_ago_is_forgotten() {
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let limits = StoreLimits { history_bytes_max: 0, ..StoreLimits::default() };
    let options = RedisOptions { limits, history_by_memory: false, ..RedisOptions::default() };
    let (waits, other) = (
        RedisQueue::open_with_clock(&url, options.clone(), None).await.unwrap(),
        RedisQueue::open_with_clock(&url, options, None).await.unwrap(),
    );
    listen(&waits).await;
    // As if so many events had been handed over before, which would take long.
    server.command(&["HINCRBY", "{hw:0}:meta", "remembered", "16384"]);
    let mut runs = Vec::new();
    for number in 0..64 {
        publish(&other, [number]).await;
        waits.wait(SHARD, LONG).await.unwrap();
        let leased = lease(&waits, 1).await;
        assert_eq!(leased.len(), 1);
        waits.settle(SHARD, &delivered(SHARD, leased)).await.unwrap();
        if number % 16 == 15 {
            // A pause, in which it says again that it listens.
            waits.wait(SHARD, MOMENT).await.unwrap();
            runs.push(server.command(&["HLEN", "{hw:0}:runs"]).trim().parse::<usize>().unwrap());
        }
    }
    assert_eq!(runs, [0; 4]);
}
