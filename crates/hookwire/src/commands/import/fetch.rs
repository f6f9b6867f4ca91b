//! Asking NetBox's REST API, page by page.
//!
//! Invariants:
//! - Every request goes to the URL that was given: a redirect is told, not followed, and of a `next` only the query is
//!   taken, because behind a proxy NetBox often does not know its own name.
//! - Every list ends: each page is asked for once, and there are at most [`PAGES_MAX`].

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookwire_netbox::{PageError, read_page};
use hookwire_worker::{Exit, Failure, environment};
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Objects a page. NetBox gives fewer where its MAX_PAGE_SIZE says so.
const PAGE_LEN: usize = 500;
/// Pages of one list: with a NetBox that gives one object a page still more webhooks than anybody has.
const PAGES_MAX: usize = 10_000;
/// The longest page, in bytes: 500 objects, each with templates of 100 kB.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// How to reach NetBox.
pub(super) struct Options<'a> {
    pub(super) url: &'a str,
    pub(super) token_env: &'a str,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) skip_verify: bool,
    /// For one page.
    pub(super) timeout: Duration,
}

/// A NetBox that can be asked.
pub(super) struct NetBox {
    agent: ureq::Agent,
    /// Ends before `/api`.
    url: String,
    authorization: String,
    token_env: String,
}

impl NetBox {
    pub(super) fn new(options: &Options<'_>) -> Result<Self, Failure> {
        let tls = TlsConfig::builder().disable_verification(options.skip_verify);
        let tls = match options.ca_file {
            Some(file) => tls.root_certs(authorities(file)?),
            None => tls.root_certs(system_authorities()),
        };
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(options.timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("hookwire/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(NetBox {
            agent,
            url: base(options.url)?,
            authorization: authorization(options.token_env)?,
            token_env: options.token_env.to_owned(),
        })
    }

    /// All objects of `/api/extras/<list>/`.
    pub(super) fn list(&self, list: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut query = format!("limit={PAGE_LEN}");
        let mut asked = HashSet::new();
        while asked.len() < PAGES_MAX && asked.insert(query.clone()) {
            let url = format!("{}/api/extras/{list}/?{query}", self.url);
            let page = read_page(&self.get(&url)?).map_err(|error| self.no_page(&url, error))?;
            items.extend(page.items);
            match page.next.as_deref().and_then(|next| next.split_once('?')) {
                Some((_, next)) => query = next.to_owned(),
                None => return Ok(items),
            }
        }
        let message =
            format!("{}/api/extras/{list}/ has pages without an end; the last was ?{query}", self.url);
        Err(Failure::message(Exit::Data, message))
    }

    fn get(&self, url: &str) -> Result<String, Failure> {
        let unreachable = |error: ureq::Error| {
            let remedy = match &error {
                // rustls reports through the I/O error that ends the handshake.
                ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    "; if its certificate comes from an authority of your own, name that with --ca-file"
                }
                ureq::Error::Timeout(_) => "; give it more time with --timeout",
                _ => "",
            };
            let reason = reason(&error);
            Failure::message(Exit::Unavailable, format!("{} cannot be reached: {reason}{remedy}", self.url))
        };
        let request = self.agent.get(url).header("authorization", &self.authorization);
        let mut answer = request.header("accept", "application/json").call().map_err(unreachable)?;
        let status = answer.status().as_u16();
        let location =
            answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body =
            answer.body_mut().with_config().limit(PAGE_BYTES_MAX).read_to_string().map_err(unreachable)?;
        match status {
            200 => Ok(body),
            300..400 => {
                let location = location.unwrap_or_else(|| "nowhere".into());
                let message = if location.contains("/login") {
                    format!(
                        "{url} sends to a login page ({location}), so this is not NetBox's REST API; give the URL that NetBox itself has, without a proxy that asks for a login"
                    )
                } else {
                    format!(
                        "{url} redirects to {location}; give --url as it is there, so that the token is sent to nobody else"
                    )
                };
                Err(Failure::message(Exit::Unavailable, message))
            }
            _ => Err(self.refused(url, status, &body)),
        }
    }

    fn refused(&self, url: &str, status: u16, body: &str) -> Failure {
        let detail = match read_page(body) {
            Err(PageError::Refused(detail)) => format!(": {}", detail.trim_end_matches('.')),
            _ => String::new(),
        };
        let remedy = match status {
            401 | 403 => format!(
                "; the token in {} has to be valid, and its user needs the permissions extras.view_webhook and extras.view_eventrule",
                self.token_env
            ),
            404 => "; give --url as the address of NetBox's start page, and note that event rules came with NetBox 3.7"
                .to_owned(),
            429 | 500.. => "; NetBox or a proxy before it has a problem, so try again later".to_owned(),
            _ => String::new(),
        };
        Failure::message(Exit::Unavailable, format!("{url} answers with status {status}{detail}{remedy}"))
    }

    fn no_page(&self, url: &str, error: PageError) -> Failure {
        let error = match error {
            PageError::Html => anyhow::anyhow!(
                "it is a page for people; give --url as the address of NetBox's start page, such as https://netbox.example.org"
            ),
            error => error.into(),
        };
        Failure::new(Exit::Data, error.context(format!("{url} is no list of NetBox's")))
    }
}

/// What went wrong, in plain words where the library's own are none.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "there is no host of that name".into(),
        ureq::Error::Timeout(_) => "it takes too long".into(),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there".into()
        }
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The URL up to `/api`, however much of it was copied.
fn base(url: &str) -> Result<String, Failure> {
    let usage = |message: String| Failure::message(Exit::Usage, message);
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(usage(format!("--url {url:?} has no scheme; write it like https://netbox.example.org")));
    };
    if !matches!(scheme, "http" | "https") || rest.is_empty() || rest.contains(['?', '#', ' ']) {
        return Err(usage(format!(
            "--url {url:?} is no address of a NetBox; write it like https://netbox.example.org"
        )));
    }
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        return Err(usage("--url holds credentials; the token goes into the variable of --token-env".into()));
    }
    let rest = rest.split("/api/").next().unwrap_or_default().trim_end_matches('/');
    Ok(format!("{scheme}://{}", rest.strip_suffix("/api").unwrap_or(rest)))
}

/// The `Authorization` of a token: `Bearer` for those of 4.5 and later, which begin with `nbt_`, else `Token`.
fn authorization(variable: &str) -> Result<String, Failure> {
    let usage = |message: String| Failure::message(Exit::Usage, message);
    let value = environment(variable).unwrap_or_default();
    let value = value.trim();
    if value.is_empty() {
        return Err(usage(format!("the environment variable {variable} of --token-env is not set")));
    }
    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(usage(format!("the environment variable {variable} holds something else than a token")));
    }
    Ok(match value {
        whole if whole.starts_with("Token ") || whole.starts_with("Bearer ") => whole.to_owned(),
        token if token.starts_with("nbt_") => format!("Bearer {token}"),
        token => format!("Token {token}"),
    })
}

/// The authorities of a PEM file.
fn authorities(file: &Path) -> Result<RootCerts, Failure> {
    let context = format!("--ca-file {}", file.display());
    let text = std::fs::read(file)
        .map_err(|error| Failure::new(Exit::NoInput, anyhow::Error::new(error).context(context.clone())))?;
    let certificates = parse_pem(&text).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<Certificate<'static>> = certificates.collect();
    if certificates.is_empty() {
        return Err(Failure::message(Exit::NoInput, format!("{context} holds no certificate in PEM form")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// Those that this machine trusts; where it has none, those that browsers trust.
fn system_authorities() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::Specific(Arc::new(found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_understood_however_much_of_it_was_copied() {
        for (given, base_url) in [
            ("https://netbox.example.org", "https://netbox.example.org"),
            ("https://netbox.example.org/", "https://netbox.example.org"),
            ("https://example.org/netbox/", "https://example.org/netbox"),
            ("https://netbox.example.org/api/", "https://netbox.example.org"),
            ("https://netbox.example.org/api/extras/webhooks/", "https://netbox.example.org"),
            (" http://127.0.0.1:8000/netbox/api ", "http://127.0.0.1:8000/netbox"),
        ] {
            assert_eq!(base(given).unwrap(), base_url, "{given}");
        }
        for given in ["netbox.example.org", "ftp://x", "https://", "https://a/?b", "https://me:pw@a/"] {
            let failure = base(given).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{given}");
            assert!(!failure.to_string().contains("pw"), "{failure}");
        }
    }
}
