//! Reading members of a table: kinds, words, units, each mistake told with its path.
//!
//! Invariant: a member that is wrong is told once and reads as absent, so that reading goes on and finds the
//! rest.

use std::str::FromStr;
use std::time::Duration;

use crate::not_yet::not_yet;
use crate::problem::{Loading, Problem, nearest};
use crate::tree::{Content, Node, Table};
use crate::units;

/// The members of one table, by name.
pub(crate) struct Members<'t> {
    /// The path of the table.
    pub(crate) path: String,
    /// The path in [`NOT_YET`](crate::not_yet::NOT_YET)'s form, without names.
    list: &'static str,
    table: &'t Table,
}

/// A name that people know from elsewhere, and what it is called here.
pub(crate) type Alias = (&'static str, &'static str);

impl<'t> Members<'t> {
    /// The members of a table. Unknown ones are told, with what was probably meant.
    pub(crate) fn new(
        loading: &mut Loading<'_>,
        path: String,
        list: &'static str,
        node: &'t Node,
        known: &[&str],
        aliases: &[Alias],
    ) -> Option<Self> {
        let Content::Table(table) = &node.content else {
            loading.wrong_type(&path, node, "a table");
            return None;
        };
        for (key, _) in &table.0 {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            let alias = aliases.iter().find(|(alias, _)| *alias == key.name).map(|(_, name)| *name);
            let remedy = match alias.or_else(|| nearest(&key.name, known.iter().copied())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("here belong: {}", known.join(", ")),
            };
            let path = join(&path, &key.name);
            loading.add(Problem::new(path, "unknown member").at(key.span).remedy(remedy));
        }
        Some(Members { path, list, table })
    }

    /// A member that is there and not null. One that is known and cannot be used yet is told here, and so
    /// never ignored.
    pub(crate) fn node(&self, loading: &mut Loading<'_>, name: &str) -> Option<&'t Node> {
        let node = self.table.get(name).filter(|node| !matches!(node.content, Content::Null))?;
        if let Some(entry) = not_yet(self.list, name, node) {
            loading.add(
                Problem::new(join(&self.path, name), entry.message()).at(node.span).remedy(entry.instead),
            );
            return None;
        }
        Some(node)
    }

    /// Whether the member is there, whatever it holds.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some_and(|node| !matches!(node.content, Content::Null))
    }

    /// The member as it is there, for its place.
    pub(crate) fn place(&self, name: &str) -> Option<&'t Node> {
        self.table.get(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub(crate) fn text(&self, loading: &mut Loading<'_>, name: &str) -> Option<&'t str> {
        let node = self.node(loading, name)?;
        text(loading, &self.path(name), node)
    }

    pub(crate) fn boolean(&self, loading: &mut Loading<'_>, name: &str) -> Option<bool> {
        let node = self.node(loading, name)?;
        match node.content {
            Content::Bool(value) => Some(value),
            _ => {
                loading.wrong_type(&self.path(name), node, "true or false");
                None
            }
        }
    }

    pub(crate) fn list(&self, loading: &mut Loading<'_>, name: &str) -> Option<&'t [Node]> {
        let node = self.node(loading, name)?;
        match &node.content {
            Content::List(items) => Some(items),
            Content::Text(text) => {
                let text: String = text.chars().take(60).collect();
                let problem = Problem::new(self.path(name), "needs a list, has a string").at(node.span);
                loading.add(problem.remedy(format!("for one alone write [{text:?}]")));
                None
            }
            _ => {
                loading.wrong_type(&self.path(name), node, "a list");
                None
            }
        }
    }

    pub(crate) fn duration(&self, loading: &mut Loading<'_>, name: &str) -> Option<Duration> {
        let node = self.node(loading, name)?;
        duration(loading, &self.path(name), node)
    }

    /// A whole number that fits the type.
    pub(crate) fn count<T: FromStr>(&self, loading: &mut Loading<'_>, name: &str, needs: &str) -> Option<T> {
        let node = self.node(loading, name)?;
        match &node.content {
            Content::Number(number) => match number.as_str().parse() {
                Ok(count) => Some(count),
                Err(_) => {
                    let message = format!("needs {needs}, has {number}");
                    loading.add(Problem::new(self.path(name), message).at(node.span));
                    None
                }
            },
            _ => {
                loading.wrong_type(&self.path(name), node, needs);
                None
            }
        }
    }

    /// A number between two bounds.
    pub(crate) fn fraction(
        &self,
        loading: &mut Loading<'_>,
        name: &str,
        range: std::ops::RangeInclusive<f64>,
        needs: &str,
    ) -> Option<f64> {
        let node = self.node(loading, name)?;
        let Content::Number(number) = &node.content else {
            loading.wrong_type(&self.path(name), node, needs);
            return None;
        };
        let value = number.as_f64().filter(|value| range.contains(value));
        if value.is_none() {
            let message = format!("needs {needs}, has {number}");
            loading.add(Problem::new(self.path(name), message).at(node.span));
        }
        value
    }

    /// One word of a closed set.
    pub(crate) fn word<T: FromStr + Copy + ToString>(
        &self,
        loading: &mut Loading<'_>,
        name: &str,
        all: &[T],
    ) -> Option<T> {
        let node = self.node(loading, name)?;
        word(loading, &self.path(name), node, all)
    }
}

/// The path of a member.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub(crate) fn text<'t>(loading: &mut Loading<'_>, path: &str, node: &'t Node) -> Option<&'t str> {
    match &node.content {
        Content::Text(text) => Some(text),
        _ => {
            loading.wrong_type(path, node, "a string");
            None
        }
    }
}

pub(crate) fn duration(loading: &mut Loading<'_>, path: &str, node: &Node) -> Option<Duration> {
    const NEEDS: &str = "a duration such as \"10s\"";
    match &node.content {
        Content::Text(text) => match units::duration(text) {
            Ok(duration) => Some(duration),
            Err(reason) => {
                loading.refused(path, node.span, text, &reason);
                None
            }
        },
        Content::Number(number) => {
            let message = format!("needs {NEEDS}, has a number without a unit");
            let remedy = format!("write \"{number}s\" for seconds");
            loading.add(Problem::new(path, message).at(node.span).remedy(remedy));
            None
        }
        _ => {
            loading.wrong_type(path, node, NEEDS);
            None
        }
    }
}

pub(crate) fn word<T: FromStr + Copy + ToString>(
    loading: &mut Loading<'_>,
    path: &str,
    node: &Node,
    all: &[T],
) -> Option<T> {
    let written = text(loading, path, node)?;
    if let Ok(word) = written.parse() {
        return Some(word);
    }
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    let same = words.iter().find(|word| word.eq_ignore_ascii_case(written)).map(String::as_str);
    let remedy = match same.or_else(|| nearest(written, words.iter().map(String::as_str))) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("use one of: {}", words.join(", ")),
    };
    let written: String = written.chars().take(60).collect();
    loading.add(Problem::new(path, format!("{written:?} is not known here")).at(node.span).remedy(remedy));
    None
}
