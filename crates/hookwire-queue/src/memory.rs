//! The simplest correct backend; the others are measured against it.

/// A store in memory.
#[derive(Debug)]
pub struct MemoryQueue;
