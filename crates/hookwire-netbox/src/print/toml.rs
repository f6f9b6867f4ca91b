//! TOML text: tables, strings in the form that needs the fewest escapes, and documents on lines that fit.
//!
//! Invariant: what TOML 1.0 cannot say (null, integers beyond 64 bits, numbers that are infinite as a float) is written
//! as JSON in a string, which definitions take in the place of a document.

use std::fmt::Write as _;

use serde_json::Value;

/// The longest line, in characters, as long as the text can be broken at all.
const WIDTH: usize = 100;

/// Lines of comment.
pub(super) fn comments(out: &mut String, lines: &[String]) {
    for line in lines.iter().flat_map(|line| line.split(['\n', '\r'])) {
        // TOML forbids control characters in comments, and a description may hold any.
        let line = line.replace(|c: char| c.is_control() && c != '\t', " ");
        let _ = match line.trim_end() {
            "" => writeln!(out, "#"),
            line => writeln!(out, "# {line}"),
        };
    }
}

/// One `[[list]]` entry.
pub(super) fn table(out: &mut String, list: &str, above: &[String], members: &[(&str, Value)]) {
    if !out.is_empty() {
        out.push('\n');
    }
    comments(out, above);
    let _ = writeln!(out, "[[{list}]]");
    for (name, value) in members {
        let first = name.chars().count() + " = ".len();
        let text = match value {
            Value::String(text) => string(text),
            value if can_say(value) => layout(value, 0, first),
            value => json_string(value, first),
        };
        let _ = writeln!(out, "{name} = {text}");
    }
}

/// Whether TOML can say it.
fn can_say(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => {
            let text = number.to_string();
            match text.bytes().all(|b| b == b'-' || b.is_ascii_digit()) {
                true => text.parse::<i64>().is_ok(),
                false => text.parse::<f64>().is_ok_and(f64::is_finite),
            }
        }
        Value::Array(items) => items.iter().all(can_say),
        Value::Object(members) => members.values().all(can_say),
    }
}

/// A value on one line if that fits, else its lists with an item a line. Tables cannot be broken in TOML 1.0, but lists
/// within them can. `indent` is how far the line is set in, `before` what stands on it already.
fn layout(value: &Value, indent: usize, before: usize) -> String {
    let line = inline(value);
    if indent + before + line.chars().count() <= WIDTH {
        return line;
    }
    match value {
        Value::Array(items) if !items.is_empty() => {
            let mut out = "[\n".to_owned();
            for item in items {
                let item = layout(item, indent + 4, 1);
                let _ = writeln!(out, "{:indent$}    {item},", "");
            }
            let _ = write!(out, "{:indent$}]", "");
            out
        }
        Value::Object(members) if !members.is_empty() => {
            let parts = members.iter().map(|(name, value)| {
                let name = key(name);
                let before = before + name.chars().count() + "{  =  }".len();
                format!("{name} = {}", layout(value, indent, before))
            });
            format!("{{ {} }}", parts.collect::<Vec<_>>().join(", "))
        }
        _ => line,
    }
}

fn inline(value: &Value) -> String {
    match value {
        // Null is not among what TOML can say.
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => single_line(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
    }
}

/// A document as JSON in a string.
fn json_string(value: &Value, before: usize) -> String {
    let line = string(&spaced(value));
    let fits = before + line.chars().count() <= WIDTH;
    if fits { line } else { string(&format!("{value:#}\n")) }
}

/// JSON on one line, with the spaces that people write.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) => {
            let one = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), spaced(value))
            };
            let members: Vec<String> = members.iter().map(one).collect();
            format!("{{{}}}", members.join(", "))
        }
        value => value.to_string(),
    }
}

/// A key, bare where it can be.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { basic(name) }
}

/// A string of one or more lines.
fn string(text: &str) -> String {
    if !text.contains('\n') {
        return single_line(text);
    }
    if !text.contains("'''") && !text.ends_with('\'') && !has_controls(text) {
        return format!("'''\n{text}'''");
    }
    let mut out = "\"\"\"\n".to_owned();
    let mut quotes = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        quotes = if c == '"' { quotes + 1 } else { 0 };
        match c {
            '\n' | '\t' => out.push(c),
            // Three in a row would end the string, and one at its end would belong to it.
            '"' if quotes < 3 && chars.peek().is_some() => out.push(c),
            c => {
                quotes = 0;
                escape(&mut out, c);
            }
        }
    }
    out + "\"\"\""
}

/// A string on one line.
fn single_line(text: &str) -> String {
    if has_controls(text) || text.contains('\n') || !text.contains(['"', '\\']) {
        return basic(text);
    }
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    if !text.contains("'''") && !text.starts_with('\'') && !text.ends_with('\'') {
        return format!("'''{text}'''");
    }
    basic(text)
}

/// A string in double quotes.
fn basic(text: &str) -> String {
    let mut out = "\"".to_owned();
    text.chars().for_each(|c| escape(&mut out, c));
    out + "\""
}

/// Whether there is something that a literal string cannot hold, or that nobody would see.
fn has_controls(text: &str) -> bool {
    text.chars().any(|c| invisible(c) && !matches!(c, '\n' | '\t'))
}

fn invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

fn escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if invisible(c) => _ = write!(out, "\\u{:04X}", u32::from(c)),
        c => out.push(c),
    }
}
