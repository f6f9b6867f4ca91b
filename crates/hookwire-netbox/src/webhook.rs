//! One webhook of NetBox's becomes one of ours.
//!
//! Invariants:
//! - Line ends become `\n`, as Jinja2 makes them before it reads a template.
//! - A literal header line that every request has anyway (`User-Agent`, `Content-Length`, `Connection`) is left out.
//! - What does not compile comes over disabled, as it is.

use std::collections::HashSet;

use hookwire_model::{DefaultBody, Engine, Escape, Secret, Undefined, Webhook, WebhookName};
use hookwire_template::{Field, Limits, TemplateError, TemplateErrorKind, WebhookTemplates};

use crate::WebhookDefinition;
use crate::finding::{Effect, Finding, Subject};
use crate::source::NetBoxWebhook;

/// Imports a webhook under this name, with its findings as comments; they go on the list as well.
pub(crate) fn import(source: &NetBoxWebhook, name: &str, findings: &mut Vec<Finding>) -> WebhookDefinition {
    let mut webhook = Webhook::new(
        WebhookName::new(name).expect("the importer chooses names that are possible"),
        line_ends(&source.payload_url),
    );
    webhook.template_engine = Engine::Jinja;
    webhook.escape = Escape::None;
    webhook.undefined = Undefined::Lenient;
    webhook.default_body = DefaultBody::Netbox;
    webhook.additional_headers = lines(&source.additional_headers);
    webhook.body_template = Some(lines(&source.body_template)).filter(|body| !body.is_empty());
    webhook.tls.ssl_verification = source.ssl_verification;
    let mut importing = Importing { source, webhook, findings: Vec::new() };
    importing.method();
    importing.content_type();
    importing.secret();
    importing.ca_file();
    importing.templates();
    let Importing { webhook, findings: found, .. } = importing;
    let mut comments = source.about.comment();
    comments.extend(found.iter().flat_map(Finding::comment));
    findings.extend(found);
    WebhookDefinition { webhook, comments }
}

/// A webhook on its way.
struct Importing<'a> {
    source: &'a NetBoxWebhook,
    webhook: Webhook,
    findings: Vec<Finding>,
}

impl Importing<'_> {
    fn finding(&self, effect: Effect, message: impl Into<String>) -> Finding {
        Finding::new(Subject::Webhook(self.webhook.name.as_str().to_owned()), effect, message)
    }

    fn add(&mut self, finding: Finding) {
        if finding.effect == Effect::Disabled {
            self.webhook.enabled = false;
        }
        self.findings.push(finding);
    }

    fn method(&mut self) {
        match self.source.http_method.parse() {
            Ok(method) => self.webhook.method = method,
            Err(error) => self.add(
                self.finding(Effect::Disabled, format!("its method {error}"))
                    .remedy("choose one, then delete `enabled = false`:")
                    .line("method = \"POST\""),
            ),
        }
    }

    fn content_type(&mut self) {
        let content_type = self.source.http_content_type.trim();
        if !content_type.is_empty() && content_type.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            self.webhook.content_type = content_type.to_owned();
            return;
        }
        let message = format!("its content type {:?} is none", self.source.http_content_type);
        self.add(
            self.finding(Effect::Disabled, message)
                .remedy("write the right one, then delete `enabled = false`:")
                .line("content_type = \"application/json\""),
        );
    }

    fn secret(&mut self) {
        match self.source.secret.as_deref() {
            Some("") => {}
            Some(secret) => self.webhook.secrets = vec![Secret::new(secret)],
            None => self.add(
                self.finding(
                    Effect::LeftOut,
                    "NetBox did not tell whether there is a secret, so nothing is signed",
                )
                .remedy("if there is one, add it:")
                .line("secret_env = \"NAME_OF_A_VARIABLE\""),
            ),
        }
    }

    fn ca_file(&mut self) {
        let path = &self.source.ca_file_path;
        if path.is_empty() {
            return;
        }
        // NetBox does not look at the file for a URL of plain HTTP, whether it is there or not.
        if self.source.payload_url.trim_start().to_ascii_lowercase().starts_with("http://") {
            let message = format!("its CA file {path:?}, which plain HTTP does not need");
            self.add(self.finding(Effect::LeftOut, message));
            return;
        }
        self.webhook.tls.ca_file = Some(path.into());
        let message = format!("its CA file {path:?} has to be on hookwire's machine, too");
        self.add(
            self.finding(Effect::Note, message)
                .remedy("copy it there, or name another file; until then `check` refuses it"),
        );
    }

    fn templates(&mut self) {
        match self.compile() {
            Ok(templates) if templates.literal_authority().is_none() => self.add(
                self.finding(
                    Effect::Differs,
                    "its host comes out of a template, and such a host may not be a private or loopback address here",
                )
                .remedy("if it has to be, allow those that are meant, in the settings under [egress]:")
                .line("allow = [\"10.0.0.0/8\"]"),
            ),
            Ok(_) => {}
            Err(errors) => {
                for error in errors {
                    self.add(self.broken(&error));
                }
            }
        }
        if names_model(&self.webhook) {
            self.add(self.finding(
                Effect::Differs,
                "a template names `model`, which is defined here (the part of `object_type` after the dot) and not in NetBox",
            ));
        }
    }

    fn broken(&self, error: &TemplateError) -> Finding {
        let refused = match error.kind {
            TemplateErrorKind::Unsupported => "cannot be carried over",
            _ => "is broken",
        };
        let place = match (error.line, error.column) {
            (Some(line), Some(column)) => format!(" (line {line}, column {column})"),
            _ => String::new(),
        };
        let message = format!("its {} {refused}{place}: {}", in_netbox(error.field), error.message);
        let remedy = error.remedy.as_deref().unwrap_or("mend it");
        self.finding(Effect::Disabled, message).remedy(format!("{remedy}; then delete `enabled = false`"))
    }

    /// Compiles the templates; literal lines with headers that are not a webhook's to set are taken out before.
    fn compile(&mut self) -> Result<WebhookTemplates, Vec<TemplateError>> {
        let before = (self.webhook.additional_headers.clone(), self.findings.len());
        let mut result = self.try_compile();
        // Each turn takes lines out, so the turns end. Compiling tells all such lines at once, so there is mostly one.
        while let Err(errors) = &result {
            if !self.leave_out_refused(errors) {
                break;
            }
            result = self.try_compile();
        }
        let in_headers = |error: &TemplateError| error.field == Field::AdditionalHeaders;
        if result.as_ref().err().is_some_and(|errors| errors.iter().any(in_headers)) {
            // Somebody has to look at them anyway, and should see all of it.
            self.webhook.additional_headers = before.0;
            self.findings.truncate(before.1);
            result = self.try_compile();
        }
        result
    }

    /// Takes out the header lines that were refused and are not a webhook's to set, each with its like. Whether there
    /// were any.
    fn leave_out_refused(&mut self, errors: &[TemplateError]) -> bool {
        let headers = std::mem::take(&mut self.webhook.additional_headers);
        let all: Vec<&str> = headers.lines().collect();
        let mut refused = HashSet::new();
        for error in errors.iter().filter(|error| is_refused_header(error)) {
            let line = error.line.and_then(|line| all.get(line.checked_sub(1)?).copied());
            if let Some(line) = line.filter(|line| not_a_webhooks(line) && refused.insert(*line)) {
                let message = format!("the header line `{line}`, because {}", error.message);
                self.add(self.finding(Effect::LeftOut, message));
            }
        }
        if refused.is_empty() {
            self.webhook.additional_headers = headers;
            return false;
        }
        let kept: Vec<&str> = all.into_iter().filter(|line| !refused.contains(line)).collect();
        self.webhook.additional_headers = lines(&kept.join("\n"));
        true
    }

    fn try_compile(&self) -> Result<WebhookTemplates, Vec<TemplateError>> {
        WebhookTemplates::compile(&self.webhook, &Limits::default())
    }
}

fn is_refused_header(error: &TemplateError) -> bool {
    error.field == Field::AdditionalHeaders && error.kind == TemplateErrorKind::InvalidHeader
}

/// The name that a template has in NetBox.
fn in_netbox(field: Field) -> &'static str {
    match field {
        Field::Url => "URL",
        Field::AdditionalHeaders => "additional headers",
        Field::BodyTemplate => "body template",
    }
}

/// Headers that a request has anyway, so that leaving the line out is the same request but for `User-Agent`.
const NOT_A_WEBHOOKS: [&str; 3] = ["connection", "content-length", "user-agent"];

/// Whether a line sets one of these, and is whole in itself, so that it can be taken out of its template.
fn not_a_webhooks(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default().trim();
    let tags = ["{%", "%}", "{#", "#}"].iter().any(|tag| line.contains(tag));
    let whole = !tags && line.matches("{{").count() == line.matches("}}").count();
    whole && NOT_A_WEBHOOKS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Line ends as Jinja2 sees them.
fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A text of several lines ends with a line end, as people write it: Jinja2 drops the last one, and so does whoever
/// splits headers.
fn lines(text: &str) -> String {
    let mut text = line_ends(text);
    if text.contains('\n') && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Whether `model` stands in a template as a name of its own.
fn names_model(webhook: &Webhook) -> bool {
    let templates = [Some(&webhook.url), Some(&webhook.additional_headers), webhook.body_template.as_ref()];
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    templates.into_iter().flatten().any(|text| {
        let tags = text.contains("{{") || text.contains("{%");
        tags && text.match_indices("model").any(|(at, word)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(|c| part_of_name(c) || ".'\"/-".contains(c))
                && !after.is_some_and(|c| part_of_name(c) || "'\":=-".contains(c))
        })
    })
}
