//! What a real NetBox decided, rendered and sent, against what becomes of its definitions here: through the importer, its
//! file and the configuration, and for redirects, retries, timeouts and TLS over loopback.
//!
//! It runs without the test harness, so that its three lines, `matched / total` for each file, always show.
//!
//! Invariants:
//! - Every line of the three files is looked at. One that does not match stands in a list of differences, with its
//!   reason and with what becomes of it today; an entry that no longer differs is an error, too.
//! - Every difference has an entry in `docs/netbox.md`.

mod conditions;
mod deliveries;
mod sending;
mod support;
mod templates;

use std::process::ExitCode;

fn main() -> ExitCode {
    let comparisons = [conditions::compare(), templates::compare(), deliveries::compare()];
    println!();
    for comparison in &comparisons {
        println!("{comparison}");
    }
    let problems: Vec<&String> = comparisons.iter().flat_map(|comparison| &comparison.problems).collect();
    for problem in &problems {
        println!("\n{problem}");
    }
    let failed = comparisons.iter().filter(|comparison| !comparison.problems.is_empty()).count();
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {failed} failed; 0 ignored", comparisons.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
