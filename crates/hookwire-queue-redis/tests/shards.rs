//! The number of shards of a store changes while it has work: nothing is lost, and the order per object is kept.

use std::time::Duration;

use hookwire_model::{
    DeliveryId, DeliveryState, EndpointId, EventId, OnFailure, RuleName, Shard, Timestamp, WaitingReason,
    WebhookName,
};
use hookwire_queue::backend::ManualClock;
use hookwire_queue::{
    Change, DeliveryFilter, EventFate, Fate, Inspect as _, LeaseDeliveries, LeaseEvents, LeasedDelivery,
    LeasedEvent, NewDelivery, NewEvent, Order, Queue as _, QueueError, Rooms, Selection, SettledDelivery,
    SettledEvent, Settlement, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::{RedisCluster, RedisServer};

/// A store on a clock that the test moves, as it is given another number of shards.
struct Store {
    url: RedisUrl,
    prefix: String,
    clock: ManualClock,
}

impl Store {
    fn new(url: &str) -> Self {
        let url = RedisUrl::parse(url).unwrap();
        Store { url, prefix: "hw".to_owned(), clock: ManualClock::new(Timestamp::from_secs(1_800_000_000)) }
    }

    async fn try_open(&self, shards: u16, changes_shards: bool) -> Result<RedisQueue, QueueError> {
        let options =
            RedisOptions { shards, changes_shards, prefix: self.prefix.clone(), ..RedisOptions::default() };
        RedisQueue::open_with_clock(&self.url, options, Some(self.clock.store_clock())).await
    }

    async fn change(&self, shards: u16) -> RedisQueue {
        self.try_open(shards, true).await.unwrap()
    }
}

fn new(id: &str) -> NewEvent {
    NewEvent { id: EventId::new(id).unwrap(), payload: format!(r#"{{"id":"{id}"}}"#).into() }
}

/// The number that an event gets, and whether it was known.
async fn publish(queue: &RedisQueue, shard: u16, id: &str) -> (u64, bool) {
    let published = queue.publish(Shard(shard), vec![new(id)]).await.unwrap();
    (published[0].sequence.0, published[0].duplicate)
}

async fn events(queue: &RedisQueue, shard: u16) -> Vec<LeasedEvent> {
    let worker = WorkerId::new("worker");
    let request = LeaseEvents { worker, lease: Duration::from_secs(3600), max: 100, suspects_max: 1 };
    queue.lease_events(Shard(shard), request).await.unwrap()
}

async fn due(queue: &RedisQueue, shard: u16) -> Vec<LeasedDelivery> {
    let rooms = Rooms { default: 100, exceptions: Vec::new() };
    let lease = Duration::from_secs(3600);
    let request = LeaseDeliveries { worker: WorkerId::new("worker"), lease, max: 100, rooms };
    queue.lease_deliveries(Shard(shard), request).await.unwrap().deliveries
}

/// Fans an event out to one delivery, which waits, in its turn if it has an order.
async fn fan_out(
    queue: &RedisQueue,
    shard: u16,
    event: LeasedEvent,
    order: Option<&str>,
    due_in: Duration,
) -> DeliveryId {
    let (rule, webhook) = (RuleName::new("rule").unwrap(), WebhookName::new("webhook").unwrap());
    let id = DeliveryId::derive(Shard(shard), event.sequence, &event.id, &rule, &webhook);
    let delivery = NewDelivery {
        id,
        rule,
        webhook,
        endpoint: Some(EndpointId::from_u64(7)),
        order: order.map(|key| Order { key: key.into(), on_failure: OnFailure::Block }),
        attempts: Vec::new(),
        fate: Fate::Waiting { due_in, reason: WaitingReason::Order },
    };
    let deliveries = vec![delivery];
    let fate = EventFate::FannedOut { event: "created".into(), object_type: "a.b".into(), deliveries };
    let events = vec![SettledEvent { lease: event.lease, fate }];
    let settled = queue.settle(Shard(shard), &Settlement { events, deliveries: Vec::new() }).await.unwrap();
    assert_eq!(settled.lost, []);
    id
}

async fn delivered(queue: &RedisQueue, shard: u16, delivery: LeasedDelivery) {
    let settled = SettledDelivery {
        lease: delivery.lease,
        endpoint: delivery.endpoint,
        attempts: Vec::new(),
        fate: Fate::Delivered,
    };
    let settlement = Settlement { events: Vec::new(), deliveries: vec![settled] };
    assert_eq!(queue.settle(Shard(shard), &settlement).await.unwrap().lost, []);
}

/// Changes the number of shards while events wait, are leased and have been delivered.
async fn check_change(store: &Store, from: u16, to: u16) {
    let before = store.change(from).await;
    let mut last = 0;
    for shard in 0..from {
        for name in ["done", "leased", "queued"] {
            last = last.max(publish(&before, shard, &format!("{name}{shard}")).await.0);
        }
    }
    let mut leased = Vec::new();
    let mut old = Vec::new();
    for shard in 0..from {
        let mut events = events(&before, shard).await.into_iter();
        old.push(
            fan_out(&before, shard, events.next().unwrap(), Some(&format!("o{shard}")), Duration::ZERO).await,
        );
        leased.extend(events.map(|event| (shard, event)));
    }
    for shard in 0..from {
        delivered(&before, shard, due(&before, shard).await.pop().unwrap()).await;
    }

    let after = store.change(to).await;
    assert_eq!((after.open_shards(), after.shards()), (from..from + to, from + to));
    assert_eq!(after.state_shards(), from, "states of endpoints stay where they are");
    for shard in after.open_shards() {
        let (number, is_known) = publish(&after, shard, &format!("new{shard}")).await;
        assert!(number > last && !is_known, "{number} after {last}");
    }
    let (number, is_known) = publish(&after, from, "queued0").await;
    assert!(is_known && number <= last, "an id is recognised across the change");
    for shard in after.open_shards() {
        assert_eq!(events(&after, shard).await.len(), 0, "shard {shard}: older ones have events");
    }

    // One who goes by the old number learns of the new one.
    let error = before.publish(Shard(0), vec![new("late")]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(before.open_shards(), after.open_shards());
    assert!(!publish(&before, from, "late").await.1);

    for (shard, event) in leased {
        let order = format!("o{shard}");
        fan_out(&before, shard, event, Some(&order), Duration::ZERO).await;
    }
    for shard in 0..from {
        for _ in 0..2 {
            delivered(&after, shard, due(&after, shard).await.pop().expect("one after the other")).await;
        }
    }
    let mut found: Vec<String> = Vec::new();
    for shard in after.open_shards() {
        found.extend(events(&after, shard).await.iter().map(|event| event.id.to_string()));
    }
    found.sort();
    let mut wanted: Vec<String> = after.open_shards().map(|shard| format!("new{shard}")).collect();
    wanted.insert(0, "late".to_owned());
    assert_eq!(found, wanted, "nothing is lost, nothing is twice");
    for id in old {
        let shown = after.delivery(id).await.unwrap().expect("history stays");
        assert_eq!(shown.state, DeliveryState::Delivered);
    }
}

#[tokio::test]
async fn one_shard_becomes_three() {
    check_change(&Store::new(&RedisServer::start().url()), 1, 3).await;
}

#[tokio::test]
async fn three_shards_become_one() {
    check_change(&Store::new(&RedisServer::start().url()), 3, 1).await;
}

#[tokio::test]
async fn the_number_changes_on_a_cluster() {
    let cluster = RedisCluster::start();
    check_change(&Store::new(&cluster.url()), 2, 3).await;
}

#[tokio::test]
async fn while_old_shards_cannot_be_asked_only_what_has_an_order_waits() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    store.change(1).await;
    let queue = store.change(2).await;
    publish(&queue, 1, "ordered").await;
    publish(&queue, 1, "free").await;
    for (event, order) in events(&queue, 1).await.into_iter().zip([Some("o"), None]) {
        fan_out(&queue, 1, event, order, Duration::ZERO).await;
    }
    server.command(&["ACL", "SETUSER", "default", "resetkeys", "~{hw:1}*", "~{hw:2}*"]);
    let found = due(&queue, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].event_id.as_str(), "free");
    server.command(&["ACL", "SETUSER", "default", "~*"]);
    assert_eq!(due(&queue, 1).await.len(), 0, "not before it is worth asking again");
    store.clock.advance(Duration::from_secs(1));
    let found = due(&queue, 1).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].event_id.as_str(), found[0].interrupted), ("ordered", 0));
}

#[tokio::test]
async fn what_waits_in_an_old_shard_holds_back_its_own_order_and_nothing_else() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    let queue = store.change(1).await;
    publish(&queue, 0, "first").await;
    let event = events(&queue, 0).await.pop().unwrap();
    let hour = Duration::from_secs(3600);
    let first = fan_out(&queue, 0, event, Some("stuck"), hour).await;

    let queue = store.change(2).await;
    publish(&queue, 1, "second").await;
    publish(&queue, 1, "other").await;
    let mut orders = ["stuck", "free"].into_iter();
    for event in events(&queue, 1).await {
        fan_out(&queue, 1, event, orders.next(), Duration::ZERO).await;
    }
    let names = |found: &[LeasedDelivery]| -> Vec<String> {
        found.iter().map(|delivery| delivery.event_id.to_string()).collect()
    };
    let mut found = due(&queue, 1).await;
    assert_eq!(names(&found), ["other"]);
    delivered(&queue, 1, found.pop().unwrap()).await;
    assert_eq!(names(&due(&queue, 1).await), [""; 0], "it is not asked for all the time");
    let waits = queue.list(Shard(1), &DeliveryFilter::default(), None, 10).await.unwrap().items;
    let second = waits.iter().find(|delivery| delivery.event_id.as_str() == "second").unwrap();
    assert_eq!(second.waiting_reason, Some(WaitingReason::Order));
    assert_eq!((second.attempts, second.interrupted), (0, 0), "putting it back is no attempt");

    store.clock.advance(Duration::from_secs(120));
    assert_eq!(names(&due(&queue, 1).await), [""; 0], "the first one still waits");
    store.clock.advance(hour);
    let found = due(&queue, 0).await.pop().unwrap();
    assert_eq!(found.id, first);
    assert_eq!(names(&due(&queue, 1).await), [""; 0], "it is leased");
    delivered(&queue, 0, found).await;
    store.clock.advance(Duration::from_secs(60));
    assert_eq!(names(&due(&queue, 1).await), ["second"]);
}

#[tokio::test]
async fn a_dead_letter_of_an_old_shard_keeps_blocking_until_it_is_redriven() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    let queue = store.change(1).await;
    publish(&queue, 0, "first").await;
    let event = events(&queue, 0).await.pop().unwrap();
    let first = fan_out(&queue, 0, event, Some("o"), Duration::ZERO).await;
    let found = due(&queue, 0).await.pop().unwrap();
    let fate = Fate::Dead { reason: hookwire_model::DeadReason::AttemptsExhausted, error: None };
    let dead = SettledDelivery { lease: found.lease, endpoint: None, attempts: Vec::new(), fate };
    queue.settle(Shard(0), &Settlement { events: Vec::new(), deliveries: vec![dead] }).await.unwrap();

    let queue = store.change(2).await;
    publish(&queue, 2, "second").await;
    let event = events(&queue, 2).await.pop().unwrap();
    let second = fan_out(&queue, 2, event, Some("o"), Duration::ZERO).await;
    assert_eq!(due(&queue, 2).await.len(), 0);
    let ids = Selection::Ids(vec![first]);
    assert_eq!(queue.change(Shard(0), Change::Redrive, &ids, false).await.unwrap().changed, 1);
    delivered(&queue, 0, due(&queue, 0).await.pop().unwrap()).await;
    store.clock.advance(Duration::from_secs(60));
    assert_eq!(due(&queue, 2).await.pop().map(|delivery| delivery.id), Some(second));
}

#[tokio::test]
async fn whoever_opens_a_store_completes_what_another_began() {
    // What a process leaves behind that ends after a step: the number is written; the old shard is closed; one of the
    // new shards has begun.
    let undone: [&[&str]; 3] = [
        &["{hw:0}:meta closed", "{hw:0}:in", "{hw:1}:meta", "{hw:2}:meta"],
        &["{hw:1}:meta", "{hw:2}:meta"],
        &["{hw:2}:meta"],
    ];
    for keys in undone {
        let server = RedisServer::start();
        let store = Store::new(&server.url());
        assert_eq!(publish(&store.change(1).await, 0, "first").await.0, 1);
        store.change(2).await;
        for key in keys {
            match key.split_once(' ') {
                Some((key, field)) => server.command(&["HDEL", key, field]),
                None => server.command(&["DEL", key]),
            };
        }
        // Whoever only looks completes it, too.
        let queue = store.try_open(1, false).await.unwrap();
        assert_eq!(queue.open_shards(), 1..3);
        for shard in 1..3 {
            assert_eq!(publish(&queue, shard, &format!("new{shard}")).await, (2, false), "{keys:?}");
            assert_eq!(events(&queue, shard).await.len(), 0, "{keys:?}");
        }
        queue.publish(Shard(0), vec![new("late")]).await.unwrap_err();
        for event in events(&queue, 0).await {
            fan_out(&queue, 0, event, Some("o"), Duration::ZERO).await;
        }
        assert_eq!((events(&queue, 1).await.len(), events(&queue, 2).await.len()), (1, 1), "{keys:?}");
    }
}

#[tokio::test]
async fn of_two_numbers_at_once_both_are_taken_one_after_the_other() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    publish(&store.change(1).await, 0, "first").await;
    tokio::join!(store.change(2), store.change(5));
    let queue = store.try_open(9, false).await.unwrap();
    assert_eq!(queue.shards(), 8, "another number is not asked for by one who only looks");
    assert!([2, 5].contains(&queue.open_shards().len()), "{:?}", queue.open_shards());
    assert_eq!(publish(&queue, queue.open_shards().start, "second").await.0, 2);
}

#[tokio::test]
async fn plain_events_of_an_old_shard_are_taken_in_and_then_refused() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    store.change(1).await;
    let add = || server.command(&["XADD", "{hw:0}:in", "*", "event", r#"{"id":"plain"}"#]);
    // More than is taken in at once.
    let many = "for _ = 1, 1500 do redis.call('XADD', KEYS[1], '*', 'event', '{}') end";
    server.command(&["EVAL", many, "1", "{hw:0}:in"]);
    let queue = store.change(2).await;
    assert!(add().contains("WRONGTYPE"), "rather than lost");
    assert_eq!(queue.stats(Shard(0)).await.unwrap().events_queued, 1500);
    server.command(&["XADD", "{hw:2}:in", "*", "event", r#"{"id":"plain"}"#]);
    assert_eq!(events(&queue, 2).await.len(), 0, "after the others");
    assert_eq!(queue.stats(Shard(2)).await.unwrap().events_queued, 1);
}

#[tokio::test]
async fn whoever_waits_learns_of_new_shards() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    let queue = store.change(1).await;
    publish(&queue, 0, "first").await;
    assert_eq!(events(&queue, 0).await.len(), 1);
    assert_eq!(events(&queue, 0).await.len(), 0);
    let wait = queue.wait(Shard(0), Duration::from_secs(60));
    let (waited, _) = tokio::join!(wait, store.change(2));
    waited.unwrap();
    assert_eq!(events(&queue, 0).await.len(), 0);
    assert_eq!(queue.open_shards(), 1..3);
}

#[tokio::test]
async fn a_store_that_lost_its_data_keeps_its_shards() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    publish(&store.change(1).await, 0, "first").await;
    let queue = store.change(2).await;
    assert_eq!(events(&queue, 0).await.len(), 1);
    server.command(&["FLUSHALL"]);
    assert_eq!(events(&queue, 0).await.len(), 0);
    assert_eq!(server.command(&["GET", "{hw:shards}"]).trim(), "1 2");
    publish(&queue, 1, "second").await;
    assert_eq!(events(&queue, 1).await.len(), 1, "there is nothing older to wait for");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_can_be_looked_at() {
    let server = RedisServer::start();
    let store = Store::new(&server.url());
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(store.try_open(2, false).await.unwrap().shards(), 2);
    assert_eq!(server.command(&["EXISTS", "{hw:shards}"]).trim(), "0");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.try_open(2, false).await.unwrap().shards(), 2);
    assert_eq!(server.command(&["GET", "{hw:shards}"]).trim(), "2");
}

#[tokio::test]
async fn what_is_no_number_is_told() {
    let server = RedisServer::start();
    server.command(&["SET", "{hw:shards}", "many"]);
    let error = Store::new(&server.url()).try_open(2, false).await.unwrap_err();
    assert_eq!(error.to_string(), "the store is damaged: {hw:shards} does not list numbers of shards");
}
