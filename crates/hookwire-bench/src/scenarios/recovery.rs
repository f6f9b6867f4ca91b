//! Recovery: receivers with little room that were down while events piled up. Three of them at once take the place of
//! three rounds: most of the time is theirs, not the worker's.

use std::time::Duration;

use anyhow::ensure;
use hookwire_model::Shard;
use hookwire_queue::Inspect as _;
use hookwire_worker::say;

use crate::load::{self, Flavour};
use crate::place::{Place, StoreKind};
use crate::process::{Process, Publisher};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::{Answer, Seen, Sink};
use crate::{Bench, worker};

/// Requests a second that a receiver has room for.
const ROOM: u32 = 200;
const RECEIVERS: usize = 3;
/// How long a worker may take to find out that the receivers are down, and to put everything aside.
const ASIDE_MAX: Duration = Duration::from_secs(60);

pub(crate) fn run(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    let count = bench.deliveries(5000, 20_000);
    let runtime = worker::runtime(None)?;
    let mut sinks = Vec::new();
    for _ in 0..RECEIVERS {
        sinks.push(Sink::start_with(Answer::Room(ROOM), 1)?);
    }
    let kind = |receiver: usize| format!("bench.kind{receiver}");
    let webhooks = sinks.iter().enumerate().map(|(receiver, sink)| {
        let url = format!("http://127.0.0.1:{}/hooks", sink.port());
        load::webhook(&format!("hook-{receiver}"), &url, Flavour::Jinja)
    });
    let rules = (0..RECEIVERS).map(|receiver| {
        load::rule(&format!("rule-{receiver}"), &kind(receiver), &[&format!("hook-{receiver}")])
    });
    let setup = Setup::many(webhooks.collect(), rules.collect());
    let place = Place::new(StoreKind::Redis)?;
    let mut process = Process::start(StoreKind::Redis, &place, &setup.write(place.folder(), &place.url())?)?;
    let events: Vec<_> = (0..count * RECEIVERS).map(|number| (number, kind(number % RECEIVERS))).collect();
    let store = runtime.block_on(async {
        let mut publisher = Publisher::new(&process, &place, &setup).await?;
        publisher.publish(&events).await?;
        match publisher {
            Publisher::Store(store) => Ok(store),
            Publisher::Http(_) => anyhow::bail!("on Redis the store is everybody's"),
        }
    })?;
    let aside = process.wait_until(ASIDE_MAX, || {
        let stats = runtime.block_on(store.stats(Shard(0)))?;
        Ok(stats.waiting == events.len() as u64)
    })?;
    ensure!(aside, "the deliveries are not put aside while their receivers are down");
    for sink in &mut sinks {
        sink.come_up()?;
    }
    // Twice what the room takes, and the longest that a few failed probes put the next one off.
    let patience = Duration::from_secs(2 * count as u64 / u64::from(ROOM) + 60);
    process.wait_until(patience, || {
        let mut done = true;
        for sink in &mut sinks {
            done &= sink.look()?.distinct >= count as u64;
        }
        Ok(done)
    })?;
    let mut faults = Faults::default();
    let (mut taken, mut attempts, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for sink in &mut sinks {
        let seen = sink.take()?;
        faults.count(count, seen.taken(), seen.distinct);
        taken.push(after_ramp(&seen.each_second));
        attempts.push(seen.requests as f64);
        refused.push(seen.turned_away as f64);
        describe(&seen);
    }
    let note = if count < 20_000 { format!("{count} events each in place of 20000") } else { String::new() };
    let room = vec![f64::from(ROOM); RECEIVERS];
    report.add(Finding {
        compares: "taken/s after the ramp to the receiver's room",
        baseline: &room,
        value: &taken,
        target: Target::AtLeast(0.95),
        faults,
        note: &note,
    });
    report.add(Finding {
        compares: "answers 429 to attempts",
        baseline: &attempts,
        value: &refused,
        target: Target::AtMost(0.01),
        faults,
        note: "",
    });
    Ok(())
}

fn describe(seen: &Seen) {
    let Seen { each_second, turned_away, requests, .. } = seen;
    say(format_args!("  taken each second: {each_second:?}; turned away {turned_away} of {requests}"));
}

/// Requests a second that were taken, from the first second at full room on, without the last one, which is cut short.
fn after_ramp(each_second: &[u32]) -> f64 {
    let full = f64::from(ROOM) * 0.95;
    let ramp = each_second.iter().position(|taken| f64::from(*taken) >= full).unwrap_or(0);
    let after = each_second.get(ramp..each_second.len().saturating_sub(1)).unwrap_or_default();
    let sum: u32 = after.iter().sum();
    if after.is_empty() { 0.0 } else { f64::from(sum) / after.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_and_the_last_second_do_not_count() {
        assert!((after_ramp(&[5, 50, 190, 200, 195, 7]) - 195.0).abs() < 1e-9);
        assert_eq!((after_ramp(&[]), after_ramp(&[200])), (0.0, 0.0));
    }
}
