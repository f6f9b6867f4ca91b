//! `hookwire publish`: events from files or standard input into a running server, or into the store.
//!
//! Events are read and checked before any is published, so that a mistake in the middle of a file publishes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookwire_model::Event;
use hookwire_worker::{CommandResult, Exit, Failure, runtime};

use crate::client::{Client, Refusal};
use crate::commands::{parse_events, read_text};
use crate::output::print;
use crate::target::{Target, TargetArguments};

/// Events per call: enough to share a commit, few enough to stay far below the limit on a request.
const BATCH: usize = 100;
/// Bytes per call: a quarter of what a server takes by default.
const BATCH_BYTES: usize = 8 << 20;
/// The largest event without a configuration that says otherwise.
const EVENT_BYTES_MAX: u64 = 1 << 20;
/// Waits between tries while the server is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// How long a server that is away or busy is tried again, in seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS")]
    wait: u64,
    /// Files with events: JSON, an array, or one a line; - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let mut events = Vec::new();
    for path in &arguments.files {
        let text = read_text(path)?;
        events.extend(parse_events(&path.display().to_string(), &text, EVENT_BYTES_MAX)?);
    }
    runtime()?.block_on(async {
        match arguments.target.find().await? {
            Target::Server(client) => {
                let wait = Duration::from_secs(arguments.wait);
                // The client blocks; nothing else runs here that it could hold up.
                publish_to_server(&client, &events, wait)?;
            }
            Target::Store(store) => {
                for batch in batches(&events) {
                    let events: Vec<Event> = batch.iter().map(|event| Event::clone(event)).collect();
                    let receipts = hookwire_engine::publish(&store, &events).await?;
                    tell(receipts.iter().map(|receipt| (receipt.id.as_str(), receipt.duplicate)));
                }
                store.close().await;
            }
        }
        Ok(Exit::Fine)
    })
}

/// Prints one id a line, and says on standard error which were known already.
fn tell<'a>(receipts: impl Iterator<Item = (&'a str, bool)>) {
    let mut ids = String::new();
    for (id, duplicate) in receipts {
        ids.push_str(id);
        ids.push('\n');
        if duplicate {
            eprintln!("{id} was published before; nothing was stored");
        }
    }
    print(&ids);
}

fn publish_to_server(client: &Client, events: &[Arc<Event>], wait: Duration) -> Result<(), Failure> {
    for batch in batches(events) {
        let lines: Vec<String> = batch.iter().map(|event| event.to_payload()).collect();
        let body = lines.join("\n");
        let began = Instant::now();
        let mut pause = RETRY.0;
        let published = loop {
            match client.publish(&body, "application/x-ndjson") {
                Ok(published) => break published,
                // The same ids again: what had arrived is known, and not repeated.
                Err(Refusal::Unreachable(message) | Refusal::Busy(message))
                    if began.elapsed() + pause < wait =>
                {
                    tracing::warn!(message, "trying again");
                    std::thread::park_timeout(pause);
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(refusal) => return Err(refusal.into()),
            }
        };
        tell(published.ids.iter().map(|id| (id.as_str(), published.duplicates.contains(id))));
    }
    Ok(())
}

/// The events in batches that a server takes.
fn batches(events: &[Arc<Event>]) -> impl Iterator<Item = &[Arc<Event>]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let mut count = 0;
        for event in rest.iter().take(BATCH) {
            bytes += event.data.as_str().len() + 1024;
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        let (batch, after) = rest.split_at(count);
        rest = after;
        Some(batch)
    })
}
