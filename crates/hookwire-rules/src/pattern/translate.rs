//! A pattern of Python's, written in the syntax of the engines that run it.
//!
//! Invariants:
//! - What is written uses no flags but those of its own groups, and no class but Unicode's general categories, so both
//!   engines read it alike.
//! - It begins with `\A`: Python's `re.match` looks at the start only.
//!
//! Where Python and the engines differ in what a class holds (`\w`, `\s`, `\b`, the letters without regard to case),
//! Python's set is written out.

use std::fmt::Write as _;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::syntax::{Category, CategoryKind, Class, Mode, Node};

/// A pattern in the engines' syntax.
pub(super) struct Translation {
    pub(super) text: String,
    /// Whether it needs the engine that steps back: look-around, references, groups that do not give back.
    pub(super) steps_back: bool,
}

pub(super) fn translate(node: &Node) -> Translation {
    let mut references = Vec::new();
    collect_references(node, &mut references);
    references.sort_unstable();
    references.dedup();
    // What a group at the end takes makes a difference to references only.
    let tail = references.is_empty();
    let mut writer = Writer { out: String::from("\\A(?:"), steps_back: false, references };
    writer.node(node, tail);
    writer.out.push(')');
    Translation { text: writer.out, steps_back: writer.steps_back }
}

/// The numbers of the groups that something refers to: only they have to be captured.
fn collect_references(node: &Node, into: &mut Vec<usize>) {
    match node {
        Node::Backreference { number, .. } => into.push(*number),
        Node::Conditional { number, yes, no } => {
            into.push(*number);
            collect_references(yes, into);
            collect_references(no, into);
        }
        Node::Sequence(nodes) | Node::Either(nodes) => {
            nodes.iter().for_each(|node| collect_references(node, into));
        }
        Node::Repeat { node, .. }
        | Node::Group { node, .. }
        | Node::Plain(node)
        | Node::Atomic(node)
        | Node::Look { node, .. } => collect_references(node, into),
        Node::Class(_)
        | Node::Any { .. }
        | Node::Start
        | Node::LineStart
        | Node::End
        | Node::EndOfText
        | Node::LineEnd
        | Node::Boundary { .. } => {}
    }
}

struct Writer {
    out: String,
    steps_back: bool,
    /// The groups to capture, in order; they are numbered anew.
    references: Vec<usize>,
}

impl Writer {
    /// `tail`: nothing comes after this node, so it may take more than it should.
    fn node(&mut self, node: &Node, tail: bool) {
        match node {
            Node::Class(class) => self.class(class),
            Node::Any { newline: true } => self.out.push_str("[\\x{0}-\\x{10FFFF}]"),
            Node::Any { newline: false } => self.out.push_str("[^\\x{A}]"),
            Node::Start => self.out.push_str("\\A"),
            Node::LineStart => self.out.push_str("(?m:^)"),
            Node::End => self.out.push_str("\\z"),
            Node::EndOfText if tail => self.out.push_str("\\x{A}?\\z"),
            Node::EndOfText => self.backtracking("(?=\\x{A}?\\z)"),
            Node::LineEnd => self.out.push_str("(?m:$)"),
            Node::Boundary { negated, ascii } => self.boundary(*negated, *ascii),
            Node::Sequence(nodes) => {
                for (at, node) in nodes.iter().enumerate() {
                    self.node(node, tail && at + 1 == nodes.len());
                }
            }
            Node::Either(nodes) => {
                self.out.push_str("(?:");
                for (at, node) in nodes.iter().enumerate() {
                    if at > 0 {
                        self.out.push('|');
                    }
                    self.node(node, tail);
                }
                self.out.push(')');
            }
            Node::Repeat { node, min, max, mode } => self.repeat(node, *min, *max, *mode),
            Node::Group { number, node } => match self.references.contains(number) {
                true => self.wrapped("(", node, false),
                false => self.wrapped("(?:", node, tail),
            },
            Node::Plain(node) => self.wrapped("(?:", node, tail),
            Node::Atomic(node) => {
                self.steps_back = true;
                self.wrapped("(?>", node, false);
            }
            Node::Look { behind, negated, node } => {
                self.steps_back = true;
                let open = match (behind, negated) {
                    (false, false) => "(?=",
                    (false, true) => "(?!",
                    (true, false) => "(?<=",
                    (true, true) => "(?<!",
                };
                self.wrapped(open, node, false);
            }
            Node::Backreference { number, ignore_case } => {
                let flag = if *ignore_case { "i" } else { "" };
                let number = self.renumbered(*number);
                self.backtracking(&format!("(?{flag}:\\{number})"));
            }
            Node::Conditional { number, yes, no } => {
                let number = self.renumbered(*number);
                self.backtracking(&format!("(?({number})"));
                self.wrapped("(?:", yes, false);
                self.out.push('|');
                self.wrapped("(?:", no, false);
                self.out.push(')');
            }
        }
    }

    fn backtracking(&mut self, text: &str) {
        self.steps_back = true;
        self.out.push_str(text);
    }

    fn renumbered(&self, number: usize) -> usize {
        1 + self.references.iter().position(|other| *other == number).expect("every reference was collected")
    }

    fn wrapped(&mut self, open: &str, node: &Node, tail: bool) {
        self.out.push_str(open);
        self.node(node, tail);
        self.out.push(')');
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, mode: Mode) {
        if mode == Mode::Possessive {
            self.backtracking("(?>");
        }
        match node {
            Node::Class(_) | Node::Any { .. } => self.node(node, false),
            _ => self.wrapped("(?:", node, false),
        }
        match (min, max) {
            (0, None) => self.out.push('*'),
            (1, None) => self.out.push('+'),
            (0, Some(1)) => self.out.push('?'),
            (min, None) => _ = write!(self.out, "{{{min},}}"),
            (min, Some(max)) => _ = write!(self.out, "{{{min},{max}}}"),
        }
        match mode {
            Mode::Greedy => {}
            Mode::Lazy => self.out.push('?'),
            Mode::Possessive => self.out.push(')'),
        }
    }

    /// The engines' own `\b` knows other letters than Python's.
    fn boundary(&mut self, negated: bool, ascii: bool) {
        let word = if ascii { WORD_ASCII } else { WORD };
        self.backtracking(&match negated {
            false => format!("(?:(?<=[{word}])(?![{word}])|(?<![{word}])(?=[{word}]))"),
            // In an empty text there is neither, up to Python 3.13.
            true => format!("(?:(?<=[{word}])(?=[{word}])|(?<![{word}])(?![{word}])(?!\\A\\z))"),
        });
    }

    fn class(&mut self, class: &Class) {
        let ranges = if class.ignore_case { fold(&class.ranges, class.ascii) } else { class.ranges.clone() };
        if let ([(low, high)], [], false) = (&ranges[..], &class.categories[..], class.negated)
            && low == high
            && let Some(literal) = char::from_u32(*low)
        {
            return self.literal(literal);
        }
        let start = self.out.len();
        self.out.push_str(if class.negated { "[^" } else { "[" });
        let opened = self.out.len();
        for (low, high) in &ranges {
            // No text holds a surrogate, and the engines do not know them.
            for (low, high) in [(*low, (*high).min(0xD7FF)), ((*low).max(0xE000), *high)] {
                if low <= high {
                    let _ = write!(self.out, "\\x{{{low:X}}}-\\x{{{high:X}}}");
                }
            }
        }
        for category in &class.categories {
            self.category(*category, class.ascii);
        }
        if self.out.len() == opened {
            // A set of surrogates: no character, or all of them.
            self.out.truncate(start);
            self.out.push_str(if class.negated { "[\\x{0}-\\x{10FFFF}]" } else { "[^\\x{0}-\\x{10FFFF}]" });
        } else {
            self.out.push(']');
        }
    }

    fn literal(&mut self, literal: char) {
        if literal.is_ascii_alphanumeric() || !literal.is_ascii() && literal.is_alphanumeric() {
            self.out.push(literal);
        } else {
            let _ = write!(self.out, "\\x{{{:X}}}", u32::from(literal));
        }
    }

    fn category(&mut self, category: Category, ascii: bool) {
        let members = match (category.kind, ascii) {
            (CategoryKind::Digit, false) => "\\p{Nd}",
            (CategoryKind::Digit, true) => "0-9",
            (CategoryKind::Space, false) => SPACE,
            (CategoryKind::Space, true) => "\\x{9}-\\x{D}\\x{20}",
            (CategoryKind::Word, false) => WORD,
            (CategoryKind::Word, true) => WORD_ASCII,
        };
        let _ = match category.negated {
            false => write!(self.out, "{members}"),
            true => write!(self.out, "[^{members}]"),
        };
    }
}

/// `str.isalnum` and the underscore.
const WORD: &str = "\\p{L}\\p{N}_";
const WORD_ASCII: &str = "0-9A-Za-z_";

/// `str.isspace`: Unicode's white space and the four separators of ASCII.
const SPACE: &str = "\\x{9}-\\x{D}\\x{1C}-\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";

/// Adds the other cases of the characters.
fn fold(ranges: &[(u32, u32)], ascii: bool) -> Vec<(u32, u32)> {
    let within = |(low, high): (u32, u32), (first, last): (u32, u32)| {
        let (low, high) = (low.max(first), high.min(last));
        (low <= high).then_some((low, high))
    };
    let mut folded = ranges.to_vec();
    if ascii {
        let letters = [(b'A', b'Z', 32), (b'a', b'z', -32)];
        for (first, last, shift) in letters {
            let letters = ranges.iter().filter_map(|range| within(*range, (first.into(), last.into())));
            folded.extend(
                letters.map(|(low, high)| (low.wrapping_add_signed(shift), high.wrapping_add_signed(shift))),
            );
        }
        return folded;
    }
    let scalars =
        ranges.iter().flat_map(|range| [within(*range, (0, 0xD7FF)), within(*range, (0xE000, 0x10_FFFF))]);
    let scalars = scalars.flatten().map(|(low, high)| {
        let scalar = |code| char::from_u32(code).expect("surrogates were left out");
        ClassUnicodeRange::new(scalar(low), scalar(high))
    });
    let mut class = ClassUnicode::new(scalars);
    class.try_case_fold_simple().expect("the tables of cases are built in");
    // Python takes the Turkish letters for forms of `i`, which Unicode's simple folding does not.
    const I: [char; 4] = ['I', 'i', '\u{130}', '\u{131}'];
    if class.iter().any(|range| I.iter().any(|i| (range.start()..=range.end()).contains(i))) {
        I.iter().for_each(|i| class.push(ClassUnicodeRange::new(*i, *i)));
    }
    class.iter().map(|range| (range.start().into(), range.end().into())).collect()
}
