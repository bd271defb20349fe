//! Descriptions of contexts and files.

use policy_core::{Entry, Node, Timestamp, TreePath};

use crate::format::{ContextName, LineageId};
use crate::store::Head;

/// A context, as described by its newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The name, which is also the id.
    pub name: ContextName,
    /// The lineage of the context. It changes when the context is deleted and created again, or renamed.
    pub lineage: LineageId,
    /// The number of the newest snapshot.
    pub snapshot: u64,
    /// When that snapshot was made, by its writer's clock.
    pub time: Timestamp,
    /// The number of files, without directories and symbolic links.
    pub files: u64,
    /// The number of symbolic links.
    pub symlinks: u64,
    /// The total size of the files, in bytes.
    pub bytes: u64,
    /// Whether the newest snapshot is partial: the deadline came before everything was sent.
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

/// The kind of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target, which need not be UTF-8.
        target: Box<[u8]>,
    },
}

/// A file, directory or symbolic link of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// The path in the context.
    pub path: TreePath,
    /// The kind.
    pub kind: FileKind,
    /// The size of a file or the length of a link's target, in bytes; otherwise 0.
    pub size: u64,
    /// Unix permission bits.
    pub mode: u16,
    /// The modification time; `None` for an implied directory.
    pub mtime: Option<Timestamp>,
    /// When it was last pushed, in seconds since 1970; `None` for a directory.
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
