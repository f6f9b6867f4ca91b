//! What happens next: retry or not, how long to wait, an endpoint's health, and signatures; pure.
//!
//! Absences: this crate does no I/O, never reads the clock, draws no random numbers and knows nothing of async: `now`
//! and jitter are arguments.

mod signature;

pub use signature::{
    Diagnosis, MismatchHint, SecretError, SecretProblem, Signer, StandardHeaders, TOLERANCE, verify_netbox,
    verify_standard,
};
