//! A request that is ready to be sent, and the authority it goes to.
//!
//! Invariant: a [`PreparedRequest`] is complete. Whoever sends it adds only what belongs to the connection: `Host`,
//! `Content-Length` and `Connection`.

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

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.https { "https" } else { "http" }, self.host, self.port)
    }
}

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
    pub headers: Vec<(String, Bytes)>,
    /// Names, in lower case, of headers whose values the record shows masked.
    pub masked_headers: Vec<String>,
    /// The body; may be empty.
    pub body: Bytes,
}

impl PreparedRequest {
    /// The URL as people read it: the default port left out.
    pub fn url(&self) -> String {
        let Authority { https, host, port } = &self.authority;
        match (https, port) {
            (true, 443) => format!("https://{host}{}", self.target),
            (false, 80) => format!("http://{host}{}", self.target),
            (true, _) => format!("https://{host}:{port}{}", self.target),
            (false, _) => format!("http://{host}:{port}{}", self.target),
        }
    }

    /// The first value of a header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }
}

/// A header's name as it goes out: `webhook-id` as `Webhook-Id`. Names mean the same in any case; the spelling of a
/// definition does not survive HTTP libraries, and this one at least is what receivers are used to.
pub fn wire_name(name: &str) -> String {
    let mut previous = b'-';
    let spelled = name.bytes().map(|byte| {
        let byte = if previous == b'-' { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        previous = byte;
        char::from(byte)
    });
    spelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
