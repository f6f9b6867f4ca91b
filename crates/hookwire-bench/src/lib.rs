//! The measuring stick: what hookwire does, as a ratio to what the machine can do, in one run.
//!
//! An absolute figure says more about the machine and the hour than about hookwire. So every scenario runs in turn with
//! its own baseline, with the same bodies, the same sink and as much in flight, and what counts is the ratio.
//!
//! Invariants:
//! - What is measured is the product: the worker of `hookwire worker`, put together by the same code from a
//!   configuration file, and, where a scenario needs a process, this program itself.
//! - A run in which something was lost, or arrived more often than the scenario allows, is no result, and says so.
//! - Every process that a scenario starts ends with it, by its own handle. Nothing is sent anywhere but to loopback.

mod client;
mod load;
mod measure;
mod place;
mod process;
mod report;
mod scenarios;
mod setup;
mod sink;
mod worker;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hookwire_worker::{CommandResult, Exit, Failure, print, say};

pub use report::{Report, Row};

use crate::scenarios::Scenario;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Scenarios by name, or by how their names begin, such as "noisy". Without any: those that need nothing but this
    /// program and take less than a minute.
    scenarios: Vec<String>,
    /// Run all scenarios. Those on Redis start a server of their own, and need redis-server on the PATH.
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// Fewer deliveries: under 40 s a scenario.
    #[arg(long)]
    quick: bool,
    /// How many deliveries each round makes, where a scenario counts them; few make the ratios meaningless.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    deliveries: Option<u32>,
    /// Write the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare with the results in this file, then put those of this run in their place.
    #[arg(long, value_name = "FILE")]
    last: Option<PathBuf>,
    /// The receiver's own process.
    #[arg(long, hide = true, value_name = "JSON")]
    sink: Option<String>,
}

/// How much of everything a run makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bench {
    quick: bool,
    deliveries: Option<u32>,
}

impl Bench {
    /// How often a scenario and its baseline are measured.
    fn rounds(self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    /// A number that is smaller in a quick run.
    fn size<T>(self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// How many deliveries a round makes.
    fn deliveries(self, quick: usize, full: usize) -> usize {
        self.deliveries.map_or(self.size(quick, full), |deliveries| deliveries as usize)
    }
}

/// Measures and prints the table. [`Exit::No`] says that a scenario came to no result: something was lost, or too many
/// arrived. A target that is missed is a result.
///
/// # Errors
/// [`Exit::Usage`] if a scenario is unknown, [`Exit::Unavailable`] if one cannot be run here, [`Exit::Io`] if a file or
/// the table cannot be written.
pub fn run(arguments: &Arguments) -> CommandResult {
    if let Some(spec) = &arguments.sink {
        sink::main(spec).map_err(unavailable)?;
        return Ok(Exit::Fine);
    }
    if arguments.list {
        let lines =
            scenarios::ALL.iter().map(|scenario| format!("{:<34} {}\n", scenario.name, scenario.what));
        print(&lines.collect::<String>())?;
        return Ok(Exit::Fine);
    }
    let chosen = if arguments.all {
        scenarios::ALL.iter().collect()
    } else {
        scenarios::chosen(&arguments.scenarios)?
    };
    let before = arguments.last.as_deref().and_then(last);
    let bench = Bench { quick: arguments.quick, deliveries: arguments.deliveries };
    let mut report = Report::default();
    for scenario in chosen {
        measure_one(scenario, bench, &mut report).map_err(unavailable)?;
    }
    // What took so long to measure is kept before anything can be wrong with the terminal.
    for path in [&arguments.json, &arguments.last].into_iter().flatten() {
        keep(&report, path).map_err(|error| Failure::new(Exit::Io, error))?;
    }
    print(&report.table(before.as_ref()))?;
    Ok(if report.has_results() { Exit::Fine } else { Exit::No })
}

fn unavailable(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Unavailable, error)
}

fn keep(report: &Report, path: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(report)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))
}

fn measure_one(scenario: &Scenario, bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    say(format_args!("{}: {}", scenario.name, scenario.what));
    report.begin(scenario.name);
    (scenario.run)(bench, report).with_context(|| format!("{} could not be measured", scenario.name))
}

/// The results of the last run; none if there was none, or an earlier version wrote them.
fn last(path: &Path) -> Option<Report> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
