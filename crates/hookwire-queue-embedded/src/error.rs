//! What SQLite's errors mean to those who use the store.

use std::io;
use std::path::{Display, Path};

use hookwire_queue::QueueError;
use rusqlite::ErrorCode;

use crate::disk::is_full;

/// What an error of SQLite means, with what to do about it.
pub(crate) fn from_sqlite(error: rusqlite::Error, path: &Path) -> QueueError {
    let place = path.display();
    match error.sqlite_error_code() {
        // Where it cannot make its files longer, it calls that a failure of the disk.
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full(path) => {
            full(place, error)
        }
        Some(ErrorCode::DiskFull) => full(place, error),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            QueueError::NotWritable {
                message: format!("{place} cannot be opened for writing; check its owner and permissions"),
                source: Some(Box::new(error)),
            }
        }
        Some(ErrorCode::SystemIoFailure) => QueueError::NotWritable {
            message: format!("the disk of {place} reports an error; check it (dmesg, smartctl)"),
            source: Some(Box::new(error)),
        },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => QueueError::Damaged(format!(
            "{place} is not readable as a hookwire store ({error}); move it away to begin with an empty one, or put a \
             copy from a backup in its place"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => QueueError::Unavailable {
            message: format!("another program has {place} open (a backup, or the sqlite3 shell?); close it"),
            retry_after: None,
            source: Some(Box::new(error)),
        },
        _ => QueueError::Damaged(format!("{place}: {error}")),
    }
}

fn full(place: Display<'_>, error: rusqlite::Error) -> QueueError {
    QueueError::NotWritable {
        message: format!("no space is left on the disk of {place}; free some, and it goes on by itself"),
        source: Some(Box::new(error)),
    }
}

/// What an error of the file system means for a folder that is to hold a store.
pub(crate) fn from_io(error: io::Error, path: &Path) -> QueueError {
    let place = path.display();
    let message = match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            format!("{place} is not a folder; name another place for the store")
        }
        io::ErrorKind::StorageFull => format!("no space is left on the disk of {place}; free some"),
        io::ErrorKind::ReadOnlyFilesystem => format!("the disk of {place} is mounted read-only"),
        _ => format!("{place} cannot be made or opened; check the owner and permissions of its folder"),
    };
    QueueError::NotWritable { message, source: Some(Box::new(error)) }
}

/// Somebody closed the store.
pub(crate) fn closed() -> QueueError {
    QueueError::Unavailable { message: "this store was closed".to_owned(), retry_after: None, source: None }
}

/// A thread of the store broke an assumption of its own. Nothing but a start makes a new one, so this is not transient.
pub(crate) fn broken() -> QueueError {
    let message = "a thread of it ended, by a fault of hookwire that stands on standard error; what was accepted is safe, \
                   and a new start goes on from there";
    QueueError::Damaged(message.to_owned())
}
