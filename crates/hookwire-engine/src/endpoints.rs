//! What this worker knows of endpoints: attempts in flight, health, limits; and who may begin an attempt now.
//!
//! Invariants:
//! - An attempt in flight holds exactly one [`Room`], which gives its place back when it is dropped, however that comes
//!   about.
//! - No endpoint has more attempts in flight than its webhook's concurrency, and the worker no more than its own.
//! - While the worker has fewer places than work, endpoints that take longer than others share its places evenly with
//!   them: turns go by the time that they use, not by their number.
//! - An endpoint that refuses an attempt has no room in the next lease either, so that its deliveries stay where they
//!   are instead of going round.
//! - What is known of an endpoint at rest, about which there is nothing to say, is forgotten after [`REST_MAX`]; whatever
//!   else is known, but for a pause, after [`TROUBLE_MAX`], since data chooses how many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookwire_model::{Authority, EndpointId, Timestamp, WaitingReason, Webhook, WebhookName};
use hookwire_policy::{Adjusted, Admittance, EndpointEffect};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::endpoint_state::{EndpointState, PausedBy};

/// How long an endpoint at rest is remembered: a few seconds of its recent rate are worth keeping for the case that it
/// asks to be called less often.
const REST_MAX: Duration = Duration::from_secs(10);
/// How long trouble is remembered of an endpoint that nothing is sent to and that nobody writes about: longer than the
/// longest gap between two attempts of a delivery, and then it says little about how the endpoint does now.
const TROUBLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// So many records go at once: nothing else is shared meanwhile.
const RECORDS_MAX: usize = 128;
/// For how long it holds that there is more work than places.
const CROWDED: Duration = Duration::from_millis(100);
/// Whoever was used within that time wants places.
const WANTS: Duration = Duration::from_secs(1);
/// How long a delivery waits for one of the worker's places: an event with more deliveries than there are places is
/// done by turns in less, and to store what finds none and lease it again costs more than the wait.
pub(crate) const PLACE_WAIT_MAX: Duration = Duration::from_millis(250);
/// An endpoint whose attempts take so many times as long as is usual is held to its share of places.
const SLOW_FACTOR: f64 = 2.0;
/// What the last attempt counts in an endpoint's average.
const TOOK_WEIGHT: f64 = 0.2;
/// A wait that is shorter is not worth telling the store: leasing leaves the endpoint out meanwhile.
const HOLD_MIN: Duration = Duration::from_millis(500);

/// How long the store is asked to hold what is paused. A worker that knows of the pause renews it at half of that; so
/// that a hold which came late, by a worker that died since, keeps nothing back for longer after the pause has ended.
pub(crate) const PAUSE_HOLD: Duration = Duration::from_secs(5 * 60);

/// How soon an endpoint is looked at again that nothing can be sent to, because its webhook is disabled or gone: it costs
/// a lease and a settle each time, and a definition that comes back should not be kept waiting for long.
pub(crate) const SHUT_FOR: Duration = Duration::from_secs(30);

/// The endpoints of a worker.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The worker's places.
    concurrency: usize,
    /// Those of them that are free.
    free: AtomicUsize,
    /// How many wait for one, and what wakes the first of them.
    waiting: AtomicUsize,
    came_free: Notify,
    /// Nobody waits for one any more.
    all_placed: Notify,
    /// A short section, never held across an await.
    book: Mutex<Book>,
    /// Something was learnt that other workers should know at once.
    pub(crate) news: Notify,
    /// There is something to be written where there was nothing.
    pub(crate) stirred: Notify,
    /// Some endpoint has room that had none, for another reason than an attempt's end.
    opened: watch::Sender<()>,
    /// An attempt has ended, which may have been the one that kept the place or the room that another lane wants.
    freed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Book {
    /// How places are shared while there are too few.
    sharing: Option<Sharing>,
    entries: BTreeMap<EndpointId, Entry>,
    /// Those with attempts in flight, or held back by something: the ones that leasing must be told of.
    active: BTreeSet<EndpointId>,
    /// Those that somebody should be told of.
    unwritten: BTreeSet<EndpointId>,
    /// Webhooks that a person paused.
    paused_webhooks: BTreeSet<WebhookName>,
}

/// How the worker's places are shared while it has fewer of them than work.
#[derive(Debug, Clone, Copy)]
struct Sharing {
    /// Until when it holds.
    until: Timestamp,
    /// How many places an endpoint has that takes long.
    share: u32,
    /// How long attempts usually take, in seconds.
    usual: f64,
}

#[derive(Debug)]
struct Entry {
    /// How long its attempts take on the average, in seconds; `None` before the first has ended.
    took: Option<f64>,
    /// When the last of them ended, or the first began.
    stirred_at: Instant,
    state: EndpointState,
    in_flight: u32,
    limit: u32,
    /// Of the record that was last read or written; 0 where there is none.
    version: u64,
    /// Until when the store was asked to hold its backlog.
    held_until: Option<Timestamp>,
    /// Nothing can be sent before then: its webhook is disabled, or gone.
    shut_until: Option<Timestamp>,
    used_at: Timestamp,
    /// When somebody wrote about it.
    heard_at: Timestamp,
}

/// A place for one attempt; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Room {
    endpoints: Arc<Endpoints>,
    endpoint: EndpointId,
    begun_at: Instant,
    /// What the attempt said about the endpoint, and when.
    said: Option<(EndpointEffect, Timestamp)>,
}

/// Whether an attempt may begin.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// It may.
    Room(Room),
    /// It may, as the one that finds out whether the endpoint lives, if no other worker makes it.
    Probe(Room),
    /// The worker has no place.
    Full,
    /// It has none, and will have none for this endpoint before others have had their turn.
    Aside,
    /// Not now.
    Refused(WaitingReason),
}

/// What is to be written to the store about an endpoint.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) endpoint: EndpointId,
    pub(crate) state: EndpointState,
    pub(crate) version: u64,
}

/// How the backlog of an endpoint should be held by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HoldChange {
    pub(crate) endpoint: EndpointId,
    pub(crate) until: Option<Timestamp>,
}

impl Endpoints {
    pub(crate) fn new(concurrency: usize) -> Arc<Self> {
        Arc::new(Endpoints {
            concurrency,
            free: AtomicUsize::new(concurrency),
            waiting: AtomicUsize::new(0),
            came_free: Notify::new(),
            all_placed: Notify::new(),
            book: Mutex::default(),
            news: Notify::new(),
            stirred: Notify::new(),
            opened: watch::Sender::new(()),
            freed: watch::Sender::new(()),
        })
    }

    fn give_back(&self) {
        // In one order with those who begin to wait: either they see the place, or they are seen.
        self.free.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.came_free.notify_one();
        }
    }

    /// Gives a place back that an attempt had, and tells it where there is more than one lane.
    fn attempt_ended(&self) {
        if self.freed.receiver_count() > 1 {
            self.freed.send_modify(|()| self.give_back());
        } else {
            self.give_back();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each section leaves the book whole, so a panic elsewhere cannot have left it half-way.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many attempts more the worker may have in flight.
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::SeqCst)
    }

    /// Waits until the worker has a free place, for others to take as well, or for it to be `until`; `false` then.
    ///
    /// Cancel safety: whoever comes next is woken in its place.
    pub(crate) async fn place(&self, until: Instant) -> bool {
        let _waiting = Waiting::new(self);
        while self.free() == 0 {
            if tokio::time::timeout_at(until, self.came_free.notified()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Whether some wait for a place.
    pub(crate) fn some_wait(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Waits until nobody waits for a place.
    ///
    /// Cancel safety: it can be waited for again.
    pub(crate) async fn all_placed(&self) {
        let placed = self.all_placed.notified();
        tokio::pin!(placed);
        // Whoever has ended to wait by now is seen, and whoever does later is heard.
        placed.as_mut().enable();
        if self.some_wait() {
            placed.await;
        }
    }

    /// There is more work than places, for a moment at least. Tells whether attempts keep their places for longer than
    /// anybody waits for one.
    pub(crate) fn crowded(&self, now: Timestamp) -> bool {
        let mut book = self.book();
        // Looked at again half-way, so that it goes on without a gap.
        if book.sharing(now).is_none_or(|sharing| sharing.until.saturating_since(now) < CROWDED / 2) {
            book.share_out(self.concurrency, now);
        }
        book.sharing.is_some_and(|sharing| sharing.usual > PLACE_WAIT_MAX.as_secs_f64())
    }

    /// Tells when endpoints have room that had none.
    pub(crate) fn opened(&self) -> watch::Receiver<()> {
        self.opened.subscribe()
    }

    /// Tells when an attempt has ended, as soon as there is more than one who asks: a lane knows by itself of its own.
    pub(crate) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    /// Whether an attempt is in flight whose end will be told, or has been told and not been heard.
    pub(crate) fn some_may_end(&self, freed: &watch::Receiver<()>) -> bool {
        // No place is given back while this is held, so that both are of the same moment.
        let _told = freed.borrow();
        self.free() < self.concurrency || freed.has_changed().unwrap_or(false)
    }

    /// Takes a place at an endpoint, if the worker has one and nothing holds the endpoint back.
    pub(crate) fn enter(
        self: &Arc<Self>,
        endpoint: EndpointId,
        webhook: &Webhook,
        authority: &Authority,
        now: Timestamp,
    ) -> Entrance {
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1));
        if taken.is_err() {
            return self.book().without_place(endpoint, now);
        }
        let mut book = self.book();
        let had_unwritten = !book.unwritten.is_empty();
        let entered = book.enter(endpoint, webhook, authority, now);
        let stirred = !had_unwritten && !book.unwritten.is_empty();
        drop(book);
        if stirred {
            self.stirred.notify_one();
        }
        match entered {
            Ok(probe) => {
                let begun_at = Instant::now();
                let room = Room { endpoints: Arc::clone(self), endpoint, begun_at, said: None };
                if probe { Entrance::Probe(room) } else { Entrance::Room(room) }
            }
            Err(reason) => {
                self.give_back();
                Entrance::Refused(reason)
            }
        }
    }

    /// Leaves an endpoint's backlog where it is for a while, because nothing of it could be sent: one look at a few of
    /// its deliveries tells as much as one at each.
    pub(crate) fn shut(&self, endpoint: EndpointId, webhook: &WebhookName, now: Timestamp) {
        let until = now.saturating_add(SHUT_FOR);
        let mut book = self.book();
        let entry = book
            .entries
            .entry(endpoint)
            .or_insert_with(|| Entry::new(EndpointState::new(webhook.clone(), Some(String::new())), 0, now));
        let shut = entry.shut_until.replace(until).is_some_and(|until| until > now);
        book.active.insert(endpoint);
        drop(book);
        if !shut {
            self.news.notify_one();
        }
    }

    /// What is left at the endpoints that leasing must be told of, by id.
    pub(crate) fn left(&self, now: Timestamp) -> Vec<(EndpointId, u32)> {
        let book = self.book();
        let left = book.active.iter().filter_map(|endpoint| {
            let entry = book.entries.get(endpoint)?;
            // The store leaves out what it holds.
            let held = entry.held_until.is_some_and(|until| until > now);
            (!held).then(|| (*endpoint, book.room(entry, now)))
        });
        left.collect()
    }

    /// Whether some endpoint has as many attempts in flight as it may.
    pub(crate) fn any_is_full(&self, now: Timestamp) -> bool {
        let book = self.book();
        let sharing = book.sharing(now);
        let mut active = book.active.iter().filter_map(|endpoint| book.entries.get(endpoint));
        active.any(|entry| entry.left(sharing) == 0)
    }

    /// When an endpoint that is held back lets attempts through without anything else happening, the next of them; and
    /// whether a rate alone holds one of them back, rather than trouble.
    pub(crate) fn opens_at(&self, now: Timestamp) -> Option<(Timestamp, bool)> {
        let book = self.book();
        let opens = book.active.iter().filter_map(|endpoint| {
            let entry = book.entries.get(endpoint).filter(|entry| book.room(entry, now) == 0)?;
            if let Some(until) = entry.shut_until.filter(|until| *until > now) {
                return Some((until, false));
            }
            if book.paused_webhooks.contains(&entry.state.webhook) {
                // Only a person ends that.
                return None;
            }
            if entry.is_full() {
                // The end of an attempt does.
                return None;
            }
            if let Some(sharing) = book.sharing(now).filter(|sharing| entry.left(Some(*sharing)) == 0) {
                return Some((sharing.until, false));
            }
            let health = &entry.state.health;
            health.changes_at(now).map(|at| (at, health.awaits_tokens(now)))
        });
        opens.reduce(|(at, by_rate), (other, also)| (at.min(other), by_rate || also))
    }

    /// What the keeper has to write, all of it.
    pub(crate) fn unwritten(&self) -> Vec<Unwritten> {
        let mut book = self.book();
        let ids = std::mem::take(&mut book.unwritten);
        let found = ids.into_iter().filter_map(|endpoint| {
            let Entry { state, version, .. } = book.entries.get(&endpoint)?;
            Some(Unwritten { endpoint, state: state.clone(), version: *version })
        });
        found.collect()
    }

    /// The same for one endpoint.
    pub(crate) fn unwritten_of(&self, endpoint: EndpointId) -> Option<Unwritten> {
        let mut book = self.book();
        book.unwritten.remove(&endpoint);
        let Entry { state, version, .. } = book.entries.get(&endpoint)?;
        Some(Unwritten { endpoint, state: state.clone(), version: *version })
    }

    /// A record was written, and has this version now. What was learnt meanwhile is to be written again.
    pub(crate) fn written(&self, written: &Unwritten, version: u64) {
        let mut book = self.book();
        if let Some(entry) = book.entries.get_mut(&written.endpoint) {
            entry.version = version;
            entry.state.health.shared();
        }
    }

    /// A record could not be written: it is to be tried again.
    pub(crate) fn still_unwritten(&self, endpoint: EndpointId) {
        self.book().unwritten.insert(endpoint);
    }

    /// Whether anything waits to be written.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.book().unwritten.is_empty()
    }

    /// Takes over what another worker, or a person, wrote. `None`: the record is gone.
    pub(crate) fn learn(&self, endpoint: EndpointId, record: Option<(u64, EndpointState)>, now: Timestamp) {
        let opened = self.book().learn(endpoint, record, now);
        if opened {
            self.opened.send_replace(());
        }
    }

    /// Takes note of records that are no longer among those there are. One that pauses an endpoint is never removed, so
    /// such a pause has ended.
    pub(crate) fn learn_gone(&self, there: &BTreeSet<EndpointId>, now: Timestamp) {
        let mut book = self.book();
        let Book { entries, unwritten, .. } = &mut *book;
        let gone = entries.iter_mut().filter(|(id, entry)| entry.version > 0 && !there.contains(id));
        let mut resumed = false;
        for (endpoint, entry) in gone {
            entry.version = 0;
            // What was learnt here since is to be written, and holds.
            if entry.state.health.is_paused() && !unwritten.contains(endpoint) {
                tracing::warn!(%endpoint, webhook = %entry.state.webhook, "the store knows of no pause any more");
                entry.state.resume(now);
                resumed = true;
            }
        }
        drop(book);
        if resumed {
            self.opened.send_replace(());
        }
    }

    /// A probe was let through here, and somebody wrote in between: what they wrote holds. Tells whether the probe is
    /// still to be had.
    pub(crate) fn yield_probe(
        &self,
        endpoint: EndpointId,
        record: Option<(u64, EndpointState)>,
        now: Timestamp,
    ) -> bool {
        let mut book = self.book();
        let Some((version, state)) = record else {
            book.learn(endpoint, None, now);
            return true;
        };
        if let Some(entry) = book.entries.get_mut(&endpoint) {
            entry.state.health.yield_probe(&state.health);
        }
        book.learn(endpoint, Some((version, state)), now);
        let entry = book.entries.get_mut(&endpoint);
        entry.is_some_and(|entry| entry.state.health.admit(now) == Admittance::Probe)
    }

    /// The version of an endpoint's record as far as it is known here.
    pub(crate) fn version(&self, endpoint: EndpointId) -> u64 {
        self.book().entries.get(&endpoint).map_or(0, |entry| entry.version)
    }

    /// Takes over which webhooks a person paused.
    pub(crate) fn learn_paused_webhooks(&self, paused: BTreeSet<WebhookName>) {
        let mut book = self.book();
        if book.paused_webhooks == paused {
            return;
        }
        book.paused_webhooks = paused;
        let Book { entries, active, .. } = &mut *book;
        active.extend(entries.keys());
        drop(book);
        self.opened.send_replace(());
    }

    /// What the store should hold otherwise than it was asked to.
    pub(crate) fn hold_changes(&self, now: Timestamp) -> Vec<HoldChange> {
        let mut book = self.book();
        let (mut found, opens_sooner) = book.adjust(now);
        if opens_sooner {
            self.opened.send_replace(());
        }
        let changes = book.active.iter().filter_map(|endpoint| {
            let entry = book.entries.get(endpoint)?;
            let until = book.hold(entry, now);
            if until == Some(Timestamp::MAX) && entry.version == 0 {
                // What is held has a record, so that whoever lets it go finds it.
                found.push(*endpoint);
            }
            let held = entry.held_until.filter(|held| *held > now);
            match until {
                Some(Timestamp::MAX) => {
                    let lasts = held.is_some_and(|held| held.saturating_since(now) > PAUSE_HOLD / 2);
                    let until = Some(now.saturating_add(PAUSE_HOLD));
                    (!lasts).then_some(HoldChange { endpoint: *endpoint, until })
                }
                until => (until != held).then_some(HoldChange { endpoint: *endpoint, until }),
            }
        });
        let changes = changes.collect();
        book.unwritten.extend(found);
        changes
    }

    /// The store holds an endpoint's backlog as it was asked to.
    pub(crate) fn held(&self, change: HoldChange) {
        if let Some(entry) = self.book().entries.get_mut(&change.endpoint) {
            entry.held_until = change.until;
        }
    }

    /// How many endpoints are in each state.
    pub(crate) fn states(&self) -> [(&'static str, usize); 4] {
        let mut states = [("closed", 0), ("half_open", 0), ("open", 0), ("paused", 0)];
        let book = self.book();
        for Entry { state, .. } in book.entries.values() {
            let paused = state.health.is_paused() || book.paused_webhooks.contains(&state.webhook);
            let word = if paused { "paused" } else { state.health.circuit() };
            if let Some((_, count)) = states.iter_mut().find(|(state, _)| *state == word) {
                *count += 1;
            }
        }
        states
    }

    /// The store gave deliveries of an endpoint, so it does not hold it, whatever it was asked to: another worker, whose
    /// clock differs or who knows better, let it go.
    pub(crate) fn is_not_held(&self, endpoint: EndpointId) {
        if let Some(entry) = self.book().entries.get_mut(&endpoint) {
            entry.held_until = None;
        }
    }

    /// Forgets endpoints at rest, and gives those whose records are to go, with the versions of these.
    pub(crate) fn forget(&self, now: Timestamp) -> Vec<(EndpointId, u64)> {
        let mut book = self.book();
        let Book { entries, active, unwritten, .. } = &mut *book;
        let mut records = Vec::new();
        entries.retain(|endpoint, entry| {
            let waits = |until: Option<Timestamp>| until.is_some_and(|until| until > now);
            let health = &entry.state.health;
            let is_quiet = entry.in_flight == 0
                && !waits(entry.held_until)
                && !waits(entry.shut_until)
                && !health.is_paused()
                && !unwritten.contains(endpoint);
            let is_over = match health.is_troubled() {
                true => now.saturating_since(entry.used_at.max(entry.heard_at)) > TROUBLE_MAX,
                false => now.saturating_since(entry.used_at) > REST_MAX,
            };
            let rests = is_quiet && is_over && (entry.version == 0 || records.len() < RECORDS_MAX);
            if rests {
                active.remove(endpoint);
                if entry.version > 0 {
                    records.push((*endpoint, entry.version));
                }
            }
            !rests
        });
        records
    }
}

impl Book {
    /// Whether a place was taken, and by a probe.
    fn enter(
        &mut self,
        endpoint: EndpointId,
        webhook: &Webhook,
        authority: &Authority,
        now: Timestamp,
    ) -> Result<bool, WaitingReason> {
        let sharing = self.sharing(now);
        let entry = self.entries.entry(endpoint).or_insert_with(|| {
            let state = EndpointState::new(webhook.name.clone(), Some(authority.to_string()));
            Entry::new(state, 0, now)
        });
        if entry.state.authority.as_ref().is_some_and(String::is_empty) {
            // It was shut before anything was rendered.
            entry.state.authority = Some(authority.to_string());
        }
        entry.limit = webhook.concurrency.get();
        entry.used_at = entry.used_at.max(now);
        let full = entry.left(sharing) == 0;
        let health = &mut entry.state.health;
        if webhook.rate_limit.is_some() || health.is_troubled() {
            let per_second =
                webhook.rate_limit.map(|limit| f64::from(limit.count.get()) / limit.per.as_secs_f64());
            health.set_limit(per_second, now);
            self.active.insert(endpoint);
        }
        if self.paused_webhooks.contains(&webhook.name) {
            self.active.insert(endpoint);
            return Err(WaitingReason::Paused);
        }
        if full && health.circuit() != "closed" && health.room(1, now) > 0 {
            // A probe would be due. What is in flight tells as much as one, and ends no later.
            return Err(WaitingReason::Room);
        }
        let probe = match health.admit(now) {
            Admittance::Wait { reason, .. } => {
                self.active.insert(endpoint);
                return Err(reason);
            }
            Admittance::Probe => {
                self.unwritten.insert(endpoint);
                true
            }
            Admittance::Open if full => return Err(WaitingReason::Room),
            Admittance::Open => false,
        };
        if health.is_troubled() && !probe {
            self.unwritten.insert(endpoint);
            if health.take(1, now).attempts == 0 {
                return Err(WaitingReason::RateLimit);
            }
        }
        entry.in_flight += 1;
        if entry.in_flight == 1 {
            entry.stirred_at = Instant::now();
            self.active.insert(endpoint);
        }
        Ok(probe)
    }

    /// What becomes of an attempt while the worker has no place. Endpoints that keep their share of places for longer than
    /// anybody waits for one stand aside at once: whoever waited with theirs would wait for nothing. So do those that
    /// have no room themselves.
    fn without_place(&mut self, endpoint: EndpointId, now: Timestamp) -> Entrance {
        let share = self.sharing(now).map(|sharing| sharing.share);
        let Some(entry) = self.entries.get_mut(&endpoint) else { return Entrance::Full };
        entry.used_at = entry.used_at.max(now);
        let keeps_places = share.is_some_and(|share| entry.in_flight >= share)
            && entry.takes().is_some_and(|took| took > PLACE_WAIT_MAX.as_secs_f64());
        match keeps_places {
            true => Entrance::Aside,
            false if entry.is_full() => Entrance::Refused(WaitingReason::Room),
            false => Entrance::Full,
        }
    }

    /// An attempt has ended. Returns whether it says something that others should know at once.
    fn leave(
        &mut self,
        endpoint: EndpointId,
        took: Duration,
        said: Option<(EndpointEffect, Timestamp)>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&endpoint) else { return false };
        let took = took.as_secs_f64();
        // What says nothing about the endpoint says nothing about its pace.
        if !matches!(said, Some((EndpointEffect::None, _))) {
            entry.took = Some(entry.took.map_or(took, |before| before + TOOK_WEIGHT * (took - before)));
        }
        entry.in_flight = entry.in_flight.saturating_sub(1);
        entry.stirred_at = Instant::now();
        let mut news = false;
        if let Some((effect, now)) = said {
            let health = &mut entry.state.health;
            let before = (health.circuit(), health.is_paused(), health.rate().is_some());
            health.observe(effect, now);
            news = before != (health.circuit(), health.is_paused(), health.rate().is_some());
            if health.is_paused() && !before.1 {
                entry.state.paused_by = Some(PausedBy::Gone);
            }
            if news || entry.state.health.is_troubled() {
                self.unwritten.insert(endpoint);
            }
        }
        if entry.state.health.is_troubled() {
            self.active.insert(endpoint);
        } else if entry.in_flight == 0 && entry.held_until.is_none() {
            self.active.remove(&endpoint);
        }
        news
    }

    /// Whether an endpoint may have room now that had none.
    fn learn(&mut self, endpoint: EndpointId, record: Option<(u64, EndpointState)>, now: Timestamp) -> bool {
        let Some((version, mut state)) = record else {
            if let Some(entry) = self.entries.get_mut(&endpoint) {
                entry.version = 0;
                self.unwritten.insert(endpoint);
            }
            return false;
        };
        let entry = self.entries.entry(endpoint).or_insert_with(|| {
            let state = EndpointState::new(state.webhook.clone(), state.authority.clone());
            Entry::new(state, version, now)
        });
        let was_paused = entry.state.health.is_paused();
        state.health.received(now);
        entry.state.health.join(&state.health);
        entry.version = version;
        entry.heard_at = now;
        if entry.state.health.is_paused() {
            entry.state.paused_by = state.paused_by.or(entry.state.paused_by);
        } else {
            entry.state.paused_by = None;
        }
        self.active.insert(endpoint);
        was_paused || !entry.state.health.is_paused()
    }

    /// Brings forward what waits for a time that is further ahead than it can be, because the clock was set back. Tells
    /// what others should know of, and whether there was anything.
    fn adjust(&mut self, now: Timestamp) -> (Vec<EndpointId>, bool) {
        let Book { active, entries, .. } = self;
        let shut_max = now.saturating_add(SHUT_FOR);
        let (mut news, mut opens_sooner) = (Vec::new(), false);
        for endpoint in &*active {
            let Some(entry) = entries.get_mut(endpoint) else { continue };
            if let Some(until) = entry.shut_until.as_mut().filter(|until| **until > shut_max) {
                (*until, opens_sooner) = (shut_max, true);
            }
            let adjusted = entry.state.health.adjust(now);
            opens_sooner |= adjusted != Adjusted::Nothing;
            if adjusted == Adjusted::News {
                news.push(*endpoint);
            }
        }
        (news, opens_sooner)
    }

    /// How places are shared now, if they are.
    fn sharing(&self, now: Timestamp) -> Option<Sharing> {
        // For no longer, whatever becomes of the clock.
        self.sharing.filter(|sharing| sharing.until > now && sharing.until.saturating_since(now) <= CROWDED)
    }

    /// Shares the worker's places among the endpoints that want some. What is usual among them is the geometric mean: a
    /// few that take very long do not move it much, and where all take the same time nobody takes long.
    fn share_out(&mut self, concurrency: usize, now: Timestamp) {
        let wanting = self
            .entries
            .values()
            .filter(|entry| entry.in_flight > 0 || now.saturating_since(entry.used_at) <= WANTS);
        let took = wanting.filter_map(Entry::takes).map(|took| took.max(1e-6).ln());
        let (count, sum) = took.fold((0, 0.0), |(count, sum), took| (count + 1, sum + took));
        let share = u32::try_from(concurrency / count.max(1)).unwrap_or(u32::MAX).max(1);
        let usual = (sum / count.max(1) as f64).exp();
        let until = now.saturating_add(CROWDED);
        self.sharing = (count > 0).then_some(Sharing { until, share, usual });
    }

    /// How many deliveries more may be leased for an endpoint.
    fn room(&self, entry: &Entry, now: Timestamp) -> u32 {
        let shut = entry.shut_until.is_some_and(|until| until > now);
        if shut || self.paused_webhooks.contains(&entry.state.webhook) {
            return 0;
        }
        let health = &entry.state.health;
        let left = entry.left(self.sharing(now));
        match health.circuit() {
            "closed" => health.room(left, now),
            _ => health.room(left.min(1), now),
        }
    }

    /// Until when the store should hold an endpoint's backlog.
    fn hold(&self, entry: &Entry, now: Timestamp) -> Option<Timestamp> {
        let health = &entry.state.health;
        if health.is_paused() || self.paused_webhooks.contains(&entry.state.webhook) {
            return Some(Timestamp::MAX);
        }
        if let Some(until) = entry.shut_until.filter(|until| *until > now) {
            return Some(until);
        }
        if self.room(entry, now) > 0 || health.circuit() == "closed" && health.silent_until().is_none() {
            return None;
        }
        health.changes_at(now).filter(|until| until.saturating_since(now) >= HOLD_MIN)
    }
}

impl Entry {
    fn new(state: EndpointState, version: u64, now: Timestamp) -> Self {
        Entry {
            took: None,
            stirred_at: Instant::now(),
            state,
            in_flight: 0,
            limit: 1,
            version,
            held_until: None,
            shut_until: None,
            used_at: now,
            heard_at: now,
        }
    }

    /// How long its attempts take, in seconds: on the average, or as long as none has ended of those in flight, where
    /// that is longer.
    fn takes(&self) -> Option<f64> {
        let since = (self.in_flight > 0).then(|| self.stirred_at.elapsed().as_secs_f64());
        self.took.into_iter().chain(since).reduce(f64::max)
    }

    /// How many attempts more it may have in flight.
    fn left(&self, sharing: Option<Sharing>) -> u32 {
        let is_slow = |sharing: &Sharing| self.takes().is_some_and(|took| took > SLOW_FACTOR * sharing.usual);
        let share = sharing.filter(is_slow).map_or(u32::MAX, |sharing| sharing.share);
        self.limit.min(share).saturating_sub(self.in_flight)
    }

    /// Whether it has as many attempts in flight as its webhook allows.
    fn is_full(&self) -> bool {
        self.in_flight >= self.limit
    }
}

/// One that waits for a place, counted as long as this lives.
struct Waiting<'a>(&'a Endpoints);

impl<'a> Waiting<'a> {
    fn new(endpoints: &'a Endpoints) -> Self {
        endpoints.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(endpoints)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.all_placed.notify_waiters();
        }
    }
}

impl Room {
    /// Gives the place back with what the attempt said about the endpoint.
    pub(crate) fn leave(mut self, effect: EndpointEffect, now: Timestamp) {
        self.said = Some((effect, now));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let took = self.begun_at.elapsed();
        let news = self.endpoints.book().leave(self.endpoint, took, self.said);
        self.endpoints.attempt_ended();
        if news {
            self.endpoints.news.notify_one();
            self.endpoints.opened.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use hookwire_policy::FAILURES_TO_OPEN;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    fn id(number: u64) -> EndpointId {
        EndpointId::from_u64(number)
    }

    /// A webhook with room for so many, and perhaps a limit.
    fn webhook(concurrency: u32, limit: Option<&str>) -> Webhook {
        let mut webhook = Webhook::new(WebhookName::new("w").unwrap(), "http://127.0.0.1/");
        webhook.concurrency = NonZeroU32::new(concurrency).unwrap();
        webhook.rate_limit = limit.map(|limit| limit.parse().unwrap());
        webhook
    }

    fn enter(endpoints: &Arc<Endpoints>, number: u64, webhook: &Webhook, millis: i64) -> Entrance {
        let authority = Authority { https: false, host: "127.0.0.1".into(), port: 80 };
        endpoints.enter(id(number), webhook, &authority, at(millis))
    }

    fn room(entrance: Entrance) -> Room {
        match entrance {
            Entrance::Room(room) | Entrance::Probe(room) => room,
            Entrance::Refused(reason) => panic!("refused: {reason:?}"),
            Entrance::Full | Entrance::Aside => panic!("the worker is full"),
        }
    }

    fn refused(entrance: Entrance) -> WaitingReason {
        match entrance {
            Entrance::Refused(reason) => reason,
            Entrance::Full | Entrance::Aside => panic!("the worker is full"),
            Entrance::Room(_) | Entrance::Probe(_) => panic!("let in"),
        }
    }

    fn opened() -> Arc<Endpoints> {
        let endpoints = Endpoints::new(100);
        for _ in 0..FAILURES_TO_OPEN {
            room(enter(&endpoints, 1, &webhook(2, None), 0)).leave(EndpointEffect::Failure, at(0));
        }
        endpoints
    }

    #[test]
    fn an_endpoint_and_the_worker_have_their_limits() {
        let endpoints = Endpoints::new(3);
        let two = webhook(2, None);
        let first = room(enter(&endpoints, 1, &two, 0));
        let second = room(enter(&endpoints, 1, &two, 0));
        assert_eq!(refused(enter(&endpoints, 1, &two, 0)), WaitingReason::Room, "the endpoint is full");
        let third = room(enter(&endpoints, 2, &two, 0));
        assert!(matches!(enter(&endpoints, 2, &two, 0), Entrance::Full), "the worker is full");
        assert_eq!(endpoints.left(at(0)), [(id(1), 0), (id(2), 1)]);
        drop((first, second, third));
        assert_eq!((endpoints.free(), endpoints.left(at(0))), (3, vec![]));
    }

    #[test]
    fn a_broken_endpoint_is_left_out_until_its_probe_is_due() {
        let endpoints = opened();
        let two = webhook(2, None);
        assert_eq!(refused(enter(&endpoints, 1, &two, 1)), WaitingReason::Unhealthy);
        assert_eq!(endpoints.left(at(1)), [(id(1), 0)]);
        assert_eq!(endpoints.opens_at(at(1)), Some((at(1_000), false)));
        let hold = HoldChange { endpoint: id(1), until: Some(at(1_000)) };
        assert_eq!(endpoints.hold_changes(at(1)), [hold]);
        endpoints.held(hold);
        assert_eq!((endpoints.hold_changes(at(2)), endpoints.left(at(2))), (vec![], vec![]));
        // When the gap has passed there is room for one.
        assert_eq!(endpoints.left(at(1_000)), [(id(1), 1)]);
        let Entrance::Probe(probe) = enter(&endpoints, 1, &two, 1_000) else { panic!("no probe") };
        assert_eq!(refused(enter(&endpoints, 1, &two, 1_001)), WaitingReason::Unhealthy);
        probe.leave(EndpointEffect::Success, at(1_100));
        drop(room(enter(&endpoints, 1, &two, 1_101)));
    }

    #[test]
    fn a_probe_needs_room_too() {
        let endpoints = Endpoints::new(100);
        let one = webhook(1, None);
        let first = room(enter(&endpoints, 1, &one, 0));
        // Meanwhile it fails ten times for another worker.
        let mut state = EndpointState::new(one.name.clone(), None);
        for _ in 0..FAILURES_TO_OPEN {
            state.health.observe(EndpointEffect::Failure, at(1));
        }
        endpoints.learn(id(1), Some((1, state)), at(2));
        assert_eq!(refused(enter(&endpoints, 1, &one, 3)), WaitingReason::Unhealthy);
        // The gap has passed, and the attempt from before is still in flight.
        assert_eq!(refused(enter(&endpoints, 1, &one, 5_000)), WaitingReason::Room);
        assert_eq!((endpoints.left(at(5_000)), endpoints.opens_at(at(5_000))), (vec![(id(1), 0)], None));
        drop(first);
        let Entrance::Probe(_) = enter(&endpoints, 1, &one, 5_001) else { panic!("no probe") };
    }

    #[test]
    fn a_limit_gives_as_much_room_as_there_are_tokens() {
        let endpoints = Endpoints::new(100);
        let limited = webhook(32, Some("10/s"));
        let rooms = [room(enter(&endpoints, 1, &limited, 0)), room(enter(&endpoints, 1, &limited, 0))];
        assert_eq!(refused(enter(&endpoints, 1, &limited, 0)), WaitingReason::RateLimit);
        assert_eq!(endpoints.left(at(0)), [(id(1), 0)]);
        assert_eq!(endpoints.opens_at(at(0)), Some((at(50), true)));
        assert_eq!(endpoints.left(at(160)), [(id(1), 2)]);
        assert_eq!(endpoints.hold_changes(at(0)), [], "a short wait is not worth a write");
        drop(rooms);
    }

    #[test]
    fn what_a_person_wrote_holds_and_its_end_is_told() {
        let endpoints = Endpoints::new(100);
        let two = webhook(2, None);
        let mut opened = endpoints.opened();
        let mut state = EndpointState::new(two.name.clone(), None);
        state.pause(PausedBy::Person, at(10));
        endpoints.learn(id(1), Some((7, state.clone())), at(11));
        assert_eq!(refused(enter(&endpoints, 1, &two, 12)), WaitingReason::Paused);
        let until = at(12).saturating_add(PAUSE_HOLD);
        let hold = HoldChange { endpoint: id(1), until: Some(until) };
        assert_eq!(endpoints.hold_changes(at(12)), [hold]);
        endpoints.held(hold);
        let half = PAUSE_HOLD.as_millis() as i64 / 2;
        assert_eq!(endpoints.hold_changes(at(half)), []);
        let renewed = HoldChange { endpoint: id(1), until: Some(until.saturating_add(PAUSE_HOLD / 2)) };
        assert_eq!(endpoints.hold_changes(at(12 + half)), [renewed]);
        opened.mark_unchanged();
        state.resume(at(20));
        endpoints.learn(id(1), Some((8, state)), at(21));
        assert!(opened.has_changed().unwrap());
        assert_eq!(endpoints.hold_changes(at(21)), [HoldChange { endpoint: id(1), until: None }]);
        drop(room(enter(&endpoints, 1, &two, 22)));
    }

    #[test]
    fn a_paused_webhook_holds_all_its_endpoints() {
        let endpoints = Endpoints::new(100);
        let two = webhook(2, None);
        drop(room(enter(&endpoints, 1, &two, 0)));
        endpoints.learn_paused_webhooks([two.name.clone()].into());
        assert_eq!(refused(enter(&endpoints, 1, &two, 1)), WaitingReason::Paused);
        assert_eq!(refused(enter(&endpoints, 2, &two, 1)), WaitingReason::Paused);
        assert_eq!(endpoints.left(at(1)), [(id(1), 0), (id(2), 0)]);
        assert_eq!(endpoints.hold_changes(at(1)).len(), 2);
        endpoints.learn_paused_webhooks(BTreeSet::new());
        drop(room(enter(&endpoints, 2, &two, 2)));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_endpoint_shut() {
        let endpoints = opened();
        endpoints.shut(id(2), &webhook(2, None).name, at(0));
        let mut lanes = endpoints.opened();
        lanes.mark_unchanged();
        endpoints.hold_changes(at(0));
        assert!(!lanes.has_changed().unwrap(), "nothing is new");
        endpoints.unwritten();
        let back = -3_600_000;
        endpoints.hold_changes(at(back));
        assert!(lanes.has_changed().unwrap());
        assert_eq!(
            endpoints.unwritten().len(),
            1,
            "a breaker is everybody's concern, a webhook's absence is not"
        );
        assert_eq!(endpoints.left(at(back + 900)), [(id(1), 0), (id(2), 0)]);
        assert_eq!(endpoints.left(at(back + 1_000)), [(id(1), 1), (id(2), 0)]);
        assert_eq!(endpoints.left(at(back + 30_000)), [(id(1), 1), (id(2), 1)]);
    }

    #[test]
    fn an_endpoint_that_was_shut_before_it_was_met_gets_its_authority() {
        let endpoints = Endpoints::new(100);
        let two = webhook(2, None);
        endpoints.shut(id(1), &two.name, at(0));
        assert_eq!(endpoints.left(at(1)), [(id(1), 0)]);
        drop(room(enter(&endpoints, 1, &two, 30_000)));
        let state = &endpoints.book().entries[&id(1)].state;
        assert_eq!(state.authority.as_deref(), Some("http://127.0.0.1:80"));
    }

    #[test]
    fn trouble_is_forgotten_a_day_after_anything_was_heard_of_it_and_a_pause_never() {
        let endpoints = Endpoints::new(100);
        let two = webhook(2, None);
        let hours = |hours: i64| at(hours * 3_600_000);
        let slow = EndpointEffect::SlowDown { wait: None, failing: true };
        for (number, effect) in [(1, slow), (2, EndpointEffect::Pause)] {
            room(enter(&endpoints, number, &two, 0)).leave(effect, at(0));
        }
        for unwritten in endpoints.unwritten() {
            endpoints.written(&unwritten, 7);
        }
        assert_eq!(endpoints.forget(hours(23)), []);
        let state = endpoints.book().entries[&id(1)].state.clone();
        endpoints.learn(id(1), Some((8, state)), hours(23));
        assert_eq!(endpoints.forget(hours(46)), []);
        assert_eq!(endpoints.forget(hours(48)), [(id(1), 8)]);
        assert_eq!(endpoints.book().entries.keys().copied().collect::<Vec<_>>(), [id(2)]);
    }

    #[test]
    fn a_receiver_that_is_gone_is_paused_and_endpoints_at_rest_are_forgotten() {
        let endpoints = Endpoints::new(100);
        let two = webhook(2, None);
        room(enter(&endpoints, 1, &two, 0)).leave(EndpointEffect::Pause, at(0));
        room(enter(&endpoints, 2, &two, 0)).leave(EndpointEffect::Success, at(0));
        let unwritten = endpoints.unwritten();
        assert_eq!(unwritten.len(), 1, "there is nothing to say about the other");
        assert_eq!((unwritten[0].endpoint, unwritten[0].state.paused_by), (id(1), Some(PausedBy::Gone)));
        endpoints.forget(at(60_000));
        assert_eq!(endpoints.book().entries.keys().copied().collect::<Vec<_>>(), [id(1)]);
    }
}
