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
