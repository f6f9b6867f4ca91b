//! Dispatch alone: ready requests by the pool that the worker uses, with its deadlines, its egress policy and what it
//! notes, beside hand-held connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use hookwire_dispatch::{AttemptOptions, Dispatch as _, DispatchSettings, HttpDispatcher, TlsProfile};
use hookwire_model::Outcome;
use tokio::task::JoinSet;

use crate::load::{self, CONCURRENCY, Flavour, OBJECT_TYPE};
use crate::measure::{Took, Watch};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::Sink;
use crate::{Bench, client, worker};

pub(crate) fn run(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.deliveries(30_000, 100_000);
    let runtime = worker::runtime(None)?;
    let mut sink = Sink::start()?;
    let port = sink.port();
    let setup =
        Setup::one(load::sink(port, Flavour::Jinja), load::rule("active devices", OBJECT_TYPE, &["sink"]));
    let folder = tempfile::tempdir()?;
    let definitions = setup.load(folder.path(), "memory:")?.definitions;
    let event = load::event(0, OBJECT_TYPE, 0)?;
    let route = load::route(&definitions, event.clone())?;
    let prepared = Arc::new(client::prepare(&definitions, event.clone(), 0)?);
    let webhook = route.webhook.webhook();
    let options = Arc::new(AttemptOptions {
        timeout: webhook.timeout,
        tls: TlsProfile::load(&webhook.tls)?,
        follow_redirects: webhook.follow_redirects,
    });
    let dispatcher = Arc::new(HttpDispatcher::new(DispatchSettings::default()));
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let mut faults = Faults::default();
    for round in 0..=bench.rounds() {
        let by_bare = client::bare(&runtime, port, &definitions, &event, count)?;
        sink.take()?;
        let watch = Watch::start();
        runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let mut tasks = JoinSet::new();
            for _ in 0..CONCURRENCY {
                let (next, prepared, options) =
                    (Arc::clone(&next), Arc::clone(&prepared), Arc::clone(&options));
                let dispatcher = Arc::clone(&dispatcher);
                tasks.spawn(async move {
                    while next.fetch_add(1, Ordering::Relaxed) < count {
                        let outcome = dispatcher.attempt(&prepared, &options).await.outcome;
                        let is_taken = matches!(outcome, Outcome::Answered { status: 200, .. });
                        ensure!(is_taken, "an attempt ended with {outcome:?}");
                    }
                    Ok(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.context("a task panicked")??;
            }
            anyhow::Ok(())
        })?;
        let took = watch.stop();
        // All are the same request, so that only their number tells.
        let requests = sink.take()?.requests;
        faults.lost += (count as u64).saturating_sub(requests);
        faults.duplicates += requests.saturating_sub(count as u64);
        if round > 0 {
            bare.push(by_bare);
            ours.push(took);
        }
    }
    let cpu = |took: &[Took]| took.iter().map(|took| took.cpu_each(count)).collect::<Vec<f64>>();
    report.add(Finding {
        compares: "CPU us each to a bare client",
        baseline: &cpu(&bare),
        value: &cpu(&ours),
        target: Target::AtMost(1.3),
        faults,
        note: "",
    });
    Ok(())
}
