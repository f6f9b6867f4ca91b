//! The scenarios, each run in turn with its baselines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};

use bytes::Bytes;
use hookwire_definitions::Definitions;
use hookwire_dispatch::{DispatchSettings, HttpDispatcher};
use hookwire_engine::{
    Chance, Clock as _, Engine, EngineSettings, InForce, Metrics, Snapshot, SystemClock, publish,
    run as run_engine,
};
use hookwire_model::{DeliveryId, Event, PreparedRequest, Sequence, Shard, Timestamp};
use hookwire_queue::{StoreLimits, WorkerId};
use hookwire_queue_embedded::EmbeddedQueue;
use http_body_util::Full;
use hyper::Request;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::client::send_all;
use crate::load::{self, CONCURRENCY};
use crate::report::{Report, Row, median};
use crate::sink::Sink;

const NAMES: [&str; 1] = ["throughput-embedded-jinja"];

/// Which scenarios to run.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(NAMES.to_vec());
    }
    let find = |name: &String| NAMES.iter().copied().find(|known| known == name);
    names
        .iter()
        .map(|name| {
            find(name).ok_or_else(|| anyhow!("there is no scenario {name}; there is {}", NAMES.join(", ")))
        })
        .collect()
}

/// Runs a scenario and its baselines in turn, and adds their ratios to the report.
pub(crate) fn run(name: &str, events: usize, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    match name {
        "throughput-embedded-jinja" => throughput_embedded_jinja(name, events, rounds, report),
        _ => bail!("there is no scenario {name}"),
    }
}

/// The whole path on the embedded store, fsync at every group commit, beside a client that only sends ready requests,
/// and one that parses, matches, renders and signs the same events from memory.
fn throughput_embedded_jinja(
    name: &str,
    count: usize,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut sink = Sink::start()?;
    let port = sink.port;
    let events = load::events(count)?;
    let payloads: Arc<Vec<String>> = Arc::new(events.iter().map(Event::to_payload).collect());
    let (mut bare, mut working, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut duplicates) = (0, 0);
    for round in 0..=rounds {
        let took = [
            bare_client(&runtime, port, &events)?,
            working_client(&runtime, port, Arc::clone(&payloads))?,
            whole_path(&runtime, port, &events, &mut sink)?,
        ];
        let seen = sink.take()?;
        lost += count as u64 - seen.distinct.min(count as u64);
        duplicates += seen.requests - seen.distinct;
        // The first round warms caches, connections and the file system up.
        if round > 0 {
            for (list, took) in [&mut bare, &mut working, &mut whole].into_iter().zip(took) {
                list.push(count as f64 / took.as_secs_f64());
            }
        }
    }
    for (baseline, rates, target) in [("bare client", &bare, 0.37), ("working client", &working, 0.85)] {
        let ratios: Vec<f64> = whole.iter().zip(rates).map(|(value, baseline)| value / baseline).collect();
        let ratio = median(&ratios);
        let smallest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        report.add(Row {
            name: format!("{name} / {baseline}"),
            baseline: median(rates),
            value: median(&whole),
            ratio,
            spread: (smallest, largest),
            target,
            holds: ratio >= target && lost == 0 && duplicates == 0,
            lost,
            duplicates,
        });
    }
    Ok(())
}

/// Ready requests of the same size, with the same headers.
fn bare_client(runtime: &Runtime, port: u16, events: &[Event]) -> anyhow::Result<Duration> {
    let definitions = load::definitions(port)?;
    let sample = prepare(&definitions, events[0].clone(), 0)?;
    let began = Instant::now();
    runtime.block_on(send_all(port, events.len(), move |_| request(&sample)))?;
    Ok(began.elapsed())
}

/// The same work from memory: parse, match, render, sign, send; nothing leased, nothing recorded.
fn working_client(runtime: &Runtime, port: u16, payloads: Arc<Vec<String>>) -> anyhow::Result<Duration> {
    let definitions = load::definitions(port)?;
    let count = payloads.len();
    let began = Instant::now();
    runtime.block_on(send_all(port, count, move |number| {
        let event = Event::from_payload(payloads[number].as_bytes()).map_err(|error| anyhow!("{error}"))?;
        request(&prepare(&definitions, event, number as u64)?)
    }))?;
    Ok(began.elapsed())
}

/// Lease, match, render, sign, send, record, settle; published beforehand.
fn whole_path(runtime: &Runtime, port: u16, events: &[Event], sink: &mut Sink) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let snapshot = Snapshot::new(load::definitions(port)?).map_err(|errors| anyhow!("{errors:?}"))?;
    runtime.block_on(async {
        let store = EmbeddedQueue::open(folder.path(), StoreLimits::default(), Duration::ZERO).await?;
        for batch in events.chunks(1000) {
            publish(&store, batch).await?;
        }
        // What the clients sent is not the worker's.
        sink.take()?;
        let engine = Engine {
            queue: Arc::new(store.clone()),
            dispatcher: Arc::new(HttpDispatcher::new(DispatchSettings::default())),
            clock: SystemClock,
            chance: Chance::seeded(1),
            in_force: InForce::new(snapshot, SystemClock.now()),
            metrics: Metrics::default(),
            settings: EngineSettings {
                worker: WorkerId::new("bench"),
                concurrency: CONCURRENCY as usize,
                lease: Duration::from_secs(15),
                grace: Duration::from_secs(11),
                until_idle: true,
                keep_bodies: false,
            },
        };
        let began = Instant::now();
        let summary = run_engine(engine, CancellationToken::new()).await?;
        let took = began.elapsed();
        ensure!(!summary.waits_for_later, "some deliveries failed");
        store.close().await;
        Ok(took)
    })
}

fn prepare(definitions: &Definitions, event: Event, number: u64) -> anyhow::Result<PreparedRequest> {
    let route = load::route(definitions, event)?;
    let event = route.context.event().id.clone();
    let id =
        DeliveryId::derive(Shard(0), Sequence(number), &event, &route.rule, &route.webhook.webhook().name);
    Ok(route.webhook.prepare(&route.context, id, 1, Timestamp::from_secs(1_700_000_000))?)
}

fn request(prepared: &PreparedRequest) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut builder = Request::post(&prepared.target).header("host", "127.0.0.1");
    for (name, value) in &prepared.headers {
        builder = builder.header(name, value.as_ref());
    }
    Ok(builder.body(Full::new(prepared.body.clone()))?)
}
