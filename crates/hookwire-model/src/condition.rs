//! Conditions as a tree.

/// A predicate over one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {}
