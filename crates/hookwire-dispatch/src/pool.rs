//! Idle connections, kept for the next request to the same place.
//!
//! Invariants:
//! - A connection goes only to requests with the same scheme, host, port, TLS profile and egress trust as the one it was
//!   made for: what was decided when it was dialled holds for them too.
//! - The connection used last is used first, so that what is not needed gets old and is closed.
//! - There is a bound on idle connections per key and in all, and none stays longer than its time.
//! - The lock is held for steps in memory, never across an `.await`, and no connection is closed under it.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hookwire_model::Authority;
use indexmap::{Equivalent, IndexMap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::tls::TlsProfileId;

/// What must be the same for a connection to be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a> {
    pub(crate) authority: &'a Authority,
    /// `None` for `http`, where profiles make no difference.
    pub(crate) tls: Option<TlsProfileId>,
    pub(crate) literal_host: bool,
}

/// The same, to keep. It hashes as [`Key`] does, because an `Authority` hashes as a reference to it does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OwnedKey {
    authority: Authority,
    tls: Option<TlsProfileId>,
    literal_host: bool,
}

impl Equivalent<OwnedKey> for Key<'_> {
    fn equivalent(&self, key: &OwnedKey) -> bool {
        *self.authority == key.authority && self.tls == key.tls && self.literal_host == key.literal_host
    }
}

/// How many connections may be idle, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) idle_max: usize,
    pub(crate) idle_per_key_max: usize,
    pub(crate) idle_timeout: Duration,
}

/// Idle connections.
pub(crate) struct Pool<S: AsyncRead + AsyncWrite + Unpin> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: AsyncRead + AsyncWrite + Unpin> {
    limits: Limits,
    state: Mutex<State<S>>,
}

struct State<S: AsyncRead + AsyncWrite + Unpin> {
    /// By key, the one used last at the end. A queue may be empty.
    idle: IndexMap<OwnedKey, VecDeque<Box<Connection<S>>>>,
    /// Connections in all queues.
    count: usize,
    /// Whose turn it is to lose a connection where there are too many: an index into `idle`.
    hand: usize,
    /// Whether a task closes what gets too old.
    swept: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pool<S> {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State { idle: IndexMap::new(), count: 0, hand: 0, swept: false };
        Pool { shared: Arc::new(Shared { limits, state: Mutex::new(state) }) }
    }

    /// A connection that is still open, as far as is known, and was used last.
    pub(crate) fn take(&self, key: Key<'_>) -> Option<Box<Connection<S>>> {
        loop {
            let mut connection = {
                let mut state = self.shared.lock();
                let connection = state.idle.get_mut(&key)?.pop_back()?;
                state.count -= 1;
                connection
            };
            if Instant::now() < connection.usable_until && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last response was read to its end. `server_timeout` is how long the server said it keeps
    /// it open.
    pub(crate) fn put(
        &self,
        key: Key<'_>,
        mut connection: Box<Connection<S>>,
        server_timeout: Option<Duration>,
    ) {
        let limits = self.shared.limits;
        // A second less than the server: a request that is on its way when the server closes is lost, and nobody can
        // tell whether it was worked on.
        let server_timeout = server_timeout.map(|timeout| timeout.saturating_sub(Duration::from_secs(1)));
        let timeout = server_timeout.unwrap_or(limits.idle_timeout).min(limits.idle_timeout);
        if timeout.is_zero() || limits.idle_max == 0 || limits.idle_per_key_max == 0 {
            return;
        }
        connection.usable_until = Instant::now() + timeout;

        let mut closed = Vec::new();
        let mut start_sweeping = false;
        {
            let mut state = self.shared.lock();
            if state.count >= limits.idle_max {
                closed.extend(state.evict());
            }
            match state.idle.get_mut(&key) {
                Some(queue) => {
                    if queue.len() >= limits.idle_per_key_max {
                        closed.extend(queue.pop_front());
                    }
                    queue.push_back(connection);
                }
                None => {
                    // Keys come out of templates: those that are of no use any more must not pile up until the next
                    // sweep.
                    if state.idle.len() >= limits.idle_max.saturating_mul(2) {
                        state.idle.retain(|_, queue| !queue.is_empty());
                    }
                    let owned = OwnedKey {
                        authority: key.authority.clone(),
                        tls: key.tls,
                        literal_host: key.literal_host,
                    };
                    state.idle.insert(owned, VecDeque::from([connection]));
                }
            }
            state.count = state.count + 1 - closed.len();
            if !state.swept {
                state.swept = true;
                start_sweeping = true;
            }
        }
        if start_sweeping {
            // A bare spawn: the task holds nothing but a weak reference, waits for nothing but the clock, and ends when
            // the pool is empty or gone.
            tokio::spawn(sweep(Sweeper { shared: Arc::downgrade(&self.shared) }, limits.idle_timeout));
        }
    }

    /// Closes all that is idle, for a process that has run out of file descriptors. Says whether there was something.
    pub(crate) fn clear(&self) -> bool {
        let closed = {
            let mut state = self.shared.lock();
            state.count = 0;
            std::mem::take(&mut state.idle)
        };
        closed.values().any(|queue| !queue.is_empty())
    }

    /// How many connections are idle.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().count
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Every step leaves the state whole, so a panic in between is no reason to stop using it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> State<S> {
    /// Takes the oldest connection of the next key that has one. Going round is as good as looking for the oldest of
    /// all where there are more keys than connections, and costs nothing.
    fn evict(&mut self) -> Option<Box<Connection<S>>> {
        for _ in 0..self.idle.len() {
            if self.hand >= self.idle.len() {
                self.hand = 0;
            }
            let (_, queue) = self.idle.get_index_mut(self.hand)?;
            match queue.pop_front() {
                Some(connection) => {
                    self.hand += 1;
                    return Some(connection);
                }
                // The last key takes this one's place, and is looked at next.
                None => self.idle.swap_remove_index(self.hand),
            };
        }
        None
    }

    /// Takes whatever is too old or closed by the other end, and forgets keys without connections.
    fn take_unusable(&mut self, now: Instant) -> Vec<Box<Connection<S>>> {
        let mut unusable = Vec::new();
        for queue in self.idle.values_mut() {
            for mut connection in std::mem::take(queue) {
                if now < connection.usable_until && connection.is_usable() {
                    queue.push_back(connection);
                } else {
                    unusable.push(connection);
                }
            }
        }
        self.idle.retain(|_, queue| !queue.is_empty());
        self.count -= unusable.len();
        unusable
    }
}

/// Takes care that another task sweeps if this one ends, also with its runtime.
struct Sweeper<S: AsyncRead + AsyncWrite + Unpin> {
    shared: Weak<Shared<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for Sweeper<S> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().swept = false;
        }
    }
}

async fn sweep<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    mut sweeper: Sweeper<S>,
    idle_timeout: Duration,
) {
    // Often enough that a connection which the other end has closed does not hold a descriptor for long.
    let pause = (idle_timeout / 8).clamp(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = sweeper.shared.upgrade() else { return };
        let mut state = shared.lock();
        let unusable = state.take_unusable(Instant::now());
        let is_empty = state.count == 0;
        // Said under the lock, so that whoever puts the next connection starts the next task.
        state.swept = !is_empty;
        drop(state);
        drop(unusable);
        if is_empty {
            sweeper.shared = Weak::new();
            return;
        }
    }
}
