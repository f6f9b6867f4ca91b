//! Events straight into the store, and a worker alone that sends them.

use hookwire_testkit::{Answer, Program, ScriptedEndpoint};
use serde_json::json;

use crate::support::{Folder, snapshots};

fn definitions(endpoint: &ScriptedEndpoint) -> String {
    format!(
        r#"
        [[webhooks]]
        name = "target"
        url = "{}"
        body_template = '{{{{ data.name }}}}'
        [[event_rules]]
        name = "all"
        object_types = ["*"]
        event_types = ["*"]
        webhooks = ["target"]
        "#,
        endpoint.url("/hook"),
    )
}

fn event(name: &str) -> String {
    json!({"event": "created", "object_type": "dcim.site", "id": name, "data": {"name": name}}).to_string()
}

#[tokio::test]
async fn p10_p11_what_was_published_without_a_server_is_sent_by_a_worker() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    folder.write("one.json", &event("one"));
    folder.write("array.json", &format!("[{}, {}]", event("two"), event("three")));
    folder.write("lines.ndjson", &format!("{}\n\n{}\n", event("four"), event("five")));
    let published = folder.hookwire(&["publish", "one.json", "array.json", "lines.ndjson"]).await;
    assert_eq!(
        (published.code(), published.stdout.as_str()),
        (0, "one\ntwo\nthree\nfour\nfive\n"),
        "{published:?}"
    );
    let input = event("six");
    let published = Program::start_with_input("hookwire", folder.path(), &["publish"], &input).wait().await;
    assert_eq!((published.code(), published.stdout.as_str()), (0, "six\n"), "{published:?}");
    // Again: known within the window.
    let published = folder.hookwire(&["publish", "one.json"]).await;
    assert_eq!((published.code(), published.stdout.as_str()), (0, "one\n"));
    assert_eq!(published.stderr, "one was published before; nothing was stored\n");

    let worker = folder.run("hookwire-worker", &["--config", "hookwire.toml", "--until-idle"]).await;
    assert_eq!(worker.code(), 0, "{}", worker.stderr);
    let mut bodies: Vec<_> = endpoint.received().iter().map(|received| received.text().to_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, [r#""five""#, r#""four""#, r#""one""#, r#""six""#, r#""three""#, r#""two""#]);
    let again = folder.hookwire(&["worker", "--until-idle"]).await;
    assert_eq!((again.code(), endpoint.received().len()), (0, 6), "{}", again.stderr);
}

#[tokio::test]
async fn a_worker_until_idle_says_that_something_waits_for_later() {
    let endpoint = ScriptedEndpoint::start([Answer::Status(500)]).await;
    let folder = Folder::with(&definitions(&endpoint));
    folder.write("one.json", &event("one"));
    assert_eq!(folder.hookwire(&["publish", "one.json"]).await.code(), 0);
    let worker = folder.run("hookwire-worker", &["--until-idle"]).await;
    assert_eq!(worker.code(), 1, "{}", worker.stderr);
    assert_eq!(endpoint.received().len(), 1);
    let listed =
        folder.hookwire_json(&["deliveries", "list", "--state", "waiting", "--format", "json"]).await;
    assert_eq!(listed["items"][0]["waiting_reason"], "retry");
    assert_eq!(listed["items"][0]["last_status"], 500);
}

#[tokio::test]
async fn a_worker_alone_on_a_store_of_one_process_is_refused_with_the_remedy() {
    let folder = Folder::with("");
    let worker = folder.run("hookwire-worker", &[]).await;
    assert_eq!(worker.code(), 78);
    let _snapshots = snapshots(&folder);
    insta::assert_snapshot!("worker_alone", worker.stderr);
}
