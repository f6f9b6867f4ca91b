//! Producers, who publish until it is taken; and operators, who act, change definitions, and in the end mend things.
//!
//! Invariant: what people do to deliveries is done in one step, so that the books know what it was done to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hookwire_engine::{EndpointAct, EndpointState, OperateError, act_on_endpoint, pause_webhook, publish};
use hookwire_model::{Delivery, DeliveryState, Event, EventDefaults, EventId, Shard};
use hookwire_queue::{Change, DeliveryFilter, Inspect as _, NewEvent, Queue as _, QueueError, Selection};
use tokio::time::{sleep, sleep_until};

use crate::plan::{Act, EventPlan};
use crate::store::Store;
use crate::trace::About;
use crate::world::World;

/// How long a producer goes on where the store is full.
const FULL_MAX: u32 = 30;

/// Publishes what the plan says.
pub(crate) async fn produce(world: Arc<World>) {
    let store = Store { world: Arc::clone(&world), life: None };
    let plan = Arc::clone(&world.plan);
    for publication in &plan.publications {
        sleep_until(world.began() + publication.at).await;
        for event in &publication.events {
            world.books().planned.insert(id(event), event.clone());
        }
        let (readable, others): (Vec<&EventPlan>, Vec<&EventPlan>) =
            publication.events.iter().partition(|event| event.readable);
        let events: Vec<Event> = readable.into_iter().map(event).collect();
        let mut full = 0;
        while let Err(error) = publish(&store, &events).await {
            full += u32::from(matches!(error, QueueError::Full { .. }));
            if full > FULL_MAX {
                world
                    .books()
                    .note(About::All, || format!("{} events are given up: the store is full", events.len()));
                break;
            }
            sleep(Duration::from_millis(700)).await;
        }
        for other in others {
            let broken = || NewEvent { id: id(other), payload: Bytes::from_static(b"{") };
            while let Err(error) = store.publish(Shard(0), vec![broken()]).await {
                full += u32::from(matches!(error, QueueError::Full { .. }));
                if full > FULL_MAX {
                    break;
                }
                sleep(Duration::from_millis(700)).await;
            }
        }
    }
}

fn id(event: &EventPlan) -> EventId {
    EventId::new(&format!("e{}", event.number)).expect("a letter and a number are an id")
}

fn event(event: &EventPlan) -> Event {
    let EventPlan { number, object, kind, marked, .. } = event;
    let mark = if *marked { r#","mark":1"# } else { "" };
    let side = number % 2;
    let text = format!(
        r#"{{"id":"e{number}","event":"{kind}","object_type":"dcim.site","timestamp":"2023-11-14T00:00:00Z","data":{{"id":{object},"side":{side}{mark}}}}}"#
    );
    let mut new_id = || unreachable!("the event brings its id");
    let mut defaults = EventDefaults { now: crate::world::start(), new_id: &mut new_id };
    Event::parse(&text, &mut defaults).expect("the simulation's events are sound")
}

/// Does what the plan says.
pub(crate) async fn operate(world: Arc<World>) {
    let plan = Arc::clone(&world.plan);
    for &(at, act) in &plan.acts {
        sleep_until(world.began() + at).await;
        operate_once(&world, act).await;
    }
}

async fn operate_once(world: &Arc<World>, act: Act) {
    let of = |target: usize| {
        let webhook = Some(world.plan.targets[target].webhook.name.clone());
        DeliveryFilter { webhook, ..DeliveryFilter::default() }
    };
    match act {
        Act::Retry(target) => {
            // Of all states it would send again what was delivered, too.
            let state = Some(DeliveryState::Waiting);
            change(world, Change::Retry, &DeliveryFilter { state, ..of(target) });
        }
        Act::Cancel(target) => change(world, Change::Cancel, &of(target)),
        Act::Redrive(target) => change(world, Change::Redrive, &of(target)),
        Act::Purge(target) => change(world, Change::Purge, &of(target)),
        Act::RetryOne(which) => change_one(world, Change::Retry, which),
        Act::CancelOne(which) => change_one(world, Change::Cancel, which),
        Act::Pause(target, receiver) => act_on(world, target, receiver, EndpointAct::Pause).await,
        Act::Resume(target, receiver) => act_on(world, target, receiver, EndpointAct::Resume).await,
        Act::Probe(target, receiver) => act_on(world, target, receiver, EndpointAct::Probe).await,
        Act::PauseWebhook(target) => act_on_webhook(world, target, true).await,
        Act::ResumeWebhook(target) => act_on_webhook(world, target, false).await,
        Act::Disable(target) => world.reload(&format!("disables webhook w{target}"), |definitions| {
            definitions.disabled.insert(target);
        }),
        Act::Enable(target) => world.reload(&format!("enables webhook w{target}"), |definitions| {
            definitions.disabled.remove(&target);
        }),
        Act::Remove(target) => world.reload(&format!("removes webhook w{target}"), |definitions| {
            definitions.removed.insert(target);
        }),
        Act::Restore(target) => world.reload(&format!("restores webhook w{target}"), |definitions| {
            definitions.removed.remove(&target);
        }),
    }
}

/// All deliveries that match.
pub(crate) fn list(world: &World, filter: &DeliveryFilter) -> Vec<Delivery> {
    let page = world.store.list(Shard(0), filter, None, usize::MAX).now_or_never();
    page.expect("the memory queue answers at once").expect("the memory queue does not fail").items
}

/// Acts on all deliveries that match.
pub(crate) fn change(world: &World, change: Change, filter: &DeliveryFilter) {
    let before = list(world, filter);
    act_on_deliveries(world, change, &Selection::Filter(filter.clone()), &before);
}

fn change_one(world: &World, change: Change, which: u32) {
    let all = list(world, &DeliveryFilter::default());
    if !all.is_empty() {
        let one = &all[which as usize % all.len()];
        act_on_deliveries(world, change, &Selection::Ids(vec![one.id]), std::slice::from_ref(one));
    }
}

fn act_on_deliveries(world: &World, change: Change, selection: &Selection, before: &[Delivery]) {
    world.books().acted(change, before);
    let act = |dry_run| {
        let changed = world.store.change(Shard(0), change, selection, dry_run).now_or_never();
        changed.expect("the memory queue answers at once").expect("the memory queue does not fail")
    };
    let (dry, real) = (act(true), act(false));
    let wanted = before.iter().filter(|delivery| change.applies_to(delivery.state)).count() as u64;
    if dry != real || real.changed != wanted {
        let text =
            format!("{change:?} of {wanted}: a dry run tells {}, and {} are done", dry.changed, real.changed);
        world.books().breach(About::All, text);
    }
}

async fn act_on(world: &Arc<World>, target: usize, receiver: usize, act: EndpointAct) {
    let store = Store { world: Arc::clone(world), life: None };
    let endpoint = world.endpoint(target, receiver);
    loop {
        // A pause holds when the command has ended, and is over when its end begins.
        if act == EndpointAct::Resume {
            world.books().paused(endpoint, false);
        }
        let snapshot = world.snapshot();
        match act_on_endpoint(&store, snapshot.definitions(), endpoint, act, world.clock()).await {
            Ok(()) => break,
            Err(
                OperateError::UnknownEndpoint(_)
                | OperateError::UnknownWebhook(_)
                | OperateError::Paused(_)
                | OperateError::WebhookPaused(_),
            ) => {
                return;
            }
            Err(OperateError::Contended(_) | OperateError::Store(_)) => sleep(Duration::from_secs(1)).await,
        }
    }
    match act {
        EndpointAct::Pause => world.books().paused(endpoint, true),
        EndpointAct::Resume => {}
        EndpointAct::Probe => world.books().probed(endpoint),
    }
}

async fn act_on_webhook(world: &Arc<World>, target: usize, pause: bool) {
    let store = Store { world: Arc::clone(world), life: None };
    let name = &world.plan.targets[target].webhook.name;
    loop {
        if !pause {
            world.books().webhook_paused(target, false);
        }
        let snapshot = world.snapshot();
        match pause_webhook(&store, snapshot.definitions(), name, pause, world.clock()).await {
            Ok(()) => break,
            Err(OperateError::Contended(_) | OperateError::Store(_)) => sleep(Duration::from_secs(1)).await,
            Err(_) => return,
        }
    }
    if pause {
        world.books().webhook_paused(target, true);
    }
}

/// Brings all definitions back, and resumes whatever is paused.
pub(crate) async fn mend(world: &Arc<World>) {
    world.reload("brings all webhooks back", |definitions| {
        definitions.removed.clear();
        definitions.disabled.clear();
    });
    for target in 0..world.plan.targets.len() {
        act_on_webhook(world, target, false).await;
    }
    resume_all(world).await;
    // A worker may have learnt of a receiver's 410 while the store failed, and tells of it only now: when the call that
    // was late before has come to its end, on both of its ways.
    sleep(Duration::from_secs(10) + world.plan.faults.delay_most * 4).await;
    resume_all(world).await;
}

/// Resumes every endpoint that is paused.
pub(crate) async fn resume_all(world: &Arc<World>) {
    for (target, plan) in world.plan.targets.iter().enumerate() {
        for receiver in 0..plan.scripts.len() {
            let endpoint = world.endpoint(target, receiver);
            let record = world.store.endpoint(Shard(0), endpoint).now_or_never();
            let record = record.expect("the memory queue answers at once").expect("it does not fail");
            let state = record.and_then(|record| EndpointState::read(&record.state));
            if state.is_some_and(|state| state.health.is_paused()) {
                act_on(world, target, receiver, EndpointAct::Resume).await;
            }
        }
    }
}

/// Sends every dead letter again.
pub(crate) async fn redrive_all(world: &Arc<World>) {
    resume_all(world).await;
    change(world, Change::Redrive, &DeliveryFilter::default());
}

/// Takes the dead letters that are left off the record, so that nothing stands behind them any more; tells how many.
pub(crate) fn purge_all(world: &World) -> usize {
    let state = Some(DeliveryState::Dead);
    let dead = DeliveryFilter { state, ..DeliveryFilter::default() };
    let count = list(world, &dead).len();
    change(world, Change::Purge, &dead);
    count
}
