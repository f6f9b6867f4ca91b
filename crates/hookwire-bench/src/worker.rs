//! The worker, in this process or as one of its own.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use hookwire_config::Settings;
use hookwire_definitions::Definitions;
use hookwire_engine::{Metrics, publish};
use hookwire_model::Event;
use hookwire_worker::{Failure, Store, in_force, open_store, run_worker};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::measure::{Took, Watch};

/// How many events are published in one call.
pub(crate) const BATCH: usize = 1000;

/// A runtime with so many threads; by default that of the product.
pub(crate) fn runtime(threads: Option<usize>) -> anyhow::Result<Runtime> {
    match threads {
        None => hookwire_worker::runtime().map_err(failed),
        Some(threads) => {
            Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
        }
    }
}

/// Opens a store.
pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Store> {
    open_store(settings, Duration::from_secs(5)).await.map_err(failed)
}

/// Publishes, so many in one call.
pub(crate) async fn publish_all(store: &Store, events: &[Event], batch: usize) -> anyhow::Result<()> {
    for batch in events.chunks(batch) {
        publish(store, batch).await?;
    }
    Ok(())
}

/// Runs the worker until nothing is due: lease, match, render, sign, send, record, settle. Nothing may be left.
pub(crate) fn drain(
    runtime: &Runtime,
    settings: &Settings,
    definitions: Definitions,
    store: Store,
) -> anyhow::Result<Took> {
    let (took, waits_for_later) = run_until_idle(runtime, settings, definitions, store)?;
    ensure!(!waits_for_later, "some deliveries failed");
    Ok(took)
}

/// The same, where something may be left for later; tells whether it is.
pub(crate) fn run_until_idle(
    runtime: &Runtime,
    settings: &Settings,
    definitions: Definitions,
    store: Store,
) -> anyhow::Result<(Took, bool)> {
    let in_force = in_force(definitions).map_err(failed)?;
    let watch = Watch::start();
    let run = run_worker(settings, in_force, store, Metrics::default(), true, CancellationToken::new());
    let summary = runtime.block_on(run)?;
    let took = watch.stop();
    Ok((took, summary.waits_for_later))
}

/// A failure of a program, as an error.
pub(crate) fn failed(failure: Failure) -> anyhow::Error {
    anyhow!("{failure}")
}
