//! What was printed reads back as the same definitions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hookwire_config::{Overrides, load};
use hookwire_model::{
    Condition, DefaultBody, Engine, Escape, EventRule, Method, OnFailure, Ordering, RetryPolicy, RuleName,
    Schedule, Secret, SignatureScheme, Tls, Undefined, Webhook, WebhookName,
};
use hookwire_netbox::{Definitions, RuleDefinition, WebhookDefinition};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value};

/// Texts with everything that a format has to quote.
fn text() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a", "Zürich", " ", "'", "''", "'''", "\"", "\"\"\"", "\\", "\n", "\t", "\r\n", "\r", "\0", "\u{7f}",
        "\u{1b}", "\u{2028}", "\u{feff}", "🚀", "#", "=", "{", "}", "]", "\\n", "\\u0041", "x: y\n",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Templates that compile, whatever stands in them.
fn template() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['{', '}'], ""))
}

fn name() -> impl Strategy<Value = String> {
    text()
        .prop_map(|text| text.replace(char::is_control, ".").trim().to_owned())
        .prop_map(|text| if text.is_empty() { "a name".into() } else { text })
}

fn millis() -> impl Strategy<Value = Duration> {
    prop_oneof![0u64..2_000, 0u64..10_000_000_000].prop_map(Duration::from_millis)
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let schedule = prop_oneof![
        Just(RetryPolicy::default().schedule),
        prop::collection::vec(millis(), 1..4).prop_map(Schedule::Steps),
        (millis(), 1.0..1000.0, millis()).prop_map(|(initial, factor, max_delay)| {
            Schedule::Exponential { initial, factor, max_delay }
        }),
    ];
    (1u32..100, schedule, prop_oneof![Just(0.2), 0.0..=1.0], prop::option::of(millis())).prop_map(
        |(max_attempts, schedule, jitter, max_age)| RetryPolicy {
            max_attempts: max_attempts.try_into().unwrap(),
            schedule,
            jitter,
            max_age,
        },
    )
}

fn webhook(file: PathBuf) -> impl Strategy<Value = Webhook> {
    let words = (
        select(Method::ALL),
        select(Engine::ALL),
        select(Escape::ALL),
        select(Undefined::ALL),
        select(DefaultBody::ALL),
        select(vec![vec![], vec![SignatureScheme::Netbox]]),
    );
    let texts = (
        select(vec!["http://localhost/", "https://example.org/{{data.id}}?q='\"\\"]),
        prop::collection::vec(select(vec!["X-A: 1", "X-B: 'x' \"y\" \\ z", "X-C: {{event}}"]), 0..3),
        prop::option::of(template()),
        select(vec!["application/json", "text/plain; charset=\"utf-8\""]),
        prop::collection::vec(text().prop_filter("an empty secret is none", |text| !text.is_empty()), 0..3),
    );
    let rest = (
        any::<[bool; 4]>(),
        prop_oneof![Just(Duration::from_secs(10)), (1u64..400_000).prop_map(Duration::from_millis)],
        1u32..100,
        retry(),
        (
            select(vec![None, Some("100/s"), Some("1/m"), Some("7/h")]),
            select(Ordering::ALL),
            select(OnFailure::ALL),
        ),
    );
    (words, texts, rest).prop_map(move |(words, texts, rest)| {
        let (method, engine, escape, undefined, default_body, signature) = words;
        let (url, headers, body, content_type, secrets) = texts;
        let ([verify, ca, follow, enabled], timeout, concurrency, retry, (rate, ordering, on_failure)) = rest;
        let mut webhook = Webhook::new(WebhookName::new("replaced").unwrap(), url);
        webhook.additional_headers = headers.join("\n");
        webhook.method = method;
        webhook.content_type = content_type.into();
        // A body that has to be JSON is another law's business.
        webhook.body_template = body.filter(|_| escape == Escape::None);
        webhook.template_engine = engine;
        webhook.escape = escape;
        webhook.undefined = undefined;
        webhook.default_body = default_body;
        webhook.signature = signature;
        webhook.secrets = secrets.into_iter().map(Secret::new).collect();
        webhook.tls = Tls { ssl_verification: verify, ca_file: ca.then(|| file.clone()), ..Tls::default() };
        webhook.timeout = timeout;
        webhook.follow_redirects = follow;
        webhook.enabled = enabled;
        webhook.concurrency = concurrency.try_into().unwrap();
        webhook.retry = retry;
        webhook.rate_limit = rate.map(|rate| rate.parse().unwrap());
        webhook.ordering = ordering;
        // It says what happens to an order, and is refused without one.
        webhook.on_failure = if ordering == Ordering::None { OnFailure::Block } else { on_failure };
        webhook
    })
}

fn json() -> impl Strategy<Value = Value> {
    let number = select(vec![
        "0",
        "-0",
        "1.0",
        "1e5",
        "-1.5E-7",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(|text| serde_json::from_str(text).unwrap()),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let members = prop::collection::vec((text(), inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Conditions whose patterns compile.
fn condition() -> impl Strategy<Value = Option<Condition>> {
    let test = (text(), select(vec!["eq", "in", "contains", "changed", "regex"]), json(), any::<bool>());
    let test = test.prop_map(|(attr, op, value, negate)| {
        let mut test = Map::new();
        test.insert("attr".into(), attr.replace("snapshots", "").into());
        test.insert("op".into(), op.into());
        let value = match op {
            "eq" if value.is_object() => Value::Null,
            "in" => Value::from(vec![value]),
            "contains" if value.is_object() || value.is_null() => "x".into(),
            "regex" => r"^core\b.'".into(),
            _ => value,
        };
        if op != "changed" {
            test.insert("value".into(), value);
        }
        test.insert("negate".into(), negate.into());
        Value::Object(test)
    });
    let set = test.prop_recursive(4, 24, 4, |inner| {
        (select(vec!["and", "or"]), prop::collection::vec(inner, 1..4))
            .prop_map(|(word, rules)| Value::Object(Map::from_iter([(word.to_owned(), rules.into())])))
    });
    prop::option::of(set).prop_map(|document| {
        document.and_then(|document| Condition::parse(&document).expect("the document is a condition"))
    })
}

fn rule(webhooks: Vec<WebhookName>) -> impl Strategy<Value = EventRule> {
    let patterns = select(vec![vec!["*"], vec!["ipam.*", "dcim.site"], vec!["dcim.site"]]);
    let events = select(vec![vec!["*"], vec!["created", "plug\"in"]]);
    let action_data = prop::collection::vec((text(), json()), 0..3);
    (patterns, events, condition(), action_data, any::<bool>()).prop_map(
        move |(object_types, event_types, conditions, action_data, enabled)| EventRule {
            name: RuleName::new("replaced").unwrap(),
            object_types: object_types.iter().map(|text| text.parse().unwrap()).collect(),
            event_types: event_types.iter().map(|text| text.parse().unwrap()).collect(),
            conditions,
            webhooks: webhooks.clone(),
            action_data: action_data.into_iter().collect(),
            enabled,
        },
    )
}

fn definitions(file: PathBuf) -> impl Strategy<Value = (Vec<Webhook>, Vec<EventRule>)> {
    let webhooks = (prop::collection::vec((name(), webhook(file)), 1..3)).prop_map(|named| {
        let webhooks = named.into_iter().enumerate();
        let webhooks = webhooks.map(|(at, (name, webhook))| {
            let name = WebhookName::new(&format!("{at} {name}")).unwrap();
            Webhook { name, ..webhook }
        });
        webhooks.collect::<Vec<_>>()
    });
    webhooks.prop_flat_map(|webhooks| {
        let names = webhooks.iter().map(|webhook| webhook.name.clone()).collect();
        let rules = prop::collection::vec((name(), rule(names)), 0..3).prop_map(|named| {
            let rules = named.into_iter().enumerate();
            let rules = rules.map(|(at, (name, rule))| {
                let name = RuleName::new(&format!("{at} {name}")).unwrap();
                EventRule { name, ..rule }
            });
            rules.collect::<Vec<_>>()
        });
        (Just(webhooks), rules)
    })
}

fn check(folder: &Path, file: &str, text: &str, webhooks: &[Webhook], rules: &[EventRule]) {
    let path = folder.join(file);
    std::fs::write(&path, text).unwrap();
    let config =
        load(&[path], &|_| None, &Overrides::new()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let read: Vec<Webhook> =
        config.definitions.webhooks().map(|compiled| compiled.webhook().clone()).collect();
    assert_eq!(read, webhooks, "{text}");
    let read: Vec<EventRule> = config.definitions.rules().cloned().collect();
    assert_eq!(read, rules, "{text}");
}

#[test]
fn what_was_printed_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca '\"\\.pem");
    std::fs::write(&ca_file, "").unwrap();
    let comments = || text().prop_map(|text| vec![text]);
    proptest!(|((webhooks, rules) in definitions(ca_file), heading in comments(), above in comments())| {
        let printed = Definitions {
            heading,
            webhooks: webhooks
                .iter()
                .map(|webhook| WebhookDefinition { webhook: webhook.clone(), comments: above.clone() })
                .collect(),
            event_rules: rules
                .iter()
                .map(|rule| RuleDefinition {
                    rule: rule.clone(),
                    comments: above.clone(),
                    broken_conditions: None,
                })
                .collect(),
        };
        check(folder.path(), "printed.toml", &printed.to_toml(), &webhooks, &rules);
        check(folder.path(), "printed.json", &printed.to_json(), &webhooks, &rules);
    });
}
