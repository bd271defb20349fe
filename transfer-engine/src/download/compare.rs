//! Whether what stands in the mount is what would be brought.

use std::io;

use policy_core::{Digest, Entry, Node, TreePath, numbered_copy_path};

use crate::format::{CHUNK_MAX, ChunkId, TreeEntry, cut, file_digest};
use crate::local::{Fingerprint, MountDir, read_link_at, stat_at};

/// Returns the stat of a file or link that is at `path` already, with the content and mode of `entry`.
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

/// Returns the stat of a link, if it is one with this target.
pub(super) fn link_print(dir: &MountDir, path: &TreePath, target: &[u8]) -> Option<Fingerprint> {
    let parent = dir.parent(path).ok()?;
    let stat = stat_at(&parent, path.name()).ok()??;
    (*read_link_at(&parent, path.name()).ok()? == *target).then(|| Fingerprint::of(&stat))
}

/// Whether a file at `path` has this content, whatever its mode.
pub(super) fn has_content(dir: &MountDir, path: &TreePath, size: u64, digest: &Digest) -> bool {
    let is_long_as = |stat: rustix::fs::Stat| u64::try_from(stat.st_size) == Ok(size);
    let stat = dir.stat(path).ok().flatten();
    stat.is_some_and(is_long_as) && digest_of(dir, path).is_ok_and(|found| found == Some(*digest))
}

/// Whether a link at `path` has this target.
pub(super) fn is_link_to(dir: &MountDir, path: &TreePath, target: &[u8]) -> bool {
    link_print(dir, path, target).is_some()
}

/// Finds a free name for a conflict copy; `None` if a copy with this content is there already.
pub(super) fn free_copy_path(
    dir: &MountDir,
    copy: &TreePath,
    entry: &TreeEntry,
) -> io::Result<Option<TreePath>> {
    let mut candidate = copy.clone();
    for number in 2..1000 {
        let Some(stat) = dir.stat(&candidate)? else { return Ok(Some(candidate)) };
        let same = match &entry.entry.node {
            Node::File { size, digest } if u64::try_from(stat.st_size) == Ok(*size) => {
                digest_of(dir, &candidate)? == Some(*digest)
            }
            Node::Symlink { target } => link_print(dir, &candidate, target).is_some(),
            Node::Dir => rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory,
            Node::File { .. } => false,
        };
        if same {
            return Ok(None);
        }
        candidate = numbered_copy_path(copy, number);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Returns the digest of a file, or `None` if it is none.
fn digest_of(dir: &MountDir, path: &TreePath) -> io::Result<Option<Digest>> {
    let Ok((mut file, _)) = dir.open_file(path) else { return Ok(None) };
    let mut chunks = Vec::new();
    let mut buf = Vec::new();
    let mut ended = false;
    loop {
        while let Some(len) = cut(&buf, ended).filter(|l| *l > 0) {
            chunks.push((ChunkId::of(&buf[..len]), len as u32));
            buf.drain(..len);
        }
        if ended {
            return Ok(Some(file_digest(chunks)));
        }
        let wanted = CHUNK_MAX;
        ended = io::Read::read_to_end(&mut io::Read::take(&mut file, wanted as u64), &mut buf)? < wanted;
    }
}
