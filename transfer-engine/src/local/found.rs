//! What a scan is asked for, and what it finds.

use std::io;
use std::sync::Arc;

use policy_core::{Entry, Node, TreePath};

use super::file_systems::FileSystems;
use super::fingerprint::Fingerprint;
use super::look::Look;
use super::special::Special;

/// Which paths a scan visits.
pub(crate) trait ScanFilter: Send + Sync {
    /// Whether the path takes part.
    fn contains(&self, path: &TreePath, is_dir: bool) -> bool;
    /// Whether anything below the directory may take part.
    fn may_hold(&self, dir: &TreePath) -> bool;
    /// Whether the content of the file system that begins at this path takes part.
    fn enters(&self, place: &TreePath) -> bool;
    /// Whether the directory with this device and inode belongs to the program itself, whatever path leads to
    /// it.
    fn is_ours(&self, _identity: (u64, u64)) -> bool {
        false
    }
}

/// Where a scan begins, and what it leaves out.
pub(crate) struct ScanPlan {
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) look: Arc<Look>,
    /// The directory to scan.
    pub(crate) from: TreePath,
    /// Whether to leave out git's temporary files.
    pub(crate) leaves_passing: bool,
    /// Where other file systems begin, as far as already known.
    pub(crate) file_systems: Arc<FileSystems>,
}

/// One path that a scan found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: TreePath,
    pub(crate) kind: FoundKind,
}

#[derive(Debug)]
pub(crate) enum FoundKind {
    File(Fingerprint),
    Symlink {
        target: Box<[u8]>,
        print: Fingerprint,
    },
    /// A directory that a tree lists: nothing in scope is in it, or its mode is not 0755.
    Dir {
        print: Fingerprint,
        empty: bool,
        /// Whether something out of scope is in it.
        hides: bool,
    },
    /// A temporary file of git's: left out, and not missing.
    Passing,
    /// A socket, FIFO or device: never opened.
    Unsupported(Special),
    /// The content can't be read; with `whole_dir`, neither can anything below.
    Unreadable {
        error: io::Error,
        whole_dir: bool,
    },
}

impl FoundKind {
    /// Returns the tree entry if no content has to be read: for a link or a directory.
    pub(crate) fn entry(&self) -> Option<Entry> {
        match self {
            Self::Symlink { target, print } => Some(Entry {
                node: Node::Symlink { target: target.clone() },
                mode: 0o777,
                mtime: print.mtime,
                uploaded: 0,
            }),
            Self::Dir { print, .. } => {
                Some(Entry { node: Node::Dir, mode: print.mode, mtime: print.mtime, uploaded: 0 })
            }
            _ => None,
        }
    }
}
