//! What the configuration's format has, and hookwire cannot do yet.
//!
//! Invariant: this is the one list. What stands in it is refused by name, never ignored; when something is
//! built, its line goes.

use crate::tree::{Content, Node};

/// Something that cannot be used yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotYet {
    /// The table it belongs to: `webhooks`, `store` and so on.
    pub table: &'static str,
    /// The member.
    pub member: &'static str,
    /// The value that is refused, or the scheme of a URL; `None` refuses the member whatever it holds.
    pub value: Option<&'static str>,
    /// What to do until then.
    pub instead: &'static str,
}

/// Everything that is refused as "not supported yet".
pub const NOT_YET: &[NotYet] = &[
    entry("webhooks", "signature", Some("standard-ed25519"), "use \"standard\", with a shared secret"),
    entry("webhooks", "signing_key", None, "use `signature = [\"standard\"]` with a `secret`"),
    entry(
        "store",
        "url",
        Some("redis-sentinel"),
        "name the primary with \"redis://\", or use \"redis-cluster://\"",
    ),
];

const fn entry(
    table: &'static str,
    member: &'static str,
    value: Option<&'static str>,
    instead: &'static str,
) -> NotYet {
    NotYet { table, member, value, instead }
}

impl NotYet {
    /// What to say about it.
    pub(crate) fn message(&self) -> String {
        match self.value {
            None => "not supported yet".into(),
            Some(value) if self.member == "url" => format!("a store \"{value}:\" is not supported yet"),
            Some(value) => format!("\"{value}\" is not supported yet"),
        }
    }

    fn refuses(&self, text: &str) -> bool {
        self.value.is_none_or(|value| {
            text == value || text.strip_prefix(value).is_some_and(|rest| rest.starts_with(':'))
        })
    }
}

/// The entry that refuses this member with this value.
pub(crate) fn not_yet(table: &str, member: &str, node: &Node) -> Option<&'static NotYet> {
    NOT_YET.iter().filter(|entry| entry.table == table && entry.member == member).find(|entry| {
        entry.value.is_none()
            || match &node.content {
                Content::Text(text) => entry.refuses(text),
                Content::List(items) => items
                    .iter()
                    .any(|item| matches!(&item.content, Content::Text(text) if entry.refuses(text))),
                Content::Null
                | Content::Bool(_)
                | Content::Number(_)
                | Content::NotJson(_)
                | Content::Table(_) => false,
            }
    })
}

/// The entry that refuses this setting with this text.
pub(crate) fn not_yet_text(table: &str, member: &str, text: &str) -> Option<&'static NotYet> {
    NOT_YET.iter().find(|entry| entry.table == table && entry.member == member && entry.refuses(text))
}
