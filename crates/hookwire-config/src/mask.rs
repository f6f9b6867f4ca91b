//! Secrets in the lines of a file that are shown: each of their bytes becomes a `*`.
//!
//! Invariants:
//! - Offsets and lines stay as they are, so that every span still names its place.
//! - A file that could not be parsed is masked by the look of its lines, rather too much than too little.

use std::ops::Range;

use hookwire_definitions::CREDENTIALS;

use crate::problem::Source;
use crate::syntax::TextMap;
use crate::tree::{Content, Node, Span, Table};

/// Words in the names of members that hold secrets, also in names that are misspelt or belong elsewhere.
const SECRET_WORDS: [&str; 6] = ["secret", "password", "passwd", "token", "signing_key", "api_key"];
/// What ends a word in which a URL may stand.
const WORD_ENDS: [char; 5] = ['"', '\'', '\n', ' ', '\t'];
/// How names of members end that only say where a secret is.
const ELSEWHERE: [&str; 2] = ["_env", "_file"];

/// The files with their secrets masked. `roots` are the trees of those that have one.
pub(crate) fn masked(sources: &[Source], roots: &[Node]) -> Vec<Source> {
    let mut spans = Vec::new();
    roots.iter().for_each(|root| find(root, sources, &mut spans));
    let parsed: Vec<usize> = roots.iter().map(|root| root.span.file).collect();
    let mask = |(file, source): (usize, &Source)| {
        let mut text = source.text.clone().into_bytes();
        for span in spans.iter().filter(|span| span.file == file) {
            mask_value(&mut text[span.start..span.end]);
        }
        let is_parsed = parsed.contains(&file);
        if !is_parsed {
            mask_by_look(&source.text, &mut text);
        }
        // In comments too, which are in no tree.
        for range in credentials(&source.text, if is_parsed { Templates::Shown } else { Templates::Masked }) {
            mask_value(&mut text[range]);
        }
        // Whole values were replaced, so no character was cut in half.
        Source { path: source.path.clone(), text: String::from_utf8_lossy(&text).into_owned() }
    };
    sources.iter().enumerate().map(mask).collect()
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_elsewhere = ELSEWHERE.iter().any(|end| name.ends_with(end));
    !is_elsewhere && SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A text with the credentials in it masked: of URLs and of headers.
pub(crate) fn text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for Range { start, end } in credentials(text, Templates::Shown) {
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

/// The places of secrets in a tree: values of secret members, and credentials within texts.
fn find(node: &Node, sources: &[Source], spans: &mut Vec<Span>) {
    match &node.content {
        Content::Table(Table(members)) => {
            for (key, value) in members {
                if is_secret(&key.name) {
                    secrets_of(value, sources, spans);
                } else {
                    find(value, sources, spans);
                }
            }
        }
        Content::List(items) => items.iter().for_each(|item| find(item, sources, spans)),
        Content::Text(text) => {
            let found = credentials(text, Templates::Shown);
            if !found.is_empty() {
                let map = TextMap::new(&sources[node.span.file].text, node.span);
                spans.extend(found.into_iter().map(|range| map.span(range.start, range.end)));
            }
        }
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::NotJson(_) => {}
    }
}

/// The value of a secret member: itself, or the values of a list.
fn secrets_of(node: &Node, sources: &[Source], spans: &mut Vec<Span>) {
    match &node.content {
        Content::List(items) => items.iter().for_each(|item| secrets_of(item, sources, spans)),
        Content::Table(_) => find(node, sources, spans),
        Content::Null | Content::Bool(_) => {}
        Content::Number(_) | Content::Text(_) | Content::NotJson(_) => spans.push(node.span),
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
    let lower = text.to_ascii_lowercase();
    for (at, word) in SECRET_WORDS.iter().flat_map(|word| lower.match_indices(word)) {
        let rest = &lower[at + word.len()..];
        let name_end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_-".contains(letter));
        let (name, rest) = rest.split_at(name_end.unwrap_or(rest.len()));
        if ELSEWHERE.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        // Whoever forgets the sign between name and value has a secret all the same.
        let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
        let value = rest.trim_start_matches(['=', ':', ' ', '\t']);
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

/// What becomes of the value of a header that holds credentials where a template makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Templates {
    /// It is no secret.
    Shown,
    /// Nobody can say for certain that it is all of the value.
    Masked,
}

/// Where a text has user and password of a URL, or the value of a header that holds credentials. In the order of the
/// text, none within another.
fn credentials(text: &str, templates: Templates) -> Vec<Range<usize>> {
    let mut found = logins(text);
    let lower = text.to_ascii_lowercase();
    for name in CREDENTIALS {
        for (at, _) in lower.match_indices(&format!("{name}:")) {
            // A host before its port is no header.
            if text[..at].rsplit(['"', '\'', '\n', ' ']).next().is_some_and(|word| word.contains("://")) {
                continue;
            }
            let start = at + name.len() + 1;
            // A line end also as it is written in a string.
            let ends = ["\n", "\\n", "\\r"].map(|end| text[start..].find(end));
            let end = ends.into_iter().flatten().min().map_or(text.len(), |end| start + end);
            if templates == Templates::Masked || !text[start..end].contains('{') {
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

/// Where a text has user and password of a URL, or what may be one: each word with a colon is taken for a URL.
fn logins(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut next = 0;
    for word in text.split(WORD_ENDS) {
        let end = next + word.len();
        // What ends a word is one byte long.
        next = end + 1;
        let Some((scheme, rest)) = word.split_once(':').filter(|(scheme, _)| !scheme.is_empty()) else {
            continue;
        };
        let after_slashes = rest.trim_start_matches('/');
        let start = end - after_slashes.len();
        let authority = after_slashes.split('/').next().unwrap_or_default();
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let is_odd = port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()))
            && !authority.contains(['@', '[', '{']);
        // A password with a slash is wrong in a URL, and quoted for that.
        let is_store = ["redis", "rediss", "redis-cluster"].contains(&scheme);
        let is_wrong = is_odd || is_store || !rest.starts_with("//");
        let login = if is_wrong { after_slashes } else { authority };
        found.extend(login.rfind('@').map(|user| start..start + user));
        // A socket has no host, so that they stand in its query.
        if scheme == "unix" {
            for (place, _) in after_slashes.match_indices(['?', '&']) {
                let member = &after_slashes[place + 1..];
                let value = ["user=", "pass="].into_iter().find(|name| member.starts_with(name));
                let length = member.find('&').unwrap_or(member.len());
                let member_start = start + place + 1;
                found.extend(value.map(|name| member_start + name.len()..member_start + length));
            }
        }
    }
    found
}
