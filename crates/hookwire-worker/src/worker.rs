//! The command: a worker on a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookwire_config::StoreUrl;
use hookwire_engine::Metrics;
use hookwire_server::{ServeLimits, own_router, serve};

use crate::args::ConfigArguments;
use crate::assemble::{api, bind, engine_failure, in_force, own_store, run_worker, runtime};
use crate::exit::{CommandResult, Exit, Failure};
use crate::reload::{LoadedConfig, Reloading};
use crate::signals::shutdown_token;

/// How long a Redis server is waited for that cannot be reached yet, or is loading.
const SERVER_WAIT: Duration = Duration::from_secs(10);

/// Takes deliveries from the queue and sends them.
#[derive(Debug, Clone, clap::Args)]
#[command(mut_arg("listen", |listen| listen.help("Where the worker tells how it is: /metrics, /healthz and /readyz (worker.listen)")))]
pub struct WorkerArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Send what is due, then exit: 0, or 1 if something still waits for later.
    #[arg(long)]
    until_idle: bool,
}

/// Runs the worker to its end.
///
/// # Errors
/// [`Failure`] with the exit code for what went wrong.
pub fn run(arguments: &WorkerArguments) -> CommandResult {
    let config_arguments = arguments.config.of_worker();
    let config = config_arguments.load()?;
    let loaded = LoadedConfig::new(&config_arguments, &config);
    let settings = config.settings;
    // One process owns such a store, so a worker beside a server is not to be had.
    if let (StoreUrl::Memory | StoreUrl::Embedded(_), false) = (&settings.store.url, arguments.until_idle) {
        return Err(Failure::message(
            Exit::Config,
            format!(
                "the store {} belongs to one process, so a worker alone could be given nothing to do; run `hookwire serve`, \
                 which takes events and sends them, or add --until-idle to send what is due and exit",
                settings.store.url
            ),
        ));
    }
    let in_force = in_force(config.definitions)?;
    runtime()?.block_on(async {
        let shutdown = shutdown_token();
        let _reloading = Reloading::start(&config_arguments, loaded, Arc::clone(&in_force));
        // A server may still be starting, as it does when all of a machine starts.
        let wait = if let StoreUrl::Redis(_) = settings.store.url { SERVER_WAIT } else { Duration::ZERO };
        let Some(store) = own_store(&settings, wait, &shutdown).await? else { return Ok(Exit::Fine) };
        let metrics = Metrics::default();
        let ready = Arc::new(AtomicBool::new(true));
        let watched = match settings.worker.listen {
            Some(address) => {
                let listener = bind(address, "in `worker.listen`").await?;
                let address =
                    listener.local_addr().map_err(|error| Failure::new(Exit::Unavailable, error))?;
                tracing::info!(%address, "listening");
                let name = Some(settings.store.url.name());
                let routes = own_router(api(&settings, name, &in_force, &store, &metrics, &ready));
                let shutdown = shutdown.clone().cancelled_owned();
                // Ended with the worker, whose process it tells of.
                Some(tokio::spawn(serve(listener, routes, ServeLimits::default(), shutdown)))
            }
            None => None,
        };
        if !arguments.until_idle {
            tracing::info!(store = %settings.store.url, "working");
        }
        let ended =
            run_worker(&settings, in_force, store.clone(), metrics, arguments.until_idle, shutdown).await;
        ready.store(false, Ordering::Relaxed);
        if let Some(watched) = watched {
            watched.abort();
        }
        store.close().await;
        let summary = ended.map_err(engine_failure)?;
        Ok(if arguments.until_idle && summary.waits_for_later { Exit::No } else { Exit::Fine })
    })
}
