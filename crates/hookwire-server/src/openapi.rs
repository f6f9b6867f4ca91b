//! The description of the API: OpenAPI 3.1, made from the routes' own attributes.
//!
//! Invariant: it has every route of the router and no other, and every answer is as it says; tests check both.

use axum::Json;
use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, HeaderBuilder, ObjectBuilder, Ref, Response, ResponseBuilder, Type};
use utoipa::{OpenApi, ToSchema as _};

use crate::problem::PROBLEM;
use crate::schema::ProblemTwin;
use crate::{definitions, deliveries, endpoints, events, metrics, stats};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hookwire",
        description = "Change events in, webhooks out, reliably. Every refusal is a problem document (RFC 9457)."
    ),
    paths(
        events::publish,
        events::event,
        deliveries::list,
        deliveries::show,
        deliveries::retry_one,
        deliveries::cancel_one,
        deliveries::retry_many,
        deliveries::cancel_many,
        deliveries::dead,
        deliveries::redrive,
        deliveries::purge,
        definitions::rules,
        definitions::webhooks,
        definitions::preview,
        endpoints::list,
        endpoints::pause,
        endpoints::resume,
        endpoints::probe,
        endpoints::pause_all,
        endpoints::resume_all,
        stats::stats,
        show,
        metrics::metrics,
        stats::healthz,
        stats::readyz,
    ),
    tags(
        (name = "events", description = "Events in."),
        (name = "deliveries", description = "Looking at deliveries, and acting on them."),
        (name = "definitions", description = "The definitions in force."),
        (name = "endpoints", description = "What holds endpoints back; pausing, resuming and probing them."),
        (name = "operation", description = "Counts, health, and this description."),
    ),
    components(schemas(ProblemTwin))
)]
struct Description;

const PATH: &str = "/v1/openapi.json";

/// This description.
#[utoipa::path(
    get,
    path = PATH,
    tag = "operation",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = Value))
)]
pub(crate) async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(description())
}

/// What can go wrong anywhere, with the store, and with a body.
struct Refusal {
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, title: &'static str, detail: &'static str) -> Self {
        Refusal { status, title, detail }
    }
}

const ANYWHERE: &[Refusal] = &[
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "send \"Authorization: Bearer <token>\""),
    Refusal::new(StatusCode::FORBIDDEN, "forbidden", "this token may only look; use the admin token"),
];

const WITH_STORE: &[Refusal] = &[
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed", "the store is damaged: ..."),
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the store takes nothing now",
        "the store is unavailable: connection refused",
    ),
];

const WITH_BODY: &[Refusal] = &[
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "too slow",
        "the body did not come in within 60 s; send smaller batches",
    ),
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too large",
        "this request may have 33554432 bytes; send smaller batches",
    ),
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too many requests at a time",
        "other requests fill the memory that is set aside for bodies; try again, with fewer requests at a time or \
         smaller batches",
    ),
];

/// The whole description.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    let mut description = Description::openapi();
    let components = description.components.get_or_insert_default();
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some(
        "The admin token, or for GET the read token. On loopback none is needed unless one is set.".into(),
    );
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    for refusal in ANYWHERE.iter().chain(WITH_STORE).chain(WITH_BODY) {
        components.responses.insert(refusal.status.as_u16().to_string(), refusal.response().into());
    }
    for (path, item) in &mut description.paths.paths {
        if !path.starts_with("/v1/") {
            continue;
        }
        for operation in operations(item) {
            let with_body = operation.request_body.is_some();
            // Definitions are in memory, and so is this description.
            let tags = operation.tags.iter().flatten();
            let with_store = path != PATH && !tags.into_iter().any(|tag| tag == "definitions");
            let refusals = ANYWHERE
                .iter()
                .chain(WITH_STORE.iter().filter(|_| with_store))
                .chain(WITH_BODY.iter().filter(|_| with_body));
            for Refusal { status, .. } in refusals {
                let status = status.as_u16().to_string();
                operation.responses.responses.insert(status.clone(), Ref::from_response_name(status).into());
            }
            operation.security = Some(vec![
                SecurityRequirement::default(),
                SecurityRequirement::new("token", [] as [&str; 0]),
            ]);
        }
    }
    description
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

impl Refusal {
    fn response(&self) -> Response {
        let Refusal { status, title, detail } = self;
        let mut content = Content::new(Some(Ref::from_schema_name(ProblemTwin::name())));
        content.example = Some(json!({"status": status.as_u16(), "title": title, "detail": detail}));
        let response = ResponseBuilder::new().description(*title).content(PROBLEM, content);
        match *status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
                let header = HeaderBuilder::new().schema(Some(seconds));
                response.header("retry-after", header.description(Some("Seconds to wait.")).build()).build()
            }
            _ => response.build(),
        }
    }
}
