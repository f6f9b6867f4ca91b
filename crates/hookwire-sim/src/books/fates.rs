//! What follows an attempt, worked out a second time: from the receivers' answers and the webhook's policy alone.
//!
//! Rules checked here, whenever something is settled:
//! - A 2xx status is the end, and nothing else is taken for one.
//! - A retry comes no sooner and no later than schedule, jitter and `Retry-After` say.
//! - A dead letter has its reason.

use std::time::Duration;

use hookwire_model::{DeadReason, DeliveryId, ErrorKind, Outcome, Schedule, WaitingReason};
use hookwire_queue::{Fate, PackedAttempt};

use super::{Books, Held};
use crate::plan::Asks;
use crate::trace::About;

/// Rounding of jitter and timestamps.
const TOLERANCE: Duration = Duration::from_millis(2);

impl Books {
    /// Checks what was settled of a delivery.
    pub(super) fn check_fate(
        &mut self,
        id: DeliveryId,
        attempts: &[PackedAttempt],
        fate: &Fate,
        held: Option<Held>,
        lost: bool,
    ) {
        let about = About::Event(id.sequence());
        self.note(about, || {
            let too_late = if lost { ", too late" } else { "" };
            format!("{id} is settled with {} attempts: {fate:?}{too_late}", attempts.len())
        });
        let failed = matches!(fate, Fate::Dead { .. } | Fate::Waiting { reason: WaitingReason::Retry, .. });
        if failed && !lost {
            self.failures.insert(id);
        }
        let Some(attempt) = attempts.last() else { return self.check_without_attempt(id, fate) };
        let seen = self.by_delivery.get(&id).into_iter().flatten().copied().rev().find(|&place| {
            let seen = &self.attempts[place];
            let same = seen.number == attempt.number && seen.status() == attempt.status;
            same && seen.told && held.as_ref().is_none_or(|held| held.life == seen.life)
        });
        let Some(place) = seen else {
            let rendering = matches!(&attempt.error, Some(error) if is_of_rendering(error.kind));
            let dead = matches!(fate, Fate::Dead { reason: DeadReason::RenderError, .. });
            if !(rendering && dead) {
                self.breach(
                    about,
                    format!("attempt {} of {id} is on record, and nobody saw it", attempt.number),
                );
            }
            return;
        };
        let log = self.stored(id).and_then(|delivery| delivery.attempt_log).unwrap_or_default();
        self.attempts[place].recorded |= log.iter().any(|recorded| recorded.number == attempt.number);
        // What comes too late was decided by what was known then.
        let Some(held) = held else { return };
        let forgiven = held.attempts.2;
        let wrong = self.judge(place, attempt.number.saturating_sub(forgiven), fate);
        if let Some(wrong) = wrong {
            let outcome = &self.attempts[place].outcome;
            let text =
                format!("{id} ended attempt {} with {outcome:?}, and is {fate:?}: {wrong}", attempt.number);
            self.breach(about, text);
        }
    }

    fn check_without_attempt(&mut self, id: DeliveryId, fate: &Fate) {
        let wrong = match fate {
            Fate::Delivered => true,
            Fate::Waiting { reason: WaitingReason::Retry, .. } => true,
            Fate::Dead { reason, .. } => {
                let used_up = [DeadReason::AttemptsExhausted, DeadReason::AgeExceeded];
                let panicked = self.by_delivery.get(&id).into_iter().flatten();
                let panicked = panicked.copied().any(|place| self.attempts[place].panicked);
                !(used_up.contains(reason) || (*reason == DeadReason::Panic && panicked))
            }
            Fate::Waiting { .. } | Fate::Running { .. } => false,
        };
        if wrong {
            self.breach(About::Event(id.sequence()), format!("{id} is {fate:?} without an attempt"));
        }
    }

    /// What is wrong with a fate, if anything is.
    fn judge(&self, place: usize, counted: u32, fate: &Fate) -> Option<String> {
        let attempt = &self.attempts[place];
        let policy = &self.plan.targets[attempt.webhook].webhook.retry;
        let outcome = attempt.outcome.as_ref().expect("whoever was told of an attempt knows how it ended");
        let must = |holds: bool, what: &str| (!holds).then(|| what.to_owned());
        let dead = |wanted: DeadReason| matches!(fate, Fate::Dead { reason, .. } if *reason == wanted);
        match outcome {
            Outcome::Answered { status: 200..=299, .. } => {
                return must(*fate == Fate::Delivered, "it was delivered");
            }
            Outcome::Answered { status: 410, .. } => {
                return must(dead(DeadReason::Gone), "410 is a dead letter");
            }
            Outcome::Unsent(error) | Outcome::Unanswered(error) if error.kind == ErrorKind::Egress => {
                return must(dead(DeadReason::EgressRefused), "a refused address is a dead letter");
            }
            _ => {}
        }
        if counted >= policy.max_attempts.get() {
            return must(dead(DeadReason::AttemptsExhausted), "its attempts are used up");
        }
        let scheduled = scheduled(&policy.schedule, counted);
        let asked = self.asked(place).unwrap_or_default();
        let least = scheduled.mul_f64(1.0 - policy.jitter).max(asked).saturating_sub(TOLERANCE);
        let most = scheduled.max(asked).mul_f64(1.0 + policy.jitter) + TOLERANCE;
        // A date has whole seconds, and is taken by the worker's clock.
        let slack =
            if asked > Duration::ZERO { self.skew(attempt.life) + Duration::from_secs(1) } else { TOLERANCE };
        let (least, most) = (least.saturating_sub(slack), most + slack);
        match fate {
            Fate::Waiting { due_in, reason: WaitingReason::Retry } => {
                let fits = (least..=most).contains(due_in);
                (!fits).then(|| format!("the policy says {least:?} to {most:?}"))
            }
            Fate::Dead { reason: DeadReason::AgeExceeded, .. } => {
                must(policy.max_age.is_some(), "its age has no limit")
            }
            _ => Some(format!("the policy says to retry it in {least:?} to {most:?}")),
        }
    }

    /// How long an answer asked to wait, as far as that is heeded.
    pub(super) fn asked(&self, place: usize) -> Option<Duration> {
        let attempt = &self.attempts[place];
        let heeded =
            matches!(attempt.outcome, Some(Outcome::Answered { status: 408 | 425 | 429 | 500..=599, .. }));
        let asked = match attempt.asks.filter(|_| heeded)? {
            Asks::Seconds(seconds) => Duration::from_secs(seconds),
            // The worker reads a date when it learns of it.
            Asks::Date(ahead) => (attempt.ended + Duration::from_secs(ahead)).saturating_sub(attempt.told_at),
        };
        let schedule = &self.plan.targets[attempt.webhook].webhook.retry.schedule;
        Some(asked.min(longest(schedule)))
    }
}

fn is_of_rendering(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Url | ErrorKind::Headers | ErrorKind::Body)
}

fn scheduled(schedule: &Schedule, attempts: u32) -> Duration {
    match schedule {
        Schedule::Steps(steps) => steps[(attempts as usize - 1).min(steps.len() - 1)],
        Schedule::Exponential { initial, factor, max_delay } => {
            initial.mul_f64(factor.powi(attempts as i32 - 1)).min(*max_delay)
        }
    }
}

fn longest(schedule: &Schedule) -> Duration {
    match schedule {
        Schedule::Steps(steps) => steps.iter().max().copied().unwrap_or_default(),
        Schedule::Exponential { max_delay, .. } => *max_delay,
    }
}
