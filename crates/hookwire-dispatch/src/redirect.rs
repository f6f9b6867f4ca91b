//! What a redirect makes of a request: the rules of Python's requests, which is what NetBox follows redirects with.
//!
//! Invariants:
//! - A hop's host is not literal: it came from the receiver. Only a hop that stays at the same scheme, host and port
//!   keeps what its definition was trusted with.
//! - `Authorization`, `Cookie` and `Proxy-Authorization` for one origin are not sent to another.

use bytes::Bytes;
use hookwire_model::{Authority, Method, PreparedRequest};
use http::HeaderValue;
use url::Url;

use crate::request::latin1;

/// What to do after a response.
pub(crate) enum Next {
    /// It is the answer.
    Stay,
    /// Send this.
    Follow(Box<PreparedRequest>),
    /// It redirects to where no request can be sent; why.
    Broken(String),
}

/// What to do after a response to `request` with this status and `Location`.
///
/// A redirect without `Location`, or with an empty one, is an answer.
pub(crate) fn next(request: &PreparedRequest, status: u16, location: Option<&HeaderValue>) -> Next {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Next::Stay;
    }
    let Some(location) = location.map(|location| text(location.as_bytes())).filter(|text| !text.is_empty())
    else {
        return Next::Stay;
    };
    let url = match Url::parse(&request.url()).and_then(|base| base.join(&location)) {
        Ok(url) => url,
        Err(error) => return Next::Broken(format!("status {status} leads to no URL: {error}")),
    };
    let https = match url.scheme() {
        "http" => false,
        "https" => true,
        other => return Next::Broken(format!("status {status} leads to {other:?}, which is not HTTP")),
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Next::Broken(format!("status {status} leads to a URL without a host"));
    };
    let authority = Authority { https, host: host.to_owned(), port };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };

    let keeps_body = matches!(status, 307 | 308);
    let method = match (status, request.method) {
        (302 | 303, _) | (301, Method::Post) => Method::Get,
        (_, method) => method,
    };
    let keeps_credentials = keeps_credentials(&request.authority, &authority);
    let same_authority = authority == request.authority;
    let keeps = |name: &str| {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("cookie") || is("proxy-authorization") {
            false
        } else if is("authorization") {
            keeps_credentials
        } else if is("host") {
            same_authority
        } else if is("content-type") || is("content-length") || is("transfer-encoding") {
            keeps_body
        } else {
            true
        }
    };
    Next::Follow(Box::new(PreparedRequest {
        method,
        literal_host: request.literal_host && same_authority,
        authority,
        target,
        headers: request.headers.iter().filter(|(name, _)| keeps(name)).cloned().collect(),
        masked_headers: request.masked_headers.clone(),
        body: if keeps_body { request.body.clone() } else { Bytes::new() },
    }))
}

/// To the same place, or to the same host's HTTPS from its HTTP, each at its own port (requests,
/// `Session.should_strip_auth`).
fn keeps_credentials(from: &Authority, to: &Authority) -> bool {
    from.host == to.host
        && ((from.https == to.https && from.port == to.port)
            || (!from.https && from.port == 80 && to.https && to.port == 443))
}

/// A `Location` as text: servers write UTF-8 into it although HTTP knows only Latin-1 there.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| latin1(bytes).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method) -> PreparedRequest {
        let header =
            |name: &'static str, value: &'static str| (name.into(), Bytes::from_static(value.as_bytes()));
        PreparedRequest {
            method,
            authority: Authority { https: false, host: "a.example".into(), port: 80 },
            literal_host: true,
            target: "/one/two?q=1".into(),
            headers: vec![
                header("Content-Type", "text/plain"),
                header("Authorization", "Token t"),
                header("Cookie", "c"),
                header("X-Hook-Signature", "abc"),
            ],
            masked_headers: vec!["authorization".into()],
            body: Bytes::from_static(b"body"),
        }
    }

    /// `METHOD url body-length names-of-headers [literal]`, or what else happens.
    fn check(method: Method, status: u16, location: &[u8]) -> String {
        let location = HeaderValue::from_bytes(location).unwrap();
        match next(&request(method), status, Some(&location)) {
            Next::Stay => "stay".into(),
            Next::Broken(why) => why,
            Next::Follow(next) => {
                let names: Vec<_> = next.headers.iter().map(|(name, _)| &name[..1]).collect();
                let literal = if next.literal_host { " literal" } else { "" };
                format!("{} {} {} {}{literal}", next.method, next.url(), next.body.len(), names.concat())
            }
        }
    }

    #[test]
    fn method_body_and_headers_follow_requests() {
        use Method::{Delete, Get, Patch, Post, Put};
        for (method, status, expected) in [
            (Post, 301, "GET http://a.example/x 0 AX literal"),
            (Post, 302, "GET http://a.example/x 0 AX literal"),
            (Post, 303, "GET http://a.example/x 0 AX literal"),
            (Post, 307, "POST http://a.example/x 4 CAX literal"),
            (Post, 308, "POST http://a.example/x 4 CAX literal"),
            (Patch, 301, "PATCH http://a.example/x 0 AX literal"),
            (Put, 302, "GET http://a.example/x 0 AX literal"),
            (Delete, 302, "GET http://a.example/x 0 AX literal"),
            (Delete, 307, "DELETE http://a.example/x 4 CAX literal"),
            (Get, 301, "GET http://a.example/x 0 AX literal"),
            (Post, 300, "stay"),
            (Post, 304, "stay"),
            (Post, 305, "stay"),
            (Post, 200, "stay"),
        ] {
            assert_eq!(check(method, status, b"/x"), expected, "{method} {status}");
        }
        assert!(matches!(next(&request(Post), 302, None), Next::Stay));
    }

    #[test]
    fn where_it_leads_decides_what_is_sent_there() {
        for (location, expected) in [
            ("three", "POST http://a.example/one/three 4 CAX literal"),
            ("../up?x#fragment", "POST http://a.example/up?x 4 CAX literal"),
            ("?only=query", "POST http://a.example/one/two?only=query 4 CAX literal"),
            ("http://A.example:80/", "POST http://a.example/ 4 CAX literal"),
            ("https://a.example/", "POST https://a.example/ 4 CAX"),
            ("https://a.example:8443/", "POST https://a.example:8443/ 4 CX"),
            ("http://a.example:8080/", "POST http://a.example:8080/ 4 CX"),
            ("//b.example/x", "POST http://b.example/x 4 CX"),
            ("http://user:pass@b.example", "POST http://b.example/ 4 CX"),
            ("http://[::1]:9/", "POST http://[::1]:9/ 4 CX"),
            ("http://2130706433/", "POST http://127.0.0.1/ 4 CX"),
            ("/\u{e9}", "POST http://a.example/%C3%A9 4 CAX literal"),
            ("", "stay"),
            ("ftp://b.example/", "status 307 leads to \"ftp\", which is not HTTP"),
            ("javascript:1", "status 307 leads to \"javascript\", which is not HTTP"),
            ("http://", "status 307 leads to no URL: empty host"),
            ("http://a:99999/", "status 307 leads to no URL: invalid port number"),
        ] {
            assert_eq!(check(Method::Post, 307, location.as_bytes()), expected, "{location}");
        }
        assert_eq!(
            check(Method::Post, 307, b"/\xe9"),
            "POST http://a.example/%C3%A9 4 CAX literal",
            "Latin-1, as it should be"
        );
    }
}
