//! What happened, for people to read.
//!
//! Invariant: without a trace nothing is formatted; a failing run is repeated with one.

use std::fmt::{self, Write as _};
use std::time::Duration;

use hookwire_model::{EndpointId, Sequence};
use hookwire_queue::Subject;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The whole world: processes, definitions.
    All,
    /// A process's calls of the store; `None` where it is not a worker's.
    Life(Option<usize>),
    Event(Sequence),
    Endpoint(EndpointId),
}

impl About {
    pub(crate) fn of(subject: Subject) -> About {
        About::Event(match subject {
            Subject::Event(sequence) => sequence,
            Subject::Delivery(id) => id.sequence(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    at: Duration,
    about: About,
    text: String,
}

/// A trace, and the breaches in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    on: bool,
    lines: Vec<Line>,
    breaches: Vec<Line>,
}

/// Breaches beyond these tell nothing new.
const BREACHES_MAX: usize = 20;

impl Trace {
    pub(crate) fn new(on: bool) -> Trace {
        Trace { on, lines: Vec::new(), breaches: Vec::new() }
    }

    pub(crate) fn note(&mut self, at: Duration, about: About, text: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(Line { at, about, text: text() });
        }
    }

    pub(crate) fn breach(&mut self, at: Duration, about: About, text: String) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(Line { at, about, text: text.clone() });
        }
        self.note(at, about, || format!("!! {text}"));
    }

    pub(crate) fn breaches(&self) -> Vec<String> {
        self.breaches.iter().map(Line::to_string).collect()
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines that tell of what the first breach is about, and of the world.
    pub fn excerpt(&self) -> String {
        let Some(first) = self.breaches.first() else { return String::new() };
        let mut text = String::new();
        let told = |line: &&Line| line.about == About::All || line.about == first.about;
        for line in self.lines.iter().filter(told) {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{line}");
            if line.text.starts_with("!! ") {
                break;
            }
        }
        text
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>11.3}  {}", self.at.as_secs_f64(), self.text)
    }
}

/// All lines, each with its time in seconds.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
