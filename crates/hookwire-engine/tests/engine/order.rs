//! `ordering = "object"`: one at a time per object, in order of acceptance, objects side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use hookwire_engine::{Summary, publish};
use hookwire_model::{DeliveryState, Event, OnFailure, Ordering};
use hookwire_queue::Change;
use tokio_util::sync::CancellationToken;

use crate::world::{Act, World, parse, webhook};

/// Changes of a few objects, round after round: `o0`, `o1`, .., `o0`, ..
fn changes(objects: usize, rounds: usize) -> Vec<Event> {
    let each = (0..rounds).flat_map(|round| (0..objects).map(move |object| (object, round)));
    let events = each.map(|(object, round)| {
        let text = format!(
            r#"{{"id":"o{object}-{round}","event":"updated","object_type":"dcim.site","data":{{"id":"o{object}","round":{round}}}}}"#
        );
        parse(&text)
    });
    events.collect()
}

/// A world whose one webhook sends in order, to a path that tells object and round.
fn ordered(on_failure: OnFailure) -> World {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.webhooks[0] = webhook("a", "/{{data.id}}/{{data.round}}");
    world.webhooks[0].ordering = Ordering::Object;
    world.webhooks[0].on_failure = on_failure;
    world
}

async fn run_for(world: &World, time: Duration) {
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(time).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

/// The rounds that each object's requests told, in the order in which they came.
fn rounds(world: &World) -> BTreeMap<String, Vec<usize>> {
    let mut rounds = BTreeMap::<String, Vec<usize>>::new();
    for (path, _, _) in world.script.seen() {
        let (object, round) = path[1..].split_once('/').unwrap();
        rounds.entry(object.to_owned()).or_default().push(round.parse().unwrap());
    }
    rounds
}

#[tokio::test(start_paused = true)]
async fn each_object_gets_its_changes_one_after_the_other_and_objects_go_side_by_side() {
    let world = ordered(OnFailure::Block);
    for object in 0..5 {
        for round in 0..6 {
            let act = Act::AnswerAfter(Duration::from_millis(100), 200);
            world.script.always(&format!("/o{object}/{round}"), act);
        }
    }
    publish(&world.queue, &changes(5, 6)).await.unwrap();
    run_for(&world, Duration::from_secs(5)).await;
    let rounds = rounds(&world);
    assert_eq!(rounds.len(), 5);
    for (object, rounds) in &rounds {
        assert_eq!(*rounds, [0, 1, 2, 3, 4, 5], "{object}");
    }
    assert_eq!(world.script.most_in_flight(), 5, "all objects at once, each one at a time");
    let last = world.script.seen().last().unwrap().2;
    assert!(last < Duration::from_secs(1), "six rounds of 100 ms took {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_head_blocks_its_object_and_no_other() {
    let world = ordered(OnFailure::Block);
    world.script.on("/o0/1", [Act::Answer(500), Act::Answer(500)]);
    publish(&world.queue, &changes(2, 4)).await.unwrap();
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(rounds(&world)["o0"], [0, 1, 1], "the others wait while the head is retried");
    assert_eq!(rounds(&world)["o1"], [0, 1, 2, 3]);
    run_for(&world, Duration::from_secs(600)).await;
    assert_eq!(rounds(&world)["o0"], [0, 1, 1, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_head_blocks_until_somebody_acts() {
    let mut world = ordered(OnFailure::Block);
    world.webhooks[0].retry.max_attempts = 1.try_into().unwrap();
    world.script.on("/o0/0", [Act::Answer(500)]);
    publish(&world.queue, &changes(1, 3)).await.unwrap();
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(rounds(&world)["o0"], [0]);
    let states: Vec<_> = world.deliveries().await.iter().map(|delivery| delivery.state).collect();
    assert_eq!(states, [DeliveryState::Dead, DeliveryState::Waiting, DeliveryState::Waiting]);
    world.act(Change::Redrive).await;
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(rounds(&world)["o0"], [0, 0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_head_is_passed_where_that_was_asked_for() {
    let world = ordered(OnFailure::Skip);
    world.script.on("/o0/0", [Act::Answer(500)]);
    publish(&world.queue, &changes(1, 3)).await.unwrap();
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(rounds(&world)["o0"], [0, 1, 2, 0], "the failed one comes by itself, out of order");
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_state_is_sent_after_a_failure_where_that_was_asked_for() {
    let world = ordered(OnFailure::Supersede);
    world.script.on("/o0/0", [Act::Answer(500)]);
    publish(&world.queue, &changes(1, 4)).await.unwrap();
    run_for(&world, Duration::from_secs(60)).await;
    assert_eq!(rounds(&world)["o0"], [0, 3]);
    let states: Vec<_> = world.deliveries().await.iter().map(|delivery| delivery.state).collect();
    let passed = DeliveryState::Superseded;
    assert_eq!(states, [passed, passed, passed, DeliveryState::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn order_holds_over_workers_that_end_in_the_middle() {
    let world = ordered(OnFailure::Block);
    for object in 0..3 {
        for round in 0..20 {
            let act = Act::AnswerAfter(Duration::from_millis(70), 200);
            world.script.always(&format!("/o{object}/{round}"), act);
        }
    }
    publish(&world.queue, &changes(3, 20)).await.unwrap();
    for _ in 0..8 {
        // Dropped in the middle of attempts: a crash.
        let running = world.start(world.queue.clone(), CancellationToken::new());
        tokio::time::sleep(Duration::from_millis(230)).await;
        running.abort();
        assert!(running.await.is_err());
    }
    run_for(&world, Duration::from_secs(120)).await;
    for (object, mut rounds) in rounds(&world) {
        // What a crash cut off comes again, and nothing comes before what it follows.
        assert!(rounds.windows(2).all(|pair| pair[0] <= pair[1]), "{object}: {rounds:?}");
        rounds.dedup();
        assert_eq!(rounds, (0..20).collect::<Vec<_>>(), "{object}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_until_idle_sends_what_the_end_of_another_lets_go() {
    let mut world = ordered(OnFailure::Block);
    world.webhooks[0].retry.max_attempts = std::num::NonZeroU32::new(1).unwrap();
    world.settings.until_idle = true;
    world.script.on("/o0/0", [Act::Answer(500)]);
    publish(&world.queue, &changes(1, 3)).await.unwrap();
    world.run().await;
    assert_eq!(rounds(&world)["o0"], [0], "the others wait behind a dead letter");
    // All of them are on record, and each becomes due when the one before it has ended.
    world.act(Change::Redrive).await;
    assert_eq!(world.run().await, Summary { waits_for_later: false });
    assert_eq!(rounds(&world)["o0"], [0, 0, 1, 2]);
}
