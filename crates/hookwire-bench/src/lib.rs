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

pub use report::{Report, Row};
pub use scenarios::UnknownScenario;

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

/// Measures, prints the table, and tells whether every scenario came to a result: none was lost and none too many
/// arrived. A target that is missed is a result.
///
/// # Errors
/// If a scenario is unknown or cannot be run here, or a file cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    if let Some(spec) = &arguments.sink {
        sink::main(spec)?;
        return Ok(true);
    }
    if arguments.list {
        for scenario in scenarios::ALL {
            println!("{:<34} {}", scenario.name, scenario.what);
        }
        return Ok(true);
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
        measure_one(scenario, bench, &mut report)?;
    }
    println!("{}", report.table(before.as_ref()));
    let json = serde_json::to_vec_pretty(&report)?;
    for path in [&arguments.json, &arguments.last].into_iter().flatten() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.has_results())
}

fn measure_one(scenario: &Scenario, bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{}: {}", scenario.name, scenario.what);
    report.begin(scenario.name);
    (scenario.run)(bench, report).with_context(|| format!("{} could not be measured", scenario.name))
}

/// The results of the last run; none if there was none, or an earlier version wrote them.
fn last(path: &Path) -> Option<Report> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
