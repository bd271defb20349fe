//! The result of a sync.

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
    /// First a pull, then a push.
    Both,
}

/// The figures of one sync. Counts are of tree entries: files, symbolic links, and directories that are empty
/// or whose mode is not 0755.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncReport {
    /// The snapshot that the mount now agrees with: the one just committed, or the current head.
    pub snapshot: Option<u64>,
    /// The parent of the snapshot, if one was committed.
    pub parent: Option<u64>,
    /// Whether this sync created the context.
    #[serde(default)]
    pub created: bool,
    /// Entries that were added on the side that was written.
    pub added: u64,
    /// Entries replaced there.
    pub changed: u64,
    /// Entries removed there.
    pub deleted: u64,
    /// Entries in scope that did not have to change.
    pub unchanged: u64,
    /// Archives that were extracted.
    pub extracted: u64,
    /// Conflicts found; with `KeepBoth`, each has left a conflict copy.
    pub conflicts: u64,
    /// Paths left out because of an error.
    pub failed: u64,
    /// Paths in the context that have not been pulled yet.
    pub pending: u64,
    /// Paths at which something else appeared while a pull fetched them. It stays, and the next push resolves
    /// the conflict.
    #[serde(default)]
    pub unsettled: u64,
    /// Deletions that were held back: by a guard, or because their directories kept changing.
    pub held_back: u64,
    /// How many of those were held back because their directories kept changing; a later push decides them.
    #[serde(default)]
    pub in_doubt: u64,
    /// Paths on file systems below the mount that are not mounted now: neither deleted nor pulled.
    pub unmounted: u64,
    /// Local files that the context has recycled: they stay, and are not pushed until they change.
    pub withheld: u64,
    /// Files that were recycled in a snapshot of their own, or would be.
    pub recycled: u64,
    /// When the next file expires, in seconds since 1970 by the store's clock, as far as a push had to look.
    pub next_expiry: Option<i64>,
    /// The total size of the files in scope whose content the context has now, in bytes.
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
    /// Packs that the context refers to and that are missing in the store, as far as a push has checked.
    #[serde(default)]
    pub lost_packs: u64,
    /// Paths that were not sent before the deadline.
    pub unsent: u64,
    /// The bytes of those paths, as far as known.
    pub unsent_bytes: u64,
    /// Whether the snapshot is partial: the deadline came before the work was done.
    pub partial: bool,
    /// Whether the mount kept changing while it was read; the snapshot is marked as unsettled.
    #[serde(default)]
    pub mount_unsettled: bool,
    /// Whether the state of the mount does not say so, because the mount's disk could not be flushed, or the state could
    /// not be written. The next sync compares the files with the context again.
    #[serde(default)]
    pub unnoted: bool,
    /// Whether a white list that matches nothing made the sync incomplete.
    pub nothing_in_scope: bool,
    /// Whether the programs that write to the mount could not be paused or resumed.
    pub quiesce_failed: bool,
    /// Whether `conflictPolicy: Fail` stopped the sync before it wrote anything.
    pub stopped_by_conflict: bool,
}

impl SyncReport {
    /// Whether something that should have been synced was not.
    pub fn is_incomplete(&self) -> bool {
        self.failed > 0
            || self.unsettled > 0
            || self.lost_packs > 0
            || self.partial
            || self.nothing_in_scope
            || self.quiesce_failed
    }

    pub(crate) fn note_usage(&mut self, usage: Usage) {
        self.requests = usage.requests;
        self.bytes_sent = usage.bytes_sent;
        self.bytes_received = usage.bytes_received;
    }

    /// Adds the figures of a later sync, as `sync` does for its pull and its push.
    pub fn absorb(&mut self, later: &Self) {
        self.snapshot = later.snapshot.or(self.snapshot);
        self.parent = later.parent.or(self.parent);
        self.created |= later.created;
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
        self.in_doubt += later.in_doubt;
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
        self.mount_unsettled |= later.mount_unsettled;
        self.unnoted = later.unnoted;
        self.nothing_in_scope |= later.nothing_in_scope;
        self.quiesce_failed |= later.quiesce_failed;
        self.stopped_by_conflict |= later.stopped_by_conflict;
    }
}
