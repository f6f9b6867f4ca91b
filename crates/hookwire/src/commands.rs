//! The commands, one file each.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod deliveries;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod preview;
pub(crate) mod publish;
pub(crate) mod serve;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::{Event, EventId};
use hookwire_server::{Format, Reading, Refusal, read_events};
use hookwire_worker::{Exit, Failure};
use uuid::Uuid;

/// A new id for an event that brings none.
pub(crate) fn new_event_id() -> EventId {
    EventId::new(&Uuid::now_v7().to_string()).expect("a UUID is visible ASCII without dots")
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::InvalidData { Exit::Data } else { Exit::NoInput };
        Failure::new(exit, anyhow::Error::new(error).context(format!("{} cannot be read", path.display())))
    })
}

/// All events of a text; `name` says where it came from.
pub(crate) fn parse_events(name: &str, text: &str, event_bytes_max: u64) -> Result<Vec<Arc<Event>>, Failure> {
    let mut new_id = new_event_id;
    let event_bytes_max = usize::try_from(event_bytes_max).unwrap_or(usize::MAX);
    let mut reading = Reading { now: SystemClock.now(), new_id: &mut new_id, event_bytes_max };
    let events = read_events(text, Format::guess(text), &mut reading);
    events
        .map(|events| events.into_iter().map(Arc::new).collect())
        .map_err(|refusal| bad_events(name, &refusal))
}

/// What is wrong with events, as a failure of the program.
pub(crate) fn bad_events(name: &str, refusal: &Refusal) -> Failure {
    let mut message = format!("{name} holds bad events; nothing was published");
    for problem in &refusal.problems {
        let place = if problem.pointer.is_empty() { "" } else { problem.pointer.as_str() };
        message += &format!("\n  {place}{}{}", if place.is_empty() { "" } else { ": " }, problem.message);
    }
    Failure::message(Exit::Data, message)
}
