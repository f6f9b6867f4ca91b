//! The JSON Schema of a configuration file, for editors: completion, descriptions, and mistakes that show while typing.
//!
//! Invariants:
//! - It is made of the tables that reading uses, so that the two cannot differ in names and words.
//! - It refuses nothing that loading takes, but for `null`, which loading takes for absent. What needs more than one
//!   look (names, templates, files) is left to `check`.
//! - What is not supported yet is not in it.

use hookwire_model::Operator;
use serde_json::{Map, Value, json};

use crate::members::{MemberInfo, MemberKind, RULE_MEMBERS, WEBHOOK_MEMBERS};
use crate::not_yet::NOT_YET;
use crate::settings::{SETTINGS, SettingInfo, SettingKind, sections};

/// The JSON Schema (draft 2020-12) of a file or of any file of a folder.
pub fn schema() -> Value {
    let mut properties = Map::new();
    let schema_text = "Where the schema is; editors read it.";
    properties.insert("$schema".into(), json!({ "type": "string", "description": schema_text }));
    for section in sections() {
        let rows =
            SETTINGS.iter().filter(|row| row.section() == section && !is_not_yet(section, row.member()));
        let members: Map<String, Value> =
            rows.map(|row| (row.member().to_owned(), setting_schema(row))).collect();
        properties.insert(section.into(), closed(members));
    }
    let webhook = object("webhooks", WEBHOOK_MEMBERS);
    let rule = object("event_rules", RULE_MEMBERS);
    properties.insert(
        "webhooks".into(),
        json!({ "type": "array", "description": "Where and how to send.", "items": webhook }),
    );
    properties.insert(
        "event_rules".into(),
        json!({ "type": "array", "description": "Which events go to which webhooks.", "items": rule }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hookwire",
        "description": "Definitions and settings of hookwire, in TOML or JSON.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": { "condition": condition() },
    })
}

fn is_not_yet(table: &str, member: &str) -> bool {
    NOT_YET.iter().any(|entry| entry.table == table && entry.member == member && entry.value.is_none())
}

/// An object with these members and no others.
fn closed(properties: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn setting_schema(row: &SettingInfo) -> Value {
    let mut schema = match row.kind {
        SettingKind::StoreUrl | SettingKind::Listen | SettingKind::EnvName | SettingKind::File => text(),
        SettingKind::Count => count(),
        SettingKind::Duration => duration(),
        SettingKind::Size => json!({ "type": "string", "pattern": SIZE }),
        SettingKind::Boolean => json!({ "type": "boolean" }),
        SettingKind::EgressMode => json!({ "enum": ["default", "public-only"] }),
        SettingKind::List => json!({ "type": "array", "items": text() }),
    };
    let variable = format!("{} Environment: {}.", row.description, row.env());
    schema["description"] = variable.into();
    if !row.default.is_empty() {
        schema["default"] = row.kind.value(row.default);
    }
    schema
}

fn object(list: &str, members: &[MemberInfo]) -> Value {
    let known = members.iter().filter(|info| !is_not_yet(list, info.name));
    let properties = known.clone().map(|info| (info.name.to_owned(), member_schema(list, info)));
    let mut schema = closed(properties.collect());
    let required: Vec<&str> = known.filter(|info| info.required()).map(|info| info.name).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    let dependent = match list {
        "webhooks" => {
            let mut schemas = excluding(&[&["secret"], &["secret_env"], &["secret_file"]]);
            let ordered =
                json!({ "required": ["ordering"], "properties": { "ordering": { "const": "object" } } });
            schemas.insert("on_failure".into(), ordered);
            schemas
        }
        "retry" => excluding(&[&["schedule"], &["initial", "factor", "max_delay"]]),
        _ => Map::new(),
    };
    if !dependent.is_empty() {
        schema["dependentSchemas"] = dependent.into();
    }
    if list == "webhooks" {
        schema["dependentRequired"] = json!({ "client_cert": ["client_key"], "client_key": ["client_cert"] });
    }
    schema
}

/// Members of one group exclude those of the others.
fn excluding(groups: &[&[&str]]) -> Map<String, Value> {
    let mut schemas = Map::new();
    for group in groups {
        let others = groups.iter().filter(|other| other != &group).flat_map(|other| other.iter());
        let others: Map<String, Value> = others.map(|name| ((*name).to_owned(), false.into())).collect();
        for name in *group {
            schemas.insert((*name).to_owned(), json!({ "properties": others }));
        }
    }
    schemas
}

fn member_schema(list: &str, info: &MemberInfo) -> Value {
    let words = |all: fn() -> Vec<&'static str>| {
        let refused = |word: &str| {
            NOT_YET
                .iter()
                .any(|entry| entry.table == list && entry.member == info.name && entry.value == Some(word))
        };
        let words: Vec<&str> = all().into_iter().filter(|word| !refused(word)).collect();
        json!({ "enum": words })
    };
    let mut schema = match info.kind {
        MemberKind::Name => json!({ "type": "string", "minLength": 1, "maxLength": 200 }),
        MemberKind::Url | MemberKind::EnvName | MemberKind::File | MemberKind::Secret => {
            json!({ "type": "string", "minLength": 1 })
        }
        MemberKind::Rate => json!({ "type": "string", "pattern": RATE }),
        MemberKind::Text => text(),
        MemberKind::Secrets => json!({ "type": "array", "items": { "anyOf": [
            text(),
            {
                "type": "object",
                "properties": { "secret": text(), "secret_env": text(), "secret_file": text() },
                "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
            },
        ] } }),
        MemberKind::Word(all) => words(all),
        MemberKind::Words(all) => {
            json!({ "anyOf": [words(all), { "type": "array", "items": words(all) }] })
        }
        MemberKind::Boolean => json!({ "type": "boolean" }),
        MemberKind::Count => count(),
        MemberKind::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        MemberKind::Duration => duration(),
        MemberKind::Durations => json!({ "type": "array", "items": duration(), "minItems": 1 }),
        MemberKind::Some(example) => {
            json!({ "type": "array", "items": text(), "minItems": 1, "examples": [[example]] })
        }
        MemberKind::Condition => json!({ "anyOf": [
            { "$ref": "#/$defs/condition" },
            { "type": "string", "description": "A condition as JSON." },
            { "description": "No condition.", "enum": [{}, []] },
        ] }),
        MemberKind::Object => json!({ "type": ["object", "string"] }),
        MemberKind::Table(members) => object("retry", members),
    };
    schema["description"] = info.description.into();
    if !info.default.is_empty() {
        let default: Value = serde_json::from_str(info.default).expect("a default in the table is JSON");
        schema["default"] = default;
    }
    schema
}

/// A condition, as `hookwire-model` reads it.
fn condition() -> Value {
    let operators: Vec<&str> = Operator::ALL.iter().map(|operator| operator.as_str()).collect();
    let here = json!({ "$ref": "#/$defs/condition" });
    let set = |name: &str, what: &str, schema: Value| {
        let mut schema = closed(Map::from_iter([(name.to_owned(), schema)]));
        schema["required"] = json!([name]);
        schema["description"] = what.into();
        schema
    };
    // NetBox takes an empty object or text for the empty set.
    let list = json!({ "anyOf": [{ "type": "array", "items": here }, { "enum": [{}, ""] }] });
    let mut test = json!({
        "type": "object",
        "description": "A comparison of one value.",
        "properties": {
            "attr": { "type": "string", "description": "The value's path in `data`, or one that begins with `snapshots`." },
            "path": { "type": "string", "description": "The value's path in the whole context, such as `username`." },
            "op": { "enum": operators, "default": "eq", "description": "How it is compared." },
            "value": {
                "type": ["string", "number", "boolean", "array", "null"],
                "description": "What it is compared with.",
            },
            "value_path": { "type": "string", "description": "The path of what it is compared with." },
            "negate": { "description": "Whether the result is turned round.", "default": false },
        },
        "additionalProperties": false,
        "oneOf": [{ "required": ["attr"] }, { "required": ["path"] }],
    });
    let takes = |operators: &[&str], value: Value| {
        json!({
            "if": { "required": ["op"], "properties": { "op": { "enum": operators } } },
            "then": { "properties": { "value": value } },
        })
    };
    test["allOf"] = json!([
        takes(&["gt", "gte", "lt", "lte"], json!({ "type": "number" })),
        takes(&["contains"], json!({ "type": ["string", "number", "boolean", "array"] })),
        takes(&["in"], json!({ "type": "array" })),
        takes(&["regex", "starts_with", "ends_with"], text()),
        takes(&["exists"], json!({ "type": "boolean" })),
        takes(&["changed", "unchanged"], false.into()),
    ]);
    json!({
        "description": "What an event must fulfil.",
        "anyOf": [
            set("and", "All of them hold.", list.clone()),
            set("or", "One of them holds.", list),
            set("not", "The other does not hold.", here),
            test,
        ],
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 1 })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": DURATION })
}

/// One or several whole numbers with units, as [`units`](crate::units) reads them.
const DURATION: &str = r"^\s*([0-9]+(ms|s|m|h|d)\s*)+$";
/// A count and a unit of time.
const RATE: &str = r"^\s*[0-9]+\s*/\s*(s|m|h)\s*$";
/// A whole number with a unit.
const SIZE: &str = r"^\s*[0-9]+\s*(B|[kMGT]B|[KMGT]iB)\s*$";
