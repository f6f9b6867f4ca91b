//! What Redis refuses, as errors of the queue.
//!
//! Invariant: what may be over after a while is transient, so that a worker goes on by itself; only data that this
//! version cannot read is not.

use std::fmt::Display;
use std::time::Duration;

use hookwire_queue::QueueError;
use redis::{ErrorKind, RedisError};

use crate::keys::LAYOUT_VERSION;

/// How long to wait before asking a server again that said it is busy with something that takes a while.
const BUSY_FOR: Duration = Duration::from_secs(2);

const WRONG_LOGIN: &str = "wants another user or password: they stand in the store's URL";

/// Data that is not as it was written.
pub(crate) fn damaged(what: impl Display) -> QueueError {
    QueueError::Damaged(what.to_string())
}

/// An answer that makes no sense. Whoever gave it may be replaced by a server that makes some.
pub(crate) fn odd_answer(script: &str) -> QueueError {
    unavailable(format!("the answer to {script} makes no sense; is this a Redis server?"), None, None)
}

pub(crate) fn unavailable(
    message: String,
    retry_after: Option<Duration>,
    source: Option<RedisError>,
) -> QueueError {
    QueueError::Unavailable { message, retry_after, source: source.map(Into::into) }
}

/// Whether a server had no room for a command, alone or in a transaction.
pub(crate) fn is_out_of_memory(error: &QueueError) -> bool {
    let QueueError::Unavailable { source: Some(source), .. } = error else { return false };
    let code = source.downcast_ref::<RedisError>().and_then(RedisError::code);
    matches!(code, Some("OOM" | "EXECABORT"))
}

/// Whether the server wants another user or password.
pub(crate) fn is_wrong_login(error: &QueueError) -> bool {
    let QueueError::Unavailable { source: Some(source), .. } = error else { return false };
    let refused = source.downcast_ref::<RedisError>();
    refused.is_some_and(|refused| {
        refused.kind() == ErrorKind::AuthenticationFailed
            || matches!(refused.code(), Some("NOAUTH" | "WRONGPASS"))
    })
}

/// Whether a shard takes no new events any more, or has no stream for them.
pub(crate) fn is_closed(error: &QueueError) -> bool {
    let QueueError::Unavailable { source: Some(source), .. } = error else { return false };
    let code = source.downcast_ref::<RedisError>().and_then(RedisError::code);
    matches!(code, Some("HWCLOSED" | "WRONGTYPE"))
}

/// What an error of Redis means for the queue. `server` names the server, without its password.
pub(crate) fn from_redis(error: RedisError, server: &str) -> QueueError {
    let code = error.code().unwrap_or_default().to_owned();
    let detail = error.detail().unwrap_or_default().to_owned();
    let says = |remedy: &str| format!("Redis at {server} {remedy}");
    match code.as_str() {
        "HWVERSION" => {
            QueueError::UnknownVersion { found: detail.trim().parse().unwrap_or(0), known: LAYOUT_VERSION }
        }
        "HWCLOSED" => {
            unavailable("the number of shards was changed; publish again".to_owned(), None, Some(error))
        }
        "OOM" => unavailable(
            says("is out of memory: raise its `maxmemory`, or wait until deliveries have made room"),
            Some(BUSY_FOR),
            Some(error),
        ),
        "MISCONF" => QueueError::NotWritable {
            message: says("cannot save its data and refuses writes: look at its disk and its log"),
            source: Some(error.into()),
        },
        "READONLY" => unavailable(
            says("is a read-only replica: name the primary, or wait until the failover is over"),
            None,
            Some(error),
        ),
        "LOADING" => unavailable(says("is loading its data"), Some(BUSY_FOR), Some(error)),
        "BUSY" => unavailable(
            says("is busy with a script of somebody else: see `SCRIPT KILL`"),
            Some(BUSY_FOR),
            Some(error),
        ),
        "NOAUTH" | "WRONGPASS" => unavailable(says(WRONG_LOGIN), None, Some(error)),
        "NOPERM" => unavailable(
            says("does not let this user do what hookwire needs: docs/queue.md has the ACL rules"),
            None,
            Some(error),
        ),
        "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" => {
            unavailable(says("is part of a cluster that is not whole at the moment"), None, Some(error))
        }
        "WRONGTYPE" => unavailable(
            says("has other data under the names of hookwire's keys: use another database or server"),
            None,
            Some(error),
        ),
        // What the server said to a new connection does not come with its code.
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            unavailable(says(WRONG_LOGIN), None, Some(error))
        }
        _ if error.is_timeout() => unavailable(says("does not answer in time"), None, Some(error)),
        _ if error.is_io_error() || error.is_unrecoverable_error() => {
            unavailable(says("cannot be reached"), None, Some(error))
        }
        _ => unavailable(says("refused"), None, Some(error)),
    }
}
