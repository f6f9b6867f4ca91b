//! What has to hold at some time of the run, or at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hookwire_engine::EndpointState;
use hookwire_model::{
    DeadReason, Delivery, DeliveryId, DeliveryState, OnFailure, Ordering, Outcome, OutcomeKind, Shard,
    WaitingReason,
};
use hookwire_queue::{DeliveryFilter, Inspect as _, Stats, Subject};
use tokio::time::sleep;

use crate::books::{AttemptBook, Books, is_starved};
use crate::people::list;
use crate::trace::About;
use crate::world::World;

/// How long things may take to come to their end after healing: the longest gap between probes is five minutes, and a
/// rate that was cut to its least grows by a hundredth with each delivery, one in ten seconds at first.
const DRAINS_IN: Duration = Duration::from_secs(3600);
/// How long a delivery that nothing keeps back may wait after healing: workers recheck what was unavailable every half
/// minute, and look for work as often.
const GOES_IN: Duration = Duration::from_secs(60);
/// What a worker asks of the store in a second when there is nothing to do: it looks for endpoints' records every two
/// seconds, and for work every thirty.
const QUIET_CALLS_PER_SECOND: f64 = 1.0;

fn stats(world: &World) -> Stats {
    let stats = world.store.stats(Shard(0)).now_or_never();
    stats.expect("the memory queue answers at once").expect("the memory queue does not fail")
}

fn all(world: &World) -> Vec<Delivery> {
    list(world, &DeliveryFilter::default())
}

/// How many deliveries are on record.
pub(crate) fn deliveries(world: &World) -> usize {
    all(world).len()
}

fn about(delivery: &Delivery) -> About {
    About::Event(delivery.id.sequence())
}

/// What holds at any time.
pub(crate) fn on_the_way(world: &World) {
    for delivery in all(world) {
        let waits = delivery.state == DeliveryState::Waiting;
        let visible = delivery.next_attempt_at.is_some() && delivery.waiting_reason.is_some();
        if waits && !visible {
            let text = format!("{} waits, and nobody can see for what", delivery.id);
            world.books().breach(about(&delivery), text);
        }
    }
}

/// Waits until nothing is left to do but what stands behind a dead letter.
pub(crate) async fn drains(world: &Arc<World>, what: &str) {
    let begin = world.now();
    let mut free_since = BTreeMap::new();
    loop {
        on_the_way(world);
        let free = free_to_go(world);
        free_since.retain(|id, _| free.contains(id));
        for id in free {
            let since = *free_since.entry(id).or_insert(world.now());
            if world.now() - since > GOES_IN {
                let text = format!("nothing has kept {id} back for {GOES_IN:?}, and it was not attempted");
                return world.books().breach(About::Event(id.sequence()), text);
            }
        }
        let stats = stats(world);
        let idle = stats.events_queued + stats.events_leased + stats.running == 0;
        if idle
            && (stats.waiting == 0 || list_waiting(world).iter().all(|delivery| is_blocked(world, delivery)))
        {
            return;
        }
        if world.now() - begin > DRAINS_IN {
            let waiting: Vec<String> = list_waiting(world).iter().take(5).map(told).collect();
            let first = list_waiting(world).first().map_or(About::All, about);
            let text =
                format!("{what} has not come to an end in {DRAINS_IN:?}: {stats:?}; {}", waiting.join(", "));
            return world.books().breach(first, text);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Deliveries that are due, and kept back by nothing: no order, no pause, no breaker, no rate, no hold.
fn free_to_go(world: &World) -> BTreeSet<DeliveryId> {
    let records = world.store.endpoints(Shard(0)).now_or_never();
    let records = records.expect("the memory queue answers at once").expect("the memory queue does not fail");
    let is_well = |state: &EndpointState| {
        state.health.circuit() == "closed"
            && !state.health.is_paused()
            && state.health.rate().is_none()
            && state.health.waits_until(world.clock()).is_none()
    };
    let unwell: BTreeSet<_> = records
        .iter()
        .filter(|record| EndpointState::read(&record.state).is_some_and(|state| !is_well(&state)))
        .map(|record| record.id)
        .collect();
    let all = all(world);
    let books = world.books();
    let mut orders = BTreeMap::<_, DeliveryId>::new();
    for delivery in all.iter().filter(|delivery| !delivery.state.is_finished()) {
        let Some(webhook) = &delivery.webhook else { continue };
        if let Some((key, _)) = books.order_of(delivery.id.sequence(), books.webhook(webhook)) {
            let first = orders.entry(key).or_insert(delivery.id);
            *first = (*first).min(delivery.id);
        }
    }
    let is_free = |delivery: &&Delivery| {
        let (Some(webhook), Some(endpoint)) = (&delivery.webhook, delivery.endpoint) else { return false };
        let webhook = books.webhook(webhook);
        let order = books.order_of(delivery.id.sequence(), webhook);
        let first = order.is_none_or(|(key, _)| orders.get(&key) == Some(&delivery.id));
        let held = books.holds.get(&endpoint).is_some_and(|until| *until > world.now());
        delivery.state == DeliveryState::Waiting
            && delivery.next_attempt_at.is_some_and(|at| at <= world.clock())
            && first
            && !held
            && !unwell.contains(&endpoint)
            && books.plan.targets[webhook].webhook.rate_limit.is_none()
    };
    all.iter().filter(is_free).map(|delivery| delivery.id).collect()
}

fn list_waiting(world: &World) -> Vec<Delivery> {
    list(world, &DeliveryFilter { state: Some(DeliveryState::Waiting), ..DeliveryFilter::default() })
}

fn told(delivery: &Delivery) -> String {
    let reason = delivery.waiting_reason.map_or("nothing", WaitingReason::as_str);
    format!("{} waits for {reason}", delivery.id)
}

/// Whether a dead letter of the same order stands before it.
fn is_blocked(world: &World, delivery: &Delivery) -> bool {
    let books = world.books();
    let order = |delivery: &Delivery| {
        let webhook = books.webhook(delivery.webhook.as_ref()?);
        let definition = &books.plan.targets[webhook].webhook;
        let blocks = definition.ordering == Ordering::Object && definition.on_failure == OnFailure::Block;
        let object = books.events.get(&delivery.id.sequence())?.plan.object;
        blocks.then_some((webhook, object))
    };
    let Some(key) = order(delivery) else { return false };
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..DeliveryFilter::default() };
    list(world, &dead).iter().any(|dead| dead.id < delivery.id && order(dead) == Some(key))
}

/// When everything has healed and come to its end: nothing is lost, and nothing is dead without a reason.
pub(crate) fn after_healing(world: &World) {
    let mut books = world.books();
    let seen: BTreeSet<_> = all(world).iter().map(|delivery| delivery.id).collect();
    let events: Vec<_> = books.events.iter().map(|(sequence, event)| (*sequence, event.clone())).collect();
    for (sequence, event) in events {
        if !event.fanned_out {
            books.breach(About::Event(sequence), format!("event #{sequence} was never fanned out"));
        }
    }
    // An event that lost its lease is fanned out anew, by the rules that hold then, or becomes a dead letter as a whole.
    let anew = |id: &DeliveryId| books.lost.contains(&Subject::Event(id.sequence()));
    let mut attempted = books.by_delivery.keys().copied();
    let gone = attempted.find(|id| !seen.contains(id) && !books.purged.contains(id) && !anew(id));
    if let Some(id) = gone {
        books.breach(About::Event(id.sequence()), format!("{id} was attempted, and is not on record"));
    }
    for delivery in all(world) {
        let wrong = match delivery.state {
            DeliveryState::Waiting | DeliveryState::Running => None,
            DeliveryState::Delivered => {
                let taken = attempts_of(&books, &delivery).any(AttemptBook::was_taken);
                (!taken).then(|| "is delivered, and no receiver took it".to_owned())
            }
            DeliveryState::Cancelled => {
                let cancelled = books.cancelled.contains(&delivery.id);
                (!cancelled).then(|| "is cancelled, and nobody did that".to_owned())
            }
            DeliveryState::Superseded => superseded(world, &books, &delivery),
            DeliveryState::Dead => dead(&books, &delivery),
        };
        if let Some(wrong) = wrong {
            books.breach(about(&delivery), format!("{} {wrong}", delivery.id));
        }
    }
}

fn attempts_of<'a>(books: &'a Books, delivery: &Delivery) -> impl Iterator<Item = &'a AttemptBook> {
    let places = books.by_delivery.get(&delivery.id).into_iter().flatten();
    places.map(|place| &books.attempts[*place])
}

/// What is wrong with a superseded delivery, if anything is.
fn superseded(world: &World, books: &Books, delivery: &Delivery) -> Option<String> {
    let webhook = delivery.webhook.as_ref()?;
    let definition = &books.plan.targets[books.webhook(webhook)].webhook;
    if definition.ordering != Ordering::Object || definition.on_failure != OnFailure::Supersede {
        return Some("is superseded, and its webhook does not ask for that".to_owned());
    }
    let object = |id: DeliveryId| books.events.get(&id.sequence()).map(|event| event.plan.object);
    let filter = DeliveryFilter { webhook: Some(webhook.clone()), ..DeliveryFilter::default() };
    let newer = list(world, &filter).into_iter();
    let mut newer = newer.filter(|other| other.id > delivery.id && object(other.id) == object(delivery.id));
    let purged = books.purged.iter().any(|id| *id > delivery.id && object(*id) == object(delivery.id));
    let any = newer.any(|other| other.state != DeliveryState::Superseded) || purged;
    (!any).then(|| "is superseded, and nothing newer came".to_owned())
}

/// What is wrong with a dead letter, if anything is.
fn dead(books: &Books, delivery: &Delivery) -> Option<String> {
    let Some(reason) = delivery.dead_reason else { return Some("is dead without a reason".to_owned()) };
    let event = &books.events.get(&delivery.id.sequence())?;
    let target = delivery.webhook.as_ref().map(|name| &books.plan.targets[books.webhook(name)]);
    let answered = |wanted: u16| attempts_of(books, delivery).any(|attempt| attempt.status() == Some(wanted));
    let holds = match reason {
        DeadReason::AttemptsExhausted => {
            target.is_some_and(|target| delivery.attempts >= target.webhook.retry.max_attempts.get())
        }
        DeadReason::AgeExceeded => target.is_some_and(|target| target.webhook.retry.max_age.is_some()),
        DeadReason::Gone => answered(410),
        DeadReason::RenderError => target.is_some_and(|target| target.strict) && !event.plan.marked,
        DeadReason::EgressRefused => attempts_of(books, delivery).any(|attempt| {
            matches!(&attempt.outcome, Some(Outcome::Unsent(error)) if error.kind == hookwire_model::ErrorKind::Egress)
        }),
        DeadReason::UnreadableEvent => !event.plan.readable,
        // Five leases were lost, and the sixth found it out.
        DeadReason::PoisonEvent => event.leased >= 6,
        DeadReason::Panic => attempts_of(books, delivery).any(|attempt| attempt.panicked),
        DeadReason::BacklogLimit => {
            let age = delivery.finished_at.map(|at| at.saturating_since(delivery.created_at));
            books.plan.backlog_bytes_max < 1 << 30
                || age.is_some_and(|age| age >= books.plan.backlog_age_max)
        }
        DeadReason::InvalidRequest => false,
    };
    (!holds).then(|| format!("is dead as {reason}, which cannot be"))
}

/// When dead letters were sent again and the rest taken off the record: nothing is left.
pub(crate) fn nothing_is_left(world: &World) {
    on_the_way(world);
    let left = all(world).into_iter().filter(|delivery| !delivery.state.is_finished());
    for delivery in left {
        // What stood behind a dead letter may have become too old meanwhile, and may be one that cannot be rendered.
        let late = matches!(
            delivery.dead_reason,
            Some(DeadReason::AgeExceeded | DeadReason::RenderError | DeadReason::BacklogLimit)
        );
        if !late {
            let text = format!("{} is {} after everything has healed", delivery.id, delivery.state);
            world.books().breach(about(&delivery), text);
        }
    }
    let stats = stats(world);
    if stats.pending_bytes > 0 && stats.waiting + stats.running + stats.events_queued == 0 {
        let text = format!("nothing is pending, and {} bytes are", stats.pending_bytes);
        world.books().breach(About::All, text);
    }
    endpoints_are_well(world);
}

/// No endpoint that took something last is taken for broken.
fn endpoints_are_well(world: &World) {
    let records = world.store.endpoints(Shard(0)).now_or_never();
    let records = records.expect("the memory queue answers at once").expect("the memory queue does not fail");
    for record in records {
        let Some(state) = EndpointState::read(&record.state) else { continue };
        let mut books = world.books();
        let last = books.attempts.iter().rfind(|attempt| attempt.endpoint == record.id);
        let took = last.is_some_and(AttemptBook::was_taken);
        if took && (state.health.circuit() != "closed" || state.health.is_paused()) {
            let text = format!(
                "{} took its last delivery, and its breaker is {}",
                record.id,
                state.health.circuit()
            );
            books.breach(About::Endpoint(record.id), text);
        }
    }
}

/// Whoever has nothing to do does nothing.
pub(crate) async fn is_quiet(world: &World) {
    const TIME: Duration = Duration::from_secs(60);
    // What a rate gave out may have to come back first, and is looked for meanwhile.
    sleep(TIME).await;
    let before = world.books().calls.clone();
    sleep(TIME).await;
    let mut books = world.books();
    let mut since = books.calls.clone();
    for (call, count) in &mut since {
        *count -= before.get(call).copied().unwrap_or(0);
    }
    let all: u64 = since.values().sum();
    let calls = all as f64 / TIME.as_secs_f64() / books.plan.workers.len() as f64;
    if calls > QUIET_CALLS_PER_SECOND {
        let text =
            format!("with nothing to do, a worker calls the store {calls:.1} times a second: {since:?}");
        books.breach(About::All, text);
    }
}

/// When all workers have stopped: what the store tells is what the receivers saw, and limits on rates were kept.
pub(crate) fn after_the_end(world: &World) {
    let mut books = world.books();
    for delivery in all(world) {
        let stored = books.stored(delivery.id);
        let log = stored.and_then(|delivery| delivery.attempt_log).unwrap_or_default();
        for recorded in &log {
            let seen = attempts_of(&books, &delivery)
                .any(|seen| seen.number == recorded.number && seen.told && seen.status() == recorded.status);
            let unseen = recorded.outcome == OutcomeKind::Unsent && recorded.status.is_none();
            if !seen && !unseen {
                let text =
                    format!("attempt {} of {} is on record, and nobody saw it", recorded.number, delivery.id);
                books.breach(about(&delivery), text);
            }
        }
        let may_repeat = books.lost.contains(&Subject::Delivery(delivery.id))
            || books.lost.contains(&Subject::Event(delivery.id.sequence()));
        let excused = |attempt: &AttemptBook| {
            let life = &books.lives[attempt.life];
            may_repeat || life.ended.is_some() && (life.crashed || life.cut_off)
        };
        let missing = attempts_of(&books, &delivery).find(|seen| {
            let on_record = log.iter().any(|recorded| recorded.number == seen.number);
            seen.told && !on_record && !seen.was_not_made() && (seen.recorded || !excused(seen))
        });
        let missing = missing.map(|seen| (seen.number, books.who(Some(seen.life))));
        let taken: Vec<&AttemptBook> =
            attempts_of(&books, &delivery).filter(|seen| seen.was_taken()).collect();
        let again = books.sent_again.get(&delivery.id).copied().unwrap_or(0);
        let times = taken.len();
        let repeats = times > 1 + again as usize && !taken.into_iter().any(excused);
        let not_made = log.iter().find(|recorded| {
            let kind = recorded.error.as_ref().map(|error| error.kind);
            recorded.outcome == OutcomeKind::Unsent && kind.is_some_and(is_starved)
        });
        if let Some(not_made) = not_made {
            let text =
                format!("attempt {} of {} was not made, and is on record", not_made.number, delivery.id);
            books.breach(about(&delivery), text);
        }
        if let Some((number, who)) = missing {
            let text = format!("{who} made attempt {number} of {}, and it is not on record", delivery.id);
            books.breach(about(&delivery), text);
        }
        if repeats {
            let text = format!("{} was taken {times} times, and nothing had cut it off", delivery.id);
            books.breach(about(&delivery), text);
        }
    }
    rates_hold(&mut books);
}

/// Limits on rates hold over any time: what the rate gives, the bucket of each worker, and what they may spend before
/// they learn of each other. Workers that start, and a store that fails, each give another bucket.
fn rates_hold(books: &mut Books) {
    let plan = Arc::clone(&books.plan);
    let lives = books.lives.len() as f64;
    let mut endpoints = BTreeMap::new();
    for attempt in &books.attempts {
        endpoints.insert(attempt.endpoint, attempt.webhook);
    }
    for (endpoint, webhook) in endpoints {
        let Some(limit) = plan.targets[webhook].webhook.rate_limit else { continue };
        let per_second = f64::from(limit.count.get()) / limit.per.as_secs_f64();
        let bucket = (per_second * 0.25).max(1.0);
        let begun = &books.begun[&endpoint];
        // Each worker may spend for half a second what others spend, too: it shares every quarter of one.
        let (share, slack) = match plan.is_calm() {
            true => (1.0, plan.workers.len() as f64 * (bucket + per_second * 0.5)),
            // Where the store fails, each worker may make the probe that is due.
            false => (plan.workers.len() as f64, lives * bucket + plan.workers.len() as f64),
        };
        let mut breach = None;
        for (first, begin) in begun.iter().enumerate() {
            for (last, end) in begun.iter().enumerate().skip(first) {
                let count = (last - first + 1) as f64;
                let allowed = share * per_second * (*end - *begin).as_secs_f64() + slack + 1.0;
                if count > allowed && breach.is_none() {
                    breach = Some(format!(
                        "{endpoint} got {count} attempts from {begin:?} to {end:?}; {limit} allows {allowed:.1}"
                    ));
                }
            }
        }
        if let Some(text) = breach {
            books.breach(About::Endpoint(endpoint), text);
        }
    }
}
