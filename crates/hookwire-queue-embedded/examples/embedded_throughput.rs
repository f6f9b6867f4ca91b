//! Measures the store: events in, events leased and settled as delivered, beside raw batched inserts into a bare table
//! on the same disk in the same run.
//!
//! `cargo run --release -p hookwire-queue-embedded --example embedded_throughput -- [EVENTS] [BATCH] [FOLDER]`

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookwire_model::{
    Attempt, DeliveryId, EndpointId, EventId, OutcomeKind, RequestRecord, RuleName, Shard, Timestamp,
    Timings, WaitingReason, WebhookName,
};
use hookwire_queue::{
    EventFate, Fate, Inspect as _, LeaseDeliveries, LeaseEvents, NewDelivery, NewEvent, PackedAttempt,
    Queue as _, Rooms, SettledDelivery, SettledEvent, Settlement, StoreLimits, WorkerId,
};
use hookwire_queue_embedded::EmbeddedQueue;

const SHARD: Shard = Shard(0);
/// The size of a typical event, and of the request made of it.
const PAYLOAD_BYTES: usize = 1011;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let events: usize = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let batch: usize = args.next().map_or(Ok(100), |text| text.parse())?;
    let folder = args.next().map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(folder)?;

    let raw = measure(events, async || raw_inserts(folder.path(), events, batch)).await?;
    println!("raw inserts          {raw}");
    let queue =
        EmbeddedQueue::open(&folder.path().join("store"), StoreLimits::default(), Duration::from_secs(1))
            .await?;
    let published = measure(events, async || publish(&queue, events, batch).await).await?;
    println!("publish              {published}, {:.2} of raw", published.rate / raw.rate);
    let out = measure(events, async || drain(&queue, events, batch, Fate::Delivered).await).await?;
    println!("lease and settle     {out}");
    let both = measure(events, async || {
        // In steady state: what comes in goes out at once.
        for part in 1..=events.div_ceil(batch) {
            publish_batch(&queue, events + part * batch, batch).await?;
            drain(&queue, batch, batch, Fate::Delivered).await?;
        }
        Ok(())
    });
    let both = both.await?;
    println!("in and out           {both}");
    let stats = queue.stats(SHARD).await?;
    assert_eq!(stats.events_queued + stats.events_leased + stats.waiting + stats.running, 0);
    let begin = Instant::now();
    queue.close().await;
    println!("close                {:?}", begin.elapsed());

    let queue =
        EmbeddedQueue::open(&folder.path().join("full"), StoreLimits::default(), Duration::from_secs(1))
            .await?;
    publish(&queue, events, 1000).await?;
    queue.close().await;
    let begin = Instant::now();
    let queue =
        EmbeddedQueue::open(&folder.path().join("full"), StoreLimits::default(), Duration::from_secs(1))
            .await?;
    println!("open with {events} pending: {:?}, RSS {} MiB", begin.elapsed(), rss_mib());
    let drained =
        measure(events / 10, async || drain(&queue, events / 10, batch, Fate::Delivered).await).await?;
    println!("then lease, settle   {drained}, {:.2} of without a backlog", drained.rate / out.rate);

    let waiting = || Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Retry };
    let rest = events - events / 10;
    let stored = measure(rest, async || drain(&queue, rest, batch, waiting()).await).await?;
    println!("store as waiting     {stored}");
    queue.close().await;
    let begin = Instant::now();
    let queue = open(&folder.path().join("full")).await?;
    println!("open with {rest} waiting: {:?}, RSS {} MiB", begin.elapsed(), rss_mib());
    let sent = measure(events / 10, async || send_waiting(&queue, events / 10, batch).await).await?;
    println!("send from backlog    {sent}, RSS {} MiB", rss_mib());
    queue.close().await;
    Ok(())
}

async fn open(folder: &Path) -> Result<EmbeddedQueue, Failure> {
    Ok(EmbeddedQueue::open(folder, StoreLimits::default(), Duration::from_secs(1)).await?)
}

/// Leases and settles so many waiting deliveries.
async fn send_waiting(queue: &EmbeddedQueue, events: usize, batch: usize) -> Result<(), Failure> {
    let mut done = 0;
    while done < events {
        let rooms = Rooms { default: 32, exceptions: vec![] };
        let request =
            LeaseDeliveries { worker: WorkerId::new("w"), lease: Duration::from_secs(15), max: batch, rooms };
        let leased = queue.lease_deliveries(SHARD, request).await?.deliveries;
        done += leased.len();
        let settled = leased.into_iter().map(|delivery| SettledDelivery {
            lease: delivery.lease,
            endpoint: None,
            attempts: vec![PackedAttempt::from(&Attempt { number: delivery.attempts + 1, ..attempt() })],
            fate: Fate::Delivered,
        });
        let settlement = Settlement { events: vec![], deliveries: settled.collect() };
        queue.settle(SHARD, &settlement).await?;
    }
    Ok(())
}

/// So many events in so much time.
struct Rate {
    rate: f64,
    /// CPU time of the whole process for each event.
    cpu: Duration,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8.0}/s, {:>5.1} µs CPU each", self.rate, self.cpu.as_nanos() as f64 / 1000.0)
    }
}

async fn measure(events: usize, work: impl AsyncFnOnce() -> Result<(), Failure>) -> Result<Rate, Failure> {
    let (begin, cpu) = (Instant::now(), cpu_time());
    work().await?;
    let cpu = (cpu_time() - cpu) / u32::try_from(events)?;
    Ok(Rate { rate: events as f64 / begin.elapsed().as_secs_f64(), cpu })
}

/// The CPU time of this process, to a hundredth of a second: of what Linux tells in `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096 / (1 << 20)
}

fn raw_inserts(folder: &Path, events: usize, batch: usize) -> Result<(), Failure> {
    let conn = rusqlite::Connection::open(folder.join("raw.db"))?;
    conn.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         CREATE TABLE raw (seq INTEGER PRIMARY KEY, id TEXT, payload BLOB)",
    )?;
    let mut insert = conn.prepare("INSERT INTO raw (id, payload) VALUES (?1, ?2)")?;
    let payload = vec![b'x'; PAYLOAD_BYTES];
    for part in 0..events.div_ceil(batch) {
        conn.execute_batch("BEGIN")?;
        for number in 0..batch {
            insert.execute((format!("evt-{:012}", part * batch + number), &payload))?;
        }
        conn.execute_batch("COMMIT")?;
    }
    Ok(())
}

async fn publish(queue: &EmbeddedQueue, events: usize, batch: usize) -> Result<(), Failure> {
    for part in 0..events.div_ceil(batch) {
        publish_batch(queue, part * batch, batch).await?;
    }
    Ok(())
}

async fn publish_batch(queue: &EmbeddedQueue, begin: usize, batch: usize) -> Result<(), Failure> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let event = |number: usize| -> Result<NewEvent, Failure> {
        Ok(NewEvent { id: EventId::new(&format!("evt-{number:012}"))?, payload: payload.clone() })
    };
    let events = (begin..begin + batch).map(event).collect::<Result<_, _>>()?;
    queue.publish(SHARD, events).await?;
    Ok(())
}

/// Leases and settles so many events, each with one delivery that met this fate; the next batch is leased while the
/// last one is settled, as a worker does.
async fn drain(queue: &EmbeddedQueue, events: usize, batch: usize, fate: Fate) -> Result<(), Failure> {
    let request = || LeaseEvents {
        worker: WorkerId::new("w"),
        lease: Duration::from_secs(15),
        max: batch,
        suspects_max: 0,
    };
    let (rule, webhook) = (RuleName::new("rule")?, WebhookName::new("webhook")?);
    let mut done = 0;
    let mut leased = queue.lease_events(SHARD, request()).await?;
    while done < events && !leased.is_empty() {
        done += leased.len();
        let settlement = Settlement {
            events: leased
                .into_iter()
                .map(|event| {
                    let delivery = NewDelivery {
                        id: DeliveryId::derive(SHARD, event.sequence, &event.id, &rule, &webhook),
                        rule: rule.clone(),
                        webhook: webhook.clone(),
                        // A hundred endpoints.
                        endpoint: Some(EndpointId::from_u64(event.sequence.0 % 100)),
                        order: None,
                        attempts: vec![PackedAttempt::from(&attempt())],
                        fate: fate.clone(),
                    };
                    let fate = EventFate::FannedOut {
                        event: "created".into(),
                        object_type: "dcim.site".into(),
                        deliveries: vec![delivery],
                    };
                    SettledEvent { lease: event.lease, fate }
                })
                .collect(),
            deliveries: vec![],
        };
        let (settled, next) =
            tokio::join!(queue.settle(SHARD, &settlement), queue.lease_events(SHARD, request()));
        assert!(settled?.lost.is_empty());
        leased = next?;
    }
    Ok(())
}

fn attempt() -> Attempt {
    let header = |name: &'static str, value: &str| (name.into(), value.to_owned());
    Attempt {
        number: 1,
        started_at: Timestamp::from_secs(1_800_000_000),
        duration: Duration::from_micros(1234),
        outcome: OutcomeKind::Succeeded,
        status: Some(200),
        error: None,
        address: Some(([127, 0, 0, 1], 9000).into()),
        hops: vec![],
        timings: Timings { head: Some(Duration::from_micros(1200)), ..Timings::default() },
        request: Some(RequestRecord {
            method: "POST".into(),
            url: "http://localhost:9000/".into(),
            headers: vec![
                header("Content-Type", "application/json"),
                header("User-Agent", "hookwire/0.1.0"),
                header("webhook-id", "dlv_000c000000016rap1d35yrqm9j"),
                header("webhook-attempt", "1"),
                header("X-Hook-Signature", "***"),
            ],
            body_bytes: 1011,
            body_sha256: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
            body_base64: None,
        }),
        response: Some(hookwire_model::ResponseRecord {
            status: 200,
            headers: vec![("content-length".to_owned(), "0".to_owned())],
            body_base64: Bytes::new(),
            truncated: false,
        }),
    }
}
