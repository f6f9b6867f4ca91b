//! An endpoint that answers as it is told, and remembers what it was sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;

/// How to answer a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this status and an empty body.
    Status(u16),
    /// With this status and this header.
    Header(u16, &'static str, String),
    /// With this status and this body, as JSON.
    Json(u16, String),
    /// With this status, this content type and this body.
    Body(u16, &'static str, String),
    /// With a redirect to this URL.
    Redirect(u16, String),
    /// Never: the connection stays open and silent.
    Silence,
    /// After the endpoint's [`release`](ScriptedEndpoint::release) was called, with this status.
    Held(u16),
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The request method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Received {
    /// The first value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the test expects a text")
    }
}

/// A server on loopback that answers as it is told. It ends when it is dropped.
pub struct ScriptedEndpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    script: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Answer>,
    received: watch::Sender<Vec<Received>>,
    released: watch::Sender<bool>,
}

impl ScriptedEndpoint {
    /// Starts an endpoint that gives these answers, one a request, and then 200.
    pub async fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            otherwise: Mutex::new(Answer::Status(200)),
            received: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        ScriptedEndpoint { address, shared, _server: server }
    }

    /// More answers, after those that are still to be given.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().expect("no test panics while it holds this").extend(answers);
    }

    /// What it answers when the script has run out.
    pub fn otherwise(&self, answer: Answer) {
        *self.shared.otherwise.lock().expect("no test panics while it holds this") = answer;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that came in so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// How many requests came in so far.
    pub fn count(&self) -> usize {
        self.shared.received.borrow().len()
    }

    /// Lets held answers go.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Waits until so many requests came in, and gives them.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(count).await;
        self.received()
    }

    /// Waits until so many requests came in.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn wait_until(&self, count: usize) {
        let mut watcher = self.shared.received.subscribe();
        let waited =
            tokio::time::timeout(PATIENCE, watcher.wait_for(|received| received.len() >= count)).await;
        match waited {
            Ok(received) => drop(received.expect("the endpoint lives as long as this")),
            Err(_) => panic!("{} requests came of {count} that were waited for", self.count()),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            // A client that goes away is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), value.as_bytes().iter().map(|byte| char::from(*byte)).collect())
    });
    let received = Received {
        method: head.method.to_string(),
        target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: headers.collect(),
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    };
    let scripted = shared.script.lock().expect("no test panics while it holds this").pop_front();
    let answer = scripted
        .unwrap_or_else(|| shared.otherwise.lock().expect("no test panics while it holds this").clone());
    shared.received.send_modify(|all| all.push(received));
    let mut response = Response::new(Full::default());
    let status = match answer {
        Answer::Status(status) => status,
        Answer::Header(status, name, value) => {
            response.headers_mut().insert(name, value.parse().expect("the test gives a valid header"));
            status
        }
        Answer::Json(status, body) => {
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
            *response.body_mut() = Full::from(body);
            status
        }
        Answer::Body(status, content_type, body) => {
            *response.body_mut() = Full::from(body);
            response
                .headers_mut()
                .insert("content-type", content_type.parse().expect("the test gives a valid header"));
            status
        }
        Answer::Redirect(status, url) => {
            response.headers_mut().insert("location", url.parse().expect("the test gives a valid URL"));
            status
        }
        Answer::Silence => {
            // Longer than any test; the connection ends with the endpoint.
            tokio::time::sleep(Duration::from_secs(3600)).await;
            500
        }
        Answer::Held(status) => {
            let mut released = shared.released.subscribe();
            let _ = released.wait_for(|released| *released).await;
            status
        }
    };
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("the test gives a valid status");
    Ok(response)
}
