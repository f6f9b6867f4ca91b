//! Finds the tags of a Jinja source, to tell what stands literally in it.
//!
//! A source that the parser would read otherwise is refused by the parser, or only loses the checks that need
//! no rendering.

use std::ops::Range;

/// The byte ranges of `{{..}}`, `{%..%}`, `{#..#}` and whole raw blocks, in order.
pub(super) fn scan(source: &str) -> Vec<Range<usize>> {
    let bytes = source.as_bytes();
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'{', &bytes[at..]) {
        let start = at + found;
        let end = match bytes.get(start + 1) {
            Some(b'#') => find(bytes, start + 2, b"#}"),
            Some(b'{') => end_of_tag(bytes, start + 2, b"}}"),
            Some(b'%') => {
                let end = end_of_tag(bytes, start + 2, b"%}");
                match words(&source[start..end]).next() {
                    Some("raw") => end_of_raw(source, end),
                    _ => end,
                }
            }
            _ => {
                at = start + 1;
                continue;
            }
        };
        tags.push(start..end);
        at = end;
    }
    tags
}

/// The names in a tag, outside of strings.
pub(super) fn words(tag: &str) -> impl Iterator<Item = &str> {
    tag.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

/// Whether a character belongs to a name.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(bytes: &[u8], from: usize, needle: &[u8]) -> usize {
    memchr::memmem::find(&bytes[from..], needle).map_or(bytes.len(), |found| from + found + needle.len())
}

fn end_of_tag(bytes: &[u8], mut at: usize, close: &[u8]) -> usize {
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(close) => return at + 2,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

fn end_of_raw(source: &str, mut at: usize) -> usize {
    while let Some(found) = source[at..].find("{%") {
        at += found + 2;
        if is_endraw(&source[at..]) {
            return find(source.as_bytes(), at, b"%}");
        }
    }
    source.len()
}

/// Whether a tag that begins here ends a raw block. Looks no further than its first word.
fn is_endraw(content: &str) -> bool {
    let content = content.strip_prefix(['-', '+']).unwrap_or(content);
    let rest = content.trim_ascii_start().strip_prefix("endraw");
    rest.is_some_and(|rest| !rest.starts_with(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found() {
        let source = "a{{ '}}' }}b{% if x %}c{#- }} -#}{% raw %}{{ x }}{%- endraw %}d{ {{ unclosed";
        let found: Vec<&str> = scan(source).into_iter().map(|range| &source[range]).collect();
        assert_eq!(
            found,
            ["{{ '}}' }}", "{% if x %}", "{#- }} -#}", "{% raw %}{{ x }}{%- endraw %}", "{{ unclosed"]
        );
    }

    #[test]
    fn a_raw_block_ends_with_its_own_tag() {
        for (raw, end) in [
            ("{% raw %}{% endraw %}", "x"),
            ("{% raw %}{%+\tendraw\n-%}", "{{ x }}"),
            ("{% raw %}{% endrawx %}{%{% if endraw %}{% endraw %}", "x"),
            ("{% raw %}{% {{ }} %}", ""),
        ] {
            assert_eq!(scan(&format!("{raw}{end}"))[0], 0..raw.len(), "{raw}");
        }
        // As many as a source may have; each of them was once read to the end.
        let source = format!("{{% raw %}}{}", "{%".repeat(65_000));
        let tags = scan(&source);
        assert_eq!((tags.len(), tags[0].end), (1, source.len()));
    }
}
