//! Python's values as minijinja values.
//!
//! Strings, booleans, `None`, floats and integers up to 127 bits are minijinja's own. Containers are objects of this
//! crate, because Python's lists and dicts can be changed, keep their order and have methods.
//!
//! Invariants
//! - Containers nest at most [`LEVEL_MAX`] deep and never hold themselves, so walking or dropping one can't overflow
//!   the stack (see [`raise`]).
//! - A container never holds a loop, macro or namespace: these are the engine's, and could hold the container.

mod dict;
mod document;
mod key;
mod list;
mod other;

use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{ObjectRepr, ValueKind};

pub(crate) use dict::{Dict, DictPart, DictView};
pub(crate) use document::{Part, parse_number, thaw};
pub use document::{root, view};
pub(crate) use key::{Key, key_of};
pub(crate) use list::{Generator, List, Tuple};
pub(crate) use other::{BigInt, Cycler, Joiner, Method, Range};

use crate::run::{Run, limit, undefined_used, unsupported};

/// How deep lists, tuples and dicts may nest. Python's own limit for printing is about 1000.
pub(crate) const LEVEL_MAX: u32 = 150;

/// A value by its Python type.
pub(crate) enum Py<'a> {
    Undefined,
    None,
    Bool(bool),
    Int(i128),
    BigInt(&'a BigInt),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// A list or tuple.
    Seq(Seq<'a>),
    Dict(Map<'a>),
    DictView(&'a DictView),
    Range(&'a Range),
    Generator(&'a Generator),
    Method(&'a Method),
    Cycler(&'a Cycler),
    Joiner,
    /// The engine's loop, macro, namespace or function.
    Engine,
}

/// A list or tuple.
#[derive(Clone, Copy)]
pub(crate) enum Seq<'a> {
    List(&'a List),
    Tuple(&'a Tuple),
    Json(&'a Part),
    /// The engine's own list, or its own tuple.
    Engine(&'a Value, bool),
}

/// A dict.
#[derive(Clone, Copy)]
pub(crate) enum Map<'a> {
    Dict(&'a Dict),
    Json(&'a Part),
    /// A map the embedder put into the context, or keyword arguments.
    Engine(&'a Value),
}

/// The Python type of `value`.
pub(crate) fn classify(value: &Value) -> Py<'_> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::Invalid => Py::Undefined,
        ValueKind::None => Py::None,
        ValueKind::Bool => Py::Bool(value.is_true()),
        ValueKind::Number => match i128::try_from(value.clone()) {
            Ok(int) if value.is_integer() => Py::Int(int),
            _ => Py::Float(f64::try_from(value.clone()).unwrap_or(f64::NAN)),
        },
        ValueKind::String => Py::Str(value.as_str().unwrap_or_default()),
        ValueKind::Bytes => Py::Bytes(value.as_bytes().unwrap_or_default()),
        _ => classify_object(value),
    }
}

fn classify_object(value: &Value) -> Py<'_> {
    if let Some(list) = value.downcast_object_ref::<List>() {
        return Py::Seq(Seq::List(list));
    }
    if let Some(part) = value.downcast_object_ref::<Part>() {
        return if part.is_list() { Py::Seq(Seq::Json(part)) } else { Py::Dict(Map::Json(part)) };
    }
    if let Some(dict) = value.downcast_object_ref::<Dict>() {
        return Py::Dict(Map::Dict(dict));
    }
    if let Some(tuple) = value.downcast_object_ref::<Tuple>() {
        return Py::Seq(Seq::Tuple(tuple));
    }
    if let Some(view) = value.downcast_object_ref::<DictView>() {
        return Py::DictView(view);
    }
    if let Some(range) = value.downcast_object_ref::<Range>() {
        return Py::Range(range);
    }
    if let Some(generator) = value.downcast_object_ref::<Generator>() {
        return Py::Generator(generator);
    }
    if let Some(method) = value.downcast_object_ref::<Method>() {
        return Py::Method(method);
    }
    if let Some(int) = value.downcast_object_ref::<BigInt>() {
        return Py::BigInt(int);
    }
    if let Some(cycler) = value.downcast_object_ref::<Cycler>() {
        return Py::Cycler(cycler);
    }
    if value.downcast_object_ref::<Joiner>().is_some() {
        return Py::Joiner;
    }
    let Some(object) = value.as_object() else { return Py::Engine };
    match object.repr() {
        ObjectRepr::Seq => Py::Seq(Seq::Engine(value, value.is_tuple())),
        ObjectRepr::Map if !is_engine_object(value) => Py::Dict(Map::Engine(value)),
        _ => Py::Engine,
    }
}

/// The engine's private types, which look like maps to the outside.
fn is_engine_object(value: &Value) -> bool {
    const NAMES: [&str; 4] = ["::Loop", "::Macro", "::Namespace", "::Module"];
    value.as_object().is_some_and(|object| NAMES.iter().any(|name| object.type_name().ends_with(name)))
}

/// Whether `value` is the engine's object of the type `name` (`Loop`, `Macro`, `Namespace`).
pub(crate) fn is_engine(value: &Value, name: &str) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.type_name().strip_suffix(name).is_some_and(|path| path.ends_with("::")))
}

impl Seq<'_> {
    pub(crate) fn is_tuple(&self) -> bool {
        matches!(self, Seq::Tuple(_) | Seq::Engine(_, true))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Seq::List(list) => list.len(),
            Seq::Tuple(tuple) => tuple.items().len(),
            Seq::Json(part) => part.len(),
            Seq::Engine(value, _) => value.len().unwrap_or(0),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value> {
        match self {
            Seq::List(list) => list.get(index),
            Seq::Tuple(tuple) => tuple.items().get(index).cloned(),
            Seq::Json(part) => part.index(index),
            Seq::Engine(value, _) => {
                value.get_item_by_index(index).ok().filter(|_| index < value.len().unwrap_or(0))
            }
        }
    }

    pub(crate) fn to_vec(self) -> Vec<Value> {
        match self {
            Seq::List(list) => list.snapshot(),
            Seq::Tuple(tuple) => tuple.items().to_vec(),
            Seq::Json(part) => part.items(),
            Seq::Engine(..) => (0..self.len()).filter_map(|index| self.get(index)).collect(),
        }
    }
}

impl Map<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Map::Dict(dict) => dict.len(),
            Map::Json(part) => part.len(),
            Map::Engine(value) => value.len().unwrap_or(0),
        }
    }

    pub(crate) fn get_str(&self, key: &str) -> Option<Value> {
        match self {
            Map::Dict(dict) => dict.get_str(key),
            Map::Json(part) => part.member(key),
            Map::Engine(value) => value.as_object().and_then(|object| object.get_value_by_str(key)),
        }
    }

    /// The value under `key`; text is hashed, and paid for.
    ///
    /// # Errors
    /// A key that can't be one (a list, a dict).
    pub(crate) fn get(&self, run: &Run, key: &Value) -> Result<Option<Value>, minijinja::Error> {
        if let Py::Str(text) = classify(key) {
            run.pay(text.len())?;
            return Ok(self.get_str(text));
        }
        let key_id = key_of(run, key)?;
        Ok(match self {
            Map::Dict(dict) => dict.get(&key_id),
            Map::Json(_) => None,
            Map::Engine(value) => value.as_object().and_then(|object| object.get_value(key)),
        })
    }

    pub(crate) fn items(&self) -> Vec<(Value, Value)> {
        match self {
            Map::Dict(dict) => dict.snapshot(),
            Map::Json(part) => part.members(),
            Map::Engine(value) => value
                .as_object()
                .and_then(|object| object.try_iter_pairs())
                .map(Iterator::collect)
                .unwrap_or_default(),
        }
    }
}

/// An integer as a value.
pub(crate) fn int(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

/// A new list.
pub(crate) fn list(run: &Run, items: Vec<Value>) -> Result<Value, minijinja::Error> {
    run.pay_items(items.len())?;
    List::new(items).map(Value::from_object)
}

/// A new tuple.
pub(crate) fn tuple(items: Vec<Value>) -> Result<Value, minijinja::Error> {
    Tuple::new(items).map(Value::from_object)
}

/// What iterating over `value` yields in Python, all at once. A generator is empty afterwards.
///
/// # Errors
/// What is not iterable, and an unknown name in strict mode.
pub(crate) fn iterate(run: &Run, value: &Value) -> Result<Vec<Value>, minijinja::Error> {
    let items = match classify(value) {
        Py::Undefined => {
            run.allow_undefined()?;
            Vec::new()
        }
        Py::Seq(seq) => {
            run.pay_items(seq.len())?;
            return Ok(seq.to_vec());
        }
        Py::Dict(map) => {
            run.pay_items(map.len())?;
            return Ok(map.items().into_iter().map(|(key, _)| key).collect());
        }
        Py::Str(text) => {
            run.pay_items(text.len())?;
            return Ok(text.chars().map(Value::from).collect());
        }
        Py::Bytes(bytes) => {
            run.pay_items(bytes.len())?;
            return Ok(bytes.iter().map(|byte| Value::from(*byte)).collect());
        }
        Py::DictView(view) => view.items()?,
        Py::Range(range) => {
            run.pay_items(range.len())?;
            return Ok(range.iter().map(Value::from).collect());
        }
        Py::Generator(generator) => generator.drain(),
        _ => return Err(crate::run::failed(format!("{} is not iterable", type_name(value)))),
    };
    run.pay_items(items.len())?;
    Ok(items)
}

/// Python's `len`, where there is one.
pub(crate) fn len(run: &Run, value: &Value) -> Result<Option<usize>, minijinja::Error> {
    Ok(Some(match classify(value) {
        Py::Undefined => {
            run.allow_undefined()?;
            0
        }
        Py::Str(text) => {
            run.pay(text.len())?;
            text.chars().count()
        }
        Py::Bytes(bytes) => bytes.len(),
        Py::Seq(seq) => seq.len(),
        Py::Dict(map) => map.len(),
        Py::DictView(view) => view.len(),
        Py::Range(range) => range.len(),
        _ => return Ok(None),
    }))
}

/// Pays for a walk through all of `value`, as the engine's own comparison takes one.
pub(crate) fn pay_for_walk(run: &Run, value: &Value) -> Result<(), minijinja::Error> {
    run.pay_items(1)?;
    let walk = |items: Vec<Value>| items.iter().try_for_each(|item| pay_for_walk(run, item));
    match classify(value) {
        Py::Str(text) => run.pay(text.len()),
        Py::Bytes(bytes) => run.pay(bytes.len()),
        Py::BigInt(int) => run.pay(int.digits().len()),
        Py::Range(range) => run.pay_items(range.len()),
        Py::Seq(seq) => walk(seq.to_vec()),
        Py::DictView(view) => walk(view.items()?),
        Py::Dict(map) => map.items().iter().try_for_each(|(key, member)| {
            pay_for_walk(run, key)?;
            pay_for_walk(run, member)
        }),
        _ => Ok(()),
    }
}

/// The name of the type as Python writes it in its messages.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match classify(value) {
        Py::Undefined => "an undefined value",
        Py::None => "None",
        Py::Bool(_) => "a bool",
        Py::Int(_) | Py::BigInt(_) => "an int",
        Py::Float(_) => "a float",
        Py::Str(_) => "a str",
        Py::Bytes(_) => "bytes",
        Py::Seq(seq) if seq.is_tuple() => "a tuple",
        Py::Seq(_) => "a list",
        Py::Dict(_) => "a dict",
        Py::DictView(_) => "a view of a dict",
        Py::Range(_) => "a range",
        Py::Generator(_) => "a generator",
        Py::Method(_) => "a method",
        Py::Cycler(_) | Py::Joiner | Py::Engine => "an object of the template engine",
    }
}

/// Makes sure that `value`, about to be held at `level`, and all it holds lie deeper than their holders.
///
/// Each container knows a level greater than that of all that hold it. Raising stops at containers that are deep
/// enough already, so each is walked at most [`LEVEL_MAX`] times in its life, and a container that would hold itself
/// would have to be raised for ever, so it is refused.
pub(crate) fn raise(value: &Value, level: u32) -> Result<(), minijinja::Error> {
    if value.as_object().is_none() {
        return Ok(());
    }
    if level > LEVEL_MAX {
        return Err(limit(format!("lists and dicts nest more than {LEVEL_MAX} deep, or one holds itself")));
    }
    match classify_object(value) {
        Py::Seq(Seq::List(list)) => list.raise(level),
        Py::Seq(Seq::Tuple(tuple)) => tuple.raise(level),
        Py::Seq(Seq::Engine(..)) => {
            Seq::Engine(value, false).to_vec().iter().try_for_each(|item| raise(item, level + 1))
        }
        Py::Dict(Map::Dict(dict)) => dict.raise(level),
        Py::Dict(Map::Engine(_)) => {
            Map::Engine(value).items().iter().try_for_each(|(_, item)| raise(item, level + 1))
        }
        Py::Generator(generator) => generator.raise(level),
        Py::Cycler(cycler) => cycler.raise(level),
        Py::DictView(view) => raise(view.dict(), level + 1),
        Py::Method(method) => raise(method.receiver(), level + 1),
        Py::Engine => Err(unsupported(
            "a loop, macro or namespace can't be kept in a list, dict or namespace; keep the value you need from it",
        )),
        _ => Ok(()),
    }
}

/// Text as a value, keeping whether it is safe.
pub(crate) fn text(text: String, safe: bool) -> Value {
    if safe { Value::from_safe_string(text) } else { Value::from(text) }
}

/// The text of a string; an unknown value is empty where that is allowed.
pub(crate) fn as_text<'a>(run: &Run, value: &'a Value) -> Result<Option<&'a str>, minijinja::Error> {
    match classify(value) {
        Py::Str(text) => Ok(Some(text)),
        Py::Undefined if run.strict() => Err(undefined_used()),
        Py::Undefined => Ok(Some("")),
        _ => Ok(None),
    }
}

/// An iterator over something that may change while a loop runs over it, as Python iterates: by position.
pub(crate) fn live_iterator(
    len: impl Fn() -> usize + Send + Sync + 'static,
    get: impl Fn(usize) -> Option<Value> + Send + Sync + 'static,
) -> minijinja::value::Enumerator {
    minijinja::value::Enumerator::Iter(Box::new(Live { next: 0, len, get }))
}

struct Live<L, G> {
    next: usize,
    len: L,
    get: G,
}

impl<L: Fn() -> usize, G: Fn(usize) -> Option<Value>> Iterator for Live<L, G> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let item = (self.get)(self.next)?;
        self.next += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.len)().saturating_sub(self.next);
        (left, Some(left))
    }
}

/// Locks what only one rendering uses; a panic elsewhere must not become a second one here.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An `Arc<str>` from text of any kind.
pub(crate) type Text = Arc<str>;
