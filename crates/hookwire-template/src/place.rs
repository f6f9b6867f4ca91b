//! Where a value goes, and how it is written there: escaping follows the place.
//!
//! Invariants
//! - With escaping on, a value that is printed stays one value: it can't end a JSON string, add a form field,
//!   leave a URL's path segment or add a header line.
//! - The text never grows past its limit.
//!
//! In JSON there are two places, inside and outside of string literals. The text before a value decides, so a
//! lexer follows the literal text; a value, once escaped, can't change the place it stands in, so the lexer
//! skips it.

use hookwire_json::push_string_content;

use crate::error::{Fault, TemplateErrorKind};
use crate::headers;
use crate::json::{self, Lexer};

/// What a template's text is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A JSON document.
    Json,
    /// A body of `application/x-www-form-urlencoded`.
    Form,
    /// A URL.
    Url,
    /// Header lines.
    Headers,
    /// Anything else, or anything at all with escaping off.
    Text,
}

impl Place {
    /// The place of a body, by its content type.
    pub(crate) fn of_body(content_type: &str) -> Place {
        if json::is_json(content_type) {
            Place::Json
        } else if json::essence(content_type) == "application/x-www-form-urlencoded" {
            Place::Form
        } else {
            Place::Text
        }
    }
}

/// A value on its way into the text, as its engine prints it.
pub(crate) trait Print {
    /// The value if it is a string.
    fn as_text(&self) -> Option<&str>;
    /// Appends the value as the engine prints it into plain text.
    fn print(&self, out: &mut String);
    /// Appends the value as JSON.
    fn print_json(&self, out: &mut String);
    /// Whether it is a list or an object, which prints as JSON inside a JSON string.
    fn is_container(&self) -> bool;
}

/// The text that a template renders to.
#[derive(Debug)]
pub(crate) struct Sink {
    out: String,
    place: Place,
    bytes_max: usize,
    lexer: Lexer,
    /// How far the lexer has come; everything after it is literal text.
    scanned: usize,
    /// Whether a value was written escaped.
    escaped: bool,
    scratch: String,
}

impl Sink {
    pub(crate) fn new(place: Place, bytes_max: usize, capacity: usize) -> Sink {
        Sink {
            out: String::with_capacity(capacity.min(bytes_max)),
            place,
            bytes_max,
            lexer: Lexer::default(),
            scanned: 0,
            escaped: false,
            scratch: String::new(),
        }
    }

    /// Forgets what was appended.
    pub(crate) fn clear(&mut self) {
        self.out.clear();
        self.lexer = Lexer::default();
        self.scanned = 0;
        self.escaped = false;
    }

    /// Appends text of the template itself, or of a value that the template leaves unescaped.
    pub(crate) fn literal(&mut self, text: &str) -> Result<(), Fault> {
        self.out.push_str(text);
        self.check_length()
    }

    /// Appends text whose values are escaped already.
    pub(crate) fn escaped(&mut self, text: &str) -> Result<(), Fault> {
        self.escaped = true;
        self.literal(text)
    }

    /// Appends a value as its engine prints it, without escaping.
    pub(crate) fn value_raw(&mut self, value: &impl Print) -> Result<(), Fault> {
        value.print(&mut self.out);
        self.check_length()
    }

    /// Appends a value, escaped for the place where it stands.
    pub(crate) fn value(&mut self, value: &impl Print) -> Result<(), Fault> {
        self.escaped = true;
        match self.place {
            Place::Text => value.print(&mut self.out),
            Place::Json => {
                if self.inside_string()? {
                    self.with_text(value, value.is_container(), push_string_content);
                } else {
                    value.print_json(&mut self.out);
                }
                self.scanned = self.out.len();
            }
            Place::Form | Place::Url => self.with_text(value, false, push_percent_encoded),
            Place::Headers => {
                let start = self.out.len();
                value.print(&mut self.out);
                headers::check_value_adds_no_line(&self.out[start..])?;
            }
        }
        self.check_length()
    }

    /// Appends JSON that the template asked for by name: as it is outside a JSON string, as its text inside.
    pub(crate) fn json(&mut self, value: &impl Print) -> Result<(), Fault> {
        self.escaped = true;
        match self.place {
            Place::Text => value.print_json(&mut self.out),
            Place::Json => {
                if self.inside_string()? {
                    self.with_text(value, true, push_string_content);
                } else {
                    value.print_json(&mut self.out);
                }
                self.scanned = self.out.len();
            }
            Place::Form | Place::Url => self.with_text(value, true, push_percent_encoded),
            // JSON holds no line ends but those of U+2028 and the like.
            Place::Headers => {
                let start = self.out.len();
                value.print_json(&mut self.out);
                headers::check_value_adds_no_line(&self.out[start..])?;
            }
        }
        self.check_length()
    }

    /// Whether a value was written escaped.
    pub(crate) fn wrote_escaped(&self) -> bool {
        self.escaped
    }

    pub(crate) fn into_text(self) -> String {
        self.out
    }

    fn inside_string(&mut self) -> Result<bool, Fault> {
        self.lexer.advance(&self.out.as_bytes()[self.scanned..]);
        self.scanned = self.out.len();
        match self.lexer {
            Lexer::Outside => Ok(false),
            Lexer::Inside => Ok(true),
            Lexer::Escape => {
                Err(Fault::new(TemplateErrorKind::NotJson, "a backslash stands right before a value")
                    .remedy("write two backslashes, or none"))
            }
        }
    }

    fn with_text(&mut self, value: &impl Print, as_json: bool, escape: fn(&mut String, &str)) {
        if let (Some(text), false) = (value.as_text(), as_json) {
            escape(&mut self.out, text);
            return;
        }
        self.scratch.clear();
        if as_json {
            value.print_json(&mut self.scratch);
        } else {
            value.print(&mut self.scratch);
        }
        escape(&mut self.out, &self.scratch);
    }

    fn check_length(&self) -> Result<(), Fault> {
        if self.out.len() <= self.bytes_max {
            return Ok(());
        }
        Err(Fault::new(
            TemplateErrorKind::Limit,
            format!("the rendered text is longer than {} bytes", self.bytes_max),
        )
        .remedy("print less of the data"))
    }
}

/// Appends a text with everything but RFC 3986's unreserved characters percent-encoded, as UTF-8.
pub(crate) fn push_percent_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            push_percent(out, byte);
        }
    }
}

/// Appends one byte as `%XX`.
pub(crate) fn push_percent(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}
