//! How events go through: to the end, again, past failures, through crashes and shutdowns.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hookwire_engine::{Summary, run};
use hookwire_model::{AttemptError, DeadReason, DeliveryState, ErrorKind, EventId, Shard, WaitingReason};
use hookwire_queue::{EventState, Inspect, LeaseEvents, NewEvent, Queue, WorkerId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::troubled::Troubled;
use crate::world::{Act, START, World, states, webhook};

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_to_every_webhook_of_its_rules() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.publish(3).await;
    assert_eq!(world.run().await, Summary { waits_for_later: false });
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 6]);
    let log = deliveries[0].attempt_log.as_ref().unwrap();
    assert_eq!((log.len(), log[0].number, log[0].status), (1, 1, Some(200)));
    assert_eq!(world.script.seen().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_together_is_rendered_before_any_of_it_is_sent() {
    let world = World::new();
    world.script.always("/a", Act::AnswerAfter(Duration::from_secs(1), 200));
    world.publish(2).await;
    // Who renders asks for the time: how many requests had gone out by then?
    let sent = Arc::new(Mutex::new(Vec::new()));
    let clock = {
        let (script, sent) = (Arc::clone(&world.script), Arc::clone(&sent));
        move || {
            sent.lock().unwrap().push(script.count("/a"));
            START.saturating_add(Duration::from_millis(1))
        }
    };
    run(world.engine(world.queue.clone(), clock), CancellationToken::new()).await.unwrap();
    assert_eq!(world.script.count("/a"), 2);
    let sent = sent.lock().unwrap();
    assert!(sent.contains(&0) && !sent.contains(&1), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_receiver_gets_its_attempts_by_the_schedule() {
    let world = World::new();
    world.script.on("/a", [Act::Answer(500), Act::Answer(500), Act::Answer(200)]);
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let mut world = world;
    world.settings.until_idle = false;
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1000)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let seen = world.script.seen();
    let attempts: Vec<&str> = seen.iter().map(|(_, attempt, _)| attempt.as_str()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    // 5 s and 5 min, each ±20 %.
    assert!((4.0..6.5).contains(&seen[1].2.as_secs_f64()), "{seen:?}");
    assert!((240.0..361.0).contains(&(seen[2].2 - seen[1].2).as_secs_f64()), "{seen:?}");
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 3));
    let statuses: Vec<_> =
        delivery.attempt_log.as_ref().unwrap().iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(500), Some(500), Some(200)]);
}

#[tokio::test(start_paused = true)]
async fn until_idle_ends_while_something_waits_for_later() {
    let world = World::new();
    world.script.on("/a", [Act::Answer(503)]);
    world.publish(1).await;
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    let delivery = &world.deliveries().await[0];
    assert_eq!(
        (delivery.state, delivery.waiting_reason),
        (DeliveryState::Waiting, Some(WaitingReason::Retry))
    );
}

#[tokio::test(start_paused = true)]
async fn until_idle_does_not_wait_for_a_receiver_that_asked_for_silence() {
    let world = World::new();
    world.script.always("/a", Act::Quiet("3600"));
    world.publish(40).await;
    let began = Instant::now();
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    // Nor does one that starts while the silence lasts.
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let delivery = &world.deliveries().await[0];
    assert_eq!(delivery.state, DeliveryState::Waiting);
}

#[tokio::test(start_paused = true)]
async fn a_slow_delivery_holds_up_neither_its_event_nor_its_sisters() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    let id = world.publish(1).await.remove(0);
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stored = world.queue.event(Shard(0), &id).await.unwrap().unwrap();
    assert_eq!(stored.state, EventState::FannedOut);
    let mut now: Vec<_> = stored.deliveries.iter().map(|delivery| delivery.state).collect();
    now.sort();
    assert_eq!(now, [DeliveryState::Running, DeliveryState::Delivered]);
    // Longer than the lease: it is renewed, and nothing is repeated.
    tokio::time::sleep(Duration::from_secs(100)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 2]);
    assert_eq!(world.script.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_has_no_more_attempts_in_flight_than_its_room() {
    let mut world = World::new();
    world.webhooks[0].concurrency = 3.try_into().unwrap();
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(1), 200), 20));
    world.publish(20).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 20]);
    assert_eq!((world.script.most_in_flight(), world.script.seen().len()), (3, 20));
}

#[tokio::test(start_paused = true)]
async fn the_worker_has_no_more_attempts_in_flight_than_its_concurrency() {
    let mut world = World::new();
    world.settings.concurrency = 5;
    world.webhooks.push(webhook("b", "/b"));
    for path in ["/a", "/b"] {
        world.script.on(path, std::iter::repeat_n(Act::AnswerAfter(Duration::from_millis(600), 200), 30));
    }
    world.publish(30).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 60]);
    assert!(world.script.most_in_flight() <= 5, "{} in flight", world.script.most_in_flight());
    assert_eq!(world.script.seen().len(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_attempts_finish_and_gives_the_rest_back() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 4;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(5), 200), 100));
    world.publish(30).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_millis(100)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let first = world.script.seen().len();
    assert_eq!(first, 4);
    let stats = world.queue.stats(Shard(0)).await.unwrap();
    assert_eq!((stats.delivered, stats.events_leased, stats.running), (4, 0, 0));
    // The next worker does the rest, and none of it is a suspect.
    world.settings.until_idle = true;
    world.script.on("/a", []);
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 30]);
    assert_eq!(world.script.seen().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_the_grace_period_goes_back_to_the_queue() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = Instant::now();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?}", asked.elapsed());
    world.settings.until_idle = true;
    world.run().await;
    let delivery = &world.deliveries().await[0];
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert_eq!((delivery.attempts, delivery.interrupted), (2, 1));
    let numbers: Vec<_> = world.script.seen().into_iter().map(|(_, number, _)| number).collect();
    assert_eq!(numbers, ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn the_grace_period_is_that_of_the_definitions_in_force() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(25), 200)]);
    world.publish(1).await;
    let engine = world.engine(world.queue.clone(), || START);
    let in_force = engine.in_force.clone();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(engine, shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A timeout of 30 s in place of 10 s.
    world.webhooks[0].timeout = Duration::from_secs(30);
    in_force.replace(world.snapshot(), START);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.interrupted), (DeliveryState::Delivered, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_begun_when_the_grace_period_ends_is_not_interrupted() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 1;
    world.settings.grace = Some(Duration::from_millis(50));
    world.webhooks.push(webhook("b", "/b"));
    for path in ["/a", "/b"] {
        world.script.on(path, [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    }
    world.publish(1).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    // One has the only place, and the other waits for it.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.script.seen().len(), 1);
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let deliveries = world.deliveries().await;
    let mut counted: Vec<_> =
        deliveries.iter().map(|delivery| (delivery.attempts, delivery.interrupted)).collect();
    counted.sort_unstable();
    assert_eq!(counted, [(0, 0), (1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_repeats_the_settlement_and_nothing_else() {
    let world = World::new();
    world.publish(50).await;
    let queue = Troubled::loses_replies(&world.queue, 3);
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 50]);
    assert!(deliveries.iter().all(|delivery| delivery.attempt_log.as_ref().unwrap().len() == 1));
    assert_eq!(world.script.seen().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_storing_a_running_delivery_is_made_good() {
    let world = World::new();
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(2), 200)]);
    world.publish(1).await;
    let queue = Troubled::loses_replies(&world.queue, 2);
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
    assert_eq!(world.script.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leases_again_what_it_works_on_goes_on_with_it() {
    let mut world = World::new();
    world.settings.lease = Duration::from_secs(5);
    world.settings.concurrency = 1;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(9), 200), 10));
    world.publish(2).await;
    // Every lease runs out while its work is in flight, or before it was begun.
    let queue = Troubled::never_extends(&world.queue);
    world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Delivered; 2]);
    assert_eq!(world.script.seen().len(), 2, "{:?}", world.script.seen());
    let interrupted: Vec<_> = deliveries.iter().map(|delivery| delivery.interrupted).collect();
    assert_eq!(interrupted, [0, 0], "the outcome of each attempt is known after all");
}

/// The store gave something to one worker, and its answer took longer than the lease: another one has it by then.
#[tokio::test(start_paused = true)]
async fn what_comes_later_than_its_lease_lasts_is_not_begun() {
    const LATE: Duration = Duration::from_secs(20);
    // An attempt that nobody knows of counts where the lease was on the delivery.
    for (of_events, numbers) in [(true, ["1", "2"]), (false, ["1", "3"])] {
        let mut world = World::new();
        world.settings.until_idle = false;
        world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(8), 500)]);
        world.publish(1).await;
        let (shutdown, mut running) = (CancellationToken::new(), Vec::new());
        let late = match of_events {
            true => Troubled::gives_events_late(&world.queue, LATE),
            false => Troubled::gives_deliveries_late(&world.queue, LATE),
        };
        running.push(world.start(late, shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.push(world.start(world.queue.clone(), shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let [delivery] = &world.deliveries().await[..] else { panic!("one event and one webhook") };
        assert_eq!(delivery.state, DeliveryState::Delivered);
        let seen = world.script.seen();
        let seen: Vec<&str> = seen.iter().map(|(_, number, _)| number.as_str()).collect();
        assert_eq!(seen, numbers, "late with events: {of_events}");
        shutdown.cancel();
        for running in running {
            running.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_place_lets_go_of_what_is_handed_over() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.settings.concurrency = 2;
    world.script.always("/a", Act::AnswerAfter(Duration::from_secs(20), 200));
    let (queue, shutdown) = (Troubled::counting(&world.queue), CancellationToken::new());
    let let_go = queue.let_go();
    let running = world.start(queue, shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Those that were published before are known, so that each time one more comes.
    for (count, expected) in [(1, 0), (2, 1), (3, 1)] {
        world.publish(count).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(let_go.load(Ordering::Relaxed), expected, "one place is left, none, and still none");
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_to_a_worker_that_goes_is_there_for_others_at_once() {
    let mut world = World::new();
    world.settings.until_idle = false;
    let shutdown = CancellationToken::new();
    let running = world.start(Troubled::hands_over(&world.queue), shutdown.clone());
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.publish(3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.script.seen().len(), 0, "it does not know yet");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(world.script.seen().len(), 0);
    world.settings.until_idle = true;
    world.run().await;
    assert_eq!(world.script.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_tell_what_waits_is_asked_again() {
    let world = World::new();
    world.publish(1).await;
    let queue = Troubled::fails_to_count(&world.queue, 2);
    let summary = world.start(queue, CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(summary, Summary { waits_for_later: false });
}

#[tokio::test(start_paused = true)]
async fn what_there_was_no_socket_for_goes_out_later_and_counts_for_nobody() {
    let mut world = World::new();
    // One attempt is all there is, and the first failure of the endpoint would show.
    world.webhooks[0].retry.max_attempts = NonZeroU32::MIN;
    world.script.on("/a", vec![Act::Starve; 20]);
    world.publish(1).await;
    world.settings.until_idle = false;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let waiting = &world.deliveries().await[0];
    assert_eq!(
        (waiting.state, waiting.waiting_reason, waiting.attempts),
        (DeliveryState::Waiting, Some(WaitingReason::Worker), 0)
    );
    tokio::time::sleep(Duration::from_secs(100)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 1));
    let seen = world.script.seen();
    assert_eq!(seen.len(), 21);
    assert!(seen.iter().all(|(_, attempt, _)| attempt == "1"), "{seen:?}");
    // A second apart each: it neither hurries nor slows down.
    assert_eq!(seen[20].2.as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_delivery_as_a_dead_letter_and_nothing_else() {
    let mut world = World::new();
    world.webhooks.push(webhook("b", "/b"));
    world.script.on("/a", [Act::Answer(200), Act::Panic]);
    world.publish(3).await;
    world.run().await;
    let deliveries = world.deliveries().await;
    let dead: Vec<_> = deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Dead).collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].dead_reason, Some(DeadReason::Panic));
    assert_eq!(
        dead[0].last_error,
        Some(AttemptError { kind: ErrorKind::Internal, message: "panicked: the script says so".into() })
    );
    assert_eq!(deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Delivered).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_read_becomes_a_dead_letter() {
    let world = World::new();
    let broken = NewEvent { id: EventId::new("broken").unwrap(), payload: Bytes::from_static(b"{") };
    world.queue.publish(Shard(0), vec![broken]).await.unwrap();
    world.publish(1).await;
    world.run().await;
    let deliveries = world.deliveries().await;
    assert_eq!(states(&deliveries), [DeliveryState::Dead, DeliveryState::Delivered]);
    assert_eq!((deliveries[0].dead_reason, &deliveries[0].rule), (Some(DeadReason::UnreadableEvent), &None));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_takes_its_workers_down_becomes_a_dead_letter() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_secs(3600), 200), 10));
    world.publish(1).await;
    for _ in 0..5 {
        // A worker leases the event and dies at once: dropping the engine's future is a crash.
        let request = LeaseEvents {
            worker: WorkerId::new("doomed"),
            lease: Duration::from_secs(15),
            max: 1,
            suspects_max: 1,
        };
        assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(16)).await;
    }
    world.settings.until_idle = true;
    world.run().await;
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries[0].dead_reason, Some(DeadReason::PoisonEvent));
    assert_eq!(world.script.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_stored_before_it_is_sent() {
    let world = World::new();
    world.publish(2).await;
    let request = LeaseEvents {
        worker: WorkerId::new("doomed"),
        lease: Duration::from_secs(15),
        max: 2,
        suspects_max: 1,
    };
    assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(16)).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 2]);
    assert_eq!(world.script.seen().len(), 2);
}

/// A store whose leases take a while, so that other things happen while one is under way.
#[tokio::test(start_paused = true)]
async fn many_suspects_follow_one_another_without_a_pause() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.publish(100).await;
    let request = LeaseEvents {
        worker: WorkerId::new("doomed"),
        lease: Duration::from_secs(15),
        max: 100,
        suspects_max: 1,
    };
    assert_eq!(world.queue.lease_events(Shard(0), request).await.unwrap().len(), 100);
    tokio::time::sleep(Duration::from_secs(16)).await;
    let shutdown = CancellationToken::new();
    let slow = Troubled::slow(&world.queue);
    let running = world.start(slow, shutdown.clone());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.script.seen().len(), 100, "each of them takes a few round trips, and no timer");
    shutdown.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_at_most_what_was_in_flight() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", std::iter::repeat_n(Act::AnswerAfter(Duration::from_millis(100), 200), 40));
    world.publish(40).await;
    let crashed = world.start(world.queue.clone(), CancellationToken::new());
    tokio::time::sleep(Duration::from_millis(150)).await;
    crashed.abort();
    let _ = crashed.await;
    let before = world.script.seen().len();
    assert!((1..40).contains(&before), "{before} attempts before the crash");
    let settled = world.queue.stats(Shard(0)).await.unwrap().delivered;
    // The leases run out by themselves.
    tokio::time::sleep(Duration::from_secs(16)).await;
    world.settings.until_idle = true;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered; 40]);
    let repeats = world.script.seen().len() - 40;
    assert!(
        repeats <= before - usize::try_from(settled).unwrap(),
        "{repeats} repeats of {before}, {settled} settled"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deliveries_of_a_disabled_webhook_wait() {
    let mut world = World::new();
    world.webhooks[0].enabled = false;
    world.publish(1).await;
    assert_eq!(world.run().await, Summary { waits_for_later: true });
    let delivery = &world.deliveries().await[0];
    assert_eq!(
        (delivery.state, delivery.waiting_reason, delivery.attempts),
        (DeliveryState::Waiting, Some(WaitingReason::WebhookDisabled), 0)
    );
    world.webhooks[0].enabled = true;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.run().await;
    assert_eq!(states(&world.deliveries().await), [DeliveryState::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_fails_makes_a_dead_letter_with_the_place() {
    let mut world = World::new();
    world.webhooks[0].body_template = Some("{\n\"x\": {{data.missing}}}".into());
    world.publish(1).await;
    world.run().await;
    let delivery = &world.deliveries().await[0];
    assert_eq!((delivery.state, delivery.dead_reason), (DeliveryState::Dead, Some(DeadReason::RenderError)));
    let error = delivery.last_error.as_ref().unwrap();
    assert_eq!(error.kind, ErrorKind::Body);
    assert!(error.message.contains("line 2") && error.message.contains("missing"), "{}", error.message);
    assert_eq!(world.script.seen().len(), 0);
}

/// The engine is a plain future: whoever owns it may drop it at any await.
#[test]
fn the_future_can_be_sent_and_dropped() {
    fn is_send<F: Future + Send>(_: F) {}
    let world = World::new();
    is_send(run(world.engine(world.queue.clone(), || START), CancellationToken::new()));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_waits_for_company_only_briefly_and_only_while_there_is_some() {
    let mut world = World::new();
    world.settings.until_idle = false;
    world.script.on("/a", [Act::AnswerAfter(Duration::from_secs(60), 200)]);
    world.publish(2).await;
    let shutdown = CancellationToken::new();
    let running = world.start(world.queue.clone(), shutdown.clone());
    let delivered = async |after: u64| {
        tokio::time::sleep(Duration::from_millis(after)).await;
        world.queue.stats(Shard(0)).await.unwrap().delivered
    };
    assert_eq!(delivered(3).await, 0, "the other event may be done soon");
    assert_eq!(delivered(5).await, 1, "it is not");
    assert_eq!(delivered(60_000).await, 2);
    // The first two are known.
    world.publish(3).await;
    assert_eq!(delivered(3).await, 3, "nobody else is at work");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
