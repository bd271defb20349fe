//! Where two trees differ.

use std::collections::{HashSet, VecDeque};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use policy_core::{Digest, TreePath};

use super::{PartTree, Tree};
use crate::error::Error;
use crate::format::{Snapshot, TreeEntry};

/// The entries that two trees have at a path at which they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) path: TreePath,
    pub(crate) left: Option<TreeEntry>,
    pub(crate) right: Option<TreeEntry>,
}

/// The paths at which two trees differ, in tree order. Times alone make no difference, nor does the place of a
/// file's content.
///
/// Segments that both trees have are not read: every path in them has the same entry on both sides. So this costs
/// what differs, not what there is. Parts of trees with other paths are read whole.
pub(crate) struct Differences<'a> {
    left: Rows<'a>,
    right: Rows<'a>,
    /// Only these paths are compared, and what is below them; if empty, everything.
    only: &'a [TreePath],
}

/// The entries of the segments that only one of the trees has.
struct Rows<'a> {
    segments: BoxStream<'a, Result<(usize, Vec<TreeEntry>), Error>>,
    rows: VecDeque<TreeEntry>,
}

impl<'a> Differences<'a> {
    /// Compares two trees. Without `left`, everything in `right` is a difference.
    pub(crate) fn between(left: Option<&Tree<'a>>, right: &Tree<'a>) -> Self {
        let whole = |tree: &Tree<'a>| PartTree::whole(tree.clone());
        Self::within(&[], left.map(whole).as_ref(), &whole(right))
    }

    /// Compares two trees, or parts of them, at and below these paths, or everywhere if there are none. Segments that
    /// can't have any of them are not read either.
    pub(crate) fn within(only: &'a [TreePath], left: Option<&PartTree<'a>>, right: &PartTree<'a>) -> Self {
        // In parts of other paths, the same segment has other paths.
        let is_same_part = left.is_none_or(|left| left.part() == right.part());
        let others = |other: &PartTree<'_>| match is_same_part {
            true => digests(other.snapshot()),
            false => HashSet::new(),
        };
        let left_known = left.map(others).unwrap_or_default();
        Self {
            left: match left {
                Some(left) => Rows::beside(left, &others(right), only),
                None => Rows { segments: Box::pin(futures::stream::empty()), rows: VecDeque::new() },
            },
            right: Rows::beside(right, &left_known, only),
            only,
        }
    }

    /// Returns the next difference.
    pub(crate) async fn next(&mut self) -> Result<Option<Difference>, Error> {
        loop {
            let path = match (self.left.front().await?, self.right.front().await?) {
                (None, None) => return Ok(None),
                (Some(path), None) | (None, Some(path)) => path.clone(),
                (Some(left), Some(right)) => left.min(right).clone(),
            };
            let (left, right) = (self.left.take(&path), self.right.take(&path));
            let is_asked = self.only.is_empty() || self.only.iter().any(|asked| path.is_within(asked));
            if is_asked && !agree(left.as_ref(), right.as_ref()) {
                return Ok(Some(Difference { path, left, right }));
            }
        }
    }
}

fn digests(snapshot: &Snapshot) -> HashSet<Digest> {
    snapshot.segments.iter().map(|segment| segment.digest).collect()
}

/// Whether both are the same, apart from times and the place of their content.
fn agree(left: Option<&TreeEntry>, right: Option<&TreeEntry>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => {
            left.entry.agrees_with(&right.entry)
                && left.recycled == right.recycled
                && left.extracted == right.extracted
        }
        (None, None) => true,
        _ => false,
    }
}

impl<'a> Rows<'a> {
    fn beside(tree: &PartTree<'a>, other: &HashSet<Digest>, only: &[TreePath]) -> Self {
        let asked: Vec<_> = only.iter().map(|path| tree.segments_within(path)).collect();
        let is_asked = |index| asked.is_empty() || asked.iter().any(|range| range.contains(&index));
        let segments = &tree.snapshot().segments;
        let own = tree.all().filter(|index| is_asked(*index) && !other.contains(&segments[*index].digest));
        let own: Vec<usize> = own.collect();
        Self { segments: Box::pin(tree.segments(own)), rows: VecDeque::new() }
    }

    async fn front(&mut self) -> Result<Option<&TreePath>, Error> {
        while self.rows.is_empty() {
            match self.segments.try_next().await? {
                Some((_, entries)) => self.rows = entries.into(),
                None => return Ok(None),
            }
        }
        Ok(self.rows.front().map(|entry| &entry.path))
    }

    fn take(&mut self, path: &TreePath) -> Option<TreeEntry> {
        self.rows.pop_front_if(|entry| entry.path == *path)
    }
}
