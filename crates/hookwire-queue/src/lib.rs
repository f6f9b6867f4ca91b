//! The queue of hookwire: its contract as traits, the memory backend, and the suite that every backend must pass.
//!
//! # The contract
//!
//! A store has one or more **shards**. Every call is about one shard, and no step spans two. Time is the store's own:
//! callers say how long from now, never when.
//!
//! ## Publishing
//!
//! - P1. When [`publish`](Queue::publish) returns, the events are as durable as the store makes anything.
//! - P2. A batch is taken whole or refused whole.
//! - P3. Each event gets a sequence number, larger than that of every event accepted before it in its shard.
//! - P4. An event whose id was accepted within the de-duplication window (by time and by count) is told as a duplicate,
//!   with the number it got then, and changes nothing. The same id twice in one batch is one event. Beyond the window it
//!   is a new event.
//! - P5. Beyond the limit on pending bytes publishing is refused with [`QueueError::Full`], and nothing is taken.
//!
//! ## Leasing events
//!
//! - E1. Events are leased in the order of their numbers, each to one worker at a time.
//! - E2. A lease ends when it is settled, or when its time is over. An event whose lease ran out has lost it once more,
//!   and can be leased again.
//! - E3. An event that has lost a lease is a **suspect**. At most so many suspects are leased as the caller asks for;
//!   they come besides the others, and count towards the maximum.
//! - E4. The count of lost leases survives the worker and, in a durable store, the process that owns the store.
//! - E5. A suspect tells which of its deliveries are on record already.
//! - E6. [`extend`](Queue::extend) makes leases last from now on; those that are no longer held are told, and not
//!   revived.
//!
//! ## Settling
//!
//! - S1. [`settle`](Queue::settle) is atomic for each event: its deliveries are recorded and it leaves the queue, or
//!   nothing of it happens. Likewise for each delivery.
//! - S2. Every write is idempotent by delivery id: a settlement whose reply was lost may be repeated as it is, and
//!   answers the same, as long as the store remembers it: at least the last 10,000 settled leases of the present owner.
//!   Fanning out twice makes one delivery; what is on record already stays as it is, and gets no lease.
//! - S3. A settlement whose lease is no longer held changes nothing, and is told as lost; except that a delivery said to
//!   be delivered is believed, whoever holds it now.
//! - S4. A delivery that is delivered, cancelled or superseded stays so, until a person asks otherwise.
//! - S5. A delivery may be stored waiting until it is due, or running: leased at once to the settling worker, with the
//!   lease in the reply.
//! - S6. An event given back with [`EventFate::Released`] can be leased at once, and has not lost its lease.
//! - S7. An event settled as dead leaves a dead letter without rule and webhook. Redriving that puts the event back, as
//!   one that has lost no lease, and takes the dead letter off the record.
//! - S8. Each attempt is on record once, under its delivery and number.
//!
//! ## Leasing deliveries
//!
//! - D1. A waiting delivery is leased only when it is due, and to one worker at a time.
//! - D2. No more deliveries of an endpoint are leased in one call than there is room for; an endpoint that is held is
//!   left out until its time has come. Deliveries without an endpoint have room.
//! - D3. Among endpoints with due deliveries, turns are fair: one with a long backlog does not keep another waiting.
//!   Within an endpoint the earliest due goes first.
//! - D4. A delivery whose lease ran out can be leased again at once, and tells one more interruption, which counts as an
//!   attempt.
//! - D5. The reply tells when the next delivery that is waiting now becomes due, or an earlier time; those of an endpoint
//!   without room, and those that order keeps back, do not count.
//! - D6. A delivery brings its event's payload. The payload is stored once, however many deliveries wait for it.
//!
//! ## Order
//!
//! - O1. Of the deliveries with the same order key, only the first unfinished one can be leased; first is the lowest
//!   sequence number, then the lowest id. One that a person sends again may become the first while a later one is
//!   leased; it can be leased when that lease has ended.
//! - O2. It can be leased only when no event with a smaller number is still queued in the shard: its deliveries might
//!   belong before it.
//! - O3. When the first one waits after a failure, the others wait behind it (`block`), or go on without it (`skip`), or
//!   all but the newest end as superseded (`supersede`).
//! - O4. A first one that is a dead letter keeps blocking under `block`, until it is redriven, cancelled or purged.
//!
//! ## Backlogs
//!
//! - B1. An endpoint's backlog is its waiting deliveries. [`backlogs`](Inspect::backlogs) tells how many they are, and
//!   the bytes of their payloads, each delivery counted by itself.
//! - B2. A delivery that fan-out would leave waiting, and with which the backlog of its endpoint would have more bytes
//!   than [`StoreLimits::backlog_bytes_max`], is stored as a dead letter for [`DeadReason::BacklogLimit`], and told.
//!   One that has been on record, or has no endpoint yet, waits whatever the limit is.
//! - B3. [`expire`](Queue::expire) makes dead letters for the same reason of the waiting deliveries that are as old as
//!   the caller says, by the time from which their age counts; those that a worker holds stay.
//!
//! ## Endpoint state
//!
//! - N1. An endpoint's state is opaque bytes with a version. [`put_endpoint`](Inspect::put_endpoint) writes it only if
//!   the version is still the one that was read; else it tells the present one. An empty state removes it. Versions only
//!   grow, also over a removal: the first is the time in milliseconds.
//! - N2. A hold on an endpoint is kept per shard, and outlives the worker that set it.
//!
//! ## Looking and acting
//!
//! - I1. Lists are newest first, by id, in pages; a page's cursor goes on where it ended, whatever happens in between.
//! - I2. Acting by filter acts on all that match when the call begins, misses none and repeats none; a dry run counts
//!   the same and changes nothing. It may be done in steps: a call that is dropped may have acted on some.
//! - I3. Retry makes a waiting delivery due now, redrives a dead letter, and sends a delivered one again while its event
//!   is kept; attempts on record stay. Cancel ends waiting ones and dead letters. Purge removes dead letters from the
//!   record.
//! - I4. What a person does to a delivery that a worker holds does not change it, and is told.
//! - I5. [`scan`](Inspect::scan) gives everything that is pending, and [`restore`](Inspect::restore) puts it into another
//!   store, twice without harm.
//! - I6. Finished deliveries are kept by age and bytes; pending ones and dead letters are never removed to make room for
//!   them. An event is kept as long as any delivery of it.
//!
//! # Absences
//!
//! This crate knows nothing of HTTP, rules, templates, or of what makes a delivery succeed.

mod attempt;
pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod inspect;
mod lease;
mod memory;
mod settle;

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

#[cfg(doc)]
use hookwire_model::DeadReason;
use hookwire_model::{EndpointId, Event, Sequence, Shard};

pub use attempt::PackedAttempt;
pub use error::QueueError;
pub use inspect::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, EventState, Inspect,
    PendingDelivery, PendingEvent, PendingItem, PutEndpoint, ScanPage, Selection, Stats, StoredEvent,
};
pub use lease::{
    Lease, LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedDelivery, LeasedEvent, NewEvent, Published,
    Rooms, Subject, WorkerId,
};
pub use memory::MemoryQueue;
pub use settle::{
    EventFate, Expired, Fate, NewDelivery, Order, Settled, SettledDelivery, SettledEvent, Settlement,
};

/// What a store keeps, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLimits {
    /// How long an event id is remembered.
    pub dedup_window: Duration,
    /// How many ids are remembered per shard at most.
    pub dedup_max_ids: u64,
    /// Payload bytes of queued events and of events with waiting deliveries, beyond which publishing is refused.
    pub pending_bytes_max: u64,
    /// Payload bytes of the deliveries that wait for one endpoint, beyond which new ones become dead letters: less than
    /// `pending_bytes_max`, so that one receiver that is down does not keep the events of all others out.
    pub backlog_bytes_max: u64,
    /// How long finished deliveries are kept.
    pub history_age_max: Duration,
    /// How many bytes of finished deliveries and their events are kept.
    pub history_bytes_max: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            dedup_window: Duration::from_secs(3600),
            dedup_max_ids: 5_000_000,
            pending_bytes_max: 8 << 30,
            backlog_bytes_max: 4 << 30,
            history_age_max: Duration::from_secs(7 * 24 * 3600),
            history_bytes_max: 1 << 30,
        }
    }
}

/// The shard among the open ones that a new event belongs to.
pub fn open_shard(event: &Event, open: &Range<u16>) -> Shard {
    Shard(open.start + event.shard(open.end - open.start).0)
}

/// The working side of a store: what producers and workers need. See the [contract](crate).
///
/// Cancel safety: a call whose future is dropped may or may not have taken effect, as a whole; a lease whose reply was
/// dropped runs out by itself.
pub trait Queue: Send + Sync + 'static {
    /// How many shards there are, at least 1.
    fn shards(&self) -> u16;

    /// The shards that take new events, at least one: all of them, except where a store's number of shards was changed
    /// while older ones still had work. Events of one object go to one of these ([`open_shard`]).
    fn open_shards(&self) -> Range<u16> {
        0..self.shards()
    }

    /// How many shards, from the first on, keep the states of endpoints. It never changes.
    fn state_shards(&self) -> u16 {
        self.shards()
    }

    /// Takes events (P1 to P5). The reply has one entry per event, in order.
    fn publish(
        &self,
        shard: Shard,
        events: Vec<NewEvent>,
    ) -> impl Future<Output = Result<Vec<Published>, QueueError>> + Send;

    /// Leases queued events (E1 to E5); none, if none is queued. Those that were handed over to whoever
    /// [waited](Self::wait) come first; their leases may have begun earlier, by a tenth of what was asked for.
    ///
    /// With a `max` of 0, it brings nothing but what was handed over, and nothing is handed over any more before it is called
    /// with another.
    fn lease_events(
        &self,
        shard: Shard,
        request: LeaseEvents,
    ) -> impl Future<Output = Result<Vec<LeasedEvent>, QueueError>> + Send;

    /// Leases due deliveries (D1 to D6, O1, O2); none, if none is due.
    fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> impl Future<Output = Result<LeasedDeliveries, QueueError>> + Send;

    /// Makes leases last `lease` from now on (E6). The reply names those that are no longer held.
    fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<Subject>, QueueError>> + Send;

    /// Ends leases (S1 to S8). The settlement stays with the caller, who may repeat it where the reply was lost.
    fn settle(
        &self,
        shard: Shard,
        settlement: &Settlement,
    ) -> impl Future<Output = Result<Settled, QueueError>> + Send;

    /// Makes dead letters of waiting deliveries that are as old as `age` or older (B3): in the order of their events,
    /// beginning after `after`, and looking at about `max` of them. It stops at the first event that is younger.
    fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> impl Future<Output = Result<Expired, QueueError>> + Send;

    /// Keeps an endpoint's deliveries in this shard from being leased for so long; `None` ends it (D2, N2).
    fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Returns when there may be something to lease that was not there before, at the latest after `timeout`. May
    /// return for nothing. Something that came between the last lease and this call counts.
    ///
    /// A store may hand events over to whoever waits, or did: lease them as they are published, for the next call of
    /// [`lease_events`](Self::lease_events). Whoever does not wait again soon, or goes, asks for them with a `max` of 0;
    /// else they are left until their leases run out, as is what was handed over to a process that ended.
    fn wait(&self, shard: Shard, timeout: Duration) -> impl Future<Output = Result<(), QueueError>> + Send;
}
