//! Figures of the local differences.

use policy_core::TreePath;

use super::specials::Specials;
use crate::report::SyncReport;
use crate::state::{DeltaRow, DeltaState};
use crate::store::Head;

/// How many unreadable paths are listed.
const MAX_UNREAD: usize = 1000;

#[derive(Debug, Default, Clone)]
pub(crate) struct DeltaStats {
    /// Rows of the base in scope.
    pub(crate) base: u64,
    /// Rows of the base at whose path there still is something.
    pub(crate) present: u64,
    pub(crate) deleted: u64,
    /// How many of the deleted ones are in doubt.
    pub(crate) in_doubt: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) failed: u64,
    /// Rows of the base on file systems that are not mounted now; no other figure includes them.
    pub(crate) unmounted: u64,
    /// Files that vanished before they were read.
    pub(crate) gone: u64,
    /// Unreadable paths; only the root if there are too many to list.
    pub(crate) unread: Vec<TreePath>,
    /// Files that no context can store, at paths that are not in the base.
    pub(crate) specials: Specials,
    pub(crate) found: u64,
    pub(crate) bytes_read: u64,
    /// Whether chunks were sent to which no row refers, of a file that could not be read to its end.
    pub(crate) sent_in_vain: bool,
}

impl DeltaStats {
    pub(crate) fn note_unread(&mut self, path: TreePath) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push(path);
        } else {
            self.unread = vec![TreePath::root()];
        }
    }

    /// Starts the report of a sync with this head.
    pub(crate) fn report(&self, head: &Head) -> SyncReport {
        SyncReport {
            snapshot: Some(head.key.number),
            unchanged: self.unchanged,
            failed: self.failed,
            unmounted: self.unmounted,
            bytes_read: self.bytes_read,
            total_bytes: head.snapshot.totals.bytes,
            ..SyncReport::default()
        }
    }
}

pub(crate) fn count(total: &mut DeltaStats, more: &DeltaStats) {
    total.base += more.base;
    total.present += more.present;
    total.deleted += more.deleted;
    total.in_doubt += more.in_doubt;
    total.changed += more.changed;
    total.unchanged += more.unchanged;
    total.failed += more.failed;
    total.gone += more.gone;
    for path in &more.unread {
        total.note_unread(path.clone());
    }
    total.specials.add(&more.specials);
    total.found += more.found;
    total.bytes_read += more.bytes_read;
    total.sent_in_vain |= more.sent_in_vain;
}

pub(crate) fn count_row(row: &DeltaRow, stats: &mut DeltaStats) {
    match &row.state {
        DeltaState::Absent => stats.deleted += u64::from(row.base.is_some()),
        DeltaState::InDoubt { .. } => {
            stats.deleted += 1;
            stats.in_doubt += 1;
        }
        DeltaState::Present { .. } if row.is_change() => stats.changed += 1,
        DeltaState::Present { .. } => stats.unchanged += 1,
        DeltaState::Unreadable
        | DeltaState::Special(_)
        | DeltaState::Unmounted
        | DeltaState::Unsent { .. } => {}
    }
}
