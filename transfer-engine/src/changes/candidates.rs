//! Files that may be SQLite databases: their other members follow in the walk.

use policy_core::{Entry, TreePath};

use crate::local::Fingerprint;
use crate::state::MemberRow;

/// A file from the walk, whose members may follow: their names begin with its own.
pub(super) struct Candidate {
    pub(super) path: TreePath,
    pub(super) base: Option<Entry>,
    pub(super) known: Option<Fingerprint>,
    pub(super) size: u64,
    /// Whether the file is read anyway, so that the reader finds out whether it is a database.
    pub(super) changed: bool,
    pub(super) is_database: Option<bool>,
    /// Members that have not changed.
    pub(super) waiting: Vec<MemberRow>,
    pub(super) is_wanted: bool,
}

/// The files whose names are a prefix of the current path.
#[derive(Default)]
pub(crate) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Adds a file that was found. `base` is its entry if it has not changed.
    pub(crate) fn note(&mut self, path: TreePath, base: Option<Entry>, print: Fingerprint) {
        while self.0.last().is_some_and(|last| !path.as_bytes().starts_with(last.path.as_bytes())) {
            self.0.pop();
        }
        let changed = base.is_none();
        let (known, size) = (Some(print).filter(|_| !changed), print.size);
        let (waiting, is_database, is_wanted) = (Vec::new(), None, false);
        self.0.push(Candidate { path, base, known, size, changed, is_database, waiting, is_wanted });
    }

    pub(super) fn find(&mut self, database: &[u8]) -> Option<&mut Candidate> {
        self.0.iter_mut().rev().find(|c| c.path.as_bytes() == database)
    }
}
