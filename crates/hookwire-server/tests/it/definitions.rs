//! The definitions in force, and previews by them.

use std::time::Duration;

use hookwire_definitions::Definitions;
use hookwire_engine::Snapshot;
use hookwire_model::{
    Condition, Engine, EventRule, RetryPolicy, RuleName, Schedule, Secret, SignatureScheme, Timestamp,
    Webhook, WebhookName,
};
use serde_json::{Value, json};

use crate::support::{Server, Setup, event};

fn rule(name: &str, webhooks: &[&str]) -> EventRule {
    EventRule {
        name: RuleName::new(name).unwrap(),
        object_types: vec!["dcim.site".parse().unwrap(), "ipam.*".parse().unwrap()],
        event_types: vec!["object_created".parse().unwrap(), "*".parse().unwrap()],
        conditions: None,
        webhooks: webhooks.iter().map(|name| WebhookName::new(name).unwrap()).collect(),
        action_data: Default::default(),
        enabled: true,
    }
}

fn definitions() -> Definitions {
    let plain = Webhook::new(WebhookName::new("plain").unwrap(), "http://127.0.0.1:9/{{ data.id }}");
    let full = Webhook {
        template_engine: Engine::Jinja,
        additional_headers: "X-Object: {{ object_type }}\nAuthorization: Bearer t0ken\nX-Own: hush-hush now"
            .into(),
        body_template: Some(r#"{"id": {{ data.id }}}"#.into()),
        signature: vec![SignatureScheme::Netbox],
        secrets: vec![Secret::new("hush-hush"), Secret::new("earlier")],
        timeout: Duration::from_millis(1500),
        retry: RetryPolicy {
            schedule: Schedule::Exponential {
                initial: Duration::from_secs(1),
                factor: 2.0,
                max_delay: Duration::from_secs(3600),
            },
            max_age: Some(Duration::from_secs(86_400)),
            ..RetryPolicy::default()
        },
        ..Webhook::new(WebhookName::new("full").unwrap(), "https://user:pass@hooks.example/{{ data.id }}")
    };
    let conditions = json!({"and": [{"attr": "status.value", "value": "active"}]});
    let conditional = EventRule {
        conditions: Condition::parse(&conditions).unwrap(),
        action_data: serde_json::from_str(r#"{"extra": 1}"#).unwrap(),
        enabled: false,
        ..rule("conditional", &["plain"])
    };
    Definitions::compile(vec![plain, full], vec![rule("both", &["plain", "full"]), conditional]).unwrap()
}

fn server() -> Server {
    Server::new(Setup { definitions: definitions(), ..Setup::default() })
}

#[tokio::test]
async fn rules_and_webhooks_are_shown_as_the_definitions_have_them_without_secrets() {
    let server = server();
    let rules = server.get("/v1/rules").await;
    let webhooks = server.get("/v1/webhooks").await;
    assert_eq!((rules.status, webhooks.status), (200, 200));
    let shown = webhooks.body.to_string();
    for secret in ["hush-hush", "earlier", "t0ken", "pass"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    insta::with_settings!({omit_expression => true}, {
        insta::assert_snapshot!("rules", serde_json::to_string_pretty(&rules.body).unwrap());
        insta::assert_snapshot!("webhooks", serde_json::to_string_pretty(&webhooks.body).unwrap());
    });
}

#[tokio::test]
async fn stats_tell_which_definitions_are_in_force_and_why_newer_ones_are_not() {
    let server = server();
    let before = server.get("/v1/stats").await.body["definitions"].clone();
    let epoch = "1970-01-01T00:00:00.000000Z";
    let fingerprint = format!("{:016x}", server.in_force.snapshot().definitions().fingerprint());
    let expected = json!({"rules": 2, "webhooks": 2, "fingerprint": fingerprint, "loaded_at": epoch, "reloads": 0, "refused": null});
    assert_eq!(before, expected);
    server.in_force.refuse("no such webhook".into(), Timestamp::from_secs(60));
    let refused = server.get("/v1/stats").await.body["definitions"]["refused"].clone();
    assert_eq!(refused, json!({"at": "1970-01-01T00:01:00.000000Z", "message": "no such webhook"}));
    server.in_force.replace(Snapshot::new(Definitions::default()).unwrap(), Timestamp::from_secs(120));
    let after = server.get("/v1/stats").await.body["definitions"].clone();
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    assert_eq!((&after["rules"], &after["reloads"], &after["refused"]), (&json!(0), &json!(1), &Value::Null));
    assert_eq!(server.get("/v1/rules").await.body, json!({"items": []}));
}

#[tokio::test]
async fn p18_a_preview_is_that_of_the_command_and_sends_nothing() {
    let server = server();
    let answer = server.post("/v1/preview", &event("e")).await;
    assert_eq!(answer.status, 200);
    let event = {
        let mut new_id = || unreachable!("the event brings its id");
        let now = Timestamp::UNIX_EPOCH;
        hookwire_model::Event::parse(
            &event("e"),
            &mut hookwire_model::EventDefaults { now, new_id: &mut new_id },
        )
    };
    let event = std::sync::Arc::new(event.unwrap());
    let mut expected = serde_json::to_value(definitions().preview(
        &event,
        &Default::default(),
        Timestamp::UNIX_EPOCH,
        &|_, _| None,
    ))
    .unwrap();
    // The event brings no timestamp: the body has the time of its preview.
    let mut got = answer.body;
    for previews in [&mut got, &mut expected] {
        assert_eq!(previews.as_array().unwrap().len(), 3);
        let request = previews[0]["request"].as_object_mut().unwrap();
        request["body"] = json!("");
        request["body_base64"] = json!("");
    }
    assert_eq!(got, expected);
    assert_eq!(got[1]["request"]["body"], r#"{"id": 1}"#);
    assert!(!got.to_string().contains("t0ken") && !got.to_string().contains("hush-hush"), "{got}");
    assert_eq!(server.queued().await, 0);
}

#[tokio::test]
async fn a_preview_tells_why_a_rule_does_not_match_and_why_nothing_can_be_sent() {
    let condition = json!({"and": [
        {"attr": "id", "value": 1, "negate": true},
        {"attr": "id", "op": "gt", "value_path": "data.id"},
        {"attr": "name", "op": "changed"},
        {"attr": "missing", "value": 1},
        {"or": [{"path": "event", "value": "x"}]},
    ]});
    let conditions =
        Condition::parse(&json!({"or": [condition, {"attr": "missing.too", "value": 1}]})).unwrap();
    let broken = Webhook::new(WebhookName::new("broken").unwrap(), "http://localhost/{{ data.missing }}");
    let rules = vec![
        EventRule { conditions, ..rule("conditional", &["broken"]) },
        rule("unconditional", &["broken"]),
    ];
    let definitions = Definitions::compile(vec![broken], rules).unwrap();
    let server = Server::new(Setup { definitions, ..Setup::default() });
    let answer = server.post("/v1/preview", &event("e")).await;
    insta::with_settings!({omit_expression => true}, {
        insta::assert_snapshot!(serde_json::to_string_pretty(&answer.body).unwrap());
    });
}

#[tokio::test]
async fn a_preview_may_be_of_one_rule_and_is_of_one_event() {
    let server = server();
    let answer = server.post("/v1/preview?rule=conditional", &event("e")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body[0]["reason"], "disabled", "{}", answer.body);
    assert_eq!(answer.body.as_array().unwrap().len(), 1);
    assert!(server.post("/v1/preview?rule=other", &event("e")).await.pointers(404).is_empty());
    assert!(server.post("/v1/preview?rul=both", &event("e")).await.pointers(400).is_empty());
    for batch in [format!("[{}, {}]", event("a"), event("b")), "[]".into()] {
        assert_eq!(server.post("/v1/preview", &batch).await.pointers(400), [""], "{batch}");
    }
    assert_eq!(server.post("/v1/preview", "{}").await.pointers(400), ["/event", "/object_type", "/data"]);
}
