//! A running push: what stays the same throughout, one reading of the mount, and the head that it is planned
//! against.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_core::TreePath;

use super::aging::Aging;
use super::deadline::{Course, Cut};
use crate::format::PackId;
use crate::local::{Flush, MountDir};
use crate::monitor::Monitor;
use crate::options::SyncOptions;
use crate::packing::Chunks;
use crate::plan::Filter;
use crate::report::SyncReport;
use crate::state::{Alone, BaseHeader, NextBase};
use crate::store::Head;
use crate::tree::{Part, PartTree, Tree, UpdatedTree};

/// What stays the same during a push.
pub(super) struct Job<'a> {
    pub(super) alone: &'a Alone<'a>,
    pub(super) dir: &'a MountDir,
    pub(super) filter: Arc<Filter>,
    pub(super) options: &'a SyncOptions,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) course: &'a Course,
    /// The packs in which something is damaged, where that was looked for.
    pub(super) damaged: BTreeSet<PackId>,
}

impl Job<'_> {
    /// Returns the packs of a head from which everything is sent again that can be: those that do not count, and those
    /// in which something is damaged.
    pub(super) fn sent_again(&self, head: &Head) -> Vec<PackId> {
        let damaged = head.snapshot.packs.iter().map(|pack| pack.id).filter(|id| self.damaged.contains(id));
        head.late_packs().into_iter().chain(damaged).collect()
    }
}

/// One reading of the mount, to be committed on one head or another.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) chunks: Arc<Chunks>,
    /// The flush of the files that were read.
    pub(super) flush: Option<Flush>,
    /// Whether deletions are held back.
    pub(super) hold: bool,
    /// Whether they are held back because the mount counts as lost.
    pub(super) lost: bool,
    /// Why not everything was sent; `None` if everything was. Otherwise deletions are held back too.
    pub(super) cut: Option<Cut>,
    /// Whether the plan was already reported.
    pub(super) told: bool,
    /// Whether what the head has in many small packs may be gathered.
    pub(super) may_gather: bool,
    /// Extracted archives that the context still needs.
    pub(super) needed: Arc<BTreeSet<TreePath>>,
    /// Objects of git repositories that were read although they have not changed, since the head lacks them.
    pub(super) objects: Arc<BTreeSet<TreePath>>,
    /// The ages of files, if the policy lets any expire.
    pub(super) aging: Option<Aging>,
}

/// The head that the new snapshot is to succeed.
pub(super) struct Onto<'a> {
    pub(super) head: &'a Head,
    pub(super) tree: Tree<'a>,
    /// The base, if it matches the head.
    pub(super) header: Option<&'a BaseHeader>,
    /// The head's packs that do not count, or in which something is damaged. What is in them is sent again.
    pub(super) late: Vec<PackId>,
    /// Whether base and head agree exactly, so that no segment has to be read.
    pub(super) as_base: bool,
}

impl<'a> Onto<'a> {
    /// Returns the tree, restricted to a part.
    pub(super) fn part(&self, part: &Part) -> PartTree<'a> {
        PartTree::new(self.tree.clone(), part.clone())
    }
}

/// A new tree, and what belongs to it.
pub(super) struct Made<'a> {
    pub(super) tree: UpdatedTree,
    pub(super) next: NextBase,
    /// Whether the next base agrees with the tree on every path.
    pub(super) agrees: bool,
    pub(super) onto: &'a Onto<'a>,
}

/// The result of an attempt to commit on one head.
pub(super) enum Attempted {
    Done(Box<SyncReport>),
    /// Another writer was first.
    Beaten,
    /// A chunk that was not sent is missing in the new head, so the mount must be read again.
    Rehash,
    /// The same for these objects of git repositories. The head lacks them, and they have not been read.
    Objects(BTreeSet<TreePath>),
    /// The commit landed, but too late for its packs to count.
    Late,
}
