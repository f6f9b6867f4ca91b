//! Checks a template's size and nesting before it is parsed.
//!
//! Invariants
//! - A source that passes can be parsed, lowered, compiled and dropped without overflowing a stack of 2 MiB: each of
//!   these recurses at most once per unit counted here.
//! - Takes time linear in the source.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use crate::error::{Error, ErrorKind};
use crate::options::Limits;

/// More lines or wider lines than the engine can count.
const LINES_MAX: usize = u16::MAX as usize;

/// Refuses a source that is too large or nests too deep.
pub(crate) fn check(source: &str, limits: &Limits) -> Result<(), Error> {
    if source.len() > limits.source_bytes {
        return Err(Error::whole(
            ErrorKind::Limit,
            format!(
                "the template has {} bytes, more than the limit of {}",
                source.len(),
                limits.source_bytes
            ),
        ));
    }
    if source.lines().count() > LINES_MAX {
        return Err(Error::whole(ErrorKind::Limit, format!("the template has more than {LINES_MAX} lines")));
    }
    let nesting_max = limits.nesting.min(Limits::NESTING_MAX);
    let mut depth = Depth::default();
    let mut ends_operand = false;
    let mut at_tag_start = false;
    let mut test = Test::None;
    for token in tokenize(source, false, SyntaxConfig::default()) {
        // What is no token is the parser's to report.
        let Ok((token, span)) = token else { return Ok(()) };
        let range = span.start_offset as usize..span.end_offset as usize;
        if let Some((kind, message)) =
            unreadable(&token, &source[range.clone()], ends_operand, at_tag_start, test)
        {
            return Err(Error::at(kind, message, source, range));
        }
        test = test.next(&token);
        depth.count(&token, ends_operand);
        ends_operand = can_end_operand(&token);
        at_tag_start = matches!(token, Token::BlockStart);
        if depth.halves() > nesting_max * 2 {
            let message =
                format!("the template nests more than {nesting_max} deep here; split it with {{% set %}}");
            return Err(Error::at(ErrorKind::Limit, message, source, range));
        }
    }
    Ok(())
}

/// Where in `value is not name` the reader stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    None,
    Is,
    Named,
}

impl Test {
    fn next(self, token: &Token<'_>) -> Test {
        match (self, token) {
            (Test::Is, Token::Ident("not")) => Test::Is,
            (Test::Is, Token::Ident(_)) => Test::Named,
            (_, Token::Ident("is")) => Test::Is,
            _ => Test::None,
        }
    }
}

/// What Jinja2 reads otherwise than the engine's parser, which would take it for something else or not at all.
fn unreadable(
    token: &Token<'_>,
    text: &str,
    after_operand: bool,
    at_tag_start: bool,
    test: Test,
) -> Option<(ErrorKind, &'static str)> {
    let unsupported = |message| Some((ErrorKind::Unsupported, message));
    match token {
        Token::Plus if !after_operand => unsupported("unary `+`; leave the sign out"),
        Token::Ident("print") if at_tag_start => unsupported("`{% print .. %}`; write `{{ .. }}`"),
        Token::Ident("do") if at_tag_start => {
            Some((ErrorKind::Syntax, "unknown statement `do`; write `{% set _ = .. %}`"))
        }
        Token::Ident("trans" | "pluralize") if at_tag_start => {
            unsupported("`{% trans %}`; write the text itself")
        }
        Token::Ident("is") if test == Test::Named => {
            Some((ErrorKind::Syntax, "several tests with `is` in a row; put brackets around the first"))
        }
        Token::Float(_) if text.ends_with('.') || text.contains(".e") || text.contains(".E") => {
            Some((ErrorKind::Syntax, "a number with nothing after its point; write a zero there"))
        }
        Token::Int(_) | Token::Int128(_) | Token::Float(_) if !is_python_number(text) => {
            Some((ErrorKind::Syntax, "a number with a leading zero or doubled underscores"))
        }
        Token::Str(_) | Token::String(_) => other_escape(text).and_then(unsupported),
        _ => None,
    }
}

/// The engine also reads `007` and `1__0`.
fn is_python_number(text: &str) -> bool {
    let leading_zero =
        text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let old_octal = leading_zero && text.contains(|c| ('1'..='9').contains(&c));
    let odd_underscore = text.contains("__") || text.ends_with('_');
    !old_octal && !odd_underscore
}

/// Why the engine would read the escapes in a string literal otherwise than Python.
fn other_escape(literal: &str) -> Option<&'static str> {
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        let mut chars = rest[at + 1..].chars();
        let escaped = chars.next()?;
        rest = chars.as_str();
        match escaped {
            'a' | 'v' => return Some("the escapes `\\a` and `\\v`; write `\\x07` and `\\x0b`"),
            'N' | 'U' => return Some("the escapes `\\N` and `\\U`; write the character itself"),
            '/' => return Some("the escape `\\/`, which keeps its backslash in Python; write `\\\\/`"),
            '\n' => return Some("a backslash at the end of a line; write the text in one line"),
            'u' if rest.starts_with(['d', 'D'])
                && rest[1..].starts_with(|c: char| c >= '8' && c.is_ascii_hexdigit()) =>
            {
                return Some("the escape of one half of a character; write the character itself");
            }
            c if !c.is_ascii() => return Some("a backslash before a letter; write two backslashes"),
            _ => {}
        }
    }
    None
}

/// Whether a sign after this token stands between two operands.
fn can_end_operand(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => {
            !matches!(*word, "and" | "or" | "not" | "in" | "is" | "if" | "else" | "elif" | "recursive")
        }
        Token::Str(_)
        | Token::String(_)
        | Token::Int(_)
        | Token::Int128(_)
        | Token::Float(_)
        | Token::BracketClose
        | Token::ParenClose
        | Token::BraceClose => true,
        _ => false,
    }
}

/// An upper bound of the depth of the syntax tree at the place read.
#[derive(Default)]
struct Depth {
    /// Blocks such as `if` and `for` that are open. `elif` nests too.
    blocks: Vec<usize>,
    /// Operators since the tag or an open bracket began, one entry per open bracket.
    brackets: Vec<Level>,
    /// The first word of a tag decides whether it opens or ends a block.
    at_tag_start: bool,
    in_set: bool,
}

#[derive(Default, Clone, Copy)]
struct Level {
    /// Operators that make the tree deeper on their right side: `not`, `-`, `if .. else`.
    prefix: usize,
    /// Operators that make it deeper on their left.
    chain: usize,
}

impl Depth {
    /// Twice the depth: operators in a row cost half of what a bracket costs.
    fn halves(&self) -> usize {
        let blocks: usize = self.blocks.iter().sum();
        let levels: usize = self.brackets.iter().map(|level| 2 + 2 * level.prefix + level.chain).sum();
        2 * blocks + levels
    }

    fn count(&mut self, token: &Token<'_>, after_operand: bool) {
        let at_tag_start = std::mem::take(&mut self.at_tag_start);
        match token {
            Token::VariableStart | Token::BlockStart => {
                self.brackets.clear();
                self.brackets.push(Level::default());
                self.at_tag_start = matches!(token, Token::BlockStart);
                self.in_set = false;
            }
            Token::VariableEnd | Token::BlockEnd => {
                // `{% set x %}` without a value opens a block.
                if self.in_set {
                    self.blocks.push(1);
                    self.in_set = false;
                }
                self.brackets.clear();
            }
            Token::Ident(word) if at_tag_start => self.tag(word),
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                // A call or subscript, unlike a bracket of its own.
                self.bump(0, usize::from(after_operand));
                self.brackets.push(Level::default());
            }
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                self.brackets.pop();
            }
            Token::Comma => {
                if let Some(level) = self.brackets.last_mut() {
                    *level = Level::default();
                }
            }
            Token::Assign => self.in_set = false,
            Token::Minus => self.bump(1, 0),
            Token::Ident("not" | "if" | "else") => self.bump(1, 0),
            Token::Ident("and" | "or" | "is" | "in")
            | Token::Plus
            | Token::Mul
            | Token::Div
            | Token::FloorDiv
            | Token::Pow
            | Token::Mod
            | Token::Dot
            | Token::Tilde
            | Token::Pipe
            | Token::Eq
            | Token::Ne
            | Token::Gt
            | Token::Gte
            | Token::Lt
            | Token::Lte => self.bump(0, 1),
            _ => {}
        }
    }

    fn bump(&mut self, prefix: usize, chain: usize) {
        if let Some(level) = self.brackets.last_mut() {
            level.prefix += prefix;
            level.chain += chain;
        }
    }

    fn tag(&mut self, word: &str) {
        match word {
            "if" | "for" | "macro" | "call" | "filter" | "with" | "block" | "autoescape" => {
                self.blocks.push(1);
            }
            "elif" => {
                if let Some(block) = self.blocks.last_mut() {
                    *block += 1;
                }
            }
            "set" => self.in_set = true,
            word if word.starts_with("end") => {
                self.blocks.pop();
            }
            _ => {}
        }
    }
}
