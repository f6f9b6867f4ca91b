//! Publishing: what is taken, what is refused and how.

use std::time::Duration;

use axum::http::Method;
use hookwire_model::{EventId, Shard};
use hookwire_queue::{NewEvent, Queue as _, StoreLimits};
use hookwire_server::ApiLimits;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{HOST, JSON, Server, Setup, event};

#[tokio::test]
async fn p10_one_event_an_array_and_lines_are_taken() {
    let server = Server::open();
    for (body, ids, duplicates) in [
        (event("a"), json!(["a"]), json!([])),
        (format!("[{}, {}]", event("b"), event("c")), json!(["b", "c"]), json!([])),
        (format!("{}\n\n{}\n", event("d"), event("e")), json!(["d", "e"]), json!([])),
        (format!("[{}, {}]", event("a"), event("f")), json!(["a", "f"]), json!(["a"])),
        ("[]".into(), json!([]), json!([])),
    ] {
        let answer = server.publish(&body).await;
        assert_eq!((answer.status, answer.header("content-type")), (202, Some(JSON)), "{body}");
        assert_eq!(answer.body, json!({"ids": ids, "duplicates": duplicates}), "{body}");
    }
    assert_eq!(server.queued().await, 6);
    let answer = server.get("/v1/events/a").await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.body["state"], &answer.body["deliveries"]), (&json!("queued"), &json!([])));
    assert_eq!(answer.body["event"]["object_type"], "dcim.site");
    let answer = server.publish(&event("x").replace(r#""id":"x","#, "")).await;
    assert!(answer.body["ids"][0].as_str().unwrap().starts_with("new-"), "{}", answer.body);
}

#[tokio::test]
async fn a_single_line_of_ndjson_is_read_by_its_content_type() {
    let server = Server::open();
    let headers = [("host", "localhost"), ("content-type", "application/x-ndjson; charset=utf-8")];
    let answer = server.call(Method::POST, "/v1/events", &headers, event("a")).await;
    assert_eq!((answer.status, &answer.body["ids"]), (202, &json!(["a"])));
    let answer = server.call(Method::POST, "/v1/events", &headers, format!("[{}]", event("b"))).await;
    assert_eq!(answer.pointers(400), ["/0"], "an array is no event");
}

#[tokio::test]
async fn a_bad_batch_is_refused_whole_with_every_place() {
    let server = Server::open();
    for (body, pointers) in [
        (r#"{"event":"created"}"#.to_owned(), vec!["/object_type", "/data"]),
        (event("a").replace("data", "dta"), vec!["/dta", "/data"]),
        (
            format!(r#"[{}, {{"event": 3}}, 4]"#, event("a")),
            vec!["/1/event", "/1/object_type", "/1/data", "/2"],
        ),
        (format!("{}\n{}", event("a"), event("b").replace("\"b\"", "\"b.c\"")), vec!["/1/id"]),
        ("{".into(), vec![""]),
        (String::new(), vec![""]),
    ] {
        let answer = server.publish(&body).await;
        assert_eq!(answer.pointers(400), pointers, "{body} {}", answer.body);
    }
    let headers = [HOST, ("content-type", JSON)];
    let answer = server.call(Method::POST, "/v1/events", &headers, b"{\"event\": \"\xff\"}".to_vec()).await;
    assert_eq!(answer.pointers(400), [""], "no UTF-8");
    assert_eq!(server.queued().await, 0, "nothing of a refused batch is taken");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let server = Server::open();
    let large = event("a").replace("\"id\":1", &format!("\"id\":1,\"more\":\"{}\"", "x".repeat(300)));
    assert_eq!(server.publish(&large).await.pointers(413), [""]);
    assert_eq!(server.publish(&format!("[{},{large}]", event("b"))).await.pointers(413), ["/1"]);
    // Each event is small enough, the request is not.
    let batch: Vec<String> = (0..20).map(|number| event(&number.to_string())).collect();
    assert!(server.publish(&batch.join("\n")).await.pointers(413).is_empty());
    assert_eq!(server.queued().await, 0);
}

#[tokio::test]
async fn a_store_without_room_asks_to_come_back() {
    let store = StoreLimits { pending_bytes_max: 1, ..StoreLimits::default() };
    let server = Server::new(Setup { store, ..Setup::default() });
    // The limit is on what waits already, so one may go past it.
    server.publish(&event("a")).await;
    let answer = server.publish(&event("b")).await;
    assert!(answer.pointers(503).is_empty());
    assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u64>().unwrap() > 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_how_it_is_does_not_wait_for_a_store_that_hangs() {
    let server = Server::open();
    server.store.set_silent(true);
    let began = Instant::now();
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, &*answer.text), (503, "the store does not answer\n"));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("\nhookwire_store_up 0\n") && !answer.text.contains("hookwire_deliveries{"));
    assert_eq!(began.elapsed(), Duration::from_secs(2 + 4), "less than Prometheus waits");
    server.store.set_silent(false);
    assert!(server.get("/metrics").await.text.contains("\nhookwire_store_up 1\n"));
}

#[tokio::test]
async fn a_store_that_is_away_asks_to_come_back_when_it_says_so() {
    let server = Server::open();
    server.store.set_away(true);
    for answer in [server.publish(&event("a")).await, server.get("/v1/deliveries").await] {
        assert!(answer.pointers(503).is_empty());
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/healthz").await.status, 200);
    server.store.set_away(false);
    assert_eq!(server.publish(&event("a")).await.status, 202);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn p9_bodies_that_netbox_sent_are_events_and_the_same_bytes_are_the_same_event() {
    let server = Server::new(Setup { limits: ApiLimits::default(), ..Setup::default() });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/netbox/deliveries.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut bodies = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line["kind"] == "default-body" {
            let requests = line["requests"].as_array().unwrap();
            bodies.extend(requests.iter().map(|request| request["body_text"].as_str().unwrap().to_owned()));
        }
    }
    assert!(bodies.len() > 40, "{} bodies were recorded", bodies.len());
    for body in &bodies {
        let answer = server.publish(body).await;
        assert_eq!((answer.status, &answer.body["duplicates"]), (202, &json!([])), "{body} {}", answer.body);
        let id = answer.body["ids"][0].as_str().unwrap();
        assert!(id.starts_with("evt_"), "{id}");
        let kept = server.get(&format!("/v1/events/{id}")).await.body["event"].clone();
        let sent: Value = serde_json::from_str(body).unwrap();
        for (name, value) in sent.as_object().unwrap() {
            assert_eq!(&kept[name], value, "{name} of {body}");
        }
        assert_eq!(server.publish(body).await.body["duplicates"], json!([id]));
    }
    assert_eq!(server.queued().await, bodies.len() as u64);
    // As NetBox's documentation shows it there is a model, too.
    for (model, status) in [("site", 202), ("device", 400)] {
        let mut body: Value = serde_json::from_str(&bodies[0]).unwrap();
        body["model"] = json!(model);
        assert_eq!(server.publish(&body.to_string()).await.status, status, "{model}");
    }
}

/// The number of shards was changed between two events of one id, long enough apart to be two.
#[tokio::test]
async fn of_events_with_one_id_the_newest_is_shown() {
    let server = Server::new(Setup { shards: 2, ..Setup::default() });
    for (shard, name) in [(0, "old"), (1, "new")] {
        let payload = event("a").replace("created", name).into();
        let new = NewEvent { id: EventId::new("a").unwrap(), payload };
        server.store.publish(Shard(shard), vec![new]).await.unwrap();
    }
    assert_eq!(server.get("/v1/events/a").await.body["event"]["event"], "new");
}
