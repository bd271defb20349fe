//! Which rows count, once it is settled which packs landed.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_core::TreePath;

use crate::packing::Chunks;
use crate::state::{DeltaRow, DeltaState};
use crate::tree::ChunkIndex;

/// The chunks that may be referred to, once it is settled which packs landed.
pub(crate) struct Landed {
    pub(super) chunks: Arc<Chunks>,
    /// The paths of databases of which not everything is there.
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
    /// Returns the row; a file of which something is not in the store is one that was not sent.
    pub(crate) fn settle(&self, row: DeltaRow) -> DeltaRow {
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
