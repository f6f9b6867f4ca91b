//! Rules and webhooks, compiled into one immutable snapshot; errors by path.
//!
//! [`Definitions`] is what a worker needs: the rules as an index, the webhooks with their templates and
//! signers. It is made once, shared, and replaced as a whole when the definitions change.
//!
//! Invariants:
//! - [`Definitions::compile`] gives a snapshot or every problem there is; nothing half applies.
//! - Whatever is asked of a snapshot comes in the order of the definitions.
//! - A request is complete and signed when [`CompiledWebhook::prepare`] returns it.
//!
//! Absences: this crate reads no files, no environment and no clock, and sends nothing.

mod error;
mod mask;
mod preview;
mod snapshot;
mod webhook;

pub use error::{DefinitionError, Kind, Place, Refused};
pub use mask::MaskedTemplates;
pub use preview::{HeldBack, HostRefusal, Preview, PreviewError, PreviewFilter, PreviewRequest};
pub use snapshot::{Definitions, FanOut, Route};
pub use webhook::{CREDENTIALS, CompiledWebhook, PrepareError};

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
