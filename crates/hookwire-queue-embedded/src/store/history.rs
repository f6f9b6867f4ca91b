//! Letting go of what is finished and old, in small steps.
//!
//! Invariant: nothing pending and no dead letter is ever let go, nor an event of which any delivery is on record.

use hookwire_model::{Sequence, Timestamp};
use rusqlite::OptionalExtension as _;

use super::Store;
use super::record::Standing;

/// A finished event that is next to be let go.
struct Candidate {
    sequence: Sequence,
    closed_at: Timestamp,
    /// Whether it was found by its number, not in `closed`.
    by_number: bool,
}

/// After so many settled events the history is looked after, in steps that keep up with them.
const SETTLED_MAX: usize = 64;

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
        let mut more = false;
        for step in 0.. {
            if step == steps {
                more = true;
                break;
            }
            if !self.let_go()? {
                break;
            }
        }
        Ok(self.forget_ids(steps)? || more)
    }

    /// Lets go of the oldest finished event, if it is too old, or too much is kept.
    fn let_go(&mut self) -> rusqlite::Result<bool> {
        let is_full = self.counters.history_bytes > self.limits.history_bytes_max;
        if !is_full && self.now < self.quiet_until {
            return Ok(false);
        }
        let candidate = self.oldest()?;
        // What is finished from now on is too old no earlier than that.
        let closed_at = candidate.as_ref().map_or(self.now, |candidate| candidate.closed_at);
        let Some(candidate) = candidate
            .filter(|_| is_full || self.now.saturating_since(closed_at) >= self.limits.history_age_max)
        else {
            self.quiet_until = closed_at.saturating_add(self.limits.history_age_max);
            return Ok(false);
        };
        let sequence = candidate.sequence;
        let conn = self.conn;
        let bytes = self.history_bytes(sequence)?;
        let mut states = conn.prepare_cached("DELETE FROM deliveries WHERE seq = ?1 RETURNING state")?;
        let mut rows = states.query([sequence.0])?;
        while let Some(row) = rows.next()? {
            let state: usize = row.get(0)?;
            self.counters.deliveries[state] -= 1;
        }
        conn.prepare_cached("DELETE FROM attempts WHERE seq = ?1")?.execute([sequence.0])?;
        let sql = if sequence.0 <= self.counters.forgotten_to {
            "DELETE FROM events WHERE seq = ?1"
        } else {
            "UPDATE events SET payload = NULL WHERE seq = ?1"
        };
        conn.prepare_cached(sql)?.execute([sequence.0])?;
        if candidate.by_number {
            self.counters.history_from = sequence.0 + 1;
        } else {
            conn.prepare_cached("DELETE FROM closed WHERE seq = ?1")?.execute([sequence.0])?;
        }
        self.counters.history_bytes = self.counters.history_bytes.saturating_sub(bytes);
        Ok(true)
    }

    /// The finished event that was finished first: the first in `closed`, or the first by number that was finished at
    /// its first settlement.
    fn oldest(&mut self) -> rusqlite::Result<Option<Candidate>> {
        let conn = self.conn;
        let mut first =
            conn.prepare_cached("SELECT seq, closed_at FROM closed ORDER BY closed_at, seq LIMIT 1")?;
        let closed =
            first.query_row([], |row| Ok((Sequence(row.get(0)?), Timestamp::from_micros(row.get(1)?))));
        let closed = closed.optional()?.map(|(sequence, closed_at)| Candidate {
            sequence,
            closed_at,
            by_number: false,
        });
        let by_number = self.first_by_number()?;
        Ok(match (closed, by_number) {
            (Some(closed), Some(other)) if closed.closed_at <= other.closed_at => Some(closed),
            (closed, None) => closed,
            (_, other) => other,
        })
    }

    fn first_by_number(&mut self) -> rusqlite::Result<Option<Candidate>> {
        let conn = self.conn;
        let unsettled = self.first_unsettled().map_or(u64::MAX, |sequence| sequence.0);
        let sql = "SELECT seq, accepted_at, payload IS NULL, EXISTS (SELECT 1 FROM closed WHERE closed.seq = events.seq), \
                   (SELECT max(finished_at) FROM deliveries WHERE deliveries.seq = events.seq) \
                   FROM events WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT 64";
        let end = i64::try_from(unsettled).unwrap_or(i64::MAX);
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query((self.counters.history_from, end))?;
        while let Some(row) = rows.next()? {
            let sequence = Sequence(row.get(0)?);
            let (gone, in_closed): (bool, bool) = (row.get(2)?, row.get(3)?);
            if !gone && !in_closed && self.standing(sequence)? == Standing::Closed {
                let finished: Option<i64> = row.get(4)?;
                let closed_at = Timestamp::from_micros(finished.unwrap_or(row.get(1)?));
                return Ok(Some(Candidate { sequence, closed_at, by_number: true }));
            }
            // Passed for good: it comes into `closed` as soon as it is finished.
            self.counters.history_from = sequence.0 + 1;
        }
        Ok(None)
    }

    /// Forgets ids that are out of the de-duplication window.
    fn forget_ids(&mut self, steps: usize) -> rusqlite::Result<bool> {
        let conn = self.conn;
        let sql = "SELECT seq, accepted_at, payload IS NULL FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = conn.prepare_cached(sql)?;
        let limit = i64::try_from(steps).unwrap_or(i64::MAX);
        let mut rows = statement.query((self.counters.forgotten_to, limit))?;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            let seq: u64 = row.get(0)?;
            let age = self.now.saturating_since(Timestamp::from_micros(row.get(1)?));
            let within =
                age < self.limits.dedup_window && self.counters.last_seq - seq < self.limits.dedup_max_ids;
            if within {
                return Ok(false);
            }
            if row.get(2)? {
                conn.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([seq])?;
            }
            self.counters.forgotten_to = seq;
            done += 1;
        }
        Ok(done == steps)
    }
}
