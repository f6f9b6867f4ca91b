//! `hookwire bench`: a load test with its own receiver.

pub(crate) use hookwire_bench::{Arguments, run};

/// What is logged unless something else was asked for: no line for each of a hundred thousand attempts.
pub(crate) const LOG: &str = "warn";
