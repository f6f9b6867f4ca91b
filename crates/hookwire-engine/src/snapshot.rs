//! The definitions in force, with what attempts need besides them.
//!
//! Invariant: a snapshot never changes. Reloading swaps the whole of it, so that an attempt sees definitions and
//! certificates that belong together.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookwire_definitions::Definitions;
use hookwire_dispatch::{AttemptOptions, TlsError, TlsProfile};
use hookwire_model::{Authority, EndpointId, Tls, WebhookName};

/// The definitions in force, and how to connect for each webhook.
#[derive(Debug)]
pub struct Snapshot {
    definitions: Definitions,
    webhooks: BTreeMap<WebhookName, Connecting>,
}

/// How to connect for a webhook.
#[derive(Debug)]
struct Connecting {
    options: AttemptOptions,
    /// Its one endpoint, where the authority stands literally in its URL: a hash less for each attempt.
    literal: Option<(Authority, EndpointId)>,
}

/// A webhook whose certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("webhook \"{webhook}\"")]
pub struct SnapshotError {
    /// Which webhook.
    pub webhook: WebhookName,
    /// What is wrong.
    #[source]
    pub source: TlsError,
}

impl Snapshot {
    /// Takes compiled definitions, and reads the certificates they name.
    ///
    /// # Errors
    /// [`SnapshotError`] for each webhook whose certificates cannot be read or used.
    pub fn new(definitions: Definitions) -> Result<Snapshot, Vec<SnapshotError>> {
        // Webhooks with the same settings share a profile, so that they resume each other's TLS sessions.
        let mut profiles: Vec<(Tls, Arc<TlsProfile>)> = Vec::new();
        let mut webhooks = BTreeMap::new();
        let mut errors = Vec::new();
        for compiled in definitions.webhooks() {
            let webhook = compiled.webhook();
            let known =
                profiles.iter().find(|(tls, _)| *tls == webhook.tls).map(|(_, profile)| Arc::clone(profile));
            let tls = match known.map_or_else(|| TlsProfile::load(&webhook.tls), Ok) {
                Ok(profile) => profile,
                Err(source) => {
                    errors.push(SnapshotError { webhook: webhook.name.clone(), source });
                    continue;
                }
            };
            profiles.push((webhook.tls.clone(), Arc::clone(&tls)));
            let follow_redirects = webhook.follow_redirects;
            let options = AttemptOptions { timeout: webhook.timeout, tls, follow_redirects };
            let literal = compiled.literal_authority();
            let literal =
                literal.map(|authority| (authority.clone(), EndpointId::derive(&webhook.name, authority)));
            webhooks.insert(webhook.name.clone(), Connecting { options, literal });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Snapshot { definitions, webhooks })
    }

    /// The definitions.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// How to connect for a webhook of these definitions.
    pub(crate) fn options(&self, webhook: &WebhookName) -> &AttemptOptions {
        &self.connecting(webhook).options
    }

    /// The endpoint of a webhook of these definitions at an authority.
    pub(crate) fn endpoint(&self, webhook: &WebhookName, authority: &Authority) -> EndpointId {
        match &self.connecting(webhook).literal {
            Some((literal, endpoint)) if literal == authority => *endpoint,
            _ => EndpointId::derive(webhook, authority),
        }
    }

    /// The one endpoint of a webhook of these definitions, where rendering is not needed to tell it.
    pub(crate) fn literal_endpoint(&self, webhook: &WebhookName) -> Option<EndpointId> {
        self.connecting(webhook).literal.as_ref().map(|(_, endpoint)| *endpoint)
    }

    fn connecting(&self, webhook: &WebhookName) -> &Connecting {
        self.webhooks.get(webhook).expect("there is an entry for every webhook of the definitions")
    }
}
