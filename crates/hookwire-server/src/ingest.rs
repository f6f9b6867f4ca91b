//! Reading events from what a producer sent: one event, an array, or one a line.
//!
//! Invariants:
//! - A batch is read whole or refused whole, and a refusal names everything that is wrong with it.
//! - Every event of a batch is held to the limit on its size.

use hookwire_model::{Event, EventDefaults, EventId, Problem, Timestamp};
use serde_json::value::RawValue;

/// How events stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One event, or an array of events.
    Json,
    /// One event a line; empty lines are passed over.
    Lines,
}

impl Format {
    /// What a text most likely is: several lines that each begin an object are one event a line.
    pub fn guess(text: &str) -> Format {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        match (lines.next(), lines.next()) {
            (Some(first), Some(second)) if first.ends_with('}') && second.starts_with('{') => Format::Lines,
            _ => Format::Json,
        }
    }
}

/// What reading events needs besides their text.
pub struct Reading<'a> {
    /// The time it is now, for events without `timestamp`.
    pub now: Timestamp,
    /// Makes a new unique id.
    pub new_id: &'a mut dyn FnMut() -> EventId,
    /// How many bytes an event may have.
    pub event_bytes_max: usize,
}

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// An event is larger than the limit, which is a matter of its own in HTTP.
    pub too_large: bool,
    /// Everything that is wrong. In a batch each pointer begins with the place of the event, from 0.
    pub problems: Vec<Problem>,
}

/// At most so many problems are told: a batch of a million bad lines should not answer with a million messages.
const PROBLEMS_MAX: usize = 100;

/// Reads all events of a text.
///
/// # Errors
/// [`Refusal`] if any event is bad; then none is taken.
pub fn read_events(text: &str, format: Format, reading: &mut Reading<'_>) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::new();
    read_at_most(usize::MAX, text, format, reading, &mut events)?;
    Ok(events)
}

/// Reads all events of a text, of which there may be so many. Each goes on as it was read; after a refusal, what went on
/// counts for nothing.
pub(crate) fn read_at_most(
    events_max: usize,
    text: &str,
    format: Format,
    reading: &mut Reading<'_>,
    events: &mut impl Extend<Event>,
) -> Result<(), Refusal> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json if !text.trim_start().starts_with('[') => read_single(text, reading, parse_own, events),
        Format::Json => read_array(events_max, text, reading, parse_own, events),
        Format::Lines => {
            let lines = lines(text).enumerate().filter(|(_, line)| !line.trim().is_empty());
            read_all(events_max, lines, reading, parse_own, events)
        }
    }
}

/// The lines of a text without their ends, and an empty one after the last end. There is a kilobyte between two ends, which
/// memchr passes over faster than [`str::lines`] does.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    let mut start = 0;
    ends.map(move |end| {
        let line = &text[start..end];
        start = end + 1;
        line.strip_suffix('\r').unwrap_or(line)
    })
}

/// How the text of one event is read.
pub(crate) type Parse = fn(&str, &mut Reading<'_>) -> Result<Event, Refusal>;

/// An event in hookwire's own form.
pub(crate) fn parse_own(text: &str, reading: &mut Reading<'_>) -> Result<Event, Refusal> {
    Event::parse(text, &mut EventDefaults { now: reading.now, new_id: reading.new_id })
        .map_err(|error| Refusal { too_large: false, problems: error.problems })
}

/// A text that is one event.
pub(crate) fn read_single(
    text: &str,
    reading: &mut Reading<'_>,
    parse: Parse,
    events: &mut impl Extend<Event>,
) -> Result<(), Refusal> {
    let mut refusal = Refusal { too_large: false, problems: Vec::new() };
    events.extend(read_one(text, None, reading, parse, &mut refusal));
    if refusal.problems.is_empty() { Ok(()) } else { Err(refusal) }
}

/// A text that is an array of events.
pub(crate) fn read_array(
    events_max: usize,
    text: &str,
    reading: &mut Reading<'_>,
    parse: Parse,
    events: &mut impl Extend<Event>,
) -> Result<(), Refusal> {
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(items) => {
            let items = items.iter().map(|item| item.get()).enumerate();
            read_all(events_max, items, reading, parse, events)
        }
        Err(error) => {
            let problem = Problem { pointer: String::new(), message: format!("not valid JSON: {error}") };
            Err(Refusal { too_large: false, problems: vec![problem] })
        }
    }
}

fn read_all<'t>(
    events_max: usize,
    texts: impl Iterator<Item = (usize, &'t str)>,
    reading: &mut Reading<'_>,
    parse: Parse,
    events: &mut impl Extend<Event>,
) -> Result<(), Refusal> {
    let mut refusal = Refusal { too_large: false, problems: Vec::new() };
    for (count, (place, text)) in texts.enumerate() {
        if count >= events_max {
            let message = format!("a request may have {events_max} events; send smaller batches");
            let problems = vec![Problem { pointer: format!("/{place}"), message }];
            return Err(Refusal { too_large: true, problems });
        }
        let event = read_one(text, Some(place), reading, parse, &mut refusal);
        // What comes with a bad one is read on only for what is wrong with it, too.
        if refusal.problems.is_empty() {
            events.extend(event);
        }
        if refusal.problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if refusal.problems.is_empty() { Ok(()) } else { Err(refusal) }
}

fn read_one(
    text: &str,
    place: Option<usize>,
    reading: &mut Reading<'_>,
    parse: Parse,
    refusal: &mut Refusal,
) -> Option<Event> {
    let prefix = || place.map(|place| format!("/{place}")).unwrap_or_default();
    if text.len() > reading.event_bytes_max {
        refusal.too_large = true;
        let message =
            format!("the event has {} bytes, and the limit is {}", text.len(), reading.event_bytes_max);
        refusal.problems.push(Problem { pointer: prefix(), message });
        return None;
    }
    match parse(text, reading) {
        Ok(event) => Some(event),
        Err(found) => {
            refusal.too_large |= found.too_large;
            let told = found.problems.into_iter();
            let told = told
                .map(|problem| Problem { pointer: prefix() + &problem.pointer, message: problem.message });
            refusal.problems.extend(told);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Event>, Refusal> {
        let mut number = 0;
        let mut new_id = || {
            number += 1;
            EventId::new(&format!("n{number}")).unwrap()
        };
        let mut reading = Reading { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id, event_bytes_max: 200 };
        read_events(text, Format::guess(text), &mut reading)
    }

    const EVENT: &str = r#"{"event":"created","object_type":"dcim.site","data":{}}"#;

    #[test]
    fn one_event_an_array_and_lines_are_read() {
        assert_eq!(read(EVENT).unwrap().len(), 1);
        assert_eq!(read(&format!("[{EVENT}, {EVENT}]")).unwrap().len(), 2);
        assert_eq!(read(&format!("{EVENT}\n\n{EVENT}\r\n")).unwrap().len(), 2);
        assert_eq!(read("[]").unwrap().len(), 0);
        let pretty = "{\n\"event\":\"created\",\n\"object_type\":\"dcim.site\",\n\"data\":{\n}\n}";
        assert_eq!(read(pretty).unwrap().len(), 1);
    }

    #[test]
    fn lines_are_those_that_everybody_knows() {
        for text in ["", "a", "a\n", "a\nb", "a\r\nb\r\n", "\n\na\r\r\n\n", "ä\rö\nü"] {
            let mut own: Vec<_> = lines(text).collect();
            if text.is_empty() || text.ends_with('\n') {
                assert_eq!(own.pop(), Some(""));
            }
            assert_eq!(own, text.lines().collect::<Vec<_>>(), "{text:?}");
        }
    }

    #[test]
    fn a_batch_is_refused_whole_with_the_place_of_each_problem() {
        let refusal = read(&format!("[{EVENT}, {{\"event\":\"created\"}}, 3]")).unwrap_err();
        let pointers: Vec<_> = refusal.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/1/object_type", "/1/data", "/2"]);
        let refusal = read(&format!("{EVENT}\n{{}}\n{{\"x\"")).unwrap_err();
        assert_eq!(refusal.problems.last().unwrap().pointer, "/2");
    }

    #[test]
    fn a_large_event_is_refused_by_its_size() {
        let large = EVENT.replace("{}", &format!("{{\"a\":\"{}\"}}", "x".repeat(200)));
        assert!(read(&large).unwrap_err().too_large);
    }
}
