//! How the local side is read, and where what is new of it goes.

use std::path::Path;
use std::sync::Arc;

use policy_core::{Scope, TreePath, UploadMode};

use crate::format::PackId;
use crate::local::{FileSystems, MountDir, ScanFilter};
use crate::packing::{Chunks, PackSink};
use crate::tree::Tree;

/// How the local side is to be read.
pub(crate) struct DeltaOptions<'a> {
    pub(crate) mount: &'a MountDir,
    pub(crate) scope: Arc<Scope>,
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) spool_dir: &'a Path,
    /// Reads every file, trusting no fingerprint.
    pub(crate) checksum: bool,
    /// Believes that what was on file systems which are gone was deleted.
    pub(crate) allow_empty_mount: bool,
    /// Whether all in scope is dealt with, and not only what was asked for.
    pub(crate) is_of_all: bool,
    pub(crate) mode: UploadMode,
    /// The most bytes of new content; more is an error.
    pub(crate) max_upload: Option<u64>,
    /// The directory that is walked: the root, or one that is read on its own.
    pub(crate) from: TreePath,
    /// Where other file systems begin, as far as that is known before.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Whether files are passed over that are there only while git works on them.
    pub(crate) leaves_passing: bool,
}

/// Where new chunks go; without it they are only counted.
pub(crate) struct Sending<'a, 'b> {
    pub(crate) sink: &'a mut PackSink,
    pub(crate) chunks: Arc<Chunks>,
    /// The head, whose chunks need not be sent,
    pub(crate) head: Tree<'b>,
    /// but for those in packs that do not count.
    pub(crate) absent: &'a [PackId],
    /// Where the packs are noted that no commit refers to yet.
    pub(crate) journal: &'a Path,
    /// Whether a long upload is to be committed in rounds.
    pub(crate) in_rounds: bool,
    /// Requests under way at once.
    pub(crate) concurrency: usize,
}

impl<'b> Sending<'_, 'b> {
    /// Returns the same for one of several readings.
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
