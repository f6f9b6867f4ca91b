//! Methods of lists, tuples and dicts.
//!
//! Invariants
//! - Only lists and dicts that belong to the rendering change; the context's are copies where a template may change
//!   them (see [`thaw`](crate::value::thaw)).

use minijinja::{Error, Value};

use super::not_carried_over;
use crate::args::{Call, bind, bind_positional, flag};
use crate::functions::pairs;
use crate::operators::{compare, equal};
use crate::run::{failed, unsupported};
use crate::value::{
    Dict, DictPart, DictView, List, Map, Py, Seq, classify, iterate, key_of, list as new_list, tuple,
};

pub(super) fn list(call: &mut Call<'_, '_, '_>, list: &List, name: &str) -> Result<Value, Error> {
    let (args, run) = (call.args, &call.run);
    match name {
        "append" => {
            let [item] = bind_positional(name, ["object"], 1, args)?;
            let item = item.unwrap_or_default();
            run.pay_items(1)?;
            let added = [item];
            list.change(&added, |items| items.extend_from_slice(&added))?;
        }
        "extend" => {
            let [more] = bind_positional(name, ["iterable"], 1, args)?;
            let more = iterate(run, &more.unwrap_or_default())?;
            list.change(&more.clone(), |items| items.extend(more))?;
        }
        "insert" => {
            let [index, item] = bind_positional(name, ["index", "object"], 2, args)?;
            let item = item.unwrap_or_default();
            let index = index_of(&index.unwrap_or_default())?;
            run.pay_items(list.len() + 1)?;
            let added = [item];
            list.change(&added, |items| {
                let len = items.len() as i128;
                let at = (if index < 0 { index + len } else { index }).clamp(0, len);
                let at = usize::try_from(at).unwrap_or(0);
                items.splice(at..at, added.iter().cloned());
            })?;
        }
        "pop" => {
            let [index] = bind_positional(name, ["index"], 0, args)?;
            let index = index.map_or(Ok(-1), |index| index_of(&index))?;
            return list.change(&[], |items| {
                let at = if index < 0 { index + items.len() as i128 } else { index };
                match usize::try_from(at) {
                    Ok(at) if at < items.len() => Ok(items.remove(at)),
                    _ => Err(failed("pop() of an index the list does not have")),
                }
            })?;
        }
        "remove" => {
            let [item] = bind_positional(name, ["value"], 1, args)?;
            let item = item.unwrap_or_default();
            let mut found = None;
            for (index, candidate) in list.snapshot().iter().enumerate() {
                if equal(run, candidate, &item)? {
                    found = Some(index);
                    break;
                }
            }
            let Some(found) = found else {
                return Err(failed("remove() of a value that is not in the list"));
            };
            list.change(&[], |items| items.remove(found))?;
        }
        "reverse" => {
            bind(name, [], 0, args)?;
            run.pay_items(list.len())?;
            list.change(&[], |items| items.reverse())?;
        }
        "clear" => {
            bind(name, [], 0, args)?;
            list.change(&[], Vec::clear)?;
        }
        "sort" => {
            let (positional, _) = crate::args::split(args);
            let [key, reverse] = bind(name, ["key", "reverse"], 0, args)?;
            if !positional.is_empty() {
                return Err(failed("sort() takes no positional arguments"));
            }
            if key.is_some_and(|key| !key.is_none()) {
                return Err(unsupported("sort() with a key; use the filter `sort(attribute=..)`"));
            }
            let sorted = sort(call, list.snapshot(), flag("reverse", reverse.as_ref())?)?;
            list.change(&[], |items| *items = sorted)?;
        }
        _ => return sequence(call, Seq::List(list), name),
    }
    Ok(Value::from(()))
}

fn sort(call: &Call<'_, '_, '_>, mut items: Vec<Value>, reverse: bool) -> Result<Vec<Value>, Error> {
    let mut failure = None;
    items.sort_by(|a, b| {
        if failure.is_some() {
            return std::cmp::Ordering::Equal;
        }
        let order = match compare(&call.run, a, b) {
            Ok(Some(order)) => order,
            Ok(None) => {
                failure = Some(unsupported("sorting NaN"));
                std::cmp::Ordering::Equal
            }
            Err(error) => {
                failure = Some(error);
                std::cmp::Ordering::Equal
            }
        };
        if reverse { order.reverse() } else { order }
    });
    failure.map_or(Ok(items), Err)
}

/// What lists and tuples have in common, and what does not change a list.
pub(super) fn sequence(call: &mut Call<'_, '_, '_>, seq: Seq<'_>, name: &str) -> Result<Value, Error> {
    let run = &call.run;
    match name {
        "copy" if !seq.is_tuple() => {
            bind(name, [], 0, call.args)?;
            new_list(run, seq.to_vec())
        }
        "count" => {
            let [item] = bind_positional(name, ["value"], 1, call.args)?;
            let item = item.unwrap_or_default();
            let mut count = 0;
            for candidate in seq.to_vec() {
                count += usize::from(equal(run, &candidate, &item)?);
            }
            Ok(Value::from(count))
        }
        "index" => {
            let [item, start, stop] = bind_positional(name, ["value", "start", "stop"], 1, call.args)?;
            if start.or(stop).is_some() {
                return Err(unsupported("index() of a list from a place on; take a slice of it before"));
            }
            let item = item.unwrap_or_default();
            for (index, candidate) in seq.to_vec().iter().enumerate() {
                if equal(run, candidate, &item)? {
                    return Ok(Value::from(index));
                }
            }
            Err(failed("index() of a value that is not in the list"))
        }
        _ if super::is_mutator(name) => Err(unsupported(format!(
            "the method `{name}` reached without its name standing in the template; write `.{name}(..)`"
        ))),
        _ => Err(not_carried_over(&Value::from(Vec::<Value>::new()), name)),
    }
}

fn index_of(value: &Value) -> Result<i128, Error> {
    match classify(value) {
        Py::Int(index) => Ok(index),
        Py::Bool(index) => Ok(i128::from(index)),
        _ => Err(failed("an index must be an integer")),
    }
}

pub(super) fn dict(
    call: &mut Call<'_, '_, '_>,
    receiver: &Value,
    dict: &Dict,
    name: &str,
) -> Result<Value, Error> {
    let (args, run) = (call.args, &call.run);
    match name {
        "update" => {
            for (key, value) in pairs(run, args)? {
                dict.insert(run, key, value)?;
            }
            Ok(Value::from(()))
        }
        "clear" => {
            bind(name, [], 0, args)?;
            dict.change(&[], indexmap::IndexMap::clear)?;
            Ok(Value::from(()))
        }
        "setdefault" => {
            let [key, default] = bind_positional(name, ["key", "default"], 1, args)?;
            let (key, default) = (key.unwrap_or_default(), default.unwrap_or_else(|| Value::from(())));
            match Map::Dict(dict).get(run, &key)? {
                Some(found) => Ok(found),
                None => {
                    dict.insert(run, key, default.clone())?;
                    Ok(default)
                }
            }
        }
        "pop" => {
            let [key, default] = bind_positional(name, ["key", "default"], 1, args)?;
            let key = key_of(run, &key.unwrap_or_default())?;
            run.pay_items(dict.len())?;
            let popped = dict.change(&[], |members| members.shift_remove(&key))?;
            match (popped, default) {
                (Some((_, value)), _) => Ok(value),
                (None, Some(default)) => Ok(default),
                (None, None) => Err(failed("pop() of a key the dict does not have")),
            }
        }
        "popitem" => {
            bind(name, [], 0, args)?;
            match dict.change(&[], indexmap::IndexMap::pop)? {
                Some((_, (key, value))) => tuple(vec![key, value]),
                None => Err(failed("popitem() of an empty dict")),
            }
        }
        _ => map(call, receiver, Map::Dict(dict), name),
    }
}

/// What does not change a dict.
pub(super) fn map(
    call: &mut Call<'_, '_, '_>,
    receiver: &Value,
    map: Map<'_>,
    name: &str,
) -> Result<Value, Error> {
    let (args, run) = (call.args, &call.run);
    let part = match name {
        "keys" => DictPart::Keys,
        "values" => DictPart::Values,
        "items" => DictPart::Items,
        "get" => {
            let [key, default] = bind_positional(name, ["key", "default"], 1, args)?;
            let found = map.get(run, &key.unwrap_or_default())?;
            return Ok(found.or(default).unwrap_or_else(|| Value::from(())));
        }
        "copy" => {
            bind(name, [], 0, args)?;
            run.pay_items(map.len() * 2)?;
            return Dict::new(run, map.items()).map(Value::from_object);
        }
        "fromkeys" => return Err(not_carried_over(receiver, name)),
        _ => {
            return Err(unsupported(format!(
                "the method `{name}` reached without its name standing in the template; write `.{name}(..)`"
            )));
        }
    };
    bind(name, [], 0, args)?;
    Ok(Value::from_object(DictView::new(receiver.clone(), part)))
}
