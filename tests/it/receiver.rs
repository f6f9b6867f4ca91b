//! `webhook_receiver` as the documentation page shows it, from a terminal's point of view.

use hookwire_testkit::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Folder;

/// What curl 7.58 sends for the page's command, header by header and in its spelling.
const REQUEST: &str = "POST / HTTP/1.1\r\nHost: localhost:9000\r\nUser-Agent: curl/7.58.0\r\nAccept: */*\r\n\
    Content-Length: 14\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n{\"foo\": \"bar\"}";

const LINES: &str = r#"Host: localhost:9000
User-Agent: curl/7.58.0
Accept: */*
Content-Length: 14
Content-Type: application/x-www-form-urlencoded
Connection: close

{"foo": "bar"}
------------
"#;

#[tokio::test]
async fn p15_p16_p17_the_program_prints_the_pages_lines() {
    let folder = Folder::new();
    let program = Program::start("webhook_receiver", folder.path(), &["--port", "0"]);
    let banner = program.wait_for_output("its banner", |stdout| stdout.ends_with('\n')).await;
    let port = banner.strip_prefix("Listening on port http://localhost:").unwrap();
    let port: u16 = port.strip_suffix(". Stop with CONTROL-C.\n").unwrap().parse().unwrap();

    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nWebhook received!"), "{answer}");

    let ended = program.terminate().await;
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let printed = ended.stdout.strip_prefix(&banner).unwrap();
    let (first, rest) = printed.split_once('\n').unwrap();
    // "[1] Tue, 07 Apr 2020 17:44:02 GMT 127.0.0.1 "POST / HTTP/1.1" 200 -", the date apart.
    let (number, after) = first.split_once(' ').unwrap();
    let (date, request) = after.split_at("Tue, 07 Apr 2020 17:44:02 GMT".len());
    assert_eq!((number, request), ("[1]", r#" 127.0.0.1 "POST / HTTP/1.1" 200 -"#));
    assert!(date.ends_with(" GMT"), "{date}");
    assert_eq!(rest, LINES);
}
