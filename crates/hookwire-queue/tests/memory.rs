//! The memory backend passes the suite, and the suite leaves nothing out.

use std::collections::BTreeSet;
use std::time::Duration;

use hookwire_model::{DeliveryId, EventId, RuleName, Shard, WaitingReason, WebhookName};
use hookwire_queue::conformance::MemoryTestStore;
use hookwire_queue::{
    EventFate, Fate, Inspect, LeaseEvents, MemoryQueue, NewDelivery, NewEvent, Queue, SettledEvent,
    Settlement, StoreLimits, WorkerId,
};

hookwire_queue::conformance!(MemoryTestStore::new());

/// The cases that the macro runs.
fn cases_run() -> BTreeSet<&'static str> {
    let source = include_str!("../src/conformance.rs");
    let list = source.split_once("@each $store;\n").unwrap().1.split_once(");").unwrap().0;
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_case_is_run() {
    let source =
        concat!(include_str!("../src/conformance/cases.rs"), include_str!("../src/conformance/model.rs"));
    let cases = source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('<').next());
    assert_eq!(cases.collect::<BTreeSet<_>>(), cases_run());
}

#[test]
fn every_sentence_of_the_contract_has_a_case() {
    let contract = include_str!("../src/lib.rs");
    let sentences: Vec<String> = contract
        .lines()
        .filter_map(|line| line.strip_prefix("//! - ")?.split_once(". "))
        .map(|(number, _)| number.to_lowercase())
        .filter(|number| number.len() == 2 && number.as_bytes()[1].is_ascii_digit())
        .collect();
    assert!(sentences.len() > 30, "{sentences:?}");
    for sentence in sentences {
        let prefix = format!("{sentence}_");
        assert!(cases_run().iter().any(|case| case.starts_with(&prefix)), "no case for {sentence}");
    }
}

/// It looked for an event's deliveries under shard 0, whatever shard their ids had.
#[tokio::test]
async fn an_event_has_its_deliveries_under_any_shard() {
    let (shard, second) = (Shard(3), Duration::from_secs(1));
    let queue = MemoryQueue::new(StoreLimits::default());
    let id = EventId::new("e").unwrap();
    queue.publish(shard, vec![NewEvent { id: id.clone(), payload: "{}".into() }]).await.unwrap();
    let request = LeaseEvents { worker: WorkerId::new("w"), lease: second, max: 1, suspects_max: 0 };
    let event = queue.lease_events(shard, request).await.unwrap().pop().unwrap();
    let (rule, webhook) = (RuleName::new("r").unwrap(), WebhookName::new("w").unwrap());
    let delivery = DeliveryId::derive(shard, event.sequence, &id, &rule, &webhook);
    let fate = Fate::Waiting { due_in: second, reason: WaitingReason::Retry };
    let new =
        NewDelivery { id: delivery, rule, webhook, endpoint: None, order: None, attempts: vec![], fate };
    let fate = EventFate::FannedOut {
        event: "created".into(),
        object_type: "dcim.site".into(),
        deliveries: vec![new],
    };
    let settlement =
        Settlement { events: vec![SettledEvent { lease: event.lease, fate }], deliveries: vec![] };
    queue.settle(shard, &settlement).await.unwrap();

    let stored = queue.event(shard, &id).await.unwrap().unwrap();
    assert_eq!(stored.deliveries.iter().map(|found| found.id).collect::<Vec<_>>(), [delivery]);
    let stats = queue.stats(shard).await.unwrap();
    assert_eq!(stats.oldest_pending_at, Some(stored.accepted_at), "what waits is counted as pending");
    let pending = queue.scan(shard, None, 10).await.unwrap();
    assert_eq!(pending.items.iter().map(|item| item.deliveries.len()).collect::<Vec<_>>(), [1]);
}
