//! A request that is ready to be sent, and the authority it goes to.
//!
//! Invariant: a [`PreparedRequest`] is complete. Whoever sends it adds only what belongs to the connection: `Host`,
//! `Content-Length` and `Connection`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::Method;

/// Scheme, host and port of a URL: what a connection is made to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    /// Whether it is `https`; else `http`.
    pub https: bool,
    /// Host in lower case: a name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// Port, also where the URL left it out.
    pub port: u16,
}

impl Authority {
    /// Writes host and port, the port only where it is not the scheme's: the value of `Host` (RFC 9110 section 7.2).
    pub fn push_host(&self, out: &mut String) {
        out.push_str(&self.host);
        if self.port != if self.https { 443 } else { 80 } {
            out.push(':');
            out.push_str(itoa::Buffer::new().format(self.port));
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.https { "https" } else { "http" }, self.host, self.port)
    }
}

/// The name of a header. Those that every request carries are not copied for each.
pub type HeaderText = Cow<'static, str>;

/// A request, rendered, checked and signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedRequest {
    /// The request method.
    pub method: Method,
    /// Where it connects to.
    pub authority: Authority,
    /// Whether host and port stand literally in the definition, rather than coming out of a template: the egress
    /// policy trusts the former more.
    pub literal_host: bool,
    /// Path and query as sent in the request line; begins with `/`.
    pub target: String,
    /// Header names and values in the order they go out; values are bytes because HTTP's are (NetBox sends Latin-1).
    pub headers: Vec<(HeaderText, Bytes)>,
    /// Names, in lower case, of headers whose values the record shows masked.
    pub masked_headers: Vec<String>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl PreparedRequest {
    /// The URL as people read it: the default port left out.
    pub fn url(&self) -> String {
        let mut url = String::with_capacity(self.authority.host.len() + self.target.len() + 16);
        url.push_str(if self.authority.https { "https://" } else { "http://" });
        self.authority.push_host(&mut url);
        url.push_str(&self.target);
        url
    }

    /// The first value of a header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }
}

/// A header's name as it goes out: `webhook-id` as `Webhook-Id`. Names mean the same in any case; the spelling of a
/// definition does not survive HTTP libraries, and this one at least is what receivers are used to.
pub fn wire_name(name: &str) -> HeaderText {
    if let Some(usual) = USUAL_NAMES.iter().find(|usual| usual.eq_ignore_ascii_case(name)) {
        return Cow::Borrowed(usual);
    }
    let mut previous = b'-';
    let spelled = name.bytes().map(|byte| {
        let byte = if previous == b'-' { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        previous = byte;
        char::from(byte)
    });
    Cow::Owned(spelled.collect())
}

/// What most requests carry, as it goes out.
const USUAL_NAMES: [&str; 9] = [
    "Content-Type",
    "User-Agent",
    "Webhook-Id",
    "Webhook-Attempt",
    "Webhook-Timestamp",
    "Webhook-Signature",
    "Webhook-Sequence",
    "X-Hook-Signature",
    "Authorization",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_out_with_each_part_capitalised() {
        for (name, wire) in [("x-CUSTOM-name", "X-Custom-Name"), ("a", "A"), ("", ""), ("-x", "-X")] {
            assert_eq!(wire_name(name), wire);
        }
        for usual in USUAL_NAMES {
            assert_eq!(wire_name(&usual.to_lowercase()), usual);
            // The long way comes to the same.
            assert_eq!(wire_name(&format!("{usual}-")), format!("{usual}-"));
        }
    }

    #[test]
    fn the_default_port_is_not_shown() {
        let mut request = PreparedRequest {
            method: Method::Post,
            authority: Authority { https: true, host: "example.org".into(), port: 443 },
            literal_host: true,
            target: "/a?b".into(),
            headers: vec![("X-A".into(), Bytes::from_static(b"1"))],
            masked_headers: vec![],
            body: Bytes::new(),
        };
        assert_eq!(request.url(), "https://example.org/a?b");
        request.authority.port = 8443;
        assert_eq!(request.url(), "https://example.org:8443/a?b");
        assert_eq!(request.header("x-a"), Some(&b"1"[..]));
    }
}
