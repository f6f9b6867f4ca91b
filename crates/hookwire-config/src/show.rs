//! What is in force, and where each value comes from.
//!
//! Invariants:
//! - A secret shows as `***`, wherever it stands: in a member of its own, in a URL, in a header.
//! - The text is TOML, so that it can be read back; what TOML cannot say stands as JSON in a string.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hookwire_definitions::Definitions;
use serde_json::{Value, json};

use crate::load::{self, Parts};
use crate::mask;
use crate::members::{GROWING_DEFAULTS, MemberInfo, MemberKind, RULE_MEMBERS, WEBHOOK_MEMBERS};
use crate::not_yet::NOT_YET;
use crate::problem::Loading;
use crate::report::{LoadError, place};
use crate::settings::{Given, Giver, Overrides, Raw, Reader, SETTINGS, Settings, Tables};
use crate::tree::{Content, Node, Span};
use crate::units;

/// A configuration that checks, with the origin of each value.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Every setting, by path, in the order of the documentation.
    pub settings: Vec<ShownValue>,
    /// The webhooks, in the order of the files.
    pub webhooks: Vec<ShownDefinition>,
    /// The event rules, in the order of the files.
    pub event_rules: Vec<ShownDefinition>,
}

/// A webhook or an event rule.
#[derive(Debug, Clone)]
pub struct ShownDefinition {
    /// Where it stands.
    pub origin: Origin,
    /// Its members: those that are set, and the defaults of the others.
    pub members: Vec<ShownValue>,
}

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub struct ShownValue {
    /// Such as `store.url`, `timeout` or `retry.jitter`.
    pub name: String,
    /// The value, secrets masked; `None` for a setting that is not set and has no default.
    pub value: Option<Value>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file, and the line in it, from 1.
    File(PathBuf, usize),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, such as `--store`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line) => write!(f, "{}:{line}", file.display()),
            Origin::Environment(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Loads a configuration as [`load`](crate::load()) does, and shows what is in force and where it comes from.
///
/// # Errors
/// [`LoadError`] as for loading: what does not check is not in force.
pub fn show(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Shown, LoadError> {
    let mut shown = None;
    let mut look = |loading: &mut Loading<'_>,
                    parts: &Parts<'_>,
                    tables: &Tables<'_>,
                    settings: &Settings,
                    definitions: &Definitions| {
        shown = Some(Shown {
            settings: settings_shown(loading, tables, overrides, settings, definitions.grace()),
            webhooks: parts.webhooks.iter().map(|node| definition(loading, node, WEBHOOK_MEMBERS)).collect(),
            event_rules: parts.rules.iter().map(|node| definition(loading, node, RULE_MEMBERS)).collect(),
        });
    };
    load::load_and_look(paths, env, overrides, &mut look)?;
    Ok(shown.expect("what loads without a problem was looked at"))
}

/// Every setting with its value in force and where that comes from. `grace` is what the definitions make of
/// `worker.grace` where nobody sets it.
fn settings_shown(
    loading: &mut Loading<'_>,
    tables: &Tables<'_>,
    overrides: &Overrides,
    settings: &Settings,
    grace: Duration,
) -> Vec<ShownValue> {
    let reader = Reader { loading, tables, overrides };
    let shown = SETTINGS.iter().map(|row| {
        let given = reader.given(row.path);
        let origin = match &given {
            Some(Given { from: Giver::Flag, path, .. }) => Origin::Flag(path.clone()),
            Some(Given { from: Giver::Environment, path, .. }) => Origin::Environment(path.clone()),
            Some(Given { value: Raw::Node(node), .. }) => origin(reader.loading, node.span),
            _ => Origin::Default,
        };
        let value = match row.path {
            // As it is in force, relative to nothing.
            "store.url" => Some(mask::text(&settings.store.url.to_string()).into()),
            // What the server finds for itself is known to it only.
            "store.max_pending_bytes" if settings.store.max_pending_bytes.is_none() => None,
            "history.max_bytes" if settings.history.max_bytes.is_none() => None,
            "worker.grace" => Some(units::duration_text(settings.worker.grace.unwrap_or(grace)).into()),
            _ => given.map(|given| match given.value {
                Raw::Node(node) => node.to_value().unwrap_or_default(),
                Raw::Text(text) => row.kind.value(&text),
            }),
        };
        ShownValue { name: row.path.to_owned(), value, origin }
    });
    shown.collect()
}

/// The place of a span.
fn origin(loading: &Loading<'_>, span: Span) -> Origin {
    let source = &loading.sources[span.file];
    Origin::File(source.path.clone(), place(&source.text, span.start).0)
}

fn definition(loading: &Loading<'_>, node: &Node, table: &[MemberInfo]) -> ShownDefinition {
    let list = if std::ptr::eq(table, RULE_MEMBERS) { "event_rules" } else { "webhooks" };
    let mut members = Vec::new();
    for info in table {
        let given = given(node, info.name);
        if let MemberKind::Table(inner) = info.kind {
            members.extend(retry(loading, info.name, given, inner));
            continue;
        }
        let value = match given {
            Some(node) => ShownValue {
                name: info.name.to_owned(),
                value: Some(masked(info, node)),
                origin: origin(loading, node.span),
            },
            None if NOT_YET
                .iter()
                .any(|entry| entry.table == list && entry.member == info.name && entry.value.is_none()) =>
            {
                continue;
            }
            // It means nothing without an order.
            None if info.name == "on_failure" && !is_ordered(node) => continue,
            None => match default(info.default) {
                Some(value) => {
                    ShownValue { name: info.name.to_owned(), value: Some(value), origin: Origin::Default }
                }
                None => continue,
            },
        };
        members.push(value);
    }
    ShownDefinition { origin: origin(loading, node.at("/name").span), members }
}

fn is_ordered(webhook: &Node) -> bool {
    given(webhook, "ordering")
        .is_some_and(|node| matches!(&node.content, Content::Text(word) if word == "object"))
}

/// The members of `retry`, of which the two ways to say how long to wait exclude each other.
fn retry(loading: &Loading<'_>, name: &str, table: Option<&Node>, members: &[MemberInfo]) -> Vec<ShownValue> {
    let given_in = |member: &str| table.and_then(|table| given(table, member));
    let grows = GROWING_DEFAULTS.iter().any(|(name, _)| given_in(name).is_some());
    let shown = members.iter().filter_map(|info| {
        let name = format!("{name}.{}", info.name);
        if let Some(node) = given_in(info.name) {
            let value = Some(masked(info, node));
            return Some(ShownValue { name, value, origin: origin(loading, node.span) });
        }
        let growing = GROWING_DEFAULTS.iter().find(|(name, _)| *name == info.name);
        let text = match growing {
            Some((_, text)) if grows => text,
            Some(_) => "",
            None if grows && info.name == "schedule" => "",
            None => info.default,
        };
        default(text).map(|value| ShownValue { name, value: Some(value), origin: Origin::Default })
    });
    shown.collect()
}

fn given<'t>(node: &'t Node, name: &str) -> Option<&'t Node> {
    let Content::Table(table) = &node.content else { return None };
    table.get(name).filter(|node| !matches!(node.content, Content::Null))
}

fn default(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| serde_json::from_str(text).expect("a default in the table is JSON"))
}

const MASK: &str = "***";

/// The value of a member, with what is secret in it masked.
fn masked(info: &MemberInfo, node: &Node) -> Value {
    let value = node.to_value().unwrap_or_else(|node| Value::String(node.kind().to_owned()));
    match (info.kind, value) {
        (MemberKind::Secret, _) => MASK.into(),
        (MemberKind::Secrets, Value::Array(items)) => {
            let items = items.into_iter().map(|item| match item {
                Value::Object(mut members) => {
                    if let Some(secret) = members.get_mut("secret") {
                        *secret = MASK.into();
                    }
                    Value::Object(members)
                }
                _ => MASK.into(),
            });
            items.collect()
        }
        (_, Value::String(text)) => mask::text(&text).into(),
        (_, value) => value,
    }
}

impl Shown {
    /// One JSON object with `settings`, `webhooks` and `event_rules`.
    pub fn to_json(&self) -> Value {
        let definitions = |definitions: &[ShownDefinition]| -> Value {
            let shown = definitions.iter().map(|definition| {
                let members: Vec<Value> = definition.members.iter().map(value_as_json).collect();
                json!({ "origin": origin_as_json(&definition.origin), "members": members })
            });
            shown.collect()
        };
        json!({
            "settings": self.settings.iter().map(value_as_json).collect::<Vec<_>>(),
            "webhooks": definitions(&self.webhooks),
            "event_rules": definitions(&self.event_rules),
        })
    }
}

fn value_as_json(shown: &ShownValue) -> Value {
    json!({ "name": shown.name, "value": shown.value, "origin": origin_as_json(&shown.origin) })
}

fn origin_as_json(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({ "kind": "default" }),
        Origin::File(file, line) => {
            json!({ "kind": "file", "file": file.display().to_string(), "line": line })
        }
        Origin::Environment(name) => json!({ "kind": "environment", "name": name }),
        Origin::Flag(name) => json!({ "kind": "flag", "name": name }),
    }
}

/// Where origins begin: beyond most values, and so that they still fit beside them.
const ORIGIN_COLUMN: usize = 44;

/// TOML, with the origin of each value behind it.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for shown in &self.settings {
            let (table, member) = shown.name.split_once('.').unwrap_or(("", &shown.name));
            if table != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}[{table}]")?;
                section = table;
            }
            match &shown.value {
                Some(value) => line(f, &format!("{member} = {}", toml(value)), &shown.origin.to_string())?,
                None => writeln!(f, "# {member} is not set")?,
            }
        }
        for (list, definitions) in [("webhooks", &self.webhooks), ("event_rules", &self.event_rules)] {
            for definition in definitions {
                writeln!(f, "\n[[{list}]]")?;
                for ShownValue { name, value, origin } in &definition.members {
                    let value = toml(value.as_ref().unwrap_or(&Value::Null));
                    line(f, &format!("{name} = {value}"), &origin.to_string())?;
                }
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, value: &str, origin: &str) -> fmt::Result {
    let last = value.rsplit('\n').next().unwrap_or(value).chars().count();
    writeln!(f, "{value}{}  # {origin}", " ".repeat(ORIGIN_COLUMN.saturating_sub(last)))
}

/// A value as TOML.
fn toml(value: &Value) -> String {
    if holds_null(value) {
        // TOML has no null; where one can stand, a string with JSON may stand as well.
        return toml_text(&value.to_string());
    }
    match value {
        Value::Null => "\"\"".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => toml_text(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(members) if members.is_empty() => "{}".into(),
        Value::Object(members) => {
            let bare = |key: &str| {
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            };
            let members = members.iter().map(|(key, value)| {
                let key = if bare(key) { key.clone() } else { toml_text(key) };
                format!("{key} = {}", toml(value))
            });
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(members) => members.values().any(holds_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A text as TOML: literal where that reads better, over several lines where it has several.
fn toml_text(text: &str) -> String {
    let control = |c: char| c.is_control() && c != '\t';
    let lines = text.split('\n').count();
    if lines > 1
        && !text.contains("'''")
        && !text.ends_with('\'')
        && !text.replace('\n', "").contains(control)
    {
        return format!("'''\n{text}'''");
    }
    if text.contains(['"', '\\']) && !text.contains('\'') && !text.contains(control) {
        return format!("'{text}'");
    }
    // What JSON escapes, TOML reads alike; the one control character that JSON leaves is refused by TOML.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;
    use crate::toml_tree;

    proptest! {
        #[test]
        fn what_is_printed_reads_back(texts in proptest::collection::vec(any::<String>(), 1..4), number: i32, flag: bool) {
            let list: Value = texts.iter().map(String::as_str).collect();
            let mut members = Map::from_iter([("list".to_owned(), list), ("n".to_owned(), number.into())]);
            members.insert(texts[0].clone(), flag.into());
            let value = Value::Object(members);
            let printed = format!("value = {}", toml(&value));
            let read = toml_tree::parse(0, &printed).unwrap_or_else(|error| panic!("{}\n{printed}", error.message));
            prop_assert_eq!(read.at("/value").to_value().unwrap(), value);
        }
    }

    #[test]
    fn texts_read_well() {
        for (text, printed) in [
            ("plain", "\"plain\""),
            (r#"{"a": "b"}"#, r#"'{"a": "b"}'"#),
            ("it's \"so\"", r#""it's \"so\"""#),
            ("one\ntwo", "'''\none\ntwo'''"),
            ("bell\u{7}", r#""bell\u0007""#),
        ] {
            assert_eq!(toml_text(text), printed);
        }
        assert_eq!(toml(&json!({"a": null, "b": 1})), r#"'{"a":null,"b":1}'"#);
    }
}
