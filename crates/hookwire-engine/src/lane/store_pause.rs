//! Leaving a store alone that failed: for a while, and for longer each time.

use std::time::Duration;

use tokio::time::Instant;

/// The first and the longest wait before a store that failed is asked again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Whether a store is left alone.
#[derive(Default)]
pub(super) struct StorePause(Option<(Instant, Duration)>);

impl StorePause {
    /// Until when nothing is asked of it.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.0.map(|(until, _)| until).filter(|until| *until > now)
    }

    /// Whether it failed, and has not answered since.
    pub(super) fn is_begun(&self) -> bool {
        self.0.is_some()
    }

    /// It failed; tells whether it had answered before. `draw`, from 0 to 1, is the jitter.
    pub(super) fn lengthen(&mut self, now: Instant, draw: f64) -> bool {
        let (first, longest) = BACKOFF;
        let pause = self.0.map_or(first, |(_, pause)| (pause * 2).min(longest));
        let jittered = pause.mul_f64(0.5 + draw / 2.0);
        self.0.replace((now + jittered, pause)).is_none()
    }

    /// It answered; tells whether that ends a pause. Nothing is asked during one, so what is answered in it was asked
    /// before the store failed.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        self.0.take_if(|(until, _)| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_as_the_one_before_up_to_five_seconds() {
        let now = Instant::now();
        let mut pause = StorePause::default();
        assert!(pause.lengthen(now, 1.0));
        let mut lengths = vec![pause.until(now).unwrap() - now];
        for _ in 0..8 {
            assert!(!pause.lengthen(now, 1.0), "it goes on");
            lengths.push(pause.until(now).unwrap() - now);
        }
        let millis: Vec<_> = lengths.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(!pause.end(now), "what is answered now was asked before");
        assert!(pause.end(now + Duration::from_secs(5)) && !pause.is_begun());
        assert!(pause.lengthen(now, 0.0));
        assert_eq!(pause.until(now).unwrap() - now, Duration::from_millis(25));
    }
}
