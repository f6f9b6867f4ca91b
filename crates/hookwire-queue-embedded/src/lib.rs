//! The queue of hookwire in one SQLite file: nothing to install, and nothing accepted is lost by kill -9 or power failure.
//!
//! [`EmbeddedQueue`] implements the contract of `hookwire_queue` over a folder that one process owns at a time. One
//! thread writes: it takes whatever calls wait, carries them out in one transaction, and answers when that is on disk.
//! Another one reads lists beside it.
//!
//! Invariants:
//! - What was answered is on disk; leases are safe from the end of the process, everything else from that of the machine.
//! - When a store is opened, all leases are free again: those of the process before count as lost.
//!
//! Absences: no async runtime is needed but for waiting, and no other process can work on the same store.

mod backlog;
mod disk;
mod error;
mod layout;
mod op;
mod owner;
mod queue;
mod reader;
mod row;
mod store;
mod writer;

pub use queue::EmbeddedQueue;
