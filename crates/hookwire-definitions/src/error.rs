//! What is wrong with a definition, and where.
//!
//! Invariant: a place names the definition and the member, so that whoever has the file can show the line.

use std::fmt;

use hookwire_policy::{SecretError, SecretProblem};
use hookwire_rules::RuleError;
use hookwire_template::{TemplateError, TemplateErrorKind};

/// Something wrong with one definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {}", self.text())]
pub struct DefinitionError {
    /// Where.
    pub place: Place,
    /// What sort of error it is.
    pub kind: Kind,
    /// What is wrong, without its place.
    pub message: String,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
    /// The line within the member's text, from 1.
    pub line: Option<usize>,
    /// The column in that line, in characters from 1.
    pub column: Option<usize>,
}

/// Where in the definitions something is wrong. Shown as a path, such as `webhooks["slack"].body_template`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `webhooks` or `event_rules`.
    pub list: &'static str,
    /// The place in that list, from 0.
    pub position: usize,
    /// The name of the definition.
    pub name: String,
    /// The member, if it is about one.
    pub member: Option<&'static str>,
    /// Where in the member's document, as a JSON pointer (RFC 6901); empty for all of it.
    pub pointer: String,
}

/// What sort of error it is: the values of `error.kind` in a preview, beside those of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that the member cannot have.
    Value,
    /// A name that is there twice.
    Duplicate,
    /// A name of something that does not exist.
    Reference,
    /// A condition that cannot be evaluated.
    Condition,
    /// A secret that does not fit its signature scheme.
    Secret,
    /// A template, or what it renders to.
    Template(TemplateErrorKind),
}

impl Kind {
    /// The word that stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Value => "value",
            Kind::Duplicate => "duplicate",
            Kind::Reference => "reference",
            Kind::Condition => "condition",
            Kind::Secret => "secret",
            Kind::Template(kind) => kind.as_str(),
        }
    }
}

/// A definition that was refused before it came here, such as one whose file has a member of the wrong type.
/// It keeps its place among the others, so that a preview can show what is wrong with it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its name, as far as it could be read.
    pub name: String,
    /// What is wrong with it; at least one.
    pub errors: Vec<DefinitionError>,
}

impl DefinitionError {
    /// Message and remedy as one text.
    pub fn text(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}; {remedy}", self.message),
            None => self.message.clone(),
        }
    }

    pub(crate) fn template(webhook: Place, error: TemplateError) -> Self {
        DefinitionError {
            place: Place { member: Some(error.field.as_str()), ..webhook },
            kind: Kind::Template(error.kind),
            message: error.message,
            remedy: error.remedy,
            line: error.line,
            column: error.column,
        }
    }

    pub(crate) fn secret(webhook: Place, error: &SecretError) -> Self {
        let (member, pointer) = match (&error.problem, error.secret) {
            (SecretProblem::NotSupportedYet, _) => ("signature", String::new()),
            (_, 0) => ("secret", String::new()),
            (_, place) => ("previous_secrets", format!("/{}", place - 1)),
        };
        let place = Place { member: Some(member), pointer, ..webhook };
        let remedy = match error.problem {
            SecretProblem::Missing => {
                Some("name one with `secret`, `secret_env` or `secret_file`".to_owned())
            }
            SecretProblem::Prefix
            | SecretProblem::Base64
            | SecretProblem::Length { .. }
            | SecretProblem::NotSupportedYet => None,
        };
        DefinitionError { remedy, ..DefinitionError::new(place, Kind::Secret, error.to_string()) }
    }

    pub(crate) fn condition(rule: Place, error: RuleError) -> Self {
        let place = Place { member: Some("conditions"), pointer: error.source.pointer, ..rule };
        let remedy = Some(error.source.remedy).filter(|remedy| !remedy.is_empty());
        DefinitionError { remedy, ..DefinitionError::new(place, Kind::Condition, error.source.message) }
    }

    pub(crate) fn new(place: Place, kind: Kind, message: impl Into<String>) -> Self {
        DefinitionError { place, kind, message: message.into(), remedy: None, line: None, column: None }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl Place {
    /// A webhook as a whole.
    pub fn webhook(position: usize, name: impl Into<String>) -> Self {
        Place { list: "webhooks", position, name: name.into(), member: None, pointer: String::new() }
    }

    /// An event rule as a whole.
    pub fn rule(position: usize, name: impl Into<String>) -> Self {
        Place { list: "event_rules", ..Place::webhook(position, name) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{:?}]", self.list, self.name)?;
        if let Some(member) = self.member {
            write!(f, ".{member}")?;
        }
        for token in self.pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            match name.parse::<usize>() {
                Ok(index) => write!(f, "[{index}]")?,
                Err(_) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}
