//! Planning against one head, and the commit on top of it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::{Towards, TreePath};
use tokio::time::timeout;

use super::conflict_copies::Copies;
use super::deadline::{Course, Cut};
use super::push::{Attempt, Outcome};
use super::tally::Tally;
use crate::changes::LocalDelta;
use crate::changes::Specials;
use crate::commit::{Prepared, Published, written_here};
use crate::error::Error;
use crate::format::{Kind, PackId, Snapshot, StoreKey};
use crate::local::Flush;
use crate::monitor::{Monitor, PathProblem, Phase};
use crate::mount::{Mount, Topic, may_lack};
use crate::packing::Chunks;
use crate::packing::PackSink;
use crate::plan::{Plan, Remote};
use crate::report::SyncReport;
use crate::state::BaseHeader;
use crate::store::{Head, HeadKey};
use crate::tree::Tree;

/// How long it is looked for packs that are lost.
const LOOK: Duration = Duration::from_secs(2);

impl Mount {
    #[expect(clippy::too_many_arguments, reason = "the one place where everything of an upload meets")]
    pub(super) async fn commit(
        &self,
        attempt: &mut Attempt<'_>,
        course: &Course,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        chunks: &Arc<Chunks>,
        sink: &mut PackSink,
    ) -> Result<Outcome, Error> {
        let (options, monitor) = (attempt.options, attempt.monitor);
        let late = head.late_packs();
        let as_base = Self::is_same_head(header, &head.key)
            && header.is_some_and(|h| h.agrees && h.scope == self.scope_digest())
            && late.is_empty()
            // A plan tells of every file that would be recycled.
            && !(options.dry_run && attempt.aging.is_some());
        let stats = delta.stats.clone();
        let mut report = stats.report(head);
        if as_base && let Some(aging) = &mut attempt.aging {
            aging.note_base(self.base_rows(header, &attempt.filter, options)?)?;
            report.next_expiry = aging.first();
        }
        if as_base && !delta.has_rows() {
            self.tell_specials(&stats.specials, attempt, &mut report);
            return Ok(Outcome::Done(Box::new(report)));
        }

        monitor.phase(Phase::Planning);
        let cache = self.cache();
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        let mut tally = Tally::default();
        let mut plan = self.plan(attempt, &tree, header, delta, as_base)?;
        while let Some(step) = plan.next().await? {
            tally.note(&step, attempt, &mut report);
        }
        drop(plan);
        self.tell_specials(&stats.specials.without(&tally.in_the_way), attempt, &mut report);
        if let Some(aging) = &attempt.aging {
            (report.recycled, report.next_expiry) =
                if options.dry_run { (aging.expired(), aging.next()) } else { (0, aging.first()) };
        }
        let knows_all = delta.is_whole && options.only.is_empty();
        // Rows that an earlier upload held back are not in the plan, where their paths look as if they had
        // never been brought.
        let held = header.filter(|_| knows_all && !options.allow_empty_mount).map_or(0, |h| h.held);
        report.held_back += held;
        report.pending = report.pending.saturating_sub(held);
        if held > 0 && !attempt.told && !attempt.lost {
            monitor.warning(&format!(
                "{held} deletions are still held back, since the mount was taken as lost by an earlier upload"
            ));
        }
        if !attempt.told && !as_base && knows_all {
            let mut marks = delta.marks.clone();
            marks.merge(&tally.marks.take().unwrap_or_else(|| policy_core::ListMarks::new(&self.scope)));
            self.warn_unmatched(&marks, monitor);
        } else if !attempt.told && knows_all {
            self.warn_unmatched(&delta.marks, monitor);
        }
        let mut copies = Copies::default();
        if !tally.stopped {
            copies = self.settle_copies(std::mem::take(&mut tally.copies), &tree, delta, attempt).await?;
            report.failed += copies.unplaced.len() as u64;
            tally.added += copies.made.len() as u64;
            if !attempt.told {
                copies.tell(attempt);
            }
        }
        // The rounds to come tell of what this one leaves out.
        attempt.told = attempt.cut != Some(Cut::Round);
        if tally.stopped {
            report.stopped_by_conflict = true;
            return Ok(Outcome::Done(Box::new(report)));
        }
        if options.dry_run {
            (report.added, report.changed, report.deleted) = (tally.added, tally.changed, tally.deleted);
            return Ok(Outcome::Done(Box::new(report)));
        }
        let recycles = attempt.aging.is_some() || head.snapshot.recycle.lifecycle_days.is_some();
        let writes = tally.added + tally.changed + report.conflicts > 0 || !late.is_empty();
        if recycles && writes {
            // What has landed tells the store's time.
            sink.flush().await?;
        }
        let uploaded = self.store.upload_time(head, recycles && writes, sink.last_landed()).await?;

        // Once more, this time for real. A file that can't stand beside what stays is left out, which
        // shows only at the end; then the tree is made again without it.
        let mut left_out: BTreeSet<TreePath> = std::mem::take(&mut copies.unplaced);
        let (updated, next, agrees) = loop {
            let made = self
                .make_tree(
                    attempt,
                    &tree,
                    header,
                    delta,
                    as_base,
                    chunks,
                    sink,
                    &copies.made,
                    &left_out,
                    &late,
                    uploaded,
                )
                .await?;
            let Some((updated, next, agrees)) = made else { return Ok(Outcome::Rehash) };
            if updated.blocked.is_empty() {
                break (updated, next, agrees);
            }
            for path in &updated.blocked {
                report.failed += 1;
                monitor.problem(&PathProblem {
                    path: path.clone(),
                    message: "something out of scope in the context is in its way".to_owned(),
                    hint: "remove or rename it in the context".to_owned(),
                });
            }
            copies.give_up(&updated.blocked);
            left_out.append(&mut copies.unplaced);
            left_out.extend(updated.blocked);
        };
        let agrees = agrees && left_out.is_empty() && copies.made.is_empty();

        let as_now = self.header_of(head, agrees).await?;
        let cannot_write = |e: io::Error| Error::local("write", self.files.next_base(), e);
        if !copies.made.is_empty() && !course.pace.has_deadline() {
            // They were put there since.
            attempt.flush = Some(Flush::begin(attempt.dir, delta.file_systems.all()));
        }
        let (sent, noted) = tokio::join!(sink.flush(), may_be_noted(attempt));
        sent?;
        if updated.is_unchanged() {
            if noted {
                let header = next.finish(as_now).map_err(cannot_write)?;
                self.files.adopt_next(&header)?;
            } else {
                self.files.drop_next()?;
            }
            return Ok(Outcome::Done(Box::new(report)));
        }

        monitor.phase(Phase::Committing);
        let listed = updated.list(&tree, sink)?;
        let number = head.key.number + 1;
        let snapshot = Snapshot {
            number,
            store_id: head.snapshot.store_id,
            context: self.context.clone(),
            lineage: head.snapshot.lineage,
            parent: Some(head.digest),
            kind: Kind::Normal,
            created: self.store.env().now(),
            session: options.session.clone(),
            nonce: self.store.random()?,
            policy: self.scope_digest(),
            recycle: self.recycle_rules(),
            totals: updated.totals,
            changes: updated.changes,
            partial: attempt.cut.is_some(),
            extensions: written_here(),
            packs: listed.packs,
            segments: listed.segments,
            inline: listed.inline,
        };
        let snapshot = if delta.unsettled { snapshot.marked_unsettled() } else { snapshot };
        let prepared = Prepared::of(snapshot)?;
        // From here on a crash leaves the choice between the base and the next one, and the store decides.
        let header = BaseHeader {
            head: HeadKey { number, size: prepared.len(), e_tag: None, landed: 0 },
            digest: prepared.digest(),
            ..as_now
        };
        let header = if noted {
            next.finish(header).map_err(cannot_write)?
        } else {
            // What is committed is found to be equal by the next sync.
            self.files.drop_next()?;
            header
        };
        course.committing(Some(number));
        let (published, lost) = tokio::join!(self.store.publish(prepared), self.look_for_lost(course, head));
        course.committing(None);
        let (new_head, is_late) = match published? {
            Published::Ours(head) => (head, false),
            Published::Late(head) => (head, true),
            Published::Theirs => {
                self.files.drop_next()?;
                return Ok(Outcome::Beaten);
            }
        };
        cache.put(&new_head.digest, &new_head.bytes);
        if noted {
            self.files.adopt_next(&BaseHeader { head: new_head.key.clone(), ..header })?;
        }
        if is_late {
            return Ok(Outcome::Late);
        }
        self.trim_cache(&new_head);
        self.tell_lost(&lost, monitor);
        report.lost_packs = lost.len() as u64;
        report.snapshot = Some(number);
        report.parent = Some(head.key.number);
        report.added = updated.changes.added;
        report.changed = updated.changes.changed;
        report.deleted = updated.changes.deleted;
        report.mount_unsettled = delta.unsettled;
        report.total_bytes = updated.totals.bytes;
        report.bytes_stored = sink.stored + new_head.bytes.len() as u64;
        Ok(Outcome::Done(Box::new(report)))
    }

    /// Tells of what no context can hold, and of which nothing is in the way of anything.
    fn tell_specials(&self, specials: &Specials, attempt: &Attempt<'_>, report: &mut SyncReport) {
        if attempt.options.strict {
            report.failed += specials.total;
        }
        if attempt.told {
            return;
        }
        if attempt.options.strict {
            specials.tell_failed(attempt.monitor);
        }
        self.warn_of(Topic::Specials, specials.warning(), attempt.monitor);
    }

    /// Looks for packs of the head that are lost. Nobody waits for that: a release has something better to do.
    async fn look_for_lost(&self, course: &Course, head: &Head) -> Vec<PackId> {
        if course.pace.has_deadline() {
            return Vec::new();
        }
        timeout(LOOK, self.store.lost_packs(head)).await.unwrap_or_default()
    }

    fn tell_lost(&self, lost: &[PackId], monitor: &dyn Monitor) {
        for id in lost {
            monitor.warning(&format!(
                "{} is not in the store any more, and files of {} lie in it, which can't be brought; put the object back \
                 from a copy of the store, or save those files again, changed, from a machine that has them",
                StoreKey::Pack(*id).path(),
                self.context,
            ));
        }
    }

    pub(super) fn plan<'a>(
        &self,
        attempt: &Attempt<'_>,
        tree: &Tree<'a>,
        header: Option<&BaseHeader>,
        delta: &'a mut LocalDelta,
        as_base: bool,
    ) -> Result<Plan<'a>, Error> {
        let (unread, folded) = (delta.stats.unread.as_slice().into(), delta.together.folded.clone());
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let remote = if as_base {
            Remote::AsBase
        } else {
            Remote::Segments(Box::pin(tree.segments(0..tree.snapshot.segments.len())))
        };
        let base = self.base_rows(header, &attempt.filter, attempt.options)?;
        let rules = self.rules(attempt.options, attempt.hold);
        let plan = Plan::new(rules, Towards::Store, base, Box::new(local), remote, attempt.filter.clone());
        Ok(plan.without(unread).with_folded(folded))
    }
}

/// Waits until the mount's disk has what the next base would know of it, and says whether it may: what a base knows of
/// and a loss of power took counts as deleted.
async fn may_be_noted(attempt: &mut Attempt<'_>) -> bool {
    let Some(flush) = attempt.flush.take() else { return true };
    let flushed = flush.end().await.inspect_err(|e| attempt.monitor.warning(&may_lack(e)));
    flushed.is_ok()
}
