//! Which rows count, when it is known which packs have landed.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_core::TreePath;

use crate::local::names_objects;
use crate::packing::Chunks;
use crate::state::{DeltaRow, DeltaState};
use crate::tree::ChunkIndex;

/// The chunks that may be referred to, when it is known which packs have landed.
pub(crate) struct Landed {
    pub(super) chunks: Arc<Chunks>,
    pub(super) broken: Arc<Broken>,
}

/// What is useless in part, and is not completely in the store.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    /// The paths of databases.
    pub(super) databases: BTreeSet<TreePath>,
    /// Git repositories. Their objects count, and what names objects does not.
    pub(super) repositories: BTreeSet<TreePath>,
}

impl Broken {
    fn has(&self, path: &TreePath) -> bool {
        self.databases.contains(path) || names_objects(&self.repositories, path)
    }
}

/// Judges rows by what has landed.
pub(crate) struct Judge {
    chunks: Arc<Chunks>,
    head: Option<Arc<ChunkIndex>>,
    broken: Arc<Broken>,
}

impl Landed {
    pub(crate) fn judge(&self) -> Judge {
        Judge { chunks: self.chunks.clone(), head: self.chunks.head(), broken: self.broken.clone() }
    }
}

impl Judge {
    /// Returns the row. A file with chunks that are not in the store counts as not sent.
    pub(crate) fn check(&self, row: DeltaRow) -> DeltaRow {
        match &row.state {
            DeltaState::Absent if self.broken.has(&row.path) => {
                DeltaRow { state: DeltaState::Unreadable, ..row }
            }
            DeltaState::Present { entry, chunks, .. }
                if !entry.is_dir() && self.broken.has(&row.path)
                    || !chunks.iter().all(|(id, _)| self.chunks.holds(self.head.as_deref(), id)) =>
            {
                let state = DeltaState::Unsent { size: entry.size() };
                DeltaRow { state, ..row }
            }
            _ => row,
        }
    }
}
