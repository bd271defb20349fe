//! A pull: it is planned against the head, and applied.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy_core::{BwList, ConflictPolicy, ListMarks, Towards, TreePath, Verdict};
use tokio_util::sync::CancellationToken;

use super::apply::{apply, place_of_copy};
use super::applying::Applying;
use super::contents::Contents;
use super::dir_times::DirTimes;
use super::git::kept_objects;
use super::ledger::{Ledger, tell_copy, tell_planned};
use crate::changes::{DeltaStats, EarlyWalk, HeadPaths, LocalDelta, Purpose, Walk, local_delta};
use crate::error::Error;
use crate::local::{MountDir, make_all, sqlite};
use crate::monitor::{Monitor, Phase, Progress};
use crate::mount::{Mount, Topic};
use crate::options::SyncOptions;
use crate::plan::{Filter, Plan, Remote};
use crate::report::SyncReport;
use crate::state::{Alone, BaseHeader, Lane};
use crate::status::TaskType;
use crate::store::Head;
use crate::tree::{OwnTree, Segments, Tree};

/// What stays the same during a pull.
pub(super) struct Job<'a> {
    pub(super) dir: &'a MountDir,
    pub(super) filter: &'a Arc<Filter>,
    pub(super) options: &'a SyncOptions,
    pub(super) monitor: &'a dyn Monitor,
}

/// The result of a trial run of the plan.
enum Foreseen {
    /// The plan can be carried out, maybe without its deletions: because a guard holds them, and whether that is because
    /// the context was emptied.
    Goes { hold: bool, lost: bool },
    /// Nothing is done; this is the report.
    Ends(Box<SyncReport>),
}

/// A pull before it is planned.
struct Opened {
    dir: MountDir,
    head: Head,
    header: Option<BaseHeader>,
    walk: Option<EarlyWalk>,
}

impl Mount {
    /// Pulls what the context has and the mount lacks, and removes what was deleted in the context.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::NoStore`], and errors of the store and of the local file system. Errors
    /// of single paths go to the monitor and into the report.
    pub async fn pull(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.pull_until(options, monitor, &CancellationToken::new()).await
    }

    /// Does what [`Mount::pull`] does, until it is stopped. What has not arrived by then is pending.
    pub(crate) async fn pull_until(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let keeper = self.keep_status(options, monitor, TaskType::Download);
        let before = self.store.usage();
        let mut result = self.pull_all(options, &keeper, stop).await;
        if result.as_ref().is_err_and(Error::is_damaged_state)
            && self.forget_damaged_state(&self.arriving.alone().await, &result, &keeper)?
        {
            result = self.pull_all(options, &keeper, stop).await;
        }
        keeper.finish(result, self.store.usage().since(&before))
    }

    async fn pull_all(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        loop {
            let report = self.pull_once(options, monitor, stop).await?;
            // Paths that a fetch failed to pull are still pending.
            if !self.arriving.take_missed() || stop.is_cancelled() {
                return Ok(report);
            }
        }
    }

    async fn pull_once(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        stop: &CancellationToken,
    ) -> Result<SyncReport, Error> {
        let alone = self.arriving.alone().await;
        let filter = self.filter(options, Towards::Mount);
        let opened = self.open_for_pull(&alone, Some(&filter), options, monitor).await?;
        let Some(Opened { dir, head, header, walk }) = opened else {
            let (head, _) = self.find_live_head(monitor).await?;
            return self.plan_into_nothing(&self.pulled(head).await?, options, monitor).await;
        };
        let dir = dir.owned_by(options.owner);
        let as_base = self.is_as_base(header.as_ref(), &head);
        let job = Job { dir: &dir, filter: &filter, options, monitor };
        monitor.phase(Phase::Scanning);
        let (mut delta, header) = self.compare(&job, &head, header, walk).await?;
        let report = delta.stats.report(&head);
        let nothing_to_pull = delta.stats.deleted == 0 || self.policy.delete_policy.sync_local_file;
        if as_base && header.is_some() && nothing_to_pull && !options.dry_run {
            return Ok(report);
        }
        monitor.phase(Phase::Planning);
        let mut git = self.git_here(&mut delta)?;
        let mut kept = Vec::new();
        if git.deletes_here() {
            let plan = self.pull_plan(&head, header.as_ref(), &mut delta, false, &filter, options)?;
            kept = kept_objects(plan, &mut git).await?;
        }
        delta.git = Arc::new(git);
        let (hold, lost) = match self.foresee(&job, &head, header.as_ref(), &mut delta, &report).await? {
            Foreseen::Goes { hold, lost } => (hold, lost),
            Foreseen::Ends(report) => return Ok(*report),
        };
        self.clear_below(&alone, &dir, &delta.file_systems, monitor);
        let as_begun = self.header_of(&head, false).await?;
        let below = delta.file_systems.all();
        let waits = self.begin_unflushed((&dir, below), &as_begun, header.is_none(), options).await?;
        alone.begin(&self.files, &head, &as_begun, header.is_none(), self.store.env())?;
        // From here on, fetches can request paths, and get them first.
        let gate = alone.share();
        monitor.phase(Phase::Downloading);
        let applying = Applying {
            store: &self.store,
            part: &self.part,
            dir: dir.clone(),
            filter: filter.clone(),
            options,
            monitor,
            total: self.expected_progress(&head, &delta.stats),
            arriving: self.arriving.clone(),
            lane: Lane::All,
            stop: stop.clone(),
            head: &head,
            cache: self.cache(),
            file_systems: delta.file_systems.clone(),
            drops_deleted: self.policy.delete_policy.sync_local_file,
            waits,
        };
        let knows_all = options.only.is_empty() && filter.closed.is_empty();
        let times = DirTimes::new(self.arriving.take_half_done());
        let mut ledger = Ledger::new(report, knows_all, ListMarks::new(&self.scope), times);
        ledger.lost = lost;
        ledger.forget(&applying, kept)?;
        let plan = self.pull_plan(&head, header.as_ref(), &mut delta, hold, &filter, options)?;
        let contents = Contents::new(self.base_rows(header.as_ref(), &filter, options)?, options.memory);
        let applied = apply(&applying, plan, contents, &mut ledger).await;
        drop(gate);
        applied?;
        ledger.report.conflicts += std::mem::take(&mut ledger.mixed).tell(&applying.dir, monitor).await;
        self.warn_of(Topic::Held, ledger.still_held_warning(), monitor);
        if options.only.is_empty() && !ledger.stopped {
            let mut met = ledger.marks.clone();
            met.merge(&delta.marks);
            self.warn_unmatched(&met, monitor);
        }
        self.end_pull(&applying, ledger, as_begun).await
    }

    /// Whether base and head agree on every path in scope.
    fn is_as_base(&self, header: Option<&BaseHeader>, head: &Head) -> bool {
        Self::is_same_head(header, &head.key)
            && header.is_some_and(|h| h.agrees && h.scope == self.scope_digest())
    }

    /// Compares the mount with its base. Returns the base's header and the differences; no header if the
    /// mount looks lost, so that everything is pulled again.
    pub(super) async fn compare(
        &self,
        job: &Job<'_>,
        head: &Head,
        header: Option<BaseHeader>,
        walk: Option<EarlyWalk>,
    ) -> Result<(LocalDelta, Option<BaseHeader>), Error> {
        let Job { dir, filter, options, monitor } = *job;
        let read = self.delta_options(dir, filter, options, Towards::Mount);
        let walk = match walk.and_then(|early| early.over(header.as_ref())) {
            Some(walk) => walk,
            None => Walk::start(&read, self.base_rows(header.as_ref(), filter, options)?),
        };
        let cache = self.cache();
        let tree = self.part_tree(head, Some(&cache));
        let has_all = self.is_as_base(header.as_ref(), head) && header.as_ref().is_some_and(|h| h.held == 0);
        let paths = if has_all { HeadPaths::as_base() } else { HeadPaths::of(tree.clone()) };
        let mut delta = local_delta(&read, walk, Purpose::Download(paths), monitor).await?;
        let mut header = header;
        if Self::looks_lost(dir, options, &delta.stats, header.as_ref()) {
            monitor.warning(
                "every synced file is missing from the mount; treating it as lost, all files are pulled again",
            );
            header = None;
            let walk = Walk::start(&read, self.base_rows(None, filter, options)?);
            delta = local_delta(&read, walk, Purpose::Download(HeadPaths::of(tree)), monitor).await?;
        }
        self.warn_of(Topic::Unmounted, delta.away.warning(), monitor);
        Ok((delta, header))
    }

    /// Runs the plan without changing anything, if a guard, a conflict or a dry run may prevent that it is
    /// carried out.
    async fn foresee(
        &self,
        job: &Job<'_>,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        report: &SyncReport,
    ) -> Result<Foreseen, Error> {
        let Job { dir, filter, options, monitor } = *job;
        let (mut hold, mut lost) = (false, false);
        let stops = self.conflict_policy(options) == ConflictPolicy::Fail;
        let guarded = options.max_delete.is_some() || self.policy.delete_policy.max_delete_percent.is_some();
        let may_be_lost = self.may_be_lost(head, &delta.stats, options);
        if !(options.dry_run || guarded || may_be_lost || stops) {
            return Ok(Foreseen::Goes { hold, lost });
        }
        let counted = self.count(head, header, delta, filter, options).await?;
        if may_be_lost && counted.files_there == 0 && counted.files_deleted > 0 {
            (hold, lost) = (true, true);
            monitor.warning(
                "every synced file is missing from the context; treating it as lost, deletions are held back",
            );
        }
        if self.guards(options, counted.deleted, counted.base) {
            hold = true;
            monitor.warning(&format!(
                "{} of {} paths would be deleted, more than the deletion guard allows; deletions are held back",
                counted.deleted, counted.base
            ));
        }
        if !options.dry_run && !counted.stopped {
            return Ok(Foreseen::Goes { hold, lost });
        }
        let mut report = report.clone();
        let mut plan = self.pull_plan(head, header, delta, hold, filter, options)?;
        while let Some(step) = plan.next().await? {
            tell_planned(&step, filter, monitor, &mut report);
            if step.decision.verdict == Verdict::KeepBoth
                && let (Some(copy), Some(remote)) = (&step.copy, &step.remote)
                && let Ok(Some(copy)) = place_of_copy(dir, &step.path, copy, &remote.0.entry).await?
            {
                report.added += 1;
                tell_copy(monitor, &step.path, &copy, remote.0.entry.size());
            }
        }
        if counted.stopped {
            report.stopped_by_conflict = true;
            (report.added, report.changed, report.deleted, report.extracted) = (0, 0, 0, 0);
        }
        Ok(Foreseen::Ends(Box::new(report)))
    }

    /// Folds what arrived into the base; or, if the pull was stopped, reports what is pending.
    async fn end_pull(
        &self,
        applying: &Applying<'_>,
        ledger: Ledger,
        as_begun: BaseHeader,
    ) -> Result<SyncReport, Error> {
        let Ledger { mut report, agrees, stopped, .. } = ledger;
        if stopped {
            let arrived = report.added + report.unchanged;
            let left = self.most_files(applying.head).saturating_sub(arrived);
            // The number of arrived paths includes directories, so `left` may be too small. It is at least 1,
            // because a pull that was stopped has to be continued.
            report.pending = report.pending.max(left).max(1);
            return Ok(report);
        }
        let alone = self.arriving.alone().await;
        // If a fetch has extracted an archive, the next push must mark it in the context.
        let none_extracted = self.arriving.extracting.lock().await.is_empty();
        let agrees = agrees && none_extracted && !self.arriving.missed();
        // What came out of an archive, and a conflict copy, is in no snapshot that could tell whether it is whole.
        let waits = applying.waits || report.extracted > 0 || report.conflicts > 0;
        let is_whole =
            applying.options.only.is_empty() && report.failed + report.pending + report.unsettled == 0;
        if !waits && is_whole {
            self.files.note_completed(&as_begun.digest)?;
        }
        if waits {
            self.flush(&applying.dir).await?;
        }
        self.fold_arrivals(&alone, Some(&applying.dir), Some(BaseHeader { agrees, ..as_begun }))?;
        self.files.settle(waits)?;
        alone.forget_used();
        self.arriving.parts.clear();
        self.trim_cache(applying.head);
        Ok(report)
    }

    /// Fetches these paths and what is below them now, even while [`Mount::pull_until`] is running. Only files
    /// that have never been in the mount are pulled: a file that was deleted here stays deleted.
    ///
    /// # Errors
    /// [`Error::NoPath`] if neither the context nor the mount has such a path; otherwise the errors of a
    /// pull.
    pub(crate) async fn fetch(
        &self,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let result = self.fetch_once(paths, options, monitor).await;
        // The journal of a running pull is in use.
        let alone = match &result {
            Err(e) if e.is_damaged_state() && self.arriving.head().is_none() => self.arriving.alone().await,
            _ => return result,
        };
        if self.arriving.head().is_some() || !self.forget_damaged_state(&alone, &result, monitor)? {
            return result;
        }
        drop(alone);
        self.fetch_once(paths, options, monitor).await
    }

    async fn fetch_once(
        &self,
        paths: &[TreePath],
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let before = self.store.usage();
        let options = SyncOptions { only: paths.to_vec(), dry_run: false, ..options.clone() };
        let (_gate, head) = loop {
            // A fetch waits for a pull that is just starting, and shares the head of one that is running.
            let gate = self.arriving.among_others().await;
            if let Some(head) = self.arriving.head() {
                break (gate, head);
            }
            drop(gate);
            self.open_for_asking(&options, monitor).await?;
        };
        let asking = self.arriving.ask(paths).await;
        let dir = self.make_dir(&options)?.owned_by(options.owner);
        let filter = self.filter(&options, Towards::Mount);
        let read = self.delta_options(&dir, &filter, &options, Towards::Mount);
        let cache = self.cache();
        let tree = self.part_tree(&head, Some(&cache));
        let walk = Walk::start(&read, self.rows_by_now(&filter)?);
        let purpose = Purpose::Download(HeadPaths::of(tree));
        let mut delta = local_delta(&read, walk, purpose, monitor).await?;
        self.warn_of(Topic::Unmounted, delta.away.warning(), monitor);
        let applying = Applying {
            store: &self.store,
            part: &self.part,
            dir,
            filter: filter.clone(),
            options: &options,
            monitor,
            total: Progress::default(),
            arriving: self.arriving.clone(),
            lane: Lane::Asked,
            stop: CancellationToken::new(),
            head: &head,
            cache: self.cache(),
            file_systems: delta.file_systems.clone(),
            drops_deleted: self.policy.delete_policy.sync_local_file,
            waits: self.waits_for_disk(&options),
        };
        let report = delta.stats.report(&head);
        let found_here = delta.stats.found;
        let mut ledger = Ledger::new(report, false, ListMarks::new(&self.scope), DirTimes::default());
        let mut git = self.git_here(&mut delta)?;
        if git.deletes_here() {
            let plan = self.fetch_plan(&head, &mut delta, &filter, &options)?;
            let kept = kept_objects(plan, &mut git).await?;
            ledger.forget(&applying, kept)?;
        }
        let contents = Contents::new(self.rows_by_now(&filter)?, options.memory);
        let plan = self.fetch_plan(&head, &mut delta, &filter, &options)?;
        apply(&applying, plan, contents, &mut ledger).await?;
        let Ledger { mut report, met, recycled, leaves, .. } = ledger;
        if found_here == 0 && met == 0 {
            let path = paths.first().map(ToString::to_string).unwrap_or_default();
            let (name, number) = (self.context.clone(), head.key.number);
            return Err(if recycled {
                Error::Recycled { path, name, number }
            } else {
                Error::NoPath { path, name, number }
            });
        }
        if report.failed == 0 && !leaves {
            asking.complete();
        }
        report.note_usage(self.store.usage().since(&before));
        Ok(report)
    }

    fn fetch_plan<'a>(
        &self,
        head: &'a Head,
        delta: &'a mut LocalDelta,
        filter: &Arc<Filter>,
        options: &SyncOptions,
    ) -> Result<Plan<'a>, Error> {
        let folded = delta.together.folded.clone();
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let remote = Remote::Segments(self.segments_within(head, &options.only));
        let (rules, base) = (self.rules(options, true), self.rows_by_now(filter)?);
        let plan = Plan::new(rules, Towards::Mount, base, Box::new(local), remote, filter.clone());
        Ok(plan.with_folded(folded).knowing(head.snapshot.let_go()))
    }

    /// Finds the head and starts the journal of its arrivals, unless another fetch has done so.
    async fn open_for_asking(&self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<(), Error> {
        let alone = self.arriving.alone().await;
        if self.arriving.head().is_some() {
            return Ok(());
        }
        if let Some(Opened { head, header, .. }) = self.open_for_pull(&alone, None, options, monitor).await? {
            let as_begun = self.header_of(&head, false).await?;
            let dir = self.make_dir(options)?;
            self.begin_unflushed((&dir, Vec::new()), &as_begun, header.is_none(), options).await?;
            alone.begin(&self.files, &head, &as_begun, header.is_none(), self.store.env())?;
        }
        Ok(())
    }

    /// Opens the mount and finds the head to pull; `None` for a dry run if the mount does not exist. With a
    /// filter, a walk through the mount is started too.
    async fn open_for_pull(
        &self,
        alone: &Alone<'_>,
        filter: Option<&Arc<Filter>>,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<Option<Opened>, Error> {
        let dir = self.open_dir(alone, Towards::Mount, options, monitor).await?;
        let walk = match dir.as_ref().zip(filter) {
            Some((dir, filter)) => self.walk_early(dir, filter, options, Towards::Mount)?,
            None => None,
        };
        let (head, header) = self.find_live_head(monitor).await?;
        let mut header = self.check_base(header, &head, monitor)?;
        let head = self.pulled(head).await?;
        // If it was deleted since the last sync, the deletion of all its files is for the plan to judge.
        if !self.has_part(&head, header.as_ref()).await? && header.is_none() {
            let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: None };
            return Err(tree.no_part(self.part.path()));
        }
        let dir = match dir {
            Some(dir) => dir,
            None => {
                if header.take().is_some() {
                    monitor.warning("the mount directory is gone; all files are pulled again");
                }
                // A dry run scans the nearest existing directory with a filter that matches nothing:
                // everything in the context is new to the mount.
                if options.dry_run {
                    return Ok(None);
                }
                self.make_dir(options)?
            }
        };
        let header = self.base_to_pull(header, &head, monitor)?;
        Ok(Some(Opened { dir, head, header, walk }))
    }

    /// Opens the mount's directory, and creates it if it is missing.
    fn make_dir(&self, options: &SyncOptions) -> Result<MountDir, Error> {
        make_all(&self.path, options.owner).map_err(|e| Error::local("make the mount", &self.path, e))?;
        let dir = MountDir::open(&self.path, self.store.env());
        let dir = dir.map_err(|e| Error::local("open the mount", &self.path, e))?;
        Ok(dir.with_busy(self.arriving.busy.clone()))
    }

    fn expected_progress(&self, head: &Head, stats: &DeltaStats) -> Progress {
        let total_files = self.most_files(head).saturating_sub(stats.unchanged);
        Progress { total_files, total_bytes: head.snapshot.totals.bytes, ..Progress::default() }
    }

    pub(super) fn pull_plan<'a>(
        &self,
        head: &'a Head,
        header: Option<&BaseHeader>,
        delta: &'a mut LocalDelta,
        hold: bool,
        filter: &Arc<Filter>,
        options: &SyncOptions,
    ) -> Result<Plan<'a>, Error> {
        let (folded, git) = (delta.together.folded.clone(), Arc::clone(&delta.git));
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let segments = match options.only.as_slice() {
            [] => self.segments(head),
            only => self.segments_within(head, only),
        };
        let base = self.base_rows(header, filter, options)?;
        let rules = self.rules(options, hold);
        let remote = Remote::Segments(segments);
        let plan = Plan::new(rules, Towards::Mount, base, Box::new(local), remote, filter.clone());
        let plan = plan.with_folded(folded).releasing(options.allow_empty_mount);
        Ok(plan.knowing(head.snapshot.let_go()).with_git(git))
    }

    fn segments(&self, head: &Head) -> Segments<'static> {
        self.segments_at(head, self.part_tree(head, None).all().collect())
    }

    /// Returns the segments that may have these paths.
    fn segments_within(&self, head: &Head, paths: &[TreePath]) -> Segments<'static> {
        let tree = self.part_tree(head, None);
        let with_companions =
            paths.iter().flat_map(|path| std::iter::once(path.clone()).chain(sqlite::companions(path)));
        let wanted: BTreeSet<usize> = with_companions.flat_map(|path| tree.segments_within(&path)).collect();
        self.segments_at(head, wanted.into_iter().collect())
    }

    fn segments_at(&self, head: &Head, indexes: Vec<usize>) -> Segments<'static> {
        let (store, snapshot, cache) = (self.store.clone(), head.snapshot.clone(), self.cache());
        self.part.cut(OwnTree { store, snapshot, cache }.segments(indexes))
    }

    /// Returns the most files and links that the part of the head can have that the mount has.
    fn most_files(&self, head: &Head) -> u64 {
        let totals = &head.snapshot.totals;
        let segments = &head.snapshot.segments[self.part_tree(head, None).all()];
        let entries = segments.iter().map(|segment| u64::from(segment.entries)).sum();
        (totals.files + totals.symlinks).min(entries)
    }

    async fn count(
        &self,
        head: &Head,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        filter: &Arc<Filter>,
        options: &SyncOptions,
    ) -> Result<Counted, Error> {
        let mut counted = Counted { base: delta.stats.base, ..Counted::default() };
        let mut plan = self.pull_plan(head, header, delta, false, filter, options)?;
        while let Some(step) = plan.next().await? {
            counted.files_there += u64::from(step.remote.as_ref().is_some_and(|row| !row.0.entry.is_dir()));
            match step.decision.verdict {
                Verdict::Delete => {
                    counted.deleted += 1;
                    counted.files_deleted += u64::from(step.base.is_some_and(|row| !row.entry.is_dir()));
                }
                Verdict::Stop => counted.stopped = true,
                _ => {}
            }
        }
        Ok(counted)
    }

    /// Whether the head may have nothing left in this mount's scope, so that it is worth counting.
    fn may_be_lost(&self, head: &Head, stats: &DeltaStats, options: &SyncOptions) -> bool {
        let totals = &head.snapshot.totals;
        let is_empty = totals.files + totals.symlinks == 0;
        let is_part = self.policy.bw_list != BwList::default() || !self.part.is_whole();
        let guards = stats.base > 0 && !options.allow_empty_mount;
        guards && (is_empty || is_part && options.only.is_empty())
    }

    async fn plan_into_nothing(
        &self,
        head: &Head,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let filter = self.filter(options, Towards::Mount);
        let mut report = SyncReport { snapshot: Some(head.key.number), ..SyncReport::default() };
        let remote = Remote::Segments(self.segments(head));
        let (base, local) = (Box::new(std::iter::empty()), Box::new(std::iter::empty()));
        let mut plan =
            Plan::new(self.rules(options, false), Towards::Mount, base, local, remote, filter.clone());
        while let Some(step) = plan.next().await? {
            tell_planned(&step, &filter, monitor, &mut report);
        }
        Ok(report)
    }
}

#[derive(Default)]
struct Counted {
    base: u64,
    /// The number of the head's files and links in scope.
    files_there: u64,
    deleted: u64,
    /// How many of these are files and links.
    files_deleted: u64,
    stopped: bool,
}
