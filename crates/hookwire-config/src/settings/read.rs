//! Reading settings: from a flag, else the environment, else a file, else the table's default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use hookwire_model::Secret;
use ipnet::IpNet;

use crate::define::secret_from_file;
use crate::not_yet::{not_yet, not_yet_text};
use crate::problem::{Loading, Problem, Secrets, nearest};
use crate::read::join;
use crate::settings::store_url::{redis_scheme, redis_server};
use crate::settings::table::row_of;
use crate::settings::{
    EgressMode, EgressSettings, HistorySettings, Overrides, SETTINGS, ServerSettings, SettingInfo,
    SettingKind, Settings, StoreSettings, StoreTls, StoreUrl, WorkerSettings,
};
use crate::tree::{Content, Key, Node, Span};
use crate::units;

/// A value, where it comes from, and what it is called in a message.
pub(crate) struct Given<'t> {
    setting: &'static str,
    pub(crate) path: String,
    pub(crate) value: Raw<'t>,
    pub(crate) from: Giver,
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

/// Who gives a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Giver {
    Flag,
    Environment,
    File,
    Default,
}

/// A value as it was given.
pub(crate) enum Raw<'t> {
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

/// Finds and reads settings; what is wrong stands among the problems.
pub(crate) struct Reader<'a, 'b, 't> {
    pub(crate) loading: &'a mut Loading<'b>,
    pub(crate) tables: &'a Tables<'t>,
    pub(crate) overrides: &'a Overrides,
}

impl<'t> Reader<'_, '_, 't> {
    /// The value that wins. An empty environment variable counts as absent, since many tools cannot leave one
    /// out.
    pub(crate) fn given(&self, path: &'static str) -> Option<Given<'t>> {
        let row = row_of(path);
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
        let text = match row_of(given.setting).kind {
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

/// Whether a text has the shape of an entry of the allow or deny list.
fn egress_entry(text: &str) -> Result<(), &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if text.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok()) {
        // As the dispatcher reads it.
        return text.parse::<IpNet>().map(drop).map_err(|_| "is no network");
    }
    let name = text.strip_prefix('.').unwrap_or(text);
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("is no address or host");
    }
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if fits { Ok(()) } else { Err("is no host name (no scheme, port or wildcard belongs here)") }
}
