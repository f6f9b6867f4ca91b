//! Is a request's signature right, and if not, what is wrong with it?
//!
//! Invariants:
//! - A verdict never shows a secret, nor the signature that would have been right.
//! - It is valid only if at least one signature is there and every one that is there is valid under one of the secrets.
//!
//! Sources: NetBox's `X-Hook-Signature`; Standard Webhooks, section "Verifying webhook authenticity".

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Sha256, Sha512};

use crate::wire::Request;

/// The tolerance that Standard Webhooks names; also what the common libraries use.
const TOLERANCE_SECONDS: u64 = 5 * 60;

/// A secret that signatures are checked with. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For `X-Hook-Signature` the text itself is the key; for Standard Webhooks it is `whsec_` and base64.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Is it the empty text, with which nothing is signed?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key for Standard Webhooks, if the text can be one.
    fn standard_key(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(self.0.strip_prefix("whsec_")?).ok()
    }
}

/// Any text is a secret for `X-Hook-Signature`.
impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What there is to say about a request's signatures.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    valid: bool,
    /// One for each signature header that is there.
    checks: Vec<Check>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    scheme: &'static str,
    valid: bool,
    /// What is wrong; null if nothing is.
    diagnosis: Option<String>,
}

impl Verdict {
    /// `None` without secrets: then nobody asked.
    pub(crate) fn of(request: &Request, secrets: &[Secret], now: Timestamp) -> Option<Verdict> {
        if secrets.is_empty() {
            return None;
        }
        let headers = Headers {
            netbox: request.header("x-hook-signature"),
            signature: request.header("webhook-signature"),
            id: request.header("webhook-id"),
            timestamp: request.header("webhook-timestamp"),
        };
        Some(verdict(&headers, &request.body, secrets, now))
    }

    /// The lines for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.checks.is_empty() {
            let absent = "Signature: absent: neither X-Hook-Signature nor webhook-signature was sent";
            return vec![absent.to_owned()];
        }
        let line = |check: &Check| match &check.diagnosis {
            None => format!("Signature: valid ({})", check.scheme),
            Some(diagnosis) => format!("Signature: invalid ({}): {diagnosis}", check.scheme),
        };
        self.checks.iter().map(line).collect()
    }
}

struct Headers<'a> {
    netbox: Option<&'a [u8]>,
    signature: Option<&'a [u8]>,
    id: Option<&'a [u8]>,
    timestamp: Option<&'a [u8]>,
}

fn verdict(headers: &Headers<'_>, body: &[u8], secrets: &[Secret], now: Timestamp) -> Verdict {
    let mut checks = Vec::new();
    let mut note = |scheme, outcome: Result<(), String>| {
        checks.push(Check { scheme, valid: outcome.is_ok(), diagnosis: outcome.err() });
    };
    if let Some(signature) = headers.netbox {
        note("netbox", check_netbox(signature, body, secrets));
    }
    if let Some(signature) = headers.signature {
        note("standard", check_standard(signature, headers, body, secrets, now));
    }
    Verdict { valid: !checks.is_empty() && checks.iter().all(|check| check.valid), checks }
}

fn check_netbox(signature: &[u8], body: &[u8], secrets: &[Secret]) -> Result<(), String> {
    if signature.len() != 128 {
        let hint = match signature.len() {
            64 => " (64 would be SHA-256)",
            88 => " (88 would be base64)",
            _ => "",
        };
        return Err(format!(
            "X-Hook-Signature has {} characters{hint}, and HMAC-SHA512 in hexadecimal has 128",
            signature.len()
        ));
    }
    let sent = unhex(signature).ok_or("X-Hook-Signature is not hexadecimal")?;
    let signs = |key: &str, body: &[u8]| {
        let mac = Hmac::<Sha512>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
        mac.chain_update(body).verify_slice(&sent).is_ok()
    };
    if secrets.iter().any(|secret| signs(&secret.0, body)) {
        return Ok(());
    }
    if secrets.iter().any(|secret| signs(secret.0.trim(), body)) {
        return Err("it was made with the secret without the blanks or line end around it".to_owned());
    }
    let trimmed = body.trim_ascii_end();
    let with_line_end = [body, b"\n"].concat();
    if secrets.iter().any(|secret| signs(&secret.0, trimmed) || signs(&secret.0, &with_line_end)) {
        return Err("it was made over a body with another line end after it".to_owned());
    }
    Err("it was made with another secret, or over another body".to_owned())
}

fn check_standard(
    signatures: &[u8],
    headers: &Headers<'_>,
    body: &[u8],
    secrets: &[Secret],
    now: Timestamp,
) -> Result<(), String> {
    let id = headers.id.ok_or("webhook-id is absent")?;
    let timestamp = headers.timestamp.ok_or("webhook-timestamp is absent")?;
    let signed_at: i64 = std::str::from_utf8(timestamp)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or("webhook-timestamp is no number of seconds")?;
    let sent: Vec<&[u8]> =
        signatures.split(|&byte| byte == b' ').filter_map(|part| part.strip_prefix(b"v1,")).collect();
    if sent.is_empty() {
        return Err("webhook-signature holds no signature that begins with `v1,`".to_owned());
    }
    let sent: Vec<Vec<u8>> = sent
        .into_iter()
        .filter_map(|text| BASE64_STANDARD.decode(text).ok())
        .filter(|mac| mac.len() == 32)
        .collect();
    if sent.is_empty() {
        return Err("webhook-signature is not base64 of the 32 bytes of HMAC-SHA256".to_owned());
    }
    let keys: Vec<Vec<u8>> = secrets.iter().filter_map(Secret::standard_key).collect();
    if keys.is_empty() {
        return Err("no secret given here is `whsec_` with base64 after it".to_owned());
    }
    let signed = keys.iter().any(|key| {
        let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let mac = mac.chain_update(id).chain_update(b".").chain_update(timestamp).chain_update(b".");
        let mac = mac.chain_update(body);
        sent.iter().any(|sent| mac.clone().verify_slice(sent).is_ok())
    });
    let off = now.as_second().abs_diff(signed_at);
    let late = (off > TOLERANCE_SECONDS).then(|| {
        let direction = if signed_at < now.as_second() { "behind" } else { "ahead of" };
        format!("webhook-timestamp is {off} s {direction} this machine's clock, more than the five minutes allowed")
    });
    match (signed, late) {
        (true, None) => Ok(()),
        (true, Some(late)) => Err(format!("the signature is right, but {late}")),
        (false, late) => {
            let other = "it was made with another secret, or over another body, id or timestamp";
            Err(late.map_or_else(|| other.to_owned(), |late| format!("{other}; and {late}")))
        }
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.chunks(2)
        .map(|pair| match *pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HEADERS: Headers<'_> = Headers { netbox: None, signature: None, id: None, timestamp: None };
    /// `printf '{"foo": "bar"}' | openssl dgst -sha512 -hmac s3cret`
    const NETBOX: &str = "8642a6c30f2124cc2ae2ebd828b36467e78d7fdb19d8bbf01421792028f527b66fc0a739d7fe794f4a06d444728dc0f33541ab9d5f2e7ef646ee0237bda6dc17";

    fn lines(headers: Headers<'_>, body: &[u8], secrets: &[&str], now: i64) -> String {
        let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
        let verdict = verdict(&headers, body, &secrets, Timestamp::from_second(now).unwrap());
        let lines = verdict.lines().join("\n");
        assert_eq!(verdict.valid, !lines.contains("invalid") && !lines.contains("absent"), "{lines}");
        lines
    }

    fn netbox(signature: &str, body: &[u8], secrets: &[&str]) -> String {
        lines(Headers { netbox: Some(signature.as_bytes()), ..NO_HEADERS }, body, secrets, 0)
    }

    #[test]
    fn netbox_signatures_and_what_is_wrong_with_them() {
        let body = br#"{"foo": "bar"}"#;
        assert_eq!(netbox(NETBOX, body, &["s3cret"]), "Signature: valid (netbox)");
        assert_eq!(netbox(&NETBOX.to_uppercase(), body, &["old", "s3cret"]), "Signature: valid (netbox)");
        let said: Vec<String> = [
            netbox(NETBOX, b"{}", &["s3cret"]),
            netbox(NETBOX, body, &["secret"]),
            netbox(NETBOX, body, &["s3cret\n"]),
            netbox(NETBOX, b"{\"foo\": \"bar\"}\n", &["s3cret"]),
            netbox(&NETBOX[..64], body, &["s3cret"]),
            netbox(&NETBOX.replace('0', "g"), body, &["s3cret"]),
            netbox("", body, &["s3cret"]),
            lines(NO_HEADERS, body, &["s3cret"], 0),
        ]
        .into();
        insta::assert_snapshot!(said.join("\n"));
    }

    /// The example of the Standard Webhooks specification and its libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &[u8] = b"msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn standard<'a>(signature: &'a str) -> Headers<'a> {
        Headers {
            netbox: None,
            signature: Some(signature.as_bytes()),
            id: Some(ID),
            timestamp: Some(b"1614265330"),
        }
    }

    #[test]
    fn the_standards_own_example_is_valid_for_five_minutes() {
        let valid = "Signature: valid (standard)";
        for now in [AT, AT + 300, AT - 300] {
            assert_eq!(lines(standard(SIGNATURE), BODY, &[SECRET], now), valid, "{now}");
        }
        let two = format!("v1,AAAA v1a,BBBB {SIGNATURE}");
        assert_eq!(lines(standard(&two), BODY, &["s3cret", SECRET], AT), valid, "one of many is enough");
    }

    #[test]
    fn what_is_wrong_with_a_standard_signature() {
        let said: Vec<String> = [
            lines(standard(SIGNATURE), BODY, &[SECRET], AT + 301),
            lines(standard(SIGNATURE), BODY, &[SECRET], AT - 301),
            lines(standard(SIGNATURE), b"{}", &[SECRET], AT),
            lines(standard(SIGNATURE), b"{}", &[SECRET], AT + 301),
            lines(standard(SIGNATURE), BODY, &["s3cret"], AT),
            lines(standard("v1a,AAAA"), BODY, &[SECRET], AT),
            lines(standard("v1,AAAA"), BODY, &[SECRET], AT),
            lines(Headers { id: None, ..standard(SIGNATURE) }, BODY, &[SECRET], AT),
            lines(Headers { timestamp: None, ..standard(SIGNATURE) }, BODY, &[SECRET], AT),
            lines(Headers { timestamp: Some(b"now"), ..standard(SIGNATURE) }, BODY, &[SECRET], AT),
            lines(Headers { netbox: Some(b"00"), ..standard(SIGNATURE) }, BODY, &[SECRET], AT),
        ]
        .into();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "Secret(..)");
    }
}
