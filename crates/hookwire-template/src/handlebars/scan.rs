//! Finds the tags of a Handlebars source before it is parsed.
//!
//! The parser is recursive and aborts the process when its stack ends, so depth is measured here first. A tag
//! that this scan could read otherwise than the parser does is refused.
//!
//! Invariant: if [`scan`] accepts a source, the parser's depth on it is at most the limit.

use std::ops::Range;

use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::text::excerpt;

/// Tags of a source. Parsing costs tags times size, since the parser counts lines from the start for each.
const TAGS_MAX: usize = 4_000;

/// Scans a source: the byte ranges that are tags (comments and raw blocks among them), in order.
///
/// # Errors
/// If the source is nested deeper than `nesting_max`, has too many tags, or uses what is not carried over.
pub(crate) fn scan(source: &str, nesting_max: usize) -> Result<Vec<Range<usize>>, Fault> {
    let bytes = source.as_bytes();
    let mut tags = Vec::new();
    // For each open block where it begins, and the chained `else` in it, because each of them nests one
    // deeper.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while let Some(found) = memchr::memmem::find(&bytes[at..], b"{{") {
        let start = at + found;
        if tags.len() == TAGS_MAX {
            return Err(
                limit(format!("the template has more than {TAGS_MAX} tags")).at(Pos::of(source, start))
            );
        }
        // One backslash makes the braces text; two or more are backslashes before a tag.
        let backslashes = bytes[at..start].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes == 1 {
            at = start + if bytes[start..].starts_with(b"{{{") { 3 } else { 2 };
            continue;
        }
        let tag = read_tag(source, start)?;
        let fault_at = |fault: Fault| fault.at(Pos::of(source, start));
        match tag.kind {
            Kind::Open => {
                open.push((start, 0));
                depth += 1;
            }
            Kind::Else => {
                let Some((_, chained)) = open.last_mut() else {
                    return Err(fault_at(syntax("an `else` stands outside of a block")));
                };
                *chained += 1;
                depth += 1;
            }
            Kind::Close => {
                let Some((_, chained)) = open.pop() else {
                    return Err(fault_at(syntax("a block is closed that was never opened")));
                };
                depth -= chained + 1;
            }
            Kind::Other => {}
        }
        if depth + tag.depth > nesting_max {
            return Err(fault_at(limit(format!("the template is nested more than {nesting_max} deep"))));
        }
        at = tag.end;
        tags.push(start..tag.end);
    }
    match open.last() {
        None => Ok(tags),
        Some((start, _)) => {
            let tag = &source[tags.iter().find(|tag| tag.start == *start).cloned().unwrap_or_default()];
            Err(syntax(&format!("the block `{}` is never closed", excerpt(tag))).at(Pos::of(source, *start)))
        }
    }
}

fn syntax(message: &str) -> Fault {
    Fault::new(TemplateErrorKind::Syntax, message)
}

fn limit(message: String) -> Fault {
    Fault::new(TemplateErrorKind::Limit, message).remedy("split the template over several webhooks")
}

struct Tag {
    kind: Kind,
    end: usize,
    /// How deep its own brackets are nested.
    depth: usize,
}

enum Kind {
    Open,
    Else,
    Close,
    Other,
}

fn read_tag(source: &str, start: usize) -> Result<Tag, Fault> {
    let bytes = source.as_bytes();
    let place = |at: usize| Pos::of(source, at);
    let unclosed = || {
        Fault::new(TemplateErrorKind::Syntax, "a tag is opened and never closed")
            .remedy("close it with `}}`, or write `\\{{` for the braces themselves")
            .at(place(start))
    };
    let end_after = |from: usize, needle: &[u8]| {
        memchr::memmem::find(&bytes[from..], needle).map(|found| from + found + needle.len())
    };
    let rest = &bytes[start..];
    if rest.starts_with(b"{{!") {
        let long = rest.starts_with(b"{{!--").then(|| end_after(start + 5, b"--}}")).flatten();
        let end = match long {
            Some(end) => end,
            None => end_after(start + 3, b"}}").ok_or_else(unclosed)?,
        };
        return Ok(Tag { kind: Kind::Other, end, depth: 0 });
    }
    if rest.starts_with(b"{{{{") {
        // The text of a raw block reaches to the next four braces, which close it.
        let text = end_after(start, b"}}}}").ok_or_else(unclosed)?;
        let close = end_after(text, b"{{{{").ok_or_else(unclosed)?;
        let end = end_after(close, b"}}}}").ok_or_else(unclosed)?;
        return Ok(Tag { kind: Kind::Other, end, depth: 1 });
    }

    let mut at = start + 2;
    let skip_blanks = |at: &mut usize| {
        while bytes.get(*at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'~')) {
            *at += 1;
        }
    };
    skip_blanks(&mut at);
    let mut kind = Kind::Other;
    let mut braces_to_close = 2;
    match bytes.get(at) {
        Some(b'#') => {
            kind = Kind::Open;
            let mut next = at + 1;
            skip_blanks(&mut next);
            refuse_partials(bytes.get(next)).map_err(|fault| fault.at(place(start)))?;
        }
        Some(b'/') => kind = Kind::Close,
        Some(b'^') => kind = Kind::Else,
        Some(b'{') => braces_to_close = 3,
        Some(b'e') if is_else(&bytes[at..]) => kind = Kind::Else,
        other => refuse_partials(other).map_err(|fault| fault.at(place(start)))?,
    }
    if braces_to_close == 3 {
        at += 1;
    }
    let mut brackets: Vec<u8> = Vec::new();
    let mut depth = 0;
    loop {
        let byte = *bytes.get(at).ok_or_else(unclosed)?;
        match byte {
            b'"' | b'\'' => {
                if brackets.contains(&b']') {
                    // `["a]` may be the name of a member or the beginning of a list, and the parser tries
                    // both.
                    return Err(Fault::new(
                        TemplateErrorKind::Unsupported,
                        "quotes stand inside `[` and `]`",
                    )
                    .remedy("use `lookup` for a member whose name has quotes, and data for a list of strings")
                    .at(place(at)));
                }
                at = end_of_string(bytes, at).ok_or_else(unclosed)?;
                continue;
            }
            b'(' => brackets.push(b')'),
            b'[' => brackets.push(b']'),
            b'{' => brackets.push(b'}'),
            b')' | b']' if brackets.last() == Some(&byte) => {
                brackets.pop();
            }
            b'}' => {
                if brackets.last() == Some(&b'}') {
                    brackets.pop();
                } else if bytes[at..].starts_with(b"}}") || braces_to_close == 3 {
                    // `{{{ x }}}`, and `{{{ x } ~}}` with a blank or tilde between.
                    if braces_to_close == 3 {
                        at += 1;
                        skip_blanks(&mut at);
                    }
                    if !bytes[at..].starts_with(b"}}") {
                        return Err(unclosed());
                    }
                    return Ok(Tag { kind, end: at + 2, depth });
                }
            }
            _ => {}
        }
        depth = depth.max(brackets.len());
        at += 1;
    }
}

fn is_else(rest: &[u8]) -> bool {
    let Some(after) = rest.strip_prefix(b"else") else { return false };
    !after.first().is_some_and(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'$' | b':' | b'.' | b'/' | 0x80..)
    })
}

fn refuse_partials(byte: Option<&u8>) -> Result<(), Fault> {
    let unsupported =
        |message: &str, remedy: &str| Err(Fault::new(TemplateErrorKind::Unsupported, message).remedy(remedy));
    match byte {
        Some(b'>') => unsupported("partials are not supported", "write the text where it is needed"),
        Some(b'*') => unsupported(
            "decorators and inline partials are not supported",
            "write the text where it is needed",
        ),
        _ => Ok(()),
    }
}

/// The index after the closing quote of the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    let quote = bytes[at];
    let mut next = at + 1;
    loop {
        match *bytes.get(next)? {
            b'\\' => next += 2,
            byte if byte == quote => return Some(next + 1),
            _ => next += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(source: &str) -> Vec<&str> {
        scan(source, 8).unwrap().into_iter().map(|range| &source[range]).collect()
    }

    #[test]
    fn tags_are_found() {
        assert_eq!(tags("a{{b}}c{{{ d }}}e"), ["{{b}}", "{{{ d }}}"]);
        assert_eq!(tags(r"\{{b}} \\{{c}}"), ["{{c}}"]);
        assert_eq!(tags("{{!-- }} --}}x{{! y }}"), ["{{!-- }} --}}", "{{! y }}"]);
        assert_eq!(tags(r#"{{default x "}}"}}y"#), [r#"{{default x "}}"}}"#]);
        assert_eq!(tags("{{{{raw}}}}{{x}}{{{{/raw}}}}"), ["{{{{raw}}}}{{x}}{{{{/raw}}}}"]);
        assert_eq!(tags("{{#if a}}x{{~else if b~}}{{/if}}").len(), 3);
    }

    #[test]
    fn depth_counts_blocks_brackets_and_chained_else() {
        let nested = |count: usize| format!("{}x{}", "{{#if a}}".repeat(count), "{{/if}}".repeat(count));
        assert!(scan(&nested(8), 8).is_ok());
        assert_eq!(scan(&nested(9), 8).unwrap_err().kind, TemplateErrorKind::Limit);
        assert!(scan(&"{{#if a}}x{{/if}}".repeat(100), 1).is_ok());
        let chained = |count: usize| format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if b}}".repeat(count));
        assert!(scan(&chained(7), 8).is_ok());
        assert!(scan(&chained(8), 8).is_err());
        let calls = |count: usize| format!("{{{{not {}a{}}}}}", "(not ".repeat(count), ")".repeat(count));
        assert!(scan(&calls(8), 8).is_ok());
        assert!(scan(&calls(9), 8).is_err());
    }

    #[test]
    fn what_is_not_carried_over_is_named() {
        for source in ["{{> x}}", "{{#> x}}{{/x}}", "{{#*inline \"x\"}}{{/inline}}", "{{* x}}", "{{~ > x}}"] {
            assert_eq!(scan(source, 8).unwrap_err().kind, TemplateErrorKind::Unsupported, "{source}");
        }
        assert_eq!(scan("a {{ b", 8).unwrap_err().kind, TemplateErrorKind::Syntax);
    }
}
