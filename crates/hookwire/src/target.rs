//! Where a command that looks or acts turns to: a running server, or the store itself where none is running.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hookwire_config::{Settings, StoreUrl};
use hookwire_engine::{Clock as _, SystemClock, tell_what_holds};
use hookwire_model::{Delivery, DeliveryId, DeliveryState, Shard};
use hookwire_queue::{Change, DeliveryFilter, Inspect as _, Queue as _, QueueError, Selection};
use hookwire_worker::{ConfigArguments, Exit, Failure, Store, environment, open_store, say};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, PAGE_MAX, Page, Refusal, Who};

/// Arguments that name a server or a store.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArguments,
    /// The server to ask, such as http://127.0.0.1:8080. Default: the one that the configuration names, where it runs,
    /// else the store itself. HOOKWIRE_TOKEN holds the token.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// What a command turns to.
pub(crate) enum Target {
    Server(Client),
    Store(Store),
}

/// What came of acting on deliveries; the serde form is that of the API.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) changed: u64,
    pub(crate) dry_run: bool,
    pub(crate) unknown: Vec<DeliveryId>,
    pub(crate) unfit: Vec<Unfit>,
}

/// A delivery that a change does not apply to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unfit {
    pub(crate) id: DeliveryId,
    pub(crate) state: DeliveryState,
}

impl TargetArguments {
    /// The settings. Definitions that do not check, and secrets that whoever runs this may not read, are no reason not to
    /// look at deliveries.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(self.config.load_to_look()?.settings)
    }

    /// The server of `--url`.
    pub(crate) fn named_server(&self) -> Result<Option<Client>, Failure> {
        self.url.as_deref().map(|url| Client::new(url, token())).transpose()
    }

    /// Finds what holds the deliveries. A store that is not there is not made.
    pub(crate) async fn find(&self) -> Result<Target, Failure> {
        if let Some(client) = self.named_server()? {
            return Ok(Target::Server(client));
        }
        let settings = self.settings().map_err(|failure| {
            let message =
                format!("{failure}\n  a server that runs can be asked all the same: name it with --url");
            Failure::message(failure.exit(), message)
        })?;
        match running_server(&settings)? {
            Listening::Ours(client) => return Ok(Target::Server(client)),
            Listening::Another(note) => say(note),
            Listening::Nobody => {}
        }
        match &settings.store.url {
            StoreUrl::Memory => return Err(in_memory(&settings)),
            StoreUrl::Embedded(folder) => is_there(folder, settings.server.listen)?,
            StoreUrl::Redis(_) => {}
        }
        open(&settings).await.map(Target::Store).map_err(|failure| with_hint(failure, &settings))
    }
}

/// The token for servers. One that comes out of a file often ends with a line end, which is no part of it.
fn token() -> Option<String> {
    environment("HOOKWIRE_TOKEN").map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Whether there is a folder to look into.
fn is_there(folder: &Path, listen: SocketAddr) -> Result<(), Failure> {
    let (exit, message) = match folder.try_exists() {
        Ok(true) => return Ok(()),
        Ok(false) => (
            Exit::Unavailable,
            format!(
                "there is no store at {} to look into, and no server that works on it runs at {listen}; name the \
                 configuration with --config, or the server with --url",
                folder.display()
            ),
        ),
        Err(error) => (
            Exit::Io,
            format!(
                "the store at {} cannot be looked into: {error}; run this as the user that the store belongs to, or name \
                 another with --store",
                folder.display()
            ),
        ),
    };
    Err(Failure::message(exit, message))
}

/// A store that nobody but a server can look into.
pub(crate) fn in_memory(settings: &Settings) -> Failure {
    let message = format!(
        "the store memory: lives in a server only, and no server with it runs at {}; start it with `hookwire serve`, or \
         name it with --url",
        settings.server.listen
    );
    Failure::message(Exit::Unavailable, message)
}

/// What listens where the settings say.
pub(crate) enum Listening {
    /// A server that works on the store of the settings.
    Ours(Client),
    /// A server that works on another store, with what to say of that.
    Another(String),
    Nobody,
}

/// Looks for the server of the settings. That one listens there is not enough: it may be another's, and what is
/// published to it would go to other receivers.
pub(crate) fn running_server(settings: &Settings) -> Result<Listening, Failure> {
    let client = Client::new(&server_url(settings.server.listen), token())?;
    let store = settings.store.url.name();
    // Where nobody named a store and there is none by default, the server's is meant: a service has its settings in its
    // own environment, and whoever gives it an event has none.
    let is_meant = settings.store.named
        || matches!(&settings.store.url, StoreUrl::Embedded(folder) if folder.try_exists().unwrap_or(true));
    Ok(match client.who(Some(&*store).filter(|_| is_meant)) {
        Who::Ours => Listening::Ours(client),
        Who::Another => Listening::Another(format!(
            "the server at {} works on another store; turning to {store} (--url names a server whatever its store)",
            settings.server.listen
        )),
        Who::Nobody => Listening::Nobody,
    })
}

/// Opens the store of the settings, as far as no other process holds it.
pub(crate) async fn open(settings: &Settings) -> Result<Store, Failure> {
    open_store(settings, Duration::ZERO).await
}

/// Whether a store could not be opened because another process has it.
pub(crate) fn is_in_use(failure: &Failure) -> bool {
    matches!(failure.downcast_ref::<QueueError>(), Some(QueueError::InUse { .. }))
}

/// A store that is in use, with what to do about it; any other failure as it is.
pub(crate) fn with_hint(failure: Failure, settings: &Settings) -> Failure {
    if !is_in_use(&failure) {
        return failure;
    }
    let message = format!(
        "{failure}, and no server that works on it answers at {}; if that process is a server that listens elsewhere, \
         name it with --url",
        settings.server.listen
    );
    Failure::message(Exit::Unavailable, message)
}

impl Target {
    /// Deliveries that match, newest first, after a cursor; and the cursor to go on with, where there are more.
    pub(crate) async fn list(
        &self,
        filter: &DeliveryFilter,
        mut cursor: Option<DeliveryId>,
        limit: usize,
    ) -> Result<(Vec<Delivery>, Option<DeliveryId>), Failure> {
        let mut items = Vec::new();
        loop {
            let wanted = (limit - items.len()).min(PAGE_MAX);
            let (more, next) = match self {
                Target::Server(client) => {
                    let Page { items, next_cursor } =
                        client.get(&format!("/v1/deliveries?{}", query(filter, cursor, wanted)))?;
                    (items, next_cursor)
                }
                Target::Store(store) => {
                    let (mut items, next) = page(store, filter, cursor, wanted).await?;
                    tell_what_holds(store, None, &mut items, SystemClock.now()).await?;
                    (items, next)
                }
            };
            items.extend(more);
            if items.len() >= limit || next.is_none() {
                return Ok((items, next));
            }
            cursor = next;
        }
    }

    /// One delivery with its attempts.
    pub(crate) async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, Failure> {
        match self {
            Target::Server(client) => match client.get(&format!("/v1/deliveries/{id}")) {
                Ok(delivery) => Ok(Some(delivery)),
                Err(Refusal::Refused(status, _)) if status.as_u16() == 404 => Ok(None),
                Err(refusal) => Err(refusal.into()),
            },
            Target::Store(store) if id.shard().0 >= store.shards() => Ok(None),
            Target::Store(store) => {
                let mut found = store.delivery(id).await?;
                tell_what_holds(store, None, found.as_mut_slice(), SystemClock.now()).await?;
                Ok(found)
            }
        }
    }

    /// Acts on deliveries, or with `dry_run` only counts them.
    pub(crate) async fn change(
        &self,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, Failure> {
        match self {
            Target::Server(client) => {
                let path = match change {
                    Change::Retry => "/v1/deliveries/retry",
                    Change::Cancel => "/v1/deliveries/cancel",
                    Change::Redrive => "/v1/dead/redrive",
                    Change::Purge => "/v1/dead/purge",
                };
                Ok(client.post(path, &body(selection, dry_run))?)
            }
            Target::Store(store) => change_store(store, change, selection, dry_run).await,
        }
    }

    /// Counts, as the API gives them; `definitions` only where a server runs.
    pub(crate) async fn stats(&self) -> Result<Value, Failure> {
        match self {
            Target::Server(client) => Ok(client.get("/v1/stats")?),
            Target::Store(store) => {
                let mut shards = Vec::new();
                for shard in 0..store.shards() {
                    shards.push(store.stats(Shard(shard)).await?);
                }
                Ok(json!({ "shards": shards }))
            }
        }
    }

    /// Whether a worker is there to send what is changed.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Target::Server(_))
    }

    /// Gives a store back.
    pub(crate) async fn close(self) {
        if let Target::Store(store) = self {
            store.close().await;
        }
    }
}

/// Shard after shard, each newest first: an id tells its shard, so that a cursor is one id.
async fn page(
    store: &Store,
    filter: &DeliveryFilter,
    cursor: Option<DeliveryId>,
    limit: usize,
) -> Result<(Vec<Delivery>, Option<DeliveryId>), Failure> {
    let last = store.shards() - 1;
    let first = cursor.map_or(last, |id| id.shard().0.min(last));
    let mut before = cursor;
    let mut items: Vec<Delivery> = Vec::new();
    for shard in (0..=first).rev() {
        let page = store.list(Shard(shard), filter, before.take(), limit - items.len()).await?;
        items.extend(page.items);
        if items.len() >= limit {
            let more = page.next.is_some() || shard > 0;
            let next = items.last().map(|last| last.id).filter(|_| more);
            return Ok((items, next));
        }
    }
    Ok((items, None))
}

async fn change_store(
    store: &Store,
    change: Change,
    selection: &Selection,
    dry_run: bool,
) -> Result<Changed, Failure> {
    let mut all = Changed { dry_run, ..Changed::default() };
    for shard in 0..store.shards() {
        let selection = match selection {
            Selection::Ids(ids) => {
                let ids: Vec<_> = ids.iter().copied().filter(|id| id.shard().0 == shard).collect();
                if ids.is_empty() {
                    continue;
                }
                Selection::Ids(ids)
            }
            Selection::Filter(filter) => Selection::Filter(filter.clone()),
        };
        let changed = store.change(Shard(shard), change, &selection, dry_run).await?;
        all.changed += changed.changed;
        all.unknown.extend(changed.unknown);
        all.unfit.extend(changed.unfit.into_iter().map(|(id, state)| Unfit { id, state }));
    }
    if let Selection::Ids(ids) = selection {
        all.unknown.extend(ids.iter().filter(|id| id.shard().0 >= store.shards()));
    }
    Ok(all)
}

/// The members of a filter, as the API names them.
fn members(filter: &DeliveryFilter) -> Vec<(&'static str, String)> {
    let DeliveryFilter { state, webhook, rule, endpoint, event_id } = filter;
    let members = [
        ("state", state.map(|state| state.to_string())),
        ("webhook", webhook.as_ref().map(ToString::to_string)),
        ("rule", rule.as_ref().map(ToString::to_string)),
        ("endpoint", endpoint.map(|endpoint| endpoint.to_string())),
        ("event_id", event_id.as_ref().map(ToString::to_string)),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn query(filter: &DeliveryFilter, cursor: Option<DeliveryId>, limit: usize) -> String {
    let mut query = format!("limit={limit}");
    for (name, value) in members(filter) {
        query += &format!("&{name}={}", percent_encoded(&value));
    }
    if let Some(cursor) = cursor {
        query += &format!("&cursor={cursor}");
    }
    query
}

fn body(selection: &Selection, dry_run: bool) -> Value {
    let mut body = serde_json::Map::new();
    match selection {
        Selection::Ids(ids) => _ = body.insert("ids".into(), json!(ids)),
        Selection::Filter(filter) if *filter == DeliveryFilter::default() => {
            body.insert("all".into(), json!(true));
        }
        Selection::Filter(filter) => {
            body.extend(members(filter).into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
        }
    }
    body.insert("dry_run".into(), json!(dry_run));
    Value::Object(body)
}

/// RFC 3986 section 2.1, for a value in a query.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// The URL of a server that listens there.
pub(crate) fn server_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}
