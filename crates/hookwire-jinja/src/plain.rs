//! The short way through plain templates, which put members into text and loop over lists.
//!
//! Most templates of webhooks are plain, and most of what the engine does for them is of no use to them: it looks names
//! up in scopes, makes values of members and counts references. Here the paths are followed in the document itself.
//!
//! Invariants
//! - What is written is what the engine would write. At anything out of the ordinary (an unknown name, a filter, a loop
//!   over an object) this gives up, and the engine renders from the start; so there are no errors here.
//! - A rendering takes so few steps that the engine would come to its end too.

use hookwire_json::{Content, List, Node};
use minijinja::machinery::ast::{Expr, Stmt, UnaryOpKind};

use crate::methods;

/// The engine takes fewer steps than this for one step here, of which there is one for each piece of the template, for
/// each name on a path, and for every 64 bytes written.
const ENGINE_STEPS: u64 = 16;

/// A value of the context that is printed, looped over or asked for.
#[derive(Debug, Clone, Copy)]
pub enum Plain<'c> {
    /// `None`.
    None,
    /// A string.
    Text(&'c str),
    /// A value within a document.
    Node(Node<'c>),
}

/// What a plain template writes.
#[derive(Debug, Clone, Copy)]
pub enum Written<'w> {
    /// Text of the template.
    Literal(&'w str),
    /// A value it prints.
    Value(Plain<'w>),
}

/// A template, or a part of one, that can go the short way.
pub(crate) type Body<'a> = Box<[Piece<'a>]>;

pub(crate) enum Piece<'a> {
    Literal(&'a str),
    Print(Path<'a>),
    For { items: Path<'a>, body: Body<'a>, otherwise: Body<'a> },
    If { condition: Condition<'a>, negate: bool, body: Body<'a>, otherwise: Body<'a> },
}

pub(crate) enum Condition<'a> {
    Member(Path<'a>),
    First,
    Last,
}

pub(crate) struct Path<'a> {
    start: Start<'a>,
    names: Box<[&'a str]>,
}

enum Start<'a> {
    /// A name of the context.
    Name(&'a str),
    /// The item of a loop, counted from the outermost.
    Item(usize),
}

/// The template as one that can go the short way, if it can.
pub(crate) fn outline<'a>(tree: &Stmt<'a>) -> Option<Body<'a>> {
    match tree {
        Stmt::Template(template) => body(&template.children, &mut Vec::new()),
        _ => None,
    }
}

fn body<'a>(statements: &[Stmt<'a>], targets: &mut Vec<&'a str>) -> Option<Body<'a>> {
    statements.iter().map(|statement| piece(statement, targets)).collect()
}

fn piece<'a>(statement: &Stmt<'a>, targets: &mut Vec<&'a str>) -> Option<Piece<'a>> {
    Some(match statement {
        Stmt::EmitRaw(raw) => Piece::Literal(raw.raw),
        Stmt::EmitExpr(emit) => Piece::Print(path(&emit.expr, targets)?),
        Stmt::ForLoop(each) => {
            let Expr::Var(target) = &each.target else { return None };
            if each.filter_expr.is_some() || each.recursive || target.id == "loop" {
                return None;
            }
            let items = path(&each.iter, targets)?;
            targets.push(target.id);
            let inner = body(&each.body, targets);
            targets.pop();
            Piece::For { items, body: inner?, otherwise: body(&each.else_body, targets)? }
        }
        Stmt::IfCond(choice) => {
            let (condition, negate) = match &choice.expr {
                Expr::UnaryOp(not) if matches!(not.op, UnaryOpKind::Not) => (&not.expr, true),
                other => (other, false),
            };
            Piece::If {
                condition: self::condition(condition, targets)?,
                negate,
                body: body(&choice.true_body, targets)?,
                otherwise: body(&choice.false_body, targets)?,
            }
        }
        _ => return None,
    })
}

fn condition<'a>(expression: &Expr<'a>, targets: &[&'a str]) -> Option<Condition<'a>> {
    if let Expr::GetAttr(member) = expression
        && matches!(&member.expr, Expr::Var(var) if var.id == "loop")
    {
        return match member.name {
            "first" if !targets.is_empty() => Some(Condition::First),
            "last" if !targets.is_empty() => Some(Condition::Last),
            _ => None,
        };
    }
    path(expression, targets).map(Condition::Member)
}

/// A path such as `data.site.name`, without names that every value of some type has, such as `items`.
fn path<'a>(expression: &Expr<'a>, targets: &[&'a str]) -> Option<Path<'a>> {
    let mut names = Vec::new();
    let mut at = expression;
    while let Expr::GetAttr(member) = at {
        if methods::is_attribute(member.name) {
            return None;
        }
        names.push(member.name);
        at = &member.expr;
    }
    let Expr::Var(var) = at else { return None };
    if var.id == "loop" {
        return None;
    }
    names.reverse();
    let start = match targets.iter().rposition(|target| *target == var.id) {
        Some(item) => Start::Item(item),
        None => Start::Name(var.id),
    };
    Some(Path { start, names: names.into() })
}

/// Renders the short way. `None` if it leads nowhere, or if `write` gives up.
pub(crate) fn render<'c>(
    body: &[Piece<'_>],
    root: impl Fn(&str) -> Option<Plain<'c>>,
    write: impl FnMut(Written<'_>) -> Option<()>,
    fuel: u64,
) -> Option<()> {
    Render { root, write, steps: fuel / ENGINE_STEPS, turns: Vec::new() }.body(body)
}

struct Render<'c, R, W> {
    root: R,
    write: W,
    steps: u64,
    /// The loops that are under way, the innermost last.
    turns: Vec<Turn<'c>>,
}

struct Turn<'c> {
    item: Node<'c>,
    first: bool,
    last: bool,
}

impl<'c, R, W> Render<'c, R, W>
where
    R: Fn(&str) -> Option<Plain<'c>>,
    W: FnMut(Written<'_>) -> Option<()>,
{
    fn body(&mut self, body: &[Piece<'_>]) -> Option<()> {
        body.iter().try_for_each(|piece| self.piece(piece))
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Option<()> {
        match piece {
            Piece::Literal(text) => {
                self.pay(text.len())?;
                (self.write)(Written::Literal(text))
            }
            Piece::Print(path) => {
                let value = self.member(path)?;
                self.pay(match value {
                    Plain::None => 0,
                    Plain::Text(text) => text.len(),
                    Plain::Node(node) => node.as_str().len(),
                })?;
                (self.write)(Written::Value(value))
            }
            Piece::For { items, body, otherwise } => {
                let items = self.list(items)?;
                if items.is_empty() {
                    return self.body(otherwise);
                }
                for (index, item) in items.iter().enumerate() {
                    self.turns.push(Turn { item, first: index == 0, last: index + 1 == items.len() });
                    self.pay(0)?;
                    self.body(body)?;
                    self.turns.pop();
                }
                Some(())
            }
            Piece::If { condition, negate, body, otherwise } => {
                self.pay(0)?;
                let holds = self.holds(condition)? != *negate;
                self.body(if holds { body } else { otherwise })
            }
        }
    }

    fn list(&mut self, path: &Path<'_>) -> Option<List<'c>> {
        match self.member(path)? {
            Plain::Node(node) => node.as_list(),
            Plain::None | Plain::Text(_) => None,
        }
    }

    fn holds(&mut self, condition: &Condition<'_>) -> Option<bool> {
        match condition {
            Condition::First => self.turns.last().map(|turn| turn.first),
            Condition::Last => self.turns.last().map(|turn| turn.last),
            Condition::Member(path) => self.member(path).map(is_true),
        }
    }

    fn member(&mut self, path: &Path<'_>) -> Option<Plain<'c>> {
        self.pay(path.names.len() * 64)?;
        let start = match path.start {
            Start::Name(name) => (self.root)(name)?,
            Start::Item(turn) => Plain::Node(self.turns.get(turn)?.item),
        };
        path.names.iter().try_fold(start, |value, name| match value {
            Plain::Node(node) => node.get(name).map(Plain::Node),
            Plain::None | Plain::Text(_) => None,
        })
    }

    /// Takes one step, and one for every 64 bytes.
    fn pay(&mut self, bytes: usize) -> Option<()> {
        self.steps = self.steps.checked_sub(1 + bytes as u64 / 64)?;
        Some(())
    }
}

/// Python's `bool(..)`.
fn is_true(value: Plain<'_>) -> bool {
    match value {
        Plain::None => false,
        Plain::Text(text) => !text.is_empty(),
        Plain::Node(node) => match node.content() {
            Content::Null => false,
            Content::Bool(value) => value,
            Content::Text(text) => !text.is_empty(),
            Content::List(items) => !items.is_empty(),
            Content::Object(members) => !members.is_empty(),
            // Zero is whatever has no other digit before its exponent.
            Content::Number(number) => number
                .bytes()
                .take_while(|byte| !matches!(byte, b'e' | b'E'))
                .any(|byte| matches!(byte, b'1'..=b'9')),
        },
    }
}
