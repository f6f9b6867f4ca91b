//! The API on a store in memory, at a free port of loopback: takes events, and shows that they are queued. No worker
//! runs, so nothing is sent.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hookwire_definitions::Definitions;
use hookwire_engine::{Clock as _, InForce, Metrics, Snapshot, SystemClock};
use hookwire_model::EventId;
use hookwire_queue::{MemoryQueue, StoreLimits};
use hookwire_server::{Api, ApiLimits, ServeLimits, Tokens, router, serve};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let snapshot = Snapshot::new(Definitions::default()).map_err(|errors| format!("{errors:?}"))?;
    let api = Api {
        queue: Arc::new(MemoryQueue::new(StoreLimits::default())),
        clock: SystemClock,
        new_id: || EventId::new("example").expect("letters are visible ASCII"),
        limits: ApiLimits::default(),
        tokens: Tokens::default(),
        store: None,
        metrics: Metrics::default(),
        in_force: InForce::new(snapshot, SystemClock.now()),
        refusal: Arc::new(|_, _| None),
        ready: Arc::new(AtomicBool::new(true)),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("POST events to http://{}/v1/events", listener.local_addr()?);
    serve(listener, router(api), ServeLimits::default(), std::future::pending()).await?;
    Ok(())
}
