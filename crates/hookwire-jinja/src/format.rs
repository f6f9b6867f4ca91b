//! Python's `%` formatting and `str.format`.
//!
//! Invariants
//! - A conversion or format that is not carried over is refused by name.
//! - Widths and precisions are paid for before the text is made.

use minijinja::{Error, Value};

use crate::methods::text::{Side, pad};
use crate::operators::item;
use crate::print::{float_repr, repr_of, str_of};
use crate::run::{Run, failed, limit, undefined_used, unsupported, wrong_type};
use crate::value::{Map, Py, classify, type_name};

/// No float has more digits than 1,100, and the standard library panics beyond 65,535.
const PRECISION_MAX: usize = 10_000;

/// `format % right`.
pub(crate) fn percent(run: &Run, format: &str, right: &Value) -> Result<String, Error> {
    match classify(right) {
        Py::Seq(seq) if seq.is_tuple() => percent_args(run, format, &seq.to_vec()),
        Py::Dict(map) if format.contains("%(") => percent_named(run, format, map),
        // Python takes what has items for a mapping and does not complain if it is not used up.
        Py::Dict(_) | Py::Seq(_) | Py::Range(_) | Py::Bytes(_) if !format.contains('%') => {
            Ok(format.to_owned())
        }
        _ => percent_args(run, format, std::slice::from_ref(right)),
    }
}

/// `format % args`, with all of `args` used up.
pub(crate) fn percent_args(run: &Run, format: &str, args: &[Value]) -> Result<String, Error> {
    let mut args = args.iter();
    let text = percent_with(run, format, |name| match name {
        Some(_) => Err(failed("`%(name)s` needs a dict")),
        None => args.next().cloned().ok_or_else(|| failed("not enough arguments for the format")),
    })?;
    match args.next() {
        Some(_) => Err(failed("not all arguments are used by the format")),
        None => Ok(text),
    }
}

/// `format % members`.
pub(crate) fn percent_named(run: &Run, format: &str, members: Map<'_>) -> Result<String, Error> {
    percent_with(run, format, |name| match name {
        Some(name) => {
            members.get_str(name).ok_or_else(|| failed(format!("the format's `{name}` is not there")))
        }
        None => Err(unsupported("a format that mixes names and positions")),
    })
}

fn percent_with(
    run: &Run,
    format: &str,
    mut next: impl FnMut(Option<&str>) -> Result<Value, Error>,
) -> Result<String, Error> {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let mut name = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let Some(end) = inner.find(')') else { return Err(failed("the format's `%(` is not closed")) };
            name = Some(&inner[..end]);
            rest = &inner[end + 1..];
        }
        let mut spec = Spec { percent: true, ..Spec::default() };
        while let Some(flag) = rest.chars().next().filter(|c| "#0- +".contains(*c)) {
            match flag {
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                '-' => spec.align = Some('<'),
                '+' => spec.sign = Some('+'),
                _ if spec.sign.is_none() => spec.sign = Some(' '),
                _ => {}
            }
            rest = &rest[1..];
        }
        // A sign for the left side leaves no room for zeros.
        spec.zero &= spec.align.is_none();
        if rest.starts_with('*') {
            return Err(unsupported("`*` as the width of a format; write the number"));
        }
        (spec.width, rest) = digits(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = digits(after)?;
            spec.precision = Some(precision.unwrap_or(0));
            rest = after;
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let Some(conversion) = rest.chars().next() else {
            return Err(failed("the format ends within a `%`"));
        };
        rest = &rest[conversion.len_utf8()..];
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = next(name)?;
        let piece = percent_one(run, &value, conversion, &spec)?;
        run.pay(piece.len())?;
        out.push_str(&piece);
    }
    out.push_str(rest);
    Ok(out)
}

fn percent_one(run: &Run, value: &Value, conversion: char, spec: &Spec) -> Result<String, Error> {
    let text = match conversion {
        's' => str_of(run, value)?,
        'r' => repr_of(run, value)?,
        'a' => return Err(unsupported("`%a` in a format")),
        'd' | 'i' | 'u' => return number(run, &truncated(value)?, &spec.with('d')),
        'x' | 'X' | 'o' => match classify(value) {
            Py::Int(_) | Py::Bool(_) => return number(run, value, &spec.with(conversion)),
            _ => return Err(wrong_type(&format!("`%{conversion}`"), value)),
        },
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => return number(run, &to_float(value)?, &spec.with(conversion)),
        // A precision cuts nothing off it.
        'c' => return pad_to(run, &character(value)?, spec, '>', ' '),
        other => return Err(failed(format!("the format has an unknown conversion `%{other}`"))),
    };
    let text = match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text,
    };
    pad_to(run, &text, spec, '>', ' ')
}

/// `%c`: a text of one character, or the number of one.
fn character(value: &Value) -> Result<String, Error> {
    match classify(value) {
        Py::Str(text) if text.chars().count() == 1 => Ok(text.to_owned()),
        Py::Int(code) => u32::try_from(code)
            .ok()
            .and_then(char::from_u32)
            .map(String::from)
            .ok_or_else(|| failed("`%c` needs the number of a character")),
        _ => Err(wrong_type("`%c`", value)),
    }
}

/// `%d` cuts floats.
fn truncated(value: &Value) -> Result<Value, Error> {
    match classify(value) {
        Py::Float(float) if float.is_finite() && float.abs() < 2f64.powi(126) => {
            Ok(crate::value::int(float.trunc() as i128))
        }
        Py::Int(_) | Py::BigInt(_) | Py::Bool(_) => Ok(value.clone()),
        Py::Undefined => Err(undefined_used()),
        _ => Err(failed(format!("`%d` needs a number, not {}", type_name(value)))),
    }
}

fn to_float(value: &Value) -> Result<Value, Error> {
    match classify(value) {
        Py::Float(_) => Ok(value.clone()),
        Py::Int(int) => Ok(Value::from(int as f64)),
        Py::Bool(bool) => Ok(Value::from(f64::from(u8::from(bool)))),
        Py::Undefined => Err(undefined_used()),
        _ => Err(failed(format!("a format for floats needs a number, not {}", type_name(value)))),
    }
}

/// What `str.format` takes its fields from.
pub(crate) enum Fields<'a> {
    Args(&'a [Value], &'a [(String, Value)]),
    Map(Map<'a>),
}

impl Fields<'_> {
    fn named(&self, name: &str) -> Result<Value, Error> {
        let found = match self {
            Fields::Args(_, named) => {
                named.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            Fields::Map(map) => map.get_str(name),
        };
        found.ok_or_else(|| failed(format!("the format's `{name}` is not there")))
    }

    fn numbered(&self, index: usize) -> Result<Value, Error> {
        match self {
            Fields::Args(args, _) => args
                .get(index)
                .cloned()
                .ok_or_else(|| failed(format!("the format's argument {index} is not there"))),
            Fields::Map(_) => Err(failed("the format has a field without a name")),
        }
    }
}

/// `format.format(..)`.
pub(crate) fn format_text(run: &Run, format: &str, fields: &Fields<'_>) -> Result<String, Error> {
    let mut formatter = Formatter { run, fields, next: 0, numbered: None };
    formatter.text(format, 0)
}

struct Formatter<'a> {
    run: &'a Run,
    fields: &'a Fields<'a>,
    next: usize,
    /// Whether fields carry numbers; Python allows either all or none to.
    numbered: Option<bool>,
}

impl Formatter<'_> {
    fn text(&mut self, format: &str, depth: usize) -> Result<String, Error> {
        let mut out = String::with_capacity(format.len());
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(failed("a single `}` in the format; write `}}`"));
            }
            let end = field_end(rest)?;
            let piece = self.field(&rest[..end], depth)?;
            self.run.pay(piece.len())?;
            out.push_str(&piece);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn field(&mut self, field: &str, depth: usize) -> Result<String, Error> {
        // As in Python, formats may have fields in them, and these none.
        if depth > 1 {
            return Err(failed("the format nests too deep"));
        }
        // A colon or exclamation mark within brackets belongs to the key.
        let mut in_brackets = false;
        let split = field.find(|c: char| {
            match c {
                '[' => in_brackets = true,
                ']' => in_brackets = false,
                _ => {}
            }
            !in_brackets && matches!(c, ':' | '!')
        });
        let (path, tail) = field.split_at(split.unwrap_or(field.len()));
        let (conversion, spec) = match tail.strip_prefix('!') {
            Some(tail) => {
                let mut chars = tail.chars();
                let Some(conversion) = chars.next() else {
                    return Err(failed("the format has a `!` without a letter"));
                };
                match chars.as_str() {
                    "" => (Some(conversion), ""),
                    spec => match spec.strip_prefix(':') {
                        Some(spec) => (Some(conversion), spec),
                        None => return Err(failed("expected `:` after the conversion of a format's field")),
                    },
                }
            }
            None => (None, tail.strip_prefix(':').unwrap_or("")),
        };
        let value = self.value(path)?;
        let value = match conversion {
            None => value,
            Some('s') => Value::from(str_of(self.run, &value)?),
            Some('r') => Value::from(repr_of(self.run, &value)?),
            Some(other) => return Err(unsupported(format!("the conversion `!{other}` in a format"))),
        };
        let spec = self.text(spec, depth + 1)?;
        format_value(self.run, &value, &spec)
    }

    fn value(&mut self, path: &str) -> Result<Value, Error> {
        let first_end = path.find(['.', '[']).unwrap_or(path.len());
        let (first, mut rest) = path.split_at(first_end);
        let mut value = if first.is_empty() || first.bytes().all(|byte| byte.is_ascii_digit()) {
            let has_number = !first.is_empty();
            if *self.numbered.get_or_insert(has_number) != has_number {
                return Err(failed("the format has fields with and without numbers"));
            }
            let index = if has_number {
                first.parse().map_err(|_| failed("the number of a format's field is too large"))?
            } else {
                self.next += 1;
                self.next - 1
            };
            self.fields.numbered(index)?
        } else {
            self.fields.named(first)?
        };
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let Some(end) = inner.find(']') else { return Err(failed("the format's `[` is not closed")) };
                let key = &inner[..end];
                let key = match key.parse::<i64>() {
                    Ok(index) if key.bytes().all(|byte| byte.is_ascii_digit()) => Value::from(index),
                    _ => Value::from(key),
                };
                value = item(self.run, &value, &key)?;
                rest = &inner[end + 1..];
            } else if let Some(inner) = rest.strip_prefix('.') {
                let end = inner.find(['.', '[']).unwrap_or(inner.len());
                value = attribute(self.run, &value, &inner[..end])?;
                rest = &inner[end..];
            } else {
                return Err(failed("only `.` or `[` may follow `]` in a format"));
            }
        }
        Ok(value)
    }
}

fn attribute(run: &Run, value: &Value, name: &str) -> Result<Value, Error> {
    if name.is_empty() {
        return Err(failed("the format has an empty attribute"));
    }
    match classify(value) {
        Py::Undefined => Err(undefined_used()),
        _ => crate::methods::get_attribute(run, value, name),
    }
}

/// Where the field ends whose text starts `rest`.
fn field_end(rest: &str) -> Result<usize, Error> {
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Ok(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Err(failed("the format has a `{` that is not closed"))
}

/// A format's width, precision and the rest.
#[derive(Debug, Clone, Default)]
struct Spec {
    /// It comes from the `%` operator, whose rules differ from those of `str.format` here and there.
    percent: bool,
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: Option<usize>,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    /// A zero before the width counts only where no fill is given.
    fn fill_char(&self) -> char {
        self.fill.unwrap_or(if self.zero { '0' } else { ' ' })
    }

    fn with(&self, kind: char) -> Spec {
        Spec { kind: Some(kind), ..self.clone() }
    }
}

/// Leading digits as a number.
fn digits(text: &str) -> Result<(Option<usize>, &str), Error> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let number = text[..end].parse().map_err(|_| failed("a number in the format is too large"))?;
    Ok((Some(number), &text[end..]))
}

/// Python's format specification mini-language.
fn parse_spec(text: &str) -> Result<Spec, Error> {
    let mut spec = Spec::default();
    let is_align = |c: char| matches!(c, '<' | '>' | '=' | '^');
    let chars: Vec<char> = text.chars().take(2).collect();
    let mut rest = text;
    match chars[..] {
        [fill, align] if is_align(align) => {
            (spec.fill, spec.align) = (Some(fill), Some(align));
            rest = &text[fill.len_utf8() + 1..];
        }
        [align, ..] if is_align(align) => {
            spec.align = Some(align);
            rest = &text[1..];
        }
        _ => {}
    }
    if let Some(sign) = rest.chars().next().filter(|c| matches!(c, '+' | '-' | ' ')) {
        spec.sign = Some(sign);
        rest = &rest[1..];
    }
    if rest.starts_with('z') {
        return Err(unsupported("`z` in a format"));
    }
    if let Some(after) = rest.strip_prefix('#') {
        spec.alternate = true;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('0') {
        spec.zero = spec.fill.is_none();
        rest = after;
    }
    (spec.width, rest) = digits(rest)?;
    if let Some(grouping) = rest.chars().next().filter(|c| matches!(c, ',' | '_')) {
        spec.grouping = Some(grouping);
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after)?;
        spec.precision = Some(precision.ok_or_else(|| failed("the format has a `.` without a precision"))?);
        rest = after;
    }
    let mut kind = rest.chars();
    spec.kind = kind.next();
    match kind.next() {
        None => Ok(spec),
        Some(_) => Err(failed(format!("the format `{text}` is not valid"))),
    }
}

fn format_value(run: &Run, value: &Value, text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return str_of(run, value);
    }
    let spec = parse_spec(text)?;
    match classify(value) {
        Py::Str(plain) => {
            if !matches!(spec.kind, None | Some('s'))
                || spec.sign.is_some()
                || spec.alternate
                || spec.grouping.is_some()
            {
                return Err(failed(format!("the format `{text}` does not fit text")));
            }
            if spec.align == Some('=') {
                return Err(failed("`=` in a format does not fit text"));
            }
            let plain = match spec.precision {
                Some(precision) => plain.chars().take(precision).collect(),
                None => plain.to_owned(),
            };
            pad_to(run, &plain, &spec, '<', spec.fill_char())
        }
        Py::Bool(_) | Py::Int(_) | Py::Float(_) => number(run, value, &spec),
        Py::Undefined => Err(undefined_used()),
        Py::BigInt(_) => Err(unsupported("a format for an integer of more than 127 bits")),
        _ => Err(failed(format!("the format `{text}` does not fit {}", type_name(value)))),
    }
}

/// Digits of a number without its sign, and whether it is negative.
fn number(run: &Run, value: &Value, spec: &Spec) -> Result<String, Error> {
    let (negative, prefix, body) = match classify(value) {
        Py::Int(int) => integer_body(run, int, spec)?,
        Py::Bool(bool) => integer_body(run, i128::from(bool), spec)?,
        Py::Float(float) => float_body(run, float, spec)?,
        Py::BigInt(int) if matches!(spec.kind, Some('d')) && spec.grouping.is_none() => {
            let digits = int.digits();
            (digits.starts_with('-'), "", digits.trim_start_matches('-').to_owned())
        }
        _ => return Err(wrong_type("a format for numbers", value)),
    };
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    };
    let head = format!("{sign}{prefix}");
    let align = spec.align.unwrap_or(if spec.zero { '=' } else { '>' });
    let fill = spec.fill_char();
    let width = spec.width.unwrap_or(0);
    if align == '=' {
        if spec.grouping.is_some() && fill == '0' && width > head.len() + body.len() {
            return Err(unsupported("zeros and thousands separators in one format"));
        }
        let room = width.saturating_sub(head.chars().count());
        let padded = pad(run, &body, i64::try_from(room).unwrap_or(i64::MAX), fill, Side::Left)?;
        return Ok(format!("{head}{padded}"));
    }
    pad_to(run, &format!("{head}{body}"), &Spec { align: Some(align), ..spec.clone() }, '>', fill)
}

fn integer_body(run: &Run, int: i128, spec: &Spec) -> Result<(bool, &'static str, String), Error> {
    let magnitude = int.unsigned_abs();
    let (prefix, digits) = match spec.kind {
        Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => return float_body(run, int as f64, spec),
        None | Some('d' | 'n') => ("", magnitude.to_string()),
        Some('x') => ("0x", format!("{magnitude:x}")),
        Some('X') => ("0X", format!("{magnitude:X}")),
        Some('o') => ("0o", format!("{magnitude:o}")),
        Some('b') => ("0b", format!("{magnitude:b}")),
        Some('c') => return Err(unsupported("`c` in a format")),
        _ => return Err(failed("the format does not fit an integer")),
    };
    let digits = match spec.precision {
        None => digits,
        // `%.5d` has at least five digits; `str.format` has no such thing.
        Some(precision) if spec.percent => {
            pad(run, &digits, i64::try_from(precision).unwrap_or(i64::MAX), '0', Side::Left)?
        }
        Some(_) => return Err(failed("a format for an integer has no precision")),
    };
    let digits = match spec.grouping {
        Some(_) if spec.kind == Some('n') => return Err(failed("the format does not fit an integer")),
        Some(',') if prefix.is_empty() => group(&digits, ',', 3),
        Some('_') => group(&digits, '_', if prefix.is_empty() { 3 } else { 4 }),
        Some(_) => return Err(failed("`,` in a format does not fit this number")),
        None => digits,
    };
    Ok((int < 0, if spec.alternate { prefix } else { "" }, digits))
}

fn group(digits: &str, separator: char, size: usize) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

fn float_body(run: &Run, float: f64, spec: &Spec) -> Result<(bool, &'static str, String), Error> {
    if spec.alternate {
        return Err(unsupported("`#` in a format for floats"));
    }
    let negative = float.is_sign_negative() && !float.is_nan();
    let magnitude = float.abs();
    let precision = spec.precision.unwrap_or(6);
    if precision > PRECISION_MAX {
        return Err(limit(format!("a format may ask for {PRECISION_MAX} digits at most")));
    }
    run.pay(precision.saturating_add(400))?;
    let upper = matches!(spec.kind, Some('E' | 'F' | 'G'));
    let body = if !float.is_finite() {
        let word = if float.is_nan() { "nan" } else { "inf" };
        if spec.kind == Some('%') { format!("{word}%") } else { word.to_owned() }
    } else {
        match spec.kind {
            Some('f' | 'F') => format!("{magnitude:.precision$}"),
            Some('%') => {
                let percent = magnitude * 100.0;
                format!("{percent:.precision$}%")
            }
            Some('e' | 'E') => scientific(magnitude, precision),
            Some('g' | 'G') => general(magnitude, precision, false),
            None if spec.precision.is_none() => float_repr(magnitude),
            None => general(magnitude, precision, true),
            Some('n') => return Err(unsupported("`n` in a format")),
            Some(_) => return Err(failed("the format does not fit a float")),
        }
    };
    let body = if upper { body.to_uppercase() } else { body };
    let body = match spec.grouping {
        None => body,
        Some(separator) => {
            let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
            format!("{}{}", group(&body[..end], separator, 3), &body[end..])
        }
    };
    Ok((negative, "", body))
}

/// `1.500000e+00`
fn scientific(magnitude: f64, precision: usize) -> String {
    let text = format!("{magnitude:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{exponent:0>2}")
}

/// `%g`: as many significant digits as `precision`, without trailing zeros. A format with a precision and no kind
/// keeps one digit after the point and turns to exponents one earlier.
fn general(magnitude: f64, precision: usize, keep_point: bool) -> String {
    let precision = precision.max(1);
    let rounded = format!("{magnitude:.*e}", precision - 1);
    let exponent: i64 = rounded.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let precision_i64 = i64::try_from(precision).unwrap_or(i64::MAX);
    let limit = if keep_point { precision_i64 - 1 } else { precision_i64 };
    if exponent < -4 || exponent >= limit.max(if keep_point { 0 } else { 1 }) {
        let text = scientific(magnitude, precision - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", without_zeros(mantissa, false));
    }
    let decimals = usize::try_from(precision_i64 - 1 - exponent).unwrap_or(0);
    without_zeros(&format!("{magnitude:.decimals$}"), keep_point)
}

fn without_zeros(text: &str, keep_point: bool) -> String {
    if !text.contains('.') {
        return if keep_point { format!("{text}.0") } else { text.to_owned() };
    }
    let trimmed = text.trim_end_matches('0');
    match trimmed.strip_suffix('.') {
        Some(whole) if keep_point => format!("{whole}.0"),
        Some(whole) => whole.to_owned(),
        None => trimmed.to_owned(),
    }
}

fn pad_to(run: &Run, text: &str, spec: &Spec, default: char, fill: char) -> Result<String, Error> {
    let side = match spec.align.unwrap_or(default) {
        '<' => Side::Right,
        '^' => {
            // Unlike `str.center`, an odd padding gives the right side more.
            let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
            let left = pad(
                run,
                text,
                i64::try_from(text.chars().count() + missing / 2).unwrap_or(i64::MAX),
                fill,
                Side::Left,
            )?;
            return pad(
                run,
                &left,
                i64::try_from(spec.width.unwrap_or(0)).unwrap_or(i64::MAX),
                fill,
                Side::Right,
            );
        }
        _ => Side::Left,
    };
    pad(run, text, i64::try_from(spec.width.unwrap_or(0)).unwrap_or(i64::MAX), fill, side)
}
