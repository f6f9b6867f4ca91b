//! The queue of hookwire on Redis: Streams, sorted sets, and one script for each atomic step.
//!
//! [`RedisQueue`] keeps the contract of [`hookwire_queue`] on one server, on several shards of one, or on a Redis
//! Cluster. [`keys`] tells every key; the scripts beside it tell every step.
//!
//! Invariants:
//! - Each atomic step is one script on keys of one slot; a lost reply may be asked for again.
//! - Leasing a batch is one round trip, and so is settling one, however many events there are in it.
//! - The server's clock decides what is due; it never goes back (`scripts/base.lua`).
//! - Whatever happens to the server or the connection, the next call tries anew.
//!
//! Absences: nothing here knows HTTP, rules or templates; no task runs in the background.

mod age;
mod error;
mod inspect;
pub mod keys;
mod layout;
mod link;
mod listener;
mod pack;
mod queue;
mod replicas;
mod reply;
mod scripts;
mod server;
mod settlement;
mod url;

pub use queue::{RedisOptions, RedisQueue};
pub use server::{Advice, ServerFacts};
pub use url::{RedisTls, RedisUrl, RedisUrlError};
