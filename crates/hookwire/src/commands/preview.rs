//! `hookwire preview`: what would be sent, without sending.

use hookwire_definitions::PreviewFilter;
use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::RuleName;
use hookwire_worker::{CommandResult, Exit, Failure, egress_refusal, print};

use crate::commands::EventArguments;
use crate::output::{Format, json};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    event: EventArguments,
    /// Only this rule.
    #[arg(long, value_name = "NAME", value_parser = RuleName::new)]
    rule: Option<RuleName>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let (config, events) = arguments.event.load()?;
    let rule = &arguments.rule;
    let filter = PreviewFilter { rule: rule.as_ref().map(ToString::to_string), ..PreviewFilter::default() };
    let refusal = egress_refusal(&config.settings);
    let mut previews = Vec::new();
    for event in &events {
        previews.extend(config.definitions.preview(event, &filter, SystemClock.now(), &*refusal));
    }
    if let (Some(rule), true) = (rule, previews.is_empty()) {
        return Err(Failure::message(Exit::No, format!("there is no rule {:?}", rule.as_str())));
    }
    match arguments.event.format {
        Format::Json => print(&json(&previews))?,
        Format::Text => {
            let texts: Vec<String> = previews.iter().map(ToString::to_string).collect();
            print(&texts.join("\n"))?;
        }
    }
    let unmatched = rule.is_some() && !previews.iter().any(|preview| preview.matched);
    let failed = previews.iter().any(|preview| preview.is_error());
    Ok(if failed || unmatched { Exit::No } else { Exit::Fine })
}
