//! What a directory holds, listed without any code of the engine, and how two directories differ.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The state of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The kind and the content.
    pub content: Content,
    /// The permission bits; 0 for links, which have none.
    pub mode: u32,
    /// Seconds since 1970 and nanoseconds; `None` for directories, whose times are not compared.
    pub mtime: Option<(i64, i64)>,
}

/// The kind and the content of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file: its size in bytes, its hash, and, if it is short, its bytes.
    File(u64, u64, Option<Vec<u8>>),
    /// A directory.
    Dir,
    /// A link: its target.
    Link(OsString),
    /// A socket, FIFO or device.
    Special,
}

/// Everything below a directory, by relative path.
pub type Listing = BTreeMap<PathBuf, Node>;

/// Lists everything below `root`. If `root` does not exist, the listing is empty.
///
/// # Panics
/// If something can't be read.
pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    if !root.exists() {
        return listing;
    }
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = entry.path();
        let stat = path.symlink_metadata().unwrap();
        let kind = stat.file_type();
        let content = if kind.is_dir() {
            Content::Dir
        } else if kind.is_symlink() {
            Content::Link(std::fs::read_link(path).unwrap().into_os_string())
        } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            Content::Special
        } else {
            let bytes = std::fs::read(path).unwrap();
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            Content::File(bytes.len() as u64, hasher.finish(), (bytes.len() < 80).then_some(bytes))
        };
        let node = Node {
            mode: if kind.is_symlink() { 0 } else { stat.permissions().mode() & 0o7777 },
            mtime: (content != Content::Dir).then(|| (stat.mtime(), stat.mtime_nsec())),
            content,
        };
        listing.insert(path.strip_prefix(root).unwrap().to_owned(), node);
    }
    listing
}

/// Describes how two listings differ, one line for each path. The text is empty if they are equal.
pub fn differences(left: &Listing, right: &Listing) -> String {
    let mut text = String::new();
    let mut line = |path: &Path, left: Option<&Node>, right: Option<&Node>| {
        let _ = writeln!(text, "{}: {left:?} against {right:?}", path.display());
    };
    for (path, node) in left {
        let other = right.get(path);
        if other != Some(node) {
            line(path, Some(node), other);
        }
    }
    for (path, node) in right.iter().filter(|(path, _)| !left.contains_key(*path)) {
        line(path, None, Some(node));
    }
    text
}

/// Fails unless two directories hold the same, including the times of files and links.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path) {
    let text = differences(&list(left), &list(right));
    assert!(text.is_empty(), "{} and {} differ:\n{text}", left.display(), right.display());
}

/// Fails unless two directories hold the same apart from times: two machines that make the same change make
/// it at different times.
#[track_caller]
pub fn assert_same_but_times(left: &Path, right: &Path) {
    let text = differences(&without_times(list(left)), &without_times(list(right)));
    assert!(text.is_empty(), "{} and {} differ:\n{text}", left.display(), right.display());
}

/// Removes all times from a listing.
pub fn without_times(mut listing: Listing) -> Listing {
    listing.values_mut().for_each(|node| node.mtime = None);
    listing
}

/// Returns the paths below `root`, for short assertions.
pub fn paths(root: &Path) -> Vec<String> {
    list(root).keys().map(|path| path.to_string_lossy().into_owned()).collect()
}
