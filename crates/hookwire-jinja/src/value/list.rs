//! Lists, tuples and generators that a template makes.
//!
//! Invariants
//! - Whatever is put into a list was raised below it first (see [`raise`](super::raise)).
//! - A generator yields each item once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};

use super::{live_iterator, lock, raise};
use crate::run::limit;

/// A list that can be changed.
#[derive(Debug)]
pub(crate) struct List {
    items: Mutex<Vec<Value>>,
    level: AtomicU32,
}

impl List {
    pub(crate) fn new(items: Vec<Value>) -> Result<List, Error> {
        items.iter().try_for_each(|item| raise(item, 1))?;
        Ok(List { items: Mutex::new(items), level: AtomicU32::new(0) })
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value> {
        lock(&self.items).get(index).cloned()
    }

    pub(crate) fn snapshot(&self) -> Vec<Value> {
        lock(&self.items).clone()
    }

    /// Changes the items; `added` are the values that come in.
    ///
    /// # Errors
    /// If one of `added` would nest too deep or holds this list.
    pub(crate) fn change<R>(
        &self,
        added: &[Value],
        change: impl FnOnce(&mut Vec<Value>) -> R,
    ) -> Result<R, Error> {
        hold(&self.level, added)?;
        Ok(change(&mut lock(&self.items)))
    }

    pub(crate) fn raise(&self, level: u32) -> Result<(), Error> {
        if self.level.fetch_max(level, Ordering::Relaxed) < level {
            self.snapshot().iter().try_for_each(|item| raise(item, level + 1))?;
        }
        Ok(())
    }
}

/// Raises `added` below a holder at `level`, and refuses a holder that would hold itself.
pub(crate) fn hold(level: &AtomicU32, added: &[Value]) -> Result<(), Error> {
    let before = level.load(Ordering::Relaxed);
    added.iter().try_for_each(|item| raise(item, before + 1))?;
    if level.load(Ordering::Relaxed) == before {
        Ok(())
    } else {
        Err(limit("a list or dict can't hold itself"))
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_usize()?)
    }

    fn get_value_by_str(self: &Arc<Self>, _key: &str) -> Option<Value> {
        None
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let (len, get) = (Arc::clone(self), Arc::clone(self));
        live_iterator(move || len.len(), move |index| get.get(index))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}

/// A tuple; also the pairs that `groupby` yields, whose parts have names.
#[derive(Debug)]
pub(crate) struct Tuple {
    items: Vec<Value>,
    names: &'static [&'static str],
    level: AtomicU32,
}

impl Tuple {
    pub(crate) fn new(items: Vec<Value>) -> Result<Tuple, Error> {
        Tuple::named(items, &[])
    }

    pub(crate) fn named(items: Vec<Value>, names: &'static [&'static str]) -> Result<Tuple, Error> {
        items.iter().try_for_each(|item| raise(item, 1))?;
        Ok(Tuple { items, names, level: AtomicU32::new(0) })
    }

    pub(crate) fn items(&self) -> &[Value] {
        &self.items
    }

    pub(crate) fn raise(&self, level: u32) -> Result<(), Error> {
        if self.level.fetch_max(level, Ordering::Relaxed) < level {
            self.items.iter().try_for_each(|item| raise(item, level + 1))?;
        }
        Ok(())
    }
}

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.items.get(key.as_usize()?).cloned()
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let index = self.names.iter().position(|name| *name == key)?;
        self.items.get(index).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }
}

/// What `map`, `select`, `batch` and their like give: items that can be taken once.
#[derive(Debug)]
pub(crate) struct Generator {
    items: Mutex<VecDeque<Value>>,
    level: AtomicU32,
}

impl Generator {
    pub(crate) fn new(items: Vec<Value>) -> Result<Generator, Error> {
        items.iter().try_for_each(|item| raise(item, 1))?;
        Ok(Generator { items: Mutex::new(items.into()), level: AtomicU32::new(0) })
    }

    pub(crate) fn next(&self) -> Option<Value> {
        lock(&self.items).pop_front()
    }

    pub(crate) fn drain(&self) -> Vec<Value> {
        std::mem::take(&mut *lock(&self.items)).into()
    }

    pub(crate) fn raise(&self, level: u32) -> Result<(), Error> {
        if self.level.fetch_max(level, Ordering::Relaxed) < level {
            let items: Vec<Value> = lock(&self.items).iter().cloned().collect();
            items.iter().try_for_each(|item| raise(item, level + 1))?;
        }
        Ok(())
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let items = self.drain();
        Enumerator::Values(items)
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    // Python's generators are always true, also those that yield nothing.
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}
