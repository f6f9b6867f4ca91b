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
    let mut asked = Asked::default();
    asked.collect(node);
    // What a group at the end takes makes a difference to references only.
    let tail = asked.is_empty();
    let mut writer = Writer { out: String::from("\\A(?:"), steps_back: false, asked, opened: vec![] };
    writer.node(node, tail);
    writer.out.push(')');
    Translation { text: writer.numbered(), steps_back: writer.steps_back }
}

/// The numbers of the groups that something else in the pattern asks for.
#[derive(Default)]
struct Asked {
    /// For what they took.
    text: Vec<usize>,
    /// For whether they took part.
    presence: Vec<usize>,
}

impl Asked {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.presence.is_empty()
    }

    fn collect(&mut self, node: &Node) {
        match node {
            Node::Backreference { number, .. } => self.text.push(*number),
            Node::Conditional { number, yes, no } => {
                self.presence.push(*number);
                self.collect(yes);
                self.collect(no);
            }
            Node::Sequence(nodes) | Node::Either(nodes) => nodes.iter().for_each(|node| self.collect(node)),
            Node::Repeat { node, .. }
            | Node::Group { node, .. }
            | Node::Plain(node)
            | Node::Atomic(node)
            | Node::Look { node, .. } => self.collect(node),
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
}

struct Writer {
    out: String,
    steps_back: bool,
    asked: Asked,
    /// The groups that were opened, in order: the engine numbers them so.
    opened: Vec<String>,
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
            Node::Group { number, node } => self.group(*number, node, tail),
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
                self.backtracking(&format!("(?{flag}:\\<g{number}>)"));
            }
            Node::Conditional { number, yes, no } => {
                self.backtracking(&format!("(?:\\<p{number}>"));
                self.wrapped("(?:", yes, false);
                let _ = write!(self.out, "|(?!\\<p{number}>)");
                self.wrapped("(?:", no, false);
                self.out.push(')');
            }
        }
    }

    /// A group is captured only if something asks for what it took.
    ///
    /// Whether it took part is asked of an empty group behind it, which a reference finds if it is set: the engine's own
    /// conditionals do not go back to what was tried before them.
    fn group(&mut self, number: usize, node: &Node, tail: bool) {
        let present = self.asked.presence.contains(&number);
        if present {
            self.out.push_str("(?:");
        }
        match self.asked.text.contains(&number) {
            true => {
                self.opened.push(format!("<g{number}>"));
                self.wrapped("(", node, false);
            }
            false => self.wrapped("(?:", node, tail),
        }
        if present {
            self.opened.push(format!("<p{number}>"));
            self.out.push_str("())");
        }
    }

    /// What was written, with numbers in place of `<g1>` and `<p1>`: a group may be asked for before it is opened.
    fn numbered(&self) -> String {
        self.opened.iter().zip(1..).fold(self.out.clone(), |text, (name, number): (_, usize)| {
            text.replace(name.as_str(), &number.to_string())
        })
    }

    fn backtracking(&mut self, text: &str) {
        self.steps_back = true;
        self.out.push_str(text);
    }

    fn wrapped(&mut self, open: &str, node: &Node, tail: bool) {
        self.out.push_str(open);
        self.node(node, tail);
        self.out.push(')');
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, mode: Mode) {
        if node.is_assertion() {
            return self.repeat_assertion(node, min, max, mode);
        }
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

    /// What takes no characters need not be repeated, and the engines do not repeat it: once or not at all.
    fn repeat_assertion(&mut self, node: &Node, min: u32, max: Option<u32>, mode: Mode) {
        if max == Some(0) {
            return;
        }
        match (min, mode) {
            (0, Mode::Greedy) => {
                // It holds where it can, which sets the groups in it; else nothing is asked.
                self.out.push_str("(?:");
                self.node(node, false);
                self.out.push_str("|)");
            }
            (0, Mode::Lazy) => self.wrapped("(?:|", node, false),
            (0, Mode::Possessive) => {
                self.backtracking("(?>");
                self.node(node, false);
                self.out.push_str("|)");
            }
            _ => self.wrapped("(?:", node, false),
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
