//! A push on its way: what stays the same for all of it, one reading of the mount, and what it is planned against.

use std::sync::Arc;

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
use crate::tree::{Tree, UpdatedTree};

/// What stays the same for a whole push.
pub(super) struct Job<'a> {
    pub(super) alone: &'a Alone<'a>,
    pub(super) dir: &'a MountDir,
    pub(super) filter: Arc<Filter>,
    pub(super) options: &'a SyncOptions,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) course: &'a Course,
}

/// One reading of the mount, to be committed on one head or another.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) chunks: Arc<Chunks>,
    /// The flush of what was read of the mount.
    pub(super) flush: Option<Flush>,
    /// Whether deletions are held back.
    pub(super) hold: bool,
    /// Whether that is because the mount was found lost.
    pub(super) lost: bool,
    /// Why not everything was sent, if so; then deletions are held back as well.
    pub(super) cut: Option<Cut>,
    /// Whether what is planned has been told already.
    pub(super) told: bool,
    /// What the policy says of the age of files.
    pub(super) aging: Option<Aging>,
}

/// The head that the new snapshot is to succeed.
pub(super) struct Onto<'a> {
    pub(super) head: &'a Head,
    pub(super) tree: Tree<'a>,
    /// The base, if it fits the head.
    pub(super) header: Option<&'a BaseHeader>,
    /// The head's packs that do not count: what lies in them is sent again.
    pub(super) late: Vec<PackId>,
    /// Whether the base says exactly what the head says, so that no segment has to be read.
    pub(super) as_base: bool,
}

/// A new tree, and what goes with it.
pub(super) struct Made<'a> {
    pub(super) tree: UpdatedTree,
    pub(super) next: NextBase,
    /// Whether the next base says of each path what the tree says.
    pub(super) agrees: bool,
    pub(super) onto: &'a Onto<'a>,
}

/// What came of the attempt to commit on one head.
pub(super) enum Attempted {
    Done(Box<SyncReport>),
    /// Another writer was first.
    Beaten,
    /// A chunk that was counted on is not in the new head: everything must be looked at again.
    Rehash,
    /// The commit landed, but too late for its packs to count.
    Late,
}
