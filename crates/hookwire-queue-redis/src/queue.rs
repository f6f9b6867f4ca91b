//! The handle: the working side of the contract.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hookwire_model::{EndpointId, RuleName, Sequence, Shard, Timestamp, WebhookName};
use hookwire_queue::backend::StoreClock;
use hookwire_queue::{
    Expired, Lease, LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedDelivery, LeasedEvent, NewEvent,
    Published, Queue, QueueError, Settled, Settlement, StoreLimits, Subject,
};
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::age::Age;
use crate::error::{damaged, is_closed, is_out_of_memory, is_wrong_login, odd_answer, unavailable};
use crate::layout::{self, Layout};
use crate::link::{Around, Link, Waiter, Way};
use crate::listener::{self, Asks, Handed};
use crate::pack::{self, micros};
use crate::replicas::{REPLICAS_MAX, Replicas};
use crate::reply::Reply;
use crate::scripts::{self, Script};
use crate::settlement::{ToSettle, in_order, to_settle};
use crate::{RedisTls, RedisUrl, ServerFacts, keys};

/// How long publishing may take in what came by plain commands before.
const TAKE_IN_MAX: Duration = Duration::from_secs(10);
/// Extending has that part of a lease for its answer: leases are extended when a third of them is over, so that there is
/// time to try again on another connection.
const EXTEND_PART: u32 = 4;
/// How often somebody who waits lets go of old history and forgets old ids, where no work does it.
const TEND_EVERY: Duration = Duration::from_secs(60);
/// How much of it at once: some milliseconds of the server's time.
const TEND_STEPS: usize = 500;
/// So many deliveries are given up at once for their age.
const EXPIRE_MAX: usize = 200;
/// A connection for one who waits serves that long at a time.
const BLOCK_MAX: Duration = Duration::from_secs(60);
/// From so many bytes on, what a settlement says goes to the server beside the script: there, Lua would look at every
/// byte. Below, the transaction would cost more.
const APART_MIN: usize = 4096;
/// The size of a payload has seven digits; a larger one counts as much, and is in no batch, which tells in eight where its
/// events end.
const SIZE_MAX: usize = 9_999_999;
/// How long a batch is there that was not taken in, because something failed.
const NEW_MAX: Duration = Duration::from_secs(10);
/// A connection that ends sooner than that while somebody waits on it is a server that fails.
const CUT_SOON: Duration = Duration::from_secs(1);
/// So many records of endpoints, of some hundred bytes each, hold nobody up.
const ENDPOINTS_FEW: usize = 500;
/// How long leasing waits in a shard whose events wait for those of older ones, and how often it looks meanwhile.
const GATE_WAIT: Duration = Duration::from_secs(1);
const GATE_LOOK: Duration = Duration::from_millis(50);
/// Who waits says that it listens when nothing has come for so long: where there is much to do, it would not be worth it.
const QUIET_AFTER: Duration = Duration::from_millis(2);
/// A lease that was handed over may have begun so long before it is asked for, as a part of it; else it is extended first.
const LEASE_PART: u32 = 10;
/// How long somebody waits at a time in such a shard.
const GATED_WAIT: Duration = Duration::from_millis(250);
/// How long opening waits before it tries again.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// What a store on Redis is opened with.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What each shard keeps, and how much.
    pub limits: StoreLimits,
    /// Puts in place of `limits.pending_bytes_max` 60 % of the server's `maxmemory`, 2 GiB if it has none, shared
    /// among the shards.
    pub pending_by_memory: bool,
    /// Puts in place of `limits.backlog_bytes_max` half of what may be pending.
    pub backlog_by_half: bool,
    /// Puts in place of `limits.history_bytes_max` 5 % of the server's `maxmemory`, 128 MiB if it has none, shared
    /// among the shards.
    pub history_by_memory: bool,
    /// How many shards take new events, at least 1. A store that has another number keeps it, unless
    /// `changes_shards`.
    pub shards: u16,
    /// Gives a store with another number of shards new ones, as many as asked for. Its old ones take no more events.
    pub changes_shards: bool,
    /// What the names of all keys begin with: `{<prefix>:<shard>}:`. Two stores on one server need two prefixes.
    pub prefix: String,
    /// The largest event that plain commands may put in, in bytes; a larger one becomes a dead letter. What
    /// [`publish`](Queue::publish) is given was looked at by whoever calls it.
    pub event_bytes_max: usize,
    /// What TLS to the server needs.
    pub tls: RedisTls,
    /// How many replicas must have an event before publishing returns. 0: none.
    pub wait_replicas: u32,
    /// So many events that are published together stand in one string, which is published and leased in half the time;
    /// with fewer, the commands more would cost more than is saved.
    pub together_min: usize,
    /// How long opening waits for a server that cannot be reached, or is loading.
    pub wait: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions {
            limits: StoreLimits::default(),
            pending_by_memory: false,
            backlog_by_half: false,
            history_by_memory: false,
            shards: 1,
            changes_shards: false,
            prefix: "hw".to_owned(),
            event_bytes_max: 1 << 20,
            tls: RedisTls::default(),
            wait_replicas: 0,
            together_min: 4,
            wait: Duration::ZERO,
        }
    }
}

/// A store on Redis. Clones are handles to the same store, and share its connections.
#[derive(Clone)]
pub struct RedisQueue {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) layout: RwLock<Arc<Layout>>,
    /// Held while the layout is read anew.
    pub(crate) learning: tokio::sync::Mutex<()>,
    pub(crate) prefix: String,
    event_bytes_max: usize,
    wait_replicas: u32,
    together_min: usize,
    clock: Option<StoreClock>,
    pub(crate) limits: StoreLimits,
    /// The limits as scripts take them.
    limit_arguments: [u64; 5],
    facts: ServerFacts,
}

/// What this process knows of a shard.
pub(crate) struct ShardState {
    /// The name of its key `meta`.
    pub(crate) meta: String,
    tag: String,
    // Held only to look or note, never across an `.await`.
    seen: Mutex<Seen>,
    /// The connection for those who wait, taken out while somebody does: a wait that is dropped takes it along, since
    /// its command may still block.
    waiter: Mutex<Option<Waiter>>,
    handed: Mutex<Handed>,
    replicas: Replicas,
    /// How many records of endpoints there were at the last look.
    endpoints: AtomicUsize,
    /// Its events wait for those of older shards.
    is_gated: AtomicBool,
    /// It takes no new events, and recognises none of its ids any more.
    pub(crate) ids_over: AtomicBool,
    /// Until when nothing need be asked about its orders: it had no unfinished work.
    pub(crate) quiet_until: Mutex<Option<Instant>>,
}

impl ShardState {
    pub(crate) fn new(prefix: &str, number: u16) -> Self {
        let tag = keys::tag(prefix, Shard(number));
        let seen = Seen {
            events: NewsId::default(),
            deliveries: NewsId::default(),
            next_end: None,
            age: Age::default(),
            tend_at: Instant::now() + TEND_EVERY,
        };
        ShardState {
            meta: format!("{tag}meta"),
            tag,
            seen: Mutex::new(seen),
            waiter: Mutex::new(None),
            handed: Mutex::default(),
            replicas: Replicas::default(),
            endpoints: AtomicUsize::new(0),
            is_gated: AtomicBool::new(false),
            ids_over: AtomicBool::new(false),
            quiet_until: Mutex::new(None),
        }
    }
}

impl ShardState {
    /// Whether a connection serves the next who waits: of two who wait at once, only the one that listens.
    fn is_fit(&self, waiter: &Waiter) -> bool {
        let handed = self.handed();
        match &waiter.listens {
            Some(name) => handed.read_to(name).is_some(),
            None => handed.new_name().is_some(),
        }
    }

    /// When a lease of anybody runs out next, as far as is known.
    fn next_end(&self) -> Option<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).next_end
    }

    fn handed(&self) -> MutexGuard<'_, Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits on a connection that listens. If that comes to no end, the connection is closed, because its command may
/// still block.
struct Listening<'a>(Option<(&'a ShardState, String)>);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some((state, name)) = &self.0 {
            state.handed().closed(name);
        }
    }
}

/// What was seen of a shard by looking for something to lease.
#[derive(Debug)]
struct Seen {
    events: NewsId,
    deliveries: NewsId,
    /// When a lease of anybody runs out next, as far as is known.
    next_end: Option<Instant>,
    age: Age,
    tend_at: Instant,
}

/// The id of an entry in a stream of news.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct NewsId(u64, u64);

impl NewsId {
    fn read(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(NewsId(time.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for NewsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Inner {
    /// What every script wants to know first.
    pub(crate) fn common(&self, command: &mut Cmd) {
        match &self.clock {
            Some(clock) => command.arg(clock.now().as_micros()),
            None => command.arg(""),
        };
        for limit in self.limit_arguments {
            command.arg(limit);
        }
    }
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").field("server", &self.inner.link.name()).finish_non_exhaustive()
    }
}

impl RedisQueue {
    /// Connects, and looks whether the server and what it holds are fit. What is not ideal is told by
    /// [`ServerFacts::advice`], and does not keep the store from working.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] if the server cannot be reached or does not let us in, even after the time that the
    /// options allow; [`QueueError::UnknownVersion`] if a newer hookwire wrote what it holds.
    ///
    /// Cancel safety: dropping it leaves nothing behind.
    pub async fn open(url: &RedisUrl, options: RedisOptions) -> Result<Self, QueueError> {
        Self::open_with_clock(url, options, None).await
    }

    /// As [`open`](Self::open), on a clock of its own in place of the server's. All who use the store must share it;
    /// meant for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(
        url: &RedisUrl,
        options: RedisOptions,
        clock: Option<StoreClock>,
    ) -> Result<Self, QueueError> {
        let link = Link::new(url, &options.tls)?;
        let until = Instant::now() + options.wait;
        let mut is_told = false;
        let (facts, counts) = loop {
            let look = async {
                let facts = ServerFacts::ask(&link).await?;
                Ok((facts, layout::settle(&link, &options).await?))
            };
            match look.await {
                Err(error) if may_pass(&error, until) => {
                    if !std::mem::replace(&mut is_told, true) {
                        let seconds = options.wait.as_secs();
                        tracing::warn!(%error, "the store cannot be opened yet; trying for {seconds} s");
                    }
                    tokio::time::sleep(OPEN_AGAIN).await;
                }
                looked => break looked?,
            }
        };
        let open = counts.last().copied().unwrap_or(1);
        let mut limits = options.limits;
        if options.pending_by_memory {
            limits.pending_bytes_max = facts.share(60, 2 << 30, open);
        }
        if options.backlog_by_half {
            limits.backlog_bytes_max = limits.pending_bytes_max / 2;
        }
        if options.history_by_memory {
            limits.history_bytes_max = facts.share(5, 128 << 20, open);
        }
        let limit_arguments = [
            micros(limits.dedup_window),
            limits.dedup_max_ids,
            limits.pending_bytes_max,
            micros(limits.history_age_max),
            limits.history_bytes_max,
        ];
        let inner = Inner {
            link,
            layout: RwLock::new(Arc::new(Layout::new(&options.prefix, counts, &[])?)),
            learning: tokio::sync::Mutex::default(),
            prefix: options.prefix,
            event_bytes_max: options.event_bytes_max,
            wait_replicas: options.wait_replicas,
            together_min: options.together_min,
            clock,
            limits,
            limit_arguments,
            facts,
        };
        let queue = RedisQueue { inner: Arc::new(inner) };
        // Refuses what a newer version wrote before anything else is asked of it.
        for number in 0..queue.shards() {
            while let Err(error) =
                queue.run(Way::Shared, "stats", &scripts::STATS, Shard(number), |_| {}).await
            {
                if !may_pass(&error, until) {
                    return Err(error);
                }
                tokio::time::sleep(OPEN_AGAIN).await;
            }
        }
        while let Err(error) = queue.complete().await {
            if !may_pass(&error, until) {
                return Err(error);
            }
            tokio::time::sleep(OPEN_AGAIN).await;
        }
        Ok(queue)
    }

    /// What was found about the server when the store was opened.
    pub fn server(&self) -> &ServerFacts {
        &self.inner.facts
    }

    /// Lets go now of everything that is too old or too much, as is otherwise done step by step, beside other work.
    ///
    /// # Errors
    /// As any call.
    pub async fn tidy(&self) -> Result<(), QueueError> {
        for number in 0..self.shards() {
            while self.tend(Shard(number), TEND_STEPS).await? {}
        }
        Ok(())
    }

    async fn tend(&self, shard: Shard, steps: usize) -> Result<bool, QueueError> {
        let answer = self.run(Way::Shared, "tend", &scripts::TEND, shard, |command| {
            command.arg(steps);
        });
        Ok(answer.await? == Value::Int(1))
    }

    /// The shards as they are known now.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.inner.layout.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn shard(&self, shard: Shard) -> Result<Arc<ShardState>, QueueError> {
        let layout = self.layout();
        let found = layout.shards.get(usize::from(shard.0)).map(Arc::clone);
        found.ok_or_else(|| damaged(format!("there is no shard {shard}; the store has {}", self.shards())))
    }

    /// The name of a key of a shard.
    pub(crate) fn key(&self, shard: Shard, name: &str) -> Result<String, QueueError> {
        Ok(format!("{}{name}", self.shard(shard)?.tag))
    }

    /// Sends a command for looking.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, QueueError> {
        self.inner.link.call(Way::Pooled, command).await
    }

    /// Sends a command whose answer has as many parts as there are records of endpoints. Workers ask for them all the
    /// time, so a few come on the shared connection: the pool sends two commands more for each that it passes on.
    pub(crate) async fn call_for_endpoints(&self, shard: Shard, command: &Cmd) -> Result<Value, QueueError> {
        let state = self.shard(shard)?;
        let known = &state.endpoints;
        let is_short = known.load(Ordering::Relaxed) <= ENDPOINTS_FEW;
        let way = if is_short { Way::Shared } else { Way::Pooled };
        let answer = self.inner.link.call(way, command).await?;
        if let Value::Array(parts) = &answer {
            known.store(parts.len() / 2, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// Runs a script on a shard, with what every script wants to know first.
    pub(crate) async fn run(
        &self,
        way: Way,
        name: &'static str,
        script: &Script,
        shard: Shard,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, QueueError> {
        let state = self.shard(shard)?;
        let meta = &state.meta;
        let inner = &self.inner;
        let all = |command: &mut Cmd| {
            inner.common(command);
            arguments(command);
        };
        let answer = inner.link.run(way, script, meta, all).await?;
        match answer {
            Value::Nil => Err(odd_answer(name)),
            answer => Ok(answer),
        }
    }

    /// The same in one transaction with a command.
    async fn run_with(
        &self,
        around: Around<'_>,
        script: &Script,
        shard: Shard,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<(Value, Value), QueueError> {
        let state = self.shard(shard)?;
        let meta = &state.meta;
        let all = |command: &mut Cmd| {
            self.inner.common(command);
            arguments(command);
        };
        self.inner.link.run_with(script, meta, &around, all).await
    }

    /// Notes what a look at a shard showed. `all`: nothing was left behind.
    fn note(
        &self,
        shard: Shard,
        now: i64,
        next_end: i64,
        note: impl FnOnce(&mut Seen),
    ) -> Result<(), QueueError> {
        let state = self.shard(shard)?;
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let left = u64::try_from(next_end.saturating_sub(now)).unwrap_or(0);
        seen.next_end = (next_end >= 0).then(|| Instant::now() + Duration::from_micros(left));
        note(&mut seen);
        Ok(())
    }
}

/// Whether a refusal, such as that of a server that loads its data, may be over by then. Whoever starts with the wrong
/// password wants to know at once.
fn may_pass(error: &QueueError, until: Instant) -> bool {
    error.is_transient() && !is_wrong_login(error) && Instant::now() < until
}

/// Waits for news in a shard, for what plain commands put in if that is open, and for what is handed over in a stream: each
/// after what was seen of it.
fn read_news(
    tag: &str,
    is_open: bool,
    seen: (NewsId, NewsId),
    handed: Option<&(Vec<u8>, String)>,
    block: Duration,
) -> Cmd {
    let mut command = redis::cmd("XREAD");
    // In whole milliseconds, of which 0 would mean for ever.
    let millis = u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1);
    command.arg("COUNT").arg(1).arg("BLOCK").arg(millis).arg("STREAMS");
    // A shard that takes nothing new has no stream for plain publishing.
    for name in ["news_events", "news_deliveries", "in"].iter().take(if is_open { 3 } else { 2 }) {
        command.arg(format!("{tag}{name}"));
    }
    if let Some((stream, _)) = handed {
        command.arg(&stream[..]);
    }
    command.arg(seen.0.to_string()).arg(seen.1.to_string());
    if is_open {
        // Whatever is in the stream of plain publishing was not taken in yet.
        command.arg("0-0");
    }
    if let Some((_, read_to)) = handed {
        command.arg(read_to);
    }
    command
}

fn lease_arguments(command: &mut Cmd, request: &LeaseEvents, max: usize, asks: &Asks) {
    command.arg(micros(request.lease)).arg(max).arg(request.suspects_max);
    command.arg(&asks.name).arg(&asks.read_to).arg(asks.takes);
}

/// What is leased, as scripts name it.
fn member(subject: Subject) -> String {
    match subject {
        Subject::Event(sequence) => format!("E{sequence}"),
        Subject::Delivery(id) => keys::delivery(id),
    }
}

fn subject(shard: Shard, member: &str) -> Option<Subject> {
    match member.strip_prefix('E') {
        Some(number) => number.parse().ok().map(|number| Subject::Event(Sequence(number))),
        None => keys::delivery_id(shard, member).map(Subject::Delivery),
    }
}

impl RedisQueue {
    async fn publish_new(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let begin = Instant::now();
        let parts = loop {
            match self.send_new(shard, &events).await? {
                // All are new.
                Value::Int(first) => {
                    self.wait_for_replicas(shard).await?;
                    let numbers = first.unsigned_abs()..;
                    let new = |number| Published { sequence: Sequence(number), duplicate: false };
                    return Ok(numbers.take(events.len()).map(new).collect());
                }
                // Many came by plain commands before, and are taken in by and by.
                Value::Array(parts) if matches!(parts[..], [Value::BulkString(_)]) => {
                    if begin.elapsed() > TAKE_IN_MAX {
                        let message = "what came by plain XADD before is still being taken in".to_owned();
                        return Err(unavailable(message, Some(TAKE_IN_MAX), None));
                    }
                }
                Value::Array(parts) => break parts,
                _ => return Err(odd_answer("publish")),
            }
        };
        if let [Value::BulkString(_), Value::BulkString(pending)] = &parts[..] {
            let pending_bytes = std::str::from_utf8(pending).ok().and_then(|digits| digits.parse().ok());
            let pending_bytes = pending_bytes.ok_or_else(|| odd_answer("publish"))?;
            return Err(QueueError::Full { pending_bytes, limit: self.inner.limits.pending_bytes_max });
        }
        if parts.len() != events.len() {
            return Err(odd_answer("publish"));
        }
        let published = parts.into_iter().map(|part| match part {
            Value::Int(number) => {
                Ok(Published { sequence: Sequence(number.unsigned_abs()), duplicate: number < 0 })
            }
            _ => Err(odd_answer("publish")),
        });
        let published = published.collect::<Result<Vec<_>, _>>()?;
        self.wait_for_replicas(shard).await?;
        Ok(published)
    }

    /// Asks the script once to take events in.
    async fn send_new(&self, shard: Shard, events: &[NewEvent]) -> Result<Value, QueueError> {
        let (mut ids, mut is_distinct, mut fit) = (HashSet::with_capacity(events.len()), true, true);
        let (mut bytes, mut sizes) = (0, String::with_capacity(7 * events.len()));
        for event in events {
            is_distinct &= ids.insert(&event.id);
            let size = event.payload.len().min(SIZE_MAX);
            bytes += size;
            fit &= event.payload.len() <= SIZE_MAX;
            write!(sizes, "{size:07}").expect(pack::NO_FAILURE);
        }
        let bytes = is_distinct.then_some(bytes).map(|bytes| bytes.to_string()).unwrap_or_default();
        let arguments = |command: &mut Cmd, begin: &str| {
            command.arg(events.len()).arg(&bytes).arg(begin).arg(&sizes);
            for event in events {
                command.arg(event.id.as_str());
            }
        };
        let answer = if events.len() < self.inner.together_min || !fit {
            let answer = self.run(Way::Shared, "publish", &scripts::PUBLISH, shard, |command| {
                arguments(command, "");
                let mut value = Vec::new();
                for event in events {
                    value.clear();
                    pack::write_event(&mut value, event);
                    command.arg(&value[..]);
                }
            });
            answer.await
        } else {
            let batches = pack::batches(events);
            let begin = self.key(shard, &format!("new:{:016x}:", fastrand::u64(..)))?;
            let store = |pipeline: &mut redis::Pipeline| {
                for (number, batch) in (1..).zip(&batches) {
                    let name = format!("{begin}{number}");
                    pipeline.cmd("SET").arg(name).arg(&batch.text).arg("EX").arg(NEW_MAX.as_secs());
                }
            };
            let answer = self.run_with(Around::Before(&store), &scripts::PUBLISH, shard, |command| {
                arguments(command, &begin);
                for batch in &batches {
                    command.arg(batch.events);
                }
            });
            answer.await.map(|(answer, _)| answer)
        };
        if answer.as_ref().is_err_and(is_closed) {
            // Whoever publishes goes by the new shards from now on.
            self.learn().await?;
        }
        answer
    }

    /// Events of these numbers that were not there where they were read: the group stood somewhere else, or had to pass
    /// events that are no longer to be leased; or the history went past their batch, and what is still wanted was kept.
    async fn read_missing(
        &self,
        shard: Shard,
        numbers: RangeInclusive<u64>,
        have: &[LeasedEvent],
    ) -> Result<Vec<pack::Published>, QueueError> {
        let have: HashSet<u64> = have.iter().map(|event| event.sequence.0).collect();
        let mut range = redis::cmd("XRANGE");
        range.arg(self.key(shard, "events")?).arg(*numbers.start()).arg(*numbers.end());
        let mut found = pack::entries(self.call(&range).await?)?;
        found.retain(|event| !have.contains(&event.sequence.0));
        let seen: HashSet<u64> = found.iter().map(|event| event.sequence.0).collect();
        let left: Vec<u64> =
            numbers.filter(|number| !have.contains(number) && !seen.contains(number)).collect();
        found.extend(self.kept(shard, &left).await?);
        Ok(found)
    }

    /// Events of these numbers that the history has gone past, as far as they are still there.
    async fn kept(&self, shard: Shard, numbers: &[u64]) -> Result<Vec<pack::Published>, QueueError> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::cmd("HMGET");
        read.arg(self.key(shard, "kept")?).arg(numbers);
        let mut reply = Reply::of("lease_events", self.call(&read).await?)?;
        let mut events = Vec::new();
        for number in numbers {
            if let Some(entry) = reply.optional_bytes()? {
                events.push(pack::Published::read(*number, entry)?);
            }
        }
        Ok(events)
    }

    /// What stands in batches of these names, as far as they are there.
    async fn read_batches(&self, shard: Shard, mut names: Reply) -> Result<Vec<pack::Published>, QueueError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (mut known_as, mut read) = (Vec::with_capacity(names.len()), redis::cmd("MGET"));
        while !names.is_empty() {
            let name = pack::BatchName::read(&names.text()?).ok_or_else(|| names.odd())?;
            read.arg(self.key(shard, &format!("e:{}", name.first))?);
            known_as.push(name);
        }
        // On the shared connection: the pool's would cost a round trip more.
        let texts = match self.inner.link.call(Way::Shared, &read).await {
            // The events are leased already, and would be left alone until the lease ends.
            Err(error) if error.is_transient() => self.inner.link.call(Way::Shared, &read).await?,
            texts => texts?,
        };
        let Value::Array(texts) = texts else { return Err(names.odd()) };
        let mut events = Vec::new();
        for (name, text) in known_as.iter().zip(texts) {
            match text {
                Value::BulkString(text) => events.append(&mut pack::read_batch(name, text)?),
                Value::Nil => {}
                _ => return Err(names.odd()),
            }
        }
        Ok(events)
    }

    /// Takes what was handed over, so many at most. What has lain for long is leased once more, as long as it still is.
    async fn take_handed(
        &self,
        shard: Shard,
        lease: Duration,
        max: usize,
    ) -> Result<Vec<LeasedEvent>, QueueError> {
        let state = self.shard(shard)?;
        let (mut events, is_stale) = state.handed().take(max, lease / LEASE_PART);
        if events.is_empty() || !is_stale {
            return Ok(events);
        }
        let leases: Vec<&Lease> = events.iter().map(|event| &event.lease).collect();
        match self.extend(shard, &leases, lease).await {
            Ok(lost) => {
                events.retain(|event| !lost.contains(&event.lease.subject));
                Ok(events)
            }
            Err(error) => {
                state.handed().put_back(events);
                Err(error)
            }
        }
    }

    /// Sees to it that what is published from now on is handed over, if somebody listens.
    async fn listen(&self, shard: Shard, state: &ShardState) -> Result<(), QueueError> {
        let Some((request, asks)) = state.handed().asks_anew() else { return Ok(()) };
        let asked_at = Instant::now();
        let answer = self.run(Way::Shared, "lease_events", &scripts::LEASE_EVENTS, shard, |command| {
            lease_arguments(command, &request, 0, &asks);
        });
        let mut reply = Reply::of("listen", answer.await?)?;
        let (now, next_end, takes) = (reply.number()?, reply.number()?, reply.small()?);
        state.handed().answered(&asks, asked_at, now, takes as usize);
        self.note(shard, now, next_end, |_| {})
    }

    /// Leases events; and tells whether the shard waits for older ones (1, or 2 if it has events).
    async fn lease_some_events(
        &self,
        shard: Shard,
        request: &LeaseEvents,
    ) -> Result<(Vec<LeasedEvent>, u64), QueueError> {
        let stream = self.key(shard, "events")?;
        let mut read_on = redis::cmd("XREADGROUP");
        read_on.arg("GROUP").arg("lease").arg("all").arg("COUNT").arg(request.max.max(1));
        read_on.arg("NOACK").arg("STREAMS").arg(&stream).arg(">");
        let state = self.shard(shard)?;
        let (asks, asked_at) = (state.handed().asks(request), Instant::now());
        let (answer, entries) = self
            .run_with(Around::After(&read_on), &scripts::LEASE_EVENTS, shard, |command| {
                lease_arguments(command, request, request.max, &asks);
            })
            .await?;
        let mut reply = Reply::of("lease_events", answer)?;
        let now = reply.number()?;
        let news = NewsId::read(&reply.text()?).ok_or_else(|| reply.odd())?;
        let next_end = reply.number()?;
        let leased_at = Timestamp::from_micros(now);
        let bytes_max = self.inner.event_bytes_max;
        let mut leased = Vec::new();
        let mut singles = reply.array()?;
        while !singles.is_empty() {
            let mut single = singles.array()?;
            let (sequence, token) = (single.count()?, single.count()?);
            let (losses, entry) = (single.small()?, single.bytes()?);
            let mut digests = single.array()?;
            let mut recorded = Vec::with_capacity(digests.len());
            while !digests.is_empty() {
                let name = format!("{sequence:012x}{}", digests.text()?);
                recorded.push(keys::delivery_id(shard, &name).ok_or_else(|| digests.odd())?);
            }
            recorded.sort_unstable();
            let event = pack::Published::read(sequence, entry)?;
            leased.push(LeasedEvent { losses, recorded, ..event.leased(token, leased_at, bytes_max) });
        }
        let mut runs = reply.array()?;
        let (born, last) = (reply.count()?, reply.count()?);
        let (gate, closed) = (reply.count()?, reply.count()?);
        // Where nothing was leased before, there may be no group; then there is nothing to read, either.
        let mut entries = if runs.is_empty() { Vec::new() } else { pack::read_entries(entries)? };
        let batches = reply.array()?;
        {
            // Before anything is waited for: what was handed over is nowhere else any more.
            let mut handed = state.handed();
            handed.read(&asks.name, reply.next()?)?;
            handed.answered(&asks, asked_at, now, 0);
        }
        let batches = self.read_batches(shard, batches).await?;
        if entries.is_empty() {
            entries = batches;
        } else if !batches.is_empty() {
            entries.extend(batches);
            entries.sort_by_key(|event| event.sequence);
        }
        let mut entries = entries.into_iter().peekable();
        let mut missing = Vec::new();
        while !runs.is_empty() {
            let mut run = runs.array()?;
            let (first, token, count) = (run.count()?, run.count()?, run.count()?);
            let last = first + count - 1;
            while entries.peek().is_some_and(|event| event.sequence.0 < first) {
                entries.next();
            }
            let mut have = 0;
            while let Some(event) = entries.next_if(|event| event.sequence.0 <= last) {
                have += 1;
                leased.push(event.leased(token, leased_at, bytes_max));
            }
            if have < count {
                missing.push((first, last, token));
            }
        }
        for (first, last, token) in &missing {
            match self.read_missing(shard, *first..=*last, &leased).await {
                Ok(found) => {
                    leased.extend(found.into_iter().map(|event| event.leased(*token, leased_at, bytes_max)));
                }
                // These come again when their lease has run out; what was read must not be lost with them.
                Err(error) if !leased.is_empty() => {
                    tracing::debug!(%error, first, last, "leased events cannot be read now");
                }
                Err(error) => return Err(error),
            }
        }
        if !missing.is_empty() {
            leased.sort_by_key(|event| event.sequence);
        }
        let all = leased.len() < request.max;
        let mut loss = None;
        self.note(shard, now, next_end, |seen| {
            loss = seen.age.look(born, last);
            if all {
                seen.events = seen.events.max(news);
            }
        })?;
        if let Some(loss) = loss {
            loss.tell(self.inner.link.name(), shard);
            state.handed().lost();
            self.tell_shards().await;
        }
        if closed > 0
            && self.layout().open().contains(&shard.0)
            && let Err(error) = self.learn().await
        {
            // What was leased must not be lost with it; the next lease tells it again.
            tracing::debug!(%error, "the number of shards cannot be read now");
        }
        Ok((leased, gate))
    }
}

impl Queue for RedisQueue {
    fn shards(&self) -> u16 {
        self.layout().count()
    }

    fn open_shards(&self) -> Range<u16> {
        self.layout().open()
    }

    fn state_shards(&self) -> u16 {
        self.layout().counts[0]
    }

    async fn publish(&self, shard: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        let known = self.known_in_older(shard, &events).await?;
        if known.is_empty() {
            return self.publish_new(shard, events).await;
        }
        let is_new = |event: &NewEvent| !known.contains_key(&event.id);
        let fresh: Vec<NewEvent> = events.iter().filter(|event| is_new(event)).cloned().collect();
        let mut published = self.publish_new(shard, fresh).await?.into_iter();
        let one = |event: &NewEvent| match known.get(&event.id) {
            Some(sequence) => Ok(Published { sequence: *sequence, duplicate: true }),
            None => published.next().ok_or_else(|| odd_answer("publish")),
        };
        events.iter().map(one).collect()
    }

    async fn lease_events(&self, shard: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        let begin = Instant::now();
        if request.max > 0 && self.shard(shard)?.handed().is_all() {
            let handed = self.take_handed(shard, request.lease, request.max).await?;
            if !handed.is_empty() {
                return Ok(handed);
            }
        }
        let mut leased = loop {
            let (leased, gate) = self.lease_some_events(shard, &request).await?;
            self.shard(shard)?.is_gated.store(gate > 0, Ordering::Relaxed);
            if gate == 0 {
                break leased;
            }
            if self.open_gate(shard).await? {
                continue;
            }
            // Not for long: whoever leases may want to stop.
            if gate == 1 || request.max == 0 || begin.elapsed() >= GATE_WAIT {
                break leased;
            }
            tokio::time::sleep(GATE_LOOK).await;
        };
        let more = if request.max == 0 { usize::MAX } else { request.max.saturating_sub(leased.len()) };
        match self.take_handed(shard, request.lease, more).await {
            Ok(handed) if handed.is_empty() => {}
            Ok(handed) => {
                leased.extend(handed);
                leased.sort_by_key(|event| event.sequence);
            }
            // They stay where they are; what was leased just now must not be lost with them.
            Err(_) if !leased.is_empty() => {}
            Err(error) => return Err(error),
        }
        Ok(leased)
    }

    async fn lease_deliveries(
        &self,
        shard: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        let answer =
            self.run(Way::Shared, "lease_deliveries", &scripts::LEASE_DELIVERIES, shard, |command| {
                command.arg(micros(request.lease)).arg(request.max).arg(request.rooms.default);
                for (endpoint, room) in &request.rooms.exceptions {
                    command.arg(keys::endpoint(*endpoint)).arg(*room);
                }
            });
        let mut reply = Reply::of("lease_deliveries", answer.await?)?;
        let now = reply.number()?;
        let news = NewsId::read(&reply.text()?).ok_or_else(|| reply.odd())?;
        let next_end = reply.number()?;
        let next_due = u64::try_from(reply.number()?).ok().map(Duration::from_micros);
        let token = reply.text()?;
        let (mut records, mut entries) = (reply.array()?, reply.array()?);
        let mut events = BTreeMap::new();
        while !entries.is_empty() {
            let event = pack::Published::read(entries.count()?, entries.bytes()?)?;
            events.insert(event.sequence, event);
        }
        let mut deliveries = Vec::with_capacity(records.len() / 2);
        let mut orders = Vec::with_capacity(records.len() / 2);
        while !records.is_empty() {
            let id = keys::delivery_id(shard, &records.text()?).ok_or_else(|| records.odd())?;
            let record = pack::unpack(&records.bytes()?)?;
            orders.push(record.order().map(str::to_owned));
            let event = events.get(&id.sequence()).ok_or_else(|| records.odd())?;
            let (rule, webhook) = (record.r.unwrap_or_default(), record.w.unwrap_or_default());
            deliveries.push(LeasedDelivery {
                lease: Lease {
                    subject: Subject::Delivery(id),
                    token: token.parse().map_err(|_| odd_answer("lease_deliveries"))?,
                },
                id,
                event_id: event.id.clone(),
                payload: event.payload.clone(),
                accepted_at: event.accepted_at,
                rule: RuleName::new(&rule).map_err(damaged)?,
                webhook: WebhookName::new(&webhook).map_err(damaged)?,
                endpoint: record.p.as_deref().and_then(keys::endpoint_id),
                attempts: record.n,
                interrupted: record.i,
                forgiven: record.g,
                since: record.c.map_or(event.accepted_at, Timestamp::from_micros),
            });
        }
        let all = deliveries.len() < request.max;
        self.note(shard, now, next_end, |seen| {
            if all {
                seen.deliveries = seen.deliveries.max(news);
            }
        })?;
        let deliveries = self.not_behind_older(shard, deliveries, orders).await?;
        Ok(LeasedDeliveries { deliveries, next_due })
    }

    async fn extend(
        &self,
        shard: Shard,
        leases: &[&Lease],
        lease: Duration,
    ) -> Result<Vec<Subject>, QueueError> {
        let answer = self.run(Way::Shared, "extend", &scripts::EXTEND, shard, |command| {
            command.arg(micros(lease));
            for held in leases {
                command.arg(member(held.subject)).arg(held.token);
            }
        });
        let Ok(answer) = tokio::time::timeout(lease / EXTEND_PART, answer).await else {
            return Err(self.inner.link.leave_shared().await);
        };
        let mut reply = Reply::of("extend", answer?)?;
        if reply.len() != leases.len() {
            return Err(reply.odd());
        }
        let mut lost = Vec::new();
        for held in leases {
            if reply.number()? == 0 {
                lost.push(held.subject);
            }
        }
        Ok(lost)
    }

    async fn settle(&self, shard: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        if settlement.is_empty() {
            return Ok(Settled::default());
        }
        // A lease of the wrong kind is lost: there is nothing it could end.
        let mut settled = Settled::default();
        let ToSettle { blocks, items } = to_settle(settlement, &mut settled);
        let arguments = |command: &mut Cmd, with_content: bool| {
            command.arg(self.inner.limits.backlog_bytes_max).arg(blocks.len());
            for block in &blocks {
                let content = if with_content { &block.content[..] } else { &[] };
                command.arg(block.token).arg(&block.name).arg(content);
                command.arg(&block.ranges).arg(block.deliveries).arg(block.said);
            }
            for item in &items {
                command.arg(item.kind).arg(&item.subject).arg(item.token).arg(&item.body);
            }
        };
        let mut answer = None;
        if blocks.iter().map(|block| block.content.len()).sum::<usize>() >= APART_MIN {
            let names = blocks.iter().map(|block| self.key(shard, &format!("f:{}", block.name)));
            let names = names.collect::<Result<Vec<_>, _>>()?;
            let store = |pipeline: &mut redis::Pipeline| {
                for (name, block) in names.iter().zip(&blocks) {
                    pipeline.cmd("SET").arg(name).arg(&block.content);
                }
            };
            let around = Around::Before(&store);
            let together =
                self.run_with(around, &scripts::SETTLE, shard, |command| arguments(command, false)).await;
            answer = match together {
                // A server without room refuses the other commands, but not the script alone, which makes room.
                Err(error) if is_out_of_memory(&error) => None,
                together => Some(together?.0),
            };
        }
        let answer = match answer {
            Some(answer) => answer,
            None => {
                self.run(Way::Shared, "settle", &scripts::SETTLE, shard, |command| arguments(command, true))
                    .await?
            }
        };
        let mut reply = Reply::of("settle", answer)?;
        let (mut leases, mut lost) = (reply.array()?, reply.array()?);
        while !leases.is_empty() {
            let id = keys::delivery_id(shard, &leases.text()?).ok_or_else(|| leases.odd())?;
            match leases.text()?.as_str() {
                "-" => settled.over.push(id),
                token => {
                    let token = token.parse().map_err(|_| leases.odd())?;
                    settled.leases.push((id, Lease { subject: Subject::Delivery(id), token }));
                }
            }
        }
        while !lost.is_empty() {
            settled.lost.push(subject(shard, &lost.text()?).ok_or_else(|| lost.odd())?);
        }
        if settled.lost.len() > 1 {
            settled.lost = in_order(settlement, &settled.lost);
        }
        Ok(settled)
    }

    async fn expire(
        &self,
        shard: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        let answer = self.run(Way::Shared, "expire", &scripts::EXPIRE, shard, |command| {
            command.arg(micros(age)).arg(after.map_or(0, |after| after.0)).arg(max.min(EXPIRE_MAX));
        });
        let mut reply = Reply::of("expire", answer.await?)?;
        Ok(Expired { dead: reply.count()?, next: u64::try_from(reply.number()?).ok().map(Sequence) })
    }

    async fn hold(
        &self,
        shard: Shard,
        endpoint: EndpointId,
        hold: Option<Duration>,
    ) -> Result<(), QueueError> {
        let answer = self.run(Way::Shared, "hold", &scripts::HOLD, shard, |command| {
            command.arg(keys::endpoint(endpoint));
            match hold {
                Some(hold) => command.arg(micros(hold)),
                None => command.arg(""),
            };
        });
        answer.await.map(drop)
    }

    async fn wait(&self, shard: Shard, timeout: Duration) -> Result<(), QueueError> {
        let state = self.shard(shard)?;
        if state.handed().is_some() || state.handed().is_closed() {
            return Ok(());
        }
        let now = Instant::now();
        let (events, deliveries, next_end, tends) = {
            let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let tends = seen.tend_at <= now;
            if tends {
                seen.tend_at = now + TEND_EVERY;
            }
            (seen.events, seen.deliveries, seen.next_end, tends)
        };
        if tends {
            self.tend(shard, TEND_STEPS).await?;
        }
        let is_gated = state.is_gated.load(Ordering::Relaxed);
        let timeout = timeout.min(if is_gated { GATED_WAIT } else { BLOCK_MAX });
        // A lease that runs out makes something available, and nobody else would tell.
        let until = next_end.map_or(now + timeout, |end| end.min(now + timeout));
        if until <= now {
            return Ok(());
        }
        let waiter = state.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
        let waiter = waiter.filter(|waiter| state.is_fit(waiter));
        let is_used = waiter.is_some();
        let mut waiter = match waiter {
            Some(waiter) => waiter,
            None => self.new_waiter(&state).await?,
        };
        let name = waiter.listens.clone();
        let listens = name.is_some();
        let mut listening = Listening(name.clone().map(|name| (&*state, name)));
        let is_open = self.open_shards().contains(&shard.0);
        let mut is_quiet = false;
        let (answer, reads) = loop {
            let mut until = until;
            let is_due = listens && is_open && !is_gated && state.handed().asks_anew().is_some();
            let looks_first = is_due && !is_quiet;
            if is_due && is_quiet {
                self.listen(shard, &state).await?;
                until = state.next_end().map_or(until, |end| end.min(until));
            }
            // It says again that it listens, and by that sees the leases of others.
            let rests_until =
                state.handed().rests_until().filter(|rests_until| listens && *rests_until < until);
            let reads = name.as_ref().and_then(|name| {
                let read_to = state.handed().read_to(name)?;
                Some((listener::stream(&state.tag, name).into_bytes(), read_to))
            });
            let block = rests_until.unwrap_or(until).saturating_duration_since(Instant::now());
            let block = if looks_first { block.min(QUIET_AFTER) } else { block };
            let command = read_news(&state.tag, is_open, (events, deliveries), reads.as_ref(), block);
            let answer = self.inner.link.wait(&mut waiter, &command, block).await;
            if !matches!(answer, Ok(Value::Nil)) || rests_until.is_none() && !looks_first {
                break (answer, reads);
            }
            is_quiet = true;
        };
        if is_open && answer.as_ref().is_err_and(is_closed) {
            self.learn().await?;
            if !self.open_shards().contains(&shard.0) {
                return Ok(());
            }
        }
        if answer.is_err() && (is_used || now.elapsed() > CUT_SOON) {
            // The connection may have been cut while nobody looked at it, or by something in between that takes it for
            // idle. Whoever waits looks for something to lease now, and finds out whether there is more to it.
            return Ok(());
        }
        if let (Value::Map(streams), Some((stream, _)), Some(name)) = (answer?, reads, &name) {
            for (key, entries) in streams {
                match key {
                    Value::BulkString(key) if key == stream => {
                        state.handed().read(name, entries)?;
                    }
                    _ => state.handed().is_not_all(),
                }
            }
        }
        listening.0 = None;
        if state.is_fit(&waiter) {
            *state.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiter);
        }
        Ok(())
    }
}

impl RedisQueue {
    /// A connection for one who waits in a shard; it listens, if there is none that does.
    async fn new_waiter(&self, state: &ShardState) -> Result<Waiter, QueueError> {
        let name = state.handed().new_name();
        let name = name.map(|name| (listener::stream(&state.tag, &name), name));
        let channel = name.as_ref().map(|(channel, name)| (channel.as_str(), name.clone()));
        let mut waiter = self.inner.link.waiter(BLOCK_MAX, channel).await?;
        waiter.listens = waiter.listens.filter(|name| state.handed().opened(name));
        Ok(waiter)
    }

    /// Waits until as many replicas have what was published as the options ask for.
    async fn wait_for_replicas(&self, shard: Shard) -> Result<(), QueueError> {
        let wanted = self.inner.wait_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let (state, key) = (self.shard(shard)?, self.key(shard, "replicas")?);
        let have = state.replicas.have(&self.inner.link, &key, wanted).await?;
        if have >= i64::from(wanted) {
            return Ok(());
        }
        let message = format!(
            "{have} of {wanted} replicas have the events (store.wait_replicas); they are stored, and publishing them \
             again by the same ids repeats nothing"
        );
        Err(unavailable(message, Some(REPLICAS_MAX), None))
    }
}
