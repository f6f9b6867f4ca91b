//! Settling events and deliveries, and giving up what is too old.

use std::time::Duration;

use hookwire_model::{DeadReason, DeliveryId, DeliveryState, Sequence, Timestamp};
use hookwire_queue::backend::{EventHead, Record};
use hookwire_queue::{Expired, Fate, PackedAttempt, Settled, Subject};

use super::record::Standing;
use super::{EventInfo, Failure, RECORD_BYTES, Store};
use crate::op::{DeliveryOp, EventFateOp, EventOp, NewDeliveryOp, SettleOp, log};
use crate::row::{self, key};

impl Store<'_> {
    pub(crate) fn settle(&mut self, settlement: &SettleOp) -> Result<Settled, Failure> {
        let mut reply = Settled::default();
        for event in &settlement.events {
            self.settle_event(event, &mut reply)?;
        }
        for delivery in &settlement.deliveries {
            self.settle_delivery(delivery, &mut reply)?;
        }
        Ok(reply)
    }

    fn settle_event(&mut self, settled: &EventOp, reply: &mut Settled) -> rusqlite::Result<()> {
        let subject = settled.lease.subject;
        let Subject::Event(sequence) = subject else {
            reply.lost.push(subject);
            return Ok(());
        };
        if self.leases.repeat(settled.lease.token, reply) {
            return Ok(());
        }
        let held = self.leases.find(&settled.lease).and_then(|held| held.data.clone());
        let Some(info) = held else {
            reply.lost.push(subject);
            return self.believe(sequence, &settled.fate);
        };
        let standing = match &settled.fate {
            EventFateOp::Released => {
                let mut free = self
                    .conn
                    .prepare_cached("UPDATE unsettled SET held = 0 WHERE seq = ?1 RETURNING losses")?;
                let losses = free.query_row([sequence.0], |row| row.get(0))?;
                self.free.insert(sequence, losses);
                self.leases.end(subject);
                self.leases.remember(settled.lease.token, Vec::new());
                self.news.events = true;
                return Ok(());
            }
            EventFateOp::FannedOut { event, object_type, deliveries } => {
                let head = EventHead {
                    event: Some(event.to_string()),
                    object_type: Some(object_type.to_string()),
                    ..info.head.clone()
                };
                self.fan_out(settled, &info, &head, deliveries, reply)?
            }
            EventFateOp::Dead { id, reason, error } => {
                let record = Record::dead_event(*id, &info.head, self.now, *reason, error.clone());
                if !self.add_record(&record, None)?
                    && let Some(before) = row::load(self.conn, *id)?
                {
                    self.change_record(&before, &record)?;
                }
                self.leases.remember(settled.lease.token, Vec::new());
                None
            }
        };
        self.leases.end(subject);
        self.statements.delete_unsettled.execute([sequence.0])?;
        self.unsure.extend(self.backlog.unstall());
        self.settled += 1;
        let (standing, bytes) = match standing {
            Some(bytes) => (Standing::Closed, bytes),
            None => (self.standing(sequence)?, 0),
        };
        match standing {
            Standing::Pending => {}
            Standing::Dead => self.counters.pending_bytes -= info.bytes,
            Standing::Closed => {
                self.counters.pending_bytes -= info.bytes;
                let bytes = if bytes > 0 { bytes } else { self.history_bytes(sequence)? };
                self.counters.history_bytes += bytes;
                if sequence.0 < self.counters.history_from {
                    let sql = "INSERT INTO closed (seq, closed_at, bytes) VALUES (?1, ?2, ?3)";
                    self.conn.prepare_cached(sql)?.execute((sequence.0, self.now.as_micros(), bytes))?;
                }
            }
        }
        Ok(())
    }

    /// Puts the deliveries of an event on record. If it is known then and there that the event is finished, tells what
    /// it counts in the history.
    fn fan_out(
        &mut self,
        settled: &EventOp,
        info: &EventInfo,
        head: &EventHead,
        deliveries: &[NewDeliveryOp],
        reply: &mut Settled,
    ) -> rusqlite::Result<Option<u64>> {
        let mut given = Vec::new();
        let mut bytes = Some(info.bytes).filter(|_| info.fresh);
        for new in deliveries {
            if let Some(state) = self.add(head, new, info.bytes)? {
                if state == DeliveryState::Dead && matches!(new.fate, Fate::Waiting { .. }) {
                    given.push((new.id, None));
                    reply.over.push(new.id);
                }
                let attempts: usize = new.attempts.iter().map(|attempt| attempt.bytes().len()).sum();
                let more = RECORD_BYTES + attempts as u64;
                bytes = bytes.filter(|_| state.is_finished()).map(|bytes| bytes + more);
                if let Fate::Running { lease } = new.fate {
                    let lease = self.give(Subject::Delivery(new.id), lease, None);
                    given.push((new.id, Some(lease.token)));
                    reply.leases.push((new.id, lease));
                }
                continue;
            }
            bytes = None;
            if new.fate == Fate::Delivered
                && let Some(before) = row::load(self.conn, new.id)?
                && !before.delivery.state.is_finished()
            {
                self.end(&before, new.endpoint, &new.attempts, &new.fate)?;
            }
        }
        self.leases.remember(settled.lease.token, given);
        Ok(bytes)
    }

    /// Puts a delivery of an event with so many bytes on record and tells where it stands; `None` if it was there
    /// already.
    fn add(
        &mut self,
        head: &EventHead,
        new: &NewDeliveryOp,
        bytes: u64,
    ) -> rusqlite::Result<Option<DeliveryState>> {
        let (rule, webhook) = (new.rule.clone(), new.webhook.clone());
        let mut record = Record::fanned_out(new.id, head, rule, webhook, new.endpoint, new.order.clone());
        let mut fresh = Vec::with_capacity(new.attempts.len());
        for attempt in &new.attempts {
            if record.attempted(attempt.number, attempt.status, attempt.error.as_ref()) {
                fresh.push(attempt);
            }
        }
        let is_over = matches!(new.fate, Fate::Waiting { .. })
            && new.endpoint.is_some_and(|endpoint| {
                self.backlog.size(endpoint).bytes + bytes > self.limits.backlog_bytes_max
            });
        let dead = Fate::Dead { reason: DeadReason::BacklogLimit, error: None };
        let fate = if is_over { &dead } else { &new.fate };
        record.settle(self.now, !new.attempts.is_empty(), fate);
        let state = record.delivery.state;
        // One row in place of two where nothing will be added to it, unless a person asks for it to be sent again.
        let inline = if state.is_finished() { log(&fresh) } else { None };
        if !self.add_record(&record, inline.as_deref())? {
            return Ok(None);
        }
        if !state.is_finished() {
            for attempt in fresh {
                self.add_attempt(new.id, attempt)?;
            }
        }
        Ok(Some(state))
    }

    fn add_attempt(&self, id: DeliveryId, attempt: &PackedAttempt) -> rusqlite::Result<()> {
        let (seq, digest) = key(id);
        let sql = "INSERT INTO attempts (seq, digest, number, record) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = self.conn.prepare_cached(sql)?;
        statement.execute((seq, digest, attempt.number, attempt.bytes())).map(drop)
    }

    /// An event's lease was lost; what it says was delivered is believed all the same (S3).
    fn believe(&mut self, sequence: Sequence, fate: &EventFateOp) -> rusqlite::Result<()> {
        let EventFateOp::FannedOut { event, object_type, deliveries } = fate else { return Ok(()) };
        let Some(head) = self.event_head(sequence, event, object_type)? else { return Ok(()) };
        for new in deliveries.iter().filter(|new| new.fate == Fate::Delivered) {
            let standing = self.standing(sequence)?;
            let bytes = self.history_bytes(sequence)?;
            if self.add(&head, new, 0)?.is_some() {
                if standing == Standing::Closed {
                    self.grew(sequence, bytes)?;
                }
            } else if let Some(before) = row::load(self.conn, new.id)?
                && !before.delivery.state.is_finished()
            {
                self.end(&before, new.endpoint, &new.attempts, &new.fate)?;
            }
        }
        Ok(())
    }

    /// A finished event got one more delivery on record.
    fn grew(&mut self, sequence: Sequence, before: u64) -> rusqlite::Result<()> {
        let more = self.history_bytes(sequence)?.saturating_sub(before);
        self.counters.history_bytes += more;
        let sql = "UPDATE closed SET bytes = bytes + ?2 WHERE seq = ?1";
        self.conn.prepare_cached(sql)?.execute((sequence.0, more)).map(drop)
    }

    fn event_head(
        &self,
        sequence: Sequence,
        event: &str,
        object_type: &str,
    ) -> rusqlite::Result<Option<EventHead>> {
        let sql = "SELECT id, accepted_at FROM events WHERE seq = ?1 AND payload IS NOT NULL";
        let mut find = self.conn.prepare_cached(sql)?;
        let mut rows = find.query([sequence.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(EventHead {
            id: hookwire_model::EventId::new(row.get_ref(0)?.as_str()?).expect("only valid ids were written"),
            accepted_at: Timestamp::from_micros(row.get(1)?),
            event: Some(event.to_owned()),
            object_type: Some(object_type.to_owned()),
        }))
    }

    /// Gives up waiting deliveries that are too old (B3).
    pub(crate) fn expire(
        &mut self,
        (age, after, max): &(Duration, Option<Sequence>, usize),
    ) -> Result<Expired, Failure> {
        let mut expired = Expired::default();
        let mut old = Vec::new();
        {
            let sql = "SELECT d.seq, d.digest, e.accepted_at, ifnull(d.since, d.created_at), d.state FROM deliveries d \
                       JOIN events e ON e.seq = d.seq WHERE d.state <= 2 AND d.state = 0 AND d.seq > ?1 \
                       ORDER BY d.seq, d.digest";
            let mut waiting = self.conn.prepare_cached(sql)?;
            let mut rows = waiting.query([after.map_or(0, |after| after.0)])?;
            let is_old = |at: i64| self.now.saturating_since(Timestamp::from_micros(at)) >= *age;
            let mut looked = 0;
            while let Some(row) = rows.next()? {
                let sequence = Sequence(row.get(0)?);
                if looked >= *max && expired.next != Some(sequence) || !is_old(row.get(2)?) {
                    break;
                }
                looked += 1;
                expired.next = Some(sequence);
                if is_old(row.get(3)?) {
                    old.push(row::delivery_id(row.get(0)?, row.get(1)?));
                }
            }
            expired.next = expired.next.filter(|_| looked >= *max);
        }
        for id in old {
            // The end of one before it may have superseded it.
            if let Some(before) = row::load(self.conn, id)?
                && before.delivery.state == DeliveryState::Waiting
            {
                let mut after = before.clone();
                after.settle(self.now, false, &Fate::Dead { reason: DeadReason::BacklogLimit, error: None });
                self.change_record(&before, &after)?;
                expired.dead += 1;
            }
        }
        Ok(expired)
    }

    fn settle_delivery(&mut self, settled: &DeliveryOp, reply: &mut Settled) -> rusqlite::Result<()> {
        let subject = settled.lease.subject;
        let Subject::Delivery(id) = subject else {
            reply.lost.push(subject);
            return Ok(());
        };
        if self.leases.repeat(settled.lease.token, reply) {
            return Ok(());
        }
        let held = self.leases.find(&settled.lease).is_some();
        let before = if held || settled.fate == Fate::Delivered { row::load(self.conn, id)? } else { None };
        let Some(before) = before.filter(|before| held || !before.delivery.state.is_finished()) else {
            reply.lost.push(subject);
            return Ok(());
        };
        self.end(&before, settled.endpoint, &settled.attempts, &settled.fate)?;
        let mut given = Vec::new();
        if let Fate::Running { lease } = settled.fate {
            let lease = self.give(subject, lease, None);
            given.push((id, Some(lease.token)));
            reply.leases.push((id, lease));
        }
        self.leases.remember(settled.lease.token, given);
        Ok(())
    }

    /// Ends a lease on a delivery on record, whoever holds it.
    fn end(
        &mut self,
        before: &Record,
        endpoint: Option<hookwire_model::EndpointId>,
        attempts: &[PackedAttempt],
        fate: &Fate,
    ) -> rusqlite::Result<()> {
        let id = before.delivery.id;
        self.leases.end(Subject::Delivery(id));
        let mut after = before.clone();
        after.delivery.endpoint = endpoint.or(after.delivery.endpoint);
        for attempt in attempts {
            if after.attempted(attempt.number, attempt.status, attempt.error.as_ref()) {
                self.add_attempt(id, attempt)?;
            }
        }
        after.settle(self.now, !attempts.is_empty(), fate);
        self.change_record(before, &after)
    }
}
