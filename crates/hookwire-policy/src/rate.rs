//! How fast an endpoint may be called: a bucket of tokens, and a rate that finds out what the endpoint bears.
//!
//! Invariants:
//! - Over any time a bucket gives no more tokens than its rate times that time, and [`BURST`]'s worth.
//! - One token is always within reach, however low the rate.
//! - A rate is between [`RATE_MIN`] and [`RATE_FREE`].
//! - A stored rate that none can have is refused when it is read, so that it can be calculated with.

use std::ops::RangeInclusive;
use std::time::Duration;

use hookwire_model::Timestamp;
use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize};

/// The rate after the breaker closed, in attempts per second.
pub const RATE_START: f64 = 5.0;
/// The lowest rate, in attempts per second: one in ten seconds, so that it is found out when things get
/// better.
pub const RATE_MIN: f64 = 0.1;
/// A rate that is no limit any more, in attempts per second: more than a worker sends.
pub const RATE_FREE: f64 = 100_000.0;

/// What any rate lies within, also one that a definition sets: its interval is a [`Duration`].
const SOUND: RangeInclusive<f64> = 1e-9..=1e12;

/// Cuts within this time count as one: they tell of requests that were on their way together.
const CUT_PAUSE: Duration = Duration::from_secs(1);
/// Tokens that may be taken at once, as a time: short, so that a rate is smooth.
const BURST: Duration = Duration::from_millis(250);

/// What more than one worker may have spent beyond what there was, as a time and as tokens: more than that was spent by
/// another clock.
const DEBT_MAX: (Duration, u32) = (Duration::from_secs(60), 64);

/// Tokens that come at a rate (GCRA: the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    #[serde(deserialize_with = "read_rate")]
    per_second: f64,
    /// When the tokens taken so far are used up (GCRA's theoretical arrival time).
    pub(crate) spent_until: Timestamp,
}

impl Bucket {
    pub(crate) fn new(per_second: f64, now: Timestamp) -> Self {
        let mut bucket = Bucket { per_second: 1.0, spent_until: now };
        bucket.set_rate(per_second);
        bucket
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.per_second
    }

    pub(crate) fn set_rate(&mut self, per_second: f64) {
        // Unlike `clamp`, these take no NaN for an answer.
        self.per_second = per_second.max(*SOUND.start()).min(*SOUND.end());
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_second)
    }

    /// How far beyond the present tokens may be spent: one token's worth at least.
    fn room(&self, now: Timestamp) -> Duration {
        let burst = BURST.max(self.interval());
        now.saturating_add(burst).saturating_since(self.spent_until.max(now))
    }

    /// How many tokens there are.
    pub(crate) fn holds(&self, now: Timestamp) -> u32 {
        // The microsecond makes up for the rounding of timestamps.
        ((self.room(now) + Duration::from_micros(1)).as_secs_f64() * self.per_second) as u32
    }

    /// How long until there is one more than so many.
    pub(crate) fn more_after(&self, attempts: u32, now: Timestamp) -> Duration {
        let wanted = self.interval().saturating_mul(attempts.saturating_add(1));
        wanted.saturating_sub(self.room(now))
    }

    pub(crate) fn spend(&mut self, attempts: u32, now: Timestamp) {
        let spent_until = self.spent_until.max(now);
        self.spent_until = spent_until.saturating_add(self.interval().saturating_mul(attempts));
    }

    /// Until when tokens may be spent at most.
    fn spent_max(&self, now: Timestamp) -> Timestamp {
        let (time, tokens) = DEBT_MAX;
        now.saturating_add(time).saturating_add(self.interval().saturating_mul(tokens))
    }

    /// See [`Health::adjust`](crate::Health::adjust).
    pub(crate) fn adjust(&mut self, now: Timestamp) -> bool {
        let before = self.spent_until;
        self.spent_until = before.min(self.spent_max(now));
        self.spent_until != before
    }

    /// See [`Health::received`](crate::Health::received).
    pub(crate) fn received(&mut self, now: Timestamp) {
        if self.spent_until > self.spent_max(now) {
            self.spent_until = Timestamp::UNIX_EPOCH;
        }
    }

    /// Takes over what others spent, with so many tokens that were spent here and they do not know of.
    pub(crate) fn join(&mut self, own: Option<Timestamp>, theirs: Option<Timestamp>, taken: u32) {
        let theirs = theirs.map(|spent| spent.saturating_add(self.interval().saturating_mul(taken)));
        self.spent_until = own.max(theirs).unwrap_or(self.spent_until).max(self.spent_until);
    }
}

/// A rate that grows while it goes well, and shrinks where the endpoint slows down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) bucket: Bucket,
    /// The rate at which the endpoint last slowed down.
    #[serde(default, deserialize_with = "read_ceiling")]
    ceiling: Option<f64>,
    grown_at: Timestamp,
    cut_at: Option<Timestamp>,
}

impl Rate {
    /// The rate after an outage.
    pub(crate) fn start(now: Timestamp) -> Rate {
        Rate::at(RATE_START, now)
    }

    pub(crate) fn at(per_second: f64, now: Timestamp) -> Rate {
        Rate { bucket: Bucket::new(per_second, now), ceiling: None, grown_at: now, cut_at: None }
    }

    /// See [`Health::adjust`](crate::Health::adjust).
    pub(crate) fn adjust(&mut self, now: Timestamp) -> bool {
        self.grown_at = self.grown_at.min(now);
        self.cut_at = self.cut_at.map(|cut_at| cut_at.min(now));
        self.bucket.adjust(now)
    }

    /// Something went well, where `used` attempts per second are made.
    pub(crate) fn grow(&mut self, used: f64, now: Timestamp) {
        // A second at most, so that a quiet endpoint does not jump when it is called again.
        let elapsed = now.saturating_since(self.grown_at).as_secs_f64().min(1.0);
        self.grown_at = self.grown_at.max(now);
        let per_second = self.bucket.per_second;
        // What is not used says nothing about what the endpoint can bear.
        if used < per_second / 2.0 && per_second > RATE_START {
            return;
        }
        self.bucket.set_rate(match self.ceiling {
            None => per_second * 2f64.powf(elapsed),
            // Back to where it slowed down last in some ten seconds, faster at first; beyond it with care.
            Some(ceiling) if per_second < ceiling => {
                let step = ((ceiling - per_second) * 0.3).max(ceiling * 0.002);
                (per_second + step * elapsed).min(ceiling)
            }
            Some(_) => per_second * 1.01f64.powf(elapsed),
        });
    }

    /// The endpoint slows down; returns whether that says something new.
    pub(crate) fn cut(&mut self, now: Timestamp) -> bool {
        if self.cut_at.is_some_and(|cut_at| now.saturating_since(cut_at) < CUT_PAUSE) {
            return false;
        }
        // Near a ceiling that is known the endpoint was only just full; else it may have been called twice as
        // often as it can bear.
        let per_second = self.bucket.per_second;
        let near = self.ceiling.is_some_and(|ceiling| (0.8..1.25).contains(&(per_second / ceiling)));
        self.ceiling = Some(per_second);
        self.bucket.set_rate((per_second * if near { 0.95 } else { 0.5 }).max(RATE_MIN));
        self.cut_at = Some(now);
        self.grown_at = self.grown_at.max(now);
        true
    }
}

fn read_rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    sound(f64::deserialize(deserializer)?)
}

fn read_ceiling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Option::deserialize(deserializer)?.map(sound).transpose()
}

fn sound<E: serde::de::Error>(rate: f64) -> Result<f64, E> {
    if SOUND.contains(&rate) {
        Ok(rate)
    } else {
        Err(E::invalid_value(Unexpected::Float(rate), &"a rate of attempts per second"))
    }
}

/// Attempts per second as they were, over whole seconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meter {
    second: i64,
    count: u32,
    last: u32,
}

impl Meter {
    pub(crate) fn count(&mut self, now: Timestamp) {
        let second = now.as_secs();
        if second > self.second {
            self.last = if second == self.second + 1 { self.count } else { 0 };
            (self.second, self.count) = (second, 0);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The busier of this second, as far as it has gone, and the one before.
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.last.max(self.count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(per_second: &str) -> Result<Bucket, serde_json::Error> {
        serde_json::from_str(&format!("{{\"per_second\":{per_second},\"spent_until\":{}}}", stored(0)))
    }

    fn stored(millis: i64) -> String {
        serde_json::to_string(&Timestamp::from_millis(millis)).unwrap()
    }

    #[test]
    fn a_stored_rate_that_none_can_have_is_refused() {
        for rate in ["0", "-0.0", "-1", "1e-300", "1e-10", "1e13", "1e308", "null", "\"5\""] {
            assert!(bucket(rate).is_err(), "{rate}");
        }
        for rate in ["1e-9", "0.1", "5", "100000.0", "1e12"] {
            assert!(bucket(rate).is_ok(), "{rate}");
        }
        let rate = |ceiling: &str| {
            let whole = serde_json::to_string(&Rate::start(Timestamp::from_millis(0))).unwrap();
            serde_json::from_str::<Rate>(
                &whole.replace("\"ceiling\":null", &format!("\"ceiling\":{ceiling}")),
            )
        };
        assert!(rate("null").is_ok() && rate("7.5").is_ok());
        assert!(rate("-7.5").is_err() && rate("0").is_err());
    }

    proptest! {
        /// Whatever rate somebody sets, the bucket can be read again and calculated with.
        #[test]
        fn any_rate_can_be_calculated_with(
            per_second in any::<f64>(),
            attempts in any::<u32>(),
            millis in 0i64..10_000_000_000_000,
        ) {
            let now = Timestamp::from_millis(millis);
            let mut made = Bucket::new(per_second, now);
            prop_assert!(bucket(&made.per_second().to_string()).is_ok());
            let _ = (made.holds(now), made.more_after(attempts, now));
            made.spend(attempts, now);
            made.join(Some(now), Some(now), attempts);
            let mut rate = Rate::at(per_second, now);
            rate.cut(now);
            rate.grow(per_second, now.saturating_add(Duration::from_secs(5)));
            prop_assert!(SOUND.contains(&rate.bucket.per_second()));
        }
    }
}
