//! Jinja2, by way of `hookwire-jinja`: the context as its values, and escaping by place on its printed values.
//!
//! Invariants
//! - A context is looked at through a view; only the documents that a template names are parsed.
//! - In JSON each printed value is marked in the text and put into its place in one pass at the end, because macros and
//!   blocks print before it is known where their text will stand.

mod captures;
mod marks;
mod tags;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use hookwire_jinja::{ErrorKind, Options, Printed, Undefined, view};
use hookwire_model::{Member, TemplateContext};
use minijinja::Value;
use minijinja::value::{Enumerator, Object};

use self::marks::Marks;
use crate::context::{MEMBERS, missing_from_root};
use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::headers;
use crate::limits::Limits;
use crate::place::{Place, Sink, push_percent_encoded};

/// A compiled template.
#[derive(Debug)]
pub(crate) struct Jinja {
    template: hookwire_jinja::Template,
    place: Place,
}

/// Finds the tags of a source, as byte ranges in order.
pub(crate) fn tags(source: &str) -> Vec<Range<usize>> {
    tags::scan(source)
}

impl Jinja {
    /// Compiles a source, whose tags these are.
    ///
    /// # Errors
    /// Every problem there is.
    pub(crate) fn compile(
        source: &str,
        tags: &[Range<usize>],
        place: Place,
        strict: bool,
        limits: &Limits,
    ) -> Result<Jinja, Vec<Fault>> {
        let options = Options {
            undefined: if strict { Undefined::Strict } else { Undefined::Lenient },
            limits: hookwire_jinja::Limits {
                fuel: limits.steps,
                output_bytes: limits.output_bytes,
                source_bytes: limits.source_bytes,
                recursion: limits.recursion,
                nesting: limits.nesting,
            },
        };
        let template =
            hookwire_jinja::Template::compile(source, &options).map_err(|error| vec![fault(&error, None)])?;
        if place == Place::Json {
            let faults = captures::check(source, tags);
            if !faults.is_empty() {
                return Err(faults);
            }
        }
        Ok(Jinja { template, place })
    }

    /// Renders into `sink`.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn render(&self, context: &TemplateContext, sink: &mut Sink) -> Result<(), Fault> {
        let root = Value::from_object(Root::new(context));
        let failed = |error: hookwire_jinja::Error| fault(&error, Some(context));
        match self.place {
            Place::Text => sink.literal(&self.template.render(&root).map_err(failed)?),
            Place::Json => {
                let marks = Marks::unused_in(self.template.source(), context);
                let text = self.template.render_with(&root, marks.formatter()).map_err(failed)?;
                marks.put_in_place(&text, sink)
            }
            Place::Form | Place::Url => {
                let raw = Arc::new(AtomicBool::new(false));
                let saw_raw = Arc::clone(&raw);
                let formatter = move |printed: &Printed<'_>, out: &mut dyn fmt::Write| {
                    let text = printed.text()?;
                    if printed.is_safe() {
                        saw_raw.store(true, Ordering::Relaxed);
                        return written(out.write_str(&text));
                    }
                    let mut encoded = String::with_capacity(text.len());
                    push_percent_encoded(&mut encoded, &text);
                    written(out.write_str(&encoded))
                };
                let text = self.template.render_with(&root, formatter).map_err(failed)?;
                if raw.load(Ordering::Relaxed) { sink.raw(&text) } else { sink.escaped(&text) }
            }
            Place::Headers => {
                let refused = Arc::new(Mutex::new(None));
                let slot = Arc::clone(&refused);
                let formatter = move |printed: &Printed<'_>, out: &mut dyn fmt::Write| {
                    let text = printed.text()?;
                    if !printed.is_safe()
                        && let Err(fault) = headers::check_value_adds_no_line(&text)
                    {
                        let message = fault.message.clone();
                        *slot.lock().expect("nothing panics while it holds this lock") = Some(fault);
                        return Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message));
                    }
                    written(out.write_str(&text))
                };
                match self.template.render_with(&root, formatter) {
                    Ok(text) => sink.escaped(&text),
                    Err(error) => {
                        let refused = refused.lock().expect("nothing panics while it holds this lock").take();
                        Err(match (refused, error.line(), error.column()) {
                            (None, ..) => failed(error),
                            (Some(fault), Some(line), Some(column)) => fault.at(Pos { line, column }),
                            (Some(fault), ..) => fault,
                        })
                    }
                }
            }
        }
    }
}

fn written(result: fmt::Result) -> Result<(), minijinja::Error> {
    result.map_err(|_| minijinja::Error::new(minijinja::ErrorKind::WriteFailure, "the text can't be written"))
}

/// The template context as a minijinja object: members become values when a template names them.
struct Root {
    context: TemplateContext,
    values: [OnceLock<Option<Value>>; MEMBERS.len()],
}

impl Root {
    fn new(context: &TemplateContext) -> Root {
        Root { context: context.clone(), values: Default::default() }
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").finish_non_exhaustive()
    }
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let index = MEMBERS.iter().position(|member| *member == key)?;
        let value = self.values[index].get_or_init(|| {
            Some(match self.context.member(key)? {
                Member::Text(text) => Value::from(text),
                Member::Document(json) => view(json.tree().clone()),
            })
        });
        value.clone()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.context.members().map(|(name, _)| Value::from(name)).collect())
    }
}

fn fault(error: &hookwire_jinja::Error, context: Option<&TemplateContext>) -> Fault {
    let kind = match error.kind() {
        ErrorKind::Syntax => TemplateErrorKind::Syntax,
        ErrorKind::Unknown => TemplateErrorKind::Unknown,
        ErrorKind::Undefined => TemplateErrorKind::Undefined,
        ErrorKind::Limit => TemplateErrorKind::Limit,
        ErrorKind::Unsupported => TemplateErrorKind::Unsupported,
        _ => TemplateErrorKind::Runtime,
    };
    let mut fault = match (kind, context, error.excerpt()) {
        (TemplateErrorKind::Undefined, Some(context), Some(excerpt)) => named(excerpt, context),
        _ => None,
    }
    .unwrap_or_else(|| {
        let message = match error.excerpt() {
            Some(excerpt) => format!("{} (in `{excerpt}`)", error.message()),
            None => error.message().to_owned(),
        };
        Fault::new(kind, message)
    });
    if let (Some(line), column) = (error.line(), error.column()) {
        fault = fault.at(Pos { line, column: column.unwrap_or(1) });
    }
    fault
}

/// What to say about an unknown name where the piece of the template is a plain path, such as `data.nmae`.
fn named(excerpt: &str, context: &TemplateContext) -> Option<Fault> {
    let path = excerpt.trim_start_matches("{{").trim_end_matches("}}").trim();
    let is_word =
        |segment: &str| !segment.is_empty() && segment.chars().all(|c| c.is_alphanumeric() || c == '_');
    let dotted = path.replace("['", ".").replace("[\"", ".").replace("']", "").replace("\"]", "");
    let segments: Vec<&str> = dotted.split('.').collect();
    if !segments.iter().all(|segment| is_word(segment))
        || !MEMBERS.contains(&segments[0]) && segments.len() > 1
    {
        return None;
    }
    Some(missing_from_root(path, context, segments.into_iter()))
}
