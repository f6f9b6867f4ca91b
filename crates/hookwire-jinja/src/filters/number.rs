//! Filters about numbers.
//!
//! Invariants
//! - Rounding is that of the exact binary value, ties to even, as Python's `round`.

use minijinja::{Error, Value};

use super::{int_or, truth};
use crate::args::Call;
use crate::run::{failed, undefined_used, unsupported, wrong_type};
use crate::value::{Py, classify, int as int_value};

pub(super) fn abs(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("abs", ["x"], 1)?;
    let value = value.unwrap_or_default();
    match classify(&value) {
        Py::Int(int) => int.checked_abs().map(int_value).ok_or_else(|| failed("the integer is too large")),
        Py::Bool(bool) => Ok(Value::from(i64::from(bool))),
        Py::Float(float) => Ok(Value::from(float.abs())),
        Py::BigInt(_) => Err(unsupported("`abs` of an integer of more than 127 bits")),
        _ => Err(wrong_type("`abs`", &value)),
    }
}

pub(super) fn int(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, default, base] = call.bind("int", ["value", "default", "base"], 1)?;
    let value = value.unwrap_or_default();
    let default = default.unwrap_or_else(|| Value::from(0));
    let base = int_or("the base for `int`", base.as_ref(), 10)?;
    match classify(&value) {
        Py::Undefined => Err(undefined_used()),
        Py::Str(text) => match parse_int(text, base)? {
            Some(int) => Ok(int),
            None => Ok(parse_float(text)?.map(float_to_int).transpose()?.flatten().unwrap_or(default)),
        },
        Py::Bool(bool) => Ok(Value::from(i64::from(bool))),
        Py::Int(_) | Py::BigInt(_) => Ok(value),
        // Python raises OverflowError for infinity, which the filter lets through, and ValueError for NaN.
        Py::Float(float) if float.is_infinite() => Err(failed("infinity is no integer")),
        Py::Float(float) => Ok(float_to_int(float)?.unwrap_or(default)),
        _ => Ok(default),
    }
}

/// The integer without the fraction; nothing for NaN and infinity.
fn float_to_int(float: f64) -> Result<Option<Value>, Error> {
    if !float.is_finite() {
        return Ok(None);
    }
    if float.abs() >= 2f64.powi(126) {
        return Err(unsupported("a float beyond 126 bits as an integer"));
    }
    Ok(Some(int_value(float.trunc() as i128)))
}

/// Python's `int(text, base)`; nothing where it raises `ValueError`.
pub(crate) fn parse_int(text: &str, base: i64) -> Result<Option<Value>, Error> {
    let text = text.trim_matches(super::markup::is_python_space);
    if let Some(digits) = with_plain_digits(text) {
        return match parse_int(&digits, base) {
            Ok(None) => Ok(None),
            _ => Err(unsupported("digits other than 0 to 9")),
        };
    }
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefixed = digits.get(..2).and_then(|prefix| match prefix {
        "0x" | "0X" => Some(16),
        "0o" | "0O" => Some(8),
        "0b" | "0B" => Some(2),
        _ => None,
    });
    let (radix, digits) = match (base, prefixed) {
        (0, Some(radix)) => (radix, &digits[2..]),
        (0, None) => (10, digits),
        (base, Some(radix)) if base == i64::from(radix) => (radix, &digits[2..]),
        (2..=36, _) => (u32::try_from(base).unwrap_or(10), digits),
        _ => return Err(failed("the base for `int` must be 0 or 2 to 36")),
    };
    // A prefix may be followed by an underscore, and digits may have one between them.
    let digits = if prefixed.is_some() { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let well_formed = !digits.is_empty()
        && !digits.starts_with('_')
        && !digits.ends_with('_')
        && !digits.contains("__")
        && digits.chars().all(|c| c == '_' || c.is_digit(radix));
    let old_octal =
        base == 0 && radix == 10 && digits.starts_with('0') && digits.contains(|c| ('1'..='9').contains(&c));
    if !well_formed || old_octal {
        return Ok(None);
    }
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    match i128::from_str_radix(&digits, radix) {
        Ok(int) => Ok(Some(int_value(if negative { -int } else { int }))),
        Err(_) => Err(unsupported("an integer of more than 127 bits in text")),
    }
}

/// The text with a zero for each digit that is not one of 0 to 9, if there are any: Python reads most of these, and
/// which ones follows from tables we don't have, but not where even zeros make no number.
fn with_plain_digits(text: &str) -> Option<String> {
    let is_other = |c: char| !c.is_ascii() && c.is_numeric();
    text.contains(is_other).then(|| text.replace(is_other, "0"))
}

/// Python's `float(text)`; nothing where it raises `ValueError`.
///
/// # Errors
/// A number with digits other than 0 to 9.
pub(crate) fn parse_float(text: &str) -> Result<Option<f64>, Error> {
    match with_plain_digits(text) {
        None => Ok(parse_plain_float(text)),
        Some(digits) if parse_plain_float(&digits).is_none() => Ok(None),
        Some(_) => Err(unsupported("digits other than 0 to 9")),
    }
}

fn parse_plain_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::markup::is_python_space);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let word = matches!(unsigned.to_ascii_lowercase().as_str(), "inf" | "infinity" | "nan");
    let bytes = unsigned.as_bytes();
    let underscores_between_digits = bytes.iter().enumerate().all(|(index, byte)| {
        *byte != b'_'
            || (index > 0
                && bytes[index - 1].is_ascii_digit()
                && bytes.get(index + 1).is_some_and(u8::is_ascii_digit))
    });
    let numeric =
        unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-' | b'_'));
    if !(word || numeric) || !underscores_between_digits {
        return None;
    }
    text.replace('_', "").parse().ok()
}

pub(super) fn float(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, default] = call.bind("float", ["value", "default"], 1)?;
    let value = value.unwrap_or_default();
    Ok(match classify(&value) {
        Py::Undefined => return Err(undefined_used()),
        Py::Str(text) => {
            parse_float(text)?.map_or_else(|| default.unwrap_or_else(|| Value::from(0.0)), Value::from)
        }
        _ => match as_float(&value)? {
            Some(float) => Value::from(float),
            None => default.unwrap_or_else(|| Value::from(0.0)),
        },
    })
}

/// A number as a float; nothing for what is no number.
fn as_float(value: &Value) -> Result<Option<f64>, Error> {
    Ok(match classify(value) {
        Py::Bool(bool) => Some(f64::from(u8::from(bool))),
        Py::Int(int) => Some(int as f64),
        Py::Float(float) => Some(float),
        Py::BigInt(_) => return Err(unsupported("an integer of more than 127 bits as a float")),
        _ => None,
    })
}

pub(super) fn round(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, precision, method] = call.bind("round", ["value", "precision", "method"], 1)?;
    let value = value.unwrap_or_default();
    let method = method.unwrap_or_else(|| Value::from("common"));
    let precision = match precision.as_ref().map(classify) {
        // `round(value, none)` gives an integer in Python.
        Some(Py::None) => return Err(unsupported("`round` with none as precision; use `|round|int`")),
        _ => int_or("the precision for `round`", precision.as_ref(), 0)?,
    };
    let scaled = |round: fn(f64) -> f64| -> Result<Value, Error> {
        let Some(float) = as_float(&value)? else { return Err(wrong_type("`round`", &value)) };
        let exponent =
            i32::try_from(precision).map_err(|_| failed("the precision for `round` is too large"))?;
        let factor = 10f64.powi(exponent);
        if let Py::Int(int) = classify(&value)
            && int.unsigned_abs() > 1 << 53
        {
            return Err(unsupported("`round` up or down of integers beyond 53 bits"));
        }
        // Python rounds to an integer here, which has no negative zero.
        let rounded = round(float * factor) + 0.0;
        if !rounded.is_finite() {
            return Err(failed("the number is too large for `round`"));
        }
        Ok(Value::from(rounded / factor))
    };
    match method.as_str() {
        Some("common") => round_common(&value, precision),
        Some("ceil") => scaled(f64::ceil),
        Some("floor") => scaled(f64::floor),
        _ => Err(failed("the method for `round` must be common, ceil or floor")),
    }
}

fn round_common(value: &Value, precision: i64) -> Result<Value, Error> {
    match classify(value) {
        Py::Bool(bool) => round_int(i128::from(bool), precision),
        Py::Int(int) => round_int(int, precision),
        Py::Float(float) => Ok(Value::from(round_float(float, precision)?)),
        Py::BigInt(_) => Err(unsupported("`round` of an integer of more than 127 bits")),
        _ => Err(wrong_type("`round`", value)),
    }
}

/// To the next multiple of `10^-precision`; half goes to the even one.
fn round_int(int: i128, precision: i64) -> Result<Value, Error> {
    if precision >= 0 {
        return Ok(int_value(int));
    }
    let exponent = u32::try_from(-precision).unwrap_or(u32::MAX);
    let Some(unit) = 10i128.checked_pow(exponent) else { return Ok(int_value(0)) };
    let (quotient, rest) = (int.div_euclid(unit), int.rem_euclid(unit));
    let up = rest > unit - rest || (rest == unit - rest && quotient % 2 != 0);
    (quotient + i128::from(up))
        .checked_mul(unit)
        .map(int_value)
        .ok_or_else(|| unsupported("`round` to an integer of more than 127 bits"))
}

fn round_float(float: f64, precision: i64) -> Result<f64, Error> {
    // No float has digits beyond these, and none reaches the other end.
    const DIGITS_MAX: i64 = 1100;
    if !float.is_finite() || precision > DIGITS_MAX {
        return Ok(float);
    }
    if precision < -DIGITS_MAX {
        return Ok(0f64.copysign(float));
    }
    match usize::try_from(precision) {
        // Formatting rounds the exact value, ties to even.
        Ok(digits) => format!("{float:.digits$}").parse().map_err(|_| failed("the number can't be rounded")),
        Err(_) if float.abs() < 2f64.powi(100) => {
            // Twice the integer part and a bit for the fraction order as the number itself around each tie.
            let whole = float.abs().trunc() as i128;
            let sticky = i128::from(float.fract() != 0.0);
            let exponent = u32::try_from(-precision).unwrap_or(u32::MAX);
            let Some(unit) = 10i128.checked_pow(exponent) else { return Ok(0f64.copysign(float)) };
            let (quotient, rest) = (whole / unit, whole % unit);
            let up = 2 * rest + sticky > unit || (2 * rest == unit && sticky == 0 && quotient % 2 != 0);
            let rounded = (quotient + i128::from(up)) * unit;
            Ok((rounded as f64).copysign(float))
        }
        Err(_) => Err(unsupported("`round` of a float beyond 100 bits")),
    }
}

pub(super) fn filesizeformat(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, binary] = call.bind("filesizeformat", ["value", "binary"], 1)?;
    let value = value.unwrap_or_default();
    let bytes = match classify(&value) {
        Py::Str(text) => parse_float(text)?,
        _ => as_float(&value)?,
    };
    let Some(bytes) = bytes else { return Err(wrong_type("`filesizeformat`", &value)) };
    const DECIMAL: [&str; 8] = ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    const BINARY: [&str; 8] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    let (base, units) = if truth(binary.as_ref(), false) { (1024f64, BINARY) } else { (1000f64, DECIMAL) };
    if bytes == 1.0 {
        return Ok(Value::from("1 Byte"));
    }
    if bytes < base {
        let Some(whole) = float_to_int(bytes)? else { return Err(failed("the size is no number")) };
        return Ok(Value::from(format!("{whole} Bytes")));
    }
    let mut unit = base;
    let mut text = String::new();
    for name in units {
        unit *= base;
        text = format!("{:.1} {name}", base * bytes / unit);
        if bytes < unit {
            break;
        }
    }
    Ok(Value::from(text))
}
