//! Noisy neighbour: a hundred endpoints, one of which gets half of all events and is bad. The other ninety-nine are held
//! against what they reach under the same load when that one is as good as they are.
//!
//! Two measurements each: a backlog that is drained as fast as it goes, for throughput and memory; and events at a
//! steady rate, for the time from publishing to arrival. The receivers and the worker are processes of their own.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use crate::load::{self, Flavour};
use crate::place::{Place, StoreKind};
use crate::process::{Process, Publisher, publish_before};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::{Answer, MADE, Seen, Sink};
use crate::{Bench, worker};

const ENDPOINTS: usize = 100;
/// How long the good ones may take to get everything.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(bench: Bench, report: &mut Report, store: StoreKind, answer: Answer) -> anyhow::Result<()> {
    let mut alone = Measured::default();
    let mut beside = Measured::default();
    let mut faults = Faults::default();
    for _ in 0..3 {
        for (measured, answer) in [(&mut alone, Answer::Fine), (&mut beside, answer)] {
            drain(bench, store, answer, measured, &mut faults)?;
            pace(bench, store, answer, measured, &mut faults)?;
        }
    }
    let note = bench.size("3 s of events at a steady rate in place of 15 s", "");
    for (compares, baseline, value, target) in [
        ("good deliveries/s to those without a bad one", &alone.rate, &beside.rate, Target::AtLeast(0.9)),
        ("good p99 ms to that without a bad one", &alone.p99, &beside.p99, Target::AtMost(2.0)),
        ("peak memory MiB to that without a bad one", &alone.memory, &beside.memory, Target::AtMost(2.0)),
    ] {
        report.add(Finding { compares, baseline, value, target, faults, note });
    }
    Ok(())
}

#[derive(Default)]
struct Measured {
    rate: Vec<f64>,
    p99: Vec<f64>,
    memory: Vec<f64>,
}

/// Every other event goes to the last endpoint, the others by turns to the rest.
fn event(number: usize) -> (usize, String) {
    let endpoint = if number % 2 == 1 { ENDPOINTS - 1 } else { number / 2 % (ENDPOINTS - 1) };
    (number, object_type(endpoint))
}

fn object_type(endpoint: usize) -> String {
    format!("bench.kind{endpoint}")
}

fn setup(good: u16, bad: u16) -> Setup {
    let webhook = |endpoint| {
        let port = if endpoint == ENDPOINTS - 1 { bad } else { good };
        let url = format!("http://127.0.0.1:{port}/hooks/{endpoint}");
        let mut webhook = load::webhook(&format!("hook-{endpoint}"), &url, Flavour::Jinja);
        webhook["additional_headers"] = json!(format!("{MADE}: {{{{ data.made }}}}"));
        // What a webhook has by default.
        webhook["concurrency"] = 32.into();
        webhook
    };
    let rule = |endpoint| {
        load::rule(&format!("rule-{endpoint}"), &object_type(endpoint), &[&format!("hook-{endpoint}")])
    };
    Setup::many((0..ENDPOINTS).map(webhook).collect(), (0..ENDPOINTS).map(rule).collect()).set(
        "server",
        "listen",
        "127.0.0.1:0",
    )
}

/// Everything is published beforehand.
fn drain(
    bench: Bench,
    store: StoreKind,
    answer: Answer,
    measured: &mut Measured,
    faults: &mut Faults,
) -> anyhow::Result<()> {
    let count = bench.deliveries(16_000, 80_000);
    let runtime = worker::runtime(None)?;
    let (mut good, bad) = (Sink::start()?, Sink::start_with(answer, 1)?);
    let setup = setup(good.port(), bad.port());
    let place = Place::new(store)?;
    let events: Vec<_> = (0..count).map(event).collect();
    publish_before(&runtime, &place, &setup, &events)?;
    let mut process = Process::start(store, &place, &setup.write(place.folder(), &place.url())?)?;
    let seen = wait_for(&mut process, &mut good, count.div_ceil(2), faults)?;
    ensure!(seen.last > seen.first, "too few deliveries to tell a rate");
    measured.rate.push(seen.requests as f64 * 1e6 / (seen.last - seen.first) as f64);
    measured.memory.push(process.resident()?.1 as f64 / f64::from(1 << 20));
    Ok(())
}

/// Events come at a rate that leaves room.
fn pace(
    bench: Bench,
    store: StoreKind,
    answer: Answer,
    measured: &mut Measured,
    faults: &mut Faults,
) -> anyhow::Result<()> {
    let runtime = worker::runtime(None)?;
    let (mut good, bad) = (Sink::start()?, Sink::start_with(answer, 1)?);
    let setup = setup(good.port(), bad.port());
    let place = Place::new(store)?;
    let mut process = Process::start(store, &place, &setup.write(place.folder(), &place.url())?)?;
    let published = runtime.block_on(async {
        let mut publisher = Publisher::new(&process, &place, &setup).await?;
        let time = Duration::from_secs(bench.size(3, 15));
        publisher.publish_paced(2000, time, event).await
    })?;
    let seen = wait_for(&mut process, &mut good, published.div_ceil(2), faults)?;
    measured.p99.push(seen.p99 as f64 / 1000.0);
    Ok(())
}

fn wait_for(
    process: &mut Process,
    sink: &mut Sink,
    expected: usize,
    faults: &mut Faults,
) -> anyhow::Result<Seen> {
    process.wait_until(PATIENCE, || Ok(sink.look()?.distinct >= expected as u64))?;
    let seen = sink.take()?;
    faults.count(expected, seen.requests, seen.distinct);
    Ok(seen)
}
