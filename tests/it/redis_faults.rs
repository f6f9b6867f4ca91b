//! What may happen to workers, connections and Redis servers, done to them while events go through.
//!
//! Each test asserts the promise, not the path: nothing is lost that publishing returned for (but for what the store
//! itself lost, which is asserted too), what comes again was in flight or not yet on record and comes under the same
//! delivery id, nothing is stuck at the end, and the servers' memory is back where it was.

use std::collections::BTreeSet;
use std::slice;
use std::time::Instant;

use hookwire_testkit::{
    Answer, Network, Program, RedisCluster, RedisServer, ScriptedEndpoint, Signal, TcpProxy, eventually,
};

use crate::redis_rig::{Books, Load, Seeded, event, folder, said, shard};
use crate::support::Server;

/// What a worker says once when its store fails, and once when that is over.
const FAILS: &str = "the store fails; trying again until it answers";
const ANSWERS: &str = "the store answers again";
/// What it says once when the store is empty that was not, and once when there is something again.
const EMPTIED: &str = "the store lost its data";
const IN_USE: &str = "the store that lost its data holds events again";

#[tokio::test]
async fn p10_fifty_kills_of_a_worker_lose_nothing() {
    const ROUNDS: usize = 50;
    const EVENTS: usize = 2000;
    let mut chance = Seeded::new();
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "", &endpoint);
    folder.write("events.ndjson", &(0..EVENTS as u64).map(|number| event(number) + "\n").collect::<String>());
    let published = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((published.code(), published.stdout.lines().count()), (0, EVENTS), "{}", published.stderr);

    let mut books = Books::open(&redis.url(), 1).await;
    let start = || Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    for _ in 0..ROUNDS {
        let worker = start();
        endpoint.wait_until(endpoint.count() + chance.up_to(30)).await;
        worker.kill().await;
        let on_record = books.on_record().await;
        books.may_repeat(&endpoint, on_record);
    }
    let worker = start();
    books.all_is_over().await;
    let repeats = books.assert_arrived(&endpoint, &(0..EVENTS as u64).collect());
    eprintln!("{repeats} repeats in {ROUNDS} kills");
    let ended = worker.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    books.assert_memory_is_back(slice::from_ref(&redis), EVENTS).await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_under_load_loses_nothing() {
    const ROUNDS: usize = 5;
    let mut chance = Seeded::new();
    let mut redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "", &endpoint);
    let server = Server::start(&folder).await;
    let load = Load::start(server.address, 0..);
    let mut open = 0;
    for _ in 0..ROUNDS {
        endpoint.wait_until(endpoint.count() + chance.up_to(200)).await;
        let before = Books::open(&redis.url(), 1).await.on_record().await;
        let refused = load.refused();
        redis.kill();
        open += endpoint.count() - before;
        eventually("the refusal of a request", async || (load.refused() > refused).then_some(())).await;
        assert_eq!(server.get("/readyz").await.0, 503);
        redis.restart();
        load.accepts(50).await;
    }
    let accepted = load.stop().await.all();
    let mut books = Books::open(&redis.url(), 1).await;
    books.may_repeat_in_all(open);
    books.all_is_over().await;
    let repeats = books.assert_arrived(&endpoint, &accepted);
    eprintln!("{} accepted, {repeats} repeats in {ROUNDS} restarts", accepted.len());
    assert_eq!(server.get("/readyz").await.0, 200);
    let ended = server.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(
        (said(&ended.stderr, FAILS), said(&ended.stderr, ANSWERS)),
        (ROUNDS, ROUNDS),
        "{}",
        ended.stderr
    );
    books.assert_memory_is_back(slice::from_ref(&redis), accepted.len()).await;
}

#[tokio::test]
async fn a_server_that_refuses_for_a_while_under_load_loses_nothing() {
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    redis.command(&["ACL", "SETUSER", "app", "on", ">password", "~*", "&*", "+@all"]);
    let folder = folder(&format!("{}?user=app&pass=password", redis.url()), "", &endpoint);
    let server = Server::start(&folder).await;
    let load = Load::start(server.address, 0..);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (&["ACL", "SETUSER", "app", "-@scripting"], &["ACL", "SETUSER", "app", "+@scripting"]),
        (&["ACL", "SETUSER", "app", "-@write"], &["ACL", "SETUSER", "app", "+@write"]),
    ];
    for (spoil, heal) in cases {
        load.accepts(50).await;
        assert_eq!(server.get("/readyz").await.0, 200, "before {spoil:?}");
        let refused = load.refused();
        redis.command(spoil);
        // Each refusal is a 503 that says when to come again.
        eventually("the refusal of a request", async || (load.refused() > refused).then_some(())).await;
        assert_eq!(server.get("/readyz").await.0, 503, "after {spoil:?}");
        redis.command(heal);
        // What is forgotten is sent again, and what is slow is waited for: neither is refused.
        redis.command(&["SCRIPT", "FLUSH"]);
        redis.command(&["CLIENT", "PAUSE", "100", "ALL"]);
    }
    load.accepts(50).await;
    let accepted = load.stop().await.all();
    let mut books = Books::open(&redis.url(), 1).await;
    books.may_repeat_in_all(accepted.len());
    books.all_is_over().await;
    books.assert_arrived(&endpoint, &accepted);
    assert_eq!(server.get("/readyz").await.0, 200);
    let ended = server.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let (fails, answers) = (said(&ended.stderr, FAILS), said(&ended.stderr, ANSWERS));
    assert!((1..=cases.len()).contains(&fails) && fails == answers, "{fails} {answers}:\n{}", ended.stderr);
    books.assert_memory_is_back(slice::from_ref(&redis), accepted.len()).await;
}

#[tokio::test]
async fn after_flushall_under_load_what_was_stored_is_gone_and_the_rest_goes_on() {
    const STORED: u64 = 500;
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Held(200));
    let folder = folder(&redis.url(), "", &endpoint);
    let server = Server::start(&folder).await;
    let stored = (0..STORED).map(|number| event(number) + "\n").collect::<String>();
    assert_eq!(server.publish(&stored).await.len(), STORED as usize);
    // The endpoint holds its answers back, so nearly all of them are in the store only.
    endpoint.wait_until(20).await;
    let load = Load::start(server.address, STORED..);
    load.accepts(50).await;
    assert_eq!(redis.command(&["FLUSHALL"]), "OK\n");
    let flushed = Instant::now();
    endpoint.otherwise(Answer::Status(200));
    endpoint.release();
    load.accepts(300).await;
    let accepted = load.stop().await;

    let books = Books::open(&redis.url(), 1).await;
    books.all_is_over().await;
    books.assert_arrived(&endpoint, &accepted.since(flushed));
    let arrived = crate::redis::arrivals(&endpoint.received());
    let gone = (0..STORED).filter(|number| !arrived.contains_key(number)).count();
    assert!(gone > 300, "what was stored is gone, but for what the worker held: only {gone} did not arrive");
    assert_eq!(server.get("/readyz").await.0, 200);
    let ended = server.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!((said(&ended.stderr, EMPTIED), said(&ended.stderr, IN_USE)), (1, 1), "{}", ended.stderr);
    books.assert_memory_is_back(slice::from_ref(&redis), accepted.all().len()).await;
}

#[tokio::test]
async fn answers_that_are_cut_off_are_asked_for_again() {
    const ROUNDS: usize = 20;
    let mut chance = Seeded::new();
    let redis = RedisServer::start_durable();
    let proxy = TcpProxy::before(&redis.socket()).await;
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&format!("redis://{}", proxy.address()), "", &endpoint);
    let server = Server::start(&folder).await;
    let mut books = Books::open(&redis.url(), 1).await;
    let load = Load::start(server.address, 0..);
    for _ in 0..ROUNDS {
        endpoint.wait_until(endpoint.count() + chance.up_to(60)).await;
        let before = books.on_record().await;
        proxy.set(Network::CutsAnswers);
        proxy.cut_answers(chance.up_to(5)).await;
        proxy.set(Network::Up);
        books.may_repeat(&endpoint, before);
    }
    load.accepts(50).await;
    assert!(load.refused() > 0, "no request lost its answer");
    let accepted = load.stop().await.all();
    books.all_is_over().await;
    let repeats = books.assert_arrived(&endpoint, &accepted);
    eprintln!("{} accepted, {repeats} repeats in {ROUNDS} cuts", accepted.len());
    let ended = server.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    books.assert_memory_is_back(slice::from_ref(&redis), accepted.len()).await;
}

#[tokio::test]
async fn a_worker_that_stood_still_past_its_leases_leaves_what_another_now_owns() {
    const EVENTS: u64 = 100;
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(Answer::Held(200));
    let folder = folder(&redis.url(), "", &endpoint);
    let publish = async |name: &str, numbers: std::ops::Range<u64>| {
        folder.write(name, &numbers.map(|number| event(number) + "\n").collect::<String>());
        let published = folder.hookwire(&["publish", name]).await;
        assert_eq!(published.code(), 0, "{}", published.stderr);
    };
    publish("first.ndjson", 0..EVENTS).await;
    let start = || Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    let stopped = start();
    endpoint.wait_until(20).await;
    let mut books = Books::open(&redis.url(), 1).await;
    stopped.signal(Signal::STOP);
    books.may_repeat(&endpoint, books.on_record().await);
    endpoint.otherwise(Answer::Status(200));
    let other = start();
    // The other one does everything, also what is still in the hands of the first.
    books.all_is_over().await;
    assert_eq!(books.on_record().await, EVENTS as usize);
    stopped.signal(Signal::CONT);
    endpoint.release();
    eventually("the word that the leases were lost", async || {
        let log = stopped.stderr();
        (said(&log, "settled too late") + said(&log, "leases were lost") > 0).then_some(())
    })
    .await;
    publish("second.ndjson", EVENTS..2 * EVENTS).await;
    books.all_is_over().await;
    let repeats = books.assert_arrived(&endpoint, &(0..2 * EVENTS).collect());
    eprintln!("{repeats} repeats");
    assert_eq!(books.on_record().await, 2 * EVENTS as usize, "each delivery is on record once");
    for worker in [stopped, other] {
        let ended = worker.terminate().await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    books.assert_memory_is_back(slice::from_ref(&redis), 2 * EVENTS as usize).await;
}

#[tokio::test]
async fn while_a_node_of_a_cluster_is_away_the_shards_of_the_others_go_on() {
    const SHARDS: u16 = 3;
    let mut cluster = RedisCluster::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&cluster.url(), &format!("shards = {SHARDS}"), &endpoint);
    let server = Server::start(&folder).await;
    let node_of = |number: u16| cluster.node_of(&format!("{{hw:{number}}}:meta"));
    let away = node_of(SHARDS - 1);
    let on_it: BTreeSet<u16> = (0..SHARDS).filter(|number| node_of(*number) == away).collect();
    assert!(on_it.len() < usize::from(SHARDS), "the shards lie on more than one node");
    let on_others = {
        let on_it = on_it.clone();
        move |number: &u64| !on_it.contains(&shard(*number, SHARDS).0)
    };
    let mut books = Books::open(&cluster.url(), SHARDS).await;
    let others = Load::start(server.address, (0..).filter(on_others));
    let hit =
        Load::start(server.address, (0..).filter(move |number| on_it.contains(&shard(*number, SHARDS).0)));
    others.accepts(100).await;
    hit.accepts(100).await;
    let before = books.on_record().await;
    cluster.nodes_mut()[away].kill();
    books.may_repeat(&endpoint, before);
    eventually("the refusal of a request", async || (hit.refused() > 0).then_some(())).await;
    assert_eq!(server.get("/readyz").await.0, 503);
    // The others' events are taken and sent meanwhile.
    others.accepts(100).await;
    let meanwhile = others.accepted();
    eventually("the arrival of what the other nodes hold", async || {
        let arrived = crate::redis::arrivals(&endpoint.received());
        meanwhile.iter().all(|number| arrived.contains_key(number)).then_some(())
    })
    .await;
    cluster.nodes_mut()[away].restart();
    hit.accepts(100).await;
    let mut accepted = hit.stop().await.all();
    accepted.extend(others.stop().await.all());
    books.all_is_over().await;
    let repeats = books.assert_arrived(&endpoint, &accepted);
    eprintln!("{} accepted, {repeats} repeats", accepted.len());
    assert_eq!(server.get("/readyz").await.0, 200);
    let ended = server.program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    books.assert_memory_is_back(cluster.nodes(), accepted.len()).await;
}
