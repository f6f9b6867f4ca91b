//! Handlebars: the crate `handlebars` reads a template, and what it read is checked and rendered here.
//!
//! Rendering is ours because escaping needs values rather than text, strictness must fall on printing and not on asking,
//! every step and byte must be counted, and a context must not be copied for each rendering. A test holds it to what the
//! crate itself renders.
//!
//! Absences: partials, inline partials and decorators (refused), `log` (there is nothing to log to), helpers made by the
//! template's author.

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
        let template = parsed.map_err(|error| vec![syntax_error(&error)])?;
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

fn syntax_error(error: &handlebars::TemplateError) -> Fault {
    let message = match error.reason() {
        TemplateErrorReason::InvalidSyntax(expected) => format!("the template is no Handlebars: {expected}"),
        TemplateErrorReason::MismatchingClosedHelper(opened, closed)
        | TemplateErrorReason::MismatchingClosedDecorator(opened, closed) => {
            format!("`{opened}` was opened, but `{closed}` is closed")
        }
        TemplateErrorReason::InvalidParam(text) => format!("`{text}` is no parameter"),
        other => other.to_string(),
    };
    let fault = Fault::new(TemplateErrorKind::Syntax, message);
    match error.pos() {
        Some((line, column)) => fault.at(Pos { line, column }),
        None => fault,
    }
}
