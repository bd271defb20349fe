//! What a tree has at a path, and what is in the way.

use futures::TryStreamExt;
use policy_core::{Entry, TreePath};

use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};
use crate::tree::Tree;

/// What a tree has at a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NameIs {
    /// An entry: a file, a symbolic link, or a directory that is listed.
    Entry(Box<TreeEntry>),
    /// A directory implied by what is in it.
    Implied,
    /// The path is below this file or link.
    BelowFile(TreePath),
    /// Nothing.
    Free,
}

impl Tree<'_> {
    /// Returns what the tree has at a path; reads only the adjacent segments. A recycled file counts as an
    /// entry.
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

    /// Whether the tree has a directory at a path; false if it has nothing there.
    ///
    /// # Errors
    /// [`Error::NotADirectory`] if there is something else at the path or above it.
    pub(crate) async fn has_directory(&self, path: &TreePath) -> Result<bool, Error> {
        match self.look(path).await? {
            NameIs::Implied => Ok(true),
            NameIs::Entry(entry) if entry.entry.is_dir() => Ok(true),
            NameIs::Entry(entry) if !entry.recycled => Err(self.not_a_directory(path)),
            NameIs::BelowFile(file) => Err(self.not_a_directory(&file)),
            NameIs::Entry(_) | NameIs::Free => Ok(false),
        }
    }

    /// Returns the error for a part of the context that does not exist.
    pub(crate) fn no_part(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::NoPart { path: path.to_string(), name: context.clone(), number: *number }
    }

    /// Returns the error for a path that does not exist.
    pub(crate) fn no_path(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::NoPath { path: path.to_string(), name: context.clone(), number: *number }
    }

    /// Returns the error for a path that was recycled.
    pub(crate) fn recycled(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::Recycled { path: path.to_string(), name: context.clone(), number: *number }
    }

    /// Returns the error for a directory where a file was expected.
    pub(crate) fn is_directory(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        let shown = if path.is_root() { "/".to_owned() } else { path.to_string() };
        Error::IsDirectory { path: shown, name: context.clone(), number: *number }
    }

    /// Returns the error for a path that is no directory, where one was expected.
    pub(crate) fn not_a_directory(&self, path: &TreePath) -> Error {
        let Snapshot { context, number, .. } = self.snapshot;
        Error::NotADirectory { path: path.to_string(), name: context.clone(), number: *number }
    }
}

/// A file above the path directly precedes it in tree order: anything between the two would be below the
/// file.
fn below_file(before: Option<TreeEntry>, path: &TreePath) -> NameIs {
    match before {
        Some(file) if path.is_below(&file.path) && !file.entry.is_dir() => NameIs::BelowFile(file.path),
        _ => NameIs::Free,
    }
}

/// Calls `each` for everything directly in a directory, in order; for an implied directory once, with
/// [`Entry::IMPLIED_DIR`]. Segments that are entirely inside one of its subdirectories are not read.
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

/// Returns the subdirectory of `dir` that contains all entries of a segment.
fn inside_of_one(
    segment: Option<&crate::format::SegmentRef>,
    next: Option<&crate::format::SegmentRef>,
    dir: &TreePath,
) -> Option<TreePath> {
    let (first, next) = (&segment?.first, &next?.first);
    let inside = child(first, dir)?;
    (first.is_below(&inside) && next.is_below(&inside)).then_some(inside)
}

/// Returns the path directly in `dir` at or below which `path` is.
fn child(path: &TreePath, dir: &TreePath) -> Option<TreePath> {
    if !path.is_below(dir) {
        return None;
    }
    let depth = dir.components().count();
    dir.join(path.components().nth(depth)?).ok()
}
