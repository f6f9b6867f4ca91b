//! Events from files and standard input, one at a time: one event, an array, or one a line.
//!
//! Invariants:
//! - Memory is bounded by one event, however large a file is.
//! - A file can be read twice and gives the same both times: what is no regular file is copied into a temporary one,
//!   and of a file that grows only what was there at first is read.
//! - What is wrong is told with its line, or its place in the array.

mod array;
mod lines;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use hookwire_engine::{Clock as _, SystemClock};
use hookwire_model::{Event, EventDefaults, EventId, Problem};
use hookwire_worker::{Exit, Failure, new_event_id};

use self::lines::{Line, read_line};

/// So many problems are told of one file: nobody reads more, and one wrong habit makes as many as there are lines.
const PROBLEMS_MAX: usize = 20;
/// Bytes that are read at once.
const READ: usize = 64 << 10;

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

    /// What people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
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
            Format::Array => array::walk(self.reader()?, event_bytes_max, visit),
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

#[cfg(test)]
mod tests;
