//! Kill -9 and SIGTERM while requests are in flight.
//!
//! Asserts the promise, not the path: nothing accepted is lost, and what comes again carries the same id.

use std::collections::{BTreeMap, BTreeSet};

use hookwire_testkit::{Answer, Received, ScriptedEndpoint, eventually};
use serde_json::json;

use crate::support::{Folder, Server};

const EVENTS: usize = 300;
/// What the endpoint answers before it holds the rest back: so the process ends with some finished and some in flight.
const ANSWERED: usize = 100;

fn definitions(endpoint: &ScriptedEndpoint) -> String {
    format!(
        r#"
        [[webhooks]]
        name = "target"
        url = "{}"
        [[event_rules]]
        name = "all"
        object_types = ["*"]
        event_types = ["*"]
        webhooks = ["target"]
        "#,
        endpoint.url("/hook"),
    )
}

fn events() -> String {
    let events = (0..EVENTS).map(|number| {
        json!({"event": "created", "object_type": "dcim.site", "id": format!("e{number}"), "data": {"id": number}})
    });
    events.map(|event| event.to_string()).collect::<Vec<_>>().join("\n")
}

/// The delivery ids under which each object arrived, with how often.
fn arrivals(received: &[Received]) -> BTreeMap<u64, Vec<String>> {
    let mut arrivals = BTreeMap::<u64, Vec<String>>::new();
    for request in received {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let id = request.header("webhook-id").unwrap().to_owned();
        arrivals.entry(body["data"]["id"].as_u64().unwrap()).or_default().push(id);
    }
    arrivals
}

#[tokio::test]
async fn p10_kill_9_under_load_loses_nothing_and_repeats_under_the_same_ids() {
    let endpoint = ScriptedEndpoint::start(vec![Answer::Status(200); ANSWERED]).await;
    endpoint.otherwise(Answer::Held(200));
    let folder = Folder::with(&definitions(&endpoint));
    let server = Server::start(&folder).await;
    assert_eq!(server.publish(&events()).await.len(), EVENTS);
    // Some are answered, and some are in flight.
    endpoint.wait_for(ANSWERED + 10).await;
    server.program.kill().await;
    let before = endpoint.received().len();
    assert!(before < EVENTS, "the endpoint holds requests back, so some events were never sent: {before}");

    endpoint.otherwise(Answer::Status(200));
    endpoint.release();
    let server = Server::start(&folder).await;
    server.deliveries("delivered", EVENTS).await;
    let arrivals = arrivals(&endpoint.received());
    assert_eq!(arrivals.len(), EVENTS, "every event arrived");
    for (object, ids) in &arrivals {
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 1, "object {object} came under {ids:?}");
    }
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn sigterm_under_load_repeats_nothing_that_finishes_in_the_grace_period() {
    let endpoint = ScriptedEndpoint::start(vec![Answer::Status(200); ANSWERED]).await;
    endpoint.otherwise(Answer::Held(200));
    let folder = Folder::with(&definitions(&endpoint));
    let server = Server::start(&folder).await;
    server.publish(&events()).await;
    endpoint.wait_for(ANSWERED + 10).await;
    server.program.signal(hookwire_testkit::Signal::TERM);
    eventually("the word that the server stops", async || {
        server.program.stderr().contains("stopping").then_some(())
    })
    .await;
    endpoint.otherwise(Answer::Status(200));
    endpoint.release();
    let ended = server.program.wait().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);

    let server = Server::start(&folder).await;
    server.deliveries("delivered", EVENTS).await;
    let arrivals = arrivals(&endpoint.received());
    assert_eq!(arrivals.len(), EVENTS, "every event arrived");
    let repeated: Vec<_> = arrivals.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_retry_schedule_goes_on_after_a_kill_and_ends_in_a_dead_letter() {
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Status(500));
    let retry = r#"retry = { max_attempts = 3, schedule = ["1s"], jitter = 0 }"#;
    let webhook = "name = \"target\"";
    let folder = Folder::with(&definitions(&endpoint).replace(webhook, &format!("{webhook}\n{retry}")));
    let event = r#"{"event": "created", "object_type": "dcim.site", "data": {"id": 1}}"#;
    let mut server = Server::start(&folder).await;
    server.publish(event).await;
    for attempt in 1..3 {
        let waiting = eventually("the wait for the next attempt", async || {
            let (_, page) = server.get("/v1/deliveries?state=waiting").await;
            let item = page["items"].get(0)?.clone();
            (item["attempts"] == attempt).then_some(item)
        })
        .await;
        server.program.kill().await;
        server = Server::start(&folder).await;
        let id = waiting["id"].as_str().unwrap();
        let (_, after) = server.get(&format!("/v1/deliveries/{id}")).await;
        // Unless the machine took so long that the next attempt is under way, it is due when it was.
        if after["attempts"] == attempt && after["state"] == "waiting" {
            assert_eq!(after["next_attempt_at"], waiting["next_attempt_at"]);
        }
    }
    let dead = server.deliveries("dead", 1).await.remove(0);
    assert_eq!((&dead["dead_reason"], &dead["attempts"]), (&json!("attempts_exhausted"), &json!(3)));
    let received = endpoint.received();
    let numbers: Vec<_> = received.iter().map(|request| request.header("webhook-attempt").unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    assert_eq!(server.program.terminate().await.code(), 0);
}
