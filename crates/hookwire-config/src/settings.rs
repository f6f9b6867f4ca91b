//! Settings: how hookwire itself runs, as opposed to what it sends.
//!
//! Each setting is one row of [`SETTINGS`]: its name, default, flag and meaning stand there and nowhere else.
//! A value comes from a flag, else from the environment, else from the file, else from the row.
//!
//! Invariants:
//! - Settings that contradict each other do not exist: [`Settings`] is made only of a whole that was checked.
//! - A token never shows in `Debug` or in a message.

mod read;
mod store_url;
mod table;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hookwire_model::Secret;

pub(crate) use read::{Given, Giver, Raw, Reader, Tables, read};
pub use store_url::StoreUrl;
pub(crate) use table::sections;
pub use table::{SETTINGS, SettingInfo, SettingKind, meant_variable};

/// How hookwire runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where events and deliveries are kept.
    pub store: StoreSettings,
    /// The API.
    pub server: ServerSettings,
    /// The worker.
    pub worker: WorkerSettings,
    /// What may be called.
    pub egress: EgressSettings,
    /// The record of what was sent.
    pub history: HistorySettings,
}

impl Settings {
    /// The settings that differ, by path, in the order of the documentation. A token counts under its name in the
    /// environment.
    pub fn differences(&self, other: &Settings) -> Vec<&'static str> {
        // Taken apart by name, so that a new setting cannot be forgotten here.
        let Settings { store, server, worker, egress, history } = self;
        let StoreSettings {
            url,
            named: _,
            shards,
            wait_replicas,
            dedup_window,
            dedup_max_ids,
            max_pending_bytes,
            tls,
            max_backlog_bytes,
            max_backlog_age,
        } = store;
        let ServerSettings { listen, admin_token, read_token, max_event_bytes } = server;
        let WorkerSettings { concurrency, lease, grace, listen: worker_listen } = worker;
        let EgressSettings { mode, allow, deny } = egress;
        let HistorySettings { max_age, max_bytes, bodies } = history;
        let same = [
            ("store.url", *url == other.store.url),
            ("store.shards", *shards == other.store.shards),
            ("store.wait_replicas", *wait_replicas == other.store.wait_replicas),
            ("store.dedup_window", *dedup_window == other.store.dedup_window),
            ("store.dedup_max_ids", *dedup_max_ids == other.store.dedup_max_ids),
            ("store.max_pending_bytes", *max_pending_bytes == other.store.max_pending_bytes),
            ("store.ca_file", tls.ca_file == other.store.tls.ca_file),
            ("store.client_cert", tls.client_cert == other.store.tls.client_cert),
            ("store.client_key", tls.client_key == other.store.tls.client_key),
            ("store.max_backlog_bytes", *max_backlog_bytes == other.store.max_backlog_bytes),
            ("store.max_backlog_age", *max_backlog_age == other.store.max_backlog_age),
            ("server.listen", *listen == other.server.listen),
            ("server.admin_token_env", *admin_token == other.server.admin_token),
            ("server.read_token_env", *read_token == other.server.read_token),
            ("server.max_event_bytes", *max_event_bytes == other.server.max_event_bytes),
            ("worker.concurrency", *concurrency == other.worker.concurrency),
            ("worker.lease", *lease == other.worker.lease),
            ("worker.grace", *grace == other.worker.grace),
            ("worker.listen", *worker_listen == other.worker.listen),
            ("egress.mode", *mode == other.egress.mode),
            ("egress.allow", *allow == other.egress.allow),
            ("egress.deny", *deny == other.egress.deny),
            ("history.max_age", *max_age == other.history.max_age),
            ("history.max_bytes", *max_bytes == other.history.max_bytes),
            ("history.bodies", *bodies == other.history.bodies),
        ];
        same.iter().filter(|(_, same)| !same).map(|(path, _)| *path).collect()
    }
}

/// Where events and deliveries are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Which store.
    pub url: StoreUrl,
    /// Whether somebody named it; else it is the default.
    pub named: bool,
    /// How many shards; 1 for stores that have no more.
    pub shards: u16,
    /// How long an event id is remembered.
    pub dedup_window: Duration,
    /// How many event ids are remembered per shard.
    pub dedup_max_ids: u64,
    /// How many replicas must have an event before it is accepted; 0 for stores that have none.
    pub wait_replicas: u32,
    /// How much may be waiting, in bytes; `None`: what suits the memory of the Redis server.
    pub max_pending_bytes: Option<u64>,
    /// Files for TLS to a Redis server.
    pub tls: StoreTls,
    /// How much may be waiting for one endpoint, in bytes; `None`: half of what may be waiting in all.
    pub max_backlog_bytes: Option<u64>,
    /// How long a delivery may wait.
    pub max_backlog_age: Duration,
}

/// Files for TLS to a Redis server, each PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTls {
    /// Authorities in place of the usual ones.
    pub ca_file: Option<PathBuf>,
    /// What hookwire shows.
    pub client_cert: Option<PathBuf>,
    /// The key that belongs to it; `None`: it stands in the same file.
    pub client_key: Option<PathBuf>,
}

/// The API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The token for everything.
    pub admin_token: Option<Secret>,
    /// The token for reading.
    pub read_token: Option<Secret>,
    /// The largest event that is accepted, in bytes.
    pub max_event_bytes: u64,
}

/// The worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Attempts in flight at most.
    pub concurrency: NonZeroU32,
    /// How long a lease lasts; at least a second.
    pub lease: Duration,
    /// How long attempts in flight may go on after SIGTERM; `None`: as long as the definitions in force then make it
    /// ([`Definitions::grace`](hookwire_definitions::Definitions::grace)).
    pub grace: Option<Duration>,
    /// Where a worker without a server tells how it is, if anywhere.
    pub listen: Option<SocketAddr>,
}

/// What may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressSettings {
    /// What holds where no list says otherwise.
    pub mode: EgressMode,
    /// Addresses, networks, hosts and `.suffixes` that may be called all the same.
    pub allow: Vec<String>,
    /// Those that may never be called.
    pub deny: Vec<String>,
}

/// What holds where no list says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// Private addresses and loopback for hosts that stand literally in a definition.
    Default,
    /// Neither for any host.
    PublicOnly,
}

/// The record of what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySettings {
    /// How long it is kept.
    pub max_age: Duration,
    /// How much of it is kept, in bytes.
    pub max_bytes: Option<u64>,
    /// Whether it holds the bodies that were sent.
    pub bodies: bool,
}

/// Values that flags have set.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<(&'static str, String, String)>);

impl Overrides {
    /// None.
    pub fn new() -> Self {
        Overrides::default()
    }

    /// The setting at `path` was given as `value` by the flag of this name, such as `--store`.
    ///
    /// # Panics
    /// If there is no such setting: that is a mistake in the program.
    #[must_use]
    pub fn with(mut self, path: &str, flag: &str, value: impl Into<String>) -> Self {
        let row = SETTINGS.iter().find(|row| row.path == path);
        let row = row.unwrap_or_else(|| panic!("there is no setting {path}"));
        self.0.push((row.path, flag.to_owned(), value.into()));
        self
    }
}
