//! The table of ratios, and the same as JSON.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use hookwire_worker::say;
use serde::{Deserialize, Serialize};

/// All results of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    scenarios: Vec<Row>,
    #[serde(skip)]
    current: String,
}

/// One ratio: a figure beside its baseline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The scenario. One that is compared with more than one thing has a row for each.
    pub name: String,
    /// What is measured, and beside what.
    pub compares: String,
    /// The baseline: the median of the rounds.
    pub baseline: f64,
    /// What hookwire does: the median of the rounds.
    pub value: f64,
    /// The median of the rounds' ratios; `None` if the run is no result.
    pub ratio: Option<f64>,
    /// The smallest and the largest of them.
    pub spread: [f64; 2],
    /// What the ratio should be, at least or at most.
    pub target: f64,
    /// Whether the target is the most that the ratio should be.
    pub at_most: bool,
    /// Whether it is so, and nothing was lost or arrived too often.
    pub holds: bool,
    /// Deliveries that did not arrive.
    pub lost: u64,
    /// Deliveries that arrived again, beyond what the scenario allows.
    pub duplicates: u64,
    /// How the run differs from the full one, if it does.
    #[serde(default)]
    pub note: String,
}

/// What is to become a row.
pub(crate) struct Finding<'f> {
    /// Such as "deliveries/s to a bare client's".
    pub(crate) compares: &'f str,
    /// A figure for each round.
    pub(crate) baseline: &'f [f64],
    /// As many.
    pub(crate) value: &'f [f64],
    pub(crate) target: Target,
    pub(crate) faults: Faults,
    pub(crate) note: &'f str,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// What should not have happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
}

impl Faults {
    /// Adds what a sink saw of so many deliveries.
    pub(crate) fn count(&mut self, expected: usize, requests: u64, distinct: u64) {
        self.lost += (expected as u64).saturating_sub(distinct);
        self.duplicates += requests - distinct;
    }
}

impl Report {
    /// The rows that follow are this scenario's.
    pub(crate) fn begin(&mut self, name: &str) {
        name.clone_into(&mut self.current);
    }

    pub(crate) fn add(&mut self, finding: Finding<'_>) {
        let Finding { compares, baseline, value, target, faults, note } = finding;
        let ratios: Vec<f64> = value.iter().zip(baseline).map(|(value, baseline)| value / baseline).collect();
        let ratio = median(&ratios);
        let smallest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        let is_result = faults.lost == 0 && faults.duplicates == 0;
        let (bound, at_most) = match target {
            Target::AtLeast(bound) => (bound, false),
            Target::AtMost(bound) => (bound, true),
        };
        let row = Row {
            name: self.current.clone(),
            compares: compares.to_owned(),
            baseline: median(baseline),
            value: median(value),
            ratio: is_result.then_some(ratio),
            spread: [smallest, largest],
            target: bound,
            at_most,
            holds: is_result && if at_most { ratio <= bound } else { ratio >= bound },
            lost: faults.lost,
            duplicates: faults.duplicates,
            note: note.to_owned(),
        };
        say(format_args!("  {}", line(&row)));
        self.scenarios.push(row);
    }

    /// Whether nothing was lost and nothing arrived too often.
    pub fn has_results(&self) -> bool {
        self.scenarios.iter().all(|row| row.ratio.is_some())
    }

    /// For people; with what the ratios were before, if they were measured.
    pub fn table(&self, before: Option<&Report>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "SCENARIO", "COMPARES", "BASELINE", "VALUE", "RATIO", "SPREAD", "LAST", "TARGET", "HOLDS",
        ]);
        for row in &self.scenarios {
            let last = before.and_then(|before| before.same(row)).and_then(|row| row.ratio);
            table.add_row([
                row.name.clone(),
                row.compares.clone(),
                figure(row.baseline),
                figure(row.value),
                row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
                format!("{:.2}-{:.2}", row.spread[0], row.spread[1]),
                match (last, row.ratio) {
                    (Some(last), Some(ratio)) => {
                        format!("{last:.2} ({:+.0} %)", (ratio / last - 1.0) * 100.0)
                    }
                    _ => String::new(),
                },
                format!("{} {:.2}", if row.at_most { "<=" } else { ">=" }, row.target),
                verdict(row),
            ]);
        }
        for column in [2, 3, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = table.to_string();
        // Cells are filled up with blanks, which say nothing at the end of a line.
        text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        for row in self.scenarios.iter().filter(|row| !row.note.is_empty()) {
            let _ = write!(text, "\n{}: {}", row.name, row.note);
        }
        text
    }

    fn same(&self, row: &Row) -> Option<&Row> {
        self.scenarios.iter().find(|other| other.name == row.name && other.compares == row.compares)
    }
}

fn verdict(row: &Row) -> String {
    match (row.ratio, row.holds) {
        (None, _) => format!("no result: {} lost, {} too many", row.lost, row.duplicates),
        (Some(_), true) => "yes".to_owned(),
        (Some(_), false) => "no".to_owned(),
    }
}

fn line(row: &Row) -> String {
    let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    let bound = if row.at_most { "<=" } else { ">=" };
    format!(
        "{}: {} / {} = {ratio} ({:.2}-{:.2}), wanted {bound} {:.2}: {}",
        row.compares,
        figure(row.value),
        figure(row.baseline),
        row.spread[0],
        row.spread[1],
        row.target,
        verdict(row)
    )
}

/// Three digits that count, or all of a large number.
fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The middle value; the lower one of two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: f64) -> Report {
        let mut report = Report::default();
        let finding = |compares, value, target, lost| Finding {
            compares,
            baseline: &[50_000.0, 51_000.0, 49_000.0],
            value,
            target,
            faults: Faults { lost, duplicates: 0 },
            note: if lost > 0 { "with 1,000 waiting in place of 1,000,000" } else { "" },
        };
        report.begin("throughput-embedded-jinja");
        let values = [value, value * 1.01, value * 0.98];
        report.add(finding("deliveries/s to a bare client's", &values, Target::AtLeast(0.4), 0));
        report.add(finding("deliveries/s to a working client's", &values, Target::AtMost(0.3), 0));
        report.begin("backlog-redis");
        report.add(finding("deliveries/s to those without a backlog", &values, Target::AtLeast(0.9), 3));
        report
    }

    #[test]
    fn the_table_tells_ratios_targets_and_what_changed() {
        let (before, now) = (report(20_000.0), report(22_000.0));
        let before: Report = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        insta::assert_snapshot!(now.table(Some(&before)));
        assert!(!now.has_results());
    }

    /// Other programs read these.
    #[test]
    fn the_json_has_its_members() {
        let json = serde_json::to_value(report(20_000.0)).unwrap();
        let row = &json["scenarios"][0];
        for member in ["name", "baseline", "value", "ratio", "target", "holds", "lost", "duplicates"] {
            assert!(row.get(member).is_some(), "{member} is missing in {row}");
        }
        assert_eq!((&row["name"], &row["holds"]), (&"throughput-embedded-jinja".into(), &true.into()));
        assert_eq!(json["scenarios"][2]["ratio"], serde_json::Value::Null, "a run with a loss is no result");
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])), (2.0, 2.0, 0.0));
    }
}
