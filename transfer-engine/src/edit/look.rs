//! What stands at a path of a tree, and what is in the way of it.

use futures::TryStreamExt;
use policy_core::{Entry, TreePath};

use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::tree::Tree;

/// What a name in a tree is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NameIs {
    /// An entry: a file, a symbolic link, or a directory that is listed.
    Entry(Box<TreeEntry>),
    /// A directory that is implied by what is in it.
    Implied,
    /// Below a file or a link.
    BelowFile(TreePath),
    /// Nothing.
    Free,
}

impl Tree<'_> {
    /// Returns what stands at a path; reads no more than the segments next to it. What the recycle policy
    /// removed is an entry here.
    pub(crate) async fn look(&self, path: &TreePath) -> Result<NameIs, Error> {
        if path.is_root() {
            return Ok(NameIs::Implied);
        }
        let mut before: Option<TreeEntry> = None;
        let mut segments = std::pin::pin!(self.segments(self.segments_within(path)));
        while let Some((_, entries)) = segments.try_next().await? {
            for entry in entries {
                if entry.path < *path {
                    before = Some(entry);
                } else if entry.path == *path {
                    return Ok(NameIs::Entry(Box::new(entry)));
                } else if entry.path.is_below(path) {
                    return Ok(NameIs::Implied);
                } else {
                    return Ok(below_file(before, path));
                }
            }
        }
        Ok(below_file(before, path))
    }

    /// Returns the error for a path that is not there.
    pub(crate) fn no_path(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::NoPath { path: path.to_string(), name: context.clone(), number: *number }
    }

    /// Returns the error for a path that was recycled.
    pub(crate) fn recycled(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::Recycled { path: path.to_string(), name: context.clone(), number: *number }
    }

    /// Returns the error for a path that should be a file.
    pub(crate) fn is_directory(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        let shown = if path.is_root() { "/".to_owned() } else { path.to_string() };
        Error::IsDirectory { path: shown, name: context.clone(), number: *number }
    }

    /// Returns the error for a path that should be a directory.
    pub(crate) fn not_a_directory(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::NotADirectory { path: path.to_string(), name: context.clone(), number: *number }
    }
}

/// A file above the path directly precedes it in tree order: what is between the two would be below the file.
fn below_file(before: Option<TreeEntry>, path: &TreePath) -> NameIs {
    match before {
        Some(file) if path.is_below(&file.path) && !file.entry.is_dir() => NameIs::BelowFile(file.path),
        _ => NameIs::Free,
    }
}

/// Calls `each` for what is directly in a directory, in order: a directory that is implied once, as
/// [`Entry::IMPLIED_DIR`]. Segments that lie within one of its directories are not read.
pub(crate) async fn names_in(
    tree: &Tree<'_>,
    dir: &TreePath,
    mut each: impl FnMut(&TreePath, &Entry),
) -> Result<(), Error> {
    let firsts = &tree.snapshot.segments;
    let within = tree.segments_within(dir);
    let mut last: Option<TreePath> = None;
    let mut name = |path: &TreePath, entry: &Entry| {
        if last.as_ref() != Some(path) {
            each(path, entry);
            last = Some(path.clone());
        }
    };
    let mut at = within.start;
    while at < within.end {
        // The next segments that have to be read.
        let mut end = at;
        while end < within.end && inside_of_one(firsts.get(end), firsts.get(end + 1), dir).is_none() {
            end += 1;
        }
        let mut segments = std::pin::pin!(tree.segments(at..end));
        while let Some((_, entries)) = segments.try_next().await? {
            for found in entries.iter().filter(|e| e.path.is_below(dir) && !e.recycled) {
                match child(&found.path, dir) {
                    Some(path) if path == found.path => name(&path, &found.entry),
                    Some(path) => name(&path, &Entry::IMPLIED_DIR),
                    None => {}
                }
            }
        }
        while end < within.end
            && let Some(path) = inside_of_one(firsts.get(end), firsts.get(end + 1), dir)
        {
            name(&path, &Entry::IMPLIED_DIR);
            end += 1;
        }
        at = end;
    }
    Ok(())
}

/// Returns the directory in `dir` in which all entries of a segment lie.
fn inside_of_one(
    segment: Option<&crate::format::SegmentRef>,
    next: Option<&crate::format::SegmentRef>,
    dir: &TreePath,
) -> Option<TreePath> {
    let (first, next) = (&segment?.first, &next?.first);
    let inside = child(first, dir)?;
    (first.is_below(&inside) && next.is_below(&inside)).then_some(inside)
}

/// Returns the path in `dir` at which, or below which, `path` is.
fn child(path: &TreePath, dir: &TreePath) -> Option<TreePath> {
    if !path.is_below(dir) {
        return None;
    }
    let depth = dir.components().count();
    dir.join(path.components().nth(depth)?).ok()
}
