//! Makes the new tree of a push, and its base.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use policy_core::{Decision, Entry, Reason, Towards, TreePath, Verdict};

use super::attempt::{Attempt, Made, Onto};
use crate::changes::LocalDelta;
use crate::conflict_copies::Copies;
use crate::effect::{Effect, effect};
use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, PackId, TreeEntry};
use crate::local::{FileSystems, sqlite};
use crate::mount::Mount;
use crate::packing::{Chunks, PackSink};
use crate::plan::{PlanStep, archive_of};
use crate::state::{BaseRow, DeltaRow, Held, NextBase};
use crate::tree::{ChunkIndex, Lookup, Part, Resolved, TreeUpdate};

/// What is needed to make a new tree, besides the plan.
pub(super) struct TreeOrder<'s> {
    /// The conflict copies in the tree.
    pub(super) copies: Copies,
    /// Journals and logs out of scope that do not fit the databases of the new tree.
    pub(super) stale: Vec<TreePath>,
    /// The time of what is written, by the store's clock, in seconds since 1970.
    pub(super) uploaded: i64,
    /// Packs of the head out of which everything was sent again.
    pub(super) gathered: BTreeSet<PackId>,
    pub(super) sink: &'s mut PackSink,
}

impl Mount {
    /// Makes the new tree and its base, without the paths that are left out; `None` if a chunk is not where
    /// it was expected.
    pub(super) async fn make_tree<'a>(
        &self,
        attempt: &Attempt<'_>,
        onto: &'a Onto<'a>,
        delta: &mut LocalDelta,
        order: &mut TreeOrder<'_>,
        left_out: &BTreeSet<TreePath>,
    ) -> Result<Option<Made<'a>>, Error> {
        let index = index_of(attempt, onto, order.sink).await?;
        let lookup = Lookup::new(onto.tree.clone(), &index);
        let mut making = Making {
            attempt,
            late: &onto.late,
            finder: Finder { chunks: &attempt.chunks, near: 0, lookup },
            part: self.part.clone(),
            update: TreeUpdate::new(onto.tree.clone())
                .without(onto.head.late_packs())
                .out_of(attempt.job.damaged.iter().chain(&order.gathered).copied()),
            next: self.next_base(onto.header, &attempt.job.filter)?,
            // If only a part of the scope was requested, only the base says something about the rest.
            agrees: (onto.as_base || attempt.job.options.only.is_empty())
                && attempt.job.filter.closed.is_empty(),
            uploaded: order.uploaded,
            file_systems: delta.file_systems.clone(),
        };
        let cannot_read = |e: io::Error| Error::local("read", self.files.dir(), e);
        let sink = &mut *order.sink;
        let copies = order.copies.made.iter().map(|copy| Resolved::Put(copy.entry.clone()));
        let stale = order
            .stale
            .iter()
            .filter(|log| sqlite::database_of(log).is_some_and(|database| !left_out.contains(&database)));
        let mut others: Vec<_> = copies.chain(stale.cloned().map(Resolved::Delete)).collect();
        others.sort_by(|a, b| a.path().cmp(b.path()));
        let mut others = others.into_iter().peekable();
        if !self.part.is_whole() {
            // A mount is a directory of its context, also when it is empty.
            making.apply(Resolved::Directory(TreePath::root()), sink).await?;
        }
        let mut plan = self.plan(attempt, onto, delta)?;
        while let Some(mut step) = plan.next().await? {
            if left_out.contains(&step.path) {
                step.decision = Decision { verdict: Verdict::Withhold, reason: Reason::NeedsDeletion };
            }
            while let Some(other) = others.next_if(|other| *other.path() < step.path) {
                making.apply(other, sink).await?;
            }
            if step.decision.verdict == Verdict::Delete
                && let Some(copy) = others.next_if(|other| *other.path() == step.path)
            {
                // An earlier copy is deleted here, or an old log. Without a row, a new copy in its place is pulled.
                making.apply(copy, sink).await?;
                making.next.set(&step.path, None).map_err(cannot_read)?;
                continue;
            }
            let withheld = plan.withholds(&step);
            let mut row = making.note(&step, withheld);
            match making.change(&step, withheld).await? {
                Changed::Lost => return Ok(None),
                Changed::To(change) => {
                    if matches!(&change, Resolved::Put(put) if put.extracted) {
                        row = row.or_else(|| Some(step.base.clone())).map(as_marked);
                    }
                    making.apply(change, sink).await?;
                }
                Changed::Not => {}
            }
            making.set(&step, row).map_err(cannot_read)?;
        }
        drop(plan);
        for other in others {
            making.apply(other, sink).await?;
        }
        let Making { update, next, agrees, .. } = making;
        let mut tree = update.finish(sink).await?;
        tree.blocked = tree.blocked.iter().filter_map(|path| self.part.inner(path)).collect();
        Ok(Some(Made { tree, next, agrees, onto }))
    }
}

/// Returns the index of the head's chunks, if one is needed.
async fn index_of(
    attempt: &Attempt<'_>,
    onto: &Onto<'_>,
    sink: &mut PackSink,
) -> Result<Arc<ChunkIndex>, Error> {
    let snapshot = onto.tree.snapshot;
    match attempt.chunks.head() {
        Some(index) if index.is_of(snapshot) => Ok(index),
        // Another writer was first, so chunks have to be found in its snapshot.
        Some(_) => {
            let index = Arc::new(ChunkIndex::build(&onto.tree, &onto.late).await?);
            attempt.chunks.set_head(index.clone());
            sink.count_on_own(|id| snapshot.packs.iter().any(|p| p.id == *id));
            Ok(index)
        }
        None => Ok(Arc::default()),
    }
}

/// A new tree and base in the making.
struct Making<'a> {
    attempt: &'a Attempt<'a>,
    late: &'a [PackId],
    finder: Finder<'a>,
    part: Part,
    update: TreeUpdate<'a>,
    next: NextBase,
    agrees: bool,
    uploaded: i64,
    file_systems: Arc<FileSystems>,
}

/// What a step changes in the tree.
enum Changed {
    Not,
    To(Resolved),
    /// The file refers to a chunk that is not where it was expected.
    Lost,
}

impl Making<'_> {
    /// Applies a change of the mount to the tree of the context.
    async fn apply(&mut self, change: Resolved, sink: &mut PackSink) -> Result<(), Error> {
        self.update.apply(self.part.outer_change(change), sink).await
    }

    /// Returns the base's new row after a step, if it changes, and notes whether it agrees with the tree.
    fn note(&mut self, step: &PlanStep, withheld: bool) -> Option<Option<BaseRow>> {
        let Effect { base: row, agrees, .. } = effect(step, Towards::Store, self.uploaded);
        let row = row.map(|row| row.map(|row| row.among(&self.file_systems)));
        self.agrees &= agrees && !withheld;
        // The next pull must not end early: it extracts the archive, or removes it.
        let row_after = row.as_ref().map_or(step.base.as_ref(), Option::as_ref);
        self.agrees &= row_after.is_none_or(|row| !row.archive.is_unfinished());
        row
    }

    async fn change(&mut self, step: &PlanStep, withheld: bool) -> Result<Changed, Error> {
        let local = step.local.as_ref().and_then(DeltaRow::present);
        Ok(match step.decision.verdict {
            Verdict::Write | Verdict::KeepBoth => match local {
                Some((entry, ids)) => {
                    let put = self.finder.resolve(step, entry, ids, self.uploaded).await?;
                    put.map_or(Changed::Lost, |put| Changed::To(Resolved::Put(put)))
                }
                // If the path has no local row, the mount has what the base says: a directory. It keeps its
                // mode while its content changes.
                None => {
                    let kept = step.base.as_ref().filter(|b| step.local.is_none() && b.entry.is_dir());
                    Changed::To(match kept {
                        Some(base) => Resolved::Put(TreeEntry::bare(step.path.clone(), base.entry.clone())),
                        None => Resolved::Delete(step.path.clone()),
                    })
                }
            },
            Verdict::Delete => Changed::To(Resolved::Delete(step.path.clone())),
            _ if self.sends_again(step) => match local {
                Some((entry, ids)) => {
                    let put = self.finder.resolve(step, entry, ids, self.uploaded).await?;
                    put.map_or(Changed::Not, |put| Changed::To(Resolved::Put(put)))
                }
                None => Changed::Not,
            },
            // From now on, the entry says that the archive was extracted, for machines that pull it later. A
            // snapshot that may lack some of the extracted files does not say so.
            _ if archive_extracted(step) => match &step.remote {
                Some(there) if self.attempt.cut.is_none() && self.late.is_empty() && !withheld => {
                    Changed::To(Resolved::Put(TreeEntry { extracted: true, ..there.0.clone() }))
                }
                _ => {
                    self.agrees = false;
                    Changed::Not
                }
            },
            _ => Changed::Not,
        })
    }

    /// Whether an unchanged file has chunks in packs that do not count.
    fn sends_again(&self, step: &PlanStep) -> bool {
        let is_late = |entry: &TreeEntry| entry.chunks.iter().any(|c| self.late.contains(&c.block.pack));
        step.decision.verdict == Verdict::Nothing && step.remote.as_ref().is_some_and(|r| is_late(&r.0))
    }

    /// Sets the base's row after a step.
    fn set(&mut self, step: &PlanStep, row: Option<Option<BaseRow>>) -> io::Result<()> {
        if let Some(row) = row {
            return self.next.set(&step.path, row);
        }
        if self.attempt.lost
            && step.decision.verdict == Verdict::HoldBack
            && let Some(base) = &step.base
        {
            // The row has to remember this, because with what is added now, the mount will no longer look
            // lost.
            self.agrees = false;
            return self.next.set(&step.path, Some(BaseRow { held: Held::Here, ..base.clone() }));
        }
        Ok(())
    }
}

/// Returns the row of an archive that the context says was extracted.
fn as_marked(row: Option<BaseRow>) -> Option<BaseRow> {
    row.map(|row| BaseRow { archive: row.archive.into_marked(), ..row })
}

/// Whether the step's archive was extracted here, and the context does not say so yet.
fn archive_extracted(step: &PlanStep) -> bool {
    let came_out = |there: &TreeEntry| archive_of(step, &there.entry).came_out();
    step.remote.as_ref().is_some_and(|there| !there.0.extracted && came_out(&there.0))
}

/// Finds the positions of a file's chunks.
struct Finder<'a> {
    chunks: &'a Chunks,
    /// The block of the last chunk; see [`Chunks::sent_near`].
    near: u32,
    lookup: Lookup<'a>,
}

impl Finder<'_> {
    async fn resolve(
        &mut self,
        step: &PlanStep,
        entry: &Entry,
        ids: &[(ChunkId, u32)],
        uploaded: i64,
    ) -> Result<Option<TreeEntry>, Error> {
        let mut chunks: Vec<ChunkRef> = Vec::with_capacity(ids.len());
        for (id, _) in ids {
            let found = match self.chunks.sent_near(id, &mut self.near) {
                Some(found) => Some(found),
                None => self.lookup.find(id).await?,
            };
            match found {
                Some(found) => chunks.push(found),
                None => return Ok(None),
            }
        }
        let entry = Entry { uploaded, ..entry.clone() };
        let extracted = archive_of(step, &entry).came_out();
        Ok(Some(TreeEntry { path: step.path.clone(), entry, extracted, recycled: false, chunks }))
    }
}
