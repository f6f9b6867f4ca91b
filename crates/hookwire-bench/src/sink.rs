//! The receiver that benches send to: cheap, and it counts.
//!
//! It runs as a process of its own, so that its CPU time is not the worker's. It reads just enough of HTTP/1.1 to find
//! where a request ends, answers as it was told to, and remembers each `webhook-id`, so that it can tell duplicates
//! from new ones and the bench can tell losses.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::io::{BufRead as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::measure::percentile;

/// The header in which a request tells when its event was made, in microseconds since 1970.
pub(crate) const MADE: &str = "x-made";

/// How a sink answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// 200, at once.
    Fine,
    /// Not at all.
    Silent,
    /// 200, and then a body that comes byte by byte and never ends.
    Dripping,
    /// It does not listen.
    Refusing,
    /// 500 after a second.
    Slow,
    /// 200 to so many a second, to others 429 without `Retry-After`.
    Room(u32),
}

/// What a sink has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests in all.
    pub(crate) requests: u64,
    /// Those that were not answered 200.
    pub(crate) turned_away: u64,
    /// Different ids among those that were, or would have been.
    pub(crate) distinct: u64,
    /// When the first and the last one came, in microseconds since 1970.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// From the making of an event to its arrival, in microseconds: the median, and what one in a hundred exceeds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// Requests answered 200 in each second since the first.
    pub(crate) each_second: Vec<u32>,
}

impl Seen {
    /// Requests that were answered 200.
    pub(crate) fn taken(&self) -> u64 {
        self.requests - self.turned_away
    }
}

/// A sink process; it ends when this is dropped.
pub(crate) struct Sink {
    child: Child,
    commands: ChildStdin,
    replies: std::io::BufReader<ChildStdout>,
    /// Where it listens: one port, or as many as were asked for.
    pub(crate) ports: Vec<u16>,
}

impl Sink {
    /// Starts this program again as a sink that answers 200.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Sink::start_with(Answer::Fine, 1)
    }

    /// Starts one that answers so, on so many ports.
    pub(crate) fn start_with(answer: Answer, ports: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program has no file")?;
        let mut child = Command::new(program)
            .args(["bench", "--sink", &serde_json::to_string(&(answer, ports))?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the sink cannot be started")?;
        let commands = child.stdin.take().context("it was asked for")?;
        let replies = std::io::BufReader::new(child.stdout.take().context("it was asked for")?);
        let mut sink = Sink { child, commands, replies, ports: Vec::new() };
        sink.ports = sink.reply().context("the sink does not tell its port")?;
        ensure!(sink.ports.len() == ports, "the sink listens on {} ports", sink.ports.len());
        Ok(sink)
    }

    /// Its only port.
    pub(crate) fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    /// What it has seen since it was last asked to forget, without percentiles, which take time.
    pub(crate) fn look(&mut self) -> anyhow::Result<Seen> {
        self.ask("look")
    }

    /// The same; it begins anew then.
    pub(crate) fn take(&mut self) -> anyhow::Result<Seen> {
        self.ask("take")
    }

    /// Begins to listen, where it did not.
    pub(crate) fn come_up(&mut self) -> anyhow::Result<()> {
        self.ask::<Seen>("up").map(drop)
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, command: &str) -> anyhow::Result<T> {
        writeln!(self.commands, "{command}")?;
        self.commands.flush()?;
        self.reply().context("the sink does not tell what it has seen")
    }

    fn reply<T: serde::de::DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.replies.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It ends by itself when its input does; killing it by its own handle makes sure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hashes that are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Default)]
struct Counts {
    requests: u64,
    turned_away: u64,
    /// Of ids; that two of ten million are the same happens once in a hundred thousand runs.
    ids: HashSet<u64, BuildHasherDefault<Same>>,
    first: u64,
    last: u64,
    latencies: Vec<u64>,
    each_second: HashMap<u64, u32>,
}

impl Counts {
    fn add(&mut self, request: &Request, now: u64, taken: bool) {
        self.requests += 1;
        if !taken {
            self.turned_away += 1;
            return;
        }
        self.ids.insert(request.id);
        if self.first == 0 {
            self.first = now;
        }
        self.last = now;
        *self.each_second.entry((now - self.first) / 1_000_000).or_default() += 1;
        if request.made > 0 {
            self.latencies.push(now.saturating_sub(request.made));
        }
    }

    fn seen(&self, latencies: &mut [u64]) -> Seen {
        let seconds = self.each_second.keys().max().map_or(0, |last| last + 1);
        Seen {
            requests: self.requests,
            turned_away: self.turned_away,
            distinct: self.ids.len() as u64,
            first: self.first,
            last: self.last,
            p50: percentile(latencies, 0.5),
            p99: percentile(latencies, 0.99),
            each_second: (0..seconds).map(|second| *self.each_second.get(&second).unwrap_or(&0)).collect(),
        }
    }
}

/// Microseconds since 1970, by the clock that all processes of the machine share.
pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What connections share.
struct Shared {
    answer: Answer,
    counts: Mutex<Counts>,
    /// Of a sink with little room: until when it is used up (a bucket that holds a quarter of a second's worth).
    used_until: Mutex<Instant>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more request now.
    fn has_room(&self, per_second: u32) -> bool {
        let now = Instant::now();
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*used_until).max(now) + Duration::from_secs(1) / per_second.max(1);
        let has_room = next <= now + Duration::from_millis(250);
        if has_room {
            *used_until = next;
        }
        has_room
    }
}

/// The sink's own `main`: prints its ports, then answers each line on its input with what it has seen.
pub(crate) fn main(spec: &str) -> anyhow::Result<()> {
    let (answer, count): (Answer, usize) = serde_json::from_str(spec)?;
    let shared =
        Arc::new(Shared { answer, counts: Mutex::default(), used_until: Mutex::new(Instant::now()) });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        sockets.push(socket);
    }
    let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port()));
    let ports = ports.collect::<std::io::Result<Vec<u16>>>()?;
    // A port that is bound and not listened on belongs to nobody else, and refuses.
    if answer != Answer::Refusing && !matches!(answer, Answer::Room(_)) {
        listen(&runtime, &mut sockets, &shared)?;
    }
    say(&serde_json::to_string(&ports)?)?;
    for line in std::io::stdin().lock().lines() {
        let seen = match line?.trim() {
            "look" => shared.counts().seen(&mut []),
            "take" => {
                let mut counts = std::mem::take(&mut *shared.counts());
                let mut latencies = std::mem::take(&mut counts.latencies);
                counts.seen(&mut latencies)
            }
            "up" => {
                listen(&runtime, &mut sockets, &shared)?;
                Seen::default()
            }
            _ => break,
        };
        say(&serde_json::to_string(&seen)?)?;
    }
    Ok(())
}

fn listen(
    runtime: &tokio::runtime::Runtime,
    sockets: &mut Vec<TcpSocket>,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    let _context = runtime.enter();
    for socket in sockets.drain(..) {
        // Each ends with the process.
        runtime.spawn(accept(socket.listen(1024)?, Arc::clone(shared)));
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Each ends with its connection, and all of them with the process.
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        while let Some((request, length)) = parse(&buffer) {
            buffer.drain(..length);
            if answer(&mut stream, &shared, &request).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn answer(stream: &mut TcpStream, shared: &Shared, request: &Request) -> std::io::Result<()> {
    let taken = match shared.answer {
        Answer::Room(per_second) => shared.has_room(per_second),
        Answer::Fine | Answer::Silent | Answer::Dripping | Answer::Refusing | Answer::Slow => true,
    };
    shared.counts().add(request, micros(), taken);
    match shared.answer {
        Answer::Fine | Answer::Refusing => stream.write_all(FINE).await,
        Answer::Room(_) if taken => stream.write_all(FINE).await,
        Answer::Room(_) => {
            stream.write_all(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await
        }
        // Until the other side has had enough.
        Answer::Silent => stream.readable().await,
        Answer::Dripping => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stream.write_all(b".").await?;
            }
        }
        Answer::Slow => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await
        }
    }
}

/// What counts of a request.
#[derive(Debug, PartialEq)]
struct Request {
    /// A hash of its `webhook-id`.
    id: u64,
    made: u64,
}

/// The first request in a buffer and where it ends, if all of it is there.
fn parse(buffer: &[u8]) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(buffer).ok()? else { return None };
    let find = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map_or(&b""[..], |header| header.value)
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<u64>().ok();
    let end = head + usize::try_from(number(find("content-length")).unwrap_or(0)).ok()?;
    let mut id = DefaultHasher::new();
    id.write(find("webhook-id"));
    let request = Request { id: id.finish(), made: number(find(MADE)).unwrap_or(0) };
    (buffer.len() >= end).then_some((request, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_all_of_it_is_there() {
        let request = b"POST / HTTP/1.1\r\nWebhook-Id: a\r\nX-Made: 17\r\nContent-Length: 2\r\n\r\nhiPOST";
        let (first, end) = parse(request).unwrap();
        assert_eq!((first.made, request[..end].ends_with(b"hi")), (17, true));
        assert!(parse(&request[..end - 1]).is_none());
        let other = b"POST / HTTP/1.1\r\nwebhook-id: b\r\n\r\n";
        assert_ne!(parse(other).unwrap().0.id, first.id);
    }

    #[test]
    fn counts_tell_duplicates_latency_and_what_was_turned_away() {
        let mut counts = Counts::default();
        for (id, now, taken) in
            [(1, 1_000_000, true), (1, 1_500_000, true), (2, 3_100_000, true), (3, 9, false)]
        {
            counts.add(&Request { id, made: 999_000 }, now, taken);
        }
        let mut latencies = counts.latencies.clone();
        let seen = counts.seen(&mut latencies);
        assert_eq!((seen.requests, seen.distinct, seen.turned_away, seen.taken()), (4, 2, 1, 3));
        assert_eq!((seen.first, seen.last, seen.p50), (1_000_000, 3_100_000, 501_000));
        assert_eq!(seen.each_second, [2, 0, 1]);
    }

    #[test]
    fn room_is_a_rate_with_a_small_reserve() {
        let shared = Shared {
            answer: Answer::Room(200),
            counts: Mutex::default(),
            used_until: Mutex::new(Instant::now()),
        };
        let taken = (0..1000).filter(|_| shared.has_room(200)).count();
        assert!((50..100).contains(&taken), "{taken} of 1000 at once");
    }
}
