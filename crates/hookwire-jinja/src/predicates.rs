//! Jinja2's tests, the words after `is`.
//!
//! Invariants
//! - The table is complete for Jinja2 3.1.

use std::cmp::Ordering;

use minijinja::{Error, Value};

use crate::args::Call;
use crate::environment::Predicate;
use crate::operators::{Arithmetic, arithmetic, compare, contains, equal, same};
use crate::print::str_of;
use crate::run::unsupported;
use crate::value::{Py, Seq, classify, is_engine, key_of};

macro_rules! order {
    ($($wanted:pat_param)|+) => {
        |call| {
            let [a, b] = two(call)?;
            let order = compare(&call.run, &a, &b)?;
            Ok(matches!(order, $(Some($wanted))|+))
        }
    };
}

macro_rules! kind {
    ($pattern:pat) => {
        |call| Ok(matches!(classify(&one(call)?), $pattern))
    };
}

/// Every test by name.
pub(crate) const PREDICATES: &[(&str, Predicate)] = &[
    ("!=", |call| two(call).and_then(|[a, b]| Ok(!equal(&call.run, &a, &b)?))),
    ("<", order!(Ordering::Less)),
    ("<=", order!(Ordering::Less | Ordering::Equal)),
    ("==", is_equal),
    (">", order!(Ordering::Greater)),
    (">=", order!(Ordering::Greater | Ordering::Equal)),
    ("boolean", kind!(Py::Bool(_))),
    ("callable", callable),
    ("defined", |call| Ok(!one(call)?.is_undefined())),
    ("divisibleby", divisible_by),
    ("eq", is_equal),
    ("equalto", is_equal),
    ("escaped", |call| Ok(one(call)?.is_safe())),
    ("even", |call| remainder_is(call, 2, 0)),
    ("false", kind!(Py::Bool(false))),
    ("filter", |call| names_one(call, crate::filters::is_known)),
    ("float", kind!(Py::Float(_))),
    ("ge", order!(Ordering::Greater | Ordering::Equal)),
    ("greaterthan", order!(Ordering::Greater)),
    ("gt", order!(Ordering::Greater)),
    ("in", |call| two(call).and_then(|[item, container]| contains(&call.run, &container, &item))),
    ("integer", kind!(Py::Int(_) | Py::BigInt(_))),
    ("iterable", |call| Ok(is_iterable(&one(call)?))),
    ("le", order!(Ordering::Less | Ordering::Equal)),
    ("lessthan", order!(Ordering::Less)),
    ("lower", |call| Ok(crate::methods::text::is_lower(&str_of(&call.run, &one(call)?)?))),
    ("lt", order!(Ordering::Less)),
    ("mapping", kind!(Py::Dict(_))),
    ("ne", |call| two(call).and_then(|[a, b]| Ok(!equal(&call.run, &a, &b)?))),
    ("none", |call| Ok(one(call)?.is_none())),
    ("number", kind!(Py::Bool(_) | Py::Int(_) | Py::BigInt(_) | Py::Float(_))),
    ("odd", |call| remainder_is(call, 2, 1)),
    ("sameas", same_as),
    ("sequence", kind!(Py::Str(_) | Py::Bytes(_) | Py::Seq(_) | Py::Dict(_) | Py::Range(_) | Py::Undefined)),
    ("string", kind!(Py::Str(_))),
    ("test", |call| names_one(call, exists)),
    ("true", kind!(Py::Bool(true))),
    ("undefined", |call| Ok(one(call)?.is_undefined())),
    ("upper", |call| Ok(crate::methods::text::is_upper(&str_of(&call.run, &one(call)?)?))),
];

/// Whether Jinja2 has the test.
pub(crate) fn exists(name: &str) -> bool {
    PREDICATES.iter().any(|(known, _)| *known == name)
}

/// Why there is no test `name`.
pub(crate) fn missing(name: &str) -> String {
    format!("there is no test `{name}` in Jinja2; see the list of tests in its documentation")
}

fn one(call: &Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("the test", ["value"], 1)?;
    Ok(value.unwrap_or_default())
}

/// Whether a value is a name in a table, which Python looks up as a key.
fn names_one(call: &Call<'_, '_, '_>, exists: fn(&str) -> bool) -> Result<bool, Error> {
    let name = one(call)?;
    if let Py::Seq(_) | Py::Dict(_) = classify(&name) {
        key_of(&call.run, &name)?;
    }
    Ok(name.as_str().is_some_and(exists))
}

fn two(call: &Call<'_, '_, '_>) -> Result<[Value; 2], Error> {
    let [a, b] = call.bind("the test", ["value", "other"], 2)?;
    Ok([a.unwrap_or_default(), b.unwrap_or_default()])
}

fn is_equal(call: &mut Call<'_, '_, '_>) -> Result<bool, Error> {
    let [a, b] = two(call)?;
    equal(&call.run, &a, &b)
}

fn divisible_by(call: &mut Call<'_, '_, '_>) -> Result<bool, Error> {
    let [value, number] = call.bind("the test", ["value", "num"], 2)?;
    let rest = arithmetic(call, Arithmetic::Rem, &value.unwrap_or_default(), &number.unwrap_or_default())?;
    equal(&call.run, &rest, &Value::from(0))
}

fn remainder_is(call: &mut Call<'_, '_, '_>, divisor: i64, wanted: i64) -> Result<bool, Error> {
    let value = one(call)?;
    let rest = arithmetic(call, Arithmetic::Rem, &value, &Value::from(divisor))?;
    equal(&call.run, &rest, &Value::from(wanted))
}

fn callable(call: &mut Call<'_, '_, '_>) -> Result<bool, Error> {
    let value = one(call)?;
    Ok(match classify(&value) {
        Py::Method(_) | Py::Joiner => true,
        Py::Engine => !is_engine(&value, "Namespace"),
        // Jinja2's `Undefined` has a `__call__` that raises.
        Py::Undefined => true,
        _ => false,
    })
}

/// `value is other`: the same object. Where Python's answer depends on how it keeps small values, it is refused.
fn same_as(call: &mut Call<'_, '_, '_>) -> Result<bool, Error> {
    let [value, other] = call.bind("the test", ["value", "other"], 2)?;
    let (a, b) = (value.unwrap_or_default(), other.unwrap_or_default());
    match (classify(&a), classify(&b)) {
        (Py::None, Py::None) => Ok(true),
        (Py::Bool(a), Py::Bool(b)) => Ok(a == b),
        // Python keeps one object for each of these integers.
        (Py::Int(a), Py::Int(b)) if (-5..=256).contains(&a) && (-5..=256).contains(&b) => Ok(a == b),
        (Py::Int(x), Py::Int(y)) if x != y => Ok(false),
        (Py::Float(x), Py::Float(y)) if x != y => Ok(false),
        (Py::Str(x), Py::Str(y)) if x != y => Ok(false),
        (Py::Int(_), Py::Int(_)) | (Py::Float(_), Py::Float(_)) | (Py::Str(_), Py::Str(_)) => {
            Err(unsupported(
                "`sameas` of equal numbers or texts, which Python may or may not keep once; use `==`",
            ))
        }
        (Py::Undefined, Py::Undefined) => Err(unsupported("`sameas` of unknown values; use `is undefined`")),
        // Views of one document are made anew at each look-up.
        (Py::Seq(Seq::Json(_)), Py::Seq(Seq::Json(_)))
        | (Py::Dict(crate::value::Map::Json(_)), Py::Dict(crate::value::Map::Json(_))) => {
            Err(unsupported("`sameas` of lists or dicts from the context; use `==`"))
        }
        _ => Ok(same(&a, &b)),
    }
}

fn is_iterable(value: &Value) -> bool {
    match classify(value) {
        Py::Undefined
        | Py::Str(_)
        | Py::Bytes(_)
        | Py::Seq(_)
        | Py::Dict(_)
        | Py::DictView(_)
        | Py::Range(_)
        | Py::Generator(_) => true,
        Py::Engine => is_engine(value, "Loop"),
        _ => false,
    }
}
