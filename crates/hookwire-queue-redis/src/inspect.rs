//! The handle: the looking and acting side of the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{
    Attempt, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, Sequence, Shard, Timestamp,
};
use hookwire_queue::backend::Record;
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, EventState, Inspect,
    PendingDelivery, PendingEvent, PendingItem, PutEndpoint, QueueError, ScanPage, Selection, Stats,
    StoredEvent,
};
use redis::Value;

use crate::error::odd_answer;
use crate::link::Way;
use crate::pack::{self, Published, state_of};
use crate::reply::Reply;
use crate::{RedisQueue, keys, scripts};

/// So many events are looked at in one step of a list: about a millisecond of the server's time.
const WALK_STEP: usize = 200;
/// So many deliveries are changed in one step.
const CHANGES_MAX: usize = 200;
/// So many events come with one step of a scan, or go with one of restoring, lest their payloads block the server.
const SCAN_MAX: usize = 500;
const RESTORE_MAX: usize = 100;

/// An event with its deliveries, as a script tells of it.
struct Row {
    event: Published,
    state: EventState,
    losses: u32,
    deliveries: Vec<(Record, Vec<Attempt>)>,
}

fn row(shard: Shard, mut reply: Reply) -> Result<Row, QueueError> {
    let sequence = reply.count()?;
    let state = match reply.text()?.as_str() {
        "-" => EventState::FannedOut,
        "l" => EventState::Leased,
        _ => EventState::Queued,
    };
    let (losses, value) = (reply.small()?, reply.bytes()?);
    let event = Published::read(sequence, reply.bytes()?)?;
    let mut parts = reply.array()?;
    let mut deliveries = Vec::new();
    if value.first() == Some(&b'F') {
        deliveries = pack::first_settlement(shard, &event, &value)?;
    }
    while !parts.is_empty() {
        let id = keys::delivery_id(shard, &parts.text()?).ok_or_else(|| parts.odd())?;
        let (record, held) = (pack::unpack(&parts.bytes()?)?, parts.number()? == 1);
        let mut attempts = parts.array()?;
        let mut log = Vec::with_capacity(attempts.len());
        while !attempts.is_empty() {
            log.push(pack::attempt(&attempts.bytes()?)?);
        }
        log.sort_by_key(|attempt| attempt.number);
        deliveries.push((record.into_record(id, &event, held)?, log));
    }
    deliveries.sort_by_key(|(record, _)| record.delivery.id);
    Ok(Row { event, state, losses, deliveries })
}

impl RedisQueue {
    /// Settled events from a number downwards, and the number to go on with.
    async fn walk(
        &self,
        shard: Shard,
        source: &str,
        from: u64,
        count: usize,
    ) -> Result<(Option<u64>, Vec<Row>), QueueError> {
        let answer = self.run(Way::Pooled, "walk", &scripts::WALK, shard, |command| {
            command.arg(source).arg(from).arg(count);
        });
        let mut reply = Reply::of("walk", answer.await?)?;
        let next = u64::try_from(reply.number()?).ok().filter(|next| *next > 0);
        let mut parts = reply.array()?;
        let mut rows = Vec::with_capacity(parts.len());
        while !parts.is_empty() {
            rows.push(row(shard, parts.array()?)?);
        }
        Ok((next, rows))
    }

    /// Events by number, whole.
    async fn show(&self, shard: Shard, numbers: &[u64]) -> Result<Vec<Row>, QueueError> {
        let answer = self.run(Way::Pooled, "show", &scripts::SHOW, shard, |command| {
            for number in numbers {
                command.arg(*number);
            }
        });
        let mut reply = Reply::of("show", answer.await?)?;
        let mut rows = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            rows.push(row(shard, reply.array()?)?);
        }
        Ok(rows)
    }

    /// The numbers under which an event id is known, the newest first.
    async fn find(&self, shard: Shard, id: &EventId) -> Result<Vec<u64>, QueueError> {
        let answer = self.run(Way::Pooled, "find", &scripts::FIND, shard, |command| {
            command.arg(id.as_str());
        });
        let mut reply = Reply::of("find", answer.await?)?;
        let mut numbers = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            numbers.push(reply.count()?);
        }
        Ok(numbers)
    }

    /// Hands all deliveries that match to `take`, newest first, until it has enough.
    async fn matching(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        states: &[DeliveryState],
        mut take: impl FnMut(Delivery) -> bool,
    ) -> Result<(), QueueError> {
        let mut offer = |rows: Vec<Row>| {
            let mut deliveries = rows.into_iter().flat_map(|row| row.deliveries.into_iter().rev());
            deliveries.all(|(record, _)| {
                let delivery = record.delivery;
                let fits = before.is_none_or(|before| delivery.id < before)
                    && states.contains(&delivery.state)
                    && filter.matches(&delivery);
                !fits || take(delivery)
            })
        };
        let begin = before.map_or(Sequence::MAX.0, |before| before.sequence().0);
        if let Some(id) = &filter.event_id {
            let mut numbers = self.find(shard, id).await?;
            numbers.retain(|number| *number <= begin);
            offer(self.show(shard, &numbers).await?);
            return Ok(());
        }
        // Unfinished ones have indexes.
        let is_open =
            |state: &DeliveryState| matches!(state, DeliveryState::Waiting | DeliveryState::Running);
        let source = match states {
            [] => return Ok(()),
            [DeliveryState::Dead] => "dead",
            states if states.iter().all(is_open) => "open",
            _ => "all",
        };
        let mut next = Some(begin);
        while let Some(from) = next {
            let (further, rows) = self.walk(shard, source, from, WALK_STEP).await?;
            next = further;
            if !offer(rows) {
                break;
            }
        }
        Ok(())
    }
}

/// The states that a filter lets through.
fn states(filter: &DeliveryFilter) -> Vec<DeliveryState> {
    let fits = |state: &DeliveryState| filter.state.is_none_or(|wanted| wanted == *state);
    DeliveryState::ALL.iter().copied().filter(fits).collect()
}

impl Inspect for RedisQueue {
    async fn list(
        &self,
        shard: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        let mut items = Vec::new();
        // One more tells whether there is a next page.
        let take = |delivery| {
            items.push(delivery);
            items.len() <= limit
        };
        self.matching(shard, filter, before, &states(filter), take).await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last: &Delivery| last.id);
        Ok(DeliveryPage { items, next })
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        if id.shard().0 >= hookwire_queue::Queue::shards(self) {
            return Ok(None);
        }
        let rows = self.show(id.shard(), &[id.sequence().0]).await?;
        let mut deliveries = rows.into_iter().flat_map(|row| row.deliveries);
        let found = deliveries.find(|(record, _)| record.delivery.id == id);
        Ok(found.map(|(record, log)| Delivery { attempt_log: Some(log), ..record.delivery }))
    }

    async fn event(&self, shard: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        let mut numbers = self.find(shard, id).await?;
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        for number in numbers {
            let Some(row) = self.show(shard, &[number]).await?.pop() else { continue };
            return Ok(Some(StoredEvent {
                id: row.event.id,
                sequence: row.event.sequence,
                payload: row.event.payload,
                accepted_at: row.event.accepted_at,
                state: row.state,
                losses: row.losses,
                deliveries: row.deliveries.into_iter().map(|(record, _)| record.delivery).collect(),
            }));
        }
        Ok(None)
    }

    async fn stats(&self, shard: Shard) -> Result<Stats, QueueError> {
        let answer = self.run(Way::Pooled, "stats", &scripts::STATS, shard, |_| {});
        let mut reply = Reply::of("stats", answer.await?)?;
        reply.number()?;
        Ok(Stats {
            events_queued: reply.count()?,
            events_leased: reply.count()?,
            waiting: reply.count()?,
            running: reply.count()?,
            dead: reply.count()?,
            delivered: reply.count()?,
            cancelled: reply.count()?,
            superseded: reply.count()?,
            oldest_pending_at: Some(reply.number()?).filter(|at| *at >= 0).map(Timestamp::from_micros),
            pending_bytes: reply.count()?,
            history_bytes: reply.count()?,
            dedup_ids: reply.count()?,
            dedup_window_ms: reply.count()? / 1000,
        })
    }

    async fn ready(&self, shard: Shard) -> Result<(), QueueError> {
        // Looking is possible where nothing can be stored. This writes nothing, and is refused where writing would be.
        let mut command = redis::cmd("SETRANGE");
        command.arg(self.key(shard, "probe")?).arg(0).arg("");
        self.call(&command).await?;
        let pending_bytes = self.stats(shard).await?.pending_bytes;
        let limit = self.inner.limits.pending_bytes_max;
        if pending_bytes >= limit { Err(QueueError::Full { pending_bytes, limit }) } else { Ok(()) }
    }

    async fn change(
        &self,
        shard: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        let mut all = Changed::default();
        let (ids, by_id) = match selection {
            Selection::Ids(ids) => {
                let mut seen = BTreeSet::new();
                (ids.iter().copied().filter(|id| seen.insert(*id)).collect(), true)
            }
            Selection::Filter(filter) => {
                let mut states = states(filter);
                states.retain(|state| change.applies_to(*state));
                let mut ids = Vec::new();
                let take = |delivery: Delivery| {
                    ids.push(delivery.id);
                    true
                };
                self.matching(shard, filter, None, &states, take).await?;
                ids.reverse();
                (ids, false)
            }
        };
        if dry_run && !by_id {
            all.changed = ids.len() as u64;
            return Ok(all);
        }
        let word = match change {
            Change::Retry => "retry",
            Change::Cancel => "cancel",
            Change::Redrive => "redrive",
            Change::Purge => "purge",
        };
        for ids in ids.chunks(CHANGES_MAX) {
            let answer = self.run(Way::Pooled, "change", &scripts::CHANGE, shard, |command| {
                command.arg(word).arg(u8::from(dry_run));
                for id in ids {
                    command.arg(keys::delivery(*id));
                }
            });
            let mut reply = Reply::of("change", answer.await?)?;
            for id in ids {
                match reply.text()?.as_str() {
                    "!" => all.changed += 1,
                    "?" if by_id => all.unknown.push(*id),
                    state if by_id => all.unfit.push((*id, state_of(state)?)),
                    _ => {}
                }
            }
        }
        Ok(all)
    }

    async fn endpoint(&self, shard: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.key(shard, "endpoints")?).arg(keys::endpoint(id));
        match self.call(&command).await? {
            Value::Nil => Ok(None),
            Value::BulkString(value) => {
                endpoint_record(id, value).map(Some).ok_or_else(|| odd_answer("HGET"))
            }
            _ => Err(odd_answer("HGET")),
        }
    }

    async fn endpoints(&self, shard: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.key(shard, "endpoints")?);
        let mut reply = Reply::of("HGETALL", self.call_for_endpoints(shard, &command).await?)?;
        let mut records = Vec::with_capacity(reply.len() / 2);
        while !reply.is_empty() {
            let id = keys::endpoint_id(&reply.text()?).ok_or_else(|| reply.odd())?;
            records.push(endpoint_record(id, reply.bytes()?).ok_or_else(|| reply.odd())?);
        }
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    async fn backlogs(&self, shard: Shard) -> Result<Vec<Backlog>, QueueError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.key(shard, "backlogs")?);
        let mut reply = Reply::of("HGETALL", self.call(&command).await?)?;
        let mut backlogs = BTreeMap::new();
        while !reply.is_empty() {
            let (name, count) = (reply.text()?, reply.count()?);
            let place = name.strip_suffix('+');
            let endpoint = keys::endpoint_id(place.unwrap_or(&name)).ok_or_else(|| reply.odd())?;
            let backlog = backlogs.entry(endpoint).or_insert(Backlog { endpoint, deliveries: 0, bytes: 0 });
            match place {
                Some(_) => backlog.bytes = count,
                None => backlog.deliveries = count,
            }
        }
        Ok(backlogs.into_values().collect())
    }

    async fn put_endpoint(
        &self,
        shard: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        let answer = self.run(Way::Shared, "put_endpoint", &scripts::PUT_ENDPOINT, shard, |command| {
            command.arg(keys::endpoint(id)).arg(expected).arg(&state[..]);
        });
        let mut reply = Reply::of("put_endpoint", answer.await?)?;
        if reply.number()? == 1 {
            return Ok(PutEndpoint::Written(reply.count()?));
        }
        let present = reply.bytes()?;
        if present.is_empty() {
            return Ok(PutEndpoint::Conflict(None));
        }
        Ok(PutEndpoint::Conflict(Some(endpoint_record(id, present).ok_or_else(|| reply.odd())?)))
    }

    async fn scan(
        &self,
        shard: Shard,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<ScanPage, QueueError> {
        let mut page = ScanPage::default();
        let mut after = after.map_or(0, |after| after.0);
        loop {
            let step = SCAN_MAX.min(limit - page.items.len());
            let answer = self.run(Way::Pooled, "scan", &scripts::SCAN, shard, |command| {
                command.arg(after).arg(step);
            });
            let mut reply = Reply::of("scan", answer.await?)?;
            let now = Timestamp::from_micros(reply.number()?);
            let more = reply.number()? == 1;
            let mut rows = reply.array()?;
            while !rows.is_empty() {
                let row = row(shard, rows.array()?)?;
                after = row.event.sequence.0;
                page.items.push(pending(row, now));
            }
            if !more || page.items.len() >= limit {
                page.next = (more && !page.items.is_empty()).then_some(Sequence(after));
                return Ok(page);
            }
        }
    }

    async fn restore(&self, shard: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        let mut new = 0;
        for items in items.chunks(RESTORE_MAX) {
            let answer = self.run(Way::Pooled, "restore", &scripts::RESTORE, shard, |command| {
                for PendingItem { event, deliveries } in items {
                    command.arg(event.id.as_str()).arg(&event.payload[..]).arg(event.accepted_at.as_micros());
                    command.arg(u8::from(event.queued)).arg(pack::restored(deliveries));
                }
            });
            match answer.await? {
                Value::Int(count) => new += count.unsigned_abs(),
                _ => return Err(odd_answer("restore")),
            }
        }
        Ok(new)
    }
}

fn endpoint_record(id: EndpointId, value: Vec<u8>) -> Option<EndpointRecord> {
    let end = value.iter().position(|byte| *byte == b' ')?;
    let version = std::str::from_utf8(&value[..end]).ok()?.parse().ok()?;
    Some(EndpointRecord { id, version, state: Bytes::from(value).slice(end + 1..) })
}

fn pending(row: Row, now: Timestamp) -> PendingItem {
    let queued = row.state != EventState::FannedOut;
    let unfinished =
        row.deliveries.into_iter().filter(|(record, _)| !queued && !record.delivery.state.is_finished());
    let deliveries = unfinished.map(|(record, attempts)| PendingDelivery {
        due_in: record.delivery.next_attempt_at.map_or(Duration::ZERO, |due| due.saturating_since(now)),
        delivery: record.delivery,
        order: record.order,
        forgiven: record.forgiven,
        since: record.since,
        attempts,
    });
    PendingItem {
        deliveries: deliveries.collect(),
        event: PendingEvent {
            id: row.event.id,
            payload: row.event.payload,
            accepted_at: row.event.accepted_at,
            queued,
        },
    }
}
