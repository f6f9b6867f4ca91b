//! The handle: calls go to the writing thread or to the reading one, and their answers come back.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use bytes::Bytes;
use hookwire_model::{Delivery, DeliveryId, EndpointId, EventId, Sequence, Shard, Timestamp};
use hookwire_queue::backend::{StoreClock, Wake, system_clock};
use hookwire_queue::{
    Backlog, Change, Changed, DeliveryFilter, DeliveryPage, EndpointRecord, Expired, Inspect, Lease,
    LeaseDeliveries, LeaseEvents, LeasedDeliveries, LeasedEvent, NewEvent, PendingItem, Published,
    PutEndpoint, Queue, QueueError, ScanPage, Selection, Settled, Settlement, Stats, StoreLimits,
    StoredEvent, Subject,
};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use crate::error::{broken, closed, from_io, from_sqlite};
use crate::op::{SettleOp, copy_of};
use crate::reader::{self, Question};
use crate::store::{Failure, Store};
use crate::writer::{self, Message, Request, Shared};
use crate::{disk, layout, owner};

/// How many calls may wait for the writing thread, and as many for the reading one. Whoever comes then waits in line:
/// that is the backpressure.
const CALLS_MAX: usize = 1024;

/// So many deliveries are changed in one transaction: others get in between, however many there are in all.
const CHANGES_MAX: usize = 512;

/// A store in a folder of its own, with one shard. Clones are handles to the same store; when the last one goes, what
/// waits is committed and the folder is given back shortly after.
#[derive(Debug, Clone)]
pub struct EmbeddedQueue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Sender<Message>,
    reader: Sender<ControlFlow<(), Question>>,
    room: Arc<Semaphore>,
    reader_room: Arc<Semaphore>,
    shared: Arc<Shared>,
    limits: StoreLimits,
    folder: PathBuf,
    is_closed: AtomicBool,
}

impl EmbeddedQueue {
    /// Opens the store in `folder`, which is made if it is not there. Waits up to `wait` for another process to give it
    /// back.
    ///
    /// # Errors
    /// [`QueueError::InUse`] names the process that owns the folder; [`QueueError::NotWritable`],
    /// [`QueueError::UnknownVersion`] and [`QueueError::Damaged`] as they say.
    ///
    /// Cancel safety: a future that is dropped gives the folder back.
    pub async fn open(folder: &Path, limits: StoreLimits, wait: Duration) -> Result<Self, QueueError> {
        Self::open_with_clock(folder, limits, wait, system_clock()).await
    }

    /// As [`open`](Self::open), on a clock of its own. Due times are kept in the file, so the clock must go on from where
    /// it was.
    pub async fn open_with_clock(
        folder: &Path,
        limits: StoreLimits,
        wait: Duration,
        clock: StoreClock,
    ) -> Result<Self, QueueError> {
        let ownership = owner::take(folder, wait).await?;
        let next_end = AtomicI64::new(i64::MAX);
        let shared = Arc::new(Shared { wake: Wake::default(), clock, next_end });
        let (writer, calls) = mpsc::channel();
        let (opened, ready) = oneshot::channel();
        spawn(folder, "hookwire-store", {
            let (folder, limits, shared) = (folder.to_owned(), limits.clone(), shared.clone());
            move || writer::run(folder, ownership, limits, shared, calls, opened)
        })?;
        ready.await.map_err(|_| broken())??;
        let conn = layout::open_reader(folder)?;
        let (reader, questions) = mpsc::channel();
        spawn(folder, "hookwire-store-read", move || reader::run(conn, &questions))?;
        let inner = Inner {
            writer,
            reader,
            room: Arc::new(Semaphore::new(CALLS_MAX)),
            reader_room: Arc::new(Semaphore::new(CALLS_MAX)),
            shared,
            limits,
            folder: folder.to_owned(),
            is_closed: AtomicBool::new(false),
        };
        Ok(EmbeddedQueue { inner: Arc::new(inner) })
    }

    /// Where the store is.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Commits what waits and gives the folder back. Other handles get an error from then on.
    ///
    /// Cancel safety: the store is closed all the same.
    pub async fn close(self) {
        self.inner.is_closed.store(true, Ordering::SeqCst);
        // An ended thread is a closed store, too.
        let _ = self.inner.reader.send(ControlFlow::Break(()));
        let (reply, done) = oneshot::channel();
        if self.inner.writer.send(Message::Close(reply)).is_ok() {
            let _ = done.await;
        }
    }

    /// Why a thread does not answer.
    fn gone(&self) -> QueueError {
        if self.inner.is_closed.load(Ordering::SeqCst) { closed() } else { broken() }
    }

    /// Lets the writing thread carry out a call.
    async fn call<I: Send + 'static, T: Send + 'static>(
        &self,
        is_durable: bool,
        input: I,
        method: fn(&mut Store<'_>, &I) -> Result<T, Failure>,
    ) -> Result<T, QueueError> {
        let permit = self.inner.room.clone().acquire_owned().await.map_err(|_| self.gone())?;
        let (reply, answer) = oneshot::channel();
        let request = Request { input, method, is_durable, outcome: None, reply, _permit: permit };
        self.inner.writer.send(Message::Call(Box::new(request))).map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Lets the reading thread answer a question, from one state of the store.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        // A lease that has run out shows in the file only when the writer has noticed.
        if self.inner.shared.clock.now().as_micros() >= self.inner.shared.next_end.load(Ordering::SeqCst) {
            self.call(false, (), |_, ()| Ok(())).await?;
        }
        let permit = self.inner.reader_room.clone().acquire_owned().await.map_err(|_| self.gone())?;
        let (reply, answer) = oneshot::channel();
        let question: Question = Box::new(move |conn| {
            let _permit = permit;
            // Whoever asked may have gone.
            let _ = reply.send(reader::at_once(conn, question));
        });
        self.inner.reader.send(ControlFlow::Continue(question)).map_err(|_| self.gone())?;
        let answer = answer.await.map_err(|_| self.gone())?;
        answer.map_err(|error| from_sqlite(error, &layout::database(&self.inner.folder)))
    }

    fn now(&self) -> Timestamp {
        self.inner.shared.clock.now()
    }

    /// Lets go now of everything that is too old or too much, as is otherwise done step by step, beside other work.
    ///
    /// # Errors
    /// As any call that writes.
    pub async fn tidy(&self) -> Result<(), QueueError> {
        self.call(false, (), |store, ()| Ok(store.tend(usize::MAX)?)).await.map(|_more| ())
    }
}

/// Starts a thread; it ends by itself when the last handle goes.
fn spawn(folder: &Path, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), QueueError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    thread.map(drop).map_err(|error| from_io(error, folder))
}

impl Queue for EmbeddedQueue {
    fn shards(&self) -> u16 {
        1
    }

    async fn publish(&self, _: Shard, events: Vec<NewEvent>) -> Result<Vec<Published>, QueueError> {
        let bytes = events.iter().map(|event| event.payload.len() as u64).sum();
        disk::takes_more(&self.inner.folder, bytes)?;
        self.call(true, events, |store, input| store.publish(input)).await
    }

    async fn lease_events(&self, _: Shard, request: LeaseEvents) -> Result<Vec<LeasedEvent>, QueueError> {
        if request.max == 0 {
            // Nothing is handed over here.
            return Ok(Vec::new());
        }
        let stamp = self.inner.shared.wake.events_stamp();
        self.call(false, (request, stamp), |store, input| store.lease_events(input)).await
    }

    async fn lease_deliveries(
        &self,
        _: Shard,
        request: LeaseDeliveries,
    ) -> Result<LeasedDeliveries, QueueError> {
        let stamp = self.inner.shared.wake.deliveries_stamp();
        self.call(false, (request, stamp), |store, input| store.lease_deliveries(input)).await
    }

    async fn extend(&self, _: Shard, leases: &[&Lease], lease: Duration) -> Result<Vec<Subject>, QueueError> {
        let leases: Vec<Lease> = leases.iter().map(|lease| copy_of(lease)).collect();
        self.call(false, (leases, lease), |store, input| store.extend(input)).await
    }

    async fn settle(&self, _: Shard, settlement: &Settlement) -> Result<Settled, QueueError> {
        let settlement = SettleOp::from(settlement);
        self.call(settlement.tells_news(), settlement, |store, input| store.settle(input)).await
    }

    async fn expire(
        &self,
        _: Shard,
        age: Duration,
        after: Option<Sequence>,
        max: usize,
    ) -> Result<Expired, QueueError> {
        self.call(true, (age, after, max), |store, input| store.expire(input)).await
    }

    async fn hold(&self, _: Shard, endpoint: EndpointId, hold: Option<Duration>) -> Result<(), QueueError> {
        self.call(true, (endpoint, hold), |store, input| store.hold(input)).await
    }

    async fn wait(&self, _: Shard, timeout: Duration) -> Result<(), QueueError> {
        // The writing thread itself notices leases that run out, and wakes those who wait.
        self.inner.shared.wake.wait(timeout).await;
        Ok(())
    }
}

impl Inspect for EmbeddedQueue {
    async fn list(
        &self,
        _: Shard,
        filter: &DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<DeliveryPage, QueueError> {
        let filter = filter.clone();
        self.ask(move |conn| reader::list(conn, &filter, before, limit)).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, QueueError> {
        self.ask(move |conn| reader::delivery(conn, id)).await
    }

    async fn event(&self, _: Shard, id: &EventId) -> Result<Option<StoredEvent>, QueueError> {
        let id = id.clone();
        self.ask(move |conn| reader::event(conn, &id)).await
    }

    async fn stats(&self, _: Shard) -> Result<Stats, QueueError> {
        let (limits, now) = (self.inner.limits.clone(), self.now());
        self.ask(move |conn| reader::stats(conn, &limits, now)).await
    }

    async fn ready(&self, _: Shard) -> Result<(), QueueError> {
        disk::takes_events(&self.inner.folder)?;
        self.call(true, (), |store, ()| store.try_writing()).await
    }

    async fn change(
        &self,
        _: Shard,
        change: Change,
        selection: &Selection,
        dry_run: bool,
    ) -> Result<Changed, QueueError> {
        let (ids, by_id) = match selection {
            Selection::Ids(ids) => {
                let mut seen = std::collections::BTreeSet::new();
                (ids.iter().copied().filter(|id| seen.insert(*id)).collect(), true)
            }
            Selection::Filter(filter) => {
                let filter = filter.clone();
                (self.ask(move |conn| reader::select(conn, &filter, change)).await?, false)
            }
        };
        let mut all = Changed::default();
        if dry_run && !by_id {
            all.changed = ids.len() as u64;
            return Ok(all);
        }
        for ids in ids.chunks(CHANGES_MAX) {
            let part = self
                .call(!dry_run, (change, ids.to_vec(), dry_run), |store, input| store.change(input))
                .await?;
            all.changed += part.changed;
            if by_id {
                all.unknown.extend(part.unknown);
                all.unfit.extend(part.unfit);
            }
        }
        Ok(all)
    }

    async fn endpoint(&self, _: Shard, id: EndpointId) -> Result<Option<EndpointRecord>, QueueError> {
        self.ask(move |conn| Ok(reader::endpoints(conn, Some(id))?.pop())).await
    }

    async fn endpoints(&self, _: Shard) -> Result<Vec<EndpointRecord>, QueueError> {
        self.ask(|conn| reader::endpoints(conn, None)).await
    }

    async fn put_endpoint(
        &self,
        _: Shard,
        id: EndpointId,
        expected: u64,
        state: Bytes,
    ) -> Result<PutEndpoint, QueueError> {
        self.call(true, (id, expected, state), |store, input| store.put_endpoint(input)).await
    }

    async fn backlogs(&self, _: Shard) -> Result<Vec<Backlog>, QueueError> {
        self.ask(reader::backlogs).await
    }

    async fn scan(&self, _: Shard, after: Option<Sequence>, limit: usize) -> Result<ScanPage, QueueError> {
        let now = self.now();
        self.ask(move |conn| reader::scan(conn, after, limit, now)).await
    }

    async fn restore(&self, _: Shard, items: Vec<PendingItem>) -> Result<u64, QueueError> {
        let bytes = items.iter().map(|item| item.event.payload.len() as u64).sum();
        disk::takes_more(&self.inner.folder, bytes)?;
        self.call(true, items, |store, input| store.restore(input)).await
    }
}

#[cfg(test)]
mod tests {
    use hookwire_queue::{EventFate, SettledEvent, WorkerId};

    use super::*;

    const SHARD: Shard = Shard(0);

    async fn open(folder: &Path) -> EmbeddedQueue {
        EmbeddedQueue::open(folder, StoreLimits::default(), Duration::ZERO).await.unwrap()
    }

    fn events(count: usize, bytes: usize) -> Vec<NewEvent> {
        let event = |number| NewEvent {
            id: EventId::new(&format!("e{number}-{bytes}")).unwrap(),
            payload: vec![b'x'; bytes].into(),
        };
        (0..count).map(event).collect()
    }

    fn request() -> LeaseEvents {
        LeaseEvents { worker: WorkerId::new("w"), lease: Duration::from_secs(60), max: 1000, suspects_max: 0 }
    }

    /// Lets the file hold so many pages, as a disk of that size would.
    async fn limit_pages(queue: &EmbeddedQueue, pages: u32) {
        let set = |store: &mut Store<'_>, pages: &u32| {
            Ok(store.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        };
        queue.call(false, pages, set).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_refuses_the_batch_whole_and_the_store_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        queue.publish(SHARD, events(3, 10)).await.unwrap();
        let held = queue.lease_events(SHARD, request()).await.unwrap();
        limit_pages(&queue, 40).await;
        let before = queue.stats(SHARD).await.unwrap();
        // A small one comes with the large one that does not fit; it does not share its fate.
        let (large, small) =
            tokio::join!(queue.publish(SHARD, events(100, 8000)), queue.publish(SHARD, events(1, 11)));
        let error = large.unwrap_err();
        assert!(matches!(error, QueueError::NotWritable { .. }) && error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("no space is left on the disk"), "{error}");
        assert_eq!(small.unwrap().len(), 1);
        let after = queue.stats(SHARD).await.unwrap();
        assert_eq!((after.events_queued, after.pending_bytes), (1, before.pending_bytes + 11));
        let leases: Vec<&Lease> = held.iter().map(|event| &event.lease).collect();
        assert_eq!(
            queue.extend(SHARD, &leases, Duration::from_secs(60)).await.unwrap(),
            [],
            "leases are kept"
        );
        limit_pages(&queue, 1 << 30).await;
        queue.publish(SHARD, events(100, 8000)).await.unwrap();
        assert_eq!(queue.lease_events(SHARD, request()).await.unwrap().len(), 101);
    }

    #[tokio::test]
    async fn what_could_not_be_read_after_a_failure_is_read_later() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        queue.publish(SHARD, events(3, 10)).await.unwrap();
        let held = queue.lease_events(SHARD, request()).await.unwrap();
        let released =
            held.into_iter().map(|event| SettledEvent { lease: event.lease, fate: EventFate::Released });
        let settlement = Settlement { events: released.collect(), deliveries: Vec::new() };
        queue.settle(SHARD, &settlement).await.unwrap();
        // Neither can they be leased, nor can be read again which of them are free.
        let rename = |from: &str, to: &str| {
            let conn = Connection::open(layout::database(folder.path())).unwrap();
            conn.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
        };
        rename("unsettled", "hidden");
        queue.lease_events(SHARD, request()).await.unwrap_err();
        queue.publish(SHARD, events(1, 11)).await.unwrap_err();
        rename("hidden", "unsettled");
        assert_eq!(queue.lease_events(SHARD, request()).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_is_not_ready_though_it_can_be_looked_into() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        queue.ready(SHARD).await.unwrap();
        limit_pages(&queue, 100).await;
        // Another size makes other ids.
        let mut bytes = 1000;
        while queue.publish(SHARD, events(10, bytes)).await.is_ok() {
            bytes += 1;
        }
        let error = queue.ready(SHARD).await.unwrap_err();
        assert!(error.to_string().contains("no space is left on the disk"), "{error}");
        assert!(queue.stats(SHARD).await.unwrap().events_queued > 0);
        limit_pages(&queue, 1 << 30).await;
        queue.ready(SHARD).await.unwrap();
        assert_eq!(queue.endpoints(SHARD).await.unwrap(), [], "asking leaves nothing behind");
        queue.close().await;

        let limits = StoreLimits { pending_bytes_max: 1000, ..StoreLimits::default() };
        let queue = EmbeddedQueue::open(folder.path(), limits, Duration::ZERO).await.unwrap();
        assert!(matches!(queue.ready(SHARD).await, Err(QueueError::Full { .. })));
    }

    #[tokio::test]
    async fn a_call_whose_caller_has_gone_takes_effect() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        {
            let publish = queue.publish(SHARD, events(1, 10));
            tokio::pin!(publish);
            // Polled once, it has sent the call; then it is dropped.
            tokio::select! {
                biased;
                _ = &mut publish => {}
                () = async {} => {}
            }
        }
        // A call after it is carried out after it.
        queue.extend(SHARD, &[], Duration::ZERO).await.unwrap();
        assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, 1);
    }

    #[tokio::test]
    async fn a_broken_writer_is_an_error_to_its_callers() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        let broken: Result<(), _> = queue.call(false, (), |_, ()| panic!("a broken invariant")).await;
        // Whoever waited for it to come back would wait for ever.
        assert!(!broken.unwrap_err().is_transient());
        let error = queue.publish(SHARD, events(1, 10)).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("a new start goes on"), "{error}");
        // The thread gives the folder back as it ends.
        let wait = Duration::from_secs(30);
        let queue = EmbeddedQueue::open(folder.path(), StoreLimits::default(), wait).await.unwrap();
        assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, 0);
    }

    #[tokio::test]
    async fn the_fast_path_touches_no_index_but_that_of_ids() {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path()).await;
        let indexed = |conn: &Connection| {
            let mut statement =
                conn.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        for (name, sql) in queue.ask(indexed).await.unwrap() {
            let partial = sql.contains("WHERE state") || sql.contains("WHERE in_order = 1");
            let elsewhere = sql.contains("ON closed");
            assert!(name == "events_by_id" || partial || elsewhere, "{sql}");
        }
    }
}
