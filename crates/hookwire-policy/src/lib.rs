//! What happens next: retry or not, how long to wait, an endpoint's health, and signatures; pure.
//!
//! Absences: this crate does no I/O, never reads the clock, draws no random numbers and knows nothing of
//! async: `now` and jitter are arguments.

mod backoff;
mod decide;
mod health;
mod rate;
mod retry_after;
mod signature;

pub use backoff::{backoff, longest_backoff, with_jitter};
pub use decide::{Attempted, Decision, Due, EndpointEffect, Past, Verdict, before_attempt, decide};
pub use health::{Adjusted, Admittance, FAILURES_TO_OPEN, GAP_MAX, GAP_MIN, Grant, Health};
pub use rate::{RATE_FREE, RATE_MIN, RATE_START};
pub use retry_after::retry_after;
pub use signature::{
    Diagnosis, MismatchHint, SecretError, SecretProblem, Signer, StandardHeaders, TOLERANCE, verify_netbox,
    verify_standard,
};

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
