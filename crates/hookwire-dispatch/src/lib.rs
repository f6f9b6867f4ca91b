//! One attempt: a prepared request goes out over HTTP, and what happened comes back as an outcome.
//!
//! [`HttpDispatcher`] resolves the host, asks the [`EgressPolicy`] about each address, connects (with TLS as the webhook's
//! [`TlsProfile`] says), sends, and reads the response with a cap, all under one deadline. It keeps connections for the
//! next request to the same place. The [`Dial`] seam lets tests see what would be dialled without a packet leaving.
//!
//! Invariants:
//! - An attempt is total: whatever the other side does is an outcome, never an `Err`, and never takes longer than its
//!   deadline.
//! - Each request on the wire is the attempt's own, or a redirect that is recorded as one of its hops.
//! - Which addresses may be called is decided on the address that is dialled, for each connection.
//!
//! Absences: this crate never retries, keeps no queue, renders and signs nothing, and asks for no compression.

mod classify;
mod connection;
mod dial;
mod dispatcher;
mod egress;
mod pool;
mod redirect;
mod request;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookwire_model::{
    Attempt, AttemptError, Hop, Outcome, PreparedRequest, RequestRecord, ResponseRecord, Timestamp, Timings,
};

pub use dial::{Dial, TcpDial};
pub use dispatcher::{DispatchSettings, HttpDispatcher};
pub use egress::{
    AddressRange, EgressMode, EgressPolicy, EgressRule, EgressRuleError, Refusal, RefusalReason, plain_host,
};
pub use request::record;
pub use tls::{TlsError, TlsProfile, TlsProfileId};

/// Whoever makes attempts.
pub trait Dispatch: Send + Sync + 'static {
    /// Makes one attempt, and says how it ended.
    ///
    /// Cancel safety: dropping the future closes the connection; the request may or may not have arrived.
    fn attempt(
        &self,
        request: &PreparedRequest,
        options: &AttemptOptions,
    ) -> impl Future<Output = AttemptReport> + Send;
}

/// What a webhook says about its attempts.
#[derive(Debug, Clone)]
pub struct AttemptOptions {
    /// The deadline for all of it: resolving, connecting, sending, response head and body, redirects.
    pub timeout: Duration,
    /// Certificates and checks of HTTPS.
    pub tls: Arc<TlsProfile>,
    /// Whether redirects are followed; else a 3xx status is an answer like others.
    ///
    /// A redirect to an address that may not be called ends the attempt as unsent, with the hop on record: it is the hop
    /// that was not sent.
    pub follow_redirects: bool,
}

/// What happened. Number and beginning of the attempt are the caller's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong beside an answer: its body broke off or did not end in time, or its redirect could not be
    /// followed.
    pub late_error: Option<AttemptError>,
    /// The address that was dialled for the attempt's own request, or the last one that was tried.
    pub address: Option<SocketAddr>,
    /// The redirects that were followed.
    pub hops: Vec<Hop>,
    /// Where the time went, redirects included; the phase that the deadline cut short has its part.
    pub timings: Timings,
    /// What came back.
    pub response: Option<ResponseRecord>,
    /// How long it took.
    pub duration: Duration,
}

impl AttemptReport {
    /// What went wrong, if something did.
    pub fn error(&self) -> Option<&AttemptError> {
        match &self.outcome {
            Outcome::Answered { .. } => self.late_error.as_ref(),
            Outcome::Unanswered(error) | Outcome::Unsent(error) => Some(error),
        }
    }

    /// The attempt as it is recorded; `request` as [`record`] gives it.
    pub fn into_attempt(self, number: u32, started_at: Timestamp, request: Option<RequestRecord>) -> Attempt {
        let outcome = self.outcome.kind();
        let (status, error) = match self.outcome {
            Outcome::Answered { status, .. } => (Some(status), self.late_error),
            Outcome::Unanswered(error) | Outcome::Unsent(error) => (None, Some(error)),
        };
        Attempt {
            number,
            started_at,
            duration: self.duration,
            outcome,
            status,
            error,
            address: self.address,
            hops: self.hops,
            timings: self.timings,
            request,
            response: self.response,
        }
    }
}

/// Keeps the README's example compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
