//! What becomes of a delivery whose receiver is down for three days: each attempt, its wait, and the end.

use std::time::Duration;

use hookwire_model::{AttemptError, ErrorKind, Outcome, RetryPolicy, Timestamp};
use hookwire_policy::{Attempted, Decision, EndpointEffect, Health, Verdict, decide};

fn main() {
    let accepted_at: Timestamp = "2026-11-20T08:00:00Z".parse().expect("it is RFC 3339");
    let back_at = accepted_at.saturating_add(Duration::from_secs(3 * 86_400));
    let policy = RetryPolicy::default();
    let mut health = Health::default();
    let mut now = accepted_at;
    for attempts in 1.. {
        let outcome = if now < back_at {
            Outcome::Unanswered(AttemptError {
                kind: ErrorKind::Connect,
                message: "connection refused".into(),
            })
        } else {
            Outcome::Answered { status: 200, retry_after: None }
        };
        // The middle of the jitter; a worker draws it by chance.
        let jitter = 0.5;
        let Verdict { decision, endpoint } = decide(&Attempted {
            outcome: &outcome,
            rendered: true,
            attempts,
            accepted_at,
            now,
            policy: &policy,
            jitter,
        });
        health.observe(endpoint, now);
        let trouble = if endpoint == EndpointEffect::Failure { ", the endpoint failed" } else { "" };
        match decision {
            Decision::RetryAfter(wait) | Decision::NotMade(wait) => {
                println!("attempt {attempts:2} at {now}: again after {} s{trouble}", wait.as_secs());
                now = now.saturating_add(wait);
            }
            Decision::Done => return println!("attempt {attempts:2} at {now}: delivered"),
            Decision::DeadLetter(reason) => return println!("attempt {attempts:2} at {now}: dead, {reason}"),
        }
    }
}
