//! Figures of several runs, and their text form.

use crate::cell::Row;
use crate::measure::Used;

impl Row {
    /// Returns the median of a figure over the rounds; `None` without rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Used) -> f64) -> Option<f64> {
        median(self.runs.iter().map(figure).collect())
    }

    /// Returns the peak memory of all rounds, in MiB; `None` without rounds.
    pub(crate) fn peak_mib(&self) -> Option<f64> {
        self.runs.iter().map(|run| run.peak_kib).max().map(|kib| kib as f64 / 1024.0)
    }
}

/// Returns the median; `None` of no values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
    }
}

/// Formats the median of a figure with its extremes.
pub(crate) fn spread(row: &Row, figure: impl Fn(&Used) -> f64) -> String {
    of_all(row.runs.iter().map(figure).collect())
}

/// Formats the ratio of two tools round by round: its median with its extremes.
pub(crate) fn ratio(ours: &Row, theirs: &Row, figure: impl Fn(&Used) -> f64) -> String {
    let pairs = ours.runs.iter().zip(&theirs.runs);
    of_all(pairs.map(|(a, b)| figure(a) / figure(b).max(1e-6)).collect())
}

fn of_all(values: Vec<f64>) -> String {
    let (least, most) =
        (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
    match (values.len(), median(values)) {
        (_, None) => String::new(),
        (1, Some(only)) => short(only),
        (_, Some(median)) => format!("{} ({} to {})", short(median), short(least), short(most)),
    }
}

/// Formats a number with three significant digits, or two decimals.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v < 0.1 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Formats bytes in MB, or in KB if there are few.
pub(crate) fn bytes(bytes: f64) -> String {
    if bytes.abs() < 1e6 {
        format!("{} KB", short(bytes / 1e3))
    } else {
        format!("{} MB", short(bytes / 1e6))
    }
}
