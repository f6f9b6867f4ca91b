//! What these tests share: the API over a store in memory, and answers with their bodies read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response};
use bytes::Bytes;
use hookwire_definitions::Definitions;
use hookwire_engine::{InForce, Metrics, Snapshot, SystemClock};
use hookwire_model::{
    Attempt, AttemptError, DeadReason, DeliveryId, EndpointId, ErrorKind, EventId, Hop, OutcomeKind,
    RequestRecord, ResponseRecord, RuleName, Sequence, Shard, Timestamp, Timings, WaitingReason, WebhookName,
};
use hookwire_queue::{
    EventFate, Fate, Inspect as _, LeaseEvents, NewDelivery, NewEvent, Queue as _, SettledEvent, Settlement,
    StoreLimits, WorkerId,
};
use hookwire_server::{Api, ApiLimits, Tokens, router};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::openapi::Description;
use crate::store::TestStore;

pub(crate) const JSON: &str = "application/json";
pub(crate) const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

/// What an API is made of, where it is not the usual.
pub(crate) struct Setup {
    pub(crate) shards: u16,
    pub(crate) store: StoreLimits,
    pub(crate) limits: ApiLimits,
    pub(crate) tokens: Tokens,
    pub(crate) named: Option<String>,
    pub(crate) definitions: Definitions,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            shards: 1,
            store: StoreLimits::default(),
            // Small, so that tests can go past them.
            limits: ApiLimits {
                event_bytes_max: 300,
                request_bytes_max: 1000,
                request_events_max: 30,
                held_bytes_max: 1500,
                body_timeout: Duration::from_secs(60),
            },
            tokens: Tokens::default(),
            named: None,
            definitions: Definitions::default(),
        }
    }
}

/// The API, and the store behind it.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) store: Arc<TestStore>,
    pub(crate) in_force: Arc<InForce>,
    pub(crate) ready: Arc<AtomicBool>,
}

/// An answer, its body read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// As JSON; null if it is none.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Server {
    pub(crate) fn new(setup: Setup) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let store = Arc::new(TestStore::new(setup.shards, &setup.store));
        let ready = Arc::new(AtomicBool::new(true));
        let in_force = InForce::new(Snapshot::new(setup.definitions).unwrap(), Timestamp::UNIX_EPOCH);
        let router = router(Api {
            queue: Arc::clone(&store),
            clock: SystemClock,
            new_id: || EventId::new(&format!("new-{}", NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap(),
            limits: setup.limits,
            tokens: setup.tokens,
            store: setup.named,
            metrics: Metrics::default(),
            in_force: Arc::clone(&in_force),
            refusal: Arc::new(|_, _| None),
            ready: Arc::clone(&ready),
        });
        Server { router, store, in_force, ready }
    }

    pub(crate) fn open() -> Self {
        Server::new(Setup::default())
    }

    /// One request, whose answer must be one that the description has.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method.clone()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer =
            read(self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()).await;
        Description::get().await.check(&method, path, &answer);
        answer
    }

    /// Publishes from this machine.
    pub(crate) async fn publish(&self, body: &str) -> Answer {
        self.post("/v1/events", body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, &[HOST, ("content-type", JSON)], body.to_owned()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[HOST], Body::empty()).await
    }

    /// How many events wait for their fan-out, over all shards.
    pub(crate) async fn queued(&self) -> u64 {
        let mut queued = 0;
        for shard in 0..self.store.shards() {
            queued += self.store.stats(Shard(shard)).await.unwrap().events_queued;
        }
        queued
    }

    /// An event in this shard that was fanned out to a delivery of rule `r` for each webhook, with these fates.
    pub(crate) async fn fan_out(
        &self,
        shard: u16,
        event: &str,
        webhooks: &[(&str, Fate)],
    ) -> Vec<DeliveryId> {
        let shard = Shard(shard);
        let id = EventId::new(event).unwrap();
        let new = NewEvent { id: id.clone(), payload: crate::support::event(event).into() };
        self.store.publish(shard, vec![new]).await.unwrap();
        let request = LeaseEvents {
            worker: WorkerId::new("test"),
            lease: Duration::from_secs(3600),
            max: 1,
            suspects_max: 1,
        };
        let leased = self.store.lease_events(shard, request).await.unwrap().remove(0);
        let rule = RuleName::new("r").unwrap();
        let deliveries: Vec<NewDelivery> = webhooks
            .iter()
            .map(|(webhook, fate)| {
                let webhook = WebhookName::new(webhook).unwrap();
                NewDelivery {
                    id: DeliveryId::derive(shard, leased.sequence, &id, &rule, &webhook),
                    rule: rule.clone(),
                    endpoint: Some(endpoint(&webhook)),
                    webhook,
                    order: None,
                    attempts: vec![hookwire_queue::PackedAttempt::from(&attempt())],
                    fate: fate.clone(),
                }
            })
            .collect();
        let ids = deliveries.iter().map(|delivery| delivery.id).collect();
        let fate =
            EventFate::FannedOut { event: "created".into(), object_type: "dcim.site".into(), deliveries };
        let settlement =
            Settlement { events: vec![SettledEvent { lease: leased.lease, fate }], deliveries: vec![] };
        self.store.settle(shard, &settlement).await.unwrap();
        ids
    }

    /// The state a delivery is in, or null if there is none.
    pub(crate) async fn state(&self, id: DeliveryId) -> Value {
        self.get(&format!("/v1/deliveries/{id}")).await.body["state"].clone()
    }
}

/// An attempt that has every member.
fn attempt() -> Attempt {
    let phase = Some(Duration::from_micros(250));
    Attempt {
        number: 1,
        started_at: Timestamp::from_secs(1_700_000_000),
        duration: Duration::from_millis(12),
        outcome: OutcomeKind::Rejected,
        status: Some(503),
        error: Some(AttemptError { kind: ErrorKind::ResponseBody, message: "it broke off".into() }),
        address: Some(([127, 0, 0, 1], 9000).into()),
        hops: vec![Hop { status: 307, url: "http://hooks.example/b".into(), address: None }],
        timings: Timings { resolve: phase, connect: phase, tls: phase, head: phase, body: phase },
        request: Some(RequestRecord {
            method: "POST".into(),
            url: "http://hooks.example/a".into(),
            headers: vec![("Content-Type".into(), "application/json".into())],
            body_bytes: 2,
            body_sha256: "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".into(),
            body_base64: Some(Bytes::from_static(b"{}")),
        }),
        response: Some(ResponseRecord {
            status: 503,
            headers: vec![("Retry-After".into(), "1".into())],
            body_base64: Bytes::from_static(b"busy"),
            truncated: true,
        }),
    }
}

/// The endpoint of all deliveries to a webhook here.
pub(crate) fn endpoint(webhook: &WebhookName) -> EndpointId {
    let authority = hookwire_model::Authority { https: false, host: "hooks.example".into(), port: 80 };
    EndpointId::derive(webhook, &authority)
}

/// The id of a delivery that does not exist.
pub(crate) fn nobody(shard: u16) -> DeliveryId {
    DeliveryId::from_parts(Shard(shard), Sequence(9999), 0)
}

/// Fates of deliveries.
pub(crate) fn waiting() -> Fate {
    Fate::Waiting { due_in: Duration::from_secs(3600), reason: WaitingReason::Retry }
}

pub(crate) fn running() -> Fate {
    Fate::Running { lease: Duration::from_secs(3600) }
}

pub(crate) fn dead() -> Fate {
    Fate::Dead { reason: DeadReason::AttemptsExhausted, error: None }
}

async fn read(response: Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: head.status.as_u16(), headers: head.headers, body, text }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks that this is a problem with its members, and gives the pointers of its errors.
    pub(crate) fn pointers(&self, status: u16) -> Vec<&str> {
        let content_type = self.header("content-type");
        assert_eq!((self.status, content_type), (status, Some("application/problem+json")), "{}", self.body);
        assert_eq!(self.body["status"], status, "{}", self.body);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{}", self.body);
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(errors.iter().all(|error| error["message"].is_string()), "{}", self.body);
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

pub(crate) fn event(id: &str) -> String {
    format!(r#"{{"event":"created","object_type":"dcim.site","id":"{id}","data":{{"id":1}}}}"#)
}
