//! What a tree has at a path.

use std::fmt;

/// A SHA-256 digest: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the first eight hexadecimal digits, as used in the names of conflict copies.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

/// The kind of an entry, with its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// The digest over its list of chunks; equal exactly when the bytes are equal.
        digest: Digest,
    },
    /// A directory.
    Dir,
    /// A symbolic link, never followed.
    Symlink {
        /// The target's bytes as the file system returns them.
        target: Box<[u8]>,
    },
}

/// A moment on some machine's clock: seconds since 1970 and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// What a tree keeps of one path.
///
/// Two entries *agree* when kind, content digest or target, and permission bits are equal. Times are kept,
/// but never make a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and content.
    pub node: Node,
    /// Unix permission bits (`0o7777`); `0o777` for a symbolic link.
    pub mode: u16,
    /// The modification time on the machine that wrote it.
    pub mtime: Timestamp,
    /// When the content was last uploaded, by the store's clock, in seconds since 1970.
    pub uploaded: i64,
}

impl Entry {
    /// The entry of a directory that the tree does not list, because it is implied by what is in it.
    pub const IMPLIED_DIR: Entry =
        Entry { node: Node::Dir, mode: 0o755, mtime: Timestamp { secs: 0, nanos: 0 }, uploaded: 0 };

    /// Whether both have the same kind, content and permission bits.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.node == other.node && self.mode == other.mode
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.node, Node::Dir)
    }

    /// Returns the size in bytes of a file, the length of a link's target, or 0.
    pub fn size(&self) -> u64 {
        match &self.node {
            Node::File { size, .. } => *size,
            Node::Dir => 0,
            Node::Symlink { target } => target.len() as u64,
        }
    }
}
