//! Secrets in the lines of a file that are shown: each of their bytes becomes a `*`.
//!
//! Invariants:
//! - Offsets and lines stay as they are, so that every span still names its place.
//! - A file that could not be parsed is masked by the look of its lines, rather too much than too little.

use std::ops::Range;

use hookwire_definitions::CREDENTIALS;

use crate::problem::Source;
use crate::tree::{Content, Node, Span, Table};

/// Members whose values are secrets.
const SECRETS: [&str; 3] = ["secret", "previous_secrets", "signing_key"];

/// The files with their secrets masked. `roots` are the trees of those that have one.
pub(crate) fn masked(sources: &[Source], roots: &[Node]) -> Vec<Source> {
    let mut spans = Vec::new();
    roots.iter().for_each(|root| find(root, &mut spans));
    let parsed: Vec<usize> = roots.iter().map(|root| root.span.file).collect();
    let mask = |(file, source): (usize, &Source)| {
        let mut text = source.text.clone().into_bytes();
        if parsed.contains(&file) {
            for span in spans.iter().filter(|span| span.file == file) {
                mask_value(&mut text[span.start..span.end]);
            }
        } else {
            mask_by_look(&source.text, &mut text);
        }
        mask_credentials(&source.text, &mut text);
        // Whole values were replaced, so no character was cut in half.
        Source { path: source.path.clone(), text: String::from_utf8_lossy(&text).into_owned() }
    };
    sources.iter().enumerate().map(mask).collect()
}

/// A text with the credentials in it masked: of URLs and of headers.
pub(crate) fn text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for Range { start, end } in credentials(text) {
        masked += &text[from..start];
        // A user and a password stay two, so that the URL stays one.
        masked += match (&text[..start], &text[start..end]) {
            (before, login) if before.ends_with("://") && login.contains(':') => "***:***",
            (before, _) if before.ends_with("://") || before.ends_with('=') => "***",
            _ => " ***",
        };
        from = end;
    }
    masked + &text[from..]
}

/// The places of secrets in a tree.
fn find(node: &Node, spans: &mut Vec<Span>) {
    match &node.content {
        Content::Table(Table(members)) => {
            for (key, value) in members {
                if SECRETS.contains(&key.name.as_str()) {
                    secrets_of(value, spans);
                } else {
                    find(value, spans);
                }
            }
        }
        Content::List(items) => items.iter().for_each(|item| find(item, spans)),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::NotJson(_) => {}
    }
}

/// The value of a secret member: itself, or the values of a list.
fn secrets_of(node: &Node, spans: &mut Vec<Span>) {
    match &node.content {
        Content::List(items) => items.iter().for_each(|item| secrets_of(item, spans)),
        Content::Table(_) => find(node, spans),
        Content::Null => {}
        Content::Bool(_) | Content::Number(_) | Content::Text(_) | Content::NotJson(_) => {
            spans.push(node.span);
        }
    }
}

fn mask_value(value: &mut [u8]) {
    for byte in value {
        if !matches!(*byte, b'"' | b'\'' | b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}

/// Masks what follows the name of a secret member: the rest of its line, or of a list or a long string.
fn mask_by_look(text: &str, out: &mut [u8]) {
    for name in SECRETS {
        for (at, _) in text.match_indices(name) {
            let rest = text[at + name.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
            let Some(value) = rest.strip_prefix(['=', ':']) else { continue };
            let value = value.trim_start_matches([' ', '\t']);
            let closing = match value {
                list if list.starts_with('[') => "]",
                long if long.starts_with("\"\"\"") => "\"\"\"",
                long if long.starts_with("'''") => "'''",
                _ => "\n",
            };
            let opening = if closing == "\n" { 0 } else { closing.len() };
            let length = value[opening..].find(closing).map_or(value.len(), |end| opening + end);
            // The value and what follows it are the end of the text.
            let start = text.len() - value.len();
            mask_value(&mut out[start..start + length]);
        }
    }
}

/// Masks user and password of URLs, and headers that hold credentials.
fn mask_credentials(text: &str, out: &mut [u8]) {
    for range in credentials(text) {
        mask_value(&mut out[range]);
    }
}

/// Where a text has user and password of a URL, or the value of a header that holds credentials unless a template makes
/// it. In the order of the text, none within another.
fn credentials(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let end = text[start..].find(['"', '\'', '\n', ' ']).map_or(text.len(), |end| start + end);
        let scheme = |names: &[&str]| names.iter().any(|name| text[..at].ends_with(name));
        // A password with a slash is wrong in the URL of a store, and quoted for that.
        let login_end = match text[start..end].find('/') {
            Some(slash) if !scheme(&["redis", "rediss", "redis-cluster"]) => start + slash,
            _ => end,
        };
        found.extend(text[start..login_end].rfind('@').map(|user| start..start + user));
        // A socket has no host, so that they stand in its query.
        if scheme(&["unix"]) {
            for (place, _) in text[start..end].match_indices(['?', '&']) {
                let member = start + place + 1;
                let value = ["user=", "pass="].iter().find(|name| text[member..].starts_with(**name));
                let length = text[member..end].find('&').unwrap_or(end - member);
                found.extend(value.map(|name| member + name.len()..member + length));
            }
        }
    }
    let lower = text.to_ascii_lowercase();
    for name in CREDENTIALS {
        for (at, _) in lower.match_indices(&format!("{name}:")) {
            // A host before its port is no header.
            if text[..at].rsplit(['"', '\'', '\n', ' ']).next().is_some_and(|word| word.contains("://")) {
                continue;
            }
            let start = at + name.len() + 1;
            let end = text[start..].find('\n').map_or(text.len(), |end| start + end);
            if !text[start..end].contains('{') {
                found.push(start..end);
            }
        }
    }
    found.sort_by_key(|range| range.start);
    let mut beyond = 0;
    found.retain(|range| {
        let apart = range.start >= beyond;
        beyond = beyond.max(range.end);
        apart
    });
    found
}
