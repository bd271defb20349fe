//! What differs between two snapshots, or between a snapshot and a directory.

mod dir;
mod found;
mod pending;

use policy_core::{Entry, TreePath};

use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::store::Store;
use crate::tree::{Difference, Differences, Part, PartTree, Tree};

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

/// A snapshot, or a directory of it.
#[derive(Debug, Clone)]
pub struct SnapshotPart<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// The directory's path; the root stands for the whole snapshot.
    pub path: TreePath,
}

impl<'a> From<&'a Snapshot> for SnapshotPart<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, path: TreePath::root() }
    }
}

impl<'a> SnapshotPart<'a> {
    /// Returns the tree of the directory.
    async fn tree(self, store: &'a Store) -> Result<PartTree<'a>, Error> {
        let Self { snapshot, path } = self;
        let tree = Tree { store, snapshot, cache: None };
        match tree.has_directory(&path).await? {
            true => Ok(PartTree::new(tree, Part::new(path))),
            false => Err(tree.no_part(&path)),
        }
    }
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
        self.diff_parts(before.into(), after.into(), options, each).await
    }

    /// The same for directories of snapshots. Paths, also those asked for, are those below the directories. If these have
    /// the same path, this costs what differs; otherwise, what is in them.
    ///
    /// # Errors
    /// [`Error::NoPart`] and [`Error::NotADirectory`] if one of them is none; those of reading the trees.
    pub async fn diff_parts(
        &self,
        before: SnapshotPart<'_>,
        after: SnapshotPart<'_>,
        options: &DiffOptions,
        each: impl FnMut(PathDifference) + Send,
    ) -> Result<DiffReport, Error> {
        let (before, after) = (before.tree(self).await?, after.tree(self).await?);
        let mut differences = Differences::within(&options.only, Some(&before), &after);
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
