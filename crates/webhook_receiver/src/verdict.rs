//! Is a request's signature right, and if not, what is wrong with it?
//!
//! Invariants:
//! - A verdict never shows a secret, nor the signature that would have been right.
//! - It is valid only if at least one signature is there and every one that is there is valid under one of the secrets.
//!
//! Absence: no cryptography; [`hookwire_policy`] checks signatures and diagnoses them.

use hookwire_model::{Secret, Timestamp};
use hookwire_policy::{Diagnosis, StandardHeaders, verify_netbox, verify_standard};
use serde::Serialize;

use crate::wire::Request;

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

impl Check {
    fn of(scheme: &'static str, outcome: Result<(), Diagnosis>) -> Check {
        let diagnosis = outcome.err().map(|diagnosis| diagnosis.to_string());
        Check { scheme, valid: diagnosis.is_none(), diagnosis }
    }
}

impl Verdict {
    /// `None` without secrets: then nobody asked.
    pub(crate) fn of(request: &Request, secrets: &[Secret], now: Timestamp) -> Option<Verdict> {
        if secrets.is_empty() {
            return None;
        }
        let netbox: Vec<&[u8]> = request.values("x-hook-signature").collect();
        let standard: Vec<StandardHeaders<'_>> = request
            .values("webhook-signature")
            .map(|signature| StandardHeaders {
                id: request.header("webhook-id"),
                timestamp: request.header("webhook-timestamp"),
                signature: Some(signature),
            })
            .collect();
        Some(verdict(&netbox, &standard, &request.body, secrets, now))
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

/// As many signatures of a scheme are checked: each takes a walk through the body for each secret.
const CHECKS_MAX: usize = 8;

fn verdict(
    netbox: &[&[u8]],
    standard: &[StandardHeaders<'_>],
    body: &[u8],
    secrets: &[Secret],
    now: Timestamp,
) -> Verdict {
    let mut checks = Vec::new();
    for signature in netbox.iter().take(CHECKS_MAX) {
        checks.push(Check::of("netbox", verify_netbox(secrets, Some(signature), body)));
    }
    for headers in standard.iter().take(CHECKS_MAX) {
        checks.push(Check::of("standard", verify_standard(secrets, headers, body, now)));
    }
    for (scheme, count) in [("netbox", netbox.len()), ("standard", standard.len())] {
        if count > CHECKS_MAX {
            let diagnosis = Some(format!("{count} of them, of which {CHECKS_MAX} were checked"));
            checks.push(Check { scheme, valid: false, diagnosis });
        }
    }
    Verdict { valid: !checks.is_empty() && checks.iter().all(|check| check.valid), checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '{"foo": "bar"}' | openssl dgst -sha512 -hmac s3cret`
    const NETBOX: &[u8] = b"8642a6c30f2124cc2ae2ebd828b36467e78d7fdb19d8bbf01421792028f527b66fc0a739d7fe794f4a06d444728dc0f33541ab9d5f2e7ef646ee0237bda6dc17";
    const NETBOX_BODY: &[u8] = br#"{"foo": "bar"}"#;

    /// The example of the Standard Webhooks specification and its libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const NO_STANDARD: StandardHeaders<'_> = StandardHeaders { id: None, timestamp: None, signature: None };
    const STANDARD: StandardHeaders<'_> = StandardHeaders {
        id: Some(b"msg_p5jXN8AQM9LWM0D4loKWxJek"),
        timestamp: Some(b"1614265330"),
        signature: Some(b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    };

    fn lines(
        netbox: Option<&[u8]>,
        standard: StandardHeaders<'_>,
        body: &[u8],
        secrets: &[&str],
        now: i64,
    ) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let netbox: Vec<&[u8]> = netbox.into_iter().collect();
        let standard: Vec<StandardHeaders<'_>> =
            Some(standard).filter(|headers| headers.signature.is_some()).into_iter().collect();
        let verdict = verdict(&netbox, &standard, body, &secrets, Timestamp::from_secs(now));
        let lines = verdict.lines().join("\n");
        assert_eq!(verdict.valid, !lines.contains("invalid") && !lines.contains("absent"), "{lines}");
        lines
    }

    #[test]
    fn what_is_right_is_valid_under_any_of_the_secrets() {
        let secrets = ["old", "s3cret", SECRET];
        assert_eq!(lines(Some(NETBOX), NO_STANDARD, NETBOX_BODY, &secrets, AT), "Signature: valid (netbox)");
        for now in [AT, AT + 300, AT - 300] {
            assert_eq!(lines(None, STANDARD, BODY, &secrets, now), "Signature: valid (standard)", "{now}");
        }
    }

    /// Some receivers read the first line of a name, some the last.
    #[test]
    fn every_signature_that_is_there_counts() {
        let secrets = [Secret::new("s3cret"), Secret::new(SECRET)];
        let wrong = StandardHeaders { signature: Some(b"v1,AAAA"), ..STANDARD };
        let valid = |netbox: &[&[u8]], standard: &[StandardHeaders<'_>]| {
            let body = if netbox.is_empty() { BODY } else { NETBOX_BODY };
            let verdict = verdict(netbox, standard, body, &secrets, Timestamp::from_secs(AT));
            assert!(verdict.checks.len() >= netbox.len().min(CHECKS_MAX) + standard.len());
            verdict.valid
        };
        assert!(valid(&[NETBOX, NETBOX], &[]) && valid(&[], &[STANDARD, STANDARD]));
        for netbox in [[NETBOX, b"00"], [b"00", NETBOX]] {
            assert!(!valid(&netbox, &[]));
        }
        assert!(!valid(&[], &[STANDARD, wrong]) && !valid(&[], &[wrong, STANDARD]));
        assert!(valid(&[NETBOX; CHECKS_MAX], &[]) && !valid(&[NETBOX; CHECKS_MAX + 1], &[]));
    }

    #[test]
    fn what_is_wrong_is_diagnosed() {
        let said: Vec<String> = [
            lines(None, NO_STANDARD, BODY, &["s3cret"], AT),
            lines(Some(b""), NO_STANDARD, BODY, &["s3cret"], AT),
            lines(Some(&NETBOX[..64]), NO_STANDARD, NETBOX_BODY, &["s3cret"], AT),
            lines(Some(&[b'x'; 128]), NO_STANDARD, NETBOX_BODY, &["s3cret"], AT),
            lines(Some(NETBOX), NO_STANDARD, NETBOX_BODY, &["secret"], AT),
            lines(Some(NETBOX), NO_STANDARD, NETBOX_BODY, &["s3cret\n"], AT),
            lines(Some(NETBOX), NO_STANDARD, b"{\"foo\": \"bar\"}\n", &["s3cret"], AT),
            lines(None, STANDARD, BODY, &[SECRET], AT + 301),
            lines(None, STANDARD, BODY, &[SECRET], AT - 301),
            lines(None, STANDARD, b"{}", &[SECRET], AT),
            lines(None, STANDARD, BODY, &["s3cret"], AT),
            lines(None, StandardHeaders { id: None, ..STANDARD }, BODY, &[SECRET], AT),
            lines(None, StandardHeaders { signature: Some(b"v1a,AAAA"), ..STANDARD }, BODY, &[SECRET], AT),
            lines(Some(b"00"), STANDARD, BODY, &[SECRET], AT),
        ]
        .into();
        insta::assert_snapshot!(said.join("\n"));
    }
}
