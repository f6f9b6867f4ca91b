//! Publishing: batches of a hundred events, one after the other, with de-duplication, beside the same bytes written
//! without any of what makes them a queue: XADD in a pipeline, or an insert of the payload in one transaction a batch.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hookwire_model::{Event, Shard};
use hookwire_queue::Inspect as _;
use http_body_util::Full;
use hyper::Request;
use tokio::runtime::Runtime;

use crate::load::{self, Flavour, OBJECT_TYPE};
use crate::measure::{Took, Watch};
use crate::place::{Place, StoreKind};
use crate::process::Process;
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::{Bench, client, worker};

const BATCH: usize = 100;

/// How events get into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the library, as a worker's producer beside it does.
    Library(StoreKind),
    /// As lines of JSON to a server with the embedded store.
    Http,
}

pub(crate) fn run(bench: Bench, report: &mut Report, way: Way, target: f64) -> anyhow::Result<()> {
    let count = bench.deliveries(20_000, 100_000);
    let runtime = worker::runtime(None)?;
    let events = load::events(count)?;
    let payloads: Vec<String> = events.iter().map(Event::to_payload).collect();
    // Nothing is sent: the worker is not running, or its only webhook gets nothing of this.
    let setup =
        Setup::one(load::sink(9, Flavour::Default), load::rule("another type", "bench.other", &["sink"]))
            .set("server", "listen", "127.0.0.1:0");
    let (mut raw, mut published) = (Vec::new(), Vec::new());
    let mut faults = Faults::default();
    for round in 0..=bench.rounds() {
        let kind = match way {
            Way::Library(kind) => kind,
            Way::Http => StoreKind::Embedded,
        };
        let by_raw = {
            let place = Place::new(kind)?;
            match kind {
                StoreKind::Embedded => insert(&place, &payloads)?,
                StoreKind::Redis => xadd(&place, &payloads)?,
            }
        };
        let place = Place::new(kind)?;
        let took = match way {
            Way::Library(_) => by_library(&runtime, &place, &setup, &events)?,
            Way::Http => by_http(&runtime, &place, &setup, count)?,
        };
        let config = setup.load(place.folder(), &place.url())?;
        let stored = runtime.block_on(async {
            let store = worker::open(&config.settings).await?;
            let stats = store.stats(Shard(0)).await?;
            store.close().await;
            anyhow::Ok(stats.dedup_ids)
        })?;
        faults.count(count, stored, stored.min(count as u64));
        // The first round warms up.
        if round > 0 {
            raw.push(by_raw.rate(count));
            published.push(took.rate(count));
        }
    }
    let compares = match way {
        Way::Library(StoreKind::Redis) => "events/s to those of XADD alone",
        Way::Library(StoreKind::Embedded) | Way::Http => "events/s to those of inserts alone",
    };
    let target = Target::AtLeast(target);
    report.add(Finding { compares, baseline: &raw, value: &published, target, faults, note: "" });
    Ok(())
}

/// One transaction a batch, as durable as the store's.
fn insert(place: &Place, payloads: &[String]) -> anyhow::Result<Took> {
    let mut conn = rusqlite::Connection::open(place.folder().join("raw.db"))?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.execute_batch("CREATE TABLE events (seq INTEGER PRIMARY KEY, payload BLOB) STRICT")?;
    let watch = Watch::start();
    for batch in payloads.chunks(BATCH) {
        let transaction = conn.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO events (payload) VALUES (?1)")?;
        for payload in batch {
            insert.execute([payload.as_bytes()])?;
        }
        drop(insert);
        transaction.commit()?;
    }
    Ok(watch.stop())
}

/// One pipeline a batch.
fn xadd(place: &Place, payloads: &[String]) -> anyhow::Result<Took> {
    let mut connection = redis::Client::open(place.url())?.get_connection().context("no Redis server")?;
    let watch = Watch::start();
    for batch in payloads.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for payload in batch {
            pipeline.cmd("XADD").arg("raw").arg("*").arg("e").arg(payload).ignore();
        }
        pipeline.exec(&mut connection)?;
    }
    Ok(watch.stop())
}

fn by_library(runtime: &Runtime, place: &Place, setup: &Setup, events: &[Event]) -> anyhow::Result<Took> {
    let config = setup.load(place.folder(), &place.url())?;
    runtime.block_on(async {
        let store = worker::open(&config.settings).await?;
        let watch = Watch::start();
        worker::publish_all(&store, events, BATCH).await?;
        let took = watch.stop();
        store.close().await;
        Ok(took)
    })
}

fn by_http(runtime: &Runtime, place: &Place, setup: &Setup, count: usize) -> anyhow::Result<Took> {
    let lines: Vec<String> =
        (0..count).map(|number| load::event_text(number, OBJECT_TYPE, 0) + "\n").collect();
    let bodies: Vec<Bytes> = lines.chunks(BATCH).map(|batch| Bytes::from(batch.concat())).collect();
    let process = Process::start(StoreKind::Embedded, place, &setup.write(place.folder(), &place.url())?)?;
    ensure!(process.port() > 0, "the server listens nowhere");
    let took = runtime.block_on(async {
        let mut connection = client::connect(process.port()).await?;
        let watch = Watch::start();
        for body in bodies {
            let request = Request::post("/v1/events")
                .header("host", "127.0.0.1")
                .header("content-type", "application/x-ndjson")
                .body(Full::new(body))?;
            client::send(&mut connection, request).await?;
        }
        anyhow::Ok(watch.stop())
    })?;
    process.kill()?;
    Ok(took)
}
