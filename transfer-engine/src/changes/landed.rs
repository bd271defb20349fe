//! Which rows count, when it is known which packs have landed.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_core::TreePath;

use crate::packing::Chunks;
use crate::state::{DeltaRow, DeltaState};
use crate::tree::ChunkIndex;

/// The chunks that may be referred to, when it is known which packs have landed.
pub(crate) struct Landed {
    pub(super) chunks: Arc<Chunks>,
    /// The paths of databases that are not completely in the store.
    pub(super) broken: Arc<BTreeSet<TreePath>>,
}

/// Judges rows by what has landed.
pub(crate) struct Judge {
    chunks: Arc<Chunks>,
    head: Option<Arc<ChunkIndex>>,
    broken: Arc<BTreeSet<TreePath>>,
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
            DeltaState::Absent if self.broken.contains(&row.path) => {
                DeltaRow { state: DeltaState::Unreadable, ..row }
            }
            DeltaState::Present { entry, chunks, .. }
                if self.broken.contains(&row.path)
                    || !chunks.iter().all(|(id, _)| self.chunks.holds(self.head.as_deref(), id)) =>
            {
                let state = DeltaState::Unsent { size: entry.size() };
                DeltaRow { state, ..row }
            }
            _ => row,
        }
    }
}
