//! A file that is to be brought, and what becomes of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Reason, TreePath};

use crate::format::TreeEntry;
use crate::local::{Expected, Fingerprint, NewFile, Staged};
use crate::monitor::Action;
use crate::state::BaseRow;

/// A file above this is brought on its own, piece by piece.
pub(crate) const LONG: u64 = 4 << 20;
/// Something to be brought.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) path: TreePath,
    pub(crate) entry: TreeEntry,
    pub(crate) expected: Expected,
    /// A file of the mount that may have the same content.
    pub(crate) source: Option<TreePath>,
    /// The log and journal that an older version of this database has beside it: they go right before it comes.
    pub(crate) clears: Vec<(TreePath, Fingerprint)>,
    pub(crate) told: Told,
}

impl Item {
    /// Whether some of its chunks may be here already.
    pub(super) fn may_be_here(&self) -> bool {
        self.entry.entry.size() > LONG || self.source.is_some()
    }
}

/// What is told and remembered of a step once it is done.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The path that was decided; a conflict copy is put elsewhere.
    pub(crate) path: TreePath,
    pub(crate) action: Action,
    pub(crate) reason: Reason,
    pub(crate) size: u64,
    /// The base's row from then on.
    pub(crate) row: Option<BaseRow>,
    /// Where the context's version is kept.
    pub(crate) copy: Option<TreePath>,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was not touched, and the base stays as it is.
    Failed,
    /// It was left to somebody else, or to another time.
    Left,
    /// Something else came to be there while it was on its way, and stays.
    Taken,
    /// Its directory was removed while it was still to come: it is neither brought nor deleted.
    Withheld,
    /// It is in place, and this is its stat.
    Installed(Fingerprint),
    /// A directory stands.
    Made,
    /// It is gone.
    Removed,
}

/// A file on its way.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) file: Option<NewFile>,
    /// Whether something may be in the file that is not of this download.
    pub(super) is_resumed: bool,
    /// Whether the file may have to be made as long as it should be.
    pub(super) ends_in_hole: bool,
    /// Chunks that are still missing.
    pub(super) left: usize,
    pub(super) staged: Option<Staged>,
    pub(super) failed: Option<Failure>,
}

pub(super) enum Failure {
    /// The store has lost or damaged a part of it.
    Store(String),
    Local(io::Error),
}

pub(super) type Slots = Arc<Vec<Mutex<Slot>>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
