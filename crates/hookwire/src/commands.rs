//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod deliveries;
pub(crate) mod dev;
pub(crate) mod endpoints;
pub(crate) mod explain;
pub(crate) mod import;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod preview;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod stats;

use std::path::PathBuf;
use std::sync::Arc;

use hookwire_config::Config;
use hookwire_model::Event;
use hookwire_worker::{ConfigArguments, Exit, Failure, render, say};

use crate::events::{Input, NewIds};
use crate::output::Format;

/// What `preview` and `explain` take: definitions, and an event to hold against them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EventArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// File with the event, or - for standard input.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// How it looks.
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

impl EventArguments {
    /// The sound definitions and the events; what is wrong with the other definitions is told.
    pub(crate) fn load(&self) -> Result<(Config, Vec<Arc<Event>>), Failure> {
        let (config, problems) = self.config.load_sound()?;
        if !problems.is_empty() {
            say(render(&problems));
        }
        let bytes_max = config.settings.server.max_event_bytes;
        let mut events = Vec::new();
        let input = Input::open(&self.event, bytes_max)?;
        input.read(bytes_max, NewIds::Unique, "", |event, _| {
            events.push(Arc::new(event));
            Ok(())
        })?;
        if events.is_empty() {
            return Err(Failure::message(Exit::Data, format!("{}: there is no event in it", input.name())));
        }
        // Those that do not check have been told already.
        if problems.is_empty() && config.definitions.rules().next().is_none() {
            say("no event rules are defined; name a configuration with --config");
        }
        Ok((config, events))
    }
}
