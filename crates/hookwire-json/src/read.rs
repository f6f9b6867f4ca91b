//! Reads a JSON text into a table of nodes, in one pass.
//!
//! The grammar is that of RFC 8259. The pass knows no white space: texts from a store have none, and from those that
//! have some it is taken out first.
//!
//! Invariant: what is read is valid to the last byte; a table exists only of a whole, sound document.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use crate::scan::plain_len;
use crate::tree::{Entry, FEW, Kind, Members, Tree, says, string};

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is no JSON; serde_json says what is wrong with it.
    Syntax,
    TooDeep,
    /// Half of a surrogate pair (RFC 8259 section 8.2), which is no character.
    LoneSurrogate(u16),
    /// Places in the text are kept in four bytes.
    TooLong,
}

const BLANKS: [u8; 4] = *b" \t\n\r";

/// Reads a document.
pub(crate) fn tree(text: &str, depth_max: usize) -> Result<Arc<Tree>, Flaw> {
    let text = match text.as_bytes() {
        [b'{', .., b'}'] => text,
        _ => text.trim_matches(BLANKS.map(char::from)),
    };
    match read(text, depth_max) {
        Err(Flaw::Syntax) => read(&without_blanks(text).ok_or(Flaw::Syntax)?, depth_max),
        result => result,
    }
}

/// A text without the white space outside its strings, or nothing if it is no JSON.
///
/// The result is JSON only if the text was: what white space can part and nothing else has to are words, that is
/// numbers and literals, and two of them never stand next to each other.
fn without_blanks(text: &str) -> Option<String> {
    let is_word = |byte: &u8| !b"{}[],:\"".contains(byte);
    let bytes = text.as_bytes();
    let mut compact = String::with_capacity(text.len());
    let (mut run, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1)?,
            byte if BLANKS.contains(byte) => {
                compact.push_str(&text[run..at]);
                at += bytes[at..].iter().take_while(|byte| BLANKS.contains(byte)).count();
                run = at;
                if compact.as_bytes().last().is_some_and(is_word) && bytes.get(at).is_some_and(is_word) {
                    return None;
                }
            }
            _ => at += 1,
        }
    }
    compact.push_str(&text[run..]);
    Some(compact)
}

/// Where a string ends whose content begins at `at`: behind its closing quote.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += plain_len(bytes.get(at..)?);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => return None,
        }
    }
}

/// Reads a text without white space.
fn read(text: &str, depth_max: usize) -> Result<Arc<Tree>, Flaw> {
    if u32::try_from(text.len()).is_err() {
        return Err(Flaw::TooLong);
    }
    let mut reader = Reader {
        text,
        // A member takes some twenty bytes and two entries. Large texts are mostly long strings.
        entries: Vec::with_capacity(text.len().min(1 << 14) / 10 + 1),
        unescaped: String::new(),
        index: Vec::new(),
        repeated: None,
        flaw: Flaw::Syntax,
    };
    let Some([]) = reader.value(text.as_bytes(), depth_max) else { return Err(reader.flaw) };
    let Reader { entries, unescaped, index, repeated, .. } = reader;
    Ok(Arc::new(Tree { text: text.into(), entries, unescaped, index, repeated }))
}

struct Reader<'t> {
    text: &'t str,
    entries: Vec<Entry>,
    unescaped: String,
    index: Vec<u32>,
    repeated: Option<String>,
    /// What is wrong where something could not be read.
    flaw: Flaw,
}

/// What reads something takes the text from there to the end, and gives the text behind it if it could be read.
type Rest<'t> = Option<&'t [u8]>;

impl<'t> Reader<'t> {
    /// Where in the text this rest of it begins. The text is no longer than four bytes can count.
    fn at(&self, rest: &[u8]) -> u32 {
        (self.text.len() - rest.len()) as u32
    }

    /// Where the next entry will be. Each takes at least a byte of the text.
    fn place(&self) -> u32 {
        self.entries.len() as u32
    }

    fn push(&mut self, kind: Kind, from: &[u8], rest: &[u8]) {
        let entry = Entry { kind, start: self.at(from), end: self.at(rest), size: 1 };
        self.entries.push(entry);
    }

    #[cold]
    fn fail<T>(&mut self, flaw: Flaw) -> Option<T> {
        self.flaw = flaw;
        None
    }

    /// Reads a value. Inlined where members and items are read, most of which are strings and take no call then.
    #[inline(always)]
    fn value(&mut self, from: &'t [u8], depth_left: usize) -> Rest<'t> {
        match from {
            [b'"', ..] => Some(self.string(from)?.1),
            [b'{', ..] => self.object(from, depth_left),
            [b'[', ..] => self.list(from, depth_left),
            [b'-' | b'0'..=b'9', ..] => self.number(from),
            [b't', b'r', b'u', b'e', rest @ ..] => Some(self.word(Kind::Bool(true), from, rest)),
            [b'f', b'a', b'l', b's', b'e', rest @ ..] => Some(self.word(Kind::Bool(false), from, rest)),
            [b'n', b'u', b'l', b'l', rest @ ..] => Some(self.word(Kind::Null, from, rest)),
            _ => None,
        }
    }

    fn word(&mut self, kind: Kind, from: &[u8], rest: &'t [u8]) -> &'t [u8] {
        self.push(kind, from, rest);
        rest
    }

    /// Inlined as [`value`](Self::value) is.
    #[inline(always)]
    fn number(&mut self, from: &'t [u8]) -> Rest<'t> {
        let mut rest = match from {
            [b'-', number @ ..] => integer(number)?,
            number => integer(number)?,
        };
        if let [b'.' | b'e' | b'E', ..] = rest {
            rest = fraction_and_exponent(rest)?;
        }
        self.push(Kind::Number, from, rest);
        Some(rest)
    }

    /// Reads a string. Gives its content, unless it holds escapes, beside the rest. Inlined as [`value`](Self::value) is.
    #[inline(always)]
    fn string(&mut self, from: &'t [u8]) -> Option<(Option<&'t [u8]>, &'t [u8])> {
        let [b'"', content @ ..] = from else { return None };
        let (plain, end) = content.split_at(plain_len(content));
        match end {
            [b'"', rest @ ..] => {
                self.push(Kind::Text, from, rest);
                Some((Some(plain), rest))
            }
            _ => Some((None, self.escaped(from, plain.len())?)),
        }
    }

    /// Reads a string of which so many bytes are as they say.
    #[inline(never)]
    fn escaped(&mut self, from: &'t [u8], plain: usize) -> Rest<'t> {
        let start = self.unescaped.len() as u32;
        // What may come too, so that it need not grow for each piece.
        self.unescaped.reserve(plain + 64);
        let mut run = self.at(from) as usize + 1;
        let mut at = run + plain;
        loop {
            self.unescaped.push_str(&self.text[run..at]);
            let end = &self.text.as_bytes()[at..];
            run = match end {
                [b'"', rest @ ..] => {
                    self.push(Kind::Escaped { start, end: self.unescaped.len() as u32 }, from, rest);
                    return Some(rest);
                }
                [b'\\', ..] => at + self.escape(end)?,
                _ => return None,
            };
            at = run + plain_len(&self.text.as_bytes()[run..]);
        }
    }

    /// Reads an escape, and tells its length.
    fn escape(&mut self, from: &[u8]) -> Option<usize> {
        let character = match from.get(1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => {
                let first = unit(from)?;
                let second = if let 0xD800..=0xDBFF = first { unit(&from[6..]) } else { None };
                let units = [first, second.unwrap_or_default()];
                let units = &units[..1 + usize::from(second.is_some())];
                let decoded = char::decode_utf16(units.iter().copied()).next();
                let Some(Ok(character)) = decoded else { return self.fail(Flaw::LoneSurrogate(first)) };
                self.unescaped.push(character);
                return Some(6 * character.len_utf16());
            }
        };
        self.unescaped.push(character);
        Some(2)
    }

    /// Makes the entry of a list or object, which is complete when it is closed.
    fn open(&mut self, from: &[u8]) -> u32 {
        let place = self.place();
        self.push(Kind::Null, from, from);
        place
    }

    fn close(&mut self, place: u32, kind: Kind, rest: &[u8]) {
        let (end, size) = (self.at(rest), self.place() - place);
        let entry = &mut self.entries[place as usize];
        *entry = Entry { kind, end, size, ..*entry };
    }

    /// Reads a list.
    #[inline(never)]
    fn list(&mut self, from: &'t [u8], depth_left: usize) -> Rest<'t> {
        let Some(depth_left) = depth_left.checked_sub(1) else { return self.fail(Flaw::TooDeep) };
        let place = self.open(from);
        let mut rest = &from[1..];
        let mut len = 0;
        if let [b']', behind @ ..] = rest {
            rest = behind;
        } else {
            loop {
                len += 1;
                match self.value(rest, depth_left)? {
                    [b',', item @ ..] => rest = item,
                    [b']', behind @ ..] => {
                        rest = behind;
                        break;
                    }
                    _ => return None,
                }
            }
        }
        let mut index = 0;
        if len > FEW {
            index = self.index.len() as u32;
            self.index_items(place, len);
        }
        self.close(place, Kind::List(Members { len, index }), rest);
        Some(rest)
    }

    /// Reads an object.
    #[inline(never)]
    fn object(&mut self, from: &'t [u8], depth_left: usize) -> Rest<'t> {
        let Some(depth_left) = depth_left.checked_sub(1) else { return self.fail(Flaw::TooDeep) };
        let place = self.open(from);
        let mut rest = &from[1..];
        let mut len = 0;
        let mut seen = Seen::default();
        let mut is_name_repeated = false;
        if let [b'}', behind @ ..] = rest {
            rest = behind;
        } else {
            loop {
                let (name, behind) = self.string(rest)?;
                if seen.may_hold(name) {
                    is_name_repeated |= self.is_last_repeated(place, len);
                }
                len += 1;
                let [b':', value @ ..] = behind else { return None };
                match self.value(value, depth_left)? {
                    [b',', member @ ..] => rest = member,
                    [b'}', behind @ ..] => {
                        rest = behind;
                        break;
                    }
                    _ => return None,
                }
            }
        }
        let mut index = 0;
        if is_name_repeated {
            len = self.drop_overridden(place, len);
        }
        if len > FEW {
            index = self.index.len() as u32;
            len = self.index_names(place, len);
        }
        self.close(place, Kind::Object(Members { len, index }), rest);
        Some(rest)
    }

    // What follows is seldom needed, and kept out of the loops above, which need the registers.

    /// The places of so many items, or of the names of so many members.
    fn places(&self, container: u32, len: u32, of_names: bool) -> impl Iterator<Item = u32> {
        let mut next = container + 1;
        (0..len).map(move |_| {
            let place = next;
            let value = place + u32::from(of_names);
            next = value + self.entries[value as usize].size;
            place
        })
    }

    /// Keeps the places of many items.
    #[inline(never)]
    fn index_items(&mut self, list: u32, len: u32) {
        let mut index = std::mem::take(&mut self.index);
        index.extend(self.places(list, len, false).map(|place| place - list));
        self.index = index;
    }

    fn name(&self, place: u32) -> &str {
        string(self.text, &self.unescaped, &self.entries[place as usize])
    }

    /// Whether the name that was just read is one of the names of so many members before. Many are sorted later, which
    /// tells it too.
    #[inline(never)]
    fn is_last_repeated(&self, object: u32, len: u32) -> bool {
        let last = self.name(self.place() - 1);
        len < FEW
            && self
                .places(object, len, true)
                .any(|place| says(self.text, &self.unescaped, &self.entries[place as usize], last))
    }

    /// Keeps the places of many names sorted by name, and sees to it that they differ. Tells how many there are then.
    #[inline(never)]
    fn index_names(&mut self, object: u32, len: u32) -> u32 {
        // By what most names differ in.
        let beginning = |place: u32| (beginning(self.name(place).as_bytes()), place);
        let mut sorted: Vec<(u64, u32)> = self.places(object, len, true).map(beginning).collect();
        let compare =
            |a: &(u64, u32), b: &(u64, u32)| a.0.cmp(&b.0).then_with(|| self.name(a.1).cmp(self.name(b.1)));
        sorted.sort_unstable_by(compare);
        if sorted.is_sorted_by(|a, b| compare(a, b) == Ordering::Less) {
            self.index.extend(sorted.iter().map(|(_, place)| place - object));
            return len;
        }
        let len = self.drop_overridden(object, len);
        if len > FEW { self.index_names(object, len) } else { len }
    }

    /// Leaves out what a later member of the same name overrides, as a dict does: the first place, the last value.
    /// Tells how many are left.
    #[cold]
    fn drop_overridden(&mut self, object: u32, len: u32) -> u32 {
        // By name: its place among those that are kept, of which there are the first name and the last value.
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut kept: Vec<(u32, u32)> = Vec::new();
        let mut repeated = None;
        for place in self.places(object, len, true) {
            let name = self.name(place);
            match known.entry(name) {
                Slot::Vacant(slot) => {
                    slot.insert(kept.len());
                    kept.push((place, place + 1));
                }
                Slot::Occupied(slot) => {
                    kept[*slot.get()].1 = place + 1;
                    repeated.get_or_insert(name);
                }
            }
        }
        if object == 0 {
            self.repeated = repeated.map(str::to_owned);
        }
        let all = self.entries.split_off(object as usize + 1);
        let all = |place: u32| &all[(place - object) as usize - 1..];
        for (name, value) in &kept {
            let value = all(*value);
            self.entries.push(all(*name)[0]);
            self.entries.extend_from_slice(&value[..value[0].size as usize]);
        }
        kept.len() as u32
    }
}

/// Digits, of which the first is not zero unless it is the only one.
fn integer(from: &[u8]) -> Rest<'_> {
    match from {
        [b'0', rest @ ..] => Some(rest),
        _ => digits(from),
    }
}

#[inline(never)]
fn fraction_and_exponent(mut rest: &[u8]) -> Rest<'_> {
    if let [b'.', fraction @ ..] = rest {
        rest = digits(fraction)?;
    }
    match rest {
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => digits(exponent),
        _ => Some(rest),
    }
}

/// At least one digit.
fn digits(from: &[u8]) -> Rest<'_> {
    let [b'0'..=b'9', rest @ ..] = from else { return None };
    let mut rest = rest;
    while let [b'0'..=b'9', more @ ..] = rest {
        rest = more;
    }
    Some(rest)
}

/// The UTF-16 unit that a `\uXXXX` here stands for.
fn unit(from: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = from.first_chunk::<6>()? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    digits.iter().try_fold(0, |unit, byte| Some(unit << 4 | digit(byte)? as u16))
}

/// The first eight bytes as a number that sorts as they do.
fn beginning(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => name
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
            .checked_shl(64 - 8 * name.len() as u32)
            .unwrap_or(0),
    }
}

/// The names that an object has so far, as a set that may hold a few more than were put in: a bit for what begins and
/// ends alike, apart by length.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Puts a name in, and tells whether it may have been there. One with escapes may be any.
    fn may_hold(&mut self, name: Option<&[u8]>) -> bool {
        let Some(name) = name else {
            self.0 = [u64::MAX; 4];
            return true;
        };
        let ends = match name {
            [first, .., last] => usize::from(*first) + usize::from(*last) * 5,
            _ => 0,
        };
        let (bits, bit) = (&mut self.0[name.len() % 4], 1 << (ends % 64));
        let may_hold = *bits & bit != 0;
        *bits |= bit;
        may_hold
    }
}
