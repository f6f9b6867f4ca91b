//! Filters about lists, dicts and whatever can be looped over.
//!
//! Invariants
//! - What Python computes lazily is computed at once here, but can still be taken only once ([`Generator`]).

use std::cmp::Ordering;

use minijinja::{Error, Value};

use super::{fold_case, int_or, path, truth};
use crate::args::{Call, split};
use crate::operators::{Arithmetic, arithmetic, compare, concat, equal};
use crate::run::{Run, failed, unknown, unsupported, wrong_type};
use crate::value::{Generator, Key, Py, Tuple, classify, iterate, key_of, len, raise, text, tuple};
use crate::{filters, predicates, value};

fn generator(call: &Call<'_, '_, '_>, items: Vec<Value>) -> Result<Value, Error> {
    call.run.pay_items(items.len())?;
    Generator::new(items).map(Value::from_object)
}

pub(super) fn length(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("length", ["obj"], 1)?;
    let value = value.unwrap_or_default();
    len(&call.run, &value)?.map(Value::from).ok_or_else(|| wrong_type("`length`", &value))
}

pub(super) fn list(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("list", ["value"], 1)?;
    let items = iterate(&call.run, &value.unwrap_or_default())?;
    value::list(&call.run, items)
}

pub(super) fn first(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("first", ["seq"], 1)?;
    let value = value.unwrap_or_default();
    if let Py::Generator(generator) = classify(&value) {
        return Ok(generator.next().unwrap_or_default());
    }
    Ok(iterate(&call.run, &value)?.into_iter().next().unwrap_or_default())
}

pub(super) fn last(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("last", ["seq"], 1)?;
    let value = value.unwrap_or_default();
    match classify(&value) {
        Py::Generator(_) => Err(failed("`last` can't work with a generator; add `|list` before it")),
        _ => Ok(iterate(&call.run, &value)?.pop().unwrap_or_default()),
    }
}

pub(super) fn reverse(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("reverse", ["value"], 1)?;
    let value = value.unwrap_or_default();
    if let Py::Str(plain) = classify(&value) {
        return Ok(text(plain.chars().rev().collect(), value.is_safe()));
    }
    let mut items = iterate(&call.run, &value)?;
    items.reverse();
    match classify(&value) {
        // Python can't iterate over one backwards, so Jinja2 makes a list of it.
        Py::Generator(_) => value::list(&call.run, items),
        _ => generator(call, items),
    }
}

pub(super) fn items(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value] = call.bind("items", ["value"], 1)?;
    let value = value.unwrap_or_default();
    let pairs = match classify(&value) {
        Py::Undefined => {
            call.run.allow_undefined()?;
            Vec::new()
        }
        Py::Dict(map) => {
            map.items().into_iter().map(|(key, value)| tuple(vec![key, value])).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong_type("`items`", &value)),
    };
    generator(call, pairs)
}

pub(super) fn join(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, separator, attribute] = call.bind("join", ["value", "d", "attribute"], 1)?;
    let mut items = iterate(&call.run, &value.unwrap_or_default())?;
    if let Some(attribute) = attribute.filter(|attribute| !attribute.is_none()) {
        for item in &mut items {
            *item = path(&call.run, item, &attribute, None)?;
        }
    }
    let separator = separator.unwrap_or_else(|| Value::from(""));
    let mut pieces = Vec::with_capacity(items.len() * 2);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            pieces.push(&separator);
        }
        pieces.push(item);
    }
    concat(call, &pieces)
}

pub(super) fn map(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let (positional, named) = split(call.args);
    let Some((value, positional)) = positional.split_first() else {
        return Err(failed("`map` needs a value"));
    };
    // Jinja2 looks at its arguments only when there is something to map.
    if !value.is_true() {
        call_undefined(call, value)?;
        return generator(call, Vec::new());
    }
    let mut mapped = Vec::new();
    let Some((name, args)) = positional.split_first() else {
        let mut attribute = None;
        let mut default = None;
        for (name, value) in named {
            match name.as_str() {
                "attribute" => attribute = Some(value),
                "default" => default = Some(value).filter(|value| !value.is_none()),
                name => return Err(failed(format!("map takes no argument `{name}`"))),
            }
        }
        let Some(attribute) = attribute else {
            return Err(failed("`map` needs a filter's name or an attribute"));
        };
        for item in iterate(&call.run, value)? {
            mapped.push(path(&call.run, &item, &attribute, default.as_ref())?);
        }
        return generator(call, mapped);
    };
    let Some(name) = name.as_str() else { return Err(failed("`map` needs a filter's name as text")) };
    if !filters::exists(name) {
        let (refused, message) = filters::missing(name);
        return Err(if refused { unsupported(message) } else { unknown(message) });
    }
    // The keyword arguments, if any, are the last value of the call, and go on as they are.
    let keywords = call.args.last().filter(|last| last.is_kwargs());
    for item in iterate(&call.run, value)? {
        let mut given = vec![item];
        given.extend(args.iter().cloned());
        given.extend(keywords.cloned());
        mapped.push(nested(call, |call| call.state.apply_filter(name, &given))?);
    }
    generator(call, mapped)
}

/// An unknown value is an empty sequence in lenient mode and an error in strict mode.
fn call_undefined(call: &Call<'_, '_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() { call.run.allow_undefined() } else { Ok(()) }
}

/// Lets another filter or test spend from the same budget.
fn nested<R>(
    call: &mut Call<'_, '_, '_>,
    run: impl FnOnce(&mut Call<'_, '_, '_>) -> Result<R, Error>,
) -> Result<R, Error> {
    call.run.settle(call.state)?;
    // A call costs at least what an instruction does.
    call.state.consume_fuel(1)?;
    let result = run(call)?;
    call.run = Run::of(call.state);
    Ok(result)
}

/// `select`, `reject`, `selectattr` and `rejectattr`.
pub(super) fn select(call: &mut Call<'_, '_, '_>, by_attribute: bool, keep: bool) -> Result<Value, Error> {
    let (positional, _) = split(call.args);
    let Some((value, mut rest)) = positional.split_first() else {
        return Err(failed("`select` needs a value"));
    };
    if !value.is_true() {
        call_undefined(call, value)?;
        return generator(call, Vec::new());
    }
    let mut attribute = None;
    if by_attribute {
        let Some((name, tail)) = rest.split_first() else {
            return Err(failed("the name of the attribute is missing"));
        };
        attribute = Some(name);
        rest = tail;
    }
    let test = match rest.split_first() {
        None => None,
        Some((name, args)) => match name.as_str() {
            Some(name) if predicates::exists(name) => Some((name, args)),
            Some(name) => return Err(unknown(predicates::missing(name))),
            None => return Err(failed("the name of the test must be text")),
        },
    };
    let keywords = call.args.last().filter(|last| last.is_kwargs());
    let mut selected = Vec::new();
    for item in iterate(&call.run, value)? {
        let subject = match attribute {
            Some(attribute) => path(&call.run, &item, attribute, None)?,
            None => item.clone(),
        };
        let holds = match test {
            None => subject.is_true(),
            Some((name, args)) => {
                let mut given = vec![subject];
                given.extend(args.iter().cloned());
                given.extend(keywords.cloned());
                nested(call, |call| call.state.perform_test(name, &given))?
            }
        };
        if holds == keep {
            selected.push(item);
        }
    }
    generator(call, selected)
}

/// Sorts as Python's `sorted(items, key=.., reverse=..)`: stable either way.
fn sort_by_keys(
    run: &Run,
    mut keyed: Vec<(Value, Value)>,
    reverse: bool,
) -> Result<Vec<(Value, Value)>, Error> {
    let mut failure = None;
    keyed.sort_by(|(a, _), (b, _)| {
        if failure.is_some() {
            return Ordering::Equal;
        }
        let order = compare(run, a, b).unwrap_or_else(|error| {
            failure = Some(error);
            None
        });
        let order = order.unwrap_or(Ordering::Equal);
        if reverse { order.reverse() } else { order }
    });
    failure.map_or(Ok(keyed), Err)
}

/// Keys for sorting: the attributes, in lower case unless case counts. NaN would make any order depend on the
/// algorithm, so it is refused.
fn sort_key(
    run: &Run,
    item: &Value,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Result<Value, Error> {
    let key = match attribute {
        None => item.clone(),
        Some(attribute) => path(run, item, attribute, None)?,
    };
    match classify(&key) {
        Py::Float(float) if float.is_nan() => Err(unsupported("sorting NaN")),
        _ => fold_case(run, key, case_sensitive),
    }
}

pub(super) fn sort(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, reverse, case_sensitive, attribute] =
        call.bind("sort", ["value", "reverse", "case_sensitive", "attribute"], 1)?;
    let run = &call.run;
    let case_sensitive = truth(case_sensitive.as_ref(), false);
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let attributes: Option<Vec<Value>> = match attribute.as_ref().map(classify) {
        Some(Py::Str(names)) => Some(names.split(',').map(Value::from).collect()),
        _ => attribute.map(|attribute| vec![attribute]),
    };
    let mut keyed = Vec::new();
    for item in iterate(run, &value.unwrap_or_default())? {
        // A list of keys compares by its first difference, also if it has one item only: equal ones need no order.
        let keys = match &attributes {
            None => vec![sort_key(run, &item, None, case_sensitive)?],
            Some(attributes) => attributes
                .iter()
                .map(|attribute| sort_key(run, &item, Some(attribute), case_sensitive))
                .collect::<Result<_, _>>()?,
        };
        let key = value::list(run, keys)?;
        keyed.push((key, item));
    }
    let sorted = sort_by_keys(run, keyed, truth(reverse.as_ref(), false))?;
    value::list(run, sorted.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn dictsort(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, case_sensitive, by, reverse] =
        call.bind("dictsort", ["value", "case_sensitive", "by", "reverse"], 1)?;
    let value = value.unwrap_or_default();
    let run = &call.run;
    let by_value = match by.as_ref().map(Value::as_str) {
        None | Some(Some("key")) => false,
        Some(Some("value")) => true,
        _ => return Err(failed("`dictsort` sorts by key or value")),
    };
    let Py::Dict(map) = classify(&value) else { return Err(wrong_type("`dictsort`", &value)) };
    let mut keyed = Vec::new();
    for (key, member) in map.items() {
        let sort_by = if by_value { &member } else { &key };
        let sort_by = sort_key(run, sort_by, None, truth(case_sensitive.as_ref(), false))?;
        keyed.push((sort_by, tuple(vec![key, member])?));
    }
    let sorted = sort_by_keys(run, keyed, truth(reverse.as_ref(), false))?;
    value::list(run, sorted.into_iter().map(|(_, pair)| pair).collect())
}

pub(super) fn unique(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, case_sensitive, attribute] =
        call.bind("unique", ["value", "case_sensitive", "attribute"], 1)?;
    let run = &call.run;
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut seen: indexmap::IndexSet<Key> = indexmap::IndexSet::new();
    let mut kept = Vec::new();
    for item in iterate(run, &value.unwrap_or_default())? {
        let key = match &attribute {
            None => item.clone(),
            Some(attribute) => path(run, &item, attribute, None)?,
        };
        let key = fold_case(run, key, truth(case_sensitive.as_ref(), false))?;
        if seen.insert(key_of(run, &key)?) {
            kept.push(item);
        }
    }
    generator(call, kept)
}

pub(super) fn groupby(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, attribute, default, case_sensitive] =
        call.bind("groupby", ["value", "attribute", "default", "case_sensitive"], 2)?;
    let run = &call.run;
    let attribute = attribute.unwrap_or_default();
    let default = default.filter(|default| !default.is_none());
    let mut keyed = Vec::new();
    for item in iterate(run, &value.unwrap_or_default())? {
        let key = path(run, &item, &attribute, default.as_ref())?;
        keyed.push((fold_case(run, key, truth(case_sensitive.as_ref(), false))?, item));
    }
    let sorted = sort_by_keys(run, keyed, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in sorted {
        match groups.last_mut() {
            Some((last, items)) if equal(run, last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let mut out = Vec::with_capacity(groups.len());
    for (_, items) in groups {
        // The first item's key as it is spelled, not in lower case.
        let grouper = path(run, &items[0], &attribute, default.as_ref())?;
        let items = value::list(run, items)?;
        out.push(Value::from_object(Tuple::named(vec![grouper, items], &["grouper", "list"])?));
    }
    value::list(run, out)
}

pub(super) fn batch(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, linecount, fill_with] = call.bind("batch", ["value", "linecount", "fill_with"], 2)?;
    let run = &call.run;
    let size = int_or("the size for `batch`", linecount.as_ref(), 1)?;
    let items = iterate(run, &value.unwrap_or_default())?;
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else {
        // Python never fills a row of no or fewer items: it yields an empty one first, or one row of all.
        return Err(unsupported("`batch` with a size below 1"));
    };
    for item in items {
        match rows.last_mut().filter(|row| row.len() < size) {
            Some(row) => row.push(item),
            None => rows.push(vec![item]),
        }
    }
    if let (Some(fill), Some(row)) = (fill_with.filter(|fill| !fill.is_none()), rows.last_mut()) {
        run.pay_items(size)?;
        row.resize(size, fill);
    }
    let rows = rows.into_iter().map(|row| value::list(run, row)).collect::<Result<_, _>>()?;
    generator(call, rows)
}

pub(super) fn slice(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, slices, fill_with] = call.bind("slice", ["value", "slices", "fill_with"], 2)?;
    let run = &call.run;
    let items = iterate(run, &value.unwrap_or_default())?;
    let count = int_or("the number for `slice`", slices.as_ref(), 1)?;
    let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        return Err(failed("`slice` needs a number of at least 1"));
    };
    run.pay_items(count)?;
    let (per_slice, with_extra) = (items.len() / count, items.len() % count);
    let fill = fill_with.filter(|fill| !fill.is_none());
    let mut items = items.into_iter();
    let mut slices = Vec::with_capacity(count);
    for index in 0..count {
        let size = per_slice + usize::from(index < with_extra);
        let mut part: Vec<Value> = items.by_ref().take(size).collect();
        if let (Some(fill), true) = (&fill, index >= with_extra) {
            part.push(fill.clone());
        }
        slices.push(value::list(run, part)?);
    }
    generator(call, slices)
}

pub(super) fn min(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    extreme(call, "min", Ordering::Less)
}

pub(super) fn max(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    extreme(call, "max", Ordering::Greater)
}

fn extreme(call: &mut Call<'_, '_, '_>, name: &str, wanted: Ordering) -> Result<Value, Error> {
    let [value, case_sensitive, attribute] = call.bind(name, ["value", "case_sensitive", "attribute"], 1)?;
    let run = &call.run;
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(run, &value.unwrap_or_default())? {
        let key = sort_key(run, &item, attribute.as_ref(), truth(case_sensitive.as_ref(), false))?;
        let better = match &best {
            None => true,
            Some((best, _)) => compare(run, &key, best)? == Some(wanted),
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map(|(_, item)| item).unwrap_or_default())
}

pub(super) fn sum(call: &mut Call<'_, '_, '_>) -> Result<Value, Error> {
    let [value, attribute, start] = call.bind("sum", ["iterable", "attribute", "start"], 1)?;
    let mut items = iterate(&call.run, &value.unwrap_or_default())?;
    if let Some(attribute) = attribute.filter(|attribute| !attribute.is_none()) {
        for item in &mut items {
            *item = path(&call.run, item, &attribute, None)?;
        }
    }
    let mut total = start.unwrap_or_else(|| Value::from(0));
    if matches!(classify(&total), Py::Str(_)) {
        return Err(failed("`sum` can't add texts; use `join`"));
    }
    raise(&total, 0)?;
    // Python adds floats with the error of each addition kept and added at the end (since 3.12).
    let mut carry = 0.0;
    for item in items {
        if let (Py::Float(sum), Some(addend)) = (classify(&total), addend(&item)) {
            let (next, error) = match addend {
                // Integers are added without keeping the error.
                (addend, false) => (sum + addend, 0.0),
                (addend, true) => {
                    let next = sum + addend;
                    let error =
                        if sum.abs() >= addend.abs() { (sum - next) + addend } else { (addend - next) + sum };
                    (next, error)
                }
            };
            carry += error;
            total = Value::from(next);
            continue;
        }
        total = arithmetic(call, Arithmetic::Add, &total, &item)?;
    }
    match classify(&total) {
        Py::Float(float) if carry != 0.0 && carry.is_finite() => Ok(Value::from(float + carry)),
        _ => Ok(total),
    }
}

/// A number to be added to a float, and whether it is a float itself.
fn addend(item: &Value) -> Option<(f64, bool)> {
    match classify(item) {
        Py::Float(float) => Some((float, true)),
        Py::Int(int) => Some((int as f64, false)),
        _ => None,
    }
}
