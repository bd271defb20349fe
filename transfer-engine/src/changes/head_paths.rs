//! Which new files a pull need not read: those for which the head has nothing at the path, above it, or below
//! it. There is nothing to compare their content with.

use futures::StreamExt;
use policy_core::{Digest, Entry, Node, TreePath};

use super::batch::{Batch, Work, present};
use super::stats::count_row;
use crate::error::Error;
use crate::format::TreeEntry;
use crate::state::DeltaRow;
use crate::tree::{PartTree, Segments};

/// Up to this many segments are skipped by reading them, rather than by starting a new stream.
const READ_PAST: usize = 8;

/// The paths of a head, which are asked for in tree order.
pub(crate) struct HeadPaths<'a> {
    /// `None` if the base has every path of the head.
    tree: Option<PartTree<'a>>,
    segments: Segments<'a>,
    /// The segment that was read last, with its index.
    here: Option<(usize, Vec<TreeEntry>)>,
}

impl<'a> HeadPaths<'a> {
    /// Uses the segments of a tree. None is read before it is needed.
    pub(crate) fn of(tree: PartTree<'a>) -> Self {
        Self { tree: Some(tree), segments: futures::stream::empty().boxed(), here: None }
    }

    /// Declares that the head has no path that the base lacks.
    pub(crate) fn as_base() -> Self {
        Self { tree: None, segments: futures::stream::empty().boxed(), here: None }
    }

    /// Removes the files from a batch that need not be read.
    pub(crate) async fn spare(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Batch { work, long, stats, .. } = batch;
        let mut new: Vec<&mut Work> = work.iter_mut().chain(long).filter(|work| is_new(work)).collect();
        new.sort_unstable_by(|a, b| path_of(a).cmp(path_of(b)));
        for work in new {
            if !self.concerns(path_of(work)).await?
                && let Work::File { path, print, .. } = &*work
            {
                let node = Node::File { size: print.size, digest: Digest([0; 32]) };
                let entry = Entry { node, mode: print.mode, mtime: print.mtime, uploaded: 0 };
                let row =
                    DeltaRow { path: path.clone(), base: None, state: present(entry, Some(*print), false) };
                count_row(&row, stats);
                *work = Work::Row(row);
            }
        }
        Ok(())
    }

    /// Whether the head has something at or below a path, or a file or link above it.
    async fn concerns(&mut self, path: &TreePath) -> Result<bool, Error> {
        let Some(tree) = &self.tree else { return Ok(false) };
        let Some(index) = tree.segment_with(path) else {
            return Ok(tree.first(0).is_some_and(|first| first.is_below(path)));
        };
        if self.here.as_ref().is_none_or(|(here, _)| *here != index) {
            let near =
                self.here.as_ref().is_some_and(|(here, _)| (*here..=*here + READ_PAST).contains(&index));
            if !near {
                self.segments = tree.segments(index..tree.all().end);
            }
            while let Some(segment) = self.segments.next().await.transpose()? {
                let found = segment.0;
                self.here = Some(segment);
                if found == index {
                    break;
                }
            }
        }
        let entries = self.here.as_ref().map_or(&[][..], |(_, entries)| entries);
        let at = entries.partition_point(|entry| entry.path < *path);
        let next = entries.get(at).map(|entry| entry.path.clone());
        let next = next.or_else(|| tree.first(index + 1));
        // Anything that the head had below that file or link would come between the two entries.
        let above = at.checked_sub(1).map(|before| &entries[before]);
        let is_leaf_above = |entry: &TreeEntry| !entry.entry.is_dir() && path.is_below(&entry.path);
        Ok(next.is_some_and(|next| next.is_within(path)) || above.is_some_and(is_leaf_above))
    }
}

fn is_new(work: &Work) -> bool {
    matches!(work, Work::File { base: None, .. })
}

fn path_of(work: &Work) -> &TreePath {
    match work {
        Work::File { path, .. } => path,
        Work::Row(row) => &row.path,
    }
}
