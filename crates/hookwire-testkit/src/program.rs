//! The built programs, started and ended by a test.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;

/// The path of a program of this workspace.
///
/// # Panics
/// If it was not built; the message says how.
pub fn binary(name: &str) -> PathBuf {
    // A test's own program lies in `target/<profile>/deps`.
    let own = std::env::current_exe().expect("a test has a program file");
    let profile = own.ancestors().nth(2).expect("test programs lie in target/<profile>/deps");
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is missing; `cargo xtask test` builds it, or `cargo build -p {name}`",
        path.display()
    );
    path
}

/// A running program. It is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
    readers: JoinSet<()>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed to standard output.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

struct Output {
    stdout: watch::Sender<String>,
    stderr: Mutex<String>,
}

impl Program {
    /// Starts a program of this workspace in a folder, with nothing on standard input.
    pub fn start(name: &str, folder: &Path, arguments: &[&str]) -> Self {
        Program::start_with_env(name, folder, arguments, &[])
    }

    /// The same with these variables in its environment.
    pub fn start_with_env(name: &str, folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary(name));
        command.current_dir(folder).args(arguments);
        // What a developer has set must not change what a test sees.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("HOOKWIRE_") {
                command.env_remove(variable);
            }
        }
        command
            .env_remove("RUST_BACKTRACE")
            .env_remove("COLUMNS")
            .env("NO_COLOR", "1")
            .envs(env.iter().copied());
        Program::spawn(name, command, None)
    }

    /// Starts a command that a test has put together: with an environment of its own, or by way of another program.
    pub fn start_command(name: &str, command: Command) -> Self {
        Program::spawn(name, command, None)
    }

    /// The same with something on standard input.
    pub fn start_with_input(name: &str, folder: &Path, arguments: &[&str], input: &str) -> Self {
        let mut command = Command::new(binary(name));
        command.current_dir(folder).args(arguments).env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
        Program::spawn(name, command, Some(input.to_owned()))
    }

    fn spawn(name: &str, mut command: Command, input: Option<String>) -> Self {
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let output = Arc::new(Output { stdout: watch::Sender::new(String::new()), stderr: Mutex::default() });
        let mut readers = JoinSet::new();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let to = Arc::clone(&output);
        readers.spawn(read(stdout.expect("it was asked for"), move |line| {
            to.stdout.send_modify(|all| all.push_str(line));
        }));
        let to = Arc::clone(&output);
        readers.spawn(read(stderr.expect("it was asked for"), move |line| {
            to.stderr.lock().expect("only whole lines are added here").push_str(line);
        }));
        if let Some(input) = input {
            let mut stdin = child.stdin.take().expect("it was asked for");
            readers.spawn(async move {
                // A program that ends before it has read all is what some tests are about.
                let _ = stdin.write_all(input.as_bytes()).await;
            });
        }
        Program { name: name.to_owned(), child, output, readers }
    }

    /// What it printed to standard output so far.
    pub fn stdout(&self) -> String {
        self.output.stdout.borrow().clone()
    }

    /// What it printed to standard error so far.
    pub fn stderr(&self) -> String {
        self.output.stderr.lock().expect("only whole lines are added here").clone()
    }

    /// Waits until its standard output satisfies a condition, and gives it.
    ///
    /// # Panics
    /// If that does not come about; the message holds what it printed.
    pub async fn wait_for_output(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut watcher = self.output.stdout.subscribe();
        let waited = tokio::time::timeout(PATIENCE, watcher.wait_for(|stdout| condition(stdout))).await;
        match waited {
            Ok(stdout) => stdout.expect("the output lives as long as this").clone(),
            Err(_) => panic!(
                "{} did not print {what}\nstdout:\n{}\nstderr:\n{}",
                self.name,
                self.stdout(),
                self.stderr()
            ),
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it does not; the message holds what it printed.
    pub async fn wait(mut self) -> Ended {
        let status = match tokio::time::timeout(PATIENCE * 2, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => {
                panic!("{} does not end\nstdout:\n{}\nstderr:\n{}", self.name, self.stdout(), self.stderr())
            }
        };
        while self.readers.join_next().await.is_some() {}
        Ended { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub async fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub async fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Sends it a signal, by its process id.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        // One that has ended already needs no signal.
        let _ = id.map(|id| kill_process(id, signal));
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

impl Ended {
    /// The exit code; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

async fn read(from: impl AsyncRead + Unpin, mut to: impl FnMut(&str)) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        to(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

/// Tries something until it gives a value.
///
/// # Panics
/// If it never does.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let tried = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            // Asking again at once would take the machine from what is waited for.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, tried).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come about"),
    }
}
