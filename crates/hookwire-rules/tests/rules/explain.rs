//! Explanations, as people and programs read them.

use hookwire_rules::CompiledRules;
use serde_json::json;

use crate::{event, rule};

fn rules() -> CompiledRules {
    let site = |name, conditions| rule(name, &["dcim.site"], &["updated"], conditions);
    let mut disabled = rule("disabled", &["dcim.site"], &["*"], json!(null));
    disabled.enabled = false;
    let rules = vec![
        rule("everything", &["*"], &["*"], json!(null)),
        disabled,
        rule("prefixes", &["ipam.prefix", "ipam.ipaddress"], &["*"], json!(null)),
        rule("creations", &["dcim.*"], &["created"], json!(null)),
        site(
            "became-active",
            json!({"and": [
                {"attr": "status", "op": "changed_to", "value": "active"},
                {"or": [
                    {"attr": "tags.slug", "op": "contains", "value": "prod"},
                    {"attr": "region.slug", "op": "in", "value": ["eu", "us"]},
                ]},
                {"path": "username", "op": "regex", "value": "(?i)ADM", "negate": true},
            ]}),
        ),
        site(
            "larger",
            json!({"not": {"attr": "count", "op": "lte", "value_path": "snapshots.prechange.count"}}),
        ),
        site(
            "typo",
            json!({"or": [{"attr": "statu.value", "value": "active"}, {"attr": "name", "value": "fra-1"}]}),
        ),
        site("wrong-type", json!({"attr": "name", "op": "gt", "value": 5})),
        site("no-such-member", json!({"attr": "", "op": "exists"})),
        site("pattern", json!({"attr": "name", "op": "regex", "value": "["})),
        site("long", json!({"attr": "comments", "value": "short"})),
    ];
    CompiledRules::compile_sound(rules).0
}

fn site() -> serde_json::Value {
    json!({
        "event": "updated", "object_type": "dcim.site", "username": "admin",
        "data": {
            "id": 7, "name": "fra-1", "status": {"value": "active"}, "region": null, "count": 3,
            "tags": [{"slug": "prod"}, {"slug": "eu"}], "comments": "long ".repeat(40),
        },
        "snapshots": {"prechange": {"status": "planned", "count": 2}, "postchange": {"status": "active", "count": 3}},
    })
}

#[test]
fn as_text() {
    let explanations = rules().explain(&event(site()));
    let text: String = explanations.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn as_json() {
    let explanations = rules().explain(&event(site()));
    let picked: Vec<_> = ["everything", "prefixes", "became-active", "larger", "typo", "pattern"]
        .iter()
        .map(|name| explanations.iter().find(|explanation| explanation.rule.as_str() == *name).unwrap())
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&picked).unwrap());
}
