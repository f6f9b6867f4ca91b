//! What goes beyond NetBox, operator by operator, and what goes wrong in them.

use hookwire_model::Condition;
use hookwire_rules::{CompiledCondition, Facts, Verdict};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::event;

fn evaluate(condition: &Value, facts: &Facts<'_>) -> String {
    let condition = Condition::parse(condition).unwrap().unwrap();
    let compiled = CompiledCondition::compile(&condition).unwrap();
    let verdict = compiled.evaluate(facts);
    assert_eq!(compiled.explain(facts).0, verdict);
    match verdict {
        Verdict::Match => "yes".into(),
        Verdict::NoMatch => "no".into(),
        Verdict::Error(error) => format!("{}: {}", error.kind.as_str(), error.message),
    }
}

/// Evaluates each condition, and again within `not`: an answer is turned round, an error stays.
fn check(facts: &Facts<'_>, table: &[(Value, &str)]) {
    for (condition, expected) in table {
        assert_eq!(evaluate(condition, facts), *expected, "{condition}");
        let turned = match *expected {
            "yes" => "no",
            "no" => "yes",
            error => error,
        };
        assert_eq!(evaluate(&json!({"not": condition}), facts), turned, "not {condition}");
        let mut negated = condition.clone();
        if negated.get("op").is_some() && negated.get("negate").is_none() {
            negated["negate"] = json!(true);
            assert_eq!(evaluate(&negated, facts), turned, "{negated}");
        }
        assert_eq!(
            evaluate(&json!({"or": [condition, {"and": []}]}), facts),
            if turned == *expected { expected } else { "yes" }
        );
    }
}

#[test]
fn operators_on_data() {
    let data = json!({
        "name": "fra-1", "id": 7, "region": null, "status": {"value": "active"}, "owner": "ops", "count": 7.0,
        "tags": [{"slug": "prod"}, {"slug": "eu"}], "labels": ["a", "b"], "none": [],
        "address": "192.0.2.10/24", "prefix": "10.1.0.0/16", "six": "2001:db8::1", "sizes": [1, 2],
        "allowed": ["192.0.2.0/24", "10.0.0.0/8"],
    });
    check(
        &Facts::of_documents(&data, None),
        &[
            (json!({"attr": "name", "op": "ne", "value": "fra-2"}), "yes"),
            (json!({"attr": "name", "op": "ne", "value": "fra-1"}), "no"),
            (json!({"attr": "id", "op": "ne", "value": 7.0}), "no"),
            (
                json!({"attr": "nome", "op": "ne", "value": 1}),
                "unknown_path: at \"nome\": there is no \"nome\"",
            ),
            (json!({"attr": "name", "op": "exists"}), "yes"),
            (json!({"attr": "region", "op": "exists"}), "yes"),
            (json!({"attr": "region.name", "op": "exists"}), "no"),
            (json!({"attr": "name.x", "op": "exists"}), "no"),
            (json!({"attr": "nome", "op": "exists", "value": false}), "yes"),
            (json!({"attr": "name", "op": "exists", "value": false}), "no"),
            (json!({"attr": "name", "op": "starts_with", "value": "fra"}), "yes"),
            (json!({"attr": "name", "op": "starts_with", "value": "Fra"}), "no"),
            (json!({"attr": "name", "op": "starts_with", "value": ""}), "yes"),
            (json!({"attr": "name", "op": "ends_with", "value": "-1"}), "yes"),
            (json!({"attr": "name", "op": "ends_with", "value": "fra"}), "no"),
            (
                json!({"attr": "id", "op": "starts_with", "value": "7"}),
                "wrong_type: at \"id\": \"starts_with\" does not compare a number with a string",
            ),
            (
                json!({"attr": "region", "op": "ends_with", "value": "7"}),
                "wrong_type: at \"region\": \"ends_with\" does not compare null with a string",
            ),
            (json!({"attr": "address", "op": "cidr", "value": "192.0.2.0/25"}), "yes"),
            (json!({"attr": "address", "op": "cidr", "value": "192.0.2.128/25"}), "no"),
            (json!({"attr": "address", "op": "cidr", "value": ["10.0.0.0/8", "192.0.2.10"]}), "yes"),
            (json!({"attr": "address", "op": "cidr", "value": []}), "no"),
            (json!({"attr": "address", "op": "cidr", "value": "192.0.2.77/24"}), "yes"),
            (json!({"attr": "prefix", "op": "cidr", "value": "10.0.0.0/8"}), "yes"),
            (json!({"attr": "prefix", "op": "cidr", "value": "10.1.0.0/16"}), "yes"),
            (json!({"attr": "prefix", "op": "cidr", "value": "10.1.0.0/17"}), "no"),
            (json!({"attr": "six", "op": "cidr", "value": "2001:db8::/32"}), "yes"),
            (json!({"attr": "six", "op": "cidr", "value": "0.0.0.0/0"}), "no"),
            (json!({"attr": "address", "op": "cidr", "value_path": "allowed"}), "yes"),
            (
                json!({"attr": "name", "op": "cidr", "value": "10.0.0.0/8"}),
                "wrong_type: at \"name\": \"cidr\" needs addresses and networks",
            ),
            (
                json!({"attr": "id", "op": "cidr", "value": "10.0.0.0/8"}),
                "wrong_type: at \"id\": \"cidr\" needs a string, has a number",
            ),
            (json!({"attr": "id", "op": "eq", "value_path": "count"}), "yes"),
            (json!({"attr": "id", "op": "eq", "value_path": "data.count"}), "yes"),
            (json!({"attr": "owner", "op": "lt", "value_path": "status.value"}), "no"),
            (json!({"attr": "tags.slug", "op": "gt", "value_path": "labels"}), "yes"),
            (json!({"attr": "owner", "op": "in", "value_path": "labels"}), "no"),
            (json!({"attr": "name", "op": "contains", "value_path": "owner"}), "no"),
            (
                json!({"attr": "owner", "op": "gt", "value_path": "id"}),
                "wrong_type: at \"owner\": \"gt\" does not compare a string with a number",
            ),
            (
                json!({"attr": "owner", "op": "eq", "value_path": "status.label"}),
                "unknown_path: at \"status.label\": there is no \"label\"",
            ),
            (json!({"path": "data.status.value", "op": "eq", "value": "active"}), "yes"),
            (
                json!({"path": "username", "op": "eq", "value": "admin"}),
                "unknown_path: at \"username\": there is no \"username\"",
            ),
            (
                json!({"attr": "id", "op": "regex", "value": "7"}),
                "wrong_type: at \"id\": \"regex\" needs a string, has a number",
            ),
            (
                json!({"attr": "status.value.x", "op": "eq", "value": 1}),
                "unwalkable_path: at \"status.value.x\": a string has no \"x\"",
            ),
            (
                json!({"attr": "status", "op": "changed"}),
                "no_snapshots: at \"status\": \"changed\" compares snapshots, and the event has none",
            ),
        ],
    );
}

#[test]
fn operators_on_snapshots() {
    let data = json!({"status": {"value": "active"}});
    let old = json!({"status": "planned", "rack": null, "only_before": 1, "list": [{"k": 1}]});
    let new = json!({"status": "active", "rack": null, "only_after": null, "list": [{"k": 2}]});
    let changed_from = json!({"attr": "status", "op": "changed_from", "value": "planned"});
    let changed_to = json!({"attr": "status", "op": "changed_to", "value": "active"});
    let no_snapshots =
        "no_snapshots: at \"status\": \"changed_to\" compares snapshots, and the event has none";
    let update = json!({"prechange": old, "postchange": new});
    check(
        &Facts::of_documents(&data, Some(&update)),
        &[
            (changed_from.clone(), "yes"),
            (changed_to.clone(), "yes"),
            (json!({"attr": "status", "op": "changed_from", "value": "active"}), "no"),
            (json!({"attr": "status", "op": "changed_to", "value": "planned"}), "no"),
            (json!({"attr": "rack", "op": "changed_to", "value": null}), "no"),
            (json!({"attr": "only_before", "op": "changed_from", "value": 1.0}), "yes"),
            (json!({"attr": "only_before", "op": "changed_to", "value": null}), "no"),
            (json!({"attr": "only_after", "op": "changed_to", "value": null}), "yes"),
            (json!({"attr": "list.k", "op": "changed_to", "value": [2]}), "yes"),
            (
                json!({"attr": "status.value", "op": "changed_to", "value": "active"}),
                "unwalkable_path: at \"status.value\": a string has no \"value\"; snapshots hold raw values, where a choice has no \"value\"",
            ),
            (json!({"attr": "status.value", "op": "ne", "value_path": "snapshots.prechange.status"}), "yes"),
            (json!({"attr": "snapshots.prechange.status", "op": "starts_with", "value": "plan"}), "yes"),
            (json!({"attr": "snapshots.prechange.stats", "op": "exists"}), "no"),
        ],
    );
    let created = json!({"prechange": null, "postchange": new});
    check(
        &Facts::of_documents(&data, Some(&created)),
        &[
            (changed_from.clone(), "no"),
            (changed_to.clone(), "yes"),
            (json!({"attr": "snapshots.prechange.status", "op": "ne", "value": "active"}), "yes"),
            (json!({"attr": "snapshots.prechange.status", "op": "starts_with", "value": "a"}), "no"),
            (json!({"attr": "snapshots.prechange.status", "op": "exists"}), "no"),
            (
                json!({"attr": "snapshots.prechange.stats", "op": "ne", "value": "active"}),
                "unknown_path: at \"snapshots.prechange.stats\": there is no \"stats\"",
            ),
        ],
    );
    let deleted = json!({"prechange": old, "postchange": null});
    check(&Facts::of_documents(&data, Some(&deleted)), &[(changed_from, "yes"), (changed_to.clone(), "no")]);
    let neither = json!({"prechange": null, "postchange": null});
    check(&Facts::of_documents(&data, Some(&neither)), &[(changed_to.clone(), no_snapshots)]);
    check(&Facts::of_documents(&data, None), &[(changed_to, no_snapshots)]);
}

#[test]
fn paths_see_the_context_and_attributes_the_data() {
    let event = event(json!({
        "event": "updated", "object_type": "dcim.site", "username": "admin", "request_id": null,
        "data": {"id": 1, "snapshots": "hidden", "team": "own"}, "request": {"method": "PUT"},
        "snapshots": {"prechange": {"id": 0}, "postchange": {"id": 1}}, "context": {"tenant": {"name": "ACME"}},
    }));
    let action_data: Map<_, _> =
        [("team".into(), json!("noc")), ("shift".into(), json!("night"))].into_iter().collect();
    check(
        &Facts::of_event(&event, &action_data),
        &[
            (json!({"path": "event", "op": "eq", "value": "updated"}), "yes"),
            (json!({"path": "model", "op": "eq", "value": "site"}), "yes"),
            (json!({"path": "username", "op": "regex", "value": "adm"}), "yes"),
            (json!({"path": "request_id", "op": "eq", "value": null}), "yes"),
            (json!({"path": "request.method", "op": "in", "value": ["PUT", "PATCH"]}), "yes"),
            (json!({"path": "context.tenant.name", "op": "eq", "value": "ACME"}), "yes"),
            (json!({"path": "snapshots.prechange.id", "op": "lt", "value_path": "data.id"}), "yes"),
            (json!({"path": "username.first", "op": "exists"}), "no"),
            (
                json!({"path": "event.x", "op": "eq", "value": 1}),
                "unwalkable_path: at \"event.x\": a string has no \"x\"",
            ),
            (
                json!({"path": "context.user", "op": "eq", "value": 1}),
                "unknown_path: at \"context.user\": there is no \"user\"",
            ),
            // The rule's own data is there for templates, and for `path`, which sees what templates see.
            (json!({"path": "data.shift", "op": "eq", "value": "night"}), "yes"),
            (json!({"path": "data.team", "op": "eq", "value": "own"}), "yes"),
            (json!({"attr": "shift", "op": "exists"}), "no"),
            (json!({"attr": "team", "op": "eq", "value_path": "data.team"}), "yes"),
            // The event's snapshots hide a member of data of that name.
            (json!({"attr": "snapshots.postchange.id", "op": "eq", "value": 1}), "yes"),
        ],
    );
}

#[test]
fn what_a_pattern_may_cost_is_limited() {
    let data = json!({"x": format!("{}!", "ab ".repeat(500)), "long": "a".repeat(10_000)});
    let limit = "the pattern was given up: it takes more than 100000 steps, or more than 8192 bytes of text";
    check(
        &Facts::of_documents(&data, None),
        &[
            (
                json!({"attr": "x", "op": "regex", "value": "(\\w+\\s?)*(?<=c)$"}),
                &format!("regex_limit: at \"x\": {limit}"),
            ),
            (json!({"attr": "x", "op": "regex", "value": "(\\w+\\s?)*c$"}), "no"),
            (
                json!({"attr": "long", "op": "regex", "value": "a(?=a)"}),
                &format!("regex_limit: at \"long\": {limit}"),
            ),
            (json!({"attr": "long", "op": "regex", "value": "a+$"}), "yes"),
        ],
    );
}

#[test]
fn an_unsound_pattern_is_told_with_its_place() {
    for (document, message) in [
        (
            json!({"attr": "a", "op": "regex", "value": "a("}),
            "/value: \"a(\" is no pattern: missing ), unterminated subpattern at position 1; write it as Python's re does",
        ),
        (
            json!({"or": [{"and": []}, {"not": {"attr": "a", "op": "regex", "value": "\\p{L}"}}]}),
            "/or/1/not/value: \"\\\\p{L}\" is no pattern: bad escape \\p at position 0; write it as Python's re does",
        ),
        (
            json!({"attr": "a", "op": "regex", "value": "(?:\\w{1000}){1000}"}),
            "/value: \"(?:\\\\w{1000}){1000}\" is no pattern: too large when compiled at position 0; use fewer or smaller repetitions and groups",
        ),
    ] {
        let condition = Condition::parse(&document).unwrap().unwrap();
        assert_eq!(CompiledCondition::compile(&condition).unwrap_err().to_string(), message);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0, -2.0]).prop_map(Value::from),
        prop::sample::select(vec!["", "a", "b", "ab", "10.0.0.1", "10.0.0.0/8"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_condition(operators: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let path = || prop::sample::select(vec!["a", "b", "a.b", "c.a.b", "snapshots.prechange.a", "snapshots"]);
    let test = (path(), prop::sample::select(operators), any_json(), any::<bool>()).prop_map(
        |(attr, op, value, negate)| match op {
            "changed" | "unchanged" => json!({"attr": attr, "op": op, "negate": negate}),
            _ => json!({"attr": attr, "op": op, "value": value, "negate": negate}),
        },
    );
    test.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|rules| json!({"and": rules})),
            prop::collection::vec(inner, 0..3).prop_map(|rules| json!({"or": rules})),
        ]
    })
}

const NETBOX: &[&str] = &["eq", "gt", "gte", "lt", "lte", "in", "contains", "regex", "changed", "unchanged"];
const ALL: &[&str] = &[
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "contains",
    "regex",
    "starts_with",
    "ends_with",
    "cidr",
    "exists",
    "changed",
    "unchanged",
    "changed_from",
    "changed_to",
];

/// The same condition, said by means of the additions wherever there is a way.
fn in_other_words(document: &Value) -> Value {
    for set in ["and", "or"] {
        if let Some(rules) = document.get(set).and_then(Value::as_array) {
            let rules: Vec<_> = rules.iter().map(in_other_words).collect();
            return json!({ set: rules });
        }
    }
    let mut test = document.clone();
    if test.get("op").is_some_and(|op| op == "eq") && test.get("negate").is_some_and(|negate| negate == true)
    {
        test["op"] = json!("ne");
        test["negate"] = json!(false);
    }
    let attr = test["attr"].as_str().unwrap().to_owned();
    if !matches!(test["op"].as_str(), Some("changed" | "unchanged")) {
        let members = test.as_object_mut().unwrap();
        members.remove("attr");
        let path = if attr.starts_with("snapshots") { attr } else { format!("data.{attr}") };
        members.insert("path".into(), json!(path));
    }
    json!({"not": {"not": test}})
}

proptest! {
    #[test]
    fn a_netbox_document_means_the_same_in_the_words_of_the_superset(
        document in any_condition(NETBOX),
        data in prop::collection::btree_map("[abc]", any_json(), 0..4),
        snapshots in prop_oneof![
            (any_json(), any_json()).prop_map(|(before, after)| json!({"prechange": before, "postchange": after})),
            any_json().prop_map(|after| json!({"prechange": null, "postchange": after})),
        ],
    ) {
        if let Ok(Some(condition)) = Condition::parse(&document) {
            let event = event(json!({"event": "updated", "object_type": "a.b", "data": data, "snapshots": {
                "prechange": Some(&snapshots["prechange"]).filter(|side| side.is_object()),
                "postchange": Some(&snapshots["postchange"]).filter(|side| side.is_object()),
            }}));
            let nothing = Map::new();
            let facts = Facts::of_event(&event, &nothing);
            let condition = CompiledCondition::compile(&condition).unwrap();
            let reworded = Condition::parse(&in_other_words(&document)).unwrap().unwrap();
            let reworded = CompiledCondition::compile(&reworded).unwrap();
            match (condition.evaluate(&facts), reworded.evaluate(&facts)) {
                (Verdict::Error(a), Verdict::Error(b)) => prop_assert_eq!(a.kind, b.kind),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }

    #[test]
    fn any_condition_on_any_data_gets_an_answer(document in any_condition(ALL), data in any_json(), snapshots in any_json()) {
        if let Ok(Some(condition)) = Condition::parse(&document) {
            let condition = CompiledCondition::compile(&condition).unwrap();
            let facts = Facts::of_documents(&data, Some(&snapshots));
            prop_assert_eq!(condition.evaluate(&facts), condition.explain(&facts).0);
        }
    }

    #[test]
    fn any_pattern_on_any_text_gets_an_answer(pattern in "[a-c(){}\\[\\]|?*+<=!:P1\\\\bdwsZ^$.,i#-]{0,16}", text in "[a-c \\n1]{0,40}") {
        let document = json!({"attr": "x", "op": "regex", "value": pattern});
        let condition = Condition::parse(&document).unwrap().unwrap();
        if let Ok(condition) = CompiledCondition::compile(&condition) {
            let data = json!({"x": text});
            let _ = condition.evaluate(&Facts::of_documents(&data, None));
        }
    }
}
