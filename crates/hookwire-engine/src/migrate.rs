//! What is pending in one store goes into another.
//!
//! Invariants:
//! - The store that it comes from is not changed. Whoever works on it must be stopped before, else what they still do is
//!   done once more by those who work on the other.
//! - Doing it again adds what is new, and repeats nothing: an event that is known there is left as it is.
//! - Events of one object keep their order, and stand behind what the other store already has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookwire_model::{DeliveryState, EndpointId, Event, Shard, WebhookName};
use hookwire_queue::{
    EndpointRecord, Inspect, PendingDelivery, PendingItem, PutEndpoint, Queue, QueueError, Stats, open_shard,
};
use serde::Serialize;

use crate::endpoint_state::{EndpointState, home_shard};
use crate::keeper::LOOK_EVERY;
use crate::operate::hold;

/// What a look of another worker may come late, beyond how often it looks.
const PAUSE_MARGIN: Duration = Duration::from_millis(500);
/// Events at a time: a round trip is shared by many, and 64 of the largest that are accepted by default take 64 MiB.
const PAGE: usize = 64;

/// What was found in a store, and went into another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Events that were found: those that wait for their fan-out, and those with deliveries that are not finished.
    pub events: u64,
    /// Deliveries of them that were found waiting.
    pub waiting: u64,
    /// Dead letters of them.
    pub dead: u64,
    /// How many of the events are new in the other store.
    pub new: u64,
    /// Endpoints whose state went over; what the other store knows of an endpoint stays.
    pub endpoints: u64,
}

/// Why not everything went over. What did stays there.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// Somebody works on the store that it comes from.
    #[error(
        "{leased} events or deliveries are held by a worker: stop whoever works on the store that is left; what a worker \
         held that was killed is free when its leases have run out (`worker.lease`)"
    )]
    AtWork {
        /// How much is held.
        leased: u64,
    },
    /// The store that it comes from changed meanwhile.
    #[error(
        "the store that is left changed meanwhile: stop whoever publishes to it or works on it, and migrate again, which \
         adds what is new"
    )]
    Changed,
    /// The store that it comes from failed.
    #[error("the store that is left cannot be read")]
    From(#[source] QueueError),
    /// The other one failed.
    #[error("the other store cannot be written")]
    To(#[source] QueueError),
}

/// Copies everything that is pending, and what is known of endpoints. `progress` is told after each step.
///
/// Where something is paused it takes some seconds more, in which workers of the other store learn of it.
///
/// # Errors
/// [`MigrateError`] says which store failed, or was in use.
///
/// Cancel safety: dropped, a part may have gone over; doing it again goes on.
pub async fn migrate<F: Queue + Inspect, T: Queue + Inspect>(
    from: &F,
    to: &T,
    mut progress: impl FnMut(&Migrated),
) -> Result<Migrated, MigrateError> {
    let before = all_stats(from).await?;
    let leased = before.iter().map(|stats| stats.events_leased + stats.running).sum();
    if leased > 0 {
        return Err(MigrateError::AtWork { leased });
    }
    let mut over = Over {
        to,
        paused: BTreeSet::new(),
        held: BTreeSet::new(),
        pauses: false,
        migrated: Migrated::default(),
    };
    // First, so that nothing is sent to an endpoint that is paused.
    for shard in (0..from.state_shards()).map(Shard) {
        for record in from.endpoints(shard).await.map_err(MigrateError::From)? {
            over.endpoint(record).await.map_err(MigrateError::To)?;
        }
    }
    if over.pauses {
        // Workers of the other store learn of it when they look the next time.
        tokio::time::sleep(LOOK_EVERY + PAUSE_MARGIN).await;
    }
    // Shards that were replaced come first: what is in the others is newer.
    for shard in (0..from.shards()).map(Shard) {
        let mut after = None;
        loop {
            let page = from.scan(shard, after, PAGE).await.map_err(MigrateError::From)?;
            over.events(page.items).await.map_err(MigrateError::To)?;
            progress(&over.migrated);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let after = all_stats(from).await?;
    let pending = |stats: &[Stats]| -> Vec<[u64; 5]> {
        let counts = |stats: &Stats| {
            [stats.events_queued, stats.events_leased, stats.waiting, stats.running, stats.dead]
        };
        stats.iter().map(counts).collect()
    };
    if pending(&before) != pending(&after) {
        return Err(MigrateError::Changed);
    }
    Ok(over.migrated)
}

async fn all_stats<Q: Queue + Inspect>(store: &Q) -> Result<Vec<Stats>, MigrateError> {
    let mut all = Vec::new();
    for shard in (0..store.shards()).map(Shard) {
        all.push(store.stats(shard).await.map_err(MigrateError::From)?);
    }
    Ok(all)
}

/// What went over so far.
struct Over<'t, T> {
    to: &'t T,
    /// Webhooks that are paused as a whole.
    paused: BTreeSet<WebhookName>,
    /// Endpoints of theirs that are held.
    held: BTreeSet<EndpointId>,
    /// Whether anything is paused.
    pauses: bool,
    migrated: Migrated,
}

impl<T: Queue + Inspect> Over<'_, T> {
    /// Writes what is known of an endpoint, unless something is there already.
    async fn endpoint(&mut self, record: EndpointRecord) -> Result<(), QueueError> {
        let EndpointRecord { id, state, .. } = record;
        let home = home_shard(id, self.to.state_shards());
        let there = match self.to.put_endpoint(home, id, 0, state.clone()).await? {
            PutEndpoint::Written(_) => {
                self.migrated.endpoints += 1;
                Some(state)
            }
            // As it was when this was begun before, or as somebody wants it there.
            PutEndpoint::Conflict(other) => other.map(|record| record.state),
        };
        let there = there.and_then(|state| EndpointState::read(&state));
        if let Some(paused) = there.filter(|state| state.health.is_paused()) {
            self.pauses = true;
            hold(self.to, id, true).await?;
            if id == EndpointId::of_webhook(&paused.webhook) {
                self.paused.insert(paused.webhook);
            }
        }
        Ok(())
    }

    /// Puts events into the shards of their objects.
    async fn events(&mut self, items: Vec<PendingItem>) -> Result<(), QueueError> {
        let open = self.to.open_shards();
        let mut by_shard: BTreeMap<Shard, Vec<PendingItem>> = BTreeMap::new();
        for item in items {
            self.migrated.events += 1;
            for PendingDelivery { delivery, .. } in &item.deliveries {
                match delivery.state {
                    DeliveryState::Dead => self.migrated.dead += 1,
                    _ => self.migrated.waiting += 1,
                }
                if let (Some(webhook), Some(endpoint)) = (&delivery.webhook, delivery.endpoint)
                    && self.paused.contains(webhook)
                    && self.held.insert(endpoint)
                {
                    hold(self.to, endpoint, true).await?;
                }
            }
            // What cannot be read is a dead letter, and has no object whose order it could disturb.
            let event = Event::from_payload(&item.event.payload);
            let shard = event.map_or(Shard(open.start), |event| open_shard(&event, &open));
            by_shard.entry(shard).or_default().push(item);
        }
        for (shard, items) in by_shard {
            self.migrated.new += self.to.restore(shard, items).await?;
        }
        Ok(())
    }
}
