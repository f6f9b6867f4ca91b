//! `hookwire deliveries`: what waits, ran and failed, and acting on it.

use clap::Subcommand;
use hookwire_model::{DeliveryId, DeliveryState};
use hookwire_queue::Change;
use hookwire_worker::{CommandResult, Exit, Failure, print, runtime, say};
use serde_json::json;

use crate::output::{Format, delivery_table, delivery_text, json};
use crate::select::{ActArguments, FilterArguments, StateArguments};
use crate::target::TargetArguments;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Lists deliveries, newest first.
    List(List),
    /// Shows one delivery with its attempts.
    Show(Show),
    /// Sends deliveries now: waiting ones at once, dead ones again, delivered ones once more.
    Retry(Act),
    /// Takes waiting and dead deliveries back: they are sent no more.
    Cancel(Act),
}

#[derive(Debug, Clone, clap::Args)]
struct List {
    #[command(flatten)]
    state: StateArguments,
    #[command(flatten)]
    list: ListArguments,
}

/// What a command that lists takes besides a state.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    filter: FilterArguments,
    /// How many at most.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Goes on after an earlier list: the cursor it ended with.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<DeliveryId>,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, clap::Args)]
struct Show {
    #[command(flatten)]
    target: TargetArguments,
    /// The delivery's id: dlv_...
    id: DeliveryId,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, clap::Args)]
struct Act {
    #[command(flatten)]
    state: StateArguments,
    #[command(flatten)]
    act: ActArguments,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(List { state, list }) => list.run(state.state(), "no deliveries").await,
            Command::Show(show) => show.run().await,
            Command::Retry(Act { state, act }) => act.run(Change::Retry, state.state()).await,
            Command::Cancel(Act { state, act }) => act.run(Change::Cancel, state.state()).await,
        }
    })
}

impl ListArguments {
    /// Lists deliveries in a state; `none` is what is said where there are none.
    pub(crate) async fn run(&self, state: Option<DeliveryState>, none: &str) -> CommandResult {
        let target = self.target.find().await?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let listed = target.list(&self.filter.with_state(state), self.cursor, limit).await;
        target.close().await;
        let (items, next_cursor) = listed?;
        match self.format {
            Format::Json => print(&json(&json!({ "items": items, "next_cursor": next_cursor })))?,
            Format::Text if items.is_empty() => print(none)?,
            Format::Text => print(&delivery_table(&items))?,
        }
        if let (Format::Text, Some(cursor)) = (self.format, next_cursor) {
            say(format_args!("there are more: go on with --cursor {cursor}"));
        }
        Ok(Exit::Fine)
    }
}

impl Show {
    async fn run(&self) -> CommandResult {
        let target = self.target.find().await?;
        let found = target.delivery(self.id).await;
        target.close().await;
        let Some(delivery) = found? else {
            let message = format!("no delivery has the id {}, or it is no longer kept", self.id);
            return Err(Failure::message(Exit::No, message));
        };
        match self.format {
            Format::Json => print(&json(&delivery))?,
            Format::Text => print(&delivery_text(&delivery))?,
        }
        Ok(Exit::Fine)
    }
}
