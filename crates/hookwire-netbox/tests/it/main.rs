//! Tests of the crate's surface, one binary.

mod import;
mod print;
