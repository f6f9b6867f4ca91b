//! What the fault tests on Redis share: load that goes on while things fail, and the books that are kept of it.
//!
//! Invariants:
//! - What counts is what a publisher was told and what an endpoint received; the store is only asked whether all is over.
//! - Chance comes from a seed, which a failing test prints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookwire_model::{Event, EventDefaults, EventId, Shard, Timestamp};
use hookwire_queue::{Inspect as _, Queue as _, Stats, StoreLimits};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::{RedisServer, ScriptedEndpoint, eventually};
use hyper::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::redis::arrivals;
use crate::support::{Folder, exchange};

/// Events of one request of a load.
const BATCH: usize = 10;
/// How often a load sends a request, or repeats one that was refused: a thousand events a second, of which a debug
/// build on a busy machine delivers most at once.
const PACE: Duration = Duration::from_millis(10);
/// What the record, remembered ids and remembered replies may leave behind for each event, once everything is over and
/// let go: of an event that was a suspect, some 170 bytes, since its reply is remembered for a while.
const LEFT_PER_EVENT_MAX: u64 = 250;
/// What an empty store takes besides.
const LEFT_MAX: u64 = 64 * 1024;

/// Chance that can be had again (xorshift).
pub(crate) struct Seeded(u64);

impl Seeded {
    /// Another seed each time; it is shown where the test fails.
    pub(crate) fn new() -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = clock.as_micros() as u64 | 1;
        eprintln!("seed {seed}");
        Seeded(seed)
    }

    /// A number from 1 to `max`.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % max as u64).unwrap() + 1
    }
}

/// A configuration on a store: one webhook for everything, a short lease, few places.
pub(crate) fn folder(store: &str, settings: &str, endpoint: &ScriptedEndpoint) -> Folder {
    let folder = Folder::new();
    let url = endpoint.url("/hook");
    folder.write(
        "hookwire.toml",
        &format!(
            r#"
            [store]
            url = "{store}"
            {settings}
            [server]
            listen = "127.0.0.1:0"
            [worker]
            lease = "1s"
            concurrency = 20
            [[webhooks]]
            name = "target"
            url = "{url}"
            [[event_rules]]
            name = "all"
            object_types = ["*"]
            event_types = ["*"]
            webhooks = ["target"]
            "#
        ),
    );
    folder
}

/// An event of an object of its own.
pub(crate) fn event(number: u64) -> String {
    json!({"event": "created", "object_type": "dcim.site", "id": format!("e{number}"), "data": {"id": number}})
        .to_string()
}

/// The shard of such an event.
pub(crate) fn shard(number: u64, shards: u16) -> Shard {
    let mut new_id = || EventId::new("unused").unwrap();
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    Event::parse(&event(number), &mut defaults).unwrap().shard(shards)
}

/// Events that are published over HTTP, batch after batch, until it is stopped. What is refused is sent again.
pub(crate) struct Load {
    seen: Arc<Seen>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// What was accepted, with when the request began.
    accepted: Mutex<Vec<(Instant, u64)>>,
    refused: AtomicUsize,
}

impl Load {
    /// Publishes the events of these numbers in their order.
    pub(crate) fn start(address: SocketAddr, numbers: impl Iterator<Item = u64> + Send + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(publish(address, numbers, Arc::clone(&seen), stop.subscribe()));
        Load { seen, stop, tasks }
    }

    /// What was accepted so far.
    pub(crate) fn accepted(&self) -> BTreeSet<u64> {
        self.seen.accepted.lock().unwrap().iter().map(|(_, number)| *number).collect()
    }

    /// How many requests were refused so far.
    pub(crate) fn refused(&self) -> usize {
        self.seen.refused.load(Ordering::SeqCst)
    }

    /// Waits until so many events more were accepted.
    pub(crate) async fn accepts(&self, count: usize) {
        let wanted = self.accepted().len() + count;
        eventually("the acceptance of more events", async || (self.accepted().len() >= wanted).then_some(()))
            .await;
    }

    /// Ends it, after what it is about was accepted.
    pub(crate) async fn stop(mut self) -> Accepted {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(hookwire_testkit::PATIENCE, self.tasks.join_next()).await;
        ended.expect("the last batch is accepted in the end").unwrap().unwrap();
        Accepted(std::mem::take(&mut *self.seen.accepted.lock().unwrap()))
    }
}

/// What a load was told is accepted.
pub(crate) struct Accepted(Vec<(Instant, u64)>);

impl Accepted {
    /// All of it.
    pub(crate) fn all(&self) -> BTreeSet<u64> {
        self.0.iter().map(|(_, number)| *number).collect()
    }

    /// What was sent after a time.
    pub(crate) fn since(&self, since: Instant) -> BTreeSet<u64> {
        self.0.iter().filter(|(begun, _)| *begun > since).map(|(_, number)| *number).collect()
    }
}

async fn publish(
    address: SocketAddr,
    mut numbers: impl Iterator<Item = u64>,
    seen: Arc<Seen>,
    stop: watch::Receiver<bool>,
) {
    let mut pace = tokio::time::interval(PACE);
    while !*stop.borrow() {
        let batch: Vec<u64> = numbers.by_ref().take(BATCH).collect();
        let body = batch.iter().map(|number| event(*number) + "\n").collect::<String>();
        loop {
            pace.tick().await;
            let begun = Instant::now();
            let answer = exchange(address, Method::POST, "/v1/events", &body, &[]).await.unwrap();
            if answer.status() == 202 {
                let mut accepted = seen.accepted.lock().unwrap();
                accepted.extend(batch.iter().map(|number| (begun, *number)));
                break;
            }
            let text = String::from_utf8_lossy(answer.body());
            assert_eq!(answer.status(), 503, "{text}");
            assert!(answer.headers().contains_key("retry-after"), "{text}");
            seen.refused.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Looks into the store, with nothing of the programs in between.
pub(crate) struct Books {
    queue: RedisQueue,
    url: RedisUrl,
    /// What was in flight or not on record when something was done to the programs or the store.
    open: usize,
}

impl Books {
    pub(crate) async fn open(url: &str, shards: u16) -> Self {
        let url = RedisUrl::parse(url).unwrap();
        let queue = RedisQueue::open(&url, RedisOptions { shards, ..RedisOptions::default() }).await.unwrap();
        Books { queue, url, open: 0 }
    }

    async fn stats(&self) -> Vec<Stats> {
        let mut all = Vec::new();
        for shard in 0..self.queue.shards() {
            all.push(self.queue.stats(Shard(shard)).await.unwrap());
        }
        all
    }

    /// How many deliveries are on record as delivered.
    pub(crate) async fn on_record(&self) -> usize {
        self.stats().await.iter().map(|stats| usize::try_from(stats.delivered).unwrap()).sum()
    }

    /// Something was just done: what had arrived by now, and was not on record before, may come once more.
    pub(crate) fn may_repeat(&mut self, endpoint: &ScriptedEndpoint, on_record_before: usize) {
        self.open += arrivals(&endpoint.received()).len().saturating_sub(on_record_before);
    }

    /// The same, counted by the test.
    pub(crate) fn may_repeat_in_all(&mut self, open: usize) {
        self.open += open;
    }

    /// Waits until nothing is queued, leased, waits or runs; nothing has become a dead letter.
    pub(crate) async fn all_is_over(&self) {
        let is_over = |stats: &Stats| {
            let open = stats.events_queued + stats.events_leased + stats.waiting + stats.running;
            open == 0 && stats.pending_bytes == 0
        };
        let over = tokio::time::timeout(hookwire_testkit::PATIENCE, async {
            while !self.stats().await.iter().all(is_over) {
                tokio::time::sleep(PACE).await;
            }
        });
        assert!(over.await.is_ok(), "work is stuck: {:?}", self.stats().await);
        assert!(self.stats().await.iter().all(|stats| stats.dead == 0), "{:?}", self.stats().await);
    }

    /// Each of these events arrived, under one delivery id, and no more often than it may have; tells how many repeats
    /// there were.
    pub(crate) fn assert_arrived(&self, endpoint: &ScriptedEndpoint, expected: &BTreeSet<u64>) -> usize {
        let arrivals = arrivals(&endpoint.received());
        let missing: Vec<_> = expected.iter().filter(|number| !arrivals.contains_key(number)).collect();
        assert!(missing.is_empty(), "{} accepted events never arrived: {missing:?}", missing.len());
        let repeats = assert_one_id_each(&arrivals);
        let open = self.open;
        assert!(repeats <= open, "{repeats} were repeated, of {open} that were in flight or not yet settled");
        repeats
    }

    /// What is over leaves next to nothing in the servers, once the record is let go.
    pub(crate) async fn assert_memory_is_back(&self, servers: &[RedisServer], events: usize) {
        let limits = StoreLimits {
            dedup_window: Duration::ZERO,
            history_age_max: Duration::ZERO,
            history_bytes_max: 0,
            ..StoreLimits::default()
        };
        let options = RedisOptions { limits, shards: self.queue.shards(), ..RedisOptions::default() };
        let queue = RedisQueue::open(&self.url, options).await.unwrap();
        queue.tidy().await.unwrap();
        let mut sizes = BTreeMap::new();
        for server in servers {
            for key in server.command(&["KEYS", "*"]).lines() {
                let size = server.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"]);
                sizes.insert(key.to_owned(), size.trim().parse::<u64>().unwrap());
            }
        }
        let left: u64 = sizes.values().sum();
        let most = LEFT_MAX + LEFT_PER_EVENT_MAX * events as u64;
        assert!(left <= most, "{left} bytes are left of {events} events, and {most} would do: {sizes:#?}");
        eprintln!("{left} bytes are left of {events} events");
    }
}

/// Nothing came under two delivery ids; tells how many came more than once, counted each time.
fn assert_one_id_each(arrivals: &BTreeMap<u64, Vec<String>>) -> usize {
    for (object, ids) in arrivals {
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 1, "object {object} came under {ids:?}");
    }
    arrivals.values().map(|ids| ids.len() - 1).sum()
}

/// How often a log says something.
pub(crate) fn said(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}
