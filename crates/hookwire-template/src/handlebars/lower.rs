//! The parser's tree becomes a [`program`](super::program), checked on the way.
//!
//! Invariants
//! - Every problem of a template is reported, not only the first.
//! - Recursion is bounded by the nesting that [`scan`](super::scan) allowed.

use handlebars::template::{BlockParam, HelperTemplate, Parameter, Subexpression, Template, TemplateElement};
use hookwire_model::CONTEXT_MEMBERS;
use serde_json::Value;

use super::program::{Block, BlockKind, Call, Expression, Helper, Names, Node, Path, Start};
use crate::error::{Fault, Pos, TemplateErrorKind};
use crate::text::{closest, excerpt};

/// Checks and converts a parsed template.
///
/// # Errors
/// Every problem there is.
pub(super) fn lower(template: &Template, strict: bool) -> Result<Vec<Node>, Vec<Fault>> {
    let mut lower = Lower { strict, faults: Vec::new(), scopes: Vec::new() };
    let nodes = lower.template(Some(template), Pos { line: 1, column: 1 });
    if lower.faults.is_empty() { Ok(nodes) } else { Err(lower.faults) }
}

const BLOCKS: &[&str] = &["if", "unless", "each", "with"];

struct Lower {
    strict: bool,
    faults: Vec<Fault>,
    /// For each enclosing `each` and `with` the names it gives.
    scopes: Vec<Vec<Box<str>>>,
}

impl Lower {
    fn template(&mut self, template: Option<&Template>, outer: Pos) -> Vec<Node> {
        let Some(template) = template else { return Vec::new() };
        let mut nodes = Vec::with_capacity(template.elements.len());
        for (index, element) in template.elements.iter().enumerate() {
            let pos = match template.mapping.get(index) {
                Some(mapping) => Pos { line: mapping.0, column: mapping.1 },
                None => outer,
            };
            let node = match element {
                TemplateElement::HelperBlock(block) => self.block(block, pos),
                _ => self.leaf(element, pos),
            };
            nodes.extend(node.map_err(|fault| self.faults.push(fault.at(pos))).ok().flatten());
        }
        nodes
    }

    fn leaf(&mut self, element: &TemplateElement, pos: Pos) -> Result<Option<Node>, Fault> {
        match element {
            TemplateElement::RawString(text) if text.is_empty() => Ok(None),
            TemplateElement::RawString(text) => Ok(Some(Node::Text(text.as_str().into()))),
            TemplateElement::Comment(_) => Ok(None),
            TemplateElement::Expression(call) | TemplateElement::HtmlExpression(call) => {
                let value = self.expression(call)?;
                if let Expression::Path(path) = &value {
                    self.check_known(path)?;
                }
                let escape = matches!(element, TemplateElement::Expression(_));
                Ok(Some(Node::Print { value, escape, pos }))
            }
            _ => Err(Fault::new(TemplateErrorKind::Unsupported, "partials and decorators are not supported")
                .remedy("write the text where it is needed")),
        }
    }

    fn block(&mut self, block: &HelperTemplate, pos: Pos) -> Result<Option<Node>, Fault> {
        let kind = self.block_kind(block)?;
        let scoped = self.enter(&kind);
        let body = self.template(block.template.as_ref(), pos);
        if scoped {
            self.scopes.pop();
        }
        let inverse = self.template(block.inverse.as_ref(), pos);
        Ok(Some(Node::Block(Box::new(Block { kind, body, inverse, pos }))))
    }

    /// Notes the names that a block gives; false if it is one that gives none.
    fn enter(&mut self, kind: &BlockKind) -> bool {
        match kind {
            BlockKind::If { .. } => false,
            BlockKind::Each { names, .. } | BlockKind::With { names, .. } => {
                self.scopes.push([names.value.clone(), names.key.clone()].into_iter().flatten().collect());
                true
            }
        }
    }

    fn block_kind(&mut self, block: &HelperTemplate) -> Result<BlockKind, Fault> {
        let name = block.name.as_name().unwrap_or_default();
        let mut names = Names::default();
        match &block.block_param {
            Some(BlockParam::Single(value)) => names.value = value.as_name().map(Into::into),
            Some(BlockParam::Pair((value, key))) => {
                names.value = value.as_name().map(Into::into);
                names.key = key.as_name().map(Into::into);
            }
            _ => {}
        }
        let has_names = names.value.is_some();
        let kind = match name {
            // The text of a raw block is text.
            "raw" => {
                let condition = Expression::Literal(Value::Bool(true).into());
                BlockKind::If { condition, negate: false, include_zero: false }
            }
            "if" | "unless" => {
                let condition = self.only_parameter(block)?;
                let include_zero = match block.hash.get("includeZero") {
                    None => false,
                    Some(Parameter::Literal(Value::Bool(value))) => *value,
                    Some(_) => return Err(misuse("`includeZero` takes `true` or `false`")),
                };
                check_hash(block, &["includeZero"])?;
                BlockKind::If { condition, negate: name == "unless", include_zero }
            }
            "each" => {
                check_hash(block, &[])?;
                BlockKind::Each { list: self.only_parameter(block)?, names }
            }
            "with" => {
                check_hash(block, &[])?;
                BlockKind::With { value: self.only_parameter(block)?, names }
            }
            _ => match Helper::find(name) {
                Some((helper, ..)) if helper.is_predicate() => {
                    BlockKind::If { condition: self.call(name, block)?, negate: false, include_zero: false }
                }
                _ => {
                    let known = BLOCKS.iter().copied().chain(Helper::names());
                    let fault =
                        Fault::new(TemplateErrorKind::Unknown, format!("`#{}` is no block", excerpt(name)));
                    return Err(match closest(name, known) {
                        Some(meant) => fault.remedy(format!("did you mean `#{meant}`?")),
                        None => fault.remedy(
                            "use `#if`, `#unless`, `#each`, `#with`, or a comparison such as `#eq a b`",
                        ),
                    });
                }
            },
        };
        if has_names && matches!(kind, BlockKind::If { .. }) {
            return Err(misuse(format!("`#{name}` gives no name to `as`")));
        }
        Ok(kind)
    }

    fn only_parameter(&mut self, block: &HelperTemplate) -> Result<Expression, Fault> {
        match block.params.as_slice() {
            [parameter] => self.parameter(parameter),
            parameters => Err(misuse(format!(
                "`#{}` takes one parameter, not {}",
                block.name.as_name().unwrap_or_default(),
                parameters.len()
            ))),
        }
    }

    /// `{{..}}` or `(..)`: a value, or a call of a helper.
    fn expression(&mut self, call: &HelperTemplate) -> Result<Expression, Fault> {
        if call.params.is_empty() && call.hash.is_empty() {
            return self.parameter(&call.name);
        }
        match call.name.as_name() {
            Some(name) => self.call(name, call),
            None => Err(misuse("a call needs the name of a helper")),
        }
    }

    fn call(&mut self, name: &str, call: &HelperTemplate) -> Result<Expression, Fault> {
        let Some((helper, min, max)) = Helper::find(name) else {
            let fault =
                Fault::new(TemplateErrorKind::Unknown, format!("there is no helper `{}`", excerpt(name)));
            return Err(match closest(name, Helper::names()) {
                Some(meant) => fault.remedy(format!("did you mean `{meant}`?")),
                None if BLOCKS.contains(&name) => {
                    fault.remedy(format!("begin the block with `{{{{#{name} ..}}}}`"))
                }
                None => {
                    let names: Vec<&str> = Helper::names().collect();
                    fault.remedy(format!("use one of: {}", names.join(", ")))
                }
            });
        };
        if !(min..=max).contains(&call.params.len()) {
            let takes = match (min, max) {
                (1, 1) => "one parameter".into(),
                _ if min == max => format!("{min} parameters"),
                (1, 2) => "one or two parameters".into(),
                _ => format!("{min} parameters or more"),
            };
            return Err(misuse(format!("`{name}` takes {takes}, not {}", call.params.len())));
        }
        let mut key = None;
        if helper == Helper::Join {
            check_hash(call, &["key"])?;
            key = call.hash.get("key").map(|key| self.parameter(key)).transpose()?;
        } else {
            check_hash(call, &[])?;
        }
        let arguments =
            call.params.iter().map(|parameter| self.parameter(parameter)).collect::<Result<_, _>>()?;
        Ok(Expression::Call(Box::new(Call { helper, arguments, key })))
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<Expression, Fault> {
        match parameter {
            Parameter::Literal(value) => Ok(Expression::Literal(value.into())),
            Parameter::Name(name) => Ok(Expression::Path(path(name)?)),
            Parameter::Path(_) => Ok(Expression::Path(path(parameter.as_name().unwrap_or_default())?)),
            Parameter::Subexpression(Subexpression { element, .. }) => match element.as_ref() {
                TemplateElement::Expression(call) => self.expression(call),
                _ => Err(misuse("a subexpression is no call")),
            },
            _ => Err(misuse("a parameter is neither value, path nor call")),
        }
    }

    /// In strict mode a printed name that no context has is an error before anything is rendered.
    fn check_known(&self, path: &Path) -> Result<(), Fault> {
        let at_root = match path.start {
            Start::Root => true,
            Start::Name | Start::This(0) => self.scopes.is_empty(),
            Start::This(_) | Start::Local(_) => false,
        };
        let Some(name) = path.segments.first().filter(|_| self.strict && at_root) else { return Ok(()) };
        if CONTEXT_MEMBERS.contains(&&**name) {
            return Ok(());
        }
        let fault =
            Fault::new(TemplateErrorKind::Undefined, format!("`{}` does not exist", excerpt(&path.text)));
        Err(match closest(name, CONTEXT_MEMBERS.iter().copied()) {
            Some(meant) => fault.remedy(format!("did you mean `{meant}`?")),
            None => fault.remedy(format!("the context has {}", CONTEXT_MEMBERS.join(", "))),
        })
    }
}

fn misuse(message: impl Into<String>) -> Fault {
    Fault::new(TemplateErrorKind::Syntax, message)
}

fn check_hash(call: &HelperTemplate, known: &[&str]) -> Result<(), Fault> {
    // The parser keeps them in a hash map; the smallest makes the message the same in every run.
    match call.hash.keys().filter(|name| !known.contains(&name.as_str())).min() {
        None => Ok(()),
        Some(name) => Err(misuse(format!(
            "`{}` has no parameter `{}=`",
            call.name.as_name().unwrap_or_default(),
            excerpt(name)
        ))),
    }
}

/// Reads a path from its text, as the parser's grammar has it.
fn path(text: &str) -> Result<Path, Fault> {
    let mut path = Path { text: text.into(), ..Path::default() };
    let mut rest = text;
    let strip_separated = |rest: &str, word: &str| {
        rest.strip_prefix(word).and_then(|rest| rest.strip_prefix(['.', '/'])).map(str::len)
    };
    if let Some(left) = rest.strip_prefix("./").map(str::len).or_else(|| strip_separated(rest, "this")) {
        path.start = Start::This(0);
        rest = &rest[rest.len() - left..];
    }
    if rest == "@root" {
        path.start = Start::Root;
        return Ok(path);
    }
    if let Some(left) = strip_separated(rest, "@root") {
        path.start = Start::Root;
        rest = &rest[rest.len() - left..];
    }
    let local = rest.strip_prefix('@');
    rest = local.unwrap_or(rest);
    let mut up = 0;
    while let Some(after) = rest.strip_prefix("..") {
        up += 1;
        rest = after.strip_prefix(['.', '/']).unwrap_or(after);
    }
    if local.is_some() {
        path.start = Start::Local(up);
    } else if up > 0 {
        path.start = Start::This(up);
    }
    while !rest.is_empty() {
        let segment = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let end = bracketed.find(']').ok_or_else(|| misuse("a `[` in a path is never closed"))?;
                rest = &bracketed[end + 1..];
                &bracketed[..end]
            }
            None => {
                let end = rest.find(['.', '/', '[']).unwrap_or(rest.len());
                let segment = &rest[..end];
                rest = &rest[end..];
                segment
            }
        };
        rest = rest.strip_prefix(['.', '/']).unwrap_or(rest);
        if segment == "this" {
            if path.start == Start::Name && path.segments.is_empty() {
                path.start = Start::This(0);
            }
            continue;
        }
        path.segments.push(segment.into());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        for (text, start, segments) in [
            ("a", Start::Name, vec!["a"]),
            ("a.b/c", Start::Name, vec!["a", "b", "c"]),
            ("this", Start::This(0), vec![]),
            ("this.a", Start::This(0), vec!["a"]),
            ("./a", Start::This(0), vec!["a"]),
            ("../a", Start::This(1), vec!["a"]),
            ("../../this", Start::This(2), vec![]),
            ("..", Start::This(1), vec![]),
            ("@index", Start::Local(0), vec!["index"]),
            ("@../key", Start::Local(1), vec!["key"]),
            ("@root", Start::Root, vec![]),
            ("@root.data.0", Start::Root, vec!["data", "0"]),
            ("data.[with space].x", Start::Name, vec!["data", "with space", "x"]),
            ("thisone", Start::Name, vec!["thisone"]),
        ] {
            let path = path(text).unwrap();
            let read: Vec<&str> = path.segments.iter().map(|segment| &**segment).collect();
            assert_eq!((path.start, read), (start, segments), "{text}");
        }
    }
}
