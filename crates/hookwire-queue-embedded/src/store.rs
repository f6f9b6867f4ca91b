//! The writer's side of the store: each call as SQL and as changes of what is kept in memory.
//!
//! Invariants:
//! - Nothing here commits. What is in memory can be taken back to the last commit: leases by their own journal,
//!   counters from a copy, the rest by reading it again.
//! - A call is refused before its first write; an error after that is SQLite's, and takes back the whole transaction.
//! - A delivery's row changes only through `add`, `change` and `remove`, which keep counters, backlog, history and order
//!   with it; leasing deliveries is the one exception, since it changes none of these but two counters.

mod act;
mod events;
mod history;
mod lease;
mod record;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookwire_model::{DeliveryState, EndpointId, Sequence, Timestamp, WaitingReason};
use hookwire_queue::backend::{EventHead, Leases, StoreClock};
use hookwire_queue::{QueueError, StoreLimits, Subject};
use rusqlite::{Connection, OptionalExtension as _, Statement, params};

use crate::backlog::{Backlog, Place, Size};
use crate::row::{self, endpoint_column, endpoint_id, state_code};

/// What a finished delivery, and each of its attempts, counts in the history besides their bytes: names, numbers, and
/// their overhead.
pub(crate) const RECORD_BYTES: u64 = 256;

/// Why a call was not carried out.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is refused, and nothing was written.
    Refused(QueueError),
    /// SQLite could not do it; the transaction is to be taken back.
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Store(error)
    }
}

/// The row of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) starts: u64,
    pub(crate) last_seq: u64,
    pub(crate) leased_to: u64,
    pub(crate) history_from: u64,
    pub(crate) forgotten_to: u64,
    pub(crate) pending_bytes: u64,
    pub(crate) history_bytes: u64,
    /// Deliveries by state, in the order of the state codes.
    pub(crate) deliveries: [u64; 6],
}

impl Counters {
    pub(crate) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT starts, last_seq, leased_to, history_from, forgotten_to, pending_bytes, history_bytes, \
                   waiting, running, dead, delivered, cancelled, superseded FROM counters";
        conn.prepare_cached(sql)?.query_row([], |row| {
            let mut deliveries = [0; 6];
            for (place, count) in deliveries.iter_mut().enumerate() {
                *count = row.get(7 + place)?;
            }
            Ok(Counters {
                starts: row.get(0)?,
                last_seq: row.get(1)?,
                leased_to: row.get(2)?,
                history_from: row.get(3)?,
                forgotten_to: row.get(4)?,
                pending_bytes: row.get(5)?,
                history_bytes: row.get(6)?,
                deliveries,
            })
        })
    }

    fn write(&self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE counters SET starts = ?1, last_seq = ?2, leased_to = ?3, history_from = ?4, \
                   forgotten_to = ?5, pending_bytes = ?6, history_bytes = ?7, waiting = ?8, running = ?9, dead = ?10, \
                   delivered = ?11, cancelled = ?12, superseded = ?13";
        let [waiting, running, dead, delivered, cancelled, superseded] = self.deliveries;
        let values = params![
            self.starts,
            self.last_seq,
            self.leased_to,
            self.history_from,
            self.forgotten_to,
            self.pending_bytes,
            self.history_bytes,
            waiting,
            running,
            dead,
            delivered,
            cancelled,
            superseded,
        ];
        conn.prepare_cached(sql)?.execute(values).map(drop)
    }

    fn count(&mut self, state: DeliveryState) -> &mut u64 {
        &mut self.deliveries[state_code(state) as usize]
    }
}

/// What a lease on an event remembers of it.
#[derive(Debug, Clone)]
struct EventInfo {
    head: EventHead,
    bytes: u64,
    /// Leased for the first time, so that nothing of it can be on record.
    fresh: bool,
}

/// Statements of the fast path, which are not looked up by their text each time.
#[derive(Debug)]
struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    find_id: Statement<'c>,
    insert_event: Statement<'c>,
    insert_unsettled: Statement<'c>,
    delete_unsettled: Statement<'c>,
    insert_delivered: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Statements {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            find_id: conn.prepare(events::FIND_ID)?,
            insert_event: conn.prepare(events::INSERT_EVENT)?,
            insert_unsettled: conn.prepare("INSERT INTO unsettled (seq, losses, held) VALUES (?1, 0, 1)")?,
            delete_unsettled: conn.prepare("DELETE FROM unsettled WHERE seq = ?1")?,
            insert_delivered: conn.prepare(row::INSERT_DELIVERED)?,
        })
    }
}

/// What a call made available, and who looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) events: bool,
    pub(crate) deliveries: bool,
    pub(crate) looked_for_events: Option<u64>,
    pub(crate) looked_for_deliveries: Option<u64>,
}

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Store<'c> {
    pub(crate) conn: &'c Connection,
    statements: Statements<'c>,
    pub(crate) limits: StoreLimits,
    clock: StoreClock,
    pub(crate) now: Timestamp,
    pub(crate) counters: Counters,
    committed: Counters,
    /// Of a delivery a lease remembers nothing.
    leases: Leases<Option<EventInfo>>,
    /// What is kept in memory has to be read anew: the last time failed half-way.
    is_stale: bool,
    /// Events that were leased before and are free now, with the leases they lost.
    free: BTreeMap<Sequence, u32>,
    /// Events above `leased_to` that are settled.
    ahead: BTreeSet<Sequence>,
    backlog: Backlog,
    /// Endpoints whose first delivery is to be looked up again before the call ends.
    unsure: BTreeSet<Place>,
    served: Option<Place>,
    pub(crate) news: News,
    /// How many events were settled since the history was last looked after.
    settled: usize,
    /// Until then nothing is too old for the history.
    quiet_until: Timestamp,
}

impl<'c> Store<'c> {
    /// Takes over what an earlier process left: its leases count as lost.
    pub(crate) fn open(
        conn: &'c Connection,
        limits: StoreLimits,
        clock: StoreClock,
    ) -> rusqlite::Result<Self> {
        let now = clock.now();
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut counters = Counters::read(conn)?;
        counters.starts += 1;
        conn.execute("UPDATE unsettled SET losses = losses + 1, held = 0 WHERE held = 1", [])?;
        conn.execute(
            "INSERT INTO backlogs SELECT d.endpoint, count(*), sum(length(e.payload)) \
             FROM deliveries d JOIN events e ON e.seq = d.seq \
             WHERE d.state <= 2 AND d.state = 1 AND d.endpoint IS NOT NULL GROUP BY d.endpoint \
             ON CONFLICT (endpoint) DO UPDATE SET \
             deliveries = deliveries + excluded.deliveries, bytes = bytes + excluded.bytes",
            [],
        )?;
        let orders = {
            let sql =
                "SELECT DISTINCT order_key FROM deliveries WHERE state <= 2 AND state = 1 AND in_order = 1";
            let mut running = conn.prepare(sql)?;
            let orders = running.query_map([], |row| row.get::<_, String>(0))?;
            orders.map(|order| order.map(Arc::from)).collect::<Result<Vec<Arc<str>>, _>>()?
        };
        let interrupted = conn.execute(
            "UPDATE deliveries SET state = 0, attempts = attempts + 1, interrupted = interrupted + 1, due_at = ?1, \
             waiting_reason = ?2 WHERE state <= 2 AND state = 1",
            params![now.as_micros(), WaitingReason::Worker.as_str()],
        )?;
        let interrupted = interrupted as u64;
        *counters.count(DeliveryState::Running) -= interrupted;
        *counters.count(DeliveryState::Waiting) += interrupted;
        counters.write(conn)?;
        conn.execute_batch("COMMIT")?;
        let mut store = Store {
            conn,
            statements: Statements::new(conn)?,
            limits,
            clock,
            now,
            counters,
            committed: counters,
            // Makes the tokens of this process different from those of the ones before it.
            leases: Leases::new(counters.starts << 40),
            is_stale: true,
            free: BTreeMap::new(),
            ahead: BTreeSet::new(),
            backlog: Backlog::default(),
            unsure: BTreeSet::new(),
            served: None,
            news: News::default(),
            settled: 0,
            quiet_until: Timestamp::UNIX_EPOCH,
        };
        // What ran kept others of its order from being leased.
        store.begin()?;
        for order in orders {
            store.reorder(&order)?;
        }
        store.settle_down()?;
        store.commit()?;
        Ok(store)
    }

    /// Begins a transaction, and does in it what time does.
    pub(crate) fn begin(&mut self) -> rusqlite::Result<()> {
        if self.is_stale {
            self.reload()?;
        }
        self.statements.begin.execute([])?;
        self.now = self.clock.now();
        self.run_out()
    }

    /// Commits. Only then is anything of it true.
    pub(crate) fn commit(&mut self) -> rusqlite::Result<()> {
        if self.counters != self.committed {
            self.counters.write(self.conn)?;
        }
        self.write_sizes()?;
        self.statements.commit.execute([])?;
        self.committed = self.counters;
        self.leases.commit();
        Ok(())
    }

    /// Writes how much waits, where that changed.
    fn write_sizes(&mut self) -> rusqlite::Result<()> {
        for (endpoint, size) in self.backlog.resized() {
            let column = endpoint.as_u64() as i64;
            match size {
                Some(Size { deliveries, bytes }) => {
                    let sql = "INSERT INTO backlogs (endpoint, deliveries, bytes) VALUES (?1, ?2, ?3) \
                               ON CONFLICT (endpoint) DO UPDATE SET deliveries = ?2, bytes = ?3";
                    self.conn.prepare_cached(sql)?.execute((column, deliveries, bytes))?;
                }
                None => {
                    let sql = "DELETE FROM backlogs WHERE endpoint = ?1";
                    self.conn.prepare_cached(sql)?.execute([column])?;
                }
            }
        }
        Ok(())
    }

    /// Takes everything back to the last commit.
    pub(crate) fn roll_back(&mut self) -> rusqlite::Result<()> {
        self.is_stale = true;
        self.quiet_until = Timestamp::UNIX_EPOCH;
        self.news = News::default();
        self.settled = 0;
        self.counters = self.committed;
        self.leases.roll_back();
        // Some errors of SQLite have ended the transaction already.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.reload()
    }

    /// When a lease runs out next.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.leases.next_end()
    }

    /// Reads what is kept in memory besides counters and leases.
    fn reload(&mut self) -> rusqlite::Result<()> {
        self.free.clear();
        self.ahead.clear();
        self.unsure.clear();
        self.backlog = Backlog::default();
        let conn = self.conn;
        let mut statement = conn.prepare_cached("SELECT seq, losses, held FROM unsettled")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sequence = Sequence(row.get(0)?);
            match row.get(2)? {
                0 => drop(self.free.insert(sequence, row.get(1)?)),
                2 => drop(self.ahead.insert(sequence)),
                _ => {}
            }
        }
        let mut statement = conn.prepare_cached("SELECT endpoint, until FROM holds")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let endpoint = EndpointId::from_u64(row.get::<_, i64>(0)? as u64);
            self.backlog.hold(endpoint, Some(Timestamp::from_micros(row.get(1)?)));
        }
        let mut statement = conn.prepare_cached("SELECT endpoint, deliveries, bytes FROM backlogs")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let endpoint = EndpointId::from_u64(row.get::<_, i64>(0)? as u64);
            self.backlog.has(endpoint, Size { deliveries: row.get(1)?, bytes: row.get(2)? });
        }
        // One look-up per endpoint instead of a pass over all that waits: the index is ordered by endpoint.
        let mut next = conn.prepare_cached(
            "SELECT endpoint FROM deliveries WHERE state = 0 AND blocked = 0 AND endpoint > ?1 ORDER BY endpoint LIMIT 1",
        )?;
        self.refresh(None)?;
        let mut after = i64::MIN;
        // The smallest number of all cannot be asked for with `>`.
        self.refresh(endpoint_id(Some(after)))?;
        while let Some(endpoint) = next.query_row([after], |row| row.get::<_, i64>(0)).optional()? {
            self.refresh(endpoint_id(Some(endpoint)))?;
            after = endpoint;
        }
        self.is_stale = false;
        Ok(())
    }

    /// Looks up when the first delivery of an endpoint is due.
    fn refresh(&mut self, place: Place) -> rusqlite::Result<()> {
        let sql = "SELECT due_at FROM deliveries WHERE state = 0 AND blocked = 0 AND endpoint IS ?1 \
                   ORDER BY due_at, seq, digest LIMIT 1";
        let mut statement = self.conn.prepare_cached(sql)?;
        let due = statement.query_row([endpoint_column(place)], |row| row.get(0)).optional()?;
        self.backlog.set(place, due.map(Timestamp::from_micros));
        Ok(())
    }

    /// Ends a call: looks up what it left unsure.
    pub(crate) fn settle_down(&mut self) -> rusqlite::Result<()> {
        while let Some(place) = self.unsure.pop_first() {
            self.refresh(place)?;
        }
        Ok(())
    }

    fn run_out(&mut self) -> rusqlite::Result<()> {
        for (subject, _) in self.leases.run_out(self.now) {
            match subject {
                Subject::Event(sequence) => {
                    let sql =
                        "UPDATE unsettled SET losses = losses + 1, held = 0 WHERE seq = ?1 RETURNING losses";
                    let mut statement = self.conn.prepare_cached(sql)?;
                    let losses = statement.query_row([sequence.0], |row| row.get(0))?;
                    self.free.insert(sequence, losses);
                    self.news.events = true;
                }
                Subject::Delivery(id) => {
                    if let Some(before) = row::load(self.conn, id)? {
                        let mut after = before.clone();
                        after.lose_lease(self.now);
                        self.change_record(&before, &after)?;
                    }
                }
            }
        }
        self.settle_down()
    }
}
