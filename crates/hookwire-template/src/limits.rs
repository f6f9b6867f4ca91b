//! How far compiling and rendering may go.
//!
//! Invariant: every limit has a finite default.

/// Limits of one template. Reaching one is an error of kind
/// [`Limit`](crate::TemplateErrorKind::Limit), never a stop of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the rendered text.
    pub output_bytes: usize,
    /// Steps of one rendering. Each piece of a template that is visited costs one, and so do 64 bytes of text
    /// or 4 items looked at on the way; so this bounds time and memory.
    pub steps: u64,
    /// Depth of calls at rendering (Jinja: macros). Handlebars has no calls, so its depth is `nesting`.
    pub recursion: usize,
    /// Depth of nesting in the source: blocks, brackets and chained `else` within each other. Checked before
    /// the source is parsed, because the parsers are recursive. At most [`NESTING_MAX`](Self::NESTING_MAX).
    pub nesting: usize,
    /// Bytes of the template's source.
    pub source_bytes: usize,
}

impl Limits {
    /// Deeper nesting could overflow a thread's stack of 512 KiB in a debug build.
    pub const NESTING_MAX: usize = 64;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Beyond the largest body that receivers commonly accept.
            output_bytes: 4 << 20,
            // Some 50 ms of work, and 64 MB at the very most.
            steps: 1_000_000,
            recursion: 200,
            // Nobody reads a template that is nested deeper.
            nesting: 48,
            // Jinja costs time linear in the source. The parser of Handlebars counts lines from the start for every
            // tag, so it costs size times tags, of which `handlebars/scan.rs` takes 4,000: two seconds in a debug build.
            source_bytes: 128 << 10,
        }
    }
}
