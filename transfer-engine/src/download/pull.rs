//! A download: planned against the head, and applied.

use std::io::{self, Read};

use policy_core::{ConflictPolicy, Entry, ListMarks, Reason, Towards, TreePath, Verdict};

use tokio_util::sync::CancellationToken;

use super::apply::{Applying, apply, has_outcome, is_worth_telling};
use super::fetch::Outcome;
use crate::error::Error;
use crate::local::MountDir;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Progress, Side};
use crate::mount::{Mount, has_archive_content};
use crate::options::SyncOptions;
use crate::plan::{Plan, PlanStep, Remote};
use crate::report::SyncReport;
use crate::state::{BaseHeader, BaseRow, DeltaState};
use crate::status::TaskType;
use crate::store::Head;
use crate::tree::Tree;
use crate::upload::{DeltaStats, LocalDelta, local_delta};

impl Mount {
    /// Brings what the context has and the mount has not, and removes what was deleted there.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::NoStore`], and whatever the store and the local file system say.
    /// Trouble with single paths goes to the monitor and into the report.
    pub async fn pull(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.bring(options, monitor, &CancellationToken::new()).await
    }

    /// Does what [`Mount::pull`] does until it is told to stop. What has not arrived by then is pending.
    pub(crate) async fn bring(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        _stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let keeper = self.keep_status(options, monitor, TaskType::Download);
        let before = self.store.usage();
        let mut result = self.pull_all(options, &keeper).await;
        if self.forget_damaged_base(&result, &keeper)? {
            result = self.pull_all(options, &keeper).await;
        }
        keeper.finish(result, self.store.usage().since(&before))
    }

    /// Brings these paths and what is below them now, also while [`Mount::bring`] is under way.
    pub(crate) async fn fetch(
        &self,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let options = SyncOptions { only: paths.to_vec(), ..options.clone() };
        self.pull_all(&options, monitor).await
    }

    async fn pull_all(&self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        let (key, header) = self.find_head(monitor).await?;
        let head = match key {
            Some(key) => Some(self.load_head(header.as_ref(), &key).await?).filter(Head::is_live),
            None => None,
        };
        let Some(head) = head else {
            self.store.meta().await?;
            let location = self.store.location().to_owned();
            return Err(Error::NoContext { name: self.context.clone(), location });
        };
        let mut header = self.check_base(header, &head, monitor)?;

        let dir = match self.open_dir(monitor)? {
            Some(dir) => dir,
            None => {
                if header.take().is_some() {
                    monitor.warning("the mount is gone; everything is brought again");
                }
                // A dry run looks at the nearest directory that there is, through a filter that finds
                // nothing: only what is not there can be planned.
                if options.dry_run {
                    return self.plan_into_nothing(&head, options, monitor).await;
                }
                std::fs::create_dir_all(&self.path)
                    .map_err(|e| Error::local("make the mount", &self.path, e))?;
                MountDir::open(&self.path, self.store.env())
                    .map_err(|e| Error::local("open the mount", &self.path, e))?
            }
        };
        let filter = self.filter(options);
        let read = self.delta_options(&dir, &filter, options);
        monitor.phase(Phase::Scanning);
        let mut delta =
            local_delta(&read, self.base_rows(header.as_ref(), &filter, options)?, None, monitor).await?;
        if Self::looks_lost(options, &delta.stats) {
            monitor.warning(
                "nothing of what was brought is in the mount any more: it is taken as lost, and everything is brought again",
            );
            header = None;
            delta = local_delta(&read, self.base_rows(None, &filter, options)?, None, monitor).await?;
        }
        let stats = delta.stats.clone();
        let mut report = stats.report(&head);
        let as_base = Self::is_same_head(header.as_ref(), &head.key)
            && header.as_ref().is_some_and(|h| h.agrees && h.scope == self.scope_digest());
        let nothing_to_bring = stats.deleted == 0 || self.policy.delete_policy.sync_local_file;
        if as_base && nothing_to_bring && !options.dry_run {
            return Ok(report);
        }

        monitor.phase(Phase::Planning);
        let mut hold = false;
        let conflict = self.conflict_policy(options);
        let guarded = options.max_delete.is_some() || self.policy.delete_policy.max_delete_percent.is_some();
        if options.dry_run || guarded || conflict == ConflictPolicy::Fail {
            let counted = self.count(&head, header.as_ref(), &mut delta, false, options).await?;
            hold = self.guards(options, counted.deleted, counted.base);
            if hold {
                monitor.warning(&format!(
                    "{} of {} paths would be deleted, more than the guard allows; deletions are held back",
                    counted.deleted, counted.base
                ));
            }
            if options.dry_run || counted.stopped {
                let mut plan = self.download_plan(&head, header.as_ref(), &mut delta, hold, options)?;
                while let Some(step) = plan.next().await? {
                    self.tell(&step, monitor, &mut report);
                    match step.decision.verdict {
                        Verdict::Write if stands(&step) => report.changed += 1,
                        Verdict::Write => report.added += 1,
                        Verdict::Delete => report.deleted += 1,
                        _ => {}
                    }
                }
                if counted.stopped {
                    report.stopped_by_conflict = true;
                    (report.added, report.changed, report.deleted) = (0, 0, 0);
                }
                return Ok(report);
            }
        }

        monitor.phase(Phase::Downloading);
        let applying = Applying {
            store: &self.store,
            dir,
            filter: filter.clone(),
            options,
            monitor,
            total: self.expected_progress(&head, &stats),
        };
        let plan = self.download_plan(&head, header.as_ref(), &mut delta, hold, options)?;
        let outcomes = apply(&applying, plan).await?;
        self.remember(
            &head,
            header.as_ref(),
            &mut delta,
            hold,
            options,
            &outcomes,
            &applying.dir,
            &mut report,
            monitor,
        )
        .await?;
        self.trim_cache(&head);
        Ok(report)
    }

    fn expected_progress(&self, head: &Head, stats: &DeltaStats) -> Progress {
        let totals = &head.snapshot.totals;
        let total_files = (totals.files + totals.symlinks).saturating_sub(stats.unchanged);
        Progress { total_files, total_bytes: totals.bytes, ..Progress::default() }
    }

    fn download_plan<'a>(
        &self,
        head: &'a Head,
        header: Option<&BaseHeader>,
        delta: &'a mut LocalDelta,
        hold: bool,
        options: &SyncOptions,
    ) -> Result<Plan<'a>, Error> {
        let filter = self.filter(options);
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let cache = self.cache();
        let segments = self.segments(head, cache);
        let base = self.base_rows(header, &filter, options)?;
        let rules = self.rules(options, hold);
        Ok(Plan::new(rules, Towards::Mount, base, Box::new(local), Remote::Segments(segments), filter))
    }

    fn segments<'a>(
        &self,
        head: &'a Head,
        cache: crate::state::Cache,
    ) -> futures::stream::BoxStream<'a, Result<(usize, Vec<crate::format::TreeEntry>), Error>> {
        use futures::StreamExt;
        let store = self.store.clone();
        async_stream(head, store, cache).boxed()
    }

    async fn count(
        &self,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        hold: bool,
        options: &SyncOptions,
    ) -> Result<Counted, Error> {
        let mut counted = Counted { base: delta.stats.base, ..Counted::default() };
        let mut plan = self.download_plan(head, header, delta, hold, options)?;
        while let Some(step) = plan.next().await? {
            match step.decision.verdict {
                Verdict::Delete => counted.deleted += 1,
                Verdict::Stop => counted.stopped = true,
                _ => {}
            }
        }
        Ok(counted)
    }

    /// Makes the plan once more, with what became of each step, and writes the base that results.
    #[expect(clippy::too_many_arguments, reason = "the one place where everything of a download meets")]
    async fn remember(
        &self,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        hold: bool,
        options: &SyncOptions,
        outcomes: &[Outcome],
        dir: &MountDir,
        report: &mut SyncReport,
        monitor: &dyn Monitor,
    ) -> Result<(), Error> {
        let cannot_write = |e: io::Error| Error::local("write", self.files.next_base(), e);
        let mut next = self.next_base(header, &self.filter(options))?;
        let mut outcomes = outcomes.iter();
        let mut archive_met = false;
        let mut agrees = options.only.is_empty();
        let mut marks = ListMarks::new(&self.scope);
        let local_marks = delta.marks.clone();
        let now = self.store.env().now();
        let mut plan = self.download_plan(head, header, delta, hold, options)?;
        while let Some(step) = plan.next().await? {
            if step.remote.is_some() {
                marks.note(&self.scope, &step.path);
            }
            let outcome = if has_outcome(&step) { outcomes.next().copied() } else { None };
            if outcome == Some(Outcome::Failed) {
                report.failed += 1;
                report.pending += u64::from(step.base.is_none());
                agrees = false;
                continue;
            }
            self.tell(&step, monitor, report);
            match step.decision.verdict {
                Verdict::Write if stands(&step) => report.changed += 1,
                Verdict::Write => report.added += 1,
                Verdict::Delete => report.deleted += 1,
                _ => {}
            }
            let row = base_after(&step, outcome, now);
            let base = row.as_ref().map_or(step.base.as_ref(), Option::as_ref).map(|r| &r.entry);
            let there = step.remote.as_ref().map(|r| &r.0.entry);
            agrees &= match (base, there) {
                (None, None) => true,
                (Some(base), Some(there)) => base.agrees_with(there),
                (Some(entry), None) => step.remote_implied && entry.agrees_with(&Entry::IMPLIED_DIR),
                (None, Some(_)) => false,
            };
            if !archive_met
                && matches!(outcome, Some(Outcome::Installed(_)))
                && self.would_extract(&step.path)
                && begins_as_archive(dir, &step.path)
            {
                archive_met = true;
                monitor.warning(&format!(
                    "`{}` is an archive that the policy wants extracted; this version does not extract yet",
                    step.path
                ));
            }
            if let Some(row) = row {
                next.set(&step.path, row).map_err(cannot_write)?;
            }
        }
        if options.only.is_empty() {
            marks.merge(&local_marks);
            self.warn_unmatched(&marks, monitor);
        }
        let header = self.header_of(head, agrees).await?;
        let header = next.finish(header).map_err(cannot_write)?;
        self.files.adopt_next(&header)
    }

    async fn plan_into_nothing(
        &self,
        head: &Head,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let filter = self.filter(options);
        let mut report = SyncReport { snapshot: Some(head.key.number), ..SyncReport::default() };
        let remote = Remote::Segments(self.segments(head, self.cache()));
        let (base, local) = (Box::new(std::iter::empty()), Box::new(std::iter::empty()));
        let mut plan = Plan::new(self.rules(options, false), Towards::Mount, base, local, remote, filter);
        while let Some(step) = plan.next().await? {
            report.added += 1;
            self.tell(&step, monitor, &mut report);
        }
        Ok(report)
    }

    /// Tells the monitor of a step, and counts what is no change.
    fn tell(&self, step: &PlanStep, monitor: &dyn Monitor, report: &mut SyncReport) {
        let there = step.remote.as_ref().map(|r| &r.0.entry);
        let action = match step.decision.verdict {
            Verdict::Nothing => return,
            Verdict::Write if stands(step) => Action::Change,
            Verdict::Write => Action::Add,
            Verdict::Delete => Action::Delete,
            Verdict::HoldBack => {
                report.held_back += 1;
                Action::Keep
            }
            Verdict::Keep => Action::Keep,
            Verdict::KeepBoth | Verdict::Stop => {
                report.conflicts += 1;
                Action::Conflict
            }
            Verdict::Withhold => {
                if step.decision.reason == Reason::NeedsDeletion {
                    report.failed += 1;
                    monitor.problem(&PathProblem {
                        path: step.path.clone(),
                        message: step.decision.reason.to_string(),
                        hint: "let the deletion through, or move what is in the way".to_owned(),
                    });
                }
                Action::Skip
            }
        };
        if !is_worth_telling(step.decision.reason) {
            return;
        }
        let size = there.or(step.base.as_ref().map(|b| &b.entry)).map_or(0, Entry::size);
        let reason = step.decision.reason.to_string();
        monitor.path(&PathEvent { path: &step.path, action, side: Side::Local, reason: &reason, size });
    }
}

#[derive(Default)]
struct Counted {
    base: u64,
    deleted: u64,
    stopped: bool,
}

/// Whether a file that was just brought has the content of an archive, and not its name only.
fn begins_as_archive(dir: &MountDir, path: &TreePath) -> bool {
    let mut begin = Vec::new();
    let read = dir.open_file(path).and_then(|(file, _)| file.take(512).read_to_end(&mut begin));
    read.is_ok() && has_archive_content(&begin)
}

/// Whether something is at the path in the mount before the step.
fn stands(step: &PlanStep) -> bool {
    match &step.local {
        Some(row) => matches!(row.state, DeltaState::Present { .. }),
        None => step.base.is_some(),
    }
}

/// Returns the row that the base has after the step: `None` leaves it as it was.
fn base_after(
    step: &PlanStep,
    outcome: Option<Outcome>,
    now: policy_core::Timestamp,
) -> Option<Option<BaseRow>> {
    let local = || {
        step.local.as_ref().and_then(|row| match &row.state {
            DeltaState::Present { entry, seen, trusted, .. } => Some(BaseRow {
                path: row.path.clone(),
                entry: entry.clone(),
                print: seen.filter(|_| *trusted),
                held: false,
            }),
            _ => None,
        })
    };
    let remote = |print| {
        let entry = match &step.remote {
            Some(remote) => remote.0.entry.clone(),
            None if step.remote_implied => Entry::IMPLIED_DIR,
            None => return None,
        };
        Some(BaseRow { path: step.path.clone(), entry, print, held: false })
    };
    match (step.decision.verdict, step.decision.reason, outcome) {
        // Its own rename is the file's newest time, and nobody else's: only its content's time can hide
        // a later edit.
        (Verdict::Write, _, Some(Outcome::Installed(print))) => {
            let by_content = crate::local::Fingerprint { ctime: print.mtime, ..print };
            Some(remote(Some(print).filter(|_| !by_content.is_racy(now))))
        }
        (Verdict::Write | Verdict::KeepBoth, _, Some(_)) => Some(remote(None)),
        (Verdict::Delete, _, Some(_)) | (Verdict::Nothing, Reason::DeletedOnBoth, _) => Some(None),
        (Verdict::Nothing, Reason::SameChange | Reason::Unchanged, _) => local().map(Some),
        (Verdict::HoldBack, Reason::DeletedThereHeld, _) if step.base.is_none() => local().map(Some),
        _ => None,
    }
}

/// The segments of a head, read with a store and a cache of the stream's own.
fn async_stream(
    head: &Head,
    store: crate::store::Store,
    cache: crate::state::Cache,
) -> impl futures::Stream<Item = Result<(usize, Vec<crate::format::TreeEntry>), Error>> + Send + use<> {
    use futures::{FutureExt, StreamExt, TryStreamExt};
    let snapshot = head.snapshot.clone();
    let count = snapshot.segments.len();
    // A window of segments at a time, each read together and ahead.
    let windows = (0..count).step_by(16).map(move |start| start..(start + 16).min(count));
    futures::stream::iter(windows)
        .map(move |range| {
            let (snapshot, store, cache) = (snapshot.clone(), store.clone(), cache.clone());
            async move {
                let tree = Tree { store: &store, snapshot: &snapshot, cache: Some(&cache) };
                tree.segments(range).try_collect::<Vec<_>>().await
            }
            .boxed()
        })
        .buffered(2)
        .map_ok(|segments| futures::stream::iter(segments.into_iter().map(Ok)))
        .try_flatten()
}
