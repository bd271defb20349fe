//! Where the members of an archive come out, as far as the context has a say in it.
//!
//! What the context holds and the mount does not yet is as much in the way as what is there: otherwise the
//! outcome would depend on what arrives first.

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
use crate::tree::Tree;

/// Ends the name of a folder that can't have the archive's own.
const SUFFIX: &str = ".extracted";

/// The folder for what is in an archive.
pub(super) enum Folder {
    At(TreePath),
    /// Its name is taken by what a deletion may still remove.
    Later,
}

/// Finds the folder that an archive comes out into: it is named as the archive without its suffix; if that
/// name is taken, as the archive, in whose place it comes; if this has to stay, the name gets a suffix.
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
    // Where the context keeps the archive, a folder can't be in its place.
    let drops = applying.filter.extract.as_ref().is_some_and(|e| e.delete_src_file);
    if drops && applying.drops_deleted {
        return Ok(Folder::At(archive.clone()));
    }
    Ok(Folder::At(next_folder(applying, archive).await?))
}

/// Finds a folder for an archive that keeps its name.
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

/// Whether the context has something at `folder`, or another archive that comes first and would take it.
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
    let tree =
        Tree { store: applying.store, snapshot: &applying.head.snapshot, cache: Some(&applying.cache) };
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

/// Returns the members in `staged`, by their paths below it, at whose place in `into` the context has
/// something that is still to come, and whether that is the same.
pub(super) async fn spoken_for(
    applying: &Applying<'_>,
    staged: &MountDir,
    into: &TreePath,
    archive: &TreePath,
) -> Result<Vec<(TreePath, bool)>, Error> {
    let cannot = |e: io::Error| Error::local("look at", staged.path(), e);
    let tops: BTreeSet<Vec<u8>> = crate::local::names(staged.root()).map_err(cannot)?.into_iter().collect();
    let tree =
        Tree { store: applying.store, snapshot: &applying.head.snapshot, cache: Some(&applying.cache) };
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
                // A file at whose place the context has a whole directory.
                Some((last, last_same)) if path.is_within(last) => *last_same &= same,
                _ => found.push((path, same)),
            }
        }
    }
    Ok(found)
}

/// Finds the member that can't stand beside an entry of the context, where the mount has nothing yet.
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
        // Directories come together; what is here already is looked at when the members are put beside it.
        return Ok(None);
    }
    let same = match &entry.entry.node {
        Node::File { size, digest } => has_content(staged, &below, *size, digest),
        Node::Symlink { target } => is_link_to(staged, &below, target),
        Node::Dir => true,
    };
    Ok(Some((below, same)))
}
