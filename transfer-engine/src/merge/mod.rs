//! Merging one context into another, without a mount: what changed in one since both were the same is done in the
//! other as well. Contents stay in their packs, which both then refer to.
//!
//! ```text
//! base: the newest snapshot that both contain ──┐
//! into: the head of the one that is written ────┼─► decisions, as in a pull ─► tree ─► snapshot, put if absent
//! from: the snapshot that is merged ────────────┘                                └─ beaten: on the new head
//! ```

mod ancestor;
mod sides;
mod sink;
mod told;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::TryStreamExt;
use policy_core::{ConflictPolicy, Entry, GitChanges, MaxDelete, Rules, Towards, TreePath, Verdict};

use crate::commit::{Attempts, Prepared, Published, written_after};
use crate::conflict_copies::{Copied, Copies, InTheWay};
use crate::edit::Parent;
use crate::error::Error;
use crate::forks::Source;
use crate::format::{Ancestor, ContextName, Kind, Snapshot, TreeEntry, joined};
use crate::monitor::{Monitor, PathProblem, Phase};
use crate::packing::{Chunks, PackSink};
use crate::report::SyncReport;
use crate::store::{At, Head, Store};
use crate::tree::{PartTree, Resolved, Tree, TreeUpdate, UpdatedTree};

use sides::{MergeStep, Steps, brings_mark};
use sink::Taking;
use told::Telling;

/// How many heads a merge is tried on. Many machines may merge into one context at once.
const ATTEMPTS: u32 = 100;

/// How a context is merged into another.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Plans and reports, but changes nothing.
    pub dry_run: bool,
    /// Merges only these paths, and what is below them. The next merge considers everything again.
    pub only: Vec<TreePath>,
    /// What happens to a path that both changed. The local version is that of the context that is merged into.
    pub conflict: ConflictPolicy,
    /// Holds all deletions back if there are more.
    pub max_delete: Option<MaxDelete>,
    /// Allows that everything is deleted, if nothing is left in what is merged.
    pub allow_empty: bool,
    /// Merges contexts that have no snapshot in common: everything counts as added in both.
    pub unrelated: bool,
    /// The number of concurrent requests.
    pub concurrency: NonZeroUsize,
    /// Roughly how many bytes of memory a merge may take.
    pub memory: u64,
    /// The session's name in the snapshot.
    pub session: String,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            only: Vec::new(),
            conflict: ConflictPolicy::KeepBoth,
            max_delete: None,
            allow_empty: false,
            unrelated: false,
            concurrency: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            memory: 256 << 20,
            session: String::new(),
        }
    }
}

/// A merge onto one head.
struct Merge<'a> {
    store: &'a Store,
    options: &'a MergeOptions,
    monitor: &'a dyn Monitor,
    /// The newest common snapshots; the first is the base.
    bases: Vec<Arc<Snapshot>>,
    parent: &'a Parent,
    source: &'a Source,
    telling: Telling<'a>,
}

/// What keeps deletions from being carried out.
#[derive(Clone, Copy)]
struct Kept<'a> {
    /// Whether a guard holds all of them back.
    hold: bool,
    /// What each side has changed in git repositories.
    git: &'a GitChanges,
}

/// What a plan comes to.
#[derive(Default)]
struct Tally {
    report: SyncReport,
    /// Whether what is merged differs from the base.
    differs: bool,
    /// The versions that are kept beside others.
    copies: Vec<Copied>,
    /// Conflict copies that are deleted.
    going: BTreeSet<TreePath>,
    /// What the merge writes at paths that may be names of conflict copies.
    writes: Vec<(TreePath, Entry)>,
    /// What each side has changed in git repositories.
    git: GitChanges,
}

impl Store {
    /// Merges a snapshot of a context into the head of another one: the head of `from`, or the one that `at` names
    /// as in [`Store::snapshot`]. What `from` changed since the newest snapshot that both contain is changed in `into`
    /// as well; a path that both changed is a conflict.
    ///
    /// The snapshot that it commits remembers what it merged, so that the next merge begins there. It does not if a
    /// deletion was held back, a path failed, or only some paths were asked for.
    ///
    /// # Errors
    /// [`Error::NoContext`] and [`Error::NoSnapshot`]; [`Error::Unrelated`] if the two have no snapshot in common that
    /// is not forgotten; [`Error::Beaten`] if other writers kept winning.
    pub async fn merge_context(
        &self,
        from: &ContextName,
        at: impl Into<At>,
        into: &ContextName,
        options: &MergeOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        monitor.phase(Phase::Opening);
        let mut attempts = Attempts::new(self, into).at_most(ATTEMPTS);
        let (mut at, mut is_told) = (at.into(), false);
        let mut parent = Parent::of(self.require_head(into).await?);
        loop {
            let source = match self.to_take_over(from, &at).await {
                Ok(source) => source,
                Err(error) => {
                    // What landed too late refers to packs that nobody keeps any more.
                    if parent.on.digest != parent.tree.digest {
                        let before = At::Number(parent.tree.key.number);
                        self.revert_context(into, before, &options.session, false).await?;
                    }
                    return Err(error);
                }
            };
            at = At::Number(source.head.key.number);
            let (tree, merged) = (&parent.tree, &source.head);
            if tree.snapshot.contains(&Ancestor::of(&merged.snapshot)) {
                return Ok(unchanged(&parent.on));
            }
            let bases = ancestor::common(self, tree, merged).await?;
            if bases.is_empty() && !options.unrelated {
                return Err(Error::Unrelated { from: from.clone(), into: into.clone() });
            }
            let telling = Telling { from, into, monitor: (!is_told).then_some(monitor) };
            self.expect_paths(&options.only, [merged, tree]).await?;
            let bases = bases.into_iter().map(|base| base.snapshot).collect();
            let merge =
                Merge { store: self, options, monitor, bases, parent: &parent, source: &source, telling };
            let made = merge.attempt().await?;
            is_told = true;
            match made {
                Made::Done(report) => return Ok(*report),
                Made::Beaten => {
                    attempts.beaten().await?;
                    parent = Parent::of(self.require_head(into).await?);
                }
                Made::Late(landed) => {
                    attempts.late(landed.key.number)?;
                    let head = self.require_head(into).await?;
                    parent = parent.after_late(&landed, head);
                }
            }
        }
    }

    /// Fails if one of the paths is in none of these trees: it is probably mistyped.
    async fn expect_paths(&self, only: &[TreePath], trees: [&Head; 2]) -> Result<(), Error> {
        for path in only {
            let mut found = false;
            for head in trees {
                let tree = Tree { store: self, snapshot: &head.snapshot, cache: None };
                let mut segments = std::pin::pin!(tree.segments(tree.segments_within(path)));
                while let Some((_, entries)) = segments.try_next().await? {
                    found |= entries.iter().any(|entry| entry.path.is_within(path));
                }
            }
            if !found {
                let (name, number) = (trees[0].snapshot.context.clone(), trees[0].key.number);
                return Err(Error::NoPath { path: path.to_string(), name, number });
            }
        }
        Ok(())
    }
}

/// The result of a merge onto one head.
enum Made {
    Done(Box<SyncReport>),
    Beaten,
    Late(Box<Head>),
}

fn unchanged(head: &Head) -> SyncReport {
    let total_bytes = head.snapshot.totals.bytes;
    SyncReport { snapshot: Some(head.key.number), total_bytes, ..SyncReport::default() }
}

impl<'a> Merge<'a> {
    fn tree<'t>(&'t self, snapshot: &'t Snapshot) -> Tree<'t> {
        Tree { store: self.store, snapshot, cache: None }
    }

    fn target(&self) -> Tree<'_> {
        self.tree(&self.parent.tree.snapshot)
    }

    fn steps<'t>(&'t self, kept: Kept<'t>) -> Steps<'t> {
        let conflict = self.options.conflict;
        let rules = Rules { sync_local_file: true, conflict, hold_deletions: kept.hold };
        let mut bases = self.bases.iter().map(|base| self.tree(base));
        let (base, from) = (bases.next(), self.tree(&self.source.head.snapshot));
        let steps = Steps::new(rules, base.as_ref(), &self.target(), &from, &self.options.only);
        steps.beside(bases.collect()).with_git(kept.git)
    }

    /// Plans the merge, and commits it.
    async fn attempt(&self) -> Result<Made, Error> {
        self.monitor.phase(Phase::Planning);
        let hold = match self.options.max_delete {
            _ if self.is_emptied() => true,
            Some(most) => {
                let deleted = self.tally(false, None).await?.report.deleted;
                let there = self.parent.tree.snapshot.totals;
                most.is_exceeded(deleted, there.files + there.symlinks)
            }
            None => false,
        };
        let tally = self.tally(hold, Some(&self.telling)).await?;
        let Tally { mut report, differs, copies, going, writes, git } = tally;
        report.snapshot = Some(self.parent.on.key.number);
        report.total_bytes = self.parent.tree.snapshot.totals.bytes;
        if report.stopped_by_conflict {
            (report.added, report.changed, report.deleted) = (0, 0, 0);
            return Ok(Made::Done(Box::new(report)));
        }
        let beside = |open: &_| {
            let mut found = InTheWay::of(open);
            writes.iter().for_each(|(path, entry)| found.note(path, entry));
            Ok(found.found())
        };
        let target = PartTree::whole(self.target());
        let copies = Copies::name(copies, &target, &going, beside, self.monitor).await?;
        self.telling.copies(&copies);
        report.failed += copies.unplaced.len() as u64;
        report.added += copies.made.len() as u64;
        // What needs no change is remembered as merged as well, unless nothing was to be merged.
        if self.options.dry_run || !differs && self.parent.on.digest == self.parent.tree.digest {
            return Ok(Made::Done(Box::new(report)));
        }
        self.write(Kept { hold, git: &git }, copies, report).await
    }

    /// Whether nothing is left in what is merged, which is more probably an accident than a wish.
    fn is_emptied(&self) -> bool {
        let files = |snapshot: &Snapshot| snapshot.totals.files + snapshot.totals.symlinks;
        let had = self.bases.first().is_some_and(|base| files(base) > 0);
        !self.options.allow_empty && had && files(&self.source.head.snapshot) == 0
    }

    /// Runs the plan, to count what it does and, if asked for, to report it.
    async fn tally(&self, hold: bool, telling: Option<&Telling<'_>>) -> Result<Tally, Error> {
        let (mut tally, git) = (Tally::default(), GitChanges::default());
        let note = |tally: &mut Tally, step: &MergeStep| {
            tally.count(step);
            if let Some(telling) = telling {
                telling.step(step);
            }
        };
        let mut later = Vec::new();
        let mut steps = self.steps(Kept { hold, git: &git });
        while let Some(step) = steps.next().await? {
            tally.git.note(&step);
            match GitChanges::concerns(&step) {
                // Whether it goes depends on what may come after it.
                true => later.push(step),
                false => note(&mut tally, &step),
            }
        }
        for mut step in later {
            step.decision = tally.git.keeps(&step, Towards::Mount).unwrap_or(step.decision);
            note(&mut tally, &step);
        }
        Ok(tally)
    }

    /// Makes the new tree and commits it.
    async fn write(&self, kept: Kept<'_>, mut copies: Copies, mut report: SyncReport) -> Result<Made, Error> {
        if !copies.made.is_empty() {
            let on = &self.parent.on;
            let recycles = on.snapshot.recycle.lifecycle_days.is_some();
            copies.note_upload(self.store.upload_time(on, recycles, None).await?);
        }
        let chunks = Arc::<Chunks>::default();
        let (memory, concurrency) = (self.options.memory / 4, self.options.concurrency.get());
        let mut sink = Taking::new(PackSink::unhurried(self.store, chunks, memory, concurrency), self.source);
        let tree = self.target();
        let updated = self.fitting_tree(kept, copies, &mut sink, &mut report).await?;
        let is_whole = report.held_back == 0 && report.failed == 0 && self.options.only.is_empty();
        if updated.is_unchanged() && !is_whole && self.parent.on.digest == self.parent.tree.digest {
            (report.added, report.changed, report.deleted) = (0, 0, 0);
            return Ok(Made::Done(Box::new(report)));
        }
        sink.own.flush(self.monitor).await?;
        let listed = updated.list(&tree, &sink)?;
        let on = &self.parent.on;
        let snapshot = Snapshot {
            number: on.key.number + 1,
            parent: Some(on.digest),
            kind: Kind::Normal,
            created: self.store.env().now(),
            session: self.options.session.clone(),
            nonce: self.store.random()?,
            totals: updated.totals,
            changes: updated.changes,
            partial: false,
            extensions: written_after(&on.snapshot),
            packs: listed.packs,
            segments: listed.segments,
            inline: listed.inline,
            ..(*on.snapshot).clone()
        };
        let snapshot = snapshot.with_let_go(&updated.let_go);
        let snapshot = match is_whole {
            true => {
                let own = self.parent.tree.snapshot.ancestors();
                snapshot.with_ancestors(joined(&own, &self.source.head.snapshot, false))
            }
            false => snapshot,
        };
        self.monitor.phase(Phase::Committing);
        Ok(match self.store.publish(Prepared::of(snapshot)?, Some(&on.key)).await? {
            Published::Theirs => Made::Beaten,
            Published::Late(head) => Made::Late(Box::new(head)),
            Published::Ours(head) => {
                let changes = head.snapshot.changes;
                Made::Done(Box::new(SyncReport {
                    snapshot: Some(head.key.number),
                    parent: Some(on.key.number),
                    added: changes.added,
                    changed: changes.changed,
                    deleted: changes.deleted,
                    total_bytes: head.snapshot.totals.bytes,
                    bytes_stored: sink.own.stored + head.bytes.len() as u64,
                    ..report
                }))
            }
        })
    }

    /// Runs the plan once more, to make the tree; and again without the files for which there is no room.
    async fn fitting_tree(
        &self,
        kept: Kept<'_>,
        mut copies: Copies,
        sink: &mut Taking,
        report: &mut SyncReport,
    ) -> Result<UpdatedTree, Error> {
        let mut left_out = std::mem::take(&mut copies.unplaced);
        loop {
            // What can't be written may be a member of an archive, so no archive gets a mark. The next merge has it.
            let marks = report.failed == 0;
            let updated = self.make_tree(kept, marks, &copies, &left_out, sink).await?;
            if updated.blocked.is_empty() {
                return Ok(updated);
            }
            for path in &updated.blocked {
                report.failed += 1;
                self.monitor.problem(&PathProblem {
                    path: path.clone(),
                    message: "another path is in its way".to_owned(),
                    hint: "rename one of them, and merge again".to_owned(),
                });
            }
            copies.give_up(&updated.blocked);
            left_out.append(&mut copies.unplaced);
            left_out.extend(updated.blocked);
        }
    }

    async fn make_tree(
        &self,
        kept: Kept<'_>,
        marks: bool,
        copies: &Copies,
        left_out: &BTreeSet<TreePath>,
        sink: &mut Taking,
    ) -> Result<UpdatedTree, Error> {
        let (tree, packs) = (self.target(), self.parent.packs());
        let absent = tree.snapshot.packs.iter().map(|p| p.id).filter(|id| !packs.contains(id));
        let mut update = TreeUpdate::new(tree.clone()).without(absent);
        let mut copies = copies.made.iter().peekable();
        let mut steps = self.steps(kept);
        while let Some(step) = steps.next().await? {
            while let Some(copy) = copies.next_if(|c| c.entry.path < step.path) {
                update.apply(Resolved::Put(copy.entry.clone()), sink).await?;
            }
            if left_out.contains(&step.path) {
                continue;
            }
            match step.decision.verdict {
                Verdict::Write => {
                    let dir = || TreeEntry::bare(step.path.clone(), Entry::IMPLIED_DIR);
                    let mut entry = step.remote.map_or_else(dir, |row| row.0);
                    entry.extracted &= marks || entry.recycled;
                    update.apply(Resolved::Put(entry), sink).await?;
                }
                Verdict::Delete => {
                    // A new conflict copy takes the place of the one that is deleted.
                    let copy = copies.next_if(|copy| copy.entry.path == step.path);
                    let put = copy.map(|copy| Resolved::Put(copy.entry.clone()));
                    update.apply(put.unwrap_or(Resolved::Delete(step.path)), sink).await?;
                }
                _ if marks && brings_mark(&step) => update.apply(Resolved::Mark(step.path), sink).await?,
                _ => {}
            }
        }
        for copy in copies {
            update.apply(Resolved::Put(copy.entry.clone()), sink).await?;
        }
        update.finish(sink).await
    }
}

impl Tally {
    fn count(&mut self, step: &MergeStep) {
        let is_marked = brings_mark(step);
        self.differs |= told::is_changed_there(step) || is_marked;
        let report = &mut self.report;
        report.changed += u64::from(is_marked);
        match step.decision.verdict {
            Verdict::Write => {
                match told::is_there(step) {
                    true => report.changed += 1,
                    false => report.added += 1,
                }
                if let Some(row) = &step.remote
                    && policy_core::original_path(&step.path).is_some()
                {
                    self.writes.push((step.path.clone(), row.0.entry.clone()));
                }
            }
            Verdict::Delete => {
                report.deleted += 1;
                self.going.extend(policy_core::original_path(&step.path).map(|_| step.path.clone()));
            }
            Verdict::HoldBack => report.held_back += 1,
            Verdict::KeepBoth => {
                report.conflicts += 1;
                if let (Some(copy), Some(row)) = (&step.copy, &step.remote) {
                    let entry = TreeEntry { path: copy.clone(), ..row.0.clone() };
                    self.copies.push(Copied { of: step.path.clone(), entry });
                }
            }
            Verdict::Stop => {
                report.conflicts += 1;
                report.stopped_by_conflict = true;
            }
            Verdict::Withhold if step.decision.reason == policy_core::Reason::NeedsDeletion => {
                report.failed += 1;
            }
            Verdict::Nothing | Verdict::Keep | Verdict::Withhold => {}
        }
    }
}
