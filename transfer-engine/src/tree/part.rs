//! The directory of a context that a mount has: the whole tree, or a part of it.
//!
//! Above this module, paths are those of the mount. Below it, in segments and in new trees, they are those of the
//! context. Here the part's path is added and taken away.

use std::ops::Range;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use policy_core::{Digest, TreePath};

use super::{Resolved, Tree};
use crate::error::Error;
use crate::format::{MAX_PATH_LEN, Snapshot, TreeEntry, sha256};

/// Segments, each with its index.
pub(crate) type Segments<'a> = BoxStream<'a, Result<(usize, Vec<TreeEntry>), Error>>;

/// The path of a directory of a context; the root stands for the whole context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Part(TreePath);

impl Part {
    pub(crate) fn new(path: TreePath) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &TreePath {
        &self.0
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_root()
    }

    /// Returns what tells this part from others in the state of a mount; `None` for the whole context.
    pub(crate) fn digest(&self) -> Option<Digest> {
        (!self.is_whole()).then(|| sha256(self.0.as_bytes()))
    }

    /// Returns the path in the context for a path in the mount.
    pub(crate) fn outer(&self, inner: &TreePath) -> TreePath {
        // Every path is within the root.
        inner.rebase(&TreePath::root(), &self.0).unwrap_or_default()
    }

    /// Returns how long a path of the mount can be, in bytes.
    pub(crate) fn longest_path(&self) -> usize {
        let above = self.0.as_bytes().len();
        MAX_PATH_LEN.saturating_sub(above + usize::from(above > 0))
    }

    /// Returns the path in the mount for a path in the context; `None` if it is not below the part.
    pub(crate) fn inner(&self, outer: &TreePath) -> Option<TreePath> {
        outer.rebase(&self.0, &TreePath::root()).filter(|_| outer.is_below(&self.0))
    }

    /// Returns a change of the context for a change of the mount.
    pub(crate) fn outer_change(&self, change: Resolved) -> Resolved {
        match change {
            change if self.is_whole() => change,
            Resolved::Put(entry) => Resolved::Put(TreeEntry { path: self.outer(&entry.path), ..entry }),
            Resolved::Delete(path) => Resolved::Delete(self.outer(&path)),
            Resolved::Mark(path) => Resolved::Mark(self.outer(&path)),
            Resolved::Directory(path) => Resolved::Directory(self.outer(&path)),
        }
    }

    /// Restricts segments to the part, with the paths that the mount has. The order stays the same.
    pub(crate) fn cut<'s>(
        &self,
        segments: impl Stream<Item = Result<(usize, Vec<TreeEntry>), Error>> + Send + 's,
    ) -> Segments<'s> {
        if self.is_whole() {
            return segments.boxed();
        }
        let part = self.clone();
        let inner = move |entry: TreeEntry| Some(TreeEntry { path: part.inner(&entry.path)?, ..entry });
        segments
            .map_ok(move |(index, entries)| (index, entries.into_iter().filter_map(&inner).collect()))
            .boxed()
    }
}

/// The tree of one snapshot, restricted to a part. Its paths are those of the mount.
#[derive(Clone)]
pub(crate) struct PartTree<'a> {
    tree: Tree<'a>,
    part: Part,
}

impl<'a> PartTree<'a> {
    pub(crate) fn new(tree: Tree<'a>, part: Part) -> Self {
        Self { tree, part }
    }

    /// Returns a tree that is not restricted.
    pub(crate) fn whole(tree: Tree<'a>) -> Self {
        Self::new(tree, Part::default())
    }

    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    pub(crate) fn snapshot(&self) -> &'a Snapshot {
        self.tree.snapshot
    }

    /// Returns the indexes of the segments that may have something of the part.
    pub(crate) fn all(&self) -> Range<usize> {
        self.segments_within(&TreePath::root())
    }

    /// Returns the indexes of the segments that may have `path` or something below it.
    pub(crate) fn segments_within(&self, path: &TreePath) -> Range<usize> {
        self.tree.segments_within(&self.part.outer(path))
    }

    /// Returns the index of the segment that has `path`, if any has.
    pub(crate) fn segment_with(&self, path: &TreePath) -> Option<usize> {
        let outer = self.part.outer(path);
        self.tree.snapshot.segments.partition_point(|s| s.first <= outer).checked_sub(1)
    }

    /// Returns the path with which a segment begins; `None` if there is no such segment, or if it begins outside of
    /// the part.
    pub(crate) fn first(&self, index: usize) -> Option<TreePath> {
        self.part.inner(&self.tree.snapshot.segments.get(index)?.first)
    }

    /// Reads segments in ascending order, ahead of the caller.
    pub(crate) fn segments(&self, indexes: impl IntoIterator<Item = usize> + 'a) -> Segments<'a> {
        self.part.cut(self.tree.segments(indexes))
    }

    /// Reads one segment.
    pub(crate) async fn segment(&self, index: usize) -> Result<Vec<TreeEntry>, Error> {
        let mut segments = self.segments(index..index + 1);
        Ok(segments.try_next().await?.map(|(_, entries)| entries).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        text.parse().unwrap()
    }

    #[test]
    fn paths_of_a_part() {
        let part = Part::new(path("a/b"));
        assert_eq!(part.outer(&path("c/d")), path("a/b/c/d"));
        assert_eq!(part.outer(&TreePath::root()), path("a/b"));
        assert_eq!(part.inner(&path("a/b/c")), Some(path("c")));
        for outside in ["a/b", "a", "a/bc", "a/b-c", "a/c", "b/c"] {
            assert_eq!(part.inner(&path(outside)), None, "{outside}");
        }
        assert_eq!(part.outer(&path(&"c".repeat(part.longest_path()))).as_bytes().len(), MAX_PATH_LEN);
        let whole = Part::default();
        assert_eq!(whole.longest_path(), MAX_PATH_LEN);
        assert_eq!(whole.outer(&path("a/b")), path("a/b"));
        assert_eq!(whole.inner(&path("a/b")), Some(path("a/b")));
    }
}
