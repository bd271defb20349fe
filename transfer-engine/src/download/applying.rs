//! What is needed to carry out a pull's plan, and facts about its steps.

use std::sync::Arc;

use policy_core::{Node, TreePath, Verdict};
use tokio_util::sync::CancellationToken;

use super::trouble::Trouble;
use crate::local::{FileSystems, Fingerprint, MountDir};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::options::SyncOptions;
use crate::plan::{Filter, PlanStep};
use crate::state::{Arriving, Cache, DeltaState, Lane};
use crate::store::{Head, Store};
use crate::tree::{Part, PartTree, Tree};

/// One part in this many of the memory keeps recently fetched ranges.
pub(super) const KEPT: u64 = 8;
/// The hint if a retry helps.
pub(super) const RETRY: &str = "the next pull tries again";

/// What is needed to apply a plan.
pub(crate) struct Applying<'a> {
    pub(crate) store: &'a Store,
    /// The part of the context that the mount has.
    pub(crate) part: &'a Part,
    pub(crate) dir: MountDir,
    pub(crate) filter: Arc<Filter>,
    pub(crate) options: &'a SyncOptions,
    pub(crate) monitor: &'a dyn Monitor,
    /// The total of the work, for the progress.
    pub(crate) total: Progress,
    pub(crate) arriving: Arc<Arriving>,
    pub(crate) lane: Lane,
    pub(crate) stop: CancellationToken,
    /// The head that is pulled.
    pub(crate) head: &'a Head,
    pub(crate) cache: Cache,
    /// Where other file systems begin.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Whether files that are removed here are also removed from the context.
    pub(crate) drops_deleted: bool,
    /// Whether the disk must have a file before it is put in place.
    pub(crate) waits: bool,
}

impl Applying<'_> {
    /// Returns the head's tree, restricted to the part that the mount has.
    pub(super) fn tree(&self) -> PartTree<'_> {
        let tree = Tree { store: self.store, snapshot: &self.head.snapshot, cache: Some(&self.cache) };
        PartTree::new(tree, self.part.clone())
    }
}

/// What the plan saw at a path, as far as known without looking again.
#[derive(Clone)]
pub(crate) enum Expecting {
    Stat(Fingerprint),
    /// A link, for which the base has no fingerprint.
    Link(Box<[u8]>),
}

/// Whether a step changes something on the disk.
pub(crate) fn has_outcome(step: &PlanStep) -> bool {
    matches!(step.decision.verdict, Verdict::Write | Verdict::Delete | Verdict::KeepBoth)
}

/// Whether the mount has a directory at the step's path, according to its rows.
pub(super) fn is_local_dir(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(&row.state, DeltaState::Present { entry, .. } if entry.is_dir()),
        None => step.base.as_ref().is_some_and(|b| b.entry.is_dir()),
    }
}

/// Returns the file or link that the plan saw; `None` if there was nothing, or a directory.
pub(crate) fn expecting(step: &PlanStep) -> Option<Expecting> {
    match &step.local {
        Some(row) => match &row.state {
            DeltaState::Present { entry, seen, .. } if !entry.is_dir() => seen.map(Expecting::Stat),
            _ => None,
        },
        None => {
            let base = step.base.as_ref()?;
            match (&base.entry.node, base.print) {
                (Node::Symlink { target }, _) => Some(Expecting::Link(target.clone())),
                (Node::File { .. }, Some(print)) => Some(Expecting::Stat(print)),
                _ => None,
            }
        }
    }
}

pub(super) fn problem(monitor: &dyn Monitor, path: &TreePath, trouble: Trouble) {
    let hint = trouble.hint_or(RETRY);
    monitor.problem(&PathProblem { path: path.clone(), message: trouble.message, hint });
}
