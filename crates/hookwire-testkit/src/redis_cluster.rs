//! A Redis Cluster of three primaries.
//!
//! Invariant: when it has started, every node knows all slots.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use crate::redis::pause;
use crate::{PATIENCE, RedisServer};

const NODES: u32 = 3;
const SLOTS: u32 = 16384;

/// A Redis Cluster. Its nodes are killed when this is dropped.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--appendonly", "no"])
    }

    /// Starts one that writes everything to disk before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// One cluster for all tests of a process; it ends with the last of those who use it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(RedisCluster::start());
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// Starts one whose nodes go on by themselves while another is away.
    ///
    /// # Panics
    /// If it does not come about; the message tells the nodes' state.
    fn start_with(settings: &[&str]) -> Self {
        let own = [
            "--cluster-enabled",
            "yes",
            "--cluster-require-full-coverage",
            "no",
            "--cluster-node-timeout",
            "1000",
        ];
        let settings = [&own, &["--save", ""][..], settings].concat();
        let node = |_| RedisServer::start_on_port(&settings);
        let cluster = RedisCluster { nodes: (0..NODES).map(node).collect() };
        for (number, node) in (0..).zip(&cluster.nodes) {
            let (first, last) = (number * SLOTS / NODES, (number + 1) * SLOTS / NODES - 1);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            for other in &cluster.nodes {
                let (port, bus) = (port(other).to_string(), bus_port(other).to_string());
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Its URL, with all nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", port(node))).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// The nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The nodes, to be killed and started again.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The place of the node that has a key.
    pub fn node_of(&self, key: &str) -> usize {
        let slot: u32 = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).trim().parse().unwrap_or(0);
        // The last slot of a node is (number + 1) * SLOTS / NODES - 1.
        (0..NODES).find(|number| slot < (number + 1) * SLOTS / NODES).unwrap_or(0) as usize
    }

    /// Waits until every node sees every other one.
    ///
    /// # Panics
    /// If that does not come about.
    pub fn wait_until_whole(&self) {
        let begin = Instant::now();
        loop {
            let info: Vec<String> =
                self.nodes.iter().map(|node| node.command(&["CLUSTER", "INFO"])).collect();
            let is_whole = |info: &String| {
                ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"]
                    .iter()
                    .all(|line| info.contains(line))
            };
            if info.iter().all(is_whole) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the cluster does not come about:\n{}", info.join("\n"));
            pause();
        }
    }
}

fn port(node: &RedisServer) -> u16 {
    node.port().expect("nodes listen on ports")
}

fn bus_port(node: &RedisServer) -> u16 {
    node.bus_port().expect("nodes have a bus")
}
