//! A file to be pulled, and the result.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Reason, TreePath};

use crate::format::TreeEntry;
use crate::local::{Expected, Fingerprint, NewFile, Staged};
use crate::monitor::Action;
use crate::state::BaseRow;

/// Files above this size are fetched on their own, piece by piece. If a pull is stopped, the next one goes on with them.
pub(crate) const LONG: u64 = 4 << 20;
/// A file to be pulled.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) path: TreePath,
    pub(crate) entry: TreeEntry,
    pub(crate) expected: Expected,
    /// A file of the mount that may have the same content.
    pub(crate) source: Option<TreePath>,
    /// The log and journal that belong to an older version of this database. They are removed right before it
    /// is put in place.
    pub(crate) clears: Vec<(TreePath, Fingerprint)>,
    pub(crate) told: Told,
}

impl Item {
    /// Whether some of its chunks may be available locally.
    pub(super) fn may_be_here(&self) -> bool {
        self.is_long() || self.source.is_some()
    }

    /// Whether it is fetched piece by piece, and resumed.
    pub(super) fn is_long(&self) -> bool {
        self.entry.entry.size() > LONG
    }
}

/// What to report and note when a step is done.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The path that was decided; a conflict copy is put elsewhere.
    pub(crate) path: TreePath,
    pub(crate) action: Action,
    pub(crate) reason: Reason,
    pub(crate) size: u64,
    /// The base's row afterwards.
    pub(crate) row: Option<BaseRow>,
    /// The path of the conflict copy.
    pub(crate) copy: Option<TreePath>,
}

/// The result for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was not touched, and the base does not change.
    Failed,
    /// It was left to another pull.
    Left,
    /// Something else appeared at the path meanwhile, and stays.
    Taken,
    /// Its directory was removed meanwhile. It is neither pulled nor deleted.
    Withheld,
    /// It was put in place, and has this fingerprint; none if another program has replaced or removed it since, or
    /// if it can't be looked at.
    Installed(Option<Fingerprint>),
    /// A directory exists.
    Made,
    /// It was removed.
    Removed,
}

/// A file that is being fetched.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) file: Option<NewFile>,
    /// Whether the file may have content that this pull did not write.
    pub(super) is_resumed: bool,
    /// Whether the file may have to be extended to its full length.
    pub(super) ends_in_hole: bool,
    /// The number of missing chunks.
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
