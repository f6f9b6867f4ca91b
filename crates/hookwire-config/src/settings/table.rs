//! The table of settings: one row for each, with its name, default, flag and meaning.

use serde_json::Value;

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

/// The row of a setting.
pub(super) fn row_of(path: &'static str) -> &'static SettingInfo {
    SETTINGS.iter().find(|row| row.path == path).expect("every setting that is read has its row")
}

/// The names of the tables that hold settings.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = SETTINGS.iter().map(SettingInfo::section).collect();
    sections.dedup();
    sections
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
}
