//! Memory: of a worker process with much that waits in its store, and after many deliveries beside few.

use std::time::Duration;

use anyhow::ensure;

use super::scale::{fill, waiting_setup};
use crate::load::OBJECT_TYPE;
use crate::place::{Place, StoreKind};
use crate::process::{Process, Publisher};
use crate::report::{Faults, Finding, Report, Target};
use crate::sink::Sink;
use crate::{Bench, worker};

const MIB: f64 = (1 << 20) as f64;
const ROUNDS: usize = 3;

pub(crate) fn run(bench: Bench, report: &mut Report) -> anyhow::Result<()> {
    let waiting = bench.size(100_000, 1_000_000);
    let (few, many) = bench.size((5_000, 25_000), (100_000, 1_000_000));
    let runtime = worker::runtime(None)?;
    let note =
        bench.size("100,000 waiting in place of 1,000,000, 25,000 deliveries in place of 1,000,000", "");
    for (kind, most, compares) in [
        (StoreKind::Redis, 64.0, "MiB of a worker with 1,000,000 waiting on Redis, to 64"),
        (StoreKind::Embedded, 128.0, "MiB of a server with 1,000,000 waiting, to 128"),
    ] {
        let mut faults = Faults::default();
        let (mut peak, mut early, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut sink = Sink::start()?;
            let setup = waiting_setup(sink.port());
            let place = Place::new(kind)?;
            fill(&runtime, &place, &setup, waiting)?;
            let mut process = Process::start(kind, &place, &setup.write(place.folder(), &place.url())?)?;
            let mut publisher = runtime.block_on(Publisher::new(&process, &place, &setup))?;
            let mut published = 0;
            for (until, figures) in [(few, &mut early), (many, &mut late)] {
                while published < until {
                    let batch: Vec<_> = (published..until.min(published + worker::BATCH))
                        .map(|number| (number, OBJECT_TYPE.to_owned()))
                        .collect();
                    published += batch.len();
                    runtime.block_on(publisher.publish(&batch))?;
                }
                let all = process
                    .wait_until(Duration::from_secs(300), || Ok(sink.look()?.distinct >= until as u64))?;
                ensure!(all, "{until} deliveries do not arrive in five minutes");
                figures.push(process.resident()?.0 as f64 / MIB);
            }
            peak.push(process.resident()?.1 as f64 / MIB);
            let seen = sink.take()?;
            faults.count(many, seen.requests, seen.distinct);
        }
        report.add(Finding {
            compares,
            baseline: &[most; ROUNDS],
            value: &peak,
            target: Target::AtMost(1.0),
            faults,
            note,
        });
        report.add(Finding {
            compares: match kind {
                StoreKind::Redis => "MiB after ten times as many deliveries, Redis",
                StoreKind::Embedded => "MiB after ten times as many deliveries, embedded",
            },
            baseline: &early,
            value: &late,
            target: Target::AtMost(1.1),
            faults,
            note: "",
        });
    }
    Ok(())
}
