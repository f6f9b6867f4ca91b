//! `hookwire explain`: why each rule matches, or does not.

use hookwire_worker::{CommandResult, Exit, print};

use crate::commands::EventArguments;
use crate::output::{Format, json};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    event: EventArguments,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let (config, events) = arguments.event.load()?;
    let mut explanations = Vec::new();
    for event in &events {
        explanations.extend(config.definitions.explain(event));
    }
    match arguments.event.format {
        Format::Json => print(&json(&explanations))?,
        Format::Text => {
            let texts: Vec<String> = explanations.iter().map(ToString::to_string).collect();
            print(&texts.join("\n"))?;
        }
    }
    Ok(Exit::Fine)
}
