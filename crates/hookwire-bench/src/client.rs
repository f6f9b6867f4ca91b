//! The baselines: hyper on hand-held connections, one per task in flight, each sending its share one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::CONCURRENCY;

/// Sends `count` requests that `make` makes from their numbers, with as much in flight as the worker has.
pub(crate) async fn send_all<F>(port: u16, count: usize, make: F) -> anyhow::Result<()>
where
    F: Fn(usize) -> anyhow::Result<Request<Full<Bytes>>> + Send + Sync + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let make = Arc::new(make);
    let mut tasks = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (next, make) = (Arc::clone(&next), Arc::clone(&make));
        tasks.spawn(async move {
            let mut connection = connect(port).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                connection.ready().await?;
                let response = connection.send_request(make(number)?).await?;
                ensure!(response.status().is_success(), "the sink answers {}", response.status());
                response.into_body().collect().await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")??;
    }
    Ok(())
}

async fn connect(port: u16) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}
