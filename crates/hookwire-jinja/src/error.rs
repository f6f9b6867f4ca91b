//! What can go wrong, and where in the template.
//!
//! Invariants
//! - The message is a lower-case fragment that says what to write instead where there is something to write instead.
//! - The kind is decided where the error is made, never read back from text.

use std::fmt;

/// A template that could not be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    line: Option<usize>,
    column: Option<usize>,
    excerpt: Option<String>,
}

/// What a caller may want to treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is no Jinja2 template.
    Syntax,
    /// The template names a filter or test that does not exist.
    Unknown,
    /// A name or member that does not exist was used.
    Undefined,
    /// A limit of [`Limits`](crate::Limits) was reached.
    Limit,
    /// Jinja2 can do this and we refuse it; the message says what to write instead.
    Unsupported,
    /// Anything else that Python would raise too, such as a division by zero or a wrong type.
    Runtime,
}

impl Error {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line in the template, counted from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The column in that line, counted in characters from 1.
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The piece of the template the error is about, shortened if it is long.
    pub fn excerpt(&self) -> Option<&str> {
        self.excerpt.as_deref()
    }

    /// An error about the whole template.
    pub(crate) fn whole(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), line: None, column: None, excerpt: None }
    }

    /// An error about the bytes `range` of `source`.
    pub(crate) fn at(
        kind: ErrorKind,
        message: impl Into<String>,
        source: &str,
        range: std::ops::Range<usize>,
    ) -> Error {
        let mut error = Error::whole(kind, message);
        let start = floor_boundary(source, range.start);
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        error.line = Some(source[..start].matches('\n').count() + 1);
        error.column = Some(source[line_start..start].chars().count() + 1);
        let end = floor_boundary(source, range.end).max(start);
        let piece = source[start..end].trim();
        if !piece.is_empty() {
            error.excerpt = Some(shorten(piece));
        }
        error
    }

    /// What minijinja reported, or one of our own errors on its way through it.
    pub(crate) fn from_engine(error: minijinja::Error, source: &str) -> Error {
        // The innermost error of ours, or else of minijinja, says what happened; the outermost place is where.
        let mut range = error.range();
        let mut line = error.line();
        let mut kind = engine_kind(&error);
        let mut message = engine_message(&error);
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            if let Some(Cause(own)) = cause.downcast_ref::<Cause>() {
                kind = *own;
            } else if let Some(inner) = cause.downcast_ref::<minijinja::Error>() {
                range = inner.range().or(range);
                line = inner.line().or(line);
                kind = engine_kind(inner);
                message = engine_message(inner);
            }
            next = cause.source();
        }
        match (range, line) {
            (Some(range), _) => Error::at(kind, message, source, range),
            (None, line) => Error { line, ..Error::whole(kind, message) },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: {}", self.message)?,
            (Some(line), None) => write!(f, "line {line}: {}", self.message)?,
            _ => f.write_str(&self.message)?,
        }
        match &self.excerpt {
            Some(excerpt) => write!(f, " (in `{excerpt}`)"),
            None => Ok(()),
        }
    }
}

/// Travels inside a minijinja error and tells our kind at the other end.
#[derive(Debug)]
pub(crate) struct Cause(pub(crate) ErrorKind);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Cause {}

/// The engine reports this limit as an invalid operation like any other.
const RECURSION: &str = "recursion limit exceeded";

fn engine_kind(error: &minijinja::Error) -> ErrorKind {
    use minijinja::ErrorKind as Engine;
    match error.kind() {
        Engine::SyntaxError | Engine::BadEscape | Engine::InvalidDelimiter => ErrorKind::Syntax,
        Engine::UnknownFilter | Engine::UnknownTest => ErrorKind::Unknown,
        Engine::UndefinedError | Engine::UnknownFunction => ErrorKind::Undefined,
        Engine::OutOfFuel => ErrorKind::Limit,
        _ if error.detail() == Some(RECURSION) => ErrorKind::Limit,
        _ => ErrorKind::Runtime,
    }
}

fn engine_message(error: &minijinja::Error) -> String {
    use minijinja::ErrorKind as Engine;
    match (error.kind(), error.detail()) {
        (Engine::OutOfFuel, _) => OUT_OF_FUEL.into(),
        (Engine::UndefinedError, None) => UNDEFINED_USED.into(),
        (Engine::InvalidOperation, Some(RECURSION)) => {
            "macros or recursive loops call each other too deep; end the recursion with an `if`".into()
        }
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    }
}

/// Said wherever the fuel of a rendering ends.
pub(crate) const OUT_OF_FUEL: &str =
    "the template takes too many steps or too much memory; make it or its data smaller";

/// Said wherever an unknown value is used.
pub(crate) const UNDEFINED_USED: &str =
    "a name or member that does not exist is used; guard it with `|default(..)` or `is defined`";

fn floor_boundary(source: &str, mut at: usize) -> usize {
    at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first line, and of that what fits into a line of a terminal.
fn shorten(piece: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = piece.lines().next().unwrap_or_default();
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < piece.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}
