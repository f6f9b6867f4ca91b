//! A prepared request as hyper wants it, and as the record shows it.
//!
//! Invariant: what belongs to the connection is set here and nowhere else: `Host`, where the definition sets none, and
//! `Content-Length`, always.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use hookwire_model::{AttemptError, ErrorKind, Method, PreparedRequest, RequestRecord, wire_name};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use http_body_util::Full;
use sha2::{Digest, Sha256};

/// What the record shows in place of a secret.
const MASK: &str = "***";

/// Makes the request that goes over the wire. What HTTP forbids is an error of kind `url` or `headers`.
pub(crate) fn build(request: &PreparedRequest) -> Result<Request<Full<Bytes>>, AttemptError> {
    let target = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(request.target.as_bytes()))
        .map_err(|error| url_error(&request.target, error))?;
    // `*` is the one target that gets this far without.
    if !request.target.starts_with('/') {
        return Err(url_error(&request.target, "path does not start with slash"));
    }

    // Room for Host and Content-Length too.
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 2);
    if request.header("host").is_none() {
        let mut host = String::with_capacity(request.authority.host.len() + 8);
        request.authority.push_host(&mut host);
        let host = HeaderValue::from_maybe_shared(Bytes::from(host))
            .map_err(|error| url_error(&request.authority.host, error))?;
        headers.insert(HOST, host);
    }
    for (name, value) in &request.headers {
        let parsed = header_name(name).ok_or_else(|| headers_error(name, "is no name of a header"))?;
        if parsed == TRANSFER_ENCODING {
            return Err(headers_error(name, "belongs to the connection; leave it out"));
        }
        if parsed == CONTENT_LENGTH {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(value.clone())
            .map_err(|_| headers_error(name, "has a value with a control character"))?;
        headers.append(parsed, value);
    }
    // A length of zero says that there is no body where one would be expected (RFC 9110 section 8.6).
    if !request.body.is_empty() || request.method != Method::Get {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    }

    let mut built = Request::new(Full::new(request.body.clone()));
    *built.method_mut() = method(request.method);
    *built.uri_mut() = Uri::from(target);
    *built.headers_mut() = headers;
    Ok(built)
}

/// The record of a request, as it goes out: header names capitalised as on the wire, values read as Latin-1, and those
/// of [`PreparedRequest::masked_headers`] masked. `Host`, `Content-Length` and `Connection` are left out.
///
/// `keep_body` says whether the body itself is kept, beside its size and digest.
pub fn record(request: &PreparedRequest, keep_body: bool) -> RequestRecord {
    let is_masked =
        |name: &str| request.masked_headers.iter().any(|masked| masked.eq_ignore_ascii_case(name));
    let headers = request
        .headers
        .iter()
        .filter(|(name, _)| {
            !["host", "content-length", "connection"]
                .iter()
                .any(|left_out| name.eq_ignore_ascii_case(left_out))
        })
        .map(|(name, value)| {
            let value = if is_masked(name) { MASK.to_owned() } else { latin1(value).into_owned() };
            (wire_name(name), value)
        })
        .collect();
    RequestRecord {
        method: request.method.as_str().to_owned(),
        url: request.url(),
        headers,
        body_bytes: request.body.len() as u64,
        body_sha256: HEXLOWER.encode(&Sha256::digest(&request.body)),
        body_base64: keep_body.then(|| request.body.clone()),
    }
}

/// Bytes of a header's value, each as the character of its number (RFC 9110 section 5.5 on ISO-8859-1).
pub(crate) fn latin1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// A header's name. Those of every request, as hookwire spells them, are known already.
fn header_name(name: &str) -> Option<HeaderName> {
    const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
    const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");
    const X_HOOK_SIGNATURE: HeaderName = HeaderName::from_static("x-hook-signature");
    match name {
        "Content-Type" => Some(CONTENT_TYPE),
        "User-Agent" => Some(USER_AGENT),
        "webhook-id" => Some(WEBHOOK_ID),
        "webhook-attempt" => Some(WEBHOOK_ATTEMPT),
        "X-Hook-Signature" => Some(X_HOOK_SIGNATURE),
        other => HeaderName::from_bytes(other.as_bytes()).ok(),
    }
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    }
}

fn url_error(url: &str, cause: impl std::fmt::Display) -> AttemptError {
    AttemptError { kind: ErrorKind::Url, message: format!("{url:?} can't be requested: {cause}") }
}

fn headers_error(name: &str, problem: &str) -> AttemptError {
    AttemptError { kind: ErrorKind::Headers, message: format!("the header {name:?} {problem}") }
}

#[cfg(test)]
mod tests {
    use hookwire_model::Authority;

    use super::*;

    fn request(method: Method, headers: &[(&str, &[u8])], body: &str) -> PreparedRequest {
        PreparedRequest {
            method,
            authority: Authority { https: false, host: "localhost".into(), port: 9000 },
            literal_host: true,
            target: "/a?b=%20".into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned().into(), Bytes::copy_from_slice(value)))
                .collect(),
            masked_headers: vec!["authorization".into()],
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// The head as text.
    fn built(request: &PreparedRequest) -> String {
        match build(request) {
            Ok(built) => {
                let headers = built.headers().iter();
                let headers = headers.map(|(name, value)| format!("{name}={}", latin1(value.as_bytes())));
                format!("{} {} {}", built.method(), built.uri(), headers.collect::<Vec<_>>().join(" "))
            }
            Err(error) => format!("{}: {}", error.kind, error.message),
        }
    }

    #[test]
    fn what_belongs_to_the_connection_is_added() {
        let mut https = request(Method::Post, &[], "x");
        https.authority = Authority { https: true, host: "[::1]".into(), port: 443 };
        let mut relative = request(Method::Post, &[], "");
        relative.target = "a".into();
        let mut spaced = request(Method::Post, &[], "");
        spaced.target = "/a b".into();
        for (request, expected) in [
            (
                request(Method::Post, &[("X-A", b"1")], "{}"),
                "POST /a?b=%20 host=localhost:9000 x-a=1 content-length=2",
            ),
            (request(Method::Get, &[], ""), "GET /a?b=%20 host=localhost:9000"),
            (request(Method::Get, &[], "x"), "GET /a?b=%20 host=localhost:9000 content-length=1"),
            (request(Method::Delete, &[], ""), "DELETE /a?b=%20 host=localhost:9000 content-length=0"),
            (https, "POST /a?b=%20 host=[::1] content-length=1"),
            // A definition may set Host; a length it sets is replaced, as NetBox does it.
            (
                request(Method::Put, &[("host", b"h"), ("Content-Length", b"9")], "x"),
                "PUT /a?b=%20 host=h content-length=1",
            ),
            // Latin-1, and names given twice.
            (
                request(Method::Get, &[("X-A", b"\xe9"), ("x-a", b"\t")], ""),
                "GET /a?b=%20 host=localhost:9000 x-a=é x-a=\t",
            ),
            (request(Method::Get, &[("X A", b"")], ""), "headers: the header \"X A\" is no name of a header"),
            (
                request(Method::Get, &[("X-A", b"\0")], ""),
                "headers: the header \"X-A\" has a value with a control character",
            ),
            (
                request(Method::Get, &[("Transfer-Encoding", b"chunked")], ""),
                "headers: the header \"Transfer-Encoding\" belongs to the connection; leave it out",
            ),
            (relative, "url: \"a\" can't be requested: path does not start with slash"),
            (spaced, "url: \"/a b\" can't be requested: invalid uri character"),
        ] {
            assert_eq!(built(&request), expected);
        }
    }

    #[test]
    fn the_record_masks_and_digests() {
        let headers: &[(&str, &[u8])] = &[
            ("webhook-id", b"dlv_1"),
            ("Authorization", b"Token t"),
            ("X-Name", b"Z\xfcrich"),
            ("Host", b"h"),
        ];
        let mut request = request(Method::Post, headers, "abc");
        let recorded = record(&request, false);
        assert_eq!(
            recorded,
            RequestRecord {
                method: "POST".into(),
                url: "http://localhost:9000/a?b=%20".into(),
                headers: [("Webhook-Id", "dlv_1"), ("Authorization", "***"), ("X-Name", "Zürich")]
                    .map(|(name, value)| (name.into(), value.to_owned()))
                    .to_vec(),
                body_bytes: 3,
                // FIPS 180-2, appendix B.1.
                body_sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
                body_base64: None,
            }
        );
        assert_eq!(record(&request, true).body_base64, Some(Bytes::from_static(b"abc")));
        request.masked_headers = vec!["x-name".into()];
        assert_eq!(record(&request, false).headers[2].1, "***");
    }
}
