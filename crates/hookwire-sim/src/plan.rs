//! What a seed says: who works, what is published, which receivers there are, and what goes wrong when.
//!
//! Invariant: a plan is a function of its seed. What happens while it is carried out draws from a source of its own, so
//! that a change here does not shift what happens there.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use hookwire_model::{ErrorKind, OnFailure, Ordering, RetryPolicy, Schedule, Webhook, WebhookName};

/// Everything a run is given.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How long things go wrong; then everything heals.
    pub(crate) trouble: Duration,
    pub(crate) lease: Duration,
    pub(crate) grace: Duration,
    pub(crate) workers: Vec<WorkerPlan>,
    pub(crate) targets: Vec<Target>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) acts: Vec<(Duration, Act)>,
    pub(crate) faults: Faults,
    pub(crate) ends: Ends,
    pub(crate) pending_bytes_max: u64,
    /// What may wait for one endpoint.
    pub(crate) backlog_bytes_max: u64,
    /// How long a delivery may wait.
    pub(crate) backlog_age_max: Duration,
}

/// One place where workers run, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPlan {
    pub(crate) concurrency: usize,
    /// How far its clock is off, in milliseconds.
    pub(crate) skew: i64,
}

/// A webhook and its receivers.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) webhook: Webhook,
    /// Under the rule that matches everything.
    pub(crate) by_all: bool,
    /// Under the rule that matches updates.
    pub(crate) by_updates: bool,
    /// Its template needs a member that some events lack.
    pub(crate) strict: bool,
    /// How each of its receivers behaves from when on.
    pub(crate) scripts: Vec<Vec<(Duration, Behaviour)>>,
}

/// How a receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// 200 within so many milliseconds.
    Healthy { millis: u64 },
    /// 200 after so many milliseconds at least and at most, perhaps past the deadline.
    Slow { least: u64, most: u64 },
    /// A status, perhaps with `Retry-After`.
    Status { status: u16, asks: Option<Asks> },
    /// 200, or a status for so many in a hundred.
    Flaky { percent: u8, status: u16 },
    /// 429 beyond so many in a second.
    Limited { per_second: u32, asks: Option<Asks> },
    /// Nothing before the deadline.
    Silent,
    /// No answer.
    Unanswered(ErrorKind),
    /// Nothing is sent.
    Unsent(ErrorKind),
    /// The dispatcher panics.
    Panic,
}

/// A `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Seconds(u64),
    /// A date so many seconds ahead.
    Date(u64),
}

/// Events that are published in one call.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub(crate) at: Duration,
    pub(crate) events: Vec<EventPlan>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventPlan {
    pub(crate) number: u32,
    pub(crate) object: u32,
    pub(crate) kind: &'static str,
    /// Whether it has the member that some templates need.
    pub(crate) marked: bool,
    /// Whether its payload can be read.
    pub(crate) readable: bool,
    /// Whether the worker that fans it out dies.
    pub(crate) poison: bool,
}

/// What people do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Of all waiting ones of a webhook.
    Retry(usize),
    Cancel(usize),
    Redrive(usize),
    Purge(usize),
    /// Of one delivery, whatever its state: the so-and-so-many-th.
    RetryOne(u32),
    CancelOne(u32),
    Pause(usize, usize),
    Resume(usize, usize),
    Probe(usize, usize),
    PauseWebhook(usize),
    ResumeWebhook(usize),
    Disable(usize),
    Enable(usize),
    Remove(usize),
    Restore(usize),
}

/// What goes wrong with the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// In a thousand calls: errors without an effect.
    pub(crate) errors: u32,
    /// In a thousand calls: effects whose reply gets lost.
    pub(crate) lost_replies: u32,
    /// In a thousand calls: delays before the effect, or after it.
    pub(crate) delays: u32,
    pub(crate) delay_most: Duration,
    /// When nothing works at all.
    pub(crate) outages: Vec<(Duration, Duration)>,
}

/// How workers end, in a hundred of them; the others go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// At a call or an attempt, before it or after it.
    pub(crate) crash_at_step: u32,
    /// At some time.
    pub(crate) crash_at_time: u32,
    pub(crate) stop: u32,
    pub(crate) until_idle: u32,
    /// Stall for a while.
    pub(crate) stall: u32,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let trouble = Duration::from_secs(rng.u64(40..240));
        let workers = (0..rng.usize(1..=3)).map(|_| WorkerPlan {
            concurrency: pick(rng, &[1, 2, 4, 8, 16, 32]),
            skew: if rng.u8(..3) == 0 { rng.i64(-1500..1500) } else { 0 },
        });
        let workers = workers.collect();
        let targets: Vec<Target> = (0..rng.usize(1..=4)).map(|number| target(rng, number, trouble)).collect();
        let publications = publications(rng, trouble);
        let acts = acts(rng, &targets, trouble);
        Plan {
            trouble,
            lease: Duration::from_secs(pick(rng, &[3, 5, 15])),
            grace: Duration::from_millis(pick(rng, &[0, 300, 2_000, 11_000])),
            workers,
            faults: faults(rng, trouble),
            ends: ends(rng),
            pending_bytes_max: if rng.u8(..8) == 0 { 2_000 } else { 1 << 30 },
            targets,
            publications,
            acts,
            backlog_bytes_max: if rng.u8(..8) == 0 { rng.u64(200..2_000) } else { 1 << 30 },
            backlog_age_max: Duration::from_secs(if rng.u8(..8) == 0 { rng.u64(20..200) } else { 1 << 30 }),
        }
    }

    /// Whether store and workers do their part all along.
    pub(crate) fn is_calm(&self) -> bool {
        let Faults { errors, lost_replies, delays, outages, .. } = &self.faults;
        let Ends { crash_at_step, crash_at_time, stop, until_idle, stall } = self.ends;
        errors + lost_replies + delays == 0
            && outages.is_empty()
            && crash_at_step + crash_at_time + stop + until_idle + stall == 0
    }
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn between(rng: &mut Rng, most: Duration) -> Duration {
    Duration::from_millis(rng.u64(..=most.as_millis() as u64))
}

fn target(rng: &mut Rng, number: usize, trouble: Duration) -> Target {
    let name = format!("w{number}");
    let receivers = if rng.u8(..3) == 0 { 2 } else { 1 };
    let strict = rng.u8(..5) == 0;
    let host = if receivers == 2 { format!("{name}-{{{{data.side}}}}") } else { format!("{name}-0") };
    let mark = if strict { "/{{data.mark}}" } else { "" };
    let name = WebhookName::new(&name).expect("a letter and a digit are a name");
    let mut webhook = Webhook::new(name, format!("http://{host}.test:8080/{{{{data.id}}}}{mark}"));
    webhook.timeout = Duration::from_secs(pick(rng, &[1, 4, 10]));
    webhook.concurrency = NonZeroU32::new(pick(rng, &[1, 2, 4, 32])).expect("none of them is zero");
    if rng.u8(..4) == 0 {
        let limit = pick(rng, &["1/s", "40/m", "4/s", "20/s"]);
        webhook.rate_limit = Some(limit.parse().expect("it is a rate"));
    }
    if rng.u8(..5) < 2 {
        webhook.ordering = Ordering::Object;
        webhook.on_failure = pick(rng, &[OnFailure::Block, OnFailure::Skip, OnFailure::Supersede]);
    }
    webhook.retry = retry(rng);
    let by_all = rng.u8(..4) > 0;
    let scripts = (0..receivers).map(|_| script(rng, trouble)).collect();
    Target { webhook, by_all, by_updates: !by_all || rng.u8(..6) == 0, strict, scripts }
}

fn retry(rng: &mut Rng) -> RetryPolicy {
    let schedule = match rng.u8(..2) {
        0 => {
            let steps = (0..rng.usize(1..4)).map(|_| Duration::from_millis(rng.u64(100..30_000)));
            Schedule::Steps(steps.collect())
        }
        _ => Schedule::Exponential {
            initial: Duration::from_millis(rng.u64(200..4_000)),
            factor: pick(rng, &[1.0, 1.5, 2.0, 3.0]),
            max_delay: Duration::from_secs(rng.u64(5..40)),
        },
    };
    RetryPolicy {
        max_attempts: NonZeroU32::new(rng.u32(1..8)).expect("at least one"),
        schedule,
        jitter: pick(rng, &[0.0, 0.2, 0.5]),
        max_age: (rng.u8(..5) == 0).then(|| Duration::from_secs(rng.u64(20..200))),
    }
}

/// Some receivers are in trouble once, some all along, some never.
fn script(rng: &mut Rng, trouble: Duration) -> Vec<(Duration, Behaviour)> {
    let healthy = |rng: &mut Rng| Behaviour::Healthy { millis: pick(rng, &[0, 5, 50, 400]) };
    let mut script = vec![(Duration::ZERO, healthy(rng))];
    match rng.u8(..6) {
        0 => {}
        1 => script.push((Duration::ZERO, behaviour(rng))),
        2 | 3 => {
            let begin = between(rng, trouble);
            script.push((begin, behaviour(rng)));
            script.push((begin + between(rng, trouble / 2), healthy(rng)));
        }
        _ => {
            let mut at = Duration::ZERO;
            while at < trouble {
                script.push((at, behaviour(rng)));
                at += Duration::from_secs(rng.u64(3..60));
            }
        }
    }
    script
}

fn behaviour(rng: &mut Rng) -> Behaviour {
    let asks = match rng.u8(..4) {
        0 => Some(Asks::Seconds(rng.u64(0..60))),
        1 => Some(Asks::Date(rng.u64(1..60))),
        _ => None,
    };
    match rng.u8(..20) {
        0..=2 => Behaviour::Healthy { millis: pick(rng, &[0, 5, 100, 800]) },
        3 | 4 => Behaviour::Slow { least: 200, most: rng.u64(201..3_000) },
        5 => Behaviour::Slow { least: 2_000, most: 12_000 },
        6..=9 => {
            let status = pick(rng, &[500, 500, 502, 503, 503, 504, 404, 301, 408, 425, 429, 101]);
            Behaviour::Status { status, asks }
        }
        10..=12 => Behaviour::Flaky { percent: rng.u8(5..95), status: pick(rng, &[500, 503, 429, 400]) },
        13 | 14 => Behaviour::Limited { per_second: rng.u32(1..10), asks },
        15 => Behaviour::Silent,
        16 | 17 => {
            use ErrorKind::{Connect, Dns, Internal, Protocol, Redirect, Reset, ResponseBody, Tls};
            let kinds = [Connect, Dns, Reset, Tls, Protocol, ResponseBody, Redirect, Internal];
            Behaviour::Unanswered(pick(rng, &kinds))
        }
        18 => Behaviour::Unsent(pick(rng, &[ErrorKind::Connect, ErrorKind::Egress, ErrorKind::Dns])),
        _ => match rng.u8(..3) {
            0 => Behaviour::Panic,
            _ => Behaviour::Status { status: 410, asks },
        },
    }
}

fn publications(rng: &mut Rng, trouble: Duration) -> Vec<Publication> {
    let objects = rng.u32(1..6);
    let most = rng.u32(5..45);
    let (odd, poisonous) = (rng.u8(..3) == 0, rng.u8(..8) == 0);
    // In bursts, or spread out.
    let bursts = rng.usize(1..12);
    let mut publications: Vec<Publication> = Vec::new();
    let mut number = 0;
    for _ in 0..bursts {
        let at = between(rng, trouble * 9 / 10);
        let events = (0..rng.u32(1..=(most / bursts as u32).max(1))).map(|_| {
            number += 1;
            EventPlan {
                number,
                object: rng.u32(..objects),
                kind: pick(rng, &["created", "updated", "updated", "deleted"]),
                marked: rng.u8(..10) > 0,
                readable: !odd || rng.u8(..20) > 0,
                poison: poisonous && rng.u8(..20) == 0,
            }
        });
        publications.push(Publication { at, events: events.collect() });
    }
    // Some are published again, alone or with others.
    for _ in 0..rng.usize(..3) {
        let again = &publications[rng.usize(..publications.len())];
        let (at, events) = (again.at + Duration::from_millis(rng.u64(..20_000)), again.events.clone());
        publications.push(Publication { at, events });
    }
    publications.sort_by_key(|publication| publication.at);
    publications
}

fn acts(rng: &mut Rng, targets: &[Target], trouble: Duration) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let count = if rng.u8(..3) == 0 { 0 } else { rng.usize(..14) };
    for _ in 0..count {
        let at = between(rng, trouble);
        let later = at + between(rng, trouble / 2);
        let target = rng.usize(..targets.len());
        let receiver = rng.usize(..targets[target].scripts.len());
        match rng.u8(..12) {
            0 => acts.push((at, Act::Retry(target))),
            1 => acts.push((at, Act::Cancel(target))),
            2 | 3 => acts.push((at, Act::Redrive(target))),
            4 => acts.push((at, Act::Purge(target))),
            5 => acts.push((at, Act::RetryOne(rng.u32(..)))),
            6 => acts.push((at, Act::CancelOne(rng.u32(..)))),
            7 => acts.extend([(at, Act::Pause(target, receiver)), (later, Act::Resume(target, receiver))]),
            8 => acts.push((at, Act::Probe(target, receiver))),
            9 => acts.extend([(at, Act::PauseWebhook(target)), (later, Act::ResumeWebhook(target))]),
            10 => acts.extend([(at, Act::Disable(target)), (later, Act::Enable(target))]),
            _ => acts.extend([(at, Act::Remove(target)), (later, Act::Restore(target))]),
        }
    }
    acts.retain(|(at, _)| *at < trouble);
    acts.sort_by_key(|(at, _)| *at);
    acts
}

fn faults(rng: &mut Rng, trouble: Duration) -> Faults {
    if rng.u8(..3) == 0 {
        return Faults::default();
    }
    let share = |rng: &mut Rng, most: u32| if rng.bool() { rng.u32(1..most) } else { 0 };
    let (errors, lost_replies, delays) = (share(rng, 120), share(rng, 120), share(rng, 200));
    let outages = (0..rng.usize(..3)).map(|_| {
        let begin = between(rng, trouble);
        (begin, begin + Duration::from_millis(rng.u64(100..25_000)))
    });
    let outages = outages.collect();
    let delay_most = Duration::from_millis(pick(rng, &[20, 300, 2_000, 20_000]));
    Faults { errors, lost_replies, delays, delay_most, outages }
}

fn ends(rng: &mut Rng) -> Ends {
    if rng.u8(..4) == 0 {
        return Ends::default();
    }
    Ends {
        crash_at_step: rng.u32(..60),
        crash_at_time: rng.u32(..20),
        stop: rng.u32(..20),
        until_idle: if rng.u8(..5) == 0 { 20 } else { 0 },
        stall: rng.u32(..40),
    }
}
