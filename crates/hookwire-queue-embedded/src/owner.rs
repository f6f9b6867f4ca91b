//! Ownership of a store: one process at a time.
//!
//! Invariant: the lock is the operating system's, so it ends with the process, however that ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use hookwire_queue::QueueError;

use crate::error::from_io;

/// How often a store that is in use is asked for again: soon enough that nobody notices, rarely enough to cost nothing.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The right to a store's folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership {
    _lock: File,
    /// Whether somebody had it before.
    pub(crate) is_taken_over: bool,
}

/// Takes a folder, which is made if it is not there; waits up to `wait` for another process to leave it. Dropping the
/// future leaves the folder as it was.
pub(crate) async fn take(folder: &Path, wait: Duration) -> Result<Ownership, QueueError> {
    make(folder).map_err(|error| from_io(error, folder))?;
    let path = folder.join("hookwire.lock");
    let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let lock = lock.map_err(|error| from_io(error, &path))?;
    let begin = tokio::time::Instant::now();
    let mut is_told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if begin.elapsed() < wait => {
                if !std::mem::replace(&mut is_told, true) {
                    let (holder, seconds) = (holder(folder), wait.as_secs());
                    tracing::info!(%holder, "another process has the store; waiting {seconds} s for it to end");
                }
                tokio::time::sleep(ASK_AGAIN.min(wait)).await;
            }
            Err(TryLockError::WouldBlock) => return Err(QueueError::InUse { holder: holder(folder) }),
            Err(TryLockError::Error(error)) => return Err(from_io(error, &path)),
        }
    }
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let owner = folder.join("hookwire.owner");
    let is_taken_over = owner.exists();
    std::fs::write(&owner, format!("process {} ({program})\n", std::process::id()))
        .map_err(|error| from_io(error, &owner))?;
    Ok(Ownership { _lock: lock, is_taken_over })
}

/// Makes the folder if it is not there, for its owner alone: it will hold whatever the events hold.
fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Who holds the folder, as that process wrote it down.
fn holder(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("hookwire.owner")).unwrap_or_default();
    match text.trim() {
        "" => "another process".to_owned(),
        text => text.chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}
