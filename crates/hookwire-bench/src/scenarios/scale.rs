//! Scale: the same deliveries with much of something, beside few of it: rules, endpoints, webhooks of one event, and
//! deliveries that wait for somebody else.

use std::time::Instant;

use anyhow::ensure;
use hookwire_model::{Event, Shard};
use hookwire_queue::Inspect as _;
use hookwire_worker::Store;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::load::{self, CONCURRENCY, Flavour, OBJECT_TYPE};
use crate::measure::Took;
use crate::place::{Place, StoreKind};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::Sink;
use crate::{Bench, worker};

/// What the events that wait are about.
const WAITS: &str = "bench.waits";
/// How many deliveries one event that waits becomes.
const EACH: usize = 100;

/// What is measured of one side.
struct Side {
    setup: Setup,
    events: Vec<Event>,
    deliveries: usize,
}

/// Publishes the events of a side into a store of its own, and drains it.
fn drain(runtime: &Runtime, sink: &mut Sink, side: &Side, faults: &mut Faults) -> anyhow::Result<Took> {
    let place = Place::new(StoreKind::Embedded)?;
    let config = side.setup.load(place.folder(), &place.url())?;
    let store = runtime.block_on(async {
        let store = worker::open(&config.settings).await?;
        worker::publish_all(&store, &side.events, worker::BATCH).await?;
        anyhow::Ok(store)
    })?;
    let took = worker::drain(runtime, &config.settings, config.definitions, store.clone())?;
    runtime.block_on(store.close());
    let seen = sink.take()?;
    faults.count(side.deliveries, seen.requests, seen.distinct);
    Ok(took)
}

/// Measures two sides in turn; each gives figures for its rounds, without the first, which warms up.
fn in_turn(
    bench: Bench,
    sink: &mut Sink,
    few: &Side,
    many: &Side,
) -> anyhow::Result<([Vec<Took>; 2], Faults)> {
    let runtime = worker::runtime(None)?;
    let mut faults = Faults::default();
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..=bench.rounds() {
        for (took, side) in took.iter_mut().zip([few, many]) {
            let one = drain(&runtime, sink, side, &mut faults)?;
            if round > 0 {
                took.push(one);
            }
        }
    }
    Ok((took, faults))
}

fn rates(took: &[Took], count: usize) -> Vec<f64> {
    took.iter().map(|took| took.rate(count)).collect()
}

/// A configuration of the bench.
fn setup(webhooks: Vec<Value>, rules: Vec<Value>) -> Setup {
    Setup::many(webhooks, rules).set("worker", "concurrency", CONCURRENCY)
}

/// Rules, each for an object type of its own; events are about all of the first ten.
pub(crate) fn rules(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    const FEW: usize = 10;
    let count = bench.deliveries(10_000, 40_000);
    let many = bench.size(20_000, 100_000);
    let mut sink = Sink::start()?;
    let kind = |number: usize| format!("bench.kind{number}");
    let side = |rules: usize| -> anyhow::Result<Side> {
        let rules = (0..rules)
            .map(|number| load::rule(&format!("rule-{number}"), &kind(number), &["sink"]))
            .collect();
        let events = (0..count).map(|number| load::event(number, &kind(number % FEW), 0));
        let events = events.collect::<anyhow::Result<_>>()?;
        let setup = setup(vec![load::sink(sink.port(), Flavour::Jinja)], rules);
        Ok(Side { setup, events, deliveries: count })
    };
    let (few, many) = (side(FEW)?, side(many)?);
    let (took, faults) = in_turn(bench, &mut sink, &few, &many)?;
    report.add(Finding {
        compares: "deliveries/s with 100,000 rules to those with 10",
        baseline: &rates(&took[0], count),
        value: &rates(&took[1], count),
        target: Target::AtLeast(0.9),
        faults,
        note: bench.size("20,000 rules in place of 100,000", ""),
    });
    Ok(())
}

/// Endpoints, each of a webhook of its own, at one receiver, so that the connections are the same.
pub(crate) fn endpoints(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.deliveries(10_000, 40_000);
    let many = bench.size(2_000, 10_000);
    let mut sink = Sink::start()?;
    let side = |endpoints: usize| -> anyhow::Result<Side> {
        let url = format!("http://127.0.0.1:{}/hooks", sink.port());
        let name = |number: usize| format!("hook-{number}");
        let kind = |number: usize| format!("bench.kind{number}");
        let webhooks = (0..endpoints).map(|number| load::webhook(&name(number), &url, Flavour::Jinja));
        let rules = (0..endpoints)
            .map(|number| load::rule(&format!("rule-{number}"), &kind(number), &[name(number).as_str()]));
        let events = (0..count).map(|number| load::event(number, &kind(number % endpoints), 0));
        let events = events.collect::<anyhow::Result<_>>()?;
        Ok(Side { setup: setup(webhooks.collect(), rules.collect()), events, deliveries: count })
    };
    let (few, many) = (side(1)?, side(many)?);
    let (took, faults) = in_turn(bench, &mut sink, &few, &many)?;
    report.add(Finding {
        compares: "deliveries/s to 10,000 endpoints to those to one, over the same connections",
        baseline: &rates(&took[0], count),
        value: &rates(&took[1], count),
        target: Target::AtLeast(0.8),
        faults,
        note: bench.size("2,000 endpoints in place of 10,000", ""),
    });
    Ok(())
}

/// One event to a hundred webhooks, beside as many events to one.
pub(crate) fn fanout(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.deliveries(10_000, 50_000) / EACH * EACH;
    ensure!(count > 0, "an event has {EACH} deliveries here; ask for more");
    let mut sink = Sink::start()?;
    let side = |webhooks: usize| -> anyhow::Result<Side> {
        let names: Vec<String> = (0..webhooks).map(|number| format!("hook-{number}")).collect();
        let url = format!("http://127.0.0.1:{}/hooks", sink.port());
        let hooks = names.iter().map(|name| load::webhook(name, &url, Flavour::Jinja)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let setup = setup(hooks, vec![load::rule("active devices", OBJECT_TYPE, &names)]);
        Ok(Side { setup, events: load::events(count / webhooks)?, deliveries: count })
    };
    let (one, hundred) = (side(1)?, side(EACH)?);
    let (took, faults) = in_turn(bench, &mut sink, &one, &hundred)?;
    let cpu = |took: &[Took]| took.iter().map(|took| took.cpu_each(count)).collect::<Vec<f64>>();
    report.add(Finding {
        compares: "CPU us for each of 100 deliveries of an event to that of one to one",
        baseline: &cpu(&took[0]),
        value: &cpu(&took[1]),
        target: Target::AtMost(0.75),
        faults,
        note: "",
    });
    Ok(())
}

/// What waits, and a webhook that gets everything else.
pub(crate) fn waiting_setup(port: u16) -> Setup {
    let names: Vec<String> = (0..EACH).map(|number| format!("waits-{number}")).collect();
    let mut webhooks: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut webhook = load::webhook(name, "http://127.0.0.1:9/hooks", Flavour::Default);
            webhook["enabled"] = false.into();
            webhook
        })
        .collect();
    webhooks.push(load::sink(port, Flavour::Jinja));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = vec![load::rule("waits", WAITS, &names), load::rule("goes", OBJECT_TYPE, &["sink"])];
    setup(webhooks, rules).set("server", "listen", "127.0.0.1:0")
}

/// Fills a store with so many deliveries that wait, and looks whether they do.
pub(crate) fn fill(runtime: &Runtime, place: &Place, setup: &Setup, waiting: usize) -> anyhow::Result<()> {
    let config = setup.load(place.folder(), &place.url())?;
    let store = runtime.block_on(async {
        let store = worker::open(&config.settings).await?;
        // Numbers that are nobody else's.
        let events = (0..waiting / EACH).map(|number| load::event(1_000_000_000 + number, WAITS, 0));
        let events = events.collect::<anyhow::Result<Vec<_>>>()?;
        worker::publish_all(&store, &events, worker::BATCH).await?;
        anyhow::Ok(store)
    })?;
    worker::run_until_idle(runtime, &config.settings, config.definitions, store.clone())?;
    let stats = runtime.block_on(store.stats(Shard(0)))?;
    runtime.block_on(store.close());
    ensure!(stats.waiting == waiting as u64, "{} deliveries wait, and {waiting} should", stats.waiting);
    Ok(())
}

/// A store full of what waits for others, beside an empty one.
pub(crate) fn backlog(bench: Bench, report: &mut Report, kind: StoreKind) -> anyhow::Result<()> {
    let count = bench.deliveries(10_000, 40_000);
    let waiting = bench.size(100_000, 1_000_000);
    let runtime = worker::runtime(None)?;
    let mut sink = Sink::start()?;
    let setup = waiting_setup(sink.port());
    // Filled once: it is the same in each round, but for the history.
    let full = Place::new(kind)?;
    fill(&runtime, &full, &setup, waiting)?;
    let mut faults = Faults::default();
    let (mut took, mut opened) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..=bench.rounds() {
        let empty = Place::new(kind)?;
        for (took, (place, is_full)) in took.iter_mut().zip([(&empty, false), (&full, true)]) {
            let config = setup.load(place.folder(), &place.url())?;
            let events = (0..count).map(|number| load::event(round * count + number, OBJECT_TYPE, 0));
            let events = events.collect::<anyhow::Result<Vec<_>>>()?;
            let began = Instant::now();
            let store: Store = runtime.block_on(worker::open(&config.settings))?;
            let opening = began.elapsed().as_secs_f64();
            runtime.block_on(worker::publish_all(&store, &events, worker::BATCH))?;
            let (one, _) =
                worker::run_until_idle(&runtime, &config.settings, config.definitions, store.clone())?;
            runtime.block_on(store.close());
            let seen = sink.take()?;
            faults.count(count, seen.requests, seen.distinct);
            if round > 0 {
                took.push(one);
                opened.extend(is_full.then_some(opening));
            }
        }
    }
    let note = bench.size("100,000 waiting in place of 1,000,000", "");
    report.add(Finding {
        compares: "deliveries/s with 1,000,000 waiting to those with none",
        baseline: &rates(&took[0], count),
        value: &rates(&took[1], count),
        target: Target::AtLeast(0.9),
        faults,
        note,
    });
    report.add(Finding {
        compares: "s until it is open, to one second",
        baseline: &vec![1.0; opened.len()],
        value: &opened,
        target: Target::AtMost(1.0),
        faults,
        note: "",
    });
    Ok(())
}
