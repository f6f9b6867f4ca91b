//! Which rules match an event: the index, its order, and what it does not look at.

use hookwire_rules::{CompiledRules, ConditionErrorKind, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{event, rule};

fn names(rules: &CompiledRules, json: Value) -> Vec<String> {
    let event = event(json);
    rules.matching(&event).rules.iter().map(|index| rules.rule(*index).name.to_string()).collect()
}

#[test]
fn rules_are_found_by_type_app_and_star_in_their_order() {
    let rules = CompiledRules::compile(vec![
        rule("star", &["*"], &["*"], json!(null)),
        rule("site", &["dcim.site"], &["created", "updated"], json!(null)),
        rule("app", &["dcim.*"], &["*"], json!(null)),
        rule("thrice", &["dcim.site", "*", "dcim.*", "dcim.site"], &["created", "*"], json!(null)),
        rule("ipam", &["ipam.*"], &["created"], json!(null)),
        rule("deep", &["com.example.*"], &["created"], json!(null)),
        rule("job", &["dcim.site"], &["job_completed"], json!(null)),
        rule("none", &[], &[], json!(null)),
    ])
    .unwrap();
    let data = json!({});
    for (object_type, event_type, expected) in [
        ("dcim.site", "created", &["star", "site", "app", "thrice"][..]),
        ("dcim.site", "object_updated", &["star", "site", "app", "thrice"]),
        ("dcim.site", "deleted", &["star", "app", "thrice"]),
        ("dcim.device", "created", &["star", "app", "thrice"]),
        ("ipam.prefix", "created", &["star", "thrice", "ipam"]),
        ("com.example.thing", "created", &["star", "thrice", "deep"]),
        ("com.example", "created", &["star", "thrice"]),
    ] {
        let found = names(&rules, json!({"event": event_type, "object_type": object_type, "data": data}));
        assert_eq!(found, expected, "{object_type} {event_type}");
    }
    let ended =
        json!({"event": "job_ended", "event_type": "job_completed", "object_type": "dcim.site", "data": {}});
    assert_eq!(names(&rules, ended), ["star", "app", "thrice", "job"]);
}

#[test]
fn disabled_and_unsound_rules_do_not_match() {
    let mut disabled = rule("disabled", &["*"], &["*"], json!(null));
    disabled.enabled = false;
    let unsound = rule(
        "unsound",
        &["*"],
        &["*"],
        json!({"or": [{"and": []}, {"attr": "a", "op": "regex", "value": "("}]}),
    );
    let sound = rule("sound", &["*"], &["*"], json!(null));
    let all = vec![disabled, unsound, sound];
    assert_eq!(
        CompiledRules::compile(all.clone()).unwrap_err().to_string(),
        "rule \"unsound\": conditions/or/1/value: \"(\" is no pattern: missing ), unterminated subpattern at position 0; write it as Python's re does"
    );
    let (rules, errors) = CompiledRules::compile_sound(all);
    assert_eq!((errors.len(), errors[0].position), (1, 1));
    let event = event(json!({"event": "created", "object_type": "a.b", "data": {}}));
    assert_eq!(names(&rules, json!({"event": "created", "object_type": "a.b", "data": {}})), ["sound"]);
    let explained = rules.explain(&event);
    assert_eq!(explained[0].reason, Some(Reason::Disabled));
    assert_eq!(explained[1].reason, Some(Reason::ConditionError));
    assert_eq!(explained[1].error.as_ref().unwrap().kind, ConditionErrorKind::InvalidCondition);
    assert!(explained[2].matched);
}

#[test]
fn many_rules_on_one_attribute_are_found_by_its_value() {
    let tenant = |name: &str| json!({"attr": "tenant.slug", "value": name});
    let mut all: Vec<_> = (0..100)
        .map(|at| rule(&format!("tenant-{at}"), &["dcim.site"], &["created"], tenant(&format!("t{at}"))))
        .collect();
    all.insert(50, rule("every", &["dcim.site"], &["created"], json!(null)));
    all.push(rule("both", &["*"], &["*"], json!({"and": [tenant("t7"), {"attr": "missing", "value": 1}]})));
    let rules = CompiledRules::compile(all).unwrap();
    let site = |data: Value| json!({"event": "created", "object_type": "dcim.site", "data": data});
    assert_eq!(names(&rules, site(json!({"tenant": {"slug": "t60"}}))), ["every", "tenant-60"]);
    assert_eq!(names(&rules, site(json!({"tenant": {"slug": "t7"}}))), ["tenant-7", "every"]);
    assert_eq!(names(&rules, site(json!({"tenant": {"slug": ["t7"]}}))), ["every"]);
    // Each of them has failed, and each is told, in order.
    let matches = rules.matching(&event(site(json!({"tenant": null}))));
    assert_eq!((matches.rules.len(), matches.errors.len()), (1, 101));
    assert!(matches.errors.is_sorted_by_key(|(index, _)| *index));
    assert!(matches.errors.iter().all(|(_, error)| error.kind == ConditionErrorKind::UnknownPath));
}

/// Rules and events from so few words that they often meet.
fn any_rule() -> impl Strategy<Value = (Vec<&'static str>, Vec<&'static str>, Value, bool)> {
    let object_types = prop::sample::subsequence(vec!["*", "a.*", "a.x", "a.y", "b.x"], 0..3);
    let event_types = prop::sample::subsequence(vec!["*", "created", "deleted"], 0..3);
    let text = || prop::sample::select(vec!["k", "l", "m"]);
    let conditions = prop_oneof![
        Just(json!(null)),
        text().prop_map(|text| json!({"attr": "p", "value": text})),
        prop::sample::select(vec![json!(null), json!(1), json!(1.0), json!(true), json!(0.5), json!(["k"])])
            .prop_map(|value| json!({"attr": "p", "value": value})),
        text().prop_map(|text| json!({"attr": "p", "value": text, "negate": true})),
        text().prop_map(|text| json!({"and": [{"attr": "p", "value": text}, {"attr": "q.r", "value": 1}]})),
        text().prop_map(|text| json!({"or": [{"attr": "p", "value": text}, {"attr": "q.r", "value": 1}]})),
        Just(json!({"attr": "q.r", "op": "gt", "value": 0})),
        Just(json!({"path": "event", "value": "created"})),
    ];
    (object_types, event_types, conditions, prop::bool::weighted(0.9))
}

proptest! {
    #[test]
    fn the_index_finds_what_looking_at_each_rule_finds(
        rules in prop::collection::vec(any_rule(), 0..40),
        object_type in prop::sample::select(vec!["a.x", "a.y", "a.z", "b.x", "c.x"]),
        event_type in prop::sample::select(vec!["created", "deleted", "updated"]),
        data in prop::sample::select(vec![
            json!({"p": "k", "q": {"r": 1}}), json!({"p": "l", "q": {"r": "text"}}), json!({"p": 1, "q": null}), json!({}),
            json!({"p": null, "q": {"r": 1.0}}), json!({"p": true}), json!({"p": ["k"]}), json!({"p": 0.5, "q": {"r": []}}),
        ]),
    ) {
        let rules = rules.into_iter().enumerate().map(|(at, (object_types, event_types, conditions, enabled))| {
            let mut rule = rule(&format!("rule-{at}"), &object_types, &event_types, conditions);
            rule.enabled = enabled;
            rule
        });
        let rules = CompiledRules::compile(rules.collect()).unwrap();
        let event = event(json!({"event": event_type, "object_type": object_type, "data": data}));
        let matches = rules.matching(&event);
        let explained = rules.explain(&event);
        let found: Vec<_> = matches.rules.iter().map(|index| index.get()).collect();
        let expected: Vec<_> = (0..explained.len()).filter(|at| explained[*at].matched).collect();
        prop_assert_eq!(found, expected);
        let failed: Vec<_> = matches.errors.iter().map(|(index, error)| (index.get(), (**error).clone())).collect();
        let expected = explained.iter().enumerate().filter(|(_, explanation)| explanation.reason == Some(Reason::ConditionError));
        let expected: Vec<_> = expected.map(|(at, explanation)| (at, explanation.error.clone().unwrap())).collect();
        prop_assert_eq!(failed, expected);
    }
}
