//! What these tests share: a folder with a configuration, a server in it, and plain HTTP.

use std::net::SocketAddr;
use std::path::Path;

use hookwire_testkit::{Ended, Program, eventually};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A folder for one test; it goes with the test.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    /// One with `hookwire.toml`: these definitions, a store in the folder, and a free port of loopback.
    pub(crate) fn with(definitions: &str) -> Self {
        let folder = Folder::new();
        folder.write("hookwire.toml", &format!("{SETTINGS}\n{definitions}"));
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// Runs a program to its end.
    pub(crate) async fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        Program::start(name, self.path(), arguments).wait().await
    }

    /// Runs `hookwire` to its end.
    pub(crate) async fn hookwire(&self, arguments: &[&str]) -> Ended {
        self.run("hookwire", arguments).await
    }

    /// Runs `hookwire` to its end, which must be a good one, and reads what it printed as JSON.
    pub(crate) async fn hookwire_json(&self, arguments: &[&str]) -> Value {
        let ended = self.hookwire(arguments).await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

const SETTINGS: &str = r#"
[store]
url = "embedded:./store"
[server]
listen = "127.0.0.1:0"
"#;

/// `hookwire serve`, listening.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it in a folder and waits until it listens.
    pub(crate) async fn start(folder: &Folder) -> Self {
        Server::start_with(folder, &[]).await
    }

    /// Starts it again at the address that it had before.
    pub(crate) async fn start_at(folder: &Folder, address: SocketAddr) -> Self {
        Server::start_with(folder, &["--listen", &address.to_string()]).await
    }

    /// Starts it with further arguments.
    pub(crate) async fn start_with(folder: &Folder, arguments: &[&str]) -> Self {
        let arguments = [&["--log", "info", "serve"], arguments].concat();
        Server::of(Program::start("hookwire", folder.path(), &arguments)).await
    }

    /// A program that was started as a server; waits until it listens.
    pub(crate) async fn of(program: Program) -> Self {
        let address = eventually("the line with the server's address", async || {
            let stderr = program.stderr();
            assert!(!stderr.contains("error: "), "the server does not start: {stderr}");
            let line = stderr.lines().find(|line| line.contains("listening"))?;
            line.split_once("address=")?.1.trim().parse().ok()
        })
        .await;
        Server { program, address }
    }

    /// What `--url` takes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Publishes one event, several in an array, or lines; gives the ids.
    pub(crate) async fn publish(&self, events: &str) -> Vec<String> {
        let (status, answer) = call(self.address, Method::POST, "/v1/events", events).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        serde_json::from_value(answer["ids"].clone()).unwrap()
    }

    /// What a path shows.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        call(self.address, Method::GET, path, "").await.unwrap()
    }

    /// Waits until so many deliveries are in a state, and gives them.
    pub(crate) async fn deliveries(&self, state: &str, count: usize) -> Vec<Value> {
        let path = format!("/v1/deliveries?limit=500&state={state}");
        eventually(&format!("{count} {state} deliveries"), async || {
            let (_, page) = self.get(&path).await;
            let items = page["items"].as_array().unwrap().clone();
            (items.len() >= count).then_some(items)
        })
        .await
    }
}

/// One request on a connection of its own; `Err` if the server is not there or goes away.
pub(crate) async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &str,
) -> Result<(u16, Value), Box<dyn std::error::Error>> {
    call_with(address, method, path, body, &[]).await
}

/// The same with further headers.
pub(crate) async fn call_with(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, Value), Box<dyn std::error::Error>> {
    let response = exchange(address, method, path, body, headers).await?;
    Ok((response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null)))
}

/// The same with the whole response.
pub(crate) async fn exchange(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Result<Response<Bytes>, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    // Ends with the set, when the answer is there.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}

/// What a path shows as text, with its status.
pub(crate) async fn exchanged(address: SocketAddr, path: &str) -> (u16, String) {
    let response = exchange(address, Method::GET, path, "", &[]).await.unwrap();
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}

/// The members of an object, in order.
pub(crate) fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Settings under which what differs from run to run is replaced: ids, dates, ports, the folder, the version.
pub(crate) fn snapshots(folder: &Folder) -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(true);
    settings.set_omit_expression(true);
    let path = folder.path().display().to_string();
    for (pattern, name) in [
        (path.replace('.', r"\."), "[folder]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}".into(), "[uuid]"),
        (r"dlv_[0-9A-Za-z]+".into(), "[delivery]"),
        (r"ep_[0-9a-f]{16}".into(), "[endpoint]"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)".into(), "[time]"),
        (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT".into(), "[date]"),
        (r"hookwire/\d+\.\d+\.\d+".into(), "hookwire/[version]"),
        (r"(127\.0\.0\.1|localhost):\d+".into(), "$1:[port]"),
        (r"\(\d+\.\d ms\)".into(), "([duration])"),
        (r"(GMT|\[date\]) (127\.0\.0\.1|::1) ".into(), "$1 [client] "),
        (r"os error \d+".into(), "os error [number]"),
        (r"process \d+".into(), "process [id]"),
        (r"\b\d+[dhms]( \d+[hms])? ago".into(), "[age] ago"),
        (r"history bytes +\d+\.\d KiB".into(), "history bytes       [size]"),
        (r"fingerprint +[0-9a-f]{16}".into(), "fingerprint         [fingerprint]"),
    ] {
        settings.add_filter(&pattern, name);
    }
    settings.bind_to_scope()
}
