//! The members of webhooks and event rules, as one table: names, kinds, defaults and meanings.
//!
//! Reading, the JSON Schema, `config show` and the check of the reference page all take them from here.
//!
//! Invariant: a default is what the model does without the member; a test compares the two.

use hookwire_model::{DefaultBody, Engine, Escape, Method, OnFailure, Ordering, SignatureScheme, Undefined};

/// One member of a definition.
#[derive(Debug, Clone, Copy)]
pub struct MemberInfo {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it takes.
    pub kind: MemberKind,
    /// What holds without it, as JSON, which for these values is TOML as well; empty where there is nothing.
    pub default: &'static str,
    /// What it does, in a sentence or two.
    pub description: &'static str,
}

impl MemberInfo {
    /// Whether it cannot be left out.
    pub fn required(&self) -> bool {
        matches!(self.kind, MemberKind::Name | MemberKind::Url | MemberKind::Some(_))
    }
}

/// What kind of value a member takes.
#[derive(Debug, Clone, Copy)]
pub enum MemberKind {
    /// The name of the definition itself.
    Name,
    /// A template of a URL.
    Url,
    /// A text, often a template.
    Text,
    /// A secret, never shown.
    Secret,
    /// A list of secrets: texts, or tables with `secret_env` or `secret_file`.
    Secrets,
    /// The name of an environment variable.
    EnvName,
    /// A file.
    File,
    /// One of some words.
    Word(fn() -> Vec<&'static str>),
    /// One of some words, or a list of them.
    Words(fn() -> Vec<&'static str>),
    /// `true` or `false`.
    Boolean,
    /// A whole number, at least 1.
    Count,
    /// A number within these bounds.
    Number(f64, f64),
    /// A duration with units.
    Duration,
    /// A list of durations, at least one.
    Durations,
    /// A number of attempts per time, such as `100/s`.
    Rate,
    /// A list of texts, at least one; what one looks like.
    Some(&'static str),
    /// A condition, or one as JSON in a string.
    Condition,
    /// A table, or one as JSON in a string.
    Object,
    /// A table with these members.
    Table(&'static [MemberInfo]),
}

const fn member(
    name: &'static str,
    kind: MemberKind,
    default: &'static str,
    description: &'static str,
) -> MemberInfo {
    MemberInfo { name, kind, default, description }
}

/// The words of one of the model's closed sets.
macro_rules! words {
    ($set:ident) => {
        || $set::ALL.iter().map(|word| word.as_str()).collect()
    };
}

/// The members of a webhook, in the order of the documentation.
pub const WEBHOOK_MEMBERS: &[MemberInfo] = &[
    member("name", MemberKind::Name, "", "Its name, unique among the webhooks."),
    member("url", MemberKind::Url, "", "Where it sends to: a template, which gives an http or https URL."),
    member(
        "method",
        MemberKind::Word(words!(Method)),
        "\"POST\"",
        "The request method; all of them carry the body.",
    ),
    member(
        "content_type",
        MemberKind::Text,
        "\"application/json\"",
        "The value of Content-Type. It decides how values in the body are escaped.",
    ),
    member(
        "additional_headers",
        MemberKind::Text,
        "\"\"",
        "Further headers: a template, one `Name: value` a line.",
    ),
    member(
        "body_template",
        MemberKind::Text,
        "",
        "The body: a template. Without one, or with an empty one, the default body is sent.",
    ),
    member(
        "template_engine",
        MemberKind::Word(words!(Engine)),
        "\"handlebars\"",
        "The language of the templates: Handlebars, or Jinja2 as Python renders it.",
    ),
    member(
        "escape",
        MemberKind::Word(words!(Escape)),
        "\"auto\"",
        "Whether values are escaped for the place they stand in, or printed as they are, as NetBox does.",
    ),
    member(
        "undefined",
        MemberKind::Word(words!(Undefined)),
        "\"strict\"",
        "Whether printing an unknown name is an error, or prints nothing.",
    ),
    member(
        "default_body",
        MemberKind::Word(words!(DefaultBody)),
        "\"json\"",
        "The body where there is no template: the context as compact JSON, or the bytes that NetBox sends.",
    ),
    member("secret", MemberKind::Secret, "", "The secret that requests are signed with."),
    member(
        "secret_env",
        MemberKind::EnvName,
        "",
        "The environment variable that holds the secret, in place of `secret`.",
    ),
    member("secret_file", MemberKind::File, "", "The file that holds the secret, in place of `secret`."),
    member(
        "previous_secrets",
        MemberKind::Secrets,
        "[]",
        "Earlier secrets during a rotation, the newest first.",
    ),
    member(
        "signature",
        MemberKind::Words(words!(SignatureScheme)),
        "[\"netbox\"]",
        "How requests are signed if there is a secret: NetBox's X-Hook-Signature, or Standard Webhooks.",
    ),
    member("signing_key", MemberKind::Secret, "", "The private key of \"standard-ed25519\"."),
    member("ssl_verification", MemberKind::Boolean, "true", "Whether the server's certificate is checked."),
    member(
        "ca_file",
        MemberKind::File,
        "",
        "A PEM file with the authorities to trust in place of the system's.",
    ),
    member(
        "client_cert",
        MemberKind::File,
        "",
        "A PEM file with the certificate for mutual TLS; goes with `client_key`.",
    ),
    member(
        "client_key",
        MemberKind::File,
        "",
        "A PEM file with the key for mutual TLS; goes with `client_cert`.",
    ),
    member(
        "timeout",
        MemberKind::Duration,
        "\"10s\"",
        "One deadline for resolving, connecting, TLS, sending, response headers and body.",
    ),
    member(
        "follow_redirects",
        MemberKind::Boolean,
        "false",
        "Whether a redirect is followed, as a recorded hop of the same attempt.",
    ),
    member("enabled", MemberKind::Boolean, "true", "The deliveries of a disabled webhook wait."),
    member(
        "concurrency",
        MemberKind::Count,
        "32",
        "How many attempts may be in flight, per endpoint and worker.",
    ),
    member(
        "rate_limit",
        MemberKind::Rate,
        "",
        "How many attempts may be made per time, per endpoint and over all workers.",
    ),
    member(
        "ordering",
        MemberKind::Word(words!(Ordering)),
        "\"none\"",
        "Whether the deliveries of one object go out one at a time, in the order of acceptance.",
    ),
    member(
        "on_failure",
        MemberKind::Word(words!(OnFailure)),
        "\"block\"",
        "With `ordering`: whether those behind a failed delivery wait, pass it, or take its place.",
    ),
    member(
        "retry",
        MemberKind::Table(RETRY_MEMBERS),
        "",
        "When to try again, and when to give up. Without it there are ten attempts over three days.",
    ),
];

/// The members of a webhook's `retry`.
pub const RETRY_MEMBERS: &[MemberInfo] = &[
    member("max_attempts", MemberKind::Count, "10", "Attempts in all, the first among them."),
    member(
        "schedule",
        MemberKind::Durations,
        r#"["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]"#,
        "The waits between attempts; the last one repeats.",
    ),
    member(
        "initial",
        MemberKind::Duration,
        "",
        "In place of `schedule`, a wait that grows: the first one. 5s where `factor` or `max_delay` is given.",
    ),
    member(
        "factor",
        MemberKind::Number(1.0, 1000.0),
        "",
        "How many times as long each wait is as the one before; 2 where `initial` or `max_delay` is given.",
    ),
    member(
        "max_delay",
        MemberKind::Duration,
        "",
        "The longest wait; a day where `initial` or `factor` is given.",
    ),
    member(
        "jitter",
        MemberKind::Number(0.0, 1.0),
        "0.2",
        "The random part of a wait: 0.2 makes it 0.8 to 1.2 times as long.",
    ),
    member(
        "max_age",
        MemberKind::Duration,
        "",
        "How long after its acceptance an event is still sent; without it only attempts count.",
    ),
];

/// What a growing delay begins with where one of these is given and the others are not: some 43 minutes for ten attempts.
pub(crate) const GROWING_DEFAULTS: [(&str, &str); 3] =
    [("initial", "\"5s\""), ("factor", "2"), ("max_delay", "\"1d\"")];

/// The members of an event rule, in the order of the documentation.
pub const RULE_MEMBERS: &[MemberInfo] = &[
    member("name", MemberKind::Name, "", "Its name, unique among the event rules."),
    member(
        "object_types",
        MemberKind::Some("dcim.site"),
        "",
        "The object types it is for, such as \"dcim.site\"; \"dcim.*\" and \"*\" are allowed.",
    ),
    member(
        "event_types",
        MemberKind::Some("created"),
        "",
        "The events it is for, such as \"created\", \"updated\" and \"deleted\"; \"*\" is allowed.",
    ),
    member(
        "conditions",
        MemberKind::Condition,
        "",
        "What the event must fulfil besides: a condition, or its JSON in a string.",
    ),
    member(
        "webhooks",
        MemberKind::Some("slack"),
        "",
        "The names of the webhooks to send to; each gets a delivery.",
    ),
    member(
        "action_data",
        MemberKind::Object,
        "{}",
        "Merged under `data` for the templates, as NetBox does: a table, or its JSON in a string.",
    ),
    member("enabled", MemberKind::Boolean, "true", "A disabled rule does not match."),
];

/// The names of a table's members.
pub(crate) fn names(table: &[MemberInfo]) -> Vec<&'static str> {
    table.iter().map(|member| member.name).collect()
}
