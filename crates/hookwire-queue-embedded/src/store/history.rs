//! Letting go of what is finished and old, in small steps.
//!
//! There are two rows to take from: events that were finished at their first settlement, by number, as many at once as
//! may go; and the others, which stand in `closed`, one by one. The older of the two goes first.
//!
//! Invariant: nothing pending and no dead letter is ever let go, nor an event of which any delivery is on record.

use hookwire_model::{Sequence, Timestamp};
use rusqlite::OptionalExtension as _;

use super::{RECORD_BYTES, Store};

/// After so many settled events the history is looked after, in steps that keep up with them.
const SETTLED_MAX: usize = 64;

/// What may be let go by number.
#[derive(Debug, Default)]
struct ByNumber {
    /// The first one and the one after the last.
    begin: u64,
    end: u64,
    bytes: u64,
    /// Deliveries by state.
    deliveries: [u64; 6],
    /// When the first one was finished that is not to be let go, if that is what ended the search.
    kept: Option<Timestamp>,
}

impl Store<'_> {
    /// Looks after the history as often as events are settled.
    pub(crate) fn tend_as_settled(&mut self) -> rusqlite::Result<()> {
        if self.settled >= SETTLED_MAX {
            let steps = 2 * std::mem::take(&mut self.settled);
            self.tend(steps)?;
        }
        Ok(())
    }

    /// Lets go of up to `steps` events, and forgets up to as many ids; tells whether there is more to do.
    pub(crate) fn tend(&mut self, steps: usize) -> rusqlite::Result<bool> {
        let mut left = steps;
        while left > 0 {
            let gone = self.let_go(left)?;
            if gone == 0 {
                break;
            }
            left -= gone;
        }
        Ok(self.forget_ids(steps)? || left == 0)
    }

    /// Whether an event that was finished then has to go, if so many bytes are kept.
    fn is_over(&self, closed_at: Timestamp, bytes: u64) -> bool {
        bytes > self.limits.history_bytes_max
            || self.now.saturating_since(closed_at) >= self.limits.history_age_max
    }

    /// Lets go of the oldest finished events that are too old or too much, at most so many; tells how many.
    fn let_go(&mut self, max: usize) -> rusqlite::Result<usize> {
        if self.counters.history_bytes <= self.limits.history_bytes_max && self.now < self.quiet_until {
            return Ok(0);
        }
        let passed = self.pass(max)?;
        if passed == max {
            return Ok(passed);
        }
        let sql = "SELECT seq, closed_at FROM closed ORDER BY closed_at, seq LIMIT 1";
        let mut first = self.conn.prepare_cached(sql)?;
        let closed = first.query_row([], |row| Ok((row.get(0)?, Timestamp::from_micros(row.get(1)?))));
        let closed: Option<(u64, Timestamp)> = closed.optional()?;
        let found = self.find_by_number(max, closed.map(|(_, closed_at)| closed_at))?;
        if found.begin < found.end {
            let count = found.end - found.begin;
            self.remove(&found)?;
            self.counters.history_from = found.end;
            return Ok(count as usize);
        }
        if let Some((sequence, closed_at)) = closed
            && self.is_over(closed_at, self.counters.history_bytes)
        {
            self.remove_closed(sequence)?;
            return Ok(1);
        }
        // What is finished from now on is too old no earlier than that.
        let oldest = closed.map(|(_, closed_at)| closed_at).into_iter().chain(found.kept).min();
        self.quiet_until = oldest.unwrap_or(self.now).saturating_add(self.limits.history_age_max);
        Ok(0)
    }

    /// Finds what may be let go by number; nothing that was finished after `closed`.
    fn find_by_number(&mut self, max: usize, closed: Option<Timestamp>) -> rusqlite::Result<ByNumber> {
        let conn = self.conn;
        let begin = self.counters.history_from;
        let fresh = self.counters.leased_to + 1;
        let end = self.next_obstacle()?.unwrap_or(fresh).min(fresh).min(begin.saturating_add(max as u64));
        let mut found = ByNumber { begin, end: begin, ..ByNumber::default() };
        if begin >= end {
            return Ok(found);
        }
        let sql = "SELECT seq, state, finished_at, ?3 + ifnull(length(log), 0) FROM deliveries \
                   WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
        let mut statement = conn.prepare_cached(sql)?;
        let mut deliveries = statement.query((begin, end, RECORD_BYTES))?;
        let mut delivery = deliveries.next()?;
        let sql = "SELECT seq, accepted_at, ifnull(length(payload), 0) FROM events WHERE seq >= ?1 AND seq < ?2 \
                   ORDER BY seq";
        let mut statement = conn.prepare_cached(sql)?;
        let mut events = statement.query((begin, end))?;
        loop {
            let Some(event) = events.next()? else {
                // Whatever is missing at the end went by way of `closed`.
                found.end = end;
                break;
            };
            let (seq, mut closed_at, mut bytes): (u64, i64, u64) =
                (event.get(0)?, event.get(1)?, event.get(2)?);
            let mut states = [0; 6];
            while let Some(row) = delivery
                && row.get::<_, u64>(0)? == seq
            {
                states[row.get::<_, usize>(1)?] += 1;
                closed_at = closed_at.max(row.get::<_, Option<i64>>(2)?.unwrap_or(0));
                bytes += row.get::<_, u64>(3)?;
                delivery = deliveries.next()?;
            }
            let closed_at = Timestamp::from_micros(closed_at);
            let left = self.counters.history_bytes.saturating_sub(found.bytes);
            if !self.is_over(closed_at, left) || closed.is_some_and(|other| other < closed_at) {
                found.kept = Some(closed_at);
                break;
            }
            found.end = seq + 1;
            found.bytes += bytes;
            for (sum, count) in found.deliveries.iter_mut().zip(states) {
                *sum += count;
            }
        }
        Ok(found)
    }

    /// Passes for good up to so many events that are not finished, or stand in `closed`: `closed` has them, or will.
    fn pass(&mut self, max: usize) -> rusqlite::Result<usize> {
        for passed in 0..max {
            let from = self.counters.history_from;
            if from > self.counters.leased_to || self.next_obstacle()? != Some(from) {
                return Ok(passed);
            }
            // One that a worker is about to finish is worth waiting for, which spares it the row in `closed`.
            if self.is_unsettled(Sequence(from)) {
                let mut find = self.conn.prepare_cached("SELECT accepted_at FROM events WHERE seq = ?1")?;
                let accepted_at = Timestamp::from_micros(find.query_row([from], |row| row.get(0))?);
                if !self.is_over(accepted_at, self.counters.history_bytes) {
                    return Ok(passed);
                }
            }
            self.counters.history_from += 1;
        }
        Ok(max)
    }

    /// The first event by number that is not settled, has unfinished deliveries, or stands in `closed`.
    fn next_obstacle(&self) -> rusqlite::Result<Option<u64>> {
        let sql = "SELECT min(seq) FROM (SELECT min(seq) AS seq FROM closed WHERE seq >= ?1 \
                   UNION ALL SELECT min(seq) FROM unsettled WHERE seq >= ?1 \
                   UNION ALL SELECT min(seq) FROM deliveries WHERE state <= 2 AND state = 0 AND seq >= ?1 \
                   UNION ALL SELECT min(seq) FROM deliveries WHERE state <= 2 AND state = 1 AND seq >= ?1 \
                   UNION ALL SELECT min(seq) FROM deliveries WHERE state <= 2 AND state = 2 AND seq >= ?1)";
        self.conn.prepare_cached(sql)?.query_row([self.counters.history_from], |row| row.get(0))
    }

    /// Removes events that were finished at their first settlement, with their deliveries.
    fn remove(&mut self, found: &ByNumber) -> rusqlite::Result<()> {
        let conn = self.conn;
        let range = (found.begin, found.end - 1);
        // Some have attempts of their own: what was believed of a lost lease was settled before they were.
        let sql = "SELECT ifnull(sum(?3 + length(record)), 0) FROM attempts WHERE seq BETWEEN ?1 AND ?2";
        let mut attempts = conn.prepare_cached(sql)?;
        let attempts: u64 = attempts.query_row((range.0, range.1, RECORD_BYTES), |row| row.get(0))?;
        if attempts > 0 {
            conn.prepare_cached("DELETE FROM attempts WHERE seq BETWEEN ?1 AND ?2")?.execute(range)?;
        }
        conn.prepare_cached("DELETE FROM deliveries WHERE seq BETWEEN ?1 AND ?2")?.execute(range)?;
        self.drop_events(range.0, range.1)?;
        for (count, gone) in self.counters.deliveries.iter_mut().zip(found.deliveries) {
            *count -= gone;
        }
        self.counters.history_bytes = self.counters.history_bytes.saturating_sub(found.bytes + attempts);
        Ok(())
    }

    /// Removes an event that stands in `closed`, with its deliveries.
    fn remove_closed(&mut self, seq: u64) -> rusqlite::Result<()> {
        let conn = self.conn;
        let bytes = self.history_bytes(Sequence(seq))?;
        let mut states = conn.prepare_cached("DELETE FROM deliveries WHERE seq = ?1 RETURNING state")?;
        let mut rows = states.query([seq])?;
        while let Some(row) = rows.next()? {
            self.counters.deliveries[row.get::<_, usize>(0)?] -= 1;
        }
        conn.prepare_cached("DELETE FROM attempts WHERE seq = ?1")?.execute([seq])?;
        conn.prepare_cached("DELETE FROM closed WHERE seq = ?1")?.execute([seq])?;
        self.drop_events(seq, seq)?;
        self.counters.history_bytes = self.counters.history_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Drops events, or of those whose ids must be remembered the payload.
    fn drop_events(&self, first: u64, last: u64) -> rusqlite::Result<()> {
        let forgotten = self.counters.forgotten_to;
        if first <= forgotten {
            let mut delete = self.conn.prepare_cached("DELETE FROM events WHERE seq BETWEEN ?1 AND ?2")?;
            delete.execute((first, last.min(forgotten)))?;
        }
        if last > forgotten {
            let sql = "UPDATE events SET payload = NULL WHERE seq BETWEEN ?1 AND ?2";
            self.conn.prepare_cached(sql)?.execute((first.max(forgotten + 1), last))?;
        }
        Ok(())
    }

    /// Forgets up to so many ids that are out of the de-duplication window; tells whether there may be more.
    fn forget_ids(&mut self, steps: usize) -> rusqlite::Result<bool> {
        let conn = self.conn;
        let sql = "SELECT seq, accepted_at FROM events WHERE seq > ?1 ORDER BY seq";
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query([self.counters.forgotten_to])?;
        let begin = self.counters.forgotten_to;
        let mut end = begin;
        let mut more = false;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            let seq: u64 = row.get(0)?;
            let age = self.now.saturating_since(Timestamp::from_micros(row.get(1)?));
            if age < self.limits.dedup_window && self.counters.last_seq - seq < self.limits.dedup_max_ids {
                break;
            }
            if done == steps {
                more = true;
                break;
            }
            done += 1;
            end = seq;
        }
        if end > begin {
            let sql = "DELETE FROM events WHERE seq > ?1 AND seq <= ?2 AND payload IS NULL";
            conn.prepare_cached(sql)?.execute((begin, end))?;
            self.counters.forgotten_to = end;
        }
        Ok(more)
    }
}
