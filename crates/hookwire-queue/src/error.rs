//! Why a store could not do its part.

use std::time::Duration;

/// Why a store could not do its part. Losing a lease is not an error, but part of an answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// There is no room for more events until some are delivered.
    #[error(
        "the store holds {pending_bytes} bytes of undelivered events, and its limit is {limit} (store.max_pending_bytes)"
    )]
    Full {
        /// What is pending now.
        pending_bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The store cannot be reached at the moment, or cannot write; it is worth trying again.
    #[error("the store is unavailable: {message}")]
    Unavailable {
        /// What is wrong, and what to do.
        message: String,
        /// When to try again, if the store said so.
        retry_after: Option<Duration>,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The disk is full, or may not be written to.
    #[error("the store cannot write: {message}")]
    NotWritable {
        /// What is wrong, and what to do.
        message: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Another process owns the store.
    #[error("the store is in use by {holder}")]
    InUse {
        /// Who owns it, as far as is known.
        holder: String,
    },
    /// The store was written by a version that this one does not know.
    #[error(
        "the store has layout version {found}, and this program knows up to {known}: use a newer hookwire"
    )]
    UnknownVersion {
        /// What the store says.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// The store holds something that it should not: a fault of the store, or of hookwire.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl QueueError {
    /// Whether the same call may succeed later without anybody doing anything about it.
    pub fn is_transient(&self) -> bool {
        match self {
            QueueError::Full { .. } | QueueError::Unavailable { .. } | QueueError::NotWritable { .. } => true,
            QueueError::InUse { .. } | QueueError::UnknownVersion { .. } | QueueError::Damaged(_) => false,
        }
    }
}
