//! What was measured: operations, and the figures of each tool.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data::Set;
use crate::measure::Used;
use crate::place::Destination;
use crate::tools::Tool;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Operation {
    /// Everything, to where nothing is.
    FirstPush,
    /// A push with nothing to do.
    PushUnchanged,
    /// A push of 1% that changed.
    PushChanged,
    /// A push of one small file that changed.
    PushOne,
    /// Everything, into an empty directory, on a machine that remembers nothing.
    Pull,
    /// A pull of 1% that changed elsewhere.
    PullChanged,
    /// One file, on a machine that remembers nothing: the time until the first file is there.
    FetchOne,
}

impl Operation {
    /// Whether a large part of the tree is changed for it.
    pub(crate) fn changes(self) -> bool {
        matches!(self, Self::PushChanged | Self::PullChanged)
    }

    /// Returns the operation's title.
    pub(crate) fn title(self, data: Set) -> &'static str {
        match (self, data) {
            (Self::FirstPush, _) => "first push",
            (Self::PushUnchanged, _) => "nothing changed",
            (Self::PushChanged, Set::D2) => "1 KiB inserted",
            (Self::PushChanged, Set::D5) => "next version",
            (Self::PushChanged, _) => "1% changed",
            (Self::PushOne, _) => "one file changed",
            (Self::Pull, _) => "pull",
            (Self::PullChanged, _) => "pull of 1% changed",
            (Self::FetchOne, _) => "first usable file",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()).as_str())
    }
}

/// The results of one tool in a cell.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) version: String,
    /// The command, with names for paths.
    #[serde(default)]
    pub(crate) command: String,
    /// The rounds that count, in order.
    pub(crate) runs: Vec<Used>,
    /// The bytes and objects in the store after the first round, and the bytes that this round added.
    pub(crate) stored: u64,
    pub(crate) objects: u64,
    pub(crate) added: i64,
    /// The requests and bytes of that round, if a server counts them.
    pub(crate) requests: Option<u64>,
    pub(crate) sent: Option<u64>,
    pub(crate) received: Option<u64>,
    /// Why there are no more runs.
    pub(crate) error: Option<String>,
}

/// All results of one data set, place and operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) data: Set,
    pub(crate) to: Destination,
    pub(crate) operation: Operation,
    pub(crate) divide: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) tools: BTreeMap<Tool, Row>,
}

impl Cell {
    /// Returns the file name of a cell's results.
    pub(crate) fn file_name(data: Set, to: Destination, operation: Operation, divide: u64) -> String {
        let part = if divide == 1 { String::new() } else { format!("-{divide}") };
        format!("{data}-{to}-{operation}{part}.json")
    }
}
