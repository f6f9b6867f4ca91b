//! Rendered header lines become names and values, as NetBox splits them, and are checked against what HTTP
//! allows.
//!
//! Invariants
//! - A name is a token (RFC 9110 section 5.1); a value is Latin-1 without controls other than the tab.
//! - Names that the connection, the signature or the record own are never set by a template.
//! - A name, in any spelling, comes out once.

use std::collections::HashMap;

use bytes::Bytes;

use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::text::excerpt;

/// Headers that belong to whoever sends the request, and why.
const RESERVED: &[(&str, &str)] = &[
    ("host", "it follows from the URL"),
    ("content-length", "it follows from the body"),
    ("transfer-encoding", "it belongs to the connection"),
    ("connection", "it belongs to the connection"),
    ("keep-alive", "it belongs to the connection"),
    ("proxy-connection", "it belongs to the connection"),
    ("te", "it belongs to the connection"),
    ("trailer", "it belongs to the connection"),
    ("upgrade", "it belongs to the connection"),
    ("expect", "it belongs to the connection"),
    ("user-agent", "hookwire names itself"),
    ("webhook-id", "it carries the delivery id"),
    ("webhook-attempt", "it carries the number of the attempt"),
    ("webhook-sequence", "it carries the event's place in the order of its object"),
    ("webhook-timestamp", "the signature covers it"),
    ("webhook-signature", "it carries the signature"),
];

/// The characters at which Python's `str.splitlines` ends a line.
pub(crate) fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The lines of a text as Python's `str.splitlines` has them, each with its offset.
pub(crate) fn split_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        let end = rest.find(ends_line).unwrap_or(rest.len());
        let line = &rest[..end];
        at += end;
        if let Some(c) = rest[end..].chars().next() {
            at += if rest[end..].starts_with("\r\n") { 2 } else { c.len_utf8() };
        }
        Some((start, line))
    })
}

/// Refuses a value that would end its line.
pub(crate) fn check_value_adds_no_line(value: &str) -> Result<(), Fault> {
    match value.chars().find(|c| ends_line(*c)) {
        None => Ok(()),
        Some(c) => Err(Fault::new(
            TemplateErrorKind::InvalidHeader,
            format!("the value `{}` holds {c:?}, which ends a header line", excerpt(value)),
        )
        .remedy("print a part of it that has one line, or its JSON: `{{json value}}`, with Jinja `{{ value|tojson }}`")),
    }
}

/// Splits rendered lines into headers, in order.
///
/// A later line of the same name replaces spelling and value of the earlier one, at its place. A line without
/// a colon is an error if `strict`, else it is skipped, as NetBox does.
///
/// # Errors
/// For the first line that can't be sent.
pub(crate) fn parse(rendered: &str, strict: bool) -> Result<Vec<(String, Bytes)>, Fault> {
    let mut headers = Headers::default();
    for (offset, line) in split_lines(rendered) {
        let Some((name, value)) = line.split_once(':') else {
            if strict && !line.trim().is_empty() {
                return Err(no_colon(line).at(Pos::of(rendered, offset)));
            }
            continue;
        };
        let (name, value) = (python_strip(name), python_strip(value));
        check_name(name).map_err(|fault| fault.at(Pos::of(rendered, offset)))?;
        let value = encode(name, value).map_err(|fault| fault.at(Pos::of(rendered, offset)))?;
        headers.set(name, value);
    }
    Ok(headers.list)
}

/// Up to so many headers are looked through for a name, which every delivery does; more have a table.
const FEW: usize = 16;

/// Headers, each name once.
#[derive(Default)]
struct Headers {
    list: Vec<(String, Bytes)>,
    /// Where each name stands, in lower case; empty while they are few.
    places: HashMap<String, usize>,
}

impl Headers {
    /// Adds a header, in the place of one of the same name if there is one.
    fn set(&mut self, name: &str, value: Bytes) {
        let header = (name.to_owned(), value);
        let place = if self.list.len() <= FEW {
            self.list.iter().position(|(have, _)| have.eq_ignore_ascii_case(name))
        } else {
            if self.places.is_empty() {
                let names = self.list.iter().map(|(name, _)| name.to_ascii_lowercase());
                self.places = names.zip(0..).collect();
            }
            let next = self.list.len();
            let place = *self.places.entry(name.to_ascii_lowercase()).or_insert(next);
            (place < next).then_some(place)
        };
        match place {
            Some(place) => self.list[place] = header,
            None => self.list.push(header),
        }
    }
}

pub(crate) fn no_colon(line: &str) -> Fault {
    Fault::new(TemplateErrorKind::InvalidHeader, format!("the line `{}` has no colon", excerpt(line.trim())))
        .remedy("write `Name: value`, one a line")
}

/// Refuses a name that HTTP forbids or that is not the template's to set.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let invalid = |message: String| Fault::new(TemplateErrorKind::InvalidHeader, message);
    if name.is_empty() {
        return Err(invalid("a header has no name before its colon".into()));
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if let Some(c) = name.chars().find(|c| !is_token(*c)) {
        return Err(invalid(format!(
            "the header name `{}` holds {c:?}, which HTTP forbids there",
            excerpt(name)
        )));
    }
    match RESERVED.iter().find(|(reserved, _)| name.eq_ignore_ascii_case(reserved)) {
        Some((_, reason)) => {
            Err(invalid(format!("the header {name} can't be set by a webhook: {reason}"))
                .remedy("leave it out"))
        }
        None => Ok(()),
    }
}

/// A header's value as the bytes of Latin-1, which is what HTTP carries and NetBox sends.
fn encode(name: &str, value: &str) -> Result<Bytes, Fault> {
    let mut bytes = Vec::with_capacity(value.len());
    for c in value.chars() {
        match u8::try_from(c) {
            Ok(byte @ (b'\t' | b' '..=b'~' | 0x80..)) => bytes.push(byte),
            Ok(_) => {
                return Err(Fault::new(
                    TemplateErrorKind::InvalidHeader,
                    format!("the value of {name} holds the control character {c:?}, which HTTP forbids"),
                ));
            }
            Err(_) => {
                return Err(Fault::new(
                    TemplateErrorKind::InvalidHeader,
                    format!("the value of {name} holds {c:?}, and headers hold Latin-1 only"),
                )
                .remedy(
                    "print it percent-encoded: `{{urlencode value}}`, with Jinja `{{ value|urlencode }}`",
                ));
            }
        }
    }
    Ok(bytes.into())
}

/// Python's `str.strip`: its white space has the separators \x1c to \x1f on top of Unicode's.
fn python_strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\x1c'..='\x1f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        let text = "a\r\nb\n\nc\x0bd\x0ce\x1cf\u{85}g\u{2028}h\r";
        let lines: Vec<&str> = split_lines(text).map(|(_, line)| line).collect();
        assert_eq!(lines, ["a", "b", "", "c", "d", "e", "f", "g", "h"]);
        assert!(split_lines(text).all(|(at, line)| text[at..].starts_with(line)));
        assert_eq!(split_lines("").count(), 0);
    }

    #[test]
    fn headers_are_split_as_netbox_splits_them() {
        let headers = parse("X-A :  1  \nno colon\nX-B:\nX-a: 3\nX-Ü: 1", false);
        assert!(headers.unwrap_err().message.contains("X-Ü"));
        let headers = parse("X-A :  1  \nno colon\nX-B:\nX-a: é", false).unwrap();
        assert_eq!(headers, [("X-a".into(), Bytes::from_static(b"\xe9")), ("X-B".into(), Bytes::new())]);
        // As many as a text may hold; each finds its name without a look at all the others.
        let many: String = (0..200_000).map(|index| format!("x{}:{index}\n", index % 100_000)).collect();
        let headers = parse(&many, true).unwrap();
        assert_eq!(headers.len(), 100_000);
        assert_eq!(headers[7], ("x7".into(), Bytes::from_static(b"100007")));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let messages: Vec<String> = [
            ": novalue",
            "X A: 1",
            "# note: 1",
            "X-A: a\0b",
            "X-A: a\x7fb",
            "X-A: €",
            "Content-Length: 5",
            "transfer-encoding: chunked",
            "Connection: close",
            "Host: a",
            "User-Agent: me",
            "webhook-id: 1",
            "X-A: 1\nno colon",
        ]
        .map(|lines| {
            let fault = parse(lines, true).expect_err(lines);
            let remedy = fault.remedy.as_deref().unwrap_or("-");
            format!("{:?} {}: {}; {remedy}", lines, fault.pos.unwrap().line, fault.message)
        })
        .to_vec();
        insta::assert_snapshot!(messages.join("\n"));
    }
}
