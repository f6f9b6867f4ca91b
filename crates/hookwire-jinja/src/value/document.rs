//! A lazy view of a JSON document: nothing is converted before a template asks for it.
//!
//! Invariants
//! - The document is never changed. A template that may change a list or dict works on a copy ([`thaw`]).
//! - Objects are Python dicts in the document's order, arrays are lists, numbers keep their value however large.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use serde_json::Value as Json;

use super::{BigInt, Dict, List, Map, Py, classify};
use crate::run::Run;

/// A minijinja value that shows a JSON document without converting it.
///
/// Objects behave as Python's dicts, arrays as its lists, numbers as its ints (of any size) and floats. Looking a
/// member up costs a look-up in the document.
pub fn view(value: Arc<Json>) -> Value {
    if value.is_object() || value.is_array() {
        Value::from_object(Node::new(Owner::Document(value)))
    } else {
        scalar(&value)
    }
}

/// The root of a context: named values in the order given.
pub fn root<N: Into<Arc<str>>>(members: impl IntoIterator<Item = (N, Value)>) -> Value {
    let members = members.into_iter().map(|(name, value)| (Value::from(name.into()), value)).collect();
    let dict = Dict::new(&Run::unlimited(), members);
    // A name is always a key. Only a value that nests deeper than the limit is refused, and a template could do
    // nothing with it but fail.
    dict.map_or_else(Value::from, Value::from_object)
}

self_cell::self_cell!(
    struct Cell {
        owner: Owner,

        #[covariant]
        dependent: JsonRef,
    }
);

type JsonRef<'a> = &'a Json;

enum Owner {
    Document(Arc<Json>),
    Member(Arc<Cell>, Box<str>),
    Item(Arc<Cell>, usize),
}

impl Owner {
    fn json(&self) -> &Json {
        const NULL: &Json = &Json::Null;
        match self {
            Owner::Document(json) => json,
            Owner::Member(parent, name) => parent.borrow_dependent().get(&**name).unwrap_or(NULL),
            Owner::Item(parent, index) => parent.borrow_dependent().get(*index).unwrap_or(NULL),
        }
    }
}

/// An object or array of a document.
pub(crate) struct Node(Arc<Cell>);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.json(), f)
    }
}

impl Node {
    fn new(owner: Owner) -> Node {
        Node(Arc::new(Cell::new(owner, Owner::json)))
    }

    pub(crate) fn json(&self) -> &Json {
        self.0.borrow_dependent()
    }

    pub(crate) fn is_list(&self) -> bool {
        self.json().is_array()
    }

    pub(crate) fn len(&self) -> usize {
        match self.json() {
            Json::Array(items) => items.len(),
            Json::Object(members) => members.len(),
            _ => 0,
        }
    }

    pub(crate) fn member(&self, name: &str) -> Option<Value> {
        let json = self.json().get(name)?;
        Some(self.child(json, || Owner::Member(Arc::clone(&self.0), name.into())))
    }

    pub(crate) fn index(&self, index: usize) -> Option<Value> {
        let json = self.json().get(index)?;
        Some(self.child(json, || Owner::Item(Arc::clone(&self.0), index)))
    }

    pub(crate) fn members(&self) -> Vec<(Value, Value)> {
        let Json::Object(members) = self.json() else { return Vec::new() };
        members
            .iter()
            .map(|(name, json)| {
                let value = self.child(json, || Owner::Member(Arc::clone(&self.0), name.as_str().into()));
                (Value::from(name.as_str()), value)
            })
            .collect()
    }

    fn child(&self, json: &Json, owner: impl FnOnce() -> Owner) -> Value {
        if json.is_object() || json.is_array() {
            Value::from_object(Node::new(owner()))
        } else {
            scalar(json)
        }
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.is_list() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.json() {
            Json::Array(_) => self.index(key.as_usize()?),
            _ => match classify(key) {
                Py::Str(name) => self.member(name),
                _ => None,
            },
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.member(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.json() {
            Json::Array(items) => Enumerator::Seq(items.len()),
            Json::Object(members) => {
                Enumerator::Values(members.keys().map(|name| Value::from(name.as_str())).collect())
            }
            _ => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }
}

fn scalar(json: &Json) -> Value {
    match json {
        Json::Bool(bool) => Value::from(*bool),
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => parse_number(number.as_str()),
        Json::Null | Json::Array(_) | Json::Object(_) => Value::from(()),
    }
}

/// A number of a JSON document: an int unless it is written with a fraction or exponent, as Python reads it.
pub(crate) fn parse_number(text: &str) -> Value {
    if text.contains(['.', 'e', 'E']) {
        return Value::from(text.parse::<f64>().unwrap_or(f64::NAN));
    }
    match (text.parse::<i64>(), text.parse::<i128>()) {
        (Ok(int), _) => Value::from(int),
        (_, Ok(int)) => Value::from(int),
        _ => Value::from_object(BigInt::new(text)),
    }
}

/// A copy of `value` that a template may change: views of documents become lists and dicts.
///
/// # Errors
/// A document that nests too deep, or more than the rendering can pay for.
pub(crate) fn thaw(run: &Run, value: &Value) -> Result<Value, minijinja::Error> {
    match classify(value) {
        Py::Seq(seq) if !seq.is_tuple() => {
            run.pay_items(seq.len())?;
            let items = seq.to_vec().iter().map(|item| thaw(run, item)).collect::<Result<_, _>>()?;
            List::new(items).map(Value::from_object)
        }
        Py::Dict(map @ (Map::Json(_) | Map::Dict(_) | Map::Engine(_))) => {
            let mut pairs = Vec::with_capacity(map.len());
            for (key, item) in map.items() {
                pairs.push((key, thaw(run, &item)?));
            }
            Dict::new(run, pairs).map(Value::from_object)
        }
        _ => Ok(value.clone()),
    }
}
