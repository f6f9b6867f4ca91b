//! One attempt, from the request to what is known of its end.
//!
//! Invariants:
//! - Each request on the wire is the attempt's own or one of its recorded hops. Nothing is sent a second time in silence:
//!   a request that failed on a connection from the pool goes out on another one only if not a byte of it was sent.
//! - One deadline covers all: resolving, connecting, TLS, sending, response head and body, and every hop.
//! - Every way to end has an [`Outcome`]. A 2xx status within the deadline is a success, whatever its body does.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hookwire_model::{AttemptError, ErrorKind, Hop, Outcome, PreparedRequest, ResponseRecord, Timings};
use http::header::{HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use hyper::body::Body as _;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::classify::{self, Phase, attempt_error};
use crate::connection::{BodyEnd, Connection, Kept, SendError, Transport};
use crate::dial::{Dial, TcpDial, lacks_descriptors};
use crate::egress::{EgressPolicy, plain_host};
use crate::pool::{Key, Limits, Pool};
use crate::redirect::{self, Next};
use crate::request::{build, latin1};
use crate::tls::{NoConfig, TlsProfile};
use crate::{AttemptOptions, AttemptReport, Dispatch};

/// As many as Python's requests follows, and so NetBox.
const REDIRECTS_MAX: usize = 30;

/// How long an address may take before the next one is tried beside it (RFC 8305 section 5, "Connection Attempt Delay").
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried. A name with more of them is a mistake or an attack.
const ADDRESSES_MAX: usize = 16;

/// How late a deadline is noticed by a process that stood still: one that is only busy is not so late.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// How long it then reads what had come in time.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// How a dispatcher behaves; every member has a sensible default.
#[derive(Debug, Clone)]
pub struct DispatchSettings {
    /// Which addresses may be called.
    pub egress: EgressPolicy,
    /// Idle connections in all. The default, 768, stays below the usual limit of 1,024 open files.
    pub idle_max: usize,
    /// Idle connections to one place with one TLS profile.
    pub idle_per_endpoint_max: usize,
    /// How long a connection may be idle; less, where the server says so (`Keep-Alive: timeout=5`).
    pub idle_timeout: Duration,
    /// How much of a response body is kept for the record.
    pub body_kept_bytes_max: usize,
    /// How much of a response body is read, so that the connection can be used again; beyond it the connection is closed.
    pub body_read_bytes_max: usize,
}

impl Default for DispatchSettings {
    fn default() -> Self {
        DispatchSettings {
            egress: EgressPolicy::default(),
            idle_max: 768,
            idle_per_endpoint_max: 256,
            idle_timeout: Duration::from_secs(30),
            body_kept_bytes_max: 16 * 1024,
            body_read_bytes_max: 64 * 1024,
        }
    }
}

/// Makes attempts over HTTP/1.1, with a pool of connections of its own. It must be used inside a tokio runtime with
/// time and I/O enabled.
pub struct HttpDispatcher<D: Dial = TcpDial> {
    settings: DispatchSettings,
    dial: D,
    pool: Pool<D::Stream>,
}

impl HttpDispatcher {
    /// A dispatcher that resolves and connects as the operating system does.
    pub fn new(settings: DispatchSettings) -> Self {
        HttpDispatcher::with_dial(settings, TcpDial::new())
    }
}

impl<D: Dial> HttpDispatcher<D> {
    /// A dispatcher that resolves and connects by `dial`.
    pub fn with_dial(settings: DispatchSettings, dial: D) -> Self {
        let limits = Limits {
            idle_max: settings.idle_max,
            idle_per_key_max: settings.idle_per_endpoint_max,
            idle_timeout: settings.idle_timeout,
        };
        HttpDispatcher { settings, dial, pool: Pool::new(limits) }
    }

    /// How many connections wait for their next request.
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    /// The attempt's own request and the redirects it leads to. What is known goes into `progress` at once, so that it
    /// outlives the deadline.
    async fn run(
        &self,
        request: &PreparedRequest,
        options: &AttemptOptions,
        progress: &mut Progress<'_>,
    ) -> Result<(), Fault> {
        let mut hop: Option<Box<PreparedRequest>> = None;
        loop {
            let current = hop.as_deref().unwrap_or(request);
            let (status, location) = {
                let answer = self.exchange(current, &options.tls, progress).await?;
                if !options.follow_redirects {
                    return Ok(());
                }
                (answer.status, answer.headers.get(LOCATION).cloned())
            };
            match redirect::next(current, status.as_u16(), location.as_ref()) {
                Next::Stay => return Ok(()),
                Next::Broken(why) => {
                    progress.late_error = Some(attempt_error(ErrorKind::Redirect, why));
                    return Ok(());
                }
                Next::Follow(_) if progress.hops.len() == REDIRECTS_MAX => {
                    let message = format!("more than {REDIRECTS_MAX} redirects");
                    progress.late_error = Some(attempt_error(ErrorKind::Redirect, message));
                    return Ok(());
                }
                Next::Follow(next) => {
                    progress.redirected(status.as_u16(), &next);
                    hop = Some(next);
                }
            }
        }
    }

    /// One request and its response.
    async fn exchange<'p>(
        &self,
        request: &PreparedRequest,
        tls: &Arc<TlsProfile>,
        progress: &'p mut Progress<'_>,
    ) -> Result<&'p Answer, Fault> {
        let mut built = build(request).map_err(Fault::Unsent)?;
        let key = Key {
            authority: &request.authority,
            tls: request.authority.https.then(|| tls.id()),
            literal_host: request.literal_host,
        };
        let (mut connection, response) = loop {
            progress.stage.stop_if_over().await;
            let pooled = self.pool.take(key);
            let is_fresh = pooled.is_none();
            let mut connection = match pooled {
                Some(connection) => connection,
                // Boxed, because most attempts need no new connection, and would carry the room for one about.
                None => Box::pin(self.connect(request, tls, progress)).await?,
            };
            progress.dialled(connection.address);
            progress.enter(Phase::Head);
            match connection.send(built).await {
                Ok(response) => break (connection, response),
                // A connection from the pool that was closed in the meantime. Nothing went over it, so this is not a
                // second request.
                Err(SendError::NotSent(unsent)) if !is_fresh => built = *unsent,
                Err(SendError::NotSent(_)) => {
                    let message =
                        format!("{} closed the connection before the request was sent", connection.address);
                    return Err(Fault::Unanswered(attempt_error(ErrorKind::Reset, message)));
                }
                Err(SendError::Failed(error)) => return Err(Fault::Unanswered(classify::no_answer(&error))),
            }
        };

        let (head, mut body) = response.into_parts();
        let kept = Kept::new(self.settings.body_kept_bytes_max);
        progress.answer = Some(Answer { status: head.status, headers: head.headers, kept });
        let is_complete = if body.is_end_stream() {
            true
        } else {
            progress.enter(Phase::Body);
            let answer = progress.answer.as_mut().expect("was set a moment ago");
            match connection.read(&mut body, self.settings.body_read_bytes_max, &mut answer.kept).await {
                BodyEnd::Complete => true,
                BodyEnd::TooLong => {
                    answer.kept.truncated = true;
                    false
                }
                BodyEnd::Broken(error) => {
                    answer.kept.truncated = true;
                    progress.late_error = Some(classify::body(&error));
                    false
                }
            }
        };
        progress.leave();
        let answer = progress.answer.as_ref().expect("was set a moment ago");
        if is_complete && connection.is_idle() {
            self.pool.put(key, connection, server_timeout(&answer.headers));
        }
        Ok(answer)
    }

    /// A new connection to one of the request's addresses, as far as the egress policy allows them.
    async fn connect(
        &self,
        request: &PreparedRequest,
        tls: &Arc<TlsProfile>,
        progress: &mut Progress<'_>,
    ) -> Result<Box<Connection<D::Stream>>, Fault> {
        // What is wrong with it is nothing of the receiver's.
        let config = match request.authority.https.then(|| tls.config()).transpose() {
            Ok(config) => config,
            Err(NoConfig::Broken(error)) => {
                return Err(Fault::Unsent(attempt_error(ErrorKind::Tls, error.to_string())));
            }
            Err(NoConfig::Starved(message)) => {
                self.pool.clear();
                return Err(Fault::Starved(attempt_error(ErrorKind::Connect, message)));
            }
        };
        let host = plain_host(&request.authority.host);
        let addresses = match host.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => {
                progress.enter(Phase::Resolve);
                self.resolve(host).await?
            }
        };
        let allowed = self.allowed(&addresses, request)?;

        progress.enter(Phase::Connect);
        let (address, stream) = match self.dial_any(&allowed, progress).await {
            Ok(connected) => connected,
            // Connections that only wait for their next request must not keep others from theirs.
            Err(failures)
                if failures.iter().any(|(_, error)| lacks_descriptors(error)) && self.pool.clear() =>
            {
                self.dial_any(&allowed, progress).await.map_err(no_connection)?
            }
            Err(failures) => return Err(no_connection(failures)),
        };

        let transport = if let Some(config) = config {
            progress.enter(Phase::Tls);
            let name =
                ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned()).map_err(|_| {
                    let message = format!("{host:?} is no name that a certificate can hold");
                    Fault::Unanswered(attempt_error(ErrorKind::Tls, message))
                })?;
            let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
            let stream = stream.map_err(|error| Fault::Unanswered(classify::handshake(host, &error)))?;
            Transport::Tls(Box::new(stream))
        } else {
            Transport::Plain(stream)
        };
        let opened = Connection::open(transport, address).await;
        opened.map_err(|error| Fault::Unanswered(classify::no_answer(&error)))
    }

    /// The addresses of a name.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let mut resolved = self.dial.resolve(host).await;
        // Connections that only wait for their next request must not keep others from theirs.
        if resolved.as_ref().is_err_and(lacks_descriptors) && self.pool.clear() {
            resolved = self.dial.resolve(host).await;
        }
        resolved.map_err(|error| {
            let fault = if lacks_descriptors(&error) { Fault::Starved } else { Fault::Unanswered };
            fault(classify::dns(host, &error))
        })
    }

    /// The addresses that may be called, decided here and for each connection: what a name resolved to when a definition
    /// was checked, or when it was called the last time, says nothing about what it resolves to now.
    fn allowed(&self, addresses: &[IpAddr], request: &PreparedRequest) -> Result<Vec<SocketAddr>, Fault> {
        let host = &request.authority.host;
        let mut allowed = Vec::new();
        let mut refusals = Vec::new();
        for address in addresses {
            match self.settings.egress.decide(*address, host, request.literal_host) {
                Ok(()) => allowed.push(SocketAddr::new(*address, request.authority.port)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        allowed.truncate(ADDRESSES_MAX);
        match refusals.first() {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(first) => {
                let others = match refusals.len() {
                    1 => String::new(),
                    count => format!(" (its other addresses, {}, are refused too)", count - 1),
                };
                Err(Fault::Unsent(attempt_error(ErrorKind::Egress, format!("{first}{others}"))))
            }
            None => {
                let message = format!("{host:?} has no address");
                Err(Fault::Unanswered(attempt_error(ErrorKind::Dns, message)))
            }
        }
    }

    /// Connects to the first address that takes the connection: in order, the next one as soon as one fails or takes too
    /// long, so that one dead address of a name does not use up the deadline.
    async fn dial_any(
        &self,
        addresses: &[SocketAddr],
        progress: &mut Progress<'_>,
    ) -> Result<(SocketAddr, D::Stream), Vec<(SocketAddr, io::Error)>> {
        let mut dialling = FuturesUnordered::new();
        let mut failures = Vec::new();
        let mut waiting = addresses.iter();
        loop {
            let next = waiting.next();
            if let Some(&address) = next {
                progress.dialled(address);
                dialling.push(async move { (address, self.dial.connect(address).await) });
            }
            let dialled = if waiting.len() == 0 {
                dialling.next().await
            } else {
                match timeout(NEXT_ADDRESS_AFTER, dialling.next()).await {
                    Ok(dialled) => dialled,
                    Err(_elapsed) => continue,
                }
            };
            match dialled {
                Some((address, Ok(stream))) => return Ok((address, stream)),
                Some((address, Err(error))) => failures.push((address, error)),
                None => return Err(failures),
            }
        }
    }
}

impl<D: Dial> Dispatch for HttpDispatcher<D> {
    async fn attempt(&self, request: &PreparedRequest, options: &AttemptOptions) -> AttemptReport {
        let stage = Stage::default();
        let mut progress = Progress::new(&stage);
        let started = progress.started;
        let result = {
            let mut run = pin!(self.run(request, options, &mut progress));
            match timeout(options.timeout, run.as_mut()).await {
                Ok(result) => Some(result),
                // Timers that fire so late tell that this process stood still, or its machine: the answer that has
                // arrived meanwhile is still to be read. Nothing more is sent.
                Err(_elapsed)
                    if stage.awaits_answer.load(Ordering::Relaxed)
                        && started.elapsed().saturating_sub(options.timeout) >= STOOD_STILL =>
                {
                    stage.is_over.store(true, Ordering::Relaxed);
                    timeout(SECOND_LOOK, run).await.ok()
                }
                Err(_elapsed) => None,
            }
        };
        progress.report(result, request, options.timeout)
    }
}

impl<D: Dial> fmt::Debug for HttpDispatcher<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDispatcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Why there is no answer.
enum Fault {
    /// The request could not be made, or may not be.
    Unsent(AttemptError),
    /// It could, and no response head came.
    Unanswered(AttemptError),
    /// There was nothing to make it with.
    Starved(AttemptError),
}

/// A response, as far as it has come.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    kept: Kept,
}

/// How far an attempt has come, for whoever watches over it.
#[derive(Debug, Default)]
struct Stage {
    /// A request has gone out, and its answer is not there in full.
    awaits_answer: AtomicBool,
    /// The deadline has passed.
    is_over: AtomicBool,
}

impl Stage {
    /// After the deadline no request goes out: nothing but the end of the wait comes then.
    async fn stop_if_over(&self) {
        if self.is_over.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// What is known of an attempt while it runs.
struct Progress<'a> {
    stage: &'a Stage,
    started: Instant,
    phase: Option<(Phase, Instant)>,
    timings: Timings,
    address: Option<SocketAddr>,
    hops: Vec<Hop>,
    answer: Option<Answer>,
    late_error: Option<AttemptError>,
}

impl<'a> Progress<'a> {
    fn new(stage: &'a Stage) -> Self {
        Progress {
            stage,
            started: Instant::now(),
            phase: None,
            timings: Timings::default(),
            address: None,
            hops: Vec::new(),
            answer: None,
            late_error: None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        let awaits_answer = matches!(phase, Phase::Head | Phase::Body);
        self.stage.awaits_answer.store(awaits_answer, Ordering::Relaxed);
        let now = Instant::now();
        self.leave_at(now);
        self.phase = Some((phase, now));
    }

    fn leave(&mut self) {
        self.leave_at(Instant::now());
    }

    /// Adds the time of the present phase to what it took in earlier hops.
    fn leave_at(&mut self, now: Instant) {
        let Some((phase, entered)) = self.phase.take() else { return };
        let total = match phase {
            Phase::Resolve => &mut self.timings.resolve,
            Phase::Connect => &mut self.timings.connect,
            Phase::Tls => &mut self.timings.tls,
            Phase::Head => &mut self.timings.head,
            Phase::Body => &mut self.timings.body,
        };
        *total = Some(total.unwrap_or_default() + (now - entered));
    }

    /// Notes the address of the request that is being made.
    fn dialled(&mut self, address: SocketAddr) {
        match self.hops.last_mut() {
            Some(hop) => hop.address = Some(address),
            None => self.address = Some(address),
        }
    }

    /// Notes a redirect, and forgets the answer that it was.
    fn redirected(&mut self, status: u16, next: &PreparedRequest) {
        self.hops.push(Hop { status, url: next.url(), address: None });
        self.answer = None;
        self.late_error = None;
    }

    /// `result` is `None` if the deadline passed.
    fn report(
        mut self,
        result: Option<Result<(), Fault>>,
        request: &PreparedRequest,
        timeout: Duration,
    ) -> AttemptReport {
        let phase = self.phase.map(|(phase, _)| phase);
        let now = Instant::now();
        self.leave_at(now);
        if let (None, Some(answer)) = (&result, &mut self.answer) {
            answer.kept.truncated = true;
            self.late_error = Some(classify::body_not_in_time(timeout));
        }
        let outcome = match (result, &self.answer) {
            (Some(Err(Fault::Unsent(error))), _) => Outcome::Unsent(error),
            (Some(Err(Fault::Unanswered(error))), _) => Outcome::Unanswered(error),
            (Some(Err(Fault::Starved(error))), _) if self.hops.is_empty() => Outcome::Unsent(error),
            // The request that was redirected went out.
            (Some(Err(Fault::Starved(error))), _) => {
                Outcome::Unanswered(AttemptError { kind: ErrorKind::Internal, ..error })
            }
            (Some(Ok(())) | None, Some(answer)) => Outcome::Answered {
                status: answer.status.as_u16(),
                retry_after: answer
                    .headers
                    .get(RETRY_AFTER)
                    .map(|value| latin1(value.as_bytes()).into_owned()),
            },
            (Some(Ok(())) | None, None) => {
                let (host, address) = match self.hops.last() {
                    Some(hop) => (host_of(&hop.url), hop.address),
                    None => (request.authority.host.as_str(), self.address),
                };
                Outcome::Unanswered(classify::no_answer_in_time(timeout, phase, host, address))
            }
        };
        AttemptReport {
            outcome,
            late_error: self.late_error,
            address: self.address,
            hops: self.hops,
            timings: self.timings,
            response: self.answer.map(Answer::record),
            duration: now - self.started,
        }
    }
}

impl Answer {
    fn record(self) -> ResponseRecord {
        let header = |(name, value): (&HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), latin1(value.as_bytes()).into_owned())
        };
        ResponseRecord {
            status: self.status.as_u16(),
            headers: self.headers.iter().map(header).collect(),
            body_base64: Bytes::from(self.kept.bytes),
            truncated: self.kept.truncated,
        }
    }
}

/// The host of a hop's URL, for a message.
fn host_of(url: &str) -> &str {
    let authority = url.split('/').nth(2).unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Why no address took the connection.
fn no_connection(failures: Vec<(SocketAddr, io::Error)>) -> Fault {
    let error = classify::connect(&failures);
    if failures.iter().any(|(_, error)| lacks_descriptors(error)) {
        Fault::Starved(error)
    } else {
        Fault::Unanswered(error)
    }
}

/// How long the server says it keeps an idle connection: `Keep-Alive: timeout=5, max=100`.
fn server_timeout(headers: &HeaderMap) -> Option<Duration> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(timeout.trim().parse().ok()?))
}
