//! What would be sent for an event, and why not where nothing would be: without sending anything.
//!
//! Invariants:
//! - A preview makes the request that an attempt would make, by the same function; only id and time differ.
//! - The signature is real; values of headers that hold credentials or secrets are masked.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hookwire_model::{
    DeliveryId, Event, PreparedRequest, RuleName, Sequence, Shard, Timestamp, WebhookName, wire_name,
};
use hookwire_rules::{Explanation, Reason, Tree};
use serde::{Serialize, Serializer};

use crate::snapshot::{RuleSlot, Target};
use crate::{DefinitionError, Definitions, PrepareError};

/// What stands in the place of a masked value.
const MASK: &str = "***";

/// What would become of an event under one rule and webhook. The serde form is what `preview --format json`
/// prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preview {
    /// The rule.
    pub rule: String,
    /// The webhook; `None` if the rule could not be read.
    pub webhook: Option<WebhookName>,
    /// Whether the rule matches.
    pub matched: bool,
    /// What would be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<PreviewRequest>,
    /// Why the request would not go out, although it can be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// Why nothing can be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PreviewError>,
    /// Why the rule does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The evaluated condition, where that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<Tree>,
    /// The explanation in full, for the text form.
    #[serde(skip)]
    pub explanation: Option<Explanation>,
}

/// Why a request to a host would be refused, as far as that is known without a look-up; of a host, and whether it stands
/// in the definition itself rather than coming out of a template. `None`: it may be made.
pub type HostRefusal = dyn Fn(&str, bool) -> Option<String> + Send + Sync;

/// Why a request would not go out. The serde form is its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldBack {
    /// Its webhook is disabled: the delivery waits.
    Disabled,
    /// It may not be made: the delivery is a dead letter.
    Refused(String),
}

/// A request that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewRequest {
    /// The request method.
    pub method: &'static str,
    /// The URL.
    pub url: String,
    /// Names and values, all but `Host`, `Content-Length` and `Connection`, in the order and spelling they go out in.
    pub headers: Vec<(String, String)>,
    /// The body, in base64.
    pub body_base64: String,
    /// The body as text; `None` if it is not UTF-8.
    pub body: Option<String>,
}

/// Why nothing can be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PreviewError {
    /// What sort of error it is.
    pub kind: &'static str,
    /// The member of the definition.
    pub field: Option<&'static str>,
    /// What is wrong, and what to do about it.
    pub message: String,
    /// The line in that member, or in the rendered text.
    pub line: Option<usize>,
    /// The column in that line.
    pub column: Option<usize>,
}

/// Which rules and webhooks to look at; by default all.
#[derive(Debug, Clone, Default)]
pub struct PreviewFilter {
    /// Only the rule of this name.
    pub rule: Option<String>,
    /// Only the webhook of this name.
    pub webhook: Option<String>,
}

impl Definitions {
    /// What would be sent for an event at `now`, as first attempts: an element for each rule and webhook, in
    /// the order of the definitions. The delivery ids are those of an event with sequence number 0. `refusal` tells which
    /// hosts are not called.
    pub fn preview(
        &self,
        event: &Arc<Event>,
        filter: &PreviewFilter,
        now: Timestamp,
        refusal: &HostRefusal,
    ) -> Vec<Preview> {
        let wanted = |name: &str, filter: &Option<String>| filter.as_deref().is_none_or(|only| only == name);
        let mut previews = Vec::new();
        for slot in &self.order {
            match slot {
                RuleSlot::Refused(refused) if wanted(&refused.name, &filter.rule) => {
                    previews.push(Preview {
                        error: refused.errors.first().map(PreviewError::of_definition),
                        reason: Some(Reason::ConditionError),
                        ..Preview::empty(&refused.name, None)
                    });
                }
                RuleSlot::Compiled(index) if wanted(self.rules.rule(*index).name.as_str(), &filter.rule) => {
                    let rule = self.rules.rule(*index);
                    let explanation = self.rules.explain_rule(*index, event);
                    let targets = self.targets[index.get()].iter();
                    for target in targets.filter(|target| wanted(target.name.as_str(), &filter.webhook)) {
                        let preview = Preview::empty(rule.name.as_str(), Some(target.name.clone()));
                        previews.push(if explanation.matched {
                            let context = self.context(event, rule);
                            preview.matched(target, &rule.name, &context, now, refusal)
                        } else {
                            let error = self.unsound.get(index).map(PreviewError::of_definition);
                            Preview { error, ..preview.unmatched(explanation.clone()) }
                        });
                    }
                }
                RuleSlot::Refused(_) | RuleSlot::Compiled(_) => {}
            }
        }
        previews
    }
}

impl Preview {
    fn empty(rule: &str, webhook: Option<WebhookName>) -> Self {
        Preview {
            rule: rule.to_owned(),
            webhook,
            matched: false,
            request: None,
            held_back: None,
            error: None,
            reason: None,
            explain: None,
            explanation: None,
        }
    }

    fn matched(
        mut self,
        target: &Target,
        rule: &RuleName,
        context: &hookwire_model::TemplateContext,
        now: Timestamp,
        refusal: &HostRefusal,
    ) -> Self {
        self.matched = true;
        let id = DeliveryId::derive(Shard(0), Sequence(0), &context.event().id, rule, &target.name);
        match &target.webhook {
            Err(error) => self.error = Some(PreviewError::of_definition(error)),
            Ok(webhook) => match webhook.prepare(context, id, 1, now) {
                Ok(request) => {
                    self.request = Some(PreviewRequest::new(&request));
                    self.held_back = match webhook.webhook().enabled {
                        true => refusal(&request.authority.host, request.literal_host).map(HeldBack::Refused),
                        // What waits for its webhook is not attempted.
                        false => Some(HeldBack::Disabled),
                    };
                }
                Err(error) => self.error = Some(PreviewError::of_request(&error)),
            },
        }
        self
    }

    fn unmatched(mut self, explanation: Explanation) -> Self {
        self.reason = explanation.reason;
        self.explain.clone_from(&explanation.tree);
        self.explanation = Some(explanation);
        self
    }

    /// Whether something is wrong: with the definition, or with what it renders to.
    pub fn is_error(&self) -> bool {
        self.error.is_some()
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBack::Disabled => {
                f.write_str("the webhook is disabled, so that it waits until it is enabled")
            }
            HeldBack::Refused(refusal) => f.write_str(refusal),
        }
    }
}

impl Serialize for HeldBack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PreviewRequest {
    fn new(request: &PreparedRequest) -> Self {
        let headers = request.headers.iter().map(|(name, value)| {
            let masked = request.masked_headers.iter().any(|masked| name.eq_ignore_ascii_case(masked));
            // Values are Latin-1, where each byte is the character of that number.
            let value =
                if masked { MASK.to_owned() } else { value.iter().copied().map(char::from).collect() };
            (wire_name(name).into_owned(), value)
        });
        PreviewRequest {
            method: request.method.as_str(),
            url: request.url(),
            headers: headers.collect(),
            body_base64: BASE64_STANDARD.encode(&request.body),
            body: String::from_utf8(request.body.to_vec()).ok(),
        }
    }
}

impl PreviewError {
    fn of_definition(error: &DefinitionError) -> Self {
        PreviewError {
            kind: error.kind.as_str(),
            field: error.place.member,
            message: error.text(),
            line: error.line,
            column: error.column,
        }
    }

    fn of_request(PrepareError(error): &PrepareError) -> Self {
        PreviewError {
            kind: error.kind.as_str(),
            field: Some(error.field.as_str()),
            message: error.text(),
            line: error.line,
            column: error.column,
        }
    }
}

/// For people: the request as it would go out, or why there is none.
impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(webhook) = &self.webhook {
            write!(f, " -> {webhook}")?;
        }
        match (&self.request, &self.error, &self.explanation) {
            (Some(request), _, _) => {
                match &self.held_back {
                    None => f.write_str(": would send")?,
                    Some(why) => write!(f, ": would not send: {why}")?,
                }
                write!(f, "\n\n{}", indented(&request.to_string()))
            }
            (None, Some(error), _) => write!(f, ": error\n\n{}", indented(&error.to_string())),
            (None, None, Some(explanation)) => {
                write!(f, ": not sent\n\n{}", indented(&explanation.to_string()))
            }
            (None, None, None) => writeln!(f, ": not sent"),
        }
    }
}

impl fmt::Display for PreviewRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, self.url)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        match &self.body {
            Some(body) if body.is_empty() => Ok(()),
            Some(body) => write!(f, "\n{body}"),
            None => write!(f, "\n({} characters of base64) {}", self.body_base64.len(), self.body_base64),
        }
    }
}

impl fmt::Display for PreviewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = self.field {
            write!(f, "{field}")?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ", line {line}, column {column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// Each line set in, with a line end after the last.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let _ = if line.is_empty() { writeln!(out) } else { writeln!(out, "  {line}") };
    }
    out
}
