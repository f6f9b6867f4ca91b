//! What can be wrong with a template, or with what it rendered to, and where.
//!
//! Invariants
//! - The message is a lower-case fragment that names the place; the remedy says what to write instead.
//! - The kind is decided where the error is made, never read back from text.

use std::fmt;

/// A closed set of words, as records and interfaces spell them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Which template of a webhook.
    Field {
        /// The URL.
        Url = "url",
        /// The additional headers.
        AdditionalHeaders = "additional_headers",
        /// The body.
        BodyTemplate = "body_template",
    }
}

words! {
    /// What a caller may want to treat differently.
    TemplateErrorKind {
        /// The text is no template of its language.
        Syntax = "syntax",
        /// It names a helper, filter or test that does not exist.
        Unknown = "unknown",
        /// A name or member that does not exist was printed.
        Undefined = "undefined",
        /// A limit of [`Limits`](crate::Limits) was reached.
        Limit = "limit",
        /// The language can do this elsewhere and we refuse it; the remedy says what to write instead.
        Unsupported = "unsupported",
        /// A value has the wrong type for what is done with it.
        Runtime = "runtime",
        /// The rendered body is not JSON although the content type says so; line and column are those of the
        /// body.
        NotJson = "not_json",
        /// The rendered URL can't be called.
        InvalidUrl = "invalid_url",
        /// A rendered header can't be sent.
        InvalidHeader = "invalid_header",
    }
}

/// A template that could not be compiled or rendered, or that rendered to something that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// The template.
    pub field: Field,
    /// What kind of error it is.
    pub kind: TemplateErrorKind,
    /// What is wrong, without its place.
    pub message: String,
    /// What to write instead, if there is something to write.
    pub remedy: Option<String>,
    /// The line in the template, from 1; of the rendered text for what is wrong with that.
    pub line: Option<usize>,
    /// The column in that line, in characters from 1.
    pub column: Option<usize>,
}

impl TemplateError {
    /// Message and remedy as one text.
    pub fn text(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}; {remedy}", self.message),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{}, line {line}, column {column}: ", self.field)?,
            (Some(line), None) => write!(f, "{}, line {line}: ", self.field)?,
            _ => write!(f, "{}: ", self.field)?,
        }
        f.write_str(&self.text())
    }
}

/// A line and a column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pos {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Pos {
    /// The place of the byte `at` in `text`.
    pub(crate) fn of(text: &str, at: usize) -> Pos {
        let at = crate::text::floor_boundary(text, at);
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Pos {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Places in one text, in the order in which they stand there: the way from one to the next is walked once.
pub(crate) struct Places<'t> {
    text: &'t str,
    at: usize,
    pos: Pos,
}

impl<'t> Places<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        Places { text, at: 0, pos: Pos { line: 1, column: 1 } }
    }

    /// The place of the byte `at`, which is not before the last one asked for.
    pub(crate) fn at(&mut self, at: usize) -> Pos {
        let at = crate::text::floor_boundary(self.text, at);
        let between = Pos::of(&self.text[self.at..at], at - self.at);
        self.pos = match between.line {
            1 => Pos { column: self.pos.column + between.column - 1, ..self.pos },
            lines => Pos { line: self.pos.line + lines - 1, ..between },
        };
        self.at = at;
        self.pos
    }
}

/// An error before it is known which template it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: TemplateErrorKind,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
    pub(crate) pos: Option<Pos>,
}

impl Fault {
    pub(crate) fn new(kind: TemplateErrorKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), remedy: None, pos: None }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Fault {
        self.remedy = Some(remedy.into());
        self
    }

    /// Sets the place unless a narrower one is known.
    pub(crate) fn at(mut self, pos: Pos) -> Fault {
        self.pos.get_or_insert(pos);
        self
    }

    pub(crate) fn in_field(self, field: Field) -> TemplateError {
        TemplateError {
            field,
            kind: self.kind,
            message: self.message,
            remedy: self.remedy,
            line: self.pos.map(|pos| pos.line),
            column: self.pos.map(|pos| pos.column),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Walking from one place to the next gives what counting from the beginning gives.
        #[test]
        fn places_are_those_counted_from_the_beginning(
            text in "[a\n\u{e9}\u{1f680}]{0,40}",
            mut offsets in proptest::collection::vec(0..80usize, 0..8),
        ) {
            offsets.sort_unstable();
            let mut places = Places::of(&text);
            for at in offsets {
                prop_assert_eq!(places.at(at), Pos::of(&text, at));
            }
        }
    }
}
