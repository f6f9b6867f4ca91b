//! `cargo xtask sim`: builds the simulation with optimisation and runs it.

use crate::run::{self, cargo};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Given to the simulation: `--seeds N`, `--seed S`, `--trace`; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = cargo(&["run", "--release", "--locked", "--quiet", "-p", "hookwire-sim", "--"]);
    command.args(&arguments.rest);
    run::run(command)
}
