//! What people and programs read of a command: results on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;

use crate::exit::{Exit, Failure};

/// A line on standard error. Where it cannot be written (a full disk, a terminal that has gone), the work goes on all
/// the same: `eprintln!` would end it with a panic.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A result on standard output. A reader that has gone away (`| head`) has read enough.
///
/// # Errors
/// Exit code 74 if it cannot be written: a script must not take a file that is cut off for the answer.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{newline}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error)
            .context("standard output cannot be written")
            .map_err(|error| Failure::new(Exit::Io, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
