//! Logs: to standard error, as text for people or JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::exit::{Exit, Failure};

/// How logs look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Whether what goes there may be coloured: it is a terminal, and nobody asked for none (no-color.org).
pub fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What is logged, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArguments {
    /// What to log: error, warn, info, debug, trace, off, or a filter such as "info,hookwire_engine=debug". Default: info;
    /// of dev a line for each attempt besides, of bench warn.
    #[arg(long, global = true, help_heading = "Logs", env = "HOOKWIRE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How logs look.
    #[arg(
        long,
        global = true,
        help_heading = "Logs",
        env = "HOOKWIRE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

impl LogArguments {
    /// Starts logging what was asked for, or `info`.
    ///
    /// # Errors
    /// Exit code 2 for a filter that cannot be read.
    pub fn start(&self) -> Result<(), Failure> {
        self.start_with("info")
    }

    /// The same with another filter for whoever asked for none.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(&self, default: &str) -> Result<(), Failure> {
        let log = self.log.as_deref().unwrap_or(default);
        let filter = filter(log)
            .map_err(|reason| Failure::message(Exit::Usage, format!("--log {log:?}: {reason}")))?;
        // A log that nobody reads any more (a closed pipe, a terminal that has gone) is no reason to stop sending:
        // without this the failed write would be told on the same standard error, by a panic.
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .log_internal_errors(false);
        match self.log_format {
            LogFormat::Text => builder.with_target(false).with_ansi(is_coloured(&std::io::stderr())).init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }
}

/// Reads a filter. A word by itself has to be a level: taken for the name of a module, as [`EnvFilter`] does, a mistyped
/// one would silence everything else.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = |part: &&str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':'))
    };
    let mut words = text.split(',').map(str::trim).filter(is_word);
    match words.find(|word| word.parse::<LevelFilter>().is_err()) {
        Some(word) => Err(format!(
            "{word:?} is no level; use error, warn, info, debug, trace or off, and for a part of the program its name \
             with a level, such as hookwire_engine=debug"
        )),
        None => EnvFilter::try_new(text).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in
            ["info", "WARN", "off", "", "info,hookwire_engine=debug", "warn,hyper=off", "[lane{a=1}]=debug"]
        {
            assert!(filter(good).is_ok(), "{good}: {:?}", filter(good).err());
        }
        for bad in ["warning", "verbose", "hookwire_engine", "info,foo", "hookwire_engine=loud"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
        let told = filter("info,warning").unwrap_err();
        assert!(told.starts_with("\"warning\" is no level; use error, warn"), "{told}");
    }
}
