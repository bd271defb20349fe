//! What a sync comes to.

use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// The direction of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the mount to the context.
    Upload,
    /// From the context to the mount.
    Download,
    /// Download, then upload.
    Both,
}

/// The figures of one sync. Counts are of tree entries: files, symbolic links, and directories that are
/// empty or whose mode is not 0755.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncReport {
    /// The snapshot that the mount now agrees with: the one just committed, or the head that was found.
    pub snapshot: Option<u64>,
    /// The snapshot that it succeeds, when one was committed.
    pub parent: Option<u64>,
    /// Entries that came to be on the side that was written.
    pub added: u64,
    /// Entries replaced there.
    pub changed: u64,
    /// Entries removed there.
    pub deleted: u64,
    /// Entries in scope that needed nothing.
    pub unchanged: u64,
    /// Archives that were extracted.
    pub extracted: u64,
    /// Conflicts met; with `KeepBoth` each left a copy.
    pub conflicts: u64,
    /// Paths left out because of a problem.
    pub failed: u64,
    /// Paths in the context that have not been brought.
    pub pending: u64,
    /// Paths at which something else came to be while a download was bringing them. It stays, and the next
    /// upload settles the conflict.
    #[serde(default)]
    pub unsettled: u64,
    /// Deletions that a guard held back.
    pub held_back: u64,
    /// Paths that were on file systems below the mount which are not there now: neither deleted nor brought.
    pub unmounted: u64,
    /// Files here that the context has recycled: they stay, and are not uploaded until they are changed.
    pub withheld: u64,
    /// Files that left the context by age, in a snapshot of their own, or would.
    pub recycled: u64,
    /// When the next file leaves the context by age, in seconds since 1970 by the store's clock, as far as an
    /// upload had to look.
    pub next_expiry: Option<i64>,
    /// Files in scope whose content the context has now, in bytes.
    pub total_bytes: u64,
    /// Bytes of local files read.
    pub bytes_read: u64,
    /// Bytes of request bodies sent to the store.
    pub bytes_sent: u64,
    /// Bytes of answers received from the store.
    pub bytes_received: u64,
    /// Bytes of the objects that this sync added to the store.
    pub bytes_stored: u64,
    /// Requests made to the store.
    pub requests: u64,
    /// Packs that the context refers to and that are not in the store any more, as far as an upload looked.
    #[serde(default)]
    pub lost_packs: u64,
    /// Paths that were not sent before the deadline.
    pub unsent: u64,
    /// Their bytes, as far as they were looked at.
    pub unsent_bytes: u64,
    /// Whether the snapshot is partial: the deadline came before the work was done.
    pub partial: bool,
    /// Whether a white list that holds nothing made the sync incomplete.
    pub nothing_in_scope: bool,
    /// Whether `conflictPolicy: Fail` stopped the sync before it wrote anything.
    pub stopped_by_conflict: bool,
}

impl SyncReport {
    /// Whether something that should have been synced was not.
    pub fn is_incomplete(&self) -> bool {
        self.failed > 0 || self.unsettled > 0 || self.lost_packs > 0 || self.partial || self.nothing_in_scope
    }

    pub(crate) fn note_usage(&mut self, usage: Usage) {
        self.requests = usage.requests;
        self.bytes_sent = usage.bytes_sent;
        self.bytes_received = usage.bytes_received;
    }

    /// Adds another sync's figures to these, as `sync` does for its download and its upload.
    pub fn absorb(&mut self, later: &Self) {
        self.snapshot = later.snapshot.or(self.snapshot);
        self.parent = later.parent.or(self.parent);
        self.added += later.added;
        self.changed += later.changed;
        self.deleted += later.deleted;
        self.unchanged = later.unchanged;
        self.extracted += later.extracted;
        self.conflicts += later.conflicts;
        self.failed = self.failed.max(later.failed);
        self.pending = later.pending;
        self.unsettled = later.unsettled;
        self.held_back += later.held_back;
        self.unmounted = later.unmounted;
        self.withheld = later.withheld;
        self.recycled += later.recycled;
        self.next_expiry = later.next_expiry;
        self.total_bytes = later.total_bytes;
        self.bytes_read += later.bytes_read;
        self.bytes_sent += later.bytes_sent;
        self.bytes_received += later.bytes_received;
        self.bytes_stored += later.bytes_stored;
        self.requests += later.requests;
        self.lost_packs = self.lost_packs.max(later.lost_packs);
        self.unsent = later.unsent;
        self.unsent_bytes = later.unsent_bytes;
        self.partial |= later.partial;
        self.nothing_in_scope |= later.nothing_in_scope;
        self.stopped_by_conflict |= later.stopped_by_conflict;
    }
}
