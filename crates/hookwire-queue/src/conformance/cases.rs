//! One test per sentence of the contract.

#![expect(
    missing_docs,
    reason = "the name of a case says what it shows, and begins with its sentence's number"
)]
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, DeadReason, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, OnFailure, OutcomeKind,
    RuleName, Sequence, Shard, Timestamp, Timings, WaitingReason, WebhookName,
};

use super::TestStore;
use crate::{
    Change, Changed, DeliveryFilter, EventFate, EventState, Expired, Fate, Inspect, Lease, LeaseDeliveries,
    LeaseEvents, LeasedDelivery, LeasedEvent, NewDelivery, NewEvent, Order, PackedAttempt, PendingItem,
    Published, PutEndpoint, Queue, QueueError, Rooms, Selection, Settled, SettledDelivery, SettledEvent,
    Settlement, StoreLimits, Subject, WorkerId,
};

const SHARD: Shard = Shard(0);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(15);
const PAYLOAD: &str = r#"{"event":"created"}"#;

fn limits() -> StoreLimits {
    StoreLimits { history_age_max: Duration::from_secs(1_000_000), ..StoreLimits::default() }
}

fn event(id: &str) -> NewEvent {
    NewEvent { id: EventId::new(id).unwrap(), payload: PAYLOAD.into() }
}

fn endpoint(number: u64) -> EndpointId {
    EndpointId::from_u64(number)
}

fn attempt(number: u32, status: u16) -> PackedAttempt {
    PackedAttempt::from(&Attempt {
        number,
        started_at: Timestamp::from_secs(1_800_000_000),
        duration: Duration::from_millis(12),
        outcome: if status == 200 { OutcomeKind::Succeeded } else { OutcomeKind::Rejected },
        status: Some(status),
        error: None,
        address: None,
        hops: vec![],
        timings: Timings::default(),
        request: None,
        response: None,
    })
}

async fn publish(queue: &impl Queue, ids: &[&str]) -> Vec<Published> {
    queue.publish(SHARD, ids.iter().map(|id| event(id)).collect()).await.unwrap()
}

fn lease_request(max: usize, suspects_max: usize) -> LeaseEvents {
    LeaseEvents { worker: WorkerId::new("w1"), lease: LEASE, max, suspects_max }
}

async fn lease(queue: &impl Queue) -> Vec<LeasedEvent> {
    queue.lease_events(SHARD, lease_request(100, 100)).await.unwrap()
}

fn ids(leased: &[LeasedEvent]) -> Vec<&str> {
    leased.iter().map(|event| event.id.as_str()).collect()
}

fn due_request(max: usize, room: u32) -> LeaseDeliveries {
    let rooms = Rooms { default: room, exceptions: vec![] };
    LeaseDeliveries { worker: WorkerId::new("w1"), lease: LEASE, max, rooms }
}

async fn due(queue: &impl Queue) -> Vec<LeasedDelivery> {
    queue.lease_deliveries(SHARD, due_request(1000, 1000)).await.unwrap().deliveries
}

fn delivery_ids(leased: &[LeasedDelivery]) -> Vec<DeliveryId> {
    leased.iter().map(|delivery| delivery.id).collect()
}

/// A delivery of a leased event to a webhook of this name.
fn new(event: &LeasedEvent, webhook: &str, fate: Fate) -> NewDelivery {
    let (rule, webhook) = (RuleName::new("rule").unwrap(), WebhookName::new(webhook).unwrap());
    NewDelivery {
        id: DeliveryId::derive(SHARD, event.sequence, &event.id, &rule, &webhook),
        rule,
        webhook,
        endpoint: Some(endpoint(1)),
        order: None,
        attempts: if fate == Fate::Delivered { vec![attempt(1, 200)] } else { vec![] },
        fate,
    }
}

fn waiting(due_in: Duration) -> Fate {
    Fate::Waiting { due_in, reason: WaitingReason::Retry }
}

fn dead() -> Fate {
    Fate::Dead { reason: DeadReason::AttemptsExhausted, error: None }
}

fn fanned_out(lease: Lease, deliveries: Vec<NewDelivery>) -> SettledEvent {
    SettledEvent {
        lease,
        fate: EventFate::FannedOut { event: "created".into(), object_type: "dcim.site".into(), deliveries },
    }
}

async fn settle_event(queue: &impl Queue, event: LeasedEvent, deliveries: Vec<NewDelivery>) -> Settled {
    let settlement = Settlement { events: vec![fanned_out(event.lease, deliveries)], deliveries: vec![] };
    queue.settle(SHARD, &settlement).await.unwrap()
}

fn settled(leased: LeasedDelivery, attempts: Vec<PackedAttempt>, fate: Fate) -> SettledDelivery {
    SettledDelivery { lease: leased.lease, endpoint: None, attempts, fate }
}

async fn settle_delivery(queue: &impl Queue, delivery: SettledDelivery) -> Settled {
    queue.settle(SHARD, &Settlement { events: vec![], deliveries: vec![delivery] }).await.unwrap()
}

/// Publishes an event and stores one delivery of it.
async fn stored(queue: &impl Queue, id: &str, change: impl FnOnce(&mut NewDelivery)) -> DeliveryId {
    publish(queue, &[id]).await;
    let leased = lease(queue).await.pop().unwrap();
    let mut delivery = new(&leased, "slack", waiting(Duration::ZERO));
    change(&mut delivery);
    let id = delivery.id;
    assert_eq!(settle_event(queue, leased, vec![delivery]).await.lost, []);
    id
}

async fn state(queue: &impl Inspect, id: DeliveryId) -> Option<DeliveryState> {
    queue.delivery(id).await.unwrap().map(|delivery| delivery.state)
}

async fn all(queue: &impl Inspect) -> Vec<Delivery> {
    queue.list(SHARD, &DeliveryFilter::default(), None, 1000).await.unwrap().items
}

async fn act(queue: &impl Inspect, change: Change, ids: &[DeliveryId]) -> Changed {
    queue.change(SHARD, change, &Selection::Ids(ids.to_vec()), false).await.unwrap()
}

// Publishing

pub async fn p1_what_was_published_survives_the_process<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b"]).await;
    // In memory, nothing outlives the process; there "durable" means what is shown here without the end of one.
    let queue = match store.reopen(queue, limits()).await {
        Some(queue) => queue,
        None => {
            let queue = store.open(limits()).await;
            publish(&queue, &["a", "b"]).await;
            queue
        }
    };
    let leased = lease(&queue).await;
    assert_eq!(ids(&leased), ["a", "b"]);
    assert!(leased.iter().all(|event| event.payload == PAYLOAD && event.losses == 0));
}

pub async fn p2_a_batch_is_taken_whole_or_refused_whole<S: TestStore>(store: S) {
    let limits = StoreLimits { pending_bytes_max: 3 * PAYLOAD.len() as u64, ..limits() };
    let queue = store.open(limits).await;
    publish(&queue, &["a"]).await;
    let refused = queue.publish(SHARD, ["b", "c", "d"].map(event).to_vec()).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })), "{refused:?}");
    assert_eq!(ids(&lease(&queue).await), ["a"]);
    publish(&queue, &["b", "c"]).await;
    assert_eq!(ids(&lease(&queue).await), ["b", "c"]);
}

pub async fn p3_sequence_numbers_grow<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let mut all = publish(&queue, &["a", "b"]).await;
    for event in lease(&queue).await {
        settle_event(&queue, event, vec![]).await;
    }
    all.extend(publish(&queue, &["c"]).await);
    if let Some(queue) = store.reopen(queue, limits()).await {
        all.extend(publish(&queue, &["d"]).await);
    }
    let numbers: Vec<Sequence> = all.iter().map(|published| published.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

pub async fn p4_a_known_id_is_a_duplicate_and_changes_nothing<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let first = publish(&queue, &["a"]).await[0];
    let other = NewEvent { payload: "other".into(), ..event("a") };
    let again = queue.publish(SHARD, vec![other]).await.unwrap()[0];
    assert_eq!((again.sequence, first.duplicate, again.duplicate), (first.sequence, false, true));
    let leased = lease(&queue).await;
    assert_eq!(leased.len(), 1);
    assert_eq!(leased[0].payload, PAYLOAD);
    // Also when it is delivered.
    for event in leased {
        let delivery = new(&event, "slack", Fate::Delivered);
        settle_event(&queue, event, vec![delivery]).await;
    }
    assert!(publish(&queue, &["a"]).await[0].duplicate);
    assert!(lease(&queue).await.is_empty());
}

pub async fn p4_the_same_id_twice_in_a_batch_is_one_event<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let published = publish(&queue, &["a", "a", "b"]).await;
    let duplicates: Vec<bool> = published.iter().map(|published| published.duplicate).collect();
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(published[0].sequence, published[1].sequence);
    assert_eq!(ids(&lease(&queue).await), ["a", "b"]);
}

pub async fn p4_beyond_the_window_of_time_it_is_a_new_event<S: TestStore>(store: S) {
    let queue = store.open(StoreLimits { dedup_window: 10 * SECOND, ..limits() }).await;
    let first = publish(&queue, &["a"]).await[0];
    store.advance(9 * SECOND).await;
    assert!(publish(&queue, &["a"]).await[0].duplicate);
    store.advance(SECOND).await;
    let again = publish(&queue, &["a"]).await[0];
    assert!(!again.duplicate && again.sequence > first.sequence);
    assert_eq!(lease(&queue).await.len(), 2);
}

pub async fn p4_beyond_the_window_of_count_it_is_a_new_event<S: TestStore>(store: S) {
    let queue = store.open(StoreLimits { dedup_max_ids: 3, ..limits() }).await;
    publish(&queue, &["a", "b", "c"]).await;
    assert!(publish(&queue, &["a"]).await[0].duplicate);
    publish(&queue, &["d"]).await;
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!(stats.dedup_ids, 3);
    assert!(stats.dedup_window_ms < 3_600_000, "{stats:?}");
    let again = publish(&queue, &["d", "c", "a"]).await;
    let duplicates: Vec<bool> = again.iter().map(|published| published.duplicate).collect();
    assert_eq!(duplicates, [true, true, false]);
}

pub async fn p4_ids_are_remembered_longer_than_the_history<S: TestStore>(store: S) {
    let limits = StoreLimits { history_bytes_max: 0, ..limits() };
    let queue = store.open(limits).await;
    stored(&queue, "a", |delivery| delivery.fate = Fate::Delivered).await;
    store.tidy(&queue).await;
    assert!(queue.event(SHARD, &EventId::new("a").unwrap()).await.unwrap().is_none());
    assert!(publish(&queue, &["a"]).await[0].duplicate);
}

pub async fn p5_beyond_the_limit_publishing_is_refused<S: TestStore>(store: S) {
    let size = PAYLOAD.len() as u64;
    let queue = store.open(StoreLimits { pending_bytes_max: 2 * size, ..limits() }).await;
    publish(&queue, &["a", "b"]).await;
    let refused = queue.publish(SHARD, vec![event("c")]).await;
    assert!(
        matches!(refused, Err(QueueError::Full { pending_bytes, limit }) if pending_bytes == 2 * size && limit == 2 * size)
    );
    assert!(publish(&queue, &["a"]).await[0].duplicate, "what is known needs no room");
    // A waiting delivery keeps its event's bytes; a delivered one gives them back.
    let mut leased = lease(&queue).await.into_iter();
    let (first, second) = (leased.next().unwrap(), leased.next().unwrap());
    let keeps = new(&first, "slack", waiting(Duration::ZERO));
    settle_event(&queue, first, vec![keeps]).await;
    assert!(queue.publish(SHARD, vec![event("c")]).await.is_err());
    let gives_back = new(&second, "slack", Fate::Delivered);
    settle_event(&queue, second, vec![gives_back]).await;
    publish(&queue, &["c"]).await;
    assert!(queue.publish(SHARD, vec![event("d")]).await.is_err());
    let leased = due(&queue).await.pop().unwrap();
    settle_delivery(&queue, settled(leased, vec![attempt(1, 200)], Fate::Delivered)).await;
    publish(&queue, &["d"]).await;
}

// Leasing events

pub async fn e1_events_are_leased_in_order_each_to_one_worker<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b", "c", "d"]).await;
    let first = queue.lease_events(SHARD, lease_request(2, 0)).await.unwrap();
    let second = queue.lease_events(SHARD, lease_request(1, 0)).await.unwrap();
    assert_eq!((ids(&first), ids(&second)), (vec!["a", "b"], vec!["c"]));
    settle_event(&queue, first.into_iter().next_back().unwrap(), vec![]).await;
    assert_eq!(ids(&lease(&queue).await), ["d"]);
    assert!(lease(&queue).await.is_empty());
    assert_eq!(queue.lease_events(SHARD, lease_request(0, 0)).await.unwrap().len(), 0);
}

pub async fn e2_an_event_whose_lease_ran_out_can_be_leased_again<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let first = lease(&queue).await.pop().unwrap();
    store.advance(LEASE - SECOND).await;
    assert!(lease(&queue).await.is_empty());
    store.advance(SECOND).await;
    let second = lease(&queue).await.pop().unwrap();
    assert_eq!((first.losses, second.losses), (0, 1));
    assert_ne!(first.lease, second.lease);
    store.advance(LEASE).await;
    assert_eq!(lease(&queue).await.pop().unwrap().losses, 2);
}

pub async fn e3_suspects_come_as_many_as_asked_for_besides_the_others<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b"]).await;
    assert_eq!(lease(&queue).await.len(), 2);
    store.advance(LEASE).await;
    publish(&queue, &["c", "d"]).await;
    let none = queue.lease_events(SHARD, lease_request(1, 0)).await.unwrap();
    assert_eq!(ids(&none), ["c"]);
    let one = queue.lease_events(SHARD, lease_request(2, 1)).await.unwrap();
    assert_eq!(ids(&one), ["a", "d"]);
    let rest = queue.lease_events(SHARD, lease_request(5, 5)).await.unwrap();
    assert_eq!(ids(&rest), ["b"]);
    assert_eq!(rest[0].losses, 1);
}

pub async fn e4_lost_leases_are_counted_beyond_the_process<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["lost", "released", "leased", "fresh"]).await;
    let first = queue.lease_events(SHARD, lease_request(2, 0)).await.unwrap();
    store.advance(LEASE).await;
    let mut again = queue.lease_events(SHARD, lease_request(2, 2)).await.unwrap().into_iter();
    assert_eq!(first.len(), 2);
    let (_, released) = (again.next().unwrap(), again.next().unwrap());
    let release = SettledEvent { lease: released.lease, fate: EventFate::Released };
    queue.settle(SHARD, &Settlement { events: vec![release], deliveries: vec![] }).await.unwrap();
    assert_eq!(ids(&queue.lease_events(SHARD, lease_request(1, 0)).await.unwrap()), ["leased"]);
    let expected = match store.reopen(queue, limits()).await {
        Some(queue) => {
            let leased = lease(&queue).await;
            let losses = leased.iter().map(|event| (event.id.as_str().to_owned(), event.losses));
            let losses: Vec<_> = losses.collect();
            // Those leased when the process ended lost their leases by it; the released one did not.
            let expected = [("lost", 2), ("released", 1), ("leased", 1), ("fresh", 0)];
            assert_eq!(losses, expected.map(|(id, losses)| (id.to_owned(), losses)));
            queue.event(SHARD, &EventId::new("lost").unwrap()).await.unwrap().unwrap().losses
        }
        None => 2,
    };
    assert_eq!(expected, 2);
}

pub async fn e5_a_suspect_tells_what_is_on_record<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let first = lease(&queue).await.pop().unwrap();
    assert_eq!(first.recorded, []);
    store.advance(LEASE).await;
    let (done, open) = (new(&first, "done", Fate::Delivered), new(&first, "open", waiting(Duration::ZERO)));
    let id = done.id;
    settle_event(&queue, first, vec![done, open]).await;
    let again = lease(&queue).await.pop().unwrap();
    assert_eq!(again.recorded, [id]);
    assert_eq!(again.losses, 1);
}

pub async fn e6_extending_makes_leases_last_and_revives_none<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b"]).await;
    let id = {
        let first = queue.lease_events(SHARD, lease_request(1, 0)).await.unwrap().pop().unwrap();
        let delivery = new(&first, "slack", waiting(Duration::ZERO));
        let id = delivery.id;
        settle_event(&queue, first, vec![delivery]).await;
        id
    };
    let event = lease(&queue).await.pop().unwrap();
    let delivery = due(&queue).await.pop().unwrap();
    store.advance(10 * SECOND).await;
    let lost = queue.extend(SHARD, &[&event.lease, &delivery.lease], LEASE).await.unwrap();
    assert_eq!(lost, []);
    store.advance(10 * SECOND).await;
    assert!(lease(&queue).await.is_empty() && due(&queue).await.is_empty());
    store.advance(5 * SECOND).await;
    let lost = queue.extend(SHARD, &[&event.lease, &delivery.lease], LEASE).await.unwrap();
    assert_eq!(lost, [Subject::Event(event.sequence), Subject::Delivery(id)]);
    assert_eq!((lease(&queue).await.len(), due(&queue).await.len()), (1, 1));
}

// Settling

pub async fn s1_an_event_is_settled_as_a_whole<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let leased = lease(&queue).await.pop().unwrap();
    let id = leased.id.clone();
    let deliveries = vec![
        new(&leased, "done", Fate::Delivered),
        new(&leased, "waits", waiting(SECOND)),
        new(&leased, "runs", Fate::Running { lease: LEASE }),
        new(&leased, "dead", dead()),
    ];
    settle_event(&queue, leased, deliveries).await;
    let event = queue.event(SHARD, &id).await.unwrap().unwrap();
    assert_eq!(event.state, EventState::FannedOut);
    let states = event.deliveries.iter().map(|delivery| {
        (delivery.webhook.as_ref().unwrap().as_str(), delivery.state.as_str(), delivery.event_id.as_str())
    });
    let states: BTreeSet<_> = states.collect();
    let expected = [
        ("dead", "dead", "a"),
        ("done", "delivered", "a"),
        ("runs", "running", "a"),
        ("waits", "waiting", "a"),
    ];
    assert_eq!(states, expected.into());
    assert!(lease(&queue).await.is_empty());
    let shown = &event.deliveries[0];
    assert_eq!((shown.event.as_deref(), shown.object_type.as_deref()), (Some("created"), Some("dcim.site")));
}

pub async fn s1_one_bad_settlement_does_not_spoil_the_others<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b", "c"]).await;
    let mut leased = lease(&queue).await.into_iter();
    let (a, b, c) = (leased.next().unwrap(), leased.next().unwrap(), leased.next().unwrap());
    let deliveries = [&a, &b, &c].map(|event| new(event, "slack", Fate::Delivered));
    let [da, db, dc] = deliveries;
    let bad = Lease { subject: b.lease.subject, token: u64::MAX >> 1 };
    let odd = Lease { subject: Subject::Event(Sequence(1 << 40)), token: u64::MAX >> 1 };
    let events = vec![
        fanned_out(a.lease, vec![da]),
        fanned_out(bad, vec![db]),
        fanned_out(odd, vec![]),
        fanned_out(c.lease, vec![dc]),
    ];
    let reply = queue.settle(SHARD, &Settlement { events, deliveries: vec![] }).await.unwrap();
    assert_eq!(reply.lost, [Subject::Event(b.sequence), Subject::Event(Sequence(1 << 40))]);
    let state = async |id: &str| queue.event(SHARD, &EventId::new(id).unwrap()).await.unwrap().unwrap().state;
    assert_eq!(state("a").await, EventState::FannedOut);
    assert_eq!(state("b").await, EventState::Leased);
    assert_eq!(state("c").await, EventState::FannedOut);
}

pub async fn s2_a_settlement_can_be_repeated_and_answers_the_same<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let waits = stored(&queue, "w", |_| {}).await;
    publish(&queue, &["a"]).await;
    let leased = lease(&queue).await.pop().unwrap();
    let delivery = due(&queue).await.pop().unwrap();
    let runs = new(&leased, "runs", Fate::Running { lease: LEASE });
    let done = new(&leased, "done", Fate::Delivered);
    let settlement = Settlement {
        events: vec![fanned_out(leased.lease, vec![runs, done])],
        deliveries: vec![settled(delivery, vec![attempt(1, 500)], waiting(SECOND))],
    };
    let first = queue.settle(SHARD, &settlement).await.unwrap();
    let before = all(&queue).await;
    store.advance(SECOND / 2).await;
    let again = queue.settle(SHARD, &settlement).await.unwrap();
    assert_eq!((first.leases.len(), &first.lost), (1, &vec![]));
    assert_eq!((again.leases, again.lost), (first.leases, first.lost));
    assert_eq!(all(&queue).await, before);
    let log = queue.delivery(waits).await.unwrap().unwrap().attempt_log.unwrap();
    assert_eq!(log.len(), 1);
}

pub async fn s2_fanning_out_twice_makes_one_delivery<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let first = lease(&queue).await.pop().unwrap();
    store.advance(LEASE).await;
    let second = lease(&queue).await.pop().unwrap();
    let (one, two) = (new(&first, "slack", Fate::Delivered), new(&second, "slack", waiting(Duration::ZERO)));
    assert_eq!(one.id, two.id);
    let id = one.id;
    settle_event(&queue, first, vec![one]).await;
    let reply = settle_event(&queue, second, vec![two]).await;
    assert_eq!(reply.lost, []);
    assert_eq!(all(&queue).await.len(), 1);
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Delivered));
}

pub async fn s3_a_late_settlement_changes_nothing_and_is_told<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "d", |_| {}).await;
    publish(&queue, &["a"]).await;
    let (event, delivery) = (lease(&queue).await.pop().unwrap(), due(&queue).await.pop().unwrap());
    store.advance(LEASE).await;
    let subjects = [event.lease.subject, delivery.lease.subject];
    let late = new(&event, "late", waiting(Duration::ZERO));
    let settlement = Settlement {
        events: vec![fanned_out(event.lease, vec![late])],
        deliveries: vec![settled(delivery, vec![attempt(1, 500)], dead())],
    };
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().lost, subjects);
    assert_eq!(all(&queue).await.len(), 1);
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Waiting));
    assert_eq!((lease(&queue).await.len(), due(&queue).await.len()), (1, 1));
    // Nor when another worker holds it now.
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().lost, subjects);
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Running));
}

pub async fn s3_a_late_delivered_is_believed<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "d", |_| {}).await;
    let first = due(&queue).await.pop().unwrap();
    store.advance(LEASE).await;
    let second = due(&queue).await.pop().unwrap();
    assert_eq!((second.attempts, second.interrupted), (1, 1));
    let late = settled(first, vec![attempt(1, 200)], Fate::Delivered);
    assert_eq!(settle_delivery(&queue, late).await.lost, []);
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.attempts, shown.interrupted), (DeliveryState::Delivered, 1, 0));
    // The one who held it has lost it by that.
    let subject = second.lease.subject;
    let lost = settle_delivery(&queue, settled(second, vec![attempt(2, 500)], waiting(SECOND))).await.lost;
    assert_eq!(lost, [subject]);
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Delivered));
}

pub async fn s4_what_is_finished_stays_so<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let cancelled = stored(&queue, "c", |_| {}).await;
    let held = due(&queue).await.pop().unwrap();
    store.advance(LEASE).await;
    assert_eq!(act(&queue, Change::Cancel, &[cancelled]).await.changed, 1);
    let late = settled(held, vec![attempt(1, 200)], Fate::Delivered);
    assert_eq!(settle_delivery(&queue, late).await.lost, [Subject::Delivery(cancelled)]);
    assert_eq!(state(&queue, cancelled).await, Some(DeliveryState::Cancelled));
    let delivered = stored(&queue, "d", |delivery| delivery.fate = Fate::Delivered).await;
    let before = queue.delivery(delivered).await.unwrap();
    for change in [Change::Cancel, Change::Redrive, Change::Purge] {
        let unfit = vec![(delivered, DeliveryState::Delivered)];
        assert_eq!(act(&queue, change, &[delivered]).await, Changed { unfit, ..Changed::default() });
    }
    assert_eq!(queue.delivery(delivered).await.unwrap(), before);
    assert!(due(&queue).await.is_empty());
}

pub async fn s5_a_delivery_is_stored_waiting_or_running<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let leased = lease(&queue).await.pop().unwrap();
    let runs = new(&leased, "runs", Fate::Running { lease: 20 * SECOND });
    let waits = new(&leased, "waits", waiting(30 * SECOND));
    let (runs_id, waits_id) = (runs.id, waits.id);
    let mut reply = settle_event(&queue, leased, vec![runs, waits]).await;
    assert_eq!(reply.leases.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [runs_id]);
    assert!(due(&queue).await.is_empty());
    let (_, lease) = reply.leases.pop().unwrap();
    assert_eq!(lease.subject, Subject::Delivery(runs_id));
    // A stored one may stay with its worker, too.
    let stay = SettledDelivery {
        lease,
        endpoint: Some(endpoint(9)),
        attempts: vec![attempt(1, 500)],
        fate: Fate::Running { lease: 20 * SECOND },
    };
    let (_, lease) = settle_delivery(&queue, stay).await.leases.pop().unwrap();
    store.advance(19 * SECOND).await;
    assert!(due(&queue).await.is_empty());
    let done =
        SettledDelivery { lease, endpoint: None, attempts: vec![attempt(2, 200)], fate: Fate::Delivered };
    assert_eq!(settle_delivery(&queue, done).await.lost, []);
    let shown = queue.delivery(runs_id).await.unwrap().unwrap();
    assert_eq!(
        (shown.state, shown.attempts, shown.endpoint),
        (DeliveryState::Delivered, 2, Some(endpoint(9)))
    );
    store.advance(11 * SECOND).await;
    assert_eq!(delivery_ids(&due(&queue).await), [waits_id]);
}

pub async fn s6_a_released_event_can_be_leased_at_once_and_lost_nothing<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b"]).await;
    let first = lease(&queue).await.into_iter().next().unwrap();
    let release = SettledEvent { lease: first.lease, fate: EventFate::Released };
    let settlement = Settlement { events: vec![release], deliveries: vec![] };
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().lost, []);
    let again = queue.lease_events(SHARD, lease_request(10, 0)).await.unwrap();
    assert_eq!((ids(&again), again[0].losses), (vec!["a"], 0));
    // The release is over; asked for again it does not take the event from its new worker.
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().lost, []);
    assert!(lease(&queue).await.is_empty());
}

pub async fn s7_a_dead_event_is_a_dead_letter_and_can_be_put_back<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    lease(&queue).await;
    store.advance(LEASE).await;
    let leased = lease(&queue).await.pop().unwrap();
    let id = DeliveryId::of_event(SHARD, leased.sequence, &leased.id);
    let fate = EventFate::Dead { id, reason: DeadReason::UnreadableEvent, error: None };
    let events = vec![SettledEvent { lease: leased.lease, fate }];
    queue.settle(SHARD, &Settlement { events, deliveries: vec![] }).await.unwrap();
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.rule, shown.webhook, shown.event), (None, None, None));
    assert_eq!((shown.state, shown.dead_reason), (DeliveryState::Dead, Some(DeadReason::UnreadableEvent)));
    assert!(lease(&queue).await.is_empty() && due(&queue).await.is_empty());
    assert_eq!(queue.stats(SHARD).await.unwrap().pending_bytes, 0);
    assert_eq!(act(&queue, Change::Redrive, &[id]).await.changed, 1);
    assert_eq!(state(&queue, id).await, None);
    assert_eq!(queue.stats(SHARD).await.unwrap().pending_bytes, PAYLOAD.len() as u64);
    let again = lease(&queue).await.pop().unwrap();
    assert_eq!((again.id.as_str(), again.losses, &*again.payload), ("a", 0, PAYLOAD.as_bytes()));
    let delivery = new(&again, "slack", Fate::Delivered);
    settle_event(&queue, again, vec![delivery]).await;
    assert_eq!(queue.stats(SHARD).await.unwrap().delivered, 1);
}

pub async fn s8_each_attempt_is_on_record_once<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "a", |delivery| {
        delivery.attempts = vec![attempt(1, 500)];
    })
    .await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!(held.attempts, 1);
    let attempts = vec![attempt(1, 503), attempt(2, 502), attempt(2, 504)];
    settle_delivery(&queue, settled(held, attempts, waiting(Duration::ZERO))).await;
    let held = due(&queue).await.pop().unwrap();
    settle_delivery(&queue, settled(held, vec![attempt(3, 200)], Fate::Delivered)).await;
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.attempts, shown.last_status), (3, Some(200)));
    let log: Vec<_> =
        shown.attempt_log.unwrap().iter().map(|attempt| (attempt.number, attempt.status)).collect();
    assert_eq!(log, [(1, Some(500)), (2, Some(502)), (3, Some(200))]);
    // What was delivered at once keeps its attempt when it is sent again.
    let id = stored(&queue, "b", |delivery| {
        (delivery.fate, delivery.attempts) = (Fate::Delivered, vec![attempt(1, 200), attempt(1, 201)]);
    })
    .await;
    act(&queue, Change::Retry, &[id]).await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!((held.attempts, held.forgiven), (1, 1));
    settle_delivery(&queue, settled(held, vec![attempt(1, 500), attempt(2, 201)], Fate::Delivered)).await;
    let log = queue.delivery(id).await.unwrap().unwrap().attempt_log.unwrap();
    let log: Vec<_> = log.iter().map(|attempt| attempt.status.unwrap()).collect();
    assert_eq!(log, [200, 201]);
}

// Leasing deliveries

pub async fn d1_a_delivery_is_leased_when_due_and_to_one_worker<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "a", |delivery| delivery.fate = waiting(5 * SECOND)).await;
    store.advance(4 * SECOND).await;
    assert!(due(&queue).await.is_empty());
    store.advance(SECOND).await;
    assert_eq!(delivery_ids(&due(&queue).await), [id]);
    assert!(due(&queue).await.is_empty());
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Running));
}

pub async fn d2_no_more_are_leased_than_there_is_room_for<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    for (place, at) in [("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 2), ("f", 3)] {
        stored(&queue, place, |delivery| delivery.endpoint = Some(endpoint(at))).await;
    }
    let rooms = Rooms { default: 2, exceptions: vec![(endpoint(2), 1), (endpoint(3), 0)] };
    let request = LeaseDeliveries { rooms, ..due_request(10, 0) };
    let leased = queue.lease_deliveries(SHARD, request.clone()).await.unwrap();
    let mut counts = BTreeMap::new();
    for delivery in &leased.deliveries {
        *counts.entry(delivery.endpoint.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, [(endpoint(1), 2), (endpoint(2), 1)].into());
    assert_eq!(leased.next_due, Some(Duration::ZERO), "some are due that there was no room for");
    let few = queue.lease_deliveries(SHARD, LeaseDeliveries { max: 1, ..request }).await.unwrap();
    assert_eq!(few.deliveries.len(), 1);
    // An endpoint without any room is left out, of the time to look again, too.
    let rooms = Rooms { default: 0, exceptions: vec![] };
    let none = queue.lease_deliveries(SHARD, LeaseDeliveries { rooms, ..due_request(10, 0) }).await.unwrap();
    assert_eq!((none.deliveries.len(), none.next_due), (0, None));
}

pub async fn d2_a_held_endpoint_is_left_out_until_its_time<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let held = stored(&queue, "a", |_| {}).await;
    let other = stored(&queue, "b", |delivery| delivery.endpoint = Some(endpoint(2))).await;
    let later = stored(&queue, "c", |delivery| delivery.endpoint = None).await;
    queue.hold(SHARD, endpoint(1), Some(10 * SECOND)).await.unwrap();
    let leased = queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap();
    assert_eq!(delivery_ids(&leased.deliveries), [later, other]);
    assert_eq!(leased.next_due, Some(10 * SECOND));
    store.advance(10 * SECOND).await;
    assert_eq!(delivery_ids(&due(&queue).await), [held]);
    let held = stored(&queue, "d", |_| {}).await;
    queue.hold(SHARD, endpoint(1), Some(1000 * SECOND)).await.unwrap();
    assert!(due(&queue).await.is_empty());
    queue.hold(SHARD, endpoint(1), None).await.unwrap();
    assert_eq!(delivery_ids(&due(&queue).await), [held]);
}

pub async fn d3_turns_between_endpoints_are_fair<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    for number in 0..20 {
        stored(&queue, &format!("long-{number}"), |_| {}).await;
    }
    for number in 0..3 {
        let at = Some(endpoint(2 + number));
        stored(&queue, &format!("short-{number}"), |delivery| delivery.endpoint = at).await;
    }
    let mut places = Vec::new();
    for _ in 0..4 {
        let leased = queue.lease_deliveries(SHARD, due_request(2, 100)).await.unwrap();
        assert_eq!(leased.next_due, Some(Duration::ZERO));
        places.extend(leased.deliveries.iter().map(|delivery| delivery.endpoint.unwrap().as_u64()));
    }
    assert_eq!(places[..4].iter().copied().collect::<BTreeSet<_>>(), [1, 2, 3, 4].into(), "{places:?}");
    assert_eq!(places[4..], [1, 1, 1, 1]);
}

pub async fn d3_within_an_endpoint_the_earliest_due_goes_first<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let mut ids = Vec::new();
    for (id, due_in) in [("a", 3), ("b", 1), ("c", 2), ("d", 1)] {
        ids.push(stored(&queue, id, |delivery| delivery.fate = waiting(due_in * SECOND)).await);
    }
    store.advance(5 * SECOND).await;
    let first = queue.lease_deliveries(SHARD, due_request(3, 100)).await.unwrap();
    assert_eq!(delivery_ids(&first.deliveries), [ids[1], ids[3], ids[2]]);
    assert_eq!(delivery_ids(&due(&queue).await), [ids[0]]);
}

pub async fn d4_a_lost_lease_is_an_interrupted_attempt<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "a", |delivery| {
        (delivery.fate, delivery.attempts) = (waiting(Duration::ZERO), vec![attempt(1, 500)]);
    })
    .await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!((held.attempts, held.interrupted), (1, 0));
    store.advance(LEASE).await;
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.attempts, shown.interrupted), (DeliveryState::Waiting, 2, 1));
    let held = due(&queue).await.pop().unwrap();
    assert_eq!((held.attempts, held.interrupted), (2, 1));
    settle_delivery(&queue, settled(held, vec![attempt(3, 200)], Fate::Delivered)).await;
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.attempts, shown.interrupted), (3, 1));
    // A worker that gives it back has made no attempt.
    let id = stored(&queue, "b", |_| {}).await;
    let held = due(&queue).await.pop().unwrap();
    let fate = Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Worker };
    settle_delivery(&queue, settled(held, vec![], fate)).await;
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.attempts, shown.waiting_reason), (0, Some(WaitingReason::Worker)));
}

pub async fn d4_whoever_ends_an_attempt_leaves_it_interrupted_at_once<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let ends = Fate::Running { lease: Duration::ZERO };
    // At its event's first settlement, and later on.
    let id = stored(&queue, "a", |delivery| delivery.fate = ends.clone()).await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!((held.id, held.attempts, held.interrupted), (id, 1, 1));
    assert!(due(&queue).await.is_empty());
    settle_delivery(&queue, settled(held, vec![], ends)).await;
    // Others are told.
    queue.wait(SHARD, Duration::from_secs(600)).await.unwrap();
    let held = due(&queue).await.pop().unwrap();
    assert_eq!((held.id, held.attempts, held.interrupted), (id, 2, 2));
    settle_delivery(&queue, settled(held, vec![attempt(3, 200)], Fate::Delivered)).await;
    let shown = queue.delivery(id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.attempts, shown.interrupted), (DeliveryState::Delivered, 3, 2));
}

pub async fn d4_none_is_leased_after_the_process_without_being_counted<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let held = stored(&queue, "a", |_| {}).await;
    let waits = stored(&queue, "b", |delivery| delivery.fate = waiting(5 * SECOND)).await;
    let lease = due(&queue).await.pop().unwrap();
    let Some(queue) = store.reopen(queue, limits()).await else {
        assert_eq!(lease.id, held);
        return;
    };
    let again = due(&queue).await.pop().unwrap();
    assert_eq!((again.id, again.attempts, again.interrupted), (held, 1, 1));
    assert_ne!(again.lease, lease.lease);
    let lost = settle_delivery(&queue, settled(lease, vec![], waiting(SECOND))).await.lost;
    assert_eq!(lost, [Subject::Delivery(held)]);
    store.advance(5 * SECOND).await;
    let other = due(&queue).await.pop().unwrap();
    assert_eq!((other.id, other.attempts), (waits, 0));
}

pub async fn d5_the_next_due_time_is_told<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let next_due = async || queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap().next_due;
    assert_eq!(next_due().await, None);
    stored(&queue, "a", |delivery| delivery.fate = waiting(9 * SECOND)).await;
    let soon = stored(&queue, "b", |delivery| {
        (delivery.fate, delivery.endpoint) = (waiting(5 * SECOND), Some(endpoint(2)));
    })
    .await;
    assert_eq!(next_due().await, Some(5 * SECOND));
    store.advance(2 * SECOND).await;
    assert_eq!(next_due().await, Some(3 * SECOND));
    act(&queue, Change::Cancel, &[soon]).await;
    assert_eq!(next_due().await, Some(7 * SECOND));
    store.advance(7 * SECOND).await;
    assert_eq!(due(&queue).await.len(), 1);
    assert_eq!(next_due().await, None, "what runs does not wait");
}

pub async fn d6_a_delivery_brings_the_payload<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a"]).await;
    let leased = lease(&queue).await.pop().unwrap();
    let accepted_at = leased.accepted_at;
    let names: Vec<String> = (0..50).map(|number| format!("w{number}")).collect();
    let deliveries = names.iter().map(|name| new(&leased, name, waiting(Duration::ZERO))).collect();
    settle_event(&queue, leased, deliveries).await;
    assert_eq!(queue.stats(SHARD).await.unwrap().pending_bytes, PAYLOAD.len() as u64, "stored once");
    let due = due(&queue).await;
    assert_eq!(due.len(), 50);
    for delivery in &due {
        assert_eq!((&*delivery.payload, delivery.event_id.as_str()), (PAYLOAD.as_bytes(), "a"));
        assert_eq!((delivery.accepted_at, delivery.since), (accepted_at, accepted_at));
        assert_eq!((delivery.rule.as_str(), delivery.endpoint), ("rule", Some(endpoint(1))));
    }
    let webhooks: BTreeSet<_> = due.iter().map(|delivery| delivery.webhook.as_str()).collect();
    assert_eq!(webhooks, names.iter().map(String::as_str).collect());
}

// Order

fn order(on_failure: OnFailure) -> Option<Order> {
    Some(Order { key: Arc::from("site/1"), on_failure })
}

/// Three deliveries of one order.
async fn ordered(queue: &impl Queue, on_failure: OnFailure) -> [DeliveryId; 3] {
    let mut ids = Vec::new();
    for id in ["a", "b", "c"] {
        ids.push(stored(queue, id, |delivery| delivery.order = order(on_failure)).await);
    }
    [ids[0], ids[1], ids[2]]
}

pub async fn o1_only_the_first_of_an_order_goes<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let [a, b, c] = ordered(&queue, OnFailure::Block).await;
    let free = stored(&queue, "free", |_| {}).await;
    let leased = queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap();
    assert_eq!(delivery_ids(&leased.deliveries), [a, free]);
    assert_eq!(leased.next_due, None, "those behind are not due before it is done");
    for (first, next) in leased.deliveries.into_iter().zip([Some(b), None]) {
        settle_delivery(&queue, settled(first, vec![], Fate::Delivered)).await;
        if let Some(next) = next {
            assert_eq!(delivery_ids(&due(&queue).await), [next]);
        }
    }
    // Two of one event: the lower id goes first.
    publish(&queue, &["two"]).await;
    let event = lease(&queue).await.pop().unwrap();
    let mut two = ["x", "y", "z"].map(|name| NewDelivery {
        order: Some(Order { key: Arc::from("other"), on_failure: OnFailure::Block }),
        ..new(&event, name, waiting(Duration::ZERO))
    });
    two.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
    let lowest = two[2].id;
    settle_event(&queue, event, two.into()).await;
    assert_eq!(delivery_ids(&due(&queue).await), [lowest]);
    assert_eq!(act(&queue, Change::Cancel, &[c]).await.changed, 1);
}

/// Two of an order, of which the first died and was sent again while the second ran.
async fn sent_again_beside(queue: &(impl Queue + Inspect)) -> (DeliveryId, LeasedDelivery) {
    let ordered = |delivery: &mut NewDelivery| {
        delivery.order = Some(Order { key: "site".into(), on_failure: OnFailure::Supersede });
    };
    let first = stored(queue, "a", ordered).await;
    let leased = due(queue).await.pop().unwrap();
    settle_delivery(queue, settled(leased, vec![attempt(1, 500)], dead())).await;
    stored(queue, "b", ordered).await;
    stored(queue, "c", |delivery| {
        ordered(delivery);
        delivery.fate = waiting(1000 * SECOND);
    })
    .await;
    let second = due(queue).await.pop().unwrap();
    assert_eq!(act(queue, Change::Redrive, &[first]).await.changed, 1);
    (first, second)
}

pub async fn o1_what_is_sent_again_does_not_go_beside_a_later_one<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let (first, second) = sent_again_beside(&queue).await;
    let found = queue.lease_deliveries(SHARD, due_request(1000, 1000)).await.unwrap();
    assert_eq!((delivery_ids(&found.deliveries), found.next_due), (vec![], None));
    settle_delivery(&queue, settled(second, vec![attempt(1, 200)], Fate::Delivered)).await;
    assert_eq!(delivery_ids(&due(&queue).await), [first]);
    // The same where the lease runs out.
    store.advance(LEASE).await;
    store.tidy(&queue).await;
    assert_eq!(delivery_ids(&due(&queue).await), [first]);
}

pub async fn o1_what_waited_beside_a_later_one_goes_after_the_process<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let (first, second) = sent_again_beside(&queue).await;
    let Some(queue) = store.reopen(queue, limits()).await else { return };
    store.advance(LEASE).await;
    store.tidy(&queue).await;
    let leased = due(&queue).await.pop().unwrap();
    assert_eq!(leased.id, first);
    settle_delivery(&queue, settled(leased, vec![attempt(2, 200)], Fate::Delivered)).await;
    assert_eq!(delivery_ids(&due(&queue).await), [second.id]);
}

pub async fn o2_an_order_waits_for_earlier_events<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["early", "a"]).await;
    let mut leased = lease(&queue).await.into_iter();
    let (early, later) = (leased.next().unwrap(), leased.next().unwrap());
    let delivery =
        NewDelivery { order: order(OnFailure::Block), ..new(&later, "slack", waiting(Duration::ZERO)) };
    let free = new(&later, "free", waiting(Duration::ZERO));
    let (id, free_id) = (delivery.id, free.id);
    settle_event(&queue, later, vec![delivery, free]).await;
    let leased = queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap();
    assert_eq!((delivery_ids(&leased.deliveries), leased.next_due), (vec![free_id], None));
    // Nor when it was given back, or its lease was lost.
    let release = SettledEvent { lease: early.lease, fate: EventFate::Released };
    queue.settle(SHARD, &Settlement { events: vec![release], deliveries: vec![] }).await.unwrap();
    assert!(due(&queue).await.is_empty());
    let early = lease(&queue).await.pop().unwrap();
    settle_event(&queue, early, vec![]).await;
    assert_eq!(delivery_ids(&due(&queue).await), [id]);
    // A later event does not hold it up.
    publish(&queue, &["late"]).await;
    store.advance(LEASE).await;
    let both: BTreeSet<_> = delivery_ids(&due(&queue).await).into_iter().collect();
    assert_eq!(both, [id, free_id].into());
}

pub async fn o3_block_keeps_the_others_waiting<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let [a, b, _] = ordered(&queue, OnFailure::Block).await;
    let held = due(&queue).await.pop().unwrap();
    settle_delivery(&queue, settled(held, vec![attempt(1, 500)], waiting(5 * SECOND))).await;
    let leased = queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap();
    assert_eq!((leased.deliveries.len(), leased.next_due), (0, Some(5 * SECOND)));
    store.advance(5 * SECOND).await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!(held.id, a);
    settle_delivery(&queue, settled(held, vec![attempt(2, 200)], Fate::Delivered)).await;
    assert_eq!(delivery_ids(&due(&queue).await), [b]);
}

pub async fn o3_skip_lets_the_others_go_on<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let [a, b, c] = ordered(&queue, OnFailure::Skip).await;
    let held = due(&queue).await.pop().unwrap();
    settle_delivery(&queue, settled(held, vec![attempt(1, 500)], waiting(5 * SECOND))).await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!(held.id, b);
    // The failed one goes on by itself, whatever the others do.
    store.advance(5 * SECOND).await;
    assert_eq!(delivery_ids(&due(&queue).await), [a]);
    settle_delivery(&queue, settled(held, vec![attempt(1, 410)], dead())).await;
    assert_eq!(delivery_ids(&due(&queue).await), [c]);
}

pub async fn o3_supersede_leaves_only_the_newest<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let [a, b, c] = ordered(&queue, OnFailure::Supersede).await;
    let held = due(&queue).await.pop().unwrap();
    // Without a failure nothing is passed over.
    let room = Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Room };
    settle_delivery(&queue, settled(held, vec![], room)).await;
    let held = due(&queue).await.pop().unwrap();
    assert_eq!(held.id, a);
    settle_delivery(&queue, settled(held, vec![attempt(1, 500)], waiting(5 * SECOND))).await;
    for id in [a, b] {
        let shown = queue.delivery(id).await.unwrap().unwrap();
        assert_eq!((shown.state, shown.next_attempt_at), (DeliveryState::Superseded, None));
        assert!(shown.finished_at.is_some());
    }
    let held = due(&queue).await.pop().unwrap();
    assert_eq!(held.id, c);
    settle_delivery(&queue, settled(held, vec![attempt(1, 500)], waiting(5 * SECOND))).await;
    assert_eq!(state(&queue, c).await, Some(DeliveryState::Waiting), "there is no newer one");
    let d = stored(&queue, "d", |delivery| delivery.order = order(OnFailure::Supersede)).await;
    assert_eq!(state(&queue, c).await, Some(DeliveryState::Superseded));
    assert_eq!(delivery_ids(&due(&queue).await), [d]);
}

pub async fn o4_a_dead_first_one_keeps_blocking_until_a_person_acts<S: TestStore>(store: S) {
    for change in [Change::Redrive, Change::Cancel, Change::Purge] {
        let queue = store.open(limits()).await;
        let [a, b, _] = ordered(&queue, OnFailure::Block).await;
        let held = due(&queue).await.pop().unwrap();
        settle_delivery(&queue, settled(held, vec![attempt(1, 410)], dead())).await;
        assert!(due(&queue).await.is_empty());
        let next = if change == Change::Redrive { a } else { b };
        assert_eq!(act(&queue, change, &[a]).await.changed, 1);
        assert_eq!(delivery_ids(&due(&queue).await), [next], "{change:?}");
    }
}

// Backlogs

async fn backlogs(queue: &impl Inspect) -> Vec<(u64, u64, u64)> {
    let backlogs = queue.backlogs(SHARD).await.unwrap().into_iter();
    backlogs.map(|backlog| (backlog.endpoint.as_u64(), backlog.deliveries, backlog.bytes)).collect()
}

pub async fn b1_a_backlog_is_what_waits_for_an_endpoint<S: TestStore>(store: S) {
    let size = PAYLOAD.len() as u64;
    let queue = store.open(limits()).await;
    assert_eq!(backlogs(&queue).await, []);
    publish(&queue, &["a", "b"]).await;
    for event in lease(&queue).await {
        let one = new(&event, "one", waiting(Duration::ZERO));
        let mut two = new(&event, "two", waiting(Duration::ZERO));
        two.endpoint = Some(endpoint(2));
        let mut nowhere = new(&event, "nowhere", waiting(10 * SECOND));
        nowhere.endpoint = None;
        let done = new(&event, "done", Fate::Delivered);
        settle_event(&queue, event, vec![one, two, nowhere, done]).await;
    }
    assert_eq!(backlogs(&queue).await, [(1, 2, 2 * size), (2, 2, 2 * size)]);
    // What a worker holds does not wait; what it gives back, or loses, does.
    let mut leased = due(&queue).await.into_iter();
    assert_eq!(backlogs(&queue).await, []);
    let (first, second) = (leased.next().unwrap(), leased.next().unwrap());
    let (third, fourth) = (leased.next().unwrap(), leased.next().unwrap());
    let moved = SettledDelivery { endpoint: Some(endpoint(3)), ..settled(first, vec![], waiting(SECOND)) };
    settle_delivery(&queue, moved).await;
    settle_delivery(&queue, settled(second, vec![attempt(1, 200)], Fate::Delivered)).await;
    settle_delivery(&queue, settled(third, vec![], dead())).await;
    assert_eq!(backlogs(&queue).await, [(3, 1, size)]);
    store.advance(LEASE).await;
    store.tidy(&queue).await;
    let lost = queue.delivery(fourth.id).await.unwrap().unwrap().endpoint.unwrap().as_u64();
    assert_eq!(backlogs(&queue).await, [(lost, 1, size), (3, 1, size)]);
    // A person's acts count as well.
    queue.change(SHARD, Change::Redrive, &Selection::Filter(DeliveryFilter::default()), false).await.unwrap();
    let redriven: u64 = backlogs(&queue).await.iter().map(|(_, deliveries, _)| deliveries).sum();
    assert_eq!(redriven, 3);
    queue.change(SHARD, Change::Cancel, &Selection::Filter(DeliveryFilter::default()), false).await.unwrap();
    assert_eq!(backlogs(&queue).await, []);
}

pub async fn b1_backlogs_outlive_the_process<S: TestStore>(store: S) {
    let size = PAYLOAD.len() as u64;
    let queue = store.open(limits()).await;
    stored(&queue, "a", |_| {}).await;
    stored(&queue, "b", |delivery| delivery.fate = waiting(10 * SECOND)).await;
    assert_eq!(due(&queue).await.len(), 1);
    assert_eq!(backlogs(&queue).await, [(1, 1, size)]);
    let Some(queue) = store.reopen(queue, limits()).await else { return };
    store.advance(LEASE).await;
    store.tidy(&queue).await;
    assert_eq!(backlogs(&queue).await, [(1, 2, 2 * size)], "what ran waits again");
}

pub async fn b2_beyond_the_limit_new_deliveries_are_dead_letters<S: TestStore>(store: S) {
    let size = PAYLOAD.len() as u64;
    let queue = store.open(StoreLimits { backlog_bytes_max: 2 * size, ..limits() }).await;
    let first = stored(&queue, "a", |_| {}).await;
    stored(&queue, "b", |_| {}).await;
    publish(&queue, &["c"]).await;
    let event = lease(&queue).await.pop().unwrap();
    let over = new(&event, "slack", waiting(Duration::ZERO));
    let mut elsewhere = new(&event, "elsewhere", waiting(Duration::ZERO));
    elsewhere.endpoint = Some(endpoint(2));
    let mut nowhere = new(&event, "nowhere", waiting(Duration::ZERO));
    nowhere.endpoint = None;
    let (over_id, others) = (over.id, [elsewhere.id, nowhere.id]);
    let reply = settle_event(&queue, event, vec![over, elsewhere, nowhere]).await;
    assert_eq!((reply.over, reply.lost), (vec![over_id], vec![]));
    let told = queue.delivery(over_id).await.unwrap().unwrap();
    assert_eq!((told.state, told.dead_reason), (DeliveryState::Dead, Some(DeadReason::BacklogLimit)));
    for id in others {
        assert_eq!(state(&queue, id).await, Some(DeliveryState::Waiting));
    }
    assert_eq!(backlogs(&queue).await, [(1, 2, 2 * size), (2, 1, size)]);
    assert_eq!(queue.stats(SHARD).await.unwrap().dead, 1);
    // What is on record comes back whatever the limit is; so does what a person redrives.
    assert_eq!(act(&queue, Change::Redrive, &[over_id]).await.changed, 1);
    assert_eq!(backlogs(&queue).await[0], (1, 3, 3 * size));
    let leased = due(&queue).await.into_iter().find(|leased| leased.id == first).unwrap();
    let reply = settle_delivery(&queue, settled(leased, vec![attempt(1, 500)], waiting(SECOND))).await;
    assert_eq!((reply.over, reply.lost), (vec![], vec![]));
    assert_eq!(state(&queue, first).await, Some(DeliveryState::Waiting));
}

pub async fn b2_a_repeated_settlement_tells_again_what_found_no_room<S: TestStore>(store: S) {
    let queue = store.open(StoreLimits { backlog_bytes_max: 0, ..limits() }).await;
    publish(&queue, &["a"]).await;
    let event = lease(&queue).await.pop().unwrap();
    let over = new(&event, "slack", waiting(Duration::ZERO));
    let id = over.id;
    let settlement = Settlement { events: vec![fanned_out(event.lease, vec![over])], deliveries: vec![] };
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().over, [id]);
    assert_eq!(act(&queue, Change::Redrive, &[id]).await.changed, 1);
    assert_eq!(queue.settle(SHARD, &settlement).await.unwrap().over, [id]);
    assert_eq!(state(&queue, id).await, Some(DeliveryState::Waiting), "what was done is not done again");
}

pub async fn b3_what_has_waited_for_too_long_is_given_up<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let expire = async || queue.expire(SHARD, 60 * SECOND, None, 100).await.unwrap();
    let old = stored(&queue, "old", |delivery| delivery.fate = waiting(1000 * SECOND)).await;
    let ordered = |delivery: &mut NewDelivery| {
        delivery.fate = waiting(1000 * SECOND);
        delivery.order = Some(Order { key: "site".into(), on_failure: OnFailure::Block });
    };
    let first = stored(&queue, "first", ordered).await;
    let held = stored(&queue, "held", |_| {}).await;
    let redriven = stored(&queue, "redriven", |delivery| delivery.fate = dead()).await;
    let second = stored(&queue, "second", ordered).await;
    store.advance(30 * SECOND).await;
    let young = stored(&queue, "young", |delivery| delivery.fate = waiting(1000 * SECOND)).await;
    assert_eq!(act(&queue, Change::Redrive, &[redriven]).await.changed, 1);
    assert_eq!(expire().await, Expired::default());
    store.advance(30 * SECOND).await;
    let leased = queue.lease_deliveries(SHARD, due_request(1000, 1000)).await.unwrap().deliveries;
    assert_eq!(delivery_ids(&leased), [held, redriven]);
    let leased = leased.into_iter().find(|leased| leased.id == redriven).unwrap();
    settle_delivery(&queue, settled(leased, vec![attempt(1, 500)], waiting(1000 * SECOND))).await;
    assert_eq!(expire().await, Expired { dead: 3, next: None });
    for id in [old, first, second] {
        let given_up = queue.delivery(id).await.unwrap().unwrap();
        let told = (given_up.state, given_up.dead_reason);
        assert_eq!(told, (DeliveryState::Dead, Some(DeadReason::BacklogLimit)));
    }
    let others =
        [(held, DeliveryState::Running), (redriven, DeliveryState::Waiting), (young, DeliveryState::Waiting)];
    for (id, wanted) in others {
        assert_eq!(state(&queue, id).await, Some(wanted));
    }
    assert_eq!(expire().await, Expired::default());
}

pub async fn b3_giving_up_goes_on_where_it_ended<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let wait = |delivery: &mut NewDelivery| delivery.fate = waiting(1000 * SECOND);
        ids.push(stored(&queue, &format!("e{number}"), wait).await);
    }
    store.advance(60 * SECOND).await;
    let (mut after, mut given_up, mut calls) = (None, 0, 0);
    loop {
        let expired = queue.expire(SHARD, 60 * SECOND, after, 3).await.unwrap();
        given_up += expired.dead;
        calls += 1;
        after = expired.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((given_up, calls), (7, 3));
    for id in ids {
        assert_eq!(state(&queue, id).await, Some(DeliveryState::Dead));
    }
}

// Endpoint state

pub async fn n1_endpoint_state_is_written_only_over_what_was_read<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let put = async |expected, state: &'static str| {
        queue.put_endpoint(SHARD, endpoint(1), expected, Bytes::from(state)).await.unwrap()
    };
    assert_eq!(queue.endpoint(SHARD, endpoint(1)).await.unwrap(), None);
    assert_eq!(put(7, "x").await, PutEndpoint::Conflict(None));
    let PutEndpoint::Written(first) = put(0, "one").await else { panic!("nothing was there") };
    let read = queue.endpoint(SHARD, endpoint(1)).await.unwrap().unwrap();
    assert_eq!((read.version, &*read.state), (first, &b"one"[..]));
    assert!(first > 0);
    let PutEndpoint::Written(second) = put(first, "two").await else { panic!("nobody wrote in between") };
    assert!(second > first);
    let PutEndpoint::Conflict(Some(present)) = put(first, "three").await else {
        panic!("it was written since")
    };
    assert_eq!((present.version, &*present.state), (second, &b"two"[..]));
    assert_eq!(put(0, "three").await, PutEndpoint::Conflict(Some(present)));
    let last = endpoint(u64::MAX);
    queue.put_endpoint(SHARD, last, 0, Bytes::from("last")).await.unwrap();
    let all = queue.endpoints(SHARD).await.unwrap();
    assert_eq!(all.iter().map(|record| record.id).collect::<Vec<_>>(), [endpoint(1), last]);
}

pub async fn n1_what_is_removed_does_not_come_again_by_its_version<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let put = async |expected, state: &'static str| {
        queue.put_endpoint(SHARD, endpoint(1), expected, Bytes::from(state)).await.unwrap()
    };
    let PutEndpoint::Written(first) = put(0, "one").await else { panic!("nothing was there") };
    let PutEndpoint::Written(second) = put(first, "two").await else { panic!("nobody wrote in between") };
    assert!(matches!(put(first, "").await, PutEndpoint::Conflict(Some(_))));
    assert_eq!(put(second, "").await, PutEndpoint::Written(0));
    assert_eq!(queue.endpoint(SHARD, endpoint(1)).await.unwrap(), None);
    assert_eq!(queue.endpoints(SHARD).await.unwrap(), []);
    assert_eq!(put(second, "").await, PutEndpoint::Conflict(None));
    // Whoever read the one before must not take the new one for it.
    store.advance(SECOND).await;
    let PutEndpoint::Written(third) = put(0, "three").await else { panic!("nothing was there") };
    assert!(third > second, "{third} after {second}");
}

pub async fn n1_endpoint_state_outlives_the_process<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    queue.put_endpoint(SHARD, endpoint(1), 0, Bytes::from("one")).await.unwrap();
    let before = queue.endpoints(SHARD).await.unwrap();
    assert_eq!(before.len(), 1);
    if let Some(queue) = store.reopen(queue, limits()).await {
        assert_eq!(queue.endpoints(SHARD).await.unwrap(), before);
    }
}

pub async fn n2_a_hold_outlives_the_worker_and_the_process<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    stored(&queue, "a", |_| {}).await;
    queue.hold(SHARD, endpoint(1), Some(100 * SECOND)).await.unwrap();
    store.advance(LEASE).await;
    let request = LeaseDeliveries { worker: WorkerId::new("w2"), ..due_request(10, 10) };
    assert!(queue.lease_deliveries(SHARD, request).await.unwrap().deliveries.is_empty());
    if let Some(queue) = store.reopen(queue, limits()).await {
        let leased = queue.lease_deliveries(SHARD, due_request(10, 10)).await.unwrap();
        assert_eq!((leased.deliveries.len(), leased.next_due), (0, Some(100 * SECOND - LEASE)));
    }
}

// Looking and acting

pub async fn i1_lists_are_newest_first_in_pages<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    publish(&queue, &["a", "b", "c"]).await;
    for event in lease(&queue).await {
        let deliveries = ["x", "y", "z"].map(|name| new(&event, name, Fate::Delivered)).into();
        settle_event(&queue, event, deliveries).await;
    }
    let whole = all(&queue).await;
    assert_eq!(whole.len(), 9);
    assert!(whole.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert!(whole.iter().all(|delivery| delivery.attempt_log.is_none()));
    for limit in [1, 2, 4, 9, 10] {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = queue.list(SHARD, &DeliveryFilter::default(), before, limit).await.unwrap();
            assert!(page.items.len() <= limit);
            pages.extend(page.items);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(pages, whole, "limit {limit}");
    }
    let filter = DeliveryFilter {
        webhook: Some(WebhookName::new("y").unwrap()),
        event_id: Some(EventId::new("b").unwrap()),
        rule: Some(RuleName::new("rule").unwrap()),
        endpoint: Some(endpoint(1)),
        state: Some(DeliveryState::Delivered),
    };
    let page = queue.list(SHARD, &filter, None, 10).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    assert!(filter.matches(&page.items[0]));
    for state in DeliveryState::ALL {
        let filter = DeliveryFilter { state: Some(*state), ..DeliveryFilter::default() };
        let found = queue.list(SHARD, &filter, None, 10).await.unwrap().items.len();
        assert_eq!(found, if *state == DeliveryState::Delivered { 9 } else { 0 });
    }
    let unknown = DeliveryFilter { event_id: Some(EventId::new("none").unwrap()), ..filter };
    assert!(queue.list(SHARD, &unknown, None, 10).await.unwrap().items.is_empty());
}

pub async fn i1_a_cursor_goes_on_whatever_happens_in_between<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let mut ids = Vec::new();
    for id in ["a", "b", "c", "d"] {
        ids.push(stored(&queue, id, |delivery| delivery.fate = dead()).await);
    }
    let page = queue.list(SHARD, &DeliveryFilter::default(), None, 2).await.unwrap();
    assert_eq!(page.next, Some(ids[2]));
    act(&queue, Change::Purge, &[ids[2]]).await;
    stored(&queue, "e", |_| {}).await;
    let rest = queue.list(SHARD, &DeliveryFilter::default(), page.next, 10).await.unwrap();
    assert_eq!(rest.items.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
}

pub async fn i2_acting_by_filter_misses_none_and_repeats_none<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let events: Vec<NewEvent> = (0..1300).map(|number| event(&format!("e{number}"))).collect();
    queue.publish(SHARD, events).await.unwrap();
    let leased = queue.lease_events(SHARD, lease_request(2000, 0)).await.unwrap();
    let events = leased.into_iter().enumerate().map(|(number, event)| {
        let (webhook, fate) = if number % 3 == 0 { ("other", waiting(SECOND)) } else { ("slack", dead()) };
        let delivery = new(&event, webhook, fate);
        fanned_out(event.lease, vec![delivery])
    });
    queue.settle(SHARD, &Settlement { events: events.collect(), deliveries: vec![] }).await.unwrap();
    let filter =
        DeliveryFilter { webhook: Some(WebhookName::new("slack").unwrap()), ..DeliveryFilter::default() };
    let selection = Selection::Filter(filter);
    let changed = queue.change(SHARD, Change::Redrive, &selection, false).await.unwrap();
    assert_eq!(changed, Changed { changed: 866, ..Changed::default() });
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!((stats.dead, stats.waiting), (0, 1300));
    assert_eq!(queue.change(SHARD, Change::Redrive, &selection, false).await.unwrap().changed, 0);
    assert_eq!(due(&queue).await.len(), 866);
}

pub async fn i2_a_dry_run_counts_the_same_and_changes_nothing<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let waits = stored(&queue, "a", |delivery| delivery.fate = waiting(SECOND)).await;
    stored(&queue, "b", |delivery| delivery.fate = dead()).await;
    let done = stored(&queue, "c", |delivery| delivery.fate = Fate::Delivered).await;
    let unknown = DeliveryId::from_parts(SHARD, Sequence(99), 1);
    for change in [Change::Retry, Change::Cancel, Change::Redrive, Change::Purge] {
        let by_id = Selection::Ids(vec![waits, done, unknown, waits]);
        for selection in [Selection::Filter(DeliveryFilter::default()), by_id] {
            let before = all(&queue).await;
            let dry = queue.change(SHARD, change, &selection, true).await.unwrap();
            assert_eq!(all(&queue).await, before);
            if let Selection::Ids(_) = &selection {
                assert_eq!(dry.unknown, [unknown]);
            }
            if change == Change::Purge {
                assert_eq!(queue.change(SHARD, change, &selection, false).await.unwrap(), dry);
            }
        }
    }
    assert_eq!(all(&queue).await.len(), 2);
}

pub async fn i3_retry_cancel_redrive_purge<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let waits = stored(&queue, "waits", |delivery| {
        (delivery.fate, delivery.attempts) = (waiting(1000 * SECOND), vec![attempt(1, 500)]);
    })
    .await;
    let dies = stored(&queue, "dies", |delivery| {
        (delivery.fate, delivery.attempts) = (dead(), vec![attempt(1, 500)]);
    })
    .await;
    let done = stored(&queue, "done", |delivery| delivery.fate = Fate::Delivered).await;
    let gone = stored(&queue, "gone", |delivery| delivery.fate = dead()).await;
    store.advance(SECOND).await;
    assert_eq!(act(&queue, Change::Retry, &[waits, dies, done]).await.changed, 3);
    let mut leased = due(&queue).await;
    leased.sort_by_key(|delivery| delivery.id);
    assert_eq!(delivery_ids(&leased), [waits, dies, done]);
    // A waiting one goes on as it was; the others begin anew.
    assert_eq!((leased[0].attempts, leased[0].forgiven), (1, 0));
    assert_eq!((leased[1].attempts, leased[1].forgiven), (1, 1));
    assert_eq!(leased[0].since, leased[0].accepted_at);
    assert!(leased[1].since > leased[1].accepted_at);
    assert_eq!(queue.delivery(dies).await.unwrap().unwrap().attempt_log.unwrap().len(), 1);
    for (delivery, fate) in leased.into_iter().zip([waiting(SECOND), dead(), Fate::Delivered]) {
        settle_delivery(&queue, settled(delivery, vec![attempt(2, 500)], fate)).await;
    }
    let shown = queue.delivery(dies).await.unwrap().unwrap();
    assert_eq!((shown.attempts, shown.dead_reason), (2, Some(DeadReason::AttemptsExhausted)));
    assert_eq!(act(&queue, Change::Cancel, &[waits, dies]).await.changed, 2);
    assert_eq!(act(&queue, Change::Purge, &[gone]).await.changed, 1);
    assert_eq!(state(&queue, gone).await, None);
    assert_eq!(state(&queue, waits).await, Some(DeliveryState::Cancelled));
    let unfit = act(&queue, Change::Retry, &[waits]).await.unfit;
    assert_eq!(unfit, [(waits, DeliveryState::Cancelled)]);
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!((stats.waiting, stats.dead, stats.cancelled, stats.delivered), (0, 0, 2, 1));
    assert_eq!(stats.pending_bytes, 0);
}

pub async fn i4_what_a_worker_holds_is_not_changed<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let id = stored(&queue, "a", |_| {}).await;
    let held = due(&queue).await.pop().unwrap();
    for change in [Change::Retry, Change::Cancel, Change::Redrive, Change::Purge] {
        let changed = act(&queue, change, &[id]).await;
        assert_eq!((changed.changed, changed.unfit), (0, vec![(id, DeliveryState::Running)]));
    }
    let settled = settle_delivery(&queue, settled(held, vec![attempt(1, 200)], Fate::Delivered)).await;
    assert_eq!(settled.lost, []);
}

pub async fn i5_scan_and_restore_move_everything_pending<S: TestStore>(store: S) {
    let from = store.open(limits()).await;
    stored(&from, "done", |delivery| delivery.fate = Fate::Delivered).await;
    stored(&from, "waits", |delivery| {
        (delivery.fate, delivery.attempts) = (waiting(50 * SECOND), vec![attempt(1, 500)]);
        delivery.order = order(OnFailure::Block);
    })
    .await;
    let redriven = stored(&from, "redriven", |delivery| {
        (delivery.fate, delivery.attempts) = (dead(), vec![attempt(1, 410)]);
    })
    .await;
    act(&from, Change::Redrive, &[redriven]).await;
    stored(&from, "dead", |delivery| {
        (delivery.fate, delivery.attempts) = (dead(), vec![attempt(1, 410)]);
    })
    .await;
    stored(&from, "runs", |delivery| delivery.fate = Fate::Running { lease: LEASE }).await;
    publish(&from, &["queued", "leased"]).await;
    queue_lease_last(&from).await;
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = from.scan(SHARD, after, 2).await.unwrap();
        assert!(page.items.len() <= 2);
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let names: Vec<_> = items.iter().map(|item| (item.event.id.as_str(), item.event.queued)).collect();
    let expected = [
        ("waits", false),
        ("redriven", false),
        ("dead", false),
        ("runs", false),
        ("queued", true),
        ("leased", true),
    ];
    assert_eq!(names, expected);
    assert_eq!(items, from.scan(SHARD, None, 100).await.unwrap().items);

    let to = store.open(limits()).await;
    stored(&to, "other", |delivery| delivery.fate = Fate::Delivered).await;
    assert_eq!(to.restore(SHARD, items.clone()).await.unwrap(), 6);
    assert_eq!(to.restore(SHARD, items).await.unwrap(), 0, "twice without harm");
    let stats = to.stats(SHARD).await.unwrap();
    assert_eq!((stats.events_queued, stats.waiting, stats.running, stats.dead), (2, 3, 0, 1));
    assert_eq!(stats.pending_bytes, 5 * PAYLOAD.len() as u64);
    assert_eq!(ids(&lease(&to).await), ["queued", "leased"]);
    let leased = due(&to).await;
    let due_now: Vec<_> = leased.iter().map(|delivery| delivery.event_id.as_str()).collect();
    assert_eq!(due_now, ["redriven", "runs"]);
    assert_eq!((leased[0].attempts, leased[0].forgiven), (1, 1));
    store.advance(50 * SECOND).await;
    let later = due(&to).await;
    let waited = later.iter().find(|delivery| delivery.event_id.as_str() == "waits").unwrap();
    assert_eq!((waited.attempts, &*waited.payload), (1, PAYLOAD.as_bytes()));
    assert_eq!(to.delivery(waited.id).await.unwrap().unwrap().attempt_log.unwrap().len(), 1);
    assert!(publish(&to, &["waits"]).await[0].duplicate);
}

/// Everything that is pending in a store.
async fn scanned(queue: &impl Inspect) -> Vec<PendingItem> {
    queue.scan(SHARD, None, 100).await.unwrap().items
}

pub async fn i5_an_id_that_was_used_again_is_another_event<S: TestStore>(store: S) {
    let window = || StoreLimits { dedup_window: 10 * SECOND, ..limits() };
    let (from, to) = (store.open(window()).await, store.open(window()).await);
    publish(&from, &["a", "b"]).await;
    store.advance(10 * SECOND).await;
    publish(&from, &["a"]).await;
    // Somebody published it there, too, at another time.
    publish(&to, &["b"]).await;
    let items = scanned(&from).await;
    let (first, rest) = items.split_at(1);
    assert_eq!(to.restore(SHARD, first.to_vec()).await.unwrap(), 1);
    assert_eq!(to.restore(SHARD, rest.to_vec()).await.unwrap(), 2, "of one id, and not the same");
    for _ in 0..2 {
        assert_eq!(to.restore(SHARD, items.clone()).await.unwrap(), 0, "each of them is there");
    }
    let leased = lease(&to).await;
    assert_eq!(ids(&leased), ["b", "a", "b", "a"]);
    for event in leased {
        let delivery = new(&event, "slack", Fate::Delivered);
        settle_event(&to, event, vec![delivery]).await;
    }
    assert_eq!(to.restore(SHARD, items).await.unwrap(), 0, "what is delivered was there as well");
}

pub async fn i5_what_was_redriven_begins_anew_where_it_comes_to<S: TestStore>(store: S) {
    let from = store.open(limits()).await;
    let old = stored(&from, "old", |delivery| {
        (delivery.fate, delivery.attempts) = (dead(), vec![attempt(1, 410)]);
        delivery.order = order(OnFailure::Supersede);
    })
    .await;
    act(&from, Change::Redrive, &[old]).await;
    stored(&from, "new", |delivery| delivery.order = order(OnFailure::Supersede)).await;
    let to = store.open(limits()).await;
    assert_eq!(to.restore(SHARD, scanned(&from).await).await.unwrap(), 2);
    for queue in [&from, &to] {
        let leased = due(queue).await;
        let due_now: Vec<_> = leased.iter().map(|delivery| delivery.event_id.as_str()).collect();
        assert_eq!(due_now, ["old"], "it gives way only when it has failed again");
        assert_eq!(queue.stats(SHARD).await.unwrap().superseded, 0);
    }
}

pub async fn i5_an_event_that_was_restored_as_a_dead_letter_can_be_put_back<S: TestStore>(store: S) {
    let (from, to) = (store.open(limits()).await, store.open(limits()).await);
    publish(&from, &["dead"]).await;
    let event = lease(&from).await.pop().unwrap();
    let id = DeliveryId::of_event(SHARD, event.sequence, &event.id);
    let fate = EventFate::Dead { id, reason: DeadReason::UnreadableEvent, error: None };
    let events = vec![SettledEvent { lease: event.lease, fate }];
    from.settle(SHARD, &Settlement { events, deliveries: vec![] }).await.unwrap();
    // Others are before it, which nobody has leased.
    publish(&to, &["first"]).await;
    assert_eq!(to.restore(SHARD, scanned(&from).await).await.unwrap(), 1);
    publish(&to, &["last"]).await;
    let page = to.list(SHARD, &DeliveryFilter::default(), None, 10).await.unwrap();
    let dead: Vec<_> = page.items.iter().map(|delivery| delivery.id).collect();
    assert_eq!(act(&to, Change::Redrive, &dead).await.changed, 1);
    let stats = to.stats(SHARD).await.unwrap();
    assert_eq!((stats.events_queued, stats.dead), (3, 0));
    let leased = lease(&to).await;
    let mut names = ids(&leased);
    names.sort();
    assert_eq!(names, ["dead", "first", "last"], "each once");
    for event in leased {
        let delivery = new(&event, "slack", Fate::Delivered);
        settle_event(&to, event, vec![delivery]).await;
    }
    let stats = to.stats(SHARD).await.unwrap();
    assert_eq!((stats.events_queued, stats.events_leased, stats.pending_bytes), (0, 0, 0));
    assert_eq!(to.scan(SHARD, None, 10).await.unwrap().items, []);
}

/// Leases the events that are queued, and lets go of the leases of all but the last.
async fn queue_lease_last(queue: &impl Queue) {
    let mut leased = lease(queue).await;
    leased.pop();
    let events =
        leased.into_iter().map(|event| SettledEvent { lease: event.lease, fate: EventFate::Released });
    queue.settle(SHARD, &Settlement { events: events.collect(), deliveries: vec![] }).await.unwrap();
}

pub async fn i6_finished_deliveries_go_by_age<S: TestStore>(store: S) {
    let queue = store.open(StoreLimits { history_age_max: 100 * SECOND, ..limits() }).await;
    let fast = stored(&queue, "fast", |delivery| delivery.fate = Fate::Delivered).await;
    let slow = stored(&queue, "slow", |_| {}).await;
    let held = due(&queue).await.pop().unwrap();
    let kept = stored(&queue, "kept", |delivery| delivery.fate = dead()).await;
    publish(&queue, &["matched-nothing"]).await;
    settle_event(&queue, lease(&queue).await.pop().unwrap(), vec![]).await;
    store.advance(10 * SECOND).await;
    settle_delivery(&queue, settled(held, vec![attempt(1, 200)], Fate::Delivered)).await;
    store.advance(90 * SECOND).await;
    store.tidy(&queue).await;
    assert_eq!(state(&queue, fast).await, None);
    assert_eq!(state(&queue, slow).await, Some(DeliveryState::Delivered));
    let event = async |id: &str| queue.event(SHARD, &EventId::new(id).unwrap()).await.unwrap();
    assert!(event("fast").await.is_none() && event("matched-nothing").await.is_none());
    assert_eq!(event("slow").await.unwrap().deliveries.len(), 1);
    store.advance(10 * SECOND).await;
    store.tidy(&queue).await;
    assert_eq!(state(&queue, slow).await, None);
    assert_eq!(state(&queue, kept).await, Some(DeliveryState::Dead));
    assert_eq!(event("kept").await.unwrap().payload, PAYLOAD);
    let stats = queue.stats(SHARD).await.unwrap();
    assert_eq!((stats.delivered, stats.dead, stats.history_bytes), (0, 1, 0));
    // Once it is finished, it goes like the others.
    act(&queue, Change::Cancel, &[kept]).await;
    store.advance(100 * SECOND).await;
    store.tidy(&queue).await;
    assert_eq!(all(&queue).await, []);
}

pub async fn i6_finished_deliveries_go_by_bytes_and_pending_ones_never<S: TestStore>(store: S) {
    let one = {
        let queue = store.open(limits()).await;
        stored(&queue, "a", |delivery| delivery.fate = Fate::Delivered).await;
        queue.stats(SHARD).await.unwrap().history_bytes
    };
    let queue = store.open(StoreLimits { history_bytes_max: one * 5 / 2, ..limits() }).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let fate = if number == 1 { waiting(SECOND) } else { Fate::Delivered };
        ids.push(stored(&queue, &format!("{number}"), |delivery| delivery.fate = fate).await);
        store.advance(SECOND / 100).await;
    }
    store.tidy(&queue).await;
    let kept: Vec<_> = all(&queue).await.iter().map(|delivery| delivery.id).collect();
    assert_eq!(kept, [ids[5], ids[4], ids[1]]);
    let stats = queue.stats(SHARD).await.unwrap();
    assert!(stats.history_bytes <= one * 5 / 2);
    // An event is kept as long as any delivery of it.
    publish(&queue, &["two"]).await;
    let event = lease(&queue).await.pop().unwrap();
    let (done, dead_one) = (new(&event, "done", Fate::Delivered), new(&event, "dead", dead()));
    let two = [done.id, dead_one.id];
    settle_event(&queue, event, vec![done, dead_one]).await;
    for number in 10..13 {
        stored(&queue, &format!("{number}"), |delivery| delivery.fate = Fate::Delivered).await;
    }
    store.tidy(&queue).await;
    assert_eq!(state(&queue, two[1]).await, Some(DeliveryState::Dead));
    assert!(queue.event(SHARD, &EventId::new("two").unwrap()).await.unwrap().is_some());
}

// Counts and waiting

pub async fn stats_count_what_is_there<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let empty = queue.stats(SHARD).await.unwrap();
    assert_eq!((empty.events_queued, empty.oldest_pending_at, empty.dedup_ids), (0, None, 0));
    stored(&queue, "dead", |delivery| delivery.fate = dead()).await;
    stored(&queue, "waits", |delivery| delivery.fate = waiting(SECOND)).await;
    stored(&queue, "runs", |delivery| delivery.fate = Fate::Running { lease: LEASE }).await;
    stored(&queue, "done", |delivery| delivery.fate = Fate::Delivered).await;
    publish(&queue, &["leased", "queued"]).await;
    queue.lease_events(SHARD, lease_request(1, 0)).await.unwrap();
    let stats = queue.stats(SHARD).await.unwrap();
    let oldest = queue.event(SHARD, &EventId::new("waits").unwrap()).await.unwrap().unwrap().accepted_at;
    assert_eq!((stats.events_queued, stats.events_leased), (1, 1));
    assert_eq!((stats.waiting, stats.running, stats.dead, stats.delivered), (1, 1, 1, 1));
    assert_eq!(stats.oldest_pending_at, Some(oldest));
    assert_eq!(stats.pending_bytes, 4 * PAYLOAD.len() as u64);
    assert!(stats.history_bytes > 0);
    assert_eq!((stats.dedup_ids, stats.dedup_window_ms), (6, 3_600_000));
}

pub async fn wait_returns_when_something_came<S: TestStore>(store: S) {
    let queue = store.open(limits()).await;
    let long = Duration::from_secs(600);
    // Something that came before the call counts, until somebody has looked.
    publish(&queue, &["a"]).await;
    queue.wait(SHARD, long).await.unwrap();
    let event = lease(&queue).await.pop().unwrap();
    queue.wait(SHARD, Duration::ZERO).await.unwrap();
    // A delivery that was stored to be sent later is news, too: it may be due before the caller would look again.
    let delivery = new(&event, "slack", waiting(SECOND));
    settle_event(&queue, event, vec![delivery]).await;
    queue.wait(SHARD, long).await.unwrap();
    assert!(due(&queue).await.is_empty());
    // And something that comes during the call.
    let (waited, _) = tokio::join!(queue.wait(SHARD, long), publish(&queue, &["b"]));
    waited.unwrap();
}
