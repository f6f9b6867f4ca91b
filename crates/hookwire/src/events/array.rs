//! One item of an array after the other, each within a limit: the array itself may be of any size.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Place, Stop, Text};

/// White space between the items that is put up with, in bytes.
const SPACE_MAX: usize = 64 << 10;

/// Visits every item.
pub(super) fn walk(
    reader: impl Read,
    event_bytes_max: u64,
    visit: &mut dyn FnMut(Place, Text<'_>) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let room = Rc::new(Cell::new(SPACE_MAX as u64));
    let capped = Capped { inner: reader, room: Rc::clone(&room) };
    let mut json = serde_json::Deserializer::from_reader(capped);
    let mut stop = None;
    let items = Items { visit: &mut *visit, room: &room, event_bytes_max, number: 0, stop: &mut stop };
    let walked = json.deserialize_seq(items).and_then(|number| json.end().map(|()| number));
    match (stop, walked) {
        (Some(Stopped::TooLarge(number)), _) => {
            let bytes = event_bytes_max.saturating_add(1);
            visit(Place::Item(number), Text::TooLarge(bytes))
        }
        (Some(Stopped::Stop(stop)), _) => Err(stop),
        (None, Ok(_)) => Ok(()),
        (None, Err(error)) if error.is_io() => Err(Stop::Io(error.into())),
        (None, Err(error)) => visit(Place::Whole, Text::NotJson(format!("not valid JSON: {error}"))),
    }
}

/// A reader that ends with an error where more is read than there is room for.
struct Capped<R> {
    inner: R,
    room: Rc<Cell<u64>>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.room.get()).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an item is too large"));
        }
        let read = self.inner.read(&mut buffer[..room])?;
        self.room.set(self.room.get() - read as u64);
        Ok(read)
    }
}

/// Why an array was not read to its end.
enum Stopped {
    TooLarge(u64),
    Stop(Stop),
}

/// Visits the items of an array, one after the other.
struct Items<'v> {
    visit: &'v mut dyn FnMut(Place, Text<'_>) -> Result<(), Stop>,
    room: &'v Cell<u64>,
    event_bytes_max: u64,
    number: u64,
    stop: &'v mut Option<Stopped>,
}

impl Items<'_> {
    /// Room for one more item, and for the white space before it.
    fn make_room(&self) {
        self.room.set(self.event_bytes_max.saturating_add(SPACE_MAX as u64));
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<u64, A::Error> {
        loop {
            self.make_room();
            let item = match items.next_element::<Box<RawValue>>() {
                Ok(item) => item,
                Err(error) => {
                    if self.room.get() == 0 {
                        *self.stop = Some(Stopped::TooLarge(self.number + 1));
                    }
                    return Err(error);
                }
            };
            let Some(item) = item else { return Ok(self.number) };
            self.number += 1;
            let text = match item.get() {
                text if text.len() as u64 > self.event_bytes_max => Text::TooLarge(text.len() as u64),
                text => Text::Event(text),
            };
            if let Err(stop) = (self.visit)(Place::Item(self.number), text) {
                *self.stop = Some(Stopped::Stop(stop));
                return Err(A::Error::custom("stopped"));
            }
        }
    }
}
