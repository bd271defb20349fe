//! Where an archive is extracted to, as far as the context affects it.
//!
//! What the context has and the mount has not pulled yet is in the way just like an existing file. Otherwise
//! the result would depend on what arrives first.

use std::collections::BTreeSet;
use std::io;

use futures::StreamExt;
use policy_core::{MAX_NAME, Node, TreePath, cut_at_char};
use rustix::fs::FileType;

use super::applying::Applying;
use super::compare::{has_content, is_link_to};
use crate::error::Error;
use crate::extract::ArchiveKind;
use crate::format::TreeEntry;
use crate::local::MountDir;

/// The suffix of a directory that can't have the archive's own name.
const SUFFIX: &str = ".extracted";

/// The directory for an archive's content.
pub(super) enum Folder {
    At(TreePath),
    /// Its name is taken by something that may still be deleted.
    Later,
}

/// Finds the directory for an archive's content. It is named like the archive without its suffix. If that
/// name is taken, it is named like the archive, which it replaces. If the archive has to stay, the name gets
/// a suffix.
pub(super) async fn find_folder(
    applying: &Applying<'_>,
    archive: &TreePath,
    waited: bool,
) -> Result<Folder, Error> {
    let cannot = |e| Error::local("find a folder beside", applying.dir.show(archive), e);
    let parent = archive.parent().unwrap_or_default();
    let folder = parent.join(ArchiveKind::stem(archive.name())).map_err(|e| cannot(io::Error::other(e)))?;
    if !is_claimed(applying, &folder, Some(archive)).await? {
        match applying.dir.stat(&folder).map_err(cannot)? {
            None => return Ok(Folder::At(folder)),
            Some(_) if !waited => return Ok(Folder::Later),
            Some(_) => {}
        }
    }
    // If the context keeps the archive, a directory can't replace it.
    let drops = applying.filter.extract.as_ref().is_some_and(|e| e.delete_src_file);
    if drops && applying.drops_deleted {
        return Ok(Folder::At(archive.clone()));
    }
    Ok(Folder::At(next_folder(applying, archive).await?))
}

/// Finds a directory for an archive that has to stay.
pub(super) async fn next_folder(applying: &Applying<'_>, archive: &TreePath) -> Result<TreePath, Error> {
    let cannot = |e| Error::local("find a folder beside", applying.dir.show(archive), e);
    for number in 1..1000 {
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        let room = MAX_NAME - SUFFIX.len() - number.len();
        let name = [cut_at_char(archive.name(), room), SUFFIX.as_bytes(), number.as_bytes()].concat();
        let parent = archive.parent().unwrap_or_default();
        let folder = parent.join(&name).map_err(|e| cannot(io::Error::other(e)))?;
        let is_free = applying.dir.stat(&folder).map_err(cannot)?.is_none();
        if is_free && !is_claimed(applying, &folder, None).await? {
            return Ok(folder);
        }
    }
    Err(cannot(io::ErrorKind::AlreadyExists.into()))
}

/// Whether the context has something at `folder`, or another archive that would take that name first.
async fn is_claimed(
    applying: &Applying<'_>,
    folder: &TreePath,
    archive: Option<&TreePath>,
) -> Result<bool, Error> {
    let last = archive.unwrap_or(folder);
    let parent = folder.parent();
    let takes = |entry: &TreeEntry| {
        entry.path.is_within(folder)
            || (archive.is_some_and(|archive| entry.path < *archive)
                && matches!(entry.entry.node, Node::File { .. })
                && !entry.extracted
                && entry.path.parent() == parent
                && applying.filter.extracts(&entry.path)
                && ArchiveKind::stem(entry.path.name()) == folder.name())
    };
    let tree = applying.tree();
    let range = tree.segments_within(folder).start..tree.segments_within(last).end;
    let mut segments = std::pin::pin!(tree.segments(range));
    while let Some(segment) = segments.next().await {
        for entry in segment?.1 {
            if !entry.recycled && takes(&entry) && applying.filter.in_scope(&entry.path, entry.entry.is_dir())
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns the members in `staged`, by their paths below it, at whose paths in `into` the context has
/// something pending, and whether it is the same.
pub(super) async fn spoken_for(
    applying: &Applying<'_>,
    staged: &MountDir,
    into: &TreePath,
    archive: &TreePath,
) -> Result<Vec<(TreePath, bool)>, Error> {
    let cannot = |e: io::Error| Error::local("look at", staged.path(), e);
    let tops: BTreeSet<Vec<u8>> = crate::local::names(staged.root()).map_err(cannot)?.into_iter().collect();
    let tree = applying.tree();
    let ends = [tops.first(), tops.last()].map(|top| top.and_then(|top| into.join(top).ok()));
    let [Some(first), Some(last)] = ends else { return Ok(Vec::new()) };
    let range = tree.segments_within(&first).start..tree.segments_within(&last).end;
    let mut segments = std::pin::pin!(tree.segments(range));
    let mut found: Vec<(TreePath, bool)> = Vec::new();
    while let Some(segment) = segments.next().await {
        let mut entries = segment?.1;
        entries.retain(|entry| {
            let below = entry.path.rebase(into, &TreePath::root());
            let top = below.as_ref().and_then(|below| below.components().next());
            top.is_some_and(|top| tops.contains(top))
                && entry.path != *archive
                && !entry.recycled
                && applying.filter.in_scope(&entry.path, entry.entry.is_dir())
        });
        if entries.is_empty() {
            continue;
        }
        let (staged, dir, into) = (staged.clone(), applying.dir.clone(), into.clone());
        let clashes = move || {
            let clashes = entries.iter().map(|entry| clash(&staged, &dir, &into, entry));
            clashes.filter_map(Result::transpose).collect::<io::Result<Vec<_>>>()
        };
        let clashes = applying.dir.blocking(clashes).await.map_err(|e| cannot(io::Error::from(e)))?;
        for (path, same) in clashes.map_err(cannot)? {
            match found.last_mut() {
                // A file at whose path the context has a whole directory.
                Some((last, last_same)) if path.is_within(last) => *last_same &= same,
                _ => found.push((path, same)),
            }
        }
    }
    Ok(found)
}

/// Whether the mount has anything but directories at the paths of members in `staged`, at and below `at`. A file with a
/// member's content may still be deleted, and would then be nowhere.
pub(super) fn is_in_the_way(
    staged: &MountDir,
    dir: &MountDir,
    into: &TreePath,
    at: &TreePath,
) -> io::Result<bool> {
    let is_dir = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    for name in crate::local::names(&staged.dir(at)?)? {
        let member = at.join(&name).map_err(io::Error::other)?;
        let Some(place) = member.rebase(&TreePath::root(), into) else { continue };
        let Some(there) = dir.stat(&place)? else { continue };
        let both = is_dir(there) && staged.stat(&member)?.is_some_and(is_dir);
        if !both || is_in_the_way(staged, dir, into, &member)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds the member that conflicts with an entry of the context, if the mount has nothing there yet.
fn clash(
    staged: &MountDir,
    dir: &MountDir,
    into: &TreePath,
    entry: &TreeEntry,
) -> io::Result<Option<(TreePath, bool)>> {
    let Some(below) = entry.path.rebase(into, &TreePath::root()) else { return Ok(None) };
    let mut at = TreePath::root();
    for name in below.components() {
        at = at.join(name).map_err(io::Error::other)?;
        let Some(stat) = staged.stat(&at)? else { return Ok(None) };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir && at != below {
            continue;
        }
        if at != below || is_dir != entry.entry.is_dir() {
            return Ok(Some((at, false)));
        }
    }
    if entry.entry.is_dir() || dir.stat(&entry.path)?.is_some() {
        // Directories are merged. What is in the mount already is checked when the members are put there.
        return Ok(None);
    }
    let same = match &entry.entry.node {
        Node::File { size, digest } => has_content(staged, &below, *size, digest),
        Node::Symlink { target } => is_link_to(staged, &below, target),
        Node::Dir => true,
    };
    Ok(Some((below, same)))
}
