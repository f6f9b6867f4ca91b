//! The three templates of a webhook, compiled once, rendered for each attempt.
//!
//! Invariants
//! - What compiles has a sound shape: reserved header names, headers without a colon and URLs that can't be
//!   called are refused when they stand literally in the template.
//! - Rendering is a function of webhook and context: no clock, no chance, no files, no network, no
//!   environment.

use std::ops::Range;

use bytes::Bytes;
use hookwire_model::{Authority, DefaultBody, Engine, Escape, TemplateContext, Undefined, Webhook};

use crate::body;
use crate::engine::Template;
use crate::error::{Fault, Field, Places, TemplateError, TemplateErrorKind};
use crate::headers;
use crate::json;
use crate::limits::Limits;
use crate::place::{Place, Sink};
use crate::url::{self, PreparedUrl};

/// URL, headers and body of one webhook, compiled. Shared freely between threads.
#[derive(Debug)]
pub struct WebhookTemplates {
    url: Part<PreparedUrl>,
    /// The authority, where it stands literally in the URL's template.
    literal_authority: Option<Authority>,
    headers: Part<Vec<(String, Bytes)>>,
    /// `Content-Type`, where it stands literally among the headers.
    content_type: Option<String>,
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
    /// The value of `Authorization` that `user:password@` in the URL gives; it takes the place of an
    /// additional header of that name.
    pub authorization: Option<String>,
    /// The additional headers, in order; values are Latin-1. `Content-Type` is among them only if a template
    /// set it, and replaces the webhook's `content_type` then.
    pub headers: Vec<(String, Bytes)>,
    /// The body.
    pub body: Bytes,
}

/// What a template comes to: always the same, if it holds no tag.
#[derive(Debug)]
enum Part<T> {
    Fixed(T),
    Template(Box<Template>),
}

#[derive(Debug)]
enum Body {
    Fixed(Bytes),
    Template(Box<Template>, Place),
    Default(DefaultBody),
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
            (Some((url, literal_authority)), Some((headers, content_type)), Some(body)) => {
                Ok(WebhookTemplates {
                    url,
                    literal_authority,
                    headers,
                    content_type,
                    body,
                    escape: compiler.escape,
                    output_bytes_max: limits.output_bytes,
                })
            }
            _ => Err(errors),
        }
    }

    /// Renders all three for a context.
    ///
    /// # Errors
    /// The first problem, with its template and place.
    pub fn render(&self, context: &TemplateContext) -> Result<Rendered, TemplateError> {
        let url = self.url(context).map_err(|fault| fault.in_field(Field::Url))?;
        let headers = self.headers(context).map_err(|fault| fault.in_field(Field::AdditionalHeaders))?;
        let body = self.body(context).map_err(|fault| fault.in_field(Field::BodyTemplate))?;
        Ok(Rendered {
            literal_host: self.literal_authority.as_ref() == Some(&url.authority),
            authority: url.authority,
            target: url.target,
            authorization: url.authorization,
            headers,
            body,
        })
    }

    /// The authority, if it stands literally in the URL's template: such a webhook has exactly one endpoint.
    pub fn literal_authority(&self) -> Option<&Authority> {
        self.literal_authority.as_ref()
    }

    fn url(&self, context: &TemplateContext) -> Result<PreparedUrl, Fault> {
        match &self.url {
            Part::Fixed(url) => Ok(url.clone()),
            Part::Template(template) => {
                let (text, wrote) = self.text(template, Place::Url, context)?;
                prepare(&text, wrote, self.escape)
            }
        }
    }

    fn headers(&self, context: &TemplateContext) -> Result<Vec<(String, Bytes)>, Fault> {
        match &self.headers {
            Part::Fixed(headers) => Ok(headers.clone()),
            Part::Template(template) => {
                let (text, _) = self.text(template, Place::Headers, context)?;
                let headers = headers::parse(&text, self.escape)?;
                let expected = self.content_type.as_deref().unwrap_or_default();
                let strays = |(name, value): &(String, Bytes)| {
                    name.eq_ignore_ascii_case("content-type") && value != expected
                };
                if self.escape && headers.iter().any(strays) {
                    return Err(content_type_depends());
                }
                Ok(headers)
            }
        }
    }

    fn body(&self, context: &TemplateContext) -> Result<Bytes, Fault> {
        match &self.body {
            Body::Fixed(body) => Ok(body.clone()),
            Body::Default(DefaultBody::Json) => Ok(context.to_json().into()),
            Body::Default(DefaultBody::Netbox) => Ok(body::netbox(context).into()),
            Body::Template(template, place) => {
                let (text, _) = self.text(template, *place, context)?;
                if *place == Place::Json {
                    json::check(&text)?;
                }
                Ok(text.into())
            }
        }
    }

    /// The rendered text, and how values came into it.
    fn text(
        &self,
        template: &Template,
        place: Place,
        context: &TemplateContext,
    ) -> Result<(String, Wrote), Fault> {
        let place = if self.escape { place } else { Place::Text };
        let mut sink = Sink::new(place, self.output_bytes_max, template.size_hint());
        template.render(context, &mut sink)?;
        let wrote = Wrote { escaped: sink.wrote_escaped() };
        Ok((sink.into_text(), wrote))
    }
}

/// How values came into a text.
#[derive(Debug, Clone, Copy, Default)]
struct Wrote {
    escaped: bool,
}

/// The headers, and the content type that stands literally among them.
type Headers = (Part<Vec<(String, Bytes)>>, Option<String>);

struct Compiler<'a> {
    webhook: &'a Webhook,
    limits: &'a Limits,
    escape: bool,
}

/// Text that holds no tag, or a template with its tags.
enum Source {
    Literal(String),
    Template(Box<Template>, Vec<Range<usize>>),
}

impl Compiler<'_> {
    fn source(&self, source: &str, place: Place) -> Result<Source, Vec<Fault>> {
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
        Ok(match (template, engine) {
            (Some(template), _) => Source::Template(Box::new(template), tags),
            (None, Engine::Handlebars) => Source::Literal(source.to_owned()),
            (None, Engine::Jinja) => {
                // Jinja2 reads all line ends as `\n` and drops one at the end of a template.
                let text = source.replace("\r\n", "\n").replace('\r', "\n");
                Source::Literal(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
            }
        })
    }

    /// The URL, and the authority if it stands literally in the template.
    fn url(&self) -> Result<(Part<PreparedUrl>, Option<Authority>), Vec<Fault>> {
        let (template, tags) = match self.source(&self.webhook.url, Place::Url)? {
            Source::Literal(text) => {
                let url = prepare(&text, Wrote::default(), self.escape).map_err(|fault| vec![fault])?;
                let authority = url.authority.clone();
                return Ok((Part::Fixed(url), Some(authority)));
            }
            Source::Template(template, tags) => (template, tags),
        };
        let before_tags = &self.webhook.url[..tags.first().map_or(0, |tag| tag.start)];
        let authority_end = before_tags
            .find("://")
            .and_then(|at| Some(at + 3 + before_tags[at + 3..].find(['/', '?', '#', '\\'])?));
        let authority = authority_end
            .map(|end| url::prepare(&before_tags[..end]).map(|url| url.authority))
            .transpose()
            .map_err(|fault| vec![fault])?;
        Ok((Part::Template(template), authority))
    }

    fn headers(&self) -> Result<Headers, Vec<Fault>> {
        let text = &*self.webhook.additional_headers;
        if text.trim().is_empty() {
            return Ok((Part::Fixed(Vec::new()), None));
        }
        let source = self.source(text, Place::Headers)?;
        let tags = match &source {
            Source::Literal(_) => &[],
            Source::Template(_, tags) => tags.as_slice(),
        };
        let content_type = self.check_header_lines(text, tags)?;
        let part = match source {
            Source::Literal(text) => {
                Part::Fixed(headers::parse(&text, self.escape).map_err(|fault| vec![fault])?)
            }
            Source::Template(template, _) => Part::Template(template),
        };
        Ok((part, content_type))
    }

    /// Checks the names that stand literally in the template, and gives the content type that does.
    fn check_header_lines(&self, text: &str, tags: &[Range<usize>]) -> Result<Option<String>, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut content_type = None;
        // Tags stand in order and apart, so the first that ends behind a place is the one that may hold it.
        let next_tag = |at: usize| tags.get(tags.partition_point(|tag| tag.end <= at));
        let overlap = |from: usize, to: usize| next_tag(from).is_some_and(|tag| tag.start < to);
        let has_block = tags.iter().any(|tag| is_block(&text[tag.clone()]));
        let mut places = Places::of(text);
        for (offset, line) in headers::split_lines(text) {
            // A line that begins inside a tag is no header line.
            if next_tag(offset).is_some_and(|tag| tag.start < offset) {
                continue;
            }
            let pos = places.at(offset + (line.len() - line.trim_start().len()));
            let has_tag = overlap(offset, offset + line.len());
            let Some((name, value)) = line.split_once(':') else {
                if self.escape && !has_tag && !line.trim().is_empty() {
                    faults.push(headers::no_colon(line).at(pos));
                }
                continue;
            };
            // A tag before the colon leaves the name open until it is rendered.
            if overlap(offset, offset + name.len()) {
                continue;
            }
            let name = name.trim();
            faults.extend(headers::check_name(name).err().map(|fault| fault.at(pos)));
            if name.eq_ignore_ascii_case("content-type") {
                let depends = has_tag || has_block;
                if depends && self.escape {
                    faults.push(content_type_depends().at(pos));
                }
                content_type = Some(value.trim().to_owned());
            }
        }
        if faults.is_empty() { Ok(content_type) } else { Err(faults) }
    }

    fn body(&self, content_type: &str) -> Result<Body, Vec<Fault>> {
        // NetBox takes an empty template for none.
        let Some(text) = self.webhook.body_template.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(Body::Default(self.webhook.default_body));
        };
        let place = if self.escape { Place::of_body(content_type) } else { Place::Text };
        match self.source(text, place)? {
            Source::Template(template, _) => Ok(Body::Template(template, place)),
            Source::Literal(text) => {
                if place == Place::Json {
                    json::check(&text).map_err(|fault| vec![fault])?;
                }
                Ok(Body::Fixed(text.into()))
            }
        }
    }
}

/// Whether what a tag encloses may be left out or repeated.
fn is_block(tag: &str) -> bool {
    tag.starts_with("{%")
        || tag.trim_start_matches(['{', '~', ' ', '\t', '\n', '\r']).starts_with(['#', '^'])
            && tag.starts_with("{{")
}

fn content_type_depends() -> Fault {
    Fault::new(
        TemplateErrorKind::InvalidHeader,
        "the content type depends on the event, and escaping in the body follows it",
    )
    .remedy("write it literally, best as `content_type` of the webhook, or set `escape = \"none\"`")
}

/// Prepares a URL, and with escaping on refuses what data must not do to it.
fn prepare(rendered: &str, wrote: Wrote, escape: bool) -> Result<PreparedUrl, Fault> {
    if !escape {
        return url::prepare(rendered);
    }
    // Blanks after the URL are the template's, as values are escaped.
    let prepared = url::prepare(rendered.trim_end())?;
    let invalid = |reason: &str| {
        Fault::new(TemplateErrorKind::InvalidUrl, format!("the URL `{}` {reason}", url::redacted(rendered)))
    };
    if prepared.dropped_user {
        return Err(invalid("has a user name without a password, which is not sent")
            .remedy("write `user:password@`, or `user:@` for an empty one"));
    }
    // Dots are never escaped, so this is the one way for a value to leave its path segment.
    if prepared.had_dot_segments && wrote.escaped {
        return Err(invalid("has a segment `.` or `..`, which would lead to another path")
            .remedy("ask for the value first, or print it into the query"));
    }
    Ok(prepared)
}
