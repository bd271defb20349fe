//! Plans a push against one head, and commits on top of it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::{Decision, GitChanges, Reason, Towards, TreePath, Verdict};
use tokio::time::timeout;

use super::archives::Found;
use super::attempt::{Attempt, Attempted, Made, Onto};
use super::deadline::{Course, Cut};
use super::new_tree::TreeOrder;
use super::tally::Tally;
use crate::changes::LocalDelta;
use crate::changes::Specials;
use crate::commit::{Prepared, Published, written_after};
use crate::conflict_copies::{Copies, InTheWay};
use crate::count::count_are;
use crate::error::Error;
use crate::format::{Kind, PackId, Snapshot, StoreKey};
use crate::local::Flush;
use crate::mixed::Mixed;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Side, Silent, copy_reason};
use crate::mount::{Mount, Topic, may_lack};
use crate::packing::PackSink;
use crate::plan::{Plan, Remote};
use crate::report::SyncReport;
use crate::state::{BaseHeader, Cache, NextBase};
use crate::store::{Head, HeadKey};
use crate::tree::{Tree, UpdatedTree};

/// The time limit for checking for lost packs.
const LOOK: Duration = Duration::from_secs(2);

impl Mount {
    /// Plans what was read against a head, and commits it there.
    pub(super) async fn commit(
        &self,
        attempt: &mut Attempt<'_>,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        sink: &mut PackSink,
    ) -> Result<Attempted, Error> {
        let cache = self.cache();
        let onto = &self.onto(attempt, head, header, &cache);
        let mut report = delta.stats.report(head);
        if onto.as_base
            && let Some(aging) = &mut attempt.aging
        {
            aging.note_base(self.base_rows(header, &attempt.job.filter, attempt.job.options)?)?;
            report.next_expiry = aging.first();
        }
        if onto.as_base && !delta.has_rows() {
            self.tell_specials(&delta.stats.specials, attempt, &mut report);
            return Ok(Attempted::Done(Box::new(report)));
        }
        attempt.job.monitor.phase(Phase::Planning);
        (attempt.needed, delta.git) = Default::default();
        let mut tally = self.tally(attempt, onto, delta, &mut report).await?;
        let (mut copies, mut stale) = (Copies::default(), Vec::new());
        if !tally.stopped {
            stale = self.stale_logs(&tally, onto, attempt).await?;
            tally.deleted += stale.len() as u64;
            copies = self.name_copies(&mut tally, onto, delta, attempt).await?;
            report.failed += copies.unplaced.len() as u64;
            tally.added += copies.made.len() as u64;
            if !attempt.told {
                copies.tell(copy_reason, attempt.job.monitor);
            }
        }
        // After a round, the next round reports what this one leaves out.
        attempt.told = attempt.cut != Some(Cut::Round);
        if tally.stopped || attempt.job.options.dry_run {
            report.stopped_by_conflict = tally.stopped;
            if !tally.stopped {
                (report.added, report.changed, report.deleted) = (tally.added, tally.changed, tally.deleted);
            }
            return Ok(Attempted::Done(Box::new(report)));
        }
        // What was to be read and still is not can't be read now, or has not been reached yet. A later push sends it.
        if attempt.cut.is_none() && !tally.objects.is_subset(&attempt.objects) {
            return Ok(Attempted::Objects(tally.objects));
        }
        let writes = tally.added + tally.changed + report.conflicts > 0 || !onto.late.is_empty();
        let uploaded = self.upload_time(attempt, head, writes, sink).await?;
        copies.note_upload(uploaded);
        let gathered = match writes && attempt.may_gather {
            true => self.gather(attempt, onto, sink).await,
            false => BTreeSet::new(),
        };
        let order = TreeOrder { copies, stale, uploaded, gathered, sink };
        match self.make_fitting_tree(attempt, onto, delta, order, &mut report).await? {
            Some(made) => self.put(attempt, made, delta, sink, report).await,
            None => Ok(Attempted::Rehash),
        }
    }

    /// Returns the journals and logs that the context has beside databases that are sent, where this mount leaves them out.
    /// They are of older versions: SQLite would write their pages over the new ones.
    async fn stale_logs(
        &self,
        tally: &Tally,
        onto: &Onto<'_>,
        attempt: &Attempt<'_>,
    ) -> Result<Vec<TreePath>, Error> {
        let mut stale = Vec::new();
        for path in &tally.outdated {
            let there = onto.tree.find(&self.part.outer(path)).await?;
            let Some(there) = there.filter(|there| !there.recycled && !there.entry.is_dir()) else {
                continue;
            };
            stale.push(path.clone());
            if attempt.told {
                continue;
            }
            let monitor = attempt.job.monitor;
            let (action, side, reason) = (Action::Delete, Side::Store, "of another version of its database");
            monitor.path(&PathEvent { path, action, side, reason, size: there.entry.size() });
            monitor.warning(&format!(
                "the context's {path} is of another version of its database, and this mount leaves it out: it is deleted \
                 in the context, since it would damage the new version; snapshot {} has both",
                onto.head.key.number
            ));
        }
        Ok(stale)
    }

    /// Gives each conflict copy a name that is free in the mount and in the context.
    async fn name_copies(
        &self,
        tally: &mut Tally,
        onto: &Onto<'_>,
        delta: &mut LocalDelta,
        attempt: &Attempt<'_>,
    ) -> Result<Copies, Error> {
        let cannot_read = |e: io::Error| Error::local("read", self.files.dir(), e);
        let here = |open: &_| {
            let mut found = InTheWay::of(open);
            for row in delta.read().map_err(cannot_read)? {
                let row = row.map_err(cannot_read)?;
                if let Some((entry, _)) = row.present() {
                    found.note(&row.path, entry);
                }
            }
            Ok(found.found())
        };
        let copies = std::mem::take(&mut tally.copies);
        Copies::name(copies, &onto.part(&self.part), &tally.going, here, attempt.job.monitor).await
    }

    /// Whether base and head agree on all paths in scope.
    pub(super) fn agrees(&self, header: Option<&BaseHeader>, head: &Head) -> bool {
        Self::is_same_head(header, &head.key)
            && header.is_some_and(|h| h.agrees && h.scope == self.scope_digest())
    }

    fn onto<'a>(
        &'a self,
        attempt: &Attempt<'_>,
        head: &'a Head,
        header: Option<&'a BaseHeader>,
        cache: &'a Cache,
    ) -> Onto<'a> {
        let late = attempt.job.sent_again(head);
        let as_base = self.agrees(header, head)
            && late.is_empty()
            // A dry run reports every file that would be recycled, so it needs all steps.
            && !(attempt.job.options.dry_run && attempt.aging.is_some());
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(cache) };
        Onto { head, tree, header, late, as_base }
    }

    /// Runs the plan for the first time, to report and count what will be done.
    async fn tally(
        &self,
        attempt: &mut Attempt<'_>,
        onto: &Onto<'_>,
        delta: &mut LocalDelta,
        report: &mut SyncReport,
    ) -> Result<Tally, Error> {
        let (options, monitor) = (attempt.job.options, attempt.job.monitor);
        let mut tally = Tally { outside: delta.together.outside.clone(), ..Tally::default() };
        let (mut archives, mut later) = (Vec::new(), Vec::new());
        let (mut git, mut mixed) = (GitChanges::default(), Mixed::default());
        let mut plan = self.plan(attempt, onto, delta)?;
        while let Some(step) = plan.next().await? {
            if !onto.as_base {
                git.note(&step);
                mixed.note(&step);
            }
            match Found::of(&step) {
                Some(found) => {
                    archives.push(found);
                    later.push(step);
                }
                // Whether it goes depends on what may come after it.
                None if !onto.as_base && GitChanges::concerns(&step) => later.push(step),
                None => tally.note(&step, attempt, report),
            }
        }
        drop(plan);
        let told: &dyn Monitor = if attempt.told { &Silent } else { monitor };
        report.conflicts += mixed.tell(attempt.job.dir, told).await;
        delta.git = Arc::new(git);
        attempt.needed = self.still_needed(attempt, onto, delta, archives).await?;
        for mut step in later {
            if step.decision.verdict == Verdict::Delete && attempt.needed.contains(&step.path) {
                step.decision = Decision { verdict: Verdict::Keep, reason: Reason::ExtractedKept };
            }
            step.decision = delta.git.keeps(&step, Towards::Store).unwrap_or(step.decision);
            tally.note(&step, attempt, report);
        }
        self.tell_specials(&delta.stats.specials.without(&tally.in_the_way), attempt, report);
        if let Some(aging) = &attempt.aging {
            (report.recycled, report.next_expiry) =
                if options.dry_run { (aging.expired(), aging.next()) } else { (0, aging.first()) };
        }
        if !delta.is_whole || !options.only.is_empty() {
            return Ok(tally);
        }
        // Rows that an earlier push held back are not in the plan; their paths look as if they had never been
        // pulled.
        let held = onto.header.filter(|_| !options.allow_empty_mount).map_or(0, |h| h.held);
        report.held_back += held;
        report.pending = report.pending.saturating_sub(held);
        if held > 0 && !attempt.told && !attempt.lost {
            monitor.warning(&format!(
                "{} still held back, because an earlier push found the mount lost",
                count_are(held, "deletion")
            ));
        }
        if !attempt.told {
            let mut marks = delta.marks.clone();
            if let Some(there) = tally.marks.take().filter(|_| !onto.as_base) {
                marks.merge(&there);
            }
            self.warn_unmatched(&marks, monitor);
        }
        Ok(tally)
    }

    /// Returns the time for what the new snapshot writes, by the store's clock, in seconds since 1970.
    async fn upload_time(
        &self,
        attempt: &Attempt<'_>,
        head: &Head,
        writes: bool,
        sink: &mut PackSink,
    ) -> Result<i64, Error> {
        let recycles = attempt.aging.is_some() || head.snapshot.recycle.lifecycle_days.is_some();
        if recycles && writes {
            // The packs that have landed tell the store's time.
            sink.flush(attempt.job.monitor).await?;
        }
        self.store.upload_time(head, recycles && writes, sink.last_landed()).await
    }

    /// Runs the plan a second time, to make the tree. That a new file conflicts with an entry that stays is
    /// known only at the end; then the tree is made again without the file.
    async fn make_fitting_tree<'a>(
        &self,
        attempt: &mut Attempt<'_>,
        onto: &'a Onto<'a>,
        delta: &mut LocalDelta,
        mut order: TreeOrder<'_>,
        report: &mut SyncReport,
    ) -> Result<Option<Made<'a>>, Error> {
        let mut left_out: BTreeSet<TreePath> = std::mem::take(&mut order.copies.unplaced);
        let made = loop {
            let Some(made) = self.make_tree(attempt, onto, delta, &mut order, &left_out).await? else {
                return Ok(None);
            };
            if made.tree.blocked.is_empty() {
                break made;
            }
            for path in &made.tree.blocked {
                report.failed += 1;
                attempt.job.monitor.problem(&PathProblem {
                    path: path.clone(),
                    message: "something out of scope in the context is in its way".to_owned(),
                    hint: "remove or rename it in the context".to_owned(),
                });
            }
            order.copies.give_up(&made.tree.blocked);
            left_out.append(&mut order.copies.unplaced);
            left_out.extend(made.tree.blocked);
        };
        if !order.copies.made.is_empty() && !attempt.job.course.pace.has_deadline() {
            // The copies were put into the mount after the last flush began.
            attempt.flush = Some(Flush::begin(attempt.job.dir, delta.file_systems.all()));
        }
        let agrees = made.agrees && left_out.is_empty() && order.copies.made.is_empty();
        Ok(Some(Made { agrees, ..made }))
    }

    /// Commits the new snapshot, if there is anything new in it.
    async fn put(
        &self,
        attempt: &mut Attempt<'_>,
        made: Made<'_>,
        delta: &LocalDelta,
        sink: &mut PackSink,
        report: SyncReport,
    ) -> Result<Attempted, Error> {
        let Made { tree, next, agrees, onto } = made;
        let as_now = self.header_of(onto.head, agrees).await?;
        let (sent, flushed) = tokio::join!(sink.flush(attempt.job.monitor), self.flushed_by(attempt));
        sent?;
        // If the base is not written, the next sync finds that both sides are equal.
        let mut report = SyncReport { unnoted: flushed == Flushed::Failed, ..report };
        let noted = self.files.is_unflushed()?;
        let is_behind = attempt.job.options.flush_behind || noted;
        let rests = flushed == Flushed::Not && delta.has_rows() && is_behind;
        // From the commit on, nothing of the state is read.
        let noted = noted || rests;
        let next = (flushed != Flushed::Failed).then_some(next);
        let next = NextHeader { next, as_now, rests, fresh: onto.header.is_none() };
        if tree.is_unchanged() {
            report.unnoted |= !next.keep(self, noted, attempt.job.monitor)?;
            self.end_note(flushed, noted)?;
            return Ok(Attempted::Done(Box::new(report)));
        }
        attempt.job.monitor.phase(Phase::Committing);
        let prepared = self.prepare(attempt, &tree, onto, delta.unsettled, sink)?;
        let number = onto.head.key.number + 1;
        // After a crash from here on, both the base and the next base may be valid; the store decides.
        let header = next.finish(self, number, &prepared, attempt.job.monitor)?;
        report.unnoted |= header.is_none();
        let course = attempt.job.course;
        course.committing(Some(number));
        let (published, mut lost) = tokio::join!(
            self.store.publish(prepared, Some(&onto.head.key)),
            self.look_for_lost(course, onto.head)
        );
        course.committing(None);
        let (head, is_late) = match published? {
            Published::Ours(head) => (head, false),
            Published::Late(head) => (head, true),
            Published::Theirs => {
                self.files.drop_next()?;
                return Ok(Attempted::Beaten);
            }
        };
        self.cache().put(&head.digest, &head.bytes);
        if let Some(header) = header {
            let header = BaseHeader { head: head.key.clone(), ..header };
            // The next sync finds the next base, and its snapshot in the store.
            match self.files.adopt_next(&header, noted).and_then(|()| self.end_note(flushed, noted)) {
                Ok(()) => {}
                Err(e) => attempt.job.monitor.warning(&unnoted(&e)),
            }
        }
        if is_late {
            return Ok(Attempted::Late);
        }
        self.trim_cache(&head);
        // What this push has sent again, or has no use for, is not missing any more.
        lost.retain(|lost| head.snapshot.packs.iter().any(|pack| pack.id == *lost));
        self.tell_lost(&lost, attempt.job.monitor);
        let report = SyncReport {
            lost_packs: lost.len() as u64,
            snapshot: Some(number),
            parent: Some(onto.head.key.number),
            added: tree.changes.added,
            changed: tree.changes.changed,
            deleted: tree.changes.deleted,
            mount_unsettled: delta.unsettled,
            total_bytes: tree.totals.bytes,
            bytes_stored: sink.stored + head.bytes.len() as u64,
            ..report
        };
        Ok(Attempted::Done(Box::new(report)))
    }

    /// Makes the snapshot of a new tree.
    fn prepare(
        &self,
        attempt: &Attempt<'_>,
        tree: &UpdatedTree,
        onto: &Onto<'_>,
        unsettled: bool,
        sink: &PackSink,
    ) -> Result<Prepared, Error> {
        let head = onto.head;
        let listed = tree.list(&onto.tree, sink)?;
        let (recycle, is_noted) = self.recycle_rules(&head.snapshot.recycle);
        let unnoted = "the context has recycle rules with another lifecycle: those of this mount are carried out only \
                       by its own pushes, and not by `ctxsync gc`";
        self.warn_of(Topic::Recycling, (!is_noted).then(|| unnoted.to_owned()), attempt.job.monitor);
        let snapshot = Snapshot {
            number: head.key.number + 1,
            store_id: head.snapshot.store_id,
            context: self.context.clone(),
            lineage: head.snapshot.lineage,
            parent: Some(head.digest),
            kind: Kind::Normal,
            created: self.store.env().now(),
            session: attempt.job.options.session.clone(),
            nonce: self.store.random()?,
            policy: self.scope_digest(),
            recycle,
            totals: tree.totals,
            changes: tree.changes,
            partial: attempt.cut.is_some(),
            extensions: written_after(&head.snapshot),
            packs: listed.packs,
            segments: listed.segments,
            inline: listed.inline,
        };
        let snapshot = snapshot.with_let_go(&tree.let_go);
        Prepared::of(if unsettled { snapshot.marked_unsettled() } else { snapshot })
    }

    /// Reports the files that no context can store, and that are not in the way of anything.
    fn tell_specials(&self, specials: &Specials, attempt: &Attempt<'_>, report: &mut SyncReport) {
        if attempt.job.options.strict {
            report.failed += specials.total;
        }
        if attempt.told {
            return;
        }
        if attempt.job.options.strict {
            specials.tell_failed(attempt.job.monitor);
        }
        self.warn_of(Topic::Specials, specials.warning(), attempt.job.monitor);
    }

    /// Checks for lost packs of the head. With a deadline it does nothing, because a release has no time for
    /// it.
    async fn look_for_lost(&self, course: &Course, head: &Head) -> Vec<PackId> {
        if course.pace.has_deadline() {
            return Vec::new();
        }
        timeout(LOOK, self.store.lost_packs(head)).await.unwrap_or_default()
    }

    fn tell_lost(&self, lost: &[PackId], monitor: &dyn Monitor) {
        for id in lost {
            monitor.warning(&format!(
                "{} is missing from the store and holds files of {context}, which can't be pulled: `ctxsync check \
                 {context}` names them, and `ctxsync push --heal` on a machine that has them sends them again",
                StoreKey::Pack(*id).path(),
                context = self.context,
            ));
        }
    }

    /// Ends the note of syncs without a flush, if the mount was flushed.
    fn end_note(&self, flushed: Flushed, noted: bool) -> Result<(), Error> {
        if noted && flushed == Flushed::Done { self.files.settle(true) } else { Ok(()) }
    }

    /// Waits for the flush of the mount, if one has begun.
    async fn flushed_by(&self, attempt: &mut Attempt<'_>) -> Flushed {
        let Some(flush) = attempt.flush.take() else { return Flushed::Not };
        match flush.end().await {
            Ok(()) => Flushed::Done,
            Err(e) => {
                attempt.job.monitor.warning(&may_lack(&e));
                Flushed::Failed
            }
        }
    }

    pub(super) fn plan<'a>(
        &self,
        attempt: &Attempt<'_>,
        onto: &Onto<'a>,
        delta: &'a mut LocalDelta,
    ) -> Result<Plan<'a>, Error> {
        let (unread, folded) = (delta.stats.unread.as_slice().into(), delta.together.folded.clone());
        let git = Arc::clone(&delta.git);
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let remote = if onto.as_base {
            Remote::AsBase
        } else {
            let tree = onto.part(&self.part);
            Remote::Segments(tree.segments(tree.all()))
        };
        let base = self.base_rows(onto.header, &attempt.job.filter, attempt.job.options)?;
        let rules = self.rules(attempt.job.options, attempt.hold);
        let plan =
            Plan::new(rules, Towards::Store, base, Box::new(local), remote, attempt.job.filter.clone());
        let plan = plan.without(unread).needing(attempt.needed.clone());
        Ok(plan.with_folded(folded).knowing(onto.head.snapshot.let_go()).with_git(git))
    }
}

/// The base of a new snapshot, until that is committed.
struct NextHeader {
    /// `None` if it must not be written.
    next: Option<NextBase>,
    /// The header of a base for the current head.
    as_now: BaseHeader,
    /// Whether it lists what the mount's disk may not have yet.
    rests: bool,
    /// Whether there was no base that matches the head.
    fresh: bool,
}

/// Whether everything that the next base would list is on the mount's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushed {
    Done,
    /// It may not be, and need not be.
    Not,
    /// It could not be flushed.
    Failed,
}

impl NextHeader {
    /// Makes the next base the base for the current head, and returns whether that could be done.
    fn keep(self, mount: &Mount, noted: bool, monitor: &dyn Monitor) -> Result<bool, Error> {
        let (rests, fresh, as_now) = (self.rests, self.fresh, self.as_now.clone());
        if rests && self.next.is_some() {
            mount.files.note_unflushed(&as_now, fresh)?;
        }
        let header = self.write(mount, as_now, false, monitor)?;
        header.map_or(Ok(false), |header| mount.files.adopt_next(&header, noted).map(|()| true))
    }

    /// Writes the base of a snapshot that is about to be put under this number; `None` if it can't be written.
    fn finish(
        self,
        mount: &Mount,
        number: u64,
        prepared: &Prepared,
        monitor: &dyn Monitor,
    ) -> Result<Option<BaseHeader>, Error> {
        let header = BaseHeader {
            head: HeadKey { number, size: prepared.len(), e_tag: None, landed: 0 },
            digest: prepared.digest(),
            ..self.as_now.clone()
        };
        if self.rests && self.next.is_some() {
            mount.files.note_unflushed(&header, self.fresh)?;
        }
        // With a note, it counts only as long as the page cache lasts.
        let durably = !self.rests;
        self.write(mount, header, durably, monitor)
    }

    /// Writes the base, or nothing: without it, the next sync compares the mount with the context. That is no reason to
    /// lose what the mount has.
    fn write(
        self,
        mount: &Mount,
        header: BaseHeader,
        durably: bool,
        monitor: &dyn Monitor,
    ) -> Result<Option<BaseHeader>, Error> {
        if let Some(mut next) = self.next {
            next.take_rest().map_err(|e| Error::local("read", mount.files.dir(), e))?;
            match next.finish(header, durably) {
                Ok(header) => return Ok(Some(header)),
                Err(e) => monitor.warning(&unnoted(&Error::local("write", mount.files.next_base(), e))),
            }
        }
        mount.files.drop_next()?;
        Ok(None)
    }
}

/// Says that the local state does not know of a push.
fn unnoted(e: &Error) -> String {
    let cause = std::error::Error::source(e).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!(
        "this machine could not note what was pushed, so the next sync compares all files, and what changes until then may be \
         in conflict: {e}{cause}"
    )
}
