//! Settings: how hookwire itself runs, as opposed to what it sends.
//!
//! Each setting is one row of [`SETTINGS`]: its name, default, flag and meaning stand there and nowhere else.
//! A value comes from a flag, else from the environment, else from the file, else from the row.
//!
//! Invariants:
//! - Settings that contradict each other do not exist: [`Settings`] is made only of a whole that was checked.
//! - A token never shows in `Debug` or in a message.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hookwire_model::Secret;
use serde_json::Value;

use crate::define::secret_from_file;
use crate::mask;
use crate::not_yet::{not_yet, not_yet_text};
use crate::problem::{Loading, Problem, Secrets, nearest};
use crate::read::join;
use crate::show::{self, Origin, ShownValue};
use crate::tree::{Content, Key, Node, Span};
use crate::units;

/// One setting, for documentation and for reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingInfo {
    /// Its path in the file, such as `store.url`.
    pub path: &'static str,
    /// What kind of value it takes.
    pub kind: SettingKind,
    /// Its default as it would be written; empty where there is none, and the description says what that
    /// means.
    pub default: &'static str,
    /// The flag that sets it, if there is one.
    pub flag: Option<&'static str>,
    /// What it does, in a sentence or two.
    pub description: &'static str,
}

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// The URL of a store.
    StoreUrl,
    /// An address and a port.
    Listen,
    /// A whole number, at least 1.
    Count,
    /// A duration with units, such as `1h30m`.
    Duration,
    /// A size with a unit, such as `8GiB`.
    Size,
    /// `true` or `false`.
    Boolean,
    /// `default` or `public-only`.
    EgressMode,
    /// A list; in the environment separated by commas.
    List,
    /// The name of an environment variable.
    EnvName,
    /// A file.
    File,
}

impl SettingKind {
    /// The kind in words, for documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            SettingKind::StoreUrl => "store URL",
            SettingKind::Listen => "address and port",
            SettingKind::Count => "number",
            SettingKind::Duration => "duration",
            SettingKind::Size => "size",
            SettingKind::Boolean => "true or false",
            SettingKind::EgressMode => "`default` or `public-only`",
            SettingKind::List => "list of strings",
            SettingKind::EnvName => "name of a variable",
            SettingKind::File => "file",
        }
    }
}

impl SettingKind {
    /// A text out of the environment, a flag or the table, as it would stand in a file.
    pub(crate) fn value(self, text: &str) -> Value {
        match self {
            SettingKind::Count => {
                serde_json::from_str(&text.replace('_', "")).unwrap_or_else(|_| text.into())
            }
            SettingKind::Boolean => matches!(text, "true" | "1").into(),
            SettingKind::List => text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect(),
            SettingKind::StoreUrl
            | SettingKind::Listen
            | SettingKind::Duration
            | SettingKind::Size
            | SettingKind::EgressMode
            | SettingKind::EnvName
            | SettingKind::File => text.into(),
        }
    }
}

impl SettingInfo {
    /// The environment variable: `HOOKWIRE_` and the path, as `HOOKWIRE_STORE_URL`.
    pub fn env(&self) -> String {
        format!("HOOKWIRE_{}", self.path.to_uppercase().replace('.', "_"))
    }

    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    pub(crate) fn member(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(_, member)| member)
    }
}

/// What the programs read from the environment beside settings.
const OTHER_VARIABLES: [&str; 4] =
    ["HOOKWIRE_CONFIG", "HOOKWIRE_LOG", "HOOKWIRE_LOG_FORMAT", "HOOKWIRE_TOKEN"];

/// The environment variable that somebody probably meant by one of this name. `None`: it is one, or far from all, as those
/// are that an orchestrator makes out of a service's name.
pub fn meant_variable(name: &str) -> Option<String> {
    let known = SETTINGS.iter().map(SettingInfo::env).chain(OTHER_VARIABLES.map(str::to_owned));
    let near = known.map(|known| (strsim::damerau_levenshtein(&known, name), known));
    let (distance, known) = near.min()?;
    // One that is longer may be somebody's own, which a setting names.
    ((1..=2).contains(&distance) && !name.starts_with(&known)).then_some(known)
}

const fn row(
    path: &'static str,
    kind: SettingKind,
    default: &'static str,
    flag: Option<&'static str>,
    description: &'static str,
) -> SettingInfo {
    SettingInfo { path, kind, default, flag, description }
}

/// Every setting, in the order of the documentation.
pub const SETTINGS: &[SettingInfo] = &[
    row(
        "store.url",
        SettingKind::StoreUrl,
        "embedded:./hookwire-data",
        Some("--store"),
        "Where events and deliveries are kept: `embedded:` and a folder; a Redis server, as \
         `redis://user:password@host:6379/0`, `rediss://` for TLS or `unix:///path`; a Redis Cluster, as \
         `redis-cluster://host:port,host:port`; or `memory:`, which forgets everything at the end of the process.",
    ),
    row(
        "store.shards",
        SettingKind::Count,
        "1",
        None,
        "How many independent parts the store has. Embedded and memory stores have one; those of a Redis Cluster \
         spread over its nodes. Workers and servers give a store that has another number new ones.",
    ),
    row(
        "store.wait_replicas",
        SettingKind::Count,
        "",
        None,
        "How many replicas of a Redis server must have an event before it counts as accepted, so that a failover \
         loses less.",
    ),
    row(
        "store.dedup_window",
        SettingKind::Duration,
        "1h",
        None,
        "How long an event id is remembered: published again within this time, it is accepted and not \
         repeated.",
    ),
    row(
        "store.dedup_max_ids",
        SettingKind::Count,
        "5000000",
        None,
        "How many event ids are remembered per shard; `stats` shows the window that they really cover.",
    ),
    row(
        "store.max_pending_bytes",
        SettingKind::Size,
        "8GiB",
        None,
        "How much may be waiting. Beyond it publishing is refused until there is room. On Redis by default 60 % of \
         its `maxmemory`, 2 GiB if it has none.",
    ),
    row(
        "store.ca_file",
        SettingKind::File,
        "",
        None,
        "The certificates (PEM) of the authorities that a `rediss:` server is checked against, in place of the usual \
         ones.",
    ),
    row(
        "store.client_cert",
        SettingKind::File,
        "",
        None,
        "The certificate (PEM) that hookwire shows to a `rediss:` server. A server asks for one unless it has \
         `tls-auth-clients no`.",
    ),
    row(
        "store.client_key",
        SettingKind::File,
        "",
        None,
        "The key (PEM) that belongs to `store.client_cert`, where that file does not hold it too.",
    ),
    row(
        "store.max_backlog_bytes",
        SettingKind::Size,
        "",
        None,
        "How much may be waiting for one endpoint. What comes beyond it becomes a dead letter (`backlog_limit`), so \
         that one receiver that is down does not fill the store. By default half of `store.max_pending_bytes`.",
    ),
    row(
        "store.max_backlog_age",
        SettingKind::Duration,
        "30d",
        None,
        "How long a delivery may wait, behind a pause or a receiver that is down; then it becomes a dead letter \
         (`backlog_limit`). Looked at once a minute.",
    ),
    row(
        "server.listen",
        SettingKind::Listen,
        "127.0.0.1:8080",
        Some("--listen"),
        "Where the API listens. An address that others can reach needs an admin token.",
    ),
    row(
        "server.admin_token_env",
        SettingKind::EnvName,
        "",
        None,
        "The environment variable that holds the token for everything. Without a token there is none, and \
         the API is open on loopback.",
    ),
    row(
        "server.admin_token_file",
        SettingKind::File,
        "",
        None,
        "The file that holds the token for everything, in place of `server.admin_token_env`.",
    ),
    row(
        "server.read_token_env",
        SettingKind::EnvName,
        "",
        None,
        "The environment variable that holds a token for reading only.",
    ),
    row(
        "server.read_token_file",
        SettingKind::File,
        "",
        None,
        "The file that holds a token for reading only, in place of `server.read_token_env`.",
    ),
    row("server.max_event_bytes", SettingKind::Size, "1MiB", None, "The largest event that is accepted."),
    row(
        "worker.concurrency",
        SettingKind::Count,
        "256",
        None,
        "How many attempts may be in flight at once, over all endpoints.",
    ),
    row(
        "worker.lease",
        SettingKind::Duration,
        "15s",
        None,
        "How long a worker that died keeps its work from others. It is renewed at a third; a webhook's \
         timeout may be longer.",
    ),
    row(
        "worker.grace",
        SettingKind::Duration,
        "",
        None,
        "How long attempts in flight may go on after SIGTERM. By default the longest timeout of all \
         webhooks and a second.",
    ),
    row(
        "worker.listen",
        SettingKind::Listen,
        "",
        None,
        "Where a worker without a server tells how it is: `/metrics`, `/healthz` and `/readyz`, with the \
         server's tokens. By default nowhere.",
    ),
    row(
        "egress.mode",
        SettingKind::EgressMode,
        "default",
        None,
        "Which addresses may be called: `public-only` refuses private ones and loopback, for definitions \
         by people who are not trusted.",
    ),
    row(
        "egress.allow",
        SettingKind::List,
        "",
        None,
        "What may be called all the same: addresses, networks (`10.0.0.0/8`), hosts, or `.example.org` \
         for all hosts of a domain.",
    ),
    row(
        "egress.deny",
        SettingKind::List,
        "",
        None,
        "What may never be called, in the same forms; it wins over `egress.allow`.",
    ),
    row(
        "history.max_age",
        SettingKind::Duration,
        "7d",
        None,
        "How long finished deliveries and their attempts stay on record.",
    ),
    row(
        "history.max_bytes",
        SettingKind::Size,
        "1GiB",
        None,
        "How much the record may take; the oldest go first. On Redis by default 5 % of its `maxmemory`, 128 MiB if \
         it has none.",
    ),
    row(
        "history.bodies",
        SettingKind::Boolean,
        "false",
        None,
        "Whether the record keeps the bodies that were sent. They hold what the events hold.",
    ),
];

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

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In memory: gone at the end of the process.
    Memory,
    /// In one folder.
    Embedded(PathBuf),
    /// On a Redis server or cluster, by a URL that may hold a password.
    Redis(Secret),
}

impl StoreUrl {
    /// What tells the store from others: its URL as it is shown, a folder by the one path that it really has. By it a
    /// command and a server find out whether they mean the same store.
    pub fn name(&self) -> String {
        match self {
            // One that is not there yet has no other name than the one it is given.
            StoreUrl::Embedded(folder) => {
                let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
                StoreUrl::Embedded(folder).to_string()
            }
            StoreUrl::Redis(_) => {
                let shown = self.to_string();
                let Some((scheme @ ("redis" | "rediss"), place)) = shown.split_once("://") else {
                    return shown;
                };
                // What stands there by default may be left out.
                let (host, database) = place.split_once('/').unwrap_or((place, ""));
                let host = host.strip_suffix(":6379").unwrap_or(host);
                let port =
                    host.strip_prefix("localhost").filter(|port| port.is_empty() || port.starts_with(':'));
                let host = port.map_or(host.to_owned(), |port| format!("127.0.0.1{port}"));
                let database = if database.is_empty() { "0" } else { database };
                format!("{scheme}://{host}/{database}")
            }
            StoreUrl::Memory => self.to_string(),
        }
    }
}

/// Shown as it is written, without user and password.
impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::Embedded(folder) => write!(f, "embedded:{}", folder.display()),
            StoreUrl::Redis(url) => {
                let (scheme, rest) = url.expose().split_once("://").unwrap_or(("redis", ""));
                // A socket's query holds its password, with any characters; the database is a part of which store it is.
                let login = if scheme == "unix" { None } else { rest.rsplit_once('@') };
                let rest = login.map_or(rest, |(_, rest)| rest);
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                write!(f, "{scheme}://{path}")?;
                match query.split('&').find(|member| member.starts_with("db=")) {
                    Some(database) => write!(f, "?{database}"),
                    None => Ok(()),
                }
            }
        }
    }
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

/// A value, where it comes from, and what it is called in a message.
struct Given<'t> {
    setting: &'static str,
    path: String,
    value: Raw<'t>,
    from: Giver,
}

impl Given<'_> {
    /// Something wrong with it.
    fn problem(&self, message: impl Into<String>, remedy: &str) -> Problem {
        let problem = Problem::new(self.path.clone(), message).remedy(remedy);
        match self.value {
            Raw::Node(node) => problem.at(node.span),
            Raw::Text(_) => problem,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    Flag,
    Environment,
    File,
    Default,
}

enum Raw<'t> {
    Node(&'t Node),
    Text(String),
}

/// Members of the settings' tables, from all files.
pub(crate) struct Tables<'t>(Vec<(String, &'t Key, &'t Node)>);

impl<'t> Tables<'t> {
    /// Takes the tables of all files together. A member that is there twice, or unknown, is told.
    pub(crate) fn new(loading: &mut Loading<'_>, tables: &[(&'t str, &'t Node)]) -> Self {
        let mut members: Vec<(String, &Key, &Node)> = Vec::new();
        for (section, node) in tables {
            let Content::Table(table) = &node.content else {
                loading.wrong_type(section, node, "a table");
                continue;
            };
            for (key, value) in &table.0 {
                let path = join(section, &key.name);
                if let Some((_, first, _)) = members.iter().find(|(have, _, _)| *have == path) {
                    let problem = Problem::new(path, "set twice").label(key.span, "here");
                    loading.add(problem.label(first.span, "and here").remedy("keep one of the two"));
                    continue;
                }
                if let Some(entry) = not_yet(section, &key.name, value) {
                    loading.add(Problem::new(path, entry.message()).at(value.span).remedy(entry.instead));
                    continue;
                }
                if !SETTINGS.iter().any(|row| row.path == path) {
                    loading.add(unknown(section, key));
                    continue;
                }
                members.push((path, key, value));
            }
        }
        Tables(members)
    }
}

fn unknown(section: &str, key: &Key) -> Problem {
    let path = join(section, &key.name);
    let known = SETTINGS.iter().filter(|row| row.section() == section).map(SettingInfo::member);
    let elsewhere = SETTINGS.iter().find(|row| row.member() == key.name);
    let remedy = match (nearest(&key.name, known.clone()), elsewhere) {
        (_, Some(row)) => format!("did you mean `{}`?", row.path),
        (Some(meant), None) => format!("did you mean `{meant}`?"),
        (None, None) => format!("here belong: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Problem::new(path, "unknown setting").at(key.span).remedy(remedy)
}

/// What follows the scheme in the URL of a Redis server or cluster; `None` if it is no such URL.
fn redis_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    ["redis", "rediss", "unix", "redis-cluster"].contains(&scheme).then_some(rest)
}

/// Looks whether what follows the scheme names a Redis server or cluster, as far as that can be told without it; else
/// what is wrong, and what to do. Neither repeats the text, which may hold a password.
fn redis_server(scheme: &str, rest: &str) -> Result<(), (&'static str, &'static str)> {
    let remedy = match scheme {
        "unix" => "write it like \"unix:///run/redis.sock?db=0\"",
        "redis-cluster" => "write it like \"redis-cluster://user:password@host:6379,host:6379\"",
        _ => {
            "write it like \"redis://user:password@localhost:6379/0\", and / ? # @ in a password as %2F %3F %23 %40"
        }
    };
    let wrong = |message| Err((message, remedy));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_database = |text: &str| text.is_empty() || text.parse::<u32>().is_ok();
    if rest.contains(char::is_whitespace) || rest.is_empty() {
        return wrong("names no Redis server");
    }
    if scheme == "unix" {
        let database = query.split('&').find_map(|member| member.strip_prefix("db="));
        return match database {
            _ if !rest.starts_with('/') => wrong("names no socket by its whole path"),
            Some(database) if !is_database(database) => wrong("names a database that is no number"),
            _ => Ok(()),
        };
    }
    let (servers, path) = rest.split_once('/').unwrap_or((rest, ""));
    let servers = servers.rsplit_once('@').map_or(servers, |(_, servers)| servers);
    for server in servers.split(',') {
        // An IPv6 address stands in brackets, and has colons of its own.
        let after_host = server.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match server[after_host..].rfind(':') {
            Some(at) => server.split_at(after_host + at),
            None => (server, ""),
        };
        if host.is_empty() {
            return wrong("names no Redis server");
        }
        if port.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.parse::<u16>().is_err()) {
            return wrong("names a port that is no number up to 65535");
        }
    }
    match path.trim_matches('/') {
        "" => Ok(()),
        _ if scheme == "redis-cluster" => wrong("names a database, and a cluster has one only"),
        database if !is_database(database) => wrong("names a database that is no number"),
        _ => Ok(()),
    }
}

/// The names of the tables that hold settings.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = SETTINGS.iter().map(SettingInfo::section).collect();
    sections.dedup();
    sections
}

/// Reads all settings.
///
/// `None`: something is wrong, and stands among the problems.
pub(crate) fn read(
    loading: &mut Loading<'_>,
    tables: &Tables<'_>,
    overrides: &Overrides,
) -> Option<Settings> {
    let before = loading.problems.len();
    let mut reader = Reader { loading, tables, overrides };
    let settings = Settings {
        store: StoreSettings {
            url: reader.store_url("store.url"),
            named: reader.given("store.url").is_some_and(|given| given.from != Giver::Default),
            shards: reader.count("store.shards"),
            wait_replicas: if reader.given("store.wait_replicas").is_some() {
                reader.count("store.wait_replicas")
            } else {
                0
            },
            dedup_window: reader.duration("store.dedup_window"),
            dedup_max_ids: reader.count("store.dedup_max_ids"),
            max_pending_bytes: reader.own_size("store.max_pending_bytes"),
            tls: StoreTls {
                ca_file: reader.file("store.ca_file"),
                client_cert: reader.file("store.client_cert"),
                client_key: reader.file("store.client_key"),
            },
            max_backlog_bytes: reader
                .given("store.max_backlog_bytes")
                .is_some()
                .then(|| reader.size("store.max_backlog_bytes")),
            max_backlog_age: reader.duration("store.max_backlog_age"),
        },
        server: ServerSettings {
            listen: reader.listen("server.listen").unwrap_or(NOWHERE),
            admin_token: reader.token("server.admin_token_env", "server.admin_token_file"),
            read_token: reader.token("server.read_token_env", "server.read_token_file"),
            max_event_bytes: reader.size("server.max_event_bytes"),
        },
        worker: WorkerSettings {
            concurrency: NonZeroU32::new(reader.count("worker.concurrency")).unwrap_or(NonZeroU32::MIN),
            lease: reader.duration("worker.lease"),
            grace: reader.given("worker.grace").is_some().then(|| reader.duration("worker.grace")),
            listen: reader.listen("worker.listen"),
        },
        egress: EgressSettings {
            mode: reader.egress_mode("egress.mode"),
            allow: reader.egress_list("egress.allow"),
            deny: reader.egress_list("egress.deny"),
        },
        history: HistorySettings {
            max_age: reader.duration("history.max_age"),
            max_bytes: reader.own_size("history.max_bytes"),
            bodies: reader.boolean("history.bodies"),
        },
    };
    if reader.loading.problems.len() == before {
        reader.contradictions(&settings);
    }
    (reader.loading.problems.len() == before).then_some(settings)
}

/// What stands for an address that cannot be read, until the problem is told.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every setting with its value in force and where that comes from. `grace` is what the definitions make of
/// `worker.grace` where nobody sets it.
pub(crate) fn shown_settings(
    loading: &mut Loading<'_>,
    tables: &Tables<'_>,
    overrides: &Overrides,
    settings: &Settings,
    grace: Duration,
) -> Vec<ShownValue> {
    let reader = Reader { loading, tables, overrides };
    let shown = SETTINGS.iter().map(|row| {
        let given = reader.given(row.path);
        let origin = match &given {
            Some(Given { from: Giver::Flag, path, .. }) => Origin::Flag(path.clone()),
            Some(Given { from: Giver::Environment, path, .. }) => Origin::Environment(path.clone()),
            Some(Given { value: Raw::Node(node), .. }) => show::origin(reader.loading, node.span),
            _ => Origin::Default,
        };
        let value = match row.path {
            // As it is in force, relative to nothing.
            "store.url" => Some(mask::text(&settings.store.url.to_string()).into()),
            // What the server finds for itself is known to it only.
            "store.max_pending_bytes" if settings.store.max_pending_bytes.is_none() => None,
            "history.max_bytes" if settings.history.max_bytes.is_none() => None,
            "worker.grace" => Some(units::duration_text(settings.worker.grace.unwrap_or(grace)).into()),
            _ => given.map(|given| match given.value {
                Raw::Node(node) => node.to_value().unwrap_or_default(),
                Raw::Text(text) => row.kind.value(&text),
            }),
        };
        ShownValue { name: row.path.to_owned(), value, origin }
    });
    shown.collect()
}

struct Reader<'a, 'b, 't> {
    loading: &'a mut Loading<'b>,
    tables: &'a Tables<'t>,
    overrides: &'a Overrides,
}

impl<'t> Reader<'_, '_, 't> {
    /// The value that wins. An empty environment variable counts as absent, since many tools cannot leave one
    /// out.
    fn given(&self, path: &'static str) -> Option<Given<'t>> {
        let row = info(path);
        let flag = self.overrides.0.iter().rev().find(|(set, _, _)| *set == path);
        if let Some((_, flag, text)) = flag {
            return Some(Given {
                setting: path,
                path: flag.clone(),
                value: Raw::Text(text.clone()),
                from: Giver::Flag,
            });
        }
        if let Some(text) = (self.loading.env)(&row.env()).filter(|text| !text.is_empty()) {
            return Some(Given {
                setting: path,
                path: row.env(),
                value: Raw::Text(text),
                from: Giver::Environment,
            });
        }
        let in_file = self.tables.0.iter().find(|(set, _, _)| set == path);
        if let Some((_, _, node)) = in_file.filter(|(_, _, node)| !matches!(node.content, Content::Null)) {
            return Some(Given {
                setting: path,
                path: path.to_owned(),
                value: Raw::Node(node),
                from: Giver::File,
            });
        }
        let value = Raw::Text(row.default.to_owned());
        let default = Given { setting: path, path: path.to_owned(), value, from: Giver::Default };
        (!row.default.is_empty()).then_some(default)
    }

    fn problem(&mut self, given: &Given<'_>, message: impl Into<String>, remedy: &str) {
        self.loading.add(given.problem(message, remedy));
    }

    /// The text of a value, where one is needed.
    fn text(&mut self, given: &Given<'t>, needs: &str) -> Option<String> {
        match &given.value {
            Raw::Text(text) => Some(text.clone()),
            Raw::Node(Node { content: Content::Text(text), .. }) => Some(text.clone()),
            Raw::Node(node) => {
                self.loading.wrong_type(&given.path, node, needs);
                None
            }
        }
    }

    /// The text of a value with a unit. A bare number is told apart: its reader would have to guess what it means.
    fn text_with_unit(&mut self, given: &Given<'t>, needs: &str, remedy: &str) -> Option<String> {
        if let Raw::Node(node) = &given.value
            && let Content::Number(number) = &node.content
        {
            let message = format!("needs {needs}, has a number without a unit");
            self.problem(given, message, &remedy.replace("{}", &number.to_string()));
            return None;
        }
        self.text(given, needs)
    }

    /// Reads a text with units, or refuses it with the reason that goes on after it.
    fn parsed<T>(
        &mut self,
        given: &Given<'t>,
        needs: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = match info(given.setting).kind {
            SettingKind::Duration => self.text_with_unit(given, needs, "write \"{}s\" for seconds"),
            SettingKind::Size => {
                self.text_with_unit(given, needs, "write \"{}B\" for bytes, or use KiB, MiB or GiB")
            }
            _ => self.text(given, needs),
        }?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let (reason, remedy) = reason.split_once("; ").unwrap_or((&reason, "choose a smaller one"));
                let shown: String = text.chars().take(60).collect();
                self.problem(given, format!("{shown:?} {reason}"), remedy);
                None
            }
        }
    }

    fn duration(&mut self, path: &'static str) -> Duration {
        let Some(given) = self.given(path) else { return Duration::ZERO };
        let needs = "a duration such as \"10s\"";
        self.parsed(&given, needs, units::duration).unwrap_or_default()
    }

    /// A size that a store on Redis finds for itself, where nobody sets it.
    fn own_size(&mut self, path: &'static str) -> Option<u64> {
        let is_default = self.given(path).is_none_or(|given| matches!(given.from, Giver::Default));
        let url = self.given("store.url").and_then(|given| match given.value {
            Raw::Text(text) => Some(text),
            Raw::Node(Node { content: Content::Text(text), .. }) => Some(text.clone()),
            Raw::Node(_) => None,
        });
        let finds_itself = is_default && url.is_some_and(|url| redis_scheme(&url).is_some());
        (!finds_itself).then(|| self.size(path))
    }

    fn size(&mut self, path: &'static str) -> u64 {
        let Some(given) = self.given(path) else { return 0 };
        self.parsed(&given, "a size such as \"1GiB\"", units::size).unwrap_or_default()
    }

    /// A number from 1 to the largest of its type. What is wrong reads as 1.
    fn count<T: TryFrom<u64> + From<u8>>(&mut self, path: &'static str) -> T {
        let needs = "a whole number, at least 1";
        let Some(given) = self.given(path) else { return T::from(1) };
        let text = match &given.value {
            Raw::Node(Node { content: Content::Number(number), .. }) => number.to_string(),
            Raw::Node(node) => {
                self.loading.wrong_type(&given.path, node, needs);
                return T::from(1);
            }
            Raw::Text(text) => text.replace('_', ""),
        };
        let count = text.parse::<u64>().ok().filter(|count| *count > 0);
        match count.and_then(|count| T::try_from(count).ok()) {
            Some(count) => count,
            None => {
                let most = u64::MAX >> (u64::BITS - 8 * size_of::<T>() as u32);
                let needs = match count {
                    Some(_) => format!("a whole number from 1 to {most}"),
                    None => needs.to_owned(),
                };
                let shown: String = text.chars().take(60).collect();
                let remedy = match text.trim_start_matches('0') {
                    "" if !text.is_empty() => "choose a larger one",
                    rest if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) => {
                        "choose a smaller one"
                    }
                    _ => "write digits only",
                };
                self.problem(&given, format!("needs {needs}, has {shown}"), remedy);
                T::from(1)
            }
        }
    }

    fn boolean(&mut self, path: &'static str) -> bool {
        let Some(given) = self.given(path) else { return false };
        match &given.value {
            Raw::Node(Node { content: Content::Bool(value), .. }) => *value,
            Raw::Node(node) => {
                self.loading.wrong_type(&given.path, node, "true or false");
                false
            }
            Raw::Text(text) => match text.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                other => {
                    let shown: String = other.chars().take(60).collect();
                    self.problem(
                        &given,
                        format!("{shown:?} is neither true nor false"),
                        "write true or false",
                    );
                    false
                }
            },
        }
    }

    fn egress_mode(&mut self, path: &'static str) -> EgressMode {
        let Some(given) = self.given(path) else { return EgressMode::Default };
        let mode = self.parsed(&given, "\"default\" or \"public-only\"", |text| match text {
            "default" => Ok(EgressMode::Default),
            "public-only" => Ok(EgressMode::PublicOnly),
            _ => Err("is not known here; use \"default\" or \"public-only\"".into()),
        });
        mode.unwrap_or(EgressMode::Default)
    }

    /// What may or may not be called, each entry checked for its shape.
    fn egress_list(&mut self, path: &'static str) -> Vec<String> {
        let Some(given) = self.given(path) else { return Vec::new() };
        let entries: Vec<(String, String, Option<Span>)> = match &given.value {
            Raw::Text(text) => {
                let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                entries.map(|entry| (given.path.clone(), entry.to_owned(), None)).collect()
            }
            Raw::Node(Node { content: Content::List(items), .. }) => {
                let mut entries = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{path}[{at}]");
                    let text = crate::read::text(self.loading, &path, item).map(str::to_owned);
                    entries.extend(text.map(|text| (path, text, Some(item.span))));
                }
                entries
            }
            Raw::Node(node) => {
                self.loading.wrong_type(&given.path, node, "a list of strings");
                return Vec::new();
            }
        };
        for (path, entry, span) in &entries {
            if let Err(reason) = egress_entry(entry) {
                let problem = Problem::new(path.clone(), format!("{entry:?} {reason}"));
                let problem = span.iter().copied().fold(problem, Problem::at);
                let forms = "use an address, a network such as \"10.0.0.0/8\", a host, \
                             or \".example.org\" for all hosts of a domain";
                self.loading.add(problem.remedy(forms));
            }
        }
        entries.into_iter().map(|(_, entry, _)| entry).collect()
    }

    fn listen(&mut self, path: &'static str) -> Option<SocketAddr> {
        let given = self.given(path)?;
        self.parsed(&given, "an address and a port, such as \"127.0.0.1:8080\"", |text| {
            if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
                return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
            }
            text.parse().map_err(|_| {
                "is no address and port; write it like \"127.0.0.1:8080\", \"[::1]:8080\" or \"0.0.0.0:8080\"".into()
            })
        })
    }

    fn store_url(&mut self, path: &'static str) -> StoreUrl {
        let Some(given) = self.given(path) else { return StoreUrl::Memory };
        let Some(text) = self.text(&given, "the URL of a store") else { return StoreUrl::Memory };
        if let Some(entry) = not_yet_text("store", "url", &text) {
            self.problem(&given, entry.message(), entry.instead);
            return StoreUrl::Memory;
        }
        if text == "memory:" {
            return StoreUrl::Memory;
        }
        if let Some(rest) = redis_scheme(&text) {
            let scheme = text.split_once(':').map_or("redis", |(scheme, _)| scheme);
            if let Err((message, remedy)) = redis_server(scheme, rest) {
                self.problem(&given, message, remedy);
            }
            return StoreUrl::Redis(Secret::new(text.as_str()));
        }
        match text.strip_prefix("embedded:").filter(|folder| !folder.is_empty()) {
            Some(folder) => StoreUrl::Embedded(match given.value {
                Raw::Node(node) => self.loading.resolve(node.span, folder),
                Raw::Text(_) => folder.into(),
            }),
            None => {
                if text == "embedded:" {
                    self.problem(&given, "names no folder", "write it like \"embedded:./hookwire-data\"");
                    return StoreUrl::Memory;
                }
                // A URL may hold a password, so it is not shown.
                let scheme = text.split_once(':').map_or("it has no scheme", |(scheme, _)| scheme);
                let near =
                    nearest(scheme, ["memory", "embedded", "redis", "rediss", "unix", "redis-cluster"]);
                let remedy = match near {
                    None => "write \"embedded:\" and a folder, \"redis://\" and a server, or \"memory:\""
                        .to_owned(),
                    Some(near @ ("memory" | "embedded")) => format!("did you mean \"{near}:\"?"),
                    Some(near) => format!("did you mean \"{near}://\"?"),
                };
                self.problem(&given, format!("is no URL of a store ({scheme})"), &remedy);
                StoreUrl::Memory
            }
        }
    }

    /// A token out of the environment or a file; the two exclude each other.
    /// A file that is read later.
    fn file(&mut self, path: &'static str) -> Option<PathBuf> {
        let given = self.given(path)?;
        let file = self.text(&given, "a file")?;
        Some(match given.value {
            Raw::Node(node) => self.loading.resolve(node.span, &file),
            Raw::Text(_) => file.into(),
        })
    }

    fn token(&mut self, env_path: &'static str, file_path: &'static str) -> Option<Secret> {
        let (env, file) = (self.given(env_path), self.given(file_path));
        match (env, file) {
            (None, None) => None,
            (Some(env), Some(file)) => {
                let message = format!("there is also {}", env.path);
                self.problem(&file, message, "keep one of the two");
                None
            }
            (Some(given), None) => {
                let name = self.text(&given, "the name of an environment variable")?;
                let token = (self.loading.env)(&name).filter(|token| !token.trim().is_empty());
                match token {
                    Some(token) => Some(Secret::new(token.trim())),
                    None => {
                        let message = format!("the environment variable {name} is not set");
                        let remedy = "set it where hookwire is started";
                        let problem = given.problem(message, remedy);
                        self.loading.unread(problem)
                    }
                }
            }
            (None, Some(given)) => {
                let file = self.text(&given, "a file")?;
                let (span, file) = match given.value {
                    Raw::Node(node) => (Some(node.span), self.loading.resolve(node.span, &file)),
                    Raw::Text(_) => (None, file.into()),
                };
                secret_from_file(self.loading, &given.path, span, &file)
                    .map(|token| Secret::new(token.expose().trim()))
            }
        }
    }

    /// Settings that are fine one by one and not together.
    fn contradictions(&mut self, settings: &Settings) {
        let listens =
            [("server.listen", Some(settings.server.listen)), ("worker.listen", settings.worker.listen)];
        for (path, address) in listens {
            let Some(address) = address.filter(|address| !address.ip().is_loopback()) else { continue };
            // Whoever only looks may lack the service's own environment, and opens no listener.
            if settings.server.admin_token.is_none() && self.loading.secrets == Secrets::Needed {
                let message = format!("{address} can be reached by others, and there is no admin token");
                let remedy =
                    "set `server.admin_token_env` or `server.admin_token_file`, or listen on 127.0.0.1";
                self.at_odds(path, message, remedy);
            }
        }
        let is_redis = matches!(settings.store.url, StoreUrl::Redis(_));
        if settings.store.wait_replicas > 0 && !is_redis {
            let message = format!("the store {} has no replicas", settings.store.url);
            self.at_odds("store.wait_replicas", message, "leave `store.wait_replicas` out");
        }
        if settings.store.shards > 1 && !is_redis {
            let message =
                format!("{} shards, and the store {} has one", settings.store.shards, settings.store.url);
            self.at_odds("store.shards", message, "leave `store.shards` out");
        }
        let StoreTls { ca_file, client_cert, client_key } = &settings.store.tls;
        let uses_tls =
            matches!(&settings.store.url, StoreUrl::Redis(url) if url.expose().starts_with("rediss:"));
        for (path, file) in
            [("store.ca_file", ca_file), ("store.client_cert", client_cert), ("store.client_key", client_key)]
        {
            if file.is_some() && !uses_tls {
                let message = format!("the store {} does not use TLS", settings.store.url);
                self.at_odds(path, message, "name a server by `rediss://`, or leave it out");
            }
        }
        if client_key.is_some() && client_cert.is_none() {
            let message = "a key without its certificate";
            self.at_odds("store.client_key", message.into(), "set `store.client_cert`, too");
        }
        if settings.worker.lease < Duration::from_secs(1) {
            let message = "a lease under a second would run out while work is in flight";
            self.at_odds("worker.lease", message.into(), "choose some seconds, such as \"15s\"");
        }
        if settings.store.max_pending_bytes.is_some_and(|most| most < settings.server.max_event_bytes) {
            let message = "an event of the largest size would never fit into what may be waiting";
            let remedy = "choose `store.max_pending_bytes` larger than `server.max_event_bytes`";
            self.at_odds("store.max_pending_bytes", message.into(), remedy);
        }
        if let (Some(backlog), Some(pending)) =
            (settings.store.max_backlog_bytes, settings.store.max_pending_bytes)
            && backlog > pending
        {
            let message = "more for one endpoint than may be waiting in all";
            let remedy = "choose `store.max_backlog_bytes` smaller than `store.max_pending_bytes`";
            self.at_odds("store.max_backlog_bytes", message.into(), remedy);
        }
        if let (Some(admin), Some(read)) = (&settings.server.admin_token, &settings.server.read_token)
            && admin == read
        {
            let message = "the token for reading is the one for everything";
            self.at_odds("server.read_token_env", message.into(), "make two tokens");
        }
    }

    fn at_odds(&mut self, path: &'static str, message: String, remedy: &str) {
        match self.given(path) {
            Some(given) => self.problem(&given, message, remedy),
            None => self.loading.add(Problem::new(path, message).remedy(remedy)),
        }
    }
}

fn info(path: &'static str) -> &'static SettingInfo {
    SETTINGS.iter().find(|row| row.path == path).expect("every setting that is read has its row")
}

/// Whether a text has the shape of an entry of the allow or deny list.
fn egress_entry(text: &str) -> Result<(), &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let network =
        text.split_once('/').and_then(|(address, length)| Some((address.parse::<IpAddr>().ok()?, length)));
    if let Some((address, length)) = network {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let fits = length.parse::<u8>().is_ok_and(|length| length <= longest);
        return if fits { Ok(()) } else { Err("is no network") };
    }
    let name = text.strip_prefix('.').unwrap_or(text);
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("is no address or host");
    }
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits { Ok(()) } else { Err("is no host name (no scheme, port or wildcard belongs here)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_nearly_one_of_ours_is_told_and_no_other() {
        for (name, meant) in [
            ("HOOKWIRE_WORKER_CONCURENCY", Some("HOOKWIRE_WORKER_CONCURRENCY")),
            ("HOOKWIRE_LGO", Some("HOOKWIRE_LOG")),
            ("HOOKWIRE_WORKER_CONCURRENCY", None),
            ("HOOKWIRE_TOKEN", None),
            // Of a service of that name, by Kubernetes.
            ("HOOKWIRE_PORT", None),
            ("HOOKWIRE_SERVICE_HOST", None),
            ("HOOKWIRE_PORT_8080_TCP_ADDR", None),
            // That settings may name.
            ("HOOKWIRE_ADMIN_TOKEN", None),
            ("HOOKWIRE_TOKEN2", None),
        ] {
            assert_eq!(meant_variable(name).as_deref(), meant, "{name}");
        }
    }

    #[test]
    fn a_store_is_named_without_its_secrets_and_apart_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let there = StoreUrl::Embedded(folder.path().join("."));
        assert_eq!(there.name(), format!("embedded:{}", real.display()));
        for (url, name) in [
            ("redis://user:s3cret@host:6379/1", "redis://host/1"),
            ("redis://localhost", "redis://127.0.0.1/0"),
            ("rediss://127.0.0.1:6379/0", "rediss://127.0.0.1/0"),
            ("redis://localhost:7000/", "redis://127.0.0.1:7000/0"),
            ("redis://localhost.example", "redis://localhost.example/0"),
            ("redis-cluster://:s3cret@a:1,b:2", "redis-cluster://a:1,b:2"),
            ("unix:///run/redis.sock?user=u&db=2&pass=s3cret", "unix:///run/redis.sock?db=2"),
            ("unix:///run/redis.sock?pass=s3@cret&db=1", "unix:///run/redis.sock?db=1"),
            ("unix:///run/redis.sock?pass=s3cret", "unix:///run/redis.sock"),
        ] {
            assert_eq!(StoreUrl::Redis(Secret::new(url)).name(), name);
        }
        assert_eq!(StoreUrl::Embedded("not/there".into()).name(), "embedded:not/there");
    }
}
