//! The only place that decides about retry: what an attempt's outcome means for its delivery and for its
//! endpoint.
//!
//! | outcome | delivery | endpoint |
//! | --- | --- | --- |
//! | 2xx | done | success |
//! | 408, 5xx but the next row's, no answer | retry, `Retry-After` heeded | failure |
//! | 429, 502, 503, 504, timeout | retry, `Retry-After` heeded | slows down |
//! | 425 | retry, `Retry-After` heeded | alive |
//! | 410 | dead letter | paused |
//! | 1xx, 3xx, other 4xx | retry by the schedule | alive |
//! | cannot be rendered, is no valid request, refused by the egress policy | dead letter | nothing |
//! | no socket for it | waits, not counted | nothing |
//!
//! Invariants:
//! - A retry never comes sooner than the schedule, less its jitter, says, and never sooner than a
//!   `Retry-After` up to the longest backoff: a receiver that always asks to be called again in a second
//!   cannot use up the attempts of days.
//! - Attempts that were cut off count, but a delivery none of whose attempts has a known outcome gets
//!   another.

use std::time::Duration;

use hookwire_model::{AttemptError, DeadReason, ErrorKind, Outcome, RetryPolicy, Timestamp};

use crate::backoff::{backoff, longest_backoff, with_jitter, with_jitter_after};
use crate::retry_after::retry_after;

/// How long a delivery waits that this process had no socket for: others give theirs back within moments.
const STARVED_WAIT: Duration = Duration::from_secs(1);

/// An attempt that ended, and what there is to know about its delivery.
#[derive(Debug, Clone, Copy)]
pub struct Attempted<'a> {
    /// How it ended.
    pub outcome: &'a Outcome,
    /// Whether URL, headers and body could be rendered. Where they could, and yet nothing was sent because
    /// of them, it is what came out of the templates that is wrong.
    pub rendered: bool,
    /// How many attempts were made: this one and interrupted ones among them. From 1.
    pub attempts: u32,
    /// When the event was accepted, or the delivery redriven.
    pub accepted_at: Timestamp,
    /// The time it is.
    pub now: Timestamp,
    /// What the webhook says about retrying.
    pub policy: &'a RetryPolicy,
    /// Chance, from 0 to 1.
    pub jitter: f64,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// To the delivery.
    pub decision: Decision,
    /// To its endpoint.
    pub endpoint: EndpointEffect,
}

/// What happens next to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It is delivered.
    Done,
    /// Another attempt, so long after `now`. A duration, because due times use the store's clock.
    RetryAfter(Duration),
    /// It was none: this process had nothing to make it with. Again, so long after `now`, and it is not counted.
    NotMade(Duration),
    /// No more attempts by itself.
    DeadLetter(DeadReason),
}

/// What an attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum EndpointEffect {
    /// Nothing: no request reached it, and not because of it.
    None,
    /// It took a delivery.
    Success,
    /// It answered and did not take this one: it lives, and this says nothing about the next one.
    Alive,
    /// It failed, or could not be reached.
    Failure,
    /// It wants fewer requests.
    SlowDown {
        /// None at all for so long, if it said so.
        wait: Option<Duration>,
        /// Whether it also failed: too many requests (429) is no failure.
        failing: bool,
    },
    /// It wants no more requests (410).
    Pause,
}

/// What happens to a delivery that is due, before the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Due {
    /// The attempt is made.
    Attempt,
    /// No more attempts by itself.
    DeadLetter(DeadReason),
}

/// What is known of all attempts of a delivery, those before it was redriven among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// There were none.
    Fresh,
    /// There were some, and the outcome of none is known.
    Interrupted,
    /// The outcome of some is known.
    Known,
}

impl Past {
    /// From how many attempts there were, and how many of them were interrupted.
    pub fn new(attempts: u32, interrupted: u32) -> Past {
        match (attempts, interrupted) {
            (0, _) => Past::Fresh,
            (attempts, interrupted) if attempts <= interrupted => Past::Interrupted,
            _ => Past::Known,
        }
    }
}

/// What happens after an attempt.
pub fn decide(attempted: &Attempted<'_>) -> Verdict {
    let (cause, endpoint) = judge(attempted);
    let decision = match cause {
        Cause::Delivered => Decision::Done,
        Cause::Hopeless(reason) => Decision::DeadLetter(reason),
        Cause::Failed { asked } => next_attempt(attempted, asked),
        Cause::Starved => Decision::NotMade(STARVED_WAIT),
    };
    Verdict { decision, endpoint }
}

/// Whether a delivery that is due may be attempted: its attempts or its age may be used up by a lease that
/// was lost, or while no worker ran. `attempts` are those that count, made since it was last redriven.
pub fn before_attempt(
    attempts: u32,
    past: Past,
    accepted_at: Timestamp,
    now: Timestamp,
    policy: &RetryPolicy,
) -> Due {
    // What was spent on a delivery that was only ever interrupted was spent by its workers, not by its
    // receiver.
    if past == Past::Interrupted {
        return Due::Attempt;
    }
    if attempts >= policy.max_attempts.get() {
        Due::DeadLetter(DeadReason::AttemptsExhausted)
    } else if policy.max_age.is_some_and(|max_age| now.saturating_since(accepted_at) > max_age) {
        Due::DeadLetter(DeadReason::AgeExceeded)
    } else {
        Due::Attempt
    }
}

/// Why an attempt ends as it does, before attempts and age are counted.
enum Cause {
    Delivered,
    Failed {
        /// How long the receiver asked to wait.
        asked: Option<Duration>,
    },
    Hopeless(DeadReason),
    /// This process ran out of something.
    Starved,
}

fn judge(attempted: &Attempted<'_>) -> (Cause, EndpointEffect) {
    let failed = Cause::Failed { asked: None };
    match attempted.outcome {
        Outcome::Answered { status, retry_after } => {
            answered(*status, asked(retry_after.as_deref(), attempted))
        }
        Outcome::Unanswered(AttemptError { kind, .. }) => match kind {
            ErrorKind::Timeout => (failed, EndpointEffect::SlowDown { wait: None, failing: true }),
            ErrorKind::Dns
            | ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Reset
            | ErrorKind::Protocol
            | ErrorKind::ResponseBody => (failed, EndpointEffect::Failure),
            // It answered, with a redirect that leads nowhere.
            ErrorKind::Redirect => (failed, EndpointEffect::Alive),
            // A redirect led to an address that may not be called.
            ErrorKind::Egress => (Cause::Hopeless(DeadReason::EgressRefused), EndpointEffect::None),
            ErrorKind::Url | ErrorKind::Headers | ErrorKind::Body => {
                (Cause::Hopeless(unsendable(attempted)), EndpointEffect::None)
            }
            // The worker's own fault, on the way: whether the receiver got the request is not known.
            ErrorKind::Event | ErrorKind::Internal => (failed, EndpointEffect::None),
        },
        Outcome::Unsent(AttemptError { kind, .. }) => match kind {
            ErrorKind::Url | ErrorKind::Headers | ErrorKind::Body => {
                (Cause::Hopeless(unsendable(attempted)), EndpointEffect::None)
            }
            ErrorKind::Egress => (Cause::Hopeless(DeadReason::EgressRefused), EndpointEffect::None),
            ErrorKind::Event => (Cause::Hopeless(DeadReason::UnreadableEvent), EndpointEffect::None),
            ErrorKind::Internal => (Cause::Hopeless(DeadReason::Panic), EndpointEffect::None),
            // Not a socket, say: one is free as soon as another attempt has ended.
            ErrorKind::Dns | ErrorKind::Connect => (Cause::Starved, EndpointEffect::None),
            // Something on this side was missing, such as a file with certificates: it may be there next
            // time.
            ErrorKind::Tls
            | ErrorKind::Reset
            | ErrorKind::Protocol
            | ErrorKind::Timeout
            | ErrorKind::ResponseBody
            | ErrorKind::Redirect => (failed, EndpointEffect::None),
        },
    }
}

fn answered(status: u16, asked: Option<Duration>) -> (Cause, EndpointEffect) {
    let failed = |asked| Cause::Failed { asked };
    match status {
        200..=299 => (Cause::Delivered, EndpointEffect::Success),
        410 => (Cause::Hopeless(DeadReason::Gone), EndpointEffect::Pause),
        429 => (failed(asked), EndpointEffect::SlowDown { wait: asked, failing: false }),
        503 => (failed(asked), EndpointEffect::SlowDown { wait: asked, failing: true }),
        // A gateway tells of one request with these; its `Retry-After` is heeded for the delivery alone.
        502 | 504 => (failed(asked), EndpointEffect::SlowDown { wait: None, failing: true }),
        425 => (failed(asked), EndpointEffect::Alive),
        408 | 500..=599 => (failed(asked), EndpointEffect::Failure),
        // The receiver may be redeployed, a secret be mended: the schedule goes on. 1xx never is a final
        // answer, and above 599 there is nothing that HTTP defines.
        0..=199 | 300..=499 | 600..=u16::MAX => (failed(None), EndpointEffect::Alive),
    }
}

fn asked(header: Option<&str>, attempted: &Attempted<'_>) -> Option<Duration> {
    let asked = retry_after(header?, attempted.now)?;
    Some(asked.min(longest_backoff(&attempted.policy.schedule)))
}

fn unsendable(attempted: &Attempted<'_>) -> DeadReason {
    if attempted.rendered { DeadReason::InvalidRequest } else { DeadReason::RenderError }
}

fn next_attempt(attempted: &Attempted<'_>, asked: Option<Duration>) -> Decision {
    let Attempted { attempts, accepted_at, now, policy, jitter, .. } = *attempted;
    if attempts >= policy.max_attempts.get() {
        return Decision::DeadLetter(DeadReason::AttemptsExhausted);
    }
    let scheduled = with_jitter(backoff(&policy.schedule, attempts), policy.jitter, jitter);
    let asked = asked.map_or(Duration::ZERO, |asked| with_jitter_after(asked, policy.jitter, jitter));
    let wait = scheduled.max(asked);
    let age = now.saturating_since(accepted_at).saturating_add(wait);
    if policy.max_age.is_some_and(|max_age| age > max_age) {
        return Decision::DeadLetter(DeadReason::AgeExceeded);
    }
    Decision::RetryAfter(wait)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use hookwire_model::Schedule;
    use proptest::prelude::*;

    use super::*;

    const SLOWS: EndpointEffect = EndpointEffect::SlowDown { wait: None, failing: true };

    /// Steps of 10 and 100 s, three attempts, no jitter.
    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: NonZeroU32::new(3).unwrap(),
            schedule: Schedule::Steps(vec![Duration::from_secs(10), Duration::from_secs(100)]),
            jitter: 0.0,
            max_age: None,
        }
    }

    fn attempted<'a>(outcome: &'a Outcome, policy: &'a RetryPolicy) -> Attempted<'a> {
        let now = Timestamp::from_secs(1_700_000_000);
        Attempted { outcome, rendered: true, attempts: 1, accepted_at: now, now, policy, jitter: 0.5 }
    }

    fn after(seconds: u64) -> Decision {
        Decision::RetryAfter(Duration::from_secs(seconds))
    }

    fn status(status: u16, retry_after: Option<&str>) -> (Decision, EndpointEffect) {
        let outcome = Outcome::Answered { status, retry_after: retry_after.map(str::to_owned) };
        let Verdict { decision, endpoint } = decide(&attempted(&outcome, &policy()));
        (decision, endpoint)
    }

    fn error(outcome: fn(AttemptError) -> Outcome, kind: ErrorKind) -> (Decision, EndpointEffect) {
        let outcome = outcome(AttemptError { kind, message: "x".into() });
        let Verdict { decision, endpoint } = decide(&attempted(&outcome, &policy()));
        (decision, endpoint)
    }

    #[test]
    fn a_2xx_status_is_done() {
        for code in 200..=299 {
            assert_eq!(status(code, Some("60")), (Decision::Done, EndpointEffect::Success), "{code}");
        }
    }

    #[test]
    fn a_3xx_status_is_retried_by_the_schedule() {
        for code in 300..=399 {
            assert_eq!(status(code, Some("60")), (after(10), EndpointEffect::Alive), "{code}");
        }
    }

    #[test]
    fn a_4xx_status_is_retried_by_the_schedule_too() {
        for code in (400..=499).filter(|code| ![408, 410, 425, 429].contains(code)) {
            assert_eq!(status(code, Some("60")), (after(10), EndpointEffect::Alive), "{code}");
        }
    }

    #[test]
    fn status_408_is_a_failure_and_retry_after_is_heeded() {
        assert_eq!(status(408, None), (after(10), EndpointEffect::Failure));
        assert_eq!(status(408, Some("60")), (after(60), EndpointEffect::Failure));
    }

    #[test]
    fn status_410_is_a_dead_letter_and_pauses() {
        let gone = Decision::DeadLetter(DeadReason::Gone);
        assert_eq!(status(410, Some("60")), (gone, EndpointEffect::Pause));
    }

    #[test]
    fn status_425_is_retried_and_retry_after_is_heeded() {
        assert_eq!(status(425, Some("60")), (after(60), EndpointEffect::Alive));
    }

    #[test]
    fn status_429_slows_the_endpoint_without_a_failure() {
        let slows = |wait| EndpointEffect::SlowDown { wait, failing: false };
        assert_eq!(status(429, None), (after(10), slows(None)));
        assert_eq!(status(429, Some("60")), (after(60), slows(Some(Duration::from_secs(60)))));
    }

    #[test]
    fn status_503_slows_the_endpoint_and_is_a_failure() {
        assert_eq!(status(503, None), (after(10), SLOWS));
        let waits = EndpointEffect::SlowDown { wait: Some(Duration::from_secs(60)), failing: true };
        assert_eq!(status(503, Some("60")), (after(60), waits));
    }

    #[test]
    fn status_502_and_504_slow_the_endpoint() {
        for code in [502, 504] {
            assert_eq!(status(code, None), (after(10), SLOWS), "{code}");
            assert_eq!(status(code, Some("60")), (after(60), SLOWS), "{code}");
        }
    }

    #[test]
    fn any_other_5xx_status_is_a_failure_and_retry_after_is_heeded() {
        for code in (500..=599).filter(|code| ![502, 503, 504].contains(code)) {
            assert_eq!(status(code, None), (after(10), EndpointEffect::Failure), "{code}");
            assert_eq!(status(code, Some("60")), (after(60), EndpointEffect::Failure), "{code}");
        }
    }

    #[test]
    fn what_http_does_not_define_is_retried() {
        for code in [0, 101, 199, 600, 999] {
            assert_eq!(status(code, Some("60")), (after(10), EndpointEffect::Alive), "{code}");
        }
    }

    #[test]
    fn retry_after_never_shortens_the_schedule_and_ends_at_the_longest_backoff() {
        for (header, seconds) in [("0", 10), ("9", 10), ("11", 11), ("100", 100), ("101", 100), ("soon", 10)]
        {
            assert_eq!(status(500, Some(header)).0, after(seconds), "{header}");
        }
        assert_eq!(status(500, Some("99999999999999999999")).0, after(100));
        // 1,700,000,000 is Tue, 14 Nov 2023 22:13:20 GMT.
        assert_eq!(status(503, Some("Tue, 14 Nov 2023 22:14:10 GMT")).0, after(50));
        assert_eq!(status(503, Some("Tue, 14 Nov 2023 22:00:00 GMT")).0, after(10));
    }

    #[test]
    fn no_answer_is_retried() {
        for kind in [
            ErrorKind::Dns,
            ErrorKind::Connect,
            ErrorKind::Tls,
            ErrorKind::Reset,
            ErrorKind::Protocol,
            ErrorKind::ResponseBody,
        ] {
            assert_eq!(error(Outcome::Unanswered, kind), (after(10), EndpointEffect::Failure), "{kind}");
        }
        assert_eq!(error(Outcome::Unanswered, ErrorKind::Timeout), (after(10), SLOWS));
        assert_eq!(error(Outcome::Unanswered, ErrorKind::Redirect), (after(10), EndpointEffect::Alive));
        assert_eq!(error(Outcome::Unanswered, ErrorKind::Internal), (after(10), EndpointEffect::None));
    }

    #[test]
    fn what_may_not_or_cannot_be_sent_is_a_dead_letter_at_once() {
        for outcome in [Outcome::Unsent, Outcome::Unanswered] {
            let dead = |kind| error(outcome, kind);
            let refused = |reason| (Decision::DeadLetter(reason), EndpointEffect::None);
            assert_eq!(dead(ErrorKind::Egress), refused(DeadReason::EgressRefused));
            for kind in [ErrorKind::Url, ErrorKind::Headers, ErrorKind::Body] {
                assert_eq!(dead(kind), refused(DeadReason::InvalidRequest), "{kind}");
            }
        }
        let panicked = Decision::DeadLetter(DeadReason::Panic);
        assert_eq!(error(Outcome::Unsent, ErrorKind::Internal), (panicked, EndpointEffect::None));
    }

    #[test]
    fn what_cannot_be_rendered_is_a_dead_letter_at_once() {
        for kind in [ErrorKind::Url, ErrorKind::Headers, ErrorKind::Body] {
            let outcome = Outcome::Unsent(AttemptError { kind, message: "x".into() });
            let verdict = decide(&Attempted { rendered: false, ..attempted(&outcome, &policy()) });
            assert_eq!(verdict.decision, Decision::DeadLetter(DeadReason::RenderError), "{kind}");
        }
    }

    #[test]
    fn a_trouble_on_this_side_is_retried_and_not_held_against_the_endpoint() {
        for kind in [
            ErrorKind::Tls,
            ErrorKind::Reset,
            ErrorKind::Protocol,
            ErrorKind::Timeout,
            ErrorKind::ResponseBody,
            ErrorKind::Redirect,
        ] {
            assert_eq!(error(Outcome::Unsent, kind), (after(10), EndpointEffect::None), "{kind}");
        }
    }

    #[test]
    fn what_there_was_no_socket_for_was_no_attempt() {
        let policy = policy();
        for kind in [ErrorKind::Dns, ErrorKind::Connect] {
            let outcome = Outcome::Unsent(AttemptError { kind, message: "x".into() });
            for attempts in [1, 3] {
                let Verdict { decision, endpoint } =
                    decide(&Attempted { attempts, ..attempted(&outcome, &policy) });
                assert_eq!(
                    (decision, endpoint),
                    (Decision::NotMade(STARVED_WAIT), EndpointEffect::None),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn attempts_are_used_up_at_the_last_one() {
        let outcome = Outcome::Answered { status: 500, retry_after: None };
        let policy = policy();
        let at = |attempts| decide(&Attempted { attempts, ..attempted(&outcome, &policy) }).decision;
        let dead = Decision::DeadLetter(DeadReason::AttemptsExhausted);
        assert_eq!([at(1), at(2), at(3), at(4)], [after(10), after(100), dead, dead]);
        let done = Outcome::Answered { status: 200, retry_after: None };
        let last = Attempted { attempts: 3, ..attempted(&done, &policy) };
        assert_eq!(decide(&last).decision, Decision::Done);
    }

    #[test]
    fn a_retry_that_would_come_too_late_is_not_made() {
        let outcome = Outcome::Answered { status: 500, retry_after: None };
        let policy = RetryPolicy { max_age: Some(Duration::from_secs(60)), ..policy() };
        let at = |age| {
            let attempted = attempted(&outcome, &policy);
            let accepted_at = attempted.now.saturating_sub(Duration::from_secs(age));
            decide(&Attempted { accepted_at, ..attempted }).decision
        };
        let dead = Decision::DeadLetter(DeadReason::AgeExceeded);
        assert_eq!([at(0), at(50), at(51), at(500)], [after(10), after(10), dead, dead]);
        // An event accepted by a clock that runs ahead of this one has no age yet.
        let attempted = attempted(&outcome, &policy);
        let accepted_at = attempted.now.saturating_add(Duration::from_secs(500));
        assert_eq!(decide(&Attempted { accepted_at, ..attempted }).decision, after(10));
    }

    #[test]
    fn interruptions_alone_are_no_dead_letter() {
        let now = Timestamp::from_secs(1_700_000_000);
        let check = |attempts, interrupted| {
            before_attempt(attempts, Past::new(attempts, interrupted), now, now, &policy())
        };
        assert_eq!(check(0, 0), Due::Attempt);
        assert_eq!(check(3, 3), Due::Attempt);
        assert_eq!(check(300, 300), Due::Attempt);
        assert_eq!(check(2, 1), Due::Attempt);
        let dead = Due::DeadLetter(DeadReason::AttemptsExhausted);
        assert_eq!([check(3, 2), check(3, 0), check(4, 3)], [dead; 3]);
    }

    #[test]
    fn interruptions_before_a_redrive_give_no_further_attempts_after_it() {
        let policy = RetryPolicy { max_age: Some(Duration::from_secs(60)), ..policy() };
        let since = Timestamp::from_secs(1_700_000_000);
        // Six attempts, three of them interrupted, three of them since it was redriven.
        let after = |attempts, seconds| {
            let now = since.saturating_add(Duration::from_secs(seconds));
            before_attempt(attempts, Past::new(6, 3), since, now, &policy)
        };
        assert_eq!(after(2, 0), Due::Attempt);
        assert_eq!(after(3, 0), Due::DeadLetter(DeadReason::AttemptsExhausted));
        assert_eq!(after(1, 61), Due::DeadLetter(DeadReason::AgeExceeded));
    }

    #[test]
    fn an_age_used_up_while_it_waited_is_a_dead_letter_unless_it_was_only_interrupted() {
        let policy = RetryPolicy { max_age: Some(Duration::from_secs(60)), ..policy() };
        let accepted_at = Timestamp::from_secs(1_700_000_000);
        let after = |seconds, attempts, interrupted| {
            let now = accepted_at.saturating_add(Duration::from_secs(seconds));
            before_attempt(attempts, Past::new(attempts, interrupted), accepted_at, now, &policy)
        };
        let dead = Due::DeadLetter(DeadReason::AgeExceeded);
        assert_eq!(after(60, 1, 0), Due::Attempt);
        assert_eq!([after(61, 0, 0), after(61, 1, 0), after(61, 2, 1)], [dead; 3]);
        assert_eq!(after(61, 1, 1), Due::Attempt);
    }

    proptest! {
        #[test]
        fn a_retry_is_within_its_bounds(
            status in 100u16..700, attempts in 1u32..30, jitter in 0.0f64..=1.0,
            retry_after in proptest::option::of("[0-9]{1,7}"),
            max_age in proptest::option::of(0u64..1_000_000), age in 0u64..1_000_000,
        ) {
            let policy = RetryPolicy { max_age: max_age.map(Duration::from_secs), ..RetryPolicy::default() };
            let outcome = Outcome::Answered { status, retry_after };
            let attempted = attempted(&outcome, &policy);
            let accepted_at = attempted.now.saturating_sub(Duration::from_secs(age));
            let verdict = decide(&Attempted { attempts, accepted_at, jitter, ..attempted });
            match verdict.decision {
                Decision::Done => prop_assert!((200..300).contains(&status)),
                Decision::NotMade(_) => prop_assert!(false, "there was an answer"),
                Decision::DeadLetter(DeadReason::Gone) => prop_assert_eq!(status, 410),
                Decision::DeadLetter(DeadReason::AttemptsExhausted) => prop_assert!(attempts >= 10),
                Decision::DeadLetter(reason) => {
                    prop_assert_eq!(reason, DeadReason::AgeExceeded);
                    prop_assert!(max_age.is_some());
                }
                Decision::RetryAfter(wait) => {
                    prop_assert!(attempts < 10);
                    let least = backoff(&policy.schedule, attempts).mul_f64(0.8);
                    let most = longest_backoff(&policy.schedule).mul_f64(1.2);
                    prop_assert!(wait + Duration::from_millis(1) >= least && wait <= most + Duration::from_millis(1));
                    if let Some(max_age) = max_age {
                        prop_assert!(wait <= Duration::from_secs(max_age.saturating_sub(age)));
                    }
                }
            }
        }
    }
}
