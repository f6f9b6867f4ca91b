//! `hookwire check`: definitions, templates and settings, and with `--events` what they make of real events.

use std::path::PathBuf;
use std::sync::Arc;

use hookwire_config::LoadError;
use hookwire_definitions::{HeldBack, PreviewFilter};
use hookwire_engine::{Clock as _, SystemClock};
use hookwire_worker::{
    CommandResult, ConfigArguments, Exit, Failure, egress_refusal, in_force, load_failure,
    misspelt_variables, print, refused_addresses, render, say,
};

use crate::events::{Input, NewIds};
use crate::output::counted;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Renders every event of this file under every rule that matches it, and tells what fails.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// What becomes of requests to an address that is not called.
const DEAD: &str = "the delivery would be a dead letter";

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let paths = arguments.config.paths();
    if paths.is_empty() {
        let message = "there is nothing to check: name a file or folder with --config";
        return Err(Failure::message(Exit::Usage, message));
    }
    let config = match arguments.config.try_load() {
        Ok(config) => config,
        Err(LoadError::Invalid(diagnostics)) => {
            say(render(&diagnostics));
            say(format_args!("{} found", counted(diagnostics.len(), "problem")));
            return Ok(Exit::No);
        }
        Err(error @ LoadError::Unreadable { .. }) => return Err(load_failure(error)),
    };
    if !config.warnings.is_empty() {
        say(render(&config.warnings));
    }
    let mut warnings = config.warnings.len();
    for (name, meant) in misspelt_variables() {
        warnings += 1;
        say(format_args!("  ⚠ the environment variable {name} is none of hookwire's; did you mean {meant}?"));
    }
    for (webhook, refusal) in refused_addresses(&config) {
        warnings += 1;
        say(format_args!("  ⚠ webhook {webhook}: {refusal}; {DEAD}"));
    }
    let (webhooks, rules) = (config.definitions.webhooks().count(), config.definitions.rules().count());
    let failed = match &arguments.events {
        Some(path) => {
            let bytes_max = config.settings.server.max_event_bytes;
            let mut failed: u64 = 0;
            let refusal = egress_refusal(&config.settings);
            let events = Input::open(path, bytes_max)?.read(bytes_max, NewIds::Unique, "", |event, _| {
                let event = Arc::new(event);
                let filter = PreviewFilter::default();
                for preview in config.definitions.preview(&event, &filter, SystemClock.now(), &*refusal) {
                    if preview.is_error() {
                        failed += 1;
                        say(format_args!("event {}:\n{preview}", event.id));
                    } else if let (Some(HeldBack::Refused(refusal)), Some(webhook)) =
                        (preview.held_back, preview.webhook)
                    {
                        say(format_args!("  ⚠ event {}, webhook {webhook}: {refusal}; {DEAD}", event.id));
                    }
                }
                Ok(())
            })?;
            print(&format!("{}, {}", counted(events, "event"), counted(failed, "failure")))?;
            failed
        }
        None => 0,
    };
    // Certificates are read here, too: they are part of what a server would refuse to start with.
    if let Err(failure) = in_force(config.definitions) {
        say(failure);
        return Ok(Exit::No);
    }
    if failed > 0 {
        return Ok(Exit::No);
    }
    let warned =
        if warnings > 0 { format!(", with {}", counted(warnings, "warning")) } else { String::new() };
    let (webhooks, rules) = (counted(webhooks, "webhook"), counted(rules, "event rule"));
    print(&format!("{webhooks} and {rules} are sound{warned}"))?;
    Ok(Exit::Fine)
}
