//! Real Redis servers, each in a folder of its own.
//!
//! Invariants:
//! - A server ends with the value that stands for it; should the test's process be killed, the server ends all the
//!   same, because a shell in between waits for that.
//! - A server listens on a socket in its folder; on a port only if asked, on loopback.
//! - Where something does not come about, the message holds the server's log.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::PATIENCE;

/// How often a server that is starting is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A Redis server. It is killed when this is dropped.
pub struct RedisServer {
    folder: Arc<TempDir>,
    settings: Vec<String>,
    /// The port it listens on, and the one for the nodes of its cluster.
    ports: Option<(u16, u16)>,
    /// The shell that ends the server when its input ends, which it does when this process does.
    shell: Option<Child>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk and listens on a socket only.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts one that writes everything to its append-only file before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with these settings (`--name value`).
    ///
    /// # Panics
    /// If it does not start; the message holds its log, or tells how to install it.
    pub fn start_with(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = RedisServer { folder: Arc::new(folder()), settings, ports: None, shell: None };
        server.spawn();
        server
    }

    /// Starts one that also listens on a port of loopback that was free.
    pub fn start_on_port(settings: &[&str]) -> Self {
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let ports = Some((free_port(), free_port()));
        let mut server = RedisServer { folder: Arc::new(folder()), settings, ports, shell: None };
        server.spawn();
        server
    }

    /// One server for all tests of a process; it ends with the last of those who use it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(RedisServer::start());
        *shared = Arc::downgrade(&server);
        server
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The port it listens on, if it listens on one.
    pub fn port(&self) -> Option<u16> {
        self.ports.map(|(port, _)| port)
    }

    /// The port for the other nodes of its cluster, if it listens on one.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.ports.map(|(_, bus)| bus)
    }

    /// Sends it a command and gives the answer as `redis-cli` shows it without a terminal: a line for each part.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub fn command(&self, parts: &[&str]) -> String {
        match self.try_command(parts) {
            Ok(answer) => answer,
            Err(error) => panic!("the Redis server does not answer: {error}\n{}", self.log()),
        }
    }

    fn try_command(&self, parts: &[&str]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut command = format!("*{}\r\n", parts.len());
        for part in parts {
            let _ = write!(command, "${}\r\n{part}\r\n", part.len());
        }
        stream.write_all(command.as_bytes())?;
        let mut answer = String::new();
        read_answer(&mut BufReader::new(stream), &mut answer)?;
        Ok(answer)
    }

    /// How many commands it has carried out so far.
    pub fn commands_processed(&self) -> u64 {
        self.info("total_commands_processed").parse().expect("Redis counts in digits")
    }

    /// A value of INFO.
    pub fn info(&self, name: &str) -> String {
        let info = self.command(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {name}")).trim().to_owned()
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    /// Starts it again after [`kill`](Self::kill), with what it has on disk.
    pub fn restart(&mut self) {
        self.spawn();
    }

    /// Sends it a signal, by its process id.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // One that has ended already needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.folder.path().join("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn spawn(&mut self) {
        let path = self.folder.path();
        let _ = std::fs::remove_file(path.join("pid"));
        let _ = std::fs::remove_file(self.socket());
        let mut command = Command::new("sh");
        // The shell reads nothing but the end of its input, and ends the server then.
        command.args(["-c", "\"$@\" </dev/null & server=$!; cat >/dev/null; kill -9 $server; wait", "sh"]);
        let program = program();
        command.arg(&program);
        command.args(["--port", &self.port().unwrap_or(0).to_string(), "--bind", "127.0.0.1"]);
        if let Some(bus) = self.bus_port() {
            command.args(["--cluster-port", &bus.to_string()]);
        }
        command.arg("--unixsocket").arg(self.socket()).arg("--dir").arg(path);
        command.arg("--pidfile").arg(path.join("pid")).arg("--logfile").arg(path.join("log"));
        command.args(&self.settings);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.shell = Some(command.spawn().expect("there is a shell"));
        let begin = Instant::now();
        while !self.try_command(&["PING"]).is_ok_and(|answer| answer == "PONG\n") {
            let installed = Command::new(&program).arg("--version").stdout(Stdio::null()).status().is_ok();
            let program = program.display();
            assert!(installed, "{program} is missing; `cargo xtask test` installs redis-server");
            assert!(begin.elapsed() < PATIENCE, "the Redis server does not start:\n{}", self.log());
            pause();
        }
    }

    /// Ends shell and server, and waits until both are gone.
    fn end(&mut self) {
        let pid = self.pid();
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
        let begin = Instant::now();
        while pid.is_some_and(|pid| test_kill_process(pid).is_ok()) && begin.elapsed() < PATIENCE {
            pause();
        }
    }
}

/// The program of the server: `redis-server`, or what `HOOKWIRE_REDIS_SERVER` names, such as `valkey-server`.
fn program() -> PathBuf {
    std::env::var_os("HOOKWIRE_REDIS_SERVER").map_or_else(|| PathBuf::from("redis-server"), PathBuf::from)
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // A stopped process would not end otherwise.
        self.signal(Signal::CONT);
        self.end();
        if std::thread::panicking() {
            eprintln!("the log of the Redis server:\n{}", self.log());
        }
    }
}

/// Waits before asking again. Servers also start outside of a runtime, where nothing else can wait.
#[expect(clippy::disallowed_methods, reason = "a step of waiting on a condition, with a limit around it")]
pub(crate) fn pause() {
    std::thread::sleep(ASK_EVERY);
}

/// A folder whose path is short enough for a socket's name.
fn folder() -> TempDir {
    tempfile::Builder::new().prefix("hw").tempdir().expect("a temporary folder can be made")
}

/// A port that nobody listens on. Somebody else might take it before the server does; then the server does not start,
/// and says so.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it listens").port()
}

/// Adds an answer to the text, a line for each part.
fn read_answer(from: &mut impl ReadLines, to: &mut String) -> std::io::Result<()> {
    let line = from.line()?;
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    let count: i64 = rest.parse().unwrap_or(0);
    match kind {
        "$" if count >= 0 => {
            to.push_str(&from.exactly(usize::try_from(count).unwrap_or(0) + 2)?);
            to.truncate(to.len() - 2);
            to.push('\n');
        }
        "*" => {
            for _ in 0..count {
                read_answer(from, to)?;
            }
        }
        "$" => to.push('\n'),
        "-" => {
            let _ = writeln!(to, "ERROR {rest}");
        }
        _ => {
            let _ = writeln!(to, "{rest}");
        }
    }
    Ok(())
}

/// What reading an answer needs.
trait ReadLines {
    fn line(&mut self) -> std::io::Result<String>;
    fn exactly(&mut self, count: usize) -> std::io::Result<String>;
}

impl<R: Read> ReadLines for BufReader<R> {
    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn exactly(&mut self, count: usize) -> std::io::Result<String> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Where the server's files are, for tests that look at them.
impl AsRef<Path> for RedisServer {
    fn as_ref(&self) -> &Path {
        self.folder.path()
    }
}
