//! `hookwire config`: what is in force and where it comes from, and the schema for editors.

use clap::Subcommand;
use hookwire_worker::{CommandResult, ConfigArguments, Exit, print};

use crate::output::Format;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Shows all settings and definitions in force, and where each value comes from; secrets are masked.
    Show(Show),
    /// Prints the JSON Schema of a configuration file, for editors.
    Schema,
}

#[derive(Debug, Clone, clap::Args)]
struct Show {
    #[command(flatten)]
    config: ConfigArguments,
    /// How to print it: as TOML with the origins behind the values, or as JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match &arguments.what {
        What::Show(show) => {
            let shown = show.config.show()?;
            print(&match show.format {
                Format::Text => shown.to_string(),
                Format::Json => format!("{:#}", shown.to_json()),
            })?;
        }
        What::Schema => print(&format!("{:#}", hookwire_config::schema()))?,
    }
    Ok(Exit::Fine)
}
