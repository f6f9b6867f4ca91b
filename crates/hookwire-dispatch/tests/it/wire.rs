//! What goes over the wire, and real sockets.

use std::sync::Arc;

use bytes::Bytes;
use hookwire_dispatch::{Dispatch, DispatchSettings, HttpDispatcher};
use hookwire_model::{Method, OutcomeKind};
use tokio::io::BufReader;
use tokio::net::TcpListener;

use crate::support::{Net, Reply, attempt, options, post, summary};

#[tokio::test]
async fn the_request_as_the_server_gets_it() {
    let net = Net::new([]);
    let mut request = post("http://127.0.0.1:9000/hook");
    request.target = "/hook?name=a%20b".into();
    request.headers.extend([
        ("webhook-id".into(), Bytes::from_static(b"dlv_1")),
        ("X-Object".into(), Bytes::from_static(b"Z\xfcrich")),
        ("x-object".into(), Bytes::from_static(b"second")),
    ]);
    attempt(&net, &request, &options()).await;
    request.method = Method::Get;
    request.authority.port = 80;
    request.body = Bytes::new();
    attempt(&net, &request, &options()).await;
    let received = net.received();
    let text: Vec<_> = received
        .iter()
        .map(|request| format!("{}{}", request.head, String::from_utf8_lossy(&request.body)))
        .collect();
    insta::assert_snapshot!(text.join("\n----\n").replace('\r', ""));
}

#[tokio::test]
async fn real_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let net = Net::new([Reply::response(200, "", "hello")]);
    let server = tokio::spawn({
        let net = net.clone();
        async move {
            loop {
                let (stream, from) = listener.accept().await.unwrap();
                tokio::spawn(net.clone().serve(from, stream));
            }
        }
    });
    let dispatcher = HttpDispatcher::new(DispatchSettings::default());
    for url in [format!("http://localhost:{}/", address.port()), format!("http://{address}/")] {
        let report = dispatcher.attempt(&post(&url), &options()).await;
        assert_eq!(report.outcome.kind(), OutcomeKind::Succeeded, "{url}: {}", summary(&report));
        assert_eq!(report.address, Some(address), "{url}");
    }
    assert_eq!(dispatcher.idle_connections(), 2);
    server.abort();
    let _ = server.await;

    // The listener is closed now, and so are its connections; the port is the kernel's to refuse.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let report = dispatcher.attempt(&post(&format!("http://{closed}/")), &options()).await;
    let text = summary(&report);
    assert!(text.starts_with("unanswered; connect: no connection: 127.0.0.1:"), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

/// All wake-ups arrive: many attempts at once over few connections, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let body = "x".repeat(3_000);
    let replies = std::iter::repeat_with(|| Reply::response(200, "", &body)).take(32 * 40);
    let net = Net::new(replies);
    tokio::spawn({
        let net = net.clone();
        async move {
            loop {
                let (stream, from) = listener.accept().await.unwrap();
                tokio::spawn(net.clone().serve(from, BufReader::new(stream)));
            }
        }
    });
    let dispatcher = Arc::new(HttpDispatcher::new(DispatchSettings::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (dispatcher, url) = (dispatcher.clone(), url.clone());
        tasks.spawn(async move {
            for _ in 0..40 {
                let report = dispatcher.attempt(&post(&url), &options()).await;
                assert_eq!(report.outcome.kind(), OutcomeKind::Succeeded, "{}", summary(&report));
                assert_eq!(report.response.unwrap().body_base64.len(), 3_000);
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    let connections = net.connections().into_iter().max().unwrap();
    assert!(connections <= 32, "{connections} connections for 32 attempts at a time");
    assert_eq!(dispatcher.idle_connections(), connections);
}
