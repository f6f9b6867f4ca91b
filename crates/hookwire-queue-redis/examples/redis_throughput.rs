//! Measures the store on a Redis server of its own: events in, events leased and settled as delivered, deliveries out of
//! a backlog, beside raw pipelined `XADD` to the same server in the same run.
//!
//! `cargo run --release -p hookwire-queue-redis --example redis_throughput -- [EVENTS] [BATCH] [no|everysec|always] [SHARDS]`

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
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

/// The size of a typical event, and of the request made of it.
const PAYLOAD_BYTES: usize = 1011;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let events: usize = args.next().map_or(Ok(100_000), |text| text.parse())?;
    let batch: usize = args.next().map_or(Ok(100), |text| text.parse())?;
    let fsync = args.next().unwrap_or_else(|| "everysec".to_owned());
    let appendonly = if fsync == "no" { "no" } else { "yes" };
    let server = RedisServer::start_with(&[
        "--save",
        "",
        "--appendonly",
        appendonly,
        "--appendfsync",
        &fsync,
        "--auto-aof-rewrite-percentage",
        "0",
    ]);
    let url = RedisUrl::parse(&server.url())?;
    // What a server with 2 GiB would get.
    let limits = StoreLimits { history_bytes_max: 128 << 20, ..StoreLimits::default() };
    let open = async |prefix: &str| {
        let options =
            RedisOptions { prefix: prefix.to_owned(), limits: limits.clone(), ..RedisOptions::default() };
        RedisQueue::open(&url, options).await
    };

    println!("{events} events in batches of {batch}, append-only file: {fsync}");
    let raw = measure(&server, events, async || raw_xadd(&server, events, batch)).await?;
    println!("raw XADD, pipelined  {raw}");
    server.command(&["FLUSHALL"]);
    let empty = memory(&server);
    let queue = open("hw").await?;
    let published = measure(&server, events, async || publish(&queue, events, batch).await).await?;
    println!("publish              {published}, {:.2} of raw", published.rate / raw.rate);
    println!("memory per event     {} B of {PAYLOAD_BYTES} B", (memory(&server) - empty) / events as u64);
    let out = measure(&server, events, async || drain(&queue, events, batch, Fate::Delivered).await).await?;
    println!("lease and settle     {out}");
    let both = async || {
        // In steady state: what comes in goes out at once.
        for part in 1..=events.div_ceil(batch) {
            publish_batch(&queue, events + part * batch, batch).await?;
            drain(&queue, batch, batch, Fate::Delivered).await?;
        }
        Ok(())
    };
    println!("in and out           {}", measure(&server, events, both).await?);
    let stats = queue.stats(Shard(0)).await?;
    assert_eq!(stats.events_queued + stats.events_leased + stats.waiting + stats.running, 0);

    server.command(&["FLUSHALL"]);
    let queue = open("hw").await?;
    publish(&queue, events, 100).await?;
    let waiting = || Fate::Waiting { due_in: Duration::ZERO, reason: WaitingReason::Retry };
    let stored = measure(&server, events, async || drain(&queue, events, batch, waiting()).await).await?;
    println!("store as waiting     {stored}");
    println!("memory per waiting   {} B", (memory(&server) - empty) / events as u64);
    let sent = measure(&server, events / 2, async || send_waiting(&queue, events / 2, batch).await).await?;
    println!("send from backlog    {sent}");
    Ok(())
}

fn memory(server: &RedisServer) -> u64 {
    server.info("used_memory").parse().unwrap_or(0)
}

/// So many events in so much time.
struct Rate {
    rate: f64,
    /// CPU time of this process for each event.
    client: Duration,
    /// CPU time of the server for each event.
    server: Duration,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = |cpu: Duration| cpu.as_nanos() as f64 / 1000.0;
        let Rate { rate, client, server } = self;
        write!(
            f,
            "{rate:>8.0}/s, CPU µs each: client {:>5.1}, server {:>5.1}",
            micros(*client),
            micros(*server)
        )
    }
}

async fn measure(
    server: &RedisServer,
    events: usize,
    work: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<Rate, Failure> {
    let server_cpu = || -> Duration {
        let seconds = |name: &str| server.info(name).parse::<f64>().unwrap_or(0.0);
        Duration::from_secs_f64(seconds("used_cpu_user") + seconds("used_cpu_sys"))
    };
    let (begin, client_begin, server_begin) = (Instant::now(), cpu_time(), server_cpu());
    work().await?;
    let elapsed = begin.elapsed();
    let count = u32::try_from(events)?;
    Ok(Rate {
        rate: events as f64 / elapsed.as_secs_f64(),
        client: (cpu_time() - client_begin) / count,
        server: (server_cpu() - server_begin) / count,
    })
}

/// The CPU time of this process, to a hundredth of a second: of what Linux tells in `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

fn raw_xadd(server: &RedisServer, events: usize, batch: usize) -> Result<(), Failure> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(server.socket())?;
    let payload = "x".repeat(PAYLOAD_BYTES);
    let command =
        format!("*5\r\n$4\r\nXADD\r\n$3\r\nraw\r\n$1\r\n*\r\n$1\r\ne\r\n${PAYLOAD_BYTES}\r\n{payload}\r\n");
    let pipeline = command.repeat(batch);
    let mut answers = vec![0; 64 * 1024];
    for _ in 0..events.div_ceil(batch) {
        stream.write_all(pipeline.as_bytes())?;
        let mut lines = 0;
        while lines < 2 * batch {
            let read = stream.read(&mut answers)?;
            lines += answers[..read].iter().filter(|byte| **byte == b'\n').count();
        }
    }
    Ok(())
}

async fn publish(queue: &RedisQueue, events: usize, batch: usize) -> Result<(), Failure> {
    for part in 0..events.div_ceil(batch) {
        publish_batch(queue, part * batch, batch).await?;
    }
    Ok(())
}

async fn publish_batch(queue: &RedisQueue, begin: usize, batch: usize) -> Result<(), Failure> {
    let payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let event = |number: usize| -> Result<NewEvent, Failure> {
        Ok(NewEvent { id: EventId::new(&format!("evt-{number:012}"))?, payload: payload.clone() })
    };
    let events = (begin..begin + batch).map(event).collect::<Result<_, _>>()?;
    queue.publish(Shard(0), events).await?;
    Ok(())
}

/// Leases and settles so many events, each with one delivery that met this fate; the next batch is leased while the
/// last one is settled, as a worker does.
async fn drain(queue: &RedisQueue, events: usize, batch: usize, fate: Fate) -> Result<(), Failure> {
    let request = || LeaseEvents {
        worker: WorkerId::new("w"),
        lease: Duration::from_secs(15),
        max: batch,
        suspects_max: 0,
    };
    let (rule, webhook) = (RuleName::new("rule")?, WebhookName::new("webhook")?);
    let mut done = 0;
    let mut leased = queue.lease_events(Shard(0), request()).await?;
    while done < events && !leased.is_empty() {
        done += leased.len();
        let settlement = Settlement {
            events: leased
                .into_iter()
                .map(|event| {
                    let delivery = NewDelivery {
                        id: DeliveryId::derive(Shard(0), event.sequence, &event.id, &rule, &webhook),
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
            tokio::join!(queue.settle(Shard(0), &settlement), queue.lease_events(Shard(0), request()));
        assert!(settled?.lost.is_empty());
        leased = next?;
    }
    Ok(())
}

/// Leases and settles so many waiting deliveries.
async fn send_waiting(queue: &RedisQueue, events: usize, batch: usize) -> Result<(), Failure> {
    let mut done = 0;
    while done < events {
        let rooms = Rooms { default: 32, exceptions: vec![] };
        let request =
            LeaseDeliveries { worker: WorkerId::new("w"), lease: Duration::from_secs(15), max: batch, rooms };
        let leased = queue.lease_deliveries(Shard(0), request).await?.deliveries;
        done += leased.len();
        let settled = leased.into_iter().map(|delivery| SettledDelivery {
            lease: delivery.lease,
            endpoint: None,
            attempts: vec![PackedAttempt::from(&Attempt { number: delivery.attempts + 1, ..attempt() })],
            fate: Fate::Delivered,
        });
        let settlement = Settlement { events: vec![], deliveries: settled.collect() };
        queue.settle(Shard(0), &settlement).await?;
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
