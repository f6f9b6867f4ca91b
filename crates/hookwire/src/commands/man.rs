//! `hookwire man`: the manual pages, made from the same words as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap_mangen::Man;
use hookwire_worker::{CommandResult, Exit, Failure, print};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Writes a page for every command into this folder, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, command: clap::Command) -> CommandResult {
    let Some(folder) = &arguments.output else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(|error| Failure::new(Exit::Io, error))?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Fine);
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written
        .with_context(|| format!("the pages cannot be written to {}", folder.display()))
        .map_err(|error| Failure::new(Exit::Io, error))?;
    Ok(Exit::Fine)
}
