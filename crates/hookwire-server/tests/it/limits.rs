//! What requests and connections may cost: bytes, time and number.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Method;
use bytes::Bytes;
use hookwire_server::{ApiLimits, ServeLimits, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{HOST, JSON, Server, Setup, event};

/// A body that comes as it is sent here.
fn dripping() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let stream = futures_util::stream::unfold(receiver, async |mut receiver| {
        let bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(bytes), receiver))
    });
    (sender, Body::from_stream(stream))
}

/// So many bytes that are one event.
fn event_of(id: &str, bytes: usize) -> String {
    let event = event(id);
    let padding = " ".repeat(bytes - event.len());
    event + &padding
}

/// A server whose events may be as large as its requests.
fn server() -> Server {
    let setup = Setup::default();
    let limits = ApiLimits { event_bytes_max: 1000, ..setup.limits };
    Server::new(Setup { limits, ..setup })
}

#[tokio::test]
async fn bodies_on_their_way_in_count_together_and_a_full_house_asks_to_come_back() {
    let server = server();
    let (drip, body) = dripping();
    let headers = [HOST, ("content-type", JSON)];
    let slow = server.call(Method::POST, "/v1/events", &headers, body);
    let others = async {
        // Once the second piece is taken, the first one is held: 900 of 1500 bytes.
        let (first, last) = (event_of("slow", 900), Bytes::from_static(b" "));
        drip.send(first.into()).await.unwrap();
        drip.send(last.clone()).await.unwrap();
        drip.send(last).await.unwrap();
        let refused = server.publish(&event_of("b", 700)).await;
        assert!(refused.pointers(429).is_empty());
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(server.publish(&event_of("c", 400)).await.status, 202, "what fits is taken");
        drop(drip);
    };
    let (slow, ()) = tokio::join!(slow, others);
    assert_eq!(slow.status, 202);
    assert_eq!(server.publish(&event_of("b", 700)).await.status, 202, "there is room again");
    assert_eq!(server.queued().await, 3);
}

#[tokio::test]
async fn whatever_becomes_of_a_request_its_room_is_free_again() {
    let server = server();
    for round in 0..5 {
        // Too large, broken off by its client, and not to be read.
        assert!(server.publish(&"x".repeat(1001)).await.pointers(413).is_empty());
        let (drip, body) = dripping();
        let call = server.call(Method::POST, "/v1/events", &[HOST, ("content-type", JSON)], body);
        let send = async {
            drip.send(event_of("x", 900).into()).await.unwrap();
            drip.send(Bytes::from_static(b" ")).await.unwrap();
            drip.send(Bytes::from_static(b" ")).await.unwrap();
        };
        tokio::select! {
            answer = call => panic!("{answer:?}"),
            () = send => {}
        }
        assert_eq!(server.publish(&"x".repeat(900)).await.pointers(400), [""]);
        assert_eq!(server.publish(&event_of(&round.to_string(), 1000)).await.status, 202);
    }
}

#[tokio::test]
async fn many_clients_at_once_are_taken_or_told_to_come_back_and_nothing_in_between() {
    let server = server();
    let router = server.router.clone();
    let mut clients = JoinSet::new();
    for client in 0..100 {
        let router = router.clone();
        clients.spawn(async move {
            let (drip, body) = dripping();
            let request = axum::http::Request::post("/v1/events")
                .header("host", "localhost")
                .header("content-type", JSON)
                .body(body)
                .unwrap();
            let send = async move {
                for piece in event_of(&format!("client-{client}"), 600).as_bytes().chunks(100) {
                    let _ = drip.send(Bytes::copy_from_slice(piece)).await;
                }
            };
            let answer = tower::ServiceExt::oneshot(router, request);
            tokio::join!(answer, send).0.unwrap().status().as_u16()
        });
    }
    let mut statuses = clients.join_all().await;
    statuses.sort_unstable();
    let taken = statuses.iter().filter(|status| **status == 202).count();
    assert!(statuses.iter().all(|status| [202, 429].contains(status)), "{statuses:?}");
    assert!(taken > 0 && taken < 100, "{taken} of 100 were taken");
    assert_eq!(server.queued().await, taken as u64);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let server = server();
    let (drip, body) = dripping();
    drip.send(Bytes::from_static(b"{")).await.unwrap();
    let answer = server.call(Method::POST, "/v1/events", &[HOST, ("content-type", JSON)], body).await;
    assert!(answer.pointers(408).is_empty());
    assert_eq!(answer.header("connection"), Some("close"));
    drop(drip);
}

#[tokio::test]
async fn a_batch_of_too_many_events_is_refused_whole() {
    let server = Server::new(Setup {
        limits: ApiLimits { request_events_max: 3, ..Setup::default().limits },
        ..Setup::default()
    });
    let events = |count| (0..count).map(|id| event(&id.to_string())).collect::<Vec<_>>();
    let batch = json!(vec![json!({"specversion": "1.0"}); 4]).to_string();
    for body in [events(4).join("\n"), format!("[{}]", events(4).join(","))] {
        assert_eq!(server.publish(&body).await.pointers(413), ["/3"]);
    }
    let headers = [HOST, ("content-type", "application/cloudevents-batch+json")];
    assert_eq!(server.call(Method::POST, "/v1/events", &headers, batch).await.pointers(413), ["/3"]);
    assert_eq!(server.queued().await, 0);
    assert_eq!(server.publish(&events(3).join("\n")).await.status, 202);
}

#[tokio::test]
async fn a_batch_of_nothing_but_mistakes_is_answered_in_bounds() {
    let limits = ApiLimits {
        request_bytes_max: 10_000,
        request_events_max: 1000,
        held_bytes_max: 10_000,
        ..Setup::default().limits
    };
    let server = Server::new(Setup { limits, ..Setup::default() });
    let answer = server.publish(&"{}\n".repeat(1000)).await;
    let pointers = answer.pointers(400);
    assert!((100..110).contains(&pointers.len()), "{}", pointers.len());
}

/// The API behind a listener of its own.
struct Listening {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Listening {
    async fn start(server: &Server, limits: ServeLimits) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(listener, server.router.clone(), limits, shutdown));
        Listening { address, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Everything that comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The status of an answer, and its body.
fn parsed(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_client_that_sends_too_much_gets_its_answer_and_no_reset() {
    let server = Server::open();
    let listening = Listening::start(&server, ServeLimits::default()).await;
    let body = "x".repeat(300_000);
    for framing in [
        format!("content-length: {}\r\n\r\n{body}", body.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    ] {
        let mut client = listening.connect().await;
        let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
        client.write_all(format!("{head}{framing}").as_bytes()).await.unwrap();
        let (status, problem) = parsed(&rest(&mut client).await);
        assert_eq!((status, &problem["title"]), (413, &json!("too large")));
    }
    // One that asks first is told before it sends anything.
    let mut client = listening.connect().await;
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 300000\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn slow_and_silent_clients_do_not_keep_others_out() {
    let server = Server::open();
    let head_timeout = Duration::from_millis(200);
    let limits = ServeLimits { connections_max: 2, head_timeout, ..ServeLimits::default() };
    let listening = Listening::start(&server, limits).await;
    let begun = Instant::now();
    let mut silent = listening.connect().await;
    let mut slow = listening.connect().await;
    slow.write_all(b"GET /healthz HT").await.unwrap();
    // Both places are taken, so that this one has to wait until the others are closed.
    let mut client = listening.connect().await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    assert!(begun.elapsed() >= head_timeout, "{:?}", begun.elapsed());
    assert_eq!(rest(&mut silent).await, "");
    let told = rest(&mut slow).await;
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408 "), "{told}");
}

#[tokio::test]
async fn a_client_that_takes_no_answer_does_not_keep_others_out() {
    let server = Server::open();
    let write_timeout = Duration::from_millis(200);
    let limits = ServeLimits { connections_max: 1, write_timeout, ..ServeLimits::default() };
    let listening = Listening::start(&server, limits).await;
    let mut deaf = listening.connect().await;
    // Far more answers than sockets hold; what of the requests is not taken either stays here.
    let requests = "GET /v1/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2_000);
    let asking = tokio::spawn(async move {
        let _ = deaf.write_all(requests.as_bytes()).await;
        deaf
    });
    let mut client = listening.connect().await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
    drop(asking.await.unwrap());
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = Server::open();
    let listening = Listening::start(&server, ServeLimits::default()).await;
    let mut client = listening.connect().await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: {}", "x".repeat(65_536));
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_listener_ends() {
    let server = Server::open();
    let listening = Listening::start(&server, ServeLimits::default()).await;
    let mut client = listening.connect().await;
    let body = event("late");
    let head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    client
        .write_all(format!("{head}expect: 100-continue\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())
        .await
        .unwrap();
    // The server asks for the body, so the request is under way.
    let mut asked = [0; 25];
    client.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    // A connection that is kept open is closed at once, and keeps nobody.
    let mut idle = listening.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    while idle.read_u8().await.unwrap() != b'k' {}
    let Listening { address, stop, serving } = listening;
    stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "\n", "the end of \"ok\"");
    client.write_all(body.as_bytes()).await.unwrap();
    let (status, published) = parsed(&rest(&mut client).await);
    assert_eq!((status, &published["ids"]), (202, &json!(["late"])));
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
