//! Values while a Handlebars template is rendered: borrowed from context or template wherever possible.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;

use hookwire_json::{Content, List, Node, Object, push_node, push_string};
use serde_json::Number;

use crate::place::Print;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Val<'a> {
    /// A name or member that does not exist.
    Missing,
    Null,
    Bool(bool),
    /// A position or count.
    Count(usize),
    Text(Cow<'a, str>),
    /// A number as it is spelled.
    Number(&'a str),
    List(List<'a>),
    Object(Object<'a>),
}

impl<'a> From<Node<'a>> for Val<'a> {
    fn from(node: Node<'a>) -> Self {
        match node.content() {
            Content::Null => Val::Null,
            Content::Bool(value) => Val::Bool(value),
            Content::Number(number) => Val::Number(number),
            Content::Text(text) => Val::Text(Cow::Borrowed(text)),
            Content::List(items) => Val::List(items),
            Content::Object(members) => Val::Object(members),
        }
    }
}

impl<'a> From<Option<Node<'a>>> for Val<'a> {
    fn from(node: Option<Node<'a>>) -> Self {
        node.map_or(Val::Missing, Val::from)
    }
}

impl<'a> Val<'a> {
    /// The member or item of this name.
    pub(super) fn member(&self, name: &str) -> Val<'a> {
        match self {
            Val::Object(members) => members.get(name).into(),
            Val::List(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)).into(),
            _ => Val::Missing,
        }
    }

    /// The member that a value names: a string of an object, a number of a list.
    pub(super) fn lookup(&self, name: &Val<'_>) -> Val<'a> {
        match name {
            Val::Text(name) => self.member(name),
            Val::Count(index) => self.member(&index.to_string()),
            Val::Number(number) => self.member(number),
            _ => Val::Missing,
        }
    }

    /// Whether `if` takes it for true: null, `false`, 0, and whatever is empty are not.
    pub(super) fn is_truthy(&self, include_zero: bool) -> bool {
        match self {
            Val::Missing | Val::Null => false,
            Val::Bool(value) => *value,
            Val::Count(count) => include_zero || *count != 0,
            Val::Number(number) => include_zero || !is_zero(number),
            Val::Text(text) => !text.is_empty(),
            Val::List(items) => !items.is_empty(),
            Val::Object(members) => !members.is_empty(),
        }
    }

    /// Whether both are the same: numbers by value, an unknown name as null.
    pub(super) fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Missing | Val::Null, Val::Missing | Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => a == b,
            (Val::List(a), Val::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| Val::from(a).equals(&Val::from(b)))
            }
            (Val::Object(a), Val::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(name, a)| b.get(name).is_some_and(|b| Val::from(a).equals(&Val::from(b))))
            }
            _ => match (self.as_number(), other.as_number()) {
                (Some(a), Some(b)) => compare_numbers(&a, &b) == Some(Ordering::Equal),
                _ => false,
            },
        }
    }

    /// The order of two numbers, strings or truth values; a string that holds a number compares with a
    /// number.
    pub(super) fn compare(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Text(a), _) => compare_numbers(&numeric(a)?, &other.as_number()?),
            (_, Val::Text(b)) => compare_numbers(&self.as_number()?, &numeric(b)?),
            _ => compare_numbers(&self.as_number()?, &other.as_number()?),
        }
    }

    /// How many items, members or characters there are; 0 of anything else.
    pub(super) fn count(&self) -> usize {
        match self {
            Val::Text(text) => text.chars().count(),
            Val::List(items) => items.len(),
            Val::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// Something like the bytes that looking at all of it touches.
    pub(super) fn size(&self) -> usize {
        match self {
            Val::Text(text) => text.len(),
            Val::List(items) => items.iter().map(size).sum::<usize>() + 16,
            Val::Object(members) => {
                members.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>() + 16
            }
            _ => 16,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Val::Missing => "unknown",
            Val::Null => "null",
            Val::Bool(_) => "true or false",
            Val::Count(_) | Val::Number(_) => "a number",
            Val::Text(_) => "a string",
            Val::List(_) => "a list",
            Val::Object(_) => "an object",
        }
    }

    /// As plain text.
    pub(super) fn to_text(&self) -> Cow<'_, str> {
        if let Val::Text(text) = self {
            return Cow::Borrowed(text);
        }
        let mut text = String::new();
        self.print(&mut text);
        Cow::Owned(text)
    }

    fn as_number(&self) -> Option<Cow<'_, str>> {
        match self {
            Val::Count(count) => Some(Cow::Owned(count.to_string())),
            Val::Number(number) => Some(Cow::Borrowed(number)),
            _ => None,
        }
    }
}

impl Print for Val<'_> {
    fn as_text(&self) -> Option<&str> {
        match self {
            Val::Text(text) => Some(text),
            _ => None,
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Val::Missing | Val::Null => {}
            Val::Text(text) => out.push_str(text),
            _ => self.print_json(out),
        }
    }

    fn print_json(&self, out: &mut String) {
        match self {
            Val::Missing | Val::Null => out.push_str("null"),
            Val::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Val::Count(count) => {
                let _ = write!(out, "{count}");
            }
            Val::Text(text) => push_string(out, text),
            Val::Number(number) => out.push_str(number),
            Val::List(items) => push_node(out, items.node()),
            Val::Object(members) => push_node(out, members.node()),
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Val::List(_) | Val::Object(_))
    }
}

fn size(node: Node<'_>) -> usize {
    Val::from(node).size()
}

/// Whether every digit of its mantissa is 0.
fn is_zero(number: &str) -> bool {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
}

fn numeric(text: &str) -> Option<Cow<'_, str>> {
    text.parse::<Number>().ok().map(|_| Cow::Borrowed(text))
}

/// Integers of up to 38 digits exactly, everything else as floats.
fn compare_numbers(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => a.parse::<f64>().ok()?.partial_cmp(&b.parse::<f64>().ok()?),
    }
}
