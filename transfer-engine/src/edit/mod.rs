//! Changes a context's tree without a mount. Each change is one snapshot on top of the head.
//!
//! ```text
//! content ─► cut, hash ─► known to the head? ─► blocks ─► packs ┐
//!                                                               ├─► tree ─► snapshot, put if absent
//! head ─► entry at the path ─► what changes ────────────────────┘        └─ beaten: on the new head
//! ```

mod apply;
mod content;
mod gather;
mod look;
mod remove;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use policy_core::TreePath;

use crate::commit::{Attempts, Prepared, Published, written_after};
use crate::error::Error;
use crate::format::{ContextName, Kind, PackId, SealedBlock, Snapshot, TreeEntry};
use crate::packing::{Added, Chunks, PackSink};
use crate::report::SyncReport;
use crate::state::Cache;
use crate::store::{Head, Store};
use crate::tree::Tree;

pub(crate) use apply::free_for_file;
pub(crate) use content::Content;
pub(crate) use gather::scattered;
pub(crate) use look::{NameIs, names_in};
pub(crate) use remove::Removal;

/// Replaces entries of a tree by entries without content. If another writer commits first, it is called again
/// for all entries of the new head.
pub(crate) trait Rewrite: Send + Sync {
    /// Is called before the entries of a head.
    fn begin(&mut self);
    /// Is called once for each entry; returns whether the entry will be replaced.
    fn takes(&mut self, entry: &TreeEntry) -> bool;
    /// Is called after the entries of a head.
    fn end(&mut self);
    /// Returns the replacement of an entry; `None` leaves the entry unchanged.
    fn replacement(&self, entry: &TreeEntry) -> Option<TreeEntry>;
}

/// A change of a tree.
pub(crate) enum Change<'m> {
    /// A file is written.
    Write(Content),
    /// A directory is made, unless there is one.
    Directory(TreePath),
    /// Files and directories are removed.
    Remove(Removal),
    /// All entries are removed.
    Clear,
    /// Entries are replaced by others.
    Rewrite(&'m mut dyn Rewrite),
    /// The data in these packs is moved to other packs.
    Gather(BTreeSet<PackId>),
    /// Paths are removed, and what else is in the packs that hold their content is moved to others.
    Purge(Purge),
}

impl Change<'_> {
    /// Whether no user has changed a file, so that the new snapshot takes the place of the one before it.
    fn is_upkeep(&self) -> bool {
        matches!(self, Self::Rewrite(_) | Self::Gather(_) | Self::Purge(_))
    }
}

/// What is purged from a tree.
pub(crate) struct Purge {
    /// The paths, with everything below them.
    pub(crate) paths: Vec<TreePath>,
    /// Packs that the new tree must not refer to.
    pub(crate) packs: BTreeSet<PackId>,
}

/// How a change is made.
#[derive(Debug, Clone)]
pub(crate) struct EditOptions {
    /// The name of the session, for the snapshots that are committed.
    pub(crate) session: String,
    /// The number of concurrent requests.
    pub(crate) concurrency: NonZeroUsize,
    /// Roughly how many bytes of memory a push may take.
    pub(crate) memory: u64,
}

/// A change of one context's tree.
pub(crate) struct Edit<'a> {
    pub(crate) store: &'a Store,
    pub(crate) name: &'a ContextName,
    pub(crate) options: &'a EditOptions,
    cache: Option<Cache>,
    chunks: Arc<Chunks>,
    sink: PackSink,
}

/// The snapshots that a new one is based on. They differ only after a commit that landed too late: then `on`
/// is that commit, which the new snapshot succeeds, and `tree` is the snapshot before it, whose packs count.
pub(crate) struct Parent {
    pub(crate) tree: Head,
    pub(crate) on: Head,
}

impl Parent {
    pub(crate) fn of(head: Head) -> Self {
        Self { tree: head.clone(), on: head }
    }

    /// Returns the parent of the next attempt, after a commit that landed too late. `head` is the head by now.
    pub(crate) fn after_late(self, landed: &Head, head: Head) -> Self {
        if head.digest == landed.digest { Self { tree: self.tree, on: head } } else { Self::of(head) }
    }

    /// Returns the packs to which the new snapshot may refer, besides its own.
    pub(crate) fn packs(&self) -> std::collections::HashSet<PackId> {
        let late: Vec<PackId> = self.tree.late_packs().into_iter().chain(self.on.late_packs()).collect();
        let on: std::collections::HashSet<PackId> = self.on.snapshot.packs.iter().map(|p| p.id).collect();
        let both = self.tree.snapshot.packs.iter().map(|p| p.id).filter(|id| on.contains(id));
        both.filter(|id| !late.contains(id)).collect()
    }
}

/// The result of an attempt.
enum Attempted {
    Done(Box<SyncReport>),
    Beaten,
    /// The commit landed, but too late for its packs to count.
    Late(Box<Head>),
}

impl<'a> Edit<'a> {
    pub(crate) fn new(store: &'a Store, name: &'a ContextName, options: &'a EditOptions) -> Self {
        let (chunks, sink) = new_sink(store, options);
        Self { store, name, options, cache: None, chunks, sink }
    }

    /// Uses a mount's cache of the head.
    pub(crate) fn with_cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// Commits a change on top of the head. If another writer is first, the change is retried on the new
    /// head.
    pub(crate) async fn commit(mut self, change: &mut Change<'_>, head: Head) -> Result<SyncReport, Error> {
        let mut parent = Parent::of(head);
        let mut attempts = Attempts::new(self.store, self.name);
        loop {
            let outcome = match self.attempt(change, &parent).await {
                // The commit that landed late has removed it already, and another writer has succeeded that
                // commit.
                Err(Error::NoPath { .. }) if attempts.was_late() => {
                    let snapshot = Some(parent.on.key.number);
                    return Ok(SyncReport { snapshot, ..SyncReport::default() });
                }
                outcome => outcome?,
            };
            match outcome {
                Attempted::Done(report) => return Ok(*report),
                Attempted::Beaten => {
                    attempts.beaten().await?;
                    parent = Parent::of(self.store.require_head(self.name).await?);
                }
                Attempted::Late(landed) => {
                    attempts.late(landed.key.number)?;
                    if let Change::Write(content) = change {
                        content.unsend(&self.chunks);
                    }
                    (self.chunks, self.sink) = new_sink(self.store, self.options);
                    let head = self.store.require_head(self.name).await?;
                    parent = parent.after_late(&landed, head);
                }
            }
        }
    }

    /// Adds a block to the packs to be sent.
    async fn add(&mut self, block: SealedBlock) -> Result<(), Error> {
        match self.sink.add_block(block).await? {
            Added::Taken => Ok(()),
            Added::TooLate => Err(Error::OutOfTime { name: self.name.clone() }),
        }
    }

    async fn attempt(&mut self, change: &mut Change<'_>, parent: &Parent) -> Result<Attempted, Error> {
        let cache = self.cache.clone();
        let tree = Tree { store: self.store, snapshot: &parent.tree.snapshot, cache: cache.as_ref() };
        let Some(made) = self.apply(change, &tree, parent).await? else {
            let snapshot = Some(parent.tree.key.number);
            let total_bytes = parent.tree.snapshot.totals.bytes;
            return Ok(Attempted::Done(Box::new(SyncReport {
                snapshot,
                total_bytes,
                ..SyncReport::default()
            })));
        };
        let on = &parent.on;
        let number = on.key.number + 1;
        let snapshot = Snapshot {
            number,
            parent: Some(on.digest),
            kind: Kind::Normal,
            created: self.store.env().now(),
            session: self.options.session.clone(),
            nonce: self.store.random()?,
            totals: made.totals,
            changes: made.changes,
            partial: false,
            extensions: written_after(&on.snapshot),
            packs: made.listed.packs,
            segments: made.listed.segments,
            inline: made.listed.inline,
            ..(*on.snapshot).clone()
        };
        let snapshot = snapshot.with_let_go(&made.let_go);
        let snapshot = match change.is_upkeep() {
            true => snapshot.marked_as_standing_for(&parent.tree.snapshot, parent.tree.key.landed),
            false => snapshot,
        };
        let head = match self.store.publish(Prepared::of(snapshot)?, Some(&on.key)).await? {
            Published::Ours(head) => head,
            Published::Theirs => return Ok(Attempted::Beaten),
            Published::Late(head) => return Ok(Attempted::Late(Box::new(head))),
        };
        let Snapshot { changes, totals, .. } = &*head.snapshot;
        Ok(Attempted::Done(Box::new(SyncReport {
            snapshot: Some(number),
            parent: Some(on.key.number),
            added: changes.added,
            changed: changes.changed,
            deleted: changes.deleted,
            total_bytes: totals.bytes,
            bytes_stored: self.sink.stored + head.bytes.len() as u64,
            ..SyncReport::default()
        })))
    }
}

fn new_sink(store: &Store, options: &EditOptions) -> (Arc<Chunks>, PackSink) {
    let chunks = Arc::new(Chunks::default());
    let sink = PackSink::unhurried(store, chunks.clone(), options.memory, options.concurrency.get());
    (chunks, sink)
}
