//! Changing a delivery's row, with everything that follows from it.

use std::sync::Arc;

use hookwire_model::{DeliveryId, DeliveryState, Sequence};
use hookwire_queue::Subject;
use hookwire_queue::backend::Record;

use super::{RECORD_BYTES, Store};
use crate::row::{self, key};

/// What an event counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is to be fanned out, or a delivery of it waits or runs.
    Pending,
    /// It has dead letters and nothing pending.
    Dead,
    /// Nothing is left to do.
    Closed,
}

/// What a delivery makes its event count for.
fn class(state: DeliveryState) -> Standing {
    match state {
        DeliveryState::Waiting | DeliveryState::Running => Standing::Pending,
        DeliveryState::Dead => Standing::Dead,
        DeliveryState::Delivered | DeliveryState::Cancelled | DeliveryState::Superseded => Standing::Closed,
    }
}

impl Store<'_> {
    /// Adds a delivery that fan-out made, or that was restored as unfinished; `false` if it is on record already. The caller brings its event's standing up to date.
    pub(super) fn add_record(&mut self, record: &Record, log: Option<&[u8]>) -> rusqlite::Result<bool> {
        let is_new = if record.delivery.state == DeliveryState::Delivered && record.order.is_none() {
            row::insert_delivered(&mut self.statements.insert_delivered, record, log)?
        } else {
            let mut statement = self.conn.prepare_cached(row::INSERT)?;
            row::insert(&mut statement, record, log)?
        };
        if !is_new {
            return Ok(false);
        }
        *self.counters.count(record.delivery.state) += 1;
        if record.delivery.state == DeliveryState::Waiting {
            self.begins_to_wait(record)?;
        }
        self.placed(record)?;
        Ok(true)
    }

    /// Changes a delivery, and brings its event's standing up to date.
    pub(super) fn change_record(&mut self, before: &Record, after: &Record) -> rusqlite::Result<()> {
        let sequence = after.delivery.id.sequence();
        let (was, is) = (before.delivery.state, after.delivery.state);
        // The common change, from waiting to running and back, makes no difference to the event.
        let standing = if class(was) == class(is) { None } else { Some(self.standing(sequence)?) };
        self.rewrite(after)?;
        *self.counters.count(was) -= 1;
        *self.counters.count(is) += 1;
        if was == DeliveryState::Waiting {
            self.waits_no_longer(before)?;
        }
        if is == DeliveryState::Waiting {
            self.begins_to_wait(after)?;
        }
        if let Some(standing) = standing {
            self.restand(sequence, standing)?;
        }
        self.placed(after)
    }

    fn rewrite(&self, record: &Record) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare_cached(row::UPDATE)?;
        row::update(&mut statement, record)
    }

    /// Removes a delivery, and brings its event's standing up to date.
    pub(super) fn remove_record(&mut self, record: &Record) -> rusqlite::Result<()> {
        let id = record.delivery.id;
        let standing = self.standing(id.sequence())?;
        let mut delete = self.conn.prepare_cached("DELETE FROM attempts WHERE seq = ?1 AND digest = ?2")?;
        delete.execute(key(id))?;
        let mut delete = self.conn.prepare_cached("DELETE FROM deliveries WHERE seq = ?1 AND digest = ?2")?;
        delete.execute(key(id))?;
        *self.counters.count(record.delivery.state) -= 1;
        if record.delivery.state == DeliveryState::Waiting {
            self.waits_no_longer(record)?;
        }
        self.restand(id.sequence(), standing)?;
        if let Some(order) = &record.order {
            self.reorder(&order.key)?;
        }
        Ok(())
    }

    /// Its backlog has one more.
    fn begins_to_wait(&mut self, record: &Record) -> rusqlite::Result<()> {
        if record.delivery.endpoint.is_some() {
            let bytes = self.payload_bytes(record.delivery.id.sequence())?;
            self.backlog.grow(record.delivery.endpoint, bytes);
        }
        Ok(())
    }

    /// Its backlog has one less, and is to be looked at again.
    fn waits_no_longer(&mut self, record: &Record) -> rusqlite::Result<()> {
        self.unsure.insert(record.delivery.endpoint);
        if record.delivery.endpoint.is_some() {
            let bytes = self.payload_bytes(record.delivery.id.sequence())?;
            self.backlog.shrink(record.delivery.endpoint, bytes);
        }
        Ok(())
    }

    /// How long the payload of an event is that is pending.
    fn payload_bytes(&self, sequence: Sequence) -> rusqlite::Result<u64> {
        let mut size = self.conn.prepare_cached("SELECT length(payload) FROM events WHERE seq = ?1")?;
        size.query_row([sequence.0], |row| row.get(0))
    }

    /// A delivery was written: its backlog and its order take note.
    fn placed(&mut self, record: &Record) -> rusqlite::Result<()> {
        if let Some(due) = record.delivery.next_attempt_at {
            self.news.deliveries = true;
            if !record.in_order() {
                self.backlog.add(record.delivery.endpoint, due);
            }
        }
        match &record.order {
            Some(order) => self.reorder(&order.key),
            None => Ok(()),
        }
    }

    /// Lets the first of an order go, and nobody else; where it gives way, those it gives way to (O1, O3).
    pub(super) fn reorder(&mut self, order: &Arc<str>) -> rusqlite::Result<()> {
        self.news.deliveries = true;
        let sql = "SELECT seq, digest, blocked, state FROM deliveries WHERE in_order = 1 AND order_key = ?1 \
                   ORDER BY seq, digest LIMIT 2";
        let mut first_two = self.conn.prepare_cached(sql)?;
        let two = first_two.query_map([&**order], |row| {
            Ok((row::delivery_id(row.get(0)?, row.get(1)?), row.get::<_, bool>(2)?, row.get::<_, i64>(3)?))
        })?;
        let two: Vec<_> = two.collect::<Result<_, _>>()?;
        if let [(first, ..), _] = two[..]
            && let Some(first) = row::load(self.conn, first)?
            && first.gives_way()
        {
            return self.give_way(order);
        }
        // One that was sent again stands before those that went on without it, of which one may be running.
        let one_runs = two.len() == 2 && self.runs_behind_first(order, two[0].0)?;
        for (place, (id, blocked, _)) in two.into_iter().enumerate() {
            let should_block = place > 0 || one_runs;
            if blocked != should_block {
                let sql =
                    "UPDATE deliveries SET blocked = ?3 WHERE seq = ?1 AND digest = ?2 RETURNING endpoint";
                let (seq, digest) = key(id);
                let mut update = self.conn.prepare_cached(sql)?;
                let endpoint =
                    update.query_row((seq, digest, should_block), |row| row.get::<_, Option<i64>>(0))?;
                self.unsure.insert(row::endpoint_id(endpoint));
            }
        }
        Ok(())
    }

    /// Whether another than the first of an order is leased.
    fn runs_behind_first(&self, order: &Arc<str>, first: DeliveryId) -> rusqlite::Result<bool> {
        // By those that are leased, which are few: an order may have any number behind its first.
        let sql = "SELECT 1 FROM deliveries INDEXED BY unfinished WHERE state <= 2 AND state = 1 AND in_order = 1 \
                   AND order_key = ?1 AND (seq, digest) > (?2, ?3) LIMIT 1";
        let (seq, digest) = key(first);
        self.conn.prepare_cached(sql)?.exists((&**order, seq, digest))
    }

    /// Ends as superseded all that wait in an order but the newest.
    fn give_way(&mut self, order: &Arc<str>) -> rusqlite::Result<()> {
        let sql = "SELECT seq, digest FROM deliveries WHERE in_order = 1 AND order_key = ?1 AND state = 0 \
                   ORDER BY seq, digest";
        let mut waiting = self.conn.prepare_cached(sql)?;
        let waiting = waiting.query_map([&**order], |row| Ok(row::delivery_id(row.get(0)?, row.get(1)?)))?;
        let mut passed: Vec<_> = waiting.collect::<Result<_, _>>()?;
        passed.pop();
        // The first goes last: while it is there each of the others would look at the order in vain.
        passed.reverse();
        for id in passed {
            if let Some(before) = row::load(self.conn, id)? {
                let mut after = before.clone();
                after.supersede(self.now);
                let standing = self.standing(id.sequence())?;
                self.rewrite(&after)?;
                *self.counters.count(DeliveryState::Waiting) -= 1;
                *self.counters.count(DeliveryState::Superseded) += 1;
                self.waits_no_longer(&before)?;
                self.restand(id.sequence(), standing)?;
            }
        }
        self.reorder(order)
    }

    /// Whether an event is still to be fanned out.
    pub(super) fn is_unsettled(&self, sequence: Sequence) -> bool {
        let fresh = sequence.0 > self.counters.leased_to && !self.ahead.contains(&sequence);
        fresh || self.free.contains_key(&sequence) || self.leases.of(Subject::Event(sequence)).is_some()
    }

    /// What an event counts for now.
    pub(super) fn standing(&self, sequence: Sequence) -> rusqlite::Result<Standing> {
        if self.is_unsettled(sequence) {
            return Ok(Standing::Pending);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state <= 2 AND state = 0 AND seq = ?1) \
                   OR EXISTS (SELECT 1 FROM deliveries WHERE state <= 2 AND state = 1 AND seq = ?1), \
                   EXISTS (SELECT 1 FROM deliveries WHERE state <= 2 AND state = 2 AND seq = ?1)";
        let mut exists = self.conn.prepare_cached(sql)?;
        let (pending, dead) = exists.query_row([sequence.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(match (pending, dead) {
            (true, _) => Standing::Pending,
            (false, true) => Standing::Dead,
            (false, false) => Standing::Closed,
        })
    }

    /// Brings the sums over pending and finished events up to date, after the standing of one changed from `before`.
    pub(super) fn restand(&mut self, sequence: Sequence, before: Standing) -> rusqlite::Result<()> {
        let after = self.standing(sequence)?;
        if before == after {
            return Ok(());
        }
        let conn = self.conn;
        let payload = self.payload_bytes(sequence)?;
        match before {
            Standing::Pending => self.counters.pending_bytes -= payload,
            Standing::Closed => {
                let sql = "DELETE FROM closed WHERE seq = ?1 RETURNING bytes";
                let mut reopen = conn.prepare_cached(sql)?;
                let bytes =
                    rusqlite::OptionalExtension::optional(reopen.query_row([sequence.0], |row| row.get(0)))?;
                // One that was finished at its first settlement has no row; nothing of it has changed since.
                let bytes = match bytes {
                    Some(bytes) => bytes,
                    None => self.history_bytes(sequence)?,
                };
                self.counters.history_bytes = self.counters.history_bytes.saturating_sub(bytes);
            }
            Standing::Dead => {}
        }
        match after {
            Standing::Pending => self.counters.pending_bytes += payload,
            Standing::Closed => {
                let bytes = self.history_bytes(sequence)?;
                let sql = "INSERT INTO closed (seq, closed_at, bytes) VALUES (?1, ?2, ?3)";
                conn.prepare_cached(sql)?.execute((sequence.0, self.now.as_micros(), bytes))?;
                self.counters.history_bytes += bytes;
            }
            Standing::Dead => {}
        }
        Ok(())
    }

    /// What an event and its deliveries count in the history.
    pub(super) fn history_bytes(&self, sequence: Sequence) -> rusqlite::Result<u64> {
        let sql = "SELECT (SELECT ifnull(length(payload), 0) FROM events WHERE seq = ?1) \
                   + (SELECT ifnull(sum(?2 + ifnull(length(log), 0)), 0) FROM deliveries WHERE seq = ?1) \
                   + (SELECT ifnull(sum(?2 + length(record)), 0) FROM attempts WHERE seq = ?1)";
        self.conn.prepare_cached(sql)?.query_row((sequence.0, RECORD_BYTES), |row| row.get(0))
    }
}
