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
