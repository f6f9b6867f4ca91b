//! The table of nodes: a JSON document laid flat, in the order of its text.
//!
//! Each value is one [`Entry`], followed by the entries of what is in it: of a list its items, of an object name,
//! value, name, value. An entry knows how many entries it spans, which leads past it to the next one.
//!
//! ```text
//! {"a":[1,2],"b":null}      place   0        1     2        3    4    5     6
//!                           entry   object   "a"   list     1    2    "b"   null
//!                           size    7        1     3        1    1    1     1
//! ```
//!
//! Invariants:
//! - Places within the table are relative to the entry that names them, so entries can be moved together.
//! - The names in an object differ. Where a text repeats one, the reader has left out what was overridden.
//! - A list or object of more than [`FEW`] members can be looked into without walking along them: of a list the places
//!   of its items are kept, of an object those of its names, sorted by name.

use std::fmt;

/// So many members are looked at one after the other in less time than a search takes.
pub(crate) const FEW: u32 = 16;

/// A text and the table over it.
pub(crate) struct Tree {
    pub(crate) text: Box<str>,
    pub(crate) entries: Vec<Entry>,
    /// Strings that are not in the text as they are, because they hold escapes.
    pub(crate) unescaped: String,
    /// The places that lists and objects of many members keep, relative to these.
    pub(crate) index: Vec<u32>,
    /// A name that stands more than once in the outermost object.
    pub(crate) repeated: Option<String>,
}

/// One value, or the name of a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Where it begins and ends in the text, quotes and brackets included.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// How many entries it spans, itself included.
    pub(crate) size: u32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number,
    /// What it says stands between its quotes.
    Text,
    /// What it says stands here among the unescaped strings.
    Escaped {
        start: u32,
        end: u32,
    },
    List(Members),
    Object(Members),
}

/// What is in a list or object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members {
    /// How many items or members.
    pub(crate) len: u32,
    /// Where their places begin in the index, if there are more than [`FEW`].
    pub(crate) index: u32,
}

/// What a string says.
#[inline]
pub(crate) fn string<'a>(text: &'a str, unescaped: &'a str, entry: &Entry) -> &'a str {
    match entry.kind {
        Kind::Escaped { start, end } => &unescaped[start as usize..end as usize],
        _ => &text[entry.start as usize + 1..entry.end as usize - 1],
    }
}

/// Whether a string says this. Most names differ in length.
#[inline]
pub(crate) fn says(text: &str, unescaped: &str, entry: &Entry, what: &str) -> bool {
    if let Kind::Escaped { .. } = entry.kind {
        return string(text, unescaped, entry) == what;
    }
    let (start, end) = (entry.start as usize + 1, entry.end as usize - 1);
    end - start == what.len() && text.as_bytes()[start..end] == *what.as_bytes()
}

impl Tree {
    fn places(&self, members: Members) -> Option<&[u32]> {
        let start = members.index as usize;
        (members.len > FEW).then(|| &self.index[start..start + members.len as usize])
    }
}

/// A value within a document. Two words, which borrow the document.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: &'a Tree,
    at: u32,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is spelled (RFC 8259 section 6).
    Number(&'a str),
    /// A string, unescaped.
    Text(&'a str),
    /// An array.
    List(List<'a>),
    /// An object.
    Object(Object<'a>),
}

/// An array.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    node: Node<'a>,
    members: Members,
}

/// An object, whose members have a name each that no other has.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    node: Node<'a>,
    members: Members,
}

impl<'a> Node<'a> {
    pub(crate) fn new(tree: &'a Tree, at: u32) -> Self {
        Node { tree, at }
    }

    pub(crate) fn at(self) -> u32 {
        self.at
    }

    pub(crate) fn is_of(self, tree: &Tree) -> bool {
        std::ptr::eq(self.tree, tree)
    }

    fn entry(self) -> &'a Entry {
        &self.tree.entries[self.at as usize]
    }

    /// The node so many entries further on.
    fn further(self, places: u32) -> Self {
        Node { at: self.at + places, ..self }
    }

    /// The node behind this one and what is in it.
    fn next(self) -> Self {
        self.further(self.entry().size)
    }

    /// What it says, of a string or name.
    #[inline]
    fn string(self) -> &'a str {
        string(&self.tree.text, &self.tree.unescaped, self.entry())
    }

    /// What it is.
    #[inline]
    pub fn content(self) -> Content<'a> {
        let entry = self.entry();
        match entry.kind {
            Kind::Null => Content::Null,
            Kind::Bool(value) => Content::Bool(value),
            Kind::Number => Content::Number(self.as_str()),
            Kind::Text | Kind::Escaped { .. } => Content::Text(self.string()),
            Kind::List(members) => Content::List(List { node: self, members }),
            Kind::Object(members) => Content::Object(Object { node: self, members }),
        }
    }

    /// Its text in the document.
    #[inline]
    pub fn as_str(self) -> &'a str {
        let entry = self.entry();
        &self.tree.text[entry.start as usize..entry.end as usize]
    }

    /// What it says, if it is a string.
    #[inline]
    pub fn as_text(self) -> Option<&'a str> {
        match self.content() {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is an array.
    #[inline]
    pub fn as_list(self) -> Option<List<'a>> {
        match self.content() {
            Content::List(list) => Some(list),
            _ => None,
        }
    }

    /// The members, if it is an object.
    #[inline]
    pub fn as_object(self) -> Option<Object<'a>> {
        match self.content() {
            Content::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[inline]
    pub fn is_null(self) -> bool {
        matches!(self.entry().kind, Kind::Null)
    }

    /// The member of this name, if it is an object that has one.
    #[inline]
    pub fn get(self, name: &str) -> Option<Node<'a>> {
        self.as_object()?.get(name)
    }

    /// The same as serde_json's tree.
    pub fn to_value(self) -> serde_json::Value {
        use serde_json::Value;
        match self.content() {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(value),
            Content::Number(text) => Value::Number(text.parse().expect("it was read as a number")),
            Content::Text(text) => Value::from(text),
            Content::List(list) => list.iter().map(Node::to_value).collect(),
            Content::Object(object) => {
                object.iter().map(|(name, member)| (name.to_owned(), member.to_value())).collect()
            }
        }
    }
}

/// Its text.
impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> List<'a> {
    /// The array as a value.
    pub fn node(self) -> Node<'a> {
        self.node
    }

    /// How many items it has.
    pub fn len(self) -> usize {
        self.members.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.members.len == 0
    }

    /// The item at this index, from 0.
    pub fn get(self, index: usize) -> Option<Node<'a>> {
        if index >= self.len() {
            return None;
        }
        match self.node.tree.places(self.members) {
            Some(places) => Some(self.node.further(places[index])),
            None => self.iter().nth(index),
        }
    }

    /// The items in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Node<'a>> {
        let mut next = self.node.further(1);
        (0..self.members.len as usize).map(move |_| {
            let item = next;
            next = item.next();
            item
        })
    }
}

impl<'a> Object<'a> {
    /// The object as a value.
    pub fn node(self) -> Node<'a> {
        self.node
    }

    /// How many members it has.
    pub fn len(self) -> usize {
        self.members.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.members.len == 0
    }

    /// The member of this name.
    pub fn get(self, name: &str) -> Option<Node<'a>> {
        match self.node.tree.places(self.members) {
            Some(places) => {
                let name_at = |place: u32| self.node.further(place).string();
                let found = places.binary_search_by(|place| name_at(*place).cmp(name)).ok()?;
                Some(self.node.further(places[found] + 1))
            }
            None => {
                let Tree { text, entries, unescaped, .. } = self.node.tree;
                let mut at = self.node.at as usize + 1;
                for _ in 0..self.members.len {
                    if says(text, unescaped, &entries[at], name) {
                        return Some(Node { at: at as u32 + 1, ..self.node });
                    }
                    at += 1 + entries[at + 1].size as usize;
                }
                None
            }
        }
    }

    /// Names and members in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, Node<'a>)> {
        let mut next = self.node.further(1);
        (0..self.members.len as usize).map(move |_| {
            let (name, member) = (next, next.further(1));
            next = member.next();
            (name.string(), member)
        })
    }
}
