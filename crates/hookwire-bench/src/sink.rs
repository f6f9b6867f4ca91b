//! The receiver that benches send to: cheap, and it counts.
//!
//! It runs as a process of its own, so that its CPU time is not the worker's. It reads just enough of HTTP/1.1 to find
//! where a request ends, answers 200 with an empty body, and remembers each `webhook-id`, so that it can tell duplicates
//! from new ones and the bench can tell losses.

use std::collections::HashSet;
use std::io::{BufRead as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a sink has seen.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests in all.
    pub(crate) requests: u64,
    /// Different ids among them.
    pub(crate) distinct: u64,
}

/// A sink process; it ends when this is dropped.
pub(crate) struct Sink {
    child: Child,
    commands: ChildStdin,
    replies: std::io::BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Sink {
    /// Starts this program again as a sink.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program has no file")?;
        let mut child = Command::new(program)
            .arg("sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the sink cannot be started")?;
        let commands = child.stdin.take().context("it was asked for")?;
        let mut replies = std::io::BufReader::new(child.stdout.take().context("it was asked for")?);
        let mut line = String::new();
        replies.read_line(&mut line)?;
        let port = line.trim().parse().context("the sink tells its port")?;
        Ok(Sink { child, commands, replies, port })
    }

    /// What it has seen since it was last asked.
    pub(crate) fn take(&mut self) -> anyhow::Result<Seen> {
        self.commands.write_all(b"take\n")?;
        self.commands.flush()?;
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        serde_json::from_str(&line).context("the sink tells what it has seen")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It ends by itself when its input does; killing it by its own handle makes sure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Counts {
    requests: u64,
    ids: HashSet<Box<[u8]>>,
}

impl Counts {
    fn add(&mut self, id: Box<[u8]>) {
        self.requests += 1;
        self.ids.insert(id);
    }
}

/// The sink's own `main`: prints its port, then answers each line on its input with what it has seen.
pub(crate) fn main() -> anyhow::Result<()> {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let (listener, _guard) = {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        (runtime.spawn(accept(listener, Arc::clone(&counts))), (runtime, say(&port.to_string())?))
    };
    for line in std::io::stdin().lock().lines() {
        if line?.trim() != "take" {
            break;
        }
        let mut counts = counts.lock().expect("no holder panics");
        let seen = Seen { requests: counts.requests, distinct: counts.ids.len() as u64 };
        *counts = Counts::default();
        drop(counts);
        say(&serde_json::to_string(&seen)?)?;
    }
    listener.abort();
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

async fn accept(listener: TcpListener, counts: Arc<Mutex<Counts>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Each ends with its connection, and all of them with the process.
        tokio::spawn(serve(stream, Arc::clone(&counts)));
    }
}

async fn serve(mut stream: TcpStream, counts: Arc<Mutex<Counts>>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        while let Some((id, length)) = parse(&buffer) {
            counts.lock().expect("no holder panics").add(id);
            buffer.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The id of the first request in a buffer and where it ends, if all of it is there.
fn parse(buffer: &[u8]) -> Option<(Box<[u8]>, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(buffer).ok()? else { return None };
    let find = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length =
        find("content-length").map_or("0", |header| std::str::from_utf8(header.value).unwrap_or("0"));
    let end = head + length.trim().parse::<usize>().ok()?;
    let id = find("webhook-id").map(|header| header.value.into()).unwrap_or_default();
    (buffer.len() >= end).then_some((id, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_all_of_it_is_there() {
        let request = b"POST / HTTP/1.1\r\nWebhook-Id: a\r\nContent-Length: 2\r\n\r\nhiPOST";
        let (id, end) = parse(request).unwrap();
        assert_eq!((&id[..], &request[..end].ends_with(b"hi")), (&b"a"[..], &true));
        assert!(parse(&request[..end - 1]).is_none());
    }
}
