//! What one call of a filter, test, method or operator may use, and the errors it may end with.
//!
//! Invariants
//! - Work that is not bounded by the size of something already paid for is paid here before it is done.
//! - What was paid here is charged to the rendering's fuel when the call ends.

use std::cell::Cell;

use minijinja::{Error, ErrorKind as EngineKind, State, UndefinedBehavior, Value};

use crate::error::{Cause, ErrorKind, OUT_OF_FUEL, UNDEFINED_USED};

/// Bytes that one unit of fuel pays for; the engine uses the same ratio.
const BYTES_PER_FUEL: u64 = 64;

/// The cost of one item visited or stored, in bytes.
pub(crate) const ITEM: usize = 32;

/// The budget of one call, and whether unknown names are errors.
#[derive(Debug)]
pub(crate) struct Run {
    strict: bool,
    left: Cell<u64>,
    used: Cell<u64>,
}

impl Run {
    /// The budget that is left in this rendering.
    pub(crate) fn of(state: &State<'_, '_>) -> Run {
        let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left.saturating_mul(BYTES_PER_FUEL));
        Run {
            strict: !matches!(state.undefined_behavior(), UndefinedBehavior::Lenient),
            left: Cell::new(left),
            used: Cell::new(0),
        }
    }

    /// For work outside a rendering whose size the caller knows.
    pub(crate) fn unlimited() -> Run {
        Run { strict: false, left: Cell::new(u64::MAX), used: Cell::new(0) }
    }

    /// Whether an unknown name is an error where Python's lenient mode takes it for nothing.
    pub(crate) fn strict(&self) -> bool {
        self.strict
    }

    /// Pays for `bytes` of text or work.
    ///
    /// # Errors
    /// When the rendering can't afford them.
    pub(crate) fn pay(&self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes as u64;
        let left = self.left.get();
        if bytes > left {
            self.left.set(0);
            return Err(limit(OUT_OF_FUEL));
        }
        self.left.set(left - bytes);
        self.used.set(self.used.get() + bytes);
        Ok(())
    }

    /// Pays for `count` items visited or stored.
    pub(crate) fn pay_items(&self, count: usize) -> Result<(), Error> {
        self.pay(count.saturating_mul(ITEM))
    }

    /// Charges what was paid to the rendering.
    pub(crate) fn settle(&self, state: &State<'_, '_>) -> Result<(), Error> {
        match self.used.replace(0) / BYTES_PER_FUEL {
            0 => Ok(()),
            fuel => state.consume_fuel(fuel),
        }
    }

    /// What an unknown value is where Python takes it for empty.
    ///
    /// # Errors
    /// In strict mode, where it must not be used.
    pub(crate) fn allow_undefined(&self) -> Result<(), Error> {
        if self.strict { Err(undefined_used()) } else { Ok(()) }
    }
}

/// What Python raises too.
pub(crate) fn failed(message: impl Into<String>) -> Error {
    Error::new(EngineKind::InvalidOperation, message.into())
}

/// What Jinja2 can do and we refuse.
pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    failed(message).with_source(Cause(ErrorKind::Unsupported))
}

/// A limit was reached.
pub(crate) fn limit(message: impl Into<String>) -> Error {
    failed(message).with_source(Cause(ErrorKind::Limit))
}

/// A filter or test that does not exist, named at rendering.
pub(crate) fn unknown(message: impl Into<String>) -> Error {
    failed(message).with_source(Cause(ErrorKind::Unknown))
}

/// An unknown name or member was used.
pub(crate) fn undefined_used() -> Error {
    Error::new(EngineKind::UndefinedError, UNDEFINED_USED)
}

/// `value` has a type that `what` can't work with.
pub(crate) fn wrong_type(what: &str, value: &Value) -> Error {
    if value.is_undefined() {
        return undefined_used();
    }
    failed(format!("{what} can't work with {}", crate::value::type_name(value)))
}
