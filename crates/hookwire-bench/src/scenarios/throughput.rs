//! Throughput: the whole path (lease, match, render, sign, send, record, settle) beside a client that only sends ready
//! requests, and one that parses, matches, renders and signs the same events from memory.

use std::sync::Arc;

use hookwire_model::Event;

use crate::load::{self, CONCURRENCY, Flavour, OBJECT_TYPE};
use crate::measure::Took;
use crate::place::{Place, StoreKind};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::Sink;
use crate::{Bench, client, worker};

/// Which throughput, and what it should be.
pub(crate) struct Case {
    pub(crate) store: StoreKind,
    pub(crate) flavour: Flavour,
    /// Of the runtime; `None`: as many as the product has.
    pub(crate) threads: Option<usize>,
    /// At least so much of a bare client's.
    pub(crate) bare: Option<f64>,
    /// At least so much of a working client's.
    pub(crate) working: Option<f64>,
    /// Processor time per delivery, at most so much of a bare client's per request.
    pub(crate) cpu: Option<f64>,
}

impl Case {
    /// On Redis with one worker thread, and without targets.
    pub(crate) fn redis(flavour: Flavour) -> Self {
        Case { store: StoreKind::Redis, flavour, threads: Some(1), bare: None, working: None, cpu: None }
    }
}

pub(crate) fn run(bench: Bench, report: &mut Report, case: &Case) -> anyhow::Result<()> {
    let count = bench.deliveries(15_000, 60_000);
    let runtime = worker::runtime(case.threads)?;
    let mut sink = Sink::start()?;
    let port = sink.port();
    let setup = Setup::one(
        load::sink(port, case.flavour),
        load::rule("active devices", OBJECT_TYPE, &["sink"]),
    )
    .set("worker", "concurrency", CONCURRENCY);
    let events = load::events(count)?;
    let payloads: Arc<Vec<String>> = Arc::new(events.iter().map(Event::to_payload).collect());
    let (mut bare, mut working, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    let mut faults = Faults::default();
    for round in 0..=bench.rounds() {
        let place = Place::new(case.store)?;
        let load = || setup.load(place.folder(), &place.url());
        let config = load()?;
        let store = runtime.block_on(async {
            let store = worker::open(&config.settings).await?;
            worker::publish_all(&store, &events, worker::BATCH).await?;
            anyhow::Ok(store)
        })?;
        let by_bare = client::bare(&runtime, port, &config.definitions, &events[0], count)?;
        let by_working = match case.working {
            Some(_) => Some(client::working(&runtime, port, load()?.definitions, Arc::clone(&payloads))?),
            None => None,
        };
        // What the clients sent is not the worker's.
        sink.take()?;
        let took = worker::drain(&runtime, &config.settings, config.definitions, store.clone())?;
        runtime.block_on(store.close());
        let seen = sink.take()?;
        faults.count(count, seen.requests, seen.distinct);
        // The first round warms caches and connections up.
        if round > 0 {
            bare.push(by_bare);
            working.extend(by_working);
            whole.push(took);
        }
    }
    let rates = |list: &[Took]| list.iter().map(|took| took.rate(count)).collect::<Vec<f64>>();
    let cpu = |list: &[Took]| list.iter().map(|took| took.cpu_each(count)).collect::<Vec<f64>>();
    let rows = [
        ("deliveries/s to a bare client", rates(&bare), rates(&whole), case.bare.map(Target::AtLeast)),
        (
            "deliveries/s to a working client",
            rates(&working),
            rates(&whole),
            case.working.map(Target::AtLeast),
        ),
        ("CPU us each to a bare client", cpu(&bare), cpu(&whole), case.cpu.map(Target::AtMost)),
    ];
    for (compares, baseline, value, target) in rows {
        if let Some(target) = target {
            report.add(Finding { compares, baseline: &baseline, value: &value, target, faults, note: "" });
        }
    }
    Ok(())
}
