//! An endpoint's health as a state machine: its breaker, its rate and its room.
//!
//! The state is small and serialisable, because workers share it through the store by compare-and-set: one
//! reads it, applies what it saw, and writes it back.
//!
//! - **Closed**: deliveries go out. Ten failures in a row open it: fewer happen when one receiver is
//!   restarted.
//! - **Open**: nothing goes out until the gap has passed. Then one probe does.
//! - **Half open**: the probe is on its way. An answer closes the breaker, a failure opens it for twice the
//!   gap.
//!
//! After it closed, and after the endpoint asked for fewer requests, a rate holds: it doubles within a second
//! as long as it is used and goes well, is cut where the endpoint slows down, remembers where that was, and
//! creeps up to it.
//!
//! Invariants:
//! - Open, it lets at most one attempt through per gap, and at least one per longest gap: no endpoint is
//!   given up.
//! - The gap is always between [`GAP_MIN`] and [`GAP_MAX`], a rate between [`RATE_MIN`] and [`RATE_FREE`].
//! - Time going backwards (workers' clocks differ) changes neither, as long as [`Health::adjust`] is called now and then.
//! - Of two changes that follow each other the second one holds, by whatever clock it was made.

use std::time::Duration;

use hookwire_model::{Timestamp, WaitingReason};
use serde::{Deserialize, Serialize};

use crate::EndpointEffect;
use crate::rate::{Bucket, Meter, RATE_FREE, Rate};

/// Failures in a row that open the breaker.
pub const FAILURES_TO_OPEN: u32 = 10;
/// The first gap before a probe: long enough for a process to restart.
pub const GAP_MIN: Duration = Duration::from_secs(1);
/// The longest gap before a probe: an endpoint that comes back waits no longer than this.
pub const GAP_MAX: Duration = Duration::from_secs(5 * 60);

/// A rate ends when the endpoint has not asked for less for so long: one that bears less than it gets asks within
/// seconds.
const RATE_CALM: Duration = Duration::from_secs(10 * 60);
/// How long a probe may take before another is made: the worker that made it may have died. Twice the longest
/// timeout that is usual.
const PROBE_LEASE: Duration = Duration::from_secs(60);

/// The health of one endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Health {
    circuit: Breaker,
    rate: Option<Rate>,
    /// When the rate was last set, cut or ended. Growing is no such change: every worker sees for itself how it goes.
    rate_since: Timestamp,
    /// What the definition allows.
    limit: Option<Bucket>,
    /// Attempts taken from rate and limit that other workers do not know of.
    #[serde(skip)]
    taken: u32,
    #[serde(skip)]
    meter: Meter,
    /// The endpoint asked to be left alone until then.
    silent_until: Option<Timestamp>,
    /// When it asked for that, and when somebody last ended such a silence before its time.
    #[serde(default)]
    silent_since: Timestamp,
    /// For how long, from then on, by the clock of whoever was asked.
    #[serde(default)]
    silent_for: Duration,
    #[serde(default)]
    silence_ended: Timestamp,
    paused: Pause,
}

/// A pause, or its end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Pause {
    on: bool,
    since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Breaker {
    state: Circuit,
    /// When it changed from one kind to another, or its gap.
    since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Circuit {
    Closed { failures: u32 },
    Open { gap: Duration, probe_at: Timestamp },
    HalfOpen { gap: Duration, probe_until: Timestamp },
}

impl Circuit {
    fn is_closed(&self) -> bool {
        matches!(self, Circuit::Closed { .. })
    }
}

impl Default for Circuit {
    fn default() -> Self {
        Circuit::Closed { failures: 0 }
    }
}

/// Whether an endpoint may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Admittance {
    /// As its room and rate allow.
    Open,
    /// By this one attempt, to find out whether it lives.
    Probe,
    /// Not before then.
    Wait {
        /// When to ask again; [`Timestamp::MAX`] where a person has to act.
        until: Timestamp,
        /// Why it waits.
        reason: WaitingReason,
    },
}

/// What [`Health::adjust`] changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Adjusted {
    /// Nothing.
    Nothing,
    /// When there are tokens again: each worker adjusts its own.
    Tokens,
    /// When there is a probe, or when a silence ends: others should know.
    News,
}

/// Tokens for attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    /// How many attempts may be made now.
    pub attempts: u32,
    /// How long until there are more, where these were fewer than asked for.
    pub more_after: Option<Duration>,
}

impl Health {
    /// Whether the endpoint may be called now. [`Admittance::Probe`] is given once and turns the breaker half
    /// open.
    pub fn admit(&mut self, now: Timestamp) -> Admittance {
        if self.paused.on {
            return Admittance::Wait { until: Timestamp::MAX, reason: WaitingReason::Paused };
        }
        if let Some(until) = self.silent_until.filter(|until| *until > now) {
            return Admittance::Wait { until, reason: WaitingReason::RateLimit };
        }
        match self.circuit.state {
            Circuit::Closed { .. } => Admittance::Open,
            // A probe that has not ended within its time is taken as lost, and another one made.
            Circuit::Open { gap, probe_at: from } | Circuit::HalfOpen { gap, probe_until: from } => {
                if from > now {
                    return Admittance::Wait { until: from, reason: WaitingReason::Unhealthy };
                }
                let probe_until = now.saturating_add(PROBE_LEASE);
                let since = after(self.circuit.since, now);
                self.circuit = Breaker { state: Circuit::HalfOpen { gap, probe_until }, since };
                Admittance::Probe
            }
        }
    }

    /// Brings forward what lies further ahead than it can: it was written by a clock that is ahead of this one, or that
    /// was set back since. So nothing waits for longer than it was to wait, from when it is known here.
    ///
    /// With a clock that only goes on it changes nothing.
    pub fn adjust(&mut self, now: Timestamp) -> Adjusted {
        let before = (self.circuit.state.clone(), self.silent_until);
        match &mut self.circuit.state {
            Circuit::Closed { .. } => {}
            Circuit::Open { gap, probe_at } => *probe_at = (*probe_at).min(now.saturating_add(*gap)),
            Circuit::HalfOpen { probe_until, .. } => {
                *probe_until = (*probe_until).min(now.saturating_add(PROBE_LEASE));
            }
        }
        // One that was stored before its length was says nothing about that.
        if let Some(until) = self.silent_until.as_mut().filter(|_| !self.silent_for.is_zero()) {
            *until = (*until).min(now.saturating_add(self.silent_for));
        }
        let by_rate = self.rate.as_mut().is_some_and(|rate| rate.adjust(now));
        let by_limit = self.limit.as_mut().is_some_and(|limit| limit.adjust(now));
        if before != (self.circuit.state.clone(), self.silent_until) {
            Adjusted::News
        } else if by_rate || by_limit {
            Adjusted::Tokens
        } else {
            Adjusted::Nothing
        }
    }

    /// What another worker wrote, before it is joined: what it says to have spent cannot be true where it is further ahead
    /// than all workers together can be, because its clock is; and says nothing then.
    pub fn received(&mut self, now: Timestamp) {
        if let Some(rate) = &mut self.rate {
            rate.bucket.received(now);
        }
        if let Some(limit) = &mut self.limit {
            limit.received(now);
        }
    }

    /// How many attempts more may be begun now, where there are `wanted` that could be.
    pub fn room(&self, wanted: u32, now: Timestamp) -> u32 {
        if self.paused.on || self.silent_until.is_some_and(|until| until > now) {
            return 0;
        }
        match self.circuit.state {
            Circuit::Closed { .. } => self.available(wanted, now).attempts,
            // One probe, when its time has come; while it is on its way, no other.
            Circuit::Open { probe_at: from, .. } | Circuit::HalfOpen { probe_until: from, .. } => {
                wanted.min(u32::from(from <= now))
            }
        }
    }

    /// Takes tokens for so many attempts from the rate and from the limit.
    pub fn take(&mut self, wanted: u32, now: Timestamp) -> Grant {
        let grant = self.available(wanted, now);
        for bucket in self.buckets_mut() {
            bucket.spend(grant.attempts, now);
        }
        self.taken = self.taken.saturating_add(grant.attempts);
        grant
    }

    /// What [`take`](Self::take) would grant.
    pub fn available(&self, wanted: u32, now: Timestamp) -> Grant {
        let attempts = self.buckets().map(|bucket| bucket.holds(now)).fold(wanted, u32::min);
        let more_after = self.buckets().map(|bucket| bucket.more_after(attempts, now)).max();
        Grant { attempts, more_after: more_after.filter(|_| attempts < wanted) }
    }

    /// Holds the endpoint to so many attempts per second, whatever else is known about it; `None` ends that.
    pub fn set_limit(&mut self, per_second: Option<f64>, now: Timestamp) {
        match (&mut self.limit, per_second) {
            (Some(limit), Some(per_second)) => limit.set_rate(per_second),
            (limit, per_second) => *limit = per_second.map(|per_second| Bucket::new(per_second, now)),
        }
    }

    /// Whether something holds the endpoint back, so that it is worth sharing with other workers.
    pub fn is_troubled(&self) -> bool {
        self.paused.on
            || self.rate.is_some()
            || self.limit.is_some()
            || self.silent_until.is_some()
            || !matches!(self.circuit.state, Circuit::Closed { .. })
    }

    /// Until when nothing is let through, where that has an end: a probe is due then, or a silence ends.
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        let closed = self.circuit.state.is_closed() && self.silent_until.is_none();
        self.changes_at(now).filter(|until| !closed && *until > now)
    }

    /// When more attempts may be let through than now, without anything else happening; `None` where that takes an
    /// answer or a person.
    pub fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.paused.on {
            return None;
        }
        if let Some(until) = self.silent_until.filter(|until| *until > now) {
            return Some(until);
        }
        match self.circuit.state {
            Circuit::Open { probe_at: from, .. } | Circuit::HalfOpen { probe_until: from, .. } => Some(from),
            Circuit::Closed { .. } => {
                self.available(u32::MAX, now).more_after.map(|wait| now.saturating_add(wait))
            }
        }
    }

    /// Whether the rate or the limit alone holds it back: it goes on by itself, attempt by attempt, with no trouble to be
    /// over first.
    pub fn awaits_tokens(&self, now: Timestamp) -> bool {
        !self.paused.on
            && self.silent_until.is_none_or(|until| until <= now)
            && self.circuit.state.is_closed()
            && self.available(1, now).attempts == 0
    }

    /// Takes back an [`Admittance::Probe`] that is not made after all, because somebody else wrote meanwhile: what is
    /// stored about the breaker holds.
    pub fn yield_probe(&mut self, stored: &Health) {
        self.circuit = stored.circuit.clone();
    }

    /// Joins what another worker, or a person, wrote meanwhile: of each part the later change holds, and tokens that
    /// were taken here since the last [`shared`](Self::shared) are taken there too. Joining the same again changes
    /// nothing.
    pub fn join(&mut self, stored: &Health) {
        if stored.paused.since > self.paused.since {
            self.paused = stored.paused.clone();
        }
        if stored.circuit.since > self.circuit.since {
            self.circuit = stored.circuit.clone();
        }
        self.silence_ended = self.silence_ended.max(stored.silence_ended);
        let silences =
            [&*self, stored].map(|health| (health.silent_until, health.silent_since, health.silent_for));
        let lasting = silences.into_iter().filter(|(_, since, _)| *since > self.silence_ended);
        (self.silent_until, self.silent_since, self.silent_for) = lasting.max().unwrap_or_default();
        let own = self.rate.as_ref().map(|rate| rate.bucket.spent_until);
        if stored.rate_since > self.rate_since {
            (self.rate, self.rate_since) = (stored.rate.clone(), stored.rate_since);
        }
        if let Some(rate) = &mut self.rate {
            rate.bucket.join(own, stored.rate.as_ref().map(|rate| rate.bucket.spent_until), self.taken);
        }
        if let Some(limit) = &mut self.limit {
            let own = Some(limit.spent_until);
            limit.join(own, stored.limit.as_ref().map(|limit| limit.spent_until), self.taken);
        }
    }

    /// What is known here is known to all now.
    pub fn shared(&mut self) {
        self.taken = 0;
    }

    /// The rate that holds, in attempts per second; `None` where there is no limit.
    pub fn rate(&self) -> Option<f64> {
        self.rate.as_ref().map(|rate| rate.bucket.per_second())
    }

    /// In words of the API: `closed`, `open` or `half_open`.
    pub fn circuit(&self) -> &'static str {
        match self.circuit.state {
            Circuit::Closed { .. } => "closed",
            Circuit::Open { .. } => "open",
            Circuit::HalfOpen { .. } => "half_open",
        }
    }

    /// Until when it asked to be left alone, if it did.
    pub fn silent_until(&self) -> Option<Timestamp> {
        self.silent_until
    }

    /// How many attempts failed in a row; 0 once the breaker has opened.
    pub fn failures(&self) -> u32 {
        match self.circuit.state {
            Circuit::Closed { failures } => failures,
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => 0,
        }
    }

    /// Since when it is paused, if it is.
    pub fn paused_since(&self) -> Option<Timestamp> {
        self.paused.on.then_some(self.paused.since)
    }

    /// Whether a person, or a 410, paused the endpoint.
    pub fn is_paused(&self) -> bool {
        self.paused.on
    }

    /// Applies what an attempt said about the endpoint.
    pub fn observe(&mut self, effect: EndpointEffect, now: Timestamp) {
        match effect {
            EndpointEffect::None => return self.unprobed(now),
            EndpointEffect::Success | EndpointEffect::Alive => {
                self.meter.count(now);
                self.answered(now);
                self.grow(now);
            }
            EndpointEffect::Failure => {
                self.meter.count(now);
                self.failed(now);
            }
            EndpointEffect::SlowDown { wait, failing } => {
                self.meter.count(now);
                if failing {
                    self.failed(now);
                } else {
                    self.answered(now);
                }
                self.cut(now);
                if let Some(wait) = wait {
                    let until = now.saturating_add(wait);
                    let until = self.silent_until.map_or(until, |have| have.max(until));
                    (self.silent_until, self.silent_for) = (Some(until), until.saturating_since(now));
                    self.silent_since = after(self.silence_ended, now);
                }
            }
            EndpointEffect::Pause => self.pause(now),
        }
        if self.silent_until.is_some_and(|until| until <= now) {
            self.silent_until = None;
        }
    }

    /// Lets nothing through until [`resume`](Self::resume).
    pub fn pause(&mut self, now: Timestamp) {
        if !self.paused.on {
            self.paused = Pause { on: true, since: after(self.paused.since, now) };
        }
    }

    /// Ends a pause. What was known about the endpoint before is forgotten but for its rate, which begins
    /// anew: the backlog of the pause must not fall upon it at once.
    pub fn resume(&mut self, now: Timestamp) {
        *self = Health {
            circuit: Breaker { state: Circuit::default(), since: after(self.circuit.since, now) },
            rate: Some(Rate::start(now)),
            rate_since: after(self.rate_since, now),
            silence_ended: after(self.silence_ended, now),
            paused: Pause { on: false, since: after(self.paused.since, now) },
            limit: self.limit.take(),
            ..Health::default()
        };
    }

    /// Lets a probe through now, where the breaker is open; also ends a silence that the endpoint asked for.
    pub fn probe(&mut self, now: Timestamp) {
        (self.silent_until, self.silence_ended) = (None, after(self.silence_ended, now));
        if let Circuit::Open { gap, .. } | Circuit::HalfOpen { gap, .. } = self.circuit.state {
            let since = after(self.circuit.since, now);
            self.circuit = Breaker { state: Circuit::Open { gap, probe_at: now }, since };
        }
    }

    fn answered(&mut self, now: Timestamp) {
        if !matches!(self.circuit.state, Circuit::Closed { .. }) {
            (self.rate, self.rate_since) = (Some(Rate::start(now)), after(self.rate_since, now));
            self.circuit.since = after(self.circuit.since, now);
        }
        self.circuit.state = Circuit::Closed { failures: 0 };
    }

    fn failed(&mut self, now: Timestamp) {
        let open = |gap: Duration| Circuit::Open { gap, probe_at: now.saturating_add(gap) };
        let state = match self.circuit.state {
            Circuit::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                Circuit::Closed { failures: failures + 1 }
            }
            Circuit::Closed { .. } => open(GAP_MIN),
            // An attempt from before it opened: nothing new.
            Circuit::Open { gap, probe_at } => Circuit::Open { gap, probe_at },
            Circuit::HalfOpen { gap, .. } => open(gap.saturating_mul(2).clamp(GAP_MIN, GAP_MAX)),
        };
        if self.circuit.state.is_closed() != state.is_closed()
            || matches!(self.circuit.state, Circuit::HalfOpen { .. })
        {
            self.circuit.since = after(self.circuit.since, now);
        }
        self.circuit.state = state;
    }

    /// An attempt said nothing. Where it was the probe there is another after the gap, not only when the probe is taken
    /// for lost.
    fn unprobed(&mut self, now: Timestamp) {
        if let Circuit::HalfOpen { gap, .. } = self.circuit.state {
            let state = Circuit::Open { gap, probe_at: now.saturating_add(gap) };
            self.circuit = Breaker { state, since: after(self.circuit.since, now) };
        }
    }

    fn grow(&mut self, now: Timestamp) {
        let used = self.meter.per_second();
        let Some(rate) = &mut self.rate else { return };
        rate.grow(used, now);
        let calm = now.saturating_since(self.rate_since) >= RATE_CALM;
        if calm || rate.bucket.per_second() >= RATE_FREE {
            (self.rate, self.rate_since) = (None, after(self.rate_since, now));
        }
    }

    fn cut(&mut self, now: Timestamp) {
        let used = self.meter.per_second().max(1.0);
        let known = self.rate.is_some();
        let rate = self.rate.get_or_insert_with(|| Rate::at(used, now));
        if rate.cut(now) || !known {
            self.rate_since = after(self.rate_since, now);
        }
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.rate.as_ref().map(|rate| &rate.bucket).into_iter().chain(&self.limit)
    }

    fn buckets_mut(&mut self) -> impl Iterator<Item = &mut Bucket> {
        self.rate.as_mut().map(|rate| &mut rate.bucket).into_iter().chain(&mut self.limit)
    }
}

/// The time of a change that follows one made at `previous`, perhaps by a clock that is ahead of this one.
fn after(previous: Timestamp, now: Timestamp) -> Timestamp {
    now.max(previous.saturating_add(Duration::from_micros(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate::{RATE_MIN, RATE_START};

    const ANSWERS_429: EndpointEffect = EndpointEffect::SlowDown { wait: None, failing: false };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + millis)
    }

    fn opened() -> Health {
        let mut health = Health::default();
        for _ in 0..FAILURES_TO_OPEN {
            health.observe(EndpointEffect::Failure, at(0));
        }
        health
    }

    fn waits(millis: i64, reason: WaitingReason) -> Admittance {
        Admittance::Wait { until: at(millis), reason }
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_fewer_do_not() {
        let mut health = Health::default();
        for _ in 0..3 {
            for _ in 1..FAILURES_TO_OPEN {
                health.observe(EndpointEffect::Failure, at(0));
            }
            health.observe(EndpointEffect::Alive, at(0));
        }
        assert_eq!((health.admit(at(0)), health.room(32, at(0))), (Admittance::Open, 32));
        let mut health = opened();
        assert_eq!(health.admit(at(0)), waits(1_000, WaitingReason::Unhealthy));
        assert_eq!(
            (health.admit(at(999)), health.room(32, at(999))),
            (waits(1_000, WaitingReason::Unhealthy), 0)
        );
    }

    #[test]
    fn the_gap_between_probes_doubles_up_to_five_minutes() {
        let mut health = opened();
        let mut gaps = Vec::new();
        let mut now = at(0);
        for _ in 0..11 {
            let Admittance::Wait { until, .. } = health.admit(now) else { panic!("{health:?}") };
            gaps.push(until.saturating_since(now).as_secs());
            now = until;
            assert_eq!((health.room(32, now), health.admit(now)), (1, Admittance::Probe));
            assert_eq!(health.room(32, now), 0, "one probe at a time");
            health.observe(EndpointEffect::Failure, now);
        }
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn one_probe_at_a_time_and_another_when_it_is_lost() {
        let mut health = opened();
        assert_eq!(health.admit(at(1_000)), Admittance::Probe);
        assert_eq!(health.admit(at(1_001)), waits(61_000, WaitingReason::Unhealthy));
        assert_eq!(health.admit(at(61_000)), Admittance::Probe);
    }

    #[test]
    fn an_answer_to_the_probe_closes_it_and_the_backlog_starts_slowly() {
        for effect in [EndpointEffect::Success, EndpointEffect::Alive] {
            let mut health = opened();
            assert_eq!(health.admit(at(1_000)), Admittance::Probe);
            health.observe(effect, at(1_000));
            assert_eq!((health.admit(at(1_000)), health.room(32, at(1_000))), (Admittance::Open, 1));
            assert_eq!(health.rate(), Some(RATE_START));
        }
    }

    #[test]
    fn failures_from_before_it_opened_change_nothing() {
        let mut health = opened();
        let before = health.clone();
        health.observe(EndpointEffect::Failure, at(900));
        assert_eq!(health.circuit, before.circuit);
    }

    #[test]
    fn too_many_requests_slow_it_down_and_never_open_it() {
        let mut health = Health::default();
        for second in 0..100 {
            health.observe(ANSWERS_429, at(second * 1_000));
        }
        assert_eq!(health.admit(at(100_000)), Admittance::Open);
        assert_eq!(health.rate(), Some(RATE_MIN));
        let mut health = Health::default();
        for _ in 0..FAILURES_TO_OPEN {
            health.observe(EndpointEffect::SlowDown { wait: None, failing: true }, at(0));
        }
        assert_eq!(health.admit(at(0)), waits(1_000, WaitingReason::Unhealthy), "503 is a failure too");
    }

    #[test]
    fn an_endpoint_that_asks_for_silence_gets_it() {
        let mut health = Health::default();
        let wait =
            |seconds| EndpointEffect::SlowDown { wait: Some(Duration::from_secs(seconds)), failing: false };
        health.observe(wait(60), at(0));
        health.observe(wait(10), at(0));
        assert_eq!(health.admit(at(59_999)), waits(60_000, WaitingReason::RateLimit));
        assert_eq!(health.admit(at(60_000)), Admittance::Open);
    }

    #[test]
    fn a_pause_ends_only_when_it_is_resumed() {
        let mut health = Health::default();
        health.observe(EndpointEffect::Pause, at(0));
        health.observe(EndpointEffect::Success, at(1));
        let forever = Admittance::Wait { until: Timestamp::MAX, reason: WaitingReason::Paused };
        assert_eq!((health.admit(Timestamp::MAX), health.room(32, Timestamp::MAX)), (forever, 0));
        health.resume(at(2));
        assert_eq!(
            (health.admit(at(2)), health.is_paused(), health.rate()),
            (Admittance::Open, false, Some(RATE_START))
        );
    }

    #[test]
    fn of_what_two_workers_know_the_later_holds() {
        let mut first = opened();
        let mut second = Health::default();
        second.join(&first);
        assert_eq!(second.admit(at(1_000)), Admittance::Probe);
        // The other one learns that the probe is taken, and later what came of it.
        first.join(&second);
        assert_eq!(first.admit(at(1_000)), waits(61_000, WaitingReason::Unhealthy));
        second.observe(EndpointEffect::Success, at(1_100));
        first.join(&second);
        assert_eq!((first.circuit(), first.rate()), ("closed", Some(RATE_START)));
        // A pause of one is a pause of both, and so is its end.
        let mut person = second.clone();
        person.pause(at(2_000));
        first.join(&person);
        person.join(&first);
        assert!(first.is_paused() && person.is_paused());
        person.resume(at(3_000));
        first.join(&person);
        assert!(!first.is_paused());
        person.join(&second);
        assert!(!person.is_paused(), "what was known before a change does not undo it");
    }

    #[test]
    fn of_two_changes_the_second_holds_though_its_clock_is_behind() {
        // Paused by a clock that is ahead by two seconds, and resumed by one that is right.
        let mut paused = Health::default();
        paused.pause(at(2_000));
        let mut resumed = paused.clone();
        resumed.resume(at(1_000));
        paused.join(&resumed);
        assert!(!paused.is_paused());
        // The same for a probe, and what came of it.
        let mut probing = opened();
        assert_eq!(probing.admit(at(3_000)), Admittance::Probe);
        let mut probed = probing.clone();
        probed.observe(EndpointEffect::Success, at(2_000));
        probing.join(&probed);
        assert_eq!(probing.circuit(), "closed");
    }

    #[test]
    fn a_probe_that_another_worker_makes_is_given_up() {
        let (mut first, mut second) = (opened(), opened());
        assert_eq!(first.admit(at(1_000)), Admittance::Probe);
        // The later one by its clock; the first one wrote it.
        assert_eq!(second.admit(at(1_400)), Admittance::Probe);
        second.yield_probe(&first);
        second.join(&first);
        first.observe(EndpointEffect::Success, at(1_100));
        second.join(&first);
        assert_eq!(second.circuit(), "closed");
    }

    #[test]
    fn a_silence_that_a_person_ended_stays_ended_and_the_next_one_holds() {
        let asks = EndpointEffect::SlowDown { wait: Some(Duration::from_secs(60)), failing: false };
        let mut worker = Health::default();
        worker.observe(asks, at(0));
        let mut person = worker.clone();
        person.probe(at(1_000));
        worker.join(&person);
        assert_eq!(worker.silent_until(), None);
        worker.observe(asks, at(2_000));
        worker.join(&person);
        assert_eq!(worker.silent_until(), Some(at(62_000)));
        // Who has not heard of the person's act yet keeps what came after it, too.
        let mut other = Health::default();
        other.observe(asks, at(3_000));
        other.join(&person);
        assert_eq!(other.silent_until(), Some(at(63_000)));
    }

    #[test]
    fn what_holds_an_endpoint_back_is_told_with_its_end() {
        let health = opened();
        assert_eq!((health.is_troubled(), health.changes_at(at(0))), (true, Some(at(1_000))));
        let mut health = Health::default();
        assert_eq!((health.is_troubled(), health.changes_at(at(0))), (false, None));
        health.set_limit(Some(2.0), at(0));
        assert_eq!(health.take(5, at(0)).attempts, 1);
        assert_eq!(health.changes_at(at(0)), Some(at(500)));
        health.pause(at(1));
        assert_eq!((health.is_troubled(), health.changes_at(at(1))), (true, None));
    }

    #[test]
    fn a_person_may_have_it_probed_at_once() {
        let mut health = opened();
        health.probe(at(1));
        assert_eq!(health.admit(at(1)), Admittance::Probe);
        let mut health = Health::default();
        health.probe(at(1));
        assert_eq!(health.admit(at(1)), Admittance::Open);
    }

    #[test]
    fn tokens_come_at_the_rate() {
        let mut health = Health::default();
        assert_eq!(health.take(1_000, at(0)), Grant { attempts: 1_000, more_after: None });
        health.rate = Some(Rate::at(10.0, at(0)));
        // A quarter of a second's worth at once, then one in a tenth of a second.
        assert_eq!(health.take(5, at(0)), Grant { attempts: 2, more_after: Some(Duration::from_millis(50)) });
        assert_eq!(health.take(5, at(49)).attempts, 0);
        assert_eq!(health.take(5, at(50)).attempts, 1);
        health.rate = Some(Rate::at(RATE_MIN, at(0)));
        assert_eq!(health.take(5, at(0)), Grant { attempts: 1, more_after: Some(Duration::from_secs(10)) });
        assert_eq!(health.take(5, at(10_000)).attempts, 1);
    }

    /// A receiver that bears 200 requests a second and answers 429 beyond, after an outage: the rate finds
    /// that limit and stays at it. Time goes in steps of 10 ms; requests beyond the receiver's tokens are
    /// refused.
    #[test]
    fn the_backlog_of_an_outage_is_drained_close_to_what_the_receiver_bears() {
        let mut health = opened();
        assert_eq!(health.admit(at(1_000)), Admittance::Probe);
        health.observe(EndpointEffect::Success, at(1_000));
        let (mut taken, mut refused, mut tokens) = (0, 0, 0.0f64);
        for step in 0..9_000 {
            let now = at(1_000 + 10 * step);
            tokens = (tokens + 2.0).min(20.0);
            for _ in 0..health.take(1_000, now).attempts {
                let bears = tokens >= 1.0;
                if bears {
                    tokens -= 1.0;
                }
                health.observe(if bears { EndpointEffect::Success } else { ANSWERS_429 }, now);
                // The first half minute is the ramp.
                if step >= 3_000 {
                    taken += u32::from(bears);
                    refused += u32::from(!bears);
                }
            }
        }
        let share = f64::from(taken) / (200.0 * 60.0);
        let refusals = f64::from(refused) / f64::from(taken + refused);
        assert!(share >= 0.95, "took {share} of what it bears, {refusals} refused");
        assert!(refusals < 0.01, "{refusals} refused, took {share}");
    }

    #[test]
    fn a_rate_that_is_not_used_does_not_grow_and_one_that_is_ends() {
        let mut health = Health { rate: Some(Rate::start(at(0))), rate_since: at(0), ..Health::default() };
        for second in 0..100 {
            health.observe(EndpointEffect::Success, at(second * 1_000));
        }
        assert!(health.rate().is_some_and(|rate| rate <= 2.0 * RATE_START), "{:?}", health.rate());
        let mut health =
            Health { rate: Some(Rate::at(RATE_FREE / 3.0, at(0))), rate_since: at(0), ..Health::default() };
        for millis in 0..5_000 {
            for _ in 0..25 {
                health.observe(EndpointEffect::Success, at(millis));
            }
        }
        assert!(health.rate().is_some_and(|rate| rate < RATE_FREE / 1.3), "{:?}", health.rate());
        for _ in 0..RATE_FREE as u32 {
            health.observe(EndpointEffect::Success, at(6_000));
        }
        health.observe(EndpointEffect::Success, at(7_000));
        health.observe(EndpointEffect::Success, at(7_999));
        assert_eq!(health.rate(), None);
    }

    #[test]
    fn a_rate_ends_when_nobody_has_asked_for_less_for_long() {
        let mut health = Health::default();
        health.observe(ANSWERS_429, at(0));
        health.observe(EndpointEffect::Success, at(599_000));
        assert!(health.rate().is_some());
        health.observe(EndpointEffect::Success, at(600_000));
        assert_eq!((health.rate(), health.is_troubled()), (None, false));
    }

    fn any_effect() -> impl Strategy<Value = EndpointEffect> {
        prop_oneof![
            Just(EndpointEffect::None),
            Just(EndpointEffect::Success),
            Just(EndpointEffect::Alive),
            Just(EndpointEffect::Failure),
            (proptest::option::of(0u64..1_000), any::<bool>()).prop_map(|(wait, failing)| {
                EndpointEffect::SlowDown { wait: wait.map(Duration::from_secs), failing }
            }),
        ]
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_wait_for_longer_than_it_was_to() {
        let back = -3_600_000;
        // The probe of a breaker.
        let mut health = opened();
        assert_eq!(health.admit(at(back)), waits(1_000, WaitingReason::Unhealthy));
        assert_eq!(health.adjust(at(back)), Adjusted::News);
        assert_eq!(health.admit(at(back)), waits(back + 1_000, WaitingReason::Unhealthy));
        // Again, while time goes on, it is not put off.
        assert_eq!(health.adjust(at(back + 900)), Adjusted::Nothing);
        assert_eq!(health.admit(at(back + 1_000)), Admittance::Probe);
        // One that is on its way, and lost.
        assert_eq!(health.adjust(at(back + 1_000)), Adjusted::Nothing);
        assert_eq!(health.adjust(at(2 * back)), Adjusted::News);
        let lease = PROBE_LEASE.as_millis() as i64;
        assert_eq!(health.admit(at(2 * back)), waits(2 * back + lease, WaitingReason::Unhealthy));
        // A silence.
        let mut health = Health::default();
        let wait = Some(Duration::from_secs(20));
        health.observe(EndpointEffect::SlowDown { wait, failing: false }, at(0));
        assert_eq!(health.adjust(at(back)), Adjusted::News);
        assert_eq!(health.admit(at(back)), waits(back + 20_000, WaitingReason::RateLimit));
        // As long as it was asked for, also where a person ended one before by a clock that is ahead.
        let mut health = Health::default();
        health.probe(at(60_000));
        health.observe(EndpointEffect::SlowDown { wait, failing: false }, at(0));
        assert_eq!(health.adjust(at(0)), Adjusted::Nothing);
        assert_eq!(health.admit(at(19_999)), waits(20_000, WaitingReason::RateLimit));
        // The tokens of a limit, which are a debt for a minute at most and 64 tokens' time.
        let mut health = Health::default();
        health.set_limit(Some(10.0), at(0));
        assert!(health.take(100, at(0)).attempts > 0);
        assert_eq!(health.room(1, at(back)), 0);
        assert_eq!(health.adjust(at(back)), Adjusted::Tokens);
        assert_eq!(health.room(1, at(back + 60_000)), 0);
        assert!(health.room(1, at(back + 66_400)) > 0);
        // Those that another worker says to have spent by then are not believed, and do not come back by joining.
        let mut other = Health::default();
        other.set_limit(Some(10.0), at(0));
        let _ = other.take(100, at(0));
        other.received(at(back + 66_400));
        health.join(&other);
        assert!(health.room(1, at(back + 66_400)) > 0);
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another_after_the_gap() {
        let mut health = opened();
        assert_eq!(health.admit(at(1_000)), Admittance::Probe);
        health.observe(EndpointEffect::None, at(1_100));
        assert_eq!(health.admit(at(1_100)), waits(2_100, WaitingReason::Unhealthy));
        assert_eq!(health.admit(at(2_100)), Admittance::Probe);
    }

    proptest! {
        /// Whatever happens, in whatever order of time: bounds hold, the state survives the store, and an
        /// endpoint that nobody paused can be called again before long.
        #[test]
        fn no_endpoint_is_given_up(
            steps in proptest::collection::vec((any_effect(), -5_000i64..100_000, any::<bool>(), 0u32..50), 0..80),
        ) {
            let mut health = Health::default();
            let mut now = at(0);
            for (effect, millis, asks, wanted) in steps {
                now = Timestamp::from_millis(now.as_millis() + millis);
                if asks {
                    let _ = health.admit(now);
                }
                prop_assert!(health.take(wanted, now).attempts <= wanted);
                health.observe(effect, now);
                if let Some(rate) = health.rate() {
                    prop_assert!((RATE_MIN..=RATE_FREE).contains(&rate), "{rate}");
                }
                if let Circuit::Open { gap, .. } | Circuit::HalfOpen { gap, .. } = health.circuit.state {
                    prop_assert!((GAP_MIN..=GAP_MAX).contains(&gap));
                }
                let stored = serde_json::to_string(&health).unwrap();
                let mut read = serde_json::from_str::<Health>(&stored).unwrap();
                // The last digit of a rate may differ: JSON is read fast rather than to the last bit.
                let (had, has) = (health.rate().unwrap_or(0.0), read.rate().unwrap_or(0.0));
                prop_assert!((had - has).abs() <= had * 1e-12);
                read.rate.clone_from(&health.rate);
                // These are each worker's own.
                (read.taken, read.meter) = (health.taken, health.meter.clone());
                prop_assert_eq!(&read, &health);
            }
            if let Admittance::Wait { until, .. } = health.admit(now) {
                // The longest silence asked for above, or the longest gap; and as far as time went back.
                prop_assert!(until.saturating_since(now) <= Duration::from_secs(1_000 + 80 * 5));
                let again = health.admit(until);
                prop_assert!(!matches!(again, Admittance::Wait { .. }), "{again:?}");
            }
        }

        #[test]
        fn open_lets_one_attempt_through_per_gap(moments in proptest::collection::vec(0i64..30_000, 1..200)) {
            let mut health = opened();
            let mut now = 0;
            let mut last = None;
            for moment in moments {
                now += moment;
                prop_assert_eq!(health.adjust(at(now)), Adjusted::Nothing, "the clock only went on");
                match health.admit(at(now)) {
                    Admittance::Probe => {
                        prop_assert!(last.is_none_or(|last| now - last >= 1_000), "{last:?} {now}");
                        last = Some(now);
                        health.observe(EndpointEffect::Failure, at(now));
                    }
                    Admittance::Wait { .. } => {}
                    Admittance::Open => prop_assert!(false, "open while it fails"),
                }
            }
        }

        /// Two workers that share what they know, at whatever moments: together they hold to the limit, but for what
        /// they took since they last did.
        #[test]
        fn a_limit_holds_over_workers_that_share(
            limit in 1.0f64..500.0,
            steps in proptest::collection::vec((0i64..50, 0u32..20, any::<bool>()), 1..200),
        ) {
            let mut workers = [Health::default(), Health::default()];
            let mut stored = Health::default();
            for worker in &mut workers {
                worker.set_limit(Some(limit), at(0));
            }
            stored.set_limit(Some(limit), at(0));
            let (mut now, mut taken) = (0, 0u32);
            for (millis, wanted, first) in steps {
                now += millis;
                let worker = &mut workers[usize::from(first)];
                taken += worker.take(wanted, at(now)).attempts;
                // Joining twice does no harm: a reply may be lost.
                worker.join(&stored);
                worker.join(&stored);
                worker.shared();
                stored = worker.clone();
            }
            let burst = (limit / 4.0).max(1.0) + 2.0;
            let most = limit * (now as f64 / 1_000.0) + 2.0 * burst;
            prop_assert!(f64::from(taken) <= most, "{taken} > {most}");
        }

        #[test]
        fn a_rate_holds_over_any_time(
            rate in 0.1f64..1_000.0, asks in proptest::collection::vec((0i64..2_000, 0u32..500), 1..50),
        ) {
            let rate_now = Some(Rate::at(rate, at(0)));
            let mut health = Health { rate: rate_now, ..Health::default() };
            let (mut now, mut taken) = (0, 0u32);
            for (millis, wanted) in asks {
                now += millis;
                taken += health.take(wanted, at(now)).attempts;
            }
            let most = rate * (now as f64 / 1_000.0 + 0.25) + 2.0;
            prop_assert!(f64::from(taken) <= most, "{taken} > {most}");
        }
    }
}
