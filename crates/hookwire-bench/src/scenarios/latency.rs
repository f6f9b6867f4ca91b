//! Latency: two hundred events a second, from publishing to arrival, beside the sum of one POST and the round trips to
//! the store that are on the way, each measured alone in the same run: one right after the other, and two hundred a
//! second, too, because a processor that has had nothing to do for five milliseconds takes its time to wake up.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use hookwire_engine::{Metrics, publish};
use hookwire_model::{PreparedRequest, Shard};
use hookwire_queue::{EventFate, LeaseEvents, Queue as _, SettledEvent, Settlement, WorkerId};
use hookwire_worker::{Store, in_force, run_worker};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::load::{self, CONCURRENCY, Flavour, OBJECT_TYPE};
use crate::measure::percentile;
use crate::place::{Place, StoreKind};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::{MADE, Sink, micros};
use crate::{Bench, client, worker};

const PER_SECOND: usize = 200;
const PACE: Duration = Duration::from_millis(1000 / PER_SECOND as u64);
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(bench: Bench, report: &mut Report, kind: StoreKind) -> anyhow::Result<()> {
    let count = PER_SECOND * bench.size(4, 20);
    let runtime = worker::runtime(None)?;
    let (mut alone, mut half, mut nearly_all) = (Vec::new(), Vec::new(), Vec::new());
    let mut alone_at_pace = Vec::new();
    let mut faults = Faults::default();
    for _ in 0..bench.rounds() {
        let mut sink = Sink::start()?;
        let port = sink.port();
        let mut webhook = load::sink(port, Flavour::Jinja);
        webhook["additional_headers"] = json!(format!("{MADE}: {{{{ data.made }}}}"));
        let setup = Setup::one(webhook, load::rule("active devices", OBJECT_TYPE, &["sink"])).set(
            "worker",
            "concurrency",
            CONCURRENCY,
        );
        let place = Place::new(kind)?;
        let config = setup.load(place.folder(), &place.url())?;
        let settings = config.settings;
        let sample = client::prepare(&config.definitions, load::event(0, OBJECT_TYPE, micros())?, 0)?;
        let (at_once, at_pace) = runtime.block_on(async {
            let store = worker::open(&settings).await?;
            let mut connection = client::connect(port).await?;
            let mut made = 0;
            let mut sum = async |pace: Duration| {
                let trips = store_trips(&store, made, pace).await?;
                made += PER_SECOND;
                anyhow::Ok((trips + one_post(&mut connection, &sample, pace).await?) as f64)
            };
            let sums = (sum(Duration::ZERO).await?, sum(PACE).await?);
            store.close().await;
            anyhow::Ok(sums)
        })?;
        alone.push(at_once);
        alone_at_pace.push(at_pace);
        // What was sent to measure one request is not the worker's.
        sink.take()?;
        let seen = runtime.block_on(async {
            let store = worker::open(&settings).await?;
            let in_force = in_force(config.definitions).map_err(worker::failed)?;
            let shutdown = CancellationToken::new();
            let (worker_store, worker_shutdown) = (store.clone(), shutdown.clone());
            let worker = tokio::spawn(async move {
                run_worker(&settings, in_force, worker_store, Metrics::default(), false, worker_shutdown)
                    .await
            });
            let mut ticks = tokio::time::interval(PACE);
            // Numbers that the store has not seen while it was measured alone.
            for number in 0..count {
                ticks.tick().await;
                publish(&store, &[load::event(1_000_000 + number, OBJECT_TYPE, micros())?]).await?;
            }
            let began = Instant::now();
            while sink.look()?.distinct < count as u64 && began.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            shutdown.cancel();
            worker.await??;
            store.close().await;
            sink.take()
        })?;
        faults.count(count, seen.requests, seen.distinct);
        half.push(seen.p50 as f64);
        nearly_all.push(seen.p99 as f64);
    }
    for (compares, baseline, value, target) in [
        ("p50 us to one POST and the store's round trips", &alone, &half, 1.5),
        ("p99 us to one POST and the store's round trips", &alone, &nearly_all, 10.0),
        ("p50 us to the same at the same pace", &alone_at_pace, &half, 1.5),
    ] {
        let target = Target::AtMost(target);
        report.add(Finding { compares, baseline, value, target, faults, note: "" });
    }
    Ok(())
}

/// What one request takes, in microseconds, the median of some that begin so long after each other.
async fn one_post(
    connection: &mut SendRequest<Full<Bytes>>,
    sample: &PreparedRequest,
    pace: Duration,
) -> anyhow::Result<u64> {
    let mut posts = Vec::with_capacity(PER_SECOND);
    for _ in 0..PER_SECOND {
        tokio::time::sleep(pace).await;
        let began = Instant::now();
        client::send(connection, client::request(sample)?).await?;
        posts.push(began.elapsed().as_micros() as u64);
    }
    Ok(percentile(&mut posts, 0.5))
}

/// The same for publishing one event, being told of it and leasing it, together. The events have numbers from `first` on.
async fn store_trips(store: &Store, first: usize, pace: Duration) -> anyhow::Result<u64> {
    let mut trips = Vec::with_capacity(PER_SECOND);
    for number in first..first + PER_SECOND {
        tokio::time::sleep(pace).await;
        let event = load::event(number, OBJECT_TYPE, 0)?;
        let request = LeaseEvents {
            worker: WorkerId::new("alone"),
            lease: Duration::from_secs(15),
            max: 100,
            suspects_max: 1,
        };
        let began = Instant::now();
        // As a worker learns of it: by a call that waits.
        let told = store.wait(Shard(0), Duration::from_secs(1));
        let event = [event];
        tokio::try_join!(told, async { publish(store, &event).await.map(drop) })?;
        let leased = store.lease_events(Shard(0), request).await?;
        trips.push(began.elapsed().as_micros() as u64);
        ensure!(leased.len() == 1, "an event was published, and {} were leased", leased.len());
        let events = leased.into_iter().map(|event| {
            let fate = EventFate::FannedOut { event: "".into(), object_type: "".into(), deliveries: vec![] };
            SettledEvent { lease: event.lease, fate }
        });
        let settlement = Settlement { events: events.collect(), deliveries: vec![] };
        store.settle(Shard(0), &settlement).await?;
    }
    Ok(percentile(&mut trips, 0.5))
}
