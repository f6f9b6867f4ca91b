//! The lines of a file that a problem is about, cut so that somebody can read them.
//!
//! Invariants:
//! - Lines and columns are those of the file, however much is left out.
//! - What is drawn stays small: a file that a program wrote may be one line of a megabyte.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Longer lines are cut, in bytes.
const LINE_MAX: usize = 300;
/// How much of a long line is shown on each side of where something is wrong, in bytes.
const AROUND: usize = 60;
/// What stands for what is left out.
const GAP: &str = " … ";

/// Some lines of a file.
#[derive(Debug)]
pub(crate) struct Excerpt {
    name: String,
    text: String,
    /// How many lines of the file stand before it.
    lines_before: usize,
    /// What was taken over, in order.
    pieces: Vec<Piece>,
}

/// A part of the file that was taken over as it is.
#[derive(Debug)]
struct Piece {
    /// Where it stands in the file.
    of: Range<usize>,
    /// Where it begins in the excerpt.
    at: usize,
    /// How many bytes of its line stand before it in the file, and in the excerpt.
    column: usize,
    shown_column: usize,
}

impl Excerpt {
    /// The lines of the file that these spans stand in, those between, and one on each side.
    pub(crate) fn new(name: String, file: &str, spans: &[Range<usize>]) -> Self {
        let first = spans.iter().map(|span| span.start).min().unwrap_or_default().min(file.len());
        let last = spans.iter().map(|span| span.end).max().unwrap_or_default().clamp(first, file.len());
        let begin = line_start(file, line_start(file, first).saturating_sub(1));
        let end = line_end(file, line_end(file, last));
        let lines_before = file.as_bytes()[..begin].iter().filter(|byte| **byte == b'\n').count();
        let mut excerpt = Excerpt { name, text: String::new(), lines_before, pieces: Vec::new() };
        let mut start = begin;
        for line in file[begin..end].split_inclusive('\n') {
            excerpt.take_line(file, start..start + line.len(), spans);
            start += line.len();
        }
        excerpt
    }

    /// Takes over a line: all of it, or its beginning, its end and what is around the ends of spans.
    fn take_line(&mut self, file: &str, line: Range<usize>, spans: &[Range<usize>]) {
        let shown_from = self.text.len();
        for part in parts(file, &line, spans) {
            if part.start > line.start {
                self.text.push_str(GAP);
            }
            self.pieces.push(Piece {
                at: self.text.len(),
                column: part.start - line.start,
                shown_column: self.text.len() - shown_from,
                of: part.clone(),
            });
            self.text.push_str(&file[part]);
        }
    }

    /// Where a span of the file stands in the excerpt.
    pub(crate) fn span(&self, span: &Range<usize>) -> SourceSpan {
        SourceSpan::from(self.place(span.start)..self.place(span.end))
    }

    fn place(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.of.start <= at);
        let piece = after.checked_sub(1).map(|before| &self.pieces[before]);
        piece.map_or(0, |piece| piece.at + (at.min(piece.of.end) - piece.of.start))
    }

    /// The column in the file of what has this column in the excerpt, in the piece that is there.
    fn column(&self, at: usize, shown_column: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.at <= at);
        let piece = after.checked_sub(1).map(|before| &self.pieces[before]);
        piece.map_or(shown_column, |piece| {
            shown_column.checked_sub(piece.shown_column).map_or(shown_column, |within| piece.column + within)
        })
    }
}

/// The parts of a line that are shown.
fn parts(file: &str, line: &Range<usize>, spans: &[Range<usize>]) -> Vec<Range<usize>> {
    if line.len() <= LINE_MAX {
        return vec![line.clone()];
    }
    let content_end = line.end - usize::from(file[line.clone()].ends_with('\n'));
    let ends = spans.iter().flat_map(|span| [span.start, span.end]);
    let mut ends: Vec<usize> = ends.filter(|end| (line.start..=content_end).contains(end)).collect();
    // Its end brings the end of the line.
    ends.extend([line.start, line.end]);
    ends.sort_unstable();
    let mut parts: Vec<Range<usize>> = Vec::new();
    for end in ends {
        let from = file.floor_char_boundary(end.saturating_sub(AROUND).max(line.start));
        let to = file.ceil_char_boundary((end + AROUND).min(line.end));
        match parts.last_mut() {
            Some(last) if from <= last.end + GAP.len() => last.end = to,
            _ => parts.push(from..to),
        }
    }
    parts
}

fn line_start(file: &str, at: usize) -> usize {
    file.as_bytes()[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

/// Where the next line begins, or the file ends.
fn line_end(file: &str, at: usize) -> usize {
    file.as_bytes()[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(file.len(), |newline| at + newline + 1)
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        context_lines_before: usize,
        context_lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.text.read_span(span, context_lines_before, context_lines_after)?;
        let column = match contents.column() {
            0 => 0,
            column => self.column(contents.span().offset(), column),
        };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            contents.data(),
            *contents.span(),
            self.lines_before + contents.line(),
            column,
            // How many end before the end of what is shown, from the beginning of the file.
            self.lines_before + contents.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_stand_as_they_are() {
        let file = "a\nbc\nde\nf\ng\n";
        let span = 5..6;
        let excerpt = Excerpt::new("f".to_owned(), file, std::slice::from_ref(&span));
        assert_eq!(excerpt.text, "bc\nde\nf\n");
        assert_eq!(excerpt.span(&span), SourceSpan::from(3..4));
        let contents = excerpt.read_span(&excerpt.span(&span), 0, 0).unwrap();
        assert_eq!((contents.line(), contents.column(), contents.data()), (2, 0, &b"d"[..]));
    }

    #[test]
    fn of_a_long_line_the_surroundings_are_shown_and_places_are_those_of_the_file() {
        let line = format!("{}é here {}", "x".repeat(1000), "y".repeat(1000));
        let file = format!("first\n{line}\nlast");
        let at = file.find("here").unwrap();
        let excerpt = Excerpt::new("f".to_owned(), &file, &[at..at + 4, 0..5]);
        assert!(excerpt.text.len() < 500, "{}", excerpt.text.len());
        assert!(excerpt.text.starts_with("first\nxxx") && excerpt.text.ends_with("yyy\nlast"));
        let span = excerpt.span(&(at..at + 4));
        assert_eq!(&excerpt.text[span.offset()..span.offset() + span.len()], "here");
        let contents = excerpt.read_span(&span, 0, 0).unwrap();
        assert_eq!((contents.line(), contents.column()), (1, at - 6));
        assert_eq!(&excerpt.text[excerpt.place(0)..excerpt.place(5)], "first");
    }

    proptest::proptest! {
        #[test]
        fn every_span_is_found_again(
            lines in proptest::collection::vec("[aé\r ]{0,3}|[bß]{400,700}", 1..6),
            places in proptest::collection::vec((0..3000_usize, 0..800_usize), 1..4),
        ) {
            let file = lines.join("\n");
            let spans: Vec<Range<usize>> = places
                .into_iter()
                .map(|(start, len)| {
                    let start = file.floor_char_boundary(start.min(file.len()));
                    start..file.floor_char_boundary(start + len)
                })
                .collect();
            let excerpt = Excerpt::new(String::new(), &file, &spans);
            for span in &spans {
                let [shown, real] = [(&excerpt.text, excerpt.span(span)), (&file, SourceSpan::from(span.clone()))];
                let begin = |(text, span): (&String, SourceSpan)| text[span.offset()..].chars().next();
                proptest::prop_assert_eq!(begin((shown.0, shown.1)), begin((real.0, real.1)));
                excerpt.read_span(&shown.1, 1, 1).unwrap();
            }
        }
    }
}
