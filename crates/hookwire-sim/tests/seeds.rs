//! The short run of the simulation, which is part of every test run; and that a seed gives one run.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hookwire_sim::simulate;

/// How many seeds the short run has. `cargo xtask sim --seeds 10000` is the long one.
const SEEDS: u64 = 500;

#[test]
fn no_seed_of_the_short_run_breaks_a_rule() {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || !failures.lock().unwrap().is_empty() {
                        return;
                    }
                    if !simulate(seed, false).breaches.is_empty() {
                        failures.lock().unwrap().push(simulate(seed, true).report());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_gives_one_run_line_for_line() {
    for seed in [3, 17, 28, 57, 134] {
        let (first, second) = (simulate(seed, true), simulate(seed, true));
        assert!(first.trace.len() > 20, "seed {seed}: there is something to compare");
        assert_eq!(first.trace.to_string(), second.trace.to_string(), "seed {seed}");
        assert_eq!(first.counts, second.counts);
        // Noting what happens changes nothing of it.
        assert_eq!(simulate(seed, false).counts, first.counts);
    }
}
