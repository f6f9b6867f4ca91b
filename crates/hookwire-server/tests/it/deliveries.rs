//! Looking at deliveries and acting on them, over a store of three shards.

use axum::http::Method;
use hookwire_model::DeliveryId;
use hookwire_queue::Fate;
use serde_json::{Value, json};

use crate::support::{Answer, Server, Setup, dead, event, nobody, running, waiting};

/// Deliveries in every state, spread over three shards.
struct Deliveries {
    server: Server,
    waiting: DeliveryId,
    running: DeliveryId,
    delivered: DeliveryId,
    /// One in each of two shards, to webhooks `a` and `b`.
    dead: [DeliveryId; 2],
}

impl Deliveries {
    async fn new() -> Self {
        let server = Server::new(Setup { shards: 3, ..Setup::default() });
        let first = server.fan_out(0, "first", &[("a", waiting()), ("b", running())]).await;
        let second = server.fan_out(1, "second", &[("a", Fate::Delivered), ("b", dead())]).await;
        let third = server.fan_out(2, "third", &[("a", dead())]).await;
        Deliveries {
            server,
            waiting: first[0],
            running: first[1],
            delivered: second[0],
            dead: [third[0], second[1]],
        }
    }

    async fn act(&self, path: &str, body: &Value) -> Answer {
        self.server.post(path, &body.to_string()).await
    }

    async fn states(&self) -> Vec<String> {
        let mut states = Vec::new();
        for id in [self.waiting, self.running, self.delivered, self.dead[0], self.dead[1]] {
            states.push(self.server.state(id).await.as_str().unwrap_or("gone").to_owned());
        }
        states
    }
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let server = Server::open();
    for (method, path, status) in [
        (Method::GET, "/v1/events/unknown", 404),
        (Method::GET, "/v1/events/no%20id", 400),
        (Method::GET, "/v1/events/%ff", 400),
        (Method::GET, "/v1/deliveries/%ff", 400),
        (Method::POST, "/v1/webhooks/%ff/pause", 400),
        (Method::GET, "/v1/deliveries/dlv_00000000000000000000000000", 404),
        (Method::GET, "/v1/deliveries/dlv_3zzzzzzzzzzzzzzzzzzzzzzzzz", 404),
        (Method::GET, "/v1/deliveries/nonsense", 400),
        (Method::GET, "/v1/deliveries?limit=0", 400),
        (Method::GET, "/v1/deliveries?limit=501", 400),
        (Method::GET, "/v1/deliveries?limit=-1", 400),
        (Method::GET, "/v1/deliveries?state=nonsense", 400),
        (Method::GET, "/v1/deliveries?cursor=nonsense", 400),
        (Method::GET, "/v1/deliveries?stat=dead", 400),
        (Method::GET, "/v1/dead?state=dead", 400),
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/v1/events", 405),
        (Method::GET, "/v1/deliveries/retry", 405),
    ] {
        let answer = server.call(method, path, &[("host", "localhost")], "").await;
        assert!(answer.pointers(status).is_empty(), "{path}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{path}");
    }
    for path in ["/v1/deliveries?state=waiting&limit=500", "/v1/dead"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body), (200, json!({"items": [], "next_cursor": null})), "{path}");
    }
    // A cursor of a shard that is not there any more goes on with those that are.
    let answer = server.get("/v1/deliveries?cursor=dlv_3zzzzzzzzzzzzzzzzzzzzzzzzz").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn p12_deliveries_are_listed_by_page_and_filter_over_all_shards() {
    let deliveries = Deliveries::new().await;
    let mut listed = Vec::new();
    let mut path = "/v1/deliveries?limit=2".to_owned();
    loop {
        let page = deliveries.server.get(&path).await.body;
        listed.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/deliveries?limit=2&cursor={cursor}");
    }
    let mut expected = [
        deliveries.waiting,
        deliveries.running,
        deliveries.delivered,
        deliveries.dead[0],
        deliveries.dead[1],
    ];
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(listed, expected.iter().map(|id| json!(id)).collect::<Vec<_>>());
    for (query, count) in [
        ("deliveries?state=dead", 2),
        ("deliveries?webhook=a", 3),
        ("deliveries?webhook=a&state=dead", 1),
        ("deliveries?rule=r", 5),
        ("deliveries?rule=other", 0),
        ("deliveries?event_id=second", 2),
        ("dead", 2),
        ("dead?webhook=b", 1),
    ] {
        let page = deliveries.server.get(&format!("/v1/{query}")).await.body;
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn p14_one_delivery_is_retried_or_cancelled_where_its_state_allows() {
    for (action, states) in [
        ("retry", ["waiting", "running", "waiting", "waiting", "waiting"]),
        ("cancel", ["cancelled", "running", "delivered", "cancelled", "cancelled"]),
    ] {
        let deliveries = Deliveries::new().await;
        let before = deliveries.states().await;
        let ids = [
            deliveries.waiting,
            deliveries.running,
            deliveries.delivered,
            deliveries.dead[0],
            deliveries.dead[1],
        ];
        for (id, state) in ids.into_iter().zip(before) {
            let answer = deliveries.server.post(&format!("/v1/deliveries/{id}/{action}"), "").await;
            match (action, state.as_str()) {
                (_, "running") | ("cancel", "delivered") => {
                    answer.pointers(409);
                    assert_eq!(answer.body["state"], state);
                }
                _ => {
                    assert_eq!(
                        (answer.status, answer.body),
                        (200, json!({"changed": 1})),
                        "{action} {state}"
                    );
                }
            }
        }
        assert_eq!(deliveries.states().await, states, "{action}");
    }
}

#[tokio::test]
async fn problems_of_one_delivery_say_what_can_be_done() {
    let deliveries = Deliveries::new().await;
    let cancelled = deliveries.dead[0];
    deliveries.server.post(&format!("/v1/deliveries/{cancelled}/cancel"), "").await;
    let (running, delivered) = (deliveries.running, deliveries.delivered);
    let mut told = Vec::new();
    for (id, action) in [
        (running.to_string(), "retry"),
        (running.to_string(), "cancel"),
        (delivered.to_string(), "cancel"),
        (cancelled.to_string(), "retry"),
        (cancelled.to_string(), "cancel"),
        (nobody(0).to_string(), "retry"),
        (nobody(7).to_string(), "cancel"),
        ("nonsense".into(), "retry"),
    ] {
        let answer = deliveries.server.post(&format!("/v1/deliveries/{id}/{action}"), "").await;
        told.push(format!("{action}: {} {}", answer.status, answer.body));
    }
    insta::with_settings!({filters => vec![("dlv_[0-9a-z]{26}", "[delivery]")], omit_expression => true}, {
        insta::assert_snapshot!(told.join("\n"));
    });
}

#[tokio::test]
async fn p14_many_are_acted_on_by_filter_and_a_dry_run_counts_the_same() {
    let unchanged = ["waiting", "running", "delivered", "dead", "dead"];
    for (path, body, changed, states) in [
        ("dead/redrive", json!({"all": true}), 2, ["waiting", "running", "delivered", "waiting", "waiting"]),
        ("dead/redrive", json!({"webhook": "b"}), 1, ["waiting", "running", "delivered", "dead", "waiting"]),
        (
            "dead/redrive",
            json!({"event_id": "third"}),
            1,
            ["waiting", "running", "delivered", "waiting", "dead"],
        ),
        (
            "dead/purge",
            json!({"webhook": "a", "rule": "r"}),
            1,
            ["waiting", "running", "delivered", "gone", "dead"],
        ),
        ("dead/purge", json!({"all": true}), 2, ["waiting", "running", "delivered", "gone", "gone"]),
        ("dead/purge", json!({"rule": "other"}), 0, unchanged),
        (
            "deliveries/cancel",
            json!({"all": true}),
            3,
            ["cancelled", "running", "delivered", "cancelled", "cancelled"],
        ),
        (
            "deliveries/cancel",
            json!({"state": "waiting"}),
            1,
            ["cancelled", "running", "delivered", "dead", "dead"],
        ),
        (
            "deliveries/retry",
            json!({"state": "dead"}),
            2,
            ["waiting", "running", "delivered", "waiting", "waiting"],
        ),
        (
            "deliveries/retry",
            json!({"all": true}),
            4,
            ["waiting", "running", "waiting", "waiting", "waiting"],
        ),
        ("deliveries/retry", json!({"state": "running"}), 0, unchanged),
    ] {
        let deliveries = Deliveries::new().await;
        let path = format!("/v1/{path}");
        let mut dry = body.clone();
        dry["dry_run"] = json!(true);
        let answer = deliveries.act(&path, &dry).await;
        let expected = json!({"changed": changed, "dry_run": true, "unknown": [], "unfit": []});
        assert_eq!((answer.status, answer.body), (200, expected), "{path} {body}");
        assert_eq!(deliveries.states().await, unchanged, "{path} {body}");
        let answer = deliveries.act(&path, &body).await;
        let expected = json!({"changed": changed, "dry_run": false, "unknown": [], "unfit": []});
        assert_eq!((answer.status, answer.body), (200, expected), "{path} {body}");
        assert_eq!(deliveries.states().await, states, "{path} {body}");
    }
}

#[tokio::test]
async fn acting_by_endpoint_leaves_others_alone() {
    let deliveries = Deliveries::new().await;
    let shown = deliveries.server.get(&format!("/v1/deliveries/{}", deliveries.dead[1])).await.body;
    let answer = deliveries.act("/v1/dead/redrive", &json!({"endpoint": shown["endpoint"]})).await;
    assert_eq!(answer.body["changed"], 1);
    assert_eq!(deliveries.states().await, ["waiting", "running", "delivered", "dead", "waiting"]);
}

#[tokio::test]
async fn many_are_acted_on_by_their_ids_and_the_others_are_told() {
    let deliveries = Deliveries::new().await;
    let ids = [
        deliveries.dead[0],
        deliveries.running,
        nobody(1),
        deliveries.dead[1],
        deliveries.delivered,
        deliveries.dead[0],
        nobody(7),
    ];
    for (dry_run, states) in [
        (true, ["waiting", "running", "delivered", "dead", "dead"]),
        (false, ["waiting", "running", "delivered", "waiting", "waiting"]),
    ] {
        let answer = deliveries.act("/v1/dead/redrive", &json!({"ids": ids, "dry_run": dry_run})).await;
        let unfit = json!([
            {"id": deliveries.running, "state": "running"},
            {"id": deliveries.delivered, "state": "delivered"},
        ]);
        let expected =
            json!({"changed": 2, "dry_run": dry_run, "unknown": [nobody(1), nobody(7)], "unfit": unfit});
        assert_eq!((answer.status, answer.body), (200, expected));
        assert_eq!(deliveries.states().await, states);
    }
    let answer = deliveries.act("/v1/deliveries/cancel", &json!({"ids": []})).await;
    assert_eq!(answer.body, json!({"changed": 0, "dry_run": false, "unknown": [], "unfit": []}));
}

#[tokio::test]
async fn an_unclear_request_to_act_changes_nothing_and_is_told_why() {
    let deliveries = Deliveries::new().await;
    let before = deliveries.states().await;
    let mut told = Vec::new();
    for (path, body) in [
        ("dead/purge", r#"{}"#),
        ("dead/purge", r#"{"all": false, "dry_run": true}"#),
        ("dead/purge", r#"{"webhok": "a"}"#),
        ("dead/purge", r#"{"webhook": null}"#),
        ("dead/purge", r#"{"webhook": ["a"]}"#),
        ("dead/purge", r#"{"webhook": "a", "all": true}"#),
        ("dead/purge", r#"{"webhook": "a", "webhook": "b"}"#),
        ("dead/redrive", r#"{"state": "dead"}"#),
        ("deliveries/cancel", r#"{"state": "sleeping"}"#),
        ("deliveries/cancel", r#"{"endpoint": "a"}"#),
        ("deliveries/cancel", r#"{"ids": ["dlv_1"]}"#),
        ("deliveries/cancel", r#"{"ids": "dlv_1"}"#),
        ("deliveries/cancel", r#"{"ids": [], "webhook": "a"}"#),
        ("deliveries/cancel", r#"{"ids": [], "all": true}"#),
        ("deliveries/retry", r#"{"all": "yes"}"#),
        ("deliveries/retry", r#"[]"#),
        ("deliveries/retry", r#"{"all": true"#),
        ("deliveries/retry", r#"{"all": true} {}"#),
        ("deliveries/retry", ""),
    ] {
        let answer = deliveries.server.post(&format!("/v1/{path}"), body).await;
        let pointers = answer.pointers(400).join(" ");
        let message = answer.body["errors"][0]["message"].as_str().unwrap();
        told.push(format!("{path} {body}\n    {pointers}: {message}"));
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(told.join("\n")); });
    assert_eq!(deliveries.states().await, before);
}

#[tokio::test]
async fn an_event_is_shown_with_its_deliveries_before_and_after_its_fan_out() {
    let deliveries = Deliveries::new().await;
    let shown = deliveries.server.get("/v1/events/first").await.body;
    assert_eq!((&shown["state"], shown["deliveries"].as_array().unwrap().len()), (&json!("fanned_out"), 2));
    deliveries.server.publish(&event("new")).await;
    let shown = deliveries.server.get("/v1/events/new").await.body;
    assert_eq!((&shown["state"], &shown["deliveries"]), (&json!("queued"), &json!([])));
    let stats = deliveries.server.get("/v1/stats").await.body;
    let sum = |name: &str| -> u64 {
        stats["shards"].as_array().unwrap().iter().map(|shard| shard[name].as_u64().unwrap()).sum()
    };
    let counts = ["events_queued", "waiting", "running", "delivered", "dead", "cancelled"].map(sum);
    assert_eq!(counts, [1, 1, 1, 1, 2, 0]);
}
