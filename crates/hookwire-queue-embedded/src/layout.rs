//! The layout on disk: one folder, one SQLite file, and its version.
//!
//! In the folder: `hookwire.db`, SQLite's `hookwire.db-wal` and `hookwire.db-shm` beside it, `hookwire.lock`, which the
//! owner holds locked, and `hookwire.owner`, which says who that is.
//!
//! Invariants:
//! - The version stands in `user_version`, and `application_id` says that the file is ours; an unknown version is
//!   refused, an older one is migrated step by step, each step in one transaction.
//! - Sequence numbers have no gaps. An event with a number above `counters.leased_to` has never been leased, unless
//!   `unsettled` says that it was settled before its turn; any other event has been settled unless `unsettled` has it.
//!   So publishing writes nothing but the event itself.
//! - The fast path (an event comes in, is leased, and is settled with everything delivered) touches no secondary index
//!   but that of event ids.

use std::path::{Path, PathBuf};

use hookwire_queue::QueueError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::from_sqlite;

/// The version of the layout that this program writes.
pub(crate) const VERSION: u64 = 3;

/// "hkwr", so that `file` and a human can tell whose file it is.
const APPLICATION_ID: i64 = 0x686b_7772;

/// A row of an attempt's record (1 to 2 KB) still fits into a page of its tree without an overflow page, which with
/// SQLite's default of 4 KiB it would not: a row of a table without row ids has to fit four times.
const PAGE_BYTES: u32 = 8192;

/// After so many pages (16 MiB) the log is copied into the file: rarely enough that a page that is written at each commit
/// is copied once for hundreds of commits, often enough that the log stays small.
const CHECKPOINT_PAGES: u32 = 2048;

const SCHEMA: &str = r#"
-- What was published. Never changed, except that the history lets the payload go (NULL) where the id must be
-- remembered for longer.
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,   -- microseconds since 1970, as all times here
    payload     BLOB
) STRICT;
CREATE INDEX events_by_id ON events (id);

-- Events that were leased at least once and are not settled (held = 1: leased, 0: not), and events that were restored
-- as settled and stand above counters.leased_to (held = 2).
CREATE TABLE unsettled (
    seq    INTEGER PRIMARY KEY,
    losses INTEGER NOT NULL,
    held   INTEGER NOT NULL
) STRICT;

-- Appended in the order of the key as events are settled. digest has its highest bit flipped, so that it sorts as the
-- unsigned number it is. state: 0 waiting, 1 running, 2 dead, 3 delivered, 4 cancelled, 5 superseded.
CREATE TABLE deliveries (
    seq            INTEGER NOT NULL,
    digest         INTEGER NOT NULL,
    state          INTEGER NOT NULL,
    rule           TEXT,
    webhook        TEXT,
    endpoint       INTEGER,
    event          TEXT,
    object_type    TEXT,
    attempts       INTEGER NOT NULL,
    interrupted    INTEGER NOT NULL DEFAULT 0,
    forgiven       INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    since          INTEGER,            -- NULL: created_at
    due_at         INTEGER,
    finished_at    INTEGER,
    waiting_reason TEXT,
    dead_reason    TEXT,
    last_status    INTEGER,
    last_error     TEXT,               -- JSON
    order_key      TEXT,
    on_failure     TEXT,
    in_order       INTEGER NOT NULL DEFAULT 0,   -- 1: goes only as the first of its order, and keeps others behind it
    blocked        INTEGER NOT NULL DEFAULT 0,   -- 1: in order, and not the first
    failed         INTEGER NOT NULL DEFAULT 0,
    log            BLOB,               -- the attempts that it was first stored with, packed one after another
    PRIMARY KEY (seq, digest)
) STRICT, WITHOUT ROWID;
-- The backlogs. Rows that the fast path writes are in none of these indexes.
CREATE INDEX backlog ON deliveries (endpoint, due_at, seq, digest, in_order) WHERE state = 0 AND blocked = 0;
CREATE INDEX unfinished ON deliveries (state, seq, digest) WHERE state <= 2;
CREATE INDEX orders ON deliveries (order_key, seq, digest) WHERE in_order = 1;

-- Attempts of deliveries that took more than one settlement, packed.
CREATE TABLE attempts (
    seq    INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    number INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (seq, digest, number)
) STRICT, WITHOUT ROWID;

-- Events with nothing left to do that were not finished at their first settlement: the history lets them go by
-- closed_at. The others it finds by sequence number, from counters.history_from on.
CREATE TABLE closed (
    seq       INTEGER PRIMARY KEY,
    closed_at INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
) STRICT;
CREATE INDEX closed_by_time ON closed (closed_at, seq);

CREATE TABLE endpoints (
    id      INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    state   BLOB NOT NULL
) STRICT;

-- How much waits for each endpoint that anything waits for.
CREATE TABLE backlogs (
    endpoint   INTEGER PRIMARY KEY,
    deliveries INTEGER NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT;

CREATE TABLE holds (
    endpoint INTEGER PRIMARY KEY,
    until    INTEGER NOT NULL
) STRICT;

-- One row, written with every commit that changes it.
CREATE TABLE counters (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    starts        INTEGER NOT NULL,   -- how often the store was opened: makes lease tokens unique
    last_seq      INTEGER NOT NULL,
    leased_to     INTEGER NOT NULL,
    history_from  INTEGER NOT NULL,   -- every event below was let go, or is or will be in closed
    forgotten_to  INTEGER NOT NULL,   -- ids of events up to here are out of the de-duplication window
    pending_bytes INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL,
    waiting       INTEGER NOT NULL,
    running       INTEGER NOT NULL,
    dead          INTEGER NOT NULL,
    delivered     INTEGER NOT NULL,
    cancelled     INTEGER NOT NULL,
    superseded    INTEGER NOT NULL
) STRICT;
INSERT INTO counters VALUES (1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0);
"#;

/// The database file within a store's folder.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("hookwire.db")
}

/// What SQLite has not written into it yet.
pub(crate) fn log(folder: &Path) -> PathBuf {
    folder.join("hookwire.db-wal")
}

/// Opens the file for the one writer, and makes or migrates the layout. `is_taken_over`: somebody had the folder before.
pub(crate) fn open_writer(folder: &Path, is_taken_over: bool) -> Result<Connection, QueueError> {
    let path = database(folder);
    let failed = |error| from_sqlite(error, &path);
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    // SQLite would throw a log away that belongs to nothing, and what was accepted last with it.
    if bytes(&path) == 0 && bytes(&log(folder)) > 0 {
        return Err(QueueError::Damaged(format!(
            "{} is gone or empty, and {} beside it is not: put both back as they were, or move the latter away to begin \
             with an empty store",
            path.display(),
            log(folder).display()
        )));
    }
    let conn = Connection::open(&path).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(128);
    // Reading the version first keeps the pragmas below from writing into a file that is not ours.
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let owner: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if owner != APPLICATION_ID && (owner, version, tables) != (0, 0, 0) {
        return Err(QueueError::Damaged(format!(
            "{} is an SQLite file of another program; name another folder",
            path.display()
        )));
    }
    let found = u64::try_from(version).unwrap_or(u64::MAX);
    if found > VERSION {
        return Err(QueueError::UnknownVersion { found, known: VERSION });
    }
    prepare(&conn).map_err(failed)?;
    match found {
        0 => {
            create(&conn).map_err(failed)?;
            if is_taken_over {
                tracing::warn!(
                    folder = %folder.display(),
                    "a store was here before, and its file is gone or empty; this begins with an empty one"
                );
            }
        }
        // Attempts of the first version were JSON; they stay so, and both are read.
        1 | 2 => count_backlogs(&conn).map_err(failed)?,
        _ => {}
    }
    Ok(conn)
}

/// Opens the file for looking only, beside the writer.
pub(crate) fn open_reader(folder: &Path) -> Result<Connection, QueueError> {
    let path = database(folder);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(&path, flags)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.pragma_update(None, "cache_size", -4096)?;
        Ok(conn)
    };
    open().map_err(|error| from_sqlite(error, &path))
}

fn prepare(conn: &Connection) -> rusqlite::Result<()> {
    // Else SQLite plans some statements anew whenever a bound value changes, which costs more than they do.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Both take effect only while the file is empty.
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", i64::from(CHECKPOINT_PAGES * PAGE_BYTES) * 2)?;
    // Negative: KiB. The working set of the fast path is the right edge of three trees.
    conn.pragma_update(None, "cache_size", -16384)?;
    conn.pragma_update(None, "temp_store", "MEMORY")
}

/// To version 3, which keeps count of what waits.
fn count_backlogs(conn: &Connection) -> rusqlite::Result<()> {
    let table = SCHEMA.split_inclusive(";\n").find(|statement| statement.contains("CREATE TABLE backlogs"));
    let table = table.expect("the schema has the table");
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; {table} \
         INSERT INTO backlogs SELECT d.endpoint, count(*), sum(length(e.payload)) \
         FROM deliveries d JOIN events e ON e.seq = d.seq \
         WHERE d.state <= 2 AND d.state = 0 AND d.endpoint IS NOT NULL GROUP BY d.endpoint; \
         PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}

fn create(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}
