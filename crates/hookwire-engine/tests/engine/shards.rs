//! Lanes side by side: what one of them does is felt by the others through the places and rooms that they share.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hookwire_engine::{Metrics, Summary, publish};
use hookwire_queue::{MemoryQueue, StoreLimits};
use tokio_util::sync::CancellationToken;

use crate::troubled::Troubled;
use crate::world::{Act, START, World, event, webhook};

/// A world with a second shard.
struct Shards {
    world: World,
    second: MemoryQueue,
}

impl Shards {
    fn new() -> Self {
        Shards { world: World::new(), second: MemoryQueue::on_tokio_time(StoreLimits::default(), START) }
    }

    fn store(&self) -> Troubled {
        Troubled::sharded(&self.world.queue, &self.second)
    }

    async fn publish_to_second(&self, count: usize) {
        let events: Vec<_> = (0..count).map(|number| event(&format!("second-{number}"))).collect();
        publish(&self.second, &events).await.unwrap();
    }

    /// When each request of a path was made.
    fn seen(&self, path: &str) -> Vec<Duration> {
        let seen = self.world.script.seen();
        seen.into_iter().filter(|(seen, _, _)| seen == path).map(|(_, _, at)| at).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_the_end_of_another_lane_s_attempt_makes_is_used_at_once() {
    let mut shards = Shards::new();
    shards.world.webhooks[0].concurrency = NonZeroU32::MIN;
    shards.world.settings.until_idle = false;
    shards.world.script.always("/a", Act::AnswerAfter(Duration::from_secs(3), 200));
    let shutdown = CancellationToken::new();
    let running = shards.world.start(shards.store(), shutdown.clone());
    shards.world.publish(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    shards.publish_to_second(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    let seen = shards.seen("/a");
    assert_eq!(seen.len(), 2);
    assert!(seen[1] < Duration::from_millis(3_100), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_gets_its_turn_while_another_fills_the_worker() {
    let mut shards = Shards::new();
    shards.world.settings.until_idle = false;
    shards.world.settings.concurrency = 4;
    shards.world.script.always("/a", Act::AnswerAfter(Duration::from_secs(3), 200));
    let shutdown = CancellationToken::new();
    let running = shards.world.start(shards.store(), shutdown.clone());
    shards.world.publish(200).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    shards.publish_to_second(8).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let taken = hookwire_queue::Inspect::stats(&shards.second, hookwire_model::Shard(0)).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
    // A fair share would be half of four attempts each three seconds.
    assert_eq!(taken.delivered, 8, "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_until_idle_waits_for_room_that_another_lane_keeps() {
    let mut shards = Shards::new();
    shards.world.webhooks = vec![webhook("a", "/a")];
    shards.world.webhooks[0].concurrency = NonZeroU32::MIN;
    shards.world.script.always("/a", Act::AnswerAfter(Duration::from_secs(1), 200));
    shards.world.publish(3).await;
    shards.publish_to_second(3).await;
    let running = shards.world.start_counting(shards.store(), CancellationToken::new(), Metrics::default());
    assert_eq!(running.await.unwrap().unwrap(), Summary { waits_for_later: false });
    assert_eq!(shards.seen("/a").len(), 6);
}

/// One endpoint is full, as that of a slow receiver is, and another takes much: a lane with nothing to do may look for room
/// now and then, and not at the end of every attempt.
#[tokio::test(start_paused = true)]
async fn a_lane_without_work_is_left_alone() {
    let mut shards = Shards::new();
    shards.world.settings.until_idle = false;
    shards.world.webhooks = vec![webhook("slow", "/slow"), webhook("quick", "/quick")];
    shards.world.webhooks[0].concurrency = NonZeroU32::MIN;
    shards.world.script.always("/slow", Act::AnswerAfter(Duration::from_secs(60), 200));
    let store = shards.store();
    let looks = store.looks();
    let shutdown = CancellationToken::new();
    let running = shards.world.start(store, shutdown.clone());
    // So that it has something to look for room for.
    shards.world.publish(1).await;
    shards.publish_to_second(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = looks.load(Ordering::Relaxed);
    for number in 0..1_000 {
        publish(&shards.world.queue, &[event(&format!("quick-{number}"))]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let looks = looks.load(Ordering::Relaxed) - before;
    assert_eq!(shards.seen("/quick").len(), 1_002);
    // Two seconds, and at most one in twenty milliseconds.
    assert!((1..=110).contains(&looks), "{looks}");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
