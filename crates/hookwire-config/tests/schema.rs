//! The JSON Schema, and the tables that it and the documentation are made of.

use std::path::{Path, PathBuf};

use hookwire_config::{
    MemberInfo, NOT_YET, Overrides, RETRY_MEMBERS, RULE_MEMBERS, SETTINGS, WEBHOOK_MEMBERS, load, schema,
};
use hookwire_model::{Condition, Operator, Webhook, WebhookName};
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator() -> Validator {
    jsonschema::draft202012::meta::validate(&schema()).expect("it is a schema of its draft");
    jsonschema::validator_for(&schema()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn from_toml(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    serde_json::to_value(table).unwrap()
}

fn complaints(validator: &Validator, document: &Value) -> Vec<String> {
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Every example of a configuration in the documentation: blocks of TOML that are a whole file.
fn samples() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = vec![root().join("README.md")];
    for folder in ["docs", "docs/reference"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()));
    }
    let mut samples = vec![("dev.toml".to_owned(), read("crates/hookwire/src/commands/dev.toml"))];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            if block.starts_with('[') || block.contains("\n[") {
                samples.push((file.display().to_string(), block.to_owned()));
            }
        }
    }
    samples
}

#[test]
fn every_sample_fits_the_schema() {
    let validator = validator();
    let samples = samples();
    assert!(samples.len() > 3, "the samples are not found any more: {samples:?}");
    for (place, sample) in samples {
        assert_eq!(complaints(&validator, &from_toml(&sample)), [""; 0], "{place}\n{sample}");
    }
    let everything = json!({
        "$schema": "./hookwire.schema.json",
        "webhooks": [
            {
                "name": "w", "url": "https://example.org/", "method": "PUT", "signature": "standard",
                "secret_env": "NAME", "previous_secrets": ["a", { "secret_file": "b" }],
                "client_cert": "c", "client_key": "k", "timeout": "1m 30s", "concurrency": 1,
                "retry": { "max_attempts": 3, "initial": "1s", "factor": 1.5, "max_delay": "1h", "jitter": 0, "max_age": "7d" },
            },
            { "name": "x", "url": "http://localhost/", "signature": ["netbox", "standard"], "retry": { "schedule": ["1s"] } },
            { "name": "y", "url": "http://localhost/", "ordering": "object", "on_failure": "skip", "rate_limit": "100/s" },
        ],
        "event_rules": [
            { "name": "r", "object_types": ["*"], "event_types": ["*"], "webhooks": ["w"], "conditions": "{}", "action_data": "{}" },
            { "name": "s", "object_types": ["dcim.*"], "event_types": ["created"], "webhooks": ["w"], "conditions": {}, "action_data": { "a": [1] } },
        ],
        "store": { "url": "memory:", "max_pending_bytes": "8 GiB", "dedup_window": "1h30m" },
        "server": { "listen": "localhost:0" },
        "worker": { "concurrency": 1 },
        "egress": { "mode": "public-only", "allow": ["10.0.0.0/8"] },
        "history": { "bodies": true, "max_bytes": "1GB" },
    });
    assert_eq!(complaints(&validator, &everything), [""; 0]);
}

#[test]
fn what_is_wrong_does_not_fit() {
    let validator = validator();
    let webhook = |members: Value| {
        let mut webhook = json!({ "name": "w", "url": "http://localhost/" });
        webhook.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "webhooks": [webhook] })
    };
    let rule = |members: Value| {
        let mut rule = json!({ "name": "r", "object_types": ["*"], "event_types": ["*"], "webhooks": ["w"] });
        rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({ "event_rules": [rule] })
    };
    assert!(validator.is_valid(&webhook(json!({}))) && validator.is_valid(&rule(json!({}))));
    for wrong in [
        json!([]),
        json!({ "webhook": [] }),
        json!({ "webhooks": {} }),
        json!({ "webhooks": [{ "name": "w" }] }),
        json!({ "event_rules": [{ "name": "r" }] }),
        webhook(json!({ "metod": "POST" })),
        webhook(json!({ "method": "post" })),
        webhook(json!({ "timeout": 10 })),
        webhook(json!({ "timeout": "10" })),
        webhook(json!({ "concurrency": 0 })),
        webhook(json!({ "enabled": "yes" })),
        webhook(json!({ "secret": "a", "secret_env": "B" })),
        webhook(json!({ "client_cert": "a" })),
        webhook(json!({ "previous_secrets": [{ "secret": "a", "secret_env": "B" }] })),
        webhook(json!({ "signature": ["sha1"] })),
        webhook(json!({ "rate_limit": "fast" })),
        webhook(json!({ "on_failure": "skip" })),
        webhook(json!({ "retry": { "schedule": ["1s"], "factor": 2 } })),
        webhook(json!({ "retry": { "schedule": [] } })),
        webhook(json!({ "retry": { "jitter": 2 } })),
        rule(json!({ "webhooks": [] })),
        rule(json!({ "event_types": "created" })),
        rule(json!({ "conditions": { "attr": "x", "valeu": 1 } })),
        rule(json!({ "conditions": { "and": [{ "or": [{ "not": 1 }] }] } })),
        json!({ "store": { "max_pending_bytes": "8G" } }),
        json!({ "store": { "listen": "127.0.0.1:1" } }),
        json!({ "worker": { "concurrency": "many" } }),
        json!({ "egress": { "mode": "open" } }),
        json!({ "egress": { "allow": "10.0.0.0/8" } }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
    // What is refused as not supported yet is not offered either.
    for entry in NOT_YET.iter().filter(|entry| entry.table == "webhooks") {
        let value = entry.value.map_or_else(|| json!("x"), |value| json!(value));
        assert!(!validator.is_valid(&webhook(json!({ entry.member: value }))), "{entry:?}");
    }
}

#[test]
fn conditions_fit_if_they_are_read() {
    let rule = |conditions: &Value| {
        json!({ "event_rules": [{
            "name": "r", "object_types": ["*"], "event_types": ["*"], "webhooks": ["w"], "conditions": conditions,
        }] })
    };
    let validator = validator();
    let mut read = 0;
    for line in self::read("tests/fixtures/netbox/conditions.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let document = &case["conditions"];
        if Condition::parse(document).is_ok() && document.is_object() {
            read += 1;
            assert_eq!(complaints(&validator, &rule(document)), [""; 0], "{document}");
        }
    }
    assert!(read > 500, "the fixtures are not found any more");
    // Each operator with each kind of value: the schema agrees with the reader.
    let values = [json!("x"), json!(1), json!(1.5), json!(true), json!(null), json!([1]), json!({ "a": 1 })];
    for operator in Operator::ALL {
        for value in &values {
            let document = json!({ "attr": "x", "op": operator.as_str(), "value": value });
            // What a text must be beyond a text (a pattern, a network) is no matter of a schema.
            let fits = match operator {
                Operator::Cidr => continue,
                _ => Condition::parse(&document).is_ok(),
            };
            assert_eq!(validator.is_valid(&rule(&document)), fits, "{document}");
        }
    }
}

#[test]
fn defaults_in_the_table_are_those_of_the_model() {
    let usable = |list: &str, info: &&MemberInfo| {
        let refused = NOT_YET
            .iter()
            .any(|entry| entry.table == list && entry.member == info.name && entry.value.is_none());
        // It goes with an order, which is not the default.
        !info.default.is_empty() && !refused && info.name != "on_failure"
    };
    let mut text = "[[webhooks]]\nname = \"w\"\nurl = \"http://localhost/\"\n".to_owned();
    for info in WEBHOOK_MEMBERS.iter().filter(|info| usable("webhooks", info)) {
        text += &format!("{} = {}\n", info.name, info.default);
    }
    for info in RETRY_MEMBERS.iter().filter(|info| usable("retry", info)) {
        text += &format!("retry.{} = {}\n", info.name, info.default);
    }
    text +=
        "[[event_rules]]\nname = \"r\"\nobject_types = [\"*\"]\nevent_types = [\"*\"]\nwebhooks = [\"w\"]\n";
    let without = text.clone();
    for info in RULE_MEMBERS.iter().filter(|info| usable("event_rules", info)) {
        text += &format!("{} = {}\n", info.name, info.default);
    }
    let folder = tempfile::tempdir().unwrap();
    let load = |text: &str| {
        let path = folder.path().join("hookwire.toml");
        std::fs::write(&path, text).unwrap();
        load(&[path], &|_| None, &Overrides::new()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let (with, without) = (load(&text), load(&without));
    let name = WebhookName::new("w").unwrap();
    let webhook = with.definitions.webhook(&name).unwrap().webhook();
    assert_eq!(*webhook, Webhook::new(name, "http://localhost/"));
    assert_eq!(with.definitions.rules().next(), without.definitions.rules().next());
}

#[test]
fn the_reference_names_every_member_with_its_default() {
    let page = read("docs/reference/definitions.md");
    let section = |heading: &str| {
        let after = page.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}")).1;
        after.split("\n## ").next().unwrap().split("\n### ").next().unwrap().to_owned()
    };
    for (heading, table) in [
        ("\n## Webhooks\n", WEBHOOK_MEMBERS),
        ("\n### Retry\n", RETRY_MEMBERS),
        ("\n## Event rules\n", RULE_MEMBERS),
    ] {
        let section = section(heading);
        for info in table {
            let code = format!("`{}`", info.name);
            assert!(
                section.contains(&code),
                "docs/reference/definitions.md: {heading:?} does not name {code}"
            );
            let row = section.lines().find(|line| line.starts_with(&format!("| {code} |")));
            // The schedule stands above its table.
            if let (Some(row), false) = (row, info.default.is_empty() || info.name == "schedule") {
                let refused = row.contains("**not supported yet**");
                let default = format!("`{}`", info.default);
                assert!(refused || row.contains(&default), "{row}\nlacks the default {default}");
            }
        }
    }
}

#[test]
fn every_description_is_a_sentence() {
    let all = [WEBHOOK_MEMBERS, RETRY_MEMBERS, RULE_MEMBERS].concat();
    let members = all.iter().map(|info| (info.name, info.description));
    for (name, description) in members.chain(SETTINGS.iter().map(|row| (row.path, row.description))) {
        assert!(description.ends_with('.') && !description.contains("  "), "{name}: {description}");
        assert!(description.starts_with(char::is_uppercase), "{name}: {description}");
    }
}

#[test]
fn the_schema_as_editors_get_it() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema()).unwrap());
}
