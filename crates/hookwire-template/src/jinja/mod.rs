//! Jinja2, by way of `hookwire-jinja`: the context as its values, and escaping by place on its printed
//! values.
//!
//! Invariants
//! - A context is looked at through a view; only the documents that a template names are parsed.
//! - In JSON each printed value is marked in the text and put into its place in one pass at the end, because
//!   macros and blocks print before it is known where their text will stand.

mod captures;
mod marks;
mod plain;
mod tags;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use hookwire_jinja::{ErrorKind, Options, Printed, Undefined, view};
use hookwire_model::{CONTEXT_MEMBERS, Member, TemplateContext};
use minijinja::Value;
use minijinja::value::{Enumerator, Object};

use self::marks::Marks;
use crate::context::missing_from_root;
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

    /// Renders into an empty `sink`.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) fn render(&self, context: &TemplateContext, sink: &mut Sink) -> Result<(), Fault> {
        if plain::render(&self.template, self.place, context, sink) {
            return Ok(());
        }
        self.render_by_engine(context, sink)
    }

    fn render_by_engine(&self, context: &TemplateContext, sink: &mut Sink) -> Result<(), Fault> {
        let root = Value::from_object(Root::new(context));
        let rendering = (self.template.source(), context);
        let failed = |error: hookwire_jinja::Error| fault(&error, Some(rendering));
        match self.place {
            Place::Text => sink.literal(&self.template.render(&root).map_err(failed)?),
            Place::Json => {
                let marks = Marks::unused_in(self.template.source(), context);
                let text = self.template.render_with(&root, marks.formatter()).map_err(failed)?;
                marks.put_in_place(&text, sink)
            }
            Place::Form | Place::Url => {
                let escaped = Arc::new(AtomicBool::new(false));
                let saw_escaped = Arc::clone(&escaped);
                let formatter = move |printed: &Printed<'_>, out: &mut dyn fmt::Write| {
                    let text = printed.text()?;
                    if printed.is_safe() {
                        return written(out.write_str(&text));
                    }
                    saw_escaped.store(true, Ordering::Relaxed);
                    let mut encoded = String::with_capacity(text.len());
                    push_percent_encoded(&mut encoded, &text);
                    written(out.write_str(&encoded))
                };
                let text = self.template.render_with(&root, formatter).map_err(failed)?;
                if escaped.load(Ordering::Relaxed) { sink.escaped(&text) } else { sink.literal(&text) }
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
    /// Views of the documents, which are named again and again.
    views: [OnceLock<Value>; DOCUMENTS.len()],
}

/// The members that are documents.
const DOCUMENTS: [&str; 4] = ["data", "request", "snapshots", "context"];

impl Root {
    fn new(context: &TemplateContext) -> Root {
        Root { context: context.clone(), views: Default::default() }
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
        match self.context.member(key)? {
            Member::Text(text) => Some(Value::from(text)),
            Member::Document(json) => {
                let index = DOCUMENTS.iter().position(|name| *name == key)?;
                Some(self.views[index].get_or_init(|| view(json.clone())).clone())
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.context.members().map(|(name, _)| Value::from(name)).collect())
    }
}

/// Our error for one of `hookwire-jinja`; at rendering the context helps to say what was meant.
fn fault(error: &hookwire_jinja::Error, rendering: Option<(&str, &TemplateContext)>) -> Fault {
    let kind = match error.kind() {
        ErrorKind::Syntax => TemplateErrorKind::Syntax,
        ErrorKind::Unknown => TemplateErrorKind::Unknown,
        ErrorKind::Undefined => TemplateErrorKind::Undefined,
        ErrorKind::Limit => TemplateErrorKind::Limit,
        ErrorKind::Unsupported => TemplateErrorKind::Unsupported,
        _ => TemplateErrorKind::Runtime,
    };
    let named = match (kind, rendering) {
        (TemplateErrorKind::Undefined, Some((source, context))) => {
            path_of(error, source).and_then(|path| missing(&path, context))
        }
        _ => None,
    };
    let fault = named.unwrap_or_else(|| {
        let message =
            match error.excerpt().filter(|excerpt| !error.message().contains(&format!("`{excerpt}`"))) {
                // The end of a tag says nothing that the place does not.
                Some("%}" | "}}") => error.message().to_owned(),
                Some(excerpt) => format!("{} (in `{excerpt}`)", error.message()),
                None => error.message().to_owned(),
            };
        let remedy = syntax_remedy(&message);
        let fault = Fault::new(kind, message);
        remedy.into_iter().fold(fault, Fault::remedy)
    });
    match error.line() {
        Some(line) => fault.at(Pos { line, column: error.column().unwrap_or(1) }),
        None => fault,
    }
}

/// What to do about the mistakes that are made most.
fn syntax_remedy(message: &str) -> Option<&'static str> {
    if message.contains("expected end of variable block") {
        return Some("close it with `}}`");
    }
    message
        .contains("unexpected end of input")
        .then_some("close what is open, such as `{% if %}` with `{% endif %}`")
}

/// The path that an error is about, such as `data.nmae`; its excerpt may begin in the midst of it.
fn path_of(error: &hookwire_jinja::Error, source: &str) -> Option<String> {
    let line = source.lines().nth(error.line()?.checked_sub(1)?)?;
    let (at, _) = line.char_indices().nth(error.column()?.checked_sub(1)?)?;
    let is_path = |c: char| c.is_alphanumeric() || "_.[]'\"".contains(c);
    let begin = line[..at].trim_end_matches(is_path).len();
    Some(format!("{}{}", &line[begin..at], error.excerpt()?))
}

/// What to say about a path that leads nowhere, if it is one.
fn missing(path: &str, context: &TemplateContext) -> Option<Fault> {
    let is_word =
        |segment: &str| !segment.is_empty() && segment.chars().all(|c| c.is_alphanumeric() || c == '_');
    let dotted = path.replace("['", ".").replace("[\"", ".").replace("']", "").replace("\"]", "");
    let segments: Vec<&str> = dotted.split('.').collect();
    // A name that no context has may be the template's own, and then its members are not ours to explain.
    let is_ours = CONTEXT_MEMBERS.contains(&segments[0]) || segments.len() == 1;
    // One that leads somewhere was hidden by a name of the template's.
    let exists =
        segments.iter().try_fold(context.root().root(), |value, segment| value.get(segment)).is_some();
    (is_ours && !exists && segments.iter().all(|segment| is_word(segment)))
        .then(|| missing_from_root(path, context, segments.into_iter()))
}
