//! Jinja2's global functions.
//!
//! Invariants
//! - `lipsum` is refused at compile time, because its result is different each time (see `lower.rs`).

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Error, State, Value};

use crate::args::{Call, split};
use crate::environment::Handler;
use crate::run::{Run, failed, limit, unsupported};
use crate::value::{Cycler, Dict, Joiner, Py, Range, classify, iterate, raise};

/// Every global function by name, but `namespace`.
pub(crate) const FUNCTIONS: &[(&str, Handler)] =
    &[("range", range), ("dict", dict), ("cycler", cycler), ("joiner", joiner)];

/// Whether Jinja2 has the function; a template may still use its name for something else.
pub(crate) fn exists(name: &str) -> bool {
    name == "namespace" || FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// The largest range that Jinja2's sandbox allows.
const RANGE_MAX: usize = 100_000;

fn range(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let (args, named) = split(call.args);
    if !named.is_empty() {
        return Err(failed("range() takes no keyword arguments"));
    }
    let mut bounds = Vec::with_capacity(3);
    for arg in args {
        match classify(arg) {
            Py::Bool(bool) => bounds.push(i64::from(bool)),
            Py::Int(int) => bounds.push(i64::try_from(int).map_err(|_| too_large())?),
            _ => return Err(crate::run::wrong_type("range()", arg)),
        }
    }
    let range = match bounds[..] {
        [stop] => Range { start: 0, stop, step: 1 },
        [start, stop] => Range { start, stop, step: 1 },
        [_, _, 0] => return Err(failed("the step of range() must not be zero")),
        [start, stop, step] => Range { start, stop, step },
        _ => return Err(failed("range() takes one to three arguments")),
    };
    if range.len() > RANGE_MAX {
        return Err(too_large());
    }
    Ok(Value::from_object(range))
}

fn too_large() -> Error {
    limit(format!("a range may have at most {RANGE_MAX} items"))
}

fn dict(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    pairs(&call.run, call.args).and_then(|pairs| Dict::new(&call.run, pairs)).map(Value::from_object)
}

/// What `dict(..)` is given: a dict or pairs, and keyword arguments.
pub(crate) fn pairs(run: &Run, args: &[Value]) -> Result<Vec<(Value, Value)>, Error> {
    let (positional, named) = split(args);
    let mut pairs = match positional {
        [] => Vec::new(),
        [source] => match classify(source) {
            Py::Dict(map) => map.items(),
            _ => iterate(run, source)?
                .iter()
                .map(|pair| match iterate(run, pair)?.as_slice() {
                    [key, value] => Ok((key.clone(), value.clone())),
                    _ => Err(failed("a dict needs pairs of key and value")),
                })
                .collect::<Result<_, _>>()?,
        },
        _ => return Err(failed("a dict takes one positional argument at most")),
    };
    pairs.extend(named.into_iter().map(|(name, value)| (Value::from(name), value)));
    run.pay_items(pairs.len() * 2)?;
    Ok(pairs)
}

fn cycler(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let (items, named) = split(call.args);
    if !named.is_empty() {
        return Err(failed("cycler() takes no keyword arguments"));
    }
    call.run.pay_items(items.len())?;
    Cycler::new(items.to_vec()).map(Value::from_object)
}

fn joiner(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [separator] = call.bind("joiner()", ["sep"], 0)?;
    let separator = separator.unwrap_or_else(|| Value::from(", "));
    if separator.as_object().is_some() {
        return Err(unsupported("a joiner of anything but text or a number"));
    }
    Ok(Value::from_object(Joiner::new(separator)))
}

/// The engine's `namespace`, which its `set` statement knows, with its values checked as a container's items are.
pub(crate) fn namespace() -> Value {
    Value::from_function(|state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        let run = Run::of(state);
        let pairs = pairs(&run, &args.into_values())?;
        pairs.iter().try_for_each(|(_, value)| raise(value, 1))?;
        let dict = Dict::new(&run, pairs).map(Value::from_object)?;
        run.settle(state)?;
        minijinja::functions::namespace(Some(ValueOrKwargs::from(dict)))
    })
}
