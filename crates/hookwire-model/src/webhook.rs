//! Webhooks: where and how to send, as data. Deciding, rendering and sending live elsewhere.
//!
//! Invariant: a [`Secret`] never shows in `Debug`.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::WebhookName;

/// The definition of where and how to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Its name, unique among the webhooks.
    pub name: WebhookName,
    /// Template of the URL.
    pub url: String,
    /// The request method.
    pub method: Method,
    /// Value of `Content-Type`.
    pub content_type: String,
    /// Template of further headers, one `Name: value` a line; may be empty.
    pub additional_headers: String,
    /// Template of the body; without one the default body is sent.
    pub body_template: Option<String>,
    /// The language of the three templates.
    pub template_engine: Engine,
    /// What happens to values on their way into the text.
    pub escape: Escape,
    /// What an unknown name means.
    pub undefined: Undefined,
    /// The form of the body where there is no template for it.
    pub default_body: DefaultBody,
    /// The signatures to make.
    pub signature: Vec<SignatureScheme>,
    /// The current secret, and during a rotation the earlier ones, newest first.
    pub secrets: Vec<Secret>,
    /// Certificates and checks of HTTPS.
    pub tls: Tls,
    /// One deadline for resolving, connecting, sending, response headers and body.
    pub timeout: Duration,
    /// Whether a redirect is followed, as recorded hops of the same attempt.
    pub follow_redirects: bool,
    /// A disabled webhook's deliveries wait.
    pub enabled: bool,
    /// Attempts in flight per endpoint and worker.
    pub concurrency: NonZeroU32,
    /// Attempts per time and endpoint, over all workers.
    pub rate_limit: Option<RateLimit>,
    /// Whether deliveries of one object keep their order.
    pub ordering: Ordering,
    /// With an ordering: what a failed delivery means for those behind it.
    pub on_failure: OnFailure,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
}

impl Webhook {
    /// A webhook with everything but name and URL at its default.
    pub fn new(name: WebhookName, url: impl Into<String>) -> Self {
        Webhook {
            name,
            url: url.into(),
            method: Method::Post,
            content_type: "application/json".into(),
            additional_headers: String::new(),
            body_template: None,
            template_engine: Engine::Handlebars,
            escape: Escape::Auto,
            undefined: Undefined::Strict,
            default_body: DefaultBody::Json,
            signature: vec![SignatureScheme::Netbox],
            secrets: Vec::new(),
            tls: Tls::default(),
            timeout: Duration::from_secs(10),
            follow_redirects: false,
            enabled: true,
            concurrency: NonZeroU32::new(32).expect("32 is not zero"),
            rate_limit: None,
            ordering: Ordering::None,
            on_failure: OnFailure::Block,
            retry: RetryPolicy::default(),
        }
    }
}

/// A closed set of words, as definitions spell them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that definitions use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(ValueError::new(text, [$($word),+].join(", "))),
                }
            }
        }
    };
}

words! {
    /// The methods a webhook may use.
    Method {
        /// GET; carries a body too, as NetBox's does.
        Get = "GET",
        /// POST, the default.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
        /// DELETE; carries a body too, as NetBox's does.
        Delete = "DELETE",
    }
}

words! {
    /// The language of a webhook's templates.
    Engine {
        /// Handlebars, the default.
        Handlebars = "handlebars",
        /// Jinja2, as Python renders it.
        Jinja = "jinja",
    }
}

words! {
    /// What happens to values on their way into a text.
    Escape {
        /// Escaped for the place where they stand, by content type.
        Auto = "auto",
        /// Printed as they are: NetBox's behaviour.
        None = "none",
    }
}

words! {
    /// What an unknown name means to a template.
    Undefined {
        /// Printing it is an error; asking for it is not.
        Strict = "strict",
        /// It prints as nothing.
        Lenient = "lenient",
    }
}

words! {
    /// The form of the body where a webhook has no template for it.
    DefaultBody {
        /// The template context as compact JSON.
        Json = "json",
        /// The bytes that NetBox sends.
        Netbox = "netbox",
    }
}

words! {
    /// A way to sign a request.
    SignatureScheme {
        /// `X-Hook-Signature`: HMAC-SHA512 of the body, in hex.
        Netbox = "netbox",
        /// Standard Webhooks, symmetric: `webhook-signature: v1,...`.
        Standard = "standard",
        /// Standard Webhooks, asymmetric: `webhook-signature: v1a,...`.
        StandardEd25519 = "standard-ed25519",
    }
}

words! {
    /// Whether the deliveries of one object keep their order.
    Ordering {
        /// They go out as room allows.
        None = "none",
        /// One at a time per object, in the order of acceptance.
        Object = "object",
    }
}

words! {
    /// With an ordering: what a failed delivery means for those behind it.
    OnFailure {
        /// They wait until it is delivered, redriven, cancelled or purged.
        Block = "block",
        /// It goes on being retried by itself, out of order.
        Skip = "skip",
        /// It and all but the newest end as superseded.
        Supersede = "supersede",
    }
}

/// A word or number that a definition may not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not known here; use one of: {expected}")]
pub struct ValueError {
    found: String,
    expected: String,
}

impl ValueError {
    pub(crate) fn new(found: &str, expected: impl Into<String>) -> Self {
        ValueError { found: found.chars().take(60).collect(), expected: expected.into() }
    }
}

/// A key to sign with, or a token to present.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a secret. What makes it fit for a signature scheme is checked where the scheme is known.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Secret(secret.into())
    }

    /// The secret itself: never to be logged or shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Certificates and checks of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Whether the server's certificate is checked.
    pub ssl_verification: bool,
    /// PEM file with the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate to present.
    pub client_cert: Option<PathBuf>,
    /// PEM file with its key.
    pub client_key: Option<PathBuf>,
}

impl Default for Tls {
    fn default() -> Self {
        Tls { ssl_verification: true, ca_file: None, client_cert: None, client_key: None }
    }
}

/// So many attempts in a time: `100/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub count: NonZeroU32,
    /// In how long.
    pub per: Duration,
}

impl FromStr for RateLimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused =
            || ValueError::new(text, "a count and a unit, such as \"100/s\", \"600/m\" or \"1000/h\"");
        let (count, unit) = text.split_once('/').ok_or_else(refused)?;
        let per = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(refused()),
        };
        let count = count.trim().parse().map_err(|_| refused())?;
        Ok(RateLimit { count, per: Duration::from_secs(per) })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// When a failed delivery is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first among them.
    pub max_attempts: NonZeroU32,
    /// The waits between attempts, before jitter.
    pub schedule: Schedule,
    /// The random part of a wait: 0.2 makes it 0.8 to 1.2 times as long. From 0 to 1.
    pub jitter: f64,
    /// How long after its acceptance an event is still sent. `None`: as long as there are attempts.
    pub max_age: Option<Duration>,
}

/// The waits between attempts, before jitter.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// These, in order; the last one repeats. Never empty.
    Steps(Vec<Duration>),
    /// Growing by a factor from `initial` to `max_delay`.
    Exponential {
        /// The first wait.
        initial: Duration,
        /// What each wait is multiplied by; at least 1.
        factor: f64,
        /// The longest wait.
        max_delay: Duration,
    },
}

impl Default for RetryPolicy {
    /// Ten attempts over three days: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, with ±20 %.
    fn default() -> Self {
        let steps = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        RetryPolicy {
            max_attempts: NonZeroU32::new(10).expect("10 is not zero"),
            schedule: Schedule::Steps(steps.map(Duration::from_secs).to_vec()),
            jitter: 0.2,
            max_age: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let mut webhook = Webhook::new(WebhookName::new("a").unwrap(), "http://localhost/");
        webhook.secrets = vec![Secret::new("hush")];
        assert!(!format!("{webhook:?}").contains("hush"));
    }

    #[test]
    fn words_read_back_as_they_were_written() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse::<Method>().unwrap(), *method);
        }
        assert_eq!(
            "post".parse::<Method>().unwrap_err().to_string(),
            "\"post\" is not known here; use one of: GET, POST, PUT, PATCH, DELETE"
        );
    }

    #[test]
    fn rates_are_a_count_and_a_unit() {
        for text in ["100/s", "600/m", "1/h"] {
            assert_eq!(text.parse::<RateLimit>().unwrap().to_string(), text);
        }
        for text in ["", "100", "0/s", "1/d", "-1/s"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text:?}");
        }
    }
}
