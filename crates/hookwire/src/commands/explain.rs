//! `hookwire explain`: why each rule matches, or does not.

use std::path::PathBuf;

use hookwire_worker::{CommandResult, ConfigArguments, Exit, render};

use crate::commands::{parse_events, read_text};
use crate::output::{Format, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// File with the event, or - for standard input.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let (config, problems) = arguments.config.load_sound()?;
    if !problems.is_empty() {
        eprintln!("{}", render(&problems));
    }
    let text = read_text(&arguments.event)?;
    let name = arguments.event.display().to_string();
    let events = parse_events(&name, &text, config.settings.server.max_event_bytes)?;
    let mut explanations = Vec::new();
    for event in &events {
        explanations.extend(config.definitions.explain(event));
    }
    match arguments.format {
        Format::Json => {
            print(
                &serde_json::to_string_pretty(&explanations).expect("strings and numbers always serialise"),
            );
        }
        Format::Text => {
            let texts: Vec<String> = explanations.iter().map(ToString::to_string).collect();
            print(&texts.join("\n"));
        }
    }
    Ok(Exit::Fine)
}
