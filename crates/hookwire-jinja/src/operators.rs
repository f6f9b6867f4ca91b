//! Python's operators.
//!
//! Invariants
//! - What Python refuses with a `TypeError` is refused, so that no comparison of unlike values gives an answer.
//! - Integers are exact or refused: beyond 127 bits the result is an error, never a float or a wrapped number.

use std::cmp::Ordering;

use minijinja::{AutoEscape, Error, Value};

use crate::args::Call;
use crate::format::percent;
use crate::print::write_str;
use crate::run::{Run, failed, limit, undefined_used, unsupported};
use crate::value::{Map, Py, Seq, classify, int, iterate, list, text, tuple, type_name};

/// Arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
}

impl Arithmetic {
    fn sign(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Sub => "-",
            Arithmetic::Mul => "*",
            Arithmetic::Div => "/",
            Arithmetic::FloorDiv => "//",
            Arithmetic::Rem => "%",
            Arithmetic::Pow => "**",
        }
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn float(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        }
    }
}

fn number(value: &Py<'_>) -> Option<Number> {
    match value {
        Py::Bool(bool) => Some(Number::Int(i128::from(*bool))),
        Py::Int(int) => Some(Number::Int(*int)),
        Py::Float(float) => Some(Number::Float(*float)),
        _ => None,
    }
}

/// `left op right`.
pub(crate) fn arithmetic(
    call: &mut Call<'_, '_, '_>,
    op: Arithmetic,
    left: &Value,
    right: &Value,
) -> Result<Value, Error> {
    let (a, b) = (classify(left), classify(right));
    if let (Some(a), Some(b)) = (number(&a), number(&b)) {
        return match (a, b) {
            (Number::Int(a), Number::Int(b)) => int_arithmetic(op, a, b),
            _ => float_arithmetic(op, a.float(), b.float()),
        };
    }
    match (op, &a, &b) {
        (Arithmetic::Rem, Py::Str(_), _) if left.is_safe() => {
            Err(unsupported("`%` on safe text escapes its arguments; use `~` or format before `|safe`"))
        }
        (Arithmetic::Rem, Py::Str(format), _) => percent(&call.run, format, right).map(Value::from),
        (_, Py::Undefined, _) | (_, _, Py::Undefined) => Err(undefined_used()),
        (_, Py::BigInt(_), _) | (_, _, Py::BigInt(_)) => Err(too_large()),
        (Arithmetic::Add, Py::Str(_), Py::Str(_)) => add_text(call, left, right),
        (Arithmetic::Add, Py::Seq(x), Py::Seq(y)) if x.is_tuple() == y.is_tuple() => {
            let mut items = x.to_vec();
            items.extend(y.to_vec());
            sequence(&call.run, items, x.is_tuple())
        }
        (Arithmetic::Mul, Py::Str(_) | Py::Seq(_), Py::Int(_) | Py::Bool(_)) => repeat(&call.run, left, &b),
        (Arithmetic::Mul, Py::Int(_) | Py::Bool(_), Py::Str(_) | Py::Seq(_)) => repeat(&call.run, right, &a),
        _ => Err(failed(format!(
            "`{}` can't work with {} and {}",
            op.sign(),
            type_name(left),
            type_name(right)
        ))),
    }
}

fn sequence(run: &Run, items: Vec<Value>, is_tuple: bool) -> Result<Value, Error> {
    if is_tuple {
        run.pay_items(items.len())?;
        tuple(items)
    } else {
        list(run, items)
    }
}

fn too_large() -> Error {
    unsupported("an integer of more than 127 bits can be printed but not be reckoned with")
}

fn int_arithmetic(op: Arithmetic, a: i128, b: i128) -> Result<Value, Error> {
    let exact = |result: Option<i128>| result.map(int).ok_or_else(too_large);
    match op {
        Arithmetic::Add => exact(a.checked_add(b)),
        Arithmetic::Sub => exact(a.checked_sub(b)),
        Arithmetic::Mul => exact(a.checked_mul(b)),
        Arithmetic::Div | Arithmetic::FloorDiv | Arithmetic::Rem if b == 0 => Err(by_zero()),
        Arithmetic::Div => divide(a, b),
        Arithmetic::FloorDiv => exact(floor_div(a, b)),
        Arithmetic::Rem => {
            exact(a.checked_rem(b).map(|rem| if rem != 0 && (rem < 0) != (b < 0) { rem + b } else { rem }))
        }
        Arithmetic::Pow if b >= 0 => match (a, u32::try_from(b)) {
            (0 | 1, _) => Ok(int(if b == 0 { 1 } else { a })),
            (-1, _) => Ok(int(if b % 2 == 0 { 1 } else { -1 })),
            (_, Ok(exponent)) => exact(a.checked_pow(exponent)),
            _ => Err(too_large()),
        },
        Arithmetic::Pow => float_arithmetic(op, a as f64, b as f64),
    }
}

fn floor_div(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

fn divide(a: i128, b: i128) -> Result<Value, Error> {
    // Within 53 bits both convert exactly, so the quotient is rounded once, as in Python.
    const EXACT: u128 = 1 << 53;
    if a.unsigned_abs() <= EXACT && b.unsigned_abs() <= EXACT {
        return Ok(Value::from(a as f64 / b as f64));
    }
    match a.checked_rem(b) {
        Some(0) => Ok(Value::from((a / b) as f64)),
        _ => Err(unsupported("`/` of integers beyond 53 bits; use `//`")),
    }
}

fn by_zero() -> Error {
    failed("division by zero")
}

fn float_arithmetic(op: Arithmetic, a: f64, b: f64) -> Result<Value, Error> {
    Ok(Value::from(match op {
        Arithmetic::Add => a + b,
        Arithmetic::Sub => a - b,
        Arithmetic::Mul => a * b,
        Arithmetic::Div | Arithmetic::FloorDiv | Arithmetic::Rem if b == 0.0 => return Err(by_zero()),
        Arithmetic::Div => a / b,
        Arithmetic::FloorDiv => float_divmod(a, b).0,
        Arithmetic::Rem => float_divmod(a, b).1,
        Arithmetic::Pow => {
            if a == 0.0 && b < 0.0 {
                return Err(by_zero());
            }
            let result = a.powf(b);
            if result.is_nan() && !a.is_nan() && !b.is_nan() {
                return Err(unsupported("`**` with a complex result"));
            }
            if result.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(failed("the result of `**` is too large"));
            }
            result
        }
    }))
}

/// The quotient rounded down and the remainder with the sign of `b`, in the steps in which CPython takes them.
fn float_divmod(a: f64, b: f64) -> (f64, f64) {
    let mut rem = a % b;
    let mut quotient = (a - rem) / b;
    if rem != 0.0 {
        if (b < 0.0) != (rem < 0.0) {
            rem += b;
            quotient -= 1.0;
        }
    } else {
        rem = 0f64.copysign(b);
    }
    let floor = if quotient != 0.0 {
        let floor = quotient.floor();
        if quotient - floor > 0.5 { floor + 1.0 } else { floor }
    } else {
        0f64.copysign(a / b)
    };
    (floor, rem)
}

/// `text + text`: if one is safe the other is escaped and the result is safe.
fn add_text(call: &mut Call<'_, '_, '_>, left: &Value, right: &Value) -> Result<Value, Error> {
    let safe = left.is_safe() || right.is_safe();
    let mut out = String::new();
    for value in [left, right] {
        if safe && !value.is_safe() {
            out.push_str(&escaped_piece(call, value)?);
        } else {
            write_str(&call.run, &mut out, value)?;
        }
    }
    call.run.pay(out.len())?;
    Ok(text(out, safe))
}

/// An unsafe piece on its way into safe text: escaped for HTML as Python does, or for its place where the embedder
/// escapes by place.
fn escaped_piece(call: &mut Call<'_, '_, '_>, value: &Value) -> Result<String, Error> {
    if escapes_by_place(call) {
        call.state.format(value.clone())
    } else {
        let mut raw = String::new();
        write_str(&call.run, &mut raw, value)?;
        Ok(crate::filters::escape_html(&raw))
    }
}

/// Whether the embedder escapes what is printed, see [`Template::render_with`](crate::Template::render_with).
pub(crate) fn escapes_by_place(call: &Call<'_, '_, '_>) -> bool {
    !matches!(call.state.auto_escape(), AutoEscape::None)
}

/// `a ~ b ~ ..` and `|join`: the texts in a row.
///
/// Where the embedder escapes by place and one of the pieces is safe, the others are escaped and the whole is safe;
/// else it is plain text, as in Jinja2 without autoescape.
pub(crate) fn concat(call: &mut Call<'_, '_, '_>, pieces: &[&Value]) -> Result<Value, Error> {
    let safe = escapes_by_place(call) && pieces.iter().any(|piece| piece.is_safe());
    let mut out = String::new();
    for piece in pieces {
        if safe && !piece.is_safe() {
            let escaped = escaped_piece(call, piece)?;
            call.run.pay(escaped.len())?;
            out.push_str(&escaped);
        } else {
            write_str(&call.run, &mut out, piece)?;
        }
    }
    Ok(text(out, safe))
}

fn repeat(run: &Run, value: &Value, times: &Py<'_>) -> Result<Value, Error> {
    let times = match number(times) {
        Some(Number::Int(times)) => times.max(0),
        _ => 0,
    };
    // Python refuses these even where there is nothing to repeat.
    let times = match i64::try_from(times) {
        Ok(times) => usize::try_from(times).unwrap_or(usize::MAX),
        Err(_) => return Err(limit("text, a list or a tuple can't be repeated so often")),
    };
    match classify(value) {
        Py::Str(piece) => {
            run.pay(piece.len().saturating_mul(times))?;
            Ok(text(piece.repeat(times), value.is_safe()))
        }
        Py::Seq(seq) => {
            let items = seq.to_vec();
            run.pay_items(items.len().saturating_mul(times))?;
            let mut repeated = Vec::with_capacity(items.len().saturating_mul(times));
            if !items.is_empty() {
                for _ in 0..times {
                    repeated.extend(items.iter().cloned());
                }
            }
            sequence(run, repeated, seq.is_tuple())
        }
        _ => Err(failed("only text, lists and tuples can be repeated")),
    }
}

/// `literal ** right` as Python reads it: the sign of a negative literal counts after the power.
pub(crate) fn power_of_constant(
    call: &mut Call<'_, '_, '_>,
    literal: &Value,
    right: &Value,
) -> Result<Value, Error> {
    let is_negative = match number(&classify(literal)) {
        Some(Number::Int(int)) => int < 0,
        Some(Number::Float(float)) => float.is_sign_negative(),
        None => false,
    };
    if !is_negative {
        return arithmetic(call, Arithmetic::Pow, literal, right);
    }
    let power = arithmetic(call, Arithmetic::Pow, &negate(literal)?, right)?;
    negate(&power)
}

/// `-value`.
pub(crate) fn negate(value: &Value) -> Result<Value, Error> {
    let py = classify(value);
    match (number(&py), py) {
        (Some(Number::Int(int_value)), _) => int_value.checked_neg().map(int).ok_or_else(too_large),
        (Some(Number::Float(float)), _) => Ok(Value::from(-float)),
        (None, Py::Undefined) => Err(undefined_used()),
        (None, Py::BigInt(_)) => Err(too_large()),
        _ => Err(failed(format!("`-` can't work with {}", type_name(value)))),
    }
}

/// `a == b`.
///
/// # Errors
/// Only if comparing takes more than the rendering can pay for.
pub(crate) fn equal(run: &Run, a: &Value, b: &Value) -> Result<bool, Error> {
    run.pay_items(1)?;
    let (x, y) = (classify(a), classify(b));
    if let (Some(x), Some(y)) = (number(&x), number(&y)) {
        return Ok(compare_numbers(x, y) == Some(Ordering::Equal));
    }
    Ok(match (x, y) {
        (Py::Undefined, Py::Undefined) | (Py::None, Py::None) => true,
        (Py::Str(x), Py::Str(y)) => {
            run.pay(x.len().min(y.len()))?;
            x == y
        }
        (Py::Bytes(x), Py::Bytes(y)) => {
            run.pay(x.len().min(y.len()))?;
            x == y
        }
        (Py::BigInt(x), Py::BigInt(y)) => {
            run.pay(x.digits().len().min(y.digits().len()))?;
            x == y
        }
        (Py::Range(x), Py::Range(y)) => {
            run.pay_items(x.len().min(y.len()))?;
            x.iter().eq(y.iter())
        }
        (Py::Seq(x), Py::Seq(y)) => {
            if x.is_tuple() != y.is_tuple() || x.len() != y.len() {
                return Ok(false);
            }
            for (x, y) in x.to_vec().iter().zip(y.to_vec().iter()) {
                if !equal(run, x, y)? {
                    return Ok(false);
                }
            }
            true
        }
        (Py::Dict(x), Py::Dict(y)) => equal_maps(run, x, y)?,
        (Py::DictView(x), Py::DictView(y)) => {
            return Err(unsupported(format!(
                "comparing views of dicts ({:?} and {:?}); add `|list`",
                x.part(),
                y.part()
            )));
        }
        (Py::Method(x), Py::Method(y)) => x.name() == y.name() && same(x.receiver(), y.receiver()),
        _ => same(a, b),
    })
}

fn equal_maps(run: &Run, x: Map<'_>, y: Map<'_>) -> Result<bool, Error> {
    if x.len() != y.len() {
        return Ok(false);
    }
    for (key, value) in x.items() {
        match y.get(run, &key)? {
            Some(other) if equal(run, &value, &other)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Whether both are the same object.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    a.as_object().is_some() && b.as_object().is_some() && minijinja::tests::is_sameas(a, b)
}

fn compare_numbers(a: Number, b: Number) -> Option<Ordering> {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Int(a), Number::Float(b)) => compare_int_float(a, b),
        (Number::Float(a), Number::Int(b)) => compare_int_float(b, a).map(Ordering::reverse),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
    }
}

/// Exact, as in Python: no rounding of the integer.
fn compare_int_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= 2f64.powi(127) {
        return Some(Ordering::Less);
    }
    if float < -2f64.powi(127) {
        return Some(Ordering::Greater);
    }
    let whole = float.floor();
    Some(int.cmp(&(whole as i128)).then(if float > whole { Ordering::Less } else { Ordering::Equal }))
}

/// The order of `a` and `b`; nothing for NaN.
///
/// # Errors
/// Values that Python can't order.
pub(crate) fn compare(run: &Run, a: &Value, b: &Value) -> Result<Option<Ordering>, Error> {
    run.pay_items(1)?;
    let (x, y) = (classify(a), classify(b));
    if let (Some(x), Some(y)) = (number(&x), number(&y)) {
        return Ok(compare_numbers(x, y));
    }
    match (x, y) {
        (Py::Undefined, _) | (_, Py::Undefined) => Err(undefined_used()),
        (Py::Str(x), Py::Str(y)) => {
            run.pay(x.len().min(y.len()))?;
            // UTF-8 keeps the order of code points.
            Ok(Some(x.cmp(y)))
        }
        (Py::Bytes(x), Py::Bytes(y)) => {
            run.pay(x.len().min(y.len()))?;
            Ok(Some(x.cmp(y)))
        }
        (Py::Seq(x), Py::Seq(y)) if x.is_tuple() == y.is_tuple() => compare_sequences(run, x, y),
        (Py::BigInt(_), _) | (_, Py::BigInt(_)) => Err(too_large()),
        _ => Err(failed(format!("can't order {} and {}", type_name(a), type_name(b)))),
    }
}

fn compare_sequences(run: &Run, x: Seq<'_>, y: Seq<'_>) -> Result<Option<Ordering>, Error> {
    for (a, b) in x.to_vec().iter().zip(y.to_vec().iter()) {
        if !equal(run, a, b)? {
            return compare(run, a, b);
        }
    }
    Ok(Some(x.len().cmp(&y.len())))
}

/// `item in container`.
///
/// # Errors
/// A container that is none, and a key that can't be one.
pub(crate) fn contains(run: &Run, container: &Value, item: &Value) -> Result<bool, Error> {
    match classify(container) {
        Py::Str(text) => match classify(item) {
            Py::Str(piece) => {
                run.pay(text.len())?;
                Ok(text.contains(piece))
            }
            Py::Undefined => Err(undefined_used()),
            _ => Err(failed(format!("text can't contain {}", type_name(item)))),
        },
        Py::Dict(map) => Ok(map.get(run, item)?.is_some()),
        _ => {
            for candidate in iterate(run, container)? {
                if equal(run, &candidate, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// `value[key]`, and the method or member `key` where that fails; unknown if there is neither.
pub(crate) fn item(run: &Run, value: &Value, key: &Value) -> Result<Value, Error> {
    let found = match (classify(value), classify(key)) {
        (Py::Undefined, _) => return Err(undefined_used()),
        (Py::Dict(_), Py::Seq(seq)) if !seq.is_tuple() => None,
        (Py::Dict(_), Py::Dict(_) | Py::DictView(_) | Py::Undefined) => None,
        (Py::Dict(map), _) => map.get(run, key)?,
        (Py::Seq(seq), Py::Int(_) | Py::Bool(_)) => at(key, seq.len()).and_then(|index| seq.get(index)),
        (Py::Range(range), Py::Int(_) | Py::Bool(_)) => {
            at(key, range.len()).and_then(|index| range.get(index)).map(Value::from)
        }
        (Py::Str(string), Py::Int(_) | Py::Bool(_)) => {
            run.pay(string.len())?;
            at(key, string.chars().count())
                .and_then(|index| string.chars().nth(index))
                .map(|c| text(c.to_string(), value.is_safe()))
        }
        (Py::Bytes(bytes), Py::Int(_) | Py::Bool(_)) => {
            at(key, bytes.len()).and_then(|index| bytes.get(index)).map(|byte| Value::from(*byte))
        }
        (Py::Engine | Py::Cycler(_), _) => value.get_item(key).ok().filter(|found| !found.is_undefined()),
        _ => None,
    };
    match (found, classify(key)) {
        (Some(found), _) => Ok(found),
        (None, Py::Str(name)) => Ok(crate::methods::attribute(value, name).unwrap_or_default()),
        (None, _) => Ok(Value::UNDEFINED),
    }
}

fn at(key: &Value, len: usize) -> Option<usize> {
    let index = match number(&classify(key))? {
        Number::Int(index) => index,
        Number::Float(_) => return None,
    };
    let index = if index < 0 { index + len as i128 } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

/// `value[start:stop:step]`.
///
/// # Errors
/// What can't be sliced, bounds that are no integers, a step of zero.
pub(crate) fn slice(
    run: &Run,
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
) -> Result<Value, Error> {
    let items: Vec<Value> = match classify(value) {
        Py::Undefined => return Err(undefined_used()),
        Py::Str(_) | Py::Seq(_) | Py::Range(_) => iterate(run, value)?,
        _ => return Err(failed(format!("{} can't be sliced", type_name(value)))),
    };
    let bounds = [bound(start)?, bound(stop)?, bound(step)?];
    let picked: Vec<Value> = slice_indices(items.len(), bounds)?.map(|index| items[index].clone()).collect();
    match classify(value) {
        Py::Str(_) => {
            let joined: String = picked.iter().filter_map(|c| c.as_str()).collect();
            Ok(text(joined, value.is_safe()))
        }
        Py::Seq(seq) => sequence(run, picked, seq.is_tuple()),
        _ => Err(unsupported("a slice of a range; add `|list` before it")),
    }
}

fn bound(value: &Value) -> Result<Option<i128>, Error> {
    let py = classify(value);
    match (number(&py), py) {
        (_, Py::None) => Ok(None),
        (Some(Number::Int(int)), _) => Ok(Some(int)),
        (_, Py::Undefined) => Err(undefined_used()),
        _ => Err(failed("the bounds of a slice must be integers")),
    }
}

fn slice_indices(
    len: usize,
    [start, stop, step]: [Option<i128>; 3],
) -> Result<impl Iterator<Item = usize>, Error> {
    let len = len as i128;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(failed("the step of a slice must not be zero"));
    }
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp =
        |bound: i128| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(lowest, highest);
    let start = start.map_or(if step > 0 { lowest } else { highest }, clamp);
    let stop = stop.map_or(if step > 0 { highest } else { lowest }, clamp);
    Ok(std::iter::successors(Some(start), move |index| index.checked_add(step))
        .take_while(move |index| if step > 0 { *index < stop } else { *index > stop })
        .filter_map(|index| usize::try_from(index).ok()))
}
