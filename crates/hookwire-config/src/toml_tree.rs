//! TOML into the tree.

use serde_json::Number;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::syntax::SyntaxError;
use crate::tree::{Content, Key, Node, Span, Table};

/// Reads a TOML file.
///
/// # Errors
/// The first place that is no TOML.
pub(crate) fn parse(file: usize, text: &str) -> Result<Node, SyntaxError> {
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or(0..0);
        SyntaxError { span: Span { file, start: at.start, end: at.end }, message: error.message().to_owned() }
    })?;
    let whole = Span { file, start: 0, end: text.len() };
    Ok(Node { span: whole, content: Content::Table(table(file, document.into_inner())?) })
}

fn table(file: usize, members: DeTable<'_>) -> Result<Table, SyntaxError> {
    let mut members = members
        .into_iter()
        .map(|(key, value)| Ok((name(file, key), node(file, value)?)))
        .collect::<Result<Vec<_>, _>>()?;
    // The parser sorts members by name; people, and the bytes that go out, expect the order of the file.
    members.sort_by_key(|(key, _)| key.span);
    Ok(Table(members))
}

fn name(file: usize, key: Spanned<DeString<'_>>) -> Key {
    let span = span(file, &key.span());
    Key { name: key.into_inner().into_owned(), span }
}

fn span(file: usize, range: &std::ops::Range<usize>) -> Span {
    Span { file, start: range.start, end: range.end }
}

fn node(file: usize, value: Spanned<DeValue<'_>>) -> Result<Node, SyntaxError> {
    let span = span(file, &value.span());
    let number = |text: &str| -> Result<Content, SyntaxError> {
        let number = text.trim_start_matches('+').parse::<Number>();
        let refused = |_| SyntaxError { span, message: format!("{text} is no number") };
        number.map(Content::Number).map_err(refused)
    };
    let content = match value.into_inner() {
        DeValue::String(text) => Content::Text(text.into_owned()),
        DeValue::Boolean(value) => Content::Bool(value),
        DeValue::Integer(integer) if integer.radix() == 10 => number(integer.as_str())?,
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            let value = u128::from_str_radix(digits, radix);
            let refused = |_| SyntaxError { span, message: format!("{digits} is too large") };
            number(&value.map_err(refused)?.to_string())?
        }
        DeValue::Float(float) => match float.as_str() {
            text if text.contains("inf") => Content::NotJson("an infinity"),
            text if text.contains("nan") => Content::NotJson("no number (NaN)"),
            text => number(text)?,
        },
        DeValue::Datetime(_) => Content::NotJson("a date or time"),
        DeValue::Array(items) => {
            Content::List(items.into_iter().map(|item| node(file, item)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(members) => Content::Table(table(file, members)?),
    };
    Ok(Node { span, content })
}
