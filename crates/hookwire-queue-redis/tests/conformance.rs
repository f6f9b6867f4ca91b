//! The Redis backend passes the suite: on one shard, with three shards, on a cluster of three nodes, and where all events
//! stand in batches.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookwire_model::Timestamp;
use hookwire_queue::StoreLimits;
use hookwire_queue::backend::ManualClock;
use hookwire_queue::conformance::TestStore;
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::{RedisCluster, RedisServer};

/// Makes the prefixes of all tests differ.
static OPENED: AtomicUsize = AtomicUsize::new(0);

/// Where the stores are.
enum Servers {
    One(Arc<RedisServer>),
    Cluster(Arc<RedisCluster>),
}

/// Stores under prefixes of their own, on a clock that the suite moves.
struct RedisTestStore {
    clock: ManualClock,
    servers: Servers,
    shards: u16,
    together_min: usize,
    prefix: Mutex<String>,
}

impl RedisTestStore {
    fn new(servers: Servers, shards: u16) -> Self {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        let together_min = RedisOptions::default().together_min;
        RedisTestStore { clock, servers, shards, together_min, prefix: Mutex::default() }
    }

    /// The server that has a key.
    fn server_of(&self, key: &str) -> &RedisServer {
        match &self.servers {
            Servers::One(server) => server,
            Servers::Cluster(cluster) => &cluster.nodes()[cluster.node_of(key)],
        }
    }

    async fn open_under(&self, prefix: String, limits: StoreLimits) -> RedisQueue {
        *self.prefix.lock().unwrap() = prefix.clone();
        let (shards, together_min) = (self.shards, self.together_min);
        let options = RedisOptions { limits, shards, together_min, prefix, ..RedisOptions::default() };
        let url = match &self.servers {
            Servers::One(server) => server.url(),
            Servers::Cluster(cluster) => cluster.url(),
        };
        let url = RedisUrl::parse(&url).unwrap();
        RedisQueue::open_with_clock(&url, options, Some(self.clock.store_clock())).await.unwrap()
    }
}

impl TestStore for RedisTestStore {
    type Queue = RedisQueue;

    async fn open(&self, limits: StoreLimits) -> RedisQueue {
        let number = OPENED.fetch_add(1, Ordering::SeqCst);
        self.open_under(format!("t{number}"), limits).await
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn clock(&self) -> Option<ManualClock> {
        Some(self.clock.clone())
    }

    async fn reopen(&self, queue: RedisQueue, limits: StoreLimits) -> Option<RedisQueue> {
        drop(queue);
        let prefix = self.prefix.lock().unwrap().clone();
        // All that the store can tell of a process that ended is that its leases run out: they do now.
        for name in ["leases", "run_leases"] {
            let key = format!("{{{prefix}:0}}:{name}");
            let server = self.server_of(&key);
            for member in server.command(&["ZRANGE", &key, "0", "-1"]).lines() {
                server.command(&["ZADD", &key, "0", member]);
            }
        }
        Some(self.open_under(prefix, limits).await)
    }

    async fn tidy(&self, queue: &RedisQueue) {
        queue.tidy().await.unwrap();
    }
}

mod one_shard {
    use super::*;

    hookwire_queue::conformance!(RedisTestStore::new(Servers::One(RedisServer::shared()), 1));
}

mod three_shards {
    use super::*;

    hookwire_queue::conformance!(RedisTestStore::new(Servers::One(RedisServer::shared()), 3));
}

mod cluster {
    use super::*;

    hookwire_queue::conformance!(RedisTestStore::new(Servers::Cluster(RedisCluster::shared()), 3));
}

mod batches {
    use super::*;

    hookwire_queue::conformance!(RedisTestStore {
        together_min: 1,
        ..RedisTestStore::new(Servers::One(RedisServer::shared()), 1)
    });
}
