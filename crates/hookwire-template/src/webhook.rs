//! The three templates of a webhook, compiled once, rendered for each attempt.
//!
//! Invariants
//! - What compiles has a sound shape: reserved header names, headers without a colon and URLs that can't be called are
//!   refused when they stand literally in the template.
//! - Rendering is a function of webhook and context: no clock, no chance, no files, no network, no environment.

use bytes::Bytes;
use hookwire_model::{Authority, DefaultBody, Engine, Escape, TemplateContext, Undefined, Webhook};

use crate::body;
use crate::engine::Template;
use crate::error::{Fault, Field, Pos, TemplateError, TemplateErrorKind};
use crate::headers;
use crate::json;
use crate::limits::Limits;
use crate::place::{Place, Sink};
use crate::url::{self, PreparedUrl};

/// URL, headers and body of one webhook, compiled. Shared freely between threads.
#[derive(Debug)]
pub struct WebhookTemplates {
    url: Source,
    /// The authority, where it stands literally in the URL's template.
    literal_authority: Option<Authority>,
    headers: Option<Source>,
    body: Body,
    escape: bool,
    output_bytes_max: usize,
}

/// What a webhook's templates came to for one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Scheme, host and port of the URL.
    pub authority: Authority,
    /// Whether these stand literally in the URL's template rather than coming out of an expression.
    pub literal_host: bool,
    /// Path and query as they go into the request line; begins with `/`.
    pub target: String,
    /// The value of `Authorization` that `user:password@` in the URL gives; it takes the place of an additional header of
    /// that name.
    pub authorization: Option<String>,
    /// The additional headers, in order; values are Latin-1. `Content-Type` is among them only if a template set it, and
    /// replaces the webhook's `content_type` then.
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
}

#[derive(Debug)]
enum Body {
    Template(Source, Place),
    Default(DefaultBody),
}

/// One of the templates, or text that holds no tag.
#[derive(Debug)]
enum Source {
    Literal(String),
    Template(Box<Template>),
}

impl WebhookTemplates {
    /// Compiles the templates of a webhook.
    ///
    /// # Errors
    /// Every problem there is, in all three.
    pub fn compile(webhook: &Webhook, limits: &Limits) -> Result<WebhookTemplates, Vec<TemplateError>> {
        let mut errors = Vec::new();
        let compiler = Compiler { webhook, limits, escape: webhook.escape == Escape::Auto };
        let mut keep = |field: Field, faults: Vec<Fault>| {
            errors.extend(faults.into_iter().map(|fault| fault.in_field(field)));
        };
        let url = compiler.url().map_err(|faults| keep(Field::Url, faults)).ok();
        let headers = compiler.headers().map_err(|faults| keep(Field::AdditionalHeaders, faults)).ok();
        let content_type = headers.as_ref().and_then(|(_, content_type)| content_type.as_deref());
        let body = compiler
            .body(content_type.unwrap_or(&webhook.content_type))
            .map_err(|faults| keep(Field::BodyTemplate, faults))
            .ok();
        match (url, headers, body) {
            (Some((url, literal_authority)), Some((headers, _)), Some(body)) => Ok(WebhookTemplates {
                url,
                literal_authority,
                headers,
                body,
                escape: compiler.escape,
                output_bytes_max: limits.output_bytes,
            }),
            _ => Err(errors),
        }
    }

    /// Renders all three for a context.
    ///
    /// # Errors
    /// The first problem, with its template and place.
    pub fn render(&self, context: &TemplateContext) -> Result<Rendered, TemplateError> {
        let (url, wrote) =
            self.text(&self.url, Place::Url, context).map_err(|fault| fault.in_field(Field::Url))?;
        let url = prepare(&url, wrote, self.escape).map_err(|fault| fault.in_field(Field::Url))?;
        let headers = self.headers(context).map_err(|fault| fault.in_field(Field::AdditionalHeaders))?;
        let body = self.body(context).map_err(|fault| fault.in_field(Field::BodyTemplate))?;
        Ok(Rendered {
            literal_host: self.literal_authority.as_ref() == Some(&url.authority),
            authority: url.authority,
            target: url.target,
            authorization: url.authorization,
            headers,
            body: body.into(),
        })
    }

    /// The authority, if it stands literally in the URL's template: such a webhook has exactly one endpoint.
    pub fn literal_authority(&self) -> Option<&Authority> {
        self.literal_authority.as_ref()
    }

    fn headers(&self, context: &TemplateContext) -> Result<Vec<(String, Bytes)>, Fault> {
        match &self.headers {
            None => Ok(Vec::new()),
            Some(source) => headers::parse(&self.text(source, Place::Headers, context)?.0, self.escape),
        }
    }

    fn body(&self, context: &TemplateContext) -> Result<String, Fault> {
        match &self.body {
            Body::Default(DefaultBody::Json) => Ok(context.to_json()),
            Body::Default(DefaultBody::Netbox) => Ok(body::netbox(context)),
            Body::Template(source, place) => {
                let (text, _) = self.text(source, *place, context)?;
                if *place == Place::Json {
                    json::check(&text)?;
                }
                Ok(text)
            }
        }
    }

    /// The rendered text, and whether values were written escaped and unescaped.
    fn text(
        &self,
        source: &Source,
        place: Place,
        context: &TemplateContext,
    ) -> Result<(String, Wrote), Fault> {
        match source {
            Source::Literal(text) => Ok((text.clone(), Wrote::default())),
            Source::Template(template) => {
                let place = if self.escape { place } else { Place::Text };
                let mut sink = Sink::new(place, self.output_bytes_max, template.size_hint());
                template.render(context, &mut sink)?;
                let (escaped, raw) = sink.wrote();
                Ok((sink.into_text(), Wrote { escaped, raw }))
            }
        }
    }
}

/// How values came into a text.
#[derive(Debug, Clone, Copy, Default)]
struct Wrote {
    escaped: bool,
    raw: bool,
}

struct Compiler<'a> {
    webhook: &'a Webhook,
    limits: &'a Limits,
    escape: bool,
}

impl Compiler<'_> {
    fn source(
        &self,
        source: &str,
        place: Place,
    ) -> Result<(Source, Vec<std::ops::Range<usize>>), Vec<Fault>> {
        if source.len() > self.limits.source_bytes {
            return Err(vec![Fault::new(
                TemplateErrorKind::Limit,
                format!("the template has {} bytes, more than {}", source.len(), self.limits.source_bytes),
            )]);
        }
        let strict = self.webhook.undefined == Undefined::Strict;
        let place = if self.escape { place } else { Place::Text };
        let engine = self.webhook.template_engine;
        let (template, tags) = Template::compile(engine, source, place, strict, self.limits)?;
        Ok(match template {
            Some(template) => (Source::Template(Box::new(template)), tags),
            None => {
                let text = match engine {
                    // Jinja2 drops one line end at the end of a template and reads others as `\n`.
                    Engine::Jinja => {
                        let text = source.replace("\r\n", "\n").replace('\r', "\n");
                        text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
                    }
                    Engine::Handlebars => source.to_owned(),
                };
                (Source::Literal(text), tags)
            }
        })
    }

    fn url(&self) -> Result<(Source, Option<Authority>), Vec<Fault>> {
        let (source, tags) = self.source(&self.webhook.url, Place::Url)?;
        // The text before the first tag.
        let literal = match (&source, tags.first()) {
            (Source::Literal(text), _) => {
                let prepared = prepare(text, Wrote::default(), self.escape).map_err(|fault| vec![fault])?;
                return Ok((source, Some(prepared.authority)));
            }
            (_, Some(first)) => &self.webhook.url[..first.start],
            (_, None) => "",
        };
        let Some(authority_start) = literal.find("://").map(|at| at + 3) else { return Ok((source, None)) };
        match literal[authority_start..].find(['/', '?', '#', '\\']) {
            None => Ok((source, None)),
            Some(length) => {
                let authority = &literal[..authority_start + length];
                let prepared = url::prepare(authority).map_err(|fault| vec![fault])?;
                Ok((source, Some(prepared.authority)))
            }
        }
    }

    /// The headers' template, and the content type it sets literally.
    fn headers(&self) -> Result<(Option<Source>, Option<String>), Vec<Fault>> {
        let text = &*self.webhook.additional_headers;
        if text.trim().is_empty() {
            return Ok((None, None));
        }
        let (source, tags) = self.source(text, Place::Headers)?;
        let mut faults = Vec::new();
        let mut content_type = None;
        for (offset, line) in headers::split_lines(text) {
            let end = offset + line.len();
            let in_tag = |at: usize| tags.iter().any(|tag| tag.contains(&at));
            // A line that begins inside a tag is no header line.
            if offset > 0 && in_tag(offset - 1) && in_tag(offset) {
                continue;
            }
            let has_tag = tags.iter().any(|tag| tag.start < end && tag.end > offset);
            let pos = Pos::of(text, offset + (line.len() - line.trim_start().len()));
            let Some((name, value)) = line.split_once(':') else {
                if self.escape && !has_tag && !line.trim().is_empty() {
                    faults.push(headers::no_colon(line).at(pos));
                }
                continue;
            };
            // A tag before the colon leaves the name open until it is rendered.
            if tags.iter().any(|tag| tag.start < offset + name.len() && tag.end > offset) {
                continue;
            }
            let name = name.trim();
            if let Err(fault) = headers::check_name(name) {
                faults.push(fault.at(pos));
            }
            if name.eq_ignore_ascii_case("content-type") {
                if !has_tag {
                    content_type = Some(value.trim().to_owned());
                } else if self.escape {
                    faults.push(
                        Fault::new(
                            TemplateErrorKind::InvalidHeader,
                            "the content type comes out of a template, and escaping in the body follows it",
                        )
                        .remedy("write it literally, best as `content_type` of the webhook, or set `escape = \"none\"`")
                        .at(pos),
                    );
                }
            }
        }
        if let Source::Literal(text) = &source
            && faults.is_empty()
        {
            headers::parse(text, self.escape).map_err(|fault| vec![fault])?;
        }
        if faults.is_empty() { Ok((Some(source), content_type)) } else { Err(faults) }
    }

    fn body(&self, content_type: &str) -> Result<Body, Vec<Fault>> {
        // NetBox takes an empty template for none.
        let Some(text) = self.webhook.body_template.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(Body::Default(self.webhook.default_body));
        };
        let place = if self.escape { Place::of_body(content_type) } else { Place::Text };
        let (source, _) = self.source(text, place)?;
        if let (Source::Literal(text), Place::Json) = (&source, place) {
            json::check(text).map_err(|fault| vec![fault])?;
        }
        Ok(Body::Template(source, place))
    }
}

/// Prepares a URL, and with escaping on refuses what data must not do to it.
fn prepare(rendered: &str, wrote: Wrote, escape: bool) -> Result<PreparedUrl, Fault> {
    let prepared = url::prepare(rendered)?;
    if !escape {
        return Ok(prepared);
    }
    let invalid = |reason: &str| {
        Fault::new(TemplateErrorKind::InvalidUrl, format!("the URL `{}` {reason}", url::redacted(rendered)))
    };
    if prepared.dropped_user {
        return Err(invalid("has a user name without a password, which is not sent")
            .remedy("write `user:password@`, or `user:@` for an empty one"));
    }
    // Dots are never escaped, so this is the one way for a value to leave its path segment.
    if prepared.had_dot_segments && wrote.escaped && !wrote.raw {
        return Err(invalid("has a segment `.` or `..`, which would lead to another path")
            .remedy("ask for the value first, or print it into the query"));
    }
    Ok(prepared)
}
