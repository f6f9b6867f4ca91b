//! The syntax of Python's `re` (3.12, patterns of `str`), read into a tree.
//!
//! Invariants:
//! - Whatever Python refuses is refused, with Python's words and the position in characters.
//! - Groups are nested at most [`NESTING_MAX`] deep, so walking the tree needs little stack.
//!
//! Absences: nothing is matched here.

use super::PatternError;

/// How deep groups may be nested.
const NESTING_MAX: usize = 100;

/// The longest pattern, in characters. People write a line; the limit bounds what compiling one can cost.
const LEN_MAX: usize = 4096;

/// The largest count of a repetition. Python takes four thousand million; each costs a state here.
const REPEAT_MAX: u32 = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// One character of a set. A literal is a set of one.
    Class(Class),
    /// `.`
    Any { newline: bool },
    /// `^`, `\A`
    Start,
    /// `^` in a pattern of several lines.
    LineStart,
    /// `\Z`
    End,
    /// `$`: at the end, or before the last line feed.
    EndOfText,
    /// `$` in a pattern of several lines.
    LineEnd,
    /// `\b`, `\B`
    Boundary { negated: bool, ascii: bool },
    /// One after the other.
    Sequence(Vec<Node>),
    /// One of them.
    Either(Vec<Node>),
    /// So many times; no `max` is no limit.
    Repeat { node: Box<Node>, min: u32, max: Option<u32>, mode: Mode },
    /// `(..)`; the number counts from 1.
    Group { number: usize, node: Box<Node> },
    /// `(?:..)`
    Plain(Box<Node>),
    /// `(?>..)`
    Atomic(Box<Node>),
    /// `(?=..)`, `(?!..)`, `(?<=..)`, `(?<!..)`
    Look { behind: bool, negated: bool, node: Box<Node> },
    /// `\1`, `(?P=name)`
    Backreference { number: usize, ignore_case: bool },
    /// `(?(1)yes|no)`
    Conditional { number: usize, yes: Box<Node>, no: Box<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Greedy,
    Lazy,
    Possessive,
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Class {
    pub(super) negated: bool,
    /// Code points, both ends included. Surrogates may be among them, which no text holds.
    pub(super) ranges: Vec<(u32, u32)>,
    pub(super) categories: Vec<Category>,
    pub(super) ignore_case: bool,
    pub(super) ascii: bool,
}

/// `\d`, `\s`, `\w` and their opposites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Category {
    pub(super) kind: CategoryKind,
    pub(super) negated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CategoryKind {
    Digit,
    Space,
    Word,
}

impl Category {
    fn of(letter: char) -> Option<Self> {
        let kind = match letter {
            'd' | 'D' => CategoryKind::Digit,
            's' | 'S' => CategoryKind::Space,
            'w' | 'W' => CategoryKind::Word,
            _ => return None,
        };
        Some(Category { kind, negated: letter.is_ascii_uppercase() })
    }
}

impl Node {
    /// Whether it takes no characters, wherever it matches: repeating it makes no difference.
    pub(super) fn is_assertion(&self) -> bool {
        match self {
            Node::Start
            | Node::LineStart
            | Node::End
            | Node::EndOfText
            | Node::LineEnd
            | Node::Boundary { .. }
            | Node::Look { .. } => true,
            Node::Sequence(nodes) | Node::Either(nodes) => nodes.iter().all(Node::is_assertion),
            Node::Group { node, .. } | Node::Plain(node) | Node::Atomic(node) => node.is_assertion(),
            Node::Conditional { yes, no, .. } => yes.is_assertion() && no.is_assertion(),
            Node::Class(_) | Node::Any { .. } | Node::Repeat { .. } | Node::Backreference { .. } => false,
        }
    }
}

/// Reads a pattern.
pub(super) fn parse(pattern: &str) -> Result<Node, PatternError> {
    let chars: Vec<char> = pattern.chars().collect();
    if chars.len() > LEN_MAX {
        return Err(PatternError::too_large(format!("longer than {LEN_MAX} characters"), LEN_MAX));
    }
    // `(?x)` is found when what it changes has perhaps been read already: Python begins again, and so do we.
    let node = match Reader::new(&chars, false).whole() {
        Err(Stop::Verbose) => Reader::new(&chars, true).whole(),
        other => other,
    };
    match node {
        Ok(node) => Ok(node),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Verbose) => unreachable!("it is raised only while the flag is not set"),
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Flags {
    ascii: bool,
    ignore_case: bool,
    lines: bool,
    dot_all: bool,
    verbose: bool,
}

/// Why reading stopped.
enum Stop {
    Error(PatternError),
    /// A `(?x)` at the start: read again with it.
    Verbose,
}

impl From<PatternError> for Stop {
    fn from(error: PatternError) -> Self {
        Stop::Error(error)
    }
}

type Read<T> = Result<T, Stop>;

struct Reader<'p> {
    chars: &'p [char],
    at: usize,
    /// Those of the innermost group; at the top the global ones.
    flags: Flags,
    groups: Vec<GroupState>,
    /// Groups that conditions ask for, which may come later: number and position.
    conditions: Vec<(usize, usize)>,
    /// Whether the reader was told of `(?x)` before it began.
    verbose_known: bool,
}

struct GroupState {
    name: Option<String>,
    /// How many characters it takes, once it is closed.
    width: Option<Width>,
}

/// Where the reader stands.
#[derive(Clone, Copy)]
struct Around {
    depth: usize,
    /// Within a look-behind: how many groups had been opened before the outermost one.
    behind: Option<usize>,
}

/// The fewest and the most characters that a node takes; saturating.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Width {
    min: u64,
    max: u64,
}

impl<'p> Reader<'p> {
    fn new(chars: &'p [char], verbose: bool) -> Self {
        let flags = Flags { verbose, ..Flags::default() };
        Reader { chars, at: 0, flags, groups: vec![], conditions: vec![], verbose_known: verbose }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn whole(&mut self) -> Read<Node> {
        let node = self.either(Around { depth: 0, behind: None })?;
        if self.peek().is_some() {
            return error("unbalanced parenthesis", self.at);
        }
        for &(number, position) in &self.conditions {
            if number > self.groups.len() {
                return error(format!("invalid group reference {number}"), position);
            }
        }
        Ok(node)
    }

    /// Alternatives, up to the end or a closing parenthesis.
    fn either(&mut self, around: Around) -> Read<Node> {
        if around.depth > NESTING_MAX {
            let message = format!("groups nested more than {NESTING_MAX} deep");
            return Err(PatternError::too_large(message, self.at).into());
        }
        let mut branches = vec![self.sequence(around, around.depth == 0)?];
        while self.take('|') {
            branches.push(self.sequence(around, false)?);
        }
        Ok(match branches.len() {
            1 => branches.pop().expect("there is one"),
            _ => Node::Either(branches),
        })
    }

    fn sequence(&mut self, around: Around, first: bool) -> Read<Node> {
        let mut nodes = Vec::new();
        while let Some(char) = self.peek() {
            let start = self.at;
            if matches!(char, '|' | ')') {
                break;
            }
            self.at += 1;
            if self.flags.verbose {
                if matches!(char, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c') {
                    continue;
                }
                if char == '#' {
                    while self.next().is_some_and(|skipped| skipped != '\n') {}
                    continue;
                }
            }
            match char {
                '\\' => nodes.push(self.escape(around)?),
                '[' => nodes.push(self.class(start)?),
                '.' => nodes.push(Node::Any { newline: self.flags.dot_all }),
                '^' => nodes.push(if self.flags.lines { Node::LineStart } else { Node::Start }),
                '$' => nodes.push(if self.flags.lines { Node::LineEnd } else { Node::EndOfText }),
                '(' => nodes.extend(self.group(start, around, first && nodes.is_empty())?),
                '*' | '+' | '?' | '{' => self.repeat(char, start, &mut nodes)?,
                literal => nodes.push(self.literal(literal)),
            }
        }
        Ok(match nodes.len() {
            1 => nodes.pop().expect("there is one"),
            _ => Node::Sequence(nodes),
        })
    }

    fn literal(&self, literal: impl Into<u32>) -> Node {
        let code = literal.into();
        Node::Class(self.class_of(vec![(code, code)], vec![]))
    }

    fn class_of(&self, ranges: Vec<(u32, u32)>, categories: Vec<Category>) -> Class {
        let Flags { ignore_case, ascii, .. } = self.flags;
        Class { negated: false, ranges, categories, ignore_case, ascii }
    }

    /// What follows one of `*+?{`.
    fn repeat(&mut self, char: char, start: usize, nodes: &mut Vec<Node>) -> Read<()> {
        let (min, max) = match char {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            _ => match self.counts(start)? {
                Some(counts) => counts,
                None => {
                    nodes.push(self.literal('{'));
                    return Ok(());
                }
            },
        };
        match nodes.last() {
            None
            | Some(
                Node::Start
                | Node::LineStart
                | Node::End
                | Node::EndOfText
                | Node::LineEnd
                | Node::Boundary { .. },
            ) => {
                return error("nothing to repeat", start);
            }
            Some(Node::Repeat { .. }) => return error("multiple repeat", start),
            Some(_) => {}
        }
        let node = Box::new(nodes.pop().expect("there is a last one"));
        let mode = match self.peek() {
            Some('?') => Mode::Lazy,
            Some('+') => Mode::Possessive,
            _ => Mode::Greedy,
        };
        self.at += usize::from(mode != Mode::Greedy);
        nodes.push(Node::Repeat { node, min, max, mode });
        Ok(())
    }

    /// The counts after a `{`; `None` if it is no repetition, and nothing was taken.
    fn counts(&mut self, start: usize) -> Read<Option<(u32, Option<u32>)>> {
        let back = self.at;
        if self.peek() == Some('}') {
            return Ok(None);
        }
        let low = self.digits();
        let high = if self.take(',') { self.digits() } else { low.clone() };
        if !self.take('}') {
            self.at = back;
            return Ok(None);
        }
        let count = |digits: &str| -> Read<u32> {
            match digits.parse::<u32>() {
                Ok(count) if count <= REPEAT_MAX => Ok(count),
                _ => {
                    Err(PatternError::too_large(format!("repeated more than {REPEAT_MAX} times"), start)
                        .into())
                }
            }
        };
        let min = if low.is_empty() { 0 } else { count(&low)? };
        let max = if high.is_empty() { None } else { Some(count(&high)?) };
        if max.is_some_and(|max| max < min) {
            return error("min repeat greater than max repeat", start + 1);
        }
        Ok(Some((min, max)))
    }

    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some(digit) = self.peek().filter(char::is_ascii_digit) {
            digits.push(digit);
            self.at += 1;
        }
        digits
    }

    /// What follows a `(`. `None` for what leaves no trace: flags and comments.
    fn group(&mut self, start: usize, around: Around, first: bool) -> Read<Option<Node>> {
        if !self.take('?') {
            return self.capture(None, start, around).map(Some);
        }
        let kind = self.next().ok_or_else(|| PatternError::new("unexpected end of pattern", start + 1))?;
        let inner = Around { depth: around.depth + 1, ..around };
        Ok(Some(match kind {
            'P' => return self.named(start, around).map(Some),
            ':' => Node::Plain(self.body(self.flags, start, inner)?),
            '>' => Node::Atomic(self.body(self.flags, start, inner)?),
            '#' => {
                while let Some(char) = self.next() {
                    if char == ')' {
                        return Ok(None);
                    }
                }
                return error("missing ), unterminated comment", start);
            }
            '=' | '!' => {
                Node::Look { behind: false, negated: kind == '!', node: self.body(self.flags, start, inner)? }
            }
            '<' => return self.look_behind(start, inner).map(Some),
            '(' => self.conditional(start, inner)?,
            '-' | 'a' | 'i' | 'L' | 'm' | 's' | 'u' | 'x' => return self.flagged(kind, start, inner, first),
            other => return error(format!("unknown extension ?{other}"), start + 1),
        }))
    }

    /// What stands in a group, and its closing parenthesis.
    fn body(&mut self, flags: Flags, start: usize, around: Around) -> Read<Box<Node>> {
        let outer = std::mem::replace(&mut self.flags, flags);
        let node = self.either(around)?;
        self.flags = outer;
        if !self.take(')') {
            return error("missing ), unterminated subpattern", start);
        }
        Ok(Box::new(node))
    }

    fn capture(&mut self, name: Option<String>, start: usize, around: Around) -> Read<Node> {
        self.groups.push(GroupState { name, width: None });
        let number = self.groups.len();
        let node = self.body(self.flags, start, Around { depth: around.depth + 1, ..around })?;
        self.groups[number - 1].width = Some(self.width(&node));
        Ok(Node::Group { number, node })
    }

    /// What follows `(?P`.
    fn named(&mut self, start: usize, around: Around) -> Read<Node> {
        match self.next() {
            Some('<') => {
                let at = self.at;
                let name = self.name('>', "group name")?;
                if let Some(index) = self.groups.iter().position(|group| group.name.as_ref() == Some(&name)) {
                    let (number, earlier) = (self.groups.len() + 1, index + 1);
                    let message =
                        format!("redefinition of group name '{name}' as group {number}; was group {earlier}");
                    return error(message, at);
                }
                self.capture(Some(name), start, around)
            }
            Some('=') => {
                let at = self.at;
                let name = self.name(')', "group name")?;
                match self.groups.iter().position(|group| group.name.as_ref() == Some(&name)) {
                    Some(index) => self.backreference(index + 1, at, around),
                    None => error(format!("unknown group name '{name}'"), at),
                }
            }
            Some(other) => error(format!("unknown extension ?P{other}"), start + 1),
            None => error("unexpected end of pattern", self.at),
        }
    }

    /// A name up to its terminator.
    fn name(&mut self, end: char, what: &str) -> Read<String> {
        let (start, mut name) = (self.at, String::new());
        loop {
            match self.next() {
                None if name.is_empty() => return error(format!("missing {what}"), start),
                None => return error(format!("missing {end}, unterminated name"), start),
                Some(char) if char == end => break,
                Some(char) => name.push(char),
            }
        }
        if name.is_empty() {
            return error(format!("missing {what}"), start);
        }
        let fits = |(at, char): (usize, char)| match at {
            0 => char == '_' || char.is_alphabetic(),
            _ => char == '_' || char.is_alphanumeric(),
        };
        if what == "group name" && !name.chars().enumerate().all(fits) {
            return error(format!("bad character in group name '{name}'"), start);
        }
        Ok(name)
    }

    fn look_behind(&mut self, start: usize, around: Around) -> Read<Node> {
        let negated = match self.next() {
            Some('=') => false,
            Some('!') => true,
            Some(other) => return error(format!("unknown extension ?<{other}"), start + 1),
            None => return error("unexpected end of pattern", self.at),
        };
        let behind = around.behind.or(Some(self.groups.len()));
        let node = self.body(self.flags, start, Around { behind, ..around })?;
        let width = self.width(&node);
        if width.min != width.max {
            return error("look-behind requires fixed-width pattern", start);
        }
        Ok(Node::Look { behind: true, negated, node })
    }

    /// What follows `(?(`.
    fn conditional(&mut self, start: usize, around: Around) -> Read<Node> {
        let at = self.at;
        let name = self.name(')', "condition")?;
        let number = if name.bytes().all(|b| b.is_ascii_digit()) {
            match name.parse::<usize>() {
                Ok(0) => return error("bad group number", at),
                Ok(number) if number <= LEN_MAX => number,
                _ => return error(format!("invalid group reference {name}"), at),
            }
        } else {
            match self.groups.iter().position(|group| group.name.as_ref() == Some(&name)) {
                Some(index) => index + 1,
                None if name.chars().all(|c| c == '_' || c.is_alphanumeric()) => {
                    return error(format!("unknown group name '{name}'"), at);
                }
                None => return error(format!("bad character in group name '{name}'"), at),
            }
        };
        if around.behind.is_some() {
            // Elsewhere the group may be open, or come later.
            self.check_reference(number, at, around)?;
        }
        self.conditions.push((number, at));
        let flags = self.flags;
        let yes = self.sequence(around, false)?;
        let no = if self.take('|') { self.sequence(around, false)? } else { Node::Sequence(vec![]) };
        self.flags = flags;
        match self.peek() {
            Some(')') => self.at += 1,
            Some(_) => return error("conditional backref with more than two branches", self.at),
            None => return error("missing ), unterminated subpattern", start),
        }
        Ok(Node::Conditional { number, yes: Box::new(yes), no: Box::new(no) })
    }

    /// `(?i)` and `(?i-s:..)`, from its first letter on.
    fn flagged(&mut self, kind: char, start: usize, around: Around, first: bool) -> Read<Option<Node>> {
        let (mut on, mut off) = (String::new(), String::new());
        let mut char = Some(kind);
        while let Some(flag) = char.filter(|char| !matches!(char, ')' | ':' | '-')) {
            match flag {
                'a' | 'i' | 'm' | 's' | 'u' | 'x' => on.push(flag),
                'L' => return error("bad inline flags: cannot use 'L' flag with a str pattern", self.at),
                _ => return error("unknown flag", self.at - 1),
            }
            if on.contains('a') && on.contains('u') {
                return error("bad inline flags: flags 'a', 'u' and 'L' are incompatible", self.at);
            }
            char = self.next();
        }
        let last = char.ok_or_else(|| PatternError::new("missing -, : or )", self.at))?;
        if last == ')' {
            if !first {
                return error("global flags not at the start of the expression", start);
            }
            self.flags = self.flags.with(&on, &off);
            let again = on.contains('x') && !self.verbose_known;
            return if again { Err(Stop::Verbose) } else { Ok(None) };
        }
        if last == '-' {
            loop {
                match self.next() {
                    None => return error("missing flag", self.at),
                    Some(':') if off.is_empty() => return error("missing flag", self.at - 1),
                    Some(':') => break,
                    Some('a' | 'u' | 'L') => {
                        return error("bad inline flags: cannot turn off flags 'a', 'u' and 'L'", self.at);
                    }
                    Some(flag @ ('i' | 'm' | 's' | 'x')) => off.push(flag),
                    Some(')') => return error("missing :", self.at - 1),
                    Some(_) => return error("unknown flag", self.at - 1),
                }
            }
            if on.chars().any(|flag| off.contains(flag)) {
                return error("bad inline flags: flag turned on and off", self.at - 1);
            }
        }
        let flags = self.flags.with(&on, &off);
        Ok(Some(Node::Plain(self.body(flags, start, around)?)))
    }

    /// What follows a `\` outside a set.
    fn escape(&mut self, around: Around) -> Read<Node> {
        let start = self.at - 1;
        let Some(char) = self.next() else { return error("bad escape (end of pattern)", start) };
        let ascii = self.flags.ascii;
        if let Some(category) = Category::of(char) {
            return Ok(Node::Class(self.class_of(vec![], vec![category])));
        }
        Ok(match char {
            'A' => Node::Start,
            'Z' => Node::End,
            'b' => Node::Boundary { negated: false, ascii },
            'B' => Node::Boundary { negated: true, ascii },
            '0' => {
                let code = self.octal(0, 2);
                self.literal(code)
            }
            '1'..='9' => return self.numbered(char, start, around),
            _ => {
                let code = self.coded(char, start)?;
                self.literal(code)
            }
        })
    }

    /// `\1`, or three octal digits.
    fn numbered(&mut self, first: char, start: usize, around: Around) -> Read<Node> {
        let mut number = first.to_digit(10).expect("a digit was read") as usize;
        if let Some(second) = self.peek().and_then(|char| char.to_digit(10)) {
            self.at += 1;
            let third = self.peek().and_then(|char| char.to_digit(8));
            if let (true, true, Some(third)) = (number < 8, second < 8, third) {
                self.at += 1;
                let code = number as u32 * 64 + second * 8 + third;
                if code > 0o377 {
                    return error(format!("octal escape value \\{code:o} outside of range 0-0o377"), start);
                }
                return Ok(self.literal(code));
            }
            number = number * 10 + second as usize;
        }
        if number > self.groups.len() {
            return error(format!("invalid group reference {number}"), start + 1);
        }
        self.backreference(number, start, around)
    }

    fn backreference(&self, number: usize, at: usize, around: Around) -> Read<Node> {
        self.check_reference(number, at, around)?;
        Ok(Node::Backreference { number, ignore_case: self.flags.ignore_case })
    }

    fn check_reference(&self, number: usize, at: usize, around: Around) -> Read<()> {
        if self.groups.get(number - 1).is_none_or(|group| group.width.is_none()) {
            return error("cannot refer to an open group", at);
        }
        if around.behind.is_some_and(|before| number > before) {
            return error("cannot refer to group defined in the same lookbehind subpattern", at);
        }
        Ok(())
    }

    /// Up to so many octal digits more.
    fn octal(&mut self, mut code: u32, more: usize) -> u32 {
        for _ in 0..more {
            let Some(digit) = self.peek().and_then(|char| char.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.at += 1;
        }
        code
    }

    /// An escape that stands for one character, the same in a set and outside.
    fn coded(&mut self, char: char, start: usize) -> Read<u32> {
        Ok(match char {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => self.hexadecimal('x', 2, start)?,
            'u' => self.hexadecimal('u', 4, start)?,
            'U' => {
                let code = self.hexadecimal('U', 8, start)?;
                if code > 0x10_FFFF {
                    return error("bad escape: no such character", start);
                }
                code
            }
            'N' => self.character_name(start)?,
            letter if letter.is_ascii_alphabetic() => return error(format!("bad escape \\{letter}"), start),
            other => other.into(),
        })
    }

    fn hexadecimal(&mut self, letter: char, length: usize, start: usize) -> Read<u32> {
        let mut code = 0;
        for _ in 0..length {
            match self.peek().and_then(|char| char.to_digit(16)) {
                Some(digit) => code = code * 16 + digit,
                None => {
                    let written: String = self.chars[start..self.at].iter().collect();
                    debug_assert!(written.starts_with(['\\']) && written.contains(letter));
                    return error(format!("incomplete escape {written}"), start);
                }
            }
            self.at += 1;
        }
        Ok(code)
    }

    /// What follows `\N`.
    fn character_name(&mut self, start: usize) -> Read<u32> {
        if !self.take('{') {
            return error("missing {", self.at);
        }
        let name = self.name('}', "character name")?;
        match unicode_names2::character(&name) {
            Some(character) => Ok(character.into()),
            None => error(format!("undefined character name '{name}'"), start),
        }
    }

    /// What follows a `[`.
    fn class(&mut self, start: usize) -> Read<Node> {
        let unterminated = || PatternError::new("unterminated character set", start);
        let mut class = self.class_of(vec![], vec![]);
        class.negated = self.take('^');
        let opened = self.at;
        loop {
            let at = self.at;
            let char = self.next().ok_or_else(unterminated)?;
            if char == ']' && at != opened {
                break;
            }
            let low = self.class_item(char, at)?;
            if !self.take('-') {
                class.add(low);
                continue;
            }
            let high_at = self.at;
            let char = self.next().ok_or_else(unterminated)?;
            if char == ']' {
                class.add(low);
                class.add(Item::One('-'.into()));
                break;
            }
            match (low, self.class_item(char, high_at)?) {
                (Item::One(low), Item::One(high)) if low <= high => class.ranges.push((low, high)),
                _ => {
                    let written: String = self.chars[at..self.at].iter().collect();
                    return error(format!("bad character range {written}"), at);
                }
            }
        }
        Ok(Node::Class(class))
    }

    fn class_item(&mut self, char: char, start: usize) -> Read<Item> {
        if char != '\\' {
            return Ok(Item::One(char.into()));
        }
        let Some(char) = self.next() else { return error("bad escape (end of pattern)", start) };
        if let Some(category) = Category::of(char) {
            return Ok(Item::Category(category));
        }
        Ok(Item::One(match char {
            'b' => 8,
            '0'..='7' => {
                let code = self.octal(char.to_digit(8).expect("an octal digit was read"), 2);
                if code > 0o377 {
                    return error(format!("octal escape value \\{code:o} outside of range 0-0o377"), start);
                }
                code
            }
            '8' | '9' => return error(format!("bad escape \\{char}"), start),
            _ => self.coded(char, start)?,
        }))
    }

    fn width(&self, node: &Node) -> Width {
        let exactly = |count| Width { min: count, max: count };
        match node {
            Node::Class(_) | Node::Any { .. } => exactly(1),
            Node::Start
            | Node::LineStart
            | Node::End
            | Node::EndOfText
            | Node::LineEnd
            | Node::Boundary { .. }
            | Node::Look { .. } => exactly(0),
            Node::Sequence(nodes) => nodes.iter().fold(exactly(0), |sum, node| {
                let width = self.width(node);
                Width { min: sum.min.saturating_add(width.min), max: sum.max.saturating_add(width.max) }
            }),
            Node::Either(nodes) => {
                let widths = nodes.iter().map(|node| self.width(node));
                let joined = widths.reduce(|a, b| Width { min: a.min.min(b.min), max: a.max.max(b.max) });
                joined.unwrap_or(exactly(0))
            }
            Node::Repeat { node, min, max, .. } => {
                let width = self.width(node);
                Width {
                    min: width.min.saturating_mul(u64::from(*min)),
                    max: match max {
                        None if width.max > 0 => u64::MAX,
                        max => width.max.saturating_mul(u64::from(max.unwrap_or_default())),
                    },
                }
            }
            Node::Group { node, .. } | Node::Plain(node) | Node::Atomic(node) => self.width(node),
            Node::Backreference { number, .. } => self.groups[number - 1].width.unwrap_or(exactly(0)),
            Node::Conditional { yes, no, .. } => {
                let (yes, no) = (self.width(yes), self.width(no));
                Width { min: yes.min.min(no.min), max: yes.max.max(no.max) }
            }
        }
    }
}

impl Flags {
    fn with(mut self, on: &str, off: &str) -> Self {
        for (letters, value) in [(on, true), (off, false)] {
            for letter in letters.chars() {
                match letter {
                    'a' => self.ascii = true,
                    'u' => self.ascii = false,
                    'i' => self.ignore_case = value,
                    'm' => self.lines = value,
                    's' => self.dot_all = value,
                    'x' => self.verbose = value,
                    _ => unreachable!("the reader refused every other letter"),
                }
            }
        }
        self
    }
}

/// One thing in a set.
#[derive(Clone, Copy)]
enum Item {
    One(u32),
    Category(Category),
}

impl Class {
    fn add(&mut self, item: Item) {
        match item {
            Item::One(code) => self.ranges.push((code, code)),
            Item::Category(category) => self.categories.push(category),
        }
    }
}

fn error<T, E: From<PatternError>>(message: impl Into<String>, position: usize) -> Result<T, E> {
    Err(PatternError::new(message, position).into())
}
