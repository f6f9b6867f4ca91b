//! Which event rules match an event, and why: NetBox's conditions and a strict superset, compiled and pure.
//!
//! [`CompiledRules`] answers for a whole set of rules, by an index over object type and event type;
//! [`CompiledCondition`] evaluates one condition over any JSON.
//!
//! Invariants:
//! - Results are in the order of the rules, and the same every time.
//! - A condition that cannot be evaluated does not match, and says so.
//! - Nothing here runs away: patterns have a limit of steps, conditions one of nesting.
//!
//! Absences: this crate does no I/O, never reads the clock, draws no random numbers, and knows nothing of async or of
//! webhooks beyond the names in a rule.

mod eval;
mod explain;
mod facts;
mod matching;
mod pattern;
mod value;

pub use eval::{CompileError, CompiledCondition, ConditionErrorKind, EvaluationError, Verdict};
pub use explain::{Explanation, Reason, Tree, TreeOutcome};
pub use facts::Facts;
pub use matching::{CompiledRules, Matches, RuleError, RuleIndex};
pub use pattern::{REGEX_STEPS_MAX, REGEX_TEXT_MAX};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
