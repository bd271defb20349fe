//! Purging paths from a context: afterwards no snapshot has them, and once the packs that held them are collected,
//! nothing of them is in the store.
//!
//! ```text
//! the context's snapshots ─► chunks of the paths ─► all packs that hold one of them ─► who needs these packs
//!                                                                                            │
//!     a head: a new one, without the paths, its other data moved to new packs ◄──────────────┤
//!     an older snapshot: forgotten ◄──────────────────────────────────────────────────────────┘
//! ```
//!
//! A pack is deleted as a whole, and an older snapshot can't be changed. So every older snapshot that needs one of the
//! packs is forgotten, also if it does not have the paths, and also if it is of another context.
//!
//! Snapshots that were erased tell nothing of what they had at the paths. If there were some, it may be whatever no
//! snapshot needs any more in a pack of the context (see [`remains`]).

mod holders;
mod remains;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;

use policy_core::TreePath;

use crate::edit::{Change, Edit, EditOptions, Purge};
use crate::error::Error;
use crate::format::{ChunkId, ContextName, PackId, TagName};
use crate::store::Store;

/// How paths are purged.
#[derive(Debug, Clone)]
pub struct PurgeOptions {
    /// Only reports what would be done.
    pub dry_run: bool,
    /// The number of concurrent requests.
    pub concurrency: NonZeroUsize,
    /// Roughly how many bytes of memory a purge may take.
    pub memory: u64,
}

/// A file that still has content that was purged from another path, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct StillHeld {
    /// Its context.
    pub context: ContextName,
    /// Its path.
    pub path: TreePath,
    /// The newest snapshot that has it.
    pub number: u64,
}

/// A tag of a snapshot that is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgedTag {
    /// Its context.
    pub context: ContextName,
    /// The number of the snapshot.
    pub number: u64,
    /// The tag.
    pub tag: TagName,
}

/// What a purge came to; in a dry run, what it would come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// Paths that were found in some snapshot, in all that were asked for and below them.
    pub paths: BTreeSet<TreePath>,
    /// The context's new head; `None` in a dry run, or if the old one had nothing of the paths nor of their packs.
    pub snapshot: Option<u64>,
    /// Snapshots that were forgotten, older ones of the context.
    pub forgotten: BTreeMap<ContextName, Vec<u64>>,
    /// The tags of those snapshots. They are deleted.
    pub tags: BTreeSet<PurgedTag>,
    /// Other contexts whose heads were moved out of the packs.
    pub moved: BTreeSet<ContextName>,
    /// The packs that held content of the paths, or may have held some. Nothing refers to them any more.
    pub packs: u64,
    /// How many of the packs may only hold content of the paths: snapshots were erased that may have had some, and
    /// something in the pack belongs to no snapshot any more.
    pub unknown_packs: u64,
    /// Files at other paths, or in other contexts, with the same content or a part of it. They keep it.
    pub still_held: BTreeSet<StillHeld>,
}

/// What has to be done.
#[derive(Debug, Default)]
struct Plan {
    purged: Purged,
    /// The packs that hold content of the paths, or may hold some.
    packs: BTreeSet<PackId>,
    /// The packs that can't say what is in them.
    unread: BTreeMap<PackId, Error>,
    /// The snapshots of the context that have one of the paths.
    with_paths: HashSet<u64>,
    /// Contexts whose heads need one of the packs, or have one of the paths.
    heads: BTreeSet<ContextName>,
}

/// What is purged.
struct Wanted<'a> {
    context: &'a ContextName,
    paths: &'a [TreePath],
    chunks: HashSet<ChunkId>,
    /// The packs that have these chunks, as far as the trees say it.
    packs: HashSet<PackId>,
}

impl Wanted<'_> {
    fn holds(&self, path: &TreePath) -> bool {
        self.paths.iter().any(|asked| path.is_within(asked))
    }
}

impl Store {
    /// Removes paths, and everything below them, from all snapshots of a context.
    ///
    /// Their bytes are in the store until a collection deletes the packs, which nothing refers to any more.
    ///
    /// # Errors
    /// [`Error::NoContext`]; [`Error::NoPath`] if no snapshot has any of the paths; whatever the store says. A purge
    /// that ended early is finished by the next.
    pub async fn purge(
        &self,
        context: &ContextName,
        paths: &[TreePath],
        options: &PurgeOptions,
    ) -> Result<Purged, Error> {
        let mut plan = self.plan_purge(context, paths).await?;
        if options.dry_run {
            return Ok(plan.purged);
        }
        let edit = EditOptions {
            session: "purge".to_owned(),
            concurrency: options.concurrency,
            memory: options.memory,
        };
        for name in &plan.heads {
            let head = self.require_head(name).await?;
            let paths = if name == context { paths.to_vec() } else { Vec::new() };
            let mut change = Change::Purge(Purge { paths, packs: plan.packs.clone() });
            let report = Edit::new(self, name, &edit).commit(&mut change, head).await?;
            if name == context && report.parent.is_some() {
                plan.purged.snapshot = report.snapshot;
            }
        }
        // Those with the paths come last: as long as one is left, the next purge finds what this one did not finish.
        let all = plan.purged.forgotten.iter().flat_map(|(name, all)| all.iter().map(move |n| (name, *n)));
        let (last, first): (Vec<_>, Vec<_>) =
            all.partition(|(name, number)| *name == context && plan.with_paths.contains(number));
        for (name, numbers) in &plan.purged.forgotten {
            self.delete_tags(name, |_, number| number.is_some_and(|n| numbers.contains(&n))).await?;
        }
        for (name, number) in first.into_iter().chain(last) {
            self.mark_gone(name, number).await?;
        }
        Ok(plan.purged)
    }
}
