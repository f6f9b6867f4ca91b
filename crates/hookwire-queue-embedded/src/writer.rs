//! The one thread that writes, and commits together whatever waits.
//!
//! Invariants:
//! - An answer is given only after the commit that makes it true.
//! - A call that SQLite cannot carry out does not spoil the calls that came with it: they are tried again one by one.
//! - What only leases, or settles events of which nothing was sent yet, is committed without waiting for the disk: it
//!   has to survive the process, not the machine, and whatever is committed with waiting after it takes it along.
//!   Should the machine forget it, the events are fanned out once more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use hookwire_model::Timestamp;
use hookwire_queue::QueueError;
use hookwire_queue::backend::{StoreClock, Wake};
use rusqlite::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::disk::{StoreFile, takes_events};
use crate::error::{from_io, from_sqlite};
use crate::layout;
use crate::owner::Ownership;
use crate::store::{Failure, Store};

/// At most so many calls are committed together: enough that the wait for the disk is shared by all that came meanwhile,
/// and few enough that nobody waits long for the others.
const CALLS_MAX: usize = 256;

/// How long nothing has to happen until the thread looks after the history and gives space back.
const IDLE: Duration = Duration::from_millis(200);

/// Writes the log into the file, and empties it.
const BEGIN_LOG_ANEW: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Pages given back at a time (1 MiB): less than a commit takes.
const VACUUM_PAGES: u32 = 128;

/// What the thread is told.
pub(crate) enum Message {
    /// To carry out a call.
    Call(Box<dyn Call>),
    /// To commit what waits and to end; answered when the folder is free.
    Close(oneshot::Sender<()>),
}

/// A call to be carried out, and its answer.
pub(crate) trait Call: Send {
    /// Carries it out within a transaction, perhaps not for the first time. An error is SQLite's, and takes back the
    /// transaction; a refusal is kept as the answer.
    fn perform(&mut self, store: &mut Store<'_>) -> rusqlite::Result<()>;
    /// Whether its effects have to survive the machine.
    fn is_durable(&self) -> bool;
    /// Gives the answer, after the commit.
    fn answer(self: Box<Self>);
    /// Gives the reason why there is no answer.
    fn fail(self: Box<Self>, error: QueueError);
}

/// A call of a method of the store.
pub(crate) struct Request<I, T> {
    pub(crate) input: I,
    pub(crate) method: fn(&mut Store<'_>, &I) -> Result<T, Failure>,
    pub(crate) is_durable: bool,
    pub(crate) outcome: Option<Result<T, QueueError>>,
    pub(crate) reply: oneshot::Sender<Result<T, QueueError>>,
    /// Room in the channel, given back when the call is done.
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl<I: Send, T: Send> Call for Request<I, T> {
    fn perform(&mut self, store: &mut Store<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match (self.method)(store, &self.input) {
            Ok(answer) => Ok(answer),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Store(error)) => return Err(error),
        });
        store.settle_down()
    }

    fn is_durable(&self) -> bool {
        self.is_durable
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Whoever asked may have gone; the call has taken effect all the same.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: QueueError) {
        // Whoever asked may have gone.
        let _ = self.reply.send(Err(error));
    }
}

/// What the thread shares with those who call it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) wake: Wake,
    pub(crate) clock: StoreClock,
    /// When the next lease runs out, in microseconds since 1970; `i64::MAX`: none is out.
    pub(crate) next_end: AtomicI64,
}

/// Runs until it is told to close, or nobody can call it any more. `opened` is told once the store is ready.
pub(crate) fn run(
    folder: PathBuf,
    ownership: Ownership,
    limits: hookwire_queue::StoreLimits,
    shared: Arc<Shared>,
    calls: Receiver<Message>,
    opened: oneshot::Sender<Result<(), QueueError>>,
) {
    let path = layout::database(&folder);
    let conn = match layout::open_writer(&folder, ownership.is_taken_over) {
        Ok(conn) => conn,
        Err(error) => return refuse(opened, ownership, error),
    };
    let file = match StoreFile::of(&folder) {
        Ok(file) => file,
        Err(error) => return refuse(opened, ownership, from_io(error, &path)),
    };
    let store = match Store::open(&conn, limits, shared.clock.clone()) {
        Ok(store) => store,
        Err(error) => return refuse(opened, ownership, from_sqlite(error, &path)),
    };
    // Nobody waits any more: the folder is given back at once.
    if opened.send(Ok(())).is_err() {
        return;
    }
    let closing = Writer { store, file, shared, is_durable: true }.serve(&calls);
    // The log goes into the file while nobody else reads it; a reader that still does leaves it for the next start.
    let _ = conn.execute_batch(BEGIN_LOG_ANEW);
    drop(conn);
    drop(ownership);
    if let Some(closing) = closing {
        // Whoever asked may have gone.
        let _ = closing.send(());
    }
}

/// Tells that the store cannot be opened; whoever is told finds the folder free.
fn refuse(opened: oneshot::Sender<Result<(), QueueError>>, ownership: Ownership, error: QueueError) {
    drop(ownership);
    // Whoever asked may have gone.
    let _ = opened.send(Err(error));
}

struct Writer<'c> {
    store: Store<'c>,
    file: StoreFile,
    shared: Arc<Shared>,
    /// Whether SQLite waits for the disk at a commit, as it is set now.
    is_durable: bool,
}

impl Writer<'_> {
    fn serve(mut self, calls: &Receiver<Message>) -> Option<oneshot::Sender<()>> {
        let mut more_to_tend = true;
        loop {
            let first = match calls.recv_timeout(self.patience(more_to_tend)) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let is_idle = first.is_none();
            let mut batch = Vec::new();
            let mut closing = None;
            let rest = std::iter::from_fn(|| calls.try_recv().ok());
            for message in first.into_iter().chain(rest).take(CALLS_MAX) {
                match message {
                    Message::Call(call) => batch.push(call),
                    Message::Close(reply) => {
                        closing = Some(reply);
                        break;
                    }
                }
            }
            self.commit_together(batch);
            if closing.is_some() {
                return closing;
            }
            if is_idle {
                more_to_tend = self.tidy();
            } else {
                more_to_tend = true;
            }
        }
    }

    /// How long to wait for a call.
    fn patience(&self, more_to_tend: bool) -> Duration {
        let now = self.shared.clock.now();
        let lease = self.store.next_end().map(|end| end.saturating_since(now).max(Duration::from_millis(1)));
        // With nothing to do the thread sleeps on, and looks from time to time whether anything has become old.
        let tend = if more_to_tend { IDLE } else { Duration::from_secs(60) };
        lease.map_or(tend, |lease| lease.min(tend))
    }

    /// Carries out calls in one transaction; if that fails, each in one of its own.
    fn commit_together(&mut self, mut batch: Vec<Box<dyn Call>>) {
        if !self.file.holds() {
            return batch.into_iter().for_each(|call| call.fail(self.file.lost()));
        }
        match self.commit(&mut batch) {
            Ok(()) => batch.into_iter().for_each(Call::answer),
            Err(error) if batch.len() <= 1 => {
                if let Some(call) = batch.pop() {
                    call.fail(from_sqlite(error, &self.file.path));
                }
            }
            Err(_) => {
                for call in batch {
                    self.commit_together(vec![call]);
                }
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Call>]) -> rusqlite::Result<()> {
        match self.commit_or_roll_back(batch) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                // What is in the log twice or more takes less in the file, and then the log begins anew.
                self.store.conn.execute_batch(BEGIN_LOG_ANEW)?;
                self.commit_or_roll_back(batch)
            }
            committed => committed,
        }
    }

    fn commit_or_roll_back(&mut self, batch: &mut [Box<dyn Call>]) -> rusqlite::Result<()> {
        let committed = self.try_commit(batch);
        if committed.is_err() {
            self.store.roll_back()?;
        }
        committed
    }

    fn try_commit(&mut self, batch: &mut [Box<dyn Call>]) -> rusqlite::Result<()> {
        self.wait_for_disk(batch.iter().any(|call| call.is_durable()))?;
        self.store.begin()?;
        for call in batch {
            call.perform(&mut self.store)?;
        }
        self.store.tend_as_settled()?;
        self.store.commit()?;
        self.announce();
        Ok(())
    }

    fn wait_for_disk(&mut self, is_durable: bool) -> rusqlite::Result<()> {
        if self.is_durable != is_durable {
            let level = if is_durable { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.store.conn.execute_batch(level)?;
            self.is_durable = is_durable;
        }
        Ok(())
    }

    /// Wakes those who wait for what was committed.
    fn announce(&mut self) {
        let next_end = self.store.next_end().map_or(i64::MAX, Timestamp::as_micros);
        self.shared.next_end.store(next_end, Ordering::SeqCst);
        let news = std::mem::take(&mut self.store.news);
        let wake = &self.shared.wake;
        if let Some(stamp) = news.looked_for_events {
            wake.looked_for_events(stamp);
        }
        if let Some(stamp) = news.looked_for_deliveries {
            wake.looked_for_deliveries(stamp);
        }
        if news.events {
            wake.event_came();
        }
        if news.deliveries {
            wake.delivery_came();
        }
    }

    /// Looks after the history and gives space back, a small step at a time; tells whether there is more to do.
    fn tidy(&mut self) -> bool {
        let step = || -> rusqlite::Result<bool> {
            let conn = self.store.conn;
            let free: u32 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if self.file.path.parent().is_some_and(|folder| takes_events(folder).is_err()) {
                // The log begins anew, and what it took is free for others.
                conn.execute_batch(BEGIN_LOG_ANEW)?;
            }
            if free >= VACUUM_PAGES {
                conn.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            }
            Ok(free >= 2 * VACUUM_PAGES)
        };
        let vacuum = step();
        // Nobody asked for it: what cannot be done now is tried again later, and a call would tell what is wrong.
        let tended = self.tend();
        vacuum.unwrap_or(false) || tended.unwrap_or(false)
    }

    fn tend(&mut self) -> rusqlite::Result<bool> {
        let tended = self.wait_for_disk(false).and_then(|()| {
            self.store.begin()?;
            let more = self.store.tend(256)?;
            self.store.commit()?;
            Ok(more)
        });
        if tended.is_err() {
            self.store.roll_back()?;
        }
        self.announce();
        tended
    }
}
