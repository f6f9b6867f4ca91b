//! Putting the parts together: settings, definitions and a store become a running engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hookwire_config::{Config, EgressMode as ConfiguredMode, Settings, StoreUrl};
use hookwire_definitions::{Definitions, HostRefusal};
use hookwire_dispatch::{DispatchSettings, EgressMode, EgressPolicy, EgressRule, HttpDispatcher, Refusal};
use hookwire_engine::{
    Chance, Clock as _, Engine, EngineError, EngineSettings, InForce, Metrics, Snapshot, Summary, SystemClock,
};
use hookwire_model::{EventId, WebhookName};
use hookwire_queue::{QueueError, WorkerId};
use hookwire_server::{Api, ApiLimits, Tokens};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::args::misspelt_variables;
use crate::exit::{Exit, Failure};
use crate::store::Store;

/// The runtime of a program: as many threads as there are processors.
///
/// # Errors
/// Exit code 69 if the operating system gives no threads.
pub fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unavailable, error))
}

/// The definitions as the engine takes them.
///
/// # Errors
/// Exit code 78 if a certificate cannot be read or used.
pub fn in_force(definitions: Definitions) -> Result<Arc<InForce>, Failure> {
    match Snapshot::new(definitions) {
        Ok(snapshot) => Ok(InForce::new(snapshot, SystemClock.now())),
        Err(errors) => {
            let lines = errors.into_iter().map(|error| Failure::new(Exit::Config, error).to_string());
            Err(Failure::message(Exit::Config, lines.collect::<Vec<_>>().join("\n")))
        }
    }
}

/// Opens the store of the settings, waiting up to `wait` for one that another process holds.
///
/// # Errors
/// The exit code says why it cannot be opened.
pub async fn open_store(settings: &Settings, wait: Duration) -> Result<Store, Failure> {
    open_as(settings, wait, false).await
}

async fn open_as(settings: &Settings, wait: Duration, owns: bool) -> Result<Store, Failure> {
    let url = &settings.store.url;
    if let StoreUrl::Embedded(folder) = url
        && folder.is_file()
    {
        let message = format!("store.url: {} is a file; name a folder for the store", folder.display());
        return Err(Failure::message(Exit::Config, message));
    }
    // Which store it is matters where it is another than was meant.
    Store::open(settings, wait, owns).await.map_err(|failure| match failure.downcast_ref() {
        Some(QueueError::UnknownVersion { .. }) => failure.context(format!("{url} cannot be used")),
        _ => failure,
    })
}

/// The same for a program that is to own the store for as long as it runs. One with another number of shards than the settings say
/// is given as many new ones. `None`: the program was asked to stop before.
///
/// # Errors
/// The exit code says why it cannot be opened.
pub async fn own_store(
    settings: &Settings,
    wait: Duration,
    shutdown: &CancellationToken,
) -> Result<Option<Store>, Failure> {
    let Some(opened) = shutdown.run_until_cancelled(open_as(settings, wait, true)).await else {
        return Ok(None);
    };
    opened.map(Some).map_err(|failure| match failure.downcast_ref() {
        Some(QueueError::InUse { holder }) => Failure::message(
            failure.exit(),
            format!(
                "the store {} is in use by {holder}; stop it first: such a store belongs to one process",
                settings.store.url
            ),
        ),
        _ => failure,
    })
}

/// Runs a worker until it is asked to stop, or, with `until_idle`, until nothing is due.
///
/// # Errors
/// [`EngineError`] if the store fails for good.
///
/// Cancel safety: dropping the future is a crash of the worker; nothing is lost.
pub async fn run_worker(
    settings: &Settings,
    in_force: Arc<InForce>,
    store: Store,
    metrics: Metrics,
    until_idle: bool,
    shutdown: CancellationToken,
) -> Result<Summary, EngineError> {
    store.warn();
    for (name, meant) in misspelt_variables() {
        tracing::warn!("the environment variable {name} is none of hookwire's; did you mean {meant}?");
    }
    if in_force.snapshot().definitions().rules().next().is_none() {
        tracing::warn!(
            "no event rules are defined, so that events end without a delivery; name a configuration with --config"
        );
    }
    let egress = egress(settings);
    let engine = Engine {
        queue: Arc::new(store),
        dispatcher: Arc::new(HttpDispatcher::new(DispatchSettings { egress, ..DispatchSettings::default() })),
        clock: SystemClock,
        // The seed needs no secrecy: jitter keeps workers apart, it hides nothing.
        chance: Chance::seeded(Uuid::new_v4().as_u64_pair().0),
        in_force,
        metrics,
        settings: EngineSettings {
            worker: WorkerId::new(Uuid::now_v7().to_string()),
            concurrency: settings.worker.concurrency.get() as usize,
            lease: settings.worker.lease,
            grace: settings.worker.grace,
            until_idle,
            keep_bodies: settings.history.bodies,
            backlog_age_max: settings.store.max_backlog_age,
        },
    };
    hookwire_engine::run(engine, shutdown).await
}

/// The webhooks to whose address nothing would be sent, as far as it stands in the URL by itself; with the reasons. What a
/// name resolves to is known only when it is called.
pub fn refused_addresses(config: &Config) -> Vec<(WebhookName, Refusal)> {
    let egress = egress(&config.settings);
    let refused = config.definitions.webhooks().filter_map(|webhook| {
        let refusal = egress.foretell(&webhook.literal_authority()?.host, true)?;
        Some((webhook.webhook().name.clone(), refusal))
    });
    refused.collect()
}

/// What the egress policy refuses for sure, for previews.
pub fn egress_refusal(settings: &Settings) -> Arc<HostRefusal> {
    let egress = egress(settings);
    Arc::new(move |host, literal| egress.foretell(host, literal).map(|refusal| refusal.to_string()))
}

/// Which addresses are called.
fn egress(Settings { egress: settings, .. }: &Settings) -> EgressPolicy {
    let rules = |texts: &[String]| {
        let rules = texts.iter().map(|text| text.parse().expect("the configuration checked its entries"));
        rules.collect::<Vec<EgressRule>>()
    };
    let mode = match settings.mode {
        ConfiguredMode::Default => EgressMode::Default,
        ConfiguredMode::PublicOnly => EgressMode::PublicOnly,
    };
    EgressPolicy { mode, allow: rules(&settings.allow), deny: rules(&settings.deny) }
}

/// An engine that ended early, as a failure of the program.
pub fn engine_failure(error: EngineError) -> Failure {
    match error {
        EngineError::Store(error) => error.into(),
        EngineError::Panicked(_) => Failure::new(Exit::Software, error),
    }
}

/// A new id for an event that brings none.
pub fn new_event_id() -> EventId {
    EventId::new(&Uuid::now_v7().to_string()).expect("a UUID is visible ASCII without dots")
}

/// What the server's routes work with. `store_name` is what commands know the store by; without one, all are answered.
pub fn api(
    settings: &Settings,
    store_name: Option<String>,
    in_force: &Arc<InForce>,
    store: &Store,
    metrics: &Metrics,
    ready: &Arc<AtomicBool>,
) -> Api<Store, SystemClock> {
    let event_bytes_max = usize::try_from(settings.server.max_event_bytes).unwrap_or(usize::MAX);
    let limits = ApiLimits::default();
    // The largest event has to fit into a request, and that among those which are held.
    let request_bytes_max = limits.request_bytes_max.max(event_bytes_max.saturating_add(1 << 20));
    Api {
        queue: Arc::new(store.clone()),
        clock: SystemClock,
        new_id: new_event_id,
        limits: ApiLimits {
            event_bytes_max,
            request_bytes_max,
            held_bytes_max: limits.held_bytes_max.max(request_bytes_max),
            ..limits
        },
        tokens: Tokens {
            admin: settings.server.admin_token.clone(),
            read: settings.server.read_token.clone(),
        },
        store: store_name,
        in_force: Arc::clone(in_force),
        refusal: egress_refusal(settings),
        metrics: metrics.clone(),
        ready: Arc::clone(ready),
    }
}

/// Takes the port of a listener. `elsewhere` says how another is chosen.
///
/// # Errors
/// Exit code 69 if it cannot be had.
pub async fn bind(address: SocketAddr, elsewhere: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("; another program has it: choose another {elsewhere}"),
            _ => String::new(),
        };
        Failure::message(Exit::Unavailable, format!("cannot listen on {address}: {error}{hint}"))
    })
}
