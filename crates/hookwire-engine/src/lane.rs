//! One lane: the loop that leases, starts, settles and renews the work of one shard.
//!
//! Invariants:
//! - Work is leased only for places that are free, and one batch ahead.
//! - At most one lease of events, one lease of deliveries, one settlement and one renewal are on their way to the store.
//! - What is settled stays in the outbox, or with the call, until the store has answered: a lost reply repeats it as it is.
//! - An event is settled when its deliveries have results, or [`CUT_AFTER`] after it was started, whichever comes first;
//!   nothing waits for the slowest. What nothing depends on may wait a moment for others to be settled with.
//! - Maps are ordered: the loop does the same in the same order whenever it is given the same.

mod intake;
mod outbox;
mod store_pause;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hookwire_dispatch::Dispatch;
use hookwire_model::{DeliveryId, Event, EventId, RuleName, Sequence, Shard, WaitingReason, WebhookName};
use hookwire_queue::{
    EventFate, Fate, Lease, LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedDelivery, LeasedEvent,
    Queue, QueueError, Rooms as RoomsLeft, Settled, SettledDelivery, SettledEvent, Settlement, Subject,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deliver::{Finished, Past, deliver_guarded, panic_message, unavailable};
use crate::endpoints::PLACE_WAIT_MAX;
use crate::fan_out::{Late, Progress, Unfinished, Work, handle_event};
use crate::hands::{Hands, Seat};
use crate::metrics::BatchCall;
use crate::outage::Lasting;
use crate::{Clock, EngineError, Shared, Summary};
use intake::Intake;
use outbox::Outbox;
use store_pause::StorePause;

/// How long an event may stay open for its slowest delivery before what is unfinished is stored: long enough that
/// nearly every receiver has answered, short enough that a crash repeats little.
const CUT_AFTER: Duration = Duration::from_millis(250);
/// Larger batches gain nothing: a round trip is already shared by a hundred.
const BATCH_MAX: usize = 100;
/// How long the lane sleeps at most when there is nothing to do. The store wakes it earlier; this bounds what a wake-up
/// that went missing can cost.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often deliveries that a rate keeps back are looked for at most.
const TOKENS_EVERY: Duration = Duration::from_millis(20);
/// How soon after deliveries were leased more are looked for: a hundred each time are more than are sent.
const LEASES_EVERY: Duration = Duration::from_millis(1);
/// How long a stopping lane goes on trying to settle with a store that fails.
const SETTLE_AT_STOP_MAX: Duration = Duration::from_secs(10);
/// How long a lane that goes waits for what was handed over to it.
const HANDED_AT_STOP_MAX: Duration = Duration::from_secs(1);

type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the loop reacts to.
enum Happening {
    Events(Result<Vec<LeasedEvent>, QueueError>),
    Deliveries(Result<LeasedDeliveries, QueueError>),
    Settled(Settlement, Result<Settled, QueueError>),
    Renewed(Result<Vec<Subject>, QueueError>),
    Woken(Result<(), QueueError>),
    Done(Result<Vec<Done>, JoinError>),
    Late(Late),
    /// Another event may be begun, unless a delivery waits for a place.
    Placed,
    /// An endpoint may have room that had none.
    Opened,
    /// An attempt of another lane has ended, and with it a place or room may have come free.
    Freed,
    /// Some time has come: which, the loop sees for itself.
    Tick,
    Shutdown,
}

/// A piece of work for a hand.
enum Job {
    Event { turn: u64, work: Work, progress: Arc<Progress> },
    Delivery { past: Past, payload: Bytes, rule: RuleName, webhook: WebhookName, begun: Arc<AtomicBool> },
}

/// What came of one.
enum Done {
    /// An event was handled, or it made its hand panic, and with what.
    Event {
        sequence: Sequence,
        turn: u64,
        handled: Result<(), String>,
    },
    Delivery(DeliveryId, Finished),
}

/// An event that a hand works on.
struct Open {
    id: EventId,
    /// Which turn: an earlier one may still make attempts of the same event, whose lease was lost and which this worker
    /// got again.
    turn: u64,
    lease: Lease,
    suspect: bool,
    progress: Arc<Progress>,
}

/// A stored delivery that a hand works on.
struct Running {
    /// `None` while the settlement that stores it is on its way.
    lease: Option<Lease>,
    /// The result, where it came before the lease.
    finished: Option<Finished>,
    /// Whether anything of it may have been sent; `None`: it is taken for that, since it was stored because it lasts.
    begun: Option<Arc<AtomicBool>>,
}

impl Running {
    /// What is to be said of it if it is ended where it is.
    fn ended(&self) -> Finished {
        match &self.begun {
            Some(begun) if !begun.load(Ordering::Relaxed) => {
                Finished::waits(None, Duration::ZERO, WaitingReason::Worker)
            }
            _ => Finished::interrupted(),
        }
    }
}

pub(crate) struct Lane<Q, D, C> {
    shared: Arc<Shared<D, C>>,
    queue: Arc<Q>,
    shard: Shard,
    shutdown: CancellationToken,

    hands: Hands<Job, Done>,
    /// How many events were given to them.
    turns: u64,
    late: (mpsc::Sender<Late>, mpsc::Receiver<Late>),

    intake: Intake,
    /// What is leased is not started because a delivery waits for a place.
    held_up: bool,
    /// The same, because all hands are busy.
    stalls: bool,
    /// How many events are begun at once: fewer where they have more deliveries than there are places.
    few: usize,
    /// More can be started, once those that were have made known how many places they need.
    starts_more: bool,
    open: BTreeMap<Sequence, Open>,
    /// When each open event is cut off, in the order of starting; an entry may be stale.
    cuts: VecDeque<(Instant, Sequence)>,
    running: BTreeMap<DeliveryId, Running>,
    outbox: Outbox,

    leasing_events: Option<Call<Result<Vec<LeasedEvent>, QueueError>>>,
    leasing_deliveries: Option<Call<Result<LeasedDeliveries, QueueError>>>,
    settling: Option<Call<(Settlement, Result<Settled, QueueError>)>>,
    renewing: Option<Call<Result<Vec<Subject>, QueueError>>>,
    waiting: Option<Call<Result<(), QueueError>>>,

    /// How many events the lease under way asked for.
    events_asked: usize,
    /// When the leases under way were asked for: what they brought may have run out before the answer came.
    events_asked_at: Instant,
    deliveries_asked_at: Instant,
    /// Whether the last lease brought all there was.
    events_dry: bool,
    /// Events may have been handed over that nobody has asked for yet.
    may_be_handed: bool,
    /// Whether the lease under way asked for no suspects, because one was held.
    suspects_left_out: bool,
    /// When to look for due deliveries.
    look_for_deliveries_at: Option<Instant>,
    /// Due deliveries were left where they are because their endpoints had no room.
    deliveries_lack_room: bool,
    /// Something is there that was not. Events are asked for first, and deliveries once they came.
    events_first: bool,
    /// Some endpoint may have room that had none.
    opened: watch::Receiver<()>,
    freed: watch::Receiver<()>,
    /// A rate keeps deliveries back for a moment, or more are looked for in one, which is not worth ending for.
    awaits_more: bool,
    renew_at: Instant,
    /// When leases were last asked to last longer.
    renewed_at: Instant,
    store_pause: StorePause,
    /// When it was last said that a backlog is full.
    full_backlog: Lasting,
    /// The shutdown, once it was asked for.
    stopping: Option<Stopping>,
}

/// A shutdown under way.
#[derive(Clone, Copy)]
struct Stopping {
    since: Instant,
    /// Until when attempts in flight may go on.
    grace_until: Instant,
    /// The grace period is over, and the tasks were ended.
    cut_off: bool,
}

impl Stopping {
    /// Until when what was handed over is waited for.
    fn handed_until(&self) -> Instant {
        self.since + HANDED_AT_STOP_MAX
    }

    /// When the loop has something to do, or gives up: at the end of the grace period, and of settling after it.
    fn deadline(&self) -> Instant {
        if self.cut_off { self.grace_until + SETTLE_AT_STOP_MAX } else { self.grace_until }
    }
}

impl<Q: Queue, D: Dispatch, C: Clock> Lane<Q, D, C> {
    pub(crate) fn new(
        shared: Arc<Shared<D, C>>,
        queue: Arc<Q>,
        shard: Shard,
        shutdown: CancellationToken,
    ) -> Self {
        let renew_at = Instant::now() + shared.settings.lease / 3;
        let opened = shared.endpoints.opened();
        let freed = shared.endpoints.freed();
        Lane {
            shared,
            queue,
            shard,
            shutdown,
            hands: Hands::new(),
            turns: 0,
            // A full channel makes tasks wait for the lane, which never waits for a task.
            late: mpsc::channel(1024),
            intake: Intake::default(),
            held_up: false,
            stalls: false,
            few: 1,
            starts_more: false,
            open: BTreeMap::new(),
            cuts: VecDeque::new(),
            running: BTreeMap::new(),
            outbox: Outbox::new(),
            leasing_events: None,
            leasing_deliveries: None,
            settling: None,
            renewing: None,
            waiting: None,
            events_asked: 0,
            events_asked_at: Instant::now(),
            deliveries_asked_at: Instant::now(),
            events_dry: false,
            may_be_handed: false,
            suspects_left_out: false,
            look_for_deliveries_at: Some(Instant::now()),
            deliveries_lack_room: false,
            events_first: false,
            opened,
            freed,
            awaits_more: false,
            renew_at,
            renewed_at: renew_at,
            store_pause: StorePause::default(),
            full_backlog: Lasting::default(),
            stopping: None,
        }
    }

    /// Runs until the shutdown is asked for and done, or, with `until_idle`, until nothing is due.
    ///
    /// Cancel safety: dropping it is a crash of this worker; leases run out by themselves.
    pub(crate) async fn run(mut self) -> Result<Summary, EngineError> {
        loop {
            let started = if self.starts_more { 0 } else { self.start_ready() };
            if let Some(summary) = self.finished() {
                return Ok(summary);
            }
            self.starts_more |= started == self.few;
            if started > 0 && !self.starts_more && started == self.hands.busy() {
                // These are all there is to do, so they begin before the store is asked for more.
                tokio::task::yield_now().await;
            }
            self.call_store();
            let happening = self.next().await;
            if let Happening::Done(_) = happening {
                self.starts_more = false;
                // Whoever is woken runs before all others. The lane goes to the end of the line instead, so that it deals
                // with all that are done by then at once.
                tokio::task::yield_now().await;
            }
            self.react(happening)?;
        }
    }

    /// Starts some of what is leased, as long as there are places and no delivery waits for one, and tells how many. What
    /// was leased so long ago that the lease may have run out (this process stood still, or the store was away) is left
    /// alone: another may have done it, and if nobody has, the store gives it again.
    fn start_ready(&mut self) -> usize {
        if self.intake.drop_run_out(Instant::now()) {
            self.events_dry = false;
        }
        let mut hands_max = self.shared.settings.concurrency;
        let some_wait = self.shared.endpoints.some_wait();
        self.stalls = !self.intake.is_empty() && self.hands.busy() >= hands_max;
        if (self.stalls || !self.intake.is_empty() && some_wait)
            && self.shared.endpoints.crowded(self.shared.clock.now())
        {
            // Those that will not get a place soon are begun all the same, to stand aside for what comes after them.
            hands_max += (hands_max / 8).max(1);
        }
        let is_full = self.hands.busy() >= hands_max;
        self.held_up = some_wait && !is_full && !self.intake.is_empty();
        // A part of the places, so that one event more or less does not make the others wait for long; as much of them as
        // gains, because those that are begun together share the way through the processor's caches.
        self.few = if some_wait { 1 } else { (self.shared.settings.concurrency / 4).clamp(1, 2 * self.few) };
        if self.stopping.is_some() || some_wait {
            return 0;
        }
        let mut started = 0;
        while started < self.few && self.hands.busy() < hands_max {
            let Some(leased) = self.intake.next() else { break };
            started += 1;
            let progress = Arc::new(Progress::default());
            let LeasedEvent { lease, id, sequence, payload, losses, .. } = leased;
            let LeasedEvent { accepted_at, recorded, refused, .. } = leased;
            let work = Work { id: id.clone(), sequence, payload, accepted_at, losses, recorded, refused };
            self.turns += 1;
            let turn = self.turns;
            self.give(Job::Event { turn, work, progress: Arc::clone(&progress) });
            self.open.insert(sequence, Open { id, turn, lease, suspect: losses > 0, progress });
            self.cuts.push_back((Instant::now() + CUT_AFTER, sequence));
        }
        started
    }

    fn give(&mut self, job: Job) {
        let (shared, shard, late) = (&self.shared, self.shard, &self.late.0);
        self.hands.give(job, |seat| work(Arc::clone(shared), shard, late.clone(), seat));
    }

    /// Starts a delivery from the backlog.
    fn start_delivery(&mut self, leased: LeasedDelivery) {
        let LeasedDelivery { lease, id, payload, webhook, rule, endpoint, .. } = leased;
        let past = Past {
            id,
            endpoint,
            attempts: leased.attempts,
            interrupted: leased.interrupted,
            forgiven: leased.forgiven,
            since: leased.since,
        };
        let begun = Arc::new(AtomicBool::new(false));
        self.give(Job::Delivery { past, payload, rule, webhook, begun: Arc::clone(&begun) });
        self.running.insert(id, Running { lease: Some(lease), finished: None, begun: Some(begun) });
    }

    /// Asks the store for whatever is wanted of it now.
    fn call_store(&mut self) {
        let now = Instant::now();
        if self.store_pause.until(now).is_some() {
            return;
        }
        if self.settling.is_none() && !self.outbox.is_empty() && !self.waits_for_company(now) {
            let settlement = self.outbox.take();
            self.settling = Some(self.settle(settlement));
        }
        if self.renewing.is_none() && self.renew_at <= now {
            self.renew(now);
        }
        self.fetch_handed(now);
        if self.stopping.is_some() {
            return;
        }
        // Without a place nobody waits for what comes, and what there is of deliveries would end a wait at once.
        self.events_dry &= self.listens_again_at().is_none_or(|at| at > now);
        let batch = self.batch();
        if self.leasing_events.is_none() && !self.events_dry && self.intake.len() <= batch / 2 {
            self.lease_events(now, batch);
        }
        let free = self.places();
        let look = self.look_for_deliveries_at.is_some_and(|at| at <= now) && !self.events_go_first();
        if self.leasing_deliveries.is_none() && look && free > 0 {
            self.lease_deliveries(now, free.min(BATCH_MAX));
        }
        // What the store has is known only after looking; until then it would say "there is something" at once.
        let looked = free > 0 && !look && self.leasing_deliveries.is_none();
        if self.waiting.is_none() && self.events_dry && looked && self.leasing_events.is_none() {
            self.may_be_handed = true;
            let (queue, shard) = (Arc::clone(&self.queue), self.shard);
            self.waiting = Some(Box::pin(async move { queue.wait(shard, IDLE_MAX).await }));
        }
    }

    /// Makes the leases last longer that are held.
    fn renew(&mut self, now: Instant) {
        let lease = self.shared.settings.lease;
        self.renew_at = now + lease / 3;
        self.renewed_at = now;
        let held = self.held();
        if !held.is_empty() {
            let (queue, shard) = (Arc::clone(&self.queue), self.shard);
            self.renewing = Some(Box::pin(async move {
                let held: Vec<&Lease> = held.iter().collect();
                queue.extend(shard, &held, lease).await
            }));
        }
    }

    /// Asks for what may have been handed over, where nobody will wait for it any more: at the end, and while there is no
    /// place for more.
    fn fetch_handed(&mut self, now: Instant) {
        let goes = self.stopping.is_some() || self.shared.settings.until_idle && self.is_idle();
        let is_full = self.waiting.is_none() && (self.places() == 0 || self.intake.len() > self.batch() / 2);
        if self.may_be_handed && (goes || is_full) && self.leasing_events.is_none() {
            self.may_be_handed = false;
            self.waiting = None;
            self.lease_events(now, 0);
        }
    }

    fn lease_deliveries(&mut self, now: Instant, max: usize) {
        // What happens while the lease is under way sets another time, which the answer must not undo.
        self.look_for_deliveries_at = None;
        // What is held back now is left out of the lease; when the answer comes, it may be open already.
        self.look_when_endpoints_open(now);
        self.deliveries_asked_at = now;
        // The store leaves out what waits for a full endpoint, and does not tell of it; the end of an attempt makes room
        // there.
        self.deliveries_lack_room |= self.shared.endpoints.any_is_full(self.shared.clock.now());
        let settings = &self.shared.settings;
        let request = LeaseDeliveries {
            worker: settings.worker.clone(),
            lease: settings.lease,
            max,
            rooms: RoomsLeft {
                default: self.shared.in_force.look().definitions().concurrency_min(),
                exceptions: self.shared.endpoints.left(self.shared.clock.now()),
            },
        };
        let (queue, shard) = (Arc::clone(&self.queue), self.shard);
        self.leasing_deliveries = Some(Box::pin(async move { queue.lease_deliveries(shard, request).await }));
    }

    fn lease_events(&mut self, now: Instant, max: usize) {
        let holds_suspect = self.holds_suspect();
        self.suspects_left_out = holds_suspect;
        (self.events_asked, self.events_asked_at) = (max, now);
        let request = LeaseEvents {
            worker: self.shared.settings.worker.clone(),
            lease: self.shared.settings.lease,
            max,
            // One suspect at a time: should it take the worker down, it is known which it was.
            suspects_max: usize::from(!holds_suspect),
        };
        let (queue, shard, stops) = (Arc::clone(&self.queue), self.shard, self.stopping.is_some());
        self.leasing_events = Some(Box::pin(async move {
            let leased = queue.lease_events(shard, request);
            if !stops {
                return leased.await;
            }
            let in_time = tokio::time::timeout(HANDED_AT_STOP_MAX, leased).await;
            in_time.unwrap_or_else(|_| {
                let message = "the store does not answer in time".to_owned();
                Err(QueueError::Unavailable { message, retry_after: None, source: None })
            })
        }));
    }

    /// When events are looked for again, while there is no place and so nobody who waits for them.
    fn listens_again_at(&self) -> Option<Instant> {
        let is_deaf = self.events_dry && self.waiting.is_none() && self.leasing_events.is_none();
        (is_deaf && self.places() == 0).then(|| self.events_asked_at + PLACE_WAIT_MAX)
    }

    /// How many events are leased at once: half as many again as there are places, so that one call serves more.
    fn batch(&self) -> usize {
        BATCH_MAX.min(self.shared.settings.concurrency.saturating_mul(3) / 2)
    }

    /// Whether what is to be settled waits for others that will be soon.
    fn waits_for_company(&self, now: Instant) -> bool {
        self.hands.busy() > 0
            && self.stopping.is_none()
            && self.outbox.waits_for_company(now, self.batch() / 2)
    }

    /// Whether looking for deliveries waits for the answer of a lease of events, which it would hold up.
    fn events_go_first(&self) -> bool {
        self.events_first && self.leasing_events.is_some()
    }

    /// How many deliveries more could be started now.
    fn places(&self) -> usize {
        self.shared.endpoints.free().min(self.shared.settings.concurrency.saturating_sub(self.hands.busy()))
    }

    fn holds_suspect(&self) -> bool {
        self.open.values().any(|open| open.suspect) || self.intake.has_suspect()
    }

    /// Names for all leases that are held, to renew them by; the leases themselves stay where they are.
    fn held(&self) -> Vec<Lease> {
        let open = self.open.values().map(|open| &open.lease);
        let running = self.running.values().filter_map(|running| running.lease.as_ref());
        let held = self.intake.leases().chain(open).chain(running).chain(self.outbox.leases());
        held.map(|lease| Lease { subject: lease.subject, token: lease.token }).collect()
    }

    fn settle(&self, settlement: Settlement) -> Call<(Settlement, Result<Settled, QueueError>)> {
        let (queue, shard) = (Arc::clone(&self.queue), self.shard);
        Box::pin(async move {
            let reply = queue.settle(shard, &settlement).await;
            (settlement, reply)
        })
    }

    /// Waits for the next thing to react to.
    ///
    /// The order of the branches is fixed, so that the same happenings are taken in the same order each time; and the
    /// timer is the last, so that it is not even set while there is something to do.
    async fn next(&mut self) -> Happening {
        let deadline = self.deadline();
        let stopping = self.stopping.is_some();
        let wants_room = self.deliveries_lack_room || self.places() == 0;
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !stopping => Happening::Shutdown,
            (settlement, reply) = call(&mut self.settling) => Happening::Settled(settlement, reply),
            reply = call(&mut self.leasing_events) => Happening::Events(reply),
            reply = call(&mut self.leasing_deliveries) => Happening::Deliveries(reply),
            reply = call(&mut self.renewing) => Happening::Renewed(reply),
            Some(late) = self.late.1.recv() => Happening::Late(late),
            () = self.shared.endpoints.all_placed(), if self.held_up => Happening::Placed,
            done = self.hands.done() => Happening::Done(done),
            reply = call(&mut self.waiting), if !stopping => Happening::Woken(reply),
            Ok(()) = self.opened.changed(), if !stopping => Happening::Opened,
            Ok(()) = self.freed.changed(), if !stopping && wants_room => Happening::Freed,
            () = tokio::task::yield_now(), if self.starts_more => Happening::Placed,
            () = tokio::time::sleep_until(deadline) => Happening::Tick,
        }
    }

    /// When the loop has something to do even if nothing happens.
    fn deadline(&self) -> Instant {
        // Without a place, the end of an attempt is waited for, not a time.
        let looks = self.stopping.is_none()
            && self.leasing_deliveries.is_none()
            && !self.events_go_first()
            && self.places() > 0;
        let look = self.look_for_deliveries_at.filter(|_| looks);
        let renew = self.renewing.is_none().then_some(self.renew_at);
        let company = self.outbox.company_until().filter(|_| self.settling.is_none());
        // Nothing but cutting is done before a pause is over.
        let pause = self.store_pause.until(Instant::now());
        let listen = self.listens_again_at().filter(|_| self.stopping.is_none());
        let work = pause.or_else(|| [look, renew, company, listen].into_iter().flatten().min());
        let cut = self.cuts.front().map(|(at, _)| *at);
        let stop = self.stopping.as_ref().map(Stopping::deadline);
        let stall = (self.stalls && self.stopping.is_none()).then(|| Instant::now() + PLACE_WAIT_MAX);
        let handed = self.stopping.as_ref().filter(|_| self.may_be_handed).map(Stopping::handed_until);
        let handed = handed.filter(|at| *at > Instant::now());
        let far = Instant::now() + IDLE_MAX;
        [work, cut, stop, handed, stall].into_iter().flatten().min().map_or(far, |at| at.min(far))
    }

    fn react(&mut self, happening: Happening) -> Result<(), EngineError> {
        match happening {
            Happening::Events(reply) => {
                self.leasing_events = None;
                self.events_first = false;
                if let Some(events) = self.store_answered(reply)? {
                    self.events_leased(events);
                }
            }
            Happening::Deliveries(reply) => {
                self.leasing_deliveries = None;
                match self.store_answered(reply)? {
                    Some(leased) => {
                        self.shared.metrics.batch(BatchCall::LeaseDeliveries, leased.deliveries.len());
                        self.deliveries_leased(leased);
                    }
                    // Again, when the store's pause is over.
                    None => self.look_for_deliveries_at = Some(Instant::now()),
                }
            }
            Happening::Settled(settlement, reply) => {
                self.settling = None;
                match self.store_answered(reply)? {
                    Some(settled) => self.settled(settlement, settled),
                    // The same again, and what has come since along with it.
                    None => self.outbox.put_back(settlement),
                }
            }
            Happening::Renewed(reply) => {
                self.renewing = None;
                if let Some(lost) = self.store_answered(reply)? {
                    self.renewed(lost);
                }
            }
            Happening::Woken(reply) => {
                self.waiting = None;
                // A wake-up may be for nothing, so it does not show that the store answers.
                if reply.is_err() {
                    self.store_answered(reply)?;
                }
                self.events_dry = false;
                self.events_first = true;
                self.look_for_deliveries_at = Some(Instant::now());
            }
            Happening::Done(done) => {
                let done =
                    done.map_err(|error| EngineError::Panicked(panic_message(&*error.into_panic())))?;
                done.into_iter().for_each(|done| self.done(done));
            }
            Happening::Late(Late { id, finished }) => self.finish(id, finished),
            // The loop begins with starting what is ready.
            Happening::Placed => self.starts_more = false,
            Happening::Opened => self.look_for_deliveries_at = Some(Instant::now()),
            // Whether there is a place is asked anyway. For room some attempts of others are waited for: many end where
            // one endpoint is full.
            Happening::Freed => {
                if std::mem::take(&mut self.deliveries_lack_room) {
                    self.look_at(Instant::now() + TOKENS_EVERY);
                }
            }
            Happening::Tick => self.tick(),
            Happening::Shutdown => self.stop(),
        }
        Ok(())
    }

    /// Takes an answer of the store. `None`: it failed in a way that may pass, and is left alone for a while.
    fn store_answered<T>(&mut self, reply: Result<T, QueueError>) -> Result<Option<T>, EngineError> {
        if reply.is_err() {
            self.shared.metrics.store_errors.inc();
        }
        match reply {
            Ok(value) => {
                if self.store_pause.end(Instant::now()) {
                    self.shared.outage.answers(self.shard);
                }
                Ok(Some(value))
            }
            Err(error) if error.is_transient() => {
                if self.store_pause.lengthen(Instant::now(), self.shared.chance.draw()) {
                    self.shared.outage.fails(self.shard, &error);
                }
                Ok(None)
            }
            Err(error) => Err(EngineError::Store(error)),
        }
    }

    /// Whether what was leased by a call that was made then may have run out by now. Somebody else may work on it, so
    /// it is given back rather than begun; where the lease still holds, that costs nothing but time.
    fn came_too_late(&self, asked_at: Instant) -> bool {
        let took = asked_at.elapsed();
        let late = took >= self.shared.settings.lease;
        if late {
            tracing::warn!(
                took_ms = took.as_millis() as u64,
                "the store took longer to answer than a lease lasts; what it gave is given back"
            );
        }
        late
    }

    /// Whether this worker holds something that is not finished yet.
    fn is_at_work(&self, subject: Subject) -> bool {
        match subject {
            Subject::Event(sequence) => self.open.contains_key(&sequence) || self.intake.has(sequence),
            Subject::Delivery(id) => self.running.contains_key(&id),
        }
    }

    fn events_leased(&mut self, events: Vec<LeasedEvent>) {
        self.shared.metrics.batch(BatchCall::LeaseEvents, events.len());
        let all = events.len() < self.events_asked;
        for event in events {
            self.event_leased(event);
        }
        // A suspect that ended while this lease was under way makes room for one that it left out.
        self.events_dry = all && (!self.suspects_left_out || self.holds_suspect());
        if self.stopping.is_some() || self.came_too_late(self.events_asked_at) {
            self.release_ready();
        }
    }

    /// The leases that are held last longer, but for these.
    fn renewed(&mut self, mut lost: Vec<Subject>) {
        self.intake.renewed(self.renewed_at, self.renewed_at + self.shared.settings.lease);
        // What is to be settled is told by the settlement; where only its answer was lost, it is settled.
        lost.retain(|subject| self.is_at_work(*subject));
        if let Some(first) = lost.first() {
            let leases = lost.len();
            tracing::warn!(leases, ?first, "leases were lost: another worker goes on with these");
        }
        // What is begun goes on, and counts once: when it is settled, if its lease is still lost then.
        let lost = lost.into_iter().filter(|subject| self.intake.lose(*subject)).count();
        self.shared.metrics.leases_lost.inc_by(lost as u64);
    }

    /// A hand has done something.
    fn done(&mut self, done: Done) {
        match done {
            Done::Event { sequence, turn, handled } => {
                if let (Err(message), Some(open)) = (handled, self.open.get(&sequence)) {
                    open.progress.panicked(self.shard, (&open.id, sequence), message);
                }
                self.close(sequence, turn);
            }
            Done::Delivery(id, finished) => self.finish(id, finished),
        }
    }

    /// Takes an event to be started. One that it works on already, whose lease had run out, goes on under the new one:
    /// beginning it again would only repeat its attempts. A store that lost its data gives numbers again; then it is
    /// another event, whatever this worker still does about the one that is gone.
    fn event_leased(&mut self, leased: LeasedEvent) {
        if let Some(open) = self.open.get_mut(&leased.sequence).filter(|open| open.id == leased.id) {
            open.lease = leased.lease;
            return;
        }
        // What was handed over was leased up to a tenth of that earlier.
        self.intake.take(leased, self.events_asked_at + self.shared.settings.lease * 9 / 10);
    }

    fn deliveries_leased(&mut self, leased: LeasedDeliveries) {
        let now = Instant::now();
        let LeasedDeliveries { deliveries, next_due } = leased;
        let some = !deliveries.is_empty();
        let late = some && self.came_too_late(self.deliveries_asked_at);
        match next_due {
            // Due, but left behind although there were places: their endpoints have no room.
            Some(Duration::ZERO) if !some => self.deliveries_lack_room = true,
            Some(due) => self.look_at(now + due),
            None => {}
        }
        if some {
            // What was leased takes its rooms first; before that, the next look would bring what has none.
            self.look_for_deliveries_at = self.look_for_deliveries_at.map(|at| at.max(now + LEASES_EVERY));
        }
        self.deliveries_lack_room |= self.shared.endpoints.any_is_full(self.shared.clock.now());
        self.awaits_more = some && next_due == Some(Duration::ZERO);
        let several = deliveries.windows(2).any(|pair| pair[0].endpoint != pair[1].endpoint);
        if several && next_due == Some(Duration::ZERO) {
            self.shared.endpoints.crowded(self.shared.clock.now());
        }
        self.look_when_endpoints_open(now);
        for delivery in deliveries {
            if let Some(endpoint) = delivery.endpoint {
                self.shared.endpoints.is_not_held(endpoint);
            }
            if let Some(running) = self.running.get_mut(&delivery.id) {
                // Its lease had run out, and this worker's attempt goes on under the new one.
                running.lease = Some(delivery.lease);
                if let Some(finished) = running.finished.take() {
                    self.finish(delivery.id, finished);
                }
            } else if self.stopping.is_some() || late {
                let finished = Finished::waits(delivery.endpoint, Duration::ZERO, WaitingReason::Worker);
                self.outbox.add_delivery(settled(delivery.lease, finished));
            } else {
                self.start_delivery(delivery);
            }
        }
    }

    /// What a settlement means for what goes on.
    fn settled(&mut self, settlement: Settlement, reply: Settled) {
        self.shared.metrics.settled(&settlement, &reply);
        if let Some(first) = reply.over.first()
            && self.full_backlog.is_news()
        {
            tracing::warn!(
                delivery = %first,
                "the backlog of an endpoint has reached store.max_backlog_bytes; what comes beyond it becomes a dead \
                 letter, which `hookwire dead redrive` sends again"
            );
        }
        if let Some(first) = reply.lost.first() {
            let leases = reply.lost.len();
            self.shared.metrics.leases_lost.inc_by(leases as u64);
            tracing::warn!(leases, ?first, "settled too late: the leases were not held any more");
        }
        for (id, lease) in reply.leases {
            let Some(running) = self.running.get_mut(&id) else { continue };
            // A lease that came since by way of the queue is the later one.
            running.lease.get_or_insert(lease);
            let finished = running.finished.take();
            let is_cut_off = self.stopping.is_some_and(|stopping| stopping.cut_off);
            let finished = finished.or_else(|| is_cut_off.then(|| running.ended()));
            if let Some(finished) = finished {
                self.finish(id, finished);
            }
        }
        let now = Instant::now();
        // What came first in an order lets the next one go when it ends. The store wakes those who wait for it, which a
        // run until nothing is due does not.
        let mut lets_go = !settlement.deliveries.is_empty();
        for event in settlement.events {
            let EventFate::FannedOut { deliveries, .. } = event.fate else { continue };
            for delivery in deliveries {
                lets_go |= delivery.order.is_some();
                if let Fate::Running { .. } = delivery.fate {
                    // Without a lease by now, it is somebody else's.
                    if self.running.get(&delivery.id).is_some_and(|running| running.lease.is_none()) {
                        self.running.remove(&delivery.id);
                    }
                }
                self.expect_due(now, &delivery.fate);
            }
        }
        for delivery in settlement.deliveries {
            self.expect_due(now, &delivery.fate);
        }
        if lets_go && self.shared.settings.until_idle {
            self.look_at(now);
        }
    }

    /// Looks for a delivery again when it is due.
    fn expect_due(&mut self, now: Instant, fate: &Fate) {
        match fate {
            // It gets its turn when an attempt ends.
            Fate::Waiting { reason: WaitingReason::Room, .. } => self.deliveries_lack_room = true,
            // By now it may let attempts through again, and then nothing else would tell of it.
            Fate::Waiting { reason, .. }
                if matches!(reason, WaitingReason::RateLimit | WaitingReason::Unhealthy) =>
            {
                self.look_at(now + TOKENS_EVERY);
                if *reason == WaitingReason::RateLimit {
                    self.look_when_endpoints_open(now);
                }
            }
            Fate::Waiting { reason: WaitingReason::Paused, .. } => self.look_when_endpoints_open(now),
            Fate::Waiting { due_in, .. } => {
                self.look_at(now + *due_in);
            }
            Fate::Delivered | Fate::Dead { .. } | Fate::Running { .. } => {}
        }
        if self.deliveries_lack_room && self.hands.busy() == 0 {
            // No attempt is in flight whose end could be waited for.
            self.room_came_free();
        }
    }

    /// Looks for deliveries again when an endpoint that is held back lets some through.
    fn look_when_endpoints_open(&mut self, now: Instant) {
        let clock = self.shared.clock.now();
        let Some((opens_at, by_rate)) = self.shared.endpoints.opens_at(clock) else { return };
        let mut wait = opens_at.saturating_since(clock);
        if by_rate {
            // A few tokens at once: a lease for each would cost more than it smooths.
            wait = wait.max(TOKENS_EVERY);
            // A receiver that asked for silence is not waited for.
            self.awaits_more = true;
        }
        self.look_at(now + wait);
    }

    /// Looks for deliveries then, or earlier if that was wanted already.
    fn look_at(&mut self, at: Instant) {
        self.look_for_deliveries_at = Some(self.look_for_deliveries_at.map_or(at, |look| look.min(at)));
    }

    fn room_came_free(&mut self) {
        if std::mem::take(&mut self.deliveries_lack_room) {
            self.look_for_deliveries_at = Some(Instant::now());
        }
    }

    /// An event was handled: everything about it is known, unless it was cut off before.
    fn close(&mut self, sequence: Sequence, turn: u64) {
        self.room_came_free();
        if self.open.get(&sequence).is_none_or(|open| open.turn != turn) {
            return;
        }
        let Some(open) = self.open.remove(&sequence) else { return };
        // The next suspect may be leased now, and the store does not wake anybody for one that was there before.
        self.events_dry &= !open.suspect;
        if let Some((fate, _)) = open.progress.cut(Unfinished::Wait) {
            self.outbox.add_event(SettledEvent { lease: open.lease, fate });
        }
    }

    /// A stored delivery has a result.
    fn finish(&mut self, id: DeliveryId, finished: Finished) {
        self.room_came_free();
        let Some(mut running) = self.running.remove(&id) else { return };
        match running.lease.take() {
            Some(lease) => self.outbox.add_delivery(settled(lease, finished)),
            None => {
                running.finished = Some(finished);
                self.running.insert(id, running);
            }
        }
    }

    /// Does what has become due.
    fn tick(&mut self) {
        let now = Instant::now();
        while let Some((at, sequence)) = self.cuts.front().copied()
            && at <= now
        {
            self.cuts.pop_front();
            self.cut(now, sequence);
        }
        if let Some(stopping) = &mut self.stopping
            && !stopping.cut_off
            && stopping.grace_until <= now
        {
            stopping.cut_off = true;
            self.end_grace();
        }
    }

    /// Settles an event with what is finished of it, and stores the rest as running.
    fn cut(&mut self, now: Instant, sequence: Sequence) {
        let Some(open) = self.open.get(&sequence) else { return };
        match open.progress.cut(Unfinished::Run(self.shared.settings.lease)) {
            Some((fate, running)) => {
                let open = self.open.remove(&sequence).expect("it was found just now");
                self.events_dry &= !open.suspect;
                self.outbox.add_event(SettledEvent { lease: open.lease, fate });
                for id in running {
                    self.running.insert(id, Running { lease: None, finished: None, begun: None });
                }
            }
            // Its fan-out has not even ended; the time counts from there.
            None => self.cuts.push_back((now + CUT_AFTER, sequence)),
        }
    }

    /// Begins nothing from now on, and gives what is in flight time to end.
    fn stop(&mut self) {
        let since = Instant::now();
        let grace = self.shared.settings.grace;
        let grace = grace.unwrap_or_else(|| self.shared.in_force.look().definitions().grace());
        self.stopping = Some(Stopping { since, grace_until: since + grace, cut_off: false });
        self.waiting = None;
        self.release_ready();
    }

    /// Gives back what was not begun.
    fn release_ready(&mut self) {
        self.intake.release().for_each(|released| self.outbox.add_event(released));
    }

    /// The grace period is over: what is still in flight is ended, counts as interrupted, and goes back to the queue.
    fn end_grace(&mut self) {
        tracing::warn!(
            in_flight = self.hands.busy(),
            "the grace period is over; attempts in flight are cut off"
        );
        self.hands.cut_off();
        for (_, open) in std::mem::take(&mut self.open) {
            let fate = open.progress.cut(Unfinished::Ended).map_or(EventFate::Released, |(fate, _)| fate);
            self.outbox.add_event(SettledEvent { lease: open.lease, fate });
        }
        let held = self.running.iter().filter(|(_, running)| running.lease.is_some());
        let held: Vec<_> = held.map(|(id, running)| (*id, running.ended())).collect();
        for (id, ended) in held {
            self.finish(id, ended);
        }
    }

    /// Whether there is nothing left to do, and what came of it.
    fn finished(&self) -> Option<Summary> {
        let quiet = self.is_quiet();
        let summary =
            Summary { waits_for_later: self.look_for_deliveries_at.is_some() || self.deliveries_lack_room };
        match self.stopping {
            // What a store that fails has handed over is left until its leases run out.
            Some(stopping) if quiet && (!self.may_be_handed || stopping.handed_until() <= Instant::now()) => {
                Some(summary)
            }
            Some(stopping) if stopping.cut_off && stopping.deadline() <= Instant::now() => {
                tracing::error!(
                    "the store did not take the last results; what they are about will be repeated"
                );
                Some(summary)
            }
            Some(_) => None,
            None => {
                let ends = self.shared.settings.until_idle && !self.may_be_handed && self.is_idle();
                ends.then_some(summary)
            }
        }
    }

    /// Whether nothing is under way.
    fn is_quiet(&self) -> bool {
        self.outbox.is_empty()
            && self.settling.is_none()
            && self.hands.busy() == 0
            && self.late.1.is_empty()
            && self.leasing_events.is_none()
            && self.leasing_deliveries.is_none()
    }

    /// Whether nothing is under way, and nothing is due.
    fn is_idle(&self) -> bool {
        self.is_quiet()
            && self.intake.is_empty()
            && self.events_dry
            // A token that came since nothing was found to be lacking is looked for by then.
            && self.look_for_deliveries_at.is_none_or(|at| at > Instant::now() + TOKENS_EVERY)
            && !self.awaits_more
            // What lacks room may find it when an attempt of another lane ends.
            && !(self.deliveries_lack_room && self.shared.endpoints.some_may_end(&self.freed))
            && !self.store_pause.is_begun()
    }
}

/// What a hand does, one piece of work after the other, until it is cut off.
async fn work<D: Dispatch, C: Clock>(
    shared: Arc<Shared<D, C>>,
    shard: Shard,
    late: mpsc::Sender<Late>,
    seat: Seat<Job, Done>,
) {
    loop {
        let done = match seat.work().await {
            Job::Event { turn, work, progress } => {
                let sequence = work.sequence;
                let handled = AssertUnwindSafe(handle_event(&shared, shard, work, &progress, &late));
                let handled = handled.catch_unwind().await;
                let handled = handled.map_err(|panic| panicked(Subject::Event(sequence), &*panic));
                Done::Event { sequence, turn, handled }
            }
            Job::Delivery { past, payload, rule, webhook, begun } => {
                let (id, endpoint) = (past.id, past.endpoint);
                let finished = deliver_stored(&shared, past, payload, &rule, &webhook, &begun);
                let finished = AssertUnwindSafe(finished);
                let finished = finished.catch_unwind().await.unwrap_or_else(|panic| {
                    Finished::panicked(endpoint, panicked(Subject::Delivery(id), &*panic))
                });
                Done::Delivery(id, finished)
            }
        };
        seat.put(done);
    }
}

/// Attempts a delivery that was stored before, with the definitions in force now.
async fn deliver_stored<D: Dispatch, C: Clock>(
    shared: &Arc<Shared<D, C>>,
    past: Past,
    payload: Bytes,
    rule: &RuleName,
    webhook: &WebhookName,
    begun: &AtomicBool,
) -> Finished {
    let snapshot = shared.in_force.snapshot();
    let event = Event::from_payload(&payload).ok();
    drop(payload);
    let route = event.and_then(|event| snapshot.definitions().route(&Arc::new(event), rule, webhook));
    match route {
        Some(route) => {
            let begin = || begun.store(true, Ordering::Relaxed);
            deliver_guarded(shared, &snapshot, route, past, &begin).await
        }
        None => unavailable(shared, past.endpoint, webhook, WaitingReason::WebhookRemoved),
    }
}

/// What is said of work that panicked.
fn panicked(subject: Subject, panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic_message(panic);
    tracing::error!(?subject, message, "a task panicked; its work ends as a dead letter");
    message
}

fn settled(lease: Lease, finished: Finished) -> SettledDelivery {
    let Finished { endpoint, attempts, fate } = finished;
    SettledDelivery { lease, endpoint, attempts, fate }
}

/// The reply of a call that is on its way; pending for ever where none is.
async fn call<T>(on_its_way: &mut Option<Call<T>>) -> T {
    match on_its_way {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
