//! `hookwire dead`: dead letters, which get no more attempts by themselves and wait for a person.

use clap::Subcommand;
use hookwire_model::DeliveryState;
use hookwire_queue::Change;
use hookwire_worker::{CommandResult, runtime};

use crate::commands::deliveries::ListArguments;
use crate::select::ActArguments;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Lists dead letters, newest first.
    List(ListArguments),
    /// Sends dead letters again, with all their attempts anew.
    Redrive(ActArguments),
    /// Removes dead letters from the record, for good.
    Purge(ActArguments),
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(list) => list.run(Some(DeliveryState::Dead), "no dead letters").await,
            Command::Redrive(act) => act.run(Change::Redrive, None).await,
            Command::Purge(act) => act.run(Change::Purge, None).await,
        }
    })
}
