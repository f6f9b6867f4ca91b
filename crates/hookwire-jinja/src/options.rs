//! How templates behave, and how far they may go.
//!
//! Invariants
//! - Every limit has a finite default.

/// How a template behaves; cheap to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What an unknown name means.
    pub undefined: Undefined,
    /// How far compiling and rendering may go.
    pub limits: Limits,
}

/// What a name or member that does not exist means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Undefined {
    /// Printing it, looping over it or giving it to a filter is an error; asking for it (`if`, `default`,
    /// `is defined`, `==`) is not.
    #[default]
    Strict,
    /// It prints nothing and is an empty sequence, as in Jinja2's default.
    Lenient,
}

/// Limits of one template; reaching one is an error of kind [`Limit`](crate::ErrorKind::Limit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps of one rendering. An instruction costs one, and 64 bytes of text or 2 items of a list made or visited on the way
    /// cost one; so this bounds time and memory.
    pub fuel: u64,
    /// Bytes of the rendered text.
    pub output_bytes: usize,
    /// Bytes of the template's source.
    pub source_bytes: usize,
    /// Depth of calls at rendering: a macro call counts four, a loop or block one. At most 500.
    pub recursion: usize,
    /// Depth of nesting in the source: brackets, unary operators and blocks within each other, and half of the
    /// operators in a row (`a ~ b ~ c`, `x.y.z`). Checked before the source is parsed. At most 64.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Some 50 ms of work, and 64 MB at the very most.
            fuel: 1_000_000,
            // Beyond the largest body that receivers commonly accept.
            output_bytes: 4 << 20,
            source_bytes: 256 << 10,
            recursion: 200,
            nesting: Limits::NESTING_MAX,
        }
    }
}

impl Limits {
    /// Compiling takes some 12 KiB of stack for each of these in a debug build, and must do with 1 MiB.
    pub(crate) const NESTING_MAX: usize = 64;
    /// The same for calls.
    pub(crate) const RECURSION_MAX: usize = 500;
}
