//! Lines about redirects, retries, timeouts and TLS: their requests go over loopback to servers that answer as NetBox's
//! receiver did. Nobody waits for a retry: how long it would wait is part of the answer.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use hookwire_dispatch::{
    AttemptOptions, AttemptReport, Dispatch as _, DispatchSettings, EgressPolicy, EgressRule, HttpDispatcher,
    TlsProfile,
};
use hookwire_model::{PreparedRequest, Timestamp, Webhook};
use hookwire_policy::{Attempted, Decision, decide};
use hookwire_testkit::{Answer, Received, ScriptedEndpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::deliveries::{Fired, body, first_request, pairs, shown};
use crate::support::headers;

/// The ports of the recording's receiver.
const PLAIN: [u16; 2] = [9101, 9102];
const TLS: u16 = 9443;
const CLOSED: u16 = 9;

/// What was sent for a line, and how it ended: here, and by NetBox.
pub(crate) fn compare(line: &Value) -> (String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("there is room for a runtime").block_on(async {
        let receivers = Receivers::start(line).await;
        let line = receivers.at_these_ports(line);
        (ours(&line, &receivers).await, netboxs(&line))
    })
}

/// The lines to add to the webhook for what NetBox does by itself or by its settings: see `docs/netbox.md`.
fn settings(line: &Value) -> String {
    let settings = &line["settings"];
    let mut lines = String::new();
    if line["kind"] == "redirect" {
        lines += "follow_redirects = true\n";
    }
    if let Some(seconds) = settings["RQ_DEFAULT_TIMEOUT"].as_u64() {
        let _ = writeln!(lines, "timeout = \"{seconds}s\"");
    }
    let waits: Vec<String> = waits(settings).iter().map(|wait| format!("\"{wait}s\"")).collect();
    match waits.len() {
        0 => lines += "retry = { max_attempts = 1 }\n",
        retries => {
            let (attempts, schedule) = (retries + 1, waits.join(", "));
            let _ = writeln!(
                lines,
                "retry = {{ max_attempts = {attempts}, schedule = [{schedule}], jitter = 0 }}"
            );
        }
    }
    lines
}

/// The waits, in seconds, between the attempts that NetBox's settings make. A list of intervals that is shorter than the
/// number of retries has its first one repeated.
fn waits(settings: &Value) -> Vec<u64> {
    let retries = settings["RQ_RETRY_MAX"].as_u64().unwrap_or(0) as usize;
    let intervals: Vec<u64> = match &settings["RQ_RETRY_INTERVAL"] {
        Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
        one => vec![one.as_u64().unwrap_or(60)],
    };
    let first = (1..=retries).map(|attempt| (intervals.len() + attempt).saturating_sub(retries + 1));
    first.map(|at| intervals[at]).collect()
}

async fn ours(line: &Value, receivers: &Receivers) -> String {
    let mut story = Story::default();
    let (webhook, request) = match first_request(line, &settings(line)) {
        Fired::No => return "does not fire".into(),
        // Nothing goes out however often it is tried.
        Fired::Broken(_) => return story.end("failed"),
        Fired::Request(webhook, request) => (webhook, request),
    };
    let dispatcher = HttpDispatcher::new(DispatchSettings {
        // Redirects lead to other ports of this machine.
        egress: EgressPolicy {
            allow: vec![EgressRule::Address(Ipv4Addr::LOCALHOST.into())],
            ..EgressPolicy::default()
        },
        ..DispatchSettings::default()
    });
    let ended = loop {
        let report = receivers.attempt(&dispatcher, &request, &webhook).await;
        story.attempts += 1;
        let attempted = Attempted {
            outcome: &report.outcome,
            rendered: true,
            attempts: story.attempts,
            accepted_at: Timestamp::UNIX_EPOCH,
            now: Timestamp::UNIX_EPOCH,
            policy: &webhook.retry,
            jitter: 0.5,
        };
        match decide(&attempted).decision {
            Decision::Done => break "finished",
            Decision::DeadLetter(_) => break "failed",
            Decision::RetryAfter(wait) | Decision::NotMade(wait) => story.waits.push(wait),
        }
    };
    story.requests = receivers.received(line);
    story.end(ended)
}

fn netboxs(line: &Value) -> String {
    let requests = line["requests"].as_array().expect("every line says what was sent");
    let mut story = Story::default();
    story.requests.extend(requests.iter().map(|request| {
        let text = |member: &str| request[member].as_str().unwrap_or_default();
        let headers = request["headers"].as_array().into_iter().flatten();
        let host = headers.clone().find(|header| header[0] == "Host").map(|header| &header[1]);
        let host = host.and_then(Value::as_str).unwrap_or_default();
        shown(text("method"), host, text("target"), &pairs(&request["headers"]), &body(request))
    }));
    let ended = line["job_status"].as_str().unwrap_or_default();
    // A template that fails is tried again, too; no request comes of it.
    let sends = !line["exception"]["class"].as_str().unwrap_or_default().starts_with("jinja2.");
    if sends {
        let waits = waits(&line["settings"]);
        let retries =
            if ended == "failed" { waits.len() } else { requests.len().saturating_sub(1).min(waits.len()) };
        story.waits = waits[..retries].iter().copied().map(Duration::from_secs).collect();
    }
    story.end(ended)
}

/// What happened.
#[derive(Default)]
struct Story {
    requests: Vec<String>,
    attempts: u32,
    waits: Vec<Duration>,
}

impl Story {
    fn end(&self, ended: &str) -> String {
        format!("{}\n=> {ended}, waits of {:?}", self.requests.join("\n--\n"), self.waits)
    }
}

/// Servers in the place of the recording's receiver.
struct Receivers {
    /// By the port of the recording.
    plain: BTreeMap<u16, ScriptedEndpoint>,
    tls: u16,
    closed: u16,
    _tls: JoinSet<()>,
}

impl Receivers {
    async fn start(line: &Value) -> Self {
        let mut scripts: BTreeMap<u16, VecDeque<(u64, Option<String>, bool)>> = BTreeMap::new();
        for request in line["requests"].as_array().into_iter().flatten() {
            let port = request["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
            let status = request["answered"].as_u64().unwrap_or(200);
            let location = request["location"].as_str().map(str::to_owned);
            scripts.entry(port).or_default().push_back((status, location, request["answered"] == "slow"));
        }
        let mut plain = BTreeMap::new();
        for port in PLAIN {
            plain.insert(port, ScriptedEndpoint::start([]).await);
        }
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let closed = closed.local_addr().expect("the listener is bound").port();
        let (tls, server) = tls_server().await;
        let receivers = Receivers { plain, tls, closed, _tls: server };
        for (port, script) in scripts {
            let Some(endpoint) = receivers.plain.get(&port) else { continue };
            endpoint.script(script.into_iter().map(|(status, location, slow)| {
                let status = u16::try_from(status).expect("a status has three digits");
                match location {
                    Some(location) => Answer::Redirect(status, receivers.replace(&location)),
                    None if slow => Answer::Held(200),
                    None => Answer::Status(status),
                }
            }));
        }
        receivers
    }

    fn replace(&self, text: &str) -> String {
        let plain = self.plain.iter().map(|(port, endpoint)| (*port, endpoint.address().port()));
        let ports = plain.chain([(TLS, self.tls), (CLOSED, self.closed)]);
        ports.fold(text.to_owned(), |text, (recorded, here)| {
            ["127.0.0.1", "localhost"].iter().fold(text, |text, host| {
                let pieces: Vec<&str> = text.split(&format!("{host}:{recorded}")).collect();
                let mut out = pieces[0].to_owned();
                for piece in &pieces[1..] {
                    // Port 9 is also how ports 9101 to 9443 begin.
                    let whole = !piece.starts_with(|c: char| c.is_ascii_digit());
                    let port = if whole { here } else { recorded };
                    let _ = write!(out, "{host}:{port}{piece}");
                }
                out
            })
        })
    }

    /// The line with its ports replaced by those of the servers here.
    fn at_these_ports(&self, line: &Value) -> Value {
        serde_json::from_str(&self.replace(&line.to_string())).expect("it is still JSON")
    }

    /// One attempt; an answer that is held is let go as soon as the request has come.
    async fn attempt(
        &self,
        dispatcher: &HttpDispatcher,
        request: &PreparedRequest,
        webhook: &Webhook,
    ) -> AttemptReport {
        let options = AttemptOptions {
            timeout: webhook.timeout,
            tls: TlsProfile::load(&webhook.tls).expect("the definition was checked"),
            follow_redirects: webhook.follow_redirects,
        };
        let attempt = dispatcher.attempt(request, &options);
        let release = async {
            let endpoint = &self.plain[&PLAIN[0]];
            endpoint.wait_for(1).await;
            endpoint.release();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            report = attempt => report,
            () = release => unreachable!("it never ends"),
        }
    }

    /// What came in, in the order of NetBox's requests.
    fn received(&self, line: &Value) -> Vec<String> {
        let mut by_port: BTreeMap<u16, VecDeque<Received>> =
            self.plain.iter().map(|(port, endpoint)| (*port, endpoint.received().into())).collect();
        let mut all = Vec::new();
        for request in line["requests"].as_array().into_iter().flatten() {
            let port = request["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
            all.extend(by_port.get_mut(&port).and_then(VecDeque::pop_front));
        }
        all.extend(by_port.into_values().flatten());
        let show = |request: &Received| {
            let host = request.header("host").unwrap_or_default();
            let headers = headers(request.headers.iter().cloned());
            shown(&request.method, host, &request.target, &headers, &request.body)
        };
        all.iter().map(show).collect()
    }
}

/// A server with a certificate that nobody has signed but itself.
async fn tls_server() -> (u16, JoinSet<()>) {
    let key = KeyPair::generate().expect("there is randomness");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("it is a name");
    let certificate = params.self_signed(&key).expect("the key signs");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("the key fits the certificate");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
    let port = listener.local_addr().expect("the listener is bound").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust the certificate ends the handshake.
            let _ = acceptor.accept(stream).await;
        }
    });
    (port, server)
}
