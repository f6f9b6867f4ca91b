//! `hookwire preview`: what would be sent, without sending.

use std::path::PathBuf;

use hookwire_definitions::PreviewFilter;
use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::RuleName;
use hookwire_worker::{CommandResult, ConfigArguments, Exit, Failure, render};

use crate::commands::{parse_events, read_text};
use crate::output::{Format, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// File with the event, or - for standard input.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// Only this rule.
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
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
    let rule = match &arguments.rule {
        Some(rule) => Some(RuleName::new(rule).map_err(|error| Failure::new(Exit::Usage, error))?),
        None => None,
    };
    let filter = PreviewFilter { rule: arguments.rule.clone(), ..PreviewFilter::default() };
    let mut previews = Vec::new();
    for event in &events {
        previews.extend(config.definitions.preview(event, &filter, SystemClock.now()));
    }
    if let (Some(rule), true) = (&rule, previews.is_empty()) {
        return Err(Failure::message(Exit::No, format!("there is no rule {:?}", rule.as_str())));
    }
    match arguments.format {
        Format::Json => {
            print(&serde_json::to_string_pretty(&previews).expect("strings and numbers always serialise"));
        }
        Format::Text => {
            let texts: Vec<String> = previews.iter().map(ToString::to_string).collect();
            print(&texts.join("\n"));
        }
    }
    let unmatched = rule.is_some() && !previews.iter().any(|preview| preview.matched);
    let failed = previews.iter().any(|preview| preview.is_error());
    Ok(if failed || unmatched { Exit::No } else { Exit::Fine })
}
