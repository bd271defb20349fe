//! What the service tells of contexts and files.

use policy_core::{Entry, Node, Timestamp, TreePath};

use crate::format::{ContextName, LineageId};
use crate::store::Head;

/// A context, as its newest snapshot describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Its name, which is its id.
    pub name: ContextName,
    /// The life of the context: another one after it was deleted and made again, or moved.
    pub lineage: LineageId,
    /// The number of its newest snapshot.
    pub snapshot: u64,
    /// When that was made, by its writer's clock.
    pub time: Timestamp,
    /// Its files, without directories and symbolic links.
    pub files: u64,
    /// Its symbolic links.
    pub symlinks: u64,
    /// The sizes of its files, in bytes.
    pub bytes: u64,
    /// Whether the newest snapshot was made when the time ran out, and not all that should be is in it.
    pub partial: bool,
}

impl Context {
    /// Returns the context's id: its name.
    pub fn id(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn of(head: &Head) -> Self {
        let snapshot = &head.snapshot;
        Self {
            name: snapshot.context.clone(),
            lineage: snapshot.lineage,
            snapshot: snapshot.number,
            time: snapshot.created,
            files: snapshot.totals.files,
            symlinks: snapshot.totals.symlinks,
            bytes: snapshot.totals.bytes,
            partial: snapshot.partial,
        }
    }
}

/// What a path of a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Its target, which need not be UTF-8.
        target: Box<[u8]>,
    },
}

/// A file, directory or symbolic link of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path in the context.
    pub path: TreePath,
    /// What it is.
    pub kind: FileKind,
    /// The size in bytes of a file, the length of a link's target, or 0.
    pub size: u64,
    /// Unix permission bits.
    pub mode: u16,
    /// When it was modified; none for a directory that is only implied by what is in it.
    pub mtime: Option<Timestamp>,
    /// When it was last uploaded, in seconds since 1970; none for a directory.
    pub uploaded: Option<i64>,
}

impl FileInfo {
    pub(super) fn of(path: &TreePath, entry: &Entry) -> Self {
        let kind = match &entry.node {
            Node::File { .. } => FileKind::File,
            Node::Dir => FileKind::Directory,
            Node::Symlink { target } => FileKind::Symlink { target: target.clone() },
        };
        Self {
            path: path.clone(),
            kind,
            size: entry.size(),
            mode: entry.mode,
            mtime: (*entry != Entry::IMPLIED_DIR).then_some(entry.mtime),
            uploaded: (!entry.is_dir()).then_some(entry.uploaded),
        }
    }
}
