//! Descriptions of files.

use policy_core::{Entry, Node, Timestamp, TreePath};

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
#[non_exhaustive]
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
