//! Runs seeds and tells which of them break a rule: `cargo xtask sim`.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use hookwire_sim::{Counts, simulate};

/// Runs the simulation: each seed is a world of failing stores, dying workers and bad receivers.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run, from 0, or from `--from`.
    #[arg(long, default_value_t = 500, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Run this one only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens; with `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many failing seeds to show before giving up.
    #[arg(long, default_value_t = 3)]
    failures: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, arguments.trace),
        None => many(arguments.from, arguments.seeds, arguments.failures.max(1)),
    }
}

fn one(seed: u64, trace: bool) -> ExitCode {
    let run = simulate(seed, true);
    if trace {
        print!("{}", run.trace);
    }
    if !run.breaches.is_empty() {
        println!("{}", run.report());
        return ExitCode::FAILURE;
    }
    println!("seed {seed} is well: {}", told(&run.counts));
    ExitCode::SUCCESS
}

fn many(from: u64, seeds: u64, failures_max: usize) -> ExitCode {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(seeds);
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(Counts::default());
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failures.lock().expect("nobody panics with it").len() >= failures_max {
                        return;
                    }
                    let run = simulate(seed, false);
                    if !run.breaches.is_empty() {
                        // Once more, to see what happened.
                        let run = simulate(seed, true);
                        println!("{}", run.report());
                        failures.lock().expect("nobody panics with it").push(seed);
                    }
                    let mut total = total.lock().expect("nobody panics with it");
                    add(&mut total, &run.counts);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    let total = total.into_inner().expect("nobody panics with it");
    if failures.is_empty() {
        println!("{seeds} seeds from {from} are well: {}", told(&total));
        return ExitCode::SUCCESS;
    }
    println!("seeds that break rules: {failures:?}");
    ExitCode::FAILURE
}

fn add(total: &mut Counts, counts: &Counts) {
    let Counts { events, deliveries, attempts, workers, calls, drained_in } = *counts;
    total.events += events;
    total.deliveries += deliveries;
    total.attempts += attempts;
    total.workers += workers;
    total.calls += calls;
    total.drained_in = total.drained_in.max(drained_in);
}

fn told(counts: &Counts) -> String {
    let Counts { events, deliveries, attempts, workers, calls, drained_in } = counts;
    let drained_in = Duration::from_secs(drained_in.as_secs());
    format!(
        "{events} events, {deliveries} deliveries, {attempts} attempts, {workers} starts of workers, {calls} calls of the store; all was at its end {drained_in:?} after healing at the latest"
    )
}
