//! Marks around printed values, so that they can be put into their place in JSON once the whole text is
//! there.
//!
//! Three noncharacters that occur neither in the template nor in the context frame each value: `begin`, a
//! digit for what follows, the value, `end`. They carry text rather than JSON, so that a filter over a block
//! (`upper`) works on text.
//!
//! Invariants
//! - A text without marks passes unchanged.
//! - A value that holds a mark, because the template made one, is written whole: marks inside a value are
//!   escaped.

use std::borrow::Cow;
use std::fmt;

use hookwire_jinja::Printed;
use hookwire_json::push_string;
use hookwire_model::{Member, TemplateContext};

use super::written;
use crate::error::Fault;
use crate::place::{Print, Sink};

/// The noncharacters U+FDD0 to U+FDEF, of which three are taken.
const CANDIDATES: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// What stands for which form.
const TEXT: char = '0';
const SCALAR: char = '1';
const CONTAINER: char = '2';
const NOTHING: char = '3';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    begin: char,
    end: char,
    /// Between the two forms of a scalar, and before the digit of an escaped mark.
    escape: char,
}

impl Marks {
    /// Marks that occur neither in the template nor in the context.
    pub(super) fn unused_in(source: &str, context: &TemplateContext) -> Marks {
        let texts = || {
            let members = context.members().filter_map(|(_, member)| match member {
                Member::Text(text) => text,
                Member::Document(json) => Some(json.as_str()),
            });
            members.chain([source])
        };
        // Nearly always no text holds the first two bytes that all candidates share, nor an escape that may
        // spell one.
        let may_hold = |text: &str| {
            memchr::memchr_iter(0xef, text.as_bytes()).any(|at| text.as_bytes().get(at + 1) == Some(&0xb7))
                || memchr::memchr_iter(b'\\', text.as_bytes()).any(|at| {
                    text.as_bytes()
                        .get(at + 1..at + 4)
                        .is_some_and(|escape| escape.eq_ignore_ascii_case(b"ufd"))
                })
        };
        let held: Vec<&str> = texts().filter(|text| may_hold(text)).collect();
        if held.is_empty() {
            return Marks { begin: '\u{fdd0}', end: '\u{fdd1}', escape: '\u{fdd2}' };
        }
        let is_unused = |c: &char| {
            let escape = format!("\\u{:04x}", u32::from(*c));
            held.iter().all(|text| !text.contains(*c) && !text.to_ascii_lowercase().contains(&escape))
        };
        // Data that holds nearly all of them is met by escaping marks inside values; only `|safe` could then
        // confuse one of its own with ours, and what comes of that is a value in its place.
        let mut unused = CANDIDATES.filter(is_unused).chain(CANDIDATES.rev().take(3));
        let mut next = || unused.next().expect("three candidates are always left");
        Marks { begin: next(), end: next(), escape: next() }
    }

    /// Writes each value with its marks.
    pub(super) fn formatter(
        self,
    ) -> impl Fn(&Printed<'_>, &mut dyn fmt::Write) -> Result<(), minijinja::Error> + Send + Sync + 'static
    {
        let head = |form: char| String::from_iter([self.begin, form]);
        let (text_head, scalar_head, container_head) = (head(TEXT), head(SCALAR), head(CONTAINER));
        let nothing = String::from_iter([self.begin, NOTHING, self.end]);
        let tail = String::from(self.end);
        move |printed, out| {
            let value = printed.value();
            if let Some(text) = value.as_str() {
                if value.is_safe() {
                    return written(out.write_str(text));
                }
                written(out.write_str(&text_head))?;
                written(out.write_str(&self.escaped(text)))?;
            } else if value.is_undefined() {
                return written(out.write_str(&nothing));
            } else {
                let mut text = String::new();
                printed.json(&mut text)?;
                if text.starts_with(['[', '{']) {
                    written(out.write_str(&container_head))?;
                    written(out.write_str(&self.escaped(&text)))?;
                } else {
                    written(out.write_str(&scalar_head))?;
                    written(out.write_str(&printed.text()?))?;
                    written(out.write_char(self.escape))?;
                    written(out.write_str(&text))?;
                }
            }
            written(out.write_str(&tail))
        }
    }

    /// Appends a marked text to `sink`, each value escaped for its place.
    pub(super) fn put_in_place(self, text: &str, sink: &mut Sink) -> Result<(), Fault> {
        let mut rest = text;
        while let Some((literal, marked)) = split_at_mark(rest, self.begin) {
            sink.literal(literal)?;
            // A mark without its end is text of the template's own making.
            let Some((content, after)) = split_at_mark(marked, self.end) else {
                sink.literal(&rest[literal.len()..])?;
                return Ok(());
            };
            match self.read(content) {
                Some(value) => sink.value(&value)?,
                None => sink.literal(&rest[literal.len()..rest.len() - after.len()])?,
            }
            rest = after;
        }
        sink.literal(rest)
    }

    fn read(self, content: &str) -> Option<Marked<'_>> {
        let mut characters = content.chars();
        let kind = characters.next()?;
        let content = characters.as_str();
        match kind {
            TEXT => Some(Marked::Text(self.unescaped(content))),
            CONTAINER => Some(Marked::Container(self.unescaped(content))),
            NOTHING => Some(Marked::Nothing),
            SCALAR => {
                let (text, json) = content.split_once(self.escape)?;
                Some(Marked::Scalar { text, json })
            }
            _ => None,
        }
    }

    fn escaped(self, text: &str) -> Cow<'_, str> {
        let marks = [self.begin, self.end, self.escape];
        if memchr::memchr(0xef, text.as_bytes()).is_none() || !text.contains(marks) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match marks.iter().position(|mark| *mark == c) {
                None => out.push(c),
                Some(index) => {
                    out.push(self.escape);
                    out.push(char::from(b'0' + index as u8));
                }
            }
        }
        Cow::Owned(out)
    }

    fn unescaped(self, text: &str) -> Cow<'_, str> {
        if memchr::memchr(0xef, text.as_bytes()).is_none() || !text.contains(self.escape) {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(c) = characters.next() {
            if c != self.escape {
                out.push(c);
                continue;
            }
            match characters.next() {
                Some('0') => out.push(self.begin),
                Some('1') => out.push(self.end),
                Some('2') => out.push(self.escape),
                Some(other) => out.extend([c, other]),
                None => out.push(c),
            }
        }
        Cow::Owned(out)
    }
}

/// What stands before and behind the first of these marks. Other characters seldom begin with the byte that marks do.
fn split_at_mark(text: &str, mark: char) -> Option<(&str, &str)> {
    let mut buffer = [0; 4];
    let mark = mark.encode_utf8(&mut buffer).as_bytes();
    let mut candidates = memchr::memchr_iter(mark[0], text.as_bytes());
    let at = candidates.find(|at| text.as_bytes()[*at..].starts_with(mark))?;
    Some((&text[..at], &text[at + mark.len()..]))
}

/// A value as its marks carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Marked<'a> {
    Text(Cow<'a, str>),
    /// Number, truth value or `None`: as Python prints it, and as JSON.
    Scalar {
        text: &'a str,
        json: &'a str,
    },
    /// A list or dict, as JSON.
    Container(Cow<'a, str>),
    /// An `if` without `else`, or an unknown name where that is no error.
    Nothing,
}

impl Print for Marked<'_> {
    fn as_text(&self) -> Option<&str> {
        match self {
            Marked::Text(text) => Some(text),
            _ => None,
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Marked::Text(text) | Marked::Container(text) => out.push_str(text),
            Marked::Scalar { text, .. } => out.push_str(text),
            Marked::Nothing => {}
        }
    }

    fn print_json(&self, out: &mut String) {
        match self {
            Marked::Text(text) => push_string(out, text),
            Marked::Container(json) => out.push_str(json),
            Marked::Scalar { json, .. } => out.push_str(json),
            Marked::Nothing => out.push_str("null"),
        }
    }

    fn is_container(&self) -> bool {
        matches!(self, Marked::Container(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks { begin: '\u{fdd0}', end: '\u{fdd1}', escape: '\u{fdd2}' };

    #[test]
    fn marks_inside_values_are_escaped() {
        let text = "a\u{fdd0}b\u{fdd1}c\u{fdd2}d";
        let escaped = MARKS.escaped(text);
        assert!(!escaped.contains(['\u{fdd0}', '\u{fdd1}']));
        assert_eq!(MARKS.unescaped(&escaped), text);
    }

    #[test]
    fn what_is_no_mark_stays_as_it_is() {
        for text in ["plain", "\u{fdd0}", "\u{fdd0}9x\u{fdd1}", "\u{fdd1}x\u{fdd0}", "\u{fdd0}1x\u{fdd1}"] {
            let mut sink = Sink::new(crate::place::Place::Json, 1000, 0);
            MARKS.put_in_place(text, &mut sink).unwrap();
            assert_eq!(sink.into_text(), text);
        }
    }
}
