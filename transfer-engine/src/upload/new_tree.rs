//! The new tree of an upload, and the base that goes with it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use policy_core::{Decision, Entry, Reason, TreePath, Verdict};

use super::conflict_copies::Copied;
use super::push::Attempt;
use crate::changes::LocalDelta;
use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, PackId, TreeEntry};
use crate::local::FileSystems;
use crate::mount::Mount;
use crate::packing::Chunks;
use crate::packing::PackSink;
use crate::plan::{PlanStep, archive_of};
use crate::state::{Archive, BaseHeader, BaseRow, DeltaRow, DeltaState, NextBase};
use crate::tree::{ChunkIndex, Lookup, Resolved, Tree, TreeUpdate, UpdatedTree};

impl Mount {
    /// Makes the new tree and the base that goes with it; `None` if a chunk is not where it was expected.
    #[expect(clippy::too_many_arguments, reason = "the one place where everything of an upload meets")]
    pub(super) async fn make_tree<'t>(
        &self,
        attempt: &Attempt<'_>,
        tree: &Tree<'t>,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        as_base: bool,
        chunks: &Arc<Chunks>,
        sink: &mut PackSink,
        copies: &[Copied],
        left_out: &BTreeSet<TreePath>,
        late: &[PackId],
        uploaded: i64,
    ) -> Result<Option<(UpdatedTree, NextBase, bool)>, Error> {
        let cannot_write = |e: io::Error| Error::local("write", self.files.next_base(), e);
        let mut next = self.next_base(header, &attempt.filter)?;
        let index = match chunks.head() {
            Some(index) if index.is_of(tree.snapshot) => index,
            // Another writer was first, and chunks are looked for in what it wrote.
            Some(_) => {
                let index = Arc::new(ChunkIndex::build(tree, late).await?);
                chunks.set_head(index.clone());
                sink.count_on_own(|id| tree.snapshot.packs.iter().any(|p| p.id == *id));
                index
            }
            None => Arc::new(ChunkIndex::default()),
        };
        let mut finder = Finder { chunks, near: 0, lookup: Lookup::new(tree.clone(), &index) };
        let mut update = TreeUpdate::new(tree.clone()).without(late.iter().copied());
        let mut copies = copies.iter().peekable();
        // With a part of the scope only, nothing is known about the rest but what the base says.
        let mut agrees = match (as_base, attempt.options.only.is_empty()) {
            (true, _) => true,
            (false, only_is_empty) => only_is_empty,
        } && attempt.filter.closed.is_empty();
        let file_systems = delta.file_systems.clone();
        let mut plan = self.plan(attempt, tree, header, delta, as_base)?;
        while let Some(mut step) = plan.next().await? {
            if left_out.contains(&step.path) {
                step.decision = Decision { verdict: Verdict::Withhold, reason: Reason::NeedsDeletion };
            }
            while let Some(copy) = copies.next_if(|c| c.entry.path < step.path) {
                update.apply(Resolved::Put(copy.entry.clone()), sink).await?;
            }
            let withheld = plan.withholds(&step);
            agrees &= !withheld;
            let base_after = base_after(&step, uploaded, &file_systems);
            // With a placeholder, a new file may have to be withheld.
            agrees &= agrees_after(&step, base_after.as_ref()) && !step.recycled;
            // A pending archive is something to do for the next download.
            let row_after = base_after.as_ref().map_or(step.base.as_ref(), Option::as_ref);
            agrees &= row_after.is_none_or(|row| row.archive != Archive::Pending);
            let sends_again = !late.is_empty()
                && step.decision.verdict == Verdict::Nothing
                && step
                    .remote
                    .as_ref()
                    .is_some_and(|r| r.0.chunks.iter().any(|c| late.contains(&c.block.pack)));
            match step.decision.verdict {
                Verdict::Write | Verdict::KeepBoth => match step.local.as_ref().and_then(DeltaRow::present) {
                    Some((entry, ids)) => {
                        let Some(put) = finder.resolve(&step, entry, ids, uploaded).await? else {
                            return Ok(None);
                        };
                        update.apply(Resolved::Put(put), sink).await?;
                    }
                    // Without a row of its own the mount holds what the base says: a directory, which
                    // keeps its mode while what is below it moves.
                    None => {
                        let kept = step.base.as_ref().filter(|b| step.local.is_none() && b.entry.is_dir());
                        let change = match kept {
                            Some(base) => {
                                Resolved::Put(TreeEntry::bare(step.path.clone(), base.entry.clone()))
                            }
                            None => Resolved::Delete(step.path.clone()),
                        };
                        update.apply(change, sink).await?;
                    }
                },
                Verdict::Delete => update.apply(Resolved::Delete(step.path.clone()), sink).await?,
                _ if sends_again => {
                    if let Some((entry, ids)) = step.local.as_ref().and_then(DeltaRow::present)
                        && let Some(put) = finder.resolve(&step, entry, ids, uploaded).await?
                    {
                        update.apply(Resolved::Put(put), sink).await?;
                    }
                }
                // What was extracted says so from now on, to machines that come later. A snapshot that may
                // lack what came out of it does not.
                _ if attempt.cut.is_none()
                    && late.is_empty()
                    && !withheld
                    && archive_extracted(&step)
                    && let Some(there) = &step.remote =>
                {
                    let marked = TreeEntry { extracted: true, ..there.0.clone() };
                    update.apply(Resolved::Put(marked), sink).await?;
                }
                _ => agrees &= !archive_extracted(&step),
            }
            if let Some(row) = base_after {
                next.set(&step.path, row).map_err(cannot_write)?;
            } else if attempt.lost
                && step.decision.verdict == Verdict::HoldBack
                && let Some(base) = &step.base
            {
                // With what is added now the mount will not look lost again: the row has to remember it.
                agrees = false;
                next.set(&step.path, Some(BaseRow { held: true, ..base.clone() })).map_err(cannot_write)?;
            }
        }
        drop(plan);
        for copy in copies {
            update.apply(Resolved::Put(copy.entry.clone()), sink).await?;
        }
        Ok(Some((update.finish(sink).await?, next, agrees)))
    }
}

/// Whether the step's archive was extracted here, and the context does not know yet.
fn archive_extracted(step: &PlanStep) -> bool {
    let came_out = |there: &TreeEntry| archive_of(step, &there.entry).came_out();
    step.remote.as_ref().is_some_and(|there| !there.0.extracted && came_out(&there.0))
}

/// Returns the row that the base has after the step: `None` leaves it as it was.
fn base_after(step: &PlanStep, now: i64, file_systems: &FileSystems) -> Option<Option<BaseRow>> {
    let writes = matches!(step.decision.verdict, Verdict::Write | Verdict::KeepBoth);
    let uploaded = step.remote.as_ref().filter(|_| !writes).map_or(now, |r| r.0.entry.uploaded);
    let local = || {
        step.local.as_ref().and_then(|row| match &row.state {
            DeltaState::Present { entry, seen, trusted, .. } => {
                let print = seen.filter(|_| *trusted);
                let kept = BaseRow::new(row.path.clone(), Entry { uploaded, ..entry.clone() }, print);
                Some(BaseRow { archive: archive_of(step, entry), ..kept.among(file_systems) })
            }
            _ => None,
        })
    };
    match (step.decision.verdict, step.decision.reason) {
        (Verdict::KeepBoth, _) if step.local.is_none() => None,
        // A directory that was implied, and that the context dropped: what implied it leaves the base, and
        // it must not look new afterwards.
        (_, Reason::DeletedThere | Reason::ChangedThere) if step.base.is_none() => local().map(Some),
        (Verdict::Write | Verdict::KeepBoth, _) => Some(local()),
        (Verdict::Delete, _) | (Verdict::Nothing, Reason::DeletedOnBoth) => Some(None),
        (Verdict::Nothing, Reason::SameChange | Reason::Unchanged) => local().map(Some),
        // So that it need not be read each time to know that it is what was recycled.
        (Verdict::Withhold, Reason::Recycled) => local().map(Some),
        _ => None,
    }
}

/// Whether the tree says after the step what the base says.
fn agrees_after(step: &PlanStep, base_after: Option<&Option<BaseRow>>) -> bool {
    let base = match base_after {
        Some(row) => row.as_ref().map(|r| &r.entry),
        None => step.base.as_ref().map(|r| &r.entry),
    };
    let tree = match step.decision.verdict {
        Verdict::Write | Verdict::Delete => return true,
        Verdict::KeepBoth => return false,
        _ => step.remote.as_ref().map(|r| &r.0.entry),
    };
    match (base, tree) {
        (None, None) => true,
        (Some(base), Some(tree)) => base.agrees_with(tree),
        // One of them lists a directory that the other implies.
        (Some(entry), None) => step.remote_implied && entry.agrees_with(&Entry::IMPLIED_DIR),
        (None, Some(_)) => false,
    }
}

/// Finds where the chunks of a file lie.
struct Finder<'a> {
    chunks: &'a Chunks,
    /// The block of the last one, by [`Chunks::sent_near`].
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
        // A change of its mode makes it no other archive.
        let extracted = archive_of(step, &entry).came_out() || {
            let same = step.remote.as_ref().filter(|there| there.0.entry.node == entry.node);
            same.is_some_and(|there| there.0.extracted)
        };
        Ok(Some(TreeEntry { path: step.path.clone(), entry, extracted, recycled: false, chunks }))
    }
}
