//! Endpoints: what holds them back, and pausing, resuming and probing them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hookwire_engine::{
    Clock, Endpoint, EndpointAct, OperateError, act_on_endpoint, list_endpoints, pause_webhook,
};
use hookwire_model::{EndpointId, IdError, WebhookName};
use hookwire_queue::{Inspect, Queue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::App;
use crate::deliveries::OneChanged;
use crate::problem::{PROBLEM, Problem};
use crate::schema::{self, EndpointTwin, ProblemTwin};
use crate::segment::Segment;

/// Endpoints, by webhook and id.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndpointList {
    #[schema(value_type = Vec<EndpointTwin>)]
    items: Vec<Endpoint>,
}

type Acted = Result<Json<OneChanged>, Problem>;

/// All endpoints that something is known of.
#[utoipa::path(
    get,
    path = "/v1/endpoints",
    tag = "endpoints",
    operation_id = "endpoints",
    responses(
        (status = 200, description = "Those of webhooks without a template in their authority, and those that were in trouble.", body = EndpointList)
    )
)]
pub(crate) async fn list<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
) -> Result<Json<EndpointList>, Problem> {
    let snapshot = app.api.in_force.snapshot();
    let items = list_endpoints(&*app.api.queue, snapshot.definitions(), app.api.clock.now()).await?;
    Ok(Json(EndpointList { items }))
}

/// Lets nothing through to an endpoint.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/pause",
    tag = "endpoints",
    operation_id = "pause_endpoint",
    params(schema::EndpointParam),
    responses(
        (status = 200, description = "It is paused.", body = OneChanged),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "Nothing is known of it.", body = ProblemTwin, content_type = PROBLEM),
        (status = 409, description = "Others change it at this moment; try again.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn pause<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Acted {
    act(&app, &id, EndpointAct::Pause).await
}

/// Ends the pause of an endpoint.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/resume",
    tag = "endpoints",
    operation_id = "resume_endpoint",
    params(schema::EndpointParam),
    responses(
        (status = 200, description = "It is not paused.", body = OneChanged),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "Nothing is known of it.", body = ProblemTwin, content_type = PROBLEM),
        (status = 409, description = "Others change it at this moment; try again.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn resume<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Acted {
    act(&app, &id, EndpointAct::Resume).await
}

/// Lets one attempt through to an endpoint that is not called because it failed.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/probe",
    tag = "endpoints",
    operation_id = "probe_endpoint",
    params(schema::EndpointParam),
    responses(
        (status = 200, description = "An attempt may go out now.", body = OneChanged),
        (status = 400, description = "No id.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "Nothing is known of it.", body = ProblemTwin, content_type = PROBLEM),
        (status = 409, description = "It is paused, or others change it at this moment.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn probe<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(id): Segment,
) -> Acted {
    act(&app, &id, EndpointAct::Probe).await
}

/// Lets nothing through to all endpoints of a webhook.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/pause",
    tag = "endpoints",
    operation_id = "pause_webhook",
    params(schema::WebhookParam),
    responses(
        (status = 200, description = "All its endpoints are paused.", body = OneChanged),
        (status = 400, description = "No name.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none.", body = ProblemTwin, content_type = PROBLEM),
        (status = 409, description = "Others change it at this moment; try again.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn pause_all<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(name): Segment,
) -> Acted {
    act_on_webhook(&app, &name, true).await
}

/// Ends the pause of a webhook.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{name}/resume",
    tag = "endpoints",
    operation_id = "resume_webhook",
    params(schema::WebhookParam),
    responses(
        (status = 200, description = "They are not paused.", body = OneChanged),
        (status = 400, description = "No name.", body = ProblemTwin, content_type = PROBLEM),
        (status = 404, description = "There is none.", body = ProblemTwin, content_type = PROBLEM),
        (status = 409, description = "Others change it at this moment; try again.", body = ProblemTwin, content_type = PROBLEM)
    )
)]
pub(crate) async fn resume_all<Q: Queue + Inspect, C: Clock>(
    State(app): State<Arc<App<Q, C>>>,
    Segment(name): Segment,
) -> Acted {
    act_on_webhook(&app, &name, false).await
}

async fn act<Q: Queue + Inspect, C: Clock>(app: &App<Q, C>, id: &str, act: EndpointAct) -> Acted {
    let id: EndpointId = id.parse().map_err(|error: IdError| Problem::bad_request(error.to_string()))?;
    let snapshot = app.api.in_force.snapshot();
    act_on_endpoint(&*app.api.queue, snapshot.definitions(), id, act, app.api.clock.now()).await?;
    Ok(Json(OneChanged::new()))
}

async fn act_on_webhook<Q: Queue + Inspect, C: Clock>(app: &App<Q, C>, name: &str, pause: bool) -> Acted {
    let name = WebhookName::new(name).map_err(|error| Problem::bad_request(error.to_string()))?;
    let snapshot = app.api.in_force.snapshot();
    pause_webhook(&*app.api.queue, snapshot.definitions(), &name, pause, app.api.clock.now()).await?;
    Ok(Json(OneChanged::new()))
}

impl From<OperateError> for Problem {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::UnknownEndpoint(_) | OperateError::UnknownWebhook(_) => {
                Problem::not_found(error.to_string())
            }
            OperateError::Paused(_) | OperateError::WebhookPaused(_) | OperateError::Contended(_) => {
                Problem::new(StatusCode::CONFLICT, "conflict", error.to_string())
            }
            OperateError::Store(error) => error.into(),
        }
    }
}
