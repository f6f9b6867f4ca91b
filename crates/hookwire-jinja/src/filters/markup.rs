//! Filters about HTML, XML and JSON: what makes text safe.
//!
//! Invariants
//! - Only what these filters made is safe; `|safe` is the template author's word for it.

use minijinja::{Error, Value};

use super::{text_of, truth};
use crate::args::Call;
use crate::json::dumps_sorted;
use crate::print::{repr_of, str_of};
use crate::run::{failed, unsupported, wrong_type};
use crate::value::{Py, as_text, classify, text};

/// `&`, `<`, `>` and both quotes as the references that Python's markupsafe writes.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn escape(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("escape", ["s"], 1)?;
    let value = value.unwrap_or_default();
    if value.is_safe() {
        return Ok(value);
    }
    let escaped = escape_html(&str_of(&call.run, &value)?);
    call.run.pay(escaped.len())?;
    Ok(text(escaped, true))
}

pub(super) fn forceescape(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("forceescape", ["value"], 1)?;
    let escaped = escape_html(&str_of(&call.run, &value.unwrap_or_default())?);
    call.run.pay(escaped.len())?;
    Ok(text(escaped, true))
}

pub(super) fn safe(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("safe", ["value"], 1)?;
    let (plain, _) = text_of(&call.run, &value.unwrap_or_default())?;
    Ok(text(plain, true))
}

pub(super) fn tojson(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, indent] = call.bind("tojson", ["value", "indent"], 1)?;
    let indent = match indent.as_ref().map(classify) {
        None | Some(Py::None) => None,
        Some(Py::Str(indent)) => Some(indent.to_owned()),
        Some(Py::Int(width)) => {
            let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
            call.run.pay(width)?;
            Some(" ".repeat(width))
        }
        Some(Py::Bool(width)) => Some(" ".repeat(usize::from(width))),
        Some(_) => return Err(failed("the indent for `tojson` must be an integer or text")),
    };
    let json = dumps_sorted(&call.run, &value.unwrap_or_default(), indent.as_deref())?;
    // None of these occurs outside a string of JSON.
    let json =
        json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027");
    Ok(text(json, true))
}

pub(super) fn striptags(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("striptags", ["value"], 1)?;
    let (mut plain, _) = text_of(&call.run, &value.unwrap_or_default())?;
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        plain = without(&plain, open, close);
    }
    let collapsed =
        plain.split(is_python_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    unescape(&collapsed).map(Value::from)
}

/// `text` without the stretches from `open` to `close`.
fn without(text: &str, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(open) {
        let Some(end) = rest[start..].find(close) else { break };
        out.push_str(&rest[..start]);
        rest = &rest[start + end + close.len()..];
    }
    out.push_str(rest);
    out
}

/// What Python's `str.split` and `str.isspace` take for white space; four control characters more than Unicode does.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The character references that `escape` writes and the numeric ones; Python knows 2,231 names.
fn unescape(text: &str) -> Result<String, Error> {
    const NAMES: [(&str, &str); 6] =
        [("amp", "&"), ("lt", "<"), ("gt", ">"), ("quot", "\""), ("apos", "'"), ("nbsp", "\u{a0}")];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let name_len =
            rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(rest.len() - 1);
        let (name, ended) = (&rest[1..=name_len], rest[1 + name_len..].starts_with(';'));
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
        let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, c)| (*c).to_owned());
        // HTML reads some numbers as other characters: those of C1 controls as Windows-1252, and refuses others.
        let numeric = number
            .filter(|number| (0x20..0x7f).contains(number) || (0xa0..0xd800).contains(number))
            .and_then(char::from_u32)
            .map(String::from);
        match known.or(numeric) {
            Some(c) if ended => {
                out.push_str(&c);
                rest = &rest[name_len + 2..];
            }
            // No reference has a name of one letter, as in `AT&T`.
            None if name.len() < 2 => {
                out.push('&');
                rest = &rest[1..];
            }
            _ => {
                return Err(unsupported(format!(
                    "`striptags` with the character reference `&{name}`; replace it first"
                )));
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

pub(super) fn xmlattr(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, autospace] = call.bind("xmlattr", ["d", "autospace"], 1)?;
    let value = value.unwrap_or_default();
    let Py::Dict(map) = classify(&value) else { return Err(wrong_type("`xmlattr`", &value)) };
    let mut attributes = Vec::new();
    for (key, member) in map.items() {
        if member.is_none() || member.is_undefined() {
            continue;
        }
        let Some(name) = as_text(&call.run, &key)? else {
            return Err(failed("the keys for `xmlattr` must be text"));
        };
        if name.contains([' ', '\t', '\n', '\r', '\u{c}', '\u{b}', '/', '>', '=']) {
            return Err(failed(format!("an attribute can't have the name {}", repr_of(&call.run, &key)?)));
        }
        let (plain, safe) = text_of(&call.run, &member)?;
        let escaped = if safe { plain } else { escape_html(&plain) };
        attributes.push(format!("{}=\"{escaped}\"", escape_html(name)));
    }
    let joined = attributes.join(" ");
    call.run.pay(joined.len())?;
    let space = if truth(autospace.as_ref(), true) && !joined.is_empty() { " " } else { "" };
    Ok(Value::from(format!("{space}{joined}")))
}
