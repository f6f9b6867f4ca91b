//! What people and other stores ask for: retry, cancel, redrive, purge, restore; endpoint states and holds.

use bytes::Bytes;
use hookwire_model::{DeliveryId, EndpointId, Timestamp};
use hookwire_queue::backend::{Acted, Record, next_endpoint_version};
use hookwire_queue::{Change, Changed, EndpointRecord, PackedAttempt, PendingItem, PutEndpoint, QueueError};
use rusqlite::{OptionalExtension as _, params};
use std::time::Duration;

use super::record::Standing;
use super::{Failure, Store};
use crate::row::{self, SHARD, key};

/// What is written to find out whether there is room: some large events.
const TRIED_BYTES: u32 = 64 * 1024;

impl Store<'_> {
    /// Acts on these deliveries, each of which is named once.
    pub(crate) fn change(
        &mut self,
        (change, ids, dry_run): &(Change, Vec<DeliveryId>, bool),
    ) -> Result<Changed, Failure> {
        let mut changed = Changed::default();
        for &id in ids {
            let Some(before) = row::load(self.conn, id)? else {
                changed.unknown.push(id);
                continue;
            };
            let mut after = before.clone();
            match after.act(*change, self.now) {
                Acted::Unfit => {
                    changed.unfit.push((id, before.delivery.state));
                    continue;
                }
                _ if *dry_run => {}
                Acted::Changed => self.change_record(&before, &after)?,
                Acted::Removed => self.remove_record(&before)?,
                Acted::EventBack => self.put_back(&before)?,
            }
            changed.changed += 1;
        }
        Ok(changed)
    }

    /// Puts the event of a dead letter back into the queue (S7).
    fn put_back(&mut self, dead: &Record) -> rusqlite::Result<()> {
        let sequence = dead.delivery.id.sequence();
        let standing = self.standing(sequence)?;
        if self.ahead.remove(&sequence) {
            // It gets its turn after those before it, as one that was never leased.
            let sql = "DELETE FROM unsettled WHERE seq = ?1";
            self.conn.prepare_cached(sql)?.execute([sequence.0])?;
        } else {
            let sql = "INSERT INTO unsettled (seq, losses, held) VALUES (?1, 0, 0)";
            self.conn.prepare_cached(sql)?.execute([sequence.0])?;
            self.free.insert(sequence, 0);
        }
        self.restand(sequence, standing)?;
        self.news.events = true;
        self.remove_record(dead)
    }

    pub(crate) fn restore(&mut self, items: &Vec<PendingItem>) -> Result<u64, Failure> {
        let mut new = 0;
        for item in items {
            new += u64::from(self.restore_item(item)?);
        }
        self.skip_ahead()?;
        Ok(new)
    }

    fn restore_item(&mut self, item: &PendingItem) -> Result<bool, Failure> {
        let conn = self.conn;
        let event = &item.event;
        // Another event may have had the id, long enough before or after to be no duplicate.
        let known = (event.id.as_str(), event.accepted_at.as_micros());
        if conn.prepare_cached("SELECT 1 FROM events WHERE id = ?1 AND accepted_at = ?2")?.exists(known)? {
            return Ok(false);
        }
        let sequence = self.next_sequence();
        let sql = "INSERT INTO events (seq, id, accepted_at, payload) VALUES (?1, ?2, ?3, ?4)";
        let values =
            params![sequence.0, event.id.as_str(), event.accepted_at.as_micros(), &event.payload[..]];
        conn.prepare_cached(sql)?.execute(values)?;
        self.counters.pending_bytes += event.payload.len() as u64;
        if event.queued {
            self.news.events = true;
            return Ok(true);
        }
        self.ahead.insert(sequence);
        let sql = "INSERT INTO unsettled (seq, losses, held) VALUES (?1, 0, 2)";
        conn.prepare_cached(sql)?.execute([sequence.0])?;
        for pending in &item.deliveries {
            let record = Record::restored(SHARD, sequence, pending, self.now);
            self.add_record(&record, None)?;
            let (seq, digest) = key(record.delivery.id);
            for attempt in &pending.attempts {
                let sql =
                    "INSERT OR IGNORE INTO attempts (seq, digest, number, record) VALUES (?1, ?2, ?3, ?4)";
                conn.prepare_cached(sql)?.execute((
                    seq,
                    digest,
                    attempt.number,
                    PackedAttempt::from(attempt).bytes(),
                ))?;
            }
        }
        self.restand(sequence, Standing::Pending)?;
        Ok(true)
    }

    /// Finds out whether events could be stored now: writes as much as some of them need, and takes it back. It is the
    /// commit, with its wait for the disk, that tells.
    pub(crate) fn try_writing(&mut self) -> Result<(), Failure> {
        let (pending_bytes, limit) = (self.counters.pending_bytes, self.limits.pending_bytes_max);
        if pending_bytes >= limit {
            return Err(Failure::Refused(QueueError::Full { pending_bytes, limit }));
        }
        // Without an id, SQLite takes one that nobody has.
        let sql = "INSERT INTO endpoints (id, version, state) VALUES (NULL, 0, zeroblob(?1))";
        self.conn.prepare_cached(sql)?.execute([TRIED_BYTES])?;
        let id = self.conn.last_insert_rowid();
        self.conn.prepare_cached("DELETE FROM endpoints WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    pub(crate) fn put_endpoint(
        &mut self,
        (id, expected, state): &(EndpointId, u64, Bytes),
    ) -> Result<PutEndpoint, Failure> {
        let column = id.as_u64() as i64;
        let mut find = self.conn.prepare_cached("SELECT version, state FROM endpoints WHERE id = ?1")?;
        let found = find.query_row([column], |row| {
            let state: Vec<u8> = row.get(1)?;
            Ok(EndpointRecord { id: *id, version: row.get(0)?, state: state.into() })
        });
        let found = found.optional()?;
        let version = found.as_ref().map_or(0, |record| record.version);
        if version != *expected {
            return Ok(PutEndpoint::Conflict(found));
        }
        if state.is_empty() {
            self.conn.prepare_cached("DELETE FROM endpoints WHERE id = ?1")?.execute([column])?;
            return Ok(PutEndpoint::Written(0));
        }
        let version = next_endpoint_version(version, self.now);
        let sql = "INSERT INTO endpoints (id, version, state) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (id) DO UPDATE SET version = ?2, state = ?3";
        self.conn.prepare_cached(sql)?.execute((column, version, &state[..]))?;
        Ok(PutEndpoint::Written(version))
    }

    pub(crate) fn hold(&mut self, (endpoint, hold): &(EndpointId, Option<Duration>)) -> Result<(), Failure> {
        let column = endpoint.as_u64() as i64;
        let until: Option<Timestamp> = hold.map(|hold| self.now.saturating_add(hold));
        match until {
            Some(until) => {
                let sql = "INSERT INTO holds (endpoint, until) VALUES (?1, ?2) \
                           ON CONFLICT (endpoint) DO UPDATE SET until = ?2";
                self.conn.prepare_cached(sql)?.execute((column, until.as_micros()))?;
            }
            None => {
                self.conn.prepare_cached("DELETE FROM holds WHERE endpoint = ?1")?.execute([column])?;
            }
        }
        self.backlog.hold(*endpoint, until);
        self.news.deliveries = true;
        Ok(())
    }
}
