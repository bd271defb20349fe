//! Compares files of the mount with what would be pulled.

use std::io;

use policy_core::{Digest, Entry, MAX_COPIES, Node, TreePath, numbered_copy_path};
use rustix::fs::{FileType, Stat};

use crate::format::MAX_PATH_LEN;
use crate::local::{Fingerprint, MountDir, digest_of, read_link_at, stat_at};

/// Returns the fingerprint of a file or link at `path` if it already has the content and mode of `entry`.
pub(super) fn stands_already(dir: &MountDir, path: &TreePath, entry: &Entry) -> Option<Fingerprint> {
    match &entry.node {
        Node::Symlink { target } => link_print(dir, path, target),
        Node::Dir => None,
        Node::File { size, digest } => {
            let print = Fingerprint::of(&dir.stat(path).ok()??);
            let same = print.size == *size && print.mode == entry.mode;
            (same && digest_of(dir, path).ok()? == Some(*digest)).then_some(print)
        }
    }
}

/// Returns the fingerprint of the link at `path` if it has this target.
pub(super) fn link_print(dir: &MountDir, path: &TreePath, target: &[u8]) -> Option<Fingerprint> {
    let parent = dir.parent(path).ok()?;
    let stat = stat_at(&parent, path.name()).ok()??;
    (*read_link_at(&parent, path.name()).ok()? == *target).then(|| Fingerprint::of(&stat))
}

/// Whether the file at `path` has this content, whatever its mode.
pub(super) fn has_content(dir: &MountDir, path: &TreePath, size: u64, digest: &Digest) -> bool {
    let is_long_as = |stat: rustix::fs::Stat| u64::try_from(stat.st_size) == Ok(size);
    let stat = dir.stat(path).ok().flatten();
    stat.is_some_and(is_long_as) && digest_of(dir, path).is_ok_and(|found| found == Some(*digest))
}

/// Whether the link at `path` has this target.
pub(super) fn is_link_to(dir: &MountDir, path: &TreePath, target: &[u8]) -> bool {
    link_print(dir, path, target).is_some()
}

/// Finds a free name for the conflict copy of `of`; `None` if a copy with this content exists already. `copy`
/// is the first of its names.
pub(super) fn free_copy_path(
    dir: &MountDir,
    of: &TreePath,
    copy: &TreePath,
    entry: &Entry,
) -> io::Result<Option<TreePath>> {
    let mut candidate = copy.clone();
    for number in 2..=MAX_COPIES {
        if candidate.as_bytes().len() > MAX_PATH_LEN {
            return Err(io::Error::other("its path would be too long"));
        }
        match dir.stat(&candidate)? {
            None if !lies_below_leaf(dir, &candidate)? => return Ok(Some(candidate)),
            Some(stat) if holds_same(dir, &candidate, &stat, entry) => return Ok(None),
            _ => candidate = numbered_copy_path(of, copy, number),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "every name of it is taken"))
}

/// Whether the file at `path`, with this stat, has the entry's content, whatever its mode.
fn holds_same(dir: &MountDir, path: &TreePath, stat: &Stat, entry: &Entry) -> bool {
    match &entry.node {
        Node::File { size, digest } => has_content(dir, path, *size, digest),
        Node::Symlink { target } => is_link_to(dir, path, target),
        Node::Dir => is_dir(stat),
    }
}

/// Whether there is a file or link in the place of a directory above `path`.
fn lies_below_leaf(dir: &MountDir, path: &TreePath) -> io::Result<bool> {
    let mut above = path.parent();
    while let Some(parent) = above.filter(|p| !p.is_root()) {
        if let Some(stat) = dir.stat(&parent)? {
            return Ok(!is_dir(&stat));
        }
        above = parent.parent();
    }
    Ok(false)
}

fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
