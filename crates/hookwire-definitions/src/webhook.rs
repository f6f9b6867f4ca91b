//! One webhook, ready for use: templates and signer made once, a request made for each attempt.
//!
//! Invariants:
//! - A header name stands once in a request. What hookwire sends itself wins over what a template says.
//! - Templates of an enabled webhook compiled; a disabled one may keep broken ones until somebody mends them.
//! - The signature covers the very bytes that are sent.

use bytes::Bytes;
use hookwire_model::{
    AttemptError, Authority, DeliveryId, ErrorKind, HeaderText, Ordering, PreparedRequest, Secret,
    TemplateContext, Timestamp, Webhook,
};
use hookwire_policy::Signer;
use hookwire_template::{Field, Limits, Rendered, TemplateError, TemplateErrorKind, WebhookTemplates};

use crate::{DefinitionError, Place};

/// What every request says it was sent by.
const USER_AGENT: &str = concat!("hookwire/", env!("CARGO_PKG_VERSION"));

/// What the names of headers end with whose values are never recorded or shown: `Authorization`, `Proxy-Authorization`
/// and `Cookie`, and what services call theirs, such as `X-Api-Key` and `Private-Token`. In lower case.
pub const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "-key", "-token", "-secret"];

/// A secret shorter than this is not searched for in headers: it would be found everywhere.
pub(crate) const SEARCHED_SECRET_BYTES_MIN: usize = 6;

/// A webhook with its templates and signer.
#[derive(Debug)]
pub struct CompiledWebhook {
    webhook: Webhook,
    /// What is wrong with them, at least one thing, only if the webhook is disabled: its deliveries wait.
    templates: Result<WebhookTemplates, Vec<TemplateError>>,
    signer: Signer,
    content_type: Bytes,
}

/// Why no request could be made for a delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct PrepareError(#[from] pub TemplateError);

impl PrepareError {
    /// The error as the record of an attempt shows it: with its place.
    pub fn attempt_error(&self) -> AttemptError {
        let kind = match self.0.field {
            Field::Url => ErrorKind::Url,
            Field::AdditionalHeaders => ErrorKind::Headers,
            Field::BodyTemplate => ErrorKind::Body,
        };
        AttemptError { kind, message: self.0.to_string() }
    }

    /// Whether the templates rendered, and what came out is no URL or header that can be sent.
    pub fn rendered(&self) -> bool {
        match self.0.kind {
            TemplateErrorKind::InvalidUrl | TemplateErrorKind::InvalidHeader => true,
            TemplateErrorKind::Syntax
            | TemplateErrorKind::Unknown
            | TemplateErrorKind::Undefined
            | TemplateErrorKind::Limit
            | TemplateErrorKind::Unsupported
            | TemplateErrorKind::Runtime
            | TemplateErrorKind::NotJson => false,
        }
    }
}

impl CompiledWebhook {
    /// Compiles a webhook that stands at this place.
    ///
    /// # Errors
    /// Every problem there is. Broken templates of a disabled webhook are none: see [`problems`](Self::problems).
    pub(crate) fn compile(webhook: Webhook, place: &Place) -> Result<Self, Vec<DefinitionError>> {
        let mut errors = Vec::new();
        let templates = WebhookTemplates::compile(&webhook, &Limits::default());
        if let (Err(found), true) = (&templates, webhook.enabled) {
            let found = found.iter().cloned();
            errors.extend(found.map(|error| DefinitionError::template(place.clone(), error)));
        }
        let signer = Signer::new(&webhook.signature, &webhook.secrets)
            .map_err(|error| errors.push(DefinitionError::secret(place.clone(), &error)));
        match signer {
            Ok(signer) if errors.is_empty() => {
                let content_type = Bytes::from(webhook.content_type.clone());
                Ok(CompiledWebhook { webhook, templates, signer, content_type })
            }
            _ => Err(errors),
        }
    }

    /// The definition.
    pub fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    /// The authority, if it stands literally in the URL: such a webhook has exactly one endpoint.
    pub fn literal_authority(&self) -> Option<&Authority> {
        self.templates.as_ref().ok().and_then(WebhookTemplates::literal_authority)
    }

    /// What is wrong with the templates: nothing, unless the webhook is disabled.
    pub fn problems(&self) -> &[TemplateError] {
        self.templates.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// Makes the request of an attempt: renders, adds the headers that every request carries, and signs at
    /// `now`.
    ///
    /// # Errors
    /// [`PrepareError`] if a template cannot be rendered, or renders to what cannot be sent.
    pub fn prepare(
        &self,
        context: &TemplateContext,
        delivery: DeliveryId,
        attempt: u32,
        now: Timestamp,
    ) -> Result<PreparedRequest, PrepareError> {
        let templates = self.templates.as_ref().map_err(|errors| {
            PrepareError(errors.first().expect("templates that did not compile have an error").clone())
        })?;
        let rendered = templates.render(context)?;
        let Rendered { authority, literal_host, target, authorization, headers: additional, body } = rendered;
        let id = delivery.to_string();
        let mut signature = Vec::with_capacity(2);
        self.signer.sign(&id, now, &body, &mut signature);
        let mut headers: Vec<(HeaderText, Bytes)> = Vec::with_capacity(additional.len() + 8);
        headers.push(("Content-Type".into(), self.content_type.clone()));
        headers.push(("User-Agent".into(), Bytes::from_static(USER_AGENT.as_bytes())));
        headers.push(("webhook-id".into(), Bytes::from(id)));
        headers.push(("webhook-attempt".into(), number(u64::from(attempt))));
        if self.webhook.ordering == Ordering::Object {
            headers.push(("webhook-sequence".into(), number(delivery.sequence().0)));
        }
        let own = headers.len();
        for (name, value) in additional {
            // Only the content type may be there already: the others are refused when a template is compiled
            // or rendered.
            set(&mut headers, name.into(), value);
        }
        if let Some(authorization) = authorization {
            set(&mut headers, "Authorization".into(), Bytes::from(authorization));
        }
        // What is made here holds no secret, unless a definition's content type does.
        let masked = headers[..1].iter().chain(&headers[own..]).filter(|header| self.masks(header));
        let masked_headers = masked.map(|(name, _)| name.to_ascii_lowercase()).collect();
        for (name, value) in signature {
            set(&mut headers, name, value);
        }
        let method = self.webhook.method;
        Ok(PreparedRequest { method, authority, literal_host, target, headers, masked_headers, body })
    }

    /// Whether a header holds credentials, or one of the webhook's own secrets.
    fn masks(&self, (name, value): &(HeaderText, Bytes)) -> bool {
        let secrets = self.webhook.secrets.iter().map(Secret::expose);
        let mut searched = secrets.filter(|secret| {
            // A value that is shorter cannot hold it.
            (SEARCHED_SECRET_BYTES_MIN..=value.len()).contains(&secret.len())
        });
        CREDENTIALS.iter().any(|end| {
            let tail = name.len().checked_sub(end.len()).map(|at| &name.as_bytes()[at..]);
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
        }) || searched.any(|secret| memchr::memmem::find(value, secret.as_bytes()).is_some())
    }
}

/// A number as the value of a header. Most are first attempts.
fn number(value: u64) -> Bytes {
    match value {
        1 => Bytes::from_static(b"1"),
        value => Bytes::from(value.to_string()),
    }
}

/// Sets a header; one of that name keeps its place.
fn set(headers: &mut Vec<(HeaderText, Bytes)>, name: HeaderText, value: Bytes) {
    match headers.iter_mut().find(|(have, _)| have.eq_ignore_ascii_case(&name)) {
        Some(header) => *header = (name, value),
        None => headers.push((name, value)),
    }
}
