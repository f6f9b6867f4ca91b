//! The disk that a store lies on: what is left of it, and whether the store is still there.
//!
//! A store that has filled its disk could not even put down what it has delivered, and would never become smaller. So
//! nothing new is accepted for which there is not twice the room: once in the log, and once more in the file, into which
//! all of the log has to go before it can begin anew. Settling, acting and tidying may use up what is kept besides.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use hookwire_queue::QueueError;

use crate::layout::{database, log};

/// What is kept free for settling and the like.
const RESERVE_BYTES: u64 = 4 << 20;
/// Of a small disk no more than this part.
const RESERVE_PART: u64 = 8;
/// The largest event that a store which is ready takes for sure.
const USUAL_EVENT_BYTES: u64 = 64 << 10;

/// A disk, in bytes.
#[derive(Debug, Clone, Copy)]
struct Space {
    total: u64,
    left: u64,
}

impl Space {
    /// What cannot be asked counts as free: writing will tell.
    fn of(folder: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            let asked = rustix::fs::statvfs(folder).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(asked.f_frsize);
            Some(Space { total: bytes(asked.f_blocks), left: bytes(asked.f_bavail) })
        }
        #[cfg(not(unix))]
        {
            let _ = folder;
            None
        }
    }

    /// Whether so many bytes more can be accepted, if the log has so many.
    fn takes(self, bytes: u64, log_bytes: u64) -> bool {
        let reserve = RESERVE_BYTES.min(self.total / RESERVE_PART);
        self.left >= log_bytes.saturating_add(bytes.saturating_mul(2)).saturating_add(reserve)
    }
}

/// Whether so much is left on the disk of a store that it takes so many bytes more.
///
/// # Errors
/// [`QueueError::NotWritable`] if what is left is needed for what was accepted before.
pub(crate) fn takes_more(folder: &Path, bytes: u64) -> Result<(), QueueError> {
    let Some(space) = Space::of(folder) else { return Ok(()) };
    let log_bytes = std::fs::metadata(log(folder)).map_or(0, |file| file.len());
    if space.takes(bytes, log_bytes) {
        return Ok(());
    }
    Err(QueueError::NotWritable {
        message: format!(
            "no space is left on the disk of {} but {} KiB, which are kept for what was accepted; free some, and it goes on by \
             itself",
            folder.display(),
            space.left >> 10,
        ),
        source: None,
    })
}

/// Whether an event is accepted, unless it is a very large one: who asks whether a store is ready does not hear of a disk
/// that has just as much room as the next event is too large for.
///
/// # Errors
/// As of [`takes_more`].
pub(crate) fn takes_events(folder: &Path) -> Result<(), QueueError> {
    takes_more(folder, USUAL_EVENT_BYTES)
}

/// Whether nothing at all is left on the disk of a file.
pub(crate) fn is_full(file: &Path) -> bool {
    file.parent().and_then(Space::of).is_some_and(|space| space.left == 0)
}

/// The file of a store as it was when it was opened.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl StoreFile {
    /// Notes which file it is.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let path = database(folder);
        let identity = identity(&std::fs::metadata(&path)?);
        Ok(StoreFile { path, identity })
    }

    /// Whether it still stands where it did: what is written into a file that was deleted or moved away is lost, or is
    /// somebody else's.
    pub(crate) fn holds(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity)
    }

    /// What to say if it does not.
    pub(crate) fn lost(&self) -> QueueError {
        QueueError::Damaged(format!(
            "{} was deleted, moved or replaced while it was in use; put it back, or a copy from a backup, and start again",
            self.path.display()
        ))
    }
}

/// What tells a file from another of the same name; `None` where the system has nothing of that kind.
fn identity(file: &Metadata) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Some((file.dev(), file.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_finds_room_in_the_log_and_in_the_file() {
        const MIB: u64 = 1 << 20;
        for (total, left, bytes, log_bytes, takes) in [
            (1 << 40, 4 * MIB, 0, 0, true),
            (1 << 40, 4 * MIB - 1, 0, 0, false),
            (1 << 40, 24 * MIB, 2 * MIB, 16 * MIB, true),
            (1 << 40, 24 * MIB - 1, 2 * MIB, 16 * MIB, false),
            // Of a small disk an eighth is kept.
            (8 * MIB, 7 * MIB, 3 * MIB, 0, true),
            (8 * MIB, 7 * MIB, 3 * MIB + 1, 0, false),
            (0, 0, 0, 0, true),
            (u64::MAX, u64::MAX - 1, u64::MAX, u64::MAX, false),
        ] {
            let space = Space { total, left };
            assert_eq!(space.takes(bytes, log_bytes), takes, "{space:?}: {bytes} to {log_bytes}");
        }
    }

    #[test]
    fn the_disk_of_a_folder_that_is_there_can_be_asked() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Space::of(folder.path()).is_some(), cfg!(unix));
        assert!(Space::of(&folder.path().join("none")).is_none());
    }
}
