//! The routes over a store in memory, without a listener: what each request is answered, and what got into the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use hookwire_definitions::Definitions;
use hookwire_engine::{InForce, Snapshot, SystemClock};
use hookwire_model::{EventId, Secret, Shard, Timestamp};
use hookwire_queue::{Inspect as _, MemoryQueue, StoreLimits};
use hookwire_server::{Api, ApiLimits, Tokens, router};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The API with small limits, and the store behind it.
struct Server {
    router: Router,
    queue: Arc<MemoryQueue>,
    ready: Arc<AtomicBool>,
}

/// An answer, its body read.
struct Answer {
    status: u16,
    content_type: String,
    retry_after: Option<String>,
    body: Value,
}

impl Server {
    fn new(limits: StoreLimits, tokens: Tokens) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let queue = Arc::new(MemoryQueue::new(limits));
        let ready = Arc::new(AtomicBool::new(true));
        let router = router(Api {
            queue: Arc::clone(&queue),
            clock: SystemClock,
            new_id: || EventId::new(&format!("new-{}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap(),
            limits: ApiLimits { event_bytes_max: 300, request_bytes_max: 1000 },
            tokens,
            in_force: InForce::new(Snapshot::new(Definitions::default()).unwrap(), Timestamp::UNIX_EPOCH),
            ready: Arc::clone(&ready),
        });
        Server { router, queue, ready }
    }

    fn open() -> Self {
        Server::new(StoreLimits::default(), Tokens::default())
    }

    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn post(&self, body: &str) -> Answer {
        self.call(Method::POST, "/v1/events", &[("host", "127.0.0.1:8080"), ("content-type", JSON)], body)
            .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[("host", "127.0.0.1:8080")], "").await
    }

    async fn queued(&self) -> u64 {
        self.queue.stats(Shard(0)).await.unwrap().events_queued
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        content_type: text("content-type").unwrap_or_default(),
        retry_after: text("retry-after"),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}

impl Answer {
    /// Checks that this is a problem with its members, and gives the pointers of its errors.
    fn pointers(&self, status: u16) -> Vec<&str> {
        assert_eq!((self.status, self.content_type.as_str()), (status, "application/problem+json"));
        assert_eq!(self.body["status"], status, "{}", self.body);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{}", self.body);
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(errors.iter().all(|error| error["message"].is_string()), "{}", self.body);
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

const JSON: &str = "application/json";

fn event(id: &str) -> String {
    format!(r#"{{"event":"created","object_type":"dcim.site","id":"{id}","data":{{"id":1}}}}"#)
}

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
        let answer = server.post(&body).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (202, JSON), "{body}");
        assert_eq!(answer.body, json!({"ids": ids, "duplicates": duplicates}), "{body}");
    }
    assert_eq!(server.queued().await, 6);
    let answer = server.get("/v1/events/a").await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.body["state"], &answer.body["deliveries"]), (&json!("queued"), &json!([])));
    assert_eq!(answer.body["event"]["object_type"], "dcim.site");
    let answer = server.post(&event("x").replace(r#""id":"x","#, "")).await;
    assert!(answer.body["ids"][0].as_str().unwrap().starts_with("new-"), "{}", answer.body);
}

#[tokio::test]
async fn a_single_line_of_ndjson_is_read_by_its_content_type() {
    let server = Server::open();
    let headers = [("host", "localhost"), ("content-type", "application/x-ndjson; charset=utf-8")];
    let answer = server.call(Method::POST, "/v1/events", &headers, &event("a")).await;
    assert_eq!((answer.status, &answer.body["ids"]), (202, &json!(["a"])));
    let answer = server.call(Method::POST, "/v1/events", &headers, &format!("[{}]", event("b"))).await;
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
        let answer = server.post(&body).await;
        assert_eq!(answer.pointers(400), pointers, "{body} {}", answer.body);
    }
    assert_eq!(server.queued().await, 0, "nothing of a refused batch is taken");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let server = Server::open();
    let large = event("a").replace("\"id\":1", &format!("\"id\":1,\"more\":\"{}\"", "x".repeat(300)));
    assert_eq!(server.post(&large).await.pointers(413), [""]);
    assert_eq!(server.post(&format!("[{},{large}]", event("b"))).await.pointers(413), ["/1"]);
    // Each event is small enough, the request is not.
    let batch: Vec<String> = (0..20).map(|number| event(&number.to_string())).collect();
    assert!(server.post(&batch.join("\n")).await.pointers(413).is_empty());
    assert_eq!(server.queued().await, 0);
}

#[tokio::test]
async fn a_store_without_room_asks_to_come_back() {
    let limits = StoreLimits { pending_bytes_max: 1, ..StoreLimits::default() };
    let server = Server::new(limits, Tokens::default());
    // The limit is on what waits already, so one may go past it.
    server.post(&event("a")).await;
    let answer = server.post(&event("b")).await;
    assert!(answer.pointers(503).is_empty());
    assert!(answer.retry_after.is_some_and(|after| after.parse::<u64>().unwrap() > 0));
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let server = Server::open();
    for (method, path, status) in [
        (Method::GET, "/v1/events/unknown", 404),
        (Method::GET, "/v1/events/no%20id", 400),
        (Method::GET, "/v1/deliveries/dlv_00000000000000000000000000", 404),
        (Method::GET, "/v1/deliveries/nonsense", 400),
        (Method::GET, "/v1/deliveries?limit=0", 400),
        (Method::GET, "/v1/deliveries?limit=501", 400),
        (Method::GET, "/v1/deliveries?state=nonsense", 400),
        (Method::GET, "/v1/deliveries?cursor=nonsense", 400),
        (Method::GET, "/v1/deliveries?stat=dead", 400),
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/v1/events", 405),
    ] {
        let answer = server.call(method, path, &[("host", "localhost")], "").await;
        assert!(answer.pointers(status).is_empty(), "{path}");
    }
    let answer = server.get("/v1/deliveries?state=waiting&limit=500").await;
    assert_eq!((answer.status, answer.body), (200, json!({"items": [], "next_cursor": null})));
}

#[tokio::test]
async fn a_web_page_cannot_drive_a_server_on_loopback() {
    let server = Server::open();
    let host = ("host", "127.0.0.1:8080");
    for (headers, status) in [
        (vec![host, ("content-type", JSON)], 202),
        (vec![host, ("content-type", JSON), ("origin", "http://localhost:8080")], 202),
        (vec![("host", "rebound.example"), ("content-type", JSON)], 403),
        (vec![host, ("content-type", JSON), ("origin", "https://page.example")], 403),
        (vec![host, ("content-type", JSON), ("origin", "null")], 403),
        (vec![host, ("content-type", "text/plain")], 403),
        (vec![host, ("content-type", "application/x-www-form-urlencoded")], 403),
        (vec![host, ("content-type", "multipart/form-data; boundary=x")], 403),
    ] {
        let answer = server.call(Method::POST, "/v1/events", &headers, &event("a")).await;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 403 {
            assert!(answer.pointers(403).is_empty());
        }
    }
    let answer = server.call(Method::GET, "/v1/deliveries", &[("host", "rebound.example")], "").await;
    assert_eq!(answer.status, 403, "nor read it");
}

#[tokio::test]
async fn tokens_decide_who_may_look_and_who_may_publish() {
    let tokens = Tokens { admin: Some(Secret::new("admin")), read: Some(Secret::new("read")) };
    let server = Server::new(StoreLimits::default(), tokens);
    for (method, token, status) in [
        (Method::POST, "Bearer admin", 202),
        (Method::GET, "Bearer admin", 200),
        (Method::POST, "Bearer read", 403),
        (Method::GET, "bearer read", 200),
        (Method::GET, "Bearer other", 401),
        (Method::GET, "Basic admin", 401),
        (Method::POST, "", 401),
    ] {
        let path = if method == Method::POST { "/v1/events" } else { "/v1/deliveries" };
        // A valid token lifts the check of where a request comes from.
        let headers = [("host", "hooks.example"), ("authorization", token), ("content-type", JSON)];
        let answer = server.call(method.clone(), path, &headers, &event("a")).await;
        assert_eq!(answer.status, status, "{method} {token:?}");
    }
}

#[tokio::test]
async fn health_needs_no_token_and_tells_whether_a_worker_runs() {
    let tokens = Tokens { admin: Some(Secret::new("admin")), read: None };
    let server = Server::new(StoreLimits::default(), tokens);
    let host = [("host", "anything.example")];
    assert_eq!(server.call(Method::GET, "/healthz", &host, "").await.status, 200);
    assert_eq!(server.call(Method::GET, "/readyz", &host, "").await.status, 200);
    server.ready.store(false, Ordering::Relaxed);
    assert_eq!(server.call(Method::GET, "/healthz", &host, "").await.status, 200);
    assert_eq!(server.call(Method::GET, "/readyz", &host, "").await.status, 503);
}
