//! Attempts, as the receivers see them.
//!
//! Rules checked here, whenever one begins:
//! - Its worker holds a lease on what it is about, and nobody else does.
//! - Neither its endpoint nor its worker has more in flight than they may.
//! - The retry policy allows it.
//! - Of an order nothing else is in flight.
//! - Its endpoint is not paused, and has not asked to be left alone.

use std::time::Duration;

use hookwire_model::{DeliveryId, EndpointId, ErrorKind, OnFailure, Outcome};
use hookwire_queue::Subject;

use super::{Books, PAUSE_REACHES_IN};
use crate::plan::Asks;
use crate::trace::About;

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptBook {
    pub(crate) delivery: DeliveryId,
    pub(crate) number: u32,
    pub(crate) life: usize,
    pub(crate) endpoint: EndpointId,
    pub(crate) webhook: usize,
    /// Whether its worker held a lease when it began, rather than not knowing that it had lost it.
    held: bool,
    /// How it ended, as the receiver knows it.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) ended: Duration,
    /// Its `Retry-After`.
    pub(crate) asks: Option<Asks>,
    pub(crate) panicked: bool,
    /// The worker knows it, too.
    pub(crate) told: bool,
    pub(crate) told_at: Duration,
    /// The store knows it, too.
    pub(crate) recorded: bool,
}

impl AttemptBook {
    /// The status that it was answered with, if it was.
    pub(crate) fn status(&self) -> Option<u16> {
        match self.outcome {
            Some(Outcome::Answered { status, .. }) => Some(status),
            _ => None,
        }
    }

    /// Whether its worker had nothing to make it with, so that it does not count.
    pub(crate) fn was_not_made(&self) -> bool {
        matches!(&self.outcome, Some(Outcome::Unsent(error)) if is_starved(error.kind))
    }

    /// Whether the receiver took it.
    pub(crate) fn was_taken(&self) -> bool {
        self.status().is_some_and(|status| (200..300).contains(&status))
    }
}

/// Whether that is missing in the worker, where nothing was sent.
pub(crate) fn is_starved(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Dns | ErrorKind::Connect)
}

impl Books {
    /// A request goes out; gives its number in the books.
    pub(crate) fn attempt_begins(
        &mut self,
        life: usize,
        id: DeliveryId,
        number: u32,
        endpoint: EndpointId,
        webhook: usize,
    ) -> usize {
        let now = self.now();
        let who = self.who(Some(life));
        self.note(About::Event(id.sequence()), || {
            format!("{who} begins attempt {number} of {id} at {endpoint}")
        });
        let place = self.attempts.len();
        let held = self.holds(life, id);
        let attempt = AttemptBook {
            delivery: id,
            number,
            life,
            endpoint,
            webhook,
            held,
            outcome: None,
            ended: now,
            asks: None,
            panicked: false,
            told: false,
            told_at: now,
            recorded: false,
        };
        self.check_lease(&attempt);
        self.check_rooms(&attempt);
        self.check_alone(&attempt);
        self.check_endpoint(&attempt);
        self.attempts.push(attempt);
        self.by_delivery.entry(id).or_default().push(place);
        self.begun.entry(endpoint).or_default().push(now);
        self.on_the_wire.insert(place);
        place
    }

    /// How many requests an endpoint got within the last second.
    pub(crate) fn recent(&self, endpoint: EndpointId) -> usize {
        let begin = self.now().saturating_sub(Duration::from_secs(1));
        let begun = self.begun.get(&endpoint).map_or(&[][..], Vec::as_slice);
        begun.len() - begun.partition_point(|at| *at <= begin)
    }

    pub(crate) fn attempt_ends(&mut self, place: usize, outcome: &Outcome, asks: Option<Asks>) {
        let now = self.now();
        let attempt = &mut self.attempts[place];
        (attempt.outcome, attempt.ended, attempt.asks) = (Some(outcome.clone()), now, asks);
        let (id, number) = (self.attempts[place].delivery, self.attempts[place].number);
        self.note(About::Event(id.sequence()), || {
            let ended = match outcome {
                Outcome::Answered { status, retry_after: None } => status.to_string(),
                Outcome::Answered { status, retry_after: Some(asked) } => {
                    format!("{status}, Retry-After: {asked}")
                }
                Outcome::Unanswered(error) => format!("no answer: {}", error.kind),
                Outcome::Unsent(error) => format!("not sent: {}", error.kind),
            };
            format!("attempt {number} of {id} ends with {ended}")
        });
    }

    pub(crate) fn panics(&mut self, place: usize) {
        self.attempts[place].panicked = true;
    }

    /// The worker learns how an attempt ended.
    pub(crate) fn attempt_told(&mut self, place: usize) {
        let now = self.now();
        let attempt = &mut self.attempts[place];
        (attempt.told, attempt.told_at) = (true, now);
        let AttemptBook { life, endpoint, .. } = *attempt;
        if let Some(Outcome::Answered { status: 429 | 503, retry_after: Some(_) }) = attempt.outcome
            && let Some(asked) = self.asked(place)
        {
            // A date has whole seconds.
            let until = (now + asked).saturating_sub(Duration::from_secs(1));
            let silent = self.silent.entry((life, endpoint)).or_default();
            *silent = until.max(*silent);
        }
    }

    pub(crate) fn left_the_wire(&mut self, place: usize) {
        self.on_the_wire.remove(&place);
        let attempt = &self.attempts[place];
        if !attempt.told && !attempt.panicked {
            let (id, number) = (attempt.delivery, attempt.number);
            self.note(About::Event(id.sequence()), || format!("attempt {number} of {id} is cut off"));
        }
    }

    /// Attempts on the wire, but for those of the dead.
    fn in_flight(&self) -> impl Iterator<Item = &AttemptBook> {
        let attempts = self.on_the_wire.iter().map(|place| &self.attempts[*place]);
        attempts.filter(|attempt| !self.lives[attempt.life].life.is_dead())
    }

    /// Whether a worker holds the lease that it makes attempts of a delivery by.
    fn holds(&self, life: usize, id: DeliveryId) -> bool {
        let now = self.now();
        let subjects = [Subject::Delivery(id), Subject::Event(id.sequence())];
        subjects
            .iter()
            .any(|subject| self.leases.get(subject).is_some_and(|held| held.life == life && held.until > now))
    }

    /// Whether the store has failed a worker so that it may not know of the loss of a lease.
    fn may_be_behind(&self, life: usize) -> bool {
        self.lives[life].troubled_until + self.plan.lease >= self.now()
            && self.lives[life].troubled_until > Duration::ZERO
    }

    fn check_lease(&mut self, attempt: &AttemptBook) {
        let AttemptBook { delivery: id, life, number, held, .. } = *attempt;
        let about = About::Event(id.sequence());
        if !held && !self.may_be_behind(life) {
            let text = format!("{} makes an attempt of {id} without a lease", self.who(Some(life)));
            return self.breach(about, text);
        }
        let overlaps = self.in_flight().find(|other| other.delivery == id && other.held);
        let overlaps = overlaps.map(|other| other.life);
        if let Some(other) = overlaps
            && held
            && (other == life || self.holds(other, id))
        {
            let text = format!("two attempts of {id} overlap: {} makes the other", self.who(Some(other)));
            self.breach(about, text);
        }
        let told = self.leases.get(&Subject::Delivery(id)).filter(|lease| lease.life == life);
        let (made, interrupted, forgiven) = told.map_or((0, 0, 0), |lease| lease.attempts);
        let since = told.map(|lease| lease.since);
        // An attempt that began late may have been counted as interrupted before it did.
        let late = number <= made && self.lost.contains(&Subject::Delivery(id));
        if held && number != made + 1 && !late {
            let text = format!("attempt {number} of {id} follows {made}");
            self.breach(about, text);
        }
        if held {
            self.check_policy(attempt, (number - 1, interrupted, forgiven), since);
        }
    }

    /// Whether the retry policy allows an attempt.
    fn check_policy(
        &mut self,
        attempt: &AttemptBook,
        (made, interrupted, forgiven): (u32, u32, u32),
        since: Option<Duration>,
    ) {
        let id = attempt.delivery;
        let target = &self.plan.targets[attempt.webhook].webhook.retry;
        let (max, max_age) = (target.max_attempts.get(), target.max_age);
        let log = self.stored(id).and_then(|delivery| delivery.attempt_log).unwrap_or_default();
        // What was stored after the lease, the worker could not know.
        let told = made.saturating_sub(interrupted);
        let known = (log.iter().filter(|attempt| attempt.number > forgiven).count() as u32).min(told);
        let counted = made.saturating_sub(forgiven);
        let breach = if known >= max || (counted >= max && known > 0) {
            Some(format!(
                "attempt {} of {id} is one too many: {counted} counted, {known} known",
                attempt.number
            ))
        } else if let Some((max_age, since)) = max_age.zip(since)
            && (known > 0 || interrupted == 0)
            && self.now().saturating_sub(since) > max_age + self.skew(attempt.life)
        {
            Some(format!("attempt {} of {id} comes too late: {max_age:?} after {since:?}", attempt.number))
        } else {
            None
        };
        if let Some(text) = breach {
            self.breach(About::Event(id.sequence()), text);
        }
    }

    fn check_rooms(&mut self, attempt: &AttemptBook) {
        let AttemptBook { delivery: id, life, endpoint, webhook, .. } = *attempt;
        let in_worker = self.in_flight().filter(|other| other.life == life).count();
        let here = |other: &&AttemptBook| other.life == life && other.endpoint == endpoint;
        let at_endpoint = self.in_flight().filter(here).count();
        let limit = self.plan.targets[webhook].webhook.concurrency.get() as usize;
        let concurrency = self.lives[life].concurrency;
        let who = self.who(Some(life));
        if in_worker >= concurrency {
            let text =
                format!("{who} begins an attempt of {id} with {in_worker} in flight, {concurrency} allowed");
            self.breach(About::Event(id.sequence()), text);
        }
        if at_endpoint >= limit {
            let text =
                format!("{who} begins an attempt of {id} with {at_endpoint} at {endpoint}, {limit} allowed");
            self.breach(About::Event(id.sequence()), text);
        }
    }

    /// Whether nothing of the same order is in flight.
    fn check_alone(&mut self, attempt: &AttemptBook) {
        let id = attempt.delivery;
        let Some((key, on_failure)) = self.order_of(id.sequence(), attempt.webhook) else { return };
        if on_failure == OnFailure::Skip && self.has_failed(id) {
            return;
        }
        let other = self.in_flight().find(|other| {
            let same = self.order_of(other.delivery.sequence(), other.webhook).is_some_and(|of| of.0 == key);
            let passed = on_failure == OnFailure::Skip && self.has_failed(other.delivery);
            same && other.delivery != id && !passed && self.holds(other.life, other.delivery)
        });
        if let Some(other) = other {
            let text = format!("{id} is attempted while {} of the same object is in flight", other.delivery);
            self.breach(About::Event(id.sequence()), text);
        }
    }

    fn check_endpoint(&mut self, attempt: &AttemptBook) {
        let AttemptBook { delivery: id, life, endpoint, webhook, .. } = *attempt;
        let now = self.now();
        if self.silent.get(&(life, endpoint)).is_some_and(|until| *until > now + self.skew(life)) {
            let text = format!("{id} is attempted at {endpoint}, which asked to be left alone");
            self.breach(About::Endpoint(endpoint), text);
        }
        let paused = self.paused.get(&endpoint).into_iter().chain(self.paused_webhooks.get(&webhook)).min();
        let Some(paused) = paused.copied() else { return };
        let well = self.lives[life].troubled_until < paused;
        if well && now > paused + PAUSE_REACHES_IN {
            let text = format!("{id} is attempted at {endpoint}, paused since {paused:?}");
            self.breach(About::Endpoint(endpoint), text);
        }
    }

    /// How far clocks may be off, and roundings.
    pub(super) fn skew(&self, life: usize) -> Duration {
        let _ = life;
        let most = self.plan.workers.iter().map(|worker| worker.skew.unsigned_abs()).max();
        Duration::from_millis(most.unwrap_or(0) * 2 + 2)
    }
}
