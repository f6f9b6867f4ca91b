//! Definitions from the outside: what an event becomes, what is sent, and what is wrong.

use std::num::NonZeroU32;
use std::sync::Arc;

use hookwire_definitions::{Definitions, HeldBack, Kind, Place, PrepareError, PreviewFilter, Refused};
use hookwire_model::{
    Condition, DeliveryId, ErrorKind, Event, EventDefaults, EventId, EventRule, RuleName, Secret, Sequence,
    Shard, SignatureScheme, TemplateContext, Timestamp, Webhook, WebhookName,
};
use serde_json::json;

fn now() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

fn event(text: &str) -> Arc<Event> {
    let mut new_id = || EventId::new("evt-1").unwrap();
    Arc::new(Event::parse(text, &mut EventDefaults { now: now(), new_id: &mut new_id }).unwrap())
}

fn site() -> Arc<Event> {
    event(
        r#"{"event": "created", "object_type": "dcim.site", "timestamp": "2026-11-23 16:40:00Z", "username": "ada", "data": {"id": 7, "name": "Ber\"lin", "status": {"value": "active"}}}"#,
    )
}

fn webhook(name: &str) -> Webhook {
    Webhook {
        signature: vec![],
        ..Webhook::new(WebhookName::new(name).unwrap(), "http://localhost:9000/hook")
    }
}

fn rule(name: &str, webhooks: &[&str]) -> EventRule {
    EventRule {
        name: RuleName::new(name).unwrap(),
        object_types: vec!["dcim.*".parse().unwrap()],
        event_types: vec!["created".parse().unwrap()],
        conditions: None,
        webhooks: webhooks.iter().map(|name| WebhookName::new(name).unwrap()).collect(),
        action_data: Default::default(),
        enabled: true,
    }
}

fn when(document: serde_json::Value) -> Option<Condition> {
    Condition::parse(&document).unwrap()
}

fn routes(definitions: &Definitions, event: &Arc<Event>) -> Vec<String> {
    let routes = definitions.routes(event);
    routes.iter().map(|route| format!("{} -> {}", route.rule, route.webhook.webhook().name)).collect()
}

fn errors(webhooks: Vec<Webhook>, rules: Vec<EventRule>) -> Vec<String> {
    let errors = Definitions::compile(webhooks, rules).expect_err("something is wrong with these");
    errors
        .iter()
        .map(|error| match (error.line, error.column) {
            (Some(line), Some(column)) => format!("{line}:{column} [{}] {error}", error.kind.as_str()),
            _ => format!("[{}] {error}", error.kind.as_str()),
        })
        .collect()
}

/// The request of a first attempt at the webhook `w`.
fn prepare(webhook: Webhook) -> Result<hookwire_model::PreparedRequest, PrepareError> {
    let event = site();
    let definitions = Definitions::compile(vec![webhook], vec![]).unwrap();
    let id = DeliveryId::derive(
        Shard(0),
        Sequence(1),
        &event.id,
        &RuleName::new("r").unwrap(),
        &WebhookName::new("w").unwrap(),
    );
    let context = TemplateContext::new(event, &Default::default());
    definitions.webhooks().next().unwrap().prepare(&context, id, 3, now())
}

fn shown(request: &hookwire_model::PreparedRequest) -> String {
    let mut out = format!("{} {}\n", request.method, request.url());
    for (name, value) in &request.headers {
        out += &format!("{name}: {}\n", String::from_utf8_lossy(value));
    }
    format!("{out}\n{}", String::from_utf8_lossy(&request.body))
}

#[test]
fn an_event_becomes_deliveries_in_the_order_of_the_rules() {
    let rules = vec![
        EventRule { enabled: false, ..rule("off", &["a"]) },
        rule("both", &["b", "a"]),
        EventRule { event_types: vec!["deleted".parse().unwrap()], ..rule("other", &["a"]) },
        EventRule {
            conditions: when(json!({"attr": "status.value", "value": "active"})),
            ..rule("active", &["a"])
        },
        EventRule { conditions: when(json!({"attr": "nothing", "value": 1})), ..rule("lost", &["a"]) },
    ];
    let disabled = Webhook { enabled: false, ..webhook("b") };
    let definitions = Definitions::compile(vec![webhook("a"), disabled], rules).unwrap();
    assert_eq!(routes(&definitions, &site()), ["both -> b", "both -> a", "active -> a"]);
    let fan_out = definitions.fan_out(&site());
    assert_eq!(fan_out.errors.len(), 1);
    assert_eq!(fan_out.errors[0].0.as_str(), "lost");
    let deleted = event(r#"{"event": "deleted", "object_type": "ipam.vlan", "data": {}}"#);
    assert!(routes(&definitions, &deleted).is_empty());
    assert!(Definitions::default().routes(&site()).is_empty());
}

#[test]
fn the_context_is_shared_unless_a_rule_adds_to_it() {
    let action_data = json!({"team": "noc", "name": "hidden"}).as_object().unwrap().clone();
    let rules = vec![rule("a", &["w"]), rule("b", &["w"]), EventRule { action_data, ..rule("c", &["w"]) }];
    let definitions = Definitions::compile(vec![webhook("w")], rules).unwrap();
    let routes = definitions.routes(&site());
    assert!(Arc::ptr_eq(&routes[0].context, &routes[1].context));
    let data = routes[2].context.data().root().to_value();
    assert_eq!((&data["team"], &data["name"]), (&json!("noc"), &json!("Ber\"lin")));
}

#[test]
fn a_delivery_finds_its_way_under_new_definitions() {
    let action_data = json!({"team": "noc"}).as_object().unwrap().clone();
    let definitions =
        Definitions::compile(vec![webhook("w")], vec![EventRule { action_data, ..rule("a", &["w"]) }])
            .unwrap();
    let route = |rule: &str, webhook: &str| {
        let (rule, webhook) = (RuleName::new(rule).unwrap(), WebhookName::new(webhook).unwrap());
        definitions.route(&site(), &rule, &webhook)
    };
    assert_eq!(route("a", "w").unwrap().context.data().root().to_value()["team"], "noc");
    // The rule is gone, the promise is not.
    let without = route("gone", "w").unwrap();
    assert_eq!((without.rule.as_str(), without.context.data().as_str()), ("gone", site().data.as_str()));
    assert!(route("a", "gone").is_none());
}

#[test]
fn a_request_is_complete_and_signed() {
    let request = prepare(Webhook {
        url: "https://ada:pass@example.org/{{object_type}}?n={{data.name}}".into(),
        additional_headers:
            "X-Name: {{data.name}}\ncontent-type: application/vnd.x+json\nx-hook-signature: forged".into(),
        body_template: Some(r#"{"text": "{{data.name}}"}"#.into()),
        signature: vec![SignatureScheme::Netbox, SignatureScheme::Standard],
        secrets: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        ..webhook("w")
    })
    .unwrap();
    insta::assert_snapshot!(shown(&request));
    assert_eq!(request.masked_headers, ["authorization"]);
}

#[test]
fn without_a_template_the_default_body_is_sent() {
    let request = prepare(webhook("w")).unwrap();
    insta::assert_snapshot!(shown(&request));
    assert!(request.masked_headers.is_empty());
}

#[test]
fn headers_with_credentials_or_secrets_are_masked() {
    let request = prepare(Webhook {
        additional_headers:
            "Cookie: a=b\nproxy-authorization: x\nX-Auth: Token s3cret-token\nX-Plain: fine\n\
            X-API-Key: a\nPrivate-Token: b\nX-Client-Secret: c\nX-Key-Id: d"
                .into(),
        secrets: vec![Secret::new("s3cret-token"), Secret::new("fine")],
        ..webhook("w")
    })
    .unwrap();
    assert_eq!(
        request.masked_headers,
        ["cookie", "proxy-authorization", "x-auth", "x-api-key", "private-token", "x-client-secret"]
    );
}

#[test]
fn what_cannot_be_prepared_says_where_and_whether_it_rendered() {
    let error = |webhook: Webhook| prepare(webhook).unwrap_err();
    let missing =
        error(Webhook { body_template: Some(r#"{"text": "{{data.nam}}"}"#.into()), ..webhook("w") });
    assert_eq!((missing.attempt_error().kind, missing.rendered()), (ErrorKind::Body, false));
    assert!(missing.attempt_error().message.starts_with("body_template, line 1, column "), "{missing}");
    let no_json = error(Webhook { body_template: Some("{{data.id}},".into()), ..webhook("w") });
    assert_eq!((no_json.attempt_error().kind, no_json.rendered()), (ErrorKind::Body, false));
    let url = error(Webhook { url: "{{{data.name}}}".into(), ..webhook("w") });
    assert_eq!((url.attempt_error().kind, url.rendered()), (ErrorKind::Url, true));
    let header = error(Webhook { additional_headers: "{{data.name}}: 1".into(), ..webhook("w") });
    assert_eq!((header.attempt_error().kind, header.rendered()), (ErrorKind::Headers, true));
}

#[test]
fn everything_that_is_wrong_is_told_with_its_place() {
    let webhooks = vec![
        Webhook {
            url: "ftp://example.org/".into(),
            additional_headers: "X-A: 1\nHost: example.org".into(),
            body_template: Some("{\n  \"a\": {{#if x}}1\n}".into()),
            ..webhook("broken")
        },
        Webhook {
            signature: vec![SignatureScheme::Standard],
            secrets: vec![Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Secret::new("short")],
            ..webhook("unsigned")
        },
        Webhook { signature: vec![SignatureScheme::StandardEd25519], ..webhook("ed25519") },
        webhook("slack"),
        webhook("slack"),
    ];
    let rules = vec![
        rule("r", &["slak", "broken", "slack", "slack"]),
        EventRule {
            conditions: when(
                json!({"or": [{"attr": "a", "value": 1}, {"attr": "b", "op": "regex", "value": "("}]}),
            ),
            ..rule("r", &["nothing-like-it"])
        },
    ];
    insta::assert_snapshot!(errors(webhooks, rules).join("\n"));
}

#[test]
fn the_sound_ones_are_used_and_the_others_shown() {
    let refused = |place: Place, name: &str| {
        let error = hookwire_definitions::DefinitionError {
            place: Place { member: Some("timeout"), ..place },
            kind: Kind::Value,
            message: "needs a duration".into(),
            remedy: None,
            line: None,
            column: None,
        };
        Refused { name: name.into(), errors: vec![error] }
    };
    let webhooks = vec![
        Ok(webhook("good")),
        Ok(Webhook { body_template: Some("{{".into()), ..webhook("bad") }),
        Err(refused(Place::webhook(2, "refused"), "refused")),
    ];
    let rules = vec![
        Ok(rule("first", &["bad", "good", "refused"])),
        Err(refused(Place::rule(1, "second"), "second")),
        Ok(EventRule {
            conditions: when(json!({"attr": "status.value", "value": "planned"})),
            ..rule("third", &["good"])
        }),
        Ok(EventRule {
            conditions: when(json!({"attr": "b", "op": "regex", "value": "("})),
            ..rule("fourth", &["good"])
        }),
    ];
    let (definitions, errors) = Definitions::compile_sound(webhooks, rules);
    let errors: Vec<String> = errors.iter().map(|error| error.place.to_string()).collect();
    assert_eq!(errors, [r#"webhooks["bad"].body_template"#, r#"event_rules["fourth"].conditions.value"#]);
    assert_eq!(routes(&definitions, &site()), ["first -> good"]);
    let previews = definitions.preview(&site(), &PreviewFilter::default(), now(), &|_, _| None);
    insta::assert_json_snapshot!(previews);
    let text: Vec<String> = previews.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!("previews_for_people", text.join("\n"));
    insta::assert_json_snapshot!("explanations", definitions.explain(&site()));
}

#[test]
fn a_preview_can_be_limited_to_a_rule_and_a_webhook() {
    let definitions = Definitions::compile(
        vec![webhook("a"), webhook("b")],
        vec![rule("x", &["a", "b"]), rule("y", &["b"])],
    )
    .unwrap();
    let previews = |rule: Option<&str>, webhook: Option<&str>| {
        let filter = PreviewFilter { rule: rule.map(str::to_owned), webhook: webhook.map(str::to_owned) };
        definitions.preview(&site(), &filter, now(), &|_, _| None).len()
    };
    assert_eq!(
        [
            previews(None, None),
            previews(Some("x"), None),
            previews(None, Some("b")),
            previews(Some("z"), None)
        ],
        [3, 2, 2, 0]
    );
}

#[test]
fn a_preview_tells_of_a_request_that_would_not_go_out() {
    let disabled = Webhook { enabled: false, ..webhook("disabled") };
    let templated = Webhook { url: "http://h{{data.id}}.example/".into(), ..webhook("templated") };
    let webhooks = vec![webhook("plain"), disabled, templated];
    let definitions =
        Definitions::compile(webhooks, vec![rule("r", &["plain", "disabled", "templated"])]).unwrap();
    let refusal = |host: &str, is_literal: bool| (!is_literal).then(|| format!("{host} is not called"));
    let previews = definitions.preview(&site(), &PreviewFilter::default(), now(), &refusal);
    let held_back: Vec<_> = previews.iter().map(|preview| preview.held_back.clone()).collect();
    let refused = HeldBack::Refused("h7.example is not called".into());
    assert_eq!(held_back, [None, Some(HeldBack::Disabled), Some(refused)]);
    // It is no error of the definitions, and the request is shown all the same.
    assert!(previews.iter().all(|preview| preview.request.is_some() && !preview.is_error()));
    let firsts: Vec<String> =
        previews.iter().map(|preview| preview.to_string().lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        firsts,
        [
            "r -> plain: would send",
            "r -> disabled: would not send: the webhook is disabled, so that it waits until it is enabled",
            "r -> templated: would not send: h7.example is not called",
        ]
    );
    let json = serde_json::to_value(&previews).unwrap();
    assert_eq!(
        (&json[0].get("held_back"), &json[2]["held_back"]),
        (&None, &"h7.example is not called".into())
    );
}

#[test]
fn credentials_are_masked_in_a_preview_and_the_signature_is_real() {
    let sender = Webhook {
        additional_headers: "Authorization: Bearer abc\nX-Cafe: caf\u{e9}".into(),
        signature: vec![SignatureScheme::Netbox],
        secrets: vec![Secret::new("s3cret")],
        ..webhook("w")
    };
    let definitions = Definitions::compile(vec![sender], vec![rule("r", &["w"])]).unwrap();
    let previews = definitions.preview(&site(), &PreviewFilter::default(), now(), &|_, _| None);
    let request = previews[0].request.as_ref().unwrap();
    let value =
        |name: &str| request.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    assert_eq!((value("Authorization"), value("X-Cafe")), (Some("***"), Some("café")));
    assert_eq!(value("X-Hook-Signature").map(str::len), Some(128));
}

#[test]
fn limits_over_all_webhooks() {
    let small = Webhook {
        concurrency: NonZeroU32::new(3).unwrap(),
        timeout: std::time::Duration::from_secs(40),
        ..webhook("a")
    };
    let definitions = Definitions::compile(vec![small, webhook("b")], vec![]).unwrap();
    assert_eq!((definitions.concurrency_min(), definitions.grace().as_secs()), (3, 41));
    assert_eq!((Definitions::default().concurrency_min(), Definitions::default().grace().as_secs()), (1, 1));
}

#[test]
fn the_fingerprint_tells_definitions_apart_and_no_secrets() {
    let of = |webhook: Webhook| Definitions::compile(vec![webhook], vec![]).unwrap().fingerprint();
    let plain = of(webhook("a"));
    assert_eq!(plain, of(webhook("a")));
    let slow = Webhook { timeout: std::time::Duration::from_secs(40), ..webhook("a") };
    let signed = |secret: &str| Webhook { secrets: vec![Secret::new(secret)], ..webhook("a") };
    let others = [of(webhook("b")), of(slow), of(signed("one")), Definitions::default().fingerprint()];
    assert!(others.iter().all(|other| *other != plain), "{others:?}");
    assert_eq!(of(signed("one")), of(signed("two")));
}
