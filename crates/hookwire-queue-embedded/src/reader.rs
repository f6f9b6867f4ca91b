//! Looking: lists, single deliveries and events, counts, scans. Read beside the writer, which they do not hold up.
//!
//! Invariant: each answer is read from one state of the store, that of a commit.

use std::ops::ControlFlow;
use std::sync::mpsc::Receiver;

use hookwire_model::{Delivery, DeliveryId, DeliveryState, EndpointId, EventId, Sequence, Timestamp};
use hookwire_queue::backend::Record;
use hookwire_queue::{
    Backlog, Change, DeliveryFilter, DeliveryPage, EndpointRecord, EventState, PendingDelivery, PendingEvent,
    PendingItem, ScanPage, Stats, StoreLimits, StoredEvent,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use crate::row::{self, COLUMNS, delivery_id, key, state_code};
use crate::store::Counters;

/// A question, and what to do with the answer.
pub(crate) type Question = Box<dyn FnOnce(&Connection) + Send>;

/// Runs until it is told to end, or nobody can ask any more.
pub(crate) fn run(conn: Connection, questions: &Receiver<ControlFlow<(), Question>>) {
    while let Ok(ControlFlow::Continue(question)) = questions.recv() {
        question(&conn);
    }
}

/// Reads within one transaction: all of an answer comes from one state of the store.
pub(crate) fn at_once<T>(
    conn: &Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = conn.unchecked_transaction()?;
    let answer = read(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

/// What a filter asks of rows, as conditions and their values.
struct Conditions {
    sql: String,
    values: Vec<Value>,
}

impl Conditions {
    /// `None`: nothing can match.
    fn of(
        conn: &Connection,
        filter: &DeliveryFilter,
        states: &[DeliveryState],
    ) -> rusqlite::Result<Option<Self>> {
        let mut conditions = Conditions { sql: "1".to_owned(), values: Vec::new() };
        match states {
            [] => {}
            // Names the partial index on what is unfinished, in its own words.
            [state] if state_code(*state) <= 2 => {
                conditions.and("d.state <= 2 AND d.state = ?", [state_code(*state).into()]);
            }
            _ => {
                let codes: Vec<String> = states.iter().map(|state| state_code(*state).to_string()).collect();
                conditions.and(&format!("d.state IN ({})", codes.join(", ")), []);
            }
        }
        if let Some(rule) = &filter.rule {
            conditions.and("d.rule = ?", [rule.as_str().to_owned().into()]);
        }
        if let Some(webhook) = &filter.webhook {
            conditions.and("d.webhook = ?", [webhook.as_str().to_owned().into()]);
        }
        if let Some(endpoint) = filter.endpoint {
            conditions.and("d.endpoint = ?", [(endpoint.as_u64() as i64).into()]);
        }
        if let Some(event) = &filter.event_id {
            let mut find = conn.prepare_cached("SELECT seq FROM events WHERE id = ?1")?;
            let numbers = find.query_map([event.as_str()], |row| row.get::<_, i64>(0))?;
            let numbers: Vec<String> =
                numbers.map(|seq| Ok(seq?.to_string())).collect::<rusqlite::Result<_>>()?;
            if numbers.is_empty() {
                return Ok(None);
            }
            conditions.and(&format!("d.seq IN ({})", numbers.join(", ")), []);
        }
        Ok(Some(conditions))
    }

    fn and(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    fn before(&mut self, id: DeliveryId) {
        let (seq, digest) = key(id);
        self.and("(d.seq, d.digest) < (?, ?)", [seq.into(), digest.into()]);
    }
}

pub(crate) fn list(
    conn: &Connection,
    filter: &DeliveryFilter,
    before: Option<DeliveryId>,
    limit: usize,
) -> rusqlite::Result<DeliveryPage> {
    let Some(mut conditions) = Conditions::of(conn, filter, filter.state.as_slice())? else {
        return Ok(DeliveryPage::default());
    };
    if let Some(before) = before {
        conditions.before(before);
    }
    // One more tells whether there is a next page.
    let rows = i64::try_from(limit).unwrap_or(i64::MAX - 1).saturating_add(1);
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries d WHERE {} ORDER BY d.seq DESC, d.digest DESC LIMIT {rows}",
        conditions.sql
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_map(params_from_iter(conditions.values), row::record)?;
    let mut items: Vec<Delivery> =
        found.map(|record| Ok(record?.delivery)).collect::<rusqlite::Result<_>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.id);
    Ok(DeliveryPage { items, next })
}

/// The deliveries that match and that a change applies to, the oldest first.
pub(crate) fn select(
    conn: &Connection,
    filter: &DeliveryFilter,
    change: Change,
) -> rusqlite::Result<Vec<DeliveryId>> {
    let applies = |state: &DeliveryState| {
        change.applies_to(*state) && filter.state.is_none_or(|wanted| wanted == *state)
    };
    let mut ids = Vec::new();
    for state in DeliveryState::ALL.iter().copied().filter(applies) {
        let Some(conditions) = Conditions::of(conn, filter, &[state])? else { continue };
        let sql = format!("SELECT d.seq, d.digest FROM deliveries d WHERE {}", conditions.sql);
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(conditions.values))?;
        while let Some(row) = rows.next()? {
            ids.push(delivery_id(row.get(0)?, row.get(1)?));
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

pub(crate) fn delivery(conn: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Delivery>> {
    let Some(record) = row::load(conn, id)? else { return Ok(None) };
    let log = row::load_attempts(conn, id)?;
    Ok(Some(Delivery { attempt_log: Some(log), ..record.delivery }))
}

/// The deliveries of an event, by id.
fn of_event(conn: &Connection, sequence: Sequence) -> rusqlite::Result<Vec<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM deliveries d WHERE d.seq = ?1 ORDER BY d.digest");
    let mut statement = conn.prepare_cached(&sql)?;
    let records = statement.query_map([sequence.0], row::record)?;
    records.collect()
}

/// Where an event stands, and how many leases it lost.
fn event_state(conn: &Connection, sequence: Sequence) -> rusqlite::Result<(EventState, u32)> {
    let mut statement = conn.prepare_cached("SELECT held, losses FROM unsettled WHERE seq = ?1")?;
    let row = statement.query_row([sequence.0], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).optional()?;
    Ok(match row {
        Some((0, losses)) => (EventState::Queued, losses),
        Some((1, losses)) => (EventState::Leased, losses),
        Some(_) => (EventState::FannedOut, 0),
        None if sequence.0 > Counters::read(conn)?.leased_to => (EventState::Queued, 0),
        None => (EventState::FannedOut, 0),
    })
}

pub(crate) fn event(conn: &Connection, id: &EventId) -> rusqlite::Result<Option<StoredEvent>> {
    let sql = "SELECT seq, accepted_at, payload FROM events WHERE id = ?1 AND payload IS NOT NULL \
               ORDER BY seq DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement
        .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?)))
        .optional()?;
    let Some((seq, accepted_at, payload)) = found else { return Ok(None) };
    let sequence = Sequence(seq);
    let (state, losses) = event_state(conn, sequence)?;
    let deliveries = of_event(conn, sequence)?.into_iter().map(|record| record.delivery).collect();
    Ok(Some(StoredEvent {
        id: id.clone(),
        sequence,
        payload: payload.into(),
        accepted_at: Timestamp::from_micros(accepted_at),
        state,
        losses,
        deliveries,
    }))
}

pub(crate) fn stats(conn: &Connection, limits: &StoreLimits, now: Timestamp) -> rusqlite::Result<Stats> {
    let counters = Counters::read(conn)?;
    let mut events = [0u64; 3];
    let mut statement = conn.prepare_cached("SELECT held, count(*) FROM unsettled GROUP BY held")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let held: usize = row.get(0)?;
        events[held] = row.get(1)?;
    }
    let [free, leased, ahead] = events;
    let number = |sql: &str| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<u64>>(0));
    let first_free = number("SELECT min(seq) FROM unsettled WHERE held < 2")?;
    let first_waiting = number("SELECT min(seq) FROM deliveries WHERE state <= 2 AND state = 0")?;
    let first_fresh = Some(counters.leased_to + 1).filter(|next| *next <= counters.last_seq);
    let oldest = [first_free, first_waiting, first_fresh].into_iter().flatten().min();
    let accepted_at = |seq: u64| -> rusqlite::Result<Option<Timestamp>> {
        let mut statement = conn.prepare_cached("SELECT accepted_at FROM events WHERE seq = ?1")?;
        let micros = statement.query_row([seq], |row| row.get(0)).optional()?;
        Ok(micros.map(Timestamp::from_micros))
    };
    let by_count = counters.last_seq.saturating_sub(limits.dedup_max_ids);
    let forgotten_to = by_count.max(counters.forgotten_to);
    let dedup_ids = counters.last_seq - forgotten_to;
    let limited_by_count = dedup_ids >= limits.dedup_max_ids;
    let oldest_id = if limited_by_count { accepted_at(forgotten_to + 1)? } else { None };
    let window = oldest_id.map_or(limits.dedup_window, |at| now.saturating_since(at));
    let [waiting, running, dead, delivered, cancelled, superseded] = counters.deliveries;
    Ok(Stats {
        events_queued: counters.last_seq - counters.leased_to - ahead + free,
        events_leased: leased,
        waiting,
        running,
        dead,
        delivered,
        cancelled,
        superseded,
        oldest_pending_at: oldest.map(accepted_at).transpose()?.flatten(),
        pending_bytes: counters.pending_bytes,
        history_bytes: counters.history_bytes,
        dedup_ids,
        dedup_window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
    })
}

pub(crate) fn endpoints(
    conn: &Connection,
    only: Option<EndpointId>,
) -> rusqlite::Result<Vec<EndpointRecord>> {
    let mut statement =
        conn.prepare_cached("SELECT id, version, state FROM endpoints WHERE ?1 IS NULL OR id = ?1")?;
    let only = only.map(|id| id.as_u64() as i64);
    let found = statement.query_map([only], |row| {
        let id = EndpointId::from_u64(row.get::<_, i64>(0)? as u64);
        Ok(EndpointRecord { id, version: row.get(1)?, state: row.get::<_, Vec<u8>>(2)?.into() })
    })?;
    let mut records = found.collect::<rusqlite::Result<Vec<_>>>()?;
    // The file sorts the hash as a signed number.
    records.sort_by_key(|record| record.id);
    Ok(records)
}

pub(crate) fn backlogs(conn: &Connection) -> rusqlite::Result<Vec<Backlog>> {
    let mut statement = conn.prepare_cached("SELECT endpoint, deliveries, bytes FROM backlogs")?;
    let backlogs = statement.query_map([], |row| {
        let endpoint = EndpointId::from_u64(row.get::<_, i64>(0)? as u64);
        Ok(Backlog { endpoint, deliveries: row.get(1)?, bytes: row.get(2)? })
    })?;
    let mut backlogs: Vec<Backlog> = backlogs.collect::<Result<_, _>>()?;
    backlogs.sort_by_key(|backlog| backlog.endpoint);
    Ok(backlogs)
}

pub(crate) fn scan(
    conn: &Connection,
    after: Option<Sequence>,
    limit: usize,
    now: Timestamp,
) -> rusqlite::Result<ScanPage> {
    let counters = Counters::read(conn)?;
    // A sequence number is never 0.
    let after = after.map_or(0, |sequence| sequence.0);
    let rows = i64::try_from(limit).unwrap_or(i64::MAX - 1).saturating_add(1);
    // Each branch is one walk along an index that ends after a page.
    let sql = "SELECT seq FROM (SELECT seq FROM unsettled WHERE held < 2 AND seq > ?1 ORDER BY seq LIMIT ?3) \
               UNION SELECT seq FROM (SELECT e.seq FROM events e WHERE e.seq > max(?1, ?2) AND NOT EXISTS \
                   (SELECT 1 FROM unsettled u WHERE u.seq = e.seq) ORDER BY e.seq LIMIT ?3) \
               UNION SELECT seq FROM (SELECT DISTINCT seq FROM deliveries WHERE state <= 2 AND state = 0 AND seq > ?1 \
                   ORDER BY seq LIMIT ?3) \
               UNION SELECT seq FROM (SELECT DISTINCT seq FROM deliveries WHERE state <= 2 AND state = 1 AND seq > ?1 \
                   ORDER BY seq LIMIT ?3) \
               UNION SELECT seq FROM (SELECT DISTINCT seq FROM deliveries WHERE state <= 2 AND state = 2 AND seq > ?1 \
                   ORDER BY seq LIMIT ?3) \
               ORDER BY 1 LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_map((after, counters.leased_to, rows), |row| row.get(0).map(Sequence))?;
    let mut numbers = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = numbers.len() > limit;
    numbers.truncate(limit);
    let next = numbers.last().copied().filter(|_| more);
    let items = numbers.into_iter().map(|sequence| pending(conn, sequence, now));
    Ok(ScanPage { items: items.collect::<rusqlite::Result<_>>()?, next })
}

fn pending(conn: &Connection, sequence: Sequence, now: Timestamp) -> rusqlite::Result<PendingItem> {
    let mut statement = conn.prepare_cached("SELECT id, payload, accepted_at FROM events WHERE seq = ?1")?;
    let queued = event_state(conn, sequence)?.0 != EventState::FannedOut;
    let event = statement.query_row([sequence.0], |row| {
        Ok(PendingEvent {
            id: EventId::new(row.get_ref(0)?.as_str()?).expect("only valid ids were written"),
            payload: row.get::<_, Vec<u8>>(1)?.into(),
            accepted_at: Timestamp::from_micros(row.get(2)?),
            queued,
        })
    })?;
    let mut deliveries = Vec::new();
    if !queued {
        let records = of_event(conn, sequence)?;
        for record in records.into_iter().filter(|record| !record.delivery.state.is_finished()) {
            let due = record.delivery.next_attempt_at;
            deliveries.push(PendingDelivery {
                due_in: due.map(|due| due.saturating_since(now)).unwrap_or_default(),
                order: record.order,
                forgiven: record.forgiven,
                since: record.since,
                attempts: row::load_attempts(conn, record.delivery.id)?,
                delivery: record.delivery,
            });
        }
    }
    Ok(PendingItem { event, deliveries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{SHARD, digest_column};

    #[test]
    fn ids_sort_as_their_key_columns() {
        let ids = [(1, 5), (1, u64::MAX), (2, 0), (2, 1 << 63)];
        let ids = ids.map(|(seq, digest)| DeliveryId::from_parts(SHARD, Sequence(seq), digest));
        assert!(ids.is_sorted() && ids.map(key).is_sorted());
        assert_eq!(key(ids[2]).1, digest_column(0));
    }
}
