//! The project's own commands: ci, test, sim, mutants, bench, tidy, docs.
//!
//! `cargo xtask ci` is all of it, on a developer's machine and in continuous integration alike. One file per command.

mod bench;
mod ci;
mod docs;
mod mutants;
mod redis;
mod run;
mod sim;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything: format, tidy, lints, documentation, all tests.
    Ci,
    /// All tests; gets redis-server where it is missing.
    Test(test::Arguments),
    /// Runs seeds of the simulation; `--seed S --trace` shows one.
    Sim(sim::Arguments),
    /// Makes deliberate mistakes in a copy of the project, and sees whether the simulation finds them.
    Mutants(mutants::Arguments),
    /// Measures; prints a table of ratios.
    Bench(bench::Arguments),
    /// Checks what reviewers would otherwise repeat: the arrows between crates, file headers, pure crates, pages, links.
    Tidy,
    /// Writes the pages that are made of the code's own tables.
    Docs,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Ci => ci::run(),
        Command::Test(arguments) => test::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Mutants(arguments) => mutants::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Docs => docs::run(),
    }
}
