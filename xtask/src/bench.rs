//! `cargo xtask bench`: builds hookwire with optimisation, and has it measure itself.

use crate::redis;
use crate::run::{self, cargo, root};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Given to `hookwire bench`: scenarios by name or beginning (all of them by default), `--quick`, `--json FILE`;
    /// `--list` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    redis::ensure_server()?;
    let mut command = cargo(&["run", "--release", "--locked", "--quiet", "-p", "hookwire", "--", "bench"]);
    if !names_scenarios(&arguments.rest) {
        command.arg("--all");
    }
    // The next run shows what has changed.
    command.arg("--last").arg(root().join("target/bench.json"));
    command.args(&arguments.rest);
    run::run(command)
}

/// Whether there is anything but flags and their values.
fn names_scenarios(rest: &[String]) -> bool {
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--all" => return true,
            "--json" | "--last" | "--deliveries" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_told_from_flags() {
        let names =
            |line: &str| names_scenarios(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert!(!names("") && !names("--quick --json out.json") && !names("--json=out.json"));
        assert!(names("noisy --quick") && names("--quick crash") && names("--all"));
    }
}
