//! `hookwire serve`: events in over HTTP, webhooks out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookwire_config::Settings;
use hookwire_engine::{EngineError, InForce, Metrics, Summary};
use hookwire_server::{ServeLimits, router};
use hookwire_worker::{
    CommandResult, ConfigArguments, Exit, Failure, LoadedConfig, Reloading, Store, api, bind, engine_failure,
    in_force, own_store, run_worker, runtime, shutdown_token,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a store that another process holds is waited for: a predecessor that is being stopped needs that long at
/// most to finish what is in flight.
const STORE_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let config = arguments.config.load()?;
    let loaded = LoadedConfig::new(&arguments.config, &config);
    let in_force = in_force(config.definitions)?;
    runtime()?.block_on(async {
        let shutdown = shutdown_token();
        let _reloading = Reloading::start(&arguments.config, loaded, Arc::clone(&in_force));
        let listener = bind(config.settings.server.listen, "with --listen").await?;
        let Some(store) = own_store(&config.settings, STORE_WAIT, &shutdown).await? else {
            return Ok(Exit::Fine);
        };
        let name = Some(config.settings.store.url.name());
        let running = Running::start(Arc::new(config.settings), name, in_force, store, listener, &shutdown)?;
        tracing::info!(address = %running.address, "listening");
        running.finish().await?;
        Ok(Exit::Fine)
    })
}

/// A server and a worker on one store.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    store: Store,
    ready: Arc<AtomicBool>,
    server: JoinHandle<std::io::Result<()>>,
    worker: JoinHandle<Result<Summary, EngineError>>,
    shutdown: CancellationToken,
}

impl Running {
    /// Starts both; they stop when `shutdown` is cancelled. Commands that name another store than `store_name` do not turn
    /// to the server; `None`: it answers all.
    pub(crate) fn start(
        settings: Arc<Settings>,
        store_name: Option<String>,
        in_force: Arc<InForce>,
        store: Store,
        listener: TcpListener,
        shutdown: &CancellationToken,
    ) -> Result<Self, Failure> {
        let address = listener.local_addr().map_err(|error| Failure::new(Exit::Unavailable, error))?;
        let ready = Arc::new(AtomicBool::new(true));
        let metrics = Metrics::default();
        let api = api(&settings, store_name, &in_force, &store, &metrics, &ready);
        // A child of the shutdown, so that either side can stop the other and not the whole program.
        let shutdown = shutdown.child_token();
        // Both are awaited in `finish`.
        let server = hookwire_server::serve(
            listener,
            router(api),
            ServeLimits::default(),
            shutdown.clone().cancelled_owned(),
        );
        let server = tokio::spawn(server);
        let (work, stop) = (store.clone(), shutdown.clone());
        let worker =
            tokio::spawn(async move { run_worker(&settings, in_force, work, metrics, false, stop).await });
        Ok(Running { address, store, ready, server, worker, shutdown })
    }

    /// The store they work on.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until both have stopped; if one fails, the other is stopped.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        let worker = tokio::select! {
            ended = &mut self.worker => ended,
            ended = &mut self.server => {
                self.shutdown.cancel();
                if let Ok(Err(error)) = ended {
                    tracing::error!(error = &error as &dyn std::error::Error, "the listener failed; stopping");
                }
                (&mut self.worker).await
            }
        };
        self.ready.store(false, Ordering::Relaxed);
        self.shutdown.cancel();
        if !self.server.is_finished() {
            // A client that keeps its connection open must not keep the program.
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.server).await;
            self.server.abort();
        }
        self.store.close().await;
        match worker {
            Ok(ended) => ended.map(drop).map_err(engine_failure),
            Err(error) => Err(Failure::new(Exit::Software, error)),
        }
    }
}
