//! JSON documents as their text with a flat table of nodes over it, read once and never copied.
//!
//! [`Json`] is a document that is passed on: the text as it came, without white space. [`Node`]s look into it; they are
//! small, may be copied, and borrow names, strings and numbers from the text. A part of a document is a [`Json`] of its
//! own and shares the text with the whole.
//!
//! Invariants:
//! - A document is read once, in one pass; whatever is asked of it later reads the table.
//! - Numbers and strings are spelled as the producer spelled them, and members stand in the producer's order.
//! - What serde_json refuses is refused, and what it reads is read as it does.
//!
//! Absences: nothing here changes a document, and nothing here reads numbers as anything but text.

mod json;
mod read;
mod scan;
mod tree;
mod write;

pub use json::{JSON_DEPTH_MAX, Json, JsonError};
pub use scan::plain_len;
pub use tree::{Content, List, Node, Object};
pub use write::{push_node, push_string, push_string_content};

/// The README's example is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
