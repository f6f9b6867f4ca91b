//! What a condition sees of an event, and how a dotted path is walked.
//!
//! Invariants:
//! - `attr` sees `data` as it came, without the rule's `action_data`, and beside it `snapshots` (null if the event has
//!   none), as NetBox 4.7 does. `path` sees the whole template context of the rule.
//! - A document is parsed into a tree when the first path leads into it, and not before.

use std::cell::OnceCell;
use std::sync::Arc;

use hookwire_model::{Event, Member, Subject, TemplateContext, is_context_path};
use serde_json::{Map, Value};

use crate::value::{Items, View};

/// What a condition sees of an event.
#[derive(Debug)]
pub struct Facts<'a> {
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    Event { event: &'a Arc<Event>, action_data: &'a Map<String, Value>, context: OnceCell<TemplateContext> },
    Documents { data: &'a Value, snapshots: Option<&'a Value> },
}

static NULL: Value = Value::Null;

impl<'a> Facts<'a> {
    /// The facts of an event under a rule with this `action_data`. Costs nothing until a path is looked up.
    pub fn of_event(event: &'a Arc<Event>, action_data: &'a Map<String, Value>) -> Self {
        Facts { source: Source::Event { event, action_data, context: OnceCell::new() } }
    }

    /// Facts without an event: its `data`, which may be any JSON value, and its `snapshots`. Of the context, `path` sees
    /// just these two.
    pub fn of_documents(data: &'a Value, snapshots: Option<&'a Value>) -> Self {
        Facts { source: Source::Documents { data, snapshots } }
    }

    fn data(&self) -> &Value {
        match &self.source {
            Source::Event { event, .. } => event.data.tree(),
            Source::Documents { data, .. } => data,
        }
    }

    pub(crate) fn snapshots(&self) -> Option<&Value> {
        match &self.source {
            Source::Event { event, .. } => event.snapshots.as_ref().map(|json| &**json.tree()),
            Source::Documents { snapshots, .. } => *snapshots,
        }
    }

    /// A member of the template context.
    fn member(&self, name: &str) -> Option<Start<'_>> {
        match &self.source {
            Source::Event { event, action_data, context } => {
                let context = context.get_or_init(|| TemplateContext::new(Arc::clone(event), action_data));
                context.member(name).map(|member| match member {
                    Member::Text(text) => Start::Text(text),
                    Member::Document(json) => Start::Document(json.tree()),
                })
            }
            Source::Documents { data, snapshots } => match name {
                "data" => Some(Start::Document(data)),
                "snapshots" => snapshots.map(Start::Document),
                _ => None,
            },
        }
    }

    /// Looks a path up.
    pub(crate) fn find(&self, path: &Path) -> Result<Found<'_>, Lost> {
        let names = &path.names[..];
        let (first, rest) = names.split_first().expect("splitting gives at least one part");
        match path.root {
            Root::Attr => match self.data() {
                // The event's snapshots stand beside the members of data, and hide one of that name.
                Value::Object(_) if **first == *"snapshots" => walk(self.snapshots().unwrap_or(&NULL), rest),
                data => walk(data, names),
            },
            Root::Context => match self.member(first) {
                None => Err(Lost::Absent(first.clone())),
                Some(Start::Document(value)) => walk(value, rest),
                Some(Start::Text(None)) => walk(&NULL, rest),
                Some(Start::Text(Some(text))) => match rest.first() {
                    None => Ok(Found::Text(text)),
                    Some(name) => Err(Lost::Unwalkable { name: name.clone(), within: "a string" }),
                },
            },
        }
    }
}

enum Start<'a> {
    Text(Option<&'a str>),
    Document(&'a Value),
}

/// A dotted path, split once.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) text: Arc<str>,
    names: Box<[Arc<str>]>,
    root: Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Attr,
    Context,
}

impl Path {
    pub(crate) fn of_subject(subject: &Subject) -> Self {
        match subject {
            Subject::Attr(path) => Path::new(path, Root::Attr),
            Subject::Path(path) => Path::new(path, Root::Context),
        }
    }

    pub(crate) fn of_operand(path: &Arc<str>) -> Self {
        Path::new(path, if is_context_path(path) { Root::Context } else { Root::Attr })
    }

    fn new(path: &Arc<str>, root: Root) -> Self {
        Path { text: Arc::clone(path), names: path.split('.').map(Arc::from).collect(), root }
    }

    pub(crate) fn is_attr(&self) -> bool {
        self.root == Root::Attr
    }

    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// If the path leads into one of the snapshots: which one, its counterpart, and the names within it.
    pub(crate) fn within_snapshot(&self) -> Option<(&'static str, &'static str, &[Arc<str>])> {
        let [snapshots, which, rest @ ..] = &self.names[..] else { return None };
        match (&**snapshots, &**which) {
            ("snapshots", "prechange") => Some(("prechange", "postchange", rest)),
            ("snapshots", "postchange") => Some(("postchange", "prechange", rest)),
            _ => None,
        }
    }
}

/// What stands at a path.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Value(&'a Value),
    Text(&'a str),
    /// A list on the way: what stands at the rest of the path in each of its elements.
    Each(Vec<&'a Value>),
}

impl Found<'_> {
    pub(crate) const NULL: Found<'static> = Found::Value(&NULL);

    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Found::Value(value) => View::from(*value),
            Found::Text(text) => View::Text(text),
            Found::Each(values) => View::List(Items::Collected(values)),
        }
    }
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There is no member of this name, or what should have it is null.
    Absent(Arc<str>),
    /// This name is looked for in a value that has no members.
    Unwalkable { name: Arc<str>, within: &'static str },
}

/// Walks from a value along names. A list on the way stands for all of its elements; a list of lists does not.
pub(crate) fn walk<'a>(start: &'a Value, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    let mut at = start;
    for (depth, name) in names.iter().enumerate() {
        at = match at {
            Value::Array(items) => return walk_each(items.iter().collect(), &names[depth..]),
            other => member(other, name)?,
        };
    }
    Ok(Found::Value(at))
}

fn walk_each<'a>(mut items: Vec<&'a Value>, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    for name in names {
        for item in &mut items {
            *item = member(item, name)?;
        }
    }
    Ok(Found::Each(items))
}

fn member<'a>(value: &'a Value, name: &Arc<str>) -> Result<&'a Value, Lost> {
    match value {
        Value::Object(members) => members.get(&**name).ok_or_else(|| Lost::Absent(name.clone())),
        Value::Null => Err(Lost::Absent(name.clone())),
        other => Err(Lost::Unwalkable { name: name.clone(), within: View::from(other).kind() }),
    }
}

/// Walks within a snapshot, where an empty list on the way is no evidence that the path means anything.
pub(crate) fn walk_snapshot<'a>(snapshot: &'a Value, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    let mut at = snapshot;
    for name in names {
        match at {
            Value::Array(items) if items.is_empty() => return Err(Lost::Absent(name.clone())),
            Value::Array(_) => break,
            other => at = member(other, name)?,
        }
    }
    walk(snapshot, names)
}
