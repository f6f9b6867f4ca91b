//! HTTP/1.0 and HTTP/1.1 as the server's side of one connection: reads requests with their spelling kept, writes answers.
//!
//! Invariants:
//! - Nothing is read without a limit in bytes; time is the caller's matter ([`crate::connection`]).
//! - Bytes after one request are kept for the next (pipelining).
//! - A request whose end can be read in two ways (RFC 9112, section 6.3) is refused, never guessed.
//!
//! Absences: no trailers (read and dropped), no content decoding (a compressed body is shown as it came), no upgrade.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::options::Limits;

const MAX_HEADERS: usize = 256;
/// One read of a head or of chunk framing.
const READ_BYTES: usize = 16 * 1024;
/// One read of a body.
const BODY_STEP: usize = 64 * 1024;
/// A chunk-size line with its extensions, which nobody uses.
const CHUNK_LINE_BYTES: usize = 1024;
/// The unit of the budget for bodies: a semaphore counts in 32 bits when it is asked for many permits.
const BUDGET_UNIT: usize = 1024;
/// How much of a refused request's rest is read and dropped, so that the answer is not lost in a reset of the connection.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;
/// As much of a refused request's first line is shown.
const SHOWN_LINE_BYTES: usize = 200;

/// A request, complete.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub(crate) minor: u8,
    /// In order and spelling as they came; values without the blanks around them.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// May another request follow on this connection?
    pub(crate) keep_alive: bool,
    /// The body's share of the budget, given back when the request is dropped.
    _room: Room,
}

impl Request {
    /// The first header of this name, in any spelling.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        header(&self.headers, name)
    }

    /// All headers of this name, in any spelling.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.headers, name)
    }
}

/// A request that was not taken.
pub(crate) struct Refused {
    /// The request's first line, as far as it came; empty if there is none to show.
    pub(crate) line: Vec<u8>,
    pub(crate) refusal: Refusal,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this is no HTTP request: {0}")]
    Malformed(&'static str),
    #[error("this looks like TLS, and the receiver speaks plain HTTP: use http:// in the URL")]
    Tls,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    #[error("the request line and headers are longer than {0} bytes")]
    HeadTooLong(usize),
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
    #[error("the body is longer than {0} bytes")]
    BodyTooLong(usize),
    #[error("no other Transfer-Encoding than `chunked` is known here")]
    TransferEncoding,
    #[error("no other expectation than `100-continue` is known here")]
    Expectation,
    #[error("too many large bodies at once: more than {0} bytes together")]
    Busy(usize),
    #[error("the request was not complete after {} ms", .0.as_millis())]
    TooSlow(std::time::Duration),
    #[error("the connection ended before the request was complete")]
    CutOff,
}

impl Refusal {
    pub(crate) fn status(self) -> http::StatusCode {
        use http::StatusCode;
        match self {
            Refusal::Malformed(_) | Refusal::Tls | Refusal::CutOff => StatusCode::BAD_REQUEST,
            Refusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Refusal::HeadTooLong(_) | Refusal::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::BodyTooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
            Refusal::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// An answer, ready to be written.
pub(crate) struct Response {
    pub(crate) status: http::StatusCode,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// The room that all bodies together have.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        let units = bytes.div_ceil(BUDGET_UNIT).min(Semaphore::MAX_PERMITS);
        Budget { units: Arc::new(Semaphore::new(units)), bytes }
    }
}

/// One body's share of a [`Budget`]; it grows with the body.
#[derive(Default)]
struct Room {
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes the share large enough for a body of `bytes`.
    fn cover(&mut self, budget: &Budget, bytes: usize) -> Result<(), Refusal> {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(BUDGET_UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing)
            .ok()
            .and_then(|missing| Arc::clone(&budget.units).try_acquire_many_owned(missing).ok())
            .ok_or(Refusal::Busy(budget.bytes))?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// The server's side of one connection.
pub(crate) struct Wire<S> {
    stream: S,
    buffer: BytesMut,
    limits: Limits,
    budget: Budget,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, limits: Limits, budget: Budget) -> Wire<S> {
        Wire { stream, buffer: BytesMut::new(), limits, budget }
    }

    /// Waits for the first byte of a request; false if the connection ended instead.
    ///
    /// Empty lines before a request are skipped (RFC 9112, section 2.2). Cancel safe.
    pub(crate) async fn wait_for_request(&mut self) -> bool {
        loop {
            let blank = self.buffer.iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
            self.buffer.advance(blank);
            if !self.buffer.is_empty() {
                return true;
            }
            if self.read_more().await.is_err() {
                return false;
            }
        }
    }

    /// Reads one request, whose first byte has come. `line` gets what there is of its first line as soon as the head ends
    /// or can't be read, so that the caller can show it even if this future is dropped for taking too long.
    ///
    /// Not cancel safe: a dropped future leaves the connection in the middle of a request.
    pub(crate) async fn read_request(&mut self, line: &mut Vec<u8>) -> Result<Request, Refusal> {
        let head = self.read_head(line).await?;
        let framing = head.framing()?;
        if let Framing::Length(length) = framing
            && length > self.limits.body_bytes as u64
        {
            return Err(Refusal::BodyTooLong(self.limits.body_bytes));
        }
        let waits_for_continue = head.expects_continue()? && framing != Framing::Length(0);
        if waits_for_continue && self.buffer.is_empty() {
            let written = async {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                self.stream.flush().await
            };
            written.await.map_err(|_| Refusal::CutOff)?;
        }
        let mut body = Vec::new();
        let mut room = Room::default();
        match framing {
            Framing::Length(length) => self.read_body(&mut body, &mut room, length).await?,
            Framing::Chunked => self.read_chunks(&mut body, &mut room).await?,
        }
        let keep_alive = head.keep_alive();
        let Head { method, target, minor, headers } = head;
        Ok(Request { method, target, minor, headers, body, keep_alive, _room: room })
    }

    /// What there is of the first line of a request whose head did not come to its end.
    pub(crate) fn line_so_far(&self) -> &[u8] {
        first_line(&self.buffer)
    }

    async fn read_head(&mut self, line: &mut Vec<u8>) -> Result<Head, Refusal> {
        let head = self.read_head_bytes().await;
        if head != Err(Refusal::Tls) {
            line.extend_from_slice(first_line(&self.buffer));
        }
        let bytes = self.buffer.split_to(head?);
        parse_head(&bytes)
    }

    /// Reads until the head is in the buffer; gives its length.
    async fn read_head_bytes(&mut self) -> Result<usize, Refusal> {
        let mut scanned = 0;
        loop {
            // The first byte of a TLS record with a handshake; its end would never look like the end of a head.
            if self.buffer.first() == Some(&0x16) {
                return Err(Refusal::Tls);
            }
            let end = head_end(&self.buffer, scanned);
            if end.unwrap_or(self.buffer.len()) > self.limits.head_bytes {
                return Err(Refusal::HeadTooLong(self.limits.head_bytes));
            }
            if let Some(end) = end {
                return Ok(end);
            }
            // A head that drips byte by byte must not be searched from its start again and again.
            scanned = self.buffer.len().saturating_sub(2);
            self.read_more().await?;
        }
    }

    /// Appends `length` bytes to `body`, within the limits.
    async fn read_body(&mut self, body: &mut Vec<u8>, room: &mut Room, length: u64) -> Result<(), Refusal> {
        let too_long = Refusal::BodyTooLong(self.limits.body_bytes);
        let length = usize::try_from(length).map_err(|_| too_long)?;
        let end =
            body.len().checked_add(length).filter(|&end| end <= self.limits.body_bytes).ok_or(too_long)?;
        while body.len() < end {
            let step = (end - body.len()).min(BODY_STEP);
            room.cover(&self.budget, body.len() + step)?;
            if self.buffer.is_empty() {
                let mut part = (&mut self.stream).take(step as u64);
                match part.read_buf(body).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Refusal::CutOff),
                }
            } else {
                let step = step.min(self.buffer.len());
                body.extend_from_slice(&self.buffer[..step]);
                self.buffer.advance(step);
            }
        }
        Ok(())
    }

    /// RFC 9112, section 7.1.
    async fn read_chunks(&mut self, body: &mut Vec<u8>, room: &mut Room) -> Result<(), Refusal> {
        loop {
            let line = self.read_line(CHUNK_LINE_BYTES).await?;
            // httparse takes an empty size for zero, which would end the body early.
            let size = match httparse::parse_chunk_size(&line) {
                Ok(httparse::Status::Complete((_, size))) if line[0].is_ascii_hexdigit() => size,
                _ => return Err(Refusal::Malformed("a chunk size that is no hexadecimal number")),
            };
            if size == 0 {
                break;
            }
            self.read_body(body, room, size).await?;
            self.read_chunk_end().await?;
        }
        let mut trailers = 0;
        loop {
            let line = self.read_line(self.limits.head_bytes).await?;
            if matches!(line[..], [b'\r', b'\n'] | [b'\n']) {
                return Ok(());
            }
            trailers += line.len();
            if trailers > self.limits.head_bytes {
                return Err(Refusal::HeadTooLong(self.limits.head_bytes));
            }
        }
    }

    async fn read_chunk_end(&mut self) -> Result<(), Refusal> {
        while self.buffer.len() < 2 {
            self.read_more().await?;
        }
        if self.buffer.split_to(2)[..] == *b"\r\n" {
            Ok(())
        } else {
            Err(Refusal::Malformed("a chunk that is longer than it says"))
        }
    }

    /// One line with its line end, at most `longest` bytes with it. Never empty.
    async fn read_line(&mut self, longest: usize) -> Result<BytesMut, Refusal> {
        let mut scanned = 0;
        loop {
            let found = self.buffer[scanned..].iter().position(|&byte| byte == b'\n');
            let length = found.map_or(self.buffer.len(), |at| scanned + at + 1);
            if length > longest {
                return Err(Refusal::Malformed("a line of the chunked body that is too long"));
            }
            if found.is_some() {
                return Ok(self.buffer.split_to(length));
            }
            scanned = self.buffer.len();
            self.read_more().await?;
        }
    }

    /// Reads something into the buffer. Cancel safe.
    async fn read_more(&mut self) -> Result<(), Refusal> {
        self.buffer.reserve(READ_BYTES);
        match (&mut self.stream).take(READ_BYTES as u64).read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Refusal::CutOff),
        }
    }

    /// Writes an answer. `to_head`: the request's method was HEAD, so the length is told and the body left out.
    pub(crate) async fn write_response(
        &mut self,
        response: &Response,
        to_head: bool,
        keep_alive: bool,
    ) -> io::Result<()> {
        let status = response.status;
        let reason = status.canonical_reason().unwrap_or("");
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for (name, value) in &response.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        // Neither of these has a body (RFC 9110, sections 15.3.5 and 15.4.5), and a length would say otherwise.
        let bodiless = matches!(status.as_u16(), 204 | 304);
        if !bodiless {
            if !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                text.push_str("Content-Type: text/plain; charset=utf-8\r\n");
            }
            text.push_str(&format!("Content-Length: {}\r\n", response.body.len()));
        }
        text.push_str(if keep_alive {
            "Connection: keep-alive\r\n\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        if !bodiless && !to_head {
            text.push_str(&response.body);
        }
        self.stream.write_all(text.as_bytes()).await?;
        self.stream.flush().await
    }

    /// Returns when the client has closed its side; what it still sends is dropped.
    pub(crate) async fn wait_for_end(&mut self) {
        let mut scratch = [0; 4096];
        while let Ok(1..) = self.stream.read(&mut scratch).await {}
    }

    /// Closes our side, then reads what the client still sends, so that it gets to see the answer: a connection that is
    /// closed with unread bytes is reset, and a reset destroys what the client has not read yet.
    pub(crate) async fn close(mut self) {
        if self.stream.shutdown().await.is_ok() {
            let mut rest = (&mut self.stream).take(LINGER_BYTES);
            // Whether the rest comes or breaks off makes no difference: nobody looks at it.
            let _ = io::copy(&mut rest, &mut io::sink()).await;
        }
    }
}

/// Request line and headers.
struct Head {
    method: String,
    target: String,
    minor: u8,
    headers: Vec<(String, Vec<u8>)>,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// RFC 9112, section 6.3, without its leniences.
    fn framing(&self) -> Result<Framing, Refusal> {
        let mut length = None;
        for value in self.values("content-length") {
            let number =
                parse_length(value).ok_or(Refusal::Malformed("a Content-Length that is no number"))?;
            if length.is_some_and(|before| before != number) {
                return Err(Refusal::Malformed("two different Content-Lengths"));
            }
            length = Some(number);
        }
        let mut codings = self.values("transfer-encoding");
        let Some(coding) = codings.next() else {
            return Ok(Framing::Length(length.unwrap_or(0)));
        };
        if length.is_some() {
            return Err(Refusal::Malformed("both Content-Length and Transfer-Encoding"));
        }
        if self.minor == 0 {
            return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferEncoding);
        }
        Ok(Framing::Chunked)
    }

    /// RFC 9110, section 10.1.1: an HTTP/1.0 client's expectation is ignored.
    fn expects_continue(&self) -> Result<bool, Refusal> {
        if self.minor == 0 {
            return Ok(false);
        }
        match header(&self.headers, "expect") {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Refusal::Expectation),
        }
    }

    /// RFC 9112, section 9.3.
    fn keep_alive(&self) -> bool {
        let says = |word: &[u8]| {
            self.values("connection")
                .flat_map(|value| value.split(|&byte| byte == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(word))
        };
        // A successful CONNECT turns the connection into a tunnel, which ends here.
        let tunnel = self.method == "CONNECT";
        !tunnel && !says(b"close") && (self.minor == 1 || says(b"keep-alive"))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
}

fn values<'a>(headers: &'a [(String, Vec<u8>)], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
}

/// The length of the head at the start of `buffer`, if it is complete. A line may end without CR (RFC 9112, section 2.2).
fn head_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = buffer.get(at..)?.iter().position(|&byte| byte == b'\n') {
        at += found + 1;
        match buffer.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn first_line(buffer: &[u8]) -> &[u8] {
    let line = buffer.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    &line[..line.len().min(SHOWN_LINE_BYTES)]
}

fn parse_head(bytes: &[u8]) -> Result<Head, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let incomplete = Refusal::Malformed("its head breaks off");
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(incomplete),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(incomplete);
    };
    Ok(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        minor,
        headers: parsed.headers.iter().map(|h| (h.name.to_owned(), h.value.to_owned())).collect(),
    })
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => {
            Refusal::Malformed("a header name with a character that is not allowed")
        }
        httparse::Error::HeaderValue => {
            Refusal::Malformed("a header value with a character that is not allowed")
        }
        httparse::Error::NewLine => Refusal::Malformed("a line end in the wrong place"),
        httparse::Error::Token => Refusal::Malformed("a request line with a character that is not allowed"),
        // Only answers have a status.
        httparse::Error::Status => Refusal::Malformed("a request line that looks like an answer's"),
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Version => Refusal::Version,
    }
}

/// Digits only: no sign, no blanks, no list. More than 64 bits are more than any limit.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(value).ok()?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads requests from `bytes`, which come in pieces of at most `piece`, and says what came of each.
    fn read_all(bytes: &[u8], piece: usize) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = io::duplex(piece);
            let limits =
                Limits { head_bytes: 500, body_bytes: 1000, bodies_bytes: 4096, ..Limits::default() };
            let write = async {
                // Fails if the reader gave up, which is its right.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                // An interim answer must not fill the pipe.
                let _ = io::copy(&mut client, &mut io::sink()).await;
            };
            let read = async {
                let mut wire = Wire::new(server, limits, Budget::new(limits.bodies_bytes));
                let mut read = Vec::new();
                while wire.wait_for_request().await {
                    let mut line = Vec::new();
                    match wire.read_request(&mut line).await {
                        Ok(request) => read.push(format!(
                            "{} {} 1.{} {:?} {:?} {}",
                            request.method,
                            request.target,
                            request.minor,
                            request.headers,
                            request.body,
                            request.keep_alive
                        )),
                        Err(refusal) => {
                            read.push(refusal.to_string());
                            break;
                        }
                    }
                }
                read
            };
            tokio::join!(write, read).1
        })
    }

    const STREAM: &[u8] = b"POST /a?b HTTP/1.1\r\nhOST: x\r\nContent-Length: 3\r\n\r\nabc\r\n\
        PUT * HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n00A\r\n0123456789\r\n0\r\nT: v\r\n\r\n\
        GET / HTTP/1.0\nConnection: Keep-Alive\n\n\
        POST / HTTP/1.1\r\nExpect: 100-continue\r\nConnection: x, CLOSE\r\nContent-Length: 1\r\n\r\n!";

    #[test]
    fn p16_requests_follow_each_other_on_one_connection() {
        insta::assert_snapshot!(read_all(STREAM, 4096).join("\n"), @r#"
        POST /a?b 1.1 [("hOST", [120]), ("Content-Length", [51])] [97, 98, 99] true
        PUT * 1.1 [("Transfer-Encoding", [99, 104, 117, 110, 107, 101, 100])] [97, 98, 99, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57] true
        GET / 1.0 [("Connection", [75, 101, 101, 112, 45, 65, 108, 105, 118, 101])] [] true
        POST / 1.1 [("Expect", [49, 48, 48, 45, 99, 111, 110, 116, 105, 110, 117, 101]), ("Connection", [120, 44, 32, 67, 76, 79, 83, 69]), ("Content-Length", [49])] [33] false
        "#);
    }

    #[test]
    fn p17_a_head_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
        let head = |length: usize| {
            let mut head = b"GET / HTTP/1.1\r\nX: ".to_vec();
            head.resize(length - 4, b'x');
            [&head[..], b"\r\n\r\n"].concat()
        };
        for piece in [1, 7, 4096] {
            assert!(read_all(&head(500), piece)[0].starts_with("GET / 1.1"));
            assert_eq!(
                read_all(&head(501), piece),
                ["the request line and headers are longer than 500 bytes"]
            );
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(piece in 1_usize..200) {
            prop_assert_eq!(read_all(STREAM, piece), read_all(STREAM, 4096));
        }

        #[test]
        fn p17_whatever_comes_is_a_request_or_refused(
            at in 0..STREAM.len(),
            put in prop::collection::vec(any::<u8>(), 0..4),
            cut in 0_usize..4,
            piece in 1_usize..100,
        ) {
            let end = (at + cut).min(STREAM.len());
            let bytes = [&STREAM[..at], &put, &STREAM[end..]].concat();
            let read = read_all(&bytes, piece);
            prop_assert!(read.len() <= 6, "{read:?}");
            prop_assert_eq!(&read, &read_all(&bytes, 4096));
        }
    }
}
