//! Which connections are used again, and which never are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use hookwire_dispatch::{Dial, Dispatch, DispatchSettings, HttpDispatcher};
use hookwire_model::{OutcomeKind, PreparedRequest};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::support::{Net, Reach, Reply, attempt, following, options, post, summary, templated};

const URL: &str = "http://127.0.0.1:9000/";

/// Makes attempts one after the other and says over which connections they went.
async fn connections(
    net: &Net,
    dispatcher: &HttpDispatcher<Net>,
    requests: &[PreparedRequest],
) -> Vec<usize> {
    for request in requests {
        let report = dispatcher.attempt(request, &options()).await;
        assert!(report.outcome.kind() != OutcomeKind::Unanswered, "{}", summary(&report));
    }
    net.connections()
}

#[tokio::test(start_paused = true)]
async fn a_connection_serves_one_request_after_the_other() {
    let net = Net::new([
        Reply::response(200, "", "body"),
        Reply::Send(b"HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()),
        Reply::response(204, "", ""),
        Reply::response(200, "", &"x".repeat(60_000)),
    ]);
    let dispatcher = net.dispatcher();
    let requests = vec![post(URL); 6];
    assert_eq!(connections(&net, &dispatcher, &requests).await, [1; 6]);
    let report = dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!((report.timings.connect, report.address), (None, Some("127.0.0.1:9000".parse().unwrap())));
}

#[tokio::test(start_paused = true)]
async fn what_leaves_a_connection_unfit_for_another_request() {
    for (name, reply) in [
        ("closes", Reply::response(200, "Connection: close\r\n", "")),
        ("HTTP/1.0", Reply::Send(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ("too long a body", Reply::response(200, "", &"x".repeat(80_000))),
        ("until the end", Reply::SendAndClose(b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec())),
        ("more than asked for", Reply::Send(b"HTTP/1.1 204 N\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec())),
        ("closes at once", Reply::SendAndClose(b"HTTP/1.1 204 N\r\n\r\n".to_vec())),
        ("short keep-alive", Reply::response(200, "Keep-Alive: timeout=1\r\n", "")),
    ] {
        let net = Net::new([reply]);
        let dispatcher = net.dispatcher();
        let first = dispatcher.attempt(&post(URL), &options()).await;
        assert_eq!(first.outcome.kind(), OutcomeKind::Succeeded, "{name}");
        // What the server does after its answer is to arrive before the next request.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = dispatcher.attempt(&post(URL), &options()).await;
        assert_eq!(second.outcome.kind(), OutcomeKind::Succeeded, "{name}");
        assert_eq!(net.connections(), [1, 2], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_place_or_another_trust_gets_another_connection() {
    let net = Net::new([]).name("localhost", &["127.0.0.1"]);
    let mut settings = DispatchSettings::default();
    settings.egress.allow = vec!["127.0.0.1".parse().unwrap()];
    let dispatcher = net.dispatcher_with(settings);
    let requests =
        [post(URL), post("http://127.0.0.1:9001/"), post("http://localhost:9000/"), templated(URL)];
    assert_eq!(connections(&net, &dispatcher, &requests).await, [1, 2, 3, 4]);
    assert_eq!(connections(&net, &dispatcher, &requests).await, [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn the_connection_used_last_is_used_first() {
    let net = Net::new([Reply::Hang, Reply::ok(), Reply::ok()]);
    let dispatcher = net.dispatcher();
    let request = post(URL);
    // One attempt hangs, so that the other two need a second connection.
    let options = options();
    let mut hanging = Box::pin(dispatcher.attempt(&request, &options));
    assert!((&mut hanging).now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(1)).await;
    dispatcher.attempt(&request, &options).await;
    dispatcher.attempt(&request, &options).await;
    assert_eq!(net.connections(), [1, 2, 2]);
    // Dropping an attempt closes its connection.
    drop(hanging);
    net.until_closed(1).await;

    let net = Net::new([]);
    let dispatcher = net.dispatcher();
    join_all((0..3).map(|_| dispatcher.attempt(&request, &options))).await;
    assert_eq!(dispatcher.idle_connections(), 3);
    for _ in 0..3 {
        dispatcher.attempt(&request, &options).await;
    }
    let used = net.connections();
    assert!(used[3..].iter().all(|connection| *connection == used[3]), "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_bounded_in_number_and_time() {
    let net = Net::new([]);
    let settings = DispatchSettings { idle_max: 5, idle_per_endpoint_max: 2, ..Default::default() };
    let dispatcher = net.dispatcher_with(settings);
    let requests: Vec<_> = (0..4).map(|port| post(&format!("http://127.0.0.1:{}/", 9000 + port))).collect();
    for request in &requests {
        let options = options();
        join_all((0..3).map(|_| dispatcher.attempt(request, &options))).await;
    }
    assert_eq!(dispatcher.idle_connections(), 5);
    net.until_closed(7).await;
    // The last place was used last, and finds its connections.
    dispatcher.attempt(&requests[3], &options()).await;
    assert!(*net.connections().last().unwrap() <= 12, "no thirteenth connection");

    // Nobody asks for anything any more, and the rest is closed nevertheless.
    let before = tokio::time::Instant::now();
    net.until_closed(12).await;
    assert!(before.elapsed() <= Duration::from_secs(35), "{:?}", before.elapsed());
    assert_eq!(dispatcher.idle_connections(), 0);

    // The task that closed them has ended; another one comes with the next connection.
    dispatcher.attempt(&requests[0], &options()).await;
    assert_eq!(dispatcher.idle_connections(), 1);
    net.until_closed(13).await;
    assert_eq!(dispatcher.idle_connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_soon_is_believed() {
    let net = Net::new([Reply::response(200, "Keep-Alive: timeout=5, max=10\r\n", ""), Reply::ok()]);
    let dispatcher = net.dispatcher();
    dispatcher.attempt(&post(URL), &options()).await;
    tokio::time::sleep(Duration::from_millis(3_900)).await;
    dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!(net.connections(), [1, 1]);

    let net = Net::new([Reply::response(200, "Keep-Alive: timeout=5, max=10\r\n", ""), Reply::ok()]);
    let dispatcher = net.dispatcher();
    dispatcher.attempt(&post(URL), &options()).await;
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!(net.connections(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn no_pool_means_no_pool() {
    for (idle_max, idle_per_endpoint_max, idle_timeout) in
        [(0, 1, Duration::from_secs(1)), (1, 0, Duration::from_secs(1)), (1, 1, Duration::ZERO)]
    {
        let net = Net::new([]);
        let settings =
            DispatchSettings { idle_max, idle_per_endpoint_max, idle_timeout, ..Default::default() };
        let dispatcher = net.dispatcher_with(settings);
        assert_eq!(connections(&net, &dispatcher, &[post(URL), post(URL)]).await, [1, 2]);
    }
}

/// A request that may have arrived is not sent again, whatever became of its connection.
#[tokio::test(start_paused = true)]
async fn a_used_connection_that_breaks_is_no_reason_to_send_twice() {
    for reply in [Reply::SendAndClose(vec![]), Reply::SendAndClose(b"HTTP/1.1 200".to_vec())] {
        let net = Net::new([Reply::ok(), reply]);
        let dispatcher = net.dispatcher();
        dispatcher.attempt(&post(URL), &options()).await;
        let report = dispatcher.attempt(&post(URL), &options()).await;
        assert_eq!(
            summary(&report),
            "unanswered; reset: the connection was closed before a complete response head came"
        );
        assert_eq!(net.connections(), [1, 1]);
        assert_eq!(net.dialled().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_without_descriptors_gives_up_idle_connections() {
    let net = Net::new([]).reach("127.0.0.2", Reach::NoDescriptorOnce);
    let dispatcher = net.dispatcher();
    dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!(dispatcher.idle_connections(), 1);
    let report = dispatcher.attempt(&post("http://127.0.0.2/"), &options()).await;
    assert_eq!(summary(&report), "succeeded 200; body \"\"");
    net.until_closed(1).await;

    // With nothing to give up it is told.
    let net = Net::new([]).reach("127.0.0.2", Reach::NoDescriptorOnce);
    let text = summary(&attempt(&net, &post("http://127.0.0.2/"), &options()).await);
    assert!(text.starts_with("unsent; connect: no connection: 127.0.0.2:80: Too many open files"), "{text}");

    // Once a request has gone out, that it could not be followed is no longer nothing.
    let net = Net::new([Reply::response(302, "Location: http://192.0.2.2/\r\nConnection: close\r\n", "")]);
    let net = net.reach("192.0.2.2", Reach::NoDescriptorOnce);
    let text = summary(&attempt(&net, &post("http://192.0.2.1/"), &following()).await);
    assert!(
        text.contains("unanswered; internal: no connection: 192.0.2.2:80: Too many open files"),
        "{text}"
    );
}

/// A close that comes to light only when the next request is about to be written: not a byte of it is sent, so it goes
/// out over a new connection, and the server sees it once.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_goes_out_over_another_connection() {
    let net = Net::new([]);
    let dial = ClosingDial { net: net.clone(), countdowns: Arc::default() };
    let countdowns = dial.countdowns.clone();
    let dispatcher = HttpDispatcher::with_dial(DispatchSettings::default(), dial);
    dispatcher.attempt(&post(URL), &options()).await;
    // The first look at the idle connection finds it open, the second one finds its end.
    let countdown = countdowns.lock().unwrap()[0].clone();
    countdown.store(2, Ordering::SeqCst);
    let report = dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!(summary(&report), "succeeded 200; body \"\"");
    assert_eq!(net.connections(), [1, 2]);
    assert_eq!(countdown.load(Ordering::SeqCst), 1, "the end came to light at the second look");
}

/// A new connection that is closed before anything was sent is a failure to be told, not one to be tried again for ever.
#[tokio::test(start_paused = true)]
async fn a_new_connection_that_is_closed_at_once_is_reset() {
    let net = Net::new([]);
    let dial = ClosingDial { net: net.clone(), countdowns: Arc::default() };
    let countdowns = dial.countdowns.clone();
    countdowns.lock().unwrap().push(Arc::new(AtomicUsize::new(1)));
    let dispatcher = HttpDispatcher::with_dial(DispatchSettings::default(), dial);
    let report = dispatcher.attempt(&post(URL), &options()).await;
    assert_eq!(
        summary(&report),
        "unanswered; reset: 127.0.0.1:9000 closed the connection before the request was sent"
    );
    assert_eq!(net.dialled().len(), 1);
}

/// Connections that can be told to end after so many reads.
struct ClosingDial {
    net: Net,
    /// One for each connection, unless there is one left from before.
    countdowns: Arc<Mutex<Vec<Arc<AtomicUsize>>>>,
}

struct ClosingStream {
    inner: DuplexStream,
    /// 0: goes on; 1: has ended; more: has nothing for that many reads less one, and then ends.
    countdown: Arc<AtomicUsize>,
}

impl Dial for ClosingDial {
    type Stream = ClosingStream;

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.net.resolve(host).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<ClosingStream> {
        let inner = self.net.connect(address).await?;
        let mut countdowns = self.countdowns.lock().unwrap();
        if countdowns.len() < self.net.dialled().len() {
            countdowns.push(Arc::default());
        }
        Ok(ClosingStream { inner, countdown: countdowns.last().unwrap().clone() })
    }
}

impl AsyncRead for ClosingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.countdown.load(Ordering::SeqCst) {
            0 => Pin::new(&mut self.inner).poll_read(cx, buffer),
            1 => Poll::Ready(Ok(())),
            _ => {
                self.countdown.fetch_sub(1, Ordering::SeqCst);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for ClosingStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
