//! The rest of Python's and Jinja2's objects: ranges, big integers, methods as values, cyclers, joiners.
//!
//! Invariants
//! - None of them prints a memory address; what would do so in Python is refused by `print.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, State, Value};

use super::raise;
use crate::run::failed;

/// An integer of more than 127 bits: it can be printed, compared for equality and be part of JSON, not be reckoned with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BigInt(Box<str>);

impl BigInt {
    /// `text` is decimal digits with or without a leading minus.
    pub(crate) fn new(text: &str) -> BigInt {
        BigInt(text.into())
    }

    pub(crate) fn digits(&self) -> &str {
        &self.0
    }
}

impl Object for BigInt {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// What `range(..)` gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
}

impl Range {
    pub(crate) fn len(&self) -> usize {
        let (start, stop, step) = (i128::from(self.start), i128::from(self.stop), i128::from(self.step));
        let span = if step > 0 { stop - start } else { start - stop };
        let count = if span <= 0 { 0 } else { (span + step.abs() - 1) / step.abs() };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    pub(crate) fn get(&self, index: usize) -> Option<i64> {
        if index >= self.len() {
            return None;
        }
        let value = i128::from(self.start) + i128::from(self.step) * index as i128;
        i64::try_from(value).ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let (len, get) = (Arc::clone(self), Arc::clone(self));
        super::live_iterator(move || len.len(), move |index| get.get(index).map(Value::from))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len() > 0
    }
}

/// A method taken from a value without calling it, as in `data.items`.
#[derive(Debug)]
pub(crate) struct Method {
    receiver: Value,
    name: Arc<str>,
}

impl Method {
    pub(crate) fn new(receiver: Value, name: &str) -> Method {
        Method { receiver, name: name.into() }
    }

    pub(crate) fn receiver(&self) -> &Value {
        &self.receiver
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        crate::methods::call(state, &self.receiver, &self.name, args)
    }
}

/// What `cycler(..)` gives.
#[derive(Debug)]
pub(crate) struct Cycler {
    items: Vec<Value>,
    position: AtomicUsize,
    level: AtomicU32,
}

impl Cycler {
    pub(crate) fn new(items: Vec<Value>) -> Result<Cycler, Error> {
        if items.is_empty() {
            return Err(failed("cycler() needs at least one item"));
        }
        items.iter().try_for_each(|item| raise(item, 1))?;
        Ok(Cycler { items, position: AtomicUsize::new(0), level: AtomicU32::new(0) })
    }

    pub(crate) fn current(&self) -> Value {
        self.items[self.position.load(Ordering::Relaxed)].clone()
    }

    pub(crate) fn advance(&self) -> Value {
        let current = self.current();
        let next = (self.position.load(Ordering::Relaxed) + 1) % self.items.len();
        self.position.store(next, Ordering::Relaxed);
        current
    }

    pub(crate) fn reset(&self) {
        self.position.store(0, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, level: u32) -> Result<(), Error> {
        if self.level.fetch_max(level, Ordering::Relaxed) < level {
            self.items.iter().try_for_each(|item| raise(item, level + 1))?;
        }
        Ok(())
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "current" => Some(self.current()),
            _ => None,
        }
    }
}

/// What `joiner(..)` gives: nothing at the first call, the separator at all others.
#[derive(Debug)]
pub(crate) struct Joiner {
    separator: Value,
    used: AtomicBool,
}

impl Joiner {
    pub(crate) fn new(separator: Value) -> Joiner {
        Joiner { separator, used: AtomicBool::new(false) }
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        if !args.is_empty() {
            return Err(failed("a joiner takes no arguments"));
        }
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(if used { self.separator.clone() } else { Value::from("") })
    }
}
