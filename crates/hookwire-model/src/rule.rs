//! Event rules: which events, under which condition, to which webhooks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Condition, RuleName, WebhookName, short_event_name};

/// The type of an object: `app_label.model`, such as `dcim.site`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectType(Arc<str>);

impl ObjectType {
    /// Longest object type, in bytes.
    pub const LEN_MAX: usize = 200;

    /// Checks and takes an object type.
    ///
    /// # Errors
    /// [`PatternError`] unless it is two or more names of visible ASCII without `*`, joined by dots.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let (mut dots, mut before) = (0, b'.');
        let names_fit = text.bytes().all(|byte| {
            let fits = match byte {
                b'.' => before != b'.',
                _ => byte.is_ascii_graphic() && byte != b'*',
            };
            dots += usize::from(byte == b'.');
            before = byte;
            fits
        });
        let fits = text.len() <= Self::LEN_MAX && names_fit && dots > 0 && before != b'.';
        if fits { Ok(ObjectType(text.into())) } else { Err(PatternError::ObjectType(excerpt(text))) }
    }

    /// The whole type.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the last dot: `dcim`.
    pub fn app_label(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(app, _)| app)
    }

    /// The part after the last dot: `site`.
    pub fn model(&self) -> &str {
        self.0.rsplit_once('.').map_or(&*self.0, |(_, model)| model)
    }
}

impl fmt::Display for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which object types a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectPattern {
    /// `*`: all of them.
    Any,
    /// `ipam.*`: those of one app.
    App(Arc<str>),
    /// `dcim.site`: this one.
    Exact(ObjectType),
}

impl FromStr for ObjectPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(ObjectPattern::Any);
        }
        match text.strip_suffix(".*") {
            // The app must be a name that an object type could begin with.
            Some(app) => ObjectType::new(&format!("{app}.x"))
                .map(|_| ObjectPattern::App(app.into()))
                .map_err(|_| PatternError::ObjectType(excerpt(text))),
            None => ObjectType::new(text).map(ObjectPattern::Exact),
        }
    }
}

impl fmt::Display for ObjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectPattern::Any => f.write_str("*"),
            ObjectPattern::App(app) => write!(f, "{app}.*"),
            ObjectPattern::Exact(object_type) => object_type.fmt(f),
        }
    }
}

/// Which event types a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventPattern {
    /// `*`: all of them.
    Any,
    /// `created`: this one. NetBox's long names are held in the short form.
    Exact(Arc<str>),
}

impl FromStr for EventPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text {
            "*" => Ok(EventPattern::Any),
            _ if text.is_empty()
                || text.contains('*')
                || text.chars().any(|c| c.is_whitespace() || c.is_control()) =>
            {
                Err(PatternError::EventType(excerpt(text)))
            }
            _ => Ok(EventPattern::Exact(short_event_name(text).into())),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventPattern::Any => f.write_str("*"),
            EventPattern::Exact(name) => f.write_str(name),
        }
    }
}

/// A text that names no object type or event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant means")]
pub enum PatternError {
    #[error(
        "{0:?} is no object type: it needs the form \"app_label.model\", such as \"dcim.site\"; rules may also say \"ipam.*\" or \"*\""
    )]
    ObjectType(String),
    #[error(
        "{0:?} is no event type: it needs a name without white space, such as \"created\", or \"*\" in a rule"
    )]
    EventType(String),
}

fn excerpt(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Selects events and names webhooks.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRule {
    /// Its name, unique among the rules.
    pub name: RuleName,
    /// At least one of these must fit the event's object type.
    pub object_types: Vec<ObjectPattern>,
    /// At least one of these must fit the event's type.
    pub event_types: Vec<EventPattern>,
    /// Must hold for the event, if there is one.
    pub conditions: Option<Condition>,
    /// One delivery is made to each of these.
    pub webhooks: Vec<WebhookName>,
    /// Merged under `data` in the template context: a member that `data` has too keeps the value of `data`.
    pub action_data: Map<String, Value>,
    /// A disabled rule does not match.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_back_as_they_were_written() {
        for text in ["*", "ipam.*", "dcim.site", "com.example.*"] {
            assert_eq!(text.parse::<ObjectPattern>().unwrap().to_string(), text);
        }
        assert_eq!("object_created".parse::<EventPattern>().unwrap().to_string(), "created");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", ".", "..", "dcim..site", ".dcim.site", "dcim.site.", "dcim.zoë", "dcim.a\n"] {
            assert!(ObjectType::new(text).is_err(), "{text:?}");
        }
        for text in ["", "site", "dcim.", ".*", "*.site", "dcim.s*", "a b.c"] {
            assert!(text.parse::<ObjectPattern>().is_err(), "{text:?}");
        }
        for text in ["", "a b", "cre*"] {
            assert!(text.parse::<EventPattern>().is_err(), "{text:?}");
        }
    }
}
