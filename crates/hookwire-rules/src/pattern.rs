//! Patterns as Python's `re.match` understands them.
//!
//! Invariants:
//! - A pattern is compiled once, when the rules are; one that Python would refuse is refused then, with its place.
//! - Matching is bounded. Plain patterns run on an automaton, in time linear in the text. Those with look-around,
//!   references or possessive repetition step back at most [`REGEX_STEPS_MAX`] times on texts of at most
//!   [`REGEX_TEXT_MAX`] bytes; beyond that there is no answer, which is told as such and taken for no match.

mod syntax;
mod translate;

/// How often a pattern may step back before it is given up. Patterns that people write need some hundreds; a
/// catastrophic one reaches the limit in some tens of milliseconds.
pub const REGEX_STEPS_MAX: usize = 100_000;

/// The longest text, in bytes, that a pattern which steps back is tried on: each step may look at all of it, and the
/// worst pattern then takes some tenths of a second.
pub const REGEX_TEXT_MAX: usize = 8 * 1024;

/// The largest compiled automaton, in bytes.
const AUTOMATON_BYTES_MAX: usize = 8 << 20;

/// Why a text was refused as a pattern, in Python's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at position {position}")]
pub(crate) struct PatternError {
    /// What is wrong.
    pub(crate) message: String,
    /// Where in the pattern, in characters from 0.
    pub(crate) position: usize,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

impl PatternError {
    fn new(message: impl Into<String>, position: usize) -> Self {
        PatternError { message: message.into(), position, remedy: "write it as Python's re does" }
    }

    /// Python would take it, but it costs more than a rule may.
    fn too_large(message: impl Into<String>, position: usize) -> Self {
        PatternError {
            message: message.into(),
            position,
            remedy: "use fewer or smaller repetitions and groups",
        }
    }
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    source: Box<str>,
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    Automaton(regex::Regex),
    Backtracking(fancy_regex::Regex),
}

/// A pattern was given up, because finding the answer took too many steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GivenUp;

impl Pattern {
    /// Compiles a pattern of Python's.
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        let node = syntax::parse(pattern)?;
        let translation = translate::translate(&node);
        let engine = if translation.steps_back {
            fancy_regex::RegexBuilder::new(&translation.text)
                .backtrack_limit(REGEX_STEPS_MAX)
                .delegate_size_limit(AUTOMATON_BYTES_MAX)
                .delegate_dfa_size_limit(AUTOMATON_BYTES_MAX)
                .build()
                .map(Engine::Backtracking)
                .map_err(|error| PatternError::too_large(format!("not supported: {error}"), 0))?
        } else {
            regex::RegexBuilder::new(&translation.text)
                .size_limit(AUTOMATON_BYTES_MAX)
                .dfa_size_limit(AUTOMATON_BYTES_MAX)
                .build()
                .map(Engine::Automaton)
                .map_err(|_| PatternError::too_large("too large when compiled", 0))?
        };
        Ok(Pattern { source: pattern.into(), engine })
    }

    /// The pattern as it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Python's `re.match(pattern, text) is not None`.
    pub(crate) fn matches_start(&self, text: &str) -> Result<bool, GivenUp> {
        match &self.engine {
            Engine::Automaton(regex) => Ok(regex.is_match(text)),
            Engine::Backtracking(_) if text.len() > REGEX_TEXT_MAX => Err(GivenUp),
            Engine::Backtracking(regex) => regex.is_match(text).map_err(|_| GivenUp),
        }
    }
}
