//! `hookwire completions`: commands and flags at the press of the tab key.

use clap_complete::Shell;
use hookwire_worker::{CommandResult, Exit, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// The shell to complete in.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "hookwire", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Fine)
}
