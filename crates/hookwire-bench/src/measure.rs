//! Time, processor time and memory.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// What something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// Processor time of this process, which holds neither the sink nor a Redis server.
    pub(crate) cpu: Duration,
}

impl Took {
    /// So many in this time, per second.
    pub(crate) fn rate(self, count: usize) -> f64 {
        count as f64 / self.wall.as_secs_f64()
    }

    /// Microseconds of processor time for each of so many.
    pub(crate) fn cpu_each(self, count: usize) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count as f64
    }
}

/// A watch that runs.
pub(crate) struct Watch {
    began: Instant,
    cpu: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Watch { began: Instant::now(), cpu: process_cpu() }
    }

    pub(crate) fn stop(self) -> Took {
        Took { wall: self.began.elapsed(), cpu: process_cpu().saturating_sub(self.cpu) }
    }
}

/// Processor time that this process has taken so far, over all of its threads.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory of a process that is really there, in bytes: now, and at most so far.
pub(crate) fn resident(process: u32) -> anyhow::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .context("memory can only be measured where there is /proc, as on Linux")?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let (now, most) = value("VmRSS").zip(value("VmHWM")).context("the process has ended")?;
    Ok((now << 10, most << 10))
}

/// The value that so many of the others, as a fraction, do not exceed; sorts them.
pub(crate) fn percentile(values: &mut [u64], fraction: f64) -> u64 {
    values.sort_unstable();
    let place = (values.len() as f64 * fraction).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let mut values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!([0.5, 0.99, 1.0].map(|fraction| percentile(&mut values, fraction)), [50, 99, 100]);
        assert_eq!(percentile(&mut [7], 0.5), 7);
        assert_eq!(percentile(&mut [], 0.5), 0);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let (now, most) = resident(std::process::id()).unwrap();
        assert!(now > 1 << 20 && most >= now);
        let watch = Watch::start();
        let mut sum = 0_u64;
        while process_cpu() < watch.cpu + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1);
        }
        let took = watch.stop();
        assert!(took.cpu >= Duration::from_millis(2) && took.rate(1) > 0.0 && took.cpu_each(1) >= 2000.0);
    }
}
