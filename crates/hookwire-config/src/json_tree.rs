//! JSON (RFC 8259) into the tree.
//!
//! Invariants:
//! - A member that stands twice in one object is refused: one of the two would vanish.
//! - Nesting is bounded, so that no text overflows the stack.

use std::collections::HashSet;

use crate::syntax::{SyntaxError, TextMap};
use crate::tree::{Content, Key, Node, Span, Table};

/// How deep lists and objects may be nested; the same limit as that of an event's documents.
const DEPTH_MAX: usize = 100;

/// Reads a JSON file.
///
/// # Errors
/// The first place that is no JSON.
pub(crate) fn parse(file: usize, text: &str) -> Result<Node, SyntaxError> {
    parse_at(text, &|start, end| Span { file, start, end })
}

/// Reads JSON that stands inside a string of a file.
///
/// # Errors
/// The first place that is no JSON.
pub(crate) fn parse_within(text: &str, map: &TextMap) -> Result<Node, SyntaxError> {
    parse_at(text, &|start, end| map.span(start, end))
}

fn parse_at(text: &str, place: &dyn Fn(usize, usize) -> Span) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, at: 0, place };
    // Some editors put a byte order mark in front of UTF-8.
    if text.starts_with('\u{feff}') {
        parser.at = '\u{feff}'.len_utf8();
    }
    let node = parser.value(0)?;
    parser.blanks();
    if parser.at < text.len() {
        return Err(parser.error("nothing may stand after the end of the document"));
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    place: &'a dyn Fn(usize, usize) -> Span,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Something is wrong with the character here.
    fn error(&self, message: &str) -> SyntaxError {
        let width = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        let message = if width == 0 { format!("{message}, the text ends here") } else { message.to_owned() };
        SyntaxError { span: (self.place)(self.at, self.at + width), message }
    }

    fn error_since(&self, start: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError { span: (self.place)(start, self.at), message: message.into() }
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.blanks();
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        let content = match self.peek() {
            Some(b'{') => Content::Table(self.object(depth)?),
            Some(b'[') => Content::List(self.list(depth)?),
            Some(b'"') => Content::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { span: (self.place)(start, self.at), content })
    }

    fn object(&mut self, depth: usize) -> Result<Table, SyntaxError> {
        let mut members: Vec<(Key, Node)> = Vec::new();
        let mut names = HashSet::new();
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Table(members));
        }
        loop {
            self.blanks();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error("expected the name of a member, in double quotes"));
            }
            let name = self.string()?;
            let span = (self.place)(start, self.at);
            if !names.insert(name.clone()) {
                return Err(SyntaxError { span, message: format!("the member \"{name}\" is there twice") });
            }
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.error("expected `:` and the value of the member"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            members.push((Key { name, span }, value));
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Table(members));
                }
                _ => return Err(self.error("expected `,` and another member, or `}`")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(items);
                }
                _ => return Err(self.error("expected `,` and another item, or `]`")),
            }
        }
    }

    /// The delimiting is done here, the unescaping by serde_json.
    fn string(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.error_since(start, "this string has no closing quote")),
                Some(b'"') => break,
                Some(b'\\') if self.text.is_char_boundary(self.at + 2) => self.at += 2,
                // A backslash before a character of several bytes; serde_json refuses it below.
                Some(_) => self.at += 1,
            }
            while !self.text.is_char_boundary(self.at) {
                self.at += 1;
            }
        }
        self.at += 1;
        serde_json::from_str(&self.text[start..self.at]).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            self.error_since(start, format!("this string is not valid JSON: {message}"))
        })
    }

    fn number(&mut self) -> Result<Content, SyntaxError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let number =
            text.parse().map_err(|_| self.error_since(start, format!("{text} is no JSON number")))?;
        Ok(Content::Number(number))
    }

    fn word(&mut self) -> Result<Content, SyntaxError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        match &self.text[start..self.at] {
            "null" => Ok(Content::Null),
            "true" => Ok(Content::Bool(true)),
            "false" => Ok(Content::Bool(false)),
            "" => Err(self.error("expected a JSON value")),
            word => {
                Err(self.error_since(start, format!("`{word}` is no JSON value; strings need double quotes")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, place, message) in [
            ("", 0..0, "expected a JSON value, the text ends here"),
            ("{\"a\" 1}", 5..6, "expected `:`"),
            ("{\"a\": 1,}", 8..9, "expected the name of a member"),
            ("{\"a\": 1", 7..7, "expected `,` and another member, or `}`, the text ends here"),
            ("{'a': 1}", 1..2, "in double quotes"),
            ("{\"a\": 1, \"a\": 2}", 9..12, "the member \"a\" is there twice"),
            ("[1 2]", 3..4, "expected `,` and another item"),
            ("[yes]", 1..4, "`yes` is no JSON value"),
            ("[01]", 1..3, "01 is no JSON number"),
            ("[1-2]", 1..4, "1-2 is no JSON number"),
            ("[\"a]", 1..4, "no closing quote"),
            ("[\"\\é\"]", 1..6, "not valid JSON: invalid escape"),
            ("[\"\\ud800\"]", 1..9, "not valid JSON"),
            ("[é]", 1..3, "expected a JSON value"),
            ("[] []", 3..4, "nothing may stand after"),
        ] {
            let error = parse(0, text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert_eq!(error.span.start..error.span.end, place, "{text}");
        }
        let deep = "[".repeat(200_000);
        assert!(parse(0, &deep).unwrap_err().message.contains("nested too deep"));
    }

    #[test]
    fn a_member_is_found_twice_among_any_number() {
        let members: Vec<String> = (0..200_000).map(|index| format!("\"{index}\":0")).collect();
        let text = format!("{{{}}}", members.join(","));
        let Content::Table(Table(read)) = parse(0, &text).unwrap().content else { panic!("it is an object") };
        assert_eq!(read.len(), members.len());
        let error = parse(0, &format!("{},\"7\":1}}", &text[..text.len() - 1])).unwrap_err();
        assert_eq!(error.message, "the member \"7\" is there twice");
        assert_eq!(error.span.start, text.len());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?(e[+-]?[0-9]{1,2})?"
                .prop_map(|text| Value::Number(text.parse().unwrap())),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_reads_as_serde_reads_it(value in any_json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let node = parse(0, &text).unwrap();
                prop_assert_eq!(node.to_value().unwrap(), value.clone());
                prop_assert_eq!(&text[node.span.start..node.span.end], &text);
            }
        }

        #[test]
        fn nothing_breaks_it_and_it_takes_what_serde_takes(text in "[\\[\\]{}\":, a1é\\\\.e+-]{0,16}") {
            let ours = parse(0, &text).map(|node| node.to_value().unwrap());
            let theirs = serde_json::from_str::<Value>(&text);
            match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
                (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => prop_assert!(error.message.contains("twice"), "{}", error.message),
                (Ok(_), Err(error)) => prop_assert!(false, "taken, but {error}"),
            }
        }
    }
}
