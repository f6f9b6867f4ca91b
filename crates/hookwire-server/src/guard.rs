//! Who may ask: tokens, and on loopback the checks that keep a web page in a browser from driving the API.
//!
//! A page from anywhere can make a browser send requests to 127.0.0.1. It cannot choose the `Host` header, cannot leave
//! out `Origin` across sites, and without asking first can send only a form's content types. So on loopback a foreign
//! `Host` or `Origin` and a form's content type are refused, unless a valid token shows that the request is meant.
//!
//! Invariant: `/healthz` and `/readyz` need neither. They tell nothing but health, and to whoever knows the name of a
//! store whether it is this server's.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hookwire_model::Secret;
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// The tokens that requests present as `Authorization: Bearer ...`.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// May do everything.
    pub admin: Option<Secret>,
    /// May look.
    pub read: Option<Secret>,
}

impl Tokens {
    fn is_empty(&self) -> bool {
        self.admin.is_none() && self.read.is_none()
    }

    /// Whether a token allows a request; `None` if it is none of ours.
    fn allows(&self, token: &str, method: &Method) -> Option<bool> {
        let is = |secret: &Option<Secret>| {
            secret
                .as_ref()
                .is_some_and(|secret| bool::from(secret.expose().as_bytes().ct_eq(token.as_bytes())))
        };
        if is(&self.admin) {
            Some(true)
        } else if is(&self.read) {
            Some(matches!(*method, Method::GET | Method::HEAD))
        } else {
            None
        }
    }
}

pub(crate) async fn guard(State(tokens): State<Arc<Tokens>>, request: Request, next: Next) -> Response {
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    match check(&tokens, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(tokens: &Tokens, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if let Some(token) = bearer(headers) {
        return match tokens.allows(token, method) {
            Some(true) => Ok(()),
            Some(false) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this token may only look; use the admin token",
            )),
            None if tokens.is_empty() => Err(unauthorized("this server has no tokens; send none")),
            None => Err(unauthorized("the token is not valid here")),
        };
    }
    if !tokens.is_empty() {
        return Err(unauthorized("send \"Authorization: Bearer <token>\""));
    }
    foreign(headers).map_or(Ok(()), |detail| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)))
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What about a request shows that it may come from a foreign page.
fn foreign(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text(header::HOST).is_some_and(|host| !is_loopback(host)) {
        return Some(
            "the Host header names another host than this machine's loopback; use 127.0.0.1 or a token",
        );
    }
    if let Some(origin) = text(header::ORIGIN)
        && !origin.split_once("://").is_some_and(|(_, host)| is_loopback(host))
    {
        return Some("requests from other origins are refused; use a token");
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]
        .iter()
        .any(|form| content_type.starts_with(form))
        .then_some("a form's content type is refused; send application/json or application/x-ndjson")
}

/// Whether a host, with or without a port, is this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    };
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_foreign_page_cannot_drive_a_loopback_listener() {
        let none = Tokens::default();
        for (pairs, allowed) in [
            (vec![(header::HOST, "127.0.0.1:8080")], true),
            (vec![(header::HOST, "localhost:8080"), (header::ORIGIN, "http://localhost:8080")], true),
            (vec![(header::HOST, "[::1]:8080")], true),
            (vec![(header::HOST, "evil.example")], false),
            (vec![(header::HOST, "127.0.0.1.evil.example:8080")], false),
            (vec![(header::HOST, "127.0.0.1"), (header::ORIGIN, "https://evil.example")], false),
            (vec![(header::HOST, "127.0.0.1"), (header::ORIGIN, "null")], false),
            (vec![(header::HOST, "127.0.0.1"), (header::CONTENT_TYPE, "text/plain;charset=UTF-8")], false),
            (vec![(header::HOST, "127.0.0.1"), (header::CONTENT_TYPE, "application/json")], true),
        ] {
            assert_eq!(check(&none, &Method::POST, &headers(&pairs)).is_ok(), allowed, "{pairs:?}");
        }
    }

    #[test]
    fn tokens_decide_where_there_are_any() {
        let tokens = Tokens { admin: Some(Secret::new("a")), read: Some(Secret::new("r")) };
        let with = |token: &str| {
            headers(&[(header::AUTHORIZATION, &format!("Bearer {token}")), (header::HOST, "hooks.example")])
        };
        assert!(check(&tokens, &Method::POST, &with("a")).is_ok());
        assert!(check(&tokens, &Method::GET, &with("r")).is_ok());
        assert!(check(&tokens, &Method::POST, &with("r")).is_err());
        assert!(check(&tokens, &Method::GET, &with("x")).is_err());
        assert!(check(&tokens, &Method::GET, &headers(&[(header::HOST, "localhost")])).is_err());
    }
}
