//! What the routes work with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hookwire_definitions::HostRefusal;
use hookwire_engine::{Clock, InForce, Metrics, tell_what_holds};
use hookwire_model::{Delivery, EventId};
use hookwire_queue::{Inspect, Queue, QueueError};

use crate::body::BodyRoom;
use crate::guard::Tokens;

/// What requests may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiLimits {
    /// How many bytes an event may have.
    pub event_bytes_max: usize,
    /// How many bytes a request may have.
    pub request_bytes_max: usize,
    /// How many events a request may have: a small event takes many times its bytes while it is read.
    pub request_events_max: usize,
    /// How many bytes of bodies all requests together may hold in memory; a request that finds no room is answered 429.
    /// What is made of a body while it is read comes on top, some three times as much.
    pub held_bytes_max: usize,
    /// How long a body may take to come in.
    pub body_timeout: Duration,
}

impl Default for ApiLimits {
    /// 1 MiB an event; 32 MiB and 100,000 events a request, which is a batch of some ten thousand usual events;
    /// 96 MiB in all; a minute for a body, so that a full batch comes in over a slow line (4 Mbit/s).
    fn default() -> Self {
        ApiLimits {
            event_bytes_max: 1 << 20,
            request_bytes_max: 32 << 20,
            request_events_max: 100_000,
            held_bytes_max: 96 << 20,
            body_timeout: Duration::from_secs(60),
        }
    }
}

/// What the routes work with.
pub struct Api<Q, C> {
    /// Where events go, and deliveries are seen.
    pub queue: Arc<Q>,
    /// The time, for events that bring none.
    pub clock: C,
    /// Makes ids for events that bring none.
    pub new_id: fn() -> EventId,
    /// What requests may bring.
    pub limits: ApiLimits,
    /// Who may ask.
    pub tokens: Tokens,
    /// What the store is called, for those who ask whether it is the one that they mean. `None`: it is whichever they
    /// mean.
    pub store: Option<String>,
    /// The definitions in force.
    pub in_force: Arc<InForce>,
    /// Which addresses the worker does not call, for previews.
    pub refusal: Arc<HostRefusal>,
    /// What the worker in this process counts.
    pub metrics: Metrics,
    /// Whether a worker runs in this process and its store answers: what `/readyz` tells.
    pub ready: Arc<AtomicBool>,
}

/// The state of the routes.
pub(crate) struct App<Q, C> {
    pub(crate) api: Api<Q, C>,
    pub(crate) room: BodyRoom,
}

impl<Q: Queue + Inspect, C: Clock> App<Q, C> {
    /// Brings up to date what deliveries wait for.
    pub(crate) async fn tell_what_holds(&self, deliveries: &mut [Delivery]) -> Result<(), QueueError> {
        let Api { queue, in_force, clock, .. } = &self.api;
        tell_what_holds(&**queue, Some(in_force.snapshot().definitions()), deliveries, clock.now()).await
    }
}
