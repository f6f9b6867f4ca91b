//! Dicts that a template makes, and the views that `keys()`, `values()` and `items()` give.
//!
//! Invariants
//! - Members keep the order in which their keys came in first.
//! - Attribute access finds members only; methods are the lowered template's business (see `lower.rs`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};

use super::key::StrKey;
use super::list::hold;
use super::{Key, Map, Py, classify, key_of, live_iterator, lock, raise, tuple};
use crate::run::{Run, failed};

type Members = IndexMap<Key, (Value, Value)>;

/// A dict that can be changed.
#[derive(Debug, Default)]
pub(crate) struct Dict {
    members: Mutex<Members>,
    level: AtomicU32,
}

impl Dict {
    /// A dict of `pairs`; a later pair replaces the value of an earlier one with the same key.
    ///
    /// # Errors
    /// Keys that can't be keys, and values that nest too deep.
    pub(crate) fn new(run: &Run, pairs: Vec<(Value, Value)>) -> Result<Dict, Error> {
        let dict = Dict::default();
        for (key, value) in pairs {
            dict.insert(run, key, value)?;
        }
        Ok(dict)
    }

    pub(crate) fn insert(&self, run: &Run, key: Value, value: Value) -> Result<(), Error> {
        let id = key_of(run, &key)?;
        self.change(&[key.clone(), value.clone()], |members| {
            // Python keeps the first spelling of a key: `{1: 'a', True: 'b'}` is `{1: 'b'}`.
            members.entry(id).and_modify(|member| member.1 = value.clone()).or_insert((key, value));
        })
    }

    /// Changes the members; `added` are the values that come in.
    ///
    /// # Errors
    /// If one of `added` would nest too deep or holds this dict.
    pub(crate) fn change<R>(
        &self,
        added: &[Value],
        change: impl FnOnce(&mut Members) -> R,
    ) -> Result<R, Error> {
        hold(&self.level, added)?;
        Ok(change(&mut lock(&self.members)))
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.members).len()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        lock(&self.members).get(key).map(|(_, value)| value.clone())
    }

    pub(crate) fn get_str(&self, key: &str) -> Option<Value> {
        lock(&self.members).get(&StrKey(key)).map(|(_, value)| value.clone())
    }

    pub(crate) fn snapshot(&self) -> Vec<(Value, Value)> {
        lock(&self.members).values().cloned().collect()
    }

    fn key_at(&self, index: usize) -> Option<Value> {
        lock(&self.members).get_index(index).map(|(_, (key, _))| key.clone())
    }

    pub(crate) fn raise(&self, level: u32) -> Result<(), Error> {
        if self.level.fetch_max(level, Ordering::Relaxed) < level {
            for (key, value) in self.snapshot() {
                raise(&key, level + 1)?;
                raise(&value, level + 1)?;
            }
        }
        Ok(())
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match classify(key) {
            Py::Str(text) => self.get_str(text),
            _ => key_of(&Run::unlimited(), key).ok().and_then(|key| self.get(&key)),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get_str(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let (len, get) = (Arc::clone(self), Arc::clone(self));
        let before = self.len();
        live_iterator(
            move || len.len(),
            move |index| {
                // Python raises too; an error in place of an item ends the loop with it.
                if get.len() != before {
                    return Some(Value::from(failed("the dict changed its size while a loop runs over it")));
                }
                get.key_at(index)
            },
        )
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}

/// Which part of a dict's members a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DictPart {
    Keys,
    Values,
    Items,
}

/// What `keys()`, `values()` and `items()` give.
#[derive(Debug)]
pub(crate) struct DictView {
    dict: Value,
    part: DictPart,
}

impl DictView {
    /// A view of `dict`, which must be a dict.
    pub(crate) fn new(dict: Value, part: DictPart) -> DictView {
        DictView { dict, part }
    }

    pub(crate) fn dict(&self) -> &Value {
        &self.dict
    }

    pub(crate) fn part(&self) -> DictPart {
        self.part
    }

    pub(crate) fn map(&self) -> Option<Map<'_>> {
        match classify(&self.dict) {
            Py::Dict(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map().map_or(0, |map| map.len())
    }

    pub(crate) fn items(&self) -> Result<Vec<Value>, Error> {
        let members = self.map().map(|map| map.items()).unwrap_or_default();
        members
            .into_iter()
            .map(|(key, value)| match self.part {
                DictPart::Keys => Ok(key),
                DictPart::Values => Ok(value),
                DictPart::Items => tuple(vec![key, value]),
            })
            .collect()
    }
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let len = Arc::clone(self);
        let before = self.len();
        match self.items() {
            Ok(items) => live_iterator(
                move || before,
                move |index| {
                    if len.len() != before {
                        return Some(Value::from(failed(
                            "the dict changed its size while a loop runs over it",
                        )));
                    }
                    items.get(index).cloned()
                },
            ),
            Err(error) => Enumerator::Values(vec![Value::from(error)]),
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}
