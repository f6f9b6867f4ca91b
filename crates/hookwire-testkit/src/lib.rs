//! What tests need: a scripted endpoint, programs and Redis servers that end with the test, waiting on conditions.
//!
//! Invariants:
//! - Every port is chosen by the system, on loopback.
//! - Every program and server that a test starts ends with the value that stands for it.
//! - Nothing sleeps for a fixed time: what must be waited for is a condition, with a limit and a message.

mod endpoint;
mod program;
mod redis;
mod redis_cluster;
mod tcp_proxy;

pub use endpoint::{Answer, Received, ScriptedEndpoint};
pub use program::{Ended, Program, binary, eventually};
pub use redis::RedisServer;
pub use redis_cluster::RedisCluster;
pub use rustix::process::Signal;
pub use tcp_proxy::{Network, TcpProxy};

use std::time::Duration;

/// How long a test waits for something that should come at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
