//! The HTTP side of hookwire: taking events in, showing deliveries, health.
//!
//! Invariants:
//! - An answer of 202 means that the events are as durable as the store makes anything.
//! - A batch is taken whole or refused whole; a refusal names every problem with a JSON pointer.
//! - Every body that is read has a limit.
//!
//! Absences: this crate sends no webhooks, and names no backend.

mod api;
mod body;
mod cloud_events;
mod definitions;
mod deliveries;
mod endpoints;
mod events;
mod guard;
mod ingest;
mod metrics;
mod openapi;
mod problem;
mod router;
mod schema;
mod segment;
mod serve;
mod stats;
mod store_watch;

pub use api::{Api, ApiLimits};
pub use guard::Tokens;
pub use ingest::{Format, Reading, Refusal, read_events};
pub use router::{own_router, router};
pub use serve::{ServeLimits, serve};
