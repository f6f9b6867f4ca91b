//! Signatures: making them for a request, and saying what is wrong with one that arrived.
//!
//! Invariants:
//! - What [`Signer::sign`] makes, [`verify_netbox`] and [`verify_standard`] accept under the same secrets.
//! - Comparing takes the same time wherever two signatures differ.
//! - No message, diagnosis or `Debug` shows a secret or the signature that would have been right.
//!
//! Sources: NetBox's `X-Hook-Signature`; Standard Webhooks 1.0, "Signature scheme" and "Verifying webhook
//! authenticity".

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookwire_model::{HeaderText, Secret, SignatureScheme, Timestamp};
use sha2::{Sha256, Sha512};

/// How far a signature's timestamp may be from the receiver's clock, either way. Standard Webhooks leaves it
/// to the receiver; five minutes is what its libraries allow.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Shortest and longest key of Standard Webhooks, in bytes ("Signature scheme": between 24 and 64 bytes).
const STANDARD_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const NETBOX_HEADER: &str = "X-Hook-Signature";

/// Signs requests with the secrets of one webhook.
///
/// The keyed state of each hash is made once and copied for each request, which halves the cost of signing a
/// short body.
#[derive(Clone)]
pub struct Signer {
    netbox: Option<Hmac<Sha512>>,
    standard: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Makes ready to sign by these schemes with these secrets, newest first.
    ///
    /// NetBox's scheme signs with the newest secret alone, and does not sign without one, or where it is
    /// empty: that is what NetBox does. Standard Webhooks signs with each secret.
    ///
    /// # Errors
    /// [`SecretError`] if Standard Webhooks is asked for without a secret, or with one that it does not
    /// allow; or if a scheme is not supported yet.
    pub fn new(schemes: &[SignatureScheme], secrets: &[Secret]) -> Result<Signer, SecretError> {
        let mut signer = Signer { netbox: None, standard: Vec::new() };
        for scheme in schemes {
            match scheme {
                SignatureScheme::Netbox => {
                    let newest = secrets.first().filter(|secret| !secret.expose().is_empty());
                    signer.netbox = newest.map(netbox_key);
                }
                SignatureScheme::Standard => {
                    if secrets.is_empty() {
                        return Err(SecretError { secret: 0, problem: SecretProblem::Missing });
                    }
                    let keys = secrets.iter().enumerate().map(|(secret, text)| {
                        standard_key(text).map_err(|problem| SecretError { secret, problem })
                    });
                    signer.standard = keys.collect::<Result<_, _>>()?;
                }
                SignatureScheme::StandardEd25519 => {
                    return Err(SecretError { secret: 0, problem: SecretProblem::NotSupportedYet });
                }
            }
        }
        Ok(signer)
    }

    /// Whether [`sign`](Self::sign) adds anything.
    pub fn signs(&self) -> bool {
        self.netbox.is_some() || !self.standard.is_empty()
    }

    /// Adds the signature headers of a request with this `webhook-id`, made at `now`, over this body.
    ///
    /// `webhook-id` itself is not added: every request carries it, signed or not.
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8], headers: &mut Vec<(HeaderText, Bytes)>) {
        if let Some(key) = &self.netbox {
            let digest = key.clone().chain_update(body).finalize().into_bytes();
            headers.push((NETBOX_HEADER.into(), Bytes::from(HEXLOWER.encode(&digest))));
        }
        if !self.standard.is_empty() {
            let seconds = now.as_secs().to_string();
            // 47 characters: `v1,` and the base64 of 32 bytes; and a space.
            let mut signatures = String::with_capacity(48 * self.standard.len());
            for key in &self.standard {
                let mac = standard_mac(key, id.as_bytes(), seconds.as_bytes(), body);
                if !signatures.is_empty() {
                    signatures.push(' ');
                }
                signatures.push_str("v1,");
                BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut signatures);
            }
            headers.push(("webhook-timestamp".into(), Bytes::from(seconds)));
            headers.push(("webhook-signature".into(), Bytes::from(signatures)));
        }
    }
}

/// Shows which schemes it signs by, and no key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("netbox", &self.netbox.is_some())
            .field("standard", &self.standard.len())
            .finish()
    }
}

/// A secret that does not fit the signature scheme it is meant for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SecretError {
    /// Which of the secrets: 0 is the current one, 1 the first of the previous ones.
    pub secret: usize,
    /// What is wrong with it.
    pub problem: SecretProblem,
}

/// What is wrong with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// There is none, and the scheme cannot do without.
    #[error("Standard Webhooks cannot sign without a secret")]
    Missing,
    /// It lacks the prefix of Standard Webhooks.
    #[error("a secret for Standard Webhooks begins with `whsec_`, with the base64 of its bytes after it")]
    Prefix,
    /// What stands after the prefix is no base64.
    #[error("what stands after `whsec_` is not base64 (RFC 4648 section 4, with padding)")]
    Base64,
    /// It is too short or too long.
    #[error("a secret for Standard Webhooks has 24 to 64 bytes behind its base64, this one has {bytes}")]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
    /// The scheme is known, but cannot be used yet.
    #[error("the signature scheme `standard-ed25519` is not supported yet")]
    NotSupportedYet,
}

/// The headers of a request that Standard Webhooks looks at, as they arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardHeaders<'a> {
    /// `webhook-id`.
    pub id: Option<&'a [u8]>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a [u8]>,
    /// `webhook-signature`.
    pub signature: Option<&'a [u8]>,
}

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Diagnosis {
    /// A header that is needed is not there.
    #[error("{header} is absent")]
    Absent {
        /// Its name.
        header: &'static str,
    },
    /// A header is there, and does not have the form it needs.
    #[error("{header} {problem}")]
    Malformed {
        /// Its name.
        header: &'static str,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },
    /// No secret given here can be one for Standard Webhooks.
    #[error("no secret given here fits Standard Webhooks: {0}")]
    Secret(SecretProblem),
    /// It has the right form, and is another one than this request should have.
    #[error("it was made {}", match .hint {
        None => "with another secret, or over another request",
        Some(MismatchHint::SecretEnds) => "with the secret without the blanks or line end around it",
        Some(MismatchHint::BodyEnd) => "over a body with another line end after it",
    })]
    Mismatch {
        /// What went wrong, where a usual mistake explains it.
        hint: Option<MismatchHint>,
    },
    /// The signature is right, and too long ago: somebody may have kept the request and sent it again.
    #[error(
        "it is right, but webhook-timestamp is {} s behind this clock; {} s are allowed",
        .by.as_secs(), TOLERANCE.as_secs()
    )]
    TooOld {
        /// By how much the timestamp is behind the clock.
        by: Duration,
    },
    /// The signature is right, and comes from the future: one of the two clocks is wrong.
    #[error(
        "it is right, but webhook-timestamp is {} s ahead of this clock; {} s are allowed",
        .by.as_secs(), TOLERANCE.as_secs()
    )]
    TooNew {
        /// By how much the timestamp is ahead of the clock.
        by: Duration,
    },
}

/// A usual mistake that explains a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MismatchHint {
    /// The signer left out blanks or a line end around the secret.
    SecretEnds,
    /// The signed body had a line end more, or fewer, after it.
    BodyEnd,
}

/// Checks `X-Hook-Signature` under any of the secrets.
///
/// # Errors
/// The [`Diagnosis`], if the signature is not right.
pub fn verify_netbox(secrets: &[Secret], signature: Option<&[u8]>, body: &[u8]) -> Result<(), Diagnosis> {
    let signature = signature.ok_or(Diagnosis::Absent { header: NETBOX_HEADER })?;
    let malformed = |problem| Diagnosis::Malformed { header: NETBOX_HEADER, problem };
    if signature.len() != 128 {
        let hint = match signature.len() {
            64 => " (64 would be SHA-256)",
            88 => " (88 would be base64)",
            _ => "",
        };
        let found = signature.len();
        return Err(malformed(format!("has {found} characters{hint}, HMAC-SHA512 in hex has 128")));
    }
    let sent = unhex(signature).ok_or_else(|| malformed("is not hexadecimal".into()))?;
    let fits =
        |secret: &Secret, body: &[u8]| netbox_key(secret).chain_update(body).verify_slice(&sent).is_ok();
    if secrets.iter().any(|secret| fits(secret, body)) {
        return Ok(());
    }
    let trimmed_secret = |secret: &Secret| fits(&Secret::new(secret.expose().trim()), body);
    let trimmed_body = body.trim_ascii_end();
    let longer_body = [body, b"\n"].concat();
    let hint = if secrets.iter().any(trimmed_secret) {
        Some(MismatchHint::SecretEnds)
    } else if secrets.iter().any(|secret| fits(secret, trimmed_body) || fits(secret, &longer_body)) {
        Some(MismatchHint::BodyEnd)
    } else {
        None
    };
    Err(Diagnosis::Mismatch { hint })
}

/// Checks `webhook-signature` of Standard Webhooks (v1) under any of the secrets: one good signature of many
/// is enough, since a sender that rotates its secret signs with both. Secrets that do not fit the scheme are
/// passed over, as long as one does.
///
/// The timestamp is looked at last, so that a clock that is wrong does not hide a secret that is wrong.
///
/// # Errors
/// The [`Diagnosis`], if none is right, or the timestamp is more than [`TOLERANCE`] from `now`.
pub fn verify_standard(
    secrets: &[Secret],
    headers: &StandardHeaders<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Diagnosis> {
    let signature = headers.signature.ok_or(Diagnosis::Absent { header: "webhook-signature" })?;
    let id = headers.id.ok_or(Diagnosis::Absent { header: "webhook-id" })?;
    let timestamp = headers.timestamp.ok_or(Diagnosis::Absent { header: "webhook-timestamp" })?;
    let signed_at = seconds(timestamp).ok_or_else(|| Diagnosis::Malformed {
        header: "webhook-timestamp",
        problem: "is no number of seconds since 1970".into(),
    })?;
    let sent = standard_signatures(signature)?;
    let keys = standard_keys(secrets)?;
    let fits = |key: &Hmac<Sha256>, body: &[u8]| {
        let mac = standard_mac(key, id, timestamp, body);
        // No short cut out of this: the time it takes says nothing about which one fits.
        sent.iter().fold(false, |found, sent| mac.clone().verify_slice(sent).is_ok() | found)
    };
    if !keys.iter().any(|key| fits(key, body)) {
        let trimmed = body.trim_ascii_end();
        let longer = [body, b"\n"].concat();
        let body_end = keys.iter().any(|key| fits(key, trimmed) || fits(key, &longer));
        return Err(Diagnosis::Mismatch { hint: body_end.then_some(MismatchHint::BodyEnd) });
    }
    let by = Duration::from_secs(now.as_secs().abs_diff(signed_at));
    match (by > TOLERANCE, signed_at < now.as_secs()) {
        (false, _) => Ok(()),
        (true, true) => Err(Diagnosis::TooOld { by }),
        (true, false) => Err(Diagnosis::TooNew { by }),
    }
}

/// The v1 signatures of a `webhook-signature`; those of other versions are passed over, as the standard says.
fn standard_signatures(header: &[u8]) -> Result<Vec<Vec<u8>>, Diagnosis> {
    let malformed =
        |problem: &str| Diagnosis::Malformed { header: "webhook-signature", problem: problem.into() };
    let texts: Vec<&[u8]> =
        header.split(|byte| *byte == b' ').filter_map(|part| part.strip_prefix(b"v1,")).collect();
    if texts.is_empty() {
        return Err(malformed("holds no signature that begins with `v1,`"));
    }
    let macs = texts.into_iter().filter_map(|text| BASE64_STANDARD.decode(text).ok());
    let macs: Vec<Vec<u8>> = macs.filter(|mac| mac.len() == 32).collect();
    if macs.is_empty() { Err(malformed("is not base64 of the 32 bytes of HMAC-SHA256")) } else { Ok(macs) }
}

fn standard_keys(secrets: &[Secret]) -> Result<Vec<Hmac<Sha256>>, Diagnosis> {
    let mut problem = SecretProblem::Missing;
    let mut keys = Vec::with_capacity(secrets.len());
    for secret in secrets {
        match standard_key(secret) {
            Ok(key) => keys.push(key),
            Err(found) => problem = found,
        }
    }
    if keys.is_empty() { Err(Diagnosis::Secret(problem)) } else { Ok(keys) }
}

/// NetBox's key: the UTF-8 bytes of the secret as it is written.
fn netbox_key(secret: &Secret) -> Hmac<Sha512> {
    Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length")
}

fn standard_key(secret: &Secret) -> Result<Hmac<Sha256>, SecretProblem> {
    let text = secret.expose().strip_prefix("whsec_").ok_or(SecretProblem::Prefix)?;
    let key = BASE64_STANDARD.decode(text).map_err(|_| SecretProblem::Base64)?;
    if !STANDARD_KEY_BYTES.contains(&key.len()) {
        return Err(SecretProblem::Length { bytes: key.len() });
    }
    Ok(Hmac::new_from_slice(&key).expect("HMAC takes a key of any length"))
}

/// What Standard Webhooks signs: `id.timestamp.body`.
fn standard_mac(key: &Hmac<Sha256>, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
    key.clone()
        .chain_update(id)
        .chain_update(b".")
        .chain_update(timestamp)
        .chain_update(b".")
        .chain_update(body)
}

/// Digits alone: Rust's own parser would take a sign.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the Standard Webhooks specification and of its libraries' tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const SIGNATURE: &[u8] = b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    /// `printf '{"foo": "bar"}' | openssl dgst -sha512 -hmac s3cret`
    const NETBOX: &str = "8642a6c30f2124cc2ae2ebd828b36467e78d7fdb19d8bbf01421792028f527b66fc0a739d7fe794f4a06d444728dc0f33541ab9d5f2e7ef646ee0237bda6dc17";

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(*text)).collect()
    }

    fn sign(schemes: &[SignatureScheme], texts: &[&str], at: i64, body: &[u8]) -> Vec<(HeaderText, Bytes)> {
        let mut headers = Vec::new();
        let signer = Signer::new(schemes, &secrets(texts)).unwrap();
        signer.sign(ID, Timestamp::from_secs(at), body, &mut headers);
        assert_eq!(signer.signs(), !headers.is_empty());
        headers
    }

    fn value<'a>(headers: &'a [(HeaderText, Bytes)], name: &str) -> Option<&'a [u8]> {
        headers.iter().find(|(have, _)| have == name).map(|(_, value)| &value[..])
    }

    fn standard<'a>(headers: &'a [(HeaderText, Bytes)]) -> StandardHeaders<'a> {
        StandardHeaders {
            id: Some(ID.as_bytes()),
            timestamp: value(headers, "webhook-timestamp"),
            signature: value(headers, "webhook-signature"),
        }
    }

    fn example() -> StandardHeaders<'static> {
        StandardHeaders {
            id: Some(ID.as_bytes()),
            timestamp: Some(b"1614265330"),
            signature: Some(SIGNATURE),
        }
    }

    fn verdict(headers: &StandardHeaders<'_>, texts: &[&str], body: &[u8], now: i64) -> String {
        match verify_standard(&secrets(texts), headers, body, Timestamp::from_secs(now)) {
            Ok(()) => "valid".into(),
            Err(diagnosis) => diagnosis.to_string(),
        }
    }

    #[test]
    fn the_specifications_example_comes_out() {
        let headers = sign(&[SignatureScheme::Standard], &[SECRET], AT, BODY);
        assert_eq!(value(&headers, "webhook-signature"), Some(SIGNATURE));
        assert_eq!(value(&headers, "webhook-timestamp"), Some(&b"1614265330"[..]));
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn netbox_signs_with_the_newest_secret_as_it_is_written() {
        let headers = sign(&[SignatureScheme::Netbox], &["s3cret", "old"], AT, br#"{"foo": "bar"}"#);
        assert_eq!(headers, [("X-Hook-Signature".into(), Bytes::from_static(NETBOX.as_bytes()))]);
    }

    #[test]
    fn netbox_does_not_sign_without_a_secret() {
        for texts in [&[][..], &[""][..], &["", "old"][..]] {
            assert_eq!(sign(&[SignatureScheme::Netbox], texts, AT, BODY), []);
        }
        assert_eq!(sign(&[], &["s3cret"], AT, BODY), []);
    }

    #[test]
    fn a_rotation_signs_twice_newest_first() {
        let newer = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let both = [SignatureScheme::Standard, SignatureScheme::Netbox];
        let headers = sign(&both, &[newer, SECRET], AT, BODY);
        let signatures = value(&headers, "webhook-signature").unwrap();
        let parts: Vec<&[u8]> = signatures.split(|byte| *byte == b' ').collect();
        assert_eq!((parts.len(), parts[1]), (2, SIGNATURE));
        for secret in [newer, SECRET] {
            assert_eq!(verdict(&standard(&headers), &[secret], BODY, AT), "valid");
        }
        verify_netbox(&secrets(&[newer]), value(&headers, NETBOX_HEADER), BODY).unwrap();
        verify_netbox(&secrets(&[SECRET]), value(&headers, NETBOX_HEADER), BODY).unwrap_err();
    }

    #[test]
    fn secrets_that_do_not_fit_are_refused_by_place_and_reason() {
        let of = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]));
        let (short, least, most, long) = (of(23), of(24), of(64), of(65));
        let refused = |texts: &[&str]| match Signer::new(&[SignatureScheme::Standard], &secrets(texts)) {
            Ok(_) => None,
            Err(error) => Some((error.secret, error.problem)),
        };
        assert_eq!(refused(&[&least, &most]), None);
        assert_eq!(refused(&[]), Some((0, SecretProblem::Missing)));
        assert_eq!(refused(&[""]), Some((0, SecretProblem::Prefix)));
        assert_eq!(refused(&[&least, "s3cret"]), Some((1, SecretProblem::Prefix)));
        assert_eq!(refused(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"]), Some((0, SecretProblem::Base64)));
        assert_eq!(refused(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS-"]), Some((0, SecretProblem::Base64)));
        assert_eq!(refused(&[&short]), Some((0, SecretProblem::Length { bytes: 23 })));
        assert_eq!(refused(&[&long]), Some((0, SecretProblem::Length { bytes: 65 })));
        let ed25519 = Signer::new(&[SignatureScheme::StandardEd25519], &secrets(&[SECRET])).unwrap_err();
        assert!(ed25519.to_string().contains("not supported yet"), "{ed25519}");
    }

    #[test]
    fn netbox_signatures_and_what_is_wrong_with_them() {
        let check = |texts: &[&str], signature: Option<&str>, body: &str| {
            let signature = signature.map(str::as_bytes);
            match verify_netbox(&secrets(texts), signature, body.as_bytes()) {
                Ok(()) => "valid".into(),
                Err(diagnosis) => diagnosis.to_string(),
            }
        };
        let body = r#"{"foo": "bar"}"#;
        assert_eq!(check(&["s3cret"], Some(NETBOX), body), "valid");
        assert_eq!(check(&["old", "s3cret"], Some(&NETBOX.to_uppercase()), body), "valid");
        for (texts, signature, body, said) in [
            (&["s3cret"][..], None, body, "X-Hook-Signature is absent"),
            (&[][..], Some(NETBOX), body, "another secret"),
            (&["secret"], Some(NETBOX), body, "another secret, or over another request"),
            (&["s3cret"], Some(NETBOX), "{}", "another secret, or over another request"),
            (&["s3cret\n"], Some(NETBOX), body, "without the blanks or line end around it"),
            (&["s3cret"], Some(NETBOX), "{\"foo\": \"bar\"}\r\n", "another line end"),
            (&["s3cret"], Some(""), body, "has 0 characters, HMAC-SHA512 in hex has 128"),
            (&["s3cret"], Some(&NETBOX[..64]), body, "(64 would be SHA-256)"),
            (&["s3cret"], Some(&NETBOX[..88]), body, "(88 would be base64)"),
            (&["s3cret"], Some(&NETBOX.replace('0', "g")), body, "is not hexadecimal"),
        ] {
            let found = check(texts, signature, body);
            assert!(found.contains(said), "{found:?} should contain {said:?}");
            assert!(!found.contains("s3cret"), "{found}");
        }
    }

    #[test]
    fn standard_signatures_are_valid_for_five_minutes_either_way() {
        for now in [AT, AT + 300, AT - 300] {
            assert_eq!(verdict(&example(), &[SECRET], BODY, now), "valid", "{now}");
        }
        let at = |now| verify_standard(&secrets(&[SECRET]), &example(), BODY, Timestamp::from_secs(now));
        assert_eq!(at(AT + 301), Err(Diagnosis::TooOld { by: Duration::from_secs(301) }));
        assert_eq!(at(AT - 301), Err(Diagnosis::TooNew { by: Duration::from_secs(301) }));
    }

    #[test]
    fn one_good_standard_signature_of_many_is_enough() {
        let many = [b"v1,AAAA v1a,BBBB v2 ", SIGNATURE].concat();
        let headers = StandardHeaders { signature: Some(&many), ..example() };
        assert_eq!(verdict(&headers, &["s3cret", SECRET], BODY, AT), "valid");
    }

    #[test]
    fn what_is_wrong_with_a_standard_signature() {
        let with = |signature| StandardHeaders { signature: Some(signature), ..example() };
        for (headers, texts, body, said) in [
            (StandardHeaders { id: None, ..example() }, &[SECRET][..], BODY, "webhook-id is absent"),
            (
                StandardHeaders { timestamp: None, ..example() },
                &[SECRET],
                BODY,
                "webhook-timestamp is absent",
            ),
            (
                StandardHeaders { signature: None, ..example() },
                &[SECRET],
                BODY,
                "webhook-signature is absent",
            ),
            (StandardHeaders { timestamp: Some(b"+161426533"), ..example() }, &[SECRET], BODY, "no number"),
            (StandardHeaders { timestamp: Some(b""), ..example() }, &[SECRET], BODY, "no number"),
            (with(b"v1a,AAAA"), &[SECRET], BODY, "no signature that begins with `v1,`"),
            (with(b"v1,AAAA"), &[SECRET], BODY, "not base64 of the 32 bytes"),
            (example(), &["s3cret"], BODY, "no secret given here fits"),
            (example(), &[], BODY, "no secret given here fits"),
            (example(), &[SECRET], b"{}", "another secret, or over another request"),
            (example(), &[SECRET], b"{\"test\": 2432232314}\n", "another line end"),
            (StandardHeaders { id: Some(b"other"), ..example() }, &[SECRET], BODY, "over another request"),
        ] {
            let found = verdict(&headers, texts, body, AT);
            assert!(found.contains(said), "{found:?} should contain {said:?}");
        }
    }

    #[test]
    fn a_signer_does_not_show_its_keys() {
        let signer = Signer::new(&[SignatureScheme::Standard], &secrets(&[SECRET])).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer { netbox: false, standard: 1 }");
    }

    proptest! {
        #[test]
        fn the_specifications_library_makes_the_same_signature(
            key in proptest::collection::vec(any::<u8>(), 24..=64),
            id in "[!-~&&[^.]]{1,40}",
            at in 0i64..4_000_000_000,
            body: String,
        ) {
            let secret = format!("whsec_{}", BASE64_STANDARD.encode(key));
            let oracle = standardwebhooks::Webhook::new(&secret).unwrap();
            let mut headers = Vec::new();
            let signer = Signer::new(&[SignatureScheme::Standard], &secrets(&[&secret])).unwrap();
            signer.sign(&id, Timestamp::from_secs(at), body.as_bytes(), &mut headers);
            let expected = oracle.sign(&id, at, body.as_bytes()).unwrap();
            prop_assert_eq!(value(&headers, "webhook-signature"), Some(expected.as_bytes()));
        }

        #[test]
        fn what_was_signed_verifies_and_nothing_else_does(
            secret in ".{1,40}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
            flip in any::<proptest::sample::Index>(),
        ) {
            let standard_secret = format!("whsec_{}", BASE64_STANDARD.encode([9; 32]));
            let netbox = sign(&[SignatureScheme::Netbox], &[&secret], AT, &body);
            let two = sign(&[SignatureScheme::Standard], &[&standard_secret], AT, &body);
            prop_assert!(verify_netbox(&secrets(&[&secret]), value(&netbox, NETBOX_HEADER), &body).is_ok());
            prop_assert_eq!(verdict(&standard(&two), &[&standard_secret], &body, AT), "valid");
            if !body.is_empty() {
                let mut other = body.clone();
                other[flip.index(body.len())] ^= 1;
                prop_assert!(verify_netbox(&secrets(&[&secret]), value(&netbox, NETBOX_HEADER), &other).is_err());
                prop_assert_ne!(verdict(&standard(&two), &[&standard_secret], &other, AT), "valid");
            }
        }

        #[test]
        fn nothing_that_arrives_breaks_the_check(
            id in proptest::collection::vec(any::<u8>(), 0..8),
            timestamp in "[0-9+-]{0,24}",
            signature in "(v1,)?[A-Za-z0-9+/= ,]{0,60}",
        ) {
            let headers = StandardHeaders {
                id: Some(&id), timestamp: Some(timestamp.as_bytes()), signature: Some(signature.as_bytes()),
            };
            prop_assert_ne!(verdict(&headers, &[SECRET], BODY, AT), "valid");
            prop_assert!(verify_netbox(&secrets(&["s"]), Some(signature.as_bytes()), BODY).is_err());
        }
    }
}
