//! `hookwire endpoints`: how endpoints do, and pausing, resuming and probing them.

use clap::Subcommand;
use hookwire_definitions::Definitions;
use hookwire_engine::{
    Clock as _, Endpoint, EndpointAct, OperateError, PausedBy, SystemClock, act_on_endpoint, list_endpoints,
    pause_webhook,
};
use hookwire_model::{EndpointId, WebhookName};
use hookwire_worker::{CommandResult, Exit, Failure, is_coloured, print, runtime, say};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::output::{Format, duration_text, json, terminal_size};
use crate::table::{Column, Tone, table};
use crate::target::{Target, TargetArguments, percent_encoded};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Lists the endpoints that something is known of, with what holds them back.
    List(ListArguments),
    /// Lets nothing through until it is resumed; what comes meanwhile waits.
    Pause(PauseArguments),
    /// Ends a pause; what has waited goes out at a rate that grows.
    Resume(PauseArguments),
    /// Lets one attempt through now to an endpoint that is not called because it failed.
    Probe(ProbeArguments),
}

#[derive(Debug, Clone, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, clap::Args)]
struct PauseArguments {
    /// The endpoint's id, as `hookwire endpoints list` shows it.
    #[arg(required_unless_present = "webhook")]
    id: Option<EndpointId>,
    /// All endpoints of this webhook, in place of one.
    #[arg(long, value_name = "NAME", conflicts_with = "id", value_parser = WebhookName::new)]
    webhook: Option<WebhookName>,
    #[command(flatten)]
    act: ActArguments,
}

#[derive(Debug, Clone, clap::Args)]
struct ProbeArguments {
    /// The endpoint's id, as `hookwire endpoints list` shows it.
    id: EndpointId,
    #[command(flatten)]
    act: ActArguments,
}

#[derive(Debug, Clone, clap::Args)]
struct ActArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// How it looks.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What is acted on.
enum Subject {
    Endpoint(EndpointId),
    Webhook(WebhookName),
}

fn subject(id: Option<&EndpointId>, webhook: Option<&WebhookName>) -> Result<Subject, Failure> {
    match (id, webhook) {
        (Some(id), _) => Ok(Subject::Endpoint(*id)),
        (None, Some(name)) => Ok(Subject::Webhook(name.clone())),
        (None, None) => Err(Failure::message(Exit::Usage, "name an endpoint, or a webhook with --webhook")),
    }
}

/// The answer of the API to a list; `--format json` prints the same.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    items: Vec<Endpoint>,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    runtime()?.block_on(async {
        match &arguments.command {
            Command::List(arguments) => list(arguments).await,
            Command::Pause(PauseArguments { id, webhook, act: arguments }) => {
                act(arguments, &subject(id.as_ref(), webhook.as_ref())?, EndpointAct::Pause).await
            }
            Command::Resume(PauseArguments { id, webhook, act: arguments }) => {
                act(arguments, &subject(id.as_ref(), webhook.as_ref())?, EndpointAct::Resume).await
            }
            Command::Probe(ProbeArguments { id, act: arguments }) => {
                act(arguments, &Subject::Endpoint(*id), EndpointAct::Probe).await
            }
        }
    })
}

async fn list(arguments: &ListArguments) -> CommandResult {
    let target = arguments.target.find().await?;
    let items = all(&target, &arguments.target).await?;
    target.close().await;
    match arguments.format {
        Format::Json => print(&json(&List { items }))?,
        Format::Text if items.is_empty() => say("no endpoints: nothing was sent yet"),
        Format::Text => print(&endpoint_table(&items))?,
    }
    Ok(Exit::Fine)
}

/// All endpoints that something is known of.
async fn all(target: &Target, arguments: &TargetArguments) -> Result<Vec<Endpoint>, Failure> {
    match target {
        Target::Server(client) => Ok(client.get::<List>("/v1/endpoints")?.items),
        Target::Store(store) => Ok(list_endpoints(store, &definitions(arguments)?, SystemClock.now()).await?),
    }
}

async fn act(arguments: &ActArguments, subject: &Subject, act: EndpointAct) -> CommandResult {
    let ActArguments { target: arguments, format } = arguments;
    let target = arguments.find().await?;
    let word = match act {
        EndpointAct::Pause => "pause",
        EndpointAct::Resume => "resume",
        EndpointAct::Probe => "probe",
    };
    match &target {
        Target::Server(client) => {
            let path = match subject {
                Subject::Endpoint(id) => format!("/v1/endpoints/{id}/{word}"),
                Subject::Webhook(name) => format!("/v1/webhooks/{}/{word}", percent_encoded(name.as_str())),
            };
            let _: Value = client.post(&path, &json!({}))?;
        }
        Target::Store(store) => {
            let (definitions, now) = (definitions(arguments)?, SystemClock.now());
            let acted = match subject {
                Subject::Endpoint(id) => act_on_endpoint(store, &definitions, *id, act, now).await,
                Subject::Webhook(name) => {
                    pause_webhook(store, &definitions, name, act == EndpointAct::Pause, now).await
                }
            };
            acted.map_err(failure)?;
        }
    }
    let worker = target.is_server();
    let mut still_paused = Vec::new();
    if act == EndpointAct::Resume {
        still_paused = all(&target, arguments).await?;
        still_paused.retain(|endpoint| {
            let is_meant = match subject {
                Subject::Endpoint(id) => endpoint.id == *id,
                Subject::Webhook(name) => endpoint.webhook == *name,
            };
            is_meant && endpoint.state == "paused"
        });
    }
    target.close().await;
    let what = match subject {
        Subject::Endpoint(id) => id.to_string(),
        Subject::Webhook(name) => format!("webhook {name}"),
    };
    print(&match act {
        // What the API answers.
        _ if *format == Format::Json => json(&json!({ "changed": 1 })),
        EndpointAct::Pause => format!("{what} is paused; what comes for it waits"),
        EndpointAct::Resume => format!("{what} is resumed"),
        EndpointAct::Probe if worker => format!("{what} gets one attempt now, if one waits for it"),
        EndpointAct::Probe => {
            format!("{what} gets one attempt as soon as a worker runs, if one waits for it")
        }
    })?;
    for Endpoint { id, webhook, authority, paused_by, .. } in still_paused {
        let (why, remedy) = match paused_by {
            Some(PausedBy::Gone) => ("its receiver answered 410", id.to_string()),
            Some(PausedBy::Webhook) => ("with its webhook", format!("--webhook {:?}", webhook.as_str())),
            Some(PausedBy::Person) | None => ("by itself", id.to_string()),
        };
        say(format!(
            "{id} ({authority}) stays paused, {why}: `hookwire endpoints resume {remedy}` ends that"
        ));
    }
    Ok(Exit::Fine)
}

/// The definitions of the configuration, as far as they are sound: where no server runs, they tell which endpoints there
/// are.
fn definitions(arguments: &TargetArguments) -> Result<Definitions, Failure> {
    Ok(arguments.config.load_to_look()?.definitions)
}

fn failure(error: OperateError) -> Failure {
    match error {
        OperateError::UnknownEndpoint(_)
        | OperateError::UnknownWebhook(_)
        | OperateError::Paused(_)
        | OperateError::WebhookPaused(_) => Failure::message(Exit::No, error.to_string()),
        OperateError::Contended(_) => Failure::message(Exit::Unavailable, error.to_string()),
        OperateError::Store(error) => error.into(),
    }
}

/// What a list of endpoints shows.
const COLUMNS: &[Column] = &[
    Column { name: "ID", spare: 0, width_min: None },
    Column { name: "WEBHOOK", spare: 0, width_min: Some(12) },
    Column { name: "STATE", spare: 0, width_min: Some(10) },
    Column { name: "WAITING", spare: 0, width_min: None },
    Column { name: "NEXT", spare: 2, width_min: None },
    Column { name: "RATE", spare: 3, width_min: None },
    Column { name: "AUTHORITY", spare: 1, width_min: Some(16) },
];

fn endpoint_table(items: &[Endpoint]) -> String {
    let now = SystemClock.now();
    let rows = items.iter().map(|endpoint| {
        let plain = |text: String| (text, Tone::Plain);
        let (state, tone) = match (endpoint.state.as_str(), endpoint.paused_by) {
            ("paused", Some(PausedBy::Gone)) => ("paused (answered 410)".to_owned(), Tone::Bad),
            ("paused", Some(PausedBy::Webhook)) => ("paused (webhook)".to_owned(), Tone::Open),
            ("paused", _) => ("paused".to_owned(), Tone::Open),
            ("closed", _) => ("closed".to_owned(), Tone::Good),
            (state, _) => (state.to_owned(), Tone::Bad),
        };
        let next = endpoint.waits_until.map_or_else(
            || "-".to_owned(),
            |until| format!("in {}", duration_text(until.saturating_since(now))),
        );
        vec![
            plain(endpoint.id.to_string()),
            plain(endpoint.webhook.to_string()),
            (state, tone),
            plain(endpoint.waiting.to_string()),
            plain(next),
            plain(endpoint.rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"))),
            plain(endpoint.authority.clone()),
        ]
    });
    table(COLUMNS, rows.collect(), terminal_size(), is_coloured(&std::io::stdout()))
}
