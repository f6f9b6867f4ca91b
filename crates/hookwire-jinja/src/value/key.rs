//! Keys of a dict: Python's hash and equality.
//!
//! Invariants
//! - `1`, `1.0` and `True` are the same key; `1` and `'1'` are not.
//! - Looking text up allocates nothing ([`StrKey`]).

use std::hash::{Hash, Hasher};

use indexmap::Equivalent;
use minijinja::Value;

use super::{Py, Text, classify};
use crate::run::{Run, failed, unsupported};

/// A value that can be a key, reduced to what makes two keys equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    /// Also booleans and floats without a fraction.
    Int(i128),
    BigInt(Text),
    /// The bits of a float with a fraction, of an infinity or of NaN.
    Float(u64),
    Str(Text),
    Bytes(Vec<u8>),
    Tuple(Vec<Key>),
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::Str(text) => StrKey(text).hash(state),
            Key::None => 0u8.hash(state),
            Key::Int(int) => (1u8, int).hash(state),
            Key::BigInt(text) => (2u8, text).hash(state),
            Key::Float(bits) => (3u8, bits).hash(state),
            Key::Bytes(bytes) => (4u8, bytes).hash(state),
            Key::Tuple(keys) => (5u8, keys).hash(state),
        }
    }
}

/// A borrowed [`Key::Str`].
pub(crate) struct StrKey<'a>(pub(crate) &'a str);

impl Hash for StrKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Key> for StrKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::Str(text) if **text == *self.0)
    }
}

/// `value` as a key, paid for as long as it is: it is copied and hashed.
///
/// # Errors
/// What Python can't hash: lists and dicts.
pub(crate) fn key_of(run: &Run, value: &Value) -> Result<Key, minijinja::Error> {
    run.pay_items(1)?;
    Ok(match classify(value) {
        Py::None => Key::None,
        Py::Bool(bool) => Key::Int(i128::from(bool)),
        Py::Int(int) => Key::Int(int),
        Py::BigInt(int) => {
            run.pay(int.digits().len())?;
            Key::BigInt(int.digits().into())
        }
        Py::Float(float) => float_key(float),
        Py::Str(text) => {
            run.pay(text.len())?;
            Key::Str(text.into())
        }
        Py::Bytes(bytes) => {
            run.pay(bytes.len())?;
            Key::Bytes(bytes.to_vec())
        }
        Py::Seq(seq) if seq.is_tuple() => {
            Key::Tuple(seq.to_vec().iter().map(|item| key_of(run, item)).collect::<Result<_, _>>()?)
        }
        Py::Seq(_) | Py::Dict(_) | Py::DictView(_) => {
            return Err(failed(format!("{} can't be a key", super::type_name(value))));
        }
        _ => {
            return Err(unsupported(format!(
                "{} can't be a key here; use a string",
                super::type_name(value)
            )));
        }
    })
}

fn float_key(float: f64) -> Key {
    // Up to 2^126 the conversion is exact for floats without a fraction.
    if float.fract() == 0.0 && float.abs() < 2f64.powi(126) {
        Key::Int(float as i128)
    } else {
        Key::Float(float.to_bits())
    }
}
