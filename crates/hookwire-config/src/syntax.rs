//! What both formats share: a syntax error, and the way from a string's content back to its place in the
//! file.

use crate::tree::Span;

/// A text that is not of its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) message: String,
}

/// Where each character of a string's content stands in its file.
///
/// A template error names a line and a column of the content; people look at the file, where the string has
/// quotes, escapes and an indented continuation.
#[derive(Debug, Clone)]
pub(crate) struct TextMap {
    file: usize,
    /// Offset in the content and in the file of each character, and of the end.
    places: Vec<(usize, usize)>,
    /// Offsets in the content at which lines start.
    lines: Vec<usize>,
    content: String,
}

impl TextMap {
    /// The map of a string literal of TOML or JSON, quotes included, that stands at `span` of a file with
    /// this text.
    pub(crate) fn new(text: &str, span: Span) -> TextMap {
        let literal = text.get(span.start..span.end).unwrap_or_default();
        let mut map = TextMap { file: span.file, places: Vec::new(), lines: vec![0], content: String::new() };
        let end = map.read(literal, span.start);
        map.places.push((map.content.len(), end));
        map
    }

    /// The piece of the file for a piece of the content, in bytes.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        let start = self.in_file(start);
        Span { file: self.file, start, end: self.in_file(end).max(start) }
    }

    /// The place of a line and a column of the content, both from 1; the column counts characters. Beyond the
    /// end it is the end.
    pub(crate) fn place(&self, line: usize, column: usize) -> Span {
        let Some(start) = self.lines.get(line.saturating_sub(1)).copied() else {
            return self.span(self.content.len(), self.content.len());
        };
        let rest = &self.content[start..];
        let mut characters = rest.char_indices().skip(column.saturating_sub(1));
        let at = characters.next().map_or(rest.len(), |(at, _)| at);
        let next = characters.next().map_or(rest.len(), |(at, _)| at);
        self.span(start + at, start + next)
    }

    fn in_file(&self, offset: usize) -> usize {
        let index = self.places.partition_point(|(content, _)| *content < offset);
        self.places.get(index).or(self.places.last()).map_or(0, |(_, file)| *file)
    }

    fn push(&mut self, character: char, at: usize) {
        self.places.push((self.content.len(), at));
        self.content.push(character);
        if character == '\n' {
            self.lines.push(self.content.len());
        }
    }

    /// Reads the literal, and gives the offset of its closing quote.
    fn read(&mut self, literal: &str, base: usize) -> usize {
        let Some(quote) = literal.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
            // Not a literal, such as a bare key: as it stands.
            literal.char_indices().for_each(|(at, character)| self.push(character, base + at));
            return base + literal.len();
        };
        let long: String = [quote; 3].iter().collect();
        let multiline = literal.len() >= 6 && literal.starts_with(&long);
        let width = if multiline { 3 } else { 1 };
        let end = literal.len().saturating_sub(width).max(width);
        let mut at = width;
        if multiline {
            // A line end right after the opening quotes is not part of the content (TOML 1.0, "String").
            let inner = &literal[at..end];
            at += if inner.starts_with("\r\n") { 2 } else { usize::from(inner.starts_with('\n')) };
        }
        while let Some(character) = literal.get(at..end).and_then(|rest| rest.chars().next()) {
            let rest = &literal[at..end];
            let (taken, decoded) = match character {
                '\\' if quote == '"' => escape(rest),
                '\r' if rest.starts_with("\r\n") => (2, Some('\n')),
                other => (other.len_utf8(), Some(other)),
            };
            if let Some(decoded) = decoded {
                self.push(decoded, base + at);
            }
            at += taken;
        }
        base + end
    }
}

/// How many bytes an escape takes, and what it stands for. The text was parsed before, so it is valid.
fn escape(text: &str) -> (usize, Option<char>) {
    let hex = |digits: usize| {
        let code = text.get(2..2 + digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        (2 + digits, code)
    };
    let simple = |decoded| (2, Some(decoded));
    match text[1..].chars().next() {
        Some('b') => simple('\u{8}'),
        Some('e') => simple('\u{1b}'),
        Some('f') => simple('\u{c}'),
        Some('n') => simple('\n'),
        Some('r') => simple('\r'),
        Some('t') => simple('\t'),
        Some('x') => {
            let (taken, code) = hex(2);
            (taken, code.and_then(char::from_u32))
        }
        Some('U') => {
            let (taken, code) = hex(8);
            (taken, code.and_then(char::from_u32))
        }
        Some('u') => match hex(4) {
            // JSON writes a character beyond the basic plane as two escapes.
            (4.., Some(high @ 0xD800..=0xDBFF)) => {
                let low = text.get(8..12).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let code =
                    low.map(|low| 0x10000 + ((high - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF));
                (12, code.and_then(char::from_u32))
            }
            (taken, code) => (taken, code.and_then(char::from_u32)),
        },
        // At the end of a line it swallows the white space that follows.
        Some(blank) if blank.is_ascii_whitespace() => {
            let rest = text[1..].trim_start_matches([' ', '\t', '\r', '\n']);
            (text.len() - rest.len(), None)
        }
        Some(other) => (1 + other.len_utf8(), Some(other)),
        None => (1, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Content;

    /// The content that the map found, and the text of the file at a line and column of it.
    fn mapped(literal: &str, line: usize, column: usize) -> (String, String) {
        let text = format!("key = {literal} # end");
        let map = TextMap::new(&text, Span { file: 0, start: 6, end: 6 + literal.len() });
        let span = map.place(line, column);
        (map.content.clone(), text[span.start..span.end].to_owned())
    }

    #[test]
    fn a_place_in_the_content_is_found_in_the_file() {
        for (literal, line, column, content, found) in [
            (r#""abc""#, 1, 2, "abc", "b"),
            ("'abc'", 1, 3, "abc", "c"),
            (r#""a\n\té\u00e9x""#, 2, 4, "a\n\tééx", "x"),
            (r#""a\nb""#, 1, 2, "a\nb", r"\n"),
            (r#""\ud83d\ude80x""#, 1, 2, "🚀x", "x"),
            (r#""\U0001F680\"x""#, 1, 3, "🚀\"x", "x"),
            ("'''\none\ntwo'''", 2, 2, "one\ntwo", "w"),
            ("\"\"\"\r\none\r\ntwo\"\"\"", 2, 3, "one\ntwo", "o"),
            ("\"\"\"one \\\n     two\"\"\"", 1, 5, "one two", "t"),
            ("\"\"\"\"a\" \"\"\"\"", 1, 2, "\"a\" \"", "a"),
            ("\"\"", 1, 1, "", ""),
            (r#""abc""#, 9, 9, "abc", ""),
        ] {
            assert_eq!(mapped(literal, line, column), (content.to_owned(), found.to_owned()), "{literal}");
        }
    }

    proptest! {
        #[test]
        fn the_map_reads_what_the_parsers_read(text in "[a\"'\\\\né\n\t🚀]{0,12}") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(mapped(&json, 1, 1).0, text);
        }

        #[test]
        fn the_map_reads_what_the_toml_parser_reads(
            literal in "(\"[a'é]{0,5}(\\\\n|\\\\u00e9|\\\\\"){0,2}\"|'[a\"é]{0,5}'|'''\n?[a\"\né]{0,6}'''|\"\"\"\n?[a'\né]{0,6}(\\\\\n  )?b\"\"\")",
        ) {
            let text = format!("key = {literal}");
            let node = crate::toml_tree::parse(0, &text).unwrap();
            let Content::Text(content) = &node.at("/key").content else { panic!("{node:?}") };
            let map = TextMap::new(&text, node.at("/key").span);
            prop_assert_eq!(&map.content, content);
        }
    }
}
