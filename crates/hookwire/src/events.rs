//! Events from files and standard input, one at a time: one event, an array, or one a line.
//!
//! Invariants:
//! - Memory is bounded by one event, however large a file is.
//! - A file can be read twice and gives the same both times: what is no regular file is copied into a temporary one,
//!   and of a file that grows only what was there at first is read.
//! - What is wrong is told with its line, or its place in the array.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::{Event, EventDefaults, EventId, Problem};
use hookwire_worker::{Exit, Failure};
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

/// So many problems are told of one file: nobody reads more, and one wrong habit makes as many as there are lines.
const PROBLEMS_MAX: usize = 20;
/// White space between the items of an array that is put up with, in bytes.
const SPACE_MAX: usize = 64 << 10;
/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// A new id for an event that brings none.
pub(crate) fn new_event_id() -> EventId {
    EventId::new(&Uuid::now_v7().to_string()).expect("a UUID is visible ASCII without dots")
}

/// Where an event stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is all there is.
    Whole,
    /// In this line, from 1.
    Line(u64),
    /// It is this item of an array, from 1.
    Item(u64),
}

impl Place {
    /// The number, for a hash.
    fn number(self) -> u64 {
        match self {
            Place::Whole => 1,
            Place::Line(number) | Place::Item(number) => number,
        }
    }
}

/// How events that bring no id get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewIds {
    /// A new one each time.
    Unique,
    /// A hash of file, line and bytes: the same the next time.
    Repeatable,
}

/// A file with events, or a copy of what came in another way.
#[derive(Debug)]
pub(crate) struct Input {
    /// What people call it.
    name: String,
    /// What tells it from other files: its path from the root.
    identity: Vec<u8>,
    file: File,
    /// How much of it is read.
    bytes: u64,
    format: Format,
}

/// How events stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Whole,
    Lines,
    Array,
}

impl Input {
    /// Opens a file, or takes standard input for `-`; `event_bytes_max` is what an event may have.
    ///
    /// # Errors
    /// Exit code 66 if it cannot be read, 74 if there is no room for a copy.
    pub(crate) fn open(path: &Path, event_bytes_max: u64) -> Result<Input, Failure> {
        let standard = path == Path::new("-");
        let name = if standard { "standard input".to_owned() } else { path.display().to_string() };
        let unreadable = |error: io::Error| {
            Failure::new(Exit::NoInput, anyhow::Error::new(error).context(format!("{name} cannot be read")))
        };
        let (mut file, identity) = if standard {
            (spool(io::stdin().lock(), &name)?, Vec::new())
        } else {
            let file = File::open(path).map_err(unreadable)?;
            let metadata = file.metadata().map_err(unreadable)?;
            if metadata.is_dir() {
                let message = format!("{name} is a folder; name the files in it that hold events");
                return Err(Failure::message(Exit::NoInput, message));
            }
            let identity = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
            let identity = identity.canonicalize().unwrap_or(identity).into_os_string().into_encoded_bytes();
            // A pipe can be read only once.
            (if metadata.is_file() { file } else { spool(file, &name)? }, identity)
        };
        let bytes = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
        let mut input = Input { name, identity, file, bytes, format: Format::Whole };
        input.format = input.guess(event_bytes_max).map_err(|error| input.unreadable(error))?;
        Ok(input)
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads every event, and gives each to `visit` with the bytes read so far. The first that is bad ends the visits:
    /// from there on only what else is wrong is looked for. Returns how many events there are.
    ///
    /// # Errors
    /// Exit code 65 for bad events; `bad` says what that means, such as "nothing was published". Whatever `visit` fails
    /// with.
    pub(crate) fn read(
        &self,
        event_bytes_max: u64,
        new_ids: NewIds,
        bad: &str,
        mut visit: impl FnMut(Event, u64) -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let mut found = Found { problems: Vec::new(), events: 0 };
        let mut read = 0;
        let walked = self.walk(event_bytes_max, &mut |place, text| {
            read += text.bytes();
            match text {
                Text::Event(text) => match self.parse(place, text, new_ids) {
                    Ok(event) => {
                        found.events += 1;
                        if found.problems.is_empty() {
                            visit(event, read).map_err(Stop::Failure)?;
                        }
                        Ok(())
                    }
                    Err(problems) => found.add(place, problems),
                },
                Text::TooLarge(bytes) => found.add(place, vec![too_large(bytes, event_bytes_max)]),
                Text::NotUtf8(valid) => {
                    let message = format!("not UTF-8 from byte {} on", valid + 1);
                    found.add(place, vec![Problem { pointer: String::new(), message }])
                }
                Text::NotJson(message) => found.add(place, vec![Problem { pointer: String::new(), message }]),
            }
        });
        match walked {
            Ok(()) | Err(Stop::Enough) => {}
            Err(Stop::Failure(failure)) => return Err(failure),
            Err(Stop::Io(error)) => return Err(self.unreadable(error)),
        }
        if found.problems.is_empty() { Ok(found.events) } else { Err(found.into_failure(&self.name, bad)) }
    }

    fn parse(&self, place: Place, text: &str, new_ids: NewIds) -> Result<Event, Vec<Problem>> {
        let mut new_id = || match new_ids {
            NewIds::Unique => new_event_id(),
            NewIds::Repeatable => {
                let number = place.number().to_string();
                EventId::from_content(
                    &[&self.identity[..], number.as_bytes(), text.trim().as_bytes()].join(&0),
                )
            }
        };
        let mut defaults = EventDefaults { now: SystemClock.now(), new_id: &mut new_id };
        Event::parse(text, &mut defaults).map_err(|error| error.problems)
    }

    /// What is there, from the beginning and without a byte order mark.
    fn reader(&self) -> io::Result<impl BufRead + use<>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(READ, file.take(self.bytes));
        if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        Ok(reader)
    }

    /// How the events most likely stand there: several lines that each begin an object are one event a line.
    fn guess(&self, event_bytes_max: u64) -> io::Result<Format> {
        let mut reader = self.reader()?;
        let first = loop {
            let buffer = reader.fill_buf()?;
            match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(at) => {
                    let byte = buffer[at];
                    reader.consume(at);
                    break byte;
                }
                // Nothing but white space: no lines.
                None if buffer.is_empty() => return Ok(Format::Lines),
                None => {
                    let all = buffer.len();
                    reader.consume(all);
                }
            }
        };
        let ending = Path::new(&self.name).extension().and_then(|ending| ending.to_str());
        if first == b'[' {
            return Ok(Format::Array);
        }
        if matches!(ending, Some("ndjson" | "jsonl")) {
            return Ok(Format::Lines);
        }
        let mut line = Vec::new();
        loop {
            line.clear();
            match read_line(&mut reader, &mut line, event_bytes_max)? {
                Line::End => return Ok(Format::Whole),
                Line::TooLong(_) => return Ok(Format::Lines),
                Line::Read => {}
            }
            // The second line that is not empty tells: no JSON has an object's beginning right after its first line.
            let second = reader.fill_buf()?.iter().copied().find(|byte| !byte.is_ascii_whitespace());
            match second {
                Some(b'{') => return Ok(Format::Lines),
                Some(_) => return Ok(Format::Whole),
                None => {}
            }
        }
    }

    fn walk(
        &self,
        event_bytes_max: u64,
        visit: &mut dyn FnMut(Place, Text<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        match self.format {
            Format::Whole if self.bytes > event_bytes_max => visit(Place::Whole, Text::TooLarge(self.bytes)),
            Format::Whole => {
                let mut bytes = Vec::new();
                self.reader()?.read_to_end(&mut bytes)?;
                visit(Place::Whole, Text::of(&bytes))
            }
            Format::Lines => {
                let mut reader = self.reader()?;
                let mut line = Vec::new();
                for number in 1.. {
                    line.clear();
                    match read_line(&mut reader, &mut line, event_bytes_max)? {
                        Line::End => break,
                        Line::TooLong(bytes) => visit(Place::Line(number), Text::TooLarge(bytes))?,
                        Line::Read if line.iter().all(u8::is_ascii_whitespace) => {}
                        Line::Read => visit(Place::Line(number), Text::of(&line))?,
                    }
                }
                Ok(())
            }
            Format::Array => self.walk_array(event_bytes_max, visit),
        }
    }

    fn walk_array(
        &self,
        event_bytes_max: u64,
        visit: &mut dyn FnMut(Place, Text<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let room = Rc::new(Cell::new(SPACE_MAX as u64));
        let capped = Capped { inner: self.reader()?, room: Rc::clone(&room) };
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

    fn unreadable(&self, error: io::Error) -> Failure {
        let message = format!("{} cannot be read", self.name);
        Failure::new(Exit::NoInput, anyhow::Error::new(error).context(message))
    }
}

/// Copies what can be read only once into a temporary file, which is gone with the program.
fn spool(mut from: impl Read, name: &str) -> Result<File, Failure> {
    let no_room = |error: io::Error| {
        let message = format!("{name} cannot be copied into a temporary file (TMPDIR says where)");
        Failure::new(Exit::Io, anyhow::Error::new(error).context(message))
    };
    let mut file = tempfile::tempfile().map_err(no_room)?;
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(read) => file.write_all(&buffer[..read]).map_err(no_room)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let message = format!("{name} cannot be read");
                return Err(Failure::new(Exit::NoInput, anyhow::Error::new(error).context(message)));
            }
        }
    }
}

/// What stands at a place.
enum Text<'t> {
    Event(&'t str),
    /// With its size, or where that is not known one that is too large.
    TooLarge(u64),
    /// With how many bytes are fine.
    NotUtf8(usize),
    NotJson(String),
}

impl<'t> Text<'t> {
    fn of(bytes: &'t [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Event(text),
            Err(error) => Text::NotUtf8(error.valid_up_to()),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Text::Event(text) => text.len() as u64,
            Text::TooLarge(bytes) => *bytes,
            Text::NotUtf8(_) | Text::NotJson(_) => 0,
        }
    }
}

/// Why reading ended early.
enum Stop {
    /// There are as many problems as are told.
    Enough,
    Failure(Failure),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

/// What came of reading a file.
struct Found {
    problems: Vec<(Place, Problem)>,
    events: u64,
}

impl Found {
    fn add(&mut self, place: Place, problems: Vec<Problem>) -> Result<(), Stop> {
        self.problems.extend(problems.into_iter().map(|problem| (place, problem)));
        if self.problems.len() < PROBLEMS_MAX { Ok(()) } else { Err(Stop::Enough) }
    }

    fn into_failure(self, name: &str, bad: &str) -> Failure {
        let events = match self.problems.first() {
            Some((Place::Whole, _)) => "a bad event",
            _ => "bad events",
        };
        let mut message = format!("{name} holds {events}");
        if !bad.is_empty() {
            message += &format!("; {bad}");
        }
        for (place, Problem { pointer, message: what }) in self.problems.iter().take(PROBLEMS_MAX) {
            message += "\n  ";
            match place {
                Place::Whole => {}
                Place::Line(number) => message += &format!("line {number}: "),
                Place::Item(number) => message += &format!("item {number}: "),
            }
            if !pointer.is_empty() {
                message += &format!("{pointer}: ");
            }
            // The line is told, and it is not the first.
            message += &what.replace(" at line 1 column ", " at column ");
        }
        if self.problems.len() >= PROBLEMS_MAX {
            message += "\n  and perhaps more: the rest was not looked at";
        }
        Failure::message(Exit::Data, message)
    }
}

fn too_large(bytes: u64, max: u64) -> Problem {
    let has = if bytes == max.saturating_add(1) { format!("more than {max}") } else { bytes.to_string() };
    let message = format!(
        "the event has {has} bytes, and the limit is {max}; send less, or raise server.max_event_bytes"
    );
    Problem { pointer: String::new(), message }
}

/// What came of reading a line.
enum Line {
    Read,
    /// It is longer than an event may be: so many bytes.
    TooLong(u64),
    End,
}

/// Reads a line without its end; one that is too long is passed over and counted.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: u64) -> io::Result<Line> {
    let mut read = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let used = piece.len() + usize::from(end.is_some());
        read += used as u64;
        // Room for the carriage return that some files have.
        if line.len() as u64 + piece.len() as u64 <= bytes_max.saturating_add(1) {
            line.extend_from_slice(piece);
        } else {
            reader.consume(used);
            return pass_over(reader, end.is_some(), read);
        }
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    match line.len() as u64 {
        _ if read == 0 => Ok(Line::End),
        bytes if bytes > bytes_max => Ok(Line::TooLong(bytes)),
        _ => Ok(Line::Read),
    }
}

/// Reads to the end of a line, and gives its size.
fn pass_over(reader: &mut impl BufRead, mut ended: bool, mut read: u64) -> io::Result<Line> {
    let mut end = u64::from(ended);
    while !ended {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let found = buffer.iter().position(|byte| *byte == b'\n');
        let used = found.map_or(buffer.len(), |at| at + 1);
        ended = found.is_some();
        end = u64::from(ended);
        read += used as u64;
        reader.consume(used);
    }
    Ok(Line::TooLong(read - end))
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 120;
    const ONE: &str = r#"{"event":"created","object_type":"a.b","data":{"id":1}}"#;
    const TWO: &str = r#"{"event":"deleted","object_type":"a.b","id":"two","data":{}}"#;

    /// The ids of the events in a file of that name, or what is wrong with it.
    fn read(name: &str, text: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut ids = Vec::new();
        let input = Input::open(&path, MAX).unwrap();
        let read = input.read(MAX, NewIds::Repeatable, "", |event, _| {
            ids.push(event.id.to_string());
            Ok(())
        });
        match read {
            Ok(events) => {
                assert_eq!(events, ids.len() as u64);
                Ok(ids)
            }
            Err(failure) => {
                assert_eq!(failure.exit(), Exit::Data);
                let message = failure.to_string();
                Err(message.split_once("holds ").unwrap().1.to_owned())
            }
        }
    }

    fn pretty(text: &str) -> String {
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
    }

    #[test]
    fn one_event_an_array_and_lines_are_read() {
        let long = format!("{}{ONE}", " ".repeat(3 * READ));
        for (name, text, count) in [
            ("e.json", ONE.to_owned(), 1),
            ("e.json", format!("\u{feff}{ONE}\n"), 1),
            ("e.json", pretty(ONE), 1),
            ("e.json", format!("[{ONE},\n {TWO}]\n"), 2),
            ("e.json", "\u{feff} [ ]".to_owned(), 0),
            ("e.json", format!("{ONE}\r\n\r\n{TWO}\r\n{ONE}"), 3),
            ("e.json", String::new(), 0),
            ("e.json", " \n\t".to_owned(), 0),
            ("e.ndjson", format!("{ONE}\n"), 1),
            ("e.ndjson", long.replace(' ', "\n"), 1),
        ] {
            assert_eq!(read(name, &text).map(|ids| ids.len()), Ok(count), "{name}: {text:?}");
        }
    }

    #[test]
    fn what_is_bad_is_told_with_its_place() {
        let large = ONE.replace("1}", &format!("\"{}\"}}", "x".repeat(100)));
        let huge = ONE.replace("1}", &format!("\"{}\"}}", "x".repeat(3 * READ)));
        let shown = [
            ("no JSON", "hello".to_owned()),
            ("an unknown member", ONE.replace("data", "dta")),
            ("too large alone", large.clone()),
            ("in the middle of lines", format!("{ONE}\n{{\"event\": \n\n{TWO}\n{large}\n{huge}\nx")),
            ("in the middle of an array", format!("[{ONE}, {{}}, 3, {large}, {TWO}]")),
            ("far too large in an array", format!("[{ONE}, {huge}, {{}}]")),
            ("an array that breaks off", format!("[{ONE},\n")),
            ("more after an array", format!("[{ONE}] {TWO}")),
            ("many", format!("{ONE}\n{}", "{}\n".repeat(100))),
        ];
        let shown = shown.map(|(what, text)| format!("{what}: {}", read("e.json", text).unwrap_err()));
        insta::assert_snapshot!(shown.join("\n\n"));
        assert!(read("e.json", b"{\"event\": \"\xff\"}").unwrap_err().contains("not UTF-8 from byte 12 on"));
    }

    #[test]
    fn a_repeatable_id_follows_from_line_and_bytes() {
        let ids = read("e.ndjson", format!("{ONE}\n{TWO}\n{ONE}\n")).unwrap();
        assert_eq!(ids[1], "two", "an id of its own is kept");
        assert_ne!(ids[0], ids[2], "the same bytes in two lines are two events");
        let folder = tempfile::tempdir().unwrap();
        let ids_of = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{ONE}\n{ONE}\n")).unwrap();
            let mut ids = Vec::new();
            let input = Input::open(&path, MAX).unwrap();
            for _ in 0..2 {
                input
                    .read(MAX, NewIds::Repeatable, "", |event, _| {
                        ids.push(event.id);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(ids[..2], ids[2..], "read twice, the ids are the same");
            ids
        };
        assert_eq!(ids_of("a"), ids_of("a"));
        assert_ne!(ids_of("a"), ids_of("b"), "another file has other events");
    }

    #[test]
    fn a_line_that_was_added_meanwhile_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.ndjson");
        std::fs::write(&path, format!("{ONE}\n")).unwrap();
        let input = Input::open(&path, MAX).unwrap();
        std::fs::write(&path, format!("{ONE}\n{ONE}\n")).unwrap();
        assert_eq!(input.read(MAX, NewIds::Unique, "", |_, _| Ok(())).unwrap(), 1);
    }
}
