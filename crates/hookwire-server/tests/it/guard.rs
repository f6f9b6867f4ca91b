//! Who may ask.

use std::sync::atomic::Ordering;

use axum::http::Method;
use hookwire_model::Secret;
use hookwire_server::Tokens;

use crate::support::{JSON, Server, Setup, event};

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
        let answer = server.call(Method::POST, "/v1/events", &headers, event("a")).await;
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
    let server = Server::new(Setup { tokens, ..Setup::default() });
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
        let answer = server.call(method.clone(), path, &headers, event("a")).await;
        assert_eq!(answer.status, status, "{method} {token:?}");
    }
}

#[tokio::test]
async fn a_token_for_a_server_without_any_is_told_so() {
    let headers = [("host", "localhost"), ("authorization", "Bearer t")];
    let answer = Server::open().call(Method::GET, "/v1/stats", &headers, "").await;
    assert_eq!(
        (answer.status, &answer.body["detail"]),
        (401, &"this server has no tokens; send none".into())
    );
}

#[tokio::test]
async fn a_server_tells_whether_it_works_on_the_store_that_is_meant() {
    let open = Server::open();
    let named = Server::new(Setup { named: Some("redis://localhost:6379/0".into()), ..Setup::default() });
    for (server, path, status) in [
        (&named, "/healthz", 200),
        (&named, "/healthz?store=redis%3A%2F%2Flocalhost%3A6379%2F0", 200),
        (&named, "/healthz?store=redis%3A%2F%2Flocalhost%3A6379%2F1", 421),
        (&named, "/healthz?store=", 421),
        (&named, "/healthz?probe=1&probe=2", 200),
        (&open, "/healthz?store=memory:", 200),
    ] {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn health_needs_no_token_and_tells_whether_a_worker_runs() {
    let tokens = Tokens { admin: Some(Secret::new("admin")), read: None };
    let server = Server::new(Setup { tokens, ..Setup::default() });
    let host = [("host", "anything.example")];
    assert_eq!(server.call(Method::GET, "/healthz", &host, "").await.status, 200);
    assert_eq!(server.call(Method::GET, "/readyz", &host, "").await.status, 200);
    server.ready.store(false, Ordering::Relaxed);
    assert_eq!(server.call(Method::GET, "/healthz", &host, "").await.status, 200);
    assert_eq!(server.call(Method::GET, "/readyz", &host, "").await.status, 503);
}
