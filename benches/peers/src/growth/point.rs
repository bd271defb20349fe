//! What is measured at a point, and how fast it may grow.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::figures::median;
use crate::measure::Used;

/// What grows from point to point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Series {
    /// Files of a tree.
    Files,
    /// Snapshots of a context.
    Snapshots,
}

impl Series {
    pub(crate) const ALL: [Self; 2] = [Self::Files, Self::Snapshots];
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Snapshots => "snapshots",
        })
    }
}

/// An operation of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// A push of everything into an empty store.
    FirstPush,
    PushUnchanged,
    /// A push of one file that is a byte longer.
    PushOne,
    /// A pull into an empty directory on a machine without state.
    Pull,
    PullUnchanged,
    /// A pull of one file that is a byte longer.
    PullOne,
    /// A fetch of one file on a machine without state.
    FetchOne,
    /// The list of all snapshots.
    Log,
    /// A collection that deletes nothing.
    Gc,
    /// A pull into an empty directory, after a collection.
    PullCollected,
}

impl Operation {
    pub(crate) const ALL: [Self; 10] = [
        Self::FirstPush,
        Self::PushUnchanged,
        Self::PushOne,
        Self::Pull,
        Self::PullUnchanged,
        Self::PullOne,
        Self::FetchOne,
        Self::Log,
        Self::Gc,
        Self::PullCollected,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstPush => "first push",
            Self::PushUnchanged => "push, nothing changed",
            Self::PushOne => "push, one file changed",
            Self::Pull => "pull into an empty directory",
            Self::PullUnchanged => "pull, nothing changed",
            Self::PullOne => "pull, one file changed",
            Self::FetchOne => "fetch of one file",
            Self::Log => "log",
            Self::Gc => "gc --dry-run",
            Self::PullCollected => "pull after gc",
        })
    }
}

/// A quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Wall,
    Cpu,
    Memory,
    Requests,
    Sent,
    Received,
    Stored,
    State,
}

impl Figure {
    pub(crate) const ALL: [Self; 8] = [
        Self::Wall,
        Self::Cpu,
        Self::Memory,
        Self::Requests,
        Self::Sent,
        Self::Received,
        Self::Stored,
        Self::State,
    ];

    /// Returns its name in file names.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Requests => "requests",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Stored => "stored",
            Self::State => "state",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Wall | Self::Cpu => Unit::Seconds,
            Self::Requests => Unit::Number,
            Self::Memory | Self::Sent | Self::Received | Self::Stored | Self::State => Unit::Bytes,
        }
    }

    /// Returns the largest exponent with which this may grow in the end: 0 is constant, 1 linear.
    ///
    /// With the files, a search for changes walks all of them, and a snapshot lists its segments, one for
    /// about a thousand files. With the snapshots, only what reads all of them has more to do, and the store
    /// has more to keep.
    pub(crate) fn must(self, series: Series, operation: Operation) -> f64 {
        use Operation as O;
        let is_whole = matches!(operation, O::FirstPush | O::Pull | O::PullCollected);
        let grows = match (series, self) {
            (_, Self::Memory) => false,
            (_, Self::Stored) => true,
            (Series::Files, Self::Wall | Self::Cpu | Self::State) => true,
            (Series::Files, Self::Requests) => is_whole,
            (Series::Files, Self::Sent) => matches!(operation, O::FirstPush | O::PushOne),
            (Series::Files, Self::Received) => !matches!(operation, O::PushUnchanged | O::PullUnchanged),
            (Series::Snapshots, Self::State | Self::Sent) => false,
            (Series::Snapshots, _) => matches!(operation, O::Log | O::Gc),
        };
        if grows { 1.0 } else { 0.0 }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wall => "wall time",
            Self::Cpu => "CPU time",
            Self::Memory => "peak memory",
            Self::Requests => "requests",
            Self::Sent => "bytes sent",
            Self::Received => "bytes received",
            Self::Stored => "bytes in the store",
            Self::State => "local state",
        })
    }
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    Number,
}

impl Unit {
    /// Formats a value with three digits and the unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            _ if value == 0.0 => "0".to_owned(),
            Self::Seconds if value < 1.0 => format!("{} ms", digits(value * 1e3)),
            Self::Seconds => format!("{} s", digits(value)),
            Self::Number if value < 1e6 => grouped(value.round() as u64),
            Self::Number => format!("{} M", digits(value / 1e6)),
            Self::Bytes => {
                let names = ["B", "kB", "MB", "GB", "TB"];
                let step = ((value.log10() / 3.0).floor().max(0.0) as usize).min(names.len() - 1);
                format!("{} {}", digits(value / 1000f64.powi(step as i32)), names[step])
            }
        }
    }
}

/// Formats a number with three digits, without trailing zeros after the point.
fn digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// Formats a number with a comma after each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The results of one operation at a point.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The rounds that count.
    pub(crate) runs: Vec<Used>,
    /// What the program reported in the first round.
    pub(crate) requests: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Bytes in the store after that round, and in the machine's state.
    pub(crate) stored: u64,
    pub(crate) state: u64,
}

impl Row {
    /// Returns a figure in seconds, in bytes or as a number: the median of the rounds.
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        let median = |of: fn(&Used) -> f64| median(self.runs.iter().map(of).collect());
        match figure {
            Figure::Wall => median(|used| used.wall),
            Figure::Cpu => median(|used| used.cpu),
            Figure::Memory => median(|used| used.peak_kib as f64 * 1024.0),
            Figure::Requests => Some(self.requests as f64),
            Figure::Sent => Some(self.sent as f64),
            Figure::Received => Some(self.received as f64),
            Figure::Stored => Some(self.stored as f64),
            Figure::State => Some(self.state as f64),
        }
    }
}

/// All results with this number of files or snapshots.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) series: Series,
    pub(crate) n: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) version: String,
    pub(crate) rows: BTreeMap<Operation, Row>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_three_digits_and_their_unit() {
        let shown = [
            Unit::Seconds.show(0.001),
            Unit::Seconds.show(0.012_345),
            Unit::Seconds.show(123.4),
            Unit::Bytes.show(0.0),
            Unit::Bytes.show(999.0),
            Unit::Bytes.show(1000.0),
            Unit::Bytes.show(52_428_800.0),
            Unit::Number.show(3.0),
            Unit::Number.show(20_000.0),
            Unit::Number.show(1e6),
        ];
        let expected = ["1 ms", "12.3 ms", "123 s", "0", "999 B", "1 kB", "52.4 MB", "3", "20,000", "1 M"];
        assert_eq!(shown, expected);
    }
}
