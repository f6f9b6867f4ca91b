//! How long to wait before the next attempt, by the schedule of the webhook.
//!
//! Invariants:
//! - A wait with jitter stays within `1 - jitter` to `1 + jitter` times the wait of the schedule.
//! - An exponential schedule never gets shorter, and never longer than its `max_delay`.

use std::time::Duration;

use hookwire_model::Schedule;

/// The wait after so many attempts (from 1), before jitter. The last step of a schedule repeats.
pub fn backoff(schedule: &Schedule, attempts: u32) -> Duration {
    let place = attempts.saturating_sub(1);
    match schedule {
        Schedule::Steps(steps) => {
            let step = steps.get(place as usize).or(steps.last());
            step.copied().unwrap_or_default()
        }
        Schedule::Exponential { initial, factor, max_delay } => {
            // A factor below 1 would shrink the wait, and a NaN has no order: both count as 1.
            let factor = factor.max(1.0);
            let seconds = initial.as_secs_f64() * factor.powf(f64::from(place));
            // Beyond `max_delay`, and where the product overflowed, the longest wait holds.
            Duration::try_from_secs_f64(seconds).map_or(*max_delay, |wait| wait.min(*max_delay))
        }
    }
}

/// The longest wait of a schedule, before jitter.
pub fn longest_backoff(schedule: &Schedule) -> Duration {
    match schedule {
        Schedule::Steps(steps) => steps.iter().max().copied().unwrap_or_default(),
        Schedule::Exponential { max_delay, .. } => *max_delay,
    }
}

/// A wait made `1 - jitter` to `1 + jitter` times as long, by a chance from 0 to 1, so that deliveries which
/// failed together do not come back together.
pub fn with_jitter(wait: Duration, jitter: f64, chance: f64) -> Duration {
    scaled(wait, 1.0 + held(jitter) * (2.0 * held(chance) - 1.0))
}

/// A wait made 1 to `1 + jitter` times as long: never shorter, since whoever asked for it meant it as the
/// least.
pub(crate) fn with_jitter_after(wait: Duration, jitter: f64, chance: f64) -> Duration {
    scaled(wait, 1.0 + held(jitter) * held(chance))
}

fn scaled(wait: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait)
}

/// Within 0 to 1; what is no number counts as 0.
fn held(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use hookwire_model::RetryPolicy;
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_default_schedule_goes_over_three_days_and_repeats_its_last_step() {
        let schedule = RetryPolicy::default().schedule;
        let waits: Vec<u64> = (1..=11).map(|attempts| backoff(&schedule, attempts).as_secs()).collect();
        assert_eq!(waits, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400, 86_400]);
        assert_eq!(longest_backoff(&schedule), seconds(86_400));
        assert_eq!(backoff(&schedule, u32::MAX), seconds(86_400));
    }

    #[test]
    fn an_exponential_schedule_grows_to_its_end() {
        let schedule = Schedule::Exponential { initial: seconds(2), factor: 3.0, max_delay: seconds(50) };
        let waits: Vec<u64> = (1..=5).map(|attempts| backoff(&schedule, attempts).as_secs()).collect();
        assert_eq!(waits, [2, 6, 18, 50, 50]);
        assert_eq!(backoff(&schedule, u32::MAX), seconds(50));
    }

    #[test]
    fn jitter_at_its_ends_and_middle() {
        let at = |chance| with_jitter(seconds(100), 0.2, chance);
        assert_eq!([at(0.0), at(0.5), at(1.0)], [seconds(80), seconds(100), seconds(120)]);
        assert_eq!(with_jitter(seconds(100), 0.0, 1.0), seconds(100));
        assert_eq!(with_jitter(seconds(100), f64::NAN, f64::NAN), seconds(100));
        let after = |chance| with_jitter_after(seconds(100), 0.2, chance);
        assert_eq!([after(0.0), after(1.0)], [seconds(100), seconds(120)]);
    }

    proptest! {
        #[test]
        fn an_exponential_schedule_never_decreases_and_keeps_its_bounds(
            initial in 0u64..1_000_000, factor in 1.0f64..100.0, max in 0u64..10_000_000, attempts in 1u32..2_000,
        ) {
            let (initial, max_delay) = (Duration::from_millis(initial), Duration::from_millis(max));
            let schedule = Schedule::Exponential { initial, factor, max_delay };
            let (now, next) = (backoff(&schedule, attempts), backoff(&schedule, attempts + 1));
            prop_assert!(now <= next && next <= max_delay);
            prop_assert!(now >= initial.min(max_delay));
        }

        #[test]
        fn a_wait_of_a_list_is_one_of_its_steps(
            steps in proptest::collection::vec(0u64..100_000, 1..8), attempts in any::<u32>(),
        ) {
            let steps: Vec<Duration> = steps.into_iter().map(Duration::from_millis).collect();
            let schedule = Schedule::Steps(steps.clone());
            let wait = backoff(&schedule, attempts);
            prop_assert!(steps.contains(&wait) && wait <= longest_backoff(&schedule));
        }

        #[test]
        fn jitter_keeps_its_bounds(millis in 0u64..1 << 40, jitter in 0.0f64..=1.0, chance in 0.0f64..=1.0) {
            let wait = Duration::from_millis(millis);
            let (least, most) = (wait.as_secs_f64() * (1.0 - jitter), wait.as_secs_f64() * (1.0 + jitter));
            let found = with_jitter(wait, jitter, chance).as_secs_f64();
            prop_assert!(found >= least - 1e-6 && found <= most + 1e-6);
            let after = with_jitter_after(wait, jitter, chance).as_secs_f64();
            prop_assert!(after >= wait.as_secs_f64() - 1e-6 && after <= most + 1e-6);
        }
    }
}
