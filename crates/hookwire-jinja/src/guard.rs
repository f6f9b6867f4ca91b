//! Checks a template's size and nesting before it is parsed.
//!
//! Invariants
//! - A source that passes can be parsed, lowered, compiled and dropped without overflowing a stack of 2 MiB: each of
//!   these recurses at most once per unit counted here.
//! - Takes time linear in the source.

use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use crate::error::{Error, ErrorKind};
use crate::options::Limits;

/// Operators in a row, such as `a ~ b ~ c`, cost less stack than brackets.
const CHAIN_PER_NESTING: usize = 4;

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
    for token in tokenize(source, false, SyntaxConfig::default()) {
        // What is no token is the parser's to report.
        let Ok((token, span)) = token else { return Ok(()) };
        if let Some(message) = unreadable(&token, ends_operand, at_tag_start) {
            let range = span.start_offset as usize..span.end_offset as usize;
            return Err(Error::at(ErrorKind::Unsupported, message, source, range));
        }
        ends_operand = can_end_operand(&token);
        at_tag_start = matches!(token, Token::BlockStart);
        depth.count(&token);
        if depth.nesting() > nesting_max {
            return Err(too_deep(source, span, format!("nests more than {nesting_max} deep")));
        }
        let chain_max = nesting_max * CHAIN_PER_NESTING;
        if depth.chain() > chain_max {
            return Err(too_deep(source, span, format!("has more than {chain_max} operators in a row")));
        }
    }
    Ok(())
}

/// What Jinja2 reads and the engine's parser does not.
fn unreadable(token: &Token<'_>, after_operand: bool, at_tag_start: bool) -> Option<&'static str> {
    match token {
        Token::Plus if !after_operand => Some("unary `+`; leave the sign out"),
        Token::Ident("print") if at_tag_start => Some("`{% print .. %}`; write `{{ .. }}`"),
        Token::Ident("trans" | "pluralize") if at_tag_start => Some("`{% trans %}`; write the text itself"),
        _ => None,
    }
}

/// Whether a sign after this token stands between two operands.
fn can_end_operand(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => !matches!(*word, "and" | "or" | "not" | "in" | "is" | "if" | "else" | "elif" | "recursive"),
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

fn too_deep(source: &str, span: Span, what: String) -> Error {
    let range = span.start_offset as usize..span.end_offset as usize;
    Error::at(ErrorKind::Limit, format!("the template {what} here; split it with {{% set %}}"), source, range)
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
    fn nesting(&self) -> usize {
        let blocks: usize = self.blocks.iter().sum();
        blocks + self.brackets.len() + self.brackets.iter().map(|level| level.prefix).sum::<usize>()
    }

    fn chain(&self) -> usize {
        self.brackets.iter().map(|level| level.chain).sum()
    }

    fn count(&mut self, token: &Token<'_>) {
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
                self.bump(0, 1);
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
                self.blocks.push(1)
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
