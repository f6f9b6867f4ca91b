//! The measuring stick: throughput of the whole path as a ratio to bare clients, in one run.
//!
//! An absolute figure says more about the machine and the hour than about hookwire. So every scenario runs in turn with
//! its baselines, with the same bodies, the same sink and as much in flight, and what counts is the ratio.

mod client;
mod load;
mod report;
mod scenario;
mod sink;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::report::Report;

/// Measures throughput as a ratio to bare clients.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Scenarios to run; all of them by default.
    scenarios: Vec<String>,
    /// Fewer events: under 40 s a scenario.
    #[arg(long)]
    quick: bool,
    /// Writes the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// The receiver's own process.
    #[command(hide = true)]
    Sink,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Sink) = arguments.command {
        return sink::main();
    }
    let (events, rounds) = if arguments.quick { (10_000, 3) } else { (40_000, 5) };
    let mut report = Report::default();
    for name in scenario::chosen(&arguments.scenarios)? {
        scenario::run(name, events, rounds, &mut report)?;
    }
    println!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
