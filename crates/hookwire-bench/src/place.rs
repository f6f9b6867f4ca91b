//! Where a store is: a folder of its own, or a Redis server of its own.
//!
//! Invariant: folder and server are gone when the value that stands for them is; should this process be killed, the
//! server ends all the same, because a shell in between waits for that.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(20);

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Embedded,
    Redis,
}

/// A place for one store, empty at first.
pub(crate) struct Place {
    folder: TempDir,
    shell: Option<Child>,
}

impl Place {
    pub(crate) fn new(kind: StoreKind) -> anyhow::Result<Self> {
        // The name is short enough for a socket's.
        let folder = tempfile::Builder::new().prefix("hwb").tempdir()?;
        let shell = (kind == StoreKind::Redis).then(|| start(folder.path())).transpose()?;
        Ok(Place { folder, shell })
    }

    /// A folder to put other files in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What stands in the setting `store.url`.
    pub(crate) fn url(&self) -> String {
        match self.shell {
            Some(_) => format!("unix://{}", socket(self.folder.path()).display()),
            None => format!("embedded:{}", self.folder.path().join("store").display()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            drop(shell.stdin.take());
            // The shell ends when its server has.
            let _ = shell.wait();
        }
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("s")
}

/// Starts a server that keeps an append-only file, synchronised every second.
fn start(folder: &Path) -> anyhow::Result<Child> {
    let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    installed
        .context("redis-server is missing; install it, for instance with `apt-get install redis-server`")?;
    let mut command = Command::new("sh");
    // The shell reads nothing but the end of its input, and ends the server then.
    command.args(["-c", "\"$@\" </dev/null & server=$!; cat >/dev/null; kill -9 $server; wait", "sh"]);
    command.args(["redis-server", "--port", "0", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "everysec"]);
    // It would rewrite the file in a process of its own whenever that has doubled, and take a processor from a baseline or
    // from the worker, as chance has it.
    command.args(["--auto-aof-rewrite-percentage", "0"]);
    // As the store advises. With so much, what a store takes follows from its own settings.
    command.args(["--maxmemory", "16gb", "--maxmemory-policy", "noeviction"]);
    command.arg("--unixsocket").arg(socket(folder)).arg("--dir").arg(folder);
    command.arg("--logfile").arg(folder.join("log"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let shell = command.spawn().context("there is no shell")?;
    let began = Instant::now();
    while !answers(&socket(folder)) {
        if began.elapsed() > START_MAX {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            bail!("the Redis server does not start; its log:\n{log}");
        }
        pause(Duration::from_millis(10));
    }
    Ok(shell)
}

fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let mut answer = [0; 5];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG"
}

/// Lets some time pass.
#[expect(
    clippy::disallowed_methods,
    reason = "a bench waits for real time; nothing else runs on this thread"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
