//! A lazy view of a JSON document: nothing is converted before a template asks for it.
//!
//! Invariants
//! - The document is never changed. A template that may change a list or dict works on a copy ([`thaw`]).
//! - Objects are Python dicts in the document's order, arrays are lists, numbers keep their value however large.
//! - A long text is copied once, however often a template asks for it: looking an attribute up costs nothing that could be
//!   paid for.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hookwire_json::{Content, Json, Node};
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use super::{BigInt, Dict, List, Map, Py, classify};
use crate::run::Run;

/// A minijinja value that shows a JSON document without converting it.
///
/// Objects behave as Python's dicts, arrays as its lists, numbers as its ints (of any size) and floats. Looking a
/// member up costs a look-up in the document.
pub fn view(document: impl Into<Json>) -> Value {
    let document = Part { json: document.into(), texts: Arc::default() };
    document.value(document.node())
}

/// From here on a text is long, in bytes.
const LONG_TEXT: usize = 1024;

/// The long texts of a document that were asked for, by where they stand in memory: all parts of a document share what
/// was read of it.
type Texts = OnceLock<Mutex<HashMap<usize, Value>>>;

/// The root of a context: named values in the order given.
pub fn root<N: Into<Arc<str>>>(members: impl IntoIterator<Item = (N, Value)>) -> Value {
    let members = members.into_iter().map(|(name, value)| (Value::from(name.into()), value)).collect();
    let dict = Dict::new(&Run::unlimited(), members);
    // A name is always a key. Only a value that nests deeper than the limit is refused, and a template could do
    // nothing with it but fail.
    dict.map_or_else(Value::from, Value::from_object)
}

/// A document, or an object or array in it.
pub(crate) struct Part {
    json: Json,
    texts: Arc<Texts>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.json, f)
    }
}

impl Part {
    pub(crate) fn node(&self) -> Node<'_> {
        self.json.root()
    }

    /// A value in it: a view if there is something in it, else converted.
    fn value(&self, node: Node<'_>) -> Value {
        match node.content() {
            Content::Null => Value::from(()),
            Content::Bool(bool) => Value::from(bool),
            Content::Number(number) => parse_number(number),
            Content::Text(text) if text.len() >= LONG_TEXT => {
                let texts = self.texts.get_or_init(Mutex::default);
                let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                texts.entry(text.as_ptr().addr()).or_insert_with(|| Value::from(text)).clone()
            }
            Content::Text(text) => Value::from(text),
            Content::List(_) | Content::Object(_) => {
                Value::from_object(Part { json: self.json.part(node), texts: Arc::clone(&self.texts) })
            }
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        self.node().as_list().is_some()
    }

    pub(crate) fn len(&self) -> usize {
        match self.node().content() {
            Content::List(items) => items.len(),
            Content::Object(members) => members.len(),
            _ => 0,
        }
    }

    pub(crate) fn member(&self, name: &str) -> Option<Value> {
        self.node().get(name).map(|member| self.value(member))
    }

    pub(crate) fn index(&self, index: usize) -> Option<Value> {
        self.node().as_list()?.get(index).map(|item| self.value(item))
    }

    pub(crate) fn items(&self) -> Vec<Value> {
        let items = self.node().as_list().into_iter().flat_map(hookwire_json::List::iter);
        items.map(|item| self.value(item)).collect()
    }

    pub(crate) fn members(&self) -> Vec<(Value, Value)> {
        let members = self.node().as_object().into_iter().flat_map(hookwire_json::Object::iter);
        members.map(|(name, member)| (Value::from(name), self.value(member))).collect()
    }
}

impl Object for Part {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.is_list() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if self.is_list() {
            return self.index(key.as_usize()?);
        }
        match classify(key) {
            Py::Str(name) => self.member(name),
            _ => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.member(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.node().content() {
            Content::List(items) => Enumerator::Seq(items.len()),
            Content::Object(members) => {
                Enumerator::Values(members.iter().map(|(name, _)| Value::from(name)).collect())
            }
            _ => Enumerator::Empty,
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_copied_once_wherever_it_is_asked_for() {
        let (long, short) = ("x".repeat(LONG_TEXT), "x".repeat(LONG_TEXT - 1));
        let text = format!(r#"{{"a": {{"long": "{long}", "other": "y\\n{long}", "short": "{short}"}}}}"#);
        let document = view(Json::parse(&text).unwrap());
        let get = |name: &str| document.get_attr("a").unwrap().get_attr(name).unwrap();
        let place = |value: &Value| value.as_str().unwrap().as_ptr().addr();
        for (name, is_shared) in [("long", true), ("other", true), ("short", false)] {
            let (first, second) = (get(name), get(name));
            assert_eq!(first, second);
            assert_eq!(place(&first) == place(&second), is_shared, "{name}");
        }
        assert_ne!(get("long"), get("other"));
    }
}
