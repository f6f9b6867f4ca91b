//! Rewrites the syntax tree so that it means what it means in Python, and refuses what it can't make mean that.
//!
//! The engine's operators, item access, method calls and literals follow its own rules. Each becomes a call of one of
//! the filters in [`op`], whose names no template can write. What needs no rewriting is copied. Besides `plain.rs`,
//! which only reads it, this is the only file that knows the engine's syntax tree.
//!
//! Invariants
//! - Names, line numbers and order of evaluation stay.
//! - Every construct is named here: rewritten, copied or refused; there is no arm that lets the rest through.

use std::ops::Range;

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt, UnaryOpKind};

use crate::error::ErrorKind;
use crate::{filters, functions, methods, predicates};

/// Names of the filters that stand for operators. None is an identifier, so no template can call them.
pub(crate) mod op {
    pub(crate) const ADD: &str = "+";
    pub(crate) const SUB: &str = "-";
    pub(crate) const MUL: &str = "*";
    pub(crate) const DIV: &str = "/";
    pub(crate) const FLOOR_DIV: &str = "//";
    pub(crate) const REM: &str = "%";
    pub(crate) const POW: &str = "**";
    pub(crate) const POW_OF_CONSTANT: &str = "-x**";
    pub(crate) const NEG: &str = "-x";
    pub(crate) const CONCAT: &str = "~";
    pub(crate) const EQ: &str = "==";
    pub(crate) const NE: &str = "!=";
    pub(crate) const LT: &str = "<";
    pub(crate) const LE: &str = "<=";
    pub(crate) const GT: &str = ">";
    pub(crate) const GE: &str = ">=";
    pub(crate) const IN: &str = "in?";
    pub(crate) const NOT_IN: &str = "!in";
    pub(crate) const ATTR: &str = ".";
    pub(crate) const ITEM: &str = "[]";
    pub(crate) const SLICE: &str = "[:]";
    pub(crate) const METHOD: &str = ".()";
    pub(crate) const LIST: &str = "[,]";
    pub(crate) const TUPLE: &str = "(,)";
    pub(crate) const DICT: &str = "{:}";
    pub(crate) const ITERATE: &str = "for";
    pub(crate) const STORE: &str = "=";
    pub(crate) const SPLAT: &str = "*x";
    pub(crate) const KW_SPLAT: &str = "**x";
    pub(crate) const GIVEN: &str = "given?";
    pub(crate) const KEEP: &str = "keep?";
}

/// Why a template can't be compiled, and where.
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) range: Range<usize>,
}

/// What the rewritten template needs when it is rendered.
pub(crate) struct Lowered<'a> {
    pub(crate) tree: Stmt<'a>,
    /// It names a method that changes a list or dict, so it needs a context of its own.
    pub(crate) mutates: bool,
}

/// Rewrites a parsed template.
pub(crate) fn lower<'a>(tree: &Stmt<'a>) -> Result<Lowered<'a>> {
    let lowered = lower_once(tree, false)?;
    // Only at the end of the first pass is it known whether anything changes.
    if lowered.mutates { lower_once(tree, true) } else { Ok(lowered) }
}

fn lower_once<'a>(tree: &Stmt<'a>, keeps: bool) -> Result<Lowered<'a>> {
    let mut lowering = Lowering {
        mutates: false,
        keeps,
        has_defaults: declares_defaults(std::slice::from_ref(tree)),
        scopes: Vec::new(),
        temporaries: 0,
    };
    let tree = match tree {
        Stmt::Template(template) => Stmt::Template(Spanned::new(
            ast::Template { children: lowering.body(&template.children)? },
            template.span(),
        )),
        other => lowering.stmt(other)?,
    };
    Ok(Lowered { tree, mutates: lowering.mutates })
}

/// What the code at hand stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A macro or call block; whether it declares the names.
    Macro {
        varargs: bool,
        kwargs: bool,
    },
    /// A loop, `with`, `filter`, `set` or `autoescape` block.
    Inner,
    Block,
}

struct Lowering {
    mutates: bool,
    /// The template changes lists or dicts, so a generator must not be kept: what it yields is computed at once here
    /// and in Python when it is taken.
    keeps: bool,
    /// Some macro or call block has an argument with a default.
    has_defaults: bool,
    scopes: Vec<Scope>,
    temporaries: usize,
}

type Result<T> = std::result::Result<T, Refusal>;

fn refuse<T>(kind: ErrorKind, span: Span, message: impl Into<String>) -> Result<T> {
    Err(Refusal {
        kind,
        message: message.into(),
        range: span.start_offset as usize..span.end_offset as usize,
    })
}

fn unsupported<T>(span: Span, message: impl Into<String>) -> Result<T> {
    refuse(ErrorKind::Unsupported, span, message)
}

fn constant(value: Value, span: Span) -> Expr<'static> {
    Expr::Const(Spanned::new(ast::Const { value }, span))
}

/// `name(first, rest..)` as a filter.
fn apply<'a>(
    name: &'a str,
    span: Span,
    first: Expr<'a>,
    rest: impl IntoIterator<Item = CallArg<'a>>,
) -> Expr<'a> {
    let args = rest.into_iter().collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(first), args }, span))
}

fn not<'a>(expr: Expr<'a>, span: Span) -> Expr<'a> {
    Expr::UnaryOp(Spanned::new(ast::UnaryOp { op: UnaryOpKind::Not, expr }, span))
}

fn name_of<'a>(target: &Expr<'a>) -> Option<&'a str> {
    match target {
        Expr::Var(var) => Some(var.id),
        _ => None,
    }
}

impl Lowering {
    fn within<T>(&mut self, scope: Scope, lower: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scopes.push(scope);
        let lowered = lower(self);
        self.scopes.pop();
        lowered
    }

    fn body<'a>(&mut self, body: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>> {
        body.iter().map(|stmt| self.stmt(stmt)).collect()
    }

    fn inner<'a>(&mut self, body: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>> {
        self.within(Scope::Inner, |lowering| lowering.body(body))
    }

    /// A body that is a scope in Jinja2 and none in the engine.
    fn scoped<'a>(&mut self, body: &[Stmt<'a>], span: Span) -> Result<Vec<Stmt<'a>>> {
        let body = self.inner(body)?;
        Ok(vec![Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments: Vec::new(), body }, span))])
    }

    fn stmt<'a>(&mut self, stmt: &Stmt<'a>) -> Result<Stmt<'a>> {
        Ok(match stmt {
            Stmt::Template(node) => return unsupported(node.span(), "a template inside a template"),
            Stmt::EmitRaw(node) => Stmt::EmitRaw(Spanned::new(ast::EmitRaw { raw: node.raw }, node.span())),
            Stmt::EmitExpr(node) => {
                Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: self.expr(&node.expr)? }, node.span()))
            }
            Stmt::ForLoop(node) => {
                let iter = self.expr(&node.iter)?;
                let span = node.iter.span();
                Stmt::ForLoop(Spanned::new(
                    ast::ForLoop {
                        target: self.target(&node.target)?,
                        iter: apply(op::ITERATE, span, iter, []),
                        filter_expr: self.optional(node.filter_expr.as_ref())?,
                        recursive: node.recursive,
                        body: self.inner(&node.body)?,
                        else_body: self.inner(&node.else_body)?,
                    },
                    node.span(),
                ))
            }
            Stmt::IfCond(node) => Stmt::IfCond(Spanned::new(
                ast::IfCond {
                    expr: self.expr(&node.expr)?,
                    true_body: self.body(&node.true_body)?,
                    false_body: self.body(&node.false_body)?,
                },
                node.span(),
            )),
            Stmt::WithBlock(node) => self.with_block(node)?,
            Stmt::Set(node) => {
                let mut expr = self.expr(&node.expr)?;
                // A namespace keeps what it is given beyond the scope, so it is checked as a container's item is.
                if matches!(node.target, Expr::GetAttr(_)) {
                    expr = apply(op::STORE, node.expr.span(), expr, []);
                }
                if self.keeps {
                    expr = apply(op::KEEP, node.expr.span(), expr, []);
                }
                Stmt::Set(Spanned::new(ast::Set { target: self.target(&node.target)?, expr }, node.span()))
            }
            Stmt::SetBlock(node) => {
                if !matches!(node.target, Expr::Var(_)) {
                    return unsupported(
                        node.span(),
                        "a `set` block for anything but a plain name; set a name, then the member from it",
                    );
                }
                Stmt::SetBlock(Spanned::new(
                    ast::SetBlock {
                        target: self.target(&node.target)?,
                        filter: self.optional(node.filter.as_ref())?,
                        body: self.scoped(&node.body, node.span())?,
                    },
                    node.span(),
                ))
            }
            Stmt::AutoEscape(node) => match &node.enabled {
                Expr::Const(enabled) if !enabled.value.is_true() => Stmt::AutoEscape(Spanned::new(
                    ast::AutoEscape {
                        enabled: self.expr(&node.enabled)?,
                        body: self.scoped(&node.body, node.span())?,
                    },
                    node.span(),
                )),
                _ => {
                    return unsupported(
                        node.span(),
                        "`autoescape`; write `|e` where a value is to be escaped",
                    );
                }
            },
            Stmt::FilterBlock(node) => Stmt::FilterBlock(Spanned::new(
                ast::FilterBlock {
                    filter: self.expr(&node.filter)?,
                    filter_span: node.filter_span,
                    body: self.scoped(&node.body, node.span())?,
                },
                node.span(),
            )),
            Stmt::Block(node) => {
                if self.scopes.iter().any(|scope| *scope != Scope::Block) {
                    return unsupported(
                        node.span(),
                        "a `block` inside a loop, macro or another scope, whose names it would not see in Jinja2; \
                         leave the `block` tags out",
                    );
                }
                Stmt::Block(Spanned::new(
                    ast::Block {
                        name: node.name,
                        required: node.required,
                        body: self.within(Scope::Block, |lowering| lowering.body(&node.body))?,
                    },
                    node.span(),
                ))
            }
            Stmt::Import(node) => {
                return unsupported(
                    node.span(),
                    "`import`: there are no other templates; define the macro here",
                );
            }
            Stmt::FromImport(node) => {
                return unsupported(
                    node.span(),
                    "`from .. import`: there are no other templates; define the macro here",
                );
            }
            Stmt::Extends(node) => {
                return unsupported(node.span(), "`extends`: there are no other templates");
            }
            // There are no other templates, so this ends as in Jinja2: in an error unless missing ones are ignored.
            Stmt::Include(node) => Stmt::Include(Spanned::new(
                ast::Include { name: self.include_name(&node.name)?, ignore_missing: node.ignore_missing },
                node.span(),
            )),
            Stmt::Macro(node) => Stmt::Macro(self.macro_decl(node)?),
            Stmt::CallBlock(node) => {
                if name_of(&node.call.expr).is_none() {
                    return unsupported(node.span(), "a `call` block of anything but a macro's plain name");
                }
                let call =
                    ast::Call { expr: self.callee(&node.call.expr)?, args: self.args(&node.call.args)? };
                Stmt::CallBlock(Spanned::new(
                    ast::CallBlock {
                        call: Spanned::new(call, node.call.span()),
                        call_expr_span: node.call_expr_span,
                        macro_decl: self.macro_decl(&node.macro_decl)?,
                    },
                    node.span(),
                ))
            }
            Stmt::Do(node) => {
                return refuse(
                    ErrorKind::Syntax,
                    node.span(),
                    "unknown statement do; write {% set _ = .. %}",
                );
            }
        })
    }

    /// In Jinja2 the values of `with` don't see the names it sets, in the engine they do; so the values are kept under
    /// names that no template can write, and set afterwards.
    fn with_block<'a>(&mut self, node: &Spanned<ast::WithBlock<'a>>) -> Result<Stmt<'a>> {
        const NAMES: [&str; 8] =
            ["with 0", "with 1", "with 2", "with 3", "with 4", "with 5", "with 6", "with 7"];
        let mut assignments = Vec::new();
        let mut targets = Vec::new();
        let several = node.assignments.len() > 1;
        for (target, expr) in &node.assignments {
            let (value, target) = (self.expr(expr)?, self.target(target)?);
            if !several {
                assignments.push((target, value));
                continue;
            }
            let Some(name) = NAMES.get(self.temporaries) else {
                return unsupported(
                    node.span(),
                    format!("`with` blocks of more than {} names in all", NAMES.len()),
                );
            };
            self.temporaries += 1;
            let temporary = || Expr::Var(Spanned::new(ast::Var { id: name }, expr.span()));
            assignments.push((temporary(), value));
            targets.push((target, temporary()));
        }
        let kept = targets.len();
        assignments.extend(targets);
        let body = self.inner(&node.body)?;
        self.temporaries -= kept;
        Ok(Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body }, node.span())))
    }

    fn macro_decl<'a>(&mut self, node: &Spanned<ast::Macro<'a>>) -> Result<Spanned<ast::Macro<'a>>> {
        let mut names = Vec::new();
        for arg in &node.args {
            let Some(name) = name_of(arg) else {
                return unsupported(arg.span(), "a macro's argument that is no plain name");
            };
            if names.contains(&name) {
                return refuse(ErrorKind::Syntax, arg.span(), format!("the argument `{name}` stands twice"));
            }
            names.push(name);
        }
        // In Jinja2 a default may use the arguments before it; the engine binds from the last to the first.
        for default in &node.defaults {
            if let Some(name) = first_name_in(default, &names) {
                return unsupported(
                    default.span(),
                    format!(
                        "the default of a macro's argument can't use the argument `{name}`; set it in the macro"
                    ),
                );
            }
        }
        let scope = Scope::Macro { varargs: names.contains(&"varargs"), kwargs: names.contains(&"kwargs") };
        let defaults = node.defaults.iter().map(|default| self.expr(default)).collect::<Result<_>>()?;
        let args = node.args.iter().map(|arg| self.target(arg)).collect::<Result<_>>()?;
        let body = self.within(scope, |lowering| lowering.body(&node.body))?;
        Ok(Spanned::new(ast::Macro { name: node.name, args, defaults, body }, node.span()))
    }

    /// The left side of an assignment.
    fn target<'a>(&mut self, target: &Expr<'a>) -> Result<Expr<'a>> {
        match target {
            Expr::Var(node) => Ok(Expr::Var(Spanned::new(ast::Var { id: node.id }, node.span()))),
            Expr::GetAttr(node) if matches!(node.expr, Expr::Var(_)) => Ok(Expr::GetAttr(Spanned::new(
                ast::GetAttr { expr: self.target(&node.expr)?, name: node.name },
                node.span(),
            ))),
            Expr::List(node) => {
                let items = node.items.iter().map(|item| self.target(item)).collect::<Result<_>>()?;
                Ok(Expr::List(Spanned::new(ast::List { items }, node.span())))
            }
            other => unsupported(other.span(), "setting anything but a name or a namespace's member"),
        }
    }

    /// A name that is called.
    fn callee<'a>(&mut self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        match expr {
            Expr::Var(node) if node.id == "super" => {
                unsupported(node.span(), "`super()`: there are no other templates")
            }
            Expr::Var(node) if node.id == "lipsum" => {
                unsupported(node.span(), "`lipsum`, whose text is different each time")
            }
            _ => self.expr(expr),
        }
    }

    fn optional<'a>(&mut self, expr: Option<&Expr<'a>>) -> Result<Option<Expr<'a>>> {
        expr.map(|expr| self.expr(expr)).transpose()
    }

    /// The engine takes lists of names only as its own lists.
    fn include_name<'a>(&mut self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        match expr {
            Expr::List(node) => {
                let items = node.items.iter().map(|item| self.expr(item)).collect::<Result<_>>()?;
                Ok(Expr::List(Spanned::new(ast::List { items }, node.span())))
            }
            other => self.expr(other),
        }
    }

    fn exprs<'a>(&mut self, exprs: &[Expr<'a>]) -> Result<Vec<CallArg<'a>>> {
        exprs.iter().map(|expr| self.expr(expr).map(CallArg::Pos)).collect()
    }

    fn args<'a>(&mut self, args: &[CallArg<'a>]) -> Result<Vec<CallArg<'a>>> {
        let mut seen_keyword = false;
        let mut names = Vec::new();
        args.iter()
            .map(|arg| {
                Ok(match arg {
                    CallArg::Pos(expr) => CallArg::Pos(self.expr(expr)?),
                    CallArg::Kwarg(name, expr) => {
                        if names.contains(name) {
                            return refuse(
                                ErrorKind::Syntax,
                                expr.span(),
                                format!("the argument `{name}` stands twice"),
                            );
                        }
                        names.push(*name);
                        seen_keyword = true;
                        CallArg::Kwarg(name, self.expr(expr)?)
                    }
                    CallArg::PosSplat(expr) => {
                        if seen_keyword {
                            return unsupported(
                                expr.span(),
                                "`*args` after a keyword argument; put it before",
                            );
                        }
                        CallArg::PosSplat(apply(op::SPLAT, expr.span(), self.expr(expr)?, []))
                    }
                    CallArg::KwargSplat(expr) => {
                        seen_keyword = true;
                        CallArg::KwargSplat(apply(op::KW_SPLAT, expr.span(), self.expr(expr)?, []))
                    }
                })
            })
            .collect()
    }

    fn var<'a>(&mut self, node: &Spanned<ast::Var<'a>>) -> Result<Expr<'a>> {
        let span = node.span();
        match node.id {
            "self" => return unsupported(span, "`self`; put what it would show into a macro"),
            "varargs" | "kwargs" => {
                let declared = self.scopes.iter().rev().find_map(|scope| match scope {
                    Scope::Macro { varargs, kwargs } => {
                        Some(if node.id == "varargs" { *varargs } else { *kwargs })
                    }
                    _ => None,
                });
                if declared == Some(false) {
                    return unsupported(
                        span,
                        format!(
                            "`{}` in a macro; give the macro an argument that takes a list or dict",
                            node.id
                        ),
                    );
                }
            }
            _ => {}
        }
        Ok(Expr::Var(Spanned::new(ast::Var { id: node.id }, span)))
    }

    fn expr<'a>(&mut self, expr: &Expr<'a>) -> Result<Expr<'a>> {
        let span = expr.span();
        Ok(match expr {
            Expr::Var(node) => self.var(node)?,
            Expr::Const(node) => {
                self.note_name(node.value.as_str());
                constant(node.value.clone(), span)
            }
            Expr::Slice(node) => {
                let value = self.expr(&node.expr)?;
                let mut bounds = Vec::with_capacity(3);
                for bound in [&node.start, &node.stop, &node.step] {
                    let bound = self.optional(bound.as_ref())?;
                    bounds.push(CallArg::Pos(bound.unwrap_or_else(|| constant(Value::from(()), span))));
                }
                apply(op::SLICE, span, value, bounds)
            }
            Expr::UnaryOp(node) => match node.op {
                UnaryOpKind::Not => not(self.expr(&node.expr)?, span),
                UnaryOpKind::Neg => apply(op::NEG, span, self.expr(&node.expr)?, []),
            },
            Expr::BinOp(node) => self.bin_op(node)?,
            Expr::Compare(node) => self.compare(node)?,
            Expr::IfExpr(node) => Expr::IfExpr(Spanned::new(
                ast::IfExpr {
                    test_expr: self.expr(&node.test_expr)?,
                    true_expr: self.expr(&node.true_expr)?,
                    false_expr: self.optional(node.false_expr.as_ref())?,
                },
                span,
            )),
            Expr::Filter(node) => {
                if !filters::exists(node.name) {
                    let (refused, message) = filters::missing(node.name);
                    return refuse(
                        if refused { ErrorKind::Unsupported } else { ErrorKind::Unknown },
                        span,
                        message,
                    );
                }
                Expr::Filter(Spanned::new(
                    ast::Filter {
                        name: node.name,
                        expr: self.optional(node.expr.as_ref())?,
                        args: self.args(&node.args)?,
                    },
                    span,
                ))
            }
            Expr::Test(node) => {
                if !predicates::exists(node.name) {
                    return refuse(ErrorKind::Unknown, span, predicates::missing(node.name));
                }
                Expr::Test(Spanned::new(
                    ast::Test { name: node.name, expr: self.expr(&node.expr)?, args: self.args(&node.args)? },
                    span,
                ))
            }
            Expr::GetAttr(node) => {
                self.note_name(Some(node.name));
                let value = self.expr(&node.expr)?;
                if methods::is_attribute(node.name) {
                    apply(op::ATTR, span, value, [CallArg::Pos(constant(Value::from(node.name), span))])
                } else {
                    Expr::GetAttr(Spanned::new(ast::GetAttr { expr: value, name: node.name }, span))
                }
            }
            Expr::GetItem(node) => {
                let value = self.expr(&node.expr)?;
                let key = self.expr(&node.subscript_expr)?;
                apply(op::ITEM, span, value, [CallArg::Pos(key)])
            }
            Expr::Call(node) => self.call(node)?,
            Expr::List(node) => {
                apply(op::LIST, span, constant(Value::from(()), span), self.exprs(&node.items)?)
            }
            Expr::Tuple(node) => {
                apply(op::TUPLE, span, constant(Value::from(()), span), self.exprs(&node.items)?)
            }
            Expr::Map(node) => {
                let mut args = Vec::with_capacity(node.keys.len() * 2);
                for (key, value) in node.keys.iter().zip(&node.values) {
                    args.push(CallArg::Pos(self.expr(key)?));
                    args.push(CallArg::Pos(self.expr(value)?));
                }
                apply(op::DICT, span, constant(Value::from(()), span), args)
            }
        })
    }

    fn call<'a>(&mut self, node: &Spanned<ast::Call<'a>>) -> Result<Expr<'a>> {
        let span = node.span();
        let mut args = self.args(&node.args)?;
        match &node.expr {
            Expr::GetAttr(member) => {
                self.note_name(Some(member.name));
                let receiver = self.expr(&member.expr)?;
                args.insert(0, CallArg::Pos(constant(Value::from(member.name), member.span())));
                Ok(apply(op::METHOD, span, receiver, args))
            }
            Expr::Var(callee) => {
                // The argument of a recursive loop is looped over as the loop's own is.
                if callee.id == "loop" {
                    args = args
                        .into_iter()
                        .map(|arg| match arg {
                            CallArg::Pos(expr) => CallArg::Pos(apply(op::ITERATE, span, expr, [])),
                            other => other,
                        })
                        .collect();
                } else if !functions::exists(callee.id) {
                    args = self.given(args)?;
                }
                Ok(Expr::Call(Spanned::new(ast::Call { expr: self.callee(&node.expr)?, args }, span)))
            }
            other => {
                let expr = self.expr(other)?;
                Ok(Expr::Call(Spanned::new(ast::Call { expr, args }, span)))
            }
        }
    }

    /// The engine takes an unknown value for an argument that was not given, and puts the default in its place.
    fn given<'a>(&self, args: Vec<CallArg<'a>>) -> Result<Vec<CallArg<'a>>> {
        if !self.has_defaults {
            return Ok(args);
        }
        let check = |expr: Expr<'a>| apply(op::GIVEN, expr.span(), expr, []);
        args.into_iter()
            .map(|arg| match arg {
                CallArg::Pos(expr) => Ok(CallArg::Pos(check(expr))),
                CallArg::Kwarg(name, expr) => Ok(CallArg::Kwarg(name, check(expr))),
                CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => unsupported(
                    expr.span(),
                    "`*` or `**` in a call where a macro has defaults; write the arguments one by one",
                ),
            })
            .collect()
    }

    fn bin_op<'a>(&mut self, node: &Spanned<ast::BinOp<'a>>) -> Result<Expr<'a>> {
        let (left, right) = (self.expr(&node.left)?, self.expr(&node.right)?);
        let name = match node.op {
            BinOpKind::ScAnd | BinOpKind::ScOr => {
                return Ok(Expr::BinOp(Spanned::new(ast::BinOp { op: node.op, left, right }, node.span())));
            }
            BinOpKind::Eq => op::EQ,
            BinOpKind::Ne => op::NE,
            BinOpKind::Lt => op::LT,
            BinOpKind::Lte => op::LE,
            BinOpKind::Gt => op::GT,
            BinOpKind::Gte => op::GE,
            BinOpKind::In => op::IN,
            BinOpKind::Add => op::ADD,
            BinOpKind::Sub => op::SUB,
            BinOpKind::Mul => op::MUL,
            BinOpKind::Div => op::DIV,
            BinOpKind::FloorDiv => op::FLOOR_DIV,
            BinOpKind::Rem => op::REM,
            BinOpKind::Pow => power(node)?,
            BinOpKind::Concat => op::CONCAT,
        };
        // The parser lets a comparison begin at the token before it.
        let (start, end) = (node.left.span(), node.span());
        let span = Span { end_line: end.end_line, end_col: end.end_col, end_offset: end.end_offset, ..start };
        Ok(apply(name, span, left, [CallArg::Pos(right)]))
    }

    /// `a < b < c` is `a < b and b < c` with `b` evaluated once; evaluating it twice is the same unless it calls
    /// something.
    fn compare<'a>(&mut self, node: &Spanned<ast::Compare<'a>>) -> Result<Expr<'a>> {
        let span = node.span();
        let mut left = &node.expr;
        let mut chain: Option<Expr<'a>> = None;
        for (index, op) in node.ops.iter().enumerate() {
            if index + 1 < node.ops.len() && has_call(&op.expr) {
                return unsupported(
                    op.expr.span(),
                    "a call in the middle of a chained comparison; write `a < b and b < c`",
                );
            }
            let name = match op.op {
                CompareOpKind::Eq => op::EQ,
                CompareOpKind::Ne => op::NE,
                CompareOpKind::Lt => op::LT,
                CompareOpKind::Lte => op::LE,
                CompareOpKind::Gt => op::GT,
                CompareOpKind::Gte => op::GE,
                CompareOpKind::In => op::IN,
                CompareOpKind::NotIn => op::NOT_IN,
            };
            let comparison = apply(name, span, self.expr(left)?, [CallArg::Pos(self.expr(&op.expr)?)]);
            chain = Some(match chain {
                None => comparison,
                Some(before) => Expr::BinOp(Spanned::new(
                    ast::BinOp { op: BinOpKind::ScAnd, left: before, right: comparison },
                    span,
                )),
            });
            left = &op.expr;
        }
        match chain {
            Some(chain) => Ok(chain),
            None => self.expr(&node.expr),
        }
    }

    /// A name or text that could be that of a method that changes its list or dict.
    fn note_name(&mut self, name: Option<&str>) {
        self.mutates |= name.is_some_and(methods::is_mutator);
    }
}

/// Whether a macro or call block anywhere in `body` has an argument with a default.
fn declares_defaults(body: &[Stmt<'_>]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::Macro(node) => !node.defaults.is_empty() || declares_defaults(&node.body),
        Stmt::CallBlock(node) => {
            !node.macro_decl.defaults.is_empty() || declares_defaults(&node.macro_decl.body)
        }
        Stmt::Template(node) => declares_defaults(&node.children),
        Stmt::ForLoop(node) => declares_defaults(&node.body) || declares_defaults(&node.else_body),
        Stmt::IfCond(node) => declares_defaults(&node.true_body) || declares_defaults(&node.false_body),
        Stmt::WithBlock(node) => declares_defaults(&node.body),
        Stmt::SetBlock(node) => declares_defaults(&node.body),
        Stmt::AutoEscape(node) => declares_defaults(&node.body),
        Stmt::FilterBlock(node) => declares_defaults(&node.body),
        Stmt::Block(node) => declares_defaults(&node.body),
        Stmt::EmitExpr(_)
        | Stmt::EmitRaw(_)
        | Stmt::Set(_)
        | Stmt::Import(_)
        | Stmt::FromImport(_)
        | Stmt::Extends(_)
        | Stmt::Include(_)
        | Stmt::Do(_) => false,
    })
}

/// Calls `visit` with each expression directly below `expr`.
fn children<'e, 'a>(expr: &'e Expr<'a>, visit: &mut dyn FnMut(&'e Expr<'a>)) {
    fn args<'e, 'a>(args: &'e [CallArg<'a>], visit: &mut dyn FnMut(&'e Expr<'a>)) {
        for arg in args {
            match arg {
                CallArg::Pos(expr)
                | CallArg::Kwarg(_, expr)
                | CallArg::PosSplat(expr)
                | CallArg::KwargSplat(expr) => visit(expr),
            }
        }
    }
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(node) => {
            visit(&node.expr);
            [&node.start, &node.stop, &node.step].into_iter().flatten().for_each(visit);
        }
        Expr::UnaryOp(node) => visit(&node.expr),
        Expr::BinOp(node) => {
            visit(&node.left);
            visit(&node.right);
        }
        Expr::Compare(node) => {
            visit(&node.expr);
            node.ops.iter().for_each(|op| visit(&op.expr));
        }
        Expr::IfExpr(node) => {
            visit(&node.test_expr);
            visit(&node.true_expr);
            node.false_expr.iter().for_each(visit);
        }
        Expr::Filter(node) => {
            node.expr.iter().for_each(&mut *visit);
            args(&node.args, visit);
        }
        Expr::Test(node) => {
            visit(&node.expr);
            args(&node.args, visit);
        }
        Expr::GetAttr(node) => visit(&node.expr),
        Expr::GetItem(node) => {
            visit(&node.expr);
            visit(&node.subscript_expr);
        }
        Expr::Call(node) => {
            visit(&node.expr);
            args(&node.args, visit);
        }
        Expr::List(node) => node.items.iter().for_each(visit),
        Expr::Tuple(node) => node.items.iter().for_each(visit),
        Expr::Map(node) => node.keys.iter().chain(&node.values).for_each(visit),
    }
}

/// The operator for `left ** right`. Jinja2 writes a constant it has computed as a literal into its Python code, where
/// `-2 ** x` is `-(2 ** x)`, in brackets or not.
fn power(node: &Spanned<ast::BinOp<'_>>) -> Result<&'static str> {
    use Constancy::{Constant, Varies};
    match (constancy(&node.left), constancy(&node.right)) {
        (Varies, _) | (_, Constant) => Ok(op::POW),
        (Constant, Varies) => Ok(op::POW_OF_CONSTANT),
        _ => {
            unsupported(node.span(), "`**` of a choice between constants; `set` a name to the choice before")
        }
    }
}

/// Whether Jinja2 computes an expression when it compiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Constancy {
    Constant,
    /// Its value tells: what is not constant in it may not count.
    Unclear,
    Varies,
}

fn constancy(expr: &Expr<'_>) -> Constancy {
    const TAKE_CONTEXT: [&str; 5] = ["map", "select", "reject", "selectattr", "rejectattr"];
    let short_circuits = match expr {
        Expr::Var(_) | Expr::Call(_) => return Constancy::Varies,
        Expr::Filter(node) if TAKE_CONTEXT.contains(&node.name) => return Constancy::Varies,
        Expr::IfExpr(_) | Expr::Compare(_) => true,
        Expr::BinOp(node) => matches!(node.op, BinOpKind::ScAnd | BinOpKind::ScOr),
        _ => false,
    };
    // The first part is the one that decides about the others.
    let (mut first, mut all) = (None, Constancy::Constant);
    children(expr, &mut |child| {
        let child = constancy(child);
        first.get_or_insert(child);
        all = all.max(child);
    });
    match first {
        Some(first) if short_circuits && first < Constancy::Varies => all.min(Constancy::Unclear),
        _ => all,
    }
}

/// Whether evaluating `expr` twice could differ from evaluating it once: calls can, and so can filters that take from
/// a generator. A chain within a chain counts too, because lowering each twice would double the tree at every level.
fn has_call(expr: &Expr<'_>) -> bool {
    if matches!(expr, Expr::Call(_) | Expr::Filter(_) | Expr::Compare(_)) {
        return true;
    }
    let mut found = false;
    children(expr, &mut |child| found |= has_call(child));
    found
}

/// One of `names` that `expr` uses.
fn first_name_in<'a>(expr: &Expr<'a>, names: &[&str]) -> Option<&'a str> {
    if let Some(name) = name_of(expr) {
        return names.contains(&name).then_some(name);
    }
    let mut found = None;
    children(expr, &mut |child| found = found.or_else(|| first_name_in(child, names)));
    found
}
