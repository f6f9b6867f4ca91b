//! `json.dumps` as Python writes it.
//!
//! Invariants
//! - The output is ASCII; floats are Python's shortest text; integers keep their digits.

use std::cmp::Ordering;
use std::fmt::Write as _;

use minijinja::{Error, Value};
use serde_json::Value as Json;

use crate::operators::compare;
use crate::print::{float_repr, number_repr};
use crate::run::{Run, failed, undefined_used};
use crate::value::{Map, Py, Seq, classify, type_name};

/// Python's `json.dumps(value)` with its default separators (`", "` and `": "`) and `ensure_ascii`.
pub fn json_dumps(value: &Json) -> String {
    let mut out = String::new();
    json_dumps_into(value, &mut out);
    out
}

/// Appends [`json_dumps`] to `out`.
pub fn json_dumps_into(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Json::Number(number) => push_number(out, number.as_str()),
        Json::String(text) => push_text(out, text),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                json_dumps_into(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (name, item)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                push_text(out, name);
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
            Py::Str(text) => push_text(&mut self.out, text),
            Py::Seq(Seq::Json(node)) | Py::Dict(Map::Json(node)) => return self.document(node.json(), depth),
            Py::Seq(seq) => return self.items(seq, depth),
            Py::Dict(map) => return self.members(map, depth),
            Py::Undefined => return Err(undefined_used()),
            _ => return Err(failed(format!("{} is not JSON; add `|list`", type_name(value)))),
        }
        self.run.pay(self.out.len() - before)
    }

    /// A part of a document, whose members are values already.
    fn document(&mut self, json: &Json, depth: usize) -> Result<(), Error> {
        let before = self.out.len();
        match json {
            Json::Array(items) => {
                self.run.pay_items(items.len() + 1)?;
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, depth)?;
                    self.document(item, depth + 1)?;
                }
                return self.close(items.is_empty(), ']', depth);
            }
            Json::Object(members) => {
                self.run.pay_items(members.len() + 1)?;
                let mut members: Vec<(&String, &Json)> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                self.out.push('{');
                for (index, (name, item)) in members.iter().enumerate() {
                    self.separate(index, depth)?;
                    push_text(&mut self.out, name);
                    self.out.push_str(": ");
                    self.document(item, depth + 1)?;
                }
                return self.close(members.is_empty(), '}', depth);
            }
            scalar => json_dumps_into(scalar, &mut self.out),
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
            Py::Str(text) => push_text(&mut self.out, text),
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

fn push_text(out: &mut String, text: &str) {
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

/// The value as a JSON document, members in their order.
///
/// # Errors
/// As [`dumps_sorted`].
pub(crate) fn to_json(run: &Run, value: &Value) -> Result<Json, Error> {
    run.pay_items(1)?;
    Ok(match classify(value) {
        Py::None => Json::Null,
        Py::Bool(bool) => Json::Bool(bool),
        Py::Int(int) => parse_json_number(&int.to_string())?,
        Py::BigInt(int) => parse_json_number(int.digits())?,
        Py::Float(float) if float.is_finite() => parse_json_number(&float_repr(float))?,
        Py::Float(_) => return Err(failed("NaN and infinity are not JSON")),
        Py::Str(text) => {
            run.pay(text.len())?;
            Json::String(text.to_owned())
        }
        Py::Seq(Seq::Json(node)) | Py::Dict(Map::Json(node)) => node.json().clone(),
        Py::Seq(seq) => {
            Json::Array(seq.to_vec().iter().map(|item| to_json(run, item)).collect::<Result<_, _>>()?)
        }
        Py::Dict(map) => {
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
            Json::Object(members)
        }
        Py::Undefined => return Err(undefined_used()),
        _ => return Err(failed(format!("{} is not JSON; add `|list`", type_name(value)))),
    })
}

fn parse_json_number(text: &str) -> Result<Json, Error> {
    serde_json::from_str(text).map_err(|_| failed("a number that JSON can't write"))
}
