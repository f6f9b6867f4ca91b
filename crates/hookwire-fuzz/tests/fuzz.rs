//! A short run of every fuzz target: the seeds, what once broke something, and mutations, always the same ones.

use std::time::{Duration, Instant};

use hookwire_fuzz::{Mutator, Target, cases, seeds};

/// Mutations of each target. A longer run is `fuzz/`'s; this one is to notice at once what a change breaks.
const MUTATIONS: usize = 1_500;

/// No input may take so long, on the busiest machine; each should take well under a tenth of a second.
const LONGEST: Duration = Duration::from_secs(20);

fn run(target: Target) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty());
    let cases = cases(target);
    let mut mutator = Mutator::new(0x5EED);
    let mutations = std::iter::repeat_with(|| {
        let (input, other) = (mutator.pick(&seeds).to_vec(), mutator.pick(&seeds).to_vec());
        mutator.mutate(&input, &other)
    });
    for input in seeds.iter().chain(&cases).cloned().chain(mutations.take(MUTATIONS)) {
        let began = Instant::now();
        let ended = std::panic::catch_unwind(|| target.run(&input));
        let shown = String::from_utf8_lossy(&input);
        assert!(ended.is_ok(), "{}: this input breaks a promise, see above: {shown:?}", target.name());
        assert!(began.elapsed() < LONGEST, "{}: {:?} for {shown:?}", target.name(), began.elapsed());
    }
}

#[test]
fn events() {
    run(Target::Events);
}

#[test]
fn conditions() {
    run(Target::Conditions);
}

#[test]
fn jinja() {
    run(Target::Jinja);
}

#[test]
fn handlebars() {
    run(Target::Handlebars);
}

#[test]
fn headers() {
    run(Target::Headers);
}

#[test]
fn urls() {
    run(Target::Urls);
}

#[test]
fn import() {
    run(Target::Import);
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.mutate(b"{{ data.name }}", b"[1, 2]")).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(3));
}
