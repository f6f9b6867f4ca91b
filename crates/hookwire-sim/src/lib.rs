//! The simulation: a seed makes a world of failing stores, dying workers and bad receivers, in which the promises are checked.
//!
//! [`simulate`] carries out one seed: the real engine, on one thread and a paused clock, over the memory queue behind a
//! fault injector, calls receivers that follow scripts. For a while everything goes wrong that the seed says; then
//! everything heals, and what is left has to come to its end.
//!
//! Invariants:
//! - One seed gives one run, line for line.
//! - What is checked is worked out from what was published and what the receivers saw, not from what the engine says.
//!
//! Absences: no threads, no sockets, no files, and no time but the virtual one.

mod books;
mod life;
mod people;
mod plan;
mod receivers;
mod store;
mod trace;
mod verdict;
mod workers;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

pub use trace::Trace;

use plan::Plan;
use trace::About;
use world::World;

/// What came of a seed.
#[derive(Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What broke a rule, in the order in which it did; empty if all is well.
    pub breaches: Vec<String>,
    /// What happened, where it was asked for.
    pub trace: Trace,
    /// How much happened.
    pub counts: Counts,
}

/// How much happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were accepted.
    pub events: u64,
    /// Deliveries that they became.
    pub deliveries: u64,
    /// Attempts that receivers saw.
    pub attempts: u64,
    /// Workers that were started.
    pub workers: u64,
    /// Calls of the store.
    pub calls: u64,
    /// How long it took until everything had come to its end after things had healed, in virtual time.
    pub drained_in: Duration,
}

impl Run {
    /// What to show of a run that failed: its breaches, what led to the first of them, and how to repeat it.
    pub fn report(&self) -> String {
        let Run { seed, breaches, .. } = self;
        format!(
            "seed {seed} breaks {} rules:\n{}\n\nwhat led to the first of them:\n{}\nall of it: cargo xtask sim --seed {seed} --trace\n",
            breaches.len(),
            breaches.join("\n"),
            self.trace.excerpt(),
        )
    }
}

/// Carries out a seed; with `tracing` it notes everything that happens, which takes longer.
pub fn simulate(seed: u64, tracing: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can always be built");
    let run = runtime.block_on(carry_out(seed, tracing));
    // Tasks that lie about in a hopeless run are not waited for.
    runtime.shutdown_background();
    run
}

async fn carry_out(seed: u64, tracing: bool) -> Run {
    let world = World::new(Plan::new(seed), seed, tracing);
    world.books().note(About::Life(None), || format!("{:#?}", world.plan));
    let end = CancellationToken::new();
    let mut workers = JoinSet::new();
    for place in 0..world.plan.workers.len() {
        workers.spawn(workers::work(Arc::clone(&world), place, end.clone()));
    }
    let hopeless = Arc::clone(&world.books().hopeless);
    let drained_in = tokio::select! {
        drained_in = happen(&world) => drained_in,
        () = hopeless.notified() => Duration::MAX,
    };
    if !world.is_halted() {
        end.cancel();
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                world.books().breach(About::All, format!("a worker panicked: {error}"));
            }
        }
        verdict::after_the_end(&world);
    }
    workers.abort_all();
    while workers.join_next().await.is_some() {}
    let books = world.books();
    let counts = Counts {
        events: books.events.len() as u64,
        deliveries: verdict::deliveries(&world) as u64,
        attempts: books.attempts.len() as u64,
        workers: books.lives.len() as u64,
        calls: books.calls.values().sum(),
        drained_in,
    };
    Run { seed, breaches: books.trace.breaches(), trace: books.trace.clone(), counts }
}

/// Trouble, healing, and the rest until nothing is left to do. Gives how long that took.
async fn happen(world: &Arc<World>) -> Duration {
    let mut others = JoinSet::new();
    others.spawn(people::produce(Arc::clone(world)));
    others.spawn(people::operate(Arc::clone(world)));
    while world.now() < world.plan.trouble {
        let next = world.now() + Duration::from_secs(10);
        sleep_until(world.began() + next.min(world.plan.trouble)).await;
        verdict::on_the_way(world);
    }
    world.heal();
    world.books().note(About::All, || "everything heals".to_owned());
    for life in &world.books().lives {
        if life.ended.is_none() {
            life.life.spare();
        }
    }
    while others.join_next().await.is_some() {}
    people::mend(world).await;
    let healed = world.now();
    verdict::drains(world, "what waited").await;
    verdict::after_healing(world);
    people::redrive_all(world).await;
    verdict::drains(world, "what was sent again").await;
    // What stood behind a dead letter may become one, too; each round takes one off.
    let rounds = verdict::deliveries(world);
    for _ in 0..rounds {
        if people::purge_all(world) == 0 {
            break;
        }
        verdict::drains(world, "what stood behind a dead letter").await;
    }
    let drained_in = world.now() - healed;
    verdict::nothing_is_left(world);
    verdict::is_quiet(world).await;
    drained_in
}
