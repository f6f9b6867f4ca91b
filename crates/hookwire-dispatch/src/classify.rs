//! What went wrong, in words: every error of the layers below becomes an [`AttemptError`].
//!
//! Invariant: no message holds a path, a query, a header or a body: those may hold secrets, and messages are logged.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hookwire_model::{AttemptError, ErrorKind};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Connect,
    Tls,
    Head,
    Body,
}

pub(crate) fn attempt_error(kind: ErrorKind, message: impl Into<String>) -> AttemptError {
    AttemptError { kind, message: message.into() }
}

/// The name could not be resolved.
pub(crate) fn dns(host: &str, error: &io::Error) -> AttemptError {
    attempt_error(ErrorKind::Dns, format!("{host:?} can't be resolved: {error}"))
}

/// No address took the connection.
pub(crate) fn connect(failures: &[(SocketAddr, io::Error)]) -> AttemptError {
    let tries: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    attempt_error(ErrorKind::Connect, format!("no connection: {}", tries.join("; ")))
}

/// The TLS handshake failed.
pub(crate) fn handshake(host: &str, error: &io::Error) -> AttemptError {
    let mut message = format!("no TLS connection to {host:?}: ");
    match find::<rustls::Error>(error) {
        Some(problem) => push_tls_problem(&mut message, problem),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            message.push_str("the connection was closed during the handshake");
        }
        None => push_chain(&mut message, error),
    }
    attempt_error(ErrorKind::Tls, message)
}

/// What rustls says, and what to do about it where that is known.
fn push_tls_problem(message: &mut String, problem: &rustls::Error) {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
    let days = |from: UnixTime, to: UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
    // In our words where those of rustls are bare or count seconds.
    let words = match problem {
        InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            format!("the server's certificate expired {} days ago", days(*not_after, *time))
        }
        InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            format!("the server's certificate is valid in {} days only", days(*time, *not_before))
        }
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is signed by an authority that is not trusted".into()
        }
        InvalidCertificate(error) if is_authority_s_own(error) => {
            "the server's certificate is self-signed: that of an authority, and no authority that is trusted"
                .into()
        }
        InvalidCertificate(CertificateError::BadSignature) => {
            "the server's certificate is not signed by the authority that is trusted under that name".into()
        }
        InvalidCertificate(other) => other.to_string(),
        other => other.to_string(),
    };
    message.push_str(&words);
    message.push_str(match problem {
        InvalidCertificate(error)
            if matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature)
                || is_authority_s_own(error) =>
        {
            "; if the authority is one of your own, name its certificate in the webhook's ca_file"
        }
        InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "; use a host that the certificate names in the webhook's URL",
        InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "; if the server speaks plain HTTP, the webhook's URL must begin with http://"
        }
        AlertReceived(AlertDescription::CertificateRequired) => {
            "; name the certificate that the server asks for in the webhook's client_cert"
        }
        AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => "; the server does not take the webhook's client_cert",
        _ => "",
    });
}

/// Whether a server showed the certificate of an authority as its own, as `openssl req -x509` makes them. rustls hides what
/// its verifier says of that.
fn is_authority_s_own(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// No response head came over an open connection.
pub(crate) fn no_answer(error: &hyper::Error) -> AttemptError {
    let kind = kind_of(error);
    let mut message = String::new();
    if let Some(problem) = find::<rustls::Error>(error) {
        message.push_str("the TLS connection failed: ");
        push_tls_problem(&mut message, problem);
    } else if error.is_incomplete_message() {
        message.push_str("the connection was closed before a complete response head came");
    } else if error.is_canceled() || error.is_closed() {
        message.push_str("the connection was closed before the request was sent");
    } else {
        if kind == ErrorKind::Protocol {
            message.push_str("the answer can't be read as HTTP: ");
        }
        push_chain(&mut message, error);
    }
    attempt_error(kind, message)
}

/// A hyper error's kind, where a response head was expected. hyper has no enum to match on, so this asks in order and
/// ends with what its remaining kinds have in common: the connection broke.
fn kind_of(error: &hyper::Error) -> ErrorKind {
    if find::<rustls::Error>(error).is_some() {
        // With TLS 1.3 a server refuses a client's certificate only after the handshake.
        ErrorKind::Tls
    } else if error.is_parse() {
        ErrorKind::Protocol
    } else if error.is_user() {
        ErrorKind::Internal
    } else {
        ErrorKind::Reset
    }
}

/// The body broke off after a response head.
pub(crate) fn body(error: &hyper::Error) -> AttemptError {
    let mut message = String::from("the response body broke off: ");
    if find::<io::Error>(error).is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        message.push_str("the connection was closed before its end");
    } else {
        push_chain(&mut message, error);
    }
    attempt_error(ErrorKind::ResponseBody, message)
}

/// The deadline passed before the response head was there.
pub(crate) fn no_answer_in_time(
    timeout: Duration,
    phase: Option<Phase>,
    host: &str,
    address: Option<SocketAddr>,
) -> AttemptError {
    let address = address.map_or_else(|| format!("{host:?}"), |address| address.to_string());
    let waited_for = match phase {
        None | Some(Phase::Resolve) => format!("{host:?} was not resolved"),
        Some(Phase::Connect) => format!("{address} did not take the connection"),
        Some(Phase::Tls) => format!("{address} did not finish the TLS handshake"),
        Some(Phase::Head | Phase::Body) => format!("{address} did not answer"),
    };
    attempt_error(ErrorKind::Timeout, format!("{waited_for} within {timeout:?}"))
}

/// The deadline passed while the body was read.
pub(crate) fn body_not_in_time(timeout: Duration) -> AttemptError {
    attempt_error(ErrorKind::ResponseBody, format!("the response body did not end within {timeout:?}"))
}

/// The error and its causes, each once.
fn push_chain(message: &mut String, error: &(dyn Error + 'static)) {
    let mut last = error.to_string();
    message.push_str(&last);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !last.contains(&text) {
            write!(message, ": {text}").expect("a String takes all that is written");
        }
        last = text;
        cause = error.source();
    }
}

/// An error of this type among an error and its causes; `io::Error` hides one inside where `source` does not look.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = inner.downcast_ref()
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}
