//! The programs on Redis servers: many processes, one store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hookwire_testkit::{Program, Received, RedisServer, ScriptedEndpoint, eventually};
use hyper::Method;
use serde_json::json;

use crate::support::{Folder, Server, exchange};

/// One webhook for everything.
pub(crate) fn definitions(endpoint: &ScriptedEndpoint) -> String {
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

/// A folder whose configuration names a store, with a short lease, so that what a killed worker held is soon free.
pub(crate) fn folder(store: &str, settings: &str, definitions: &str) -> Folder {
    let folder = Folder::new();
    let text = format!(
        "[store]\nurl = \"{store}\"\n{settings}\n[server]\nlisten = \"127.0.0.1:0\"\n[worker]\nlease = \"1s\"\n{definitions}"
    );
    folder.write("hookwire.toml", &text);
    folder
}

/// Events of as many objects.
pub(crate) fn events(numbers: std::ops::Range<usize>) -> String {
    let events = numbers.map(|number| {
        json!({"event": "created", "object_type": "dcim.site", "id": format!("e{number}"), "data": {"id": number}})
    });
    events.map(|event| event.to_string()).collect::<Vec<_>>().join("\n")
}

/// The delivery ids under which each object arrived, with how often.
pub(crate) fn arrivals(received: &[Received]) -> BTreeMap<u64, Vec<String>> {
    let mut arrivals = BTreeMap::<u64, Vec<String>>::new();
    for request in received {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let id = request.header("webhook-id").unwrap().to_owned();
        arrivals.entry(body["data"]["id"].as_u64().unwrap()).or_default().push(id);
    }
    arrivals
}

/// Each of so many objects arrived, always under the same id.
pub(crate) fn assert_all_arrived(endpoint: &ScriptedEndpoint, count: usize) {
    let arrivals = arrivals(&endpoint.received());
    let missing: Vec<_> = (0..count as u64).filter(|object| !arrivals.contains_key(object)).collect();
    assert!(missing.is_empty(), "never arrived: {missing:?}");
    for (object, ids) in &arrivals {
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), 1, "object {object} came under {ids:?}");
    }
}

#[tokio::test]
async fn p10_p11_what_is_published_into_redis_is_sent_by_any_worker() {
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "shards = 2", &definitions(&endpoint));
    folder.write("events.ndjson", &events(0..100));
    // The application's side: nothing runs but Redis, and publishing returns.
    let published = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((published.code(), published.stdout.lines().count()), (0, 100), "{}", published.stderr);
    let again = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert!(again.stderr.contains("100 of 100 events were published before"), "{}", again.stderr);
    let stats = folder.hookwire_json(&["stats", "--format", "json"]).await;
    let queued =
        stats["shards"].as_array().unwrap().iter().map(|shard| shard["events_queued"].as_u64().unwrap());
    assert_eq!(queued.sum::<u64>(), 100, "{stats}");

    let start = || Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    let workers = [start(), start()];
    endpoint.wait_for(100).await;
    // Both go on while nothing comes; then something does, and is seen at once.
    folder.write("more.ndjson", &events(100..120));
    assert_eq!(folder.hookwire(&["publish", "more.ndjson"]).await.code(), 0);
    endpoint.wait_for(120).await;
    for worker in workers {
        let ended = worker.terminate().await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    assert_all_arrived(&endpoint, 120);
    assert_eq!(endpoint.received().len(), 120, "nothing was sent twice");
    let listed =
        folder.hookwire_json(&["deliveries", "list", "--state", "delivered", "--format", "json"]).await;
    assert!(!listed["items"].as_array().unwrap().is_empty());
    let idle = folder.hookwire(&["worker", "--until-idle"]).await;
    assert_eq!((idle.code(), endpoint.received().len()), (0, 120), "{}", idle.stderr);
}

#[tokio::test]
async fn p12_a_server_on_redis_shows_what_waits_and_what_was_delivered() {
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([hookwire_testkit::Answer::Status(500)]).await;
    let folder = folder(&redis.url(), "", &definitions(&endpoint));
    let server = Server::start(&folder).await;
    server.publish(&events(0..3)).await;
    assert_eq!(server.deliveries("delivered", 2).await.len(), 2);
    let waiting = server.deliveries("waiting", 1).await.remove(0);
    assert_eq!((&waiting["waiting_reason"], &waiting["last_status"]), (&json!("retry"), &json!(500)));
    let id = waiting["id"].as_str().unwrap();
    let (status, shown) = server.get(&format!("/v1/deliveries/{id}")).await;
    assert_eq!((status, shown["attempt_log"][0]["status"].as_u64()), (200, Some(500)));
    let retried = folder.hookwire(&["deliveries", "retry", id, "--url", &server.url()]).await;
    assert_eq!(retried.code(), 0, "{}", retried.stderr);
    server.deliveries("delivered", 3).await;
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_worker_without_a_server_tells_how_it_is() {
    let redis = RedisServer::start();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "", &definitions(&endpoint));
    folder.write("events.ndjson", &events(0..3));
    assert_eq!(folder.hookwire(&["publish", "events.ndjson"]).await.code(), 0);
    folder.write("listens.toml", "[worker]\nlisten = \"127.0.0.1:0\"\n");
    let arguments = ["--config", "hookwire.toml", "--config", "listens.toml"];
    let worker = Server::of(Program::start("hookwire-worker", folder.path(), &arguments)).await;
    endpoint.wait_for(3).await;
    let metrics = eventually("the count of three attempts", async || {
        let answer = exchange(worker.address, Method::GET, "/metrics", "", &[]).await.unwrap();
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        let counted = "hookwire_attempts_total{webhook=\"target\",outcome=\"succeeded\"} 3";
        (text.contains(counted) && text.contains("hookwire_store_up 1")).then_some(text)
    });
    assert!(metrics.await.contains("hookwire_waits_total{reason=\"retry\"} 0"));
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/v1/stats", 404), ("/v1/events", 404)] {
        assert_eq!(worker.get(path).await.0, status, "{path}");
    }
    let ended = worker.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    // The same by a flag.
    let arguments = ["--config", "hookwire.toml", "--listen", "127.0.0.1:0"];
    let worker = Server::of(Program::start("hookwire-worker", folder.path(), &arguments)).await;
    assert_eq!(worker.get("/healthz").await.0, 200);
    let ended = worker.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("working"), "it is told that it runs: {}", ended.stderr);
}

#[tokio::test]
async fn a_worker_with_nothing_to_do_costs_next_to_nothing_and_sees_what_comes_at_once() {
    /// How long to look, by the server's clock.
    const SECONDS: usize = 5;
    let redis = RedisServer::start();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "", &definitions(&endpoint));
    // It says twice in the time of a lease that it listens; here, as often as by default.
    let configuration = std::fs::read_to_string(folder.path().join("hookwire.toml")).unwrap();
    folder.write("hookwire.toml", &configuration.replace("lease = \"1s\"", "lease = \"15s\""));
    let worker = Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    let listens = async || {
        let is_told = redis.command(&["EXISTS", "{hw:0}:listeners"]).trim() == "1";
        (is_told && redis.info("blocked_clients") == "1").then_some(())
    };
    eventually("the worker's wait", listens).await;
    let before = redis.commands_processed();
    // A list that nobody ever fills: the server's own way to let some time pass.
    assert_eq!(redis.command(&["BLPOP", "nothing", &SECONDS.to_string()]), "");
    let commands = redis.commands_processed() - before;
    // The test's own are two: this one, and the question.
    assert!(commands <= 2 * SECONDS as u64 + 2, "{commands} commands in {SECONDS} seconds");
    let asked = Instant::now();
    redis.command(&["XADD", "{hw:0}:in", "*", "event", &events(0..1)]);
    endpoint.wait_for(1).await;
    // Nothing but being woken is that fast: a look by itself comes every thirty seconds.
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    assert_eq!(worker.terminate().await.code(), 0);
}

/// So many changes of so many objects, with their numbers, beginning with one.
fn changes(objects: usize, numbers: std::ops::Range<usize>) -> String {
    let all = numbers.flat_map(|number| (0..objects).map(move |object| (number, object)));
    let events = all.map(|(number, object)| {
        let id = format!("{object}-{number}");
        json!({"event": "updated", "object_type": "dcim.site", "id": id, "data": {"id": object, "number": number}})
    });
    events.map(|event| event.to_string()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn the_number_of_shards_changes_while_workers_run() {
    const OBJECTS: usize = 10;
    let redis = RedisServer::start();
    let endpoint = ScriptedEndpoint::start([]).await;
    let ordered = definitions(&endpoint).replace("[[event_rules]]", "ordering = \"object\"\n[[event_rules]]");
    let folders =
        ["shards = 1", "shards = 3", "shards = 2"].map(|shards| folder(&redis.url(), shards, &ordered));
    let start =
        |folder: &Folder| Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    let mut workers = Vec::new();
    for (round, folder) in folders.iter().enumerate() {
        // Published under the old number, so that there is work when the new one comes; the workers before live on.
        let publisher = &folders[round.saturating_sub(1)];
        publisher.write("events.ndjson", &changes(OBJECTS, 2 * round * 20..(2 * round + 1) * 20));
        assert_eq!(publisher.hookwire(&["publish", "events.ndjson"]).await.code(), 0);
        workers.push(start(folder));
        if round == 1 {
            workers.remove(0).kill().await;
        }
        // And under the new one, by a program that is told yet another.
        folders[0].write("more.ndjson", &changes(OBJECTS, (2 * round + 1) * 20..(2 * round + 2) * 20));
        assert_eq!(folders[0].hookwire(&["publish", "more.ndjson"]).await.code(), 0);
    }
    let stats = async || folders[0].hookwire_json(&["stats", "--format", "json"]).await;
    let over = eventually("the end of all work", async || {
        let stats = stats().await;
        let shards = stats["shards"].as_array().unwrap();
        let count = |name: &str| shards.iter().map(|shard| shard[name].as_u64().unwrap()).sum::<u64>();
        let open = ["events_queued", "events_leased", "waiting", "running"].map(count);
        (open == [0; 4]).then(|| (shards.len(), count("delivered")))
    });
    assert_eq!(over.await, (1 + 3 + 2, (OBJECTS * 120) as u64), "nothing is lost");
    assert_eq!(redis.command(&["GET", "{hw:shards}"]).trim(), "1 3 2");
    let mut last = BTreeMap::<u64, (u64, u64)>::new();
    for request in endpoint.received() {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let (object, number) =
            (body["data"]["id"].as_u64().unwrap(), body["data"]["number"].as_u64().unwrap());
        let sequence = request.header("webhook-sequence").unwrap().parse().unwrap();
        if let Some(before) = last.insert(object, (number, sequence)) {
            // What a killed worker had under way comes again.
            assert!(before.0 <= number && before.1 <= sequence, "object {object}: {number} after {before:?}");
        }
    }
    assert_eq!(last.len(), OBJECTS);
    for worker in workers {
        assert_eq!(worker.terminate().await.code(), 0);
    }
}
