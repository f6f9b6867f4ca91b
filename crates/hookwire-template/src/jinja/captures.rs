//! In JSON, text that a template captures (a `set` block, a macro's result) still holds the marks of its
//! values. Printing it is fine; looking into it would see the marks, so that is refused rather than rendered
//! wrong in silence.

use std::ops::Range;

use super::tags::words;
use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::text::excerpt;

/// Filters that work on the text between marks as they work on plain text.
const HARMLESS_FILTERS: &[&str] = &["upper", "lower"];

/// Every use of captured text other than printing it.
pub(super) fn check(source: &str, tags: &[Range<usize>]) -> Vec<Fault> {
    let tags: Vec<(usize, Tag<'_>)> =
        tags.iter().filter_map(|range| Some((range.start, Tag::read(&source[range.clone()])?))).collect();
    let mut blocks: Vec<&str> = Vec::new();
    let mut macros: Vec<&str> = vec!["caller"];
    for (_, tag) in &tags {
        match tag.statement() {
            Some("set") if !tag.has_assignment() => blocks.extend(words(tag.content).nth(1)),
            Some("macro") => macros.extend(words(tag.content).nth(1)),
            _ => {}
        }
    }
    let mut faults = Vec::new();
    for (at, tag) in &tags {
        let mut refuse = |message: String, remedy: &str| {
            let fault = Fault::new(TemplateErrorKind::Unsupported, message).remedy(remedy);
            faults.push(fault.at(Pos::of(source, *at)));
        };
        let filtered = matches!(tag.statement(), Some("filter"))
            || tag.statement() == Some("set") && !tag.has_assignment() && tag.content.contains('|');
        if filtered {
            let filters = words(tag.content).skip(if tag.statement() == Some("set") { 2 } else { 1 });
            if let Some(filter) = filters.into_iter().find(|filter| !HARMLESS_FILTERS.contains(filter)) {
                refuse(
                    format!("the filter `{}` can't be applied to a block of JSON", excerpt(filter)),
                    "apply it to the values in the block",
                );
            }
            continue;
        }
        for name in blocks.iter().filter(|name| tag.names(name)) {
            let declares = tag.statement() == Some("set")
                && !tag.has_assignment()
                && words(tag.content).nth(1) == Some(name);
            let prints = tag.is_print && tag.content.trim() == *name;
            if !declares && !prints {
                refuse(
                    format!("`{}` is a block of JSON and can only be printed as it stands", excerpt(name)),
                    "write `{% set name = expression %}` for a value to work with",
                );
            }
        }
        for name in macros.iter().filter(|name| tag.names(name)) {
            let allowed = match tag.statement() {
                Some("macro" | "call" | "import") => true,
                Some(_) => !tag.calls(name),
                None => !tag.calls(name) || is_one_call(tag.content.trim(), name),
            };
            if !allowed {
                refuse(
                    format!(
                        "what `{}(..)` gives is a block of JSON and can only be printed as it stands",
                        excerpt(name)
                    ),
                    "print it with a tag of its own",
                );
            }
        }
    }
    faults
}

struct Tag<'a> {
    is_print: bool,
    /// Without braces and white-space control.
    content: &'a str,
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

    fn has_assignment(&self) -> bool {
        self.content.contains('=')
    }

    /// Whether the name occurs as one, rather than as a member or in a string.
    fn names(&self, name: &str) -> bool {
        self.occurrences(name).next().is_some()
    }

    fn calls(&self, name: &str) -> bool {
        self.occurrences(name).any(|end| self.content[end..].trim_start().starts_with('('))
    }

    /// The ends of the occurrences of a name.
    fn occurrences(&self, name: &str) -> impl Iterator<Item = usize> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.content.match_indices(name).filter_map(move |(start, _)| {
            let (before, after) = (&self.content[..start], &self.content[start + name.len()..]);
            let in_string = before.matches('"').count() % 2 == 1 || before.matches('\'').count() % 2 == 1;
            let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
            (whole && !in_string && !before.trim_end().ends_with('.')).then_some(start + name.len())
        })
    }
}

/// Whether an expression is one call of `name` and nothing else.
fn is_one_call(expression: &str, name: &str) -> bool {
    let Some(arguments) = expression.strip_prefix(name).map(str::trim_start) else { return false };
    let mut depth = 0;
    for (at, c) in arguments.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1 == arguments.len();
                }
            }
            _ => {}
        }
    }
    false
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
        ] {
            assert_eq!(refused(source), 1, "{source}");
        }
    }
}
