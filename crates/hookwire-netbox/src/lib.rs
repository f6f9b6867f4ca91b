//! NetBox's webhooks and event rules become definitions, with a list of what differs.
//!
//! [`read_page`] takes the JSON of NetBox's REST API apart, [`import`] makes [`Definitions`] of it, and
//! [`Definitions::to_toml`] or [`Definitions::to_json`] write these as a person would. What cannot be carried over, or
//! behaves differently, is a [`Finding`].
//!
//! Invariants:
//! - Nothing is dropped in silence: what of NetBox's definitions does not come over has a finding.
//! - What was printed reads back as the same definitions.
//! - The output loads: broken templates and conditions come over disabled, to be mended in the file.
//! - The same answers of NetBox give the same bytes.
//!
//! Absences: this crate fetches nothing, reads and writes no files, and knows no tokens.

mod all;
mod finding;
mod import;
mod page;
mod print;
mod rule;
mod source;
mod webhook;

pub use finding::{Effect, Finding, Subject};
pub use import::{Imported, import};
pub use page::{Page, PageError, read_page};
pub use print::{Definitions, RuleDefinition, WebhookDefinition};
pub use source::ImportError;

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
