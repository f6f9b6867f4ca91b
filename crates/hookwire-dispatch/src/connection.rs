//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper gives two halves: a sender, and a driver that moves the bytes and that is usually spawned as a task of its own.
//! Here the attempt polls both. That saves two task switches per request, leaves no task behind, and makes dropping the
//! attempt close the connection.
//!
//! Invariants:
//! - A driver that has finished is dropped at once: that is what tells a request or a body that waits for it.
//! - The response and its body are polled with a waker that does nothing, and only right after the driver: nothing but
//!   the driver's poll can make them ready, so the driver's waker is enough.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, Connection as Driver, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// A response head and what is buffered of a body: as much as any sane server sends, and little enough that a worker
/// with hundreds of connections to hostile ones stays small.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A connection that carries one request at a time.
pub(crate) struct Connection<S: AsyncRead + AsyncWrite + Unpin> {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection is closed.
    driver: Option<Driver<TokioIo<Transport<S>>, Full<Bytes>>>,
    /// The other end.
    pub(crate) address: SocketAddr,
    /// Not to be used after this.
    pub(crate) usable_until: Instant,
}

/// Why there is no response head.
pub(crate) enum SendError {
    /// Not a byte of the request was sent; here it is back.
    NotSent(Box<Request<Full<Bytes>>>),
    /// It may have been sent.
    Failed(hyper::Error),
}

/// How the reading of a body ended.
pub(crate) enum BodyEnd {
    /// All of it was read.
    Complete,
    /// There is more than `limit` bytes of it.
    TooLong,
    /// It broke off.
    Broken(hyper::Error),
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<S> {
    /// Begins to speak HTTP.
    pub(crate) async fn open(
        transport: Transport<S>,
        address: SocketAddr,
    ) -> Result<Box<Self>, hyper::Error> {
        let (sender, driver) = Builder::new()
            .title_case_headers(true)
            .max_buf_size(BUFFER_BYTES_MAX)
            // The buffer may take in one read more than its limit; what is parsed may not.
            .max_header_size(BUFFER_BYTES_MAX)
            // What Python's http.client takes. A receiver that has done its work should not be called again because it
            // writes headers badly.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(transport))
            .await?;
        let usable_until = Instant::now();
        Ok(Box::new(Connection { sender, driver: Some(driver), address, usable_until }))
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// Cancel safety: the connection is of no use afterwards and must be dropped.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        // Without the task's budget: an exhausted one would ask for a wake-up through the waker that does nothing.
        let mut response = pin!(unconstrained(self.sender.try_send_request(request)));
        let driver = &mut self.driver;
        let result = poll_fn(|cx| {
            poll_driver(driver, cx);
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await;
        result.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None => SendError::Failed(error.into_error()),
        })
    }

    /// Reads a body to its end, but hardly more than `limit` bytes of it. What comes is kept by `kept`.
    ///
    /// Cancel safety: what came is in `kept`; the connection is of no use afterwards and must be dropped.
    pub(crate) async fn read(&mut self, body: &mut Incoming, limit: usize, kept: &mut Kept) -> BodyEnd {
        let mut left = limit;
        poll_fn(|cx| {
            let mut driven = false;
            loop {
                match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending if driven => return Poll::Pending,
                    Poll::Pending => {
                        poll_driver(&mut self.driver, cx);
                        driven = true;
                    }
                    Poll::Ready(None) => return Poll::Ready(BodyEnd::Complete),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(BodyEnd::Broken(error)),
                    Poll::Ready(Some(Ok(frame))) => {
                        // A frame has left the channel, so the driver has room to go on: it must be asked again.
                        driven = false;
                        let Some(data) = frame.data_ref() else { continue };
                        kept.add(data);
                        match left.checked_sub(data.len()) {
                            Some(rest) => left = rest,
                            None => return Poll::Ready(BodyEnd::TooLong),
                        }
                    }
                }
            }
        })
        .await
    }

    /// Whether another request can be sent after a response that was read to its end.
    pub(crate) fn is_idle(&mut self) -> bool {
        // Mostly the driver is through with the response already, and need not be polled for this.
        (self.driver.is_some() && self.sender.is_ready()) || self.is_usable()
    }

    /// Whether another request can be sent, as far as can be known without waiting.
    ///
    /// Takes note of a close that has arrived, and forgets the waker of the task that used the connection last.
    pub(crate) fn is_usable(&mut self) -> bool {
        poll_driver(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn poll_driver<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    driver: &mut Option<Driver<TokioIo<Transport<S>>, Full<Bytes>>>,
    cx: &mut Context<'_>,
) {
    // Its error is told to the request in flight too, and concerns nobody where there is none.
    if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
        *driver = None;
    }
}

/// The beginning of a body.
pub(crate) struct Kept {
    /// What is kept.
    pub(crate) bytes: Vec<u8>,
    /// Whether something was not kept.
    pub(crate) truncated: bool,
    bytes_max: usize,
}

impl Kept {
    /// Keeps this many bytes at most.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Kept { bytes: Vec::new(), truncated: false, bytes_max }
    }

    fn add(&mut self, data: &[u8]) {
        let fitting = data.len().min(self.bytes_max - self.bytes.len());
        self.bytes.extend_from_slice(&data[..fitting]);
        self.truncated |= fitting < data.len();
    }
}

/// Bytes to and from the other end, in the clear or not.
pub(crate) enum Transport<S> {
    /// `http`.
    Plain(S),
    /// `https`; boxed because a TLS session is large.
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
