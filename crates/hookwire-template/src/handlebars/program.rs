//! A Handlebars template as a tree that can be rendered: what is left when the parser's tree was checked.
//!
//! Invariant: every helper in it exists and has as many parameters as it needs.

use hookwire_json::Json;

use crate::error::Pos;

/// A piece of a template.
#[derive(Debug)]
pub(crate) enum Node {
    /// Text as it stands.
    Text(Box<str>),
    /// `{{expression}}`.
    Print { value: Expression, escape: bool, pos: Pos },
    /// `{{#helper ..}}body{{else}}inverse{{/helper}}`.
    Block(Box<Block>),
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    pub(crate) body: Vec<Node>,
    pub(crate) inverse: Vec<Node>,
    pub(crate) pos: Pos,
}

#[derive(Debug)]
pub(crate) enum BlockKind {
    /// `if` and, negated, `unless`.
    If { condition: Expression, negate: bool, include_zero: bool },
    /// `each`, with the names for item and index (or key).
    Each { list: Expression, names: Names },
    /// `with`, with the name for the value.
    With { value: Expression, names: Names },
}

/// The names after `as`.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) value: Option<Box<str>>,
    pub(crate) key: Option<Box<str>>,
}

/// What has a value.
#[derive(Debug)]
pub(crate) enum Expression {
    Path(Path),
    Literal(Json),
    Call(Box<Call>),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) helper: Helper,
    pub(crate) arguments: Vec<Expression>,
    /// `join`: the member to take of each item.
    pub(crate) key: Option<Expression>,
}

/// The way to a value: `../data.tags.0.name`, `@index`, `@root.event`.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// As it was written.
    pub(crate) text: Box<str>,
    pub(crate) start: Start,
    pub(crate) segments: Vec<Box<str>>,
}

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Start {
    /// At a block's name (`as |name|`), else as `This(0)`.
    #[default]
    Name,
    /// At the value of the current block, or so many blocks further out.
    This(usize),
    /// At the whole context.
    Root,
    /// At a variable such as `@index`, of the current block or so many further out.
    Local(usize),
}

/// The helpers that give a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helper {
    Json,
    Default,
    Lookup,
    Len,
    Join,
    Concat,
    Upper,
    Lower,
    UrlEncode,
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    And,
    Or,
    Not,
}

impl Helper {
    /// Every helper: its name, and how many parameters it takes.
    const ALL: &'static [(&'static str, Helper, usize, usize)] = &[
        ("json", Helper::Json, 1, 1),
        ("default", Helper::Default, 2, ARGUMENTS_MAX),
        ("lookup", Helper::Lookup, 2, ARGUMENTS_MAX),
        ("len", Helper::Len, 1, 1),
        ("join", Helper::Join, 1, 2),
        ("concat", Helper::Concat, 1, ARGUMENTS_MAX),
        ("upper", Helper::Upper, 1, 1),
        ("lower", Helper::Lower, 1, 1),
        ("urlencode", Helper::UrlEncode, 1, 1),
        ("eq", Helper::Eq, 2, 2),
        ("ne", Helper::Ne, 2, 2),
        ("gt", Helper::Gt, 2, 2),
        ("gte", Helper::Gte, 2, 2),
        ("lt", Helper::Lt, 2, 2),
        ("lte", Helper::Lte, 2, 2),
        ("and", Helper::And, 1, ARGUMENTS_MAX),
        ("or", Helper::Or, 1, ARGUMENTS_MAX),
        ("not", Helper::Not, 1, 1),
    ];

    pub(crate) fn find(name: &str) -> Option<(Helper, usize, usize)> {
        Self::ALL.iter().find(|(have, ..)| *have == name).map(|(_, helper, min, max)| (*helper, *min, *max))
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, ..)| *name)
    }

    /// Whether it only asks for its parameters, so that unknown ones are no error.
    pub(crate) fn only_asks(self) -> bool {
        self.is_predicate() || matches!(self, Helper::Default | Helper::Lookup)
    }

    /// Whether it gives true or false, so that it may open a block.
    pub(crate) fn is_predicate(self) -> bool {
        matches!(
            self,
            Helper::Eq
                | Helper::Ne
                | Helper::Gt
                | Helper::Gte
                | Helper::Lt
                | Helper::Lte
                | Helper::And
                | Helper::Or
                | Helper::Not
        )
    }
}

/// More parameters than anybody reads.
const ARGUMENTS_MAX: usize = 64;
