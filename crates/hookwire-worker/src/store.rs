//! The choice of backend: a URL becomes a store.
//!
//! [`Store`] is one type for all backends, so that everything above is written once. It only passes calls on.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use hookwire_config::{Settings, StoreTls, StoreUrl};
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard};
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Expired, Inspect, Lease,
    LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent, MemoryQueue, NewEvent, PendingItem,
    Published, PutEndpoint, Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoreLimits,
    StoredEvent, Subject,
};
use hookwire_queue_embedded::EmbeddedQueue;
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisTls, RedisUrl};

use crate::exit::{Exit, Failure};

/// A store of any kind. Cloning gives another handle to the same store.
#[derive(Clone)]
pub enum Store {
    /// In memory: gone at the end of the process.
    Memory(MemoryQueue),
    /// In one file: survives the process, owned by one process at a time.
    Embedded(EmbeddedQueue),
    /// On a Redis server or cluster: shared by many processes on many machines.
    Redis(RedisQueue),
}

impl Store {
    /// Opens the store of the settings, waiting up to `wait` for one that another process holds, or for a server that
    /// cannot be reached. `owns`: a store with another number of shards is given as many new ones.
    ///
    /// # Errors
    /// The exit code says why it cannot be opened.
    pub async fn open(settings: &Settings, wait: Duration, owns: bool) -> Result<Store, Failure> {
        let Settings { store, history, .. } = settings;
        let default = StoreLimits::default();
        let pending_bytes_max = store.max_pending_bytes.unwrap_or(default.pending_bytes_max);
        let limits = StoreLimits {
            dedup_window: store.dedup_window,
            dedup_max_ids: store.dedup_max_ids,
            pending_bytes_max,
            backlog_bytes_max: store.max_backlog_bytes.unwrap_or(pending_bytes_max / 2),
            history_age_max: history.max_age,
            history_bytes_max: history.max_bytes.unwrap_or(default.history_bytes_max),
        };
        Ok(match &store.url {
            StoreUrl::Memory => Store::Memory(MemoryQueue::new(limits)),
            StoreUrl::Embedded(folder) => Store::Embedded(EmbeddedQueue::open(folder, limits, wait).await?),
            StoreUrl::Redis(url) => {
                let url = RedisUrl::parse(url.expose())
                    .map_err(|error| Failure::message(Exit::Config, format!("store.url: {error}")))?;
                let shards = u64::from(store.shards.max(1));
                let options = RedisOptions {
                    limits: StoreLimits {
                        pending_bytes_max: limits.pending_bytes_max / shards,
                        backlog_bytes_max: limits.backlog_bytes_max / shards,
                        history_bytes_max: limits.history_bytes_max / shards,
                        ..limits
                    },
                    pending_by_memory: store.max_pending_bytes.is_none(),
                    backlog_by_half: store.max_backlog_bytes.is_none(),
                    history_by_memory: history.max_bytes.is_none(),
                    shards: store.shards,
                    changes_shards: owns,
                    event_bytes_max: usize::try_from(settings.server.max_event_bytes).unwrap_or(usize::MAX),
                    tls: read_tls(&store.tls)?,
                    wait_replicas: store.wait_replicas,
                    wait,
                    ..RedisOptions::default()
                };
                Store::Redis(RedisQueue::open(&url, options).await?)
            }
        })
    }

    /// Says what is not ideal about the store's server, and what to do.
    pub(crate) fn warn(&self) {
        if let Store::Redis(store) = self {
            for advice in store.server().advice() {
                tracing::warn!("Redis: {advice}");
            }
        }
    }

    /// Finishes what is under way and gives the store back.
    pub async fn close(self) {
        match self {
            // What these were told is stored, or nothing outlives the process anyway.
            Store::Memory(_) | Store::Redis(_) => {}
            Store::Embedded(store) => store.close().await,
        }
    }
}

/// Reads the files for TLS to a Redis server, and looks whether they hold what they should.
fn read_tls(files: &StoreTls) -> Result<RedisTls, Failure> {
    let read = |setting: &str, file: &Path, wanted: &str| {
        let refused = |problem: String| {
            let message = format!("store.{setting}: {} {problem}", file.display());
            Failure::message(Exit::Config, message)
        };
        let text = std::fs::read(file).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let holds = String::from_utf8_lossy(&text)
            .lines()
            .any(|line| line.starts_with("-----BEGIN ") && line.trim_end_matches('-').ends_with(wanted));
        if holds { Ok(text) } else { Err(refused(format!("holds no {} in PEM", wanted.to_lowercase()))) }
    };
    let StoreTls { ca_file, client_cert, client_key } = files;
    let authorities = ca_file.as_ref().map(|file| read("ca_file", file, "CERTIFICATE")).transpose()?;
    let client = client_cert.as_ref().map(|file| {
        let certificate = read("client_cert", file, "CERTIFICATE")?;
        let key = match client_key {
            Some(file) => read("client_key", file, "PRIVATE KEY")?,
            None => read("client_cert", file, "PRIVATE KEY")?,
        };
        Ok::<_, Failure>((certificate, key))
    });
    Ok(RedisTls { authorities, client: client.transpose()? })
}

/// Passes a call on to whichever store it is.
macro_rules! pass_on {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Memory($store) => $call,
            Store::Embedded($store) => $call,
            Store::Redis($store) => $call,
        }
    };
}

impl Queue for Store {
    fn shards(&self) -> u16 {
        pass_on!(self, store => store.shards())
    }

    fn open_shards(&self) -> Range<u16> {
        pass_on!(self, store => store.open_shards())
    }

    fn state_shards(&self) -> u16 {
        pass_on!(self, store => store.state_shards())
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        pass_on!(self, store => store.publish(shard, events).await)
    }

    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        pass_on!(self, store => store.lease_events(shard, request).await)
    }

    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        pass_on!(self, store => store.lease_deliveries(shard, request).await)
    }

    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        pass_on!(self, store => store.extend(shard, leases, lease).await)
    }

    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        pass_on!(self, store => store.settle(shard, settlement).await)
    }

    async fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        pass_on!(self, store => store.expire(shard, age, after, max).await)
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        pass_on!(self, store => store.hold(shard, endpoint, hold).await)
    }

    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        pass_on!(self, store => store.wait(shard, timeout).await)
    }
}

impl Inspect for Store {
    async fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        pass_on!(self, store => store.list(shard, filter, before, limit).await)
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        pass_on!(self, store => store.delivery(id).await)
    }

    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        pass_on!(self, store => store.event(shard, id).await)
    }

    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        pass_on!(self, store => store.stats(shard).await)
    }

    async fn ready(&self, shard: Shard) -> Result<(), QueueError> {
        pass_on!(self, store => store.ready(shard).await)
    }

    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        pass_on!(self, store => store.change(shard, change, selection, dry_run).await)
    }

    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        pass_on!(self, store => store.endpoint(shard, id).await)
    }

    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        pass_on!(self, store => store.endpoints(shard).await)
    }

    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        pass_on!(self, store => store.put_endpoint(shard, id, expected, state).await)
    }

    async fn backlogs(&self, shard: Shard) -> Result<Vec<Backlog>, QueueError> {
        pass_on!(self, store => store.backlogs(shard).await)
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        pass_on!(self, store => store.scan(shard, after, limit).await)
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        pass_on!(self, store => store.restore(shard, items).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_tls_that_cannot_be_used_is_told_with_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (certificate, key) = ("-----BEGIN CERTIFICATE-----\n", "-----BEGIN EC PRIVATE KEY-----\n");
        std::fs::write(path("both"), format!("{certificate}{key}")).unwrap();
        std::fs::write(path("certificate"), certificate).unwrap();
        let files = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| StoreTls {
            ca_file: ca.map(path),
            client_cert: cert.map(path),
            client_key: key.map(path),
        };
        let read = read_tls(&files(Some("certificate"), Some("both"), None)).unwrap();
        let (shown, its_key) = read.client.unwrap();
        assert_eq!((read.authorities.unwrap(), shown), (certificate.into(), its_key));
        assert!(read_tls(&files(None, Some("certificate"), Some("both"))).is_ok());
        assert!(read_tls(&StoreTls::default()).unwrap().client.is_none());
        for (wrong, told) in [
            (files(Some("nowhere"), None, None), "store.ca_file: "),
            (files(None, Some("certificate"), None), "certificate holds no private key in PEM"),
            (files(None, Some("certificate"), Some("certificate")), "store.client_key: "),
        ] {
            let failure = read_tls(&wrong).unwrap_err().to_string();
            assert!(failure.contains(told), "{failure}");
        }
    }
}
