//! What a condition sees of an event, and how a dotted path is walked.
//!
//! Invariants:
//! - `attr` sees `data` as it came, without the rule's `action_data`, and beside it `snapshots` (null if the event has
//!   none), as NetBox 4.7 does. `path` sees the whole template context of the rule.
//! - Looking something up copies nothing out of a document.

use std::cell::OnceCell;
use std::sync::Arc;

use hookwire_json::{Content, Json, Node};
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
    Documents { data: Json, snapshots: Option<Json> },
}

impl<'a> Facts<'a> {
    /// The facts of an event under a rule with this `action_data`. Costs nothing until a path is looked up.
    pub fn of_event(event: &'a Arc<Event>, action_data: &'a Map<String, Value>) -> Self {
        Facts { source: Source::Event { event, action_data, context: OnceCell::new() } }
    }

    /// Facts without an event: its `data`, which may be any JSON value, and its `snapshots`. Of the context, `path` sees
    /// just these two.
    pub fn of_documents(data: &Value, snapshots: Option<&Value>) -> Self {
        Facts { source: Source::Documents { data: Json::from(data), snapshots: snapshots.map(Json::from) } }
    }

    fn data(&self) -> Node<'_> {
        match &self.source {
            Source::Event { event, .. } => event.data.root(),
            Source::Documents { data, .. } => data.root(),
        }
    }

    pub(crate) fn snapshots(&self) -> Option<Node<'_>> {
        let snapshots = match &self.source {
            Source::Event { event, .. } => &event.snapshots,
            Source::Documents { snapshots, .. } => snapshots,
        };
        snapshots.as_ref().map(Json::root)
    }

    /// A member of the template context.
    fn member(&self, name: &str) -> Option<Start<'_>> {
        match &self.source {
            Source::Event { event, action_data, context } => {
                let context = context.get_or_init(|| TemplateContext::new(Arc::clone(event), action_data));
                context.member(name).map(|member| match member {
                    Member::Text(text) => Start::Text(text),
                    Member::Document(json) => Start::Document(json.root()),
                })
            }
            Source::Documents { data, snapshots } => match name {
                "data" => Some(Start::Document(data.root())),
                "snapshots" => snapshots.as_ref().map(|snapshots| Start::Document(snapshots.root())),
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
                data if **first == *"snapshots" && data.as_object().is_some() => {
                    walk(self.snapshots().unwrap_or_else(|| Json::null().root()), rest)
                }
                data => walk(data, names),
            },
            Root::Context => match self.member(first) {
                None => Err(Lost::Absent(first.clone())),
                Some(Start::Document(value)) => walk(value, rest),
                Some(Start::Text(None)) => walk(Json::null().root(), rest),
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
    Document(Node<'a>),
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
    Value(Node<'a>),
    Text(&'a str),
    /// A list on the way: what stands at the rest of the path in each of its elements.
    Each(Vec<Node<'a>>),
}

impl Found<'_> {
    pub(crate) fn null() -> Found<'static> {
        Found::Value(Json::null().root())
    }

    pub(crate) fn view(&self) -> View<'_> {
        match self {
            Found::Value(value) => View::from(value.content()),
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
pub(crate) fn walk<'a>(start: Node<'a>, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    let mut at = start;
    for (depth, name) in names.iter().enumerate() {
        at = match at.content() {
            Content::List(items) => return walk_each(items.iter().collect(), &names[depth..]),
            content => member(content, name)?,
        };
    }
    Ok(Found::Value(at))
}

fn walk_each<'a>(mut items: Vec<Node<'a>>, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    for name in names {
        for item in &mut items {
            *item = member(item.content(), name)?;
        }
    }
    Ok(Found::Each(items))
}

fn member<'a>(value: Content<'a>, name: &Arc<str>) -> Result<Node<'a>, Lost> {
    match value {
        Content::Object(members) => members.get(name).ok_or_else(|| Lost::Absent(name.clone())),
        Content::Null => Err(Lost::Absent(name.clone())),
        other => Err(Lost::Unwalkable { name: name.clone(), within: View::from(other).kind() }),
    }
}

/// Walks within a snapshot, where an empty list on the way is no evidence that the path means anything.
pub(crate) fn walk_snapshot<'a>(snapshot: Node<'a>, names: &[Arc<str>]) -> Result<Found<'a>, Lost> {
    let mut at = snapshot;
    for name in names {
        match at.content() {
            Content::List(items) if items.is_empty() => return Err(Lost::Absent(name.clone())),
            Content::List(_) => break,
            content => at = member(content, name)?,
        }
    }
    walk(snapshot, names)
}
