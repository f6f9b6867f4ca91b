//! The one seam between webhooks and template languages.

use std::ops::Range;

use hookwire_model::{Engine, TemplateContext};

use crate::error::Fault;
use crate::handlebars::{self, Handlebars};
use crate::jinja::{self, Jinja};
use crate::limits::Limits;
use crate::place::{Place, Sink};

/// A compiled template of either language.
#[derive(Debug)]
pub(crate) struct Template {
    program: Program,
    size_hint: usize,
}

#[derive(Debug)]
enum Program {
    Handlebars(Handlebars),
    Jinja(Box<Jinja>),
}

/// A template, if the source is more than text, and the tags of the source.
type Compiled = (Option<Template>, Vec<Range<usize>>);

impl Template {
    /// Compiles a source, and finds its tags; `None` for a source that has none and so is text.
    ///
    /// # Errors
    /// Every problem there is.
    pub(crate) fn compile(
        engine: Engine,
        source: &str,
        place: Place,
        strict: bool,
        limits: &Limits,
    ) -> Result<Compiled, Vec<Fault>> {
        let (program, tags) = match engine {
            Engine::Handlebars => {
                let tags = handlebars::tags(source, limits).map_err(|fault| vec![fault])?;
                // `\{{` is no tag, yet not what it says either.
                if tags.is_empty() && !source.contains("{{") {
                    return Ok((None, tags));
                }
                (Program::Handlebars(Handlebars::compile(source, strict, limits)?), tags)
            }
            Engine::Jinja => {
                let tags = jinja::tags(source);
                if tags.is_empty() {
                    return Ok((None, tags));
                }
                (Program::Jinja(Box::new(Jinja::compile(source, &tags, place, strict, limits)?)), tags)
            }
        };
        // What templates print is seldom longer than their tags are together with some room.
        let size_hint = source.len() + 256;
        Ok((Some(Template { program, size_hint }), tags))
    }

    /// How long the rendered text will be, roughly, in bytes.
    pub(crate) fn size_hint(&self) -> usize {
        self.size_hint
    }

    /// Renders into `sink`.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn render(&self, context: &TemplateContext, sink: &mut Sink) -> Result<(), Fault> {
        match &self.program {
            Program::Handlebars(template) => template.render(context, sink),
            Program::Jinja(template) => template.render(context, sink),
        }
    }
}
