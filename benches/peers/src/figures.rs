//! Figures of several runs, and how they are written.

use crate::cell::Row;
use crate::measure::Used;

impl Row {
    /// Returns the median of a figure over the rounds; `None` where there was none.
    pub(crate) fn median(&self, figure: impl Fn(&Used) -> f64) -> Option<f64> {
        median(self.runs.iter().map(figure).collect())
    }

    /// Returns the most memory that any round took, in MiB; `None` where there was none.
    pub(crate) fn peak_mib(&self) -> Option<f64> {
        self.runs.iter().map(|run| run.peak_kib).max().map(|kib| kib as f64 / 1024.0)
    }
}

/// Returns the value in the middle; `None` where there is none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)),
    }
}

/// Writes the median of a figure with its extremes.
pub(crate) fn spread(row: &Row, figure: impl Fn(&Used) -> f64) -> String {
    of_all(row.runs.iter().map(figure).collect())
}

/// Writes the ratio of ours to theirs, round by round: the median with its extremes.
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

/// Writes a number with three digits that count, or two after the point.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v < 0.1 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Writes bytes in MB; small ones in KB.
pub(crate) fn bytes(bytes: f64) -> String {
    if bytes.abs() < 1e6 {
        format!("{} KB", short(bytes / 1e3))
    } else {
        format!("{} MB", short(bytes / 1e6))
    }
}
