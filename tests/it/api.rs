//! Looking at deliveries and acting on them over HTTP, while the worker runs.

use hookwire_testkit::{Answer, ScriptedEndpoint, eventually};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::{Folder, Server, call};

/// Two webhooks at one endpoint, each under a rule of its own; a failed delivery is a dead letter at once.
fn two_webhooks(endpoint: &ScriptedEndpoint, retry: &str) -> Folder {
    let one = |name: &str, object_type: &str| {
        format!(
            r#"
            [[webhooks]]
            name = "{name}"
            url = "{}"
            retry = {retry}
            [[event_rules]]
            name = "to-{name}"
            object_types = ["{object_type}"]
            event_types = ["*"]
            webhooks = ["{name}"]
            "#,
            endpoint.url(&format!("/{name}"))
        )
    };
    Folder::with(&(one("a", "dcim.*") + &one("b", "ipam.*")))
}

const ONCE: &str = "{ max_attempts = 1 }";
/// Longer than any test.
const LATER: &str = r#"{ max_attempts = 5, schedule = ["24h"] }"#;

fn event(id: &str, object_type: &str) -> Value {
    json!({"id": id, "event": "created", "object_type": object_type, "data": {"id": id}})
}

async fn act(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    call(server.address, Method::POST, path, &body.to_string()).await.unwrap()
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// How many deliveries there are in each state that there are any of.
async fn states(server: &Server) -> Value {
    let (_, stats) = server.get("/v1/stats").await;
    let counts = ["waiting", "running", "delivered", "dead", "cancelled"];
    let counts = counts.iter().map(|state| ((*state).to_owned(), stats["shards"][0][*state].clone()));
    Value::Object(counts.filter(|(_, count)| *count != 0).collect())
}

#[tokio::test]
async fn p14_retry_by_hand_over_the_api() {
    let endpoint = ScriptedEndpoint::start([Answer::Status(500)]).await;
    let folder = two_webhooks(&endpoint, ONCE);
    let server = Server::start(&folder).await;
    server.publish(&event("e", "dcim.site").to_string()).await;
    let dead = server.deliveries("dead", 1).await.remove(0);
    assert_eq!(dead["dead_reason"], "attempts_exhausted");
    let id = dead["id"].as_str().unwrap();

    let answer = act(&server, &format!("/v1/deliveries/{id}/retry"), &json!(null)).await;
    assert_eq!(answer, (200, json!({"changed": 1})));
    let received = endpoint.wait_for(2).await;
    let sent: Vec<_> = received
        .iter()
        .map(|received| (received.header("webhook-id").unwrap(), received.header("webhook-attempt").unwrap()))
        .collect();
    assert_eq!(sent, [(id, "1"), (id, "2")]);
    assert_eq!(ids(&server.deliveries("delivered", 1).await), [id]);
    let (_, shown) = server.get(&format!("/v1/deliveries/{id}")).await;
    let outcomes: Vec<_> =
        shown["attempt_log"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].clone()).collect();
    assert_eq!(outcomes, ["rejected", "succeeded"]);

    // A delivered one goes out once more, under the same id.
    let answer = act(&server, &format!("/v1/deliveries/{id}/retry"), &json!(null)).await;
    assert_eq!(answer, (200, json!({"changed": 1})));
    let received = endpoint.wait_for(3).await;
    assert_eq!(received[2].header("webhook-id"), Some(id));
    let (status, problem) =
        act(&server, "/v1/deliveries/dlv_00000000000000000000000000/retry", &json!(null)).await;
    assert_eq!((status, &problem["title"]), (404, &json!("not found")));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p12_p14_dead_letters_are_counted_then_redriven_by_filter_then_all() {
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Status(500));
    let folder = two_webhooks(&endpoint, ONCE);
    let server = Server::start(&folder).await;
    let events: Vec<_> = (0..3)
        .map(|at| event(&format!("a{at}"), "dcim.site"))
        .chain((0..2).map(|at| event(&format!("b{at}"), "ipam.prefix")))
        .collect();
    server.publish(&json!(events).to_string()).await;
    server.deliveries("dead", 5).await;
    assert_eq!(states(&server).await, json!({"dead": 5}));
    let (_, listed) = server.get("/v1/dead?webhook=a").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);

    endpoint.otherwise(Answer::Status(200));
    let redriven = |changed: u64, dry_run: bool| {
        (200, json!({"changed": changed, "dry_run": dry_run, "unknown": [], "unfit": []}))
    };
    let filter = json!({"webhook": "a", "dry_run": true});
    assert_eq!(act(&server, "/v1/dead/redrive", &filter).await, redriven(3, true));
    assert_eq!(states(&server).await, json!({"dead": 5}), "counting changes nothing");
    assert_eq!(act(&server, "/v1/dead/redrive", &json!({"webhook": "a"})).await, redriven(3, false));
    server.deliveries("delivered", 3).await;
    assert_eq!(states(&server).await, json!({"delivered": 3, "dead": 2}));

    let (status, problem) = act(&server, "/v1/dead/redrive", &json!({})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("")), "{problem}");
    assert_eq!(states(&server).await, json!({"delivered": 3, "dead": 2}));
    assert_eq!(act(&server, "/v1/dead/redrive", &json!({"all": true})).await, redriven(2, false));
    server.deliveries("delivered", 5).await;

    let received = endpoint.received();
    let bodies: Vec<Value> =
        received[5..].iter().map(|received| serde_json::from_slice(&received.body).unwrap()).collect();
    let mut names: Vec<_> = bodies.iter().map(|body| body["data"]["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a0", "a1", "a2", "b0", "b1"], "each arrives once more, and no other");
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn what_waits_is_cancelled_or_sent_now() {
    let endpoint =
        ScriptedEndpoint::start([Answer::Status(500), Answer::Status(500), Answer::Status(500)]).await;
    let folder = two_webhooks(&endpoint, LATER);
    let server = Server::start(&folder).await;
    let events = [event("x", "dcim.site"), event("y", "dcim.site"), event("z", "ipam.prefix")];
    server.publish(&json!(events).to_string()).await;
    let waiting = server.deliveries("waiting", 3).await;
    assert!(waiting.iter().all(|delivery| delivery["waiting_reason"] == "retry"), "{waiting:?}");
    let id = waiting.iter().find(|delivery| delivery["event_id"] == "x").unwrap()["id"].as_str().unwrap();

    let cancelled = act(&server, &format!("/v1/deliveries/{id}/cancel"), &json!(null)).await;
    assert_eq!(cancelled, (200, json!({"changed": 1})));
    let (status, problem) = act(&server, &format!("/v1/deliveries/{id}/retry"), &json!(null)).await;
    assert_eq!((status, &problem["state"]), (409, &json!("cancelled")));

    let (_, changed) =
        act(&server, "/v1/deliveries/retry", &json!({"state": "waiting", "webhook": "a"})).await;
    assert_eq!(changed["changed"], 1);
    server.deliveries("delivered", 1).await;
    let (_, changed) = act(&server, "/v1/deliveries/cancel", &json!({"event_id": "z"})).await;
    assert_eq!(changed["changed"], 1);
    assert_eq!(states(&server).await, json!({"delivered": 1, "cancelled": 2}));
    // Nothing goes out for a cancelled one, not even when all there is ends.
    let last = endpoint.wait_for(4).await.remove(3);
    assert_eq!(serde_json::from_slice::<Value>(&last.body).unwrap()["data"]["id"], "y");
    assert_eq!(server.program.terminate().await.code(), 0);
    assert_eq!(endpoint.received().len(), 4);
}

#[tokio::test]
async fn what_a_worker_holds_is_left_alone_and_told() {
    let endpoint = ScriptedEndpoint::start([Answer::Held(200)]).await;
    let folder = two_webhooks(&endpoint, ONCE);
    let server = Server::start(&folder).await;
    server.publish(&event("e", "dcim.site").to_string()).await;
    let running = server.deliveries("running", 1).await;
    let id = ids(&running)[0];
    for (action, remedy) in [("retry", "look again"), ("cancel", "cannot be called back")] {
        let (status, problem) = act(&server, &format!("/v1/deliveries/{id}/{action}"), &json!(null)).await;
        assert_eq!((status, &problem["state"]), (409, &json!("running")));
        assert!(problem["detail"].as_str().unwrap().contains(remedy), "{problem}");
    }
    let (_, changed) = act(&server, "/v1/deliveries/cancel", &json!({"all": true})).await;
    assert_eq!(changed["changed"], 0);
    endpoint.release();
    assert_eq!(ids(&server.deliveries("delivered", 1).await), [id]);
    assert_eq!(endpoint.received().len(), 1);
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p12_an_event_is_visible_from_its_acceptance_on() {
    let endpoint = ScriptedEndpoint::start([Answer::Status(500)]).await;
    let folder = two_webhooks(&endpoint, LATER);
    let server = Server::start(&folder).await;
    server
        .publish(&json!([event("matched", "dcim.site"), event("unmatched", "other.kind")]).to_string())
        .await;
    for (id, deliveries) in [("matched", 1), ("unmatched", 0)] {
        let shown = eventually("the event to be fanned out", async || {
            let (status, shown) = server.get(&format!("/v1/events/{id}")).await;
            assert_eq!(status, 200, "{shown}");
            (shown["state"] == "fanned_out").then_some(shown)
        })
        .await;
        assert_eq!(shown["event"]["data"], json!({"id": id}));
        assert_eq!(shown["deliveries"].as_array().unwrap().len(), deliveries, "{shown}");
    }
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p18_the_api_tells_what_is_in_force_and_what_would_be_sent() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = two_webhooks(&endpoint, ONCE);
    let server = Server::start(&folder).await;
    let (_, rules) = server.get("/v1/rules").await;
    let (_, webhooks) = server.get("/v1/webhooks").await;
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (names(&rules), names(&webhooks)),
        (vec!["to-a".into(), "to-b".into()], vec!["a".into(), "b".into()])
    );
    let (status, previews) = act(&server, "/v1/preview", &event("e", "dcim.site")).await;
    assert_eq!(status, 200);
    assert_eq!(previews[0]["request"]["url"], endpoint.url("/a"));
    assert_eq!((&previews[1]["matched"], &previews[1]["reason"]), (&json!(false), &json!("object_type")));
    let (_, stats) = server.get("/v1/stats").await;
    assert_eq!((&stats["definitions"]["rules"], &stats["definitions"]["webhooks"]), (&json!(2), &json!(2)));
    assert_eq!(endpoint.received(), [], "a preview sends nothing");
    assert_eq!(server.program.terminate().await.code(), 0);
}
