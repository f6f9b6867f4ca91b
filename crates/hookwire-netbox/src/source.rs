//! NetBox's objects as its REST API shows them, read into plain types.
//!
//! Releases from 3.7 on are understood: before 4.0 `object_types` was called `content_types`, and before 4.1 the event
//! types were booleans, `type_create` and so on.
//!
//! Invariant: members that are not known here are none of a definition's meaning, and are passed over.

use serde_json::{Map, Value};

/// An object that is no webhook or event rule of NetBox's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("number {} of the {list}{name} {message}", position + 1)]
pub struct ImportError {
    list: &'static str,
    position: usize,
    name: String,
    message: String,
}

/// A webhook of NetBox's.
#[derive(Debug)]
pub(crate) struct NetBoxWebhook {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) about: About,
    pub(crate) payload_url: String,
    pub(crate) http_method: String,
    pub(crate) http_content_type: String,
    pub(crate) additional_headers: String,
    pub(crate) body_template: String,
    /// `None` if the answer does not say.
    pub(crate) secret: Option<String>,
    pub(crate) ssl_verification: bool,
    pub(crate) ca_file_path: String,
}

/// An event rule of NetBox's.
#[derive(Debug)]
pub(crate) struct NetBoxRule {
    pub(crate) name: String,
    pub(crate) about: About,
    pub(crate) enabled: bool,
    pub(crate) object_types: Vec<String>,
    pub(crate) event_types: Vec<String>,
    pub(crate) conditions: Value,
    pub(crate) action_type: String,
    /// What it acts on, by id and by name.
    pub(crate) action_object_id: Option<u64>,
    pub(crate) action_object_name: Option<String>,
    /// Not told by 4.6; taken where it is.
    pub(crate) action_data: Map<String, Value>,
}

/// What people wrote about an object.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) description: String,
    pub(crate) tags: Vec<String>,
    /// Those that have a value.
    pub(crate) custom_fields: Map<String, Value>,
}

impl About {
    /// As lines of comment.
    pub(crate) fn comment(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.description.is_empty() {
            lines.push(self.description.clone());
        }
        if !self.tags.is_empty() {
            lines.push(format!("Tags in NetBox: {}", self.tags.join(", ")));
        }
        if !self.custom_fields.is_empty() {
            lines.push(format!("Custom fields in NetBox: {}", Value::Object(self.custom_fields.clone())));
        }
        lines
    }
}

/// Reads one webhook that stands at this place of its list.
pub(crate) fn webhook(position: usize, object: &Value) -> Result<NetBoxWebhook, ImportError> {
    let reader = Reader { list: "webhooks", position, object };
    if object.get("payload_url").is_none() && object.get("action_type").is_some() {
        return Err(reader.error("is an event rule, not a webhook: are the two files swapped?"));
    }
    Ok(NetBoxWebhook {
        id: object["id"].as_u64(),
        name: reader.required("name")?,
        about: reader.about(),
        payload_url: reader.required("payload_url")?,
        http_method: reader.choice("http_method").unwrap_or_else(|| "POST".into()),
        http_content_type: reader.text("http_content_type")?.unwrap_or_else(|| "application/json".into()),
        additional_headers: reader.text("additional_headers")?.unwrap_or_default(),
        body_template: reader.text("body_template")?.unwrap_or_default(),
        secret: reader.text("secret")?,
        ssl_verification: object["ssl_verification"].as_bool().unwrap_or(true),
        ca_file_path: reader.text("ca_file_path")?.unwrap_or_default(),
    })
}

/// Reads one event rule that stands at this place of its list.
pub(crate) fn rule(position: usize, object: &Value) -> Result<NetBoxRule, ImportError> {
    let reader = Reader { list: "event rules", position, object };
    if object.get("action_type").is_none() && object.get("payload_url").is_some() {
        return Err(reader.error("is a webhook, not an event rule: are the two files swapped?"));
    }
    let Some(action_type) = reader.choice("action_type") else {
        return Err(reader.error("has no `action_type`: ask for the list without `brief` and `fields`"));
    };
    Ok(NetBoxRule {
        name: reader.required("name")?,
        about: reader.about(),
        enabled: object["enabled"].as_bool().unwrap_or(true),
        object_types: reader
            .texts("object_types")
            .or_else(|| reader.texts("content_types"))
            .unwrap_or_default(),
        event_types: reader.texts("event_types").unwrap_or_else(|| event_types_before_4_1(object)),
        conditions: object["conditions"].clone(),
        action_type,
        action_object_id: object["action_object_id"]
            .as_u64()
            .or_else(|| object["action_object"]["id"].as_u64()),
        action_object_name: object["action_object"]["name"].as_str().map(str::to_owned),
        action_data: object["action_data"].as_object().cloned().unwrap_or_default(),
    })
}

/// The event types that a rule had as booleans.
fn event_types_before_4_1(object: &Value) -> Vec<String> {
    let types: [(&str, &[&str]); 5] = [
        ("type_create", &["object_created"]),
        ("type_update", &["object_updated"]),
        ("type_delete", &["object_deleted"]),
        ("type_job_start", &["job_started"]),
        ("type_job_end", &["job_completed", "job_failed", "job_errored"]),
    ];
    let chosen = types.iter().filter(|(member, _)| object[*member] == true);
    chosen.flat_map(|(_, types)| types.iter().map(|name| (*name).to_owned())).collect()
}

struct Reader<'a> {
    list: &'static str,
    position: usize,
    object: &'a Value,
}

impl Reader<'_> {
    fn error(&self, message: impl Into<String>) -> ImportError {
        let name = self.object["name"].as_str().map(|name| format!(" ({name:?})")).unwrap_or_default();
        ImportError { list: self.list, position: self.position, name, message: message.into() }
    }

    /// A text; `None` if it is not there or null.
    fn text(&self, member: &str) -> Result<Option<String>, ImportError> {
        match &self.object[member] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(self.error(format!("has a `{member}` that is no text"))),
        }
    }

    fn required(&self, member: &str) -> Result<String, ImportError> {
        self.text(member)?.ok_or_else(|| {
            self.error(format!("has no `{member}`: ask for the list without `brief` and `fields`"))
        })
    }

    /// A choice: `{"value": "webhook", "label": "Webhook"}`, or the value alone.
    fn choice(&self, member: &str) -> Option<String> {
        let choice = &self.object[member];
        choice.as_str().or_else(|| choice["value"].as_str()).map(str::to_owned)
    }

    /// A list of texts, or of choices.
    fn texts(&self, member: &str) -> Option<Vec<String>> {
        let texts = self.object[member].as_array()?.iter();
        Some(
            texts
                .filter_map(|item| item.as_str().or_else(|| item["value"].as_str()))
                .map(str::to_owned)
                .collect(),
        )
    }

    fn about(&self) -> About {
        let tags = self.object["tags"].as_array().into_iter().flatten();
        let custom_fields = self.object["custom_fields"].as_object().cloned().unwrap_or_default();
        About {
            description: self.object["description"].as_str().unwrap_or_default().to_owned(),
            tags: tags
                .filter_map(|tag| tag["name"].as_str().or_else(|| tag.as_str()))
                .map(str::to_owned)
                .collect(),
            custom_fields: custom_fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        }
    }
}
