//! The table of ratios, and the same as JSON.

use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

/// All results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    scenarios: Vec<Row>,
}

/// One ratio: a figure beside its baseline.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Such as `throughput-embedded-jinja / bare client`.
    pub(crate) name: String,
    /// Requests per second of the baseline: the median of the rounds.
    pub(crate) baseline: f64,
    /// Deliveries per second: the median of the rounds.
    pub(crate) value: f64,
    /// The median of the rounds' ratios.
    pub(crate) ratio: f64,
    /// The smallest and the largest of them.
    pub(crate) spread: (f64, f64),
    /// What it should be at least.
    pub(crate) target: f64,
    /// Whether it is.
    pub(crate) holds: bool,
    /// Events that did not arrive.
    pub(crate) lost: u64,
    /// Requests that arrived again.
    pub(crate) duplicates: u64,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.scenarios.push(row);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "SCENARIO",
            "BASELINE/s",
            "VALUE/s",
            "RATIO",
            "SPREAD",
            "TARGET",
            "HOLDS",
            "LOST",
            "DUPLICATES",
        ]);
        for row in &self.scenarios {
            table.add_row([
                row.name.clone(),
                format!("{:.0}", row.baseline),
                format!("{:.0}", row.value),
                format!("{:.2}", row.ratio),
                format!("{:.2}-{:.2}", row.spread.0, row.spread.1),
                format!("{:.2}", row.target),
                (if row.holds { "yes" } else { "no" }).to_owned(),
                row.lost.to_string(),
                row.duplicates.to_string(),
            ]);
        }
        write!(f, "{table}")
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

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])), (2.0, 2.0, 0.0));
    }
}
