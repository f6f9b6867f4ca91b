//! NetBox's recorded behaviour through the built programs: a sample of each kind after `import netbox`, and NetBox's own
//! bodies at the door of a running server. The whole corpus runs without programs, in `tests/corpus`.

use std::collections::BTreeMap;
use std::path::Path;

use hookwire_testkit::ScriptedEndpoint;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::support::{Folder, Server, call_with};

/// Lines of the corpus whose difference `docs/netbox.md` lists.
const LISTED: [&str; 25] = [
    "tmpl-0075",
    "tmpl-0095",
    "tmpl-0405",
    "tmpl-0407",
    "tmpl-0518",
    "tmpl-0604",
    "tmpl-0644",
    "tmpl-0692",
    "tmpl-0720",
    "tmpl-0801",
    "tmpl-0802",
    "tmpl-0868",
    "tmpl-0872",
    "tmpl-0884",
    "tmpl-0906",
    "dlv-0057",
    "dlv-0058",
    "dlv-0115",
    "dlv-0170",
    "dlv-0171",
    "dlv-0172",
    "dlv-0173",
    "dlv-0304",
    "dlv-0485",
    "dlv-0486",
];

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/netbox").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A line of each kind, the first that `sound` says can be looked at in this way and whose answer is not a listed one.
fn sample(file: &str, sound: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    let mut lines = lines(file);
    lines.retain(|line| {
        let seen = seen.entry(line["kind"].as_str().unwrap().to_owned()).or_default();
        let take = !*seen && sound(line) && !LISTED.contains(&line["id"].as_str().unwrap());
        *seen |= take;
        take
    });
    let missing: Vec<&String> = seen.iter().filter(|(_, seen)| !**seen).map(|(kind, _)| kind).collect();
    let expected: &[&str] = match file {
        // Their events never came about: a condition broke the user's request.
        "deliveries.jsonl" => &["rule-error"],
        _ => &[],
    };
    assert_eq!(missing, expected, "{file}: every kind but these has a sample");
    lines
}

/// A folder in which all these webhooks and rules have been imported at once.
async fn imported(webhooks: &[Value], rules: &[Value]) -> Folder {
    let folder = Folder::new();
    folder.write("webhooks.json", &json!({"next": null, "results": webhooks}).to_string());
    folder.write("rules.json", &json!({"next": null, "results": rules}).to_string());
    let arguments = [
        "import",
        "netbox",
        "--webhooks",
        "webhooks.json",
        "--event-rules",
        "rules.json",
        "--output",
        "hookwire.toml",
    ];
    let ended = folder.hookwire(&arguments).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    folder
}

fn webhook(id: usize, members: Value) -> Value {
    let mut webhook = json!({"id": id, "name": format!("webhook {id}"), "payload_url": "http://127.0.0.1/",
        "http_method": "POST", "http_content_type": "application/json", "additional_headers": "",
        "body_template": "", "secret": "", "ssl_verification": true, "ca_file_path": null});
    webhook.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    webhook
}

fn rule(id: usize, object_type: &Value, conditions: &Value) -> Value {
    json!({"id": id, "name": format!("rule {id}"), "enabled": true, "object_types": [object_type],
        "event_types": ["object_created", "object_updated", "object_deleted", "job_ended"], "conditions": conditions,
        "action_type": {"value": "webhook", "label": "Webhook"}, "action_object_id": id})
}

/// What `preview` and `explain` say of one rule.
struct Said {
    preview: Value,
    explained: Value,
}

async fn said(folder: &Folder, rule: &str, event: &Value) -> Said {
    folder.write("event.json", &event.to_string());
    let arguments = ["preview", "--event", "event.json", "--rule", rule, "--format", "json"];
    let ended = folder.hookwire(&arguments).await;
    let mut previews: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(previews.len(), 1, "{rule}: {}", ended.stderr);
    let preview = previews.remove(0);
    assert_eq!(ended.code() == 0, preview["request"].is_object(), "{rule}: {preview}");
    let ended = folder.hookwire(&["explain", "--event", "event.json", "--format", "json"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let explained: Vec<Value> = serde_json::from_str(&ended.stdout).unwrap();
    let explained = explained.into_iter().find(|explained| explained["rule"] == rule).unwrap();
    assert_eq!(explained["matched"], preview["matched"], "{rule}");
    Said { preview, explained }
}

/// Headers that the definition determines, by name; those masked in a preview are left out.
fn headers<'a>(pairs: impl IntoIterator<Item = &'a Value>) -> Map<String, Value> {
    const MASKED: [&str; 5] = ["authorization", "cookie", "-key", "-token", "-secret"];
    const OWN: [&str; 8] = [
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "host",
        "content-length",
        "webhook-id",
        "webhook-attempt",
    ];
    let named = pairs.into_iter().map(|pair| (pair[0].as_str().unwrap().to_lowercase(), pair[1].clone()));
    let is_masked = |name: &str| MASKED.iter().any(|end| name.ends_with(end));
    named.filter(|(name, _)| !OWN.contains(&name.as_str()) && !is_masked(name)).collect()
}

#[tokio::test]
async fn deliveries_of_each_kind_are_previewed_as_they_were_sent() {
    let sample = sample("deliveries.jsonl", |line| {
        line["context"].is_object()
            && line["same_from_json"] != false
            && line["changed_before_send"].is_null()
            || line["id"] == "dlv-0470"
    });
    let webhooks: Vec<Value> = sample.iter().map(|line| line["webhook"].clone()).collect();
    let rules: Vec<Value> = sample
        .iter()
        .map(|line| {
            let mut rule = line["event_rule"].clone();
            rule["name"] = line["id"].clone();
            if let Some(action_data) = line.get("action_data") {
                rule["action_data"] = action_data.clone();
            }
            rule
        })
        .collect();
    let folder = imported(&webhooks, &rules).await;
    for line in &sample {
        let id = line["id"].as_str().unwrap();
        let mut event = line["context"].clone();
        event["event_type"] = line["event_type"].clone();
        let Said { preview, explained } = said(&folder, id, &event).await;
        assert_eq!(explained["matched"], line["fired"], "{id}: {explained}");
        let request = &preview["request"];
        match line["requests"].as_array().unwrap().first() {
            Some(sent) => {
                assert_eq!(request["method"], sent["method"], "{id}: {preview}");
                assert_eq!(request["body_base64"], sent["body_b64"], "{id}");
                let all = sent["headers"].as_array().unwrap();
                let host = all.iter().find(|header| header[0] == "Host").unwrap()[1].as_str().unwrap();
                let url = format!("http://{host}{}", sent["target"].as_str().unwrap());
                assert_eq!(request["url"], url, "{id}");
                assert_eq!(headers(request["headers"].as_array().unwrap()), headers(all), "{id}");
            }
            None if line["fired"] == false => assert!(preview["reason"].is_string(), "{id}: {preview}"),
            // What NetBox could not make a request of; what it could not connect with, nothing is known of.
            None => {
                let class = line["exception"]["class"].as_str().unwrap();
                let connects = ["requests.exceptions.ConnectionError", "requests.exceptions.SSLError"];
                assert_eq!(preview["error"].is_null(), connects.contains(&class), "{id}: {preview}");
            }
        }
    }
}

#[tokio::test]
async fn templates_of_each_kind_are_previewed_as_they_were_rendered() {
    // A letter is no timestamp here.
    let sample = sample("templates.jsonl", |line| line["context"]["timestamp"] != "t");
    let webhooks = sample.iter().enumerate().map(|(at, line)| {
        let template = &line["template"];
        let members = match line["function"].as_str() {
            Some("url") => json!({"payload_url": template}),
            Some("headers") => json!({"additional_headers": template}),
            Some("default_body") => json!({}),
            _ => json!({"body_template": template}),
        };
        webhook(at + 1, members)
    });
    let webhooks: Vec<Value> = webhooks.collect();
    let rules = sample.iter().enumerate();
    let rules = rules.map(|(at, line)| rule(at + 1, &line["context"]["object_type"], &Value::Null));
    let folder = imported(&webhooks, &rules.collect::<Vec<_>>()).await;
    for (at, line) in sample.iter().enumerate() {
        let id = line["id"].as_str().unwrap();
        let preview = said(&folder, &format!("rule {}", at + 1), &line["context"]).await.preview;
        let request = &preview["request"];
        if !line["error"].is_null() || line["prepare_error"].is_object() {
            assert!(preview["error"]["message"].is_string(), "{id}: {preview}");
            continue;
        }
        match line["function"].as_str() {
            Some("url") => {
                let url = line["prepared_url"].as_str().unwrap().split('#').next().unwrap();
                assert_eq!(request["url"], url.replace("user:p%40ss@", ""), "{id}");
            }
            Some("headers") => {
                let prepared = headers(line["prepared_headers"].as_array().unwrap());
                assert_eq!(headers(request["headers"].as_array().unwrap()), prepared, "{id}");
            }
            _ => assert_eq!(request["body"], line["rendered"], "{id}: {preview}"),
        }
    }
}

#[tokio::test]
async fn conditions_of_each_kind_are_explained_as_they_were_decided() {
    // An event's data is an object, and its snapshots are objects or null.
    let sample = sample("conditions.jsonl", |line| line["data"].is_object());
    let webhooks: Vec<Value> = (1..=sample.len()).map(|id| webhook(id, json!({}))).collect();
    let rules =
        sample.iter().enumerate().map(|(at, line)| rule(at + 1, &"dcim.site".into(), &line["conditions"]));
    let folder = imported(&webhooks, &rules.collect::<Vec<_>>()).await;
    for (at, line) in sample.iter().enumerate() {
        let id = line["id"].as_str().unwrap();
        let mut event = json!({"event": "updated", "object_type": "dcim.site", "data": line["data"]});
        if line["snapshots"].is_object() {
            event["snapshots"] = line["snapshots"].clone();
        }
        let explained = said(&folder, &format!("rule {}", at + 1), &event).await.explained;
        let fires = &line["v47"]["rule_fires"];
        assert_eq!(explained["matched"], *fires == true, "{id}: {explained}");
        // A condition that is broken came over disabled; one that breaks off says so.
        let expected = match (line["v47"]["error"].as_str(), line["v47"]["error_stage"].as_str()) {
            _ if *fires == true => Value::Null,
            (None, _) => "condition".into(),
            (Some(_), Some("construct")) | (Some("re.error" | "AttributeError"), _) => "disabled".into(),
            (Some(_), _) => "condition_error".into(),
        };
        assert_eq!(explained["reason"], expected, "{id}: {explained}");
    }
}

/// The webhook that `docs/netbox.md` sets up: NetBox's default body, and a token in its headers.
#[tokio::test]
async fn behind_a_running_netbox_its_own_bodies_are_events() {
    let receiver = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&format!(
        r#"
[[webhooks]]
name = "receiver"
url = "{}"
default_body = "netbox"

[[event_rules]]
name = "everything"
object_types = ["*"]
event_types = ["*"]
webhooks = ["receiver"]
"#,
        receiver.url("/in")
    ));
    folder.write("token", "catch-all-token\n");
    let settings = std::fs::read_to_string(folder.path().join("hookwire.toml")).unwrap();
    folder
        .write("hookwire.toml", &settings.replace("[server]\n", "[server]\nadmin_token_file = \"token\"\n"));
    let server = Server::start(&folder).await;

    let mut bodies: Vec<String> = Vec::new();
    for line in lines("deliveries.jsonl") {
        let is_default =
            line["webhook"]["body_template"] == "" && line["webhook"]["additional_headers"] == "";
        let body = line["requests"][0]["body_text"].as_str().unwrap_or_default();
        if is_default && line["webhook"]["http_method"] == "POST" && body.starts_with("{\"event\"") {
            bodies.push(body.to_owned());
        }
    }
    bodies.sort();
    bodies.dedup();
    assert!(bodies.len() > 60, "{}", bodies.len());
    let refused = call_with(server.address, Method::POST, "/v1/events", &bodies[0], &[]).await.unwrap();
    assert_eq!(refused.0, 401, "{}", refused.1);

    let token = [("authorization", "Bearer catch-all-token")];
    let mut ids = Vec::new();
    for body in &bodies {
        let (status, answer) =
            call_with(server.address, Method::POST, "/v1/events", body, &token).await.unwrap();
        assert_eq!(status, 202, "{answer}\n{body}");
        ids.push(answer["ids"][0].clone());
    }
    // NetBox's worker may send a body again; it is the same event.
    let (_, again) = call_with(server.address, Method::POST, "/v1/events", &bodies[0], &token).await.unwrap();
    assert_eq!(again["duplicates"], json!([ids[0]]));

    let mut sent: Vec<String> =
        receiver.wait_for(bodies.len()).await.iter().map(|request| request.text().to_owned()).collect();
    sent.sort();
    assert_eq!(sent, bodies, "what NetBox sent goes on, byte for byte");
    assert_eq!(server.program.terminate().await.code(), 0);
}
