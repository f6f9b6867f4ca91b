//! What is printed: the text for people, line for line as the documentation page has it, and the JSON lines for programs.
//!
//! Invariants:
//! - With default options the text is: first line, headers as they came, blank line, body, dashes; nothing else.
//! - A body is printed as text only if it is UTF-8 without control characters other than tab and line ends; everything else
//!   becomes a hex dump. In headers and request lines control characters are written as `\u{1b}`. Those that turn the
//!   direction of text, and the line ends U+2028 and U+2029, count among them.
//! - Output is written in pieces; nothing the size of a dump is built in memory.

use std::io::{self, Write};
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hookwire_model::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::Serialize;

use crate::indent;
use crate::options::{Format, Options};
use crate::script::Answer;
use crate::seen::Repeat;
use crate::verdict::Verdict;
use crate::wire::{Refused, Request};

const DASHES: &str = "------------";
const DUMP_WIDTH: usize = 16;

/// One request with all that is said about it.
pub(crate) struct Shown<'a> {
    pub(crate) number: u64,
    pub(crate) received_at: Timestamp,
    pub(crate) client: IpAddr,
    pub(crate) what: &'a Result<Request, Refused>,
    pub(crate) answer: Answer,
    /// `None` if no secret was given.
    pub(crate) verdict: Option<&'a Verdict>,
    pub(crate) repeat: Option<Repeat>,
}

/// Prints one request and flushes it.
pub(crate) fn print(out: &mut impl Write, shown: &Shown<'_>, options: &Options) -> io::Result<()> {
    match options.format {
        Format::Text => print_text(out, shown, options)?,
        Format::JsonLines => print_json(out, shown)?,
    }
    out.flush()
}

/// `Tue, 07 Apr 2020 17:44:02 GMT` (RFC 9110, section 5.6.7).
pub(crate) fn http_date(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.as_secs())
        .expect("a timestamp ends with the year 9999, which jiff can hold");
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .expect("years from 1970 to 9999 have the four digits of an HTTP date")
}

fn print_text(out: &mut impl Write, shown: &Shown<'_>, options: &Options) -> io::Result<()> {
    let line = match shown.what {
        Ok(request) => {
            format!("{} {} HTTP/1.{}", request.method, printable(request.target.as_bytes()), request.minor)
        }
        Err(Refused { line, .. }) if line.is_empty() => "-".to_owned(),
        Err(Refused { line, .. }) => printable(line),
    };
    let date = http_date(shown.received_at);
    let status = shown.answer.status().map_or_else(|| "-".to_owned(), |status| status.as_u16().to_string());
    writeln!(out, "[{}] {date} {} \"{line}\" {status} -", shown.number, shown.client)?;
    match shown.what {
        Ok(request) => {
            if options.show_headers {
                for (name, value) in &request.headers {
                    writeln!(out, "{name}: {}", printable(value))?;
                }
                writeln!(out)?;
            }
            print_body(out, request)?;
        }
        Err(Refused { refusal, .. }) => writeln!(out, "Refused: {refusal}")?,
    }
    if options.tell_repeats
        && let (Some(repeat), Ok(request)) = (shown.repeat, shown.what)
    {
        let id = printable(request.header("webhook-id").unwrap_or_default());
        let line = match repeat.accepted {
            Some(number) => format!("Duplicate: webhook-id {id} was accepted in [{number}] already"),
            None => format!("Retry: webhook-id {id} came first in [{}] and was not accepted", repeat.first),
        };
        writeln!(out, "{line}")?;
    }
    if let Some(verdict) = shown.verdict {
        for line in verdict.lines() {
            writeln!(out, "{}", printable(line.as_bytes()))?;
        }
    }
    writeln!(out, "{DASHES}")
}

fn print_body(out: &mut impl Write, request: &Request) -> io::Result<()> {
    if request.body.is_empty() {
        return Ok(());
    }
    let Some(text) = as_text(&request.body) else { return dump(out, &request.body) };
    if request.header("content-type").is_some_and(is_json_type) && indent::is_json(text) {
        indent::write_indented(out, text)?;
        return writeln!(out);
    }
    out.write_all(text.as_bytes())?;
    if text.ends_with('\n') { Ok(()) } else { writeln!(out) }
}

/// The body, if a terminal can be shown it as it is.
fn as_text(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    text.chars().all(|c| !drives_terminal(c) || matches!(c, '\t' | '\n' | '\r')).then_some(text)
}

/// `application/json` and the `+json` suffix (RFC 6839, section 3.1), whatever parameters follow.
fn is_json_type(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence == b"application/json" || (essence.contains(&b'/') && essence.ends_with(b"+json"))
}

/// UTF-8, else Latin-1 (what a header value was before anyone sent UTF-8).
fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Control characters, and those that turn the direction of text or end a line: with them a text looks like another.
fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Decoded, and with control characters escaped, so that they can't drive the terminal.
fn printable(bytes: &[u8]) -> String {
    let text = decode(bytes);
    let is_unsafe = |c: char| drives_terminal(c) && c != '\t';
    if !text.contains(is_unsafe) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Offset, sixteen bytes in hex, the same as ASCII; the length comes first.
fn dump(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let s = if bytes.len() == 1 { "" } else { "s" };
    writeln!(out, "Binary body, {} byte{s}:", bytes.len())?;
    for (index, row) in bytes.chunks(DUMP_WIDTH).enumerate() {
        write!(out, "{:08x} ", index * DUMP_WIDTH)?;
        for column in 0..DUMP_WIDTH {
            if column == DUMP_WIDTH / 2 {
                write!(out, " ")?;
            }
            match row.get(column) {
                Some(byte) => write!(out, " {byte:02x}")?,
                None => write!(out, "   ")?,
            }
        }
        let ascii: String = row
            .iter()
            .map(|&byte| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '.' })
            .collect();
        writeln!(out, "  |{ascii}|")?;
    }
    Ok(())
}

/// One line of JSON output. Every member is always there; null where it says nothing.
#[derive(Serialize)]
struct JsonLine<'a> {
    number: u64,
    /// RFC 3339, UTC, microseconds.
    received_at: String,
    client: IpAddr,
    method: Option<&'a str>,
    target: Option<&'a str>,
    headers: Option<Vec<(&'a str, String)>>,
    /// Null if it is not UTF-8.
    body: Option<&'a str>,
    body_base64: Option<String>,
    /// What was answered; null if the connection was closed or left hanging instead.
    status: Option<u16>,
    /// Null unless secrets were given.
    verdict: Option<&'a Verdict>,
    /// The same `webhook-id` was accepted before.
    duplicate: bool,
    /// The number of the first request with this `webhook-id`, if there was one before.
    first_number: Option<u64>,
    /// Why the request was not taken.
    refused: Option<String>,
}

fn print_json(out: &mut impl Write, shown: &Shown<'_>) -> io::Result<()> {
    let request = shown.what.as_ref().ok();
    let line = JsonLine {
        number: shown.number,
        received_at: shown.received_at.to_string(),
        client: shown.client,
        method: request.map(|request| &request.method[..]),
        target: request.map(|request| &request.target[..]),
        headers: request
            .map(|request| request.headers.iter().map(|(name, value)| (&name[..], decode(value))).collect()),
        body: request.and_then(|request| std::str::from_utf8(&request.body).ok()),
        body_base64: request.map(|request| BASE64_STANDARD.encode(&request.body)),
        status: shown.answer.status().map(|status| status.as_u16()),
        verdict: shown.verdict,
        duplicate: shown.repeat.is_some_and(|repeat| repeat.accepted.is_some()),
        first_number: shown.repeat.map(|repeat| repeat.first),
        refused: shown.what.as_ref().err().map(|refused| refused.refusal.to_string()),
    };
    line.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Printable))?;
    writeln!(out)
}

/// JSON as it is always written, but that characters which drive a terminal are escaped; as a value it is the same.
struct Printable;

impl serde_json::ser::Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| drives_terminal(*c)) {
            // All of them are in the basic plane.
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p16_the_date_is_the_one_of_the_page() {
        assert_eq!(http_date("2020-04-07T17:44:02.9Z".parse().unwrap()), "Tue, 07 Apr 2020 17:44:02 GMT");
    }

    #[test]
    fn json_lines_cannot_drive_the_terminal_either() {
        let text = "x\u{9b}31m\u{202e}y\u{7f}\n\u{feff}\u{1f600}\"";
        let mut line = Vec::new();
        text.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Printable)).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, "\"x\\u009b31m\\u202ey\\u007f\\n\u{feff}\u{1f600}\\\"\"");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }

    #[test]
    fn p16_json_is_told_by_content_type() {
        for (content_type, json) in [
            ("application/json", true),
            ("Application/JSON ; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("application/problem+json;x=y", true),
            ("application/x-www-form-urlencoded", false),
            ("text/json", false),
            ("application/json-seq", false),
            ("+json", false),
            ("text/plain; a=application/json", false),
            ("", false),
        ] {
            assert_eq!(is_json_type(content_type.as_bytes()), json, "{content_type}");
        }
    }

    #[test]
    fn p17_control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable(b"a\tb \x1b[31mred\x7f"), "a\tb \\u{1b}[31mred\\u{7f}");
        assert_eq!(printable("\u{9b}31m".as_bytes()), "\\u{9b}31m", "the one-character form of the same");
        assert_eq!(printable(b"caf\xe9 \x9b"), "café \\u{9b}", "Latin-1");
        assert_eq!(printable("Ĝis".as_bytes()), "Ĝis");
        assert_eq!(as_text(b"a\x1b[31m"), None);
        for c in "\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            let text = format!("a{c}b");
            assert_eq!(printable(text.as_bytes()), format!("a{}b", c.escape_unicode()));
            assert_eq!(as_text(text.as_bytes()), None);
        }
        // These join letters of many scripts, and belong to their text.
        assert_eq!(as_text("\u{200c}\u{200d}".as_bytes()), Some("\u{200c}\u{200d}"));
        assert_eq!(as_text("a\tb\r\nĉ".as_bytes()), Some("a\tb\r\nĉ"));
    }

    #[test]
    fn p16_hex_dump() {
        let mut out = Vec::new();
        let bytes: Vec<u8> = (0..=17).chain(*b"text|").chain([0xff]).collect();
        dump(&mut out, &bytes).unwrap();
        dump(&mut out, &[0]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        Binary body, 24 bytes:
        00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|
        00000010  10 11 74 65 78 74 7c ff                           |..text|.|
        Binary body, 1 byte:
        00000000  00                                                |.|
        ");
    }
}
