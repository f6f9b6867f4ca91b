//! Filters about text.
//!
//! Invariants
//! - Lengths and positions count characters, as Python's do.

use minijinja::{Error, Value};

use super::markup::is_python_space;
use super::{int_or, text_of, truth};
use crate::args::{Call, split};
use crate::format::{percent_args, percent_named};
use crate::methods::text as methods;
use crate::print::{repr_of, str_of};
use crate::run::{Run, failed, unsupported, wrong_type};
use crate::value::{Dict, Map, Py, Seq, as_text, classify, iterate, len, text, type_name};

macro_rules! case {
    ($name:ident, $change:expr) => {
        pub(super) fn $name(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
            let [value] = call.bind(stringify!($name), ["s"], 1)?;
            let (plain, safe) = text_of(&call.run, &value.unwrap_or_default())?;
            let changed: String = $change(&plain);
            call.run.pay(changed.len())?;
            Ok(text(changed, safe))
        }
    };
}

case!(upper, |text: &str| text.to_uppercase());
case!(lower, |text: &str| text.to_lowercase());
case!(capitalize, methods::capitalize);
case!(string, str::to_owned);

pub(super) fn title(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("title", ["s"], 1)?;
    let (plain, _) = text_of(&call.run, &value.unwrap_or_default())?;
    let mut out = String::with_capacity(plain.len());
    let mut at_start = true;
    let mut word = String::new();
    // A word begins after a hyphen, white space or an opening bracket.
    for c in plain.chars() {
        let separates = c == '-' || is_python_space(c) || matches!(c, '(' | '{' | '[' | '<');
        if separates || at_start {
            out.push_str(&word.to_lowercase());
            word.clear();
            out.extend(c.to_uppercase());
        } else {
            word.push(c);
        }
        at_start = separates;
    }
    out.push_str(&word.to_lowercase());
    Ok(Value::from(out))
}

pub(super) fn trim(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, chars] = call.bind("trim", ["value", "chars"], 1)?;
    let (plain, safe) = text_of(&call.run, &value.unwrap_or_default())?;
    Ok(text(methods::strip(&call.run, &plain, chars.as_ref(), true, true)?.to_owned(), safe))
}

pub(super) fn replace(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, old, new, count] = call.bind("replace", ["s", "old", "new", "count"], 3)?;
    let run = &call.run;
    let source = str_of(run, &value.unwrap_or_default())?;
    let (old, new) = (str_of(run, &old.unwrap_or_default())?, str_of(run, &new.unwrap_or_default())?);
    let count = match count.as_ref().map(classify) {
        None | Some(Py::None) => -1,
        _ => int_or("the count for `replace`", count.as_ref(), -1)?,
    };
    methods::replace(run, &source, &old, &new, count).map(Value::from)
}

pub(super) fn format(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let (positional, named) = split(call.args);
    let Some((format, positional)) = positional.split_first() else {
        return Err(failed("`format` needs a text"));
    };
    if format.is_safe() {
        return Err(unsupported("`format` of safe text escapes its arguments; format before `|safe`"));
    }
    let format = str_of(&call.run, format)?;
    let formatted = match (positional.is_empty(), named.is_empty()) {
        (false, false) => return Err(failed("`format` takes either positional or keyword arguments")),
        (_, true) => percent_args(&call.run, &format, positional)?,
        (true, false) => {
            let pairs = named.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
            let dict = Dict::new(&call.run, pairs)?;
            percent_named(&call.run, &format, Map::Dict(&dict))?
        }
    };
    Ok(Value::from(formatted))
}

pub(super) fn center(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, width] = call.bind("center", ["value", "width"], 1)?;
    let (plain, safe) = text_of(&call.run, &value.unwrap_or_default())?;
    let width = int_or("the width for `center`", width.as_ref(), 80)?;
    Ok(text(methods::pad(&call.run, &plain, width, ' ', methods::Side::Both)?, safe))
}

/// NetBox's: text without line ends, fit for a header.
pub(super) fn header_safe(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("header_safe", ["value"], 1)?;
    let (plain, _) = text_of(&call.run, &value.unwrap_or_default())?;
    Ok(Value::from(plain.replace(['\r', '\n'], "")))
}

pub(super) fn indent(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, width, first, blank] = call.bind("indent", ["s", "width", "first", "blank"], 1)?;
    let value = value.unwrap_or_default();
    let run = &call.run;
    let Py::Str(plain) = classify(&value) else { return Err(wrong_type("`indent`", &value)) };
    let indention = match width.as_ref().map(classify) {
        Some(Py::Str(indention)) => indention.to_owned(),
        _ => {
            let width = int_or("the width for `indent`", width.as_ref(), 4)?;
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            run.pay(width)?;
            " ".repeat(width)
        }
    };
    let (first, blank) = (truth(first.as_ref(), false), truth(blank.as_ref(), false));
    let with_newline = format!("{plain}\n");
    let lines = methods::splitlines(&with_newline, false);
    run.pay(with_newline.len() + indention.len().saturating_mul(lines.len()))?;
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(text(out, value.is_safe()))
}

pub(super) fn truncate(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, length, killwords, end, leeway] =
        call.bind("truncate", ["s", "length", "killwords", "end", "leeway"], 1)?;
    let value = value.unwrap_or_default();
    let run = &call.run;
    let Some(count) = len(run, &value)? else { return Err(wrong_type("`truncate`", &value)) };
    let end = match end.as_ref() {
        None => "...",
        Some(end) => as_text(run, end)?.ok_or_else(|| failed("the end for `truncate` must be text"))?,
    };
    let length = int_or("the length for `truncate`", length.as_ref(), 255)?;
    let leeway = match leeway.as_ref().map(classify) {
        Some(Py::None) => 5,
        _ => int_or("the leeway for `truncate`", leeway.as_ref(), 5)?,
    };
    let end_length = i64::try_from(end.chars().count()).unwrap_or(i64::MAX);
    if length < end_length || leeway < 0 {
        return Err(failed(format!(
            "`truncate` needs a length of at least {end_length} and a leeway of at least 0"
        )));
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count <= length.saturating_add(leeway) {
        return Ok(value);
    }
    // What is short enough may be a list or dict as well.
    let Py::Str(plain) = classify(&value) else { return Err(wrong_type("`truncate`", &value)) };
    if value.is_safe() {
        return Err(unsupported("`truncate` of safe text; truncate before `|safe`, `|e` or `|tojson`"));
    }
    let kept: String = plain.chars().take(usize::try_from(length - end_length).unwrap_or(0)).collect();
    let kept = if truth(killwords.as_ref(), false) {
        kept.as_str()
    } else {
        kept.rsplit_once(' ').map_or(kept.as_str(), |(before, _)| before)
    };
    Ok(Value::from(format!("{kept}{end}")))
}

pub(super) fn urlencode(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("urlencode", ["value"], 1)?;
    let value = value.unwrap_or_default();
    let run = &call.run;
    let pairs: Vec<(Value, Value)> = match classify(&value) {
        Py::Dict(map) => map.items(),
        Py::Undefined => {
            run.allow_undefined()?;
            Vec::new()
        }
        Py::Seq(_) | Py::DictView(_) | Py::Generator(_) | Py::Range(_) => iterate(run, &value)?
            .iter()
            .map(|pair| match iterate(run, pair)?.as_slice() {
                [key, value] => Ok((key.clone(), value.clone())),
                _ => Err(failed("`urlencode` of a list needs pairs of key and value")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Ok(Value::from(quote(call, &value, false)?)),
    };
    let mut out = Vec::with_capacity(pairs.len());
    for (key, value) in &pairs {
        out.push(format!("{}={}", quote(call, key, true)?, quote(call, value, true)?));
    }
    Ok(Value::from(out.join("&")))
}

/// Percent-encodes all but unreserved characters; a query has `+` for a blank, other places keep `/`.
fn quote(call: &Call<'_, '_, '_>, value: &Value, query: bool) -> Result<String, Error> {
    let bytes = match classify(value) {
        Py::Bytes(bytes) => bytes.to_vec(),
        _ => str_of(&call.run, value)?.into_bytes(),
    };
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if !query => out.push('/'),
            b' ' if query => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    call.run.pay(out.len())?;
    Ok(out)
}

pub(super) fn wordcount(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("wordcount", ["s"], 1)?;
    let (plain, _) = text_of(&call.run, &value.unwrap_or_default())?;
    let words = plain.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
    Ok(Value::from(words.count()))
}

/// `textwrap.wrap` of each line, for words without hyphens: where Python breaks those is refused.
pub(super) fn wordwrap(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, width, break_long, wrapstring, break_on_hyphens] =
        call.bind("wordwrap", ["s", "width", "break_long_words", "wrapstring", "break_on_hyphens"], 1)?;
    let value = value.unwrap_or_default();
    let run = &call.run;
    let Py::Str(plain) = classify(&value) else { return Err(wrong_type("`wordwrap`", &value)) };
    let width = int_or("the width for `wordwrap`", width.as_ref(), 79)?;
    let Some(width) = usize::try_from(width).ok().filter(|width| *width > 0) else {
        return Err(failed("the width for `wordwrap` must be at least 1"));
    };
    let wrapstring = match wrapstring.as_ref() {
        None => "\n",
        Some(value) if value.is_none() => "\n",
        Some(value) => as_text(run, value)?.ok_or_else(|| failed("the wrapstring must be text"))?,
    };
    let (break_long, hyphens) = (truth(break_long.as_ref(), true), truth(break_on_hyphens.as_ref(), true));
    let mut wrapped = Vec::new();
    for line in methods::splitlines(plain, false) {
        if hyphens && line.contains('-') && line.chars().count() > width {
            return Err(unsupported(
                "`wordwrap` of a long line with hyphens; add `break_on_hyphens=false` or replace them",
            ));
        }
        run.pay(line.len().saturating_mul(4))?;
        let lines = wrap_line(run, line, width, break_long)?;
        run.pay((lines.len() + 1).saturating_mul(wrapstring.len()))?;
        wrapped.push(lines.join(wrapstring));
    }
    Ok(text(wrapped.join(wrapstring), value.is_safe()))
}

/// The lines that a line becomes, each a part of it and each paid for.
fn wrap_line<'a>(run: &Run, line: &'a str, width: usize, break_long: bool) -> Result<Vec<&'a str>, Error> {
    let mut chunks = chunks(line).peekable();
    let mut lines = Vec::new();
    let mut current: Vec<Chunk> = Vec::new();
    while chunks.peek().is_some() {
        if !lines.is_empty() {
            chunks.next_if(Chunk::is_blank);
        }
        let mut length = 0;
        while let Some(chunk) = chunks.next_if(|chunk| length + chunk.chars <= width) {
            length += chunk.chars;
            current.push(chunk);
        }
        if let Some(chunk) = chunks.peek_mut().filter(|chunk| chunk.chars > width) {
            if break_long {
                current.push(chunk.cut_off(line, width - length));
            } else if current.is_empty() {
                current.extend(chunks.next());
            }
        }
        current.pop_if(|last| last.is_blank());
        if let (Some(first), Some(last)) = (current.first(), current.last()) {
            run.pay_items(1)?;
            lines.push(&line[first.start..last.end]);
        }
        current.clear();
    }
    Ok(lines)
}

/// A word of a line, or the blanks between two, as positions of bytes in the line.
struct Chunk {
    start: usize,
    end: usize,
    /// The first character that is not blank; the end if all are.
    ink: usize,
    chars: usize,
}

impl Chunk {
    fn is_blank(&self) -> bool {
        self.ink == self.end
    }

    /// Takes so many characters off its beginning. However many there are taken one after the other, each character is
    /// looked at only once or twice.
    fn cut_off(&mut self, line: &str, chars: usize) -> Chunk {
        let text = &line[self.start..self.end];
        let cut = text.char_indices().nth(chars).map_or(self.end, |(at, _)| self.start + at);
        let head = Chunk { start: self.start, end: cut, ink: self.ink.min(cut), chars };
        (self.start, self.chars) = (cut, self.chars - chars);
        if self.ink < cut {
            self.ink = first_ink(line, cut, self.end);
        }
        head
    }
}

fn first_ink(line: &str, start: usize, end: usize) -> usize {
    line[start..end].find(|c| !is_python_space(c)).map_or(end, |at| start + at)
}

/// Words and blanks in turn.
fn chunks(line: &str) -> impl Iterator<Item = Chunk> {
    // Only these separate words for `textwrap`, unlike for `str.split`.
    let is_space = |c: char| matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ');
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &line[start..];
        let blank = is_space(rest.chars().next()?);
        let length = rest.find(|c| is_space(c) != blank).unwrap_or(rest.len());
        let end = start + length;
        let ink = first_ink(line, start, end);
        let chunk = Chunk { start, end, ink, chars: rest[..length].chars().count() };
        start = end;
        Some(chunk)
    })
}

/// Python's `pprint.pformat` where it fits into one line.
pub(super) fn pprint(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    const WIDTH: usize = 80;
    let [value] = call.bind("pprint", ["value"], 1)?;
    let value = sorted(call, &value.unwrap_or_default())?;
    let printed = repr_of(&call.run, &value)?;
    let is_container = matches!(classify(&value), Py::Seq(_) | Py::Dict(_) | Py::DictView(_) | Py::Str(_));
    if is_container && printed.chars().count() > WIDTH {
        return Err(unsupported(format!(
            "`pprint` of more than {WIDTH} characters; use `|tojson(indent=2)`"
        )));
    }
    Ok(Value::from(printed))
}

/// The value with the members of all its dicts in the order of their keys.
fn sorted(call: &mut Call<'_, '_, '_>, value: &Value) -> Result<Value, Error> {
    call.run.pay_items(1)?;
    match classify(value) {
        Py::Dict(map) => {
            let mut members = map.items();
            for (_, member) in &mut members {
                *member = sorted(call, member)?;
            }
            if members.iter().any(|(key, _)| type_name(key) != type_name(&members[0].0)) {
                return Err(unsupported("`pprint` of a dict whose keys have several types; use `|tojson`"));
            }
            let mut failure = None;
            members.sort_by(|(a, _), (b, _)| match crate::operators::compare(&call.run, a, b) {
                Ok(order) => order.unwrap_or(std::cmp::Ordering::Equal),
                Err(error) => {
                    failure.get_or_insert(error);
                    std::cmp::Ordering::Equal
                }
            });
            match failure {
                Some(error) => Err(error),
                None => Dict::new(&call.run, members).map(Value::from_object),
            }
        }
        Py::Seq(Seq::Tuple(tuple)) => {
            let items = tuple.items().iter().map(|item| sorted(call, item)).collect::<Result<_, _>>()?;
            crate::value::tuple(items)
        }
        Py::Seq(seq) if !seq.is_tuple() => {
            let items = seq.to_vec().iter().map(|item| sorted(call, item)).collect::<Result<_, _>>()?;
            crate::value::list(&call.run, items)
        }
        _ => Ok(value.clone()),
    }
}
