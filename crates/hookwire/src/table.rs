//! A table that fits the terminal: columns that can be spared are left out, others are cut.
//!
//! Invariant: what does not go to a terminal is neither cut nor coloured, so that it can be searched and split.

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// The higher, the sooner it is left out; 0 stays.
    pub(crate) spare: u8,
    /// How narrow it may become by cutting; `None`: it is never cut.
    pub(crate) width_min: Option<u16>,
}

/// What a cell means, where that has a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Open,
}

/// Space between columns.
const GAP: u16 = 2;

/// A table as wide as the terminal at most; `width` is `None` where there is no terminal.
pub(crate) fn table(
    columns: &[Column],
    rows: Vec<Vec<(String, Tone)>>,
    width: Option<u16>,
    colour: bool,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator("…");
    table.set_header(columns.iter().map(|column| Cell::new(column.name)));
    for cells in rows {
        let cells = cells.into_iter().map(|(text, tone)| match (tone, colour) {
            (Tone::Good, true) => Cell::new(text).fg(Color::Green),
            (Tone::Bad, true) => Cell::new(text).fg(Color::Red),
            (Tone::Open, true) => Cell::new(text).fg(Color::Yellow),
            (_, false) | (Tone::Plain, true) => Cell::new(text),
        });
        let mut row = Row::from(cells);
        row.max_height(1);
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
        // A cell is cut where the room ends, not where a word does: no cell has a control character.
        column.set_delimiter('\u{1}');
    }
    if let Some(width) = width {
        fit(&mut table, columns, width);
    }
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Leaves columns out until the others fit at their narrowest, and cuts those.
fn fit(table: &mut Table, columns: &[Column], width: u16) {
    let full = table.column_max_content_widths();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let narrowest = |at: usize| columns[at].width_min.map_or(full[at], |min| min.min(full[at])) + GAP;
    while shown.iter().map(|at| narrowest(*at)).sum::<u16>() > width {
        let spared = shown.iter().enumerate().max_by_key(|(_, at)| columns[**at].spare);
        let Some((place, _)) = spared.filter(|(_, at)| columns[**at].spare > 0) else { break };
        shown.remove(place);
    }
    let mut room = width.saturating_sub(shown.iter().map(|at| narrowest(*at)).sum());
    for (at, column) in table.column_iter_mut().enumerate() {
        if !shown.contains(&at) {
            column.set_constraint(ColumnConstraint::Hidden);
            continue;
        }
        // The first that could be wider takes what it needs of what is left.
        let least = narrowest(at) - GAP;
        let more = (full[at] - least).min(room);
        room -= more;
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(least + more + GAP)));
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column { name: "ID", spare: 0, width_min: None },
        Column { name: "STATE", spare: 0, width_min: None },
        Column { name: "EVENT", spare: 2, width_min: Some(7) },
        Column { name: "WEBHOOK", spare: 1, width_min: Some(10) },
    ];

    fn at(width: Option<u16>) -> String {
        let plain = |text: &str| (text.to_owned(), Tone::Plain);
        let rows = vec![
            vec![plain("dlv_0000000000001bwd8p4drnxp5q"), plain("delivered"), plain("created"), plain("a")],
            vec![
                plain("dlv_0000000000001bwd8p4drnxp5r"),
                plain("waiting (retry)"),
                plain("something.unusual"),
                plain("the-webhook-with-a-long-name"),
            ],
        ];
        table(COLUMNS, rows, width, false)
    }

    #[test]
    fn a_table_is_as_wide_as_there_is_room() {
        let widths = [None, Some(200), Some(80), Some(66), Some(50), Some(20)];
        let shown = widths.map(|width| format!("{width:?}\n{}", at(width)));
        insta::assert_snapshot!(shown.join("\n\n"));
        for width in 58..120 {
            let widest = at(Some(width)).lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= usize::from(width)), "{}", at(Some(width)));
        }
    }

    #[test]
    fn colours_are_there_only_where_they_are_wanted() {
        let rows = || vec![["a", "b", "c", "d"].map(|text| (text.to_owned(), Tone::Bad)).to_vec()];
        assert!(table(COLUMNS, rows(), Some(80), true).contains('\u{1b}'));
        assert!(!table(COLUMNS, rows(), Some(80), false).contains('\u{1b}'));
    }
}
