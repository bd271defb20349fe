//! How a sync is to be carried out, apart from the policy.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use crate::extract::ExtractLimits;
use crate::quiesce::Quiesce;

use policy_core::{ConflictPolicy, MaxDelete, TreePath};

/// Options of one sync. [`SyncOptions::default`] is what most callers want.
#[derive(Debug, Clone)]
pub struct SyncOptions {
    /// Plans and reports, but changes nothing on either side.
    pub dry_run: bool,
    /// Restricts the sync to these paths and what is below them; empty: everything in scope.
    pub only: Vec<TreePath>,
    /// Reads every file, trusting no fingerprint.
    pub checksum: bool,
    /// Stands in for the policy's `conflictPolicy`.
    pub conflict: Option<ConflictPolicy>,
    /// Stands in for the policy's `maxDeletePercent`.
    pub max_delete: Option<MaxDelete>,
    /// Lets the deletions of an emptied or missing mount, of a file system below it that is gone, or of an
    /// emptied context, through.
    pub allow_empty_mount: bool,
    /// Stays out of file systems that are mounted below the mount: what is in them is out of scope.
    pub one_file_system: bool,
    /// Counts what a context can't hold, such as a socket, as a path that failed.
    pub strict: bool,
    /// Refuses to send more than this many bytes of content.
    pub max_upload: Option<u64>,
    /// Creates the context where it is missing.
    pub create: bool,
    /// Requests under way at once.
    pub concurrency: NonZeroUsize,
    /// Bytes of memory that a sync may take, about.
    pub memory: u64,
    /// Names the session in the snapshots that it commits.
    pub session: String,
    /// When an upload must have ended: what is in the store shortly before is committed as a partial
    /// snapshot.
    pub deadline: Option<tokio::time::Instant>,
    /// Whether nothing works in the mount any more, as at the end of a session: then an upload stores also what is
    /// there only while something works, such as the lock files of git repositories.
    pub at_rest: bool,
    /// How much an archive may hold to be extracted.
    pub extract: ExtractLimits,
    /// The user and the group that files brought into the mount are given to; the process must be allowed
    /// to.
    pub owner: Option<(u32, u32)>,
    /// Files that the caller writes, such as a log: where they lie in the mount, they never take part.
    pub own_files: Vec<PathBuf>,
    /// Makes what writes to the mount hold still while an upload reads it.
    pub quiesce: Option<Arc<dyn Quiesce>>,
    /// Saves also where that failed, and reports it: the last upload of a session does, as there is no later one.
    pub save_unquiesced: bool,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            only: Vec::new(),
            checksum: false,
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
            deadline: None,
            at_rest: false,
            extract: ExtractLimits::default(),
            owner: None,
            own_files: Vec::new(),
            quiesce: None,
            save_unquiesced: false,
        }
    }
}
