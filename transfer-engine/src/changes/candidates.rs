//! Files that a walk has met and that may be databases of SQLite: their members follow.

use policy_core::{Entry, TreePath};

use crate::local::Fingerprint;
use crate::state::MemberRow;

/// A file that the walk has met, whose members may follow: their names begin with its own.
pub(super) struct Candidate {
    pub(super) path: TreePath,
    pub(super) base: Option<Entry>,
    pub(super) known: Option<Fingerprint>,
    pub(super) size: u64,
    /// Whether it is read, and so found to be a database, without being asked for.
    pub(super) changed: bool,
    pub(super) is_database: Option<bool>,
    /// Members that did not change.
    pub(super) waiting: Vec<MemberRow>,
    pub(super) is_wanted: bool,
}

/// The files whose names the path that is being looked at begins with.
#[derive(Default)]
pub(crate) struct Candidates(Vec<Candidate>);

impl Candidates {
    /// Notes a file that was found; `base` is what it is if it did not change.
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
