//! The engine set up as Jinja2's sandboxed environment: its filters, tests and globals, and no others.
//!
//! Invariants
//! - Nothing registered here reads files, network, clock, environment or chance.
//! - Environments are shared: a template adds its limits to a clone, which shares all the tables.

use std::sync::OnceLock;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, Output, State, UndefinedBehavior, Value};

use crate::args::Call;
use crate::lower::op;
use crate::operators::{self, Arithmetic};
use crate::options::{Limits, Options, Undefined};
use crate::run::{Run, failed};
use crate::value::{Dict, Py, classify, iterate, list, raise, tuple};
use crate::{filters, functions, methods, predicates, print};

/// What a filter, function or operator does.
pub(crate) type Handler = fn(&mut Call<'_, '_, '_>) -> Result<Value, Error>;

/// What a test does.
pub(crate) type Predicate = fn(&mut Call<'_, '_, '_>) -> Result<bool, Error>;

/// An environment for one template.
pub(crate) fn environment(options: &Options) -> Environment<'static> {
    static BASE: OnceLock<Environment<'static>> = OnceLock::new();
    let mut env = BASE.get_or_init(base).clone();
    env.set_undefined_behavior(match options.undefined {
        // The engine's own strict mode would also refuse `{% if unknown %}`.
        Undefined::Strict => UndefinedBehavior::SemiStrict,
        Undefined::Lenient => UndefinedBehavior::Lenient,
    });
    env.set_fuel(Some(options.limits.fuel));
    env.set_recursion_limit(options.limits.recursion.min(Limits::RECURSION_MAX));
    env
}

fn base() -> Environment<'static> {
    // `empty` comes without the engine's filters, tests and globals, of which Jinja2 has only a part.
    let mut env = Environment::empty();
    env.set_debug(false);
    env.set_formatter(print_value);
    for (name, handler) in filters::FILTERS.iter().chain(OPERATORS) {
        add_filter(&mut env, name, *handler);
    }
    for (name, predicate) in predicates::PREDICATES {
        let predicate = *predicate;
        env.add_test(*name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            called(state, &args.into_values(), predicate)
        });
    }
    for (name, handler) in functions::FUNCTIONS {
        let handler = *handler;
        env.add_function(*name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            called(state, &args.into_values(), handler)
        });
    }
    env.add_global("namespace", functions::namespace());
    env
}

fn add_filter(env: &mut Environment<'static>, name: &'static str, handler: Handler) {
    env.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        called(state, &args.into_values(), handler)
    });
}

/// Runs `handler` and charges what it used.
fn called<R>(
    state: &mut State<'_, '_>,
    args: &[Value],
    handler: fn(&mut Call<'_, '_, '_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let run = Run::of(state);
    let mut call = Call { state, run, args };
    let result = handler(&mut call)?;
    call.run.settle(call.state)?;
    Ok(result)
}

/// Prints as Python does.
fn print_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Py::Str(text) = classify(value) {
        return Ok(out.write_str(text)?);
    }
    // In strict mode the engine has refused unknown values before; this one is an `if` without `else`.
    if value.is_undefined() {
        return Ok(());
    }
    let run = Run::of(state);
    let text = print::str_of(&run, value)?;
    Ok(out.write_str(&text)?)
}

macro_rules! arithmetic {
    ($op:ident) => {
        |call| {
            let (left, right) = pair(call)?;
            operators::arithmetic(call, Arithmetic::$op, left, right)
        }
    };
}

macro_rules! comparison {
    ($($holds:pat_param)|+) => {
        |call| {
            let (left, right) = pair(call)?;
            let order = operators::compare(&call.run, left, right)?;
            Ok(Value::from(matches!(order, $(Some($holds))|+)))
        }
    };
}

/// What lowered templates call; see [`op`].
const OPERATORS: &[(&str, Handler)] = {
    use std::cmp::Ordering::{Equal, Greater, Less};
    &[
        (op::ADD, arithmetic!(Add)),
        (op::SUB, arithmetic!(Sub)),
        (op::MUL, arithmetic!(Mul)),
        (op::DIV, arithmetic!(Div)),
        (op::FLOOR_DIV, arithmetic!(FloorDiv)),
        (op::REM, arithmetic!(Rem)),
        (op::POW, arithmetic!(Pow)),
        (op::POW_OF_CONSTANT, |call| {
            let (left, right) = pair(call)?;
            operators::power_of_constant(call, left, right)
        }),
        (op::NEG, |call| operators::negate(first(call)?)),
        (op::CONCAT, |call| {
            let (left, right) = pair(call)?;
            operators::concat(call, &[left, right])
        }),
        (op::EQ, |call| {
            let (left, right) = pair(call)?;
            operators::equal(&call.run, left, right).map(Value::from)
        }),
        (op::NE, |call| {
            let (left, right) = pair(call)?;
            operators::equal(&call.run, left, right).map(|equal| Value::from(!equal))
        }),
        (op::LT, comparison!(Less)),
        (op::LE, comparison!(Less | Equal)),
        (op::GT, comparison!(Greater)),
        (op::GE, comparison!(Greater | Equal)),
        (op::IN, |call| {
            let (item, container) = pair(call)?;
            operators::contains(&call.run, container, item).map(Value::from)
        }),
        (op::NOT_IN, |call| {
            let (item, container) = pair(call)?;
            operators::contains(&call.run, container, item).map(|found| Value::from(!found))
        }),
        (op::ATTR, |call| {
            let (value, name) = pair(call)?;
            methods::get_attribute(&call.run, value, name.as_str().unwrap_or_default())
        }),
        (op::ITEM, |call| {
            let (value, key) = pair(call)?;
            operators::item(&call.run, value, key)
        }),
        (op::SLICE, |call| match call.args {
            [value, start, stop, step] => operators::slice(&call.run, value, start, stop, step),
            _ => Err(lowered_wrong()),
        }),
        (op::METHOD, |call| match call.args {
            [receiver, name, args @ ..] => {
                methods::call(call.state, receiver, name.as_str().unwrap_or_default(), args)
            }
            _ => Err(lowered_wrong()),
        }),
        (op::LIST, |call| list(&call.run, rest(call).to_vec())),
        (op::TUPLE, |call| {
            call.run.pay_items(call.args.len())?;
            tuple(rest(call).to_vec())
        }),
        (op::DICT, |call| {
            let (pairs, _) = rest(call).as_chunks::<2>();
            call.run.pay_items(pairs.len() * 2)?;
            let pairs = pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect();
            Dict::new(&call.run, pairs).map(Value::from_object)
        }),
        (op::ITERATE, |call| {
            let value = first(call)?;
            match classify(value) {
                // These yield their items one by one, and know how many there are.
                Py::Seq(_) | Py::Dict(_) | Py::DictView(_) | Py::Range(_) | Py::Generator(_) => {
                    Ok(value.clone())
                }
                _ => list(&call.run, iterate(&call.run, value)?),
            }
        }),
        (op::STORE, |call| {
            let value = first(call)?;
            raise(value, 1)?;
            Ok(value.clone())
        }),
        (op::SPLAT, |call| {
            let items = iterate(&call.run, first(call)?)?;
            Ok(Value::from(items))
        }),
        (op::KW_SPLAT, |call| {
            let value = first(call)?;
            match classify(value) {
                Py::Dict(map) if map.items().iter().all(|(key, _)| key.as_str().is_some()) => {
                    Ok(value.clone())
                }
                Py::Dict(_) => Err(failed("`**` needs a dict whose keys are strings")),
                _ => Err(crate::run::wrong_type("`**`", value)),
            }
        }),
        (op::KEEP, |call| {
            let value = first(call)?;
            match classify(value) {
                Py::Generator(_) => Err(crate::run::unsupported(
                    "keeping a generator in a template that changes lists or dicts; add `|list`",
                )),
                _ => Ok(value.clone()),
            }
        }),
        (op::GIVEN, |call| {
            let value = first(call)?;
            if value.is_undefined() {
                return Err(crate::run::unsupported(
                    "an unknown value as the argument of a macro whose arguments have defaults; give it `|default(..)`",
                ));
            }
            Ok(value.clone())
        }),
    ]
};

fn first<'a>(call: &Call<'a, '_, '_>) -> Result<&'a Value, Error> {
    call.args.first().ok_or_else(lowered_wrong)
}

fn pair<'a>(call: &Call<'a, '_, '_>) -> Result<(&'a Value, &'a Value), Error> {
    match call.args {
        [left, right] => Ok((left, right)),
        _ => Err(lowered_wrong()),
    }
}

/// What follows the placeholder that stands where a filter's value would.
fn rest<'a>(call: &Call<'a, '_, '_>) -> &'a [Value] {
    call.args.get(1..).unwrap_or_default()
}

/// No template can write such a call, so this is a mistake of ours; an error is still better than a panic.
fn lowered_wrong() -> Error {
    failed("an operator was lowered with the wrong number of operands")
}
