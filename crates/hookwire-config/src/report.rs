//! Problems as people read them: with the line of the file, what is wrong there, and what to do.
//!
//! Invariants:
//! - What is shown has neither colours nor widths of its own; whoever prints it says which it wants.
//! - The lines that are shown have their secrets masked.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};

use crate::define::reason;
use crate::excerpt::Excerpt;
use crate::mask::masked;
use crate::problem::{Label, Problem, Source};
use crate::tree::Node;

/// How many problems are shown: nobody reads more, and one wrong habit in a file of a hundred thousand rules makes as
/// many.
const SHOWN_MAX: usize = 50;

/// Why a configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder that was named cannot be read.
    #[error("{} cannot be read: {}", path.display(), reason(source))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What stands in the files, the environment or the flags is wrong.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// Everything that is wrong with a configuration, or worth a warning.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    problems: Vec<Problem>,
    sources: Vec<Source>,
    files: Vec<PathBuf>,
    /// Whether they are worth a warning only.
    warnings: bool,
}

/// One of them, for a program.
#[derive(Debug, Clone, Copy)]
pub struct DiagnosticView<'a> {
    /// Such as `webhooks["slack"].timeout`; a variable or a flag where it comes from there.
    pub path: &'a str,
    /// What is wrong.
    pub message: &'a str,
    /// What to do about it.
    pub remedy: Option<&'a str>,
    /// The file.
    pub file: Option<&'a Path>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The column, in characters from 1.
    pub column: Option<usize>,
}

/// How [`Diagnostics::render`] draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours, for a terminal.
    pub color: bool,
    /// Columns.
    pub width: usize,
}

impl Default for Style {
    /// Without colours, 110 columns.
    fn default() -> Self {
        Style { color: false, width: 110 }
    }
}

impl Diagnostics {
    /// Puts them in the order of the files; what comes from elsewhere goes first. `roots` are the trees of
    /// those files that have one, for masking the secrets in the lines that are shown.
    pub(crate) fn new(mut problems: Vec<Problem>, sources: &[Source], roots: &[Node]) -> Self {
        problems.sort_by_key(|problem| problem.labels.first().map(|label| label.span));
        let sources = if problems.is_empty() { Vec::new() } else { masked(sources, roots) };
        Diagnostics { problems, sources, files: Vec::new(), warnings: false }
    }

    /// The same as warnings, which look otherwise: whoever reads them must see that nothing is refused.
    pub(crate) fn into_warnings(mut self) -> Self {
        self.warnings = true;
        self
    }

    /// Adds the files that were read, or should have been.
    pub(crate) fn with_files(mut self, files: Vec<PathBuf>) -> Self {
        self.files = files;
        self
    }

    /// The files that the configuration came from, also those that are missing: mending one of them may mend what is
    /// told here.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = DiagnosticView<'_>> {
        self.problems.iter().map(|problem| {
            let label = problem.labels.first();
            let source = label.map(|label| &self.sources[label.span.file]);
            let place = label.zip(source).map(|(label, source)| place(&source.text, label.span.start));
            DiagnosticView {
                path: &problem.path,
                message: &problem.message,
                remedy: problem.remedy.as_deref(),
                file: source.map(|source| &*source.path),
                line: place.map(|(line, _)| line),
                column: place.map(|(_, column)| column),
            }
        })
    }

    /// All of them with the lines of their files, for a terminal.
    pub fn render(&self, style: Style) -> String {
        let theme = if style.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(style.width)
            .with_links(false)
            .with_context_lines(1)
            .without_syntax_highlighting();
        let mut out = String::new();
        for problem in self.problems.iter().take(SHOWN_MAX) {
            let severity = self.warnings.then_some(Severity::Warning);
            let shown = Shown::new(problem, &self.sources, severity);
            // Writing to a string fails only if the diagnostic names a place beyond its file, which a span
            // never does; then the plain line still says what is wrong.
            if handler.render_report(&mut out, &shown).is_err() {
                out.push_str(&problem.text());
                out.push('\n');
            }
        }
        if let Some(more) = self.more() {
            out.push_str(&format!("  {more}\n"));
        }
        out
    }

    /// What to say of those that are not shown.
    fn more(&self) -> Option<String> {
        let more = self.problems.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0)?;
        Some(format!("... and {more} more; mend these first"))
    }
}

/// A line for each, as compilers write it: `file:line:column: path: message; remedy`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, view) in self.iter().take(SHOWN_MAX).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            if let (Some(file), Some(line), Some(column)) = (view.file, view.line, view.column) {
                write!(f, "{}:{line}:{column}: ", file.display())?;
            }
            if !view.path.is_empty() {
                write!(f, "{}: ", view.path)?;
            }
            f.write_str(view.message)?;
            if let Some(remedy) = view.remedy {
                write!(f, "; {remedy}")?;
            }
        }
        self.more().map_or(Ok(()), |more| write!(f, "\n{more}"))
    }
}

/// Line and column, from 1, of a byte in a text.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

/// A problem as miette draws it.
#[derive(Debug)]
struct Shown {
    message: String,
    remedy: Option<String>,
    source: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    /// What it is at odds with in another file: miette draws one file at a time.
    related: Vec<Shown>,
    /// How bad it is; `None`: an error.
    severity: Option<Severity>,
}

impl Shown {
    fn new(problem: &Problem, sources: &[Source], severity: Option<Severity>) -> Shown {
        let file = problem.labels.first().map(|label| label.span.file);
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            problem.labels.iter().partition(|label| Some(label.span.file) == file);
        let excerpt = |file: usize, labels: &[&Label]| {
            let Source { path, text } = &sources[file];
            let spans: Vec<_> = labels.iter().map(|label| label.span.start..label.span.end).collect();
            Excerpt::new(path.display().to_string(), text, &spans)
        };
        let related = elsewhere.iter().map(|other| {
            let source = excerpt(other.span.file, &[*other]);
            Shown {
                message: other.text.clone().unwrap_or_default(),
                remedy: None,
                labels: vec![LabeledSpan::new_with_span(
                    None,
                    source.span(&(other.span.start..other.span.end)),
                )],
                source: Some(source),
                related: Vec::new(),
                // The other half of a problem.
                severity: Some(Severity::Advice),
            }
        });
        let source = file.map(|file| excerpt(file, &here));
        let labels = source.iter().flat_map(|source| {
            here.iter().map(|label| {
                let span = source.span(&(label.span.start..label.span.end));
                LabeledSpan::new_with_span(label.text.clone(), span)
            })
        });
        Shown {
            message: problem.text(),
            remedy: problem.remedy.clone(),
            labels: labels.collect(),
            source,
            related: related.collect(),
            severity,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.remedy.as_ref().map(|remedy| Box::new(remedy) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        self.severity
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        (!self.labels.is_empty())
            .then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = _>>)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let related = self.related.iter().map(|related| related as &dyn Diagnostic);
        (!self.related.is_empty()).then(|| Box::new(related) as Box<dyn Iterator<Item = _>>)
    }
}
