//! `hookwire stats`: how much waits, runs, failed and is kept.

use std::fmt::Write as _;

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::Timestamp;
use hookwire_queue::Stats;
use hookwire_worker::{CommandResult, Exit, Failure, print, runtime};
use serde::Deserialize;
use serde_json::Value;

use crate::output::{Format, bytes_text, counted, duration_text, json};
use crate::target::TargetArguments;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What the API tells, as far as it is shown here.
#[derive(Debug, Deserialize)]
struct Told {
    shards: Vec<Stats>,
    definitions: Option<Definitions>,
}

/// The definitions in force in a running server.
#[derive(Debug, Deserialize)]
struct Definitions {
    rules: u64,
    webhooks: u64,
    fingerprint: String,
    loaded_at: Timestamp,
    reloads: u64,
    refused: Option<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    at: Timestamp,
    message: String,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        let target = arguments.target.find().await?;
        let stats = target.stats().await;
        target.close().await;
        let stats = stats?;
        match arguments.format {
            Format::Json => print(&json(&stats))?,
            Format::Text => print(&text(stats, SystemClock.now())?)?,
        }
        Ok(Exit::Fine)
    })
}

fn text(stats: Value, now: Timestamp) -> Result<String, Failure> {
    let told: Told = serde_json::from_value(stats).map_err(|error| {
        let message = "the server tells other counts than this program knows; --format json shows them";
        Failure::new(Exit::Unavailable, anyhow::Error::new(error).context(message))
    })?;
    let sum = |count: fn(&Stats) -> u64| told.shards.iter().map(count).sum::<u64>().to_string();
    let mut lines = vec![
        ("events queued", sum(|shard| shard.events_queued)),
        ("events in fan-out", sum(|shard| shard.events_leased)),
        ("deliveries waiting", sum(|shard| shard.waiting)),
        ("deliveries running", sum(|shard| shard.running)),
        ("dead letters", sum(|shard| shard.dead)),
        ("delivered", sum(|shard| shard.delivered)),
        ("cancelled", sum(|shard| shard.cancelled)),
        ("superseded", sum(|shard| shard.superseded)),
    ];
    let oldest = told.shards.iter().filter_map(|shard| shard.oldest_pending_at).min();
    lines.push((
        "oldest pending",
        oldest.map_or_else(
            || "none".to_owned(),
            |at| format!("{at}, {} ago", duration_text(now.saturating_since(at))),
        ),
    ));
    let total = |count: fn(&Stats) -> u64| told.shards.iter().map(count).sum::<u64>();
    lines.push(("pending bytes", bytes_text(total(|shard| shard.pending_bytes))));
    lines.push(("history bytes", bytes_text(total(|shard| shard.history_bytes))));
    let window = told.shards.iter().map(|shard| shard.dedup_window_ms).min().unwrap_or_default();
    let window = duration_text(std::time::Duration::from_millis(window));
    lines.push(("ids remembered", format!("{}, for {window}", total(|shard| shard.dedup_ids))));
    if told.shards.len() > 1 {
        lines.push(("shards", told.shards.len().to_string()));
    }
    if let Some(definitions) = &told.definitions {
        let Definitions { rules, webhooks, fingerprint, loaded_at, reloads, refused } = definitions;
        let what = format!("{}, {}", counted(*rules, "event rule"), counted(*webhooks, "webhook"));
        lines
            .push(("definitions", format!("{what}, loaded at {loaded_at}, {}", counted(*reloads, "reload"))));
        lines.push(("fingerprint", fingerprint.clone()));
        if let Some(Refused { at, message }) = refused {
            lines.push(("refused reload", format!("at {at}: {message}")));
        }
    }
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<20}{value}");
    }
    Ok(text)
}
