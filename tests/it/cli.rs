//! What the commands that act say and do, on the store and through a running server; and how events are published.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hookwire_testkit::{Answer, Ended, Program, ScriptedEndpoint};
use serde_json::{Value, json};

use crate::support::{Folder, Server, members, snapshots};

/// Two webhooks that give up after one attempt, and a rule for each.
fn definitions(endpoint: &ScriptedEndpoint) -> String {
    let one = |name: &str, object_type: &str| {
        format!(
            r#"
            [[webhooks]]
            name = "{name}"
            url = "{}"
            retry = {{ max_attempts = 1 }}
            [[event_rules]]
            name = "{name}-rule"
            object_types = ["{object_type}"]
            event_types = ["*"]
            webhooks = ["{name}"]
            "#,
            endpoint.url(&format!("/{name}")),
        )
    };
    one("sites", "dcim.site") + &one("racks", "dcim.rack")
}

fn event(id: &str, object_type: &str) -> String {
    let timestamp = "2026-03-05T10:22:44Z";
    json!({"event": "created", "object_type": object_type, "id": id, "timestamp": timestamp, "data": {"id": id}})
        .to_string()
}

/// Three events about sites and one about a rack, one a line.
fn events() -> String {
    let sites = ["s1", "s2", "s3"].map(|id| event(id, "dcim.site"));
    format!("{}\n{}\n", sites.join("\n"), event("r1", "dcim.rack"))
}

fn shown(ended: &Ended) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", ended.code(), ended.stdout, ended.stderr)
}

/// A command, its words parted by spaces; more may follow.
fn words<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    command.split(' ').chain(more.iter().copied()).collect()
}

/// A folder whose store holds four dead letters, which a worker made of the events.
async fn four_dead(endpoint: &ScriptedEndpoint) -> Folder {
    endpoint.otherwise(Answer::Status(500));
    let folder = Folder::with(&definitions(endpoint));
    folder.write("events.ndjson", &events());
    let published = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((published.code(), published.stdout.as_str()), (0, "s1\ns2\ns3\nr1\n"), "{published:?}");
    work(&folder).await;
    folder
}

/// Sends whatever is due.
async fn work(folder: &Folder) {
    let worker = folder.run("hookwire-worker", &["--until-idle", "--log", "error"]).await;
    assert_eq!(worker.code(), 0, "{}", worker.stderr);
}

/// The deliveries that a command lists, oldest first.
async fn listed(folder: &Folder, command: &str, more: &[&str]) -> Vec<Value> {
    let page = folder.hookwire_json(&words(command, &[&["--format", "json"], more].concat())).await;
    assert_eq!(members(&page), ["items", "next_cursor"]);
    page["items"].as_array().unwrap().iter().rev().cloned().collect()
}

fn id_of(delivery: &Value) -> &str {
    delivery["id"].as_str().unwrap()
}

/// How many deliveries are in each state, such as `dead 1, delivered 3`.
async fn states(folder: &Folder, more: &[&str]) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for delivery in listed(folder, "deliveries list", more).await {
        *counts.entry(delivery["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(state, count)| format!("{state} {count}")).collect();
    counts.join(", ")
}

#[tokio::test]
async fn what_the_commands_that_act_say() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = four_dead(&endpoint).await;
    let dead = listed(&folder, "dead list", &[]).await;
    let ids: Vec<&str> = dead.iter().map(id_of).collect();
    let _snapshots = snapshots(&folder);
    for (name, command) in [
        ("dead_list", "dead list"),
        ("dead_list_filtered", "dead list --webhook racks --rule racks-rule"),
        ("deliveries_list_none", "deliveries list --state waiting"),
        ("deliveries_list_page", "deliveries list --limit 2"),
        ("stats", "stats"),
        ("retry_which", "deliveries retry"),
        ("retry_conflict", "deliveries retry {1} --webhook sites"),
        ("retry_ids_and_state", "deliveries retry {1} --state dead"),
        ("retry_all_and_filter", "deliveries retry --all --rule sites-rule"),
        ("retry_no_such_state", "deliveries retry --state lost"),
        ("cancel_unfit_state", "deliveries cancel --state delivered"),
        ("bad_webhook", "deliveries list --webhook "),
        ("bad_endpoint", "deliveries list --endpoint ep_7"),
        ("bad_event_id", "deliveries list --event-id a.b"),
        ("bad_id", "deliveries show 7"),
        ("bad_cursor", "deliveries list --cursor 7"),
        ("bad_limit", "deliveries list --limit 0"),
        ("unknown_show", "deliveries show dlv_00000000000000000000000000"),
        ("redrive_without_yes", "dead redrive --webhook sites"),
        ("redrive_without_yes_json", "dead redrive --webhook sites --format json"),
        ("redrive_dry_run", "dead redrive --all --dry-run"),
        ("retry_dry_run_json", "deliveries retry --event-id s1 --dry-run --format json"),
        ("redrive_none", "dead redrive --webhook unheard-of --yes"),
        // From here on they change something.
        ("retry_some_unknown", "deliveries retry {1} dlv_00000000000000000000000000"),
        ("cancel", "deliveries cancel {2}"),
        ("cancel_again", "deliveries cancel {2}"),
        ("retry_cancelled_json", "deliveries retry {2} --format json"),
        ("retry_without_yes", "deliveries retry --all"),
        ("redrive_yes", "dead redrive --webhook sites --yes"),
        ("purge_yes", "dead purge --all --yes"),
        ("deliveries_list", "deliveries list"),
        ("mistyped_command", "deliveries rety"),
    ] {
        let mut command = command.to_owned();
        for (at, id) in ids.iter().enumerate() {
            command = command.replace(&format!("{{{}}}", at + 1), id);
        }
        let ended = folder.hookwire(&words(&command, &[])).await;
        let mut text = shown(&ended);
        for (at, id) in ids.iter().enumerate() {
            text = text.replace(id, &format!("[delivery {}]", at + 1));
        }
        insta::assert_snapshot!(name, text);
    }
    assert_eq!(states(&folder, &[]).await, "cancelled 1, waiting 2", "the rack's was purged");
}

#[tokio::test]
async fn p12_queue_and_failed_webhooks_can_be_inspected() {
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Status(500));
    let folder = Folder::with(&definitions(&endpoint));
    folder.write("events.ndjson", &events());
    assert_eq!(folder.hookwire(&["publish", "events.ndjson"]).await.code(), 0);
    // Before anything looks at them.
    let queued = folder.hookwire_json(&["stats", "--format", "json"]).await;
    assert_eq!(queued["shards"][0]["events_queued"], 4, "{queued}");

    // Once more through the server that works on them.
    let server = Server::start(&folder).await;
    server.deliveries("dead", 4).await;
    let url = server.url();
    let by_server = ["--url", url.as_str()];
    let dead = listed(&folder, "dead list", &by_server).await;
    assert_eq!(
        dead.iter().map(|dead| dead["event_id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["s1", "s2", "s3", "r1"]
    );
    assert!(
        dead.iter().all(|dead| dead["dead_reason"] == "attempts_exhausted" && dead["last_status"] == 500)
    );
    let racks = listed(&folder, "deliveries list --state dead --webhook racks", &by_server).await;
    assert_eq!(racks, dead[3..]);
    let show = words("deliveries show", &[id_of(&dead[0]), "--format", "json"]);
    let shown_by_server = folder.hookwire_json(&[&show[..], &by_server].concat()).await;
    assert_eq!(shown_by_server["attempt_log"][0]["response"]["status"], 500);
    let stats_by_server =
        folder.hookwire_json(&[&["stats", "--format", "json"], &by_server[..]].concat()).await;
    assert_eq!(
        (&stats_by_server["shards"][0]["dead"], &stats_by_server["definitions"]["webhooks"]),
        (&json!(4), &json!(2))
    );
    let _snapshots = snapshots(&folder);
    let stats = folder.hookwire(&[&["stats"], &by_server[..]].concat()).await;
    insta::assert_snapshot!("stats_of_a_server", shown(&stats));

    // The store belongs to the server: whoever does not name it is told.
    let in_use = folder.hookwire(&["dead", "list"]).await;
    insta::assert_snapshot!("store_in_use", shown(&in_use));
    let owner = format!("process {} ", server.program.id().unwrap());
    assert!(in_use.stderr.contains(&owner), "{} has no {owner}", in_use.stderr);

    // And the same from the store itself, when no server runs.
    assert_eq!(server.program.terminate().await.code(), 0);
    assert_eq!(listed(&folder, "dead list", &[]).await, dead);
    assert_eq!(folder.hookwire_json(&show).await, shown_by_server);
    let stats = folder.hookwire_json(&["stats", "--format", "json"]).await;
    assert_eq!(stats["shards"][0]["dead"], 4);
}

#[tokio::test]
async fn p14_failed_requests_are_retried_by_hand() {
    for through_server in [false, true] {
        let endpoint = ScriptedEndpoint::start([]).await;
        let folder = four_dead(&endpoint).await;
        let server = if through_server { Some(Server::start(&folder).await) } else { None };
        let url = server.as_ref().map(Server::url);
        let to: Vec<&str> = url.iter().flat_map(|url| ["--url", url.as_str()]).collect();
        let act = async |command: &str, told: &str| {
            let ended = folder.hookwire(&words(command, &to)).await;
            assert_eq!((ended.code(), ended.stdout.as_str()), (0, told), "{command}: {ended:?}");
        };
        // Without a server, a worker is started for what is to be sent; a server has one.
        let arrived = async |count: usize, states: &str| {
            if let Some(server) = &server {
                endpoint.wait_until(count).await;
                wait_for(server, states).await;
            } else {
                work(&folder).await;
            }
            assert_eq!(endpoint.received().len(), count);
            assert_eq!(self::states(&folder, &to).await, states);
        };
        let dead = listed(&folder, "dead list", &to).await;
        let first = id_of(&dead[0]);

        // Still broken: it fails again, and is a dead letter again.
        act(&format!("deliveries retry {first}"), "1 delivery queued to be sent again\n").await;
        arrived(5, "dead 4").await;
        endpoint.otherwise(Answer::Status(200));
        act(&format!("deliveries retry {first}"), "1 delivery queued to be sent again\n").await;
        arrived(6, "dead 3, delivered 1").await;
        // A delivered one once more.
        act(&format!("deliveries retry {first}"), "1 delivery queued to be sent again\n").await;
        arrived(7, "dead 3, delivered 1").await;
        let received = endpoint.received();
        let of_first: Vec<_> =
            received.iter().filter(|request| request.header("webhook-id") == Some(first)).collect();
        let attempts: Vec<_> =
            of_first.iter().map(|request| request.header("webhook-attempt").unwrap()).collect();
        assert_eq!(attempts, ["1", "2", "3", "4"], "every attempt is under the same id, and counted");

        act(&format!("deliveries cancel {}", id_of(&dead[1])), "1 delivery cancelled\n").await;
        act("dead redrive --webhook sites --dry-run", "1 dead letter would be redriven\n").await;
        arrived(7, "cancelled 1, dead 2, delivered 1").await;
        act("dead redrive --webhook sites --yes", "1 dead letter redriven\n").await;
        arrived(8, "cancelled 1, dead 1, delivered 2").await;
        act("dead redrive --all --yes", "1 dead letter redriven\n").await;
        arrived(9, "cancelled 1, delivered 3").await;
        act("dead purge --all --yes", "0 dead letters purged\n").await;

        let unknown = "dlv_00000000000000000000000000";
        let ended = folder.hookwire(&words("deliveries retry", &[&[unknown], &to[..]].concat())).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert!(ended.stderr.contains("no delivery has this id"), "{ended:?}");
        let ended =
            folder.hookwire(&words("deliveries retry", &[&[id_of(&dead[1])], &to[..]].concat())).await;
        assert_eq!(ended.code(), 1, "{ended:?}");
        assert!(ended.stderr.contains("it is cancelled"), "{ended:?}");
        if let Some(server) = server {
            assert_eq!(server.program.terminate().await.code(), 0);
        }
    }
}

/// Waits until a server has these states on record.
async fn wait_for(server: &Server, wanted: &str) {
    hookwire_testkit::eventually(wanted, async || {
        let (_, stats) = server.get("/v1/stats").await;
        let shard = &stats["shards"][0];
        let states = ["cancelled", "dead", "delivered", "running", "waiting"];
        let counts = states.iter().filter(|state| shard[**state] != 0);
        let counts: Vec<_> = counts.map(|state| format!("{state} {}", shard[*state])).collect();
        (counts.join(", ") == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&definitions(&endpoint));
    let lines: String = (0..530).map(|id| event(&format!("s{id}"), "dcim.site") + "\n").collect();
    folder.write("events.ndjson", &lines);
    assert_eq!(folder.hookwire(&["publish", "events.ndjson"]).await.code(), 0);
    let server = Server::start(&folder).await;
    wait_for(&server, "delivered 530").await;
    let url = server.url();
    let mut seen = BTreeSet::new();
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    // Larger than a page of the server, so that the command itself reads on.
    loop {
        let mut command = words("deliveries list --limit 510 --format json --url", &[&url]);
        command.extend(cursor.iter().flat_map(|cursor| ["--cursor", cursor.as_str()]));
        let page = folder.hookwire_json(&command).await;
        let items = page["items"].as_array().unwrap();
        pages.push(items.len());
        seen.extend(items.iter().map(|item| id_of(item).to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (vec![510, 20], 530));
    assert_eq!(server.program.terminate().await.code(), 0);
    let all = listed(&folder, "deliveries list --limit 1000", &[]).await;
    assert_eq!(all.iter().map(|item| id_of(item).to_owned()).collect::<BTreeSet<_>>(), seen);
}

#[tokio::test]
async fn bad_events_are_told_with_their_place_and_nothing_is_published() {
    let folder = Folder::with("");
    let good = event("s1", "dcim.site");
    let large = good.replace("\"data\":{", &format!("\"data\":{{\"text\":\"{}\",", "x".repeat(10_000_000)));
    folder.write("no-json.json", "created dcim.site\n");
    folder.write("unknown-member.json", &good.replace("\"data\"", "\"dta\": 1, \"data\""));
    folder.write("without-data.json", r#"{"event": "created", "object_type": "dcim.site"}"#);
    folder.write("large.json", &large);
    folder.write("good.ndjson", &format!("{good}\n"));
    let middle = [&good, "{\"event\": \"created\", ", "", "{}", &large, &good].join("\n");
    folder.write("middle.ndjson", &format!("{}{middle}\n", format!("{good}\n").repeat(500)));
    folder
        .write("array.json", &format!("[{good}, {{\"event\": 1, \"object_type\": \"x\", \"data\": null}}]"));
    folder.write("empty.ndjson", "\n");
    let _snapshots = snapshots(&folder);
    for (name, files, code) in [
        ("publish_no_json", "no-json.json", 65),
        ("publish_unknown_member", "unknown-member.json", 65),
        ("publish_without_data", "without-data.json", 65),
        ("publish_large", "large.json", 65),
        ("publish_middle", "good.ndjson middle.ndjson", 65),
        ("publish_array", "array.json", 65),
        ("publish_folder", ".", 66),
        ("publish_missing", "good.ndjson missing.json", 66),
        ("publish_empty", "empty.ndjson", 0),
        ("publish_resume_stdin", "--resume -", 2),
        ("publish_resume_pipe", "--resume /dev/null", 2),
        ("publish_stdin_twice", "- good.ndjson -", 2),
        ("publish_bad_url", "--url localhost:8080 good.ndjson", 2),
    ] {
        let ended = folder.hookwire(&words("publish", &words(files, &[]))).await;
        assert_eq!(ended.code(), code, "{files}: {ended:?}");
        assert_eq!(ended.stdout, "", "{files}");
        insta::assert_snapshot!(name, shown(&ended));
        assert!(
            !folder.path().join("store").exists(),
            "{files}: nothing was published, so there is no store"
        );
    }
    let middle = format!("{good}\n{{\n{good}\n");
    let input = Program::start_with_input("hookwire", folder.path(), &["publish"], &middle).wait().await;
    insta::assert_snapshot!("publish_stdin", shown(&input));

    let server = Server::start(&folder).await;
    let ended = folder.hookwire(&["publish", "--url", &server.url(), "middle.ndjson"]).await;
    assert_eq!(ended.code(), 65, "{ended:?}");
    let (_, stats) = server.get("/v1/stats").await;
    assert_eq!(stats["shards"][0]["dedup_ids"], 0, "{stats}");
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn an_id_that_is_there_twice_is_known_only_the_second_time() {
    let folder = Folder::with("");
    let (a, b) = (event("a", "dcim.site"), event("b", "dcim.site"));
    folder.write("events.ndjson", &[&*a, &b, &a, &a].join("\n"));
    let told = "a was published before; nothing was stored\n".repeat(2);
    let by_store = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((by_store.stdout.as_str(), by_store.stderr.as_str()), ("a\nb\na\na\n", told.as_str()));
    let folder_of_server = Folder::with("");
    let server = Server::start(&folder_of_server).await;
    let by_server = folder.hookwire(&["publish", "--url", &server.url(), "events.ndjson"]).await;
    assert_eq!((by_server.stdout, by_server.stderr), (by_store.stdout, by_store.stderr));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_server_on_another_store_is_passed_over() {
    let theirs = Folder::with("");
    let server = Server::start(&theirs).await;
    let address = server.address.to_string();
    let at = ["--listen", address.as_str()];
    let ours = Folder::with("");
    ours.write("event.json", &event("s1", "dcim.site"));
    let _snapshots = snapshots(&ours);
    let published = ours.hookwire(&words("publish event.json", &at)).await;
    insta::assert_snapshot!("another_store_publish", shown(&published));
    let stats = ours.hookwire(&words("stats --format json", &at)).await;
    assert!(stats.stdout.contains(r#""events_queued": 1"#), "{stats:?}");
    assert!(stats.stderr.contains("works on another store"), "{stats:?}");
    let (_, stats) = server.get("/v1/stats").await;
    assert_eq!(stats["shards"][0]["dedup_ids"], 0, "nothing went to the other server: {stats}");

    // Whoever names no store and has none means the server's.
    let nameless = Folder::new();
    nameless.write("event.json", &event("s2", "dcim.site"));
    let published = nameless.hookwire(&words("publish event.json", &at)).await;
    assert_eq!((published.stdout.as_str(), published.stderr.as_str()), ("s2\n", ""), "{published:?}");
    let (_, stats) = server.get("/v1/stats").await;
    assert_eq!(stats["shards"][0]["dedup_ids"], 1, "{stats}");

    // The same store by another path is the server's, though this process could not even open it.
    std::os::unix::fs::symlink(theirs.path().join("store"), ours.path().join("link")).unwrap();
    let stats = ours.hookwire(&words("stats --store embedded:./link", &at)).await;
    assert_eq!((stats.code(), stats.stderr.as_str()), (0, ""), "{stats:?}");
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn the_limit_on_an_event_is_the_configured_one() {
    let folder = Folder::with("");
    folder.write("small.toml", "[server]\nmax_event_bytes = \"100B\"\n[store]\nurl = \"embedded:./store\"");
    folder.write("event.json", &event("s1", "dcim.site"));
    let ended = folder.hookwire(&["publish", "--config", "small.toml", "event.json"]).await;
    assert_eq!(ended.code(), 65, "{ended:?}");
    assert!(ended.stderr.contains("the limit is 100"), "{ended:?}");
    let ended = folder.hookwire(&["publish", "event.json"]).await;
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "s1\n"), "{ended:?}");
}

/// Batches go by all that an event holds: many with large snapshots are several requests.
#[tokio::test]
async fn large_snapshots_make_more_batches() {
    let folder = Folder::with("");
    let line = |number: usize| {
        json!({"event": "updated", "object_type": "dcim.site", "id": format!("s{number}"), "data": {},
            "snapshots": {"prechange": {"x": "y".repeat(400_000)}, "postchange": null}})
    };
    let lines: Vec<String> = (0..100).map(|number| line(number).to_string()).collect();
    folder.write("events.ndjson", &lines.join("\n"));
    let server = Server::start(&folder).await;
    let ended = folder.hookwire(&["publish", "--url", &server.url(), "events.ndjson"]).await;
    assert_eq!((ended.code(), ended.stdout.lines().count()), (0, 100), "{}", ended.stderr);
    // As large as an event may be, and too large for a server with the members that it lacks: nothing before it goes.
    let nameless = r#"{"event":"created","object_type":"dcim.site","data":{"x":"PAD"}}"#;
    let pad = "x".repeat((1 << 20) - nameless.len() + 3 - 10);
    folder.write("grown.ndjson", &format!("{}\n{}\n", line(100), nameless.replace("PAD", &pad)));
    let ended = folder.hookwire(&["publish", "--url", &server.url(), "grown.ndjson"]).await;
    assert_eq!((ended.code(), ended.stdout.as_str()), (65, ""), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("an event has 1048686 bytes with the members that it lacks"),
        "{}",
        ended.stderr
    );
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn resume_repeats_nothing() {
    let folder = Folder::with("");
    let nameless = r#"{"event": "created", "object_type": "dcim.site", "data": {}}"#;
    folder.write("events.ndjson", &format!("{nameless}\n").repeat(150));
    let first = folder.hookwire(&["publish", "--resume", "events.ndjson"]).await;
    let ids: BTreeSet<_> = first.stdout.lines().collect();
    assert_eq!(
        (first.code(), ids.len()),
        (0, 150),
        "lines that are the same are events of their own: {first:?}"
    );
    // As a run that broke off would leave it, with more behind it.
    folder.write("events.ndjson", &format!("{nameless}\n").repeat(152));
    let server = Server::start(&folder).await;
    let path = folder.path().join("events.ndjson");
    let path = path.to_str().unwrap();
    let second = folder.hookwire(&["publish", "--resume", "--url", &server.url(), path]).await;
    assert_eq!((second.code(), second.stdout.lines().count()), (0, 152), "{second:?}");
    assert!(second.stdout.starts_with(&first.stdout));
    assert!(second.stderr.ends_with("150 of 152 events were published before\n"), "{}", second.stderr);
    assert_eq!(second.stderr.lines().count(), 11, "ten by id, and how many in all: {}", second.stderr);
    let (_, stats) = server.get("/v1/stats").await;
    assert_eq!(stats["shards"][0]["dedup_ids"], 152, "{stats}");
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says_with_the_same_ids() {
    let accepted = json!({"ids": ["x"], "duplicates": ["x"]}).to_string();
    let busy = ScriptedEndpoint::start([
        Answer::Header(503, "retry-after", "1".to_owned()),
        Answer::Status(502),
        Answer::Json(202, accepted),
    ])
    .await;
    let folder = Folder::with("");
    folder.write("event.json", r#"{"event": "created", "object_type": "dcim.site", "data": {}}"#);
    let began = Instant::now();
    let ended = folder.hookwire(&["publish", "--url", &busy.url(""), "event.json"]).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it came back before the server said");
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "x\n"), "{ended:?}");
    assert!(ended.stderr.contains("trying again"), "{ended:?}");
    assert!(!ended.stderr.contains("published before"), "what was sent again is no duplicate: {ended:?}");
    let bodies: BTreeSet<_> = busy.received().iter().map(|request| request.body.clone()).collect();
    assert_eq!((busy.received().len(), bodies.len()), (3, 1), "the same events under the same ids");
}

#[tokio::test]
async fn a_refusal_in_the_middle_says_how_far_it_came() {
    let ids: Vec<_> = (0..100).map(|id| format!("s{id}")).collect();
    let accepted = json!({"ids": ids, "duplicates": []}).to_string();
    let problem = json!({"status": 413, "title": "too large", "detail": "send less"}).to_string();
    let folder = Folder::with("");
    let lines: String = (0..101).map(|id| event(&format!("s{id}"), "dcim.site") + "\n").collect();
    folder.write("events.ndjson", &lines);
    let _snapshots = snapshots(&folder);
    for (name, last, more) in [
        ("refused_in_the_middle", Answer::Json(413, problem), "--wait 60"),
        ("away_in_the_middle", Answer::Status(503), "--wait 0 --resume"),
    ] {
        let server = ScriptedEndpoint::start([Answer::Json(202, accepted.clone()), last]).await;
        let url = server.url("");
        let ended = folder
            .hookwire(&words("publish events.ndjson --url", &[&[&*url], &*words(more, &[])].concat()))
            .await;
        assert_eq!(ended.stdout.lines().count(), 100, "{ended:?}");
        insta::assert_snapshot!(name, format!("exit {}\n{}", ended.code(), ended.stderr));
    }
}

#[tokio::test]
async fn a_token_that_is_missing_is_told() {
    let folder = Folder::with("");
    folder.write("token", "secret");
    folder.write(
        "token.toml",
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_token_file = \"token\"\n[store]\nurl = \"memory:\"",
    );
    let server = Program::start("hookwire", folder.path(), &["serve", "--config", "token.toml"]);
    let address = hookwire_testkit::eventually("the address", async || {
        let stderr = server.stderr();
        let line = stderr.lines().find(|line| line.contains("listening"))?;
        Some(line.split_once("address=")?.1.trim().to_owned())
    })
    .await;
    let ended = folder.hookwire(&["stats", "--url", &format!("http://{address}")]).await;
    let _snapshots = snapshots(&folder);
    insta::assert_snapshot!("token_missing", shown(&ended));
    let env = [("HOOKWIRE_TOKEN", "secret\n")];
    let url = format!("http://{address}");
    let known =
        Program::start_with_env("hookwire", folder.path(), &["stats", "--url", &url], &env).wait().await;
    assert_eq!(known.code(), 0, "a line end is no part of the token: {known:?}");
    // Nobody else has what is in a server's memory.
    let ended = folder.hookwire(&["stats", "--config", "token.toml"]).await;
    insta::assert_snapshot!("memory_without_server", shown(&ended));
    folder.write("event.json", &event("s1", "dcim.site"));
    let ended = folder.hookwire(&["publish", "--config", "token.toml", "event.json"]).await;
    insta::assert_snapshot!("publish_memory_without_server", shown(&ended));
    assert_eq!(server.terminate().await.code(), 0);
}

#[tokio::test]
async fn who_looks_needs_no_secrets_of_the_service() {
    let folder = Folder::with(
        r#"
        admin_token_env = "SERVICE_ADMIN_TOKEN"
        [[webhooks]]
        name = "sites"
        url = "http://127.0.0.1:9/"
        secret_file = "/nowhere/secret"
        [[event_rules]]
        name = "all"
        object_types = ["*"]
        event_types = ["*"]
        webhooks = ["sites"]
        "#,
    );
    folder.write("event.json", &event("s1", "dcim.site"));
    for command in ["publish event.json", "stats", "deliveries list", "dead list", "endpoints list"] {
        let ended = folder.hookwire(&words(command, &[])).await;
        assert_eq!(ended.code(), 0, "{command}: {ended:?}");
    }
    assert_eq!(folder.hookwire(&["serve"]).await.code(), 78, "a server needs them");
}

#[tokio::test]
async fn help_completions_pages_and_versions() {
    let folder = Folder::new();
    let _snapshots = snapshots(&folder);
    for (name, command) in [
        ("help", "--help"),
        ("help_publish", "publish --help"),
        ("help_retry", "deliveries retry --help"),
        ("mistyped", "pubish"),
    ] {
        insta::assert_snapshot!(name, shown(&folder.hookwire(&words(command, &[])).await));
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = folder.hookwire(&["completions", shell]).await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(
            ended.stdout.contains("redrive") && ended.stdout.contains("dry-run"),
            "{shell}: {}",
            ended.stdout
        );
    }
    assert_eq!(folder.hookwire(&["completions", "tcsh"]).await.code(), 2);
    let ended = folder.hookwire(&["man"]).await;
    assert!(ended.stdout.contains(".TH hookwire 1"), "{}", ended.stdout);
    assert_eq!(folder.hookwire(&["man", "--output", "pages"]).await.code(), 0);
    let page = std::fs::read_to_string(folder.path().join("pages/hookwire-dead-redrive.1")).unwrap();
    assert!(page.contains("dry\\-run"), "{page}");
    folder.write("file", "");
    assert_eq!(folder.hookwire(&["man", "--output", "file"]).await.code(), 74);
    for program in ["hookwire", "hookwire-worker", "webhook_receiver"] {
        let ended = folder.run(program, &["--version"]).await;
        let version = ended.stdout.strip_prefix(&format!("{program} ")).unwrap().trim();
        assert_eq!(version.split('.').count(), 3, "{}", ended.stdout);
    }
}

#[tokio::test]
async fn an_event_that_is_not_there_is_no_answer() {
    let folder = Folder::with("");
    folder.write("none.json", "\n");
    for (command, file, told) in [
        ("preview", "none.json", "error: none.json: there is no event in it\n"),
        ("explain", "-", "error: standard input: there is no event in it\n"),
    ] {
        let ended = folder.hookwire(&[command, "--event", file]).await;
        assert_eq!((ended.code(), &*ended.stderr), (65, told), "{command}");
    }
}
