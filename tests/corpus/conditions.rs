//! `conditions.jsonl`: condition sets, as event rules with these conditions.

use hookwire_rules::{CompiledCondition, ConditionErrorKind, Facts, Verdict};
use serde_json::{Value, json};

use crate::support::{Comparison, definitions, lines, webhook};

pub(crate) fn compare() -> Comparison {
    let mut comparison = Comparison::new("conditions.jsonl", &[]);
    for line in lines("conditions.jsonl") {
        comparison.line(&line, &ours(&line), &netboxs(&line["v47"]));
    }
    comparison.finish()
}

fn ours(line: &Value) -> String {
    let rule = json!({
        "name": "rule", "enabled": true, "object_types": ["dcim.site"], "event_types": ["object_updated"],
        "conditions": line["conditions"], "action_type": {"value": "webhook"}, "action_object_id": 1,
    });
    let definitions = definitions(&[webhook(json!({}))], &[rule], "");
    let rule = definitions.rules().next().expect("a rule with broken conditions is disabled, not gone");
    if !rule.enabled {
        return "refused".into();
    }
    let Some(condition) = &rule.conditions else { return "fires: true".into() };
    let condition = CompiledCondition::compile(condition).expect("what loads compiles");
    let snapshots = line.get("snapshots").filter(|snapshots| !snapshots.is_null());
    match condition.evaluate(&Facts::of_documents(&line["data"], snapshots)) {
        Verdict::Match => "fires: true".into(),
        Verdict::NoMatch => "fires: false".into(),
        Verdict::Error(error) => format!("error: {:?}", error.kind),
    }
}

/// NetBox's answer in our words: the table of error classes in `docs/netbox.md`.
fn netboxs(outcome: &Value) -> String {
    let message = outcome["error_message"].as_str().unwrap_or_default();
    let error = |kind: ConditionErrorKind| format!("error: {kind:?}");
    match (outcome["error"].as_str(), outcome["error_stage"].as_str()) {
        (None, _) => format!("fires: {}", outcome["rule_fires"]),
        // A falsy document is no condition set, and fires all the same.
        (Some(_), Some("construct")) if outcome["rule_fires"] == true => "fires: true".into(),
        (Some(_), Some("construct")) | (Some("re.error" | "AttributeError"), _) => "refused".into(),
        (Some("InvalidCondition"), _) if message.starts_with("No snapshot data") => {
            error(ConditionErrorKind::NoSnapshots)
        }
        (Some("InvalidCondition"), _) if message.starts_with("Invalid data type") => {
            error(ConditionErrorKind::WrongType)
        }
        (Some("InvalidCondition"), _) if message.contains("(cannot resolve ") => {
            error(ConditionErrorKind::UnwalkablePath)
        }
        (Some("InvalidCondition"), _) if message.starts_with("Invalid key path") => {
            error(ConditionErrorKind::UnknownPath)
        }
        (Some(other), stage) => format!("{other} at {stage:?}: {message}"),
    }
}
