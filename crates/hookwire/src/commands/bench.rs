//! `hookwire bench`: a load test with its own receiver.

use hookwire_worker::{CommandResult, Exit, Failure, LogArguments};

pub(crate) use hookwire_bench::Arguments;

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    match hookwire_bench::run(arguments) {
        Ok(true) => Ok(Exit::Fine),
        Ok(false) => Ok(Exit::No),
        Err(error) if error.is::<hookwire_bench::UnknownScenario>() => Err(Failure::new(Exit::Usage, error)),
        Err(error) => Err(Failure::new(Exit::Unavailable, error)),
    }
}

/// Without a line for each of a hundred thousand attempts, unless that was asked for.
pub(crate) fn quiet(log: &LogArguments) -> LogArguments {
    let mut log = log.clone();
    if log.log == "info" {
        "warn".clone_into(&mut log.log);
    }
    log
}
