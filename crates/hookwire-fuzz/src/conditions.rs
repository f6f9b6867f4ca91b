//! Conditions: any document on any data gets an answer, the same from evaluating and explaining, and prints as itself.

use hookwire_model::Condition;
use hookwire_rules::{CompiledCondition, Facts};
use serde_json::Value;

pub(crate) fn run(parts: &[&str]) {
    let Ok(document) = serde_json::from_str::<Value>(parts[0]) else { return };
    let Ok(Some(condition)) = Condition::parse(&document) else { return };
    let printed = condition.to_value();
    let again = Condition::parse(&printed).expect("what was printed reads back");
    assert_eq!(again.as_ref(), Some(&condition), "what was printed is the same condition: {printed}");
    let Ok(compiled) = CompiledCondition::compile(&condition) else { return };
    let json = |at: usize| parts.get(at).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (data, snapshots) = (json(1).unwrap_or_default(), json(2));
    let facts = Facts::of_documents(&data, snapshots.as_ref());
    let verdict = compiled.evaluate(&facts);
    assert_eq!(verdict, compiled.explain(&facts).0, "explaining says what evaluating says");
    assert_eq!(verdict, compiled.evaluate(&facts), "the same facts give the same verdict");
}
