//! Servers that refuse: each is told by name, as something that may be over after a while; nothing is half taken; and
//! the same handle goes on when it is over.

use std::sync::Arc;
use std::time::Duration;

use hookwire_model::{EventId, Sequence, Shard};
use hookwire_queue::{
    Inspect as _, Lease, LeaseEvents, NewEvent, Published, Queue as _, QueueError, Subject, WorkerId,
};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::{RedisServer, eventually};

const SHARD: Shard = Shard(0);
/// The chapter on ACL users: what it lists is what is tried here.
const DOCUMENT: &str = include_str!("../../../docs/queue.md");

async fn open(url: &str) -> RedisQueue {
    RedisQueue::open(&RedisUrl::parse(url).unwrap(), RedisOptions::default()).await.unwrap()
}

async fn publish(queue: &RedisQueue, id: &str) -> Result<Published, QueueError> {
    let payload = format!(r#"{{"event":"created","object_type":"a.b","id":"{id}","data":{{}}}}"#);
    let event = NewEvent { id: EventId::new(id).unwrap(), payload: payload.into() };
    Ok(queue.publish(SHARD, vec![event]).await?.remove(0))
}

/// Publishing is refused for this reason, which being ready tells too; it takes nothing.
async fn assert_refused(queue: &RedisQueue, told: &str) {
    let refused = [publish(queue, "refused").await.map(drop), queue.ready(SHARD).await];
    for error in refused.map(Result::unwrap_err) {
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.is_transient(), "{error}");
    }
}

/// What was refused is taken now, as something new.
async fn assert_healed(queue: &RedisQueue) {
    queue.ready(SHARD).await.unwrap();
    let published = publish(queue, "refused").await.unwrap();
    assert!(!published.duplicate, "what was refused had been taken");
    assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, published.sequence.0);
}

#[tokio::test]
async fn out_of_memory() {
    let server = RedisServer::start();
    let queue = open(&server.url()).await;
    publish(&queue, "before").await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_refused(&queue, "is out of memory: raise its `maxmemory`").await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_healed(&queue).await;
}

#[tokio::test]
async fn a_disk_on_which_nothing_can_be_saved() {
    let server = RedisServer::start_with(&["--save", "3600 1", "--enable-protected-configs", "yes"]);
    let queue = open(&server.url()).await;
    publish(&queue, "before").await.unwrap();
    let home = server.socket().parent().unwrap().to_owned();
    let gone = home.join("gone");
    std::fs::create_dir(&gone).unwrap();
    server.command(&["CONFIG", "SET", "dir", gone.to_str().unwrap()]);
    std::fs::remove_dir(&gone).unwrap();
    let save = async |wanted: &str| {
        server.command(&["BGSAVE"]);
        eventually("the end of a save", async || {
            (server.info("rdb_bgsave_in_progress") == "0").then_some(())
        })
        .await;
        assert_eq!(server.info("rdb_last_bgsave_status"), wanted);
    };
    save("err").await;
    assert_refused(&queue, "cannot save its data and refuses writes: look at its disk").await;
    server.command(&["CONFIG", "SET", "dir", home.to_str().unwrap()]);
    save("ok").await;
    assert_healed(&queue).await;
}

#[tokio::test]
async fn a_primary_that_became_a_replica() {
    let server = RedisServer::start();
    let queue = open(&server.url()).await;
    publish(&queue, "before").await.unwrap();
    // Of a primary that nobody reaches: its data stay.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_refused(&queue, "is a read-only replica: name the primary").await;
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_healed(&queue).await;
}

#[tokio::test]
async fn scripts_that_were_forgotten_are_sent_again() {
    let server = RedisServer::start();
    let queue = open(&server.url()).await;
    for id in ["1", "2", "3"] {
        server.command(&["SCRIPT", "FLUSH"]);
        assert!(!publish(&queue, id).await.unwrap().duplicate);
    }
    assert_eq!(queue.stats(SHARD).await.unwrap().events_queued, 3);
}

/// A server that starts answers so until it has read its data; this one reads them once more, and takes its time.
#[tokio::test]
async fn a_server_that_loads_its_data() {
    let server = Arc::new(RedisServer::start_with(&["--enable-debug-command", "yes"]));
    let queue = open(&server.url()).await;
    publish(&queue, "before").await.unwrap();
    server.command(&["DEBUG", "POPULATE", "2000", "ballast", "1000"]);
    server.command(&["CONFIG", "SET", "key-load-delay", "1000"]);
    server.command(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"]);
    let reloading = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.command(&["DEBUG", "RELOAD"])
    });
    eventually("a server that loads", async || queue.ready(SHARD).await.is_err().then_some(())).await;
    assert_refused(&queue, "is loading its data").await;
    // Whoever opens the store meanwhile waits for it.
    let options = RedisOptions { wait: Duration::from_secs(60), ..RedisOptions::default() };
    let opened = RedisQueue::open(&RedisUrl::parse(&server.url()).unwrap(), options).await.unwrap();
    assert_eq!(opened.stats(SHARD).await.unwrap().events_queued, 1);
    assert_eq!(reloading.await.unwrap().trim(), "OK");
    assert_healed(&queue).await;
}

#[tokio::test]
async fn a_server_that_pauses_is_waited_for() {
    let server = RedisServer::start();
    let queue = open(&server.url()).await;
    server.command(&["CLIENT", "PAUSE", "150", "ALL"]);
    assert!(!publish(&queue, "slow").await.unwrap().duplicate);
}

#[tokio::test]
async fn extending_is_tried_again_before_the_lease_has_run_out() {
    let server = RedisServer::start();
    let queue = open(&server.url()).await;
    let unknown = Lease { subject: Subject::Event(Sequence(1)), token: 1 };
    let lease = Duration::from_secs(1);
    server.command(&["CLIENT", "PAUSE", "1500", "ALL"]);
    let error = queue.extend(SHARD, &[&unknown], lease).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("does not answer in time"), "{error}");
    // By another connection, once the server answers again.
    let lost = eventually("an answer", async || queue.extend(SHARD, &[&unknown], lease).await.ok()).await;
    assert_eq!(lost, [unknown.subject]);
}

/// The document's line for an ACL user, without the command.
fn documented_rules() -> Vec<&'static str> {
    let line = DOCUMENT.lines().find_map(|line| line.strip_prefix("ACL SETUSER hookwire ")).unwrap();
    line.split(' ').collect()
}

/// A server with the user of the document, and a URL for it.
fn with_user() -> (RedisServer, String) {
    let server = RedisServer::start();
    let rules = documented_rules();
    server.command(&[&["ACL", "SETUSER", "hookwire"], &rules[..]].concat());
    let url = format!("{}?user=hookwire&pass=password", server.url());
    (server, url)
}

#[tokio::test]
async fn the_documented_user_may_do_what_is_needed_and_no_more() {
    let (server, url) = with_user();
    let queue = open(&url).await;
    publish(&queue, "refused").await.unwrap();
    queue.ready(SHARD).await.unwrap();
    queue.tidy().await.unwrap();
    assert_eq!(server.command(&["ACL", "LOG"]).trim(), "", "nothing was denied");
    let options = RedisOptions { prefix: "other".to_owned(), ..RedisOptions::default() };
    let error = RedisQueue::open(&RedisUrl::parse(&url).unwrap(), options).await.unwrap_err();
    assert!(error.to_string().contains("does not let this user do what hookwire needs"), "{error}");
}

#[tokio::test]
async fn a_user_whose_rights_are_taken_away() {
    let (server, url) = with_user();
    let queue = open(&url).await;
    publish(&queue, "before").await.unwrap();
    server.command(&["ACL", "SETUSER", "hookwire", "-@scripting", "-@write"]);
    assert_refused(&queue, "does not let this user do what hookwire needs: docs/queue.md").await;
    server.command(&["ACL", "SETUSER", "hookwire", "+@scripting", "+@write"]);
    assert_healed(&queue).await;
}

#[tokio::test]
async fn a_password_that_was_changed() {
    let (server, url) = with_user();
    let queue = open(&url).await;
    publish(&queue, "before").await.unwrap();
    server.command(&["ACL", "SETUSER", "hookwire", "resetpass", ">another"]);
    server.command(&["CLIENT", "KILL", "USER", "hookwire"]);
    // The first call finds that its connection is gone.
    let _ = publish(&queue, "refused").await.unwrap_err();
    assert_refused(&queue, "wants another user or password").await;
    server.command(&["ACL", "SETUSER", "hookwire", "resetpass", ">password"]);
    assert_healed(&queue).await;
}

/// Makes one the replica of another, and waits until it has everything.
async fn follow(replica: &RedisServer, primary: &RedisServer) {
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().unwrap().to_string()]);
    eventually("a replica's link", async || (replica.info("master_link_status") == "up").then_some(())).await;
}

/// Opens a store whose events one replica must have.
async fn open_with_replica(primary: &RedisServer) -> RedisQueue {
    let options = RedisOptions { wait_replicas: 1, ..RedisOptions::default() };
    RedisQueue::open(&RedisUrl::parse(&primary.url()).unwrap(), options).await.unwrap()
}

#[tokio::test]
async fn publishing_waits_for_replicas_and_tells_that_there_are_none() {
    let primary =
        RedisServer::start_on_port(&["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
    let mut replica = RedisServer::start();
    follow(&replica, &primary).await;
    let queue = open_with_replica(&primary).await;
    assert!(!publish(&queue, "first").await.unwrap().duplicate);
    assert_eq!(
        replica.command(&["XLEN", "{hw:0}:events"]).trim(),
        "1",
        "it is there when publishing returns"
    );

    replica.kill();
    let error = publish(&queue, "second").await.unwrap_err();
    assert!(error.to_string().contains("0 of 1 replicas have the events (store.wait_replicas)"), "{error}");
    assert!(error.is_transient());
    // Those who wait for the replica keep nobody else from the store, and nobody waits for each of them.
    let waiting: Vec<_> = ["third", "fourth", "fifth", "sixth"]
        .map(|id| {
            let queue = queue.clone();
            tokio::spawn(async move { publish(&queue, id).await.is_err() })
        })
        .into();
    eventually("all are stored", async || {
        (primary.command(&["XLEN", "{hw:0}:events"]).trim() == "6").then_some(())
    })
    .await;
    let request = LeaseEvents {
        worker: WorkerId::new("worker"),
        lease: Duration::from_secs(60),
        max: 10,
        suspects_max: 1,
    };
    assert_eq!(queue.lease_events(SHARD, request).await.unwrap().len(), 6);
    assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished));
    for waits in waiting {
        assert!(waits.await.unwrap());
    }

    replica.restart();
    follow(&replica, &primary).await;
    // What was stored, and not confirmed, is told as known.
    assert!(publish(&queue, "second").await.unwrap().duplicate);
    assert_eq!(replica.command(&["XLEN", "{hw:0}:events"]).trim(), "6");
}
