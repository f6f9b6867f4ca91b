//! `cargo xtask test`: all tests, and how many there were.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::redis;
use crate::run::{self, cargo};

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Given to `cargo test`, such as `-p hookwire-rules`; without any, the whole workspace is tested.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    redis::ensure_server()?;
    let is_whole = arguments.rest.is_empty();
    // The integration tests drive the built binaries, which `cargo test` of another package does not build. Where all is
    // tested, they are built with the features that the tests need, so that no crate is compiled twice.
    let mut build = cargo(&["build", "--locked"]);
    match is_whole {
        true => build.args(["--workspace", "--all-features", "--all-targets"]),
        false => build.args(["-p", "hookwire", "-p", "hookwire-worker", "-p", "webhook_receiver"]),
    };
    run::run(build)?;
    let mut command = cargo(&["test", "--locked", "--no-fail-fast"]);
    match is_whole {
        true => command.args(["--workspace", "--all-features"]),
        false => command.args(&arguments.rest),
    };
    let mut counts = Counts::default();
    let mut result = count_tests(command, &mut counts);
    if is_whole && redis::has_valkey() {
        let mut command = cargo(&["test", "--locked", "--no-fail-fast", "-p", "hookwire-queue-redis"]);
        command.env("HOOKWIRE_REDIS_SERVER", "valkey-server");
        result = result.and(count_tests(command, &mut counts).context("against valkey-server"));
    }
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    result?;
    ensure!(counts.passed > 0, "no test ran");
    Ok(())
}

/// How many tests there were.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs tests, shows what is not an `ok`, and counts.
fn count_tests(mut command: Command, counts: &mut Counts) -> anyhow::Result<()> {
    // A test that would write a snapshot instead of comparing it proves nothing.
    command.env("INSTA_UPDATE", "no").stdin(Stdio::null()).stdout(Stdio::piped());
    eprintln!("$ {command:?}");
    let mut child = command.spawn().context("cargo cannot be started")?;
    let stdout = child.stdout.take().expect("it was asked for");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(told) = line.strip_prefix("test result: ") {
            counts.passed += count(told, "passed");
            counts.failed += count(told, "failed");
        }
        // Hundreds of passing tests hide the one that does not.
        if !(line.starts_with("test ") && line.ends_with(" ... ok")) {
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "cargo test ended with {status}");
    Ok(())
}

/// The number before a word: `12` before `passed` in `ok. 12 passed; 0 failed`.
fn count(counts: &str, word: &str) -> u64 {
    let words: Vec<&str> = counts.split_whitespace().collect();
    let place = words.iter().position(|found| found.trim_end_matches(';') == word);
    place.and_then(|place| words.get(place.checked_sub(1)?)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_a_closing_line_are_read() {
        let line = "ok. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!((count(line, "passed"), count(line, "failed")), (12, 3));
    }
}
