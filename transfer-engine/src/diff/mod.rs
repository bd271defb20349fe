//! What differs between two snapshots, or between a snapshot and a directory.

mod dir;
mod found;
mod pending;

use policy_core::{Entry, TreePath};

use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::store::Store;
use crate::tree::{Difference, Differences, Tree};

pub use dir::DiffDir;
use found::Found;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the second side has it.
    Added,
    /// Both have it, with another content, kind or mode.
    Changed,
    /// Only the first side has it.
    Deleted,
    /// The second side has it, and the first has the same content at another path, which the second does not have.
    Renamed,
}

/// A path that differs between two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathDifference {
    /// The path; the new one if it was renamed.
    pub path: TreePath,
    /// How it differs.
    pub kind: DifferenceKind,
    /// With [`DifferenceKind::Renamed`]: the path on the first side.
    pub from: Option<TreePath>,
    /// What the first side has. The digest of a file in a directory that was not read is zero.
    pub before: Option<Entry>,
    /// What the second side has; likewise.
    pub after: Option<Entry>,
}

impl PathDifference {
    /// Returns the same difference with the sides exchanged.
    #[must_use]
    pub fn reversed(self) -> Self {
        use DifferenceKind::{Added, Changed, Deleted, Renamed};
        let Self { path, kind, from, before: after, after: before } = self;
        match (kind, from) {
            (Renamed, Some(from)) => Self { path: from, kind, from: Some(path), before, after },
            (kind, from) => {
                let kind = match kind {
                    Added => Deleted,
                    Deleted => Added,
                    Changed | Renamed => kind,
                };
                Self { path, kind, from, before, after }
            }
        }
    }
}

/// Which differences are looked for.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Only at and below these paths; if empty, everywhere.
    pub only: Vec<TreePath>,
}

/// The figures of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// Paths that only the second side has.
    pub added: u64,
    /// Paths that both have, and that differ.
    pub changed: u64,
    /// Paths that only the first side has.
    pub deleted: u64,
    /// Files that have another path on the second side.
    pub renamed: u64,
    /// The bytes of what was added, and of the new versions of what was changed.
    pub bytes_added: u64,
    /// The bytes of what was deleted, and of the old versions of what was changed.
    pub bytes_deleted: u64,
    /// Paths of the directory that could not be read, and are not compared.
    pub failed: u64,
    /// Paths of the snapshot that have not arrived in the directory yet, and are not compared.
    pub pending: u64,
    /// Whether there were too many differences to look for renamed files among them.
    pub renames_skipped: bool,
}

impl DiffReport {
    /// Whether anything differs.
    pub fn differs(&self) -> bool {
        self.added + self.changed + self.deleted + self.renamed > 0
    }
}

impl Store {
    /// Compares two snapshots of any contexts, and calls `each` for every path that differs, in tree order. Times alone
    /// make no difference. Segments that both snapshots have are not read, nor those that can't have one of the paths asked
    /// for, so this costs what differs.
    ///
    /// # Errors
    /// Those of reading the trees.
    pub async fn diff(
        &self,
        before: &Snapshot,
        after: &Snapshot,
        options: &DiffOptions,
        each: impl FnMut(PathDifference) + Send,
    ) -> Result<DiffReport, Error> {
        let tree = |snapshot| Tree { store: self, snapshot, cache: None };
        let mut differences = Differences::within(&options.only, Some(&tree(before)), &tree(after));
        let mut found = Found::new(each);
        while let Some(Difference { path, left, right }) = differences.next().await? {
            found.note(path, left.and_then(present), right.and_then(present));
        }
        Ok(found.finish())
    }
}

/// A placeholder of a recycled file counts as nothing.
fn present(entry: TreeEntry) -> Option<Entry> {
    (!entry.recycled).then_some(entry.entry)
}
