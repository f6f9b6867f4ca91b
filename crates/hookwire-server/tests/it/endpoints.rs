//! Endpoints and metrics: what is shown, what may be done, and that the page of metrics names them all.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use hookwire_definitions::Definitions;
use hookwire_model::{EventRule, RuleName, Webhook, WebhookName};
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{HOST, Server, Setup};

/// One webhook with a literal authority, over two shards.
fn server() -> Server {
    let webhook = Webhook::new(WebhookName::new("w").unwrap(), "http://127.0.0.1:9/");
    let rule = EventRule {
        name: RuleName::new("r").unwrap(),
        object_types: vec!["*".parse().unwrap()],
        event_types: vec!["*".parse().unwrap()],
        conditions: None,
        webhooks: vec![webhook.name.clone()],
        action_data: serde_json::Map::new(),
        enabled: true,
    };
    let definitions = Definitions::compile(vec![webhook], vec![rule]).unwrap();
    Server::new(Setup { shards: 2, definitions, ..Setup::default() })
}

#[tokio::test]
async fn an_endpoint_is_shown_paused_and_resumed() {
    let server = server();
    let shown = server.get("/v1/endpoints").await;
    let endpoint = shown.body["items"][0].clone();
    assert_eq!(
        endpoint,
        json!({"id": endpoint["id"], "webhook": "w", "authority": "http://127.0.0.1:9", "state": "closed",
               "paused_by": null, "paused_since": null, "rate": null, "waits_until": null, "waiting": 0})
    );
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    assert_eq!(server.post(&format!("{path}/pause"), "").await.body, json!({"changed": 1}));
    let paused = server.get("/v1/endpoints").await.body["items"][0].clone();
    assert_eq!((&paused["state"], &paused["paused_by"]), (&json!("paused"), &json!("person")));
    let refused = server.post(&format!("{path}/probe"), "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(server.post(&format!("{path}/resume"), "").await.status, 200);
    let resumed = server.get("/v1/endpoints").await.body["items"][0].clone();
    assert_eq!((&resumed["state"], &resumed["rate"]), (&json!("closed"), &json!(5.0)));
    assert_eq!(server.post(&format!("{path}/probe"), "").await.status, 200);
}

#[tokio::test]
async fn a_webhook_is_paused_with_all_its_endpoints() {
    let server = server();
    assert_eq!(server.post("/v1/webhooks/w/pause", "").await.status, 200);
    let paused = server.get("/v1/endpoints").await.body["items"][0].clone();
    assert_eq!((&paused["state"], &paused["paused_by"]), (&json!("paused"), &json!("webhook")));
    assert_eq!(server.post("/v1/webhooks/w/resume", "").await.status, 200);
    assert_eq!(server.get("/v1/endpoints").await.body["items"][0]["state"], "closed");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let server = server();
    for (path, status) in [
        ("/v1/endpoints/ep_0000000000000007/pause", 404),
        ("/v1/endpoints/seven/pause", 400),
        ("/v1/webhooks/nobody/pause", 404),
    ] {
        let answer = server.post(path, "").await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn the_page_of_metrics_names_them_all_and_no_other() {
    let server = server();
    let request = Request::builder().method(Method::GET).uri("/metrics").header(HOST.0, HOST.1);
    let response = server.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut told = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE hookwire_")) {
        let (name, kind) = line.split_once(' ').unwrap();
        told.insert(match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        });
    }
    // These have names of definitions for labels, so that they appear with the first count.
    told.extend(["attempts_total", "condition_errors_total"].map(str::to_owned));
    let page = include_str!("../../../../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> =
        rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    assert_eq!(told, documented);
}
