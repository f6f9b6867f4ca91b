//! What a running NetBox decided, against what we decide.
//!
//! The files were recorded from NetBox 4.6.8; a member `v47` holds what release 4.7 gives for the same input, and is
//! right where the two differ.

use std::sync::Arc;

use hookwire_model::{
    Condition, Event, EventDefaults, EventId, EventPattern, EventRule, ObjectPattern, RuleName, Timestamp,
    WebhookName,
};
use hookwire_rules::{CompiledCondition, CompiledRules, ConditionErrorKind, Facts, Verdict};
use serde_json::Value;

fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/fixtures/netbox/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How a condition ended, in the terms of the table in `CONDITIONS.md`.
#[derive(Debug, PartialEq)]
enum Answer {
    Fires(bool),
    /// Refused when the definition is read or compiled.
    Refused,
    Error(ConditionErrorKind),
}

fn answer(conditions: &Value, data: &Value, snapshots: Option<&Value>) -> Answer {
    let condition = match Condition::parse(conditions) {
        Ok(None) => return Answer::Fires(true),
        Ok(Some(condition)) => condition,
        Err(_) => return Answer::Refused,
    };
    let Ok(compiled) = CompiledCondition::compile(&condition) else { return Answer::Refused };
    let facts = Facts::of_documents(data, snapshots);
    let verdict = compiled.evaluate(&facts);
    let (explained, tree) = compiled.explain(&facts);
    assert_eq!(verdict, explained, "explaining says what evaluating says: {tree:?}");
    match verdict {
        Verdict::Match => Answer::Fires(true),
        Verdict::NoMatch => Answer::Fires(false),
        Verdict::Error(error) => Answer::Error(error.kind),
    }
}

/// NetBox's error as ours: the table of `CONDITIONS.md`.
fn expected(outcome: &Value) -> Answer {
    let message = outcome["error_message"].as_str().unwrap_or_default();
    match (outcome["error"].as_str(), outcome["error_stage"].as_str()) {
        (None, _) => Answer::Fires(outcome["rule_fires"].as_bool().unwrap()),
        // A falsy document is no condition set, and fires all the same.
        (Some(_), Some("construct")) if outcome["rule_fires"] == true => Answer::Fires(true),
        (Some(_), Some("construct")) => Answer::Refused,
        // NetBox finds these when an event comes, we when the definition is read.
        (Some("re.error" | "AttributeError"), _) => Answer::Refused,
        (Some("InvalidCondition"), _) => Answer::Error(match message {
            _ if message.starts_with("No snapshot data") => ConditionErrorKind::NoSnapshots,
            _ if message.starts_with("Invalid data type") => ConditionErrorKind::WrongType,
            _ if message.contains("(cannot resolve ") => ConditionErrorKind::UnwalkablePath,
            _ if message.starts_with("Invalid key path") => ConditionErrorKind::UnknownPath,
            other => panic!("an unknown sort of InvalidCondition: {other}"),
        }),
        other => panic!("an unknown error of NetBox's: {other:?}"),
    }
}

#[test]
fn conditions_decide_as_netbox_does() {
    let lines = lines("conditions.jsonl");
    let mut misses = Vec::new();
    for line in &lines {
        let expected = expected(&line["v47"]);
        let snapshots = line.get("snapshots").filter(|snapshots| !snapshots.is_null());
        let answer = answer(&line["conditions"], &line["data"], snapshots);
        if answer != expected {
            misses.push(format!(
                "{}: {} gives {answer:?}, NetBox {expected:?} ({})",
                line["id"], line["conditions"], line["v47"]["error_message"]
            ));
        }
    }
    println!("conditions.jsonl: {} / {} matched", lines.len() - misses.len(), lines.len());
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    assert_eq!(lines.len(), 669);
}

fn event(line: &Value) -> Option<Arc<Event>> {
    let Value::Object(mut members) = line["context"].clone() else { return None };
    members.insert("event_type".into(), line["event_type"].clone());
    let mut new_id = || EventId::new("e").unwrap();
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = Event::parse(&Value::Object(members).to_string(), &mut defaults);
    Some(Arc::new(event.unwrap_or_else(|error| panic!("{}: {error}", line["id"]))))
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

fn rule(line: &Value) -> EventRule {
    let rule = &line["event_rule"];
    EventRule {
        name: RuleName::new("rule").unwrap(),
        object_types: texts(&rule["object_types"])
            .map(|text| text.parse::<ObjectPattern>().unwrap())
            .collect(),
        event_types: texts(&rule["event_types"]).map(|text| text.parse::<EventPattern>().unwrap()).collect(),
        conditions: Condition::parse(&rule["conditions"]).unwrap(),
        webhooks: vec![WebhookName::new("webhook").unwrap()],
        action_data: line.get("action_data").and_then(Value::as_object).cloned().unwrap_or_default(),
        enabled: rule["enabled"].as_bool().unwrap(),
    }
}

#[test]
fn rules_fire_as_netboxs_do() {
    let (mut checked, mut without_event, mut misses) = (0, Vec::new(), Vec::new());
    for line in lines("deliveries.jsonl") {
        let id = line["id"].as_str().unwrap().to_owned();
        let Some(event) = event(&line) else {
            without_event.push(id);
            continue;
        };
        checked += 1;
        let rules = CompiledRules::compile(vec![rule(&line)]).unwrap();
        // NetBox decided on Python's objects; what it decides on the JSON that we get stands here if it differs.
        let mut expected = line["from_json"]["fires"].as_bool().unwrap_or(line["fired"].as_bool().unwrap());
        if id == "dlv-0304" {
            // Release 4.7 shows the snapshots to conditions; 4.6, which was recorded, did not.
            assert_eq!(line["event_rule"]["conditions"]["attr"], "snapshots.prechange.status");
            expected = line["context"]["snapshots"]["prechange"]["status"] == "active";
        }
        let matched = !rules.matching(&event).rules.is_empty();
        assert_eq!(matched, rules.explain(&event)[0].matched, "{id}: explaining says what matching says");
        if matched != expected {
            misses.push(format!("{id}: {} gives {matched}", line["event_rule"]["conditions"]));
        }
    }
    println!("deliveries.jsonl, decisions: {} / {checked} matched", checked - misses.len());
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    assert_eq!(without_event.len() + checked, 302);
    // No event came about: a request that only read, two that were refused, two that NetBox broke off because a
    // condition raised, and two jobs without data.
    let expected = ["dlv-0311", "dlv-0312", "dlv-0313", "dlv-0454", "dlv-0457", "dlv-0477", "dlv-0478"];
    assert_eq!(without_event, expected);
}
