//! In JSON, text that a template captures (a `set` block, a macro's result) still holds the marks of its
//! values. Printing it is fine; looking into it would see the marks, so that is refused rather than rendered
//! wrong in silence.

use std::collections::HashSet;
use std::ops::Range;

use super::tags::{is_word, words};
use crate::error::{Fault, Places, TemplateErrorKind};
use crate::text::excerpt;

/// Filters that work on the text between marks as they work on plain text.
const HARMLESS_FILTERS: &[&str] = &["upper", "lower"];

/// Every use of captured text other than printing it, each name once a tag.
pub(super) fn check(source: &str, tags: &[Range<usize>]) -> Vec<Fault> {
    let tags: Vec<(usize, Tag<'_>)> =
        tags.iter().filter_map(|range| Some((range.start, Tag::read(&source[range.clone()])?))).collect();
    let captured = Captured::by(&tags);
    let mut places = Places::of(source);
    let mut faults = Vec::new();
    for (at, tag) in &tags {
        for fault in captured.misused_in(tag) {
            faults.push(fault.at(places.at(*at)));
        }
    }
    faults
}

/// Names whose text is captured.
struct Captured<'a> {
    blocks: HashSet<&'a str>,
    macros: HashSet<&'a str>,
}

impl<'a> Captured<'a> {
    fn by(tags: &[(usize, Tag<'a>)]) -> Self {
        let mut captured = Captured { blocks: HashSet::new(), macros: HashSet::from(["caller"]) };
        for (_, tag) in tags {
            if tag.sets_block() {
                captured.blocks.extend(words(tag.content).nth(1));
            } else if tag.statement() == Some("macro") {
                captured.macros.extend(words(tag.content).nth(1));
            }
        }
        captured
    }

    /// What is wrong with a tag.
    fn misused_in(&self, tag: &Tag<'a>) -> Vec<Fault> {
        if tag.statement() == Some("filter") || tag.sets_block() && tag.content.contains('|') {
            return filter_of_block(tag).into_iter().collect();
        }
        let declared = if tag.sets_block() { words(tag.content).nth(1) } else { None };
        let printed = Some(tag.content.trim()).filter(|_| tag.is_print);
        let may_call = matches!(tag.statement(), Some("macro" | "call" | "import"));
        let called_alone = printed.and_then(one_call);
        let mut seen = HashSet::new();
        let mut faults = Vec::new();
        for Occurrence { name, is_called } in tag.names() {
            if self.blocks.contains(name)
                && declared != Some(name)
                && printed != Some(name)
                && seen.insert((name, false))
            {
                faults.push(block_used(name));
            }
            if is_called
                && self.macros.contains(name)
                && !may_call
                && called_alone != Some(name)
                && seen.insert((name, true))
            {
                faults.push(macro_used(name));
            }
        }
        faults
    }
}

fn filter_of_block(tag: &Tag<'_>) -> Option<Fault> {
    let before = if tag.statement() == Some("set") { 2 } else { 1 };
    let filter = words(tag.content).skip(before).find(|filter| !HARMLESS_FILTERS.contains(filter))?;
    let message = format!("the filter `{}` can't be applied to a block of JSON", excerpt(filter));
    Some(unsupported(message, "apply it to the values in the block"))
}

fn block_used(name: &str) -> Fault {
    let message = format!("`{}` is a block of JSON and can only be printed as it stands", excerpt(name));
    unsupported(message, "write `{% set name = expression %}` for a value to work with")
}

fn macro_used(name: &str) -> Fault {
    let name = excerpt(name);
    let message = format!("what `{name}(..)` gives is a block of JSON and can only be printed as it stands");
    unsupported(message, "print it with a tag of its own")
}

fn unsupported(message: String, remedy: &str) -> Fault {
    Fault::new(TemplateErrorKind::Unsupported, message).remedy(remedy)
}

struct Tag<'a> {
    is_print: bool,
    /// Without braces and white-space control.
    content: &'a str,
}

/// A name in a tag.
struct Occurrence<'a> {
    name: &'a str,
    /// A bracket follows.
    is_called: bool,
}

impl<'a> Tag<'a> {
    /// `None` for comments and raw blocks.
    fn read(tag: &'a str) -> Option<Tag<'a>> {
        let is_print = tag.starts_with("{{");
        let content = tag.get(2..tag.len().checked_sub(2)?)?;
        let content = content.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let is_raw = tag.starts_with("{%") && words(content).next() == Some("raw");
        (!tag.starts_with("{#") && !is_raw).then_some(Tag { is_print, content })
    }

    fn statement(&self) -> Option<&'a str> {
        if self.is_print { None } else { words(self.content).next() }
    }

    /// Whether it is `{% set name %}`, which a block follows.
    fn sets_block(&self) -> bool {
        self.statement() == Some("set") && !self.content.contains('=')
    }

    /// The names that occur as such, rather than as a member or in a string.
    fn names(&self) -> impl Iterator<Item = Occurrence<'a>> {
        let content = self.content;
        let (mut at, mut quotes, mut after_dot) = (0, [false; 2], false);
        std::iter::from_fn(move || {
            loop {
                let rest = &content[at..];
                let c = rest.chars().next()?;
                if !is_word(c) {
                    quotes[0] ^= c == '"';
                    quotes[1] ^= c == '\'';
                    after_dot = c == '.' || after_dot && c.is_whitespace();
                    at += c.len_utf8();
                    continue;
                }
                let (name, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
                at += name.len();
                if !std::mem::take(&mut after_dot) && quotes == [false; 2] {
                    return Some(Occurrence { name, is_called: rest.trim_start().starts_with('(') });
                }
            }
        })
    }
}

/// The name that an expression calls, if it is one call and nothing else.
fn one_call(expression: &str) -> Option<&str> {
    let (name, rest) = expression.split_at(expression.find(|c| !is_word(c)).unwrap_or(expression.len()));
    let arguments = rest.trim_start();
    let mut depth = 0;
    let end = arguments.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        *c == ')' && depth == 0
    });
    end.is_some_and(|(at, _)| at + 1 == arguments.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> usize {
        check(source, &super::super::tags::scan(source)).len()
    }

    #[test]
    fn captured_text_can_be_printed_only() {
        for source in [
            "{% set x %}a{% endset %}{{ x }}{{- x -}}",
            "{% set x = data.name %}{% if x == 'a' %}{% endif %}",
            "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(data.x) }}{{ m(f(1)) }}",
            "{% macro m(a) %}{{ caller() }}{% endmacro %}{% call m(1) %}x{% endcall %}",
            "{% set x %}a{% endset %}{{ data.x }}{% if data.x == 'x' %}{% endif %}",
            "{% filter upper %}{{ x }}{% endfilter %}",
            "{# {% set x %} #}{% if x %}{% endif %}",
        ] {
            assert_eq!(refused(source), 0, "{source}");
        }
        for source in [
            "{% set x %}a{% endset %}{% if x == 'a' %}{% endif %}",
            "{% set x %}a{% endset %}{{ x|length }}",
            "{% set x %}a{% endset %}{% set y = x %}",
            "{% macro m() %}a{% endmacro %}{{ m()|trim }}",
            "{% macro m() %}a{% endmacro %}{% set y = m() %}",
            "{% filter trim %}{{ x }}{% endfilter %}",
            "{% set x|trim %}a{% endset %}",
            "{% set x %}a{% endset %}{% set x %}b{% endset %}{{ x|length ~ x }}",
            "{% macro m() %}a{% endmacro %}{% macro m() %}b{% endmacro %}{{ m() ~ m() }}",
            "{% set x %}a{% endset %}{{ 'x' ~ data. x ~ x }}",
        ] {
            assert_eq!(refused(source), 1, "{source}");
        }
        let both = "{% set m %}a{% endset %}{% macro m() %}a{% endmacro %}{{ m() ~ 1 }}";
        // The name of the macro, the name of the block and the call.
        assert_eq!(refused(both), 3);
    }

    #[test]
    fn each_fault_has_the_place_of_its_tag() {
        let source = "{% set x %}a{% endset %}\n{{ x }}\u{e9}{{ x|e }} {{ x|f }}\n\n {{ x ~ x }}";
        let faults = check(source, &super::super::tags::scan(source));
        let places: Vec<(usize, usize)> =
            faults.iter().map(|fault| fault.pos.map(|pos| (pos.line, pos.column)).unwrap()).collect();
        assert_eq!(places, [(2, 9), (2, 19), (4, 2)]);
    }

    /// As many blocks and names as a source may have.
    #[test]
    fn many_blocks_are_looked_through_once() {
        assert_eq!(refused(&"{% set a %}1{% endset %}".repeat(5_000)), 0);
        let named: Vec<String> = (0..4_000).map(|i| format!("{{% set a{i} %}}1{{% endset %}}")).collect();
        assert_eq!(refused(&format!("{}{{{{ a7 ~ 1 }}}}", named.concat())), 1);
        assert_eq!(refused(&format!("{}{}", named[0], "{{a0~1}}".repeat(12_000))), 12_000);
    }
}
