//! A webhook's templates as they may be shown: credentials that somebody wrote into them become `***`.
//!
//! Invariants:
//! - What a record masks by the end of its header's name is masked here by the name that stands in the template; a
//!   value that goes on over several lines is masked to its end, rather too much than too little.
//! - User and password of a URL, and the webhook's own secrets wherever they stand, are masked.

use hookwire_model::Secret;

use crate::CompiledWebhook;
use crate::webhook::{CREDENTIALS, SEARCHED_SECRET_BYTES_MIN};

/// What stands in the place of a masked value.
const MASK: &str = "***";

/// The templates of a webhook, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedTemplates {
    /// Template of the URL.
    pub url: String,
    /// Template of further headers.
    pub additional_headers: String,
    /// Template of the body, if there is one.
    pub body_template: Option<String>,
}

impl CompiledWebhook {
    /// The templates as they may be shown.
    pub fn masked_templates(&self) -> MaskedTemplates {
        let webhook = self.webhook();
        let without_secrets = |text: &str| {
            let secrets = webhook.secrets.iter().map(Secret::expose);
            let searched = secrets.filter(|secret| secret.len() >= SEARCHED_SECRET_BYTES_MIN);
            searched.fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
        };
        MaskedTemplates {
            url: without_secrets(&without_user(&webhook.url)),
            additional_headers: without_secrets(&without_credentials(&webhook.additional_headers)),
            body_template: webhook.body_template.as_deref().map(without_secrets),
        }
    }
}

/// A URL without the user and password that stand before its host.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = end_of_authority(rest);
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{MASK}{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// Where the path begins; a slash within a template expression is part of that.
fn end_of_authority(rest: &str) -> usize {
    let mut open = 0usize;
    for (at, character) in rest.char_indices() {
        match character {
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            '/' | '?' | '#' if open == 0 => return at,
            _ => {}
        }
    }
    rest.len()
}

/// Lines of headers without the values of those that hold credentials.
fn without_credentials(headers: &str) -> String {
    let mut out = String::with_capacity(headers.len());
    // How many expressions of a masked value are still open at the end of a line.
    let mut open = 0;
    for line in headers.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let line_end = &line[content.len()..];
        if open > 0 {
            open = still_open(open, content);
            out.push_str(line_end);
            continue;
        }
        match value_of_credential(content) {
            Some(at) => {
                open = still_open(0, &content[at..]);
                out.push_str(&content[..at]);
                out.push(' ');
                out.push_str(MASK);
            }
            None => out.push_str(content),
        }
        out.push_str(line_end);
    }
    out
}

/// Where the value begins of a header that holds credentials, if the line has one.
fn value_of_credential(line: &str) -> Option<usize> {
    // ASCII letters keep their length, so that places in the one are places in the other.
    let lower = line.to_ascii_lowercase();
    let names = CREDENTIALS.iter().flat_map(|name| lower.match_indices(name));
    let values = names.filter_map(|(at, name)| {
        let after = &lower[at + name.len()..];
        let value = after.trim_start().strip_prefix(':')?;
        Some(line.len() - value.len())
    });
    values.min()
}

fn still_open(open: usize, text: &str) -> usize {
    text.chars().fold(open, |open, character| match character {
        '{' => open + 1,
        '}' => open.saturating_sub(1),
        _ => open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_of_a_url_are_masked() {
        for (url, shown) in [
            ("https://hooks.example/a@b", "https://hooks.example/a@b"),
            ("https://u:p@hooks.example/x", "https://***@hooks.example/x"),
            ("https://{{ a/b }}:p@hooks.example/x?m=c@d", "https://***@hooks.example/x?m=c@d"),
            ("{{ data.url }}", "{{ data.url }}"),
            ("https://u:p@hooks.example", "https://***@hooks.example"),
        ] {
            assert_eq!(without_user(url), shown);
        }
    }

    #[test]
    fn headers_with_credentials_are_masked_to_the_end_of_their_values() {
        for (headers, shown) in [
            ("X-A: 1\nAuthorization: Bearer t0ken\nX-B: 2\n", "X-A: 1\nAuthorization: ***\nX-B: 2\n"),
            ("  cookie : a=b\r\nX: {{ y }}", "  cookie : ***\r\nX: {{ y }}"),
            ("{% if a %}Proxy-Authorization: Basic x{% endif %}", "{% if a %}Proxy-Authorization: ***"),
            ("Authorization: {{\n 'Bearer t0ken'\n}}\nX: 1", "Authorization: ***\n\n\nX: 1"),
            ("{# authorization #}Authorization: Bearer x", "{# authorization #}Authorization: ***"),
            ("X-Authorization-Kind: none", "X-Authorization-Kind: none"),
            (
                "X-Api-Key: abc\nPRIVATE-TOKEN : t\nX-Key-Id: 7",
                "X-Api-Key: ***\nPRIVATE-TOKEN : ***\nX-Key-Id: 7",
            ),
            ("{% if a %}X-Client-Secret: {{ s }}{% endif %}", "{% if a %}X-Client-Secret: ***"),
            ("Tokens: 7\nKey: a", "Tokens: 7\nKey: a"),
        ] {
            assert_eq!(without_credentials(headers), shown);
        }
    }
}
