//! Publishing and leasing events.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{EventId, Sequence, Timestamp};
use hookwire_queue::backend::EventHead;
use hookwire_queue::{Lease, LeaseEvents, LeasedEvent, NewEvent, Published, QueueError, Subject};
use rusqlite::{OptionalExtension as _, params};

use super::{EventInfo, Failure, Store};
use crate::row::delivery_id;

/// The newest event with an id; the index is ordered by id, then by sequence number.
pub(super) const FIND_ID: &str =
    "SELECT seq, accepted_at FROM events WHERE id = ?1 ORDER BY seq DESC LIMIT 1";

pub(super) const INSERT_EVENT: &str =
    "INSERT INTO events (seq, id, accepted_at, payload) VALUES (?1, ?2, ?3, ?4)";

impl Store<'_> {
    pub(crate) fn publish(&mut self, events: &Vec<NewEvent>) -> Result<Vec<Published>, Failure> {
        let pending = self.counters.pending_bytes;
        let limit = self.limits.pending_bytes_max;
        let all: u64 = events.iter().map(|event| event.payload.len() as u64).sum();
        // Only near the limit it matters how many of them are duplicates.
        if pending + all > limit {
            let more = self.new_bytes(events)?;
            if more > 0 && pending + more > limit {
                return Err(Failure::Refused(QueueError::Full { pending_bytes: pending, limit }));
            }
        }
        let mut published = Vec::with_capacity(events.len());
        for event in events {
            if let Some(sequence) = self.remembered(&event.id)? {
                published.push(Published { sequence, duplicate: true });
                continue;
            }
            let sequence = self.next_sequence();
            let values = params![sequence.0, event.id.as_str(), self.now.as_micros(), &event.payload[..]];
            self.statements.insert_event.execute(values)?;
            self.counters.pending_bytes += event.payload.len() as u64;
            self.news.events = true;
            published.push(Published { sequence, duplicate: false });
        }
        Ok(published)
    }

    /// The number of the next event.
    pub(super) fn next_sequence(&mut self) -> Sequence {
        self.counters.last_seq += 1;
        // A million events a second for nine years; beyond, delivery ids would no longer be unique.
        assert!(self.counters.last_seq <= Sequence::MAX.0, "this store has used up its sequence numbers");
        Sequence(self.counters.last_seq)
    }

    /// The number of an event whose id is still within the de-duplication window.
    fn remembered(&mut self, id: &EventId) -> rusqlite::Result<Option<Sequence>> {
        let found = self
            .statements
            .find_id
            .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((seq, accepted_at)) = found else { return Ok(None) };
        let age = self.now.saturating_since(Timestamp::from_micros(accepted_at));
        let within =
            age < self.limits.dedup_window && self.counters.last_seq - seq < self.limits.dedup_max_ids;
        Ok(within.then_some(Sequence(seq)))
    }

    /// Payload bytes of those events of a batch that are not duplicates.
    fn new_bytes(&mut self, events: &[NewEvent]) -> rusqlite::Result<u64> {
        let mut new = BTreeMap::new();
        for event in events {
            if self.remembered(&event.id)?.is_none() {
                new.entry(&event.id).or_insert(event.payload.len() as u64);
            }
        }
        Ok(new.values().sum())
    }

    /// Leases events. `stamp` was taken before the call was sent.
    pub(crate) fn lease_events(
        &mut self,
        (request, stamp): &(LeaseEvents, u64),
    ) -> Result<Vec<LeasedEvent>, Failure> {
        let mut leased = self.lease_free(request)?;
        if leased.len() < request.max && self.counters.leased_to < self.counters.last_seq {
            self.lease_fresh(request, &mut leased)?;
        }
        if leased.len() < request.max {
            self.news.looked_for_events = Some(*stamp);
        }
        Ok(leased)
    }

    /// Leases events that were leased before: they have smaller numbers than those that were not.
    fn lease_free(&mut self, request: &LeaseEvents) -> Result<Vec<LeasedEvent>, Failure> {
        let mut suspects = 0;
        let mut chosen = Vec::new();
        for (&sequence, &losses) in &self.free {
            if chosen.len() == request.max {
                break;
            }
            if losses > 0 && suspects == request.suspects_max {
                continue;
            }
            suspects += usize::from(losses > 0);
            chosen.push((sequence, losses));
        }
        let conn = self.conn;
        let mut leased = Vec::new();
        for (sequence, losses) in chosen {
            conn.prepare_cached("UPDATE unsettled SET held = 1 WHERE seq = ?1")?.execute([sequence.0])?;
            self.free.remove(&sequence);
            let mut recorded = conn.prepare_cached("SELECT seq, digest FROM deliveries WHERE seq = ?1")?;
            let recorded =
                recorded.query_map([sequence.0], |row| Ok(delivery_id(row.get(0)?, row.get(1)?)))?;
            let recorded = recorded.collect::<Result<_, _>>()?;
            let mut find =
                conn.prepare_cached("SELECT id, accepted_at, payload FROM events WHERE seq = ?1")?;
            let mut rows = find.query([sequence.0])?;
            if let Some(row) = rows.next()? {
                let event = self.lease_event(row, sequence, request.lease, false)?;
                leased.push(LeasedEvent { losses, recorded, ..event });
            }
        }
        Ok(leased)
    }

    /// Leases events that were never leased before.
    fn lease_fresh(&mut self, request: &LeaseEvents, leased: &mut Vec<LeasedEvent>) -> Result<(), Failure> {
        let conn = self.conn;
        let sql = "SELECT id, accepted_at, payload, seq FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut fresh = conn.prepare_cached(sql)?;
        let limit = i64::try_from(request.max - leased.len() + self.ahead.len()).unwrap_or(i64::MAX);
        let mut rows = fresh.query(params![self.counters.leased_to, limit])?;
        while leased.len() < request.max
            && let Some(row) = rows.next()?
        {
            let sequence = Sequence(row.get(3)?);
            self.counters.leased_to = sequence.0;
            if self.ahead.remove(&sequence) {
                conn.prepare_cached("DELETE FROM unsettled WHERE seq = ?1")?.execute([sequence.0])?;
                continue;
            }
            self.statements.insert_unsettled.execute([sequence.0])?;
            leased.push(self.lease_event(row, sequence, request.lease, true)?);
        }
        self.skip_ahead()?;
        Ok(())
    }

    /// Leases an event whose id, acceptance and payload stand in a row.
    fn lease_event(
        &mut self,
        row: &rusqlite::Row<'_>,
        sequence: Sequence,
        lease: Duration,
        fresh: bool,
    ) -> rusqlite::Result<LeasedEvent> {
        let id = EventId::new(row.get_ref(0)?.as_str()?).expect("only valid ids were written");
        let accepted_at = Timestamp::from_micros(row.get(1)?);
        let payload = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
        let head = EventHead { id: id.clone(), accepted_at, event: None, object_type: None };
        let info = EventInfo { head, bytes: payload.len() as u64, fresh };
        Ok(LeasedEvent {
            lease: self.give(Subject::Event(sequence), lease, Some(info)),
            id,
            sequence,
            payload,
            accepted_at,
            leased_at: self.now,
            losses: 0,
            recorded: Vec::new(),
            refused: None,
        })
    }

    /// Makes leases last longer; tells which are no longer held.
    pub(crate) fn extend(&mut self, (leases, by): &(Vec<Lease>, Duration)) -> Result<Vec<Subject>, Failure> {
        let lost = leases.iter().filter(|lease| !self.leases.extend(lease, self.now, *by));
        Ok(lost.map(|lease| lease.subject).collect())
    }

    pub(super) fn give(&mut self, subject: Subject, lease: Duration, info: Option<EventInfo>) -> Lease {
        // One that has run out already is there for others.
        self.news.deliveries |= lease.is_zero();
        self.leases.give(subject, self.now, lease, info)
    }

    /// Lets `leased_to` pass events that were restored as settled.
    pub(super) fn skip_ahead(&mut self) -> rusqlite::Result<()> {
        while self.ahead.first() == Some(&Sequence(self.counters.leased_to + 1)) {
            self.ahead.pop_first();
            self.counters.leased_to += 1;
            let mut delete = self.conn.prepare_cached("DELETE FROM unsettled WHERE seq = ?1")?;
            delete.execute([self.counters.leased_to])?;
        }
        Ok(())
    }

    /// The first event that is not settled.
    pub(super) fn first_unsettled(&self) -> Option<Sequence> {
        let free = self.free.keys().next().copied();
        // Events sort before deliveries.
        let leased = self.leases.iter().next().and_then(|(subject, _)| match subject {
            Subject::Event(sequence) => Some(sequence),
            Subject::Delivery(_) => None,
        });
        let fresh =
            Some(Sequence(self.counters.leased_to + 1)).filter(|next| next.0 <= self.counters.last_seq);
        free.into_iter().chain(leased).chain(fresh).min()
    }
}
