//! Template and context become URL, headers and body of a webhook: pure, with limits, escaped by place.
//!
//! A webhook has three templates, written in Handlebars or in Jinja2. [`WebhookTemplates::compile`] reads
//! them once and tells every problem; [`WebhookTemplates::render`] makes a request's parts from a context, as
//! often as needed.
//!
//! With `escape = "auto"` a value stays one value wherever it is printed: the place decides how it is
//! written. With `escape = "none"` values are printed as they are, as NetBox does.
//!
//! Invariants
//! - Whatever the template and the context: compiling and rendering end within [`Limits`], with a result or
//!   an error that names the template, the place and what to write instead.
//! - With escaping on, no value can end a JSON string, add a form field, choose the host, leave its path
//!   segment or add a header line, unless the template says so (`{{{value}}}`, `{{ value|safe }}`).
//! - The same templates and context give the same bytes.
//!
//! Absences: no clock, no chance, no files, no network, no environment; signatures and the headers that every
//! request carries are made elsewhere.

mod body;
mod context;
mod engine;
mod error;
mod handlebars;
mod headers;
mod jinja;
mod json;
mod limits;
mod place;
mod text;
mod url;
mod webhook;

pub use error::{Field, TemplateError, TemplateErrorKind};
pub use limits::Limits;
pub use webhook::{Rendered, WebhookTemplates};

/// The README's example is tested as documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
