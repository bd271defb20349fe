//! The options of a sync, apart from the policy.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use crate::extract::ExtractLimits;
use crate::quiesce::Quiesce;
use crate::read_data::ReadData;

use policy_core::{ConflictPolicy, MaxDelete, TreePath};

/// The options of one sync. [`SyncOptions::default`] suits most callers.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Plans and reports, but changes nothing on either side.
    pub dry_run: bool,
    /// Restricts the sync to these paths and what is below them; if empty, to everything in scope.
    pub only: Vec<TreePath>,
    /// Reads every file, trusting no fingerprint.
    pub checksum: bool,
    /// Checks the head first, as thoroughly as this says, and sends what the store has lost of it again, for every
    /// file whose content is in the mount. Reads every file.
    pub heal: Option<ReadData>,
    /// Replaces the policy's `conflictPolicy`.
    pub conflict: Option<ConflictPolicy>,
    /// Replaces the policy's `maxDeletePercent`.
    pub max_delete: Option<MaxDelete>,
    /// Allows the deletions that follow from an emptied or missing mount, from a file system below it that is
    /// gone, or from an emptied context.
    pub allow_empty_mount: bool,
    /// Stays out of file systems that are mounted below the mount: what is in them is out of scope.
    pub one_file_system: bool,
    /// Counts a file that a context can't store, such as a socket, as failed.
    pub strict: bool,
    /// Refuses to send more than this many bytes of content.
    pub max_upload: Option<u64>,
    /// Creates the context if it does not exist.
    pub create: bool,
    /// The number of concurrent requests.
    pub concurrency: NonZeroUsize,
    /// Roughly how many bytes of memory a sync may take.
    pub memory: u64,
    /// The session's name in the snapshots that it commits.
    pub session: String,
    /// When a push without a deadline also moves what the context has in many small packs. Each push adds a pack, and a
    /// pull asks for every pack.
    pub gathering: Gathering,
    /// The deadline of a push: what is in the store shortly before is committed as a partial snapshot.
    pub deadline: Option<tokio::time::Instant>,
    /// Whether nothing is running in the mount any more, as at the end of a session. Then a push also stores
    /// temporary files, such as the lock files of git repositories.
    pub at_rest: bool,
    /// The limits for extracting archives.
    pub extract: ExtractLimits,
    /// The user and the group to which files in the mount are given when they are pulled; the process needs
    /// the permission to do so.
    pub owner: Option<(u32, u32)>,
    /// Files that the caller writes, such as a log. If they are in the mount, they never take part.
    pub own_files: Vec<PathBuf>,
    /// Does not wait for the mount's disk, on file systems where the next sync can tell what a loss of power has taken.
    /// After a restart, that sync compares the mount with what was synced since the last flush: files that were deleted
    /// since then come back. So flush the mount soon: a session does so after each sync, and the next sync without this
    /// option does. The program does not use it yet.
    pub flush_behind: bool,
    /// Pauses the programs that write to the mount while a push reads it.
    pub quiesce: Option<Arc<dyn Quiesce>>,
    /// Pushes even if that failed, and reports the failure: the last push of a session does so, as there is
    /// no later one.
    pub save_unquiesced: bool,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            only: Vec::new(),
            checksum: false,
            heal: None,
            conflict: None,
            max_delete: None,
            allow_empty_mount: false,
            one_file_system: false,
            strict: false,
            max_upload: None,
            create: false,
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            memory: 256 << 20,
            session: String::new(),
            gathering: Gathering { many: 32, most: 16 << 20, ..Gathering::default() },
            deadline: None,
            at_rest: false,
            extract: ExtractLimits::default(),
            owner: None,
            own_files: Vec::new(),
            flush_behind: false,
            quiesce: None,
            save_unquiesced: false,
        }
    }
}

/// When a push or a collection moves the data of a context to new packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// A pack is small if the head uses fewer bytes of it than this.
    pub small: u64,
    /// The number of small packs from which on all of them are merged into few.
    pub many: usize,
    /// The most stored bytes that are moved in one context at once.
    pub most: u64,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { small: 256 << 10, many: 64, most: 64 << 20 }
    }
}
