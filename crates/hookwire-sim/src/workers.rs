//! Workers: processes that start, stall, die, are stopped, and start again.
//!
//! Invariant: when everything has healed each place has a worker that runs until the end.

use std::sync::Arc;
use std::time::Duration;

use hookwire_engine::{Chance, Engine, EngineError, EngineSettings, Metrics, Summary, run};
use hookwire_queue::WorkerId;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::life::Life;
use crate::receivers::Receivers;
use crate::store::Store;
use crate::trace::About;
use crate::world::World;

/// How long a worker that is asked to stop may take beyond its grace period: it tries for ten seconds to settle, and a
/// call under way may take twenty, each way.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How a life is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    CrashAtStep(u32),
    CrashAfter(Duration),
    StopAfter(Duration),
    Idle,
}

/// Runs workers at one place, one after the other, until the end.
pub(crate) async fn work(world: Arc<World>, place: usize, end: CancellationToken) {
    for start in 0.. {
        let number = world.books().lives.len();
        let name = format!("worker {place}.{start}");
        let planned = draw_end(&world);
        let steps = match planned {
            End::CrashAtStep(steps) => Some(steps),
            _ => None,
        };
        let life = Arc::new(Life::new(number, name, steps));
        world.books().life_begins(&life, world.plan.workers[place].concurrency);
        live(&world, place, &life, planned, &end).await;
        if end.is_cancelled() {
            return;
        }
        let pause = world.chance().u64(..4_000);
        sleep(Duration::from_millis(pause)).await;
    }
}

fn draw_end(world: &World) -> End {
    if !world.in_trouble() {
        return End::Never;
    }
    let ends = &world.plan.ends;
    let left = world.plan.trouble.saturating_sub(world.now()).as_millis() as u64;
    let mut chance = world.chance();
    let steps = if chance.bool() { chance.u32(1..40) } else { chance.u32(1..600) };
    let after = Duration::from_millis(chance.u64(..=left));
    let kinds = [
        (ends.crash_at_step, End::CrashAtStep(steps)),
        (ends.crash_at_time, End::CrashAfter(after)),
        (ends.stop, End::StopAfter(after)),
        (ends.until_idle, End::Idle),
    ];
    let mut drawn = chance.u32(..100);
    for (share, end) in kinds {
        if drawn < share {
            return end;
        }
        drawn -= share;
    }
    End::Never
}

async fn live(world: &Arc<World>, place: usize, life: &Arc<Life>, planned: End, end: &CancellationToken) {
    let number = life.number;
    let shutdown = CancellationToken::new();
    let mut running = Box::pin(run(engine(world, place, life, planned), shutdown.clone()));
    let far = Duration::from_secs(1_000_000);
    let (crash, stop) = match planned {
        End::CrashAfter(time) => (time, far),
        End::StopAfter(time) => (far, time),
        End::Never | End::CrashAtStep(_) | End::Idle => (far, far),
    };
    let now = tokio::time::Instant::now();
    let stall = draw_stall(world);
    let stalls = async {
        if let Some((after, time)) = stall {
            sleep(after).await;
            if world.in_trouble() {
                world.books().note(About::All, || format!("{} stalls for {time:?}", life.name));
                world.books().troubled(Some(number), Some(("everything", time)));
                life.stall(time);
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(stalls);
    let ended = tokio::select! {
        biased;
        () = life.died() => None,
        result = &mut running => Some(result),
        () = sleep_until(now + crash) => None,
        () = sleep_until(now + stop) => stopped(world, life, &shutdown, running.as_mut()).await,
        () = end.cancelled() => stopped(world, life, &shutdown, running.as_mut()).await,
        () = &mut stalls => None,
    };
    match ended {
        None => {
            life.die();
            world.books().lives[number].crashed = true;
            world.books().life_ends(number, "crashes");
        }
        Some(Ok(Summary { waits_for_later })) => {
            let how = format!("ends, something waits for later: {waits_for_later}");
            world.books().life_ends(number, &how);
            if planned != End::Idle && !shutdown.is_cancelled() {
                world.books().breach(About::All, format!("{} ended, and nobody asked it to", life.name));
            }
            // Whatever of it still lies about is over.
            life.die();
        }
        Some(Err(error)) => {
            let causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            world.books().breach(About::All, format!("{} ended: {}", life.name, causes.join(": ")));
            world.books().life_ends(number, "ends with an error");
            life.die();
        }
    }
}

/// Asks a worker to stop; `None` if it dies on the way.
async fn stopped(
    world: &World,
    life: &Life,
    shutdown: &CancellationToken,
    running: std::pin::Pin<&mut (impl Future<Output = Result<Summary, EngineError>> + Send)>,
) -> Option<Result<Summary, EngineError>> {
    let asked = world.now();
    world.books().note(About::All, || format!("{} is asked to stop", life.name));
    shutdown.cancel();
    let limit = world.plan.grace + STOP_MAX;
    let result = tokio::select! {
        biased;
        () = life.died() => return None,
        result = timeout(limit, running) => result,
    };
    let mut books = world.books();
    books.lives[life.number].cut_off = world.now() >= asked + world.plan.grace;
    match result {
        Ok(result) => {
            books.check_given_back(life.number, asked);
            Some(result)
        }
        Err(_) => {
            books.breach(About::All, format!("{} has not stopped after {limit:?}", life.name));
            None
        }
    }
}

fn draw_stall(world: &World) -> Option<(Duration, Duration)> {
    let mut chance = world.chance();
    let happens = chance.u32(..100) < world.plan.ends.stall;
    let after = Duration::from_millis(chance.u64(..60_000));
    let most = world.plan.lease.as_millis() as u64 * 3;
    happens.then(|| (after, Duration::from_millis(chance.u64(100..most))))
}

fn engine(
    world: &Arc<World>,
    place: usize,
    life: &Arc<Life>,
    planned: End,
) -> Engine<Store, Receivers, impl Fn() -> hookwire_model::Timestamp + Send + Sync + use<>> {
    let plan = &world.plan;
    let skew = plan.workers[place].skew;
    let began = world.began();
    let clock = move || {
        let millis = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX) + skew * 1000;
        hookwire_model::Timestamp::from_micros(crate::world::start().as_micros() + millis)
    };
    Engine {
        queue: Arc::new(Store { world: Arc::clone(world), life: Some(Arc::clone(life)) }),
        dispatcher: Arc::new(Receivers { world: Arc::clone(world), life: Arc::clone(life) }),
        clock,
        chance: Chance::seeded(world.chance().u64(..)),
        in_force: world.definitions(),
        metrics: Metrics::default(),
        settings: EngineSettings {
            worker: WorkerId::new(life.name.as_str()),
            concurrency: plan.workers[place].concurrency,
            lease: plan.lease,
            grace: Some(plan.grace),
            until_idle: planned == End::Idle,
            keep_bodies: false,
            backlog_age_max: plan.backlog_age_max,
        },
    }
}
