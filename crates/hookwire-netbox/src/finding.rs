//! What an import could not carry over, or what behaves differently here.

use std::fmt;

/// Something that whoever imports should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What became of it.
    pub effect: Effect,
    /// What differs, as a sentence without its end.
    pub message: String,
    /// What to do about it, where there is something.
    pub remedy: Option<String>,
    /// The line to add, where one line does it.
    pub line: Option<String>,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All definitions alike.
    All,
    /// The webhook of this name, as it is called here.
    Webhook(String),
    /// The event rule of this name, as it is called here.
    Rule(String),
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is not among the definitions.
    LeftOut,
    /// It came over disabled, because it is broken or cannot be done here.
    Disabled,
    /// It does something else than in NetBox.
    Differs,
    /// It is as in NetBox, and yet needs somebody's attention.
    Note,
}

impl Effect {
    /// The words that stand in a list.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::LeftOut => "left out",
            Effect::Disabled => "disabled",
            Effect::Differs => "differs",
            Effect::Note => "note",
        }
    }
}

impl Finding {
    pub(crate) fn new(subject: Subject, effect: Effect, message: impl Into<String>) -> Self {
        Finding { subject, effect, message: message.into(), remedy: None, line: None }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.line = Some(line.into());
        self
    }

    /// The finding without its subject, for a comment beside that: sentences, then the line to add.
    pub(crate) fn comment(&self) -> Vec<String> {
        let remedy = match (&self.remedy, &self.line) {
            (None, _) => ".".to_owned(),
            (Some(remedy), None) => format!(". {}.", capital(remedy)),
            // The remedy leads to the line.
            (Some(remedy), Some(_)) => format!(". {}", capital(remedy)),
        };
        let mut lines = wrap(&format!("{}: {}{remedy}", capital(self.effect.as_str()), self.message));
        lines.extend(self.line.as_ref().map(|line| format!("    {line}")));
        lines
    }
}

/// The longest line of a comment, in characters, without its `# `.
const WIDTH: usize = 98;

/// A text on lines that fit; a word that is longer has a line of its own.
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::All => f.write_str("everything"),
            Subject::Webhook(name) => write!(f, "webhook {name:?}"),
            Subject::Rule(name) => write!(f, "event rule {name:?}"),
        }
    }
}

/// One finding as people read it: what it is about and what differs, then the line to add.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::All => {}
            subject => write!(f, "{subject}: ")?,
        }
        write!(f, "{}: {}", self.effect.as_str(), self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        if let Some(line) = &self.line {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}
