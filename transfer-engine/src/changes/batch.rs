//! What the walk sends to the readers of files.

use std::io;

use policy_core::{Entry, TreePath};

use super::stats::DeltaStats;
use crate::local::Fingerprint;
use crate::monitor::PathProblem;
use crate::state::{DeltaRow, DeltaState, MemberRow};

/// A file above this size is read in steps; smaller ones are read whole, several in a batch.
pub(crate) const LONG: u64 = 4 << 20;

/// A path to process.
pub(crate) enum Work {
    /// Nothing has to be read.
    Row(DeltaRow),
    /// A file that may have changed.
    File { path: TreePath, print: Fingerprint, base: Option<Entry> },
}

impl Work {
    /// Returns how many bytes are to be read.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Row(_) => 0,
            Self::File { print, .. } => print.size,
        }
    }
}

#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) work: Vec<Work>,
    pub(crate) bytes: u64,
    /// How many files to read came before, if files are read in tree order.
    pub(crate) after: Option<u32>,
    /// Long files in this batch.
    pub(crate) long: Vec<Work>,
    /// Files of databases, which are read together.
    pub(crate) members: Vec<MemberRow>,
    pub(crate) problems: Vec<PathProblem>,
    pub(crate) stats: DeltaStats,
}

pub(crate) fn present(entry: Entry, seen: Option<Fingerprint>, empty_dir: bool) -> DeltaState {
    DeltaState::Present { entry, seen, trusted: false, chunks: Vec::new(), empty_dir }
}

pub(crate) fn hint_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give your user read access to it, or exclude it",
        _ => "",
    }
}
