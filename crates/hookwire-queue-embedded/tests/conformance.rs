//! The embedded backend passes the suite.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookwire_model::Timestamp;
use hookwire_queue::StoreLimits;
use hookwire_queue::backend::ManualClock;
use hookwire_queue::conformance::TestStore;
use hookwire_queue_embedded::EmbeddedQueue;

/// Stores in folders of their own, on a clock that the suite moves.
struct EmbeddedTestStore {
    clock: ManualClock,
    folder: tempfile::TempDir,
    opened: AtomicUsize,
}

impl EmbeddedTestStore {
    fn new() -> Self {
        EmbeddedTestStore {
            clock: ManualClock::new(Timestamp::from_secs(1_800_000_000)),
            folder: tempfile::tempdir().unwrap(),
            opened: AtomicUsize::new(0),
        }
    }

    async fn open_in(&self, folder: PathBuf, limits: StoreLimits) -> EmbeddedQueue {
        let wait = Duration::from_secs(30);
        EmbeddedQueue::open_with_clock(&folder, limits, wait, self.clock.store_clock()).await.unwrap()
    }
}

impl TestStore for EmbeddedTestStore {
    type Queue = EmbeddedQueue;

    async fn open(&self, limits: StoreLimits) -> EmbeddedQueue {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        self.open_in(self.folder.path().join(number.to_string()), limits).await
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn clock(&self) -> Option<ManualClock> {
        Some(self.clock.clone())
    }

    async fn reopen(&self, queue: EmbeddedQueue, limits: StoreLimits) -> Option<EmbeddedQueue> {
        let folder = queue.folder().to_owned();
        // Dropped, not closed: nobody gave anything back.
        drop(queue);
        Some(self.open_in(folder, limits).await)
    }

    async fn tidy(&self, queue: &EmbeddedQueue) {
        queue.tidy().await.unwrap();
    }
}

hookwire_queue::conformance!(EmbeddedTestStore::new());
