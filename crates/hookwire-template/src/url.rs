//! A rendered URL becomes authority and request target, as NetBox's HTTP client (Python's `requests`)
//! prepares it.
//!
//! The rules are those of `requests.models.prepare_url` on top of `urllib3.util.url`: white space before the
//! URL is dropped, scheme and host are lower-cased, a host that is not ASCII goes through IDNA, dot segments
//! are removed, escapes of unreserved characters are decoded, every other character that has no place in its
//! component is percent-encoded, one stray `%` in a component re-quotes all of that component, the fragment
//! is not sent, `user:password@` becomes Basic.
//!
//! Invariants
//! - Whatever comes out has scheme `http` or `https`, a host without blanks, controls or delimiters, and a
//!   target that begins with `/` and holds visible ASCII only.
//! - Every message names the rendered URL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookwire_model::Authority;

use crate::error::{Fault, TemplateErrorKind};
use crate::place::push_percent;
use crate::text::excerpt;

/// A URL that can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreparedUrl {
    pub(crate) authority: Authority,
    pub(crate) target: String,
    /// Value of `Authorization`, from `user:password@`.
    pub(crate) authorization: Option<String>,
    /// Whether the path had `.` or `..` segments, or has some now that `%2e` is a dot.
    pub(crate) had_dot_segments: bool,
    /// Whether there was a user name without a password, which is not sent.
    pub(crate) dropped_user: bool,
}

/// What to write where a URL or a host comes out of data on purpose.
const UNESCAPED: &str = "values are escaped so that data can't choose where a request goes; \
    where it may, write `{{{value}}}`, with Jinja `{{ value|safe }}`";

/// Prepares a rendered URL.
///
/// # Errors
/// With the URL and what is wrong with it.
pub(crate) fn prepare(rendered: &str) -> Result<PreparedUrl, Fault> {
    let url = rendered.trim_start();
    let invalid = |reason: String| {
        Fault::new(TemplateErrorKind::InvalidUrl, format!("the URL `{}` {reason}", redacted(url)))
    };
    if url.is_empty() {
        return Err(Fault::new(TemplateErrorKind::InvalidUrl, "the URL is empty"));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        let fault = invalid("has no scheme".into());
        return Err(if url.to_ascii_lowercase().contains("%3a%2f%2f") {
            fault.remedy(UNESCAPED)
        } else {
            fault.remedy("begin it with `https://` or `http://`")
        });
    };
    let https = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => {
            return Err(invalid("has a scheme that can't be called".into())
                .remedy("begin it with `https://` or `http://`"));
        }
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let (user_info, host_port) = match authority.rsplit_once('@') {
        Some((user_info, host_port)) => (Some(user_info), host_port),
        None => (None, authority),
    };
    let (host, port) = split_port(host_port).ok_or_else(|| invalid("has a malformed host or port".into()))?;
    let port = match port {
        "" => {
            if https {
                443
            } else {
                80
            }
        }
        digits => match digits.parse() {
            Ok(0) => return Err(invalid("has the port 0, where nobody can listen".into())),
            Ok(port) => port,
            Err(_) => return Err(invalid(format!("has the port {digits}, past 65535"))),
        },
    };
    let host = normalize_host(host).map_err(|reason| {
        let fault = invalid(reason);
        if host.contains('%') { fault.remedy(UNESCAPED) } else { fault }
    })?;
    let (authorization, dropped_user) = match user_info.filter(|text| !text.is_empty()) {
        None => (None, false),
        Some(text) => match basic(text) {
            Ok(Some(value)) => (Some(value), false),
            Ok(None) => (None, true),
            Err(c) => {
                return Err(invalid(format!(
                    "has the character {c:?} in its user name or password, and Basic authentication holds Latin-1 only"
                )));
            }
        },
    };

    let mut target = String::with_capacity(rest.len() + 1);
    let had_dot_segments = has_dot_segments(path);
    let path = if had_dot_segments { &remove_dot_segments(path) } else { path };
    if !path.starts_with('/') {
        target.push('/');
    }
    push_component(&mut target, path, is_path_char);
    // A target that begins with `//` would read as an authority.
    let slashes = target.bytes().take_while(|byte| *byte == b'/').count();
    target.drain(..slashes - 1);
    // NetBox's client decodes `%2e` after it removed the dots, and so sends `..`.
    let had_dot_segments = had_dot_segments || has_dot_segments(&target);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        target.push('?');
        push_component(&mut target, query, |byte| is_path_char(byte) || byte == b'?');
    }
    Ok(PreparedUrl {
        authority: Authority { https, host, port },
        target,
        authorization,
        had_dot_segments,
        dropped_user,
    })
}

/// The URL as messages show it: without its password, on one line, not too long. What is told is wrong, so that its parts
/// may not be where they should be.
pub(crate) fn redacted(url: &str) -> String {
    let after_scheme = url.find("://").map(|at| at + 3);
    let begin = after_scheme.or_else(|| url.find(':').map(|at| at + 1)).unwrap_or(0);
    let end = url[begin..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| begin + at);
    let authority = &url[begin..end];
    let has_port = split_port(authority).is_some();
    let login = if after_scheme.is_some() && (authority.contains('@') || has_port) {
        authority
    } else {
        &url[begin..]
    };
    match login.rfind('@') {
        Some(at) => excerpt(&format!("{}***{}", &url[..begin], &url[begin + at..])),
        None => excerpt(url),
    }
}

/// Host and the digits of the port; an IPv6 address stands in brackets.
fn split_port(host_port: &str) -> Option<(&str, &str)> {
    let host_end = match host_port.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host_port.find(':').unwrap_or(host_port.len()),
    };
    let (host, rest) = host_port.split_at(host_end);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, "")),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, digits))
        }
        _ => None,
    }
}

/// The host in lower case and ASCII, or what is wrong with it.
fn normalize_host(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("has no host".into());
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // Zone ids name an interface of this machine and have no place in a webhook.
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(host.to_ascii_lowercase()),
            Err(_) => Err(format!("has {} for an IPv6 address", excerpt(host))),
        };
    }
    let ascii = if host.is_ascii() {
        host.to_ascii_lowercase()
    } else {
        idna::domain_to_ascii_strict(host)
            .map_err(|_| format!("has the host {}, which is no valid international name", excerpt(host)))?
    };
    if ascii.starts_with(['*', '.']) {
        return Err("has a host that begins with `*` or `.`".into());
    }
    // Underscores are common in host names of private networks.
    match ascii.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))) {
        Some(c) => Err(format!("has the character {c:?} in its host")),
        None => Ok(ascii),
    }
}

/// `Basic ...` for `user:password`, percent-decoded; `None` without a password; `Err` with what Latin-1
/// lacks.
fn basic(user_info: &str) -> Result<Option<String>, char> {
    let Some((user, password)) = user_info.split_once(':') else { return Ok(None) };
    let mut plain = latin1(&percent_decode(user))?;
    plain.push(b':');
    plain.extend(latin1(&percent_decode(password))?);
    Ok((plain.len() > 1).then(|| format!("Basic {}", STANDARD.encode(plain))))
}

fn latin1(text: &str) -> Result<Vec<u8>, char> {
    text.chars().map(|c| u8::try_from(c).map_err(|_| c)).collect()
}

/// As Python's `unquote`: what is no UTF-8 afterwards becomes the replacement character.
fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match escaped_byte(&bytes[at..]) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The byte that a `%XX` at the beginning stands for.
fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(*high)? * 16 + digit(*low)?) as u8)
}

fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// `urllib3.util.url._remove_path_dot_segments`, RFC 3986 section 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut output: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => {
                output.pop();
            }
            _ => output.push(segment),
        }
    }
    if path.starts_with('/') && output.first().is_none_or(|first| !first.is_empty()) {
        output.insert(0, "");
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        output.push("");
    }
    output.join("/")
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters of a path: unreserved, sub-delimiters, `:`, `@` and `/` (RFC 3986 section 3.3).
fn is_path_char(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/".contains(&byte)
}

/// Appends a component with what does not belong into it percent-encoded.
fn push_component(out: &mut String, component: &str, allowed: fn(u8) -> bool) {
    let bytes = component.as_bytes();
    let is_encoded =
        (0..bytes.len()).filter(|at| bytes[*at] == b'%').all(|at| escaped_byte(&bytes[at..]).is_some());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        match escaped_byte(&bytes[at..]).filter(|_| is_encoded) {
            Some(escaped) => {
                if is_unreserved(escaped) {
                    out.push(char::from(escaped));
                } else {
                    push_percent(out, escaped);
                }
                at += 3;
            }
            None => {
                if allowed(byte) {
                    out.push(char::from(byte));
                } else {
                    push_percent(out, byte);
                }
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let prepared = prepare(url).unwrap();
        assert_eq!(format!("{}{}", prepared.authority, prepared.target), expected, "{url:?}");
    }

    #[test]
    fn urls_are_prepared_as_requests_does() {
        for (url, expected) in [
            ("http://127.0.0.1:9101", "http://127.0.0.1:9101/"),
            (" \tHTTP://LocalHost/Upper", "http://localhost:80/Upper"),
            ("https://h/a/./b/../c", "https://h:443/a/c"),
            ("http://h/../../x", "http://h:80/x"),
            ("http://h/a/..", "http://h:80/"),
            ("http://h/a/%2e%2E/b", "http://h:80/a/../b"),
            ("http://h?q=1#f", "http://h:80/?q=1"),
            ("http://h/?", "http://h:80/"),
            ("http://h//x", "http://h:80/x"),
            ("http://h/100%", "http://h:80/100%25"),
            ("http://h/100%/%41", "http://h:80/100%25/%2541"),
            ("http://h/%41%2f?%", "http://h:80/A%2F?%25"),
            ("http://h/a b?c=d e", "http://h:80/a%20b?c=d%20e"),
            ("http://h\\x", "http://h:80/%5Cx"),
            ("http://h:/x", "http://h:80/x"),
            ("http://[::1]:9101/v6", "http://[::1]:9101/v6"),
            ("http://my_host/x", "http://my_host:80/x"),
            ("http://bücher.example/ü", "http://xn--bcher-kva.example:80/%C3%BC"),
        ] {
            check(url, expected);
        }
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        let messages: Vec<String> = [
            "",
            "h/x",
            "//h/x",
            "ftp://h/x",
            "http://",
            "http://:80/",
            "http://h:99999/",
            "http://h:8x/",
            "http://*/x",
            "http://.h/x",
            "http://exa mple/x",
            "http://a%2Fb/x",
            "http://[::1/x",
            "http://[fe80::1%25eth0]/",
            "http://user:secret@a|b/",
            "http://\u{4f60}:\u{4f60}@h/",
            "http://a\u{3002}\u{ad}\u{3002}b/",
        ]
        .map(|url| {
            let fault = prepare(url).expect_err(url);
            format!("{url:?}: {}", fault.message)
        })
        .to_vec();
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn dot_segments_are_told_however_they_are_written() {
        for (url, told) in [
            ("http://h/a/b", false),
            ("http://h/a/...", false),
            ("http://h/a/%252e%252e/b", false),
            ("http://h/a/b?x=/../", false),
            ("http://h/a/..", true),
            ("http://h/a/.%2e/b", true),
            ("http://h/%2e", true),
            // A stray percent sign makes all the others stand for themselves.
            ("http://h/a/%2e%2e/%", false),
        ] {
            assert_eq!(prepare(url).unwrap().had_dot_segments, told, "{url}");
        }
    }

    #[test]
    fn credentials_become_basic() {
        let prepared = prepare("http://us%20er:p%40ss@h/userinfo").unwrap();
        assert_eq!(prepared.authorization.as_deref(), Some("Basic dXMgZXI6cEBzcw=="));
        assert_eq!(prepared.target, "/userinfo");
        for (url, dropped) in [("http://user@h/", true), ("http://@h/", false), ("http://:@h/", true)] {
            let prepared = prepare(url).unwrap();
            assert_eq!((prepared.authorization, prepared.dropped_user), (None, dropped), "{url}");
        }
    }
}
