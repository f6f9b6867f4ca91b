//! Webhooks and event rules out of the tree.
//!
//! Invariants:
//! - A definition with a problem is refused as a whole, and keeps its place and name.
//! - Secrets come from the file, the environment or a file of their own, and are never part of a message.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::LazyLock;

use hookwire_definitions::{DefinitionError, Kind, Place, Refused};
use hookwire_model::{
    Condition, DefaultBody, Engine, Escape, EventRule, Method, OnFailure, Ordering, RateLimit, RetryPolicy,
    RuleName, Schedule, Secret, SignatureScheme, Tls, Undefined, Webhook, WebhookName,
};
use serde_json::{Map, Value};

use crate::json_tree;
use crate::members::{RETRY_MEMBERS, RULE_MEMBERS, WEBHOOK_MEMBERS, names};
use crate::problem::{Loading, Problem, Secrets};
use crate::read::{self, Alias, Members};
use crate::tree::{Content, Node};

static WEBHOOK: LazyLock<Vec<&'static str>> = LazyLock::new(|| names(WEBHOOK_MEMBERS));
static RETRY: LazyLock<Vec<&'static str>> = LazyLock::new(|| names(RETRY_MEMBERS));
static RULE: LazyLock<Vec<&'static str>> = LazyLock::new(|| names(RULE_MEMBERS));

/// What NetBox calls them.
const WEBHOOK_ALIASES: &[Alias] = &[
    ("payload_url", "url"),
    ("http_method", "method"),
    ("http_content_type", "content_type"),
    ("headers", "additional_headers"),
    ("body", "body_template"),
    ("ca_file_path", "ca_file"),
    ("verify_ssl", "ssl_verification"),
    ("engine", "template_engine"),
    ("signing_secret", "secret"),
];

const RULE_ALIASES: &[Alias] = &[
    ("content_types", "object_types"),
    ("condition", "conditions"),
    ("webhook", "webhooks"),
    ("action_object", "webhooks"),
    ("events", "event_types"),
];

/// Reads a webhook that stands at this position of all of them. Beside one that is refused comes what could
/// be read of it, as far as its templates can be checked all the same.
pub(crate) fn webhook(
    loading: &mut Loading<'_>,
    position: usize,
    node: &Node,
) -> (Result<Webhook, Refused>, Option<Webhook>) {
    let name = name_of(node);
    let path = path_of("webhooks", position, &name);
    let before = loading.problems.len();
    let webhook = Members::new(loading, path, "webhooks", node, &WEBHOOK, WEBHOOK_ALIASES)
        .and_then(|members| read_webhook(loading, node, &members));
    let problems = &loading.problems[before..];
    match webhook {
        Some(webhook) if problems.is_empty() => (Ok(webhook), None),
        webhook => {
            // What decides how a template is read.
            let reading = [".template_engine", ".escape", ".undefined", ".content_type"];
            let readable =
                !problems.iter().any(|problem| reading.iter().any(|end| problem.path.ends_with(end)));
            let refused = refused(Place::webhook(position, &name), name, problems, &WEBHOOK);
            (Err(refused), webhook.filter(|_| readable))
        }
    }
}

/// Reads an event rule that stands at this position of all of them.
pub(crate) fn rule(loading: &mut Loading<'_>, position: usize, node: &Node) -> Result<EventRule, Refused> {
    let name = name_of(node);
    let path = path_of("event_rules", position, &name);
    let before = loading.problems.len();
    let rule = Members::new(loading, path, "event_rules", node, &RULE, RULE_ALIASES)
        .and_then(|members| read_rule(loading, node, &members));
    match rule {
        Some(rule) if loading.problems.len() == before => Ok(rule),
        _ => Err(refused(Place::rule(position, &name), name, &loading.problems[before..], &RULE)),
    }
}

/// The name of a definition as far as there is one; empty if not.
pub(crate) fn name_of(node: &Node) -> String {
    match &node.at("/name").content {
        Content::Text(name) => name.clone(),
        _ => String::new(),
    }
}

/// `webhooks["slack"]`, or `webhooks[2]` where there is no name.
pub(crate) fn path_of(list: &str, position: usize, name: &str) -> String {
    if name.is_empty() { format!("{list}[{position}]") } else { format!("{list}[{name:?}]") }
}

fn refused(place: Place, name: String, problems: &[Problem], known: &[&'static str]) -> Refused {
    let errors = problems.iter().map(|problem| {
        let rest = problem.path.rsplit_once("].").map_or("", |(_, rest)| rest);
        let first = rest.split(['.', '[']).next().unwrap_or_default();
        DefinitionError {
            place: Place { member: known.iter().copied().find(|member| *member == first), ..place.clone() },
            kind: Kind::Value,
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
            line: None,
            column: None,
        }
    });
    Refused { name, errors: errors.collect() }
}

/// A member that cannot be left out.
fn required<'t>(
    loading: &mut Loading<'_>,
    owner: &Node,
    members: &Members<'t>,
    name: &str,
    what: &str,
) -> Option<&'t Node> {
    if !members.has(name) {
        let problem = Problem::new(members.path.clone(), format!("`{name}` is missing"));
        loading.add(problem.at(owner.span).remedy(what));
        return None;
    }
    members.node(loading, name)
}

/// A name, as the model takes it.
fn checked<T, E: ToString>(
    loading: &mut Loading<'_>,
    path: &str,
    node: &Node,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<T> {
    let text = read::text(loading, path, node)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let message = error.to_string();
            // The model's messages say what is needed after a colon.
            let (message, remedy) = match message.rsplit_once(": ") {
                Some((message, remedy)) => (message.to_owned(), Some(remedy.to_owned())),
                None => (message, None),
            };
            let mut problem = Problem::new(path, message).at(node.span);
            problem.remedy = remedy;
            loading.add(problem);
            None
        }
    }
}

fn read_webhook(loading: &mut Loading<'_>, owner: &Node, members: &Members<'_>) -> Option<Webhook> {
    let name = required(loading, owner, members, "name", "give it a name that rules can refer to")
        .and_then(|node| checked(loading, &members.path("name"), node, WebhookName::new));
    let url = required(loading, owner, members, "url", "say where it sends to")
        .and_then(|node| read::text(loading, &members.path("url"), node));
    // Reading goes on without them, so that the rest is checked too.
    let whole = name.is_some() && url.is_some();
    let name = name.or_else(|| WebhookName::new("unnamed").ok())?;
    let mut webhook = Webhook::new(name, url.unwrap_or_default());
    let defaults = webhook.clone();
    webhook.method = members.word(loading, "method", Method::ALL).unwrap_or(defaults.method);
    if let Some(content_type) = content_type(loading, members) {
        webhook.content_type = content_type;
    }
    if let Some(headers) = members.text(loading, "additional_headers") {
        webhook.additional_headers = headers.into();
    }
    webhook.body_template = members.text(loading, "body_template").map(str::to_owned);
    webhook.template_engine =
        members.word(loading, "template_engine", Engine::ALL).unwrap_or(defaults.template_engine);
    webhook.escape = members.word(loading, "escape", Escape::ALL).unwrap_or(defaults.escape);
    webhook.undefined = members.word(loading, "undefined", Undefined::ALL).unwrap_or(defaults.undefined);
    webhook.default_body =
        members.word(loading, "default_body", DefaultBody::ALL).unwrap_or(defaults.default_body);
    webhook.secrets = secrets(loading, members);
    webhook.signature = signature(loading, members).unwrap_or(defaults.signature);
    webhook.tls = tls(loading, members);
    webhook.timeout = timeout(loading, members).unwrap_or(defaults.timeout);
    webhook.follow_redirects = members.boolean(loading, "follow_redirects").unwrap_or(false);
    webhook.enabled = members.boolean(loading, "enabled").unwrap_or(true);
    let at_least_one = "a whole number, at least 1";
    webhook.concurrency =
        members.count::<NonZeroU32>(loading, "concurrency", at_least_one).unwrap_or(defaults.concurrency);
    webhook.rate_limit = rate_limit(loading, members);
    webhook.ordering = members.word(loading, "ordering", Ordering::ALL).unwrap_or(defaults.ordering);
    webhook.on_failure = on_failure(loading, members, webhook.ordering).unwrap_or(defaults.on_failure);
    // Refused as long as it stands in the list of what is not supported yet.
    let _ = members.node(loading, "signing_key");
    webhook.retry = retry(loading, members).unwrap_or(defaults.retry);
    whole.then_some(webhook)
}

fn content_type(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<String> {
    let text = members.text(loading, "content_type")?;
    let node = members.place("content_type")?;
    let fits = !text.trim().is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if !fits {
        let reason = "is no content type; write it like \"application/json\"";
        loading.refused(&members.path("content_type"), node.span, text, reason);
    }
    fits.then(|| text.to_owned())
}

fn rate_limit(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<RateLimit> {
    let text = members.text(loading, "rate_limit")?;
    let node = members.place("rate_limit")?;
    match text.parse() {
        Ok(limit) => Some(limit),
        Err(_) => {
            let reason = "is no rate; write a count and a unit, such as \"100/s\", \"600/m\" or \"1000/h\"";
            loading.refused(&members.path("rate_limit"), node.span, text, reason);
            None
        }
    }
}

fn on_failure(loading: &mut Loading<'_>, members: &Members<'_>, ordering: Ordering) -> Option<OnFailure> {
    let on_failure = members.word(loading, "on_failure", OnFailure::ALL)?;
    // Whoever writes the default means nothing by it.
    if ordering == Ordering::None && on_failure != OnFailure::Block {
        let node = members.place("on_failure")?;
        let problem = Problem::new(members.path("on_failure"), "it means nothing without an order");
        loading.add(problem.at(node.span).remedy("add `ordering = \"object\"`, or leave it out"));
        return None;
    }
    Some(on_failure)
}

fn timeout(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<std::time::Duration> {
    let timeout = members.duration(loading, "timeout")?;
    if timeout.is_zero() {
        let node = members.place("timeout")?;
        let problem = Problem::new(members.path("timeout"), "no attempt can succeed in no time");
        loading.add(problem.at(node.span).remedy("give it some seconds, such as \"10s\""));
        return None;
    }
    Some(timeout)
}

fn signature(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<Vec<SignatureScheme>> {
    let path = members.path("signature");
    let node = members.node(loading, "signature")?;
    match &node.content {
        Content::List(items) => {
            let schemes = items.iter().enumerate().filter_map(|(at, item)| {
                read::word(loading, &format!("{path}[{at}]"), item, SignatureScheme::ALL)
            });
            Some(schemes.collect())
        }
        Content::Text(_) => read::word(loading, &path, node, SignatureScheme::ALL).map(|scheme| vec![scheme]),
        _ => {
            loading.wrong_type(&path, node, "a list of signature schemes");
            None
        }
    }
}

/// The current secret, then the previous ones, newest first.
fn secrets(loading: &mut Loading<'_>, members: &Members<'_>) -> Vec<Secret> {
    let mut secrets = Vec::new();
    secrets.extend(secret(loading, members));
    let previous = members.list(loading, "previous_secrets").unwrap_or_default();
    if let (true, Some(node)) =
        (secrets.is_empty() && !previous.is_empty(), members.place("previous_secrets"))
    {
        let has_one = ["secret", "secret_env", "secret_file"].iter().any(|name| members.has(name));
        if !has_one {
            let problem = Problem::new(members.path("previous_secrets"), "there is no current secret");
            loading.add(problem.at(node.span).remedy("name it with `secret`, `secret_env` or `secret_file`"));
        }
    }
    for (at, item) in previous.iter().enumerate() {
        let path = format!("{}[{at}]", members.path("previous_secrets"));
        match &item.content {
            Content::Text(text) => secrets.push(Secret::new(text.as_str())),
            Content::Table(_) => {
                let known = ["secret", "secret_env", "secret_file"];
                if let Some(members) = Members::new(loading, path, "previous_secrets", item, &known, &[]) {
                    match secret(loading, &members) {
                        Some(secret) => secrets.push(secret),
                        None if known.iter().any(|name| members.has(name)) => {}
                        None => {
                            let problem = Problem::new(members.path, "names no secret");
                            loading.add(problem.at(item.span).remedy("use `secret_env` or `secret_file`"));
                        }
                    }
                }
            }
            _ => loading.wrong_type(&path, item, "a string, or a table with `secret_env` or `secret_file`"),
        }
    }
    secrets
}

/// The secret by value, environment or file; the three exclude each other.
fn secret(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<Secret> {
    let given: Vec<&str> =
        ["secret", "secret_env", "secret_file"].into_iter().filter(|name| members.has(name)).collect();
    if let [first, second, ..] = given[..]
        && let (Some(first_node), Some(second_node)) = (members.place(first), members.place(second))
    {
        let problem = Problem::new(members.path(second), format!("there is also `{first}`"));
        let problem = problem.at(second_node.span).label(first_node.span, "the other one");
        loading.add(problem.remedy("keep one of them; earlier secrets go under `previous_secrets`"));
        return None;
    }
    match *given.first()? {
        "secret" => members.text(loading, "secret").map(Secret::new),
        "secret_env" => {
            let name = members.text(loading, "secret_env")?;
            let span = members.place("secret_env")?.span;
            secret_from_env(loading, &members.path("secret_env"), span, name)
        }
        _ => {
            let file = members.text(loading, "secret_file")?;
            let span = members.place("secret_file")?.span;
            let file = loading.resolve(span, file);
            secret_from_file(loading, &members.path("secret_file"), Some(span), &file)
        }
    }
}

fn secret_from_env(
    loading: &mut Loading<'_>,
    path: &str,
    span: crate::tree::Span,
    name: &str,
) -> Option<Secret> {
    match (loading.env)(name).filter(|value| !value.is_empty()) {
        Some(value) => Some(Secret::new(value)),
        None => {
            let problem = Problem::new(path, format!("the environment variable {name} is not set"));
            loading.unread(problem.at(span).remedy("set it where hookwire is started, or use `secret_file`"))
        }
    }
}

/// A secret that stands in a file; one line end after it is not part of it.
pub(crate) fn secret_from_file(
    loading: &mut Loading<'_>,
    path: &str,
    span: Option<crate::tree::Span>,
    file: &std::path::Path,
) -> Option<Secret> {
    let problem = |message: String| {
        let problem = Problem::new(path, message);
        span.into_iter().fold(problem, Problem::at)
    };
    loading.files.push(file.to_owned());
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() {
                return loading.unread(problem(format!("the file {} is empty", file.display())));
            }
            Some(Secret::new(text))
        }
        Err(error) => {
            let message = format!("the file {} cannot be read: {}", file.display(), reason(&error));
            loading.unread(problem(message).remedy("paths in a file are relative to that file's folder"))
        }
    }
}

/// What went wrong with a file, in the system's words but without its error number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8".into(),
        _ => error.to_string(),
    }
}

fn tls(loading: &mut Loading<'_>, members: &Members<'_>) -> Tls {
    let tls = Tls {
        ssl_verification: members.boolean(loading, "ssl_verification").unwrap_or(true),
        ca_file: file(loading, members, "ca_file"),
        client_cert: file(loading, members, "client_cert"),
        client_key: file(loading, members, "client_key"),
    };
    for (one, other) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if let (Some(node), false) = (members.place(one), members.has(other)) {
            let problem = Problem::new(members.path(one), format!("`{other}` is missing"));
            loading.add(problem.at(node.span).remedy("a client certificate needs both"));
        }
    }
    tls
}

/// A file that has to be there.
fn file(loading: &mut Loading<'_>, members: &Members<'_>, name: &str) -> Option<PathBuf> {
    let text = members.text(loading, name)?;
    let span = members.place(name)?.span;
    let file = loading.resolve(span, text);
    loading.files.push(file.clone());
    if loading.secrets == Secrets::Needed
        && let Err(error) = std::fs::File::open(&file)
    {
        let message = format!("the file {} cannot be read: {}", file.display(), reason(&error));
        let problem = Problem::new(members.path(name), message).at(span);
        loading.add(problem.remedy("paths in a file are relative to that file's folder"));
        return None;
    }
    Some(file)
}

fn retry(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<RetryPolicy> {
    let node = members.node(loading, "retry")?;
    let members = Members::new(loading, members.path("retry"), "retry", node, &RETRY, &[])?;
    let defaults = RetryPolicy::default();
    let max_attempts = members.count(loading, "max_attempts", "a whole number, at least 1");
    let jitter = members.fraction(loading, "jitter", 0.0..=1.0, "a number from 0 to 1");
    let max_age = members.duration(loading, "max_age");
    let growing = ["initial", "factor", "max_delay"].into_iter().find(|name| members.has(name));
    if let (Some(schedule), Some(other)) =
        (members.place("schedule"), growing.and_then(|name| members.place(name)))
    {
        let problem = Problem::new(members.path("schedule"), "there is also a growing delay");
        let problem = problem.at(schedule.span).label(other.span, "here");
        loading.add(problem.remedy("use either `schedule`, or `initial`, `factor` and `max_delay`"));
    }
    let schedule =
        if growing.is_some() { growing_delay(loading, &members) } else { steps(loading, &members) };
    Some(RetryPolicy {
        max_attempts: max_attempts.unwrap_or(defaults.max_attempts),
        schedule: schedule.unwrap_or(defaults.schedule),
        jitter: jitter.unwrap_or(defaults.jitter),
        max_age,
    })
}

/// Defaults of a growing delay: from 5 s, doubling, to a day, which spreads ten attempts over some 43
/// minutes.
fn growing_delay(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<Schedule> {
    let seconds = std::time::Duration::from_secs;
    let initial = members.duration(loading, "initial").unwrap_or(seconds(5));
    let factor = members.fraction(loading, "factor", 1.0..=1000.0, "a number from 1 to 1000").unwrap_or(2.0);
    let max_delay = members.duration(loading, "max_delay").unwrap_or(seconds(86_400));
    Some(Schedule::Exponential { initial, factor, max_delay })
}

fn steps(loading: &mut Loading<'_>, members: &Members<'_>) -> Option<Schedule> {
    let items = members.list(loading, "schedule")?;
    let path = members.path("schedule");
    if items.is_empty() {
        let span = members.place("schedule")?.span;
        let problem = Problem::new(path, "has no steps").at(span);
        loading.add(problem.remedy("for no retries at all write `max_attempts = 1`"));
        return None;
    }
    let steps = items.iter().enumerate();
    let steps: Vec<_> =
        steps.filter_map(|(at, item)| read::duration(loading, &format!("{path}[{at}]"), item)).collect();
    (steps.len() == items.len()).then_some(Schedule::Steps(steps))
}

fn read_rule(loading: &mut Loading<'_>, owner: &Node, members: &Members<'_>) -> Option<EventRule> {
    let name = required(loading, owner, members, "name", "give it a name, which the records will show")
        .and_then(|node| checked(loading, &members.path("name"), node, RuleName::new));
    let object_types =
        some_of(loading, owner, members, "object_types", "such as [\"dcim.site\"], or [\"*\"]");
    let event_types = some_of(loading, owner, members, "event_types", "such as [\"created\"], or [\"*\"]");
    if event_types.is_some() {
        warn_of_misspelt_events(loading, members);
    }
    let webhooks =
        checked_list(loading, owner, members, "webhooks", "name the webhooks to send to", WebhookName::new);
    let enabled = members.boolean(loading, "enabled").unwrap_or(true);
    let conditions = match members.node(loading, "conditions") {
        Some(node) => condition(loading, &members.path("conditions"), node, enabled),
        None => Some(None),
    };
    let action_data = match members.node(loading, "action_data") {
        Some(node) => object(loading, &members.path("action_data"), node),
        None => Some(Map::new()),
    };
    Some(EventRule {
        name: name?,
        object_types: object_types?,
        event_types: event_types?,
        conditions: conditions?,
        webhooks: webhooks?,
        action_data: action_data?,
        enabled,
    })
}

/// What events are called by NetBox, and by most others.
const EVENT_TYPES: &[&str] = &[
    "created",
    "updated",
    "deleted",
    "job_started",
    "job_ended",
    "job_completed",
    "job_failed",
    "job_errored",
];

/// An event type may be any word, so that one which is almost a usual one is allowed, and would never match.
fn warn_of_misspelt_events(loading: &mut Loading<'_>, members: &Members<'_>) {
    let Some(items) = members.list(loading, "event_types") else { return };
    for (at, item) in items.iter().enumerate() {
        let Content::Text(text) = &item.content else { continue };
        if EVENT_TYPES.contains(&text.as_str()) {
            continue;
        }
        // Stricter than `nearest`: a type of one's own may begin like a usual one.
        let folded = text.to_lowercase();
        let is_near = |usual: &&&str| strsim::damerau_levenshtein(usual, &folded) <= 2;
        if let Some(meant) = EVENT_TYPES.iter().find(is_near) {
            let path = format!("{}[{at}]", members.path("event_types"));
            let problem = Problem::new(path, format!("{text:?} is no usual type of event")).at(item.span);
            loading.warnings.push(problem.remedy(format!("did you mean {meant:?}?")));
        }
    }
}

fn some_of<T: std::str::FromStr>(
    loading: &mut Loading<'_>,
    owner: &Node,
    members: &Members<'_>,
    name: &str,
    what: &str,
) -> Option<Vec<T>>
where
    T::Err: ToString,
{
    checked_list(loading, owner, members, name, what, str::parse::<T>)
}

/// A list of at least one text of a kind.
fn checked_list<T, E: ToString>(
    loading: &mut Loading<'_>,
    owner: &Node,
    members: &Members<'_>,
    name: &str,
    what: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Vec<T>> {
    let node = required(loading, owner, members, name, what)?;
    let items = members.list(loading, name)?;
    let path = members.path(name);
    if items.is_empty() {
        let problem = Problem::new(path, "an empty list, so the rule could never do anything");
        loading.add(problem.at(node.span).remedy(what));
        return None;
    }
    let values = items.iter().enumerate();
    let values: Vec<T> =
        values.filter_map(|(at, item)| checked(loading, &format!("{path}[{at}]"), item, &parse)).collect();
    (values.len() == items.len()).then_some(values)
}

/// A condition, or that there is none. One that is wrong does no harm in a rule that is disabled.
fn condition(loading: &mut Loading<'_>, path: &str, node: &Node, enabled: bool) -> Option<Option<Condition>> {
    let (document, value) = document(loading, path, node)?;
    match Condition::parse(&value) {
        Ok(condition) => Some(condition),
        Err(error) => {
            let place = Place { member: Some("conditions"), pointer: error.pointer, ..Place::rule(0, "") };
            let within = place.to_string();
            let within = within.split_once(".conditions").map_or("", |(_, within)| within);
            let span = document.at(&place.pointer).span;
            let problem = |message| Problem::new(format!("{path}{within}"), message).at(span);
            if enabled {
                loading.add(problem(error.message).remedy(error.remedy));
                return None;
            }
            let message = format!("{} (disabled, so it harms nothing yet)", error.message);
            loading.warnings.push(problem(message).remedy(error.remedy));
            Some(None)
        }
    }
}

fn object(loading: &mut Loading<'_>, path: &str, node: &Node) -> Option<Map<String, Value>> {
    let (document, value) = document(loading, path, node)?;
    match value {
        Value::Object(members) => Some(members),
        _ => {
            loading.wrong_type(path, &document, "a table");
            None
        }
    }
}

/// A JSON document that is written in the format of the file, or as JSON in a string.
fn document(loading: &mut Loading<'_>, path: &str, node: &Node) -> Option<(Node, Value)> {
    let document = match &node.content {
        Content::Text(text) if text.trim().is_empty() => {
            Node { span: node.span, content: Content::Table(Default::default()) }
        }
        Content::Text(text) => match json_tree::parse_within(text, &loading.text_map(node.span)) {
            Ok(document) => document,
            Err(error) => {
                let problem = Problem::new(path, format!("not valid JSON: {}", error.message));
                loading.add(problem.at(error.span).remedy("a string here holds a JSON document"));
                return None;
            }
        },
        _ => node.clone(),
    };
    let value = match document.to_value() {
        Ok(value) => value,
        Err(found) => {
            let problem = Problem::new(path, format!("{} has no place in JSON", found.kind()));
            loading.add(problem.at(found.span).remedy("write it as a string"));
            return None;
        }
    };
    Some((document, value))
}
