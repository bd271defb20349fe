//! Files that the head lacks and the mount may have, because a repair has left them out, or because they are objects of a
//! git repository that may not be deleted. They have not changed since the last sync, so a push would not read them; but
//! they have to be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt;
use policy_core::{Node, TreePath};

use super::attempt::Job;
use crate::changes::Rows;
use crate::error::Error;
use crate::local::ScanFilter;
use crate::mount::Mount;
use crate::recycle::holds_placeholders;
use crate::state::BaseHeader;
use crate::store::Head;
use crate::tree::{PartTree, Tree};

/// From so many files on, all files of the mount are read, so that their paths need not be in memory.
const MANY: usize = 100_000;

/// What the store has lost of the files of a base.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Nothing,
    /// These files.
    Files(Arc<BTreeSet<TreePath>>),
    /// More files than are worth being remembered.
    Many,
}

impl Lost {
    /// Adds files that are to be read again as well.
    pub(super) fn and(self, more: &Arc<BTreeSet<TreePath>>) -> Self {
        match self {
            lost if more.is_empty() => lost,
            Self::Nothing => Self::Files(Arc::clone(more)),
            Self::Files(files) => Self::Files(Arc::new(files.union(more).cloned().collect())),
            Self::Many => Self::Many,
        }
    }

    /// Has the base's rows of these files say nothing of what was read, so that the files are read again.
    pub(super) fn unread(&self, rows: Rows) -> Rows {
        let Self::Files(lost) = self else { return rows };
        let lost = Arc::clone(lost);
        Box::new(rows.map(move |row| {
            let mut row = row?;
            row.print.take_if(|_| lost.contains(&row.path));
            Ok(row)
        }))
    }
}

impl Mount {
    /// Returns which files of the base a repair has left out of the head with this very content.
    pub(super) async fn lost_here(
        &self,
        head: &Head,
        header: Option<&BaseHeader>,
        job: &Job<'_>,
    ) -> Result<Lost, Error> {
        // Without a base, all files are read. A base that agrees with the head has no placeholders in scope.
        if header.is_none() || !holds_placeholders(&head.snapshot) || self.agrees(header, head) {
            return Ok(Lost::Nothing);
        }
        let cache = self.cache();
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        let tree = PartTree::new(tree, self.part.clone());
        let mut segments = tree.segments(tree.all());
        let mut lost = BTreeMap::new();
        while let Some((_, entries)) = segments.try_next().await? {
            let here = entries.into_iter().filter(|e| e.is_lost() && job.filter.contains(&e.path, false));
            lost.extend(here.map(|entry| (entry.path, entry.entry.node)));
            if lost.len() > MANY {
                return Ok(Lost::Many);
            }
        }
        let mut here = BTreeSet::new();
        if !lost.is_empty() {
            let is_lost = |path: &TreePath, node: &Node| lost.get(path) == Some(node);
            for row in self.base_rows(header, &job.filter, job.options)? {
                let row = row.map_err(|e| Error::local("read", "the local state", e))?;
                here.extend(is_lost(&row.path, &row.entry.node).then_some(row.path));
            }
        }
        Ok(if here.is_empty() { Lost::Nothing } else { Lost::Files(Arc::new(here)) })
    }
}
