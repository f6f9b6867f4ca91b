//! This program as a process of its own: a worker on Redis, or a server with the embedded store; and publishing to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use hookwire_engine::publish;
use http_body_util::Full;
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use tokio::runtime::Runtime;

use crate::place::{Place, StoreKind, pause};
use crate::setup::Setup;
use crate::worker::{self, BATCH};
use crate::{client, load, measure};

/// How long a process may take to start.
const START_MAX: Duration = Duration::from_secs(30);
/// Between two looks at how far something has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A worker process; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// Where a server listens.
    port: u16,
    log: PathBuf,
}

impl Process {
    /// Starts one: a worker on Redis, a server on the embedded store.
    pub(crate) fn start(kind: StoreKind, place: &Place, config: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program has no file")?;
        let log = place.folder().join("worker.log");
        let mut command = Command::new(program);
        let (name, filter) = match kind {
            // Where it listens is told in its log.
            StoreKind::Embedded => ("serve", "warn,hookwire::commands::serve=info"),
            StoreKind::Redis => ("worker", "warn"),
        };
        command.args([name, "--log", filter, "--config"]).arg(config);
        // What is set for a real server has no place here.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("HOOKWIRE_") {
                command.env_remove(variable);
            }
        }
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().context("the worker cannot be started")?;
        let mut process = Process { child, port: 0, log };
        if kind == StoreKind::Embedded {
            process.port = process.told_port()?;
        }
        Ok(process)
    }

    fn told_port(&mut self) -> anyhow::Result<u16> {
        let began = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log)?;
            let told = log.lines().find_map(|line| line.split_once("address=127.0.0.1:"));
            if let Some((_, port)) = told {
                return Ok(port.trim().parse()?);
            }
            self.check()?;
            ensure!(began.elapsed() < START_MAX, "the server does not start; its log:\n{log}");
            pause(Duration::from_millis(5));
        }
    }

    /// Whether it still runs, as it should.
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            bail!("the worker ended with {status}; its log:\n{log}");
        }
        Ok(())
    }

    /// Where a server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its memory in bytes: now, and at most so far.
    pub(crate) fn resident(&self) -> anyhow::Result<(u64, u64)> {
        measure::resident(self.child.id())
    }

    /// Looks now and then until it is done, for so long at most; whether it came to that.
    pub(crate) fn wait_until(
        &mut self,
        most: Duration,
        mut done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        while !done()? {
            self.check()?;
            if began.elapsed() > most {
                return Ok(false);
            }
            pause(LOOK_EVERY);
        }
        Ok(true)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes to a store while a process works on it.
pub(crate) enum Publisher {
    /// Into Redis.
    Store(hookwire_worker::Store),
    /// To the server that owns the store.
    Http(SendRequest<Full<Bytes>>),
}

impl Publisher {
    /// One for a process that was started with this setup.
    pub(crate) async fn new(process: &Process, place: &Place, setup: &Setup) -> anyhow::Result<Self> {
        if process.port > 0 {
            return Ok(Publisher::Http(client::connect(process.port).await?));
        }
        let config = setup.load(place.folder(), &place.url())?;
        Ok(Publisher::Store(worker::open(&config.settings).await?))
    }

    /// Publishes events, given as number and object type, made now.
    pub(crate) async fn publish(&mut self, events: &[(usize, String)]) -> anyhow::Result<()> {
        let made = crate::sink::micros();
        for batch in events.chunks(BATCH) {
            match self {
                Publisher::Store(store) => {
                    let events = batch.iter().map(|(number, kind)| load::event(*number, kind, made));
                    publish(store, &events.collect::<anyhow::Result<Vec<_>>>()?).await?;
                }
                Publisher::Http(connection) => {
                    let lines =
                        batch.iter().map(|(number, kind)| load::event_text(*number, kind, made) + "\n");
                    let request = Request::post("/v1/events")
                        .header("host", "127.0.0.1")
                        .header("content-type", "application/x-ndjson")
                        .body(Full::new(Bytes::from(lines.collect::<String>())))?;
                    client::send(connection, request).await?;
                }
            }
        }
        Ok(())
    }

    /// Publishes at a rate, in small portions, for so long; `event` makes them from their numbers.
    pub(crate) async fn publish_paced(
        &mut self,
        per_second: usize,
        time: Duration,
        event: impl Fn(usize) -> (usize, String),
    ) -> anyhow::Result<usize> {
        let total = per_second * time.as_millis() as usize / 1000;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let began = Instant::now();
        let mut published = 0;
        while published < total {
            ticks.tick().await;
            let due = ((began.elapsed().as_secs_f64() * per_second as f64) as usize).min(total);
            let batch: Vec<_> = (published..due).map(&event).collect();
            self.publish(&batch).await?;
            published = due;
        }
        Ok(published)
    }
}

/// Publishes events before a process owns the store.
pub(crate) fn publish_before(
    runtime: &Runtime,
    place: &Place,
    setup: &Setup,
    events: &[(usize, String)],
) -> anyhow::Result<()> {
    let config = setup.load(place.folder(), &place.url())?;
    runtime.block_on(async {
        let store = worker::open(&config.settings).await?;
        let mut publisher = Publisher::Store(store.clone());
        publisher.publish(events).await?;
        drop(publisher);
        store.close().await;
        Ok(())
    })
}
