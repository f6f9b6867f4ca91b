//! One tree for TOML and JSON: values with the place in their file.
//!
//! Invariants:
//! - Members of a table stand in the order of the file.
//! - Numbers keep their text, so that integers of any size go through.
//! - Every node has a span, so that whatever is wrong with it can be shown.

use serde_json::{Map, Number, Value};

/// A piece of a file: which file, and from which byte to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) file: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// What JSON cannot say: a TOML date, time, infinity or NaN. What it is, in words.
    NotJson(&'static str),
    List(Vec<Node>),
    Table(Table),
}

/// Members in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(pub(crate) Vec<(Key, Node)>);

/// A member's name and its place.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) span: Span,
}

impl Table {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.0.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }
}

impl Node {
    /// What kind of value it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "null",
            Content::Bool(_) => "true or false",
            Content::Number(_) => "a number",
            Content::Text(_) => "a string",
            Content::NotJson(kind) => kind,
            Content::List(_) => "a list",
            Content::Table(_) => "a table",
        }
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// The first node that JSON cannot say.
    pub(crate) fn to_value(&self) -> Result<Value, &Node> {
        Ok(match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::NotJson(_) => return Err(self),
            Content::List(items) => Value::Array(items.iter().map(Node::to_value).collect::<Result<_, _>>()?),
            Content::Table(Table(members)) => {
                let members = members.iter().map(|(key, node)| Ok((key.name.clone(), node.to_value()?)));
                Value::Object(members.collect::<Result<Map<_, _>, _>>()?)
            }
        })
    }

    /// The node at a JSON pointer (RFC 6901), or the deepest one on the way there.
    pub(crate) fn at(&self, pointer: &str) -> &Node {
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let next = match &node.content {
                Content::List(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
                Content::Table(table) => table.get(&name),
                Content::Null
                | Content::Bool(_)
                | Content::Number(_)
                | Content::Text(_)
                | Content::NotJson(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}
