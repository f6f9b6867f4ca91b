//! Endpoints that fail, are limited, or stand still because a person says so: beside a server and without one.

use hookwire_testkit::{Answer, ScriptedEndpoint, eventually};
use serde_json::{Value, json};

use crate::support::{Folder, Server, snapshots};

/// Two webhooks at one receiver, each under a rule for all events.
fn definitions(endpoint: &ScriptedEndpoint, more: &str) -> String {
    let mut text = String::new();
    for name in ["good", "bad"] {
        let url = endpoint.url(&format!("/{name}"));
        let more = if name == "bad" { more } else { "" };
        text += &format!(
            "[[webhooks]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n[[event_rules]]\nname = \"{name}\"\n\
             object_types = [\"*\"]\nevent_types = [\"*\"]\nwebhooks = [\"{name}\"]\n"
        );
    }
    text
}

fn events(from: usize, to: usize) -> String {
    let events = (from..to).map(|number| {
        json!({"event": "created", "object_type": "dcim.site", "data": {"id": number}}).to_string()
    });
    events.collect::<Vec<_>>().join("\n")
}

fn endpoint<'a>(list: &'a Value, webhook: &str) -> &'a Value {
    let items = list["items"].as_array().unwrap();
    items.iter().find(|item| item["webhook"] == webhook).unwrap_or_else(|| panic!("{list}"))
}

#[tokio::test]
async fn a_paused_webhook_keeps_its_backlog_and_the_other_goes_on() {
    let receiver = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&receiver, ""));
    let server = Server::start(&folder).await;
    let url = server.url();
    let ended = folder.hookwire(&["endpoints", "pause", "--webhook", "bad", "--url", &url]).await;
    assert_eq!((ended.code(), ended.stdout.trim()), (0, "webhook bad is paused; what comes for it waits"));
    // The worker knows of it within two seconds; what was sent until then was sent.
    eventually("a backlog of the paused webhook", async || {
        server.publish(&events(0, 5)).await;
        let (_, list) = server.get("/v1/endpoints").await;
        (endpoint(&list, "bad")["waiting"].as_u64()? >= 5).then_some(())
    })
    .await;
    // What was published last is in the backlog only once it is settled.
    eventually("the settlement of all events", async || {
        let (_, stats) = server.get("/v1/stats").await;
        let shard = &stats["shards"][0];
        (shard["events_queued"] == 0 && shard["events_leased"] == 0).then_some(())
    })
    .await;
    let (_, list) = server.get("/v1/endpoints").await;
    assert_eq!(endpoint(&list, "good")["waiting"], 0);
    let sent = receiver.received().iter().filter(|request| request.target == "/bad").count();

    // It outlives the server, and can be ended without one.
    assert_eq!(server.program.terminate().await.code(), 0);
    let list = folder.hookwire_json(&["endpoints", "list", "--format", "json"]).await;
    assert_eq!(endpoint(&list, "bad")["state"], "paused");
    let backlog = usize::try_from(endpoint(&list, "bad")["waiting"].as_u64().unwrap()).unwrap();
    let ended = folder.hookwire(&["endpoints", "resume", "--webhook", "bad"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let ended = folder.run("hookwire-worker", &["--until-idle"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let after = receiver.received().iter().filter(|request| request.target == "/bad").count();
    assert_eq!(after, sent + backlog);
}

#[tokio::test]
async fn a_dead_endpoint_shows_and_a_probe_lets_its_backlog_go() {
    let receiver = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&receiver, "url = \"http://127.0.0.1:1/\"").replacen(
        &format!("url = \"{}\"\nurl", receiver.url("/bad")),
        "url",
        1,
    ));
    let server = Server::start(&folder).await;
    server.publish(&events(0, 30)).await;
    let id = eventually("the breaker's opening", async || {
        let (_, list) = server.get("/v1/endpoints").await;
        let bad = endpoint(&list, "bad");
        (bad["state"] == "open" && bad["waiting"] == 30).then(|| bad["id"].as_str().unwrap().to_owned())
    })
    .await;
    server.deliveries("delivered", 30).await;
    let ended = folder.hookwire(&["endpoints", "probe", &id, "--url", &server.url()]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let ended = folder.hookwire(&["endpoints", "pause", &id, "--url", &server.url()]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let _guard = snapshots(&folder);
    let ended = folder.hookwire(&["endpoints", "list", "--url", &server.url()]).await;
    insta::assert_snapshot!(ended.stdout);
    let ended = folder.hookwire(&["endpoints", "probe", &id, "--url", &server.url()]).await;
    assert_eq!(ended.code(), 1);
    let ended = folder.hookwire(&["endpoints", "pause", "ep_0000000000000000", "--url", &server.url()]).await;
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    let resumed = ["endpoints", "resume", &id, "--url", &server.url(), "--format", "json"];
    assert_eq!(folder.hookwire_json(&resumed).await, json!({"changed": 1}));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_receiver_that_answers_410_is_paused_and_told() {
    let receiver = ScriptedEndpoint::start([]).await;
    receiver.otherwise(Answer::Status(410));
    let folder = Folder::with(&definitions(&receiver, "concurrency = 1"));
    let server = Server::start(&folder).await;
    server.publish(&events(0, 1)).await;
    server.deliveries("dead", 2).await;
    eventually("the pause of both", async || {
        let (_, list) = server.get("/v1/endpoints").await;
        let gone = |webhook| endpoint(&list, webhook)["paused_by"] == "gone";
        (gone("good") && gone("bad")).then_some(())
    })
    .await;
    // Resuming the webhook does not end what its receiver asked for, and says so.
    let url = server.url();
    let ended = folder.hookwire(&["endpoints", "resume", "--webhook", "bad", "--url", &url]).await;
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "webhook bad is resumed\n"));
    let (_, list) = server.get("/v1/endpoints").await;
    let id = endpoint(&list, "bad")["id"].as_str().unwrap();
    let told =
        format!("stays paused, its receiver answered 410: `hookwire endpoints resume {id}` ends that\n");
    assert!(ended.stderr.starts_with(id) && ended.stderr.ends_with(&told), "{ended:?}");
    // The other way round, too: an endpoint by itself is not what was paused.
    let paused = folder.hookwire(&["endpoints", "pause", "--webhook", "good", "--url", &url]).await;
    assert_eq!(paused.code(), 0, "{paused:?}");
    let (_, list) = server.get("/v1/endpoints").await;
    let id = endpoint(&list, "good")["id"].as_str().unwrap().to_owned();
    let ended = folder.hookwire(&["endpoints", "resume", &id, "--url", &url]).await;
    let told = "stays paused, with its webhook: `hookwire endpoints resume --webhook \"good\"` ends that\n";
    assert!(ended.code() == 0 && ended.stderr.ends_with(told), "{ended:?}");
    let ended = folder.hookwire(&["endpoints", "probe", &id, "--url", &url]).await;
    assert!(ended.code() == 1 && ended.stderr.contains("webhook good is paused"), "{ended:?}");
    assert_eq!(server.program.terminate().await.code(), 0);
}
