//! What NetBox made of the same templates: URLs as prepared, headers as split, default bodies, all bodies.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookwire_model::{DefaultBody, Webhook};
use serde_json::Value;

use crate::support::{context, lines, netbox, render};

const TIMESTAMP: &str = "2026-03-06T15:11:23.503186+00:00";

fn corpus(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/netbox").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Lines of one function, whose context can be that of an event.
fn cases(function: &str) -> Vec<Value> {
    let mut cases = corpus("templates.jsonl");
    cases.retain(|case| case["function"] == function && case["context"]["data"].is_object());
    assert!(!cases.is_empty());
    cases
}

/// Compares our answer with NetBox's; `ours` and `expected` are `None` for an error.
fn compare(
    cases: &[Value],
    differences: &[(&str, &str)],
    mut ours: impl FnMut(&Value) -> Result<String, String>,
    expected: impl Fn(&Value) -> Option<String>,
) {
    let reasons: BTreeMap<&str, &str> = differences.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let (ours, expected) = (ours(case), expected(case));
        let same = match (&ours, &expected) {
            (Ok(ours), Some(expected)) => ours == expected,
            (Err(_), None) => true,
            _ => false,
        };
        match (same, reasons.get(id)) {
            (true, None) => {}
            (false, Some(_)) => seen.push(id.to_owned()),
            (true, Some(reason)) => {
                wrong.push(format!("{id} is listed as a difference ({reason}) and is none"));
            }
            (false, None) => {
                wrong.push(format!("{id} {}\n  ours: {ours:?}\n  NetBox: {expected:?}", case["template"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(seen.len(), differences.len(), "differences that no line shows");
}

#[test]
fn urls_are_prepared_as_netbox_prepares_them() {
    let differences = [
        ("tmpl-0801", "without a scheme nothing can be called; there the connection fails later"),
        ("tmpl-0802", "the same"),
    ];
    compare(
        &cases("url"),
        &differences,
        |case| {
            let webhook = Webhook { url: case["template"].as_str().unwrap().into(), ..netbox() };
            let rendered =
                render(&webhook, &context(case["context"].clone())).map_err(|errors| lines(&errors))?;
            let port = rendered.authority.port;
            let default = if rendered.authority.https { 443 } else { 80 };
            let shown = if port == default { String::new() } else { format!(":{port}") };
            let scheme = if rendered.authority.https { "https" } else { "http" };
            Ok(format!("{scheme}://{}{shown}{}", rendered.authority.host, rendered.target))
        },
        |case| {
            // The fragment is not sent, and credentials are sent as a header.
            let url = case["prepared_url"].as_str()?;
            let url = url.split('#').next().unwrap_or_default();
            Some(url.replace("user:p%40ss@", ""))
        },
    );
}

#[test]
fn headers_are_split_as_netbox_splits_them() {
    let differences = [
        ("tmpl-0868", "a name that is not ASCII; sending it fails there"),
        ("tmpl-0872", "a space in a name, which HTTP forbids"),
        ("tmpl-0881", "User-Agent is ours"),
        ("tmpl-0883", "Content-Length follows from the body; there it is overwritten"),
        ("tmpl-0884", "Transfer-Encoding is the connection's"),
        ("tmpl-0886", "Connection is the connection's"),
    ];
    compare(
        &cases("headers"),
        &differences,
        |case| {
            let webhook =
                Webhook { additional_headers: case["template"].as_str().unwrap().into(), ..netbox() };
            let rendered =
                render(&webhook, &context(case["context"].clone())).map_err(|errors| lines(&errors))?;
            let headers: Vec<(String, String)> = rendered
                .headers
                .into_iter()
                .map(|(name, value)| (name, value.iter().copied().map(char::from).collect()))
                .collect();
            Ok(format!("{headers:?}"))
        },
        |case| {
            let prepared = case["prepared_headers"].as_array()?;
            // Ours are the additional headers alone.
            let rendered = case["rendered"].as_array()?;
            let is_ours = |name: &Value| rendered.iter().any(|header| header[0] == *name);
            let headers: Vec<(String, String)> = prepared
                .iter()
                .filter(|header| is_ours(&header[0]))
                .map(|header| {
                    (header[0].as_str().unwrap().to_owned(), header[1].as_str().unwrap().to_owned())
                })
                .collect();
            Some(format!("{headers:?}"))
        },
    );
}

#[test]
fn default_bodies_are_netbox_s_bytes() {
    compare(
        &cases("default_body"),
        &[(
            "tmpl-0906",
            "its context has `snapshots` before `request`; an event has them in NetBox's own order",
        )],
        |case| {
            let webhook = Webhook { default_body: DefaultBody::Netbox, ..netbox() };
            let mut members = case["context"].clone();
            if members["timestamp"] == "t" {
                members["timestamp"] = TIMESTAMP.into();
            }
            let rendered = render(&webhook, &context(members)).map_err(|errors| lines(&errors))?;
            String::from_utf8(rendered.body.into()).map_err(|error| error.to_string())
        },
        // Some lines have a letter for a timestamp, which no event has.
        |case| {
            Some(
                case["rendered"]
                    .as_str()?
                    .replace(r#""timestamp": "t""#, &format!(r#""timestamp": "{TIMESTAMP}""#)),
            )
        },
    );
}

/// Where a whole request differs, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("dlv-0057", "the recording replaced a path in the context and not in the body"),
    ("dlv-0058", "the same"),
    ("dlv-0115", "templates have `model` here, as NetBox's documentation says; NetBox itself has none"),
    ("dlv-0152", "User-Agent is ours"),
    ("dlv-0154", "Content-Length follows from the body; there it is overwritten"),
    ("dlv-0170", "a space in a header name, which HTTP forbids"),
    ("dlv-0171", "NUL in a header value, which HTTP forbids"),
    ("dlv-0172", "DEL in a header value, which HTTP forbids"),
    ("dlv-0173", "Transfer-Encoding is the connection's"),
    (
        "dlv-0200",
        "`Authorization` from the URL is a member of its own; whoever sends puts it over the header",
    ),
    ("dlv-0468", "the webhook was edited before the job ran"),
    ("dlv-0485", "a proxy is spoken to in absolute URLs"),
    ("dlv-0486", "the same"),
];

/// Whole requests that NetBox sent: request target, additional headers and the bytes of the body.
#[test]
fn requests_are_netbox_s() {
    let mut cases = corpus("deliveries.jsonl");
    cases.retain(|case| {
        case["fired"] == true
            && case["context"]["data"].is_object()
            && case["same_from_json"] != false
            && case["requests"].as_array().is_some_and(|requests| !requests.is_empty())
    });
    assert!(cases.len() > 100, "{}", cases.len());
    let text = |case: &Value, member: &str| case["webhook"][member].as_str().unwrap_or_default().to_owned();
    compare(
        &cases,
        DIFFERENCES,
        |case| {
            let webhook = Webhook {
                url: text(case, "payload_url"),
                additional_headers: text(case, "additional_headers"),
                body_template: Some(text(case, "body_template")),
                content_type: text(case, "http_content_type"),
                default_body: DefaultBody::Netbox,
                ..netbox()
            };
            let rendered =
                render(&webhook, &context(case["context"].clone())).map_err(|errors| lines(&errors))?;
            let mut shown = rendered.target;
            for (name, value) in &rendered.headers {
                let value: String = value.iter().copied().map(char::from).collect();
                shown.push_str(&format!("\n{name}: {value}"));
            }
            Ok(format!("{shown}\n\n{}", STANDARD.encode(&rendered.body)))
        },
        |case| {
            let request = &case["requests"][0];
            let mut shown = request["target"].as_str()?.to_owned();
            let ours = text(case, "additional_headers").to_lowercase();
            for header in request["headers"].as_array()? {
                let (name, value) = (header[0].as_str()?, header[1].as_str()?);
                // The others belong to the connection, the signature or the content type.
                if ours.contains(&name.to_lowercase()) || name.starts_with("X-Inj") {
                    shown.push_str(&format!("\n{name}: {value}"));
                }
            }
            Some(format!("{shown}\n\n{}", request["body_b64"].as_str()?))
        },
    );
}
