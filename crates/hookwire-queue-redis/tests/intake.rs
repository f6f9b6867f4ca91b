//! Events that come by plain `XADD` into the stream `in`, as `docs/queue.md` says: from any language, with no hookwire
//! program in between.

use std::time::Duration;

use hookwire_model::{Event, EventId, Shard, Timestamp};
use hookwire_queue::{Inspect as _, LeaseEvents, LeasedEvent, NewEvent, Queue as _, WorkerId};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::{RedisCluster, RedisServer};

#[path = "../examples/publish.rs"]
#[expect(dead_code, reason = "a test calls what `main` calls")]
mod publish;

const SHARD: Shard = Shard(0);

async fn open(url: &str, shards: u16) -> RedisQueue {
    let options = RedisOptions { shards, event_bytes_max: 100_000, ..RedisOptions::default() };
    RedisQueue::open(&RedisUrl::parse(url).unwrap(), options).await.unwrap()
}

async fn lease(queue: &RedisQueue, shard: Shard, max: usize) -> Vec<LeasedEvent> {
    let (worker, lease) = (WorkerId::new("worker"), Duration::from_secs(60));
    queue.lease_events(shard, LeaseEvents { worker, lease, max, suspects_max: 1 }).await.unwrap()
}

fn add(server: &RedisServer, event: &str) -> String {
    let entry = server.command(&["XADD", "{hw:0}:in", "*", "event", event]).trim().to_owned();
    assert!(!entry.contains("ERROR"), "{entry}");
    entry
}

fn event(id: usize) -> String {
    format!(r#"{{"event":"created","object_type":"dcim.site","data":{{"id":7,"number":{id}}}}}"#)
}

fn read(leased: &LeasedEvent) -> Event {
    assert_eq!(leased.refused, None);
    Event::from_payload(&leased.payload).unwrap()
}

#[tokio::test]
async fn what_is_missing_comes_from_the_entry() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let bare =
        r#"{"event":"updated","object_type":"dcim.site","data":{"id":7,"big":12345678901234567890123}}"#;
    let full = r#"{"id":"mine","event":"updated","object_type":"dcim.site","timestamp":"2026-01-02 03:04:05+00:00","data":{"id":7}}"#;
    // As NetBox sends it: all that its own id could be made of is there; the entry's counts nevertheless.
    let netbox = r#"{"event":"object_created","timestamp":"2026-01-02T03:04:05Z","object_type":"dcim.site","username":"admin","request_id":"4a","data":{"id":7},"snapshots":{"prechange":null,"postchange":{}}}"#;
    let entries = [bare, full, netbox].map(|text| add(&server, text));
    let leased = lease(&queue, SHARD, 10).await;
    let ids: Vec<&str> = leased.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, [&*entries[0], "mine", &*entries[2]]);
    let events: Vec<Event> = leased.iter().map(read).collect();
    assert_eq!(events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ids);

    let millis: i64 = entries[0].split_once('-').unwrap().0.parse().unwrap();
    assert_eq!(leased[0].accepted_at, Timestamp::from_micros(millis * 1000));
    assert_eq!(events[0].timestamp.as_str(), Timestamp::from_micros(millis * 1000).to_string());
    assert_eq!(events[0].object_id.as_deref(), Some("7"));
    assert!(events[0].data.as_str().contains("12345678901234567890123"), "numbers keep their text");
    assert_eq!(events[1].timestamp.as_str(), "2026-01-02 03:04:05+00:00");
    assert_eq!(&*events[2].event, "created");
    assert_eq!(server.command(&["XLEN", "{hw:0}:in"]), "0\n", "what was taken in is not there twice");
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_as_it_came() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let texts = [
        "",
        "no JSON",
        "[]",
        r#"{"event":"created"}"#,
        r#"{"event":"created","object_type":"a.b","data":{},"typo":1}"#,
        r#"{"id":"with.a.point","event":"created","object_type":"a.b","data":{}}"#,
        r#"{"id":7,"event":"created","object_type":"a.b","data":{}}"#,
        &format!("{}1{}", "[".repeat(5000), "]".repeat(5000)),
    ];
    let entries = texts.map(|text| add(&server, text));
    let other = server.command(&["XADD", "{hw:0}:in", "*", "evnet", "{}", "payload", "x"]).trim().to_owned();
    let good = add(&server, &event(1));
    let leased = lease(&queue, SHARD, 20).await;
    assert_eq!(leased.len(), texts.len() + 2);
    for ((leased, text), entry) in leased.iter().zip(texts).zip(&entries) {
        assert_eq!((leased.id.as_str(), &*leased.payload), (&**entry, text.as_bytes()));
        assert!(Event::from_payload(&leased.payload).is_err(), "{text}");
    }
    let [.., without, last] = &leased[..] else { panic!("there are more") };
    assert_eq!(without.id.as_str(), other);
    assert_eq!(&*without.payload, br#"["evnet","{}","payload","x"]"#, "all its fields, to be looked at");
    assert_eq!(read(last).id.as_str(), good, "the others go on");
}

#[tokio::test]
async fn one_beyond_the_limit_is_refused_with_the_setting_to_raise() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let padded = |bytes: usize| {
        let empty = r#"{"event":"created","object_type":"a.b","data":{"pad":""}}"#;
        empty.replace(r#""""#, &format!("\"{}\"", "x".repeat(bytes - empty.len())))
    };
    add(&server, &padded(100_000));
    add(&server, &padded(100_001));
    // Not to be taken apart at once: a megabyte and more.
    for _ in 0..15 {
        add(&server, &padded(99_999));
    }
    let mut leased = Vec::new();
    while leased.len() < 17 {
        let more = lease(&queue, SHARD, 100).await;
        assert!(!more.is_empty(), "{} of 17 came", leased.len());
        leased.extend(more);
    }
    let refused: Vec<(usize, &str)> =
        leased.iter().enumerate().filter_map(|(n, event)| Some((n, event.refused.as_deref()?))).collect();
    let message =
        "the event has 100001 bytes, and the limit is 100000; send less, or raise server.max_event_bytes";
    assert_eq!(refused, [(1, message)]);
    // Somebody who allows more gets it: a redrive after the setting was raised.
    let options = RedisOptions { event_bytes_max: 100_001, ..RedisOptions::default() };
    let roomier = RedisQueue::open(&RedisUrl::parse(&server.url()).unwrap(), options).await.unwrap();
    add(&server, &padded(100_001));
    assert_eq!(lease(&roomier, SHARD, 1).await[0].refused, None);
}

#[tokio::test]
async fn many_come_in_their_order_and_none_twice() {
    const EVENTS: usize = 1000;
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    for number in 0..EVENTS {
        add(&server, &event(number));
    }
    let (mut numbers, mut sequences) = (Vec::new(), Vec::new());
    while numbers.len() < EVENTS {
        let leased = lease(&queue, SHARD, 100).await;
        assert!(!leased.is_empty(), "{} of {EVENTS} came", numbers.len());
        for event in &leased {
            sequences.push(event.sequence);
            let data: serde_json::Value = serde_json::from_str(read(event).data.as_str()).unwrap();
            numbers.push(data["number"].as_u64().unwrap());
        }
    }
    assert_eq!(numbers, (0..EVENTS as u64).collect::<Vec<_>>());
    assert!(sequences.is_sorted_by(|a, b| a < b));
    assert!(lease(&queue, SHARD, 100).await.is_empty());
    assert_eq!(server.command(&["XLEN", "{hw:0}:in"]), "0\n");
}

#[tokio::test]
async fn what_came_before_stays_before_what_is_published() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let published = |name: &str| {
        let id = EventId::new(name).unwrap();
        NewEvent { id, payload: event(7).into() }
    };
    let named: Vec<NewEvent> = ["a", "b", "c", "d", "e"].map(published).into();
    // More than one call takes in; one alone and several go to the server by different ways.
    let mut expected: Vec<String> = (0..300).map(|number| add(&server, &event(number))).collect();
    queue.publish(SHARD, named[..1].to_vec()).await.unwrap();
    expected.push("a".into());
    expected.extend((0..300).map(|number| add(&server, &event(number))));
    queue.publish(SHARD, named[1..].to_vec()).await.unwrap();
    expected.extend(["b", "c", "d", "e"].map(str::to_owned));
    // An id that came this way just now is known.
    add(&server, &event(7).replacen('{', r#"{"id":"x","#, 1));
    assert!(queue.publish(SHARD, vec![published("x")]).await.unwrap()[0].duplicate);
    expected.push("x".into());
    let leased = lease(&queue, SHARD, 1000).await;
    assert_eq!(leased.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn whoever_waits_is_told_of_what_a_publisher_took_in() {
    let server = RedisServer::start();
    let (waits, other) = (open(&server.url(), 1).await, open(&server.url(), 1).await);
    assert!(lease(&waits, SHARD, 10).await.is_empty());
    let news = || server.command(&["HGET", "{hw:0}:meta", "news_events"]);
    let before = news();
    add(&server, &event(1));
    let new = NewEvent { id: EventId::new("new").unwrap(), payload: event(2).into() };
    other.publish(SHARD, vec![new]).await.unwrap();
    assert_ne!(news(), before);
    waits.wait(SHARD, Duration::from_secs(600)).await.unwrap();
    assert_eq!(lease(&waits, SHARD, 10).await.len(), 2);
}

#[tokio::test]
async fn an_id_is_not_recognised_on_this_way_but_known_afterwards() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let text = r#"{"id":"again","event":"created","object_type":"a.b","data":{}}"#;
    add(&server, text);
    add(&server, text);
    let leased = lease(&queue, SHARD, 10).await;
    assert_eq!(leased.len(), 2, "plain commands are not looked at for repeats");
    let new = NewEvent { id: EventId::new("again").unwrap(), payload: text.into() };
    let published = queue.publish(SHARD, vec![new]).await.unwrap();
    assert!(published[0].duplicate, "publishing recognises what came by plain commands");
    assert_eq!(published[0].sequence, leased[1].sequence);
}

#[tokio::test]
async fn made_up_entry_ids_do_not_bend_the_time() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let before: i64 = server.command(&["TIME"]).lines().next().unwrap().parse().unwrap();
    for id in ["5-1", "18446744073709551615-7"] {
        assert_eq!(server.command(&["XADD", "{hw:0}:in", id, "event", &event(1)]).trim(), id);
    }
    let leased = lease(&queue, SHARD, 10).await;
    assert_eq!(
        leased.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(),
        ["5-1", "18446744073709551615-7"]
    );
    for event in &leased {
        assert!(event.accepted_at >= Timestamp::from_secs(before) && event.accepted_at <= event.leased_at);
    }
}

#[tokio::test]
async fn whoever_waits_is_woken_at_once() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    assert!(lease(&queue, SHARD, 10).await.is_empty());
    let waiting = queue.wait(SHARD, Duration::from_secs(30));
    let mut waiting = std::pin::pin!(waiting);
    // It blocks: the server says so.
    loop {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there was nothing to be woken for"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        if server.info("blocked_clients") == "1" {
            break;
        }
    }
    add(&server, &event(1));
    let added = std::time::Instant::now();
    waiting.await.unwrap();
    assert!(added.elapsed() < Duration::from_secs(10), "only the end of the wait woke it");
    assert_eq!(lease(&queue, SHARD, 10).await.len(), 1);
    // What nobody has taken in yet lets nobody wait.
    add(&server, &event(2));
    queue.wait(SHARD, Duration::from_secs(600)).await.unwrap();
    assert_eq!(lease(&queue, SHARD, 10).await.len(), 1);
}

#[tokio::test]
async fn on_a_cluster_each_shard_has_a_stream_in_its_own_slot() {
    let cluster = RedisCluster::shared();
    let queue = open(&cluster.url(), 3).await;
    for shard in 0..3 {
        let stream = format!("{{hw:{shard}}}:in");
        let node = &cluster.nodes()[cluster.node_of(&stream)];
        let entry = node.command(&["XADD", &stream, "*", "event", &event(shard)]);
        assert!(!entry.contains("ERROR"), "{entry}");
        let leased = lease(&queue, Shard(shard as u16), 10).await;
        assert_eq!(leased.len(), 1);
        assert_eq!(read(&leased[0]).id.as_str(), entry.trim());
        assert_eq!(node.command(&["XLEN", &stream]), "0\n");
    }
}

#[tokio::test]
async fn the_example_publishes_once() {
    let server = RedisServer::start();
    for _ in 0..2 {
        publish::publish(&server.url()).await.unwrap();
    }
    let queue = open(&server.url(), 1).await;
    let leased = lease(&queue, SHARD, 10).await;
    assert_eq!(leased.len(), 1);
    assert_eq!(read(&leased[0]).id.as_str(), "order-8f3a");
    assert_eq!(queue.stats(SHARD).await.unwrap().events_leased, 1);
}

#[tokio::test]
async fn what_nobody_has_taken_in_yet_is_counted_and_scanned() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    let first = add(&server, &event(0));
    for number in 1..300 {
        add(&server, &event(number));
    }
    let stats = queue.stats(SHARD).await.unwrap();
    let millis: i64 = first.split_once('-').unwrap().0.parse().unwrap();
    assert_eq!(stats.events_queued, 300);
    assert_eq!(stats.oldest_pending_at, Some(Timestamp::from_micros(millis * 1000)));
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = queue.scan(SHARD, after, 70).await.unwrap();
        seen += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 300);
    assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, 300);
}

#[tokio::test]
async fn an_entry_without_an_event_says_what_it_lacks() {
    let server = RedisServer::start();
    let queue = open(&server.url(), 1).await;
    server.command(&["XADD", "{hw:0}:in", "*", "nope", "x"]);
    let leased = lease(&queue, SHARD, 10).await;
    let told = "the event cannot be read: an event is a JSON object, this is an array; an entry has one event, as JSON in its field `event`";
    assert_eq!(leased[0].refused.as_deref(), Some(told));
}
