//! The definitions in force as the API shows them, and what they would make of an event.
//!
//! Invariants:
//! - Members have the names and forms of the definitions file, in its order; each is there, at its default or not.
//! - No secret is shown, only that there is one; credentials that stand in a template are masked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use hookwire_definitions::{CompiledWebhook, MaskedTemplates, Preview, PreviewFilter};
use hookwire_engine::Clock;
use hookwire_model::{EventRule, RetryPolicy, Schedule};
use hookwire_queue::{Inspect, Queue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::App;
use crate::events::Source;
use crate::problem::{PROBLEM, Problem};
use crate::schema::{self, CloudEventTwin, EventTwin, PreviewTwin, ProblemTwin};

/// All event rules.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rules {
    /// In the order of the definitions.
    items: Vec<RuleView>,
}

/// All webhooks.
#[derive(Serialize, ToSchema)]
pub(crate) struct Webhooks {
    /// In the order of the definitions.
    items: Vec<WebhookView>,
}

/// An event rule, as in the definitions file.
#[derive(Serialize, ToSchema)]
#[schema(as = Rule)]
pub(crate) struct RuleView {
    name: String,
    object_types: Vec<String>,
    event_types: Vec<String>,
    #[schema(required, value_type = Option<Object>)]
    conditions: Option<Value>,
    webhooks: Vec<String>,
    #[schema(value_type = Object)]
    action_data: Map<String, Value>,
    enabled: bool,
}

/// A webhook, as in the definitions file, without its secrets.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    name: String,
    url: String,
    method: &'static str,
    content_type: String,
    additional_headers: String,
    #[schema(required)]
    body_template: Option<String>,
    template_engine: &'static str,
    escape: &'static str,
    undefined: &'static str,
    default_body: &'static str,
    /// Whether there is one.
    secret: bool,
    /// How many there are.
    previous_secrets: usize,
    signature: Vec<&'static str>,
    ssl_verification: bool,
    #[schema(required)]
    ca_file: Option<String>,
    #[schema(required)]
    client_cert: Option<String>,
    #[schema(required)]
    client_key: Option<String>,
    timeout: String,
    follow_redirects: bool,
    enabled: bool,
    concurrency: u32,
    #[schema(required)]
    rate_limit: Option<String>,
    ordering: &'static str,
    on_failure: &'static str,
    retry: RetryView,
}

/// When a webhook's deliveries are tried again: by the steps of a schedule, or by a delay that grows.
#[derive(Serialize, ToSchema)]
#[schema(as = Retry)]
struct RetryView {
    max_attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    schedule: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    initial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_delay: Option<String>,
    jitter: f64,
    #[schema(required)]
    max_age: Option<String>,
}

/// The event rules in force, in the order of the definitions.
#[utoipa::path(
    get,
    path = "/v1/rules",
    tag = "definitions",
    operation_id = "rules",
    responses((status = 200, description = "All of them.", body = Rules))
)]
pub(crate) async fn rules<Q: Queue + Inspect, C: Clock>(State(app): State<Arc<App<Q, C>>>) -> Json<Rules> {
    let snapshot = app.api.in_force.snapshot();
    Json(Rules { items: snapshot.definitions().rules().map(RuleView::new).collect() })
}

/// The webhooks in force, in the order of the definitions.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    tag = "definitions",
    operation_id = "webhooks",
    responses((status = 200, description = "All of them.", body = Webhooks))
)]
pub(crate) async fn webhooks<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
) -> Json<Webhooks> {
    let snapshot = app.api.in_force.snapshot();
    let webhooks = snapshot.definitions().webhooks();
    Json(Webhooks { items: webhooks.map(|webhook| WebhookView::new(webhook)).collect() })
}

/// Which rule to preview.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewQuery {
    rule: Option<String>,
}

/// What would be sent for an event, and why not where nothing would be; nothing is sent or kept.
///
/// Signatures are real; credentials are masked.
#[utoipa::path(
    post,
    path = "/v1/preview",
    tag = "definitions",
    operation_id = "preview",
    params(schema::RuleParam),
    request_body(content(
        (EventTwin = "application/json"),
        (CloudEventTwin = "application/cloudevents+json"),
    )),
    responses(
        (status = 200, description = "An element for each rule and webhook, in the order of the definitions.",
            body = Vec<PreviewTwin>),
        (status = 400, description = "Not one event, or bad parameters.", body = ProblemTwin,
            content_type = PROBLEM),
        (status = 404, description = "There is no such rule.", body = ProblemTwin, content_type = PROBLEM),
        (status = 415, description = "A CloudEvent in another format than JSON.", body = ProblemTwin,
            content_type = PROBLEM)
    )
)]
pub(crate) async fn preview<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    query: Result<Query<PreviewQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<Preview>>, Problem> {
    let Query(PreviewQuery { rule }) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let snapshot = app.api.in_force.snapshot();
    if let Some(rule) = &rule
        && !snapshot.definitions().rules().any(|have| have.name.as_str() == rule)
    {
        return Err(Problem::not_found(format!("there is no rule {rule:?}")));
    }
    let body = app.room.read(&headers, body, app.api.limits.request_bytes_max).await?;
    let (mut events, _body) = Source::new(&app.api, headers).read(body, Vec::new()).await?;
    let (Some(event), true) = (events.pop(), events.is_empty()) else {
        return Err(Problem::bad_body("", "a preview is made for one event; send them one by one"));
    };
    let now = app.api.clock.now();
    let refusal = Arc::clone(&app.api.refusal);
    // All rules are asked and all their templates rendered: too long to keep other requests waiting.
    let previews = tokio::task::spawn_blocking(move || {
        let filter = PreviewFilter { rule, ..PreviewFilter::default() };
        snapshot.definitions().preview(&Arc::new(event), &filter, now, &*refusal)
    });
    previews.await.map(Json).or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

impl RuleView {
    fn new(rule: &EventRule) -> Self {
        RuleView {
            name: rule.name.to_string(),
            object_types: rule.object_types.iter().map(ToString::to_string).collect(),
            event_types: rule.event_types.iter().map(ToString::to_string).collect(),
            conditions: rule.conditions.as_ref().map(|conditions| conditions.to_value()),
            webhooks: rule.webhooks.iter().map(ToString::to_string).collect(),
            action_data: rule.action_data.clone(),
            enabled: rule.enabled,
        }
    }
}

impl WebhookView {
    fn new(compiled: &CompiledWebhook) -> Self {
        let webhook = compiled.webhook();
        let MaskedTemplates { url, additional_headers, body_template } = compiled.masked_templates();
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        WebhookView {
            name: webhook.name.to_string(),
            url,
            method: webhook.method.as_str(),
            content_type: webhook.content_type.clone(),
            additional_headers,
            body_template,
            template_engine: webhook.template_engine.as_str(),
            escape: webhook.escape.as_str(),
            undefined: webhook.undefined.as_str(),
            default_body: webhook.default_body.as_str(),
            secret: !webhook.secrets.is_empty(),
            previous_secrets: webhook.secrets.len().saturating_sub(1),
            signature: webhook.signature.iter().map(|scheme| scheme.as_str()).collect(),
            ssl_verification: webhook.tls.ssl_verification,
            ca_file: path(&webhook.tls.ca_file),
            client_cert: path(&webhook.tls.client_cert),
            client_key: path(&webhook.tls.client_key),
            timeout: duration(webhook.timeout),
            follow_redirects: webhook.follow_redirects,
            enabled: webhook.enabled,
            concurrency: webhook.concurrency.get(),
            rate_limit: webhook.rate_limit.map(|limit| limit.to_string()),
            ordering: webhook.ordering.as_str(),
            on_failure: webhook.on_failure.as_str(),
            retry: RetryView::new(&webhook.retry),
        }
    }
}

impl RetryView {
    fn new(retry: &RetryPolicy) -> Self {
        let (schedule, growing) = match &retry.schedule {
            Schedule::Steps(steps) => (Some(steps.iter().copied().map(duration).collect()), None),
            Schedule::Exponential { initial, factor, max_delay } => {
                (None, Some((duration(*initial), *factor, duration(*max_delay))))
            }
        };
        RetryView {
            max_attempts: retry.max_attempts.get(),
            schedule,
            initial: growing.as_ref().map(|(initial, ..)| initial.clone()),
            factor: growing.as_ref().map(|(_, factor, _)| *factor),
            max_delay: growing.map(|(.., max_delay)| max_delay),
            jitter: retry.jitter,
            max_age: retry.max_age.map(duration),
        }
    }
}

/// A duration as definitions write it, in the largest unit that fits: `90s`, `2h`. Definitions have whole milliseconds.
fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_definitions_write_them() {
        for (millis, text) in [
            (0, "0ms"),
            (1_500, "1500ms"),
            (10_000, "10s"),
            (90_000, "90s"),
            (7_200_000, "2h"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
