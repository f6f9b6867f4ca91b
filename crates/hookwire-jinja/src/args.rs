//! Arguments of filters, tests, methods and functions, bound to names as Python binds them.
//!
//! Invariants
//! - Too many, unknown, doubled and missing arguments are errors.

use minijinja::{Error, State, Value};

use crate::run::{Run, failed, undefined_used};
use crate::value::{Py, classify};

/// One call of a filter, test, function or operator.
pub(crate) struct Call<'a, 'template, 'env> {
    pub(crate) state: &'a mut State<'template, 'env>,
    pub(crate) run: Run,
    pub(crate) args: &'a [Value],
}

impl Call<'_, '_, '_> {
    /// The arguments in the order of `names`, of which the first `required` must be there.
    pub(crate) fn bind<const N: usize>(
        &self,
        what: &str,
        names: [&str; N],
        required: usize,
    ) -> Result<[Option<Value>; N], Error> {
        bind(what, names, required, self.args)
    }
}

/// See [`Call::bind`].
pub(crate) fn bind<const N: usize>(
    what: &str,
    names: [&str; N],
    required: usize,
    args: &[Value],
) -> Result<[Option<Value>; N], Error> {
    let (positional, named) = split(args);
    if positional.len() > N {
        return Err(failed(format!("{what} takes at most {N} arguments, {} were given", positional.len())));
    }
    let mut bound = [const { None }; N];
    for (slot, value) in bound.iter_mut().zip(positional) {
        *slot = Some(value.clone());
    }
    for (name, value) in named {
        let Some(index) = names.iter().position(|known| *known == name) else {
            return Err(failed(format!("{what} takes no argument `{name}`")));
        };
        if bound[index].replace(value).is_some() {
            return Err(failed(format!("{what} got its argument `{name}` twice")));
        }
    }
    match bound.iter().take(required).position(Option::is_none) {
        Some(missing) => Err(failed(format!("{what} needs its argument `{}`", names[missing]))),
        None => Ok(bound),
    }
}

/// As [`bind`], for Python's many built-in methods that take no keyword arguments; `names` are for messages only.
pub(crate) fn bind_positional<const N: usize>(
    what: &str,
    names: [&str; N],
    required: usize,
    args: &[Value],
) -> Result<[Option<Value>; N], Error> {
    match split(args).1.first() {
        Some((name, _)) => Err(failed(format!("{what} takes no keyword arguments, `{name}` was given"))),
        None => bind(what, names, required, args),
    }
}

/// An argument that is a yes or no for Python's built-in methods: a boolean or an integer.
pub(crate) fn flag(what: &str, value: Option<&Value>) -> Result<bool, Error> {
    match value.map(classify) {
        None => Ok(false),
        Some(Py::Bool(_) | Py::Int(_)) => Ok(value.is_some_and(Value::is_true)),
        Some(Py::Undefined) => Err(undefined_used()),
        Some(_) => Err(failed(format!("{what} must be true or false"))),
    }
}

/// Positional and keyword arguments.
pub(crate) fn split(args: &[Value]) -> (&[Value], Vec<(String, Value)>) {
    match args.split_last() {
        Some((last, positional)) if last.is_kwargs() => {
            let pairs = last.as_object().and_then(|object| object.try_iter_pairs());
            let named = pairs.into_iter().flatten();
            (
                positional,
                named.map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value)).collect(),
            )
        }
        _ => (args, Vec::new()),
    }
}
