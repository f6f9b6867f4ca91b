//! What the server is like, and what to say about it.
//!
//! Invariant: nothing here keeps a store from working; every advice names the setting to change.

use std::collections::BTreeMap;
use std::fmt;

use hookwire_queue::QueueError;
use redis::Value;

use crate::link::{Link, Way};

/// The oldest version on which everything works.
const VERSION_MIN: (u32, u32) = (6, 2);

/// What a server tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// `redis_version`, such as `7.0.15`.
    pub version: String,
    /// `maxmemory` in bytes; 0: none.
    pub maxmemory: u64,
    /// `maxmemory-policy`.
    pub eviction: String,
    /// Whether every write goes to an append-only file.
    pub appendonly: bool,
    /// When that file is synced: `always`, `everysec` or `no`; empty if the server does not tell.
    pub appendfsync: String,
    /// Whether snapshots are taken; `None` if the server does not tell.
    pub snapshots: Option<bool>,
    /// Whether it is a replica.
    pub replica: bool,
    /// How many primaries the cluster has; 1 where there is no cluster.
    pub primaries: u16,
}

/// Something that is not ideal about a server: what, what it means, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice(String);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ServerFacts {
    /// Asks a server. In a cluster, any node.
    pub(crate) async fn ask(link: &Link) -> Result<Self, QueueError> {
        let mut info = BTreeMap::new();
        for section in ["server", "memory", "persistence", "replication"] {
            let mut command = redis::cmd("INFO");
            command.arg(section);
            collect(&link.call(Way::Shared, &command).await?, &mut info);
        }
        let get = |name: &str| info.get(name).cloned().unwrap_or_default();
        let mut facts = ServerFacts {
            version: get("redis_version"),
            maxmemory: get("maxmemory").parse().unwrap_or(0),
            eviction: get("maxmemory_policy"),
            appendonly: get("aof_enabled") == "1",
            replica: get("role") == "slave",
            primaries: 1,
            ..ServerFacts::default()
        };
        if get("redis_mode") == "cluster" {
            let mut command = redis::cmd("CLUSTER");
            command.arg("INFO");
            let mut info = BTreeMap::new();
            if let Ok(answer) = link.call(Way::Shared, &command).await {
                collect(&answer, &mut info);
            }
            facts.primaries = info.get("cluster_size").and_then(|size| size.parse().ok()).unwrap_or(1).max(1);
        }
        // Hosted servers and careful administrators forbid CONFIG; then it remains unknown.
        for name in ["appendfsync", "save"] {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let Ok(answer) = link.call(Way::Shared, &command).await else { continue };
            let Some(value) = last_text(&answer) else { continue };
            match name {
                "appendfsync" => facts.appendfsync = value,
                _ => facts.snapshots = Some(!value.is_empty()),
            }
        }
        Ok(facts)
    }

    /// What a shard gets of so many percent of the servers' memory, or of so many bytes where that has no limit.
    pub(crate) fn share(&self, percent: u64, otherwise: u64, shards: u16) -> u64 {
        let all = if self.maxmemory == 0 { otherwise } else { self.maxmemory / 100 * percent };
        // Each primary has a memory of its own, and its part of the shards.
        all / u64::from(shards.max(1).div_ceil(self.primaries.max(1)))
    }

    /// What is not ideal.
    pub fn advice(&self) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut say = |text: String| all.push(Advice(text));
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if version < VERSION_MIN {
            say(format!(
                "Redis {} is older than {}.{}, which hookwire needs: update the server",
                self.version, VERSION_MIN.0, VERSION_MIN.1
            ));
        }
        if self.maxmemory > 0 && !self.eviction.is_empty() && self.eviction != "noeviction" {
            say(format!(
                "maxmemory-policy is {}, so Redis may throw events away when memory runs short: set it to noeviction",
                self.eviction
            ));
        }
        if self.maxmemory == 0 {
            say("maxmemory is not set, so Redis takes memory until the system ends it: set it, and \
                 maxmemory-policy noeviction"
                .to_owned());
        }
        if !self.appendonly {
            let lost = match self.snapshots {
                Some(false) => "everything, since it takes no snapshots either",
                _ => "everything since its last snapshot",
            };
            say(format!(
                "appendonly is off, so a restart of Redis loses {lost}: set appendonly yes, and appendfsync always \
                 where nothing may be lost"
            ));
        } else if self.appendfsync == "no" {
            say("appendfsync is no, so a crash of the host loses what the system has not written yet: set it to \
                 everysec or always"
                .to_owned());
        }
        if self.replica {
            say("this server is a replica, which refuses writes: name the primary in the store's URL"
                .to_owned());
        }
        all
    }
}

/// Reads the lines of INFO, of one node or of several.
fn collect(answer: &Value, info: &mut BTreeMap<String, String>) {
    match answer {
        Value::BulkString(bytes) => lines(&String::from_utf8_lossy(bytes), info),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => lines(text, info),
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, info)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, part)| collect(part, info)),
        _ => {}
    }
}

fn lines(text: &str, info: &mut BTreeMap<String, String>) {
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        info.entry(name.to_owned()).or_insert_with(|| value.trim().to_owned());
    }
}

fn last_text(answer: &Value) -> Option<String> {
    match answer {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Array(parts) => parts.last().and_then(last_text),
        Value::Map(pairs) => pairs.last().and_then(|(_, value)| last_text(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_memory_of_their_primary() {
        let one = ServerFacts { maxmemory: 1000, primaries: 1, ..ServerFacts::default() };
        let three = ServerFacts { primaries: 3, ..one.clone() };
        let unbounded = ServerFacts { maxmemory: 0, ..one.clone() };
        assert_eq!((one.share(60, 0, 1), one.share(60, 0, 3)), (600, 200));
        assert_eq!((three.share(60, 0, 3), three.share(60, 0, 6)), (600, 300));
        assert_eq!(unbounded.share(5, 90, 3), 30);
    }

    #[test]
    fn a_server_as_it_should_be_needs_no_advice() {
        let good = ServerFacts {
            version: "7.0.15".into(),
            maxmemory: 1 << 30,
            eviction: "noeviction".into(),
            appendonly: true,
            appendfsync: "everysec".into(),
            snapshots: Some(true),
            replica: false,
            primaries: 1,
        };
        assert_eq!(good.advice(), []);
        let bad = ServerFacts {
            version: "6.0.16".into(),
            eviction: "allkeys-lru".into(),
            appendonly: false,
            snapshots: Some(false),
            replica: true,
            ..good.clone()
        };
        let advice: Vec<String> = bad.advice().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(advice.join("\n"));
        let unbounded = ServerFacts { maxmemory: 0, appendfsync: "no".into(), ..good };
        let advice: Vec<String> = unbounded.advice().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(advice.join("\n"));
    }
}
