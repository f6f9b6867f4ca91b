//! A process is killed (SIGKILL) in the midst of its work; what it was told had happened is there afterwards.
//!
//! The test starts itself as that process, which tells on its standard output what the store answered.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookwire_model::{DeliveryId, DeliveryState, EventId, RuleName, Shard, WebhookName};
use hookwire_queue::{
    EventFate, EventState, Fate, Inspect as _, LeaseEvents, LeasedEvent, NewDelivery, NewEvent, Queue as _,
    SettledEvent, Settlement, StoreLimits, WorkerId,
};
use hookwire_queue_embedded::EmbeddedQueue;

const SHARD: Shard = Shard(0);
const CHILD: &str = "--work-until-killed-in";
/// The process is killed after so many lines: in the midst of its tenth round or so.
const LINES: [usize; 3] = [1, 333, 1000];

fn main() {
    let mut args = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    if args.next().as_deref() == Some(CHILD) {
        let folder = args.next().unwrap();
        runtime.block_on(work(Path::new(&folder)));
        return;
    }
    for lines in LINES {
        runtime.block_on(killed_after(lines));
        println!("test killed_after_{lines}_lines ... ok");
    }
}

async fn open(folder: &Path) -> EmbeddedQueue {
    EmbeddedQueue::open(folder, StoreLimits::default(), Duration::from_secs(30)).await.unwrap()
}

/// Publishes, leases and settles without end, and tells each answer.
async fn work(folder: &Path) {
    let queue = open(folder).await;
    let mut out = std::io::stdout().lock();
    for round in 0.. {
        let ids: Vec<String> = (0..20).map(|number| format!("e-{round}-{number}")).collect();
        let event = |id: &String| NewEvent { id: EventId::new(id).unwrap(), payload: vec![b'x'; 500].into() };
        queue.publish(SHARD, ids.iter().map(event).collect()).await.unwrap();
        for id in &ids {
            writeln!(out, "published {id}").unwrap();
        }
        let request = LeaseEvents {
            worker: WorkerId::new("w"),
            lease: Duration::from_secs(600),
            max: 15,
            suspects_max: 0,
        };
        let leased = queue.lease_events(SHARD, request).await.unwrap();
        for event in &leased {
            writeln!(out, "leased {}", event.id).unwrap();
        }
        // A third of them is never settled.
        let settled: Vec<LeasedEvent> = leased.into_iter().take(10).collect();
        let ids: Vec<EventId> = settled.iter().map(|event| event.id.clone()).collect();
        let events = settled.into_iter().map(settle).collect();
        queue.settle(SHARD, &Settlement { events, deliveries: vec![] }).await.unwrap();
        for id in ids {
            writeln!(out, "settled {id}").unwrap();
        }
    }
}

fn settle(event: LeasedEvent) -> SettledEvent {
    let (rule, webhook) = (RuleName::new("r").unwrap(), WebhookName::new("w").unwrap());
    let delivery = NewDelivery {
        id: DeliveryId::derive(SHARD, event.sequence, &event.id, &rule, &webhook),
        rule,
        webhook,
        endpoint: None,
        order: None,
        attempts: vec![],
        fate: Fate::Delivered,
    };
    let fate = EventFate::FannedOut {
        event: "created".into(),
        object_type: "dcim.site".into(),
        deliveries: vec![delivery],
    };
    SettledEvent { lease: event.lease, fate }
}

async fn killed_after(lines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child =
        Command::new(program).arg(CHILD).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told: Vec<String> = told.take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told.len(), lines);
    let of = |kind: &str, told: &[String]| -> BTreeSet<EventId> {
        let ids = told.iter().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        ids.map(|id| EventId::new(id).unwrap()).collect()
    };
    told.sort();
    let (published, leased, settled) = (of("published", &told), of("leased", &told), of("settled", &told));

    let queue = open(folder.path()).await;
    for id in &published {
        let event = queue.event(SHARD, id).await.unwrap().unwrap_or_else(|| panic!("{id} was lost"));
        assert_eq!(event.payload.len(), 500);
        match event.state {
            EventState::FannedOut => assert_eq!(event.deliveries[0].state, DeliveryState::Delivered),
            EventState::Queued => {
                assert!(!settled.contains(id), "{id} was settled");
                assert!(event.losses == 1 || !leased.contains(id), "{id} was leased, and nobody knows");
            }
            EventState::Leased => panic!("{id} is leased by a process that is dead"),
        }
    }
    let stats = queue.stats(SHARD).await.unwrap();
    let request = LeaseEvents {
        worker: WorkerId::new("w"),
        lease: Duration::from_secs(600),
        max: 1 << 20,
        suspects_max: 1 << 20,
    };
    let rest = queue.lease_events(SHARD, request).await.unwrap();
    assert_eq!(stats.events_queued, rest.len() as u64);
    assert_eq!(stats.pending_bytes, 500 * rest.len() as u64);
    queue.close().await;
}
