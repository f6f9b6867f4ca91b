//! Ten kills at random moments while ten thousand events go through: nothing is lost, little is repeated.
//!
//! Invariants:
//! - The moments are counts of arrivals drawn from a seed, which a failure prints; nothing sleeps.
//! - What may have been repeated is counted, not estimated: what had arrived at a kill and was not on record then.

use std::collections::BTreeMap;

use hookwire_testkit::{Program, Received, ScriptedEndpoint, eventually};
use serde_json::{Value, json};

use crate::support::{Folder, Server};

const EVENTS: usize = 10_000;
const KILLS: usize = 10;
const RULES: usize = 10;
const WEBHOOKS: usize = 3;

/// Ten rules, one per object type, to three webhooks; the even ones to two at once.
fn definitions(endpoint: &ScriptedEndpoint) -> String {
    let mut text = String::new();
    for webhook in 0..WEBHOOKS {
        let url = endpoint.url(&format!("/w{webhook}"));
        text += &format!("[[webhooks]]\nname = \"w{webhook}\"\nurl = \"{url}\"\n");
    }
    for rule in 0..RULES {
        let webhooks: Vec<String> =
            webhooks_of(rule).into_iter().map(|webhook| format!("w{webhook}")).collect();
        text += &format!(
            "[[event_rules]]\nname = \"r{rule}\"\nobject_types = [\"app.m{rule}\"]\nevent_types = [\"updated\"]\n\
             conditions = {{ attr = \"status.value\", value = \"active\" }}\nwebhooks = {webhooks:?}\n"
        );
    }
    text
}

fn webhooks_of(rule: usize) -> Vec<usize> {
    match rule % 2 {
        0 => vec![rule % WEBHOOKS, (rule + 1) % WEBHOOKS],
        _ => vec![rule % WEBHOOKS],
    }
}

/// How many deliveries the events become.
fn deliveries() -> usize {
    (0..EVENTS).map(|number| webhooks_of(number % RULES).len()).sum()
}

fn events() -> String {
    let events = (0..EVENTS).map(|number| {
        let object_type = format!("app.m{}", number % RULES);
        let data = json!({"id": number, "status": {"value": "active"}});
        json!({"event": "updated", "object_type": object_type, "data": data}).to_string() + "\n"
    });
    events.collect()
}

/// Counts of arrivals at which to kill, drawn from a seed (an xorshift, so that a failure can be had again).
fn moments(mut seed: u64) -> Vec<usize> {
    let mut moments: Vec<usize> = (0..KILLS)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Not the last tenth: there must be something left to go on with.
            usize::try_from(seed % (deliveries() as u64 * 9 / 10)).expect("it is a count of deliveries") + 1
        })
        .collect();
    moments.sort_unstable();
    moments
}

/// A seed that differs from run to run; the tests print it.
fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    clock.as_micros() as u64 | 1
}

/// How often each delivery arrived; asserts that what one webhook got about one object always came under one id.
fn arrivals(received: &[Received]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::<(String, u64), String>::new();
    let mut arrivals = BTreeMap::new();
    for request in received {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let id = request.header("webhook-id").unwrap().to_owned();
        let object = (request.target.clone(), body["data"]["id"].as_u64().unwrap());
        let first = ids.entry(object.clone()).or_insert_with(|| id.clone());
        assert_eq!(*first, id, "{object:?} came under two ids");
        *arrivals.entry(id).or_default() += 1;
    }
    arrivals
}

/// What is asserted at the end, over the record and over what arrived.
fn assert_nothing_lost(received: &[Received], record: &BTreeMap<String, Value>, open_at_kills: usize) {
    let arrivals = arrivals(received);
    assert_eq!(arrivals.len(), deliveries(), "every event arrived under every rule and webhook");
    let repeats: usize = arrivals.values().map(|times| times - 1).sum();
    assert!(
        repeats <= open_at_kills,
        "{repeats} were repeated, of {open_at_kills} that were in flight or not yet settled"
    );
    assert_eq!(record.len(), deliveries(), "every delivery is on record");
    let mut unrecorded = 0;
    for (id, delivery) in record {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        let known = usize::try_from(
            delivery["attempts"].as_u64().unwrap() - delivery["interrupted"].as_u64().unwrap(),
        )
        .unwrap();
        let arrived = arrivals.get(id).copied().unwrap_or_default();
        assert!(
            (1..=arrived).contains(&known),
            "{known} attempts are on record, {arrived} arrived: {delivery}"
        );
        unrecorded += arrived - known;
    }
    assert!(
        unrecorded <= open_at_kills,
        "{unrecorded} attempts are not on record, of {open_at_kills} that a kill cut off"
    );
}

/// All deliveries that a server shows, by id.
async fn record(server: &Server) -> BTreeMap<String, Value> {
    let mut record = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = server.get(&format!("/v1/deliveries?limit=500{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        for item in page["items"].as_array().unwrap() {
            record.insert(item["id"].as_str().unwrap().to_owned(), item.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return record,
        }
    }
}

/// Waits until everything is delivered and nothing is queued.
async fn all_delivered(server: &Server) {
    eventually("the delivery of everything", async || {
        let (_, stats) = server.get("/v1/stats").await;
        let shard = &stats["shards"][0];
        (shard["delivered"] == deliveries() && shard["events_queued"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p10_ten_kills_of_serve_lose_nothing_while_publish_goes_on() {
    let seed = seed();
    eprintln!("seed {seed}");
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    folder.write("events.ndjson", &events());
    let mut server = Server::start(&folder).await;
    let address = server.address;
    let publish = Program::start(
        "hookwire",
        folder.path(),
        &["publish", "--url", &server.url(), "--wait", "120", "events.ndjson"],
    );
    let mut open_at_kills = 0;
    for moment in moments(seed) {
        endpoint.wait_until(moment).await;
        let (_, stats) = server.get("/v1/stats").await;
        let on_record = usize::try_from(stats["shards"][0]["delivered"].as_u64().unwrap()).unwrap();
        server.program.kill().await;
        open_at_kills += arrivals(&endpoint.received()).len() - on_record;
        server = Server::start_at(&folder, address).await;
    }
    let published = publish.wait().await;
    assert_eq!(published.code(), 0, "{}", published.stderr);
    assert_eq!(published.stdout.lines().count(), EVENTS, "publish prints one id a line");
    all_delivered(&server).await;
    assert_nothing_lost(&endpoint.received(), &record(&server).await, open_at_kills);
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p10_ten_kills_of_a_worker_until_idle_lose_nothing() {
    let seed = seed();
    eprintln!("seed {seed}");
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    folder.write("events.ndjson", &events());
    let published = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((published.code(), published.stdout.lines().count()), (0, EVENTS), "{}", published.stderr);
    let mut open_at_kills = 0;
    for moment in moments(seed) {
        let worker = Program::start("hookwire-worker", folder.path(), &["--until-idle"]);
        endpoint.wait_until(moment).await;
        worker.kill().await;
        let stats = folder.hookwire_json(&["stats", "--format", "json"]).await;
        let on_record = usize::try_from(stats["shards"][0]["delivered"].as_u64().unwrap()).unwrap();
        open_at_kills += arrivals(&endpoint.received()).len() - on_record;
    }
    let ended = folder.run("hookwire-worker", &["--until-idle"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let server = Server::start(&folder).await;
    assert_nothing_lost(&endpoint.received(), &record(&server).await, open_at_kills);
    assert_eq!(server.program.terminate().await.code(), 0);
}
