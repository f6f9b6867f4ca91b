//! Methods of text.
//!
//! Invariants
//! - Positions and widths count characters.
//! - What safe text does with its arguments (escape them) is refused rather than left out.

use minijinja::{Error, Value};

use super::not_carried_over;
use crate::args::{Call, bind, bind_positional, flag, split};
use crate::filters::escape_html;
use crate::format::{Fields, format_text};
use crate::run::{Run, failed, undefined_used, unsupported};
use crate::value::{Py, classify, iterate, list, text, tuple, type_name};

/// Calls `plain.name(..)`; `receiver` is the value that holds `plain`.
pub(super) fn call(
    call: &mut Call<'_, '_, '_>,
    receiver: &Value,
    plain: &str,
    name: &str,
) -> Result<Value, Error> {
    let (args, run) = (call.args, &call.run);
    let safe = receiver.is_safe();
    run.pay(plain.len())?;
    const ESCAPING: [&str; 11] = [
        "center",
        "format",
        "format_map",
        "join",
        "ljust",
        "partition",
        "replace",
        "rjust",
        "rpartition",
        "split",
        "rsplit",
    ];
    if safe && ESCAPING.contains(&name) && !args.is_empty() {
        return Err(unsupported(format!(
            "`{name}(..)` of safe text, which escapes its arguments; call it before `|safe`, `|e` or `|tojson`"
        )));
    }
    let made = |made: String| -> Result<Value, Error> {
        run.pay(made.len())?;
        Ok(text(made, safe))
    };
    let truth = |holds: bool| -> Result<Value, Error> {
        bind(name, [], 0, args)?;
        Ok(Value::from(holds))
    };
    match name {
        "upper" | "lower" | "capitalize" | "title" | "swapcase" | "casefold" => {
            bind(name, [], 0, args)?;
            made(match name {
                "upper" => plain.to_uppercase(),
                "lower" => plain.to_lowercase(),
                "capitalize" => capitalize(plain),
                "title" => title(plain),
                "swapcase" => swapcase(plain),
                _ => casefold(plain)?,
            })
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bind_positional(name, ["chars"], 0, args)?;
            made(strip(run, plain, chars.as_ref(), name != "rstrip", name != "lstrip")?.to_owned())
        }
        "split" | "rsplit" => {
            let [separator, maxsplit] = bind(name, ["sep", "maxsplit"], 0, args)?;
            let maxsplit = integer(maxsplit.as_ref(), -1)?;
            let separator = match separator.as_ref() {
                Some(separator) if !separator.is_none() => Some(required(separator, "the separator")?),
                _ => None,
            };
            let pieces = split_text(plain, separator, maxsplit, name == "rsplit")?;
            list(run, pieces.into_iter().map(|piece| text(piece.to_owned(), safe)).collect())
        }
        "splitlines" => {
            let [keepends] = bind(name, ["keepends"], 0, args)?;
            let lines = splitlines(plain, flag("keepends", keepends.as_ref())?);
            list(run, lines.into_iter().map(|line| text(line.to_owned(), safe)).collect())
        }
        "partition" | "rpartition" => {
            let [separator] = bind_positional(name, ["sep"], 1, args)?;
            let separator = separator.unwrap_or_default();
            let separator = required(&separator, "the separator")?;
            if separator.is_empty() {
                return Err(failed("the separator must not be empty"));
            }
            let found = if name == "partition" { plain.find(separator) } else { plain.rfind(separator) };
            let parts = match found {
                Some(at) => [&plain[..at], separator, &plain[at + separator.len()..]],
                None if name == "partition" => [plain, "", ""],
                None => ["", "", plain],
            };
            tuple(parts.map(Value::from).to_vec())
        }
        "replace" => {
            let [old, new, count] = bind_positional(name, ["old", "new", "count"], 2, args)?;
            let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
            let (old_text, new_text) = (required(&old, "the old text")?, required(&new, "the new text")?);
            let replaced = replace(run, plain, old_text, new_text, integer(count.as_ref(), -1)?)?;
            // A piece of safe text would make the result safe.
            Ok(Value::from(replaced))
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind_positional(name, ["affix"], 1, args)?;
            let affix = affix.unwrap_or_default();
            let affix = required(&affix, "the argument")?;
            let rest =
                if name == "removeprefix" { plain.strip_prefix(affix) } else { plain.strip_suffix(affix) };
            made(rest.unwrap_or(plain).to_owned())
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = bind_positional(name, ["affix", "start", "end"], 1, args)?;
            let part = part(plain, start.as_ref(), end.as_ref())?;
            let affix = affix.unwrap_or_default();
            let candidates = match classify(&affix) {
                Py::Seq(seq) if seq.is_tuple() => seq.to_vec(),
                _ => vec![affix],
            };
            for candidate in &candidates {
                let affix = required(candidate, "the argument")?;
                let holds = |part: &str| {
                    if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) }
                };
                if part.is_some_and(holds) {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [wanted, start, end] = bind_positional(name, ["sub", "start", "end"], 1, args)?;
            let wanted = wanted.unwrap_or_default();
            search(plain, required(&wanted, "the argument")?, start.as_ref(), end.as_ref(), name)
        }
        "join" => {
            let [items] = bind_positional(name, ["iterable"], 1, args)?;
            let items = items.unwrap_or_default();
            let mut out = String::new();
            for (index, item) in iterate(run, &items)?.iter().enumerate() {
                let Py::Str(piece) = classify(item) else {
                    return Err(failed(format!(
                        "join() needs texts, item {index} is {}; use the filter `join`",
                        type_name(item)
                    )));
                };
                if index > 0 {
                    out.push_str(plain);
                }
                run.pay(piece.len() + plain.len())?;
                out.push_str(piece);
            }
            made(out)
        }
        "center" | "ljust" | "rjust" => {
            let [width, fill] = bind_positional(name, ["width", "fillchar"], 1, args)?;
            let fill = fill.unwrap_or_else(|| Value::from(" "));
            let mut fill = required(&fill, "the fill character")?.chars();
            let (Some(fill), None) = (fill.next(), fill.next()) else {
                return Err(failed("the fill character must be one character"));
            };
            let side = match name {
                "center" => Side::Both,
                "ljust" => Side::Right,
                _ => Side::Left,
            };
            made(pad(run, plain, integer(width.as_ref(), 0)?, fill, side)?)
        }
        "zfill" => {
            let [width] = bind_positional(name, ["width"], 1, args)?;
            let padded = pad(run, plain, integer(width.as_ref(), 0)?, '0', Side::Left)?;
            let zeros = padded.len() - plain.len();
            made(match plain.strip_prefix(['-', '+']) {
                Some(digits) => format!("{}{}{digits}", &plain[..1], &padded[..zeros]),
                None => padded,
            })
        }
        "expandtabs" => {
            let [size] = bind(name, ["tabsize"], 0, args)?;
            made(expandtabs(run, plain, integer(size.as_ref(), 8)?)?)
        }
        "encode" => {
            let [encoding, errors] = bind(name, ["encoding", "errors"], 0, args)?;
            if errors.is_some() || !encoding.is_none_or(|encoding| is_utf8(&encoding)) {
                return Err(unsupported("`encode` with anything but UTF-8"));
            }
            Ok(Value::from_bytes(plain.as_bytes().to_vec()))
        }
        "format" => {
            let (positional, named) = split(args);
            format_text(run, plain, &Fields::Args(positional, &named)).map(Value::from)
        }
        "format_map" => {
            let [mapping] = bind_positional(name, ["mapping"], 1, args)?;
            let mapping = mapping.unwrap_or_default();
            match classify(&mapping) {
                Py::Dict(map) => format_text(run, plain, &Fields::Map(map)).map(Value::from),
                _ => Err(failed("format_map() needs a dict")),
            }
        }
        "isascii" => truth(plain.is_ascii()),
        "islower" => truth(is_lower(plain)),
        "isupper" => truth(is_upper(plain)),
        "isspace" => truth(!plain.is_empty() && plain.chars().all(is_space)),
        "isprintable" => {
            truth(plain.chars().all(|c| matches!(c, '\'' | '"' | '\\') || crate::print::is_printable(c)))
        }
        "istitle" => truth(is_title(plain)),
        "isalpha" => truth(every(plain, char::is_alphabetic)?),
        "isalnum" => truth(every(plain, char::is_alphanumeric)?),
        "isdigit" | "isdecimal" | "isnumeric" => {
            if plain.chars().any(|c| !c.is_ascii() && c.is_numeric()) {
                return Err(unsupported(format!("`{name}` of digits other than 0 to 9")));
            }
            truth(!plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()))
        }
        "isidentifier" if plain.is_ascii() => truth(
            plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !plain.starts_with(|c: char| c.is_ascii_digit())
                && !plain.is_empty(),
        ),
        "escape" => {
            bind(name, [], 0, args)?;
            Ok(text(escape_html(plain), true))
        }
        _ => Err(not_carried_over(receiver, name)),
    }
}

/// A text argument.
fn required<'a>(value: &'a Value, what: &str) -> Result<&'a str, Error> {
    match classify(value) {
        Py::Str(text) => Ok(text),
        Py::Undefined => Err(undefined_used()),
        _ => Err(failed(format!("{what} must be text, not {}", type_name(value)))),
    }
}

fn integer(value: Option<&Value>, default: i64) -> Result<i64, Error> {
    crate::filters::int_or("the argument", value, default)
}

/// Whether `encoding` names UTF-8.
pub(super) fn is_utf8(encoding: &Value) -> bool {
    encoding
        .as_str()
        .is_some_and(|name| matches!(name.to_ascii_lowercase().as_str(), "utf-8" | "utf8" | "utf_8" | "u8"))
}

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_titlecase(c)
}

/// The 31 letters that are neither lower nor upper case.
fn is_titlecase(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' | '\u{1f88}'..='\u{1f8f}' | '\u{1f98}'..='\u{1f9f}'
        | '\u{1fa8}'..='\u{1faf}' | '\u{1fbc}' | '\u{1fcc}' | '\u{1ffc}')
}

/// Whether there are letters with case, all of them lower.
pub(crate) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_titlecase(c))
}

/// Whether there are letters with case, all of them upper.
pub(crate) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_titlecase(c))
}

fn is_title(text: &str) -> bool {
    let mut previous_cased = false;
    let mut any = false;
    for c in text.chars() {
        if c.is_uppercase() || is_titlecase(c) {
            if previous_cased {
                return false;
            }
            any = true;
        } else if c.is_lowercase() {
            if !previous_cased {
                return false;
            }
            any = true;
        }
        previous_cased = is_cased(c);
    }
    any
}

/// Whether all characters are of a kind, where Rust's tables say the same as Python's.
fn every(text: &str, is: fn(char) -> bool) -> Result<bool, Error> {
    for c in text.chars() {
        let surely_same = matches!(c, '\0'..='\u{24f}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{52f}'
            | '\u{1e00}'..='\u{1fff}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}');
        if !surely_same {
            return Err(unsupported(format!("asking whether {c:?} is a letter or digit")));
        }
    }
    Ok(!text.is_empty() && text.chars().all(is))
}

/// The title case of a character: its upper case but for a few ligatures.
fn to_title(c: char) -> Vec<char> {
    let title = match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(c) + 8).unwrap_or(c)
        }
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9).unwrap_or(c),
        c if is_titlecase(c) => c,
        c => {
            let mut upper: Vec<char> = c.to_uppercase().collect();
            let letters = upper.len();
            match upper.last_mut() {
                // A small iota below the letter stays below it.
                Some(last @ '\u{399}') if letters > 1 => *last = '\u{345}',
                // Of a ligature only the first letter is large: `ﬁ` becomes `Fi`.
                _ if c != 'ŉ' && letters > 1 => {
                    let rest: String = upper.drain(1..).collect();
                    upper.extend(rest.to_lowercase().chars());
                }
                _ => {}
            }
            return upper;
        }
    };
    vec![title]
}

/// Python's `str.capitalize`.
pub(crate) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => to_title(first).into_iter().chain(chars.as_str().to_lowercase().chars()).collect(),
        None => String::new(),
    }
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if is_cased(c) && !word.is_empty() {
            word.push(c);
            continue;
        }
        out.push_str(&finish_word(&word));
        word.clear();
        if is_cased(c) { word.push(c) } else { out.push(c) }
    }
    out.push_str(&finish_word(&word));
    out
}

/// A run of letters with case: the first in title case, the others in lower.
fn finish_word(word: &str) -> String {
    capitalize(word)
}

fn swapcase(text: &str) -> String {
    text.chars()
        .flat_map(|c| -> Vec<char> {
            if c.is_uppercase() {
                c.to_lowercase().collect()
            } else if c.is_lowercase() {
                c.to_uppercase().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// Unicode's full case folding, which is lower case after upper case but for a few letters.
fn casefold(text: &str) -> Result<String, Error> {
    if text.chars().any(|c| matches!(c, 'ı' | '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}')) {
        return Err(unsupported("`casefold` of a dotless i or of Cherokee"));
    }
    Ok(text
        .chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect())
}

/// Python's `str.strip(chars)` at either or both ends.
pub(crate) fn strip<'a>(
    run: &Run,
    text: &'a str,
    chars: Option<&Value>,
    left: bool,
    right: bool,
) -> Result<&'a str, Error> {
    let chars = match chars {
        Some(chars) if !chars.is_none() => Some(required(chars, "the characters")?),
        _ => None,
    };
    run.pay(text.len())?;
    let strips = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(strips) } else { text };
    Ok(if right { text.trim_end_matches(strips) } else { text })
}

/// Python's `str.replace`; a negative `count` is all.
pub(crate) fn replace(run: &Run, text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    run.pay(text.len().saturating_add(found.min(count).saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, count))
}

/// Where padding goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
    Both,
}

/// The text padded to `width` characters.
pub(crate) fn pad(run: &Run, text: &str, width: i64, fill: char, side: Side) -> Result<String, Error> {
    let length = text.chars().count();
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(length);
    run.pay(text.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // Where the padding is odd CPython gives the left side more if the width is odd too.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let mut out = String::with_capacity(text.len() + missing);
    out.extend(std::iter::repeat_n(fill, left));
    out.push_str(text);
    out.extend(std::iter::repeat_n(fill, missing - left));
    Ok(out)
}

/// Python's `str.splitlines`.
pub(crate) fn splitlines(text: &str, keepends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        ) {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, next)| *next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[start..if keepends { end } else { at }]);
        start = end;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

fn split_text<'a>(
    text: &'a str,
    separator: Option<&str>,
    maxsplit: i64,
    from_right: bool,
) -> Result<Vec<&'a str>, Error> {
    let splits_max = usize::try_from(maxsplit).unwrap_or(usize::MAX - 1);
    let Some(separator) = separator else { return Ok(split_space(text, splits_max, from_right)) };
    if separator.is_empty() {
        return Err(failed("the separator must not be empty"));
    }
    let mut pieces: Vec<&str> = if from_right {
        text.rsplitn(splits_max + 1, separator).collect()
    } else {
        text.splitn(splits_max + 1, separator).collect()
    };
    if from_right {
        pieces.reverse();
    }
    Ok(pieces)
}

fn split_space(text: &str, splits_max: usize, from_right: bool) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest =
        if from_right { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) };
    while !rest.is_empty() {
        let gap = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(gap) = gap.filter(|_| pieces.len() < splits_max) else {
            let last = if from_right { rest.trim_start_matches(is_space) } else { rest };
            // Without a limit the other end has been trimmed piece by piece; with one it stays as it is.
            pieces.push(if pieces.len() < splits_max { last.trim_matches(is_space) } else { rest });
            break;
        };
        if from_right {
            let gap_len = rest[gap..].chars().next().map_or(1, char::len_utf8);
            pieces.push(&rest[gap + gap_len..]);
            rest = rest[..gap].trim_end_matches(is_space);
        } else {
            pieces.push(&rest[..gap]);
            rest = rest[gap..].trim_start_matches(is_space);
        }
    }
    if from_right {
        pieces.reverse();
    }
    pieces
}

/// The part between two positions, clamped as a slice is; nothing where the start lies beyond the end.
fn part<'a>(text: &'a str, start: Option<&Value>, end: Option<&Value>) -> Result<Option<&'a str>, Error> {
    let (start, end) = (start.filter(|value| !value.is_none()), end.filter(|value| !value.is_none()));
    if start.is_none() && end.is_none() {
        return Ok(Some(text));
    }
    let count = text.chars().count() as i64;
    let clamp = |index: i64| if index < 0 { index.saturating_add(count).max(0) } else { index };
    let start = clamp(integer(start, 0)?);
    let end = clamp(integer(end, count)?).min(count);
    if start > end {
        return Ok(None);
    }
    let byte = |index: i64| {
        let index = usize::try_from(index).unwrap_or(0);
        text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte)
    };
    Ok(Some(&text[byte(start)..byte(end)]))
}

fn search(
    text: &str,
    wanted: &str,
    start: Option<&Value>,
    end: Option<&Value>,
    name: &str,
) -> Result<Value, Error> {
    let part = part(text, start, end)?;
    if name == "count" {
        return Ok(Value::from(part.map_or(0, |part| {
            if wanted.is_empty() { part.chars().count() + 1 } else { part.matches(wanted).count() }
        })));
    }
    let from_right = name.starts_with('r');
    let found = part.and_then(|part| {
        let at = if from_right { part.rfind(wanted) } else { part.find(wanted) }?;
        let part_start = part.as_ptr() as usize - text.as_ptr() as usize;
        Some(text[..part_start + at].chars().count())
    });
    match found {
        Some(index) => Ok(Value::from(index)),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(failed(format!("{name}() of a text that is not there"))),
    }
}

fn expandtabs(run: &Run, text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    run.pay(text.matches('\t').count().saturating_mul(size).saturating_add(text.len()))?;
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}
