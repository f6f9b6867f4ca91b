//! Methods and attributes of Python's types.
//!
//! Invariants
//! - Every public method of a type is in its table, carried over or not, so that none is taken for a missing member.
//! - Names in double underscores lead nowhere, as in Jinja2's sandbox.

mod containers;
pub(crate) mod text;

use minijinja::{Error, State, Value};

use crate::args::{Call, bind};
use crate::run::{Run, failed, undefined_used, unsupported};
use crate::value::{Map, Method, Py, Seq, classify, int, is_engine, iterate, pay_for_walk, tuple, type_name};

const TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
/// What safe text has beyond [`TEXT`].
const MARKUP: &[&str] = &["escape", "striptags", "unescape"];
const LIST: &[&str] =
    &["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const TUPLE: &[&str] = &["count", "index"];
const DICT: &[&str] = &[
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];
const DICT_VIEW: &[&str] = &["isdisjoint", "mapping"];
const INT: &[&str] = &[
    "as_integer_ratio",
    "bit_count",
    "bit_length",
    "conjugate",
    "denominator",
    "from_bytes",
    "imag",
    "is_integer",
    "numerator",
    "real",
    "to_bytes",
];
const FLOAT: &[&str] = &["as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"];
const BYTES: &[&str] = &["decode", "hex", "count", "find", "index", "join", "replace", "split", "strip"];
const RANGE: &[&str] = &["count", "index", "start", "step", "stop"];
const GENERATOR: &[&str] = &["close", "gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "send", "throw"];
const CYCLER: &[&str] = &["next", "reset"];
const MACRO: &[&str] = &["arguments", "caller", "catch_kwargs", "catch_varargs", "explicit_caller"];

/// Methods that change a list or dict.
const MUTATORS: [&str; 11] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
];

/// Attributes that every object in Python has; the sandbox lets templates get hold of none.
const DUNDERS: [&str; 31] = [
    "__add__",
    "__class__",
    "__class_getitem__",
    "__contains__",
    "__delattr__",
    "__delitem__",
    "__dict__",
    "__dir__",
    "__doc__",
    "__eq__",
    "__format__",
    "__ge__",
    "__getattribute__",
    "__getitem__",
    "__gt__",
    "__hash__",
    "__init__",
    "__init_subclass__",
    "__iter__",
    "__le__",
    "__len__",
    "__lt__",
    "__ne__",
    "__new__",
    "__or__",
    "__reduce__",
    "__repr__",
    "__reversed__",
    "__setitem__",
    "__sizeof__",
    "__str__",
];

/// Whether `name` may be an attribute of some type rather than a member.
pub(crate) fn is_attribute(name: &str) -> bool {
    name.starts_with("__")
        || [TEXT, MARKUP, LIST, DICT, DICT_VIEW, INT, FLOAT, BYTES, RANGE, GENERATOR, CYCLER, MACRO]
            .iter()
            .any(|table| table.contains(&name))
}

/// Whether a method of this name changes its list or dict.
pub(crate) fn is_mutator(name: &str) -> bool {
    MUTATORS.contains(&name)
}

fn table(value: &Value) -> &'static [&'static str] {
    match classify(value) {
        Py::Str(_) => TEXT,
        Py::Bytes(_) => BYTES,
        Py::Seq(seq) if seq.is_tuple() => TUPLE,
        Py::Seq(_) => LIST,
        Py::Dict(_) => DICT,
        Py::DictView(_) => DICT_VIEW,
        Py::Bool(_) | Py::Int(_) | Py::BigInt(_) => INT,
        Py::Float(_) => FLOAT,
        Py::Range(_) => RANGE,
        Py::Generator(_) => GENERATOR,
        Py::Cycler(_) => CYCLER,
        Py::Undefined | Py::None | Py::Method(_) | Py::Joiner | Py::Engine => &[],
    }
}

/// The attribute `name` of a value, not a member of a dict: a property's value, or a method that can be called.
pub(crate) fn attribute(value: &Value, name: &str) -> Option<Value> {
    let known = table(value).contains(&name) || (value.is_safe() && MARKUP.contains(&name));
    if !known {
        return None;
    }
    match (classify(value), name) {
        (Py::Bool(bool), "real" | "numerator") => Some(Value::from(i64::from(bool))),
        (Py::Int(_) | Py::BigInt(_), "real" | "numerator") | (Py::Float(_), "real") => Some(value.clone()),
        (Py::Bool(_) | Py::Int(_) | Py::BigInt(_), "imag") => Some(Value::from(0)),
        (Py::Bool(_) | Py::Int(_) | Py::BigInt(_), "denominator") => Some(Value::from(1)),
        (Py::Float(_), "imag") => Some(Value::from(0.0)),
        (Py::Range(range), "start") => Some(Value::from(range.start)),
        (Py::Range(range), "stop") => Some(Value::from(range.stop)),
        (Py::Range(range), "step") => Some(Value::from(range.step)),
        _ => Some(Value::from_object(Method::new(value.clone(), name))),
    }
}

/// `value.name`: the attribute, or else the member.
///
/// # Errors
/// An unknown `value`.
pub(crate) fn get_attribute(run: &Run, value: &Value, name: &str) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(undefined_used());
    }
    if DUNDERS.contains(&name) {
        return Ok(Value::UNDEFINED);
    }
    match attribute(value, name) {
        Some(found) => Ok(found),
        None => match classify(value) {
            Py::Dict(map) => map.get(run, &Value::from(name)).map(Option::unwrap_or_default),
            Py::Engine if is_engine(value, "Macro") && MACRO.contains(&name) => match name {
                // The engine keeps a list.
                "arguments" => tuple(iterate(run, &value.get_attr(name).unwrap_or_default())?),
                "caller" => Ok(value.get_attr(name).unwrap_or_default()),
                _ => Err(unsupported(format!("`{name}` of a macro"))),
            },
            Py::Seq(_) | Py::Cycler(_) | Py::Engine => Ok(value.get_attr(name).unwrap_or_default()),
            _ => Ok(Value::UNDEFINED),
        },
    }
}

/// `receiver.name(args)`.
///
/// # Errors
/// What Python raises, methods that are not carried over, and names that lead nowhere.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    receiver: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if receiver.is_undefined() {
        return Err(undefined_used());
    }
    if table(receiver).contains(&name) || (receiver.is_safe() && MARKUP.contains(&name)) {
        let run = Run::of(state);
        let mut call = Call { state, run, args };
        let result = dispatch(&mut call, receiver, name)?;
        call.run.settle(call.state)?;
        return Ok(result);
    }
    match classify(receiver) {
        // Of the loop's methods this one divides by the number of its arguments.
        Py::Engine if name == "cycle" && args.is_empty() => {
            Err(failed("loop.cycle() needs at least one item"))
        }
        Py::Engine => {
            // The loop compares these with those of the round before.
            if name == "changed" {
                let run = Run::of(state);
                args.iter().try_for_each(|arg| pay_for_walk(&run, arg))?;
                run.settle(state)?;
            }
            receiver.call_method(state, name, args)
        }
        _ => {
            let run = Run::of(state);
            let member = get_attribute(&run, receiver, name)?;
            if member.is_undefined() {
                return Err(Error::new(
                    minijinja::ErrorKind::UndefinedError,
                    format!("{} has no method `{name}`", type_name(receiver)),
                ));
            }
            match classify(&member) {
                Py::Method(_) | Py::Joiner | Py::Engine => member.call(state, args),
                _ => Err(failed(format!("`{name}` is {}, which can't be called", type_name(&member)))),
            }
        }
    }
}

fn dispatch(call: &mut Call<'_, '_, '_>, receiver: &Value, name: &str) -> Result<Value, Error> {
    match classify(receiver) {
        Py::Str(plain) => text::call(call, receiver, plain, name),
        Py::Seq(Seq::List(list)) => containers::list(call, list, name),
        Py::Seq(seq) => containers::sequence(call, seq, name),
        Py::Dict(Map::Dict(dict)) => containers::dict(call, receiver, dict, name),
        Py::Dict(map) => containers::map(call, receiver, map, name),
        Py::Cycler(cycler) => {
            bind(name, [], 0, call.args)?;
            if name == "next" {
                Ok(cycler.advance())
            } else {
                cycler.reset();
                Ok(Value::from(()))
            }
        }
        Py::Bool(bool) => integer(call, i128::from(bool), name),
        Py::Int(value) => integer(call, value, name),
        Py::Float(float) if name == "is_integer" => {
            bind(name, [], 0, call.args)?;
            Ok(Value::from(float.is_finite() && float.fract() == 0.0))
        }
        Py::Bytes(bytes) => bytes_method(call, bytes, name),
        _ => Err(not_carried_over(receiver, name)),
    }
}

/// Python has the method and we don't.
fn not_carried_over(receiver: &Value, name: &str) -> Error {
    unsupported(format!("the method `{name}` of {} is not carried over", type_name(receiver)))
}

fn integer(call: &Call<'_, '_, '_>, value: i128, name: &str) -> Result<Value, Error> {
    match name {
        "bit_length" | "bit_count" | "conjugate" | "is_integer" => {
            bind(name, [], 0, call.args)?;
        }
        _ => return Err(not_carried_over(&int(value), name)),
    }
    let magnitude = value.unsigned_abs();
    Ok(match name {
        "bit_length" => Value::from(u128::BITS - magnitude.leading_zeros()),
        "bit_count" => Value::from(magnitude.count_ones()),
        "is_integer" => Value::from(true),
        _ => int(value),
    })
}

fn bytes_method(call: &Call<'_, '_, '_>, bytes: &[u8], name: &str) -> Result<Value, Error> {
    match name {
        "decode" => {
            let [encoding, errors] = bind(name, ["encoding", "errors"], 0, call.args)?;
            if errors.is_some() || !encoding.is_none_or(|encoding| text::is_utf8(&encoding)) {
                return Err(unsupported("`decode` with anything but UTF-8"));
            }
            let decoded = std::str::from_utf8(bytes).map_err(|_| failed("the bytes are not UTF-8"))?;
            Ok(Value::from(decoded))
        }
        "hex" => {
            let [] = bind(name, [], 0, call.args)?;
            call.run.pay(bytes.len().saturating_mul(2))?;
            Ok(Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        }
        _ => Err(not_carried_over(&Value::from_bytes(Vec::new()), name)),
    }
}
