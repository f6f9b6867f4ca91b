//! Where fuzzing begins: the recorded corpus of NetBox's behaviour, and every input that once broke something.

use std::path::Path;

use serde_json::{Value, json};

use crate::Target;

/// Inputs to begin with, the same each time.
///
/// # Panics
/// If the recorded corpus is not there.
pub fn seeds(target: Target) -> Vec<Vec<u8>> {
    let texts: Vec<String> = match target {
        Target::Events => {
            let recorded = lines("deliveries.jsonl");
            let recorded = recorded.iter().step_by(3).map(|line| line["context"].to_string());
            recorded.chain(EVENTS.iter().map(|text| (*text).to_owned())).collect()
        }
        Target::Conditions => lines("conditions.jsonl").iter().map(condition).collect(),
        Target::Jinja => templates(|function| function == "body"),
        Target::Handlebars => HANDLEBARS.iter().map(|text| (*text).to_owned()).collect(),
        Target::Headers => templates(|function| function == "headers"),
        Target::Urls => templates(|function| function == "url"),
        Target::Import => lines("deliveries.jsonl").iter().map(export).collect(),
    };
    let mut seeds: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    seeds.sort();
    seeds.dedup();
    seeds
}

/// Inputs that once broke something: the files of `cases/<target>`.
///
/// # Panics
/// If a file cannot be read.
pub fn cases(target: Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(target.name());
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("the file can be read")).collect()
}

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/netbox").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn condition(line: &Value) -> String {
    let snapshots = line.get("snapshots").cloned().unwrap_or_default();
    format!("{}\0{}\0{snapshots}", line["conditions"], line["data"])
}

fn templates(of: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = lines("templates.jsonl").into_iter();
    let lines = lines.filter(|line| line["function"].as_str().is_some_and(&of));
    lines.filter_map(|line| line["template"].as_str().map(str::to_owned)).collect()
}

/// The webhook and the rule of one delivery, as one list.
fn export(line: &Value) -> String {
    let slim = |object: &Value, members: &[&str]| -> Value {
        members.iter().map(|member| ((*member).to_owned(), object[*member].clone())).collect()
    };
    let webhook = slim(
        &line["webhook"],
        &[
            "id",
            "name",
            "payload_url",
            "http_method",
            "http_content_type",
            "additional_headers",
            "body_template",
            "secret",
            "description",
        ],
    );
    let rule = slim(
        &line["event_rule"],
        &["name", "enabled", "object_types", "event_types", "conditions", "action_type", "action_object_id"],
    );
    json!([webhook, rule]).to_string()
}

/// What the recorded ones lack.
const EVENTS: &[&str] = &[
    r#"{"event":"created","object_type":"dcim.site","data":{"id":7,"id":8,"name":"a\u00e9\ud83d\ude80\/\b"}}"#,
    r#" { "id" : "e-1", "event": "job_ended", "event_type": "job_completed", "object_type": "core.job", "object_id": "x\"y", "data": {} } "#,
    r#"{"event":"updated","object_type":"a.b","model":"b","timestamp":"2026-01-01T00:00:00Z","username":null,"request_id":"r","data":{"n":[1.0,-0,1e400,12345678901234567890123]},"snapshots":{"prechange":{"a":1},"postchange":null},"request":{},"context":{"z":[[[]],{}]}}"#,
    r#"{"event":"x","object_type":"a.b","data":{"a":0,"b":1,"c":2,"d":3,"e":4,"f":5,"g":6,"h":7,"i":8,"j":9,"k":10,"l":11,"m":12,"n":13,"o":14,"p":15,"q":16,"a":17,"id":"s"}}"#,
    r#"[true, false, null, "\ud800", [], [[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,[18]]]]"#,
];

/// One of each thing that the language has.
const HANDLEBARS: &[&str] = &[
    "{\"text\": \"{{data.name}} was {{event}} by {{username}}\"}",
    "{{#if data.yes}}yes{{else if data.none}}none{{else}}no{{/if}}",
    "{{#unless data.none}}x{{/unless}}",
    "[{{#each data.list}}{{json this}}{{#unless @last}}, {{/unless}}{{/each}}]",
    "{{#each data.dict}}{{@key}}={{this}} {{@index}}{{@first}}{{/each}}",
    "{{#each data.tags as |tag at|}}{{at}}: {{tag.name}}\n{{else}}none{{/each}}",
    "{{#with data.status}}{{label}} {{../data.id}} {{@root.event}}{{/with}}",
    "{{lookup data.list 1}} {{lookup data \"name\"}} {{data.[name]}} {{data.list.[0]}}",
    "{{{data.name}}} {{&data.text}} {{json data}}",
    "{{!-- a comment --}}{{! another }}x",
    "{{~#if data.id~}} trimmed {{~/if~}}",
    "\\{{data.id}} {{\"literal\"}} {{1}} {{true}} {{null}}",
    "{{#if (eq data.id 42)}}{{#if (and data.yes (not data.none))}}{{#if (gt data.one 0.5)}}x{{/if}}{{/if}}{{/if}}",
    "{\"a\": {{json data.status}}, \"b\": \"{{data.text}}\", \"c\": {{data.big}}}",
    "{{urlencode data.name}} {{len data.list}} {{data.missing}}",
];
