//! (event, rules) -> the rules that match, and why.
//!
//! Invariants:
//! - The result is in the order of the rules, and never depends on the order of a hash map.
//! - An event that no rule is about costs a few look-ups of its types.
//! - The index leaves out only what could not match: matching with and without it gives the same.
//!
//! The index goes by object type, then event type, then, where several rules begin by asking whether one attribute has
//! some value, by that value. So a thousand rules for a thousand tenants cost one look-up.

use std::sync::Arc;

use hookwire_model::{Event, EventPattern, EventRule, ObjectPattern, RuleName};
use rustc_hash::FxHashMap;

use crate::eval::look_up;
use crate::explain::{Explanation, Reason};
use crate::facts::{Facts, Path};
use crate::value::Key;
use crate::{CompileError, CompiledCondition, ConditionErrorKind, EvaluationError, Verdict};

/// The place of a rule among those that were compiled, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(u32);

impl RuleIndex {
    /// The place as a number, for a slice of the same order.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Why rules cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule \"{rule}\": conditions{source}")]
pub struct RuleError {
    /// The rule.
    pub rule: RuleName,
    /// Its place among the rules, from 0.
    pub position: usize,
    /// What is wrong with its condition.
    pub source: CompileError,
}

/// Which rules match an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// Those that match, in their order.
    pub rules: Vec<RuleIndex>,
    /// Those whose condition could not be evaluated, in their order: they do not match, and somebody should know.
    pub errors: Vec<(RuleIndex, Arc<EvaluationError>)>,
}

/// Rules, compiled once into an immutable index.
#[derive(Debug)]
pub struct CompiledRules {
    rules: Vec<CompiledRule>,
    by_type: FxHashMap<Box<str>, EventTypes>,
    by_app: FxHashMap<Box<str>, EventTypes>,
    any: EventTypes,
}

#[derive(Debug)]
struct CompiledRule {
    rule: EventRule,
    condition: Condition,
}

#[derive(Debug)]
enum Condition {
    None,
    Sound(CompiledCondition),
    Unsound(RuleError),
}

#[derive(Debug, Default)]
struct EventTypes {
    by_type: FxHashMap<Box<str>, Bucket>,
    any: Bucket,
}

/// The rules for one object type and event type, each in one place.
#[derive(Debug, Default)]
struct Bucket {
    /// Those to be looked at one by one.
    scan: Vec<u32>,
    groups: Vec<Group>,
}

/// Rules that begin by asking whether the same attribute has some value.
#[derive(Debug)]
struct Group {
    path: Path,
    all: Vec<u32>,
    by_text: FxHashMap<Box<str>, Vec<u32>>,
    by_integer: FxHashMap<i64, Vec<u32>>,
    null: Vec<u32>,
}

impl Bucket {
    fn is_empty(&self) -> bool {
        self.scan.is_empty() && self.groups.is_empty()
    }
}

impl Group {
    fn new(path: Path) -> Self {
        let (by_text, by_integer) = Default::default();
        Group { path, all: Vec::new(), by_text, by_integer, null: Vec::new() }
    }

    fn add(&mut self, key: Key<'_>, index: u32) {
        self.all.push(index);
        match key {
            Key::Null => &mut self.null,
            Key::Integer(integer) => self.by_integer.entry(integer).or_default(),
            Key::Text(text) => self.by_text.entry(text.into()).or_default(),
        }
        .push(index);
    }

    fn get(&self, key: Key<'_>) -> &[u32] {
        match key {
            Key::Null => &self.null,
            Key::Integer(integer) => self.by_integer.get(&integer).map_or(&[], Vec::as_slice),
            Key::Text(text) => self.by_text.get(text).map_or(&[], Vec::as_slice),
        }
    }
}

/// Fewer rules than this are looked at one by one: a look-up costs as much as some comparisons.
const GROUP_LEN_MIN: usize = 4;

impl CompiledRules {
    /// Compiles rules.
    ///
    /// # Errors
    /// [`RuleError`] for the first rule that is unsound; [`compile_sound`](Self::compile_sound) tells all of them.
    pub fn compile(rules: Vec<EventRule>) -> Result<Self, RuleError> {
        let (rules, errors) = Self::compile_sound(rules);
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(rules),
        }
    }

    /// Compiles rules, those that are unsound too: they keep their place, never match, and explain themselves. For
    /// looking at definitions that do not check; nothing should be delivered by them.
    pub fn compile_sound(rules: Vec<EventRule>) -> (Self, Vec<RuleError>) {
        let mut errors = Vec::new();
        let mut compiled = CompiledRules {
            rules: Vec::with_capacity(rules.len()),
            by_type: FxHashMap::default(),
            by_app: FxHashMap::default(),
            any: EventTypes::default(),
        };
        for (position, rule) in rules.into_iter().enumerate() {
            let condition = match rule.conditions.as_ref().map(CompiledCondition::compile) {
                None => Condition::None,
                Some(Ok(condition)) => Condition::Sound(condition),
                Some(Err(source)) => {
                    let error = RuleError { rule: rule.name.clone(), position, source };
                    errors.push(error.clone());
                    Condition::Unsound(error)
                }
            };
            compiled.rules.push(CompiledRule { rule, condition });
        }
        compiled.build_index();
        (compiled, errors)
    }

    fn build_index(&mut self) {
        for (index, compiled) in self.rules.iter().enumerate() {
            let index = u32::try_from(index).expect("four thousand million rules do not fit into memory");
            if !compiled.rule.enabled || matches!(compiled.condition, Condition::Unsound(_)) {
                continue;
            }
            for object_type in &compiled.rule.object_types {
                let event_types = match object_type {
                    ObjectPattern::Any => &mut self.any,
                    ObjectPattern::App(app) => self.by_app.entry((**app).into()).or_default(),
                    ObjectPattern::Exact(exact) => self.by_type.entry(exact.as_str().into()).or_default(),
                };
                for event_type in &compiled.rule.event_types {
                    let bucket = match event_type {
                        EventPattern::Any => &mut event_types.any,
                        EventPattern::Exact(name) => event_types.by_type.entry((**name).into()).or_default(),
                    };
                    if bucket.scan.last() != Some(&index) {
                        bucket.scan.push(index);
                    }
                }
            }
        }
        let rules = &self.rules;
        let named = self.by_type.values_mut().chain(self.by_app.values_mut());
        for event_types in named.chain([&mut self.any]) {
            for bucket in event_types.by_type.values_mut().chain([&mut event_types.any]) {
                bucket.form_groups(rules);
            }
        }
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule at a place.
    ///
    /// # Panics
    /// If the index came from other rules and lies beyond these.
    pub fn rule(&self, index: RuleIndex) -> &EventRule {
        &self.rules[index.get()].rule
    }

    /// All rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = (RuleIndex, &EventRule)> {
        self.rules.iter().zip(0..).map(|(compiled, index)| (RuleIndex(index), &compiled.rule))
    }

    /// The rules that match an event, and those that could not say.
    pub fn matching(&self, event: &Arc<Event>) -> Matches {
        let mut matches = Matches::default();
        let mut search = Search { event, found: None, candidates: Vec::new(), lost: Vec::new() };
        for bucket in self.buckets(event.object_type.as_str(), event.matched_type()) {
            search.add(bucket);
        }
        for &index in search.sorted() {
            let compiled = &self.rules[index as usize];
            match &compiled.condition {
                Condition::None => matches.rules.push(RuleIndex(index)),
                Condition::Unsound(_) => {}
                Condition::Sound(condition) => {
                    match condition.evaluate(&Facts::of_event(event, &compiled.rule.action_data)) {
                        Verdict::Match => matches.rules.push(RuleIndex(index)),
                        Verdict::NoMatch => {}
                        Verdict::Error(error) => matches.errors.push((RuleIndex(index), Arc::new(error))),
                    }
                }
            }
        }
        if !search.lost.is_empty() {
            matches.errors.append(&mut search.lost);
            matches.errors.sort_unstable_by_key(|(index, _)| *index);
            matches.errors.dedup_by_key(|(index, _)| *index);
        }
        matches
    }

    /// Whether there is any rule about events of this type, of objects of that type, whatever its condition: two or three
    /// look-ups, for which the event need not be read.
    pub fn any_about(&self, object_type: &str, matched_type: &str) -> bool {
        self.buckets(object_type, matched_type).any(|bucket| !bucket.is_empty())
    }

    /// The buckets that may hold rules about such events.
    fn buckets<'a>(&'a self, object_type: &str, matched_type: &'a str) -> impl Iterator<Item = &'a Bucket> {
        let event_types =
            [self.by_type.get(object_type), self.by_app.get(app_label(object_type)), Some(&self.any)];
        event_types.into_iter().flatten().flat_map(move |event_types| {
            [event_types.by_type.get(matched_type), Some(&event_types.any)].into_iter().flatten()
        })
    }

    /// Why each rule matches the event, or does not, in the order of the rules.
    pub fn explain(&self, event: &Arc<Event>) -> Vec<Explanation> {
        self.rules.iter().map(|compiled| compiled.explain(event)).collect()
    }

    /// Why one rule matches the event, or does not.
    ///
    /// # Panics
    /// If the index came from other rules and lies beyond these.
    pub fn explain_rule(&self, index: RuleIndex, event: &Arc<Event>) -> Explanation {
        self.rules[index.get()].explain(event)
    }
}

/// The part of an object type before the last dot.
fn app_label(object_type: &str) -> &str {
    object_type.rsplit_once('.').map_or("", |(app, _)| app)
}

impl CompiledRule {
    fn explain(&self, event: &Arc<Event>) -> Explanation {
        let rule = &self.rule;
        let mut explanation = Explanation {
            rule: rule.name.clone(),
            matched: false,
            reason: None,
            tree: None,
            error: None,
            detail: None,
        };
        if let Condition::Unsound(error) = &self.condition {
            explanation.error = Some(EvaluationError {
                kind: ConditionErrorKind::InvalidCondition,
                path: String::new(),
                message: error.source.to_string(),
            });
        }
        if !rule.enabled {
            explanation.reason = Some(Reason::Disabled);
        } else if !rule.object_types.iter().any(|pattern| is_about(pattern, event)) {
            explanation.reason = Some(Reason::ObjectType);
            explanation.detail = Some(about(&rule.object_types, event.object_type.as_str()));
        } else if !rule.event_types.iter().any(|pattern| is_of_type(pattern, event)) {
            explanation.reason = Some(Reason::EventType);
            explanation.detail = Some(about(&rule.event_types, event.matched_type()));
        } else {
            self.explain_condition(event, &mut explanation);
        }
        explanation.matched = explanation.reason.is_none();
        explanation
    }

    fn explain_condition(&self, event: &Arc<Event>, explanation: &mut Explanation) {
        match &self.condition {
            Condition::None => {}
            Condition::Unsound(_) => explanation.reason = Some(Reason::ConditionError),
            Condition::Sound(condition) => {
                let (verdict, tree) = condition.explain(&Facts::of_event(event, &self.rule.action_data));
                explanation.tree = Some(tree);
                match verdict {
                    Verdict::Match => {}
                    Verdict::NoMatch => explanation.reason = Some(Reason::Condition),
                    Verdict::Error(error) => {
                        explanation.reason = Some(Reason::ConditionError);
                        explanation.error = Some(error);
                    }
                }
            }
        }
    }
}

fn is_about(pattern: &ObjectPattern, event: &Event) -> bool {
    match pattern {
        ObjectPattern::Any => true,
        ObjectPattern::App(app) => event.object_type.app_label() == &**app,
        ObjectPattern::Exact(exact) => *exact == event.object_type,
    }
}

fn is_of_type(pattern: &EventPattern, event: &Event) -> bool {
    match pattern {
        EventPattern::Any => true,
        EventPattern::Exact(name) => **name == *event.matched_type(),
    }
}

fn about(patterns: &[impl ToString], event: &str) -> String {
    match patterns {
        [] => "the rule names none".into(),
        patterns => {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            format!("the rule is for {}, the event is {event}", patterns.join(", "))
        }
    }
}

impl Bucket {
    /// Moves rules that begin by asking whether the same attribute has some value into groups.
    fn form_groups(&mut self, rules: &[CompiledRule]) {
        let leading = |index: u32| match &rules[index as usize].condition {
            Condition::Sound(condition) => condition.leading_equality(),
            Condition::None | Condition::Unsound(_) => None,
        };
        let mut counts: FxHashMap<&str, usize> = FxHashMap::default();
        for (path, _) in self.scan.iter().filter_map(|index| leading(*index)) {
            *counts.entry(&path.text).or_default() += 1;
        }
        let groups = &mut self.groups;
        let mut places: FxHashMap<&str, usize> = FxHashMap::default();
        self.scan.retain(|&index| {
            let Some((path, key)) = leading(index).filter(|(path, _)| counts[&*path.text] >= GROUP_LEN_MIN)
            else {
                return true;
            };
            let place = *places.entry(&path.text).or_insert_with(|| {
                groups.push(Group::new(path.clone()));
                groups.len() - 1
            });
            groups[place].add(key, index);
            false
        });
    }
}

/// The candidates of one event. Most events have theirs in one list, which is then not copied.
struct Search<'r, 'e> {
    event: &'e Arc<Event>,
    found: Option<&'r [u32]>,
    candidates: Vec<u32>,
    lost: Vec<(RuleIndex, Arc<EvaluationError>)>,
}

impl<'r> Search<'r, '_> {
    fn add(&mut self, bucket: &'r Bucket) {
        self.add_list(&bucket.scan);
        for group in &bucket.groups {
            let nothing = serde_json::Map::new();
            let facts = Facts::of_event(self.event, &nothing);
            match look_up(&facts, &group.path) {
                // A value without a key equals none of those that the rules ask for.
                Ok(found) => {
                    if let Some(key) = Key::of(found.view()) {
                        self.add_list(group.get(key));
                    }
                }
                Err(error) => {
                    let error = Arc::new(*error);
                    self.lost.extend(group.all.iter().map(|index| (RuleIndex(*index), Arc::clone(&error))));
                }
            }
        }
    }

    fn add_list(&mut self, rules: &'r [u32]) {
        match (rules.is_empty(), self.found) {
            (true, _) => {}
            (false, None) => self.found = Some(rules),
            (false, Some(first)) => {
                if self.candidates.is_empty() {
                    self.candidates.extend_from_slice(first);
                }
                self.candidates.extend_from_slice(rules);
            }
        }
    }

    fn sorted(&mut self) -> &[u32] {
        if self.candidates.is_empty() {
            return self.found.unwrap_or_default();
        }
        self.candidates.sort_unstable();
        self.candidates.dedup();
        &self.candidates
    }
}
