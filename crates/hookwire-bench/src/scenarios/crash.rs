//! Crash: the worker is killed under load, and another one takes over. Nothing may be lost; what was in flight, or
//! finished and not yet settled, may come twice.

use std::time::Duration;

use crate::load::{self, Flavour, OBJECT_TYPE};
use crate::place::{Place, StoreKind};
use crate::process::{Process, publish_before};
use crate::report::{Faults, Finding, Report, Target};
use crate::setup::Setup;
use crate::sink::{Sink, micros};
use crate::{Bench, worker};

/// Attempts in flight at most, as a worker has by default.
const IN_FLIGHT: u64 = 256;
/// For how long a finished attempt may be unsettled, in seconds.
const UNSETTLED: f64 = 0.25;

pub(crate) fn run(bench: Bench, report: &mut Report, store: StoreKind) -> anyhow::Result<()> {
    let count = bench.deliveries(20_000, 60_000);
    let lease: u64 = bench.size(3, 15);
    let runtime = worker::runtime(None)?;
    let (mut took, mut repeated, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
    let mut faults = Faults::default();
    for _ in 0..3 {
        let mut sink = Sink::start()?;
        let url = format!("http://127.0.0.1:{}/hooks", sink.port());
        let mut webhook = load::webhook("sink", &url, Flavour::Jinja);
        webhook["concurrency"] = IN_FLIGHT.into();
        let setup = Setup::one(webhook, load::rule("active devices", OBJECT_TYPE, &["sink"]))
            .set("worker", "lease", format!("{lease}s"))
            .set("server", "listen", "127.0.0.1:0");
        let place = Place::new(store)?;
        let events: Vec<_> = (0..count).map(|number| (number, OBJECT_TYPE.to_owned())).collect();
        publish_before(&runtime, &place, &setup, &events)?;
        let config = setup.write(place.folder(), &place.url())?;
        let mut first = Process::start(store, &place, &config)?;
        first.wait_until(Duration::from_secs(60), || Ok(sink.look()?.distinct >= count as u64 / 4))?;
        first.kill()?;
        let killed = micros();
        let before = sink.look()?;
        let rate = before.requests as f64 * 1e6 / (before.last - before.first).max(1) as f64;
        let mut second = Process::start(store, &place, &config)?;
        let patience = Duration::from_secs(lease + 60);
        second.wait_until(patience, || Ok(sink.look()?.distinct >= count as u64))?;
        let seen = sink.take()?;
        let may_repeat = IN_FLIGHT + (rate * UNSETTLED) as u64;
        let came_again = seen.requests - seen.distinct;
        faults.lost += (count as u64).saturating_sub(seen.distinct);
        faults.duplicates += came_again.saturating_sub(may_repeat);
        took.push(seen.last.saturating_sub(killed) as f64 / 1e6);
        repeated.push(came_again as f64);
        allowed.push(may_repeat as f64);
    }
    let note = bench.size("a lease of 3 s in place of 15 s", "");
    report.add(Finding {
        compares: "s until all had arrived to the lease + 2 s",
        baseline: &vec![lease as f64 + 2.0; took.len()],
        value: &took,
        target: Target::AtMost(1.0),
        faults,
        note,
    });
    report.add(Finding {
        compares: "duplicates to what was in flight or unsettled",
        baseline: &allowed,
        value: &repeated,
        target: Target::AtMost(1.0),
        faults,
        note: "",
    });
    Ok(())
}
