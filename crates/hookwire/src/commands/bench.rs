//! `hookwire bench`: a load test with its own receiver.

use hookwire_worker::LogArguments;

pub(crate) use hookwire_bench::{Arguments, run};

/// Without a line for each of a hundred thousand attempts, unless that was asked for.
pub(crate) fn quiet(log: &LogArguments) -> LogArguments {
    let mut log = log.clone();
    if log.log == "info" {
        "warn".clone_into(&mut log.log);
    }
    log
}
