//! `deliveries.jsonl`: events, what the rule decides about them, and the request.
//!
//! What the definition and the event determine is compared for every line: the decision, and the first request or that
//! there is none. Lines about redirects, retries, timeouts and TLS go over loopback as well, with the setting that
//! `docs/netbox.md` names for them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hookwire_model::{DeliveryId, PreparedRequest, Sequence, Shard, Timestamp, Webhook};
use serde_json::Value;

use crate::sending;
use crate::support::{Comparison, Difference, definitions, event, headers, latin1, lines};

const DIFFERENCES: &[Difference] = &[
    Difference {
        id: "dlv-0057",
        reason: "the recording replaced a path in the context and not in the body",
        today: "POST 127.0.0.1:9101 /c/57/0\ncontent-type: application/json\n\n{\"event\": \"created\"",
    },
    Difference {
        id: "dlv-0058",
        reason: "the same",
        today: "POST 127.0.0.1:9101 /c/58/0\ncontent-type: application/json\n\n{\"event\": \"updated\"",
    },
    Difference {
        id: "dlv-0115",
        reason: "`model` is defined here",
        today: "POST 127.0.0.1:9101 /c/115/0\ncontent-type: application/json\n\nsite[True] False",
    },
    Difference {
        id: "dlv-0170",
        reason: "a space in a header name",
        today: "error: additional_headers, line 2, column 1: the header name `# note` holds ' ', which HTTP forbids",
    },
    Difference {
        id: "dlv-0171",
        reason: "NUL in a header value",
        today: "error: additional_headers, line 1, column 1: the value of X-Nul holds the control character",
    },
    Difference {
        id: "dlv-0172",
        reason: "DEL in a header value",
        today: "error: additional_headers, line 1, column 1: the value of X-Del holds the control character",
    },
    Difference {
        id: "dlv-0173",
        reason: "`Transfer-Encoding` by hand",
        today: "error: additional_headers, line 1, column 1: the header Transfer-Encoding can't be set",
    },
    Difference {
        id: "dlv-0304",
        reason: "conditions see snapshots, as in NetBox 4.7",
        today: "POST 127.0.0.1:9101 /c/304/0",
    },
    Difference {
        id: "dlv-0485",
        reason: "there are no proxies here",
        today: "POST target.example:8080 /a%20b?c=d",
    },
    Difference { id: "dlv-0486", reason: "the same", today: "POST target.example /x" },
];

pub(crate) fn compare() -> Comparison {
    let mut comparison = Comparison::new("deliveries.jsonl", DIFFERENCES);
    for line in lines("deliveries.jsonl") {
        match line["kind"].as_str() {
            Some("redirect" | "retry" | "timeout" | "tls") => {
                let (ours, netboxs) = sending::compare(&line);
                comparison.line(&line, &ours, &netboxs);
            }
            _ => comparison.line(&line, &ours(&line), &netboxs(&line)),
        }
    }
    comparison.finish()
}

fn ours(line: &Value) -> String {
    if line["context"].is_null() {
        return "no event".into();
    }
    match first_request(line, "") {
        Fired::No => "does not fire".into(),
        Fired::Broken(error) => format!("error: {error}"),
        Fired::Request(..) if refused_connection(line) => "fires, and nobody listens".into(),
        Fired::Request(..) if decision_alone(line) => "fires".into(),
        Fired::Request(_, request) => shown(
            request.method.as_str(),
            &host(&request),
            &request.target,
            &headers(request.headers.iter().map(|(name, value)| (name.to_string(), latin1(value)))),
            &request.body,
        ),
    }
}

/// What becomes of a line's event under its rule and webhook.
pub(crate) enum Fired {
    /// The rule does not match.
    No,
    /// It matches, and no request can be made of it.
    Broken(String),
    /// This webhook's request.
    Request(Box<Webhook>, Box<PreparedRequest>),
}

/// The rule's decision, and the request of a first attempt; `added` are lines for the imported webhook.
pub(crate) fn first_request(line: &Value, added: &str) -> Fired {
    let mut rule = line["event_rule"].clone();
    if let Some(action_data) = line.get("action_data") {
        rule["action_data"] = action_data.clone();
    }
    let definitions = definitions(std::slice::from_ref(&line["webhook"]), &[rule], added);
    let event = event(&line["context"], Some(&line["event_type"]));
    let explanations = definitions.explain(&event);
    if !explanations.iter().any(|explanation| explanation.matched) {
        return Fired::No;
    }
    let routes = definitions.routes(&event);
    let Some(route) = routes.first() else { return Fired::Broken("the webhook is refused".into()) };
    // An attempt is made with the definitions that are in force then.
    let later = in_force_at_first_attempt(line);
    let route = match &later {
        None => Some(route.clone()),
        Some((webhooks, rules)) => {
            let later = self::definitions(webhooks, rules, added);
            later.route(&event, &route.rule, &route.webhook.webhook().name)
        }
    };
    let Some(route) = route else {
        return Fired::Broken("the webhook is gone, and the delivery waits".into());
    };
    let id = DeliveryId::from_parts(Shard(0), Sequence(0), 0);
    match route.webhook.prepare(&route.context, id, 1, Timestamp::UNIX_EPOCH) {
        Ok(request) => Fired::Request(Box::new(route.webhook.webhook().clone()), Box::new(request)),
        Err(error) => Fired::Broken(error.to_string()),
    }
}

/// Webhooks and rules after they were edited between the event and the first attempt, if they were.
fn in_force_at_first_attempt(line: &Value) -> Option<(Vec<Value>, Vec<Value>)> {
    let changed = line.get("changed_before_send").filter(|_| line["first_result"].is_null())?;
    let (webhook, rule) = (vec![line["webhook"].clone()], vec![line["event_rule"].clone()]);
    if changed["webhook_deleted"] == true {
        return Some((vec![], vec![]));
    }
    if changed["event_rule_deleted"] == true {
        return Some((webhook, vec![]));
    }
    Some((vec![changed["webhook"].clone()], rule))
}

/// The value of `Host`.
pub(crate) fn host(request: &PreparedRequest) -> String {
    let url = request.url();
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

pub(crate) fn shown(method: &str, host: &str, target: &str, headers: &str, body: &[u8]) -> String {
    format!("{method} {host} {target}\n{headers}\n\n{}", String::from_utf8_lossy(body))
}

fn netboxs(line: &Value) -> String {
    if line["context"].is_null() {
        return "no event".into();
    }
    let from_json = &line["from_json"];
    let fired = from_json["fires"].as_bool().or(line["fired"].as_bool()).unwrap_or_default();
    let requests = line["requests"].as_array().expect("every line says what was sent");
    match requests.first() {
        _ if !fired => "does not fire".into(),
        _ if decision_alone(line) => "fires".into(),
        _ if line["same_from_json"] == true && refused_connection(line) => "fires, and nobody listens".into(),
        // NetBox's own Python objects made it fail; what it makes of the JSON that we get, says the recording.
        None if from_json["body_text"].is_string() => {
            let webhook = &line["webhook"];
            let url = webhook["payload_url"].as_str().unwrap_or_default();
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let method = webhook["http_method"].as_str().unwrap_or_default();
            let body = from_json["body_text"].as_str().unwrap_or_default();
            shown(method, host, &format!("/{path}"), &pairs(&from_json["headers"]), body.as_bytes())
        }
        None => "error".into(),
        Some(request) => {
            let mut body = body(request);
            if let Some(text) = from_json["body_text"].as_str() {
                body = text.as_bytes().to_vec();
            }
            let text = |member: &str| request[member].as_str().unwrap_or_default();
            let host = request["headers"].as_array().into_iter().flatten().find(|header| header[0] == "Host");
            let host = host.and_then(|header| header[1].as_str()).unwrap_or_default();
            shown(text("method"), host, text("target"), &pairs(&request["headers"]), &body)
        }
    }
}

/// The bytes of a recorded body.
pub(crate) fn body(request: &Value) -> Vec<u8> {
    let text = request["body_b64"].as_str().unwrap_or_default();
    BASE64_STANDARD.decode(text).expect("bodies are in base64")
}

/// Whether only the decision is known: NetBox's Python objects made another one than the JSON that we get.
fn decision_alone(line: &Value) -> bool {
    line["from_json"]["fires"].is_boolean()
}

/// Whether NetBox could not connect.
fn refused_connection(line: &Value) -> bool {
    line["requests"].as_array().is_some_and(Vec::is_empty)
        && line["exception"]["class"] == "requests.exceptions.ConnectionError"
}

pub(crate) fn pairs(list: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    headers(list.as_array().into_iter().flatten().map(|header| (text(&header[0]), text(&header[1]))))
}
