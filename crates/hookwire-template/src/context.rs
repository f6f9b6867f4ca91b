//! What templates may name, and what to say about a name that is not there.

use hookwire_json::{Content, Node};
use hookwire_model::{CONTEXT_MEMBERS, Member, TemplateContext};

use crate::error::{Fault, TemplateErrorKind};
use crate::text::{closest, excerpt};

/// Says why the path `segments`, written as `text`, leads nowhere from the root of the context.
pub(crate) fn missing_from_root<'s>(
    text: &str,
    context: &TemplateContext,
    mut segments: impl Iterator<Item = &'s str>,
) -> Fault {
    let Some(first) = segments.next() else { return missing(text) };
    match context.member(first) {
        Some(Member::Document(json)) => missing_from(text, json.root(), first, segments),
        Some(Member::Text(member)) => {
            let what = if member.is_none() { "null" } else { "a string" };
            missing(text).remedy(format!("`{first}` is {what} and has no members; {GUARD}"))
        }
        None => match closest(first, context.members().map(|(name, _)| name)) {
            Some(meant) => missing(text).remedy(format!("did you mean `{meant}`?")),
            None if CONTEXT_MEMBERS.contains(&first) => {
                missing(text).remedy(format!("this event has no `{first}`; {GUARD}"))
            }
            None => missing(text).remedy(format!("the context has {}", CONTEXT_MEMBERS.join(", "))),
        },
    }
}

/// Says why `segments` lead nowhere from `value`, which was reached by `so_far`.
pub(crate) fn missing_from<'s>(
    text: &str,
    mut value: Node<'_>,
    so_far: &str,
    segments: impl Iterator<Item = &'s str>,
) -> Fault {
    let mut so_far = so_far.to_owned();
    for segment in segments {
        let next = match value.content() {
            Content::Object(members) => members.get(segment),
            Content::List(items) => segment.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        if let Some(next) = next {
            value = next;
            if !so_far.is_empty() {
                so_far.push('.');
            }
            so_far.push_str(segment);
            continue;
        }
        let here =
            if so_far.is_empty() { "the value here".to_owned() } else { format!("`{}`", excerpt(&so_far)) };
        let has_no = |what: &str| missing(text).remedy(format!("{here} is {what}; {GUARD}"));
        return match value.content() {
            Content::Object(members) => match closest(segment, members.iter().map(|(name, _)| name)) {
                Some(meant) if so_far.is_empty() => missing(text).remedy(format!("did you mean `{meant}`?")),
                Some(meant) => missing(text).remedy(format!("did you mean `{}.{meant}`?", excerpt(&so_far))),
                None => missing(text).remedy(format!("{here} has no member `{}`; {GUARD}", excerpt(segment))),
            },
            Content::List(items) if segment.parse::<usize>().is_ok() => {
                has_no(&format!("a list of {}", items.len()))
            }
            Content::List(_) => has_no("a list, whose items have numbers for names"),
            Content::Null => has_no("null and has no members"),
            Content::Text(_) => has_no("a string and has no members"),
            Content::Number(_) => has_no("a number and has no members"),
            Content::Bool(_) => has_no("true or false and has no members"),
        };
    }
    missing(text)
}

/// How to ask for what may be absent.
const GUARD: &str = "ask for it with `if` or `default` where it may be absent";

fn missing(text: &str) -> Fault {
    Fault::new(TemplateErrorKind::Undefined, format!("`{}` does not exist", excerpt(text)))
}
