//! `hookwire dev`: everything in one process, to see it work.
//!
//! The store lies in a temporary folder, which goes with the program.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hookwire_config::{Config, Overrides};
use hookwire_engine::{Clock as _, SystemClock, publish};
use hookwire_model::{Delivery, Event, EventDefaults, EventId, Shard};
use hookwire_queue::Inspect as _;
use hookwire_worker::{
    CommandResult, Exit, Failure, Store, in_force, new_event_id, open_store, print, runtime, say,
    shutdown_token,
};
use tokio::net::TcpListener;
use webhook_receiver::{Listeners, Options};

use crate::commands::serve::Running;
use crate::output::delivery_text;
use crate::target::server_url;

const RECEIVER_PORT: u16 = 9000;
const SERVER_PORT: u16 = 8080;
/// How long the sample's delivery may take: it goes from one socket of this machine to another.
const SAMPLE_WAIT: Duration = Duration::from_secs(15);

const DEFINITIONS: &str = include_str!("dev.toml");

const SAMPLE: &str = r#"{"event": "created", "object_type": "dcim.site", "username": "admin",
  "data": {"id": 1, "name": "Berlin \"Mitte\"", "slug": "berlin", "status": {"value": "active", "label": "Active"}}}"#;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Port of the receiver; if it is taken, another is used.
    #[arg(long, default_value_t = RECEIVER_PORT, value_name = "PORT")]
    receiver_port: u16,
    /// Port of the server; if it is taken, another is used.
    #[arg(long, default_value_t = SERVER_PORT, value_name = "PORT")]
    port: u16,
}

/// What is logged unless something else was asked for: a line for each attempt besides.
pub(crate) const LOG: &str = "info,hookwire_engine=debug";

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        let shutdown = shutdown_token();
        let folder = tempfile::tempdir().map_err(|error| Failure::new(Exit::Io, error))?;
        let receiver = bind_receiver(arguments.receiver_port).await?;
        let listener = bind_server(arguments.port).await?;

        let Config { mut settings, definitions, .. } = sample_config(folder.path(), receiver.port())?;
        settings.store.url = hookwire_config::StoreUrl::Embedded(folder.path().join("store"));
        let in_force = in_force(definitions)?;
        let store = open_store(&settings, Duration::ZERO).await?;

        print(&receiver.banner())?;
        let shown = tokio::spawn(webhook_receiver::serve(
            receiver,
            Options::default(),
            || SystemClock.now(),
            io::stdout(),
            shutdown.clone().cancelled_owned(),
        ));
        // People use it without a configuration, so it answers whatever store is named.
        let running = Running::start(Arc::new(settings), None, in_force, store, listener, &shutdown)?;
        let url = server_url(running.address);

        let event = sample_event()?;
        let id = event.id.clone();
        publish(running.store(), &[event]).await?;
        match wait_for_delivery(running.store(), &id).await? {
            Some(delivery) => print(&format!("\n{}\n{}", delivery_text(&delivery), next_steps(&url)))?,
            None => say("the sample event was not delivered in time; the log above says why"),
        }
        io::stdout().flush().map_err(|error| Failure::new(Exit::Io, error))?;

        running.finish().await?;
        // It stops by the same token; what it printed last is what the worker sent last.
        let _ = shown.await;
        Ok(Exit::Fine)
    })
}

async fn bind_receiver(port: u16) -> Result<Listeners, Failure> {
    let bound = match Listeners::bind(None, port).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            say(format_args!("port {port} is taken; the receiver takes another"));
            Listeners::bind(None, 0).await
        }
        bound => bound,
    };
    bound.map_err(|error| Failure::new(Exit::Unavailable, error))
}

async fn bind_server(port: u16) -> Result<TcpListener, Failure> {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let bound = match TcpListener::bind(at(port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            say(format_args!("port {port} is taken; the server takes another"));
            TcpListener::bind(at(0)).await
        }
        bound => bound,
    };
    bound.map_err(|error| Failure::new(Exit::Unavailable, error))
}

/// The sample definitions, by way of a file, as anybody's would be.
fn sample_config(folder: &std::path::Path, receiver_port: u16) -> Result<Config, Failure> {
    let path = folder.join("hookwire.toml");
    let text = DEFINITIONS.replace("http://{receiver}", &format!("http://localhost:{receiver_port}"));
    std::fs::write(&path, text).map_err(|error| Failure::new(Exit::Io, error))?;
    // What is set for a real server has no place here.
    hookwire_config::load(&[path], &|_| None, &Overrides::new())
        .map_err(|error| Failure::new(Exit::Config, error))
}

fn sample_event() -> Result<Event, Failure> {
    let mut defaults = EventDefaults { now: SystemClock.now(), new_id: &mut new_event_id };
    Event::parse(SAMPLE, &mut defaults).map_err(|error| Failure::new(Exit::Data, error))
}

async fn wait_for_delivery(store: &Store, id: &EventId) -> Result<Option<Delivery>, Failure> {
    let began = tokio::time::Instant::now();
    while began.elapsed() < SAMPLE_WAIT {
        let stored = store.event(Shard(0), id).await?;
        let deliveries = stored.map(|stored| stored.deliveries).unwrap_or_default();
        if let Some(found) = deliveries.iter().find(|delivery| delivery.attempts > 0) {
            return Ok(store.delivery(found.id).await?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}

fn next_steps(url: &str) -> String {
    let event = r#"{"event": "updated", "object_type": "dcim.site", "username": "you", "data": {"id": 1, "name": "Berlin", "slug": "berlin", "status": {"value": "active"}}}"#;
    format!(
        "Send the next event:\n\n  curl {url}/v1/events -H 'content-type: application/json' -d '{event}'\n\n\
         See what became of it:\n\n  curl {url}/v1/deliveries\n\nStop with CONTROL-C.\n"
    )
}
