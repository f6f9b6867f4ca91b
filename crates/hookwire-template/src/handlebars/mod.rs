//! Handlebars: the crate `handlebars` reads a template, and what it read is checked and rendered here.
//!
//! Rendering is ours because escaping needs values rather than text, strictness must fall on printing and not
//! on asking, every step and byte must be counted, and a context must not be copied for each rendering. A
//! test holds it to what the crate itself renders.
//!
//! Absences: partials, inline partials and decorators (refused), `log` (there is nothing to log to), helpers
//! made by the template's author.

mod lower;
mod program;
mod render;
mod scan;
mod value;

use std::ops::Range;

use handlebars::TemplateErrorReason;
use handlebars::template::Template;
use hookwire_model::TemplateContext;

use self::program::Node;
use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::limits::Limits;
use crate::place::Sink;

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Handlebars {
    nodes: Vec<Node>,
    strict: bool,
    steps: u64,
}

/// Finds the tags of a source, as byte ranges in order.
///
/// # Errors
/// If it is nested too deep, has too many tags, or uses what is not carried over.
pub(crate) fn tags(source: &str, limits: &Limits) -> Result<Vec<Range<usize>>, Fault> {
    scan::scan(source, limits.nesting.min(Limits::NESTING_MAX))
}

impl Handlebars {
    /// Compiles a source that [`tags`] has accepted.
    ///
    /// # Errors
    /// Every problem there is.
    pub(crate) fn compile(source: &str, strict: bool, limits: &Limits) -> Result<Handlebars, Vec<Fault>> {
        // The parser is not ours and has unwraps of its own; one that fails must not take the process along.
        let parsed = std::panic::catch_unwind(|| Template::compile(source)).map_err(|_| {
            vec![Fault::new(TemplateErrorKind::Syntax, "the parser can't read this template")]
        })?;
        let template = parsed.map_err(|error| vec![syntax_error(&error, source)])?;
        let nodes = lower::lower(&template, strict)?;
        Ok(Handlebars { nodes, strict, steps: limits.steps })
    }

    /// Renders into `sink`.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn render(&self, context: &TemplateContext, sink: &mut Sink) -> Result<(), Fault> {
        render::render(&self.nodes, context, sink, self.strict, self.steps)
    }
}

fn syntax_error(error: &handlebars::TemplateError, source: &str) -> Fault {
    let message = match error.reason() {
        // What the parser expected is in the words of its grammar, which help nobody.
        TemplateErrorReason::InvalidSyntax(_) => "this is no Handlebars".to_owned(),
        TemplateErrorReason::MismatchingClosedHelper(opened, closed)
        | TemplateErrorReason::MismatchingClosedDecorator(opened, closed) => {
            format!("`{opened}` was opened, but `{closed}` is closed")
        }
        TemplateErrorReason::InvalidParam(text) => format!("`{text}` is no parameter"),
        other => other.to_string(),
    };
    let mut fault = Fault::new(TemplateErrorKind::Syntax, message);
    if matches!(error.reason(), TemplateErrorReason::InvalidSyntax(_)) {
        let (line, column) = error.pos().unwrap_or((1, 1));
        let rest = source.lines().nth(line - 1).unwrap_or_default().chars().skip(column - 1);
        let rest: String = rest.collect();
        fault = fault.remedy(match rest.trim_start().chars().next() {
            Some('|') => "filters are Jinja2's; for them set `template_engine = \"jinja\"`",
            Some('%') => "`{%` is Jinja2's; for it set `template_engine = \"jinja\"`",
            _ => "a tag holds a name, or a helper and its parameters",
        });
    }
    match error.pos() {
        Some((line, column)) => fault.at(Pos { line, column }),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use handlebars::template::TemplateElement;
    use proptest::prelude::*;

    use super::*;

    /// How deep the parser's tree is, in the units of [`scan`].
    fn depth(template: Option<&Template>) -> usize {
        let elements = template.into_iter().flat_map(|template| &template.elements);
        let depths = elements.map(|element| match element {
            TemplateElement::HelperBlock(block) => {
                1 + depth(block.template.as_ref()).max(depth(block.inverse.as_ref()))
            }
            _ => 0,
        });
        depths.max().unwrap_or(0)
    }

    /// The smallest limit under which a source is accepted.
    fn scanned_depth(source: &str) -> Option<usize> {
        (0..=64).find(|nesting| scan::scan(source, *nesting).is_ok())
    }

    proptest! {
        #[test]
        fn no_tree_is_deeper_than_its_scan(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "{{#if a}}", "{{~ # if a}}", "{{#each (lookup a \"b\")}}", "{{else}}", "{{else if b}}", "{{^}}",
                    "{{/if}}", "{{/each}}", "{{ / if ~}}", "{{a}}", "{{{a}}}", "{{{ a } }}", "{{{{raw}}}}", "{{{{/raw}}}}",
                    "{{! ", "{{!-- ", "--}}", "}}", "{{", "\\", "\"", "'", "[", "]", "(", ")", " text ", "{{default a \"", "{{a.[",
                ]),
                0..14,
            )
        ) {
            let source = pieces.concat();
            let parsed = std::panic::catch_unwind(|| Template::compile(&source));
            if let Ok(Ok(template)) = parsed
                && let Some(scanned) = scanned_depth(&source)
            {
                prop_assert!(depth(Some(&template)) <= scanned, "{source}");
            }
        }

        #[test]
        fn any_source_compiles_or_is_refused(source in "[{}#/^!a-c \"'\\\\()\\[\\]~&>|=.@-]{0,40}") {
            let limits = Limits::default();
            if tags(&source, &limits).is_ok() {
                // What matters is that it returns.
                let _ = Handlebars::compile(&source, true, &limits);
            }
        }
    }
}
