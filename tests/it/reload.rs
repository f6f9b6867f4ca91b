//! A configuration that changes while the built `serve` runs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use hookwire_testkit::{ScriptedEndpoint, Signal, binary, eventually};
use hyper::Method;
use serde_json::json;

use crate::support::{Folder, Server, call};

const SETTINGS: &str = "[store]\nurl = \"embedded:./store\"\n[server]\nlisten = \"127.0.0.1:0\"\n";

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

fn event(id: &str) -> String {
    json!({"event": "created", "object_type": "dcim.site", "id": id, "data": {"name": id}}).to_string()
}

/// Waits until the log holds so many lines with this text, and gives the last of them.
async fn logged(server: &Server, text: &str, times: usize) -> String {
    eventually(&format!("{times} lines in the log with {text:?}"), async || {
        let log = server.program.stderr();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
        (lines.len() >= times).then(|| lines[lines.len() - 1].to_owned())
    })
    .await
}

#[tokio::test]
async fn an_edited_file_is_in_force_without_a_restart_and_a_broken_one_is_not() {
    let (first, second) = (ScriptedEndpoint::start([]).await, ScriptedEndpoint::start([]).await);
    let folder = Folder::with(&definitions(&first));
    let server = Server::start(&folder).await;
    server.publish(&event("one")).await;
    first.wait_for(1).await;

    folder.write("hookwire.toml", &format!("{SETTINGS}{}", definitions(&second)));
    let line = logged(&server, "definitions reloaded", 1).await;
    assert!(line.contains("webhook changed: \"target\""), "{line}");
    server.publish(&event("two")).await;
    second.wait_for(1).await;

    // Broken: what was in force goes on.
    let broken = definitions(&first).replace("name = \"target\"", "name = \"target\"\nmetod = \"PUT\"");
    folder.write("hookwire.toml", &format!("{SETTINGS}{broken}"));
    let line = logged(&server, "reload refused", 1).await;
    assert!(line.contains("webhooks[\"target\"].metod: unknown member; did you mean `method`?"), "{line}");
    let (_, stats) = server.get("/v1/stats").await;
    let refused = &stats["definitions"]["refused"];
    assert!(refused["message"].as_str().unwrap().contains("unknown member"), "{stats}");
    assert!(refused["at"].is_string() && stats["definitions"]["reloads"] == 1, "{stats}");
    server.publish(&event("three")).await;
    second.wait_for(2).await;
    assert_eq!(first.received().len(), 1);

    // Mended, by way of a file that takes its place.
    folder.write("new", &format!("{SETTINGS}{}", definitions(&first)));
    std::fs::rename(folder.path().join("new"), folder.path().join("hookwire.toml")).unwrap();
    logged(&server, "definitions reloaded", 2).await;
    let (_, stats) = server.get("/v1/stats").await;
    assert!(stats["definitions"]["refused"].is_null() && stats["definitions"]["reloads"] == 2, "{stats}");
    server.publish(&event("four")).await;
    first.wait_for(2).await;
    assert_eq!((first.received().len(), second.received().len()), (2, 2));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn sighup_reloads_and_settings_that_need_a_restart_are_named() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    let server = Server::start(&folder).await;
    server.program.signal(Signal::HUP);
    let line = logged(&server, "definitions reloaded", 1).await;
    assert!(line.contains("no webhook and no event rule changed"), "{line}");

    let settings =
        SETTINGS.replace("[store]", "[worker]\nconcurrency = 7\n[store]\nmax_pending_bytes = \"1GiB\"");
    folder.write("hookwire.toml", &format!("{settings}{}", definitions(&endpoint)));
    let line = logged(&server, "from the next start on", 1).await;
    assert!(line.ends_with("from the next start on: store.max_pending_bytes, worker.concurrency"), "{line}");
    server.publish(&event("one")).await;
    endpoint.wait_for(1).await;
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_configuration_that_comes_after_the_start_is_taken_up() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::new();
    let server = Server::start_with(&folder, &["--store", "memory:", "--listen", "127.0.0.1:0"]).await;
    server.program.signal(Signal::HUP);
    logged(&server, "there is nothing to reload", 1).await;
    folder.write("hookwire.toml", &definitions(&endpoint));
    let line = logged(&server, "definitions reloaded", 1).await;
    assert!(line.ends_with("webhook added: \"target\"; event rule added: \"all\""), "{line}");
    server.publish(&event("one")).await;
    endpoint.wait_for(1).await;
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_server_whose_log_nobody_reads_any_more_goes_on() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    let server = Command::new(binary("hookwire"))
        .args(["--log", "debug", "serve"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = Ends(server);
    let mut log = BufReader::new(server.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server ended");
    }
    let address = line.trim().rsplit_once("address=").unwrap().1.parse().unwrap();
    drop(log);
    for id in ["one", "two", "three"] {
        let (status, _) = call(address, Method::POST, "/v1/events", &event(id)).await.unwrap();
        assert_eq!(status, 202);
    }
    assert_eq!(endpoint.wait_for(3).await.len(), 3);
}

/// A program whose output this test reads by itself; it ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
