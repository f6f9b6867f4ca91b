//! Jinja2's filters, and the two that NetBox adds (`env`, `header_safe`).
//!
//! Invariants
//! - The table is complete: a filter of Jinja2 that is not carried over is in [`REFUSED`].
//! - In strict mode an unknown value is an error in every filter but `default`.

mod markup;
mod number;
mod sequence;
mod text;

use minijinja::{Error, Value};

use crate::args::Call;
use crate::environment::Handler;
use crate::operators::item;
use crate::print::str_of;
use crate::run::{Run, failed, undefined_used, unsupported};
use crate::value::{Py, as_text, classify, type_name};

pub(crate) use markup::escape_html;

/// Every filter by name.
pub(crate) const FILTERS: &[(&str, Handler)] = &[
    ("abs", number::abs),
    ("attr", attr),
    ("batch", sequence::batch),
    ("capitalize", text::capitalize),
    ("center", text::center),
    ("count", sequence::length),
    ("d", default),
    ("default", default),
    ("dictsort", sequence::dictsort),
    ("e", markup::escape),
    ("env", env),
    ("escape", markup::escape),
    ("filesizeformat", number::filesizeformat),
    ("first", sequence::first),
    ("float", number::float),
    ("forceescape", markup::forceescape),
    ("format", text::format),
    ("groupby", sequence::groupby),
    ("header_safe", text::header_safe),
    ("indent", text::indent),
    ("int", number::int),
    ("items", sequence::items),
    ("join", sequence::join),
    ("last", sequence::last),
    ("length", sequence::length),
    ("list", sequence::list),
    ("lower", text::lower),
    ("map", sequence::map),
    ("max", sequence::max),
    ("min", sequence::min),
    ("pprint", text::pprint),
    ("reject", |call| sequence::select(call, false, false)),
    ("rejectattr", |call| sequence::select(call, true, false)),
    ("replace", text::replace),
    ("reverse", sequence::reverse),
    ("round", number::round),
    ("safe", markup::safe),
    ("select", |call| sequence::select(call, false, true)),
    ("selectattr", |call| sequence::select(call, true, true)),
    ("slice", sequence::slice),
    ("sort", sequence::sort),
    ("string", text::string),
    ("striptags", markup::striptags),
    ("sum", sequence::sum),
    ("title", text::title),
    ("tojson", markup::tojson),
    ("trim", text::trim),
    ("truncate", text::truncate),
    ("unique", sequence::unique),
    ("upper", text::upper),
    ("urlencode", text::urlencode),
    ("wordcount", text::wordcount),
    ("wordwrap", text::wordwrap),
    ("xmlattr", markup::xmlattr),
];

/// Jinja2's filters that are not carried over, and what to write instead.
const REFUSED: [(&str, &str); 2] = [
    ("random", "its result is different each time; use `first` or `last`"),
    ("urlize", "write the link with `<a href=\"{{ url|e }}\">`"),
];

/// Whether Jinja2 has the filter and it is carried over.
pub(crate) fn exists(name: &str) -> bool {
    FILTERS.iter().any(|(known, _)| *known == name)
}

/// Whether Jinja2 or NetBox has the filter, carried over or not.
pub(crate) fn is_known(name: &str) -> bool {
    exists(name) || REFUSED.iter().any(|(known, _)| *known == name)
}

/// Why there is no filter `name`; whether Jinja2 has it.
pub(crate) fn missing(name: &str) -> (bool, String) {
    match REFUSED.iter().find(|(known, _)| *known == name) {
        Some((_, instead)) => (true, format!("the filter `{name}` is not carried over: {instead}")),
        None => (
            false,
            format!("there is no filter `{name}` in Jinja2; see the list of filters in its documentation"),
        ),
    }
}

/// The text of the value a filter is applied to, and whether it is safe.
pub(super) fn text_of(run: &Run, value: &Value) -> Result<(String, bool), Error> {
    Ok((str_of(run, value)?, value.is_safe()))
}

/// An argument that must be an integer; `None` and absent ones are `default`.
pub(crate) fn int_or(what: &str, value: Option<&Value>, default: i64) -> Result<i64, Error> {
    match value {
        None => Ok(default),
        Some(value) => match classify(value) {
            Py::Bool(bool) => Ok(i64::from(bool)),
            Py::Int(int) => i64::try_from(int).map_err(|_| failed(format!("{what} is too large"))),
            _ => Err(failed(format!("{what} must be an integer, not {}", type_name(value)))),
        },
    }
}

/// An argument whose truth counts.
pub(super) fn truth(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}

/// Follows an attribute path such as `type.value` or `0`, as filters with an `attribute` do.
pub(super) fn path(
    run: &Run,
    value: &Value,
    attribute: &Value,
    default: Option<&Value>,
) -> Result<Value, Error> {
    let parts: Vec<Value> = match classify(attribute) {
        Py::Str(path) => path
            .split('.')
            .map(|part| match part.parse::<i64>() {
                Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Value::from(index),
                _ => Value::from(part),
            })
            .collect(),
        Py::Int(_) => vec![attribute.clone()],
        _ => return Err(failed("the attribute must be a name or an integer")),
    };
    let mut found = value.clone();
    for part in parts {
        found = item(run, &found, &part)?;
        if let (true, Some(default)) = (found.is_undefined(), default) {
            found = default.clone();
        }
    }
    Ok(found)
}

/// Text in lower case for comparisons that ignore case; anything else as it is.
pub(super) fn fold_case(run: &Run, value: Value, case_sensitive: bool) -> Result<Value, Error> {
    match (case_sensitive, value.as_str()) {
        (false, Some(text)) => {
            run.pay(text.len())?;
            Ok(Value::from(text.to_lowercase()))
        }
        _ => Ok(value),
    }
}

fn attr(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, name] = call.bind("attr", ["obj", "name"], 2)?;
    let (value, name) = (value.unwrap_or_default(), name.unwrap_or_default());
    let Py::Str(name) = classify(&name) else {
        return Err(failed("the name for `attr` must be text"));
    };
    match classify(&value) {
        Py::Undefined => Err(undefined_used()),
        // The engine's loop, macros and namespaces have members only, which are attributes in Python.
        Py::Engine | Py::Cycler(_) => item(&call.run, &value, &Value::from(name)),
        Py::Seq(crate::value::Seq::Tuple(_)) if matches!(name, "grouper" | "list") => {
            Ok(value.get_attr(name).unwrap_or_default())
        }
        _ => Ok(crate::methods::attribute(&value, name).unwrap_or_default()),
    }
}

fn default(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, default, boolean] = call.bind("default", ["value", "default_value", "boolean"], 1)?;
    let value = value.unwrap_or_default();
    if value.is_undefined() || (truth(boolean.as_ref(), false) && !value.is_true()) {
        Ok(default.unwrap_or_else(|| Value::from("")))
    } else {
        Ok(value)
    }
}

/// NetBox shows the environment variables its configuration names; there are none here.
fn env(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [name] = call.bind("env", ["name"], 1)?;
    match as_text(&call.run, &name.unwrap_or_default())? {
        Some(_) => Ok(Value::from(())),
        None => Err(unsupported("`env` of anything but text")),
    }
}
