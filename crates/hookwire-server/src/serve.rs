//! The listener: connections in, within limits of number and time.
//!
//! Invariants:
//! - No more than so many connections are open; further ones wait in the system's queue.
//! - A connection on which no request comes in for a while is closed, whether it is silent or slow; so is one whose client
//!   does not take its answer.
//! - Requests have threads of their own. Where a worker keeps all others busy, a request that has come, or whose answer
//!   the store has given, would wait until one of them looks up from its tasks, which takes longer than most requests.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// What connections may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// How many may be open.
    pub connections_max: usize,
    /// How long a connection may take until the head of its next request is there: for a slow client, and for one that
    /// keeps its connection open without using it.
    pub head_timeout: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_timeout: Duration,
}

impl Default for ServeLimits {
    /// 512 connections, which leaves the worker its share of the 1024 files that a process usually may open; 30 s each.
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        ServeLimits { connections_max: 512, head_timeout: timeout, write_timeout: timeout }
    }
}

/// Largest head of a request in bytes: far more than tokens, traces and CloudEvents attributes take.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long accepting pauses after it failed, for want of files or memory mostly: some may be free again by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` ends, and the requests under way have been answered.
///
/// # Errors
/// If the listener cannot be used at all, or no thread can be started.
///
/// Cancel safety: dropping the future closes all connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    let threads = Threads::start()?;
    let served = threads.get().spawn(async move {
        // Readiness is told to the threads that registered for it.
        accept_all(TcpListener::from_std(listener)?, router, limits, shutdown).await;
        Ok(())
    });
    served.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => Err(io::Error::other(cancelled)),
    })
}

/// The threads that requests have for themselves; with them go their connections.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> io::Result<Self> {
        // One for each processor, as all others: the system shares the processors out between the two kinds, and sees to
        // it that who has waited for something long comes first.
        let mut builder = runtime::Builder::new_multi_thread();
        let runtime = builder.thread_name("hookwire-http").enable_all().build()?;
        Ok(Threads(Some(runtime)))
    }

    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken only when this is dropped")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the threads would hold up whoever drops this.
            runtime.shutdown_background();
        }
    }
}

async fn accept_all(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let stop = CancellationToken::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (stream, permit) = accept(&listener, &permits) => {
                connections.spawn(connection(stream, router.clone(), limits, stop.clone(), permit));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    // Whoever connects now is told at once that nobody is there.
    drop(listener);
    stop.cancel();
    while connections.join_next().await.is_some() {}
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("nobody closes this semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no connection can be accepted now; raise the limit on open files if this goes on"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: ServeLimits,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
) -> Result<(), Infallible> {
    // Answers are short, and none should wait for the next one.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // Mostly a client that went away; nobody here can do anything about it.
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended early");
    }
    Ok(())
}
