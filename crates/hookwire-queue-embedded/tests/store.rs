//! What only a store on disk can do, and what can only go wrong there.

use std::path::Path;
use std::time::Duration;

use hookwire_model::{DeliveryState, EndpointId, EventId, Shard, Timestamp};
use hookwire_queue::backend::ManualClock;
use hookwire_queue::{
    DeliveryFilter, EventState, Inspect as _, LeaseDeliveries, LeaseEvents, NewEvent, Queue as _, QueueError,
    Rooms, StoreLimits, WorkerId,
};
use hookwire_queue_embedded::EmbeddedQueue;

const SHARD: Shard = Shard(0);

async fn open(folder: &Path) -> Result<EmbeddedQueue, QueueError> {
    EmbeddedQueue::open(folder, StoreLimits::default(), Duration::ZERO).await
}

async fn publish(queue: &EmbeddedQueue, id: &str) {
    let event = NewEvent { id: EventId::new(id).unwrap(), payload: "{}".into() };
    queue.publish(SHARD, vec![event]).await.unwrap();
}

/// The message for a store that cannot be opened, without what differs from run to run.
async fn refusal(folder: &Path) -> String {
    let error = open(folder).await.unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "FOLDER")
}

#[tokio::test]
async fn one_process_owns_a_store_and_is_named_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let Err(QueueError::InUse { holder }) = open(folder.path()).await else { panic!("it is in use") };
    assert!(holder.starts_with(&format!("process {} (store-", std::process::id())), "{holder}");
    // A second one that waits gets it when the first gives it back.
    let limits = StoreLimits::default();
    let second = EmbeddedQueue::open(folder.path(), limits, Duration::from_secs(60));
    let close = async {
        publish(&first, "a").await;
        first.close().await;
    };
    let (second, ()) = tokio::join!(second, close);
    assert!(second.unwrap().event(SHARD, &EventId::new("a").unwrap()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_closed_store_answers_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await.unwrap();
    let other = queue.clone();
    publish(&queue, "a").await;
    queue.close().await;
    assert!(matches!(other.publish(SHARD, vec![]).await, Err(QueueError::Unavailable { .. })));
    assert!(matches!(other.stats(SHARD).await, Err(QueueError::Unavailable { .. })));
    let log = std::fs::metadata(folder.path().join("hookwire.db-wal"));
    assert!(log.is_err() || log.unwrap().len() == 0, "everything is in the file");
    assert!(open(folder.path()).await.is_ok(), "the folder was given back");
}

#[tokio::test]
async fn a_layout_of_an_unknown_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.unwrap().close().await;
    let conn = rusqlite::Connection::open(folder.path().join("hookwire.db")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    insta::assert_snapshot!(refusal(folder.path()).await, @"the store has layout version 99, and this program knows up to 3: use a newer hookwire");
    assert!(matches!(open(folder.path()).await, Err(QueueError::UnknownVersion { found: 99, known: 3 })));
}

#[tokio::test]
async fn what_is_no_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookwire.db");
    std::fs::write(&file, "garbage ".repeat(1000)).unwrap();
    insta::assert_snapshot!(refusal(folder.path()).await, @"the store is damaged: FOLDER/hookwire.db is not readable as a hookwire store (file is not a database); move it away to begin with an empty one, or put a copy from a backup in its place");
    assert_eq!(std::fs::read(&file).unwrap(), "garbage ".repeat(1000).as_bytes());
    std::fs::remove_file(&file).unwrap();
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(conn);
    insta::assert_snapshot!(refusal(folder.path()).await, @"the store is damaged: FOLDER/hookwire.db is an SQLite file of another program; name another folder");
}

#[tokio::test]
async fn a_damaged_page_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await.unwrap();
    for number in 0..200 {
        publish(&queue, &format!("e{number}")).await;
    }
    queue.close().await;
    let file = folder.path().join("hookwire.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100..8192].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    assert!(matches!(open(folder.path()).await, Err(QueueError::Damaged(_))));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    insta::assert_snapshot!(refusal(&file).await, @"the store cannot write: FOLDER is not a folder; name another place for the store");
    assert!(matches!(open(&file).await, Err(QueueError::NotWritable { .. })));
    // The database is there, but no file.
    let odd = folder.path().join("odd");
    std::fs::create_dir_all(odd.join("hookwire.db")).unwrap();
    assert!(matches!(open(&odd).await, Err(QueueError::NotWritable { .. })));
}

#[tokio::test]
#[cfg(unix)]
async fn a_folder_that_is_made_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("a/b");
    open(&new).await.unwrap().close().await;
    assert_eq!(mode(&new), 0o700);
    // One that is there is left as it is.
    let given = folder.path().join("given");
    std::fs::create_dir(&given).unwrap();
    let before = mode(&given);
    open(&given).await.unwrap().close().await;
    assert_eq!(mode(&given), before);
}

#[tokio::test]
async fn a_copy_that_sqlite_makes_while_the_store_is_in_use_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let (live, copy) = (folder.path().join("live"), folder.path().join("copy"));
    let queue = open(&live).await.unwrap();
    publish(&queue, "before").await;
    // As docs/operations.md says it, here by the same library.
    std::fs::create_dir(&copy).unwrap();
    let reader = rusqlite::Connection::open(live.join("hookwire.db")).unwrap();
    reader.execute("VACUUM INTO ?1", [copy.join("hookwire.db").to_str().unwrap()]).unwrap();
    publish(&queue, "after").await;
    queue.close().await;
    let restored = open(&copy).await.unwrap();
    let ids = ["before", "after"].map(|id| EventId::new(id).unwrap());
    assert!(restored.event(SHARD, &ids[0]).await.unwrap().is_some());
    assert!(restored.event(SHARD, &ids[1]).await.unwrap().is_none());
    // What comes next is numbered on, so that it is no duplicate of what was there.
    publish(&restored, "later").await;
    assert_eq!(restored.stats(SHARD).await.unwrap().events_queued, 2);
    restored.close().await;
}

#[tokio::test]
async fn many_callers_at_once_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..500 {
        let queue = queue.clone();
        tasks.spawn(async move { publish(&queue, &format!("e{}", number % 250)).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, 250);
}

/// The stores that each version of the layout left behind, with the same in them: see `examples/write_fixture.rs`.
const FIXTURES: [&str; 3] = ["embedded-v1", "embedded-v2", "embedded-v3"];

#[tokio::test]
async fn a_store_of_any_version_can_be_read() {
    for fixture in FIXTURES {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        reads(&fixtures.join(fixture)).await;
    }
}

async fn reads(fixture: &Path) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture.join("hookwire.db"), folder.path().join("hookwire.db")).unwrap();
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_100));
    let limits = StoreLimits::default();
    let queue = EmbeddedQueue::open_with_clock(folder.path(), limits, Duration::ZERO, clock.store_clock());
    let queue = queue.await.unwrap();
    let all = queue.list(SHARD, &DeliveryFilter::default(), None, 100).await.unwrap().items;
    let mut shown: Vec<String> = Vec::new();
    for delivery in all {
        let log = queue.delivery(delivery.id).await.unwrap().unwrap().attempt_log.unwrap().len();
        shown.push(format!(
            "{} {} {} attempts {} (log {log}, interrupted {}) next {:?} reason {:?} error {:?}",
            delivery.event_id,
            delivery.webhook.map(|name| name.to_string()).unwrap_or_default(),
            delivery.state,
            delivery.attempts,
            delivery.interrupted,
            delivery.next_attempt_at.map(|at| at.to_string()),
            delivery.dead_reason,
            delivery.last_error.map(|error| error.message),
        ));
    }
    insta::assert_snapshot!("a_store_of_any_version_can_be_read", shown.join("\n"));
    let endpoint = queue.endpoint(SHARD, EndpointId::from_u64(7)).await.unwrap().unwrap();
    assert_eq!((endpoint.version, &*endpoint.state), (2, &b"state"[..]));
    let waiting = shown.iter().filter(|line| line.contains(" waiting attempts ")).count() as u64;
    let backlogs = queue.backlogs(SHARD).await.unwrap();
    assert_eq!(backlogs.iter().map(|backlog| backlog.deliveries).sum::<u64>(), waiting, "{backlogs:?}");
    assert!(waiting > 0 && backlogs.iter().all(|backlog| backlog.bytes > 0), "{backlogs:?}");
    let leased = queue.event(SHARD, &EventId::new("leased").unwrap()).await.unwrap().unwrap();
    assert_eq!((leased.state, leased.losses), (EventState::Queued, 1));
    let request =
        LeaseEvents { worker: WorkerId::new("w"), lease: Duration::from_secs(9), max: 10, suspects_max: 10 };
    let events = queue.lease_events(SHARD, request).await.unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["leased", "queued"]);
    assert!(
        queue
            .publish(SHARD, vec![NewEvent { id: events[0].id.clone(), payload: "{}".into() }])
            .await
            .unwrap()[0]
            .duplicate
    );
    let rooms = Rooms { default: 10, exceptions: vec![] };
    let request =
        LeaseDeliveries { worker: WorkerId::new("w"), lease: Duration::from_secs(9), max: 10, rooms };
    let due = queue.lease_deliveries(SHARD, request).await.unwrap();
    assert_eq!(due.deliveries.len(), 1, "the one that ran; the other endpoint is on hold");
    assert!(due.next_due.is_some());
    assert_eq!(queue.stats(SHARD).await.unwrap().running, 1);
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    assert_eq!(queue.list(SHARD, &dead, None, 10).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_store_that_is_deleted_under_it_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).await.unwrap();
    publish(&queue, "a").await;
    std::fs::rename(folder.path().join("hookwire.db"), folder.path().join("moved")).unwrap();
    for error in [
        queue
            .publish(SHARD, vec![NewEvent { id: EventId::new("b").unwrap(), payload: "{}".into() }])
            .await
            .unwrap_err(),
        queue.ready(SHARD).await.unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("hookwire.db was deleted, moved or replaced while it was in use"),
            "{error}"
        );
        assert!(!error.is_transient(), "whoever goes on would lose what it accepts");
    }
    std::fs::rename(folder.path().join("moved"), folder.path().join("hookwire.db")).unwrap();
    publish(&queue, "b").await;
}

#[tokio::test]
async fn a_log_without_its_file_is_not_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.unwrap().close().await;
    let file = folder.path().join("hookwire.db");
    std::fs::write(folder.path().join("hookwire.db-wal"), "what was accepted last").unwrap();
    for spoil in
        [|file: &Path| std::fs::write(file, "").unwrap(), |file: &Path| std::fs::remove_file(file).unwrap()]
    {
        spoil(&file);
        let told = refusal(folder.path()).await;
        assert!(told.starts_with("the store is damaged: FOLDER/hookwire.db is gone or empty, and"), "{told}");
    }
    std::fs::remove_file(folder.path().join("hookwire.db-wal")).unwrap();
    publish(&open(folder.path()).await.unwrap(), "a").await;
}
