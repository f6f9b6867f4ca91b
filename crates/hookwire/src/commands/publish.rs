//! `hookwire publish`: events from files or standard input into a running server, or into the store.
//!
//! Invariants:
//! - All events are read and checked before any is published, so that a mistake in the middle of a file publishes
//!   nothing. Then they are read again: memory is bounded by a batch.
//! - The ids of a batch are fixed before it is sent for the first time, so that sending it again repeats nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hookwire_config::{Settings, StoreUrl};
use hookwire_model::Event;
use hookwire_worker::{CommandResult, Exit, Failure, Store, print, runtime, say};

use crate::client::{Client, Published, Refusal};
use crate::events::{Input, NewIds};
use crate::output::{counted, duration_text};
use crate::progress::Progress;
use crate::target::{
    Listening, Target, TargetArguments, in_memory, is_in_use, open, running_server, with_hint,
};

/// Events per call: enough to share a commit, few enough to stay far below the limit on a request.
const BATCH: usize = 100;
/// Bytes per call: a quarter of what a server takes by default.
const BATCH_BYTES: usize = 8 << 20;
/// Waits between tries while the server is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a store that another process holds is waited for: as long as a server takes to let go of it or to listen.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// So many duplicates are told by id; of the rest, how many.
const DUPLICATES_TOLD: u64 = 10;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// How long a server that is away or busy is tried again, in seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS")]
    wait: u64,
    /// Gives events without an id one that follows from file, line and bytes, so that the same command run again
    /// repeats nothing that was published already.
    #[arg(long)]
    resume: bool,
    /// Files with events: JSON, an array, or one a line; - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let standard = arguments.files.iter().filter(|path| path.as_os_str() == "-").count();
    if standard > 1 {
        return Err(Failure::message(Exit::Usage, "standard input (-) can be read only once"));
    }
    if standard > 0 && arguments.resume {
        let message =
            "--resume needs files: standard input has no name by which the same line is known the next time";
        return Err(Failure::message(Exit::Usage, message));
    }
    let is_pipe =
        |path: &&PathBuf| std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    if let (true, Some(pipe)) = (arguments.resume, arguments.files.iter().find(is_pipe)) {
        let message = format!(
            "--resume needs files: {} is none, and another pipe may have its name the next time; write it into a file first",
            pipe.display()
        );
        return Err(Failure::message(Exit::Usage, message));
    }
    let named = arguments.target.named_server()?;
    let settings = arguments.target.settings()?;
    let event_bytes_max = settings.server.max_event_bytes;
    let new_ids = if arguments.resume { NewIds::Repeatable } else { NewIds::Unique };

    let mut inputs = Vec::new();
    let mut events = 0;
    // The first that no server takes once it has what it lacks there, an id or a time.
    let mut outgrown = None;
    for path in &arguments.files {
        let input = Input::open(path, event_bytes_max)?;
        events += input.read(event_bytes_max, new_ids, "nothing was published", |event, _| {
            let bytes = payload_beyond(&event, event_bytes_max);
            outgrown = outgrown.take().or_else(|| Some((input.name().to_owned(), bytes?)));
            Ok(())
        })?;
        inputs.push(input);
    }
    if events == 0 {
        say("there are no events to publish");
        return Ok(Exit::Fine);
    }
    runtime()?.block_on(async {
        let wait = Duration::from_secs(arguments.wait);
        let target = match named {
            Some(client) => Target::Server(client),
            None => find(&settings, wait).await?,
        };
        if let (Target::Server(_), Some((name, bytes))) = (&target, outgrown) {
            let message = format!(
                "{name}: an event has {bytes} bytes with the members that it lacks (id, timestamp and the like), and the \
                 limit is {event_bytes_max}; send less, or raise server.max_event_bytes; nothing was published"
            );
            return Err(Failure::message(Exit::Data, message));
        }
        let bytes = inputs.iter().map(Input::bytes).sum();
        let mut publishing = Publishing {
            target,
            wait,
            batch: Vec::new(),
            batch_bytes: 0,
            published: 0,
            duplicates: 0,
            progress: Progress::new(bytes),
        };
        let ended = publishing.all(&inputs, event_bytes_max, new_ids).await;
        publishing.progress.finish();
        let Publishing { target, published, duplicates, .. } = publishing;
        target.close().await;
        if duplicates > DUPLICATES_TOLD {
            say(format_args!("{duplicates} of {} were published before", counted(published, "event")));
        }
        match ended {
            Ok(()) => Ok(Exit::Fine),
            Err(failure) if published == 0 => Err(failure),
            Err(failure) => Err(partial(&failure, published, events, arguments.resume)),
        }
    })
}

/// How many bytes the members of an event have that may be large: nearly all of its payload.
fn json_bytes(event: &Event) -> usize {
    let others = [&event.snapshots, &event.request, &event.context].into_iter().flatten();
    others.chain([&event.data]).map(|json| json.as_str().len()).sum()
}

/// How many bytes the payload of an event has, where that is more than so many.
fn payload_beyond(event: &Event, bytes_max: u64) -> Option<u64> {
    // Far more than ids, times and names add.
    const GROWTH_MAX: u64 = 64 << 10;
    let near = json_bytes(event) as u64 + GROWTH_MAX > bytes_max;
    let bytes = near.then(|| event.to_payload().len() as u64)?;
    (bytes > bytes_max).then_some(bytes)
}

/// A failure after some events were published.
fn partial(failure: &Failure, published: u64, events: u64, resume: bool) -> Failure {
    let again = if resume {
        "the same command run again repeats none"
    } else {
        "run again, those that bring no id are repeated (with --resume from the first run on, none is)"
    };
    let of = counted(events, "event");
    let message = format!("{failure}\n  {published} of {of} were published before that; {again}");
    Failure::message(failure.exit(), message)
}

/// A running server, or the store; one that is changing hands is waited for.
async fn find(settings: &Settings, wait: Duration) -> Result<Target, Failure> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match running_server(settings)? {
            Listening::Ours(client) => return Ok(Target::Server(client)),
            Listening::Another(note) if !told => {
                say(note);
                told = true;
            }
            Listening::Another(_) | Listening::Nobody => {}
        }
        // One that nobody named may be that of another folder, in which nobody will look for these events.
        let begun = match &settings.store.url {
            StoreUrl::Embedded(folder) if !settings.store.named => !folder.try_exists().unwrap_or(true),
            _ => false,
        };
        match open(settings).await {
            Ok(Store::Memory(_)) => return Err(in_memory(settings)),
            Ok(store) if begun => {
                say(format_args!(
                    "no server runs at {}, and there was no store at {}: it is new, and what is published is sent when \
                     `hookwire serve` runs on it",
                    settings.server.listen, settings.store.url
                ));
                return Ok(Target::Store(store));
            }
            Err(failure) if is_in_use(&failure) && began.elapsed() < wait.min(STORE_WAIT) => {
                tokio::time::sleep(RETRY.0).await;
            }
            opened => return opened.map(Target::Store).map_err(|failure| with_hint(failure, settings)),
        }
    }
}

/// Publishing under way.
struct Publishing {
    target: Target,
    wait: Duration,
    batch: Vec<Event>,
    batch_bytes: usize,
    published: u64,
    duplicates: u64,
    progress: Progress,
}

impl Publishing {
    async fn all(&mut self, inputs: &[Input], event_bytes_max: u64, new_ids: NewIds) -> Result<(), Failure> {
        let mut read_before = 0;
        for input in inputs {
            let handle = tokio::runtime::Handle::current();
            input.read(
                event_bytes_max,
                new_ids,
                "it was changed while it was published",
                |event, read| {
                    let bytes = json_bytes(&event) + 1024;
                    if self.batch.len() >= BATCH
                        || (!self.batch.is_empty() && self.batch_bytes + bytes > BATCH_BYTES)
                    {
                        tokio::task::block_in_place(|| handle.block_on(self.send()))?;
                        self.progress.read(read_before + read);
                    }
                    self.batch_bytes += bytes;
                    self.batch.push(event);
                    Ok(())
                },
            )?;
            read_before += input.bytes();
        }
        self.send().await?;
        self.progress.read(read_before);
        Ok(())
    }

    /// Publishes the batch.
    async fn send(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let (receipts, again): (Vec<(String, bool)>, bool) = match &self.target {
            Target::Server(client) => publish_to_server(client, &batch, self.wait, &self.progress)?,
            Target::Store(store) => {
                let receipts = hookwire_engine::publish(store, &batch).await?;
                let receipts =
                    receipts.into_iter().map(|receipt| (receipt.id.to_string(), receipt.duplicate));
                (receipts.collect(), false)
            }
        };
        let mut ids = String::new();
        for (id, duplicate) in &receipts {
            ids += id;
            ids.push('\n');
            // What was sent twice because the answer was lost is known to the server, and no duplicate of anything.
            if *duplicate && !again {
                self.duplicates += 1;
                if self.duplicates <= DUPLICATES_TOLD {
                    self.progress.say(&format!("{id} was published before; nothing was stored"));
                }
            }
        }
        self.published += receipts.len() as u64;
        self.progress.aside(|| print(&ids))?;
        self.progress.published(self.published, self.duplicates);
        Ok(())
    }
}

/// Gives each id with whether the server knew it, and whether the batch was sent more than once.
fn publish_to_server(
    client: &Client,
    batch: &[Event],
    wait: Duration,
    progress: &Progress,
) -> Result<(Vec<(String, bool)>, bool), Failure> {
    let lines: Vec<String> = batch.iter().map(Event::to_payload).collect();
    let body = lines.join("\n");
    let began = Instant::now();
    let mut pause = RETRY.0;
    let mut again = false;
    loop {
        let (message, after) = match client.publish(&body) {
            Ok(published) => return Ok((receipts(published), again)),
            Err(Refusal::Unreachable(message)) => (message, None),
            Err(Refusal::Busy(message, after)) => (message, after),
            Err(refusal @ (Refusal::Refused(..) | Refusal::Strange(_))) => return Err(refusal.into()),
        };
        let pausing = pause.max(after.unwrap_or_default());
        let left = wait.saturating_sub(began.elapsed());
        if pausing >= left {
            return Err(Failure::message(Exit::Unavailable, message));
        }
        if !again {
            progress.say(&format!("{message}; trying again for {}", duration_text(left)));
        }
        again = true;
        // Nothing else runs in this program that this could hold up.
        std::thread::park_timeout(pausing);
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Each id with whether it was known before. One that stands there twice and was new is known only the second time.
fn receipts(Published { ids, duplicates }: Published) -> Vec<(String, bool)> {
    let mut new = HashMap::<String, usize>::new();
    for id in &ids {
        *new.entry(id.clone()).or_default() += 1;
    }
    for id in &duplicates {
        if let Some(left) = new.get_mut(id) {
            *left = left.saturating_sub(1);
        }
    }
    let receipt = |id: String| match new.get_mut(&id) {
        Some(left) if *left > 0 => {
            *left -= 1;
            (id, false)
        }
        _ => (id, true),
    };
    ids.into_iter().map(receipt).collect()
}
