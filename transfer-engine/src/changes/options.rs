//! How the local side is read, and where new chunks go.

use std::path::Path;
use std::sync::Arc;

use policy_core::{Scope, TreePath, UploadMode};

use crate::format::PackId;
use crate::local::{FileSystems, MountDir, ScanFilter};
use crate::packing::{Chunks, PackSink};
use crate::tree::Tree;

/// How the local side is read.
pub(crate) struct DeltaOptions<'a> {
    pub(crate) mount: &'a MountDir,
    pub(crate) scope: Arc<Scope>,
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) spool_dir: &'a Path,
    /// Reads every file, and trusts no fingerprint.
    pub(crate) checksum: bool,
    /// Treats what was on vanished file systems as deleted.
    pub(crate) allow_empty_mount: bool,
    /// Whether the sync covers everything in scope, and not only requested paths.
    pub(crate) is_of_all: bool,
    pub(crate) mode: UploadMode,
    /// The most bytes of new content; more is an error.
    pub(crate) max_upload: Option<u64>,
    /// The directory to scan: the root, or one that is read separately.
    pub(crate) from: TreePath,
    /// Where other file systems begin, as far as already known.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Whether to leave out git's temporary files.
    pub(crate) leaves_passing: bool,
    /// The longest path in bytes that the context can have here.
    pub(crate) longest_path: usize,
}

/// Where new chunks go. Without it, they are only counted.
pub(crate) struct Sending<'a, 'b> {
    pub(crate) sink: &'a mut PackSink,
    pub(crate) chunks: Arc<Chunks>,
    /// The head, whose chunks need not be sent.
    pub(crate) head: Tree<'b>,
    /// The packs of the head that count as absent, so that their chunks are sent.
    pub(crate) absent: &'a [PackId],
    /// The journal of packs to which no commit refers yet.
    pub(crate) journal: &'a Path,
    /// Whether a long push is committed in rounds.
    pub(crate) in_rounds: bool,
    /// The number of concurrent requests.
    pub(crate) concurrency: usize,
}

impl<'b> Sending<'_, 'b> {
    /// Returns the same options, for one of several readings.
    pub(crate) fn once(&mut self) -> Sending<'_, 'b> {
        Sending {
            sink: &mut *self.sink,
            chunks: self.chunks.clone(),
            head: self.head.clone(),
            absent: self.absent,
            journal: self.journal,
            in_rounds: self.in_rounds,
            concurrency: self.concurrency,
        }
    }
}
