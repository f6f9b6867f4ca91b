//! `str(..)` and `repr(..)` as Python prints them.
//!
//! Invariants
//! - What Python prints with a memory address in it is refused; no two runs of a template may differ.

use hookwire_json::{Content, Node};
use minijinja::value::Value;
use minijinja::{Error, value::ValueKind};

use crate::run::{Run, undefined_used, unsupported};
use crate::value::{DictPart, Py, classify, is_engine, parse_number};

/// Python's `str(..)` of a JSON value: strings as they are, everything else as [`python_repr`].
pub fn python_str(value: Node<'_>) -> String {
    match value.as_text() {
        Some(text) => text.to_owned(),
        None => python_repr(value),
    }
}

/// Python's `repr(..)` of a JSON value as `json.loads` gives it.
pub fn python_repr(value: Node<'_>) -> String {
    let mut out = String::new();
    repr_json(&mut out, value);
    out
}

/// Python's `str(value)`; an unknown value prints nothing.
///
/// # Errors
/// What would print a memory address; more text than the rendering can pay for; an unknown value in strict mode.
pub(crate) fn str_of(run: &Run, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_str(run, &mut out, value)?;
    Ok(out)
}

/// Appends [`str_of`].
pub(crate) fn write_str(run: &Run, out: &mut String, value: &Value) -> Result<(), Error> {
    match classify(value) {
        Py::Str(text) => push(run, out, text),
        Py::Undefined => run.allow_undefined(),
        _ => write_repr(run, out, value),
    }
}

/// Python's `repr(value)`.
///
/// # Errors
/// As [`str_of`].
pub(crate) fn repr_of(run: &Run, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(run, &mut out, value)?;
    Ok(out)
}

/// Appends [`repr_of`].
pub(crate) fn write_repr(run: &Run, out: &mut String, value: &Value) -> Result<(), Error> {
    match classify(value) {
        Py::Undefined if run.strict() => Err(undefined_used()),
        Py::Undefined => push(run, out, "Undefined"),
        Py::None => push(run, out, "None"),
        Py::Bool(bool) => push(run, out, if bool { "True" } else { "False" }),
        Py::Int(int) => push(run, out, &int.to_string()),
        Py::BigInt(int) => push(run, out, int.digits()),
        Py::Float(float) => push(run, out, &float_repr(float)),
        Py::Str(text) => {
            run.pay(text.len())?;
            // The repr of safe text names its class.
            if value.is_safe() {
                out.push_str("Markup(");
            }
            repr_text(out, text);
            if value.is_safe() {
                out.push(')');
            }
            Ok(())
        }
        Py::Bytes(bytes) => {
            run.pay(bytes.len())?;
            repr_bytes(out, bytes);
            Ok(())
        }
        Py::Seq(crate::value::Seq::Json(part)) | Py::Dict(crate::value::Map::Json(part)) => {
            let before = out.len();
            repr_json(out, part.node());
            run.pay(out.len() - before)
        }
        Py::Seq(seq) => {
            let items = seq.to_vec();
            let (open, close) = if seq.is_tuple() { ('(', ')') } else { ('[', ']') };
            write_items(run, out, open, &items)?;
            if seq.is_tuple() && items.len() == 1 {
                out.push(',');
            }
            out.push(close);
            Ok(())
        }
        Py::Dict(map) => write_members(run, out, &map.items()),
        Py::DictView(view) => {
            let name = match view.part() {
                DictPart::Keys => "dict_keys(",
                DictPart::Values => "dict_values(",
                DictPart::Items => "dict_items(",
            };
            push(run, out, name)?;
            write_items(run, out, '[', &view.items()?)?;
            push(run, out, "])")
        }
        Py::Range(range) if range.step == 1 => {
            push(run, out, &format!("range({}, {})", range.start, range.stop))
        }
        Py::Range(range) => {
            push(run, out, &format!("range({}, {}, {})", range.start, range.stop, range.step))
        }
        Py::Generator(_) => {
            Err(unsupported("printing a generator shows a memory address; add `|list` or `|join(..)`"))
        }
        Py::Method(method) => Err(unsupported(format!(
            "printing the method `{0}` shows a memory address; call it with `{0}(..)`, or use `['{0}']` for a member",
            method.name()
        ))),
        Py::Cycler(_) | Py::Joiner | Py::Engine => {
            let what = if is_engine(value, "Loop") {
                "`loop`; print one of its members, such as `loop.index`"
            } else if is_engine(value, "Macro") {
                "a macro; call it with `(..)`"
            } else if is_engine(value, "Namespace") {
                "a namespace; print one of its members"
            } else if value.kind() == ValueKind::Plain {
                "a function; call it with `(..)`"
            } else {
                "an object of the template engine; print one of its members"
            };
            Err(unsupported(format!("can't print {what}")))
        }
    }
}

fn push(run: &Run, out: &mut String, text: &str) -> Result<(), Error> {
    run.pay(text.len())?;
    out.push_str(text);
    Ok(())
}

fn write_items(run: &Run, out: &mut String, open: char, items: &[Value]) -> Result<(), Error> {
    run.pay_items(items.len() + 1)?;
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(run, out, item)?;
    }
    Ok(())
}

fn write_members(run: &Run, out: &mut String, members: &[(Value, Value)]) -> Result<(), Error> {
    run.pay_items(members.len() + 1)?;
    out.push('{');
    for (index, (key, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(run, out, key)?;
        out.push_str(": ");
        write_repr(run, out, value)?;
    }
    out.push('}');
    Ok(())
}

fn repr_json(out: &mut String, value: Node<'_>) {
    match value.content() {
        Content::Null => out.push_str("None"),
        Content::Bool(bool) => out.push_str(if bool { "True" } else { "False" }),
        Content::Number(number) => out.push_str(&number_repr(number)),
        Content::Text(text) => repr_text(out, text),
        Content::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr_json(out, item);
            }
            out.push(']');
        }
        Content::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr_text(out, name);
                out.push_str(": ");
                repr_json(out, value);
            }
            out.push('}');
        }
    }
}

/// The number that JSON writes as `text`, as Python prints it.
pub(crate) fn number_repr(text: &str) -> String {
    let value = parse_number(text);
    match classify(&value) {
        Py::Float(float) => float_repr(float),
        Py::Int(int) => int.to_string(),
        _ => text.to_owned(),
    }
}

/// Python's shortest text that reads back as the same float.
pub(crate) fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = shortest(float);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return plain(mantissa, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// The shortest digits that read back as the same float, as `d.ddde-7`.
fn shortest(float: f64) -> String {
    let text = format!("{float:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    // Where two texts of the same length are equally near, Python takes the even one, as rounding does, and the
    // standard library the greater. Decimals of fewer digits lie too far apart for two to stand for one float.
    if digits >= 15 {
        let even = format!("{float:.*e}", digits - 1);
        if even.parse() == Ok(float) {
            return even;
        }
    }
    text
}

/// `mantissa` times ten to the `exponent` without an exponent and with a point.
fn plain(mantissa: &str, exponent: i32) -> String {
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    match usize::try_from(exponent) {
        Ok(exponent) if digits.len() > exponent + 1 => {
            format!("{sign}{}.{}", &digits[..=exponent], &digits[exponent + 1..])
        }
        Ok(exponent) => format!("{sign}{digits}{}.0", "0".repeat(exponent + 1 - digits.len())),
        Err(_) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("{sign}0.{}{digits}", "0".repeat(zeros))
        }
    }
}

/// Appends the text as a Python string literal.
pub(crate) fn repr_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c if is_printable(c) => out.push(c),
            c if u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` for one character other than quotes and backslash.
pub(crate) fn is_printable(c: char) -> bool {
    // The standard library escapes the same categories. A combining mark it escapes only at the start of a text,
    // so another character stands before it.
    let mut text = String::from("a");
    text.push(c);
    let mut escaped = text.escape_debug().skip(1);
    escaped.next() == Some(c)
}

fn repr_bytes(out: &mut String, bytes: &[u8]) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if char::from(*byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
}
