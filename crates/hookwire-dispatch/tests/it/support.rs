//! A network in memory: a dialler that records what it is asked, and servers that follow a script.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hookwire_dispatch::{
    AttemptOptions, AttemptReport, Dial, Dispatch, DispatchSettings, HttpDispatcher, TlsProfile,
};
use hookwire_model::{Authority, Method, Outcome, PreparedRequest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

/// What a server does with a request that it has read.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Sends these bytes one by one, with this pause before each.
    Drip(Vec<u8>, Duration),
    /// The whole process stands still for so long; these bytes are there when it goes on, and its timers fire first.
    StandStill(Duration, Vec<u8>),
    /// Does nothing more, and keeps the connection open.
    Hang,
}

impl Reply {
    /// A response with a body of known length.
    pub(crate) fn response(status: u16, headers: &str, body: &str) -> Reply {
        let head = format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Reply::Send(format!("{head}{body}").into_bytes())
    }

    pub(crate) fn ok() -> Reply {
        Reply::response(200, "", "")
    }
}

/// What happens when an address is dialled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    /// A server takes the connection.
    Server,
    /// The connection is refused.
    Refused,
    /// Nothing answers.
    Silent,
    /// The process has no file descriptor left; the next time it has.
    NoDescriptorOnce,
    /// The whole process stands still for so long while the server takes the connection.
    StandsStill(Duration),
}

/// A request as a server got it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
    pub(crate) address: SocketAddr,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// The network: all that tests set and look at. A clone is another handle to the same one.
#[derive(Clone, Default)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    /// How many connections servers have seen the end of.
    closed: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct State {
    names: HashMap<String, Vec<IpAddr>>,
    reach: HashMap<IpAddr, Reach>,
    replies: VecDeque<Reply>,
    dialled: Vec<SocketAddr>,
    resolved: Vec<String>,
    received: Vec<Received>,
    connections: usize,
    hold: bool,
}

impl Net {
    /// Servers that give these replies, in order of the requests, and after the last one 200 for ever.
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Net {
        let net = Net::default();
        net.state.lock().unwrap().replies.extend(replies);
        net
    }

    pub(crate) fn name(self, name: &str, addresses: &[&str]) -> Net {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.state.lock().unwrap().names.insert(name.to_owned(), addresses);
        self
    }

    pub(crate) fn reach(self, address: &str, reach: Reach) -> Net {
        self.state.lock().unwrap().reach.insert(address.parse().unwrap(), reach);
        self
    }

    pub(crate) fn push(&self, reply: Reply) {
        self.state.lock().unwrap().replies.push_back(reply);
    }

    pub(crate) fn dialled(&self) -> Vec<String> {
        self.state.lock().unwrap().dialled.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn resolved(&self) -> Vec<String> {
        self.state.lock().unwrap().resolved.clone()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// The numbers of the connections that the requests came over.
    pub(crate) fn connections(&self) -> Vec<usize> {
        self.received().iter().map(|request| request.connection).collect()
    }

    /// Waits until servers have seen this many connections end.
    pub(crate) async fn until_closed(&self, count: usize) {
        self.closed.subscribe().wait_for(|closed| *closed >= count).await.unwrap();
    }

    /// Serves one connection to its end.
    pub(crate) async fn serve(self, address: SocketAddr, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let connection = {
            let mut state = self.state.lock().unwrap();
            state.connections += 1;
            state.connections
        };
        // Errors are the other side's doing, and what it should have got is looked at there.
        let _ = self.follow(connection, address, &mut stream).await;
        drop(stream);
        self.closed.send_modify(|closed| *closed += 1);
    }

    async fn follow(
        &self,
        connection: usize,
        address: SocketAddr,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<()> {
        while let Some((head, body)) = read_request(stream).await? {
            let reply = {
                let mut state = self.state.lock().unwrap();
                state.received.push(Received { connection, address, head, body });
                state.replies.pop_front().unwrap_or_else(Reply::ok)
            };
            match reply {
                Reply::Send(bytes) => stream.write_all(&bytes).await?,
                Reply::SendAndClose(bytes) => {
                    stream.write_all(&bytes).await?;
                    return stream.shutdown().await;
                }
                Reply::Drip(bytes, pause) => {
                    for byte in bytes {
                        tokio::time::sleep(pause).await;
                        stream.write_all(&[byte]).await?;
                    }
                }
                Reply::StandStill(time, bytes) => {
                    tokio::time::advance(time).await;
                    stream.write_all(&bytes).await?;
                }
                Reply::Hang => {
                    let mut rest = Vec::new();
                    stream.read_to_end(&mut rest).await?;
                }
            }
        }
        Ok(())
    }
}

/// The next request: its head as text, and its body. `None` at the end.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head: String = head.into_iter().map(char::from).collect();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok(Some((head, body)))
}

impl Dial for Net {
    type Stream = DuplexStream;

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = {
            let mut state = self.state.lock().unwrap();
            state.resolved.push(host.to_owned());
            if state.hold { None } else { Some(state.names.get(host).cloned()) }
        };
        match addresses {
            None => std::future::pending().await,
            Some(None) => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            Some(Some(addresses)) => Ok(addresses),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let reach = {
            let mut state = self.state.lock().unwrap();
            state.dialled.push(address);
            let reach = state.reach.get(&address.ip()).copied().unwrap_or(Reach::Server);
            if matches!(reach, Reach::NoDescriptorOnce) {
                state.reach.insert(address.ip(), Reach::Server);
            }
            reach
        };
        match reach {
            Reach::Server => {
                let (near, far) = tokio::io::duplex(1024 * 1024);
                tokio::spawn(self.clone().serve(address, far));
                Ok(near)
            }
            Reach::Refused => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            Reach::Silent => std::future::pending().await,
            Reach::NoDescriptorOnce => Err(io::Error::from_raw_os_error(24)),
            Reach::StandsStill(time) => {
                tokio::time::advance(time).await;
                // Only now is the connection there, and the deadline is over.
                tokio::task::yield_now().await;
                let (near, far) = tokio::io::duplex(1024 * 1024);
                tokio::spawn(self.clone().serve(address, far));
                Ok(near)
            }
        }
    }
}

impl Net {
    /// From now on no name is resolved.
    pub(crate) fn silence_names(&self) {
        self.state.lock().unwrap().hold = true;
    }

    pub(crate) fn dispatcher(&self) -> HttpDispatcher<Net> {
        self.dispatcher_with(DispatchSettings::default())
    }

    pub(crate) fn dispatcher_with(&self, settings: DispatchSettings) -> HttpDispatcher<Net> {
        HttpDispatcher::with_dial(settings, self.clone())
    }
}

/// A request to this URL, as a definition that holds it literally would make it.
pub(crate) fn post(url: &str) -> PreparedRequest {
    let url = url::Url::parse(url).unwrap();
    PreparedRequest {
        method: Method::Post,
        authority: Authority {
            https: url.scheme() == "https",
            host: url.host_str().unwrap().to_owned(),
            port: url.port_or_known_default().unwrap(),
        },
        literal_host: true,
        target: url.path().to_owned(),
        headers: vec![("Content-Type".into(), Bytes::from_static(b"application/json"))],
        masked_headers: vec![],
        body: Bytes::from_static(b"{}"),
    }
}

/// The same, as a template would make it.
pub(crate) fn templated(url: &str) -> PreparedRequest {
    PreparedRequest { literal_host: false, ..post(url) }
}

pub(crate) fn options() -> AttemptOptions {
    AttemptOptions { timeout: Duration::from_secs(10), tls: TlsProfile::system(), follow_redirects: false }
}

pub(crate) fn following() -> AttemptOptions {
    AttemptOptions { follow_redirects: true, ..options() }
}

/// One attempt with a new dispatcher.
pub(crate) async fn attempt(net: &Net, request: &PreparedRequest, options: &AttemptOptions) -> AttemptReport {
    net.dispatcher().attempt(request, options).await
}

/// What came of it, in a line.
pub(crate) fn summary(report: &AttemptReport) -> String {
    let mut text = match &report.outcome {
        Outcome::Answered { status, retry_after: None } => format!("{} {status}", report.outcome.kind()),
        Outcome::Answered { status, retry_after: Some(after) } => {
            format!("{} {status} retry-after={after}", report.outcome.kind())
        }
        Outcome::Unanswered(_) | Outcome::Unsent(_) => report.outcome.kind().to_string(),
    };
    if let Some(error) = report.error() {
        text.push_str(&format!("; {}: {}", error.kind, error.message));
    }
    if let Some(response) = &report.response {
        let body = String::from_utf8_lossy(&response.body_base64);
        let body = if body.len() > 40 { format!("{} bytes", body.len()) } else { format!("{body:?}") };
        let cut = if response.truncated { " truncated" } else { "" };
        text.push_str(&format!("; body {body}{cut}"));
    }
    text
}
