//! JSON as text: where in it a place lies, and whether a text is JSON at all.

use serde::de::IgnoredAny;

use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::text::{excerpt, floor_boundary};

/// Tells whether the end of a JSON text, read in pieces, lies inside a string literal.
///
/// It follows quotes and backslashes only, so that it works on any text; whether the whole is JSON is checked
/// at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Lexer {
    #[default]
    Outside,
    Inside,
    /// Inside, after a backslash.
    Escape,
}

impl Lexer {
    pub(crate) fn advance(&mut self, text: &[u8]) {
        let mut rest = text.iter();
        loop {
            // Where it stands changes every few bytes, too often for a search that has to be set up.
            *self = match self {
                Lexer::Outside => match rest.find(|byte| **byte == b'"') {
                    Some(_) => Lexer::Inside,
                    None => return,
                },
                Lexer::Inside => match rest.find(|byte| matches!(byte, b'"' | b'\\')) {
                    Some(b'"') => Lexer::Outside,
                    Some(_) => Lexer::Escape,
                    None => return,
                },
                Lexer::Escape => match rest.next() {
                    Some(_) => Lexer::Inside,
                    None => return,
                },
            };
        }
    }
}

/// Whether a media type means JSON: `application/json`, `text/json`, or anything with the suffix `+json` (RFC
/// 6839).
pub(crate) fn is_json(content_type: &str) -> bool {
    let media_type = essence(content_type);
    media_type == "application/json" || media_type == "text/json" || media_type.ends_with("+json")
}

/// The media type without parameters, in lower case.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Checks that a rendered body is JSON.
///
/// # Errors
/// With line, column and an excerpt of the rendered body.
pub(crate) fn check(body: &str) -> Result<(), Fault> {
    let Err(error) = serde_json::from_str::<IgnoredAny>(body) else { return Ok(()) };
    let fault = |message: String| Fault::new(TemplateErrorKind::NotJson, message);
    if body.trim().is_empty() {
        return Err(fault("the rendered body is empty, which is not JSON".into())
            .remedy("leave `body_template` out for the default body, or set another `content_type`"));
    }
    // serde_json counts columns in bytes; 0 means the end of the line before.
    let line_start = match error.line() {
        0 | 1 => 0,
        line => memchr::memchr_iter(b'\n', body.as_bytes()).nth(line - 2).map_or(0, |newline| newline + 1),
    };
    let at = floor_boundary(body, line_start + error.column().saturating_sub(1));
    let start = floor_boundary(body, at.saturating_sub(30));
    let end = floor_boundary(body, at + 30);
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    Err(fault(format!(
        "the rendered body is not JSON: {reason}, near `{}⟨here⟩{}`",
        excerpt(&body[start..at]),
        excerpt(&body[at..end])
    ))
    .remedy("mend the template, set another `content_type`, or `escape = \"none\"` to send it as it is")
    .at(Pos::of(body, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lexer_knows_strings() {
        for (text, expected) in [
            ("", Lexer::Outside),
            (r#"{"a": "#, Lexer::Outside),
            (r#"{"a": ""#, Lexer::Inside),
            (r#"{"a": "\""#, Lexer::Inside),
            (r#"{"a": "\"#, Lexer::Escape),
            (r#"{"a": "\\""#, Lexer::Outside),
        ] {
            let mut whole = Lexer::default();
            whole.advance(text.as_bytes());
            assert_eq!(whole, expected, "{text}");
            let mut pieces = Lexer::default();
            text.as_bytes().chunks(1).for_each(|piece| pieces.advance(piece));
            assert_eq!(pieces, expected, "{text} in pieces");
        }
    }

    #[test]
    fn media_types() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("text/plain", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(is_json(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn what_is_not_json_is_told_with_its_place() {
        let error = check("{\"a\": 1,\n \"b\": \"ä\" x}").unwrap_err();
        assert_eq!(error.pos, Some(Pos { line: 2, column: 11 }));
        insta::assert_snapshot!(error.message, @"the rendered body is not JSON: expected `,` or `}`, near `{\"a\": 1,\\n \"b\": \"ä\" ⟨here⟩x}`");
        assert!(check("{\"a\": 1").is_err());
        assert!(check(" ").is_err());
        assert!(check("[1.0, 123456789012345678901234567890]").is_ok());
    }
}
