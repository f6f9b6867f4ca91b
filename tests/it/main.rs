//! Drives the built binaries end to end: `cargo xtask test` builds them first.
//!
//! Invariants:
//! - Every port is chosen by the system, every store lies in a folder of its own, and only loopback is called.
//! - Names begin with the line of `docs/page.md` that a test shows, where it shows one.

mod api;
mod bad_input;
mod check;
mod cli;
mod crash;
mod dev;
mod end_to_end;
mod endpoints;
mod import;
mod migrate;
mod netbox;
mod operations;
mod receiver;
mod redis;
mod redis_faults;
mod redis_publish;
mod redis_rig;
mod reload;
mod support;
mod ten_kills;
mod worker;
