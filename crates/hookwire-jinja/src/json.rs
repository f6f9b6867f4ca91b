//! `json.dumps` as Python writes it.
//!
//! Invariants
//! - The output is ASCII; floats are Python's shortest text; integers keep their digits.

use std::cmp::Ordering;
use std::fmt::Write as _;

use hookwire_json::{Content, Json, Node, push_node, push_string};
use minijinja::{Error, Value};
use serde_json::Value as Tree;

use crate::operators::compare;
use crate::print::{float_repr, number_repr};
use crate::run::{Run, failed, undefined_used};
use crate::value::{Map, Py, Seq, classify, type_name};

/// Python's `json.dumps(value)` with its default separators (`", "` and `": "`) and `ensure_ascii`.
pub fn json_dumps(value: Node<'_>) -> String {
    let mut out = String::new();
    json_dumps_into(value, &mut out);
    out
}

/// Appends [`json_dumps`] to `out`.
pub fn json_dumps_into(value: Node<'_>, out: &mut String) {
    match value.content() {
        Content::Null => out.push_str("null"),
        Content::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
        Content::Number(number) => push_number(out, number),
        Content::Text(text) => json_dumps_text(text, out),
        Content::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                json_dumps_into(item, out);
            }
            out.push(']');
        }
        Content::Object(members) => {
            out.push('{');
            for (index, (name, item)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                json_dumps_text(name, out);
                out.push_str(": ");
                json_dumps_into(item, out);
            }
            out.push('}');
        }
    }
}

/// `json.dumps(value, sort_keys=True, indent=indent)`, as the `tojson` filter calls it.
///
/// # Errors
/// What is not JSON: unknown values, ranges, generators, keys of mixed types; more than the rendering can pay for.
pub(crate) fn dumps_sorted(run: &Run, value: &Value, indent: Option<&str>) -> Result<String, Error> {
    let mut writer = Writer { run, indent, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    run: &'a Run,
    indent: Option<&'a str>,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let before = self.out.len();
        match classify(value) {
            Py::None => self.out.push_str("null"),
            Py::Bool(bool) => self.out.push_str(if bool { "true" } else { "false" }),
            Py::Int(int) => self.out.push_str(&int.to_string()),
            Py::BigInt(int) => self.out.push_str(int.digits()),
            Py::Float(float) => self.out.push_str(&float_json(float)),
            Py::Str(text) => json_dumps_text(text, &mut self.out),
            Py::Seq(Seq::Json(part)) | Py::Dict(Map::Json(part)) => return self.document(part.node(), depth),
            Py::Seq(seq) => return self.items(seq, depth),
            Py::Dict(map) => return self.members(map, depth),
            Py::Undefined => return Err(undefined_used()),
            _ => return Err(failed(format!("{} is not JSON; add `|list`", type_name(value)))),
        }
        self.run.pay(self.out.len() - before)
    }

    /// A part of a document, whose members are values already.
    fn document(&mut self, value: Node<'_>, depth: usize) -> Result<(), Error> {
        let before = self.out.len();
        match value.content() {
            Content::List(items) => {
                self.run.pay_items(items.len() + 1)?;
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, depth)?;
                    self.document(item, depth + 1)?;
                }
                return self.close(items.is_empty(), ']', depth);
            }
            Content::Object(members) => {
                self.run.pay_items(members.len() + 1)?;
                let mut members: Vec<(&str, Node<'_>)> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                self.out.push('{');
                for (index, (name, item)) in members.iter().enumerate() {
                    self.separate(index, depth)?;
                    json_dumps_text(name, &mut self.out);
                    self.out.push_str(": ");
                    self.document(*item, depth + 1)?;
                }
                return self.close(members.is_empty(), '}', depth);
            }
            _ => json_dumps_into(value, &mut self.out),
        }
        self.run.pay(self.out.len() - before)
    }

    fn items(&mut self, seq: Seq<'_>, depth: usize) -> Result<(), Error> {
        let items = seq.to_vec();
        self.run.pay_items(items.len() + 1)?;
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            self.separate(index, depth)?;
            self.value(item, depth + 1)?;
        }
        self.close(items.is_empty(), ']', depth)
    }

    fn members(&mut self, map: Map<'_>, depth: usize) -> Result<(), Error> {
        let mut members = map.items();
        self.run.pay_items(members.len() + 1)?;
        sort_keys(self.run, &mut members)?;
        self.out.push('{');
        for (index, (key, value)) in members.iter().enumerate() {
            self.separate(index, depth)?;
            self.key(key)?;
            self.out.push_str(": ");
            self.value(value, depth + 1)?;
        }
        self.close(members.is_empty(), '}', depth)
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match classify(key) {
            Py::Str(text) => json_dumps_text(text, &mut self.out),
            Py::None | Py::Bool(_) | Py::Int(_) | Py::BigInt(_) | Py::Float(_) => {
                self.out.push('"');
                self.value(key, 0)?;
                self.out.push('"');
            }
            _ => return Err(failed(format!("{} can't be a key in JSON", type_name(key)))),
        }
        Ok(())
    }

    fn separate(&mut self, index: usize, depth: usize) -> Result<(), Error> {
        match self.indent {
            Some(_) => {
                if index > 0 {
                    self.out.push(',');
                }
                self.new_line(depth + 1)
            }
            None => {
                if index > 0 {
                    self.out.push_str(", ");
                }
                Ok(())
            }
        }
    }

    fn close(&mut self, empty: bool, bracket: char, depth: usize) -> Result<(), Error> {
        if !empty && self.indent.is_some() {
            self.new_line(depth)?;
        }
        self.out.push(bracket);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) -> Result<(), Error> {
        let indent = self.indent.unwrap_or_default();
        self.run.pay(indent.len().saturating_mul(depth) + 1)?;
        self.out.push('\n');
        for _ in 0..depth {
            self.out.push_str(indent);
        }
        Ok(())
    }
}

fn sort_keys(run: &Run, members: &mut [(Value, Value)]) -> Result<(), Error> {
    let mut failure = None;
    members.sort_by(|(a, _), (b, _)| {
        compare(run, a, b)
            .unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            })
            .unwrap_or(Ordering::Equal)
    });
    failure.map_or(Ok(()), Err)
}

fn float_json(float: f64) -> String {
    if float.is_nan() {
        "NaN".into()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        float_repr(float)
    }
}

fn push_number(out: &mut String, text: &str) {
    let repr = number_repr(text);
    // `1e400` is a float beyond the largest.
    out.push_str(match repr.as_str() {
        "inf" => "Infinity",
        "-inf" => "-Infinity",
        repr => repr,
    });
}

/// Appends [`json_dumps`] of a string.
pub fn json_dumps_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string can't fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// Appends the value as compact JSON, members in their order.
///
/// # Errors
/// As [`dumps_sorted`].
pub(crate) fn compact_into(run: &Run, value: &Value, out: &mut String) -> Result<(), Error> {
    match classify(value) {
        Py::Seq(Seq::Json(part)) | Py::Dict(Map::Json(part)) => {
            run.pay_items(1)?;
            push_node(out, part.node());
        }
        // A name that two keys come to, such as 1 and "1", is one member: documents know about that.
        Py::Seq(_) | Py::Dict(_) => push_node(out, Json::from(to_json(run, value)?).root()),
        _ => scalar_into(run, value, out)?,
    }
    Ok(())
}

/// Appends what holds no other value.
fn scalar_into(run: &Run, value: &Value, out: &mut String) -> Result<(), Error> {
    run.pay_items(1)?;
    match classify(value) {
        Py::None => out.push_str("null"),
        Py::Bool(bool) => out.push_str(if bool { "true" } else { "false" }),
        // Writing to a string can't fail.
        Py::Int(int) => drop(write!(out, "{int}")),
        Py::BigInt(int) => out.push_str(int.digits()),
        Py::Float(float) if float.is_finite() => out.push_str(&float_repr(float)),
        Py::Float(_) => return Err(failed("NaN and infinity are not JSON")),
        Py::Str(text) => {
            run.pay(text.len())?;
            push_string(out, text);
        }
        Py::Undefined => return Err(undefined_used()),
        _ => return Err(failed(format!("{} is not JSON; add `|list`", type_name(value)))),
    }
    Ok(())
}

/// The value as serde_json's tree, members in their order.
///
/// # Errors
/// As [`dumps_sorted`].
fn to_json(run: &Run, value: &Value) -> Result<Tree, Error> {
    Ok(match classify(value) {
        Py::Seq(Seq::Json(part)) | Py::Dict(Map::Json(part)) => {
            run.pay_items(1)?;
            part.node().to_value()
        }
        Py::Seq(seq) => {
            run.pay_items(1)?;
            Tree::Array(seq.to_vec().iter().map(|item| to_json(run, item)).collect::<Result<_, _>>()?)
        }
        Py::Dict(map) => {
            run.pay_items(1)?;
            let mut members = serde_json::Map::new();
            for (key, member) in map.items() {
                let name = match classify(&key) {
                    Py::Str(text) => text.to_owned(),
                    _ => {
                        let mut writer = Writer { run, indent: None, out: String::new() };
                        writer.key(&key)?;
                        writer.out.trim_matches('"').to_owned()
                    }
                };
                members.insert(name, to_json(run, &member)?);
            }
            Tree::Object(members)
        }
        _ => {
            let mut text = String::new();
            scalar_into(run, value, &mut text)?;
            serde_json::from_str(&text).map_err(|_| failed("a number that JSON can't write"))?
        }
    })
}
