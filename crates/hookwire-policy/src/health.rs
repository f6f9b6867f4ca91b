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
//! - Time going backwards (workers' clocks differ) changes neither.

use std::time::Duration;

use hookwire_model::{Timestamp, WaitingReason};
use serde::{Deserialize, Serialize};

use crate::EndpointEffect;

/// Failures in a row that open the breaker.
pub const FAILURES_TO_OPEN: u32 = 10;
/// The first gap before a probe: long enough for a process to restart.
pub const GAP_MIN: Duration = Duration::from_secs(1);
/// The longest gap before a probe: an endpoint that comes back waits no longer than this.
pub const GAP_MAX: Duration = Duration::from_secs(5 * 60);
/// The rate after the breaker closed, in attempts per second.
pub const RATE_START: f64 = 5.0;
/// The lowest rate, in attempts per second: one in ten seconds, so that it is found out when things get
/// better.
pub const RATE_MIN: f64 = 0.1;
/// A rate that is no limit any more, in attempts per second: more than a worker sends.
pub const RATE_FREE: f64 = 100_000.0;

/// How long a probe may take before another is made: the worker that made it may have died. Twice the longest
/// timeout that is usual.
const PROBE_LEASE: Duration = Duration::from_secs(60);
/// Cuts within this time count as one: they tell of requests that were on their way together.
const CUT_PAUSE: Duration = Duration::from_secs(1);
/// Tokens that may be taken at once, as a time: short, so that a rate is smooth.
const BURST: Duration = Duration::from_millis(250);

/// The health of one endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Health {
    circuit: Circuit,
    rate: Option<Rate>,
    meter: Meter,
    /// The endpoint asked to be left alone until then.
    silent_until: Option<Timestamp>,
    paused: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Circuit {
    Closed { failures: u32 },
    Open { gap: Duration, probe_at: Timestamp },
    HalfOpen { gap: Duration, probe_until: Timestamp },
}

impl Default for Circuit {
    fn default() -> Self {
        Circuit::Closed { failures: 0 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rate {
    per_second: f64,
    /// The rate at which the endpoint last slowed down.
    ceiling: Option<f64>,
    grown_at: Timestamp,
    cut_at: Option<Timestamp>,
    /// When the tokens taken so far are used up (GCRA's theoretical arrival time).
    spent_until: Timestamp,
}

/// Attempts per second as they were, over whole seconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Meter {
    second: i64,
    count: u32,
    last: u32,
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
        if self.paused {
            return Admittance::Wait { until: Timestamp::MAX, reason: WaitingReason::Paused };
        }
        if let Some(until) = self.silent_until.filter(|until| *until > now) {
            return Admittance::Wait { until, reason: WaitingReason::RateLimit };
        }
        match self.circuit {
            Circuit::Closed { .. } => Admittance::Open,
            // A probe that has not ended within its time is taken as lost, and another one made.
            Circuit::Open { gap, probe_at: from } | Circuit::HalfOpen { gap, probe_until: from } => {
                if from > now {
                    return Admittance::Wait { until: from, reason: WaitingReason::Unhealthy };
                }
                let probe_until = now.saturating_add(PROBE_LEASE);
                self.circuit = Circuit::HalfOpen { gap, probe_until };
                Admittance::Probe
            }
        }
    }

    /// Attempts that may be in flight at once, where the webhook says `concurrency`.
    pub fn room(&self, concurrency: u32) -> u32 {
        match self.circuit {
            _ if self.paused => 0,
            Circuit::Closed { .. } => concurrency,
            Circuit::Open { .. } => 0,
            Circuit::HalfOpen { .. } => concurrency.min(1),
        }
    }

    /// Takes tokens for so many attempts from the rate: a portion, so that a worker need not ask for each.
    pub fn take(&mut self, wanted: u32, now: Timestamp) -> Grant {
        let Some(rate) = &mut self.rate else { return Grant { attempts: wanted, more_after: None } };
        let interval = Duration::from_secs_f64(1.0 / rate.per_second);
        // One token is always within reach, however low the rate.
        let burst = BURST.max(interval);
        let spent_until = rate.spent_until.max(now);
        let room = now.saturating_add(burst).saturating_since(spent_until);
        // The microsecond makes up for the rounding of timestamps.
        let fits = (room + Duration::from_micros(1)).as_secs_f64() * rate.per_second;
        let attempts = wanted.min(fits as u32);
        rate.spent_until = spent_until.saturating_add(interval.saturating_mul(attempts));
        let room = now.saturating_add(burst).saturating_since(rate.spent_until);
        let more_after = (attempts < wanted).then(|| interval.saturating_sub(room));
        Grant { attempts, more_after }
    }

    /// The rate that holds, in attempts per second; `None` where there is no limit.
    pub fn rate(&self) -> Option<f64> {
        self.rate.as_ref().map(|rate| rate.per_second)
    }

    /// Whether a person, or a 410, paused the endpoint.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Applies what an attempt said about the endpoint.
    pub fn observe(&mut self, effect: EndpointEffect, now: Timestamp) {
        match effect {
            EndpointEffect::None => return,
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
                    self.silent_until = Some(self.silent_until.map_or(until, |have| have.max(until)));
                }
            }
            EndpointEffect::Pause => self.paused = true,
        }
        if self.silent_until.is_some_and(|until| until <= now) {
            self.silent_until = None;
        }
    }

    /// Lets nothing through until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Ends a pause. What was known about the endpoint before is forgotten but for its rate, which begins
    /// anew: the backlog of the pause must not fall upon it at once.
    pub fn resume(&mut self, now: Timestamp) {
        *self = Health { rate: Some(Rate::start(now)), ..Health::default() };
    }

    /// Lets a probe through now, where the breaker is open; also ends a silence that the endpoint asked for.
    pub fn probe(&mut self, now: Timestamp) {
        self.silent_until = None;
        if let Circuit::Open { gap, .. } | Circuit::HalfOpen { gap, .. } = self.circuit {
            self.circuit = Circuit::Open { gap, probe_at: now };
        }
    }

    fn answered(&mut self, now: Timestamp) {
        if !matches!(self.circuit, Circuit::Closed { .. }) {
            self.rate = Some(Rate::start(now));
        }
        self.circuit = Circuit::Closed { failures: 0 };
    }

    fn failed(&mut self, now: Timestamp) {
        let open = |gap: Duration| Circuit::Open { gap, probe_at: now.saturating_add(gap) };
        self.circuit = match self.circuit {
            Circuit::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                Circuit::Closed { failures: failures + 1 }
            }
            Circuit::Closed { .. } => open(GAP_MIN),
            // An attempt from before it opened: nothing new.
            Circuit::Open { gap, probe_at } => Circuit::Open { gap, probe_at },
            Circuit::HalfOpen { gap, .. } => open(gap.saturating_mul(2).clamp(GAP_MIN, GAP_MAX)),
        };
    }

    fn grow(&mut self, now: Timestamp) {
        let used = self.meter.per_second();
        let Some(rate) = &mut self.rate else { return };
        // A second at most, so that a quiet endpoint does not jump when it is called again.
        let elapsed = now.saturating_since(rate.grown_at).as_secs_f64().min(1.0);
        rate.grown_at = rate.grown_at.max(now);
        // What is not used says nothing about what the endpoint can bear.
        if used < rate.per_second / 2.0 && rate.per_second > RATE_START {
            return;
        }
        rate.per_second = match rate.ceiling {
            None => rate.per_second * 2f64.powf(elapsed),
            // Back to where it slowed down last in some ten seconds, faster at first; beyond it with care.
            Some(ceiling) if rate.per_second < ceiling => {
                let step = ((ceiling - rate.per_second) * 0.3).max(ceiling * 0.002);
                (rate.per_second + step * elapsed).min(ceiling)
            }
            Some(_) => rate.per_second * 1.01f64.powf(elapsed),
        };
        if rate.per_second >= RATE_FREE {
            self.rate = None;
        }
    }

    fn cut(&mut self, now: Timestamp) {
        let used = self.meter.per_second().max(1.0);
        let rate = self.rate.get_or_insert_with(|| Rate { per_second: used, ..Rate::start(now) });
        if rate.cut_at.is_some_and(|cut_at| now.saturating_since(cut_at) < CUT_PAUSE) {
            return;
        }
        // Near a ceiling that is known the endpoint was only just full; else it may have been called twice as
        // often as it can bear.
        let near = rate.ceiling.is_some_and(|ceiling| (0.8..1.25).contains(&(rate.per_second / ceiling)));
        rate.ceiling = Some(rate.per_second);
        rate.per_second = (rate.per_second * if near { 0.95 } else { 0.5 }).max(RATE_MIN);
        rate.cut_at = Some(now);
        rate.grown_at = rate.grown_at.max(now);
    }
}

impl Rate {
    fn start(now: Timestamp) -> Rate {
        Rate { per_second: RATE_START, ceiling: None, grown_at: now, cut_at: None, spent_until: now }
    }
}

impl Meter {
    fn count(&mut self, now: Timestamp) {
        let second = now.as_secs();
        if second > self.second {
            self.last = if second == self.second + 1 { self.count } else { 0 };
            (self.second, self.count) = (second, 0);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The busier of this second, as far as it has gone, and the one before.
    fn per_second(&self) -> f64 {
        f64::from(self.last.max(self.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!((health.admit(at(0)), health.room(32)), (Admittance::Open, 32));
        let mut health = opened();
        assert_eq!(health.admit(at(0)), waits(1_000, WaitingReason::Unhealthy));
        assert_eq!((health.admit(at(999)), health.room(32)), (waits(1_000, WaitingReason::Unhealthy), 0));
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
            assert_eq!((health.admit(now), health.room(32)), (Admittance::Probe, 1));
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
            assert_eq!((health.admit(at(1_000)), health.room(32)), (Admittance::Open, 32));
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
        assert_eq!((health.admit(Timestamp::MAX), health.room(32)), (forever, 0));
        health.resume(at(2));
        assert_eq!(
            (health.admit(at(2)), health.is_paused(), health.rate()),
            (Admittance::Open, false, Some(RATE_START))
        );
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
        health.rate = Some(Rate { per_second: 10.0, ..Rate::start(at(0)) });
        // A quarter of a second's worth at once, then one in a tenth of a second.
        assert_eq!(health.take(5, at(0)), Grant { attempts: 2, more_after: Some(Duration::from_millis(50)) });
        assert_eq!(health.take(5, at(49)).attempts, 0);
        assert_eq!(health.take(5, at(50)).attempts, 1);
        health.rate = Some(Rate { per_second: RATE_MIN, ..Rate::start(at(0)) });
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
        let mut health = Health { rate: Some(Rate::start(at(0))), ..Health::default() };
        for second in 0..100 {
            health.observe(EndpointEffect::Success, at(second * 1_000));
        }
        assert!(health.rate().is_some_and(|rate| rate <= 2.0 * RATE_START), "{:?}", health.rate());
        let mut health = Health {
            rate: Some(Rate { per_second: RATE_FREE / 3.0, ..Rate::start(at(0)) }),
            ..Health::default()
        };
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
                if let Circuit::Open { gap, .. } | Circuit::HalfOpen { gap, .. } = health.circuit {
                    prop_assert!((GAP_MIN..=GAP_MAX).contains(&gap));
                }
                let stored = serde_json::to_string(&health).unwrap();
                let mut read = serde_json::from_str::<Health>(&stored).unwrap();
                // The last digit of a rate may differ: JSON is read fast rather than to the last bit.
                let (had, has) = (health.rate().unwrap_or(0.0), read.rate().unwrap_or(0.0));
                prop_assert!((had - has).abs() <= had * 1e-12);
                read.rate.clone_from(&health.rate);
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

        #[test]
        fn a_rate_holds_over_any_time(
            rate in 0.1f64..1_000.0, asks in proptest::collection::vec((0i64..2_000, 0u32..500), 1..50),
        ) {
            let rate_now = Some(Rate { per_second: rate, ..Rate::start(at(0)) });
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
