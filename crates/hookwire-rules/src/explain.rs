//! Why rules did or did not match, for programs (JSON) and for people (text).
//!
//! Invariant: an explanation says what matching does; both are made by the same evaluation.

use std::fmt::{self, Write as _};

use hookwire_model::RuleName;
use serde::Serialize;
use serde_json::Value;

use crate::EvaluationError;

/// Why one rule matches an event, or does not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The rule.
    pub rule: RuleName,
    /// Whether it matches.
    pub matched: bool,
    /// Why not, if it does not.
    pub reason: Option<Reason>,
    /// The evaluated condition, if there is one and it was reached.
    pub tree: Option<Tree>,
    /// Why the condition could not be evaluated.
    pub error: Option<EvaluationError>,
    /// What the rule is about and what the event is, in words, where that is the reason.
    #[serde(skip)]
    pub detail: Option<String>,
}

/// Why a rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is disabled.
    Disabled,
    /// It is about other types of objects.
    ObjectType,
    /// It is about other types of events.
    EventType,
    /// Its condition does not hold.
    Condition,
    /// Its condition could not be evaluated.
    ConditionError,
}

impl Reason {
    /// The word that stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Disabled => "disabled",
            Reason::ObjectType => "object_type",
            Reason::EventType => "event_type",
            Reason::Condition => "condition",
            Reason::ConditionError => "condition_error",
        }
    }
}

/// One step of an evaluated condition: a set with its parts, or a test with what it saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tree {
    /// `and`, `or`, `not`, or the operator of a test.
    pub op: &'static str,
    /// How it ended.
    pub outcome: TreeOutcome,
    /// Of a test: the path within data and snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attr: Option<String>,
    /// Of a test: the path within the whole context, in place of `attr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a test: what the value is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Of a test: the path of what the value is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_path: Option<String>,
    /// Of a test: whether its result is turned round.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negate: bool,
    /// Of a test: the value that stands at the path. Absent if the path leads nowhere or was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<Value>,
    /// Of a test with `value_path`: the value that stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Value>,
    /// Of a test of the snapshots: the attribute before, if it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Of a test of the snapshots: the attribute after, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Of a test: why it could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<EvaluationError>,
    /// Of a set: its parts, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Tree>,
}

/// How a step of a condition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeOutcome {
    /// It holds.
    Match,
    /// It does not hold.
    NoMatch,
    /// It could not be evaluated.
    Error,
    /// The answer was known without it.
    Skipped,
}

impl Tree {
    pub(crate) fn set(op: &'static str, conditions: Vec<Tree>) -> Self {
        Tree {
            op,
            outcome: TreeOutcome::Skipped,
            attr: None,
            path: None,
            value: None,
            value_path: None,
            negate: false,
            actual: None,
            compared: None,
            before: None,
            after: None,
            error: None,
            conditions,
        }
    }

    fn lines(&self, depth: usize, out: &mut impl fmt::Write) -> fmt::Result {
        let mark = match self.outcome {
            TreeOutcome::Match => "yes",
            TreeOutcome::NoMatch => "no",
            TreeOutcome::Error => "error",
            TreeOutcome::Skipped => "-",
        };
        write!(out, "  {mark:<5} {:1$}", "", depth * 2)?;
        match self.attr.as_ref().or(self.path.as_ref()) {
            Some(path) => {
                let not = if self.negate { "not " } else { "" };
                write!(out, "{} {not}{}", display_path(path), self.op)?;
            }
            None => out.write_str(self.op)?,
        }
        if let Some(value) = &self.value {
            write!(out, " {}", Short(value))?;
        }
        if let Some(path) = &self.value_path {
            write!(out, " {}", display_path(path))?;
            if let Some(compared) = &self.compared {
                write!(out, " (is {})", Short(compared))?;
            }
        }
        if let Some(actual) = &self.actual {
            write!(out, ": is {}", Short(actual))?;
        }
        match (&self.before, &self.after) {
            (None, None) => {}
            (before, after) => {
                let side = |value: &Option<Value>| match value {
                    Some(value) => Short(value).to_string(),
                    None => "missing".into(),
                };
                write!(out, ": was {}, is {}", side(before), side(after))?;
            }
        }
        if let Some(error) = &self.error {
            write!(out, ": {}", error.message)?;
        }
        out.write_char('\n')?;
        self.conditions.iter().try_for_each(|condition| condition.lines(depth + 1, out))
    }
}

/// A path that is empty or has blanks in it is shown in quotes.
fn display_path(path: &str) -> String {
    if path.is_empty() || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        format!("{path:?}")
    } else {
        path.into()
    }
}

/// The JSON of a value, cut to a length that fits a line.
struct Short<'a>(&'a Value);

const SHORT_LEN: usize = 80;

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        match text.char_indices().nth(SHORT_LEN) {
            None => f.write_str(&text),
            Some((end, _)) => write!(f, "{}...", &text[..end]),
        }
    }
}

/// The text that people read, with a line for the rule and one for each step of its condition.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            None => writeln!(f, "{}: matches", self.rule)?,
            Some(reason) => {
                write!(f, "{}: does not match ({})", self.rule, reason.as_str())?;
                if let Some(detail) = &self.detail {
                    write!(f, ": {detail}")?;
                }
                if let Some(error) = &self.error {
                    write!(f, ": {}", error.message)?;
                }
                f.write_char('\n')?;
            }
        }
        match &self.tree {
            Some(tree) => tree.lines(0, f),
            None => Ok(()),
        }
    }
}
