//! `hookwire migrate`: from one kind of store to another and back, with everything that waits.

use hookwire_testkit::{Answer, RedisServer, ScriptedEndpoint};
use serde_json::json;

use crate::support::{Folder, Server};

/// One webhook that is paused, and one that gives up after an attempt; everything in order.
fn definitions(endpoint: &ScriptedEndpoint) -> String {
    let one = |name: &str| {
        format!(
            "[[webhooks]]\nname = \"{name}\"\nurl = \"{}\"\nordering = \"object\"\nretry = {{ max_attempts = 1 }}\n\
             [[event_rules]]\nname = \"{name}-rule\"\nobject_types = [\"dcim.{name}\"]\nevent_types = [\"*\"]\n\
             webhooks = [\"{name}\"]\n",
            endpoint.url(&format!("/{name}")),
        )
    };
    one("site") + &one("rack")
}

fn event(id: &str, object_type: &str) -> String {
    json!({"event": "created", "object_type": object_type, "id": id, "data": {"id": 7, "name": id}})
        .to_string()
}

fn paths(endpoint: &ScriptedEndpoint) -> Vec<String> {
    endpoint.received().iter().map(|request| request.target.clone()).collect()
}

async fn work(folder: &Folder, store: &str) -> i32 {
    folder.run("hookwire-worker", &["--until-idle", "--log", "error", "--store", store]).await.code()
}

#[tokio::test]
async fn a_backlog_moves_to_redis_and_back() {
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Status(500));
    let server = RedisServer::start();
    let redis = server.url();
    let folder = Folder::with(&definitions(&endpoint));
    let publish = async |store: &str, events: &str| {
        folder.write("events", events);
        let published = folder.hookwire(&["publish", "--store", store, "events"]).await;
        assert_eq!(published.code(), 0, "{published:?}");
    };
    // A dead letter; deliveries that a pause holds; and events that nobody has looked at.
    publish("embedded:./store", &event("dead", "dcim.rack")).await;
    assert_eq!(work(&folder, "embedded:./store").await, 0);
    let paused = folder.hookwire(&["endpoints", "pause", "--webhook", "site"]).await;
    assert_eq!(paused.code(), 0, "{paused:?}");
    publish("embedded:./store", &format!("{}\n{}", event("held1", "dcim.site"), event("held2", "dcim.site")))
        .await;
    assert_eq!(work(&folder, "embedded:./store").await, 1, "something waits");
    publish("embedded:./store", &event("new", "dcim.rack")).await;
    assert_eq!(paths(&endpoint), ["/rack"]);

    let to_redis = ["migrate", "--from", "embedded:./store", "--to", &redis];
    let migrated = folder.hookwire(&to_redis).await;
    let told = migrated.stderr.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(format!("exit {}\n{}--- stderr\n{told}", migrated.code(), migrated.stdout));
    let again = folder.hookwire_json(&[&to_redis[..], &["--format", "json"]].concat()).await;
    assert_eq!(again, json!({"events": 4, "waiting": 2, "dead": 1, "new": 0, "endpoints": 0}));

    // There it is as it was: the dead letter stays, what is paused waits, the new one goes out.
    endpoint.otherwise(Answer::Status(200));
    server.command(&["XADD", "{hw:0}:in", "*", "event", &event("plain", "dcim.site")]);
    assert_eq!(work(&folder, &redis).await, 1);
    assert_eq!(paths(&endpoint), ["/rack"], "a dead letter of the same object stands before it");
    server.command(&["XADD", "{hw:0}:in", "*", "event", &event("plain2", "dcim.site")]);

    let back = ["migrate", "--from", &redis, "--to", "embedded:./other", "--format", "json"];
    let migrated = folder.hookwire_json(&back).await;
    assert_eq!(migrated, json!({"events": 6, "waiting": 4, "dead": 1, "new": 6, "endpoints": 1}));
    let redriven =
        folder.hookwire(&["dead", "redrive", "--all", "--yes", "--store", "embedded:./other"]).await;
    assert_eq!(redriven.code(), 0, "{redriven:?}");
    assert_eq!(work(&folder, "embedded:./other").await, 1);
    assert_eq!(paths(&endpoint), ["/rack"; 3]);
    let resume = ["endpoints", "resume", "--webhook", "site", "--store", "embedded:./other"];
    assert_eq!(folder.hookwire(&resume).await.code(), 0);
    assert_eq!(work(&folder, "embedded:./other").await, 0);
    let ids: Vec<String> = endpoint
        .received()
        .iter()
        .map(|request| serde_json::from_slice::<serde_json::Value>(&request.body).unwrap())
        .map(|body| body["data"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["dead", "dead", "new", "held1", "held2", "plain", "plain2"]);
}

#[tokio::test]
async fn stores_that_cannot_be_left_or_entered_are_told() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    let mut all = String::new();
    let mut migrate = async |from: &str, to: &str| {
        let ended = folder.hookwire(&["migrate", "--from", from, "--to", to]).await;
        let told = ended.stderr.replace(folder.path().to_str().unwrap(), "FOLDER");
        all += &format!("{from} {to}: exit {}\n{told}", ended.code());
    };
    folder.write("event", &event("e", "dcim.rack"));
    assert_eq!(folder.hookwire(&["publish", "event"]).await.code(), 0);
    migrate("embedded:./store", "embedded:./store/.").await;
    migrate("memory:", "embedded:./store").await;
    migrate("embedded:./store", "memory:").await;
    migrate("embedded:./none", "embedded:./store").await;
    migrate("embedded:./store", "somewhere").await;
    let server = Server::start(&folder).await;
    migrate("embedded:./store", "embedded:./other").await;
    insta::assert_snapshot!(all.replace(&server.program.id().unwrap().to_string(), "PID"));
}
