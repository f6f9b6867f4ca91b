//! Jinja2 as Python renders it, on minijinja: values, printing, filters, tests, methods.
//!
//! A template that was written for Python's Jinja2 3.1 (its sandboxed environment, autoescape off) gives the same bytes
//! here, or an error that says why not. Parser, virtual machine and values are minijinja's; this crate gives operators,
//! methods, filters, tests and printing the meaning they have in Python.
//!
//! ```
//! use hookwire_jinja::{Options, Template, root, view};
//!
//! let template = Template::compile("{{ data.tags|join(', ') }} {{ data }}", &Options::default())?;
//! let data = serde_json::json!({"tags": ["prod", "edge"], "one": 1.0, "gone": null});
//! let context = root([("data", view(data))]);
//! assert_eq!(template.render(&context)?, "prod, edge {'tags': ['prod', 'edge'], 'one': 1.0, 'gone': None}");
//! # Ok::<(), hookwire_jinja::Error>(())
//! ```
//!
//! Invariants
//! - No template renders differently in silence: what is not carried over is refused by name, when the template is
//!   compiled or at the latest when it is rendered ([`ErrorKind::Unsupported`]; `COMPATIBILITY.md` lists it).
//! - Whatever the template and the context, compiling and rendering end within [`Limits`].
//! - Rendering never changes the context, even where the template calls `data.update(..)`.
//!
//! Absent on purpose: files, network, clock, environment; template inheritance and includes; knowledge of webhooks.

mod args;
mod environment;
mod error;
mod filters;
mod format;
mod functions;
mod guard;
mod json;
mod lower;
mod methods;
mod operators;
mod options;
mod plain;
mod predicates;
mod print;
mod run;
mod template;
mod value;

pub use error::{Error, ErrorKind};
pub use json::{json_dumps, json_dumps_into, json_dumps_text};
pub use options::{Limits, Options, Undefined};
pub use plain::{Plain, Written};
pub use print::{python_repr, python_str};
pub use template::{Printed, Template};
pub use value::{root, view};
