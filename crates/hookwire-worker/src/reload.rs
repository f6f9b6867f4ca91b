//! Definitions that change while the program runs: the files are watched, loaded anew when they change or at SIGHUP,
//! and put in force if they check.
//!
//! Invariants:
//! - What does not check changes nothing: the definitions in force stay, and the log and [`InForce::state`] say why.
//! - A configuration that is not there is a refused reload, not an empty one; so is one that defines nothing where
//!   something is in force.
//! - Settings stay as they were when the program started; those that differ are named.
//! - This runs on a thread of its own, since reading files blocks, and a hanging network disk must stop nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hookwire_config::{Config, LoadError, Settings, config_files};
use hookwire_definitions::Definitions;
use hookwire_engine::{Clock as _, InForce, Snapshot, SystemClock};
use tokio::task::JoinSet;

use crate::args::{ConfigArguments, DEFAULT_FILE};
use crate::watch::{LOOK_AGAIN, Stamps, Watch, stamps};

/// How long nothing may happen before files are read: programs write a file in several steps, and a deployment several
/// files.
const QUIET: Duration = Duration::from_millis(200);
/// How long they are waited for in all: something that goes on changing is read all the same.
const UNQUIET_MAX: Duration = Duration::from_secs(2);
/// How many names a log line gives of each kind.
const NAMES_MAX: usize = 10;

/// Keeps definitions up to date. It ends when this is dropped.
pub struct Reloading {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    /// Passes SIGHUP on.
    _signals: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// Somebody asked by signal.
    asked: AtomicBool,
    stop: AtomicBool,
}

impl Reloading {
    /// Begins. `config` is what the program was started with, loaded from `arguments` just now.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(arguments: &ConfigArguments, loaded: LoadedConfig, in_force: Arc<InForce>) -> Reloading {
        let shared = Arc::new(Shared::default());
        let (wake, woken) = sync_channel(1);
        let LoadedConfig { paths, settings, files, seen } = loaded;
        let reloader = Reloader {
            arguments: arguments.clone(),
            settings,
            in_force,
            seen,
            files: Files { paths, others: files },
            watch: Watch::new(wake.clone()),
            said: String::new(),
        };
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("reload".into());
        // It is not awaited: at the end of the program it holds nothing that would have to be finished.
        if let Err(error) = thread.spawn(move || reloader.run(&for_thread, &woken)) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the configuration cannot be watched; changes take effect at the next start"
            );
        }
        let signals = pass_on_hangups(Arc::clone(&shared), wake.clone());
        Reloading { shared, wake, _signals: signals }
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.try_send(());
    }
}

/// What a program was started with, as far as reloading has to know.
#[derive(Debug)]
pub struct LoadedConfig {
    paths: Vec<PathBuf>,
    settings: Settings,
    files: Vec<PathBuf>,
    seen: Stamps,
}

impl LoadedConfig {
    /// Of a configuration that was loaded just now: what changes from here on is noticed, however long the program
    /// takes to start.
    pub fn new(arguments: &ConfigArguments, config: &Config) -> Self {
        let files = Files { paths: arguments.paths(), others: config.files.clone() };
        let seen = stamps(files.all().iter().map(PathBuf::as_path));
        LoadedConfig { paths: files.paths, settings: config.settings.clone(), files: files.others, seen }
    }
}

#[cfg(unix)]
fn pass_on_hangups(shared: Arc<Shared>, wake: SyncSender<()>) -> JoinSet<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut tasks = JoinSet::new();
    match signal(SignalKind::hangup()) {
        Ok(mut hangups) => {
            tasks.spawn(async move {
                while hangups.recv().await.is_some() {
                    shared.asked.store(true, Ordering::Relaxed);
                    let _ = wake.try_send(());
                }
            });
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "SIGHUP cannot be used to reload");
        }
    }
    tasks
}

#[cfg(not(unix))]
fn pass_on_hangups(_shared: Arc<Shared>, _wake: SyncSender<()>) -> JoinSet<()> {
    JoinSet::new()
}

/// The files to watch.
struct Files {
    /// As they were named; a folder stands for what is in it.
    paths: Vec<PathBuf>,
    /// Those that the last configuration named besides.
    others: Vec<PathBuf>,
}

impl Files {
    fn all(&self) -> Vec<PathBuf> {
        let mut files = self.others.clone();
        files.extend(config_files(&self.paths).unwrap_or_default());
        files.extend(self.paths.iter().cloned());
        if self.paths.is_empty() {
            files.push(PathBuf::from(DEFAULT_FILE));
        }
        // The stamp of a folder changes with everything that happens in it; its files have their own.
        files.retain(|file| !file.is_dir());
        files
    }
}

struct Reloader {
    arguments: ConfigArguments,
    settings: Settings,
    in_force: Arc<InForce>,
    files: Files,
    /// The files as they were when they were last read.
    seen: Stamps,
    watch: Watch,
    /// The last refusal in the log: a file that is saved again with the same mistake is not told again.
    said: String,
}

impl Reloader {
    fn run(mut self, shared: &Shared, woken: &Receiver<()>) {
        while !shared.stop.load(Ordering::Relaxed) {
            let files = self.files.all();
            // Watched before they are looked at, so that nothing happens unseen in between.
            self.watch.follow(files.iter().map(PathBuf::as_path));
            let changed = stamps(files.iter().map(PathBuf::as_path)) != self.seen;
            let asked = shared.asked.swap(false, Ordering::Relaxed);
            if changed || asked {
                if changed {
                    wait_for_quiet(woken);
                }
                self.reload(asked);
            } else if !wait(woken, self.watch.must_look().then_some(LOOK_AGAIN)) {
                return;
            }
        }
    }

    /// Loads everything, and puts it in force or says why not.
    fn reload(&mut self, asked: bool) {
        if self.files.paths.is_empty() {
            self.files.paths = self.arguments.paths();
        }
        // From before they are read, so that what changes meanwhile is read again.
        let files = self.files.all();
        let mut seen = stamps(files.iter().map(PathBuf::as_path));
        if self.files.paths.is_empty() {
            if asked {
                tracing::warn!("there is nothing to reload: the program was started without a configuration");
            }
            self.seen = seen;
            return;
        }
        match self.load() {
            Ok((config, snapshot)) => {
                self.files.others = config.files;
                let changes = changes(self.in_force.snapshot().definitions(), snapshot.definitions());
                self.in_force.replace(snapshot, SystemClock.now());
                self.said.clear();
                tracing::info!("definitions reloaded: {changes}");
                if !config.warnings.is_empty() {
                    tracing::warn!("{}", config.warnings);
                }
                let differences = self.settings.differences(&config.settings);
                if !differences.is_empty() {
                    tracing::warn!(
                        "changed, and in force from the next start on: {}",
                        differences.join(", ")
                    );
                }
            }
            Err(Refusal { message, files }) => {
                // Those of the definitions in force are watched as well: they may come back.
                self.files.others.extend(files);
                self.files.others.sort();
                self.files.others.dedup();
                if asked || self.said != message {
                    let space = if message.contains('\n') { '\n' } else { ' ' };
                    tracing::error!("reload refused; the definitions in force stay:{space}{message}");
                }
                self.in_force.refuse(message.clone(), SystemClock.now());
                self.said = message;
            }
        }
        // Files that were named just now are taken as they are.
        for (file, stamp) in stamps(self.files.all().iter().map(PathBuf::as_path)) {
            seen.entry(file).or_insert(stamp);
        }
        let present = self.files.all();
        seen.retain(|file, _| present.contains(file));
        self.seen = seen;
    }

    fn load(&self) -> Result<(LoadedParts, Snapshot), Refusal> {
        let paths = &self.files.paths;
        let loaded = catch_unwind(AssertUnwindSafe(|| self.arguments.load_paths(paths)));
        let config = match loaded {
            Ok(Ok(config)) => config,
            Ok(Err(LoadError::Invalid(diagnostics))) => {
                return Err(Refusal {
                    message: diagnostics.to_string(),
                    files: diagnostics.files().to_vec(),
                });
            }
            Ok(Err(error)) => return Err(Refusal::from(error.to_string())),
            Err(_) => return Err(Refusal::from("a fault in hookwire; please report it".to_owned())),
        };
        let Config { settings, definitions, warnings, files } = config;
        let nothing =
            |definitions: &Definitions| definitions.webhooks().count() + definitions.rules().count() == 0;
        if nothing(&definitions) && !nothing(self.in_force.snapshot().definitions()) {
            let message = "it defines no webhook and no event rule, which looks like a file that is being written; to \
                           send nothing, set `enabled = false` in the rules, or restart";
            return Err(Refusal { message: message.to_owned(), files });
        }
        match Snapshot::new(definitions) {
            Ok(snapshot) => Ok((LoadedParts { settings, warnings, files }, snapshot)),
            Err(errors) => {
                let lines = errors.iter().map(|error| {
                    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
                    format!("{error}{}", cause.unwrap_or_default())
                });
                Err(Refusal { message: lines.collect::<Vec<_>>().join("\n"), files })
            }
        }
    }
}

/// What is left of a configuration when its definitions are in force.
struct LoadedParts {
    settings: Settings,
    warnings: hookwire_config::Diagnostics,
    files: Vec<PathBuf>,
}

/// Why a configuration is not put in force, and which files it came from.
struct Refusal {
    message: String,
    files: Vec<PathBuf>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { message, files: Vec::new() }
    }
}

/// Waits until something may have happened, or it is time to look; `false` when nobody can wake us any more.
fn wait(woken: &Receiver<()>, look_again: Option<Duration>) -> bool {
    match look_again {
        None => woken.recv().is_ok(),
        Some(after) => !matches!(woken.recv_timeout(after), Err(RecvTimeoutError::Disconnected)),
    }
}

/// Waits until nothing has happened for a while.
fn wait_for_quiet(woken: &Receiver<()>) {
    let until = Instant::now() + UNQUIET_MAX;
    while woken.recv_timeout(QUIET).is_ok() && Instant::now() < until {}
}

/// What is different, by name, for the log.
fn changes(old: &Definitions, new: &Definitions) -> String {
    let webhooks = |definitions: &Definitions| {
        let webhooks = definitions.webhooks().map(|webhook| webhook.webhook().clone());
        webhooks.map(|webhook| (webhook.name.to_string(), webhook)).collect()
    };
    let rules = |definitions: &Definitions| {
        definitions.rules().map(|rule| (rule.name.to_string(), rule.clone())).collect()
    };
    let mut parts = differences("webhook", &webhooks(old), &webhooks(new));
    parts.extend(differences("event rule", &rules(old), &rules(new)));
    if parts.is_empty() { "no webhook and no event rule changed".into() } else { parts.join("; ") }
}

type ByName<T> = std::collections::BTreeMap<String, T>;

fn differences<T: PartialEq>(what: &str, old: &ByName<T>, new: &ByName<T>) -> Vec<String> {
    let added: Vec<&String> = new.keys().filter(|name| !old.contains_key(*name)).collect();
    let removed: Vec<&String> = old.keys().filter(|name| !new.contains_key(*name)).collect();
    let changed: Vec<&String> = new
        .iter()
        .filter(|(name, new)| old.get(*name).is_some_and(|old| old != *new))
        .map(|(n, _)| n)
        .collect();
    [("added", added), ("removed", removed), ("changed", changed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(how, names)| {
            let s = if names.len() == 1 { "" } else { "s" };
            let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("{name:?}")).collect();
            let more = names.len().saturating_sub(NAMES_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{what}{s} {how}: {}{more}", shown.join(", "))
        })
        .collect()
}
