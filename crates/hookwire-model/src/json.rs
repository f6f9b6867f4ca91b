//! JSON that is passed on: the text as it came, without white space, and its tree when somebody asks for it.
//!
//! Most of an event is never looked at: it goes from the producer's text to the receiver's body. So a document is kept
//! as text, and parsed into a tree at most once, when a condition or a template needs it.
//!
//! Invariants:
//! - The text is valid JSON, has no white space outside strings, is nested at most [`JSON_DEPTH_MAX`] deep, and its
//!   strings hold no lone surrogates; so the tree can always be made.
//! - Numbers and strings are spelled as the producer spelled them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// How deep arrays and objects may be nested in a document: serde_json gives up at 128, and an event's document stands
/// inside the context and an array of events.
pub const JSON_DEPTH_MAX: usize = 100;

/// A JSON document as compact text, with its tree made on demand.
#[derive(Clone)]
pub struct Json {
    text: Box<str>,
    tree: OnceLock<Arc<Value>>,
}

impl Json {
    /// Takes a JSON text and leaves its white space out.
    ///
    /// # Errors
    /// [`JsonError`] if the text is no JSON, is nested too deep, or holds a lone surrogate.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Self::from_raw(raw)
    }

    /// Takes a piece of a JSON text that serde_json has delimited.
    ///
    /// # Errors
    /// [`JsonError`] if it is nested too deep or holds a lone surrogate.
    pub fn from_raw(raw: &RawValue) -> Result<Self, JsonError> {
        Ok(Json { text: compact(raw.get())?, tree: OnceLock::new() })
    }

    /// The document as text, without white space outside strings.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The document as a tree; made at the first call.
    pub fn tree(&self) -> &Arc<Value> {
        self.tree.get_or_init(|| {
            Arc::new(serde_json::from_str(&self.text).expect("the constructor checked the text"))
        })
    }

    /// Whether the tree was made already, because somebody looked into the document.
    pub fn has_tree(&self) -> bool {
        self.tree.get().is_some()
    }

    /// Whether the document is an object.
    pub fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        let text = value.to_string().into();
        Json { text, tree: OnceLock::from(Arc::new(value)) }
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.text).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Json::from_raw(&raw).map_err(serde::de::Error::custom)
    }
}

/// Why a text was not taken as a JSON document.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON.
    #[error("not valid JSON")]
    Syntax(#[from] serde_json::Error),
    /// Arrays and objects are nested too deep.
    #[error("nested more than {JSON_DEPTH_MAX} deep")]
    TooDeep,
    /// A string holds half of a surrogate pair, such as `\ud83d` alone, which is no character.
    #[error("a string holds the lone surrogate \\u{0:04x}, which is no character")]
    LoneSurrogate(u16),
}

/// Copies a valid JSON text without its white space, in runs, checking the nesting and the surrogates on the way.
///
/// serde_json checks neither when it only delimits a value ([`RawValue`]), but refuses both when it makes the tree.
fn compact(text: &str) -> Result<Box<str>, JsonError> {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut run = 0;
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at + 1)?,
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&text[run..at]);
                at += 1;
                run = at;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(JsonError::TooDeep);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    out.push_str(&text[run..]);
    Ok(out.into())
}

/// The index after the closing quote of the string whose content begins at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, JsonError> {
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match (bytes.get(at + 1), escaped_unit(bytes, at)) {
                (Some(b'u'), Some(high @ 0xD800..=0xDBFF)) => match escaped_unit(bytes, at + 6) {
                    Some(0xDC00..=0xDFFF) => at += 12,
                    _ => return Err(JsonError::LoneSurrogate(high)),
                },
                (Some(b'u'), Some(low @ 0xDC00..=0xDFFF)) => return Err(JsonError::LoneSurrogate(low)),
                (Some(b'u'), _) => at += 6,
                _ => at += 2,
            },
            Some(_) => at += 1,
        }
    }
}

/// The UTF-16 unit that a `\uXXXX` at `at` stands for.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = bytes.get(at..at + 6)? else { return None };
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_strings_keep_their_spelling() {
        let json = Json::parse(
            " {\"a\" : [ 1.0, 1e+16,\n123456789012345678901234567890 ], \"b\": \"\\u00e9 \\\" \" } ",
        )
        .unwrap();
        assert_eq!(json.as_str(), r#"{"a":[1.0,1e+16,123456789012345678901234567890],"b":"\u00e9 \" "}"#);
        assert_eq!(json.tree()["b"], "é \" ");
        assert_eq!(json.tree()["a"][2].to_string(), "123456789012345678901234567890");
    }

    #[test]
    fn what_a_tree_could_not_hold_is_refused() {
        let deep = format!("{}1{}", "[".repeat(JSON_DEPTH_MAX + 1), "]".repeat(JSON_DEPTH_MAX + 1));
        assert!(matches!(Json::parse(&deep), Err(JsonError::TooDeep)));
        for text in [r#""\ud83d""#, r#""\ude80""#, r#""\ud83d\u0041""#, r#""\ud83dx""#] {
            assert!(matches!(Json::parse(text), Err(JsonError::LoneSurrogate(_))), "{text}");
        }
        assert_eq!(*Json::parse(r#""\ud83d\ude80""#).unwrap().tree().as_ref(), "🚀");
        assert!(matches!(Json::parse("{"), Err(JsonError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_has_a_tree(text in "[\\[\\]{}\":, a\\\\u0-9dDeE.+-]{0,24}") {
            if let Ok(json) = Json::parse(&text) {
                let again = Json::parse(json.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), json.as_str());
                prop_assert_eq!(json.tree().as_ref(), &serde_json::from_str::<Value>(&text).unwrap());
            }
        }

        #[test]
        fn any_string_survives(text: String) {
            let json = Json::parse(&serde_json::to_string_pretty(&[&text]).unwrap()).unwrap();
            prop_assert_eq!(json.tree()[0].as_str(), Some(text.as_str()));
        }
    }
}
