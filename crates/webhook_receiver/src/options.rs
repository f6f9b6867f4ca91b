//! What a receiver can be asked for, and its limits.
//!
//! Invariant: the default options give exactly the plain output, one `200` for each request and no line more.

use std::time::Duration;

use hookwire_model::Secret;

use crate::script::{AnswerHeader, Script};

/// What to show and how to answer. The default shows everything that was sent and answers 200 at once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Print the header lines and the blank line after them.
    pub show_headers: bool,
    /// Text for people, or one JSON object a line.
    pub format: Format,
    /// What each request is answered.
    pub script: Script,
    /// How long a request waits for its answer, after it was printed.
    pub delay: Duration,
    /// Header lines to add to each answer.
    pub answer_headers: Vec<AnswerHeader>,
    /// Secrets to check signatures with: a signature is valid if any of them made it. Empty: not checked.
    pub secrets: Vec<Secret>,
    /// Tell in the text output which requests repeat a `webhook-id`. The JSON lines always tell it.
    pub tell_repeats: bool,
    /// What bounds memory and time.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            show_headers: true,
            format: Format::Text,
            script: Script::default(),
            delay: Duration::ZERO,
            answer_headers: Vec::new(),
            secrets: Vec::new(),
            tell_repeats: false,
            limits: Limits::default(),
        }
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: the first line, the headers, a blank line, the body, dashes.
    Text,
    /// For programs: one JSON object for each request, on one line.
    JsonLines,
}

/// What bounds memory and time; a request beyond it is refused, and the refusal is shown.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request line and headers, in bytes, and at most 256 header lines. Default 64 KiB.
    pub head_bytes: usize,
    /// One body, in bytes. Default 10 MiB, ten times the largest event.
    pub body_bytes: usize,
    /// All bodies that are being read or wait for the printer, in bytes. Default 64 MiB: more big requests at once than
    /// anybody reads along with.
    pub bodies_bytes: usize,
    /// Open connections; more wait in the system's queue. Default 512, twice the attempts that one worker has in flight.
    pub connections: usize,
    /// How long a connection may stay silent between two requests. Default 60 s.
    pub idle: Duration,
    /// From the first byte of a request to the last of its body, and for writing an answer. Default 30 s.
    pub request: Duration,
    /// At shutdown, how long requests that are under way may go on. Default 1 s.
    pub grace: Duration,
    /// How many `webhook-id`s are remembered; the one unseen for longest goes first. Default 100,000, some 10 MiB.
    pub remembered_ids: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes: 64 * 1024,
            body_bytes: 10 * 1024 * 1024,
            bodies_bytes: 64 * 1024 * 1024,
            connections: 512,
            idle: Duration::from_secs(60),
            request: Duration::from_secs(30),
            grace: Duration::from_secs(1),
            remembered_ids: 100_000,
        }
    }
}
