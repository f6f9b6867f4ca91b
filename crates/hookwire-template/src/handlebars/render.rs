//! Walks a Handlebars program over a context.
//!
//! Invariants
//! - Each node visited, each turn of a loop and each 64 bytes looked at cost a step; without steps left it
//!   ends.
//! - Values are borrowed from context and program; only `concat` and its like make new text.

use std::borrow::Cow;
use std::cmp::Ordering;

use hookwire_json::{Json, List, Node as JsonNode, Object};
use hookwire_model::{Member, TemplateContext};

use super::program::{Block, BlockKind, Call, Expression, Helper, Names, Node, Path, Start};
use super::value::Val;
use crate::context::{missing_from, missing_from_root};
use crate::error::{Fault, TemplateErrorKind};
use crate::place::{Print, Sink, push_percent_encoded};

/// Renders a program into `sink`.
///
/// # Errors
/// The first problem, with its place.
pub(super) fn render(
    nodes: &[Node],
    context: &TemplateContext,
    sink: &mut Sink,
    strict: bool,
    steps: u64,
) -> Result<(), Fault> {
    Render { context, sink, strict, steps, frames: Vec::new() }.nodes(nodes)
}

struct Render<'a, 's> {
    context: &'a TemplateContext,
    sink: &'s mut Sink,
    strict: bool,
    steps: u64,
    /// The enclosing `each` and `with`, the innermost last.
    frames: Vec<Frame<'a>>,
}

struct Frame<'a> {
    this: Val<'a>,
    names: &'a Names,
    locals: Locals<'a>,
}

/// The variables that begin with `@`.
#[derive(Clone, Default)]
struct Locals<'a> {
    /// Index and number of items.
    position: Option<(usize, usize)>,
    key: Option<&'a str>,
}

/// What `each` goes over.
enum Turns<'a> {
    None,
    Items(List<'a>),
    Members(Object<'a>),
}

// The functions that recurse are kept small, because depth times their frames has to fit a small stack.
impl<'a> Render<'a, '_> {
    fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), Fault> {
        for node in nodes {
            self.pay(0)?;
            match node {
                Node::Block(block) => self.block(block)?,
                _ => self.leaf(node)?,
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: &'a Node) -> Result<(), Fault> {
        match node {
            Node::Text(text) => self.sink.literal(text),
            Node::Print { value, escape, pos } => self.print(value, *escape).map_err(|fault| fault.at(*pos)),
            Node::Block(_) => Ok(()),
        }
    }

    fn print(&mut self, expression: &'a Expression, escape: bool) -> Result<(), Fault> {
        let (value, as_json) = match expression {
            Expression::Call(call) if call.helper == Helper::Json => (self.value(&call.arguments[0])?, true),
            _ => (self.value(expression)?, false),
        };
        if matches!(value, Val::Missing) && self.strict {
            return Err(self.missing(expression));
        }
        match (as_json, escape) {
            (true, true) => self.sink.json(&value),
            (true, false) => {
                let mut text = String::new();
                value.print_json(&mut text);
                self.sink.literal(&text)
            }
            (false, true) => self.sink.value(&value),
            (false, false) => self.sink.value_raw(&value),
        }
    }

    fn block(&mut self, block: &'a Block) -> Result<(), Fault> {
        match &block.kind {
            BlockKind::If { condition, .. } => {
                let value = self.value_at(condition, block)?;
                self.nodes(branch(block, &value))
            }
            BlockKind::With { value, names } => {
                let this = self.value_at(value, block)?;
                if !this.is_truthy(false) {
                    return self.nodes(&block.inverse);
                }
                self.enter(this, names);
                self.nodes(&block.body)?;
                self.frames.pop();
                Ok(())
            }
            BlockKind::Each { list, names } => match self.turns(list, block)? {
                Turns::None => self.nodes(&block.inverse),
                Turns::Items(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.enter_turn(names, (index, items.len()), None, item)?;
                        self.nodes(&block.body)?;
                        self.frames.pop();
                    }
                    Ok(())
                }
                Turns::Members(members) => {
                    for (index, (name, member)) in members.iter().enumerate() {
                        self.enter_turn(names, (index, members.len()), Some(name), member)?;
                        self.nodes(&block.body)?;
                        self.frames.pop();
                    }
                    Ok(())
                }
            },
        }
    }

    fn value_at(&mut self, expression: &'a Expression, block: &'a Block) -> Result<Val<'a>, Fault> {
        self.value(expression).map_err(|fault| fault.at(block.pos))
    }

    /// Enters `with`, where the variables of the block around it stay.
    fn enter(&mut self, this: Val<'a>, names: &'a Names) {
        let locals = self.frames.last().map(|frame| frame.locals.clone()).unwrap_or_default();
        self.frames.push(Frame { this, names, locals });
    }

    fn enter_turn(
        &mut self,
        names: &'a Names,
        position: (usize, usize),
        key: Option<&'a str>,
        value: JsonNode<'a>,
    ) -> Result<(), Fault> {
        self.pay(0)?;
        let locals = Locals { position: Some(position), key };
        self.frames.push(Frame { this: Val::from(value), names, locals });
        Ok(())
    }

    fn turns(&mut self, list: &'a Expression, block: &'a Block) -> Result<Turns<'a>, Fault> {
        match self.value_at(list, block)? {
            Val::List(items) if !items.is_empty() => Ok(Turns::Items(items)),
            Val::Object(members) if !members.is_empty() => Ok(Turns::Members(members)),
            Val::Missing | Val::Null | Val::List(_) | Val::Object(_) => Ok(Turns::None),
            _ if !self.strict => Ok(Turns::None),
            other => Err(Fault::new(
                TemplateErrorKind::Runtime,
                format!("`#each` goes over lists and objects, and this is {}", other.kind()),
            )
            .at(block.pos)),
        }
    }

    fn value(&mut self, expression: &'a Expression) -> Result<Val<'a>, Fault> {
        match expression {
            Expression::Path(path) => Ok(self.resolve(path)),
            Expression::Literal(value) => Ok(Val::from(value.root())),
            Expression::Call(call) => self.call(call),
        }
    }

    fn resolve(&self, path: &'a Path) -> Val<'a> {
        let (base, segments) = self.base(path);
        segments.iter().fold(base, |value, segment| value.member(segment))
    }

    /// The value that a path begins at, and the segments that are left.
    fn base(&self, path: &'a Path) -> (Val<'a>, &'a [Box<str>]) {
        let segments = &*path.segments;
        match path.start {
            Start::Root => self.start_at_root(segments),
            Start::Name => {
                if let Some((first, rest)) = segments.split_first() {
                    for frame in self.frames.iter().rev() {
                        if frame.names.value.as_ref() == Some(first) {
                            return (frame.this.clone(), rest);
                        }
                        if frame.names.key.as_ref() == Some(first) {
                            return (frame.locals.key_or_index(), rest);
                        }
                    }
                }
                self.start_at_this(0, segments)
            }
            Start::This(up) => self.start_at_this(up, segments),
            Start::Local(up) => {
                let Some((first, rest)) = segments.split_first() else { return (Val::Missing, segments) };
                let value = match self.frame(up) {
                    Some(frame) => frame.locals.get(first),
                    None => Val::Missing,
                };
                (value, rest)
            }
        }
    }

    fn start_at_this(&self, up: usize, segments: &'a [Box<str>]) -> (Val<'a>, &'a [Box<str>]) {
        match self.frame(up) {
            Some(frame) => (frame.this.clone(), segments),
            None if up == self.frames.len() => self.start_at_root(segments),
            None => (Val::Missing, segments),
        }
    }

    fn start_at_root(&self, segments: &'a [Box<str>]) -> (Val<'a>, &'a [Box<str>]) {
        let Some((first, rest)) = segments.split_first() else {
            return (Val::from(self.context.root().root()), segments);
        };
        let value = match self.context.member(first) {
            None => Val::Missing,
            Some(Member::Text(None)) => Val::Null,
            Some(Member::Text(Some(text))) => Val::Text(Cow::Borrowed(text)),
            Some(Member::Document(json)) => Val::from(json.root()),
        };
        (value, rest)
    }

    fn frame(&self, up: usize) -> Option<&Frame<'a>> {
        self.frames.len().checked_sub(up + 1).map(|index| &self.frames[index])
    }

    fn call(&mut self, call: &'a Call) -> Result<Val<'a>, Fault> {
        match call.helper {
            Helper::Default => self.first_defined(&call.arguments),
            Helper::And | Helper::Or => self.any_or_all(&call.arguments, call.helper == Helper::Or),
            _ => {
                let values = self.arguments(call)?;
                self.apply(call, &values)
            }
        }
    }

    fn first_defined(&mut self, arguments: &'a [Expression]) -> Result<Val<'a>, Fault> {
        let mut value = Val::Missing;
        for argument in arguments {
            value = self.value(argument)?;
            if !matches!(value, Val::Missing | Val::Null) {
                break;
            }
        }
        Ok(value)
    }

    fn any_or_all(&mut self, arguments: &'a [Expression], any: bool) -> Result<Val<'a>, Fault> {
        for argument in arguments {
            if self.value(argument)?.is_truthy(false) == any {
                return Ok(Val::Bool(any));
            }
        }
        Ok(Val::Bool(!any))
    }

    fn arguments(&mut self, call: &'a Call) -> Result<Vec<Val<'a>>, Fault> {
        let mut values = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            let value = self.value(argument)?;
            if matches!(value, Val::Missing) && self.strict && !call.helper.only_asks() {
                return Err(self.missing(argument));
            }
            values.push(value);
        }
        Ok(values)
    }

    fn apply(&mut self, call: &'a Call, values: &[Val<'a>]) -> Result<Val<'a>, Fault> {
        let value = &values[0];
        match call.helper {
            Helper::Lookup => Ok(values[1..].iter().fold(value.clone(), |value, name| value.lookup(name))),
            Helper::Default | Helper::And | Helper::Or => Ok(value.clone()),
            Helper::Not => Ok(Val::Bool(!value.is_truthy(false))),
            Helper::Eq | Helper::Ne | Helper::Gt | Helper::Gte | Helper::Lt | Helper::Lte => {
                let other = &values[1];
                self.pay(value.size().min(other.size()))?;
                let order =
                    |wanted: &[Ordering]| value.compare(other).is_some_and(|have| wanted.contains(&have));
                Ok(Val::Bool(match call.helper {
                    Helper::Eq => value.equals(other),
                    Helper::Ne => !value.equals(other),
                    Helper::Gt => order(&[Ordering::Greater]),
                    Helper::Gte => order(&[Ordering::Greater, Ordering::Equal]),
                    Helper::Lt => order(&[Ordering::Less]),
                    _ => order(&[Ordering::Less, Ordering::Equal]),
                }))
            }
            Helper::Len => {
                if let Val::Text(text) = value {
                    self.pay(text.len())?;
                }
                Ok(Val::Count(value.count()))
            }
            Helper::Json => {
                self.pay(value.size())?;
                let mut text = String::new();
                value.print_json(&mut text);
                Ok(Val::Text(Cow::Owned(text)))
            }
            Helper::Concat => {
                let mut text = String::new();
                for value in values {
                    self.pay(value.size())?;
                    value.print(&mut text);
                }
                Ok(Val::Text(Cow::Owned(text)))
            }
            Helper::Upper => self.map_text(value, str::to_uppercase),
            Helper::Lower => self.map_text(value, str::to_lowercase),
            Helper::UrlEncode => self.map_text(value, |text| {
                let mut encoded = String::with_capacity(text.len());
                push_percent_encoded(&mut encoded, text);
                encoded
            }),
            Helper::Join => self.join(call, values),
        }
    }

    fn map_text(&mut self, value: &Val<'a>, map: impl FnOnce(&str) -> String) -> Result<Val<'a>, Fault> {
        self.pay(value.size())?;
        Ok(Val::Text(Cow::Owned(map(&value.to_text()))))
    }

    fn join(&mut self, call: &'a Call, values: &[Val<'a>]) -> Result<Val<'a>, Fault> {
        let items = match &values[0] {
            Val::List(items) => Some(*items),
            Val::Null | Val::Missing => None,
            other => {
                return Err(Fault::new(
                    TemplateErrorKind::Runtime,
                    format!("`join` takes a list, and this is {}", other.kind()),
                ));
            }
        };
        let default = Val::Text(Cow::Borrowed(", "));
        let separator = values.get(1).unwrap_or(&default);
        let key = call.key.as_ref().map(|key| self.value(key)).transpose()?;
        let mut text = String::new();
        for (index, item) in items.into_iter().flat_map(List::iter).enumerate() {
            let item = Val::from(item);
            let value = match &key {
                None => item.clone(),
                Some(key) => item.lookup(key),
            };
            if matches!(value, Val::Missing) && self.strict {
                return Err(Fault::new(
                    TemplateErrorKind::Undefined,
                    format!("item {index} of the list to join has no such member, but is {}", item.kind()),
                ));
            }
            self.pay(value.size() + separator.size())?;
            if index > 0 {
                separator.print(&mut text);
            }
            value.print(&mut text);
        }
        Ok(Val::Text(Cow::Owned(text)))
    }

    /// Says why an expression has no value.
    fn missing(&self, expression: &'a Expression) -> Fault {
        match expression {
            Expression::Path(path) => {
                let (base, rest) = self.base(path);
                let rest = rest.iter().map(|segment| &**segment);
                let at_root = match path.start {
                    Start::Root => true,
                    Start::Name => self.frames.is_empty(),
                    Start::This(up) => up == self.frames.len(),
                    Start::Local(_) => false,
                };
                if at_root {
                    let segments = path.segments.iter().map(|segment| &**segment);
                    return missing_from_root(&path.text, self.context, segments);
                }
                // It is needed for suggestions only, so a copy does no harm here.
                let mut text = String::new();
                base.print_json(&mut text);
                let null = Json::null();
                let copy = Json::parse(&text);
                match base {
                    Val::Missing => missing_from(&path.text, null.root(), "", std::iter::empty()),
                    _ => missing_from(&path.text, copy.as_ref().unwrap_or(null).root(), "", rest),
                }
            }
            Expression::Call(call) => match call.helper {
                Helper::Lookup => Fault::new(TemplateErrorKind::Undefined, "`lookup` found nothing")
                    .remedy("put `default` around it where it may be absent"),
                Helper::Default => {
                    Fault::new(TemplateErrorKind::Undefined, "every parameter of `default` is unknown")
                        .remedy("let the last one be a value")
                }
                Helper::Json => self.missing(&call.arguments[0]),
                _ => Fault::new(TemplateErrorKind::Undefined, "it has no value"),
            },
            Expression::Literal(_) => Fault::new(TemplateErrorKind::Undefined, "it has no value"),
        }
    }

    /// Takes one step, and one for every 64 bytes.
    fn pay(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.steps.checked_sub(1 + bytes as u64 / 64) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Fault::new(TemplateErrorKind::Limit, "the template takes too many steps")
                .remedy("loop over less of the data")),
        }
    }
}

/// The branch that a condition's value chooses.
fn branch<'a>(block: &'a Block, value: &Val<'_>) -> &'a [Node] {
    match block.kind {
        BlockKind::If { negate, include_zero, .. } if value.is_truthy(include_zero) == negate => {
            &block.inverse
        }
        _ => &block.body,
    }
}

impl<'a> Locals<'a> {
    fn get(&self, name: &str) -> Val<'a> {
        match (name, self.position, self.key) {
            ("index", Some((index, _)), _) => Val::Count(index),
            ("first", Some((index, _)), _) => Val::Bool(index == 0),
            ("last", Some((index, count)), _) => Val::Bool(index + 1 == count),
            ("key", _, Some(key)) => Val::Text(Cow::Borrowed(key)),
            _ => Val::Missing,
        }
    }

    fn key_or_index(&self) -> Val<'a> {
        match (self.key, self.position) {
            (Some(key), _) => Val::Text(Cow::Borrowed(key)),
            (None, Some((index, _))) => Val::Count(index),
            (None, None) => Val::Missing,
        }
    }
}
