//! Reads a JSON text into a table of nodes, in one pass.
//!
//! The grammar is that of RFC 8259. White space is left out first, if there is any: texts from a store have none.
//!
//! Invariant: what is read is valid to the last byte; a table exists only of a whole, sound document.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use crate::scan::plain_len;
use crate::tree::{Entry, FEW, Kind, Members, Tree, string};

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

/// Reads a document.
pub(crate) fn tree(text: &str, depth_max: usize) -> Result<Tree, Flaw> {
    let (mut tree, compact) = read(text, depth_max)?;
    tree.text = match compact {
        None => text.into(),
        Some(compact) => {
            (tree, _) = read(&compact, depth_max)?;
            compact.into()
        }
    };
    Ok(tree)
}

/// Reads a text into a tree that lacks it yet, and gives it without white space if it has any.
fn read(text: &str, depth_max: usize) -> Result<(Tree, Option<String>), Flaw> {
    if u32::try_from(text.len()).is_err() {
        return Err(Flaw::TooLong);
    }
    let mut reader = Reader {
        text,
        at: 0,
        depth_left: depth_max,
        compact: None,
        run: 0,
        // A member takes some twenty bytes and two entries. Large texts are mostly long strings.
        entries: Vec::with_capacity(text.len().min(1 << 14) / 10 + 1),
        unescaped: String::new(),
        index: Vec::new(),
        members: Vec::with_capacity(64),
        repeated: None,
    };
    reader.skip_blanks();
    reader.value()?;
    reader.skip_blanks();
    if reader.at < text.len() {
        return Err(Flaw::Syntax);
    }
    let Reader { compact, run, entries, unescaped, index, repeated, .. } = reader;
    let compact = compact.map(|compact| compact + &text[run..]);
    Ok((Tree { text: Box::default(), entries, unescaped, index, repeated }, compact))
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth_left: usize,
    /// The text up to `run` without white space, as soon as there was some.
    compact: Option<String>,
    run: usize,
    entries: Vec<Entry>,
    unescaped: String,
    index: Vec<u32>,
    /// The places of the members of all lists and objects that are open, those of the innermost last.
    members: Vec<u32>,
    repeated: Option<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Takes this byte, and white space behind it.
    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.at += 1;
            self.skip_blanks();
        }
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        if self.take(byte) { Ok(()) } else { Err(Flaw::Syntax) }
    }

    fn skip_blanks(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.leave_out_blanks();
        }
    }

    #[cold]
    fn leave_out_blanks(&mut self) {
        let start = self.at;
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        if self.at > start {
            let compact = self.compact.get_or_insert_with(|| String::with_capacity(self.text.len()));
            compact.push_str(&self.text[self.run..start]);
            self.run = self.at;
        }
    }

    /// Where the next entry will be.
    fn place(&self) -> u32 {
        // Each entry takes at least a byte of the text.
        self.entries.len() as u32
    }

    fn push(&mut self, kind: Kind, start: usize) {
        // The text is no longer than four bytes can count.
        self.entries.push(Entry { kind, start: start as u32, end: self.at as u32, size: 1 });
    }

    fn value(&mut self) -> Result<(), Flaw> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::Bool(true)),
            Some(b'f') => self.word("false", Kind::Bool(false)),
            Some(b'n') => self.word("null", Kind::Null),
            _ => Err(Flaw::Syntax),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Flaw> {
        let start = self.at;
        if !self.text.as_bytes()[start..].starts_with(word.as_bytes()) {
            return Err(Flaw::Syntax);
        }
        self.at += word.len();
        self.push(kind, start);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        self.push(Kind::Number, start);
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Flaw::Syntax) }
    }

    fn string(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.at += 1;
        self.at += plain_len(self.text.as_bytes(), self.at);
        let kind = match self.peek() {
            Some(b'"') => Kind::Text,
            _ => self.escaped(start + 1)?,
        };
        self.at += 1;
        self.push(kind, start);
        Ok(())
    }

    /// Goes on with a string, whose content began at `run`, up to its closing quote.
    fn escaped(&mut self, mut run: usize) -> Result<Kind, Flaw> {
        let start = self.unescaped.len() as u32;
        loop {
            self.unescaped.push_str(&self.text[run..self.at]);
            match self.peek() {
                Some(b'"') => return Ok(Kind::Escaped { start, end: self.unescaped.len() as u32 }),
                Some(b'\\') => self.escape()?,
                _ => return Err(Flaw::Syntax),
            }
            run = self.at;
            self.at += plain_len(self.text.as_bytes(), run);
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let character = match self.text.as_bytes().get(self.at + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => {
                let first = self.unit().ok_or(Flaw::Syntax)?;
                self.at += 6;
                let second = if let 0xD800..=0xDBFF = first { self.unit() } else { None };
                let units = [first, second.unwrap_or_default()];
                let units = &units[..1 + usize::from(second.is_some())];
                let decoded = char::decode_utf16(units.iter().copied()).next();
                let character = decoded.and_then(Result::ok).ok_or(Flaw::LoneSurrogate(first))?;
                self.at += 6 * (character.len_utf16() - 1);
                self.unescaped.push(character);
                return Ok(());
            }
        };
        self.at += 2;
        self.unescaped.push(character);
        Ok(())
    }

    /// The UTF-16 unit that a `\uXXXX` here stands for.
    fn unit(&self) -> Option<u16> {
        let [b'\\', b'u', digits @ ..] = self.text.as_bytes().get(self.at..self.at + 6)? else { return None };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        digits.iter().try_fold(0, |unit, byte| Some(unit << 4 | digit(byte)? as u16))
    }

    /// Reads a list or object, what is in it by `read`, which leaves the places of the members behind.
    fn nested(&mut self, read: fn(&mut Self, u32) -> Result<(), Flaw>) -> Result<(), Flaw> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(Flaw::TooDeep)?;
        let (start, place, outer) = (self.at, self.place(), self.members.len());
        // Something has to stand here until it is known how much is in it.
        self.push(Kind::Null, start);
        read(self, place)?;
        let is_object = self.text.as_bytes()[start] == b'{';
        let index = self.index.len() as u32;
        if is_object {
            self.sort_names(place, outer);
        } else if self.members.len() - outer > FEW as usize {
            self.index.extend_from_slice(&self.members[outer..]);
        }
        let members = Members { len: (self.members.len() - outer) as u32, index };
        self.members.truncate(outer);
        self.depth_left += 1;
        let kind = if is_object { Kind::Object(members) } else { Kind::List(members) };
        let size = self.place() - place;
        self.entries[place as usize] = Entry { kind, start: start as u32, end: self.at as u32, size };
        Ok(())
    }

    fn list(&mut self, place: u32) -> Result<(), Flaw> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.members.push(self.place() - place);
            self.value()?;
            self.skip_blanks();
            if !self.take(b',') {
                return self.expect(b']');
            }
        }
    }

    fn object(&mut self, place: u32) -> Result<(), Flaw> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.members.push(self.place() - place);
            match self.peek() {
                Some(b'"') => self.string()?,
                _ => return Err(Flaw::Syntax),
            }
            self.skip_blanks();
            self.expect(b':')?;
            self.value()?;
            self.skip_blanks();
            if !self.take(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn name(&self, object: u32, place: u32) -> &str {
        string(self.text, &self.unescaped, self.entries[(object + place) as usize])
    }

    /// Sees to it that the names of an object differ, and keeps their places sorted by name if there are many.
    fn sort_names(&mut self, object: u32, outer: usize) {
        if self.members.len() - outer <= FEW as usize {
            if self.has_repeated_name(object, outer) {
                self.drop_overridden(object, outer);
            }
            return;
        }
        let mut sorted = self.members[outer..].to_vec();
        sorted.sort_unstable_by_key(|place| self.name(object, *place));
        if sorted.windows(2).any(|pair| self.name(object, pair[0]) == self.name(object, pair[1])) {
            self.drop_overridden(object, outer);
            return self.sort_names(object, outer);
        }
        self.index.append(&mut sorted);
    }

    /// Whether two of a few names are the same. Those that differ in this much of a hash are not compared.
    fn has_repeated_name(&self, object: u32, outer: usize) -> bool {
        let mut seen = 0_u64;
        self.members[outer..].iter().enumerate().any(|(at, place)| {
            let name = self.name(object, *place).as_bytes();
            let ends = name.first().zip(name.last()).map_or(0, |(first, last)| first.wrapping_add(last << 1));
            let bit = 1 << (usize::from(ends).wrapping_add(name.len() * 7) % 64);
            let may_be_known = seen & bit != 0;
            seen |= bit;
            may_be_known
                && self.members[outer..outer + at]
                    .iter()
                    .any(|other| self.name(object, *other).as_bytes() == name)
        })
    }

    /// Leaves out what a later member of the same name overrides, as a dict does: the first place, the last value.
    fn drop_overridden(&mut self, object: u32, outer: usize) {
        // By name: its place among those that are kept, of which there are the first name and the last value.
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut kept: Vec<(u32, u32)> = Vec::new();
        let mut repeated = None;
        for place in &self.members[outer..] {
            let name = self.name(object, *place);
            match known.entry(name) {
                Slot::Vacant(slot) => {
                    slot.insert(kept.len());
                    kept.push((*place, *place + 1));
                }
                Slot::Occupied(slot) => {
                    kept[*slot.get()].1 = *place + 1;
                    repeated.get_or_insert(name);
                }
            }
        }
        if object == 0 {
            self.repeated = repeated.map(str::to_owned);
        }
        let all = self.entries.split_off(object as usize);
        self.entries.push(all[0]);
        self.members.truncate(outer);
        for (name, value) in kept {
            self.members.push(self.place() - object);
            self.entries.push(all[name as usize]);
            let size = all[value as usize].size;
            self.entries.extend_from_slice(&all[value as usize..(value + size) as usize]);
        }
    }
}
