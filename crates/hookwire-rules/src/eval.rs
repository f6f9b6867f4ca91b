//! Evaluating one condition.
//!
//! Invariants:
//! - From left to right, stopping where the answer is known.
//! - A test that cannot be evaluated, once reached, ends the evaluation: the condition does not match, whatever `or`,
//!   `not` and `negate` say.
//! - The operators are one `match`, in [`CompiledTest::compare`]; explaining takes the same way as matching.
//!
//! Absences: no clock, no chance, no I/O; nothing is compiled here that could have been compiled with the rules.

use std::net::IpAddr;

use hookwire_json::{Content, Json, Node};
use hookwire_model::{Condition, Operand, Operator, Test};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use crate::explain::{Tree, TreeOutcome};
use crate::facts::{Facts, Found, Lost, Path, walk_snapshot};
use crate::pattern::{GivenUp, Pattern, REGEX_STEPS_MAX, REGEX_TEXT_MAX};
use crate::value::{self, Items, Key, Unfit, View};

/// What a condition says about an event.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Match,
    /// It does not hold.
    NoMatch,
    /// It could not be evaluated, which counts as not holding.
    Error(EvaluationError),
}

/// Why a condition could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct EvaluationError {
    /// What sort of error it is.
    pub kind: ConditionErrorKind,
    /// The path that was looked up, as it was written; empty if the error is about none.
    pub path: String,
    /// What happened, for a person.
    pub message: String,
}

/// The sorts of errors that evaluating a condition can end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionErrorKind {
    /// A name on the path is not there, or what should have it is null.
    UnknownPath,
    /// The path goes on into a value that has no members: a string, number, boolean, or a list within a list.
    UnwalkablePath,
    /// The values are of types that the operator cannot compare.
    WrongType,
    /// The event has no snapshots to compare.
    NoSnapshots,
    /// A pattern took more steps than allowed, or the text is longer than such a pattern may be tried on.
    RegexLimit,
    /// The condition itself is unsound, such as a pattern that is none. `check` refuses such a rule; it never matches.
    InvalidCondition,
}

impl ConditionErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: &'static [ConditionErrorKind] = &[
        ConditionErrorKind::UnknownPath,
        ConditionErrorKind::UnwalkablePath,
        ConditionErrorKind::WrongType,
        ConditionErrorKind::NoSnapshots,
        ConditionErrorKind::RegexLimit,
        ConditionErrorKind::InvalidCondition,
    ];

    /// The word that stands in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionErrorKind::UnknownPath => "unknown_path",
            ConditionErrorKind::UnwalkablePath => "unwalkable_path",
            ConditionErrorKind::WrongType => "wrong_type",
            ConditionErrorKind::NoSnapshots => "no_snapshots",
            ConditionErrorKind::RegexLimit => "regex_limit",
            ConditionErrorKind::InvalidCondition => "invalid_condition",
        }
    }
}

/// Why a condition cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}; {remedy}")]
pub struct CompileError {
    /// Where in the condition document, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A condition ready to be evaluated: paths split, patterns compiled, networks parsed.
#[derive(Debug, Clone)]
pub struct CompiledCondition {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    All(Box<[Rule]>),
    Any(Box<[Rule]>),
    Not(Box<Rule>),
    Test(CompiledTest),
}

#[derive(Debug, Clone)]
struct CompiledTest {
    path: Path,
    operator: Operator,
    against: Against,
    negate: bool,
}

/// What a value is compared with.
#[derive(Debug, Clone)]
enum Against {
    Nothing,
    Value(Json),
    Path(Path),
    Pattern(Pattern),
    Networks { written: Value, parsed: Box<[IpNet]> },
}

impl CompiledCondition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// [`CompileError`] for a pattern that Python's `re` would refuse, or that is too large.
    pub fn compile(condition: &Condition) -> Result<Self, CompileError> {
        Rule::compile(condition, &mut String::new()).map(|rule| CompiledCondition { rule })
    }

    /// Evaluates the condition.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        self.rule.holds(facts, None).into()
    }

    /// Evaluates the condition and shows each step with its actual values.
    pub fn explain(&self, facts: &Facts<'_>) -> (Verdict, Tree) {
        let mut tree = self.rule.skeleton();
        let verdict = self.rule.holds(facts, Some(&mut tree)).into();
        (verdict, tree)
    }

    /// If nothing can match but events where one attribute has one value: that path and value. It is the first test to
    /// be evaluated, so if it cannot be evaluated, neither can the condition.
    pub(crate) fn leading_equality(&self) -> Option<(&Path, Key<'_>)> {
        let mut rule = &self.rule;
        loop {
            match rule {
                Rule::All(rules) => rule = rules.first()?,
                Rule::Test(test) => match (test.operator, &test.against) {
                    (Operator::Eq, Against::Value(value)) if !test.negate && test.path.is_attr() => {
                        return Some((&test.path, Key::of(value.root().into())?));
                    }
                    _ => return None,
                },
                Rule::Any(_) | Rule::Not(_) => return None,
            }
        }
    }
}

impl From<Result<bool, Box<EvaluationError>>> for Verdict {
    fn from(result: Result<bool, Box<EvaluationError>>) -> Self {
        match result {
            Ok(true) => Verdict::Match,
            Ok(false) => Verdict::NoMatch,
            Err(error) => Verdict::Error(*error),
        }
    }
}

/// Looks a path up as a test does, for those who only want what stands there.
pub(crate) fn look_up<'a>(facts: &'a Facts<'_>, path: &Path) -> Result<Found<'a>, Box<EvaluationError>> {
    find(facts, path).map(|(found, _)| found)
}

impl Rule {
    fn compile(condition: &Condition, pointer: &mut String) -> Result<Self, CompileError> {
        let mut within = |token: &str, condition: &Condition| {
            let length = pointer.len();
            pointer.push_str(token);
            let rule = Rule::compile(condition, pointer);
            pointer.truncate(length);
            rule
        };
        let mut each = |name: &str, conditions: &[Condition]| -> Result<Box<[Rule]>, CompileError> {
            let rules = conditions.iter().enumerate();
            rules.map(|(at, condition)| within(&format!("/{name}/{at}"), condition)).collect()
        };
        Ok(match condition {
            Condition::All(conditions) => Rule::All(each("and", conditions)?),
            Condition::Any(conditions) => Rule::Any(each("or", conditions)?),
            Condition::Not(condition) => Rule::Not(Box::new(within("/not", condition)?)),
            Condition::Test(test) => Rule::Test(CompiledTest::compile(test, pointer)?),
        })
    }

    fn skeleton(&self) -> Tree {
        match self {
            Rule::All(rules) => Tree::set("and", rules.iter().map(Rule::skeleton).collect()),
            Rule::Any(rules) => Tree::set("or", rules.iter().map(Rule::skeleton).collect()),
            Rule::Not(rule) => Tree::set("not", vec![rule.skeleton()]),
            Rule::Test(test) => test.skeleton(),
        }
    }

    /// Whether the rule holds. `tree` is its skeleton, and gets what was seen on the way.
    fn holds(&self, facts: &Facts<'_>, mut tree: Option<&mut Tree>) -> Result<bool, Box<EvaluationError>> {
        let mut part = |at: usize, rule: &Rule| {
            rule.holds(facts, tree.as_deref_mut().map(|tree| &mut tree.conditions[at]))
        };
        let result = match self {
            Rule::All(rules) => first(rules, false, part),
            Rule::Any(rules) => first(rules, true, part),
            Rule::Not(rule) => part(0, rule).map(|holds| !holds),
            Rule::Test(test) => test.holds(facts, tree.as_deref_mut()),
        };
        if let Some(tree) = tree {
            tree.outcome = match &result {
                Ok(true) => TreeOutcome::Match,
                Ok(false) => TreeOutcome::NoMatch,
                Err(_) => TreeOutcome::Error,
            };
            if let (Rule::Test(_), Err(error)) = (self, &result) {
                tree.error = Some((**error).clone());
            }
        }
        result
    }
}

/// Evaluates rules until one says `wanted`, which then is the answer; the opposite if none does.
fn first(
    rules: &[Rule],
    wanted: bool,
    mut holds: impl FnMut(usize, &Rule) -> Result<bool, Box<EvaluationError>>,
) -> Result<bool, Box<EvaluationError>> {
    for (at, rule) in rules.iter().enumerate() {
        if holds(at, rule)? == wanted {
            return Ok(wanted);
        }
    }
    Ok(!wanted)
}

/// The values cannot be compared by the operator, or the pattern was given up.
#[derive(Debug)]
enum Failure {
    Unfit,
    NoAddress,
    GivenUp,
}

impl From<Unfit> for Failure {
    fn from(Unfit: Unfit) -> Self {
        Failure::Unfit
    }
}

impl From<GivenUp> for Failure {
    fn from(GivenUp: GivenUp) -> Self {
        Failure::GivenUp
    }
}

impl CompiledTest {
    fn compile(test: &Test, pointer: &str) -> Result<Self, CompileError> {
        let against = match (test.operator(), test.operand()) {
            (_, Operand::None) => Against::Nothing,
            (_, Operand::Path(path)) => Against::Path(Path::of_operand(path)),
            (Operator::Regex, Operand::Value(Value::String(pattern))) => {
                Against::Pattern(Pattern::new(pattern).map_err(|error| CompileError {
                    pointer: format!("{pointer}/value"),
                    message: format!("{:?} is no pattern: {error}", excerpt(pattern)),
                    remedy: error.remedy.into(),
                })?)
            }
            (Operator::Cidr, Operand::Value(value)) => {
                let parsed =
                    networks(Json::from(value).root().into()).expect("the model refuses what is no network");
                Against::Networks { written: value.clone(), parsed }
            }
            (_, Operand::Value(value)) => Against::Value(value.into()),
        };
        let path = Path::of_subject(test.subject());
        Ok(CompiledTest { path, operator: test.operator(), against, negate: test.negate() })
    }

    fn skeleton(&self) -> Tree {
        let mut tree = Tree::set(self.operator.as_str(), vec![]);
        let path = Some(self.path.text.to_string());
        if self.path.is_attr() {
            tree.attr = path;
        } else {
            tree.path = path;
        }
        match &self.against {
            Against::Nothing => {}
            Against::Value(value) => tree.value = Some(value.root().to_value()),
            Against::Path(path) => tree.value_path = Some(path.text.to_string()),
            Against::Pattern(pattern) => tree.value = Some(pattern.source().into()),
            Against::Networks { written, .. } => tree.value = Some(written.clone()),
        }
        tree.negate = self.negate;
        tree
    }

    fn holds(&self, facts: &Facts<'_>, tree: Option<&mut Tree>) -> Result<bool, Box<EvaluationError>> {
        let holds = match self.operator {
            Operator::Exists => self.exists(facts, tree),
            operator if operator.compares_snapshots() => self.compare_snapshots(facts, tree)?,
            _ => self.compare_values(facts, tree)?,
        };
        Ok(holds != self.negate)
    }

    /// Whether the path leads somewhere. It is the one operator that takes a wrong path for an answer.
    fn exists(&self, facts: &Facts<'_>, tree: Option<&mut Tree>) -> bool {
        let found = facts.find(&self.path);
        if let (Ok(found), Some(tree)) = (&found, tree) {
            tree.actual = Some(found.view().to_value());
        }
        let wanted = match &self.against {
            Against::Value(value) => !matches!(value.root().content(), Content::Bool(false)),
            _ => true,
        };
        found.is_ok() == wanted
    }

    fn compare_values(
        &self,
        facts: &Facts<'_>,
        mut tree: Option<&mut Tree>,
    ) -> Result<bool, Box<EvaluationError>> {
        let (actual, mut absent) = find(facts, &self.path)?;
        if let Some(tree) = &mut tree {
            tree.actual = Some(actual.view().to_value());
        }
        let other = match &self.against {
            Against::Path(path) => {
                let (other, other_absent) = find(facts, path)?;
                absent |= other_absent;
                if let Some(tree) = &mut tree {
                    tree.compared = Some(other.view().to_value());
                }
                Some(other)
            }
            _ => None,
        };
        let against = match (&other, &self.against) {
            (Some(other), _) => other.view(),
            (None, Against::Value(value)) => value.root().into(),
            (None, _) => View::Null,
        };
        match self.compare(actual.view(), against) {
            Ok(holds) => Ok(holds),
            // A snapshot that the event cannot have, such as the one before it was created, is null. That equals
            // nothing but null, and has no order; it is no mistake of the rule.
            Err(_) if absent => Ok(false),
            Err(failure) => Err(self.failure(failure, actual.view(), against)),
        }
    }

    /// The operators.
    fn compare(&self, actual: View<'_>, against: View<'_>) -> Result<bool, Failure> {
        Ok(match self.operator {
            Operator::Eq => value::equal(actual, against),
            Operator::Ne => !value::equal(actual, against),
            Operator::Gt => value::order(actual, against)?.is_gt(),
            Operator::Gte => value::order(actual, against)?.is_ge(),
            Operator::Lt => value::order(actual, against)?.is_lt(),
            Operator::Lte => value::order(actual, against)?.is_le(),
            Operator::In => value::contains(against, actual)?,
            Operator::Contains => value::contains(actual, against)?,
            Operator::Regex => match (&self.against, actual) {
                (Against::Pattern(pattern), View::Text(text)) => pattern.matches_start(text)?,
                _ => return Err(Failure::Unfit),
            },
            Operator::StartsWith => match (actual, against) {
                (View::Text(text), View::Text(start)) => text.starts_with(start),
                _ => return Err(Failure::Unfit),
            },
            Operator::EndsWith => match (actual, against) {
                (View::Text(text), View::Text(end)) => text.ends_with(end),
                _ => return Err(Failure::Unfit),
            },
            Operator::Cidr => match (&self.against, actual) {
                (Against::Networks { parsed, .. }, View::Text(text)) => within(text, parsed)?,
                (_, View::Text(text)) => within(text, &networks(against)?)?,
                _ => return Err(Failure::Unfit),
            },
            Operator::Exists
            | Operator::Changed
            | Operator::Unchanged
            | Operator::ChangedFrom
            | Operator::ChangedTo => unreachable!("they compare no value that stands at a path"),
        })
    }

    fn compare_snapshots(
        &self,
        facts: &Facts<'_>,
        tree: Option<&mut Tree>,
    ) -> Result<bool, Box<EvaluationError>> {
        let (before, after) = self.snapshots(facts)?;
        let (before, after) = (before.as_ref().map(Found::view), after.as_ref().map(Found::view));
        if let Some(tree) = tree {
            tree.before = before.map(View::to_value);
            tree.after = after.map(View::to_value);
        }
        let same = match (before, after) {
            (Some(before), Some(after)) => value::equal(before, after),
            // Where the attribute is missing it equals nothing; one side always has it.
            _ => false,
        };
        let is = |side: Option<View<'_>>| match (&self.against, side) {
            (Against::Value(value), Some(side)) => value::equal(side, value.root().into()),
            _ => false,
        };
        Ok(match self.operator {
            Operator::Unchanged => same,
            Operator::ChangedFrom => !same && is(before),
            Operator::ChangedTo => !same && is(after),
            _ => !same,
        })
    }

    /// The attribute before and after; at least one of them is there.
    fn snapshots<'a>(
        &self,
        facts: &'a Facts<'_>,
    ) -> Result<(Option<Found<'a>>, Option<Found<'a>>), Box<EvaluationError>> {
        let none = || {
            let message = format!("\"{}\" compares snapshots, and the event has none", self.operator);
            self.error(ConditionErrorKind::NoSnapshots, message)
        };
        let snapshots =
            facts.snapshots().filter(|snapshots| snapshots.as_object().is_some()).ok_or_else(none)?;
        let side = |name: &str| {
            let snapshot = snapshots.get(name).filter(|snapshot| !snapshot.is_null())?;
            Some(walk_snapshot(snapshot, self.path.names()))
        };
        match (side("prechange"), side("postchange")) {
            (None, None) => Err(none()),
            (Some(Ok(before)), after) => Ok((Some(before), after.and_then(Result::ok))),
            (before, Some(Ok(after))) => Ok((before.and_then(Result::ok), Some(after))),
            (Some(Err(lost)), _) | (None, Some(Err(lost))) => {
                let mut error = lost_error(&self.path, &lost);
                error.message.push_str("; snapshots hold raw values, where a choice has no \"value\"");
                Err(error)
            }
        }
    }

    fn failure(&self, failure: Failure, actual: View<'_>, against: View<'_>) -> Box<EvaluationError> {
        let operator = self.operator;
        match failure {
            Failure::Unfit => {
                let message = match self.against {
                    Against::Value(_) | Against::Path(_) => {
                        format!("\"{operator}\" does not compare {} with {}", actual.kind(), against.kind())
                    }
                    _ => format!("\"{operator}\" needs a string, has {}", actual.kind()),
                };
                self.error(ConditionErrorKind::WrongType, message)
            }
            Failure::NoAddress => self
                .error(ConditionErrorKind::WrongType, format!("\"{operator}\" needs addresses and networks")),
            Failure::GivenUp => {
                let message = format!(
                    "the pattern was given up: it takes more than {REGEX_STEPS_MAX} steps, or more than {REGEX_TEXT_MAX} bytes of text"
                );
                self.error(ConditionErrorKind::RegexLimit, message)
            }
        }
    }

    fn error(&self, kind: ConditionErrorKind, message: String) -> Box<EvaluationError> {
        let path = self.path.text.to_string();
        let message = format!("at \"{path}\": {message}");
        Box::new(EvaluationError { kind, path, message })
    }
}

/// What stands at a path, and whether it stands for a snapshot that the event cannot have.
///
/// An event has no snapshot of what was before a creation, or after a deletion. A path into it gives null, if it leads
/// somewhere in the other snapshot or there is none: else a typo would match every creation.
fn find<'a>(facts: &'a Facts<'_>, path: &Path) -> Result<(Found<'a>, bool), Box<EvaluationError>> {
    if let Some((which, other, names)) = path.within_snapshot()
        && let Some(snapshots) = facts.snapshots()
        && snapshots.get(which).is_some_and(Node::is_null)
    {
        let other = snapshots.get(other).filter(|other| !other.is_null() && !names.is_empty());
        if other.is_none_or(|other| walk_snapshot(other, names).is_ok()) {
            return Ok((Found::null(), true));
        }
    }
    facts.find(path).map(|found| (found, false)).map_err(|lost| lost_error(path, &lost))
}

fn lost_error(path: &Path, lost: &Lost) -> Box<EvaluationError> {
    let (kind, why) = match lost {
        Lost::Absent(name) => (ConditionErrorKind::UnknownPath, format!("there is no \"{name}\"")),
        Lost::Unwalkable { name, within } => {
            (ConditionErrorKind::UnwalkablePath, format!("{within} has no \"{name}\""))
        }
    };
    let path = path.text.to_string();
    Box::new(EvaluationError { kind, message: format!("at \"{path}\": {why}"), path })
}

/// Reads an address or network, or a list of them.
fn networks(value: View<'_>) -> Result<Box<[IpNet]>, Failure> {
    let one = |view| match view {
        View::Text(text) => network(text).ok_or(Failure::NoAddress),
        _ => Err(Failure::Unfit),
    };
    match value {
        View::List(items @ (Items::Written(_) | Items::Collected(_))) => items.iter().map(one).collect(),
        other => one(other).map(|network| [network].into()),
    }
}

fn network(text: &str) -> Option<IpNet> {
    match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// Whether an address or a network lies within one of the networks.
///
/// NetBox writes the address of an interface with the mask of its network: `192.0.2.10/24`. So a text whose host bits
/// are set is taken for the address, and one whose host bits are zero for the network as a whole.
fn within(text: &str, networks: &[IpNet]) -> Result<bool, Failure> {
    let inner = network(text).ok_or(Failure::NoAddress)?;
    let inner = if inner.addr() == inner.network() { inner } else { IpNet::from(inner.addr()) };
    Ok(networks.iter().any(|outer| outer.trunc().contains(&inner)))
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}
