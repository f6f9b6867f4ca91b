//! One event rule of NetBox's becomes one of ours.

use std::str::FromStr;

use hookwire_model::{
    Condition, ConditionError, EventPattern, EventRule, ObjectPattern, PatternError, RuleName,
    Subject as Path, WebhookName,
};
use hookwire_rules::{CompileError, CompiledCondition};
use serde_json::Value;

use crate::RuleDefinition;
use crate::finding::{Effect, Finding, Subject};
use crate::source::NetBoxRule;

/// Imports a rule that acts on the webhook that is called so here, with its findings as comments; they go on the list as
/// well. `None` if it is left out.
pub(crate) fn import(
    source: &NetBoxRule,
    name: &str,
    webhook: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Option<RuleDefinition> {
    let mut importing = Importing { source, name, findings: Vec::new() };
    let definition = importing.webhook(webhook).and_then(|webhook| importing.rule(webhook));
    let definition = definition.map(|mut definition| {
        definition.comments.extend(importing.findings.iter().flat_map(Finding::comment));
        definition
    });
    findings.extend(importing.findings);
    definition
}

/// A rule on its way.
struct Importing<'a> {
    source: &'a NetBoxRule,
    name: &'a str,
    findings: Vec<Finding>,
}

impl Importing<'_> {
    fn finding(&self, effect: Effect, message: impl Into<String>) -> Finding {
        Finding::new(Subject::Rule(self.name.to_owned()), effect, message)
    }

    /// The webhook that it sends to, if it does that and the webhook is there.
    fn webhook(&mut self, webhook: Option<&str>) -> Option<WebhookName> {
        let action = match self.source.action_type.as_str() {
            "webhook" => None,
            "script" => Some("it runs a script".to_owned()),
            "notification" => Some("it notifies people in NetBox".to_owned()),
            other => Some(format!("its action is {other:?}")),
        };
        let left_out = match (action, webhook) {
            (None, Some(webhook)) => {
                return Some(
                    WebhookName::new(webhook).expect("the importer chooses names that are possible"),
                );
            }
            (Some(action), _) => {
                self.finding(Effect::LeftOut, format!("{action}, and here rules send webhooks only"))
            }
            (None, None) => {
                let named = self.source.action_object_name.as_deref().unwrap_or("?");
                self.finding(Effect::LeftOut, format!("its webhook {named:?} is not among those imported"))
                    .remedy("import all webhooks; a token sees only what its user may see")
            }
        };
        self.findings.push(left_out);
        None
    }

    fn rule(&mut self, webhook: WebhookName) -> Option<RuleDefinition> {
        let object_types: Vec<ObjectPattern> = self.patterns(&self.source.object_types, "object type");
        let event_types: Vec<EventPattern> = self.patterns(&self.source.event_types, "event type");
        let empty = [(object_types.is_empty(), "object types"), (event_types.is_empty(), "event types")];
        if let Some((_, what)) = empty.iter().find(|(empty, _)| *empty) {
            let message = format!("it has no {what}, so it could never do anything");
            self.findings.push(self.finding(Effect::LeftOut, message));
            return None;
        }
        if !self.source.enabled {
            self.findings.push(self.finding(Effect::Note, "it is disabled in NetBox, and here"));
        }
        let (conditions, broken_conditions) = self.conditions();
        self.job_events(&event_types);
        let rule = EventRule {
            name: RuleName::new(self.name).expect("the importer chooses names that are possible"),
            object_types,
            event_types,
            conditions,
            webhooks: vec![webhook],
            action_data: self.source.action_data.clone(),
            enabled: self.source.enabled && broken_conditions.is_none(),
        };
        Some(RuleDefinition { rule, comments: self.source.about.comment(), broken_conditions })
    }

    /// The patterns that are possible here, each once.
    fn patterns<T: FromStr<Err = PatternError> + PartialEq>(
        &mut self,
        texts: &[String],
        what: &str,
    ) -> Vec<T> {
        let mut patterns = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(pattern) if patterns.contains(&pattern) => {}
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    self.findings.push(self.finding(Effect::LeftOut, format!("its {what} {error}")));
                }
            }
        }
        patterns
    }

    /// The condition, or the document of one that is broken.
    fn conditions(&mut self) -> (Option<Condition>, Option<Value>) {
        let document = &self.source.conditions;
        match read(document) {
            Ok(condition) => {
                if condition.as_ref().is_some_and(asks_for_snapshots) {
                    self.findings.push(self.finding(
                        Effect::Differs,
                        "its conditions look at snapshots, which NetBox shows them only since 4.7; before, such a rule never fires",
                    ));
                }
                (condition, None)
            }
            Err(error) => {
                let place =
                    if error.pointer.is_empty() { String::new() } else { format!(" at {}", error.pointer) };
                let message = format!("its conditions are broken{place}: {}", error.message);
                let remedy = format!("{}; then delete `enabled = false`", error.remedy);
                self.findings.push(self.finding(Effect::Disabled, message).remedy(remedy));
                (None, Some(document.clone()))
            }
        }
    }

    /// NetBox's own bodies say `job_started` and `job_ended`, whichever way a job ended.
    fn job_events(&mut self, event_types: &[EventPattern]) {
        const OF_JOBS: [&str; 4] = ["job_started", "job_completed", "job_failed", "job_errored"];
        let is_job = |pattern: &EventPattern| matches!(pattern, EventPattern::Exact(name) if OF_JOBS.contains(&&**name));
        if !event_types.iter().any(is_job) {
            return;
        }
        let message = "it is about jobs: whoever publishes has to say how a job ended in `event_type`, which a body that NetBox sends does not";
        self.findings.push(
            self.finding(Effect::Differs, message)
                .remedy("behind a running NetBox, match what its bodies say:")
                .line("event_types = [\"job_started\", \"job_ended\"]"),
        );
    }
}

/// A condition that was read and whose patterns compile.
fn read(document: &Value) -> Result<Option<Condition>, ConditionError> {
    let Some(condition) = Condition::parse(document)? else { return Ok(None) };
    match CompiledCondition::compile(&condition) {
        Ok(_) => Ok(Some(condition)),
        Err(CompileError { pointer, message, remedy }) => Err(ConditionError { pointer, message, remedy }),
    }
}

/// Whether a part of a condition looks at a snapshot.
fn asks_for_snapshots(condition: &Condition) -> bool {
    match condition {
        Condition::All(rules) | Condition::Any(rules) => rules.iter().any(asks_for_snapshots),
        Condition::Not(rule) => asks_for_snapshots(rule),
        Condition::Test(test) => {
            let Path::Attr(path) = test.subject() else { return false };
            test.operator().compares_snapshots() || path.split('.').next() == Some("snapshots")
        }
    }
}
