//! A document, or a part of one, that is kept and passed on.
//!
//! Invariants:
//! - The text is valid JSON, has no white space outside strings, is nested at most [`JSON_DEPTH_MAX`] deep where it was
//!   parsed, and its strings hold no lone surrogates.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::read::{self, Flaw};
use crate::tree::{Node, Tree};

/// How deep arrays and objects may be nested in a document: serde_json gives up at 128, and an event's document stands
/// inside the context and an array of events.
pub const JSON_DEPTH_MAX: usize = 100;

/// A JSON document as compact text that can be looked into. Cheap to clone, and to take parts of.
#[derive(Clone)]
pub struct Json {
    tree: Arc<Tree>,
    at: u32,
}

impl Json {
    /// Reads a JSON text, and leaves its white space out.
    ///
    /// # Errors
    /// [`JsonError`] if the text is no JSON, is nested deeper than [`JSON_DEPTH_MAX`], or holds a lone surrogate.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::parse_nested(text, JSON_DEPTH_MAX)
    }

    /// As [`parse`](Self::parse), for a text that may be nested so deep. Reading it recurses as deep.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_nested(text: &str, depth_max: usize) -> Result<Self, JsonError> {
        let tree = read::tree(text, depth_max).map_err(|flaw| refusal(text, flaw))?;
        Ok(Json { tree, at: 0 })
    }

    /// The document `null`.
    pub fn null() -> &'static Json {
        static NULL: LazyLock<Json> = LazyLock::new(|| Json::parse("null").expect("that is JSON"));
        &NULL
    }

    /// The document as text, without white space outside strings.
    pub fn as_str(&self) -> &str {
        self.root().as_str()
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node::new(&self.tree, self.at)
    }

    /// A value within this document as a document of its own, which shares the text.
    ///
    /// # Panics
    /// If the node is of another document.
    pub fn part(&self, node: Node<'_>) -> Json {
        assert!(node.is_of(&self.tree), "a part of another document");
        Json { tree: Arc::clone(&self.tree), at: node.at() }
    }

    /// A name that stood more than once in the outermost object of the text that was parsed: the member has its first
    /// place and its last value.
    pub fn repeated_name(&self) -> Option<&str> {
        self.tree.repeated.as_deref()
    }
}

/// Says why a text was refused. Where it is no JSON, in serde_json's words, which tell line and column.
fn refusal(text: &str, flaw: Flaw) -> JsonError {
    match (serde_json::from_str::<IgnoredAny>(text), flaw) {
        (Err(error), _) => JsonError::Syntax(error),
        (Ok(_), Flaw::TooDeep) => JsonError::TooDeep,
        (Ok(_), Flaw::LoneSurrogate(unit)) => JsonError::LoneSurrogate(unit),
        (Ok(_), Flaw::TooLong) => JsonError::TooLong,
        (Ok(_), Flaw::Syntax) => JsonError::Syntax(serde::de::Error::custom("not JSON (RFC 8259)")),
    }
}

/// However deep it is nested: to have been made, it was walked before.
impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Json::parse_nested(&value.to_string(), usize::MAX).expect("serde_json writes JSON")
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Json::from(&value)
    }
}

/// By text.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Json::parse(raw.get()).map_err(serde::de::Error::custom)
    }
}

/// Why a text was not taken as a JSON document.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON.
    #[error("not valid JSON")]
    Syntax(#[source] serde_json::Error),
    /// Arrays and objects are nested too deep.
    #[error("nested more than {JSON_DEPTH_MAX} deep")]
    TooDeep,
    /// A string holds half of a surrogate pair, such as `\ud83d` alone, which is no character.
    #[error("a string holds the lone surrogate \\u{0:04x}, which is no character")]
    LoneSurrogate(u16),
    /// It has 4 GiB or more.
    #[error("longer than 4 GiB")]
    TooLong,
}
