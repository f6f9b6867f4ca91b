//! Whatever a server answers, or does in place of an answer, has an outcome.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use hookwire_dispatch::{Dial, Dispatch, DispatchSettings, HttpDispatcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::{Net, Reply, attempt, options, post, summary};

/// Name, whether the server closes the connection afterwards, and what it sends.
fn cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let many_headers: String = (0..90).map(|number| format!("X-{number}: 1\r\n")).collect();
    let too_many_headers: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let owned = |name, closes, text: &str| (name, closes, text.as_bytes().to_vec());
    vec![
        // Answers.
        owned("empty", false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        owned("no content", false, "HTTP/1.1 204 No Content\r\n\r\n"),
        owned("with a body", false, "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone"),
        owned("no reason phrase", false, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        owned("chunked", false, &format!("{chunked}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n")),
        owned("until the end", true, "HTTP/1.1 200 OK\r\n\r\nto the end"),
        owned("HTTP/1.0", true, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold"),
        owned("closes", true, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        owned(
            "continue first",
            false,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        owned(
            "hints first",
            false,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        owned(
            "switches protocols",
            false,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
        owned("redirect", false, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"),
        owned("refuses", false, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        owned("gone", false, "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"),
        owned(
            "too many",
            false,
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
        ),
        owned(
            "later",
            false,
            "HTTP/1.1 503 Busy\r\nretry-after: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n",
        ),
        owned("odd status", false, "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"),
        owned(
            "not decoded",
            false,
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
        ),
        // Answers that are written badly, and are answers.
        owned("bare newlines", false, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        owned("space before colon", false, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
        owned("folded header", false, "HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 2\r\n\r\nok"),
        owned("broken header", false, "HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\nok"),
        ("Latin-1 header", false, b"HTTP/1.1 200 OK\r\nX-A: \xe9\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        owned(
            "many headers",
            false,
            &format!("HTTP/1.1 200 OK\r\n{many_headers}Content-Length: 2\r\n\r\nok"),
        ),
        // Bodies that break off, or do not end.
        owned("short body", true, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        owned("short body of an error", true, "HTTP/1.1 500 Error\r\nContent-Length: 10\r\n\r\nhalf"),
        owned("no last chunk", true, &format!("{chunked}3\r\nabc\r\n")),
        owned("broken chunk", true, &format!("{chunked}3\r\nabc\r\nzz\r\n")),
        ("long body", true, [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 40_000]].concat()),
        (
            "longer than is read",
            false,
            [b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n".to_vec(), vec![b'x'; 500_000]].concat(),
        ),
        // No answers.
        owned("closed", true, ""),
        owned("half a head", true, "HTTP/1.1 200 OK\r\nContent-Le"),
        owned("another protocol", true, "SSH-2.0-OpenSSH_9.2\r\n"),
        owned("garbage", true, "\0\0\u{1}\u{2}garbage\r\n\r\n"),
        owned("HTTP/2", true, "\0\0\u{12}\u{4}\0\0\0\0\0"),
        owned("no status", true, "HTTP/1.1 abc Status\r\n\r\n"),
        owned("two lengths", true, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        owned("bad length", true, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        owned("too many headers", true, &format!("HTTP/1.1 200 OK\r\n{too_many_headers}\r\n")),
        (
            "huge head",
            true,
            [b"HTTP/1.1 200 OK\r\nX-A: ".to_vec(), vec![b'x'; 100_000], b"\r\n\r\n".to_vec()].concat(),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_an_outcome() {
    let mut lines = Vec::new();
    for (name, closes, bytes) in cases() {
        let net = Net::new([if closes { Reply::SendAndClose(bytes) } else { Reply::Send(bytes) }]);
        let report = attempt(&net, &post("http://127.0.0.1:9000/"), &options()).await;
        assert_eq!(net.received().len(), 1, "{name}");
        lines.push(format!("{name}: {}", summary(&report)));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_request_was_taken_counts() {
    // More than the pipe holds, to a server that answers after the head alone.
    let mut request = post("http://127.0.0.1:9000/");
    request.body = vec![b'x'; 4 * 1024 * 1024].into();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dial = OneStream::new(near);
    let server = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut first = [0; 1024];
        reader.read_exact(&mut first).await.unwrap();
        writer.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").await.unwrap();
        // The rest is never read; the pipe stays open until the client closes it.
        std::future::pending::<()>().await;
    });
    let dispatcher = HttpDispatcher::with_dial(DispatchSettings::default(), dial);
    let report = dispatcher.attempt(&request, &options()).await;
    assert_eq!(summary(&report), "rejected 413; body \"big\"");
    assert_eq!(dispatcher.idle_connections(), 0, "half a request was sent over it");
    server.abort();
}

/// Gives the one stream that it has.
struct OneStream(Mutex<Option<DuplexStream>>);

impl OneStream {
    fn new(stream: DuplexStream) -> Self {
        OneStream(Mutex::new(Some(stream)))
    }
}

impl Dial for OneStream {
    type Stream = DuplexStream;

    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![])
    }

    async fn connect(&self, _address: SocketAddr) -> io::Result<Self::Stream> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}
