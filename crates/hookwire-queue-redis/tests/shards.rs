//! A store knows how many shards it has, and refuses to be opened with another number.

use hookwire_queue::{Queue as _, QueueError};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisUrl};
use hookwire_testkit::RedisServer;

async fn open(server: &RedisServer, prefix: &str, shards: u16) -> Result<RedisQueue, QueueError> {
    let url = RedisUrl::parse(&server.url()).unwrap();
    let options = RedisOptions { shards, prefix: prefix.to_owned(), ..RedisOptions::default() };
    RedisQueue::open(&url, options).await
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let server = RedisServer::start();
    assert_eq!(open(&server, "hw", 3).await.unwrap().shards(), 3);
    for asked in [1, 2, 4] {
        let error = open(&server, "hw", asked).await.unwrap_err();
        assert!(matches!(error, QueueError::OtherShards { found: 3, asked: was } if was == asked), "{error}");
        assert!(!error.is_transient(), "waiting does not help");
        let wanted = format!("the store has 3 shards, and `store.shards` is {asked}: set it to 3");
        assert!(error.to_string().starts_with(&wanted), "{error}");
    }
    assert_eq!(open(&server, "hw", 3).await.unwrap().shards(), 3, "the right number still is");
    assert_eq!(open(&server, "other", 1).await.unwrap().shards(), 1, "another store has its own");
}

#[tokio::test]
async fn of_two_numbers_at_once_one_is_taken() {
    let server = RedisServer::start();
    let (two, five) = tokio::join!(open(&server, "hw", 2), open(&server, "hw", 5));
    assert!(two.is_ok() != five.is_ok(), "{two:?} {five:?}");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_can_be_looked_at() {
    let server = RedisServer::start();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(open(&server, "hw", 2).await.unwrap().shards(), 2);
    assert_eq!(server.command(&["EXISTS", "{hw:shards}"]).trim(), "0");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(open(&server, "hw", 2).await.unwrap().shards(), 2);
    assert_eq!(server.command(&["GET", "{hw:shards}"]).trim(), "2");
}

#[tokio::test]
async fn what_is_no_number_is_told() {
    let server = RedisServer::start();
    server.command(&["SET", "{hw:shards}", "many"]);
    let error = open(&server, "hw", 2).await.unwrap_err();
    assert_eq!(error.to_string(), "the store is damaged: {hw:shards} is not a number of shards");
}
