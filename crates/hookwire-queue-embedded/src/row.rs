//! Deliveries as rows, and back.
//!
//! Invariant: what is read is what was written; a row that makes no sense is an error, not a guess.

use std::sync::Arc;

use hookwire_model::{
    Attempt, AttemptError, Delivery, DeliveryId, DeliveryState, EndpointId, EventId, OnFailure, RuleName,
    Sequence, Shard, Timestamp, WebhookName,
};
use hookwire_queue::Order;
use hookwire_queue::backend::{Record, unpack_attempts};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, Statement, params};

/// The one shard of an embedded store.
pub(crate) const SHARD: Shard = Shard(0);

/// The columns that [`record`] reads, in its order. The event's id stands with the event.
pub(crate) const COLUMNS: &str = "d.seq, d.digest, d.state, d.rule, d.webhook, d.endpoint, d.event, d.object_type, \
     d.attempts, d.interrupted, d.forgiven, d.created_at, d.since, d.due_at, d.finished_at, d.waiting_reason, \
     d.dead_reason, d.last_status, d.last_error, d.order_key, d.on_failure, d.failed, \
     (SELECT e.id FROM events e WHERE e.seq = d.seq)";

/// A digest as a column that sorts as the unsigned number does.
pub(crate) fn digest_column(digest: u64) -> i64 {
    (digest ^ (1 << 63)) as i64
}

/// A delivery's id from its key columns.
pub(crate) fn delivery_id(seq: i64, digest: i64) -> DeliveryId {
    DeliveryId::from_parts(SHARD, Sequence(seq as u64), digest as u64 ^ (1 << 63))
}

/// A delivery's key columns.
pub(crate) fn key(id: DeliveryId) -> (i64, i64) {
    (id.sequence().0 as i64, digest_column(id.digest()))
}

/// An endpoint's hash as a column.
pub(crate) fn endpoint_column(endpoint: Option<EndpointId>) -> Option<i64> {
    endpoint.map(|id| id.as_u64() as i64)
}

/// An endpoint's hash from its column.
pub(crate) fn endpoint_id(column: Option<i64>) -> Option<EndpointId> {
    column.map(|id| EndpointId::from_u64(id as u64))
}

/// The number that stands for a state in the file.
pub(crate) fn state_code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Waiting => 0,
        DeliveryState::Running => 1,
        DeliveryState::Dead => 2,
        DeliveryState::Delivered => 3,
        DeliveryState::Cancelled => 4,
        DeliveryState::Superseded => 5,
    }
}

fn state(code: i64) -> Option<DeliveryState> {
    DeliveryState::ALL.iter().copied().find(|state| state_code(*state) == code)
}

/// Reads a delivery; the numbers of its attempts are left out.
pub(crate) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        row: &Row<'_>,
        column: usize,
    ) -> rusqlite::Result<Option<T>> {
        let text = row.get_ref(column)?.as_str_or_null().map_err(|error| nonsense(column, error))?;
        text.map(|text| text.parse().map_err(|error| nonsense(column, error))).transpose()
    }
    let time = |column| row.get::<_, Option<i64>>(column).map(|micros| micros.map(Timestamp::from_micros));
    let name = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(|error| nonsense(column, error));
    let created_at = Timestamp::from_micros(row.get(11)?);
    let last_error = name(18)?.map(serde_json::from_str::<AttemptError>).transpose();
    let order = match (row.get::<_, Option<Arc<str>>>(19)?, parsed::<OnFailure>(row, 20)?) {
        (Some(key), Some(on_failure)) => Some(Order { key, on_failure }),
        _ => None,
    };
    let event_id = name(22)?.unwrap_or_default();
    let delivery = Delivery {
        id: delivery_id(row.get(0)?, row.get(1)?),
        event_id: EventId::new(event_id).map_err(|error| nonsense(22, error))?,
        event: row.get(6)?,
        object_type: row.get(7)?,
        rule: name(3)?.map(RuleName::new).transpose().map_err(|error| nonsense(3, error))?,
        webhook: name(4)?.map(WebhookName::new).transpose().map_err(|error| nonsense(4, error))?,
        endpoint: endpoint_id(row.get(5)?),
        state: state(row.get(2)?).ok_or(rusqlite::Error::IntegralValueOutOfRange(2, row.get(2)?))?,
        waiting_reason: parsed(row, 15)?,
        attempts: row.get(8)?,
        interrupted: row.get(9)?,
        next_attempt_at: time(13)?,
        created_at,
        finished_at: time(14)?,
        last_status: row.get(17)?,
        last_error: last_error.map_err(|error| nonsense(18, error))?,
        dead_reason: parsed(row, 16)?,
        attempt_log: None,
    };
    Ok(Record {
        delivery,
        order,
        failed: row.get(21)?,
        forgiven: row.get(10)?,
        since: time(12)?.unwrap_or(created_at),
        numbers: Default::default(),
    })
}

fn nonsense(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// Adds a delivery's row. `log` holds the attempts it comes with.
pub(crate) const INSERT: &str = "INSERT INTO deliveries (seq, digest, state, rule, webhook, endpoint, event, object_type, \
     attempts, interrupted, forgiven, created_at, since, due_at, finished_at, waiting_reason, dead_reason, last_status, \
     last_error, order_key, on_failure, in_order, blocked, failed, log) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, \
     ?24, ?25) ON CONFLICT (seq, digest) DO NOTHING";

/// Adds the row of a delivery that was delivered at the first attempt and has no place in an order: the fast path.
pub(crate) const INSERT_DELIVERED: &str = "INSERT INTO deliveries (seq, digest, state, rule, webhook, endpoint, event, \
     object_type, attempts, created_at, finished_at, last_status, last_error, log) \
     VALUES (?1, ?2, 3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (seq, digest) DO NOTHING";

/// Changes what can change of a delivery's row.
pub(crate) const UPDATE: &str = "UPDATE deliveries SET state = ?3, endpoint = ?4, attempts = ?5, interrupted = ?6, \
     forgiven = ?7, since = ?8, due_at = ?9, finished_at = ?10, waiting_reason = ?11, dead_reason = ?12, \
     last_status = ?13, last_error = ?14, in_order = ?15, blocked = ?16, failed = ?17 WHERE seq = ?1 AND digest = ?2";

/// The columns of a record that both statements write.
struct Columns {
    endpoint: Option<i64>,
    since: Option<i64>,
    due_at: Option<i64>,
    finished_at: Option<i64>,
    waiting_reason: Option<&'static str>,
    dead_reason: Option<&'static str>,
    last_error: Option<String>,
    in_order: bool,
}

fn columns(record: &Record) -> Columns {
    let delivery = &record.delivery;
    Columns {
        endpoint: endpoint_column(delivery.endpoint),
        since: (record.since != delivery.created_at).then(|| record.since.as_micros()),
        due_at: delivery.next_attempt_at.map(Timestamp::as_micros),
        finished_at: delivery.finished_at.map(Timestamp::as_micros),
        waiting_reason: delivery.waiting_reason.map(|reason| reason.as_str()),
        dead_reason: delivery.dead_reason.map(|reason| reason.as_str()),
        last_error: delivery.last_error.as_ref().map(error_json),
        in_order: record.in_order(),
    }
}

/// An error as it stands in its column.
pub(crate) fn error_json(error: &AttemptError) -> String {
    serde_json::to_string(error).expect("two strings can always be written as JSON")
}

/// Adds a delivery, and tells whether it was not there yet; one that has a place in an order is blocked until somebody
/// looks at its order.
pub(crate) fn insert(
    statement: &mut Statement<'_>,
    record: &Record,
    log: Option<&[u8]>,
) -> rusqlite::Result<bool> {
    let (seq, digest) = key(record.delivery.id);
    let Columns { endpoint, since, due_at, finished_at, waiting_reason, dead_reason, last_error, in_order } =
        columns(record);
    let delivery = &record.delivery;
    let values = params![
        seq,
        digest,
        state_code(delivery.state),
        delivery.rule.as_ref().map(RuleName::as_str),
        delivery.webhook.as_ref().map(WebhookName::as_str),
        endpoint,
        delivery.event,
        delivery.object_type,
        delivery.attempts,
        delivery.interrupted,
        record.forgiven,
        delivery.created_at.as_micros(),
        since,
        due_at,
        finished_at,
        waiting_reason,
        dead_reason,
        delivery.last_status,
        last_error,
        record.order.as_ref().map(|order| &*order.key),
        record.order.as_ref().map(|order| order.on_failure.as_str()),
        in_order,
        in_order,
        record.failed,
        log,
    ];
    statement.execute(values).map(|rows| rows > 0)
}

/// Adds a delivery that fan-out made and that was delivered, and tells whether it was not there yet.
pub(crate) fn insert_delivered(
    statement: &mut Statement<'_>,
    record: &Record,
    log: Option<&[u8]>,
) -> rusqlite::Result<bool> {
    let (seq, digest) = key(record.delivery.id);
    let delivery = &record.delivery;
    let values = params![
        seq,
        digest,
        delivery.rule.as_ref().map(RuleName::as_str),
        delivery.webhook.as_ref().map(WebhookName::as_str),
        endpoint_column(delivery.endpoint),
        delivery.event,
        delivery.object_type,
        delivery.attempts,
        delivery.created_at.as_micros(),
        delivery.finished_at.map(Timestamp::as_micros),
        delivery.last_status,
        delivery.last_error.as_ref().map(error_json),
        log,
    ];
    statement.execute(values).map(|rows| rows > 0)
}

/// Changes a delivery; one that has a place in an order is blocked until somebody looks at its order.
pub(crate) fn update(statement: &mut Statement<'_>, record: &Record) -> rusqlite::Result<()> {
    let (seq, digest) = key(record.delivery.id);
    let Columns { endpoint, since, due_at, finished_at, waiting_reason, dead_reason, last_error, in_order } =
        columns(record);
    let delivery = &record.delivery;
    let values = params![
        seq,
        digest,
        state_code(delivery.state),
        endpoint,
        delivery.attempts,
        delivery.interrupted,
        record.forgiven,
        since,
        due_at,
        finished_at,
        waiting_reason,
        dead_reason,
        delivery.last_status,
        last_error,
        in_order,
        in_order,
        record.failed,
    ];
    statement.execute(values).map(drop)
}

/// Reads one delivery, if it is on record, with the numbers of its attempts.
pub(crate) fn load(conn: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Record>> {
    let (seq, digest) = key(id);
    let sql = format!("SELECT {COLUMNS}, d.log FROM deliveries d WHERE d.seq = ?1 AND d.digest = ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([seq, digest])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut record = record(row)?;
    if let Some(log) = row.get_ref(23)?.as_blob_or_null().map_err(|error| nonsense(23, error))? {
        record.numbers.extend(attempts(log)?.iter().map(|attempt| attempt.number));
    }
    let mut statement = conn.prepare_cached("SELECT number FROM attempts WHERE seq = ?1 AND digest = ?2")?;
    let numbers = statement.query_map([seq, digest], |row| row.get(0))?;
    for number in numbers {
        record.numbers.insert(number?);
    }
    Ok(Some(record))
}

/// All attempts of a delivery on record, by number.
pub(crate) fn load_attempts(conn: &Connection, id: DeliveryId) -> rusqlite::Result<Vec<Attempt>> {
    let (seq, digest) = key(id);
    let mut statement = conn.prepare_cached("SELECT log FROM deliveries WHERE seq = ?1 AND digest = ?2")?;
    let mut all = Vec::new();
    let mut rows = statement.query([seq, digest])?;
    if let Some(row) = rows.next()?
        && let Some(log) = row.get_ref(0)?.as_blob_or_null().map_err(|error| nonsense(0, error))?
    {
        all = attempts(log)?;
    }
    let sql = "SELECT record FROM attempts WHERE seq = ?1 AND digest = ?2 ORDER BY number";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([seq, digest])?;
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(0)?.as_blob().map_err(|error| nonsense(0, error))?;
        all.extend(attempts(packed)?);
    }
    all.sort_by_key(|attempt| attempt.number);
    Ok(all)
}

/// Reads attempts that stand one after another. What layout version 1 wrote is JSON, and begins as no packed attempt does:
/// an array of attempts, or one alone.
fn attempts(log: &[u8]) -> rusqlite::Result<Vec<Attempt>> {
    match log.first() {
        Some(b'[') => serde_json::from_slice(log).map_err(|error| nonsense(0, error)),
        Some(b'{') => Ok(vec![serde_json::from_slice(log).map_err(|error| nonsense(0, error))?]),
        _ => unpack_attempts(log).map_err(|error| nonsense(0, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_sort_as_unsigned_numbers_and_read_back() {
        let digests = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX];
        assert!(digests.map(digest_column).is_sorted());
        for digest in digests {
            let id = DeliveryId::from_parts(SHARD, Sequence(7), digest);
            let (seq, column) = key(id);
            assert_eq!(delivery_id(seq, column), id);
        }
    }

    #[test]
    fn every_state_has_a_code_of_its_own() {
        for known in DeliveryState::ALL {
            assert_eq!(state(state_code(*known)), Some(*known));
        }
    }
}
