//! What is wrong, and where; collected, so that people see all of it at once.
//!
//! Invariant: a problem names its path, and every problem with something in a file has a span there.

use std::path::{Path, PathBuf};

use hookwire_model::Secret;

use crate::syntax::TextMap;
use crate::tree::{Node, Span};

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// The folder that paths in this file are relative to.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Something wrong with a configuration.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// Such as `webhooks["slack"].timeout`, or the name of a variable or flag; empty for a file as a whole.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
    /// The first is where it is wrong, the others are what it is at odds with.
    pub(crate) labels: Vec<Label>,
}

/// A place that is shown.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) span: Span,
    pub(crate) text: Option<String>,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { path: path.into(), message: message.into(), remedy: None, labels: Vec::new() }
    }

    pub(crate) fn at(mut self, span: Span) -> Problem {
        self.labels.push(Label { span, text: None });
        self
    }

    pub(crate) fn label(mut self, span: Span, text: impl Into<String>) -> Problem {
        self.labels.push(Label { span, text: Some(text.into()) });
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = Some(remedy.into());
        self
    }

    /// Path and message as one text.
    pub(crate) fn text(&self) -> String {
        if self.path.is_empty() { self.message.clone() } else { format!("{}: {}", self.path, self.message) }
    }
}

/// What a loading works with: the files, the environment, and what is wrong so far.
pub(crate) struct Loading<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    /// Files besides the sources that were read, or could not be: secrets, tokens, certificates.
    pub(crate) files: Vec<PathBuf>,
    /// What becomes of a secret that cannot be read.
    pub(crate) secrets: Secrets,
}

/// What becomes of secrets, tokens and certificates that are named and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// They are a problem.
    Needed,
    /// Something stands in for them: whoever only looks signs nothing and lets nobody in, and may well be somebody who
    /// must not read them.
    StoodIn,
}

impl Loading<'_> {
    pub(crate) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A secret that cannot be read.
    pub(crate) fn unread(&mut self, problem: Problem) -> Option<Secret> {
        match self.secrets {
            Secrets::Needed => {
                self.add(problem);
                None
            }
            // Of a form that every use allows, and one for each path, since two that are the same contradict each other.
            Secrets::StoodIn => {
                let letters = problem.path.chars().filter(char::is_ascii_alphanumeric);
                let text: String = letters.chain(std::iter::repeat('A')).take(32).collect();
                Some(Secret::new(format!("whsec_{text}")))
            }
        }
    }

    /// A value of the wrong kind.
    pub(crate) fn wrong_type(&mut self, path: &str, node: &Node, needs: &str) {
        let message = format!("needs {needs}, has {}", node.kind());
        self.add(Problem::new(path, message).at(node.span));
    }

    /// A value that is refused; the reason goes on after the value.
    pub(crate) fn refused(&mut self, path: &str, span: Span, value: &str, reason: &str) {
        let value: String = value.chars().take(60).collect();
        // What to do about it stands after a semicolon.
        let (reason, remedy) = match reason.split_once("; ") {
            Some((reason, remedy)) => (reason, Some(remedy)),
            None => (reason, None),
        };
        let mut problem = Problem::new(path, format!("{value:?} {reason}")).at(span);
        problem.remedy = remedy.map(str::to_owned);
        self.add(problem);
    }

    /// Where in the file the content of a string stands.
    pub(crate) fn text_map(&self, span: Span) -> TextMap {
        TextMap::new(&self.sources[span.file].text, span)
    }

    /// A path that stands in a file, relative to that file's folder.
    pub(crate) fn resolve(&self, span: Span, path: &str) -> PathBuf {
        self.sources[span.file].folder().join(path)
    }
}

/// The candidate that somebody probably meant.
pub(crate) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = name.to_lowercase().replace(['-', ' '], "_");
    let near = candidates.into_iter().map(|candidate| {
        let likeness = strsim::jaro_winkler(&candidate.to_lowercase(), &folded);
        (if strsim::damerau_levenshtein(candidate, &folded) <= 1 { 1.0 } else { likeness }, candidate)
    });
    near.filter(|(likeness, _)| *likeness > 0.84)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, near)| near)
}
