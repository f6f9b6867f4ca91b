//! How many shards a store has, and what changing that takes.
//!
//! The key `{hw:shards}` lists how many were made at each time, with blanks between; they are numbered through, and the
//! last ones take new events. `1 3`: shard 0 was made first, and 1 to 3 took its place.
//!
//! Invariants:
//! - Each step of a change may be repeated, by anybody: whoever opens the store completes what another began.
//! - Nothing is published to a new shard before all older ones are closed, so its numbers are greater than all of theirs.
//! - Events of new shards are leased only when those of all older ones are fanned out, and a delivery that keeps to an
//!   order only when no older shard has something unfinished of that order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hookwire_model::WaitingReason;
use hookwire_model::{EventId, Sequence, Shard};
use hookwire_queue::{Fate, LeasedDelivery, NewEvent, Queue as _, QueueError, SettledDelivery, Settlement};
use redis::Value;
use tokio::time::Instant;

use crate::error::{damaged, odd_answer};
use crate::link::{Link, Way};
use crate::queue::ShardState;
use crate::reply::Reply;
use crate::{RedisOptions, RedisQueue, keys, scripts};

/// How long a shard that had nothing unfinished is not asked again: only a person gives it something.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// When older shards that could not be asked are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The shards of a store.
pub(crate) struct Layout {
    /// How many were made at each time; never empty.
    pub(crate) counts: Vec<u16>,
    pub(crate) shards: Vec<Arc<ShardState>>,
}

impl Layout {
    /// With what is known of shards already.
    pub(crate) fn new(prefix: &str, counts: Vec<u16>, known: &[Arc<ShardState>]) -> Result<Self, QueueError> {
        let total = counts.iter().try_fold(0u16, |sum, count| sum.checked_add(*count));
        let total = total.filter(|total| *total > 0);
        let total =
            total.ok_or_else(|| damaged(format!("{} lists too many shards", keys::shards(prefix))))?;
        let state = |number: u16| {
            let known = known.get(usize::from(number)).map(Arc::clone);
            known.unwrap_or_else(|| Arc::new(ShardState::new(prefix, number)))
        };
        Ok(Layout { counts, shards: (0..total).map(state).collect() })
    }

    pub(crate) fn count(&self) -> u16 {
        self.counts.iter().sum()
    }

    /// Those that take new events.
    pub(crate) fn open(&self) -> Range<u16> {
        self.count() - self.counts.last().copied().unwrap_or(0)..self.count()
    }

    /// Those that were made before a shard, and not together with it.
    fn older(&self, shard: Shard) -> Range<u16> {
        let mut begin = 0;
        for count in &self.counts {
            if shard.0 < begin + count {
                break;
            }
            begin += count;
        }
        0..begin
    }
}

/// What the key lists; nothing, if it is not there.
async fn read(link: &Link, prefix: &str) -> Result<Option<(String, Vec<u16>)>, QueueError> {
    let key = keys::shards(prefix);
    let mut get = redis::cmd("GET");
    get.arg(&key);
    match link.call(Way::Shared, &get).await? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => {
            let text = String::from_utf8(bytes).unwrap_or_default();
            let counts: Option<Vec<u16>> =
                text.split(' ').map(|count| count.parse().ok().filter(|count| *count > 0)).collect();
            let counts = counts.ok_or_else(|| damaged(format!("{key} does not list numbers of shards")))?;
            Ok(Some((text, counts)))
        }
        _ => Err(odd_answer("GET")),
    }
}

/// How many shards a store has. One that does not tell yet has as many as are asked for, and tells so from now on; one
/// that has another number is given new ones, if that is asked for.
pub(crate) async fn settle(link: &Link, options: &RedisOptions) -> Result<Vec<u16>, QueueError> {
    let (key, asked) = (keys::shards(&options.prefix), options.shards.max(1));
    loop {
        let Some((text, mut counts)) = read(link, &options.prefix).await? else {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(asked).arg("NX");
            // A server that takes no writes at the moment is no reason not to look at what it holds: the next one who
            // opens the store writes it.
            if link.call(Way::Shared, &set).await.is_err() {
                return Ok(vec![asked]);
            }
            continue;
        };
        let last = counts.last().copied().unwrap_or(0);
        if last == asked || !options.changes_shards {
            return Ok(counts);
        }
        let write = |command: &mut redis::Cmd| {
            command.arg(&text).arg(format!("{text} {asked}"));
        };
        counts.push(asked);
        Layout::new(&options.prefix, counts.clone(), &[])?;
        if link.run(Way::Shared, &scripts::LAYOUT, &key, write).await? == Value::Int(1) {
            tracing::warn!(
                before = last,
                now = asked,
                "the number of shards is changed; new events go to new shards, after what waits in the old ones"
            );
            // Once: where two ask for two numbers, the later one stays.
            return Ok(counts);
        }
    }
}

impl RedisQueue {
    /// Has a store that lost its data tell again how many shards there are, so that whoever opens it next goes by the same
    /// ones as those who run.
    pub(crate) async fn tell_shards(&self) {
        let counts: Vec<String> = self.layout().counts.iter().map(u16::to_string).collect();
        let mut set = redis::cmd("SET");
        set.arg(keys::shards(&self.inner.prefix)).arg(counts.join(" ")).arg("NX");
        // The next one who opens the store writes it, if this fails.
        let _ = self.call(&set).await;
    }

    /// Reads how many shards there are now, and completes a change.
    pub(crate) async fn learn(&self) -> Result<(), QueueError> {
        let _learning = self.inner.learning.lock().await;
        let Some((_, counts)) = read(&self.inner.link, &self.inner.prefix).await? else { return Ok(()) };
        let known = self.layout();
        if counts != known.counts && counts.starts_with(&known.counts) {
            let learnt = Arc::new(Layout::new(&self.inner.prefix, counts, &known.shards)?);
            tracing::info!(shards = learnt.counts.last(), "the number of shards was changed");
            self.complete_as(&learnt).await?;
        }
        Ok(())
    }

    /// Completes a change of the number of shards, where there was one.
    pub(crate) async fn complete(&self) -> Result<(), QueueError> {
        self.complete_as(&self.layout()).await
    }

    async fn complete_as(&self, layout: &Arc<Layout>) -> Result<(), QueueError> {
        // The scripts below find the new shards there; nobody publishes to them before the last step.
        let open = layout.open();
        let mut begun = true;
        for number in open.clone() {
            let mut get = redis::cmd("HGET");
            get.arg(format!("{}meta", keys::tag(&self.inner.prefix, Shard(number)))).arg("floor");
            begun &= self.call(&get).await? != Value::Nil;
        }
        if !begun && open.start > 0 {
            let mut last = 0;
            for number in 0..open.start {
                last = last.max(self.close(layout, Shard(number)).await?.0);
            }
            for number in open {
                let command = |command: &mut redis::Cmd| {
                    command.arg(last);
                };
                self.run_at(layout, &scripts::BEGIN, Shard(number), command).await?;
            }
        }
        *self.inner.layout.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(layout);
        Ok(())
    }

    async fn run_at(
        &self,
        layout: &Layout,
        script: &scripts::Script,
        shard: Shard,
        arguments: impl Fn(&mut redis::Cmd),
    ) -> Result<Value, QueueError> {
        let meta = &layout.shards[usize::from(shard.0)].meta;
        let all = |command: &mut redis::Cmd| {
            self.inner.common(command);
            arguments(command);
        };
        self.inner.link.run(Way::Shared, script, meta, all).await
    }

    /// Has a shard take nothing new. Tells its last number, and whether it has events that are not fanned out.
    async fn close(&self, layout: &Layout, shard: Shard) -> Result<(u64, bool), QueueError> {
        loop {
            let mut reply = Reply::of("close", self.run_at(layout, &scripts::CLOSE, shard, |_| {}).await?)?;
            let (last, pending, more) = (reply.count()?, reply.count()?, reply.count()?);
            if more == 0 {
                return Ok((last, pending > 0));
            }
        }
    }

    /// Lets the events of a shard go if those of all older ones are fanned out; tells whether it did.
    pub(crate) async fn open_gate(&self, shard: Shard) -> Result<bool, QueueError> {
        let layout = self.layout();
        for older in layout.older(shard) {
            // One that lost its data is closed again by this.
            if self.close(&layout, Shard(older)).await?.1 {
                return Ok(false);
            }
        }
        self.run_at(&layout, &scripts::OPEN, shard, |_| {}).await?;
        Ok(true)
    }

    /// The events that an older shard still recognises, with their numbers there.
    pub(crate) async fn known_in_older(
        &self,
        shard: Shard,
        events: &[NewEvent],
    ) -> Result<BTreeMap<EventId, Sequence>, QueueError> {
        let (layout, mut known) = (self.layout(), BTreeMap::new());
        for older in layout.older(shard) {
            let state = &layout.shards[usize::from(older)];
            if events.is_empty() || state.ids_over.load(Ordering::Relaxed) {
                continue;
            }
            let ids = |command: &mut redis::Cmd| {
                for event in events {
                    command.arg(event.id.as_str());
                }
            };
            let answer = self.run_at(&layout, &scripts::KNOWN, Shard(older), ids).await?;
            let mut reply = Reply::of("known", answer)?;
            state.ids_over.store(reply.count()? == 1, Ordering::Relaxed);
            for event in events {
                let number = reply.count()?;
                if number > 0 {
                    known.insert(event.id.clone(), Sequence(number));
                }
            }
        }
        Ok(known)
    }

    /// Those of leased deliveries before which nothing of their order is unfinished in an older shard. The others are put
    /// back, until it is worth asking again; and so are all with an order while older shards cannot be asked.
    pub(crate) async fn not_behind_older(
        &self,
        shard: Shard,
        deliveries: Vec<LeasedDelivery>,
        orders: Vec<Option<String>>,
    ) -> Result<Vec<LeasedDelivery>, QueueError> {
        let layout = self.layout();
        if layout.older(shard).is_empty() || orders.iter().all(Option::is_none) {
            return Ok(deliveries);
        }
        let asked: Vec<&String> = orders.iter().flatten().collect();
        let waits = match self.waits_for_older(shard, &asked).await {
            Ok(waits) => waits,
            Err(error) if error.is_transient() => vec![Some(ASK_AGAIN); asked.len()],
            Err(error) => return Err(error),
        };
        let mut waits = waits.into_iter();
        let (mut free, mut back) = (Vec::with_capacity(deliveries.len()), Settlement::default());
        for (delivery, order) in deliveries.into_iter().zip(&orders) {
            match order.as_ref().and_then(|_| waits.next().flatten()) {
                None => free.push(delivery),
                Some(due_in) => back.deliveries.push(SettledDelivery {
                    lease: delivery.lease,
                    endpoint: delivery.endpoint,
                    attempts: Vec::new(),
                    fate: Fate::Waiting { due_in, reason: WaitingReason::Order },
                }),
            }
        }
        if !back.is_empty()
            && let Err(error) = self.settle(shard, &back).await
        {
            // They come again when their leases have run out; those that are free need not wait for that.
            tracing::debug!(deliveries = back.deliveries.len(), %error, "could not be put back");
        }
        Ok(free)
    }

    /// How long each of the orders has to wait for what older shards have of it; `None`: they have nothing.
    async fn waits_for_older(
        &self,
        shard: Shard,
        orders: &[&String],
    ) -> Result<Vec<Option<Duration>>, QueueError> {
        let layout = self.layout();
        let mut waits = vec![None; orders.len()];
        for older in layout.older(shard) {
            let state = &layout.shards[usize::from(older)];
            let quiet_until = *state.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
            if quiet_until.is_some_and(|until| Instant::now() < until) {
                continue;
            }
            let names = |command: &mut redis::Cmd| {
                for order in orders {
                    command.arg(order.as_str());
                }
            };
            let answer = self.run_at(&layout, &scripts::OLDER, Shard(older), names).await?;
            let mut reply = Reply::of("older", answer)?;
            if reply.count()? == 0 {
                let until = Instant::now() + QUIET_FOR;
                *state.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
            }
            for wait in &mut waits {
                *wait = (*wait).max(u64::try_from(reply.number()?).ok().map(Duration::from_micros));
            }
        }
        Ok(waits)
    }
}
