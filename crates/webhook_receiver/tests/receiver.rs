//! The receiver as a client and a reader see it: bytes in, bytes back, lines printed; in this process and as the program.
//!
//! The clock is fixed at the time of the documentation page's example, and clients come from 127.0.0.1, as there.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookwire_model::{Secret, Timestamp};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use webhook_receiver::{Format, Limits, Listeners, Options, banner, serve};

const RECEIVED: &str = "Webhook received!";

/// What curl 7.58 sends for `curl -X POST http://localhost:9000 --data '{"foo": "bar"}'`.
const PAGE_REQUEST: &[u8] =
    b"POST / HTTP/1.1\r\nHost: localhost:9000\r\nUser-Agent: curl/7.58.0\r\nAccept: */*\r\n\
    Content-Length: 14\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{\"foo\": \"bar\"}";

/// What was printed so far, readable while the receiver runs.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn page_clock() -> Timestamp {
    "2020-04-07T17:44:02Z".parse().unwrap()
}

/// Runs `client` against a receiver; gives what it gave, and what was printed.
async fn with_receiver<T>(
    options: Options,
    client: impl AsyncFnOnce(SocketAddr, &Printed) -> T,
) -> (T, String) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listeners = Listeners::try_from(socket).unwrap();
    let address = listeners.local_addr().unwrap();
    let printed = Printed::default();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let client = async {
        let given = client(address, &printed).await;
        drop(stop);
        given
    };
    let (served, given) =
        tokio::join!(serve(listeners, options, page_clock, printed.clone(), shutdown), client);
    served.unwrap();
    (given, printed.text())
}

/// Sends `bytes` on one connection, closes that side, and gives all that came back.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Fails if the receiver has refused the request meanwhile; what it said is read all the same.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// One connection with `bytes` on it: what came back and what was printed.
async fn exchange(options: Options, bytes: &[u8]) -> (String, String) {
    with_receiver(options, async |address, _| send(address, bytes).await).await
}

async fn printed(options: Options, bytes: &[u8]) -> String {
    exchange(options, bytes).await.1
}

fn status_lines(answers: &str) -> Vec<&str> {
    answers.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect()
}

/// Reads until `end` was read.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /hook HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn p16_the_pages_request_prints_the_pages_lines() {
    let (answer, printed) = exchange(Options::default(), PAGE_REQUEST).await;
    // Every byte: the page is a promise.
    assert_eq!(
        printed,
        "[1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 \"POST / HTTP/1.1\" 200 -\n\
         Host: localhost:9000\n\
         User-Agent: curl/7.58.0\n\
         Accept: */*\n\
         Content-Length: 14\n\
         Content-Type: application/x-www-form-urlencoded\n\
         \n\
         {\"foo\": \"bar\"}\n\
         ------------\n"
    );
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nDate: Tue, 07 Apr 2020 17:44:02 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 17\r\nConnection: keep-alive\r\n\r\nWebhook received!"
    );
}

#[tokio::test]
async fn p16_no_headers_leaves_the_header_lines_and_the_blank_line_away() {
    let options = Options { show_headers: false, ..Options::default() };
    insta::assert_snapshot!(printed(options, PAGE_REQUEST).await, @r#"
    [1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "POST / HTTP/1.1" 200 -
    {"foo": "bar"}
    ------------
    "#);
}

#[tokio::test]
async fn p16_any_method_and_target_without_a_body() {
    let requests = [
        "GET /a/b?c=d#e HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
        "BREW-it http://elsewhere/%20 HTTP/1.1\r\n\r\n",
        "DELETE / HTTP/1.0\r\n\r\n",
    ];
    let (answers, printed) = with_receiver(Options::default(), async |address, _| {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(send(address, request.as_bytes()).await);
        }
        answers
    })
    .await;
    for (request, answer) in requests.iter().zip(&answers) {
        assert_eq!(status_lines(answer), ["HTTP/1.1 200 OK"], "{request}");
        assert!(answer.contains("\r\nContent-Length: 17\r\n"), "{answer}");
        assert_eq!(answer.ends_with(RECEIVED), !request.starts_with("HEAD"), "{answer}");
    }
    insta::assert_snapshot!(printed);
}

#[tokio::test]
async fn p16_header_names_values_and_order_are_as_they_were_sent() {
    let request =
        b"GET / HTTP/1.1\r\nhost: x\r\nX-Hook-SIGNATURE:abc\r\nx-a:   two  blanks \t\r\nX-A: again\r\n\
        Empty:\r\nUtf8: \xc4\x9dis\r\nLatin1: caf\xe9\r\nColon: a: b\r\n\r\n";
    insta::assert_snapshot!(printed(Options::default(), request).await, @r#"
    [1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "GET / HTTP/1.1" 200 -
    host: x
    X-Hook-SIGNATURE: abc
    x-a: two  blanks
    X-A: again
    Empty: 
    Utf8: ĝis
    Latin1: café
    Colon: a: b

    ------------
    "#);
}

#[tokio::test]
async fn p16_json_is_indented_and_otherwise_as_it_came() {
    let body = "{\"big\":123456789012345678901234567890,\"one\":1.0,\"u\":\"ĉ\\u0109\",\"list\":[{},[1]]}";
    let request = post("Content-Type: application/cloudevents+json; charset=utf-8\r\n", body.as_bytes());
    insta::assert_snapshot!(printed(Options::default(), &request).await, @r#"
    [1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "POST /hook HTTP/1.1" 200 -
    Host: x
    Content-Type: application/cloudevents+json; charset=utf-8
    Content-Length: 79

    {
        "big": 123456789012345678901234567890,
        "one": 1.0,
        "u": "ĉ\u0109",
        "list": [
            {},
            [
                1
            ]
        ]
    }
    ------------
    "#);
}

#[tokio::test]
async fn p16_other_bodies_are_printed_as_they_are() {
    let json = "Content-Type: application/json\r\n";
    let text = "Content-Type: text/plain\r\n";
    for (headers, body, shown) in [
        (text, &b"{\"a\":1}"[..], "{\"a\":1}\n"),
        ("", b"{\"a\":1}", "{\"a\":1}\n"),
        (json, b"{\"a\":1,}", "{\"a\":1,}\n"),
        (json, b"{}", "{}\n"),
        (json, b"", ""),
        (text, b"two\r\nlines\n", "two\r\nlines\n"),
        (text, "ĝis\trevido".as_bytes(), "ĝis\trevido\n"),
    ] {
        let options = Options { show_headers: false, ..Options::default() };
        let printed = printed(options, &post(headers, body)).await;
        let (_, after_first_line) = printed.split_once('\n').unwrap();
        assert_eq!(after_first_line, format!("{shown}------------\n"), "{headers}{body:?}");
    }
}

#[tokio::test]
async fn p16_what_is_not_text_is_dumped_with_its_length() {
    let request = post("Content-Type: application/json\r\n", b"\x1b[2J{\"a\": \"\xff\"}\x00 and more");
    insta::assert_snapshot!(printed(Options::default(), &request).await, @r#"
    [1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "POST /hook HTTP/1.1" 200 -
    Host: x
    Content-Type: application/json
    Content-Length: 24

    Binary body, 24 bytes:
    00000000  1b 5b 32 4a 7b 22 61 22  3a 20 22 ff 22 7d 00 20  |.[2J{"a": "."}. |
    00000010  61 6e 64 20 6d 6f 72 65                           |and more|
    ------------
    "#);
}

#[tokio::test]
async fn p16_a_chunked_body_is_put_together() {
    let request = b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nContent-Type: application/json\r\n\r\n\
        4;ext=1\r\n{\"a\"\r\n5\r\n:1.0}\r\n0\r\nTrailer: x\r\n\r\n";
    insta::assert_snapshot!(printed(Options::default(), request).await, @r#"
    [1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "POST / HTTP/1.1" 200 -
    Transfer-Encoding: Chunked
    Content-Type: application/json

    {
        "a": 1.0
    }
    ------------
    "#);
}

#[tokio::test]
async fn p16_a_connection_is_kept_and_a_request_is_printed_before_its_answer() {
    let one = post("", b"one");
    let two = post("Connection: close\r\n", b"two");
    let ((), _) = with_receiver(Options::default(), async |address, printed| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&one).await.unwrap();
        read_until(&mut stream, RECEIVED).await;
        assert!(printed.text().ends_with("one\n------------\n"), "{}", printed.text());
        stream.write_all(&two).await.unwrap();
        assert!(rest(&mut stream).await.contains("\r\nConnection: close\r\n"));
        assert!(printed.text().ends_with("two\n------------\n"), "{}", printed.text());
        assert!(printed.text().contains("[2] Tue"));
    })
    .await;
}

#[tokio::test]
async fn p16_pipelined_requests_are_answered_in_order() {
    let stream: Vec<u8> = (0..50).flat_map(|n| post("", format!("body {n}").as_bytes())).collect();
    let (answers, printed) = exchange(Options::default(), &stream).await;
    assert_eq!(answers.matches(RECEIVED).count(), 50);
    let bodies: Vec<&str> = printed.lines().filter(|line| line.starts_with("body ")).collect();
    let expected: Vec<String> = (0..50).map(|n| format!("body {n}")).collect();
    assert_eq!(bodies, expected);
    assert!(printed.contains("[50] "));
}

#[tokio::test]
async fn p16_a_client_that_waits_for_100_continue_gets_it() {
    let (answer, printed) = with_receiver(Options::default(), async |address, _| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
        stream.write_all(head).await.unwrap();
        assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").await.unwrap();
        read_until(&mut stream, RECEIVED).await
    })
    .await;
    assert_eq!(status_lines(&answer), ["HTTP/1.1 200 OK"]);
    assert!(printed.ends_with("\n\nbody\n------------\n"), "{printed}");
}

#[tokio::test]
async fn p17_what_is_no_request_is_refused_and_shown() {
    let requests: [&[u8]; 16] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x1b[31m\r\n\r\n",
        b"GET /\x1b[31m HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHo",
    ];
    let (answers, printed) = with_receiver(Options::default(), async |address, _| {
        let mut answers = Vec::new();
        for request in requests {
            answers.push(send(address, request).await);
        }
        answers.push(send(address, &post("", b"and it goes on")).await);
        answers
    })
    .await;
    let (last, refused) = answers.split_last().unwrap();
    assert!(last.ends_with(RECEIVED), "{last}");
    for answer in refused {
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    }
    insta::assert_snapshot!(printed);
}

#[tokio::test]
async fn p17_heads_and_bodies_are_bounded() {
    let limits = Limits { head_bytes: 1000, body_bytes: 100, ..Limits::default() };
    let long_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A:\r\n".repeat(257));
    let wide = Limits { head_bytes: 10_000, ..limits };
    let endless_target = "x".repeat(100_000);
    let mut chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunks.extend(b"32\r\n01234567890123456789012345678901234567890123456789\r\n".repeat(1000));
    let huge_chunk = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec();
    let mut trailers = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec();
    trailers.extend(b"A: b\r\n".repeat(1000));
    let too_long = "HTTP/1.1 431 Request Header Fields Too Large";
    let too_large = "HTTP/1.1 413 Payload Too Large";
    for (limits, request, status) in [
        (limits, long_head.into_bytes(), too_long),
        (limits, endless_target.into_bytes(), too_long),
        (wide, many_headers.into_bytes(), too_long),
        (limits, trailers, too_long),
        (limits, post("", &[b'x'; 101]), too_large),
        (limits, post("", &vec![b'x'; 20_000_000]), too_large),
        (limits, b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_vec(), too_large),
        (limits, chunks, too_large),
        (limits, huge_chunk, too_large),
        (limits, post("", &[b'x'; 100]), "HTTP/1.1 200 OK"),
    ] {
        let options = Options { limits, ..Options::default() };
        let (answer, printed) = exchange(options, &request).await;
        assert_eq!(status_lines(&answer), [status], "{printed}");
        assert!(printed.starts_with("[1] Tue"), "{printed}");
        assert!(printed.len() < 1000, "{printed}");
    }
}

#[tokio::test]
async fn p17_a_client_that_waits_for_100_continue_with_too_much_is_told_at_once() {
    let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    let (answer, printed) = with_receiver(Options::default(), async |address, _| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head).await.unwrap();
        rest(&mut stream).await
    })
    .await;
    assert_eq!(status_lines(&answer), ["HTTP/1.1 413 Payload Too Large"]);
    assert!(printed.contains("Refused: the body is longer than 10485760 bytes\n"), "{printed}");
}

#[tokio::test]
async fn p17_all_bodies_together_are_bounded() {
    let limits = Limits { bodies_bytes: 16 * 1024, ..Limits::default() };
    let ((), printed) = with_receiver(Options { limits, ..Options::default() }, async |address, printed| {
        // The first body takes most of the room, and its last byte does not come yet.
        let mut first = TcpStream::connect(address).await.unwrap();
        let body = [b'1'; 12 * 1024];
        let request = post("Connection: close\r\n", &body);
        first
            .write_all(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 12288\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut first, "\r\n\r\n").await;
        first.write_all(&body[..12 * 1024 - 1]).await.unwrap();

        // Whether the receiver has read it is not to be seen from here, but it answers 503 as soon as it has.
        loop {
            let answer = send(address, &request).await;
            if status_lines(&answer) == ["HTTP/1.1 503 Service Unavailable"] {
                break;
            }
        }
        assert!(send(address, &post("", b"small ones still have room")).await.ends_with(RECEIVED));
        first.write_all(b"1").await.unwrap();
        read_until(&mut first, RECEIVED).await;
        drop(first);
        assert!(send(address, &request).await.ends_with(RECEIVED), "the room was given back");
        assert!(printed.text().contains("Refused: too many large bodies at once"));
    })
    .await;
    assert!(printed.contains("more than 16384 bytes together\n"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn p17_a_request_that_drips_is_ended_at_its_deadline() {
    for (begun, line) in [
        (&b"GET / HT"[..], "GET / HT"),
        (b"GET / HTTP/1.1\r\nX: y", "GET / HTTP/1.1"),
        (b"POST /hook HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc", "POST /hook HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1", "POST / HTTP/1.1"),
    ] {
        let (answer, printed) = with_receiver(Options::default(), async |address, _| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(begun).await.unwrap();
            rest(&mut stream).await
        })
        .await;
        assert_eq!(status_lines(&answer), ["HTTP/1.1 408 Request Timeout"], "{line}");
        assert!(printed.contains("Refused: the request was not complete after 30000 ms\n"), "{printed}");
        assert!(printed.contains(&format!("\"{line}\" 408 -\n")), "{printed}");
    }
}

#[tokio::test(start_paused = true)]
async fn p17_a_silent_connection_is_closed_and_not_shown() {
    let (answer, printed) = with_receiver(Options::default(), async |address, _| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\r\n\r\n").await.unwrap();
        let begin = tokio::time::Instant::now();
        let answer = rest(&mut stream).await;
        assert!(begin.elapsed() >= Limits::default().idle);
        answer
    })
    .await;
    assert_eq!((answer, printed), (String::new(), String::new()));
}

#[tokio::test]
async fn p17_connections_are_bounded_and_the_next_one_waits() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let ((), _) = with_receiver(Options { limits, ..Options::default() }, async |address, printed| {
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(&post("", b"first")).await.unwrap();
        read_until(&mut first, RECEIVED).await;

        let second = send(address, b"GET /second HTTP/1.1\r\n\r\n");
        let end_first = async {
            first.write_all(&post("Connection: close\r\n", b"first again")).await.unwrap();
            rest(&mut first).await;
            assert!(!printed.text().contains("/second"), "{}", printed.text());
            drop(first);
        };
        let (second, ()) = tokio::join!(second, end_first);
        assert!(second.ends_with(RECEIVED), "{second}");
    })
    .await;
}

#[tokio::test]
async fn scripted_answers_come_in_order_and_the_last_repeats() {
    let options = Options {
        script: "500,204,close,503".parse().unwrap(),
        answer_headers: vec!["Retry-After: 7".parse().unwrap()],
        show_headers: false,
        ..Options::default()
    };
    let (answers, printed) = with_receiver(options, async |address, _| {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(send(address, b"GET / HTTP/1.1\r\n\r\n").await);
            // What is refused takes no step of the script.
            send(address, b"no request\r\n\r\n").await;
        }
        answers
    })
    .await;
    insta::assert_snapshot!(answers.join("\n=======\n").replace('\r', ""));
    let statuses: Vec<&str> =
        printed.lines().filter_map(|line| line.split_once("HTTP/1.1\" ")).map(|l| l.1).collect();
    assert_eq!(statuses, ["500 -", "204 -", "- -", "503 -", "503 -"]);
}

#[tokio::test]
async fn an_answer_has_one_content_type() {
    for (header, line) in [
        ("X-A: 1", "Content-Type: text/plain; charset=utf-8"),
        ("Content-Type: application/json", "Content-Type: application/json"),
        ("content-type: text/html", "content-type: text/html"),
    ] {
        let options = Options { answer_headers: vec![header.parse().unwrap()], ..Options::default() };
        let (answer, _) = exchange(options, PAGE_REQUEST).await;
        let types: Vec<&str> =
            answer.lines().filter(|line| line.to_ascii_lowercase().starts_with("content-type:")).collect();
        assert_eq!(types, [line]);
    }
}

#[tokio::test]
async fn a_hanging_answer_ends_when_the_client_gives_up() {
    let options = Options { script: "hang,200".parse().unwrap(), ..Options::default() };
    let (answers, printed) = with_receiver(options, async |address, _| {
        // `send` closes its side and so gives up.
        let first = send(address, b"GET /first HTTP/1.1\r\n\r\n").await;
        (first, send(address, b"GET /second HTTP/1.1\r\n\r\n").await)
    })
    .await;
    assert_eq!(answers.0, "");
    assert!(answers.1.ends_with(RECEIVED));
    assert!(printed.contains("\"GET /first HTTP/1.1\" - -\n"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_after_printing_and_before_the_answer() {
    let options = Options { delay: Duration::from_secs(2), ..Options::default() };
    let begin = tokio::time::Instant::now();
    let (answer, _) = exchange(options, PAGE_REQUEST).await;
    assert!(answer.ends_with(RECEIVED));
    let took = begin.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn shutdown_cuts_a_delay_short_and_closes_idle_connections() {
    let options = Options { delay: Duration::from_secs(3600), ..Options::default() };
    let ((mut idle, mut waiting), printed) = with_receiver(options, async |address, printed| {
        let idle = TcpStream::connect(address).await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        waiting.write_all(PAGE_REQUEST).await.unwrap();
        while printed.text().is_empty() {
            tokio::task::yield_now().await;
        }
        (idle, waiting)
    })
    .await;
    assert_eq!(rest(&mut idle).await, "");
    let answer = rest(&mut waiting).await;
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with(RECEIVED), "{answer}");
    assert_eq!(printed.matches("------------").count(), 1);
}

#[tokio::test]
async fn output_that_fails_ends_the_receiver_with_the_cause() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let listeners = Listeners::bind(None, 0).await.unwrap();
    let address = listeners.local_addr().unwrap();
    let serve = serve(listeners, Options::default(), page_clock, Full, std::future::pending());
    let (served, answer) = tokio::join!(serve, async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PAGE_REQUEST).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end: what counts is that no answer came.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    });
    assert_eq!(served.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(answer, b"", "what was not shown is not answered");
}

/// A request that hookwire could send, signed for the secrets `s3cret` and `whsec_...` of the tests.
fn delivery(id: &str, signature: &str) -> Vec<u8> {
    post(&format!("webhook-id: {id}\r\nX-Hook-Signature: {signature}\r\n"), br#"{"foo": "bar"}"#)
}

/// `printf '{"foo": "bar"}' | openssl dgst -sha512 -hmac s3cret`
const SIGNATURE: &str = "8642a6c30f2124cc2ae2ebd828b36467e78d7fdb19d8bbf01421792028f527b66fc0a739d7fe794f4a06d444728dc0f33541ab9d5f2e7ef646ee0237bda6dc17";

#[tokio::test]
async fn signatures_and_repeats_are_told_when_asked() {
    let options = Options {
        secrets: vec![Secret::new("s3cret")],
        tell_repeats: true,
        script: "500,200".parse().unwrap(),
        show_headers: false,
        ..Options::default()
    };
    let stream = [
        delivery("dl_1", SIGNATURE),
        delivery("dl_1", SIGNATURE),
        delivery("dl_1", "00"),
        post("", b"not signed, no id"),
    ]
    .concat();
    insta::assert_snapshot!(printed(options, &stream).await);
    let plain = printed(Options::default(), &stream).await;
    assert!(!plain.contains("\nSignature: ") && !plain.contains("\nDuplicate: "), "{plain}");
}

#[tokio::test]
async fn json_lines_tell_everything() {
    let options = Options {
        format: Format::JsonLines,
        secrets: vec![Secret::new("s3cret")],
        script: "200,close".parse().unwrap(),
        ..Options::default()
    };
    let stream =
        [delivery("dl_1", SIGNATURE), b"GET / HTTP/1.1\r\nX: \xe9\r\nContent-Length: 1\r\n\r\n\xff".to_vec()]
            .concat();
    let ((), printed) = with_receiver(options, async |address, _| {
        send(address, &stream).await;
        send(address, &delivery("dl_1", "00")).await;
        send(address, b"nothing\r\n\r\n").await;
    })
    .await;
    for line in printed.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value.is_object());
    }
    insta::assert_snapshot!(printed);
}

/// The built program.
struct Program {
    child: Child,
    banner: String,
    port: u16,
}

impl Program {
    async fn start(args: &[&str]) -> Program {
        let mut child = command(args).spawn().unwrap();
        let mut banner = String::new();
        // Reads byte by byte, so that nothing after the banner gets lost in a buffer.
        while !banner.ends_with('\n') {
            banner.push(char::from(child.stdout.as_mut().unwrap().read_u8().await.unwrap()));
        }
        let port = banner.trim_start_matches("Listening on port http://localhost:");
        let port = port.split('.').next().unwrap().parse().unwrap_or_else(|_| panic!("{banner}"));
        Program { child, banner, port }
    }

    #[cfg(unix)]
    async fn end(mut self, signal: &str) -> (String, Option<i32>) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        let mut printed = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut printed).await.unwrap();
        (printed, self.child.wait().await.unwrap().code())
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhook_receiver"));
    command.args(args).env_remove("WEBHOOK_RECEIVER_SECRET").kill_on_drop(true);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    command
}

#[cfg(unix)]
#[tokio::test]
async fn p15_p16_the_program_prints_banner_and_request_and_ends_cleanly() {
    for signal in ["-INT", "-TERM"] {
        let program = Program::start(&["--port", "0"]).await;
        assert_eq!(program.banner, format!("{}\n", banner(program.port)));
        let answer = send((Ipv4Addr::LOCALHOST, program.port).into(), PAGE_REQUEST).await;
        assert!(answer.ends_with(RECEIVED), "{answer}");
        let (printed, code) = program.end(signal).await;
        assert_eq!(code, Some(0), "{signal}");
        let (first, rest) = printed.split_once('\n').unwrap();
        assert!(
            first.starts_with("[1] ") && first.ends_with(" GMT 127.0.0.1 \"POST / HTTP/1.1\" 200 -"),
            "{first}"
        );
        assert!(
            rest.starts_with("Host: localhost:9000\nUser-Agent: ") && rest.ends_with("\n------------\n"),
            "{rest}"
        );
    }
}

#[tokio::test]
async fn p15_a_taken_port_is_told_with_the_remedy_and_69() {
    let program = Program::start(&["--port", "0"]).await;
    let port = program.port.to_string();
    let output = command(&["--port", &port]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(69));
    let message = String::from_utf8(output.stderr).unwrap().replace(&port, "PORT");
    insta::assert_snapshot!(message, @"webhook_receiver: cannot listen on port PORT; stop what uses it, or choose another with --port: Address already in use (os error 98)");
    assert_eq!(output.stdout, b"");
}

#[tokio::test]
async fn wrong_arguments_end_with_2() {
    for args in [&["--port", "70000"][..], &["--status", "ok"], &["extra"]] {
        let output = command(args).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(output.stdout, b"");
    }
}

#[tokio::test]
async fn json_output_keeps_the_banner_on_stderr() {
    let mut child = command(&["--port", "0", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let banner = lines.next_line().await.unwrap().unwrap();
    let port = banner.split(['/', ':', '.']).find_map(|part| part.parse::<u16>().ok()).unwrap();
    send((Ipv4Addr::LOCALHOST, port).into(), PAGE_REQUEST).await;
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["body"], r#"{"foo": "bar"}"#);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let mut program = Program::start(&["--port", "0"]).await;
    drop(program.child.stdout.take());
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, program.port)).await.unwrap();
    // A process that another test starts at this moment may hold a copy of the pipe until it runs its program, so that
    // the first requests can still be printed.
    let mut answer = [0; 1024];
    while stream.write_all(PAGE_REQUEST).await.is_ok()
        && stream.read(&mut answer).await.is_ok_and(|read| read > 0)
    {}
    assert_eq!(program.child.wait().await.unwrap().code(), Some(0));
}
