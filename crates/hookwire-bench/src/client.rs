//! The baselines: hyper on hand-held connections, one per task in flight, each sending its share one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use hookwire_definitions::Definitions;
use hookwire_model::{DeliveryId, Event, PreparedRequest, Sequence, Shard, Timestamp};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::load::{self, CONCURRENCY};
use crate::measure::{Took, Watch};

/// Ready requests of the same size, with the same headers.
pub(crate) fn bare(
    runtime: &Runtime,
    port: u16,
    definitions: &Definitions,
    sample: &Event,
    count: usize,
) -> anyhow::Result<Took> {
    let sample = prepare(definitions, sample.clone(), 0)?;
    let watch = Watch::start();
    runtime.block_on(send_all(port, count, move |_| request(&sample)))?;
    Ok(watch.stop())
}

/// The same work from memory: parse, match, render, sign, send; nothing leased, nothing recorded.
pub(crate) fn working(
    runtime: &Runtime,
    port: u16,
    definitions: Definitions,
    payloads: Arc<Vec<String>>,
) -> anyhow::Result<Took> {
    let count = payloads.len();
    let watch = Watch::start();
    runtime.block_on(send_all(port, count, move |number| {
        let event = Event::from_payload(payloads[number].as_bytes()).map_err(|error| anyhow!("{error}"))?;
        request(&prepare(&definitions, event, number as u64)?)
    }))?;
    Ok(watch.stop())
}

/// Sends `count` requests that `make` makes from their numbers, with as much in flight as the worker has.
async fn send_all<F>(port: u16, count: usize, make: F) -> anyhow::Result<()>
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
                send(&mut connection, make(number)?).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")??;
    }
    Ok(())
}

/// A connection with nothing under way.
pub(crate) async fn connect(port: u16) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request, and takes its answer.
pub(crate) async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<()> {
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    ensure!(response.status().is_success(), "the other side answers {}", response.status());
    response.into_body().collect().await?;
    Ok(())
}

/// What the worker would send for an event.
pub(crate) fn prepare(
    definitions: &Definitions,
    event: Event,
    number: u64,
) -> anyhow::Result<PreparedRequest> {
    let route = load::route(definitions, event)?;
    let event = route.context.event().id.clone();
    let id =
        DeliveryId::derive(Shard(0), Sequence(number), &event, &route.rule, &route.webhook.webhook().name);
    Ok(route.webhook.prepare(&route.context, id, 1, Timestamp::from_secs(1_700_000_000))?)
}

/// The same as hyper takes it.
pub(crate) fn request(prepared: &PreparedRequest) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut builder = Request::post(&prepared.target).header("host", "127.0.0.1");
    for (name, value) in &prepared.headers {
        builder = builder.header(&**name, value.as_ref());
    }
    Ok(builder.body(Full::new(prepared.body.clone()))?)
}
