//! What is stored of an endpoint: the record that workers, server and commands share.
//!
//! Invariant: an endpoint about which there is nothing to say has no record.

use bytes::Bytes;
use hookwire_model::{EndpointId, Shard, Timestamp, WebhookName};
use hookwire_policy::Health;
use serde::{Deserialize, Serialize};

/// The record's layout. Another one is left alone, and the endpoint taken as one without a record: what it knew is
/// found out again.
const VERSION: u32 = 1;

/// An endpoint as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointState {
    v: u32,
    /// Its webhook.
    pub webhook: WebhookName,
    /// Scheme, host and port; `None` in the record that stands for all endpoints of the webhook.
    pub authority: Option<String>,
    /// How it does.
    pub health: Health,
    /// Who paused it, where it is paused.
    pub paused_by: Option<PausedBy>,
}

/// Who paused an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// A person, by command or API.
    Person,
    /// Its receiver, which answered 410 (Gone, RFC 9110 section 15.5.11).
    Gone,
    /// A person who paused the whole webhook.
    Webhook,
}

impl EndpointState {
    /// One about which nothing is known.
    pub fn new(webhook: WebhookName, authority: Option<String>) -> Self {
        EndpointState { v: VERSION, webhook, authority, health: Health::default(), paused_by: None }
    }

    /// Reads a record; `None` if it is of another layout.
    pub fn read(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok().filter(|state: &EndpointState| state.v == VERSION)
    }

    /// The record.
    pub fn to_record(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("names, numbers and times can be written as JSON"))
    }

    /// Lets nothing through until it is resumed.
    pub fn pause(&mut self, by: PausedBy, now: Timestamp) {
        if !self.health.is_paused() {
            self.health.pause(now);
            self.paused_by = Some(by);
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self, now: Timestamp) {
        self.health.resume(now);
        self.paused_by = None;
    }
}

/// The shard that keeps an endpoint's record.
pub fn home_shard(endpoint: EndpointId, shards: u16) -> Shard {
    Shard((endpoint.as_u64() % u64::from(shards.max(1))) as u16)
}
