//! A push: local differences are sent, planned against the head, and committed. If another writer is first,
//! they are planned again.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use policy_core::{Digest, Towards, TreePath};
use tempfile::TempDir;
use tokio::time::{Instant, timeout_at};

use super::attempt::{Attempt, Attempted, Job};
use super::deadline::{Course, Cut};
use super::lost_here::Lost;
use crate::changes::{LocalDelta, Missing, Sending, Walk, delta_at_rest};
use crate::commit::Attempts;
use crate::count::count_are;
use crate::error::Error;
use crate::format::{LineageId, PackId, Snapshot, StoreId};
use crate::local::{Flush, MountDir, is_staging};
use crate::monitor::{Monitor, Phase, Silent};
use crate::mount::{Mount, Topic};
use crate::options::SyncOptions;
use crate::packing::{Chunks, PackSink};
use crate::plan::Filter;
use crate::report::SyncReport;
use crate::state::{Alone, BaseHeader, PackJournal};
use crate::status::TaskType;
use crate::store::Head;
use crate::tree::Tree;

/// How often a mount is read if another directory takes its place meanwhile.
const EXCHANGES: u32 = 3;
/// How many packs are remembered although no snapshot refers to them. Checking each costs a request.
const IN_VAIN: usize = 16;
/// After this many seconds, a newer head is looked for before the tree is written.
const STALE_SECS: i64 = 5;

impl Mount {
    /// Pushes what changed in the mount, as a new snapshot. If nothing changed, nothing is written.
    ///
    /// # Errors
    /// [`Error::NoContext`] if the context is missing and `options.create` is false, [`Error::NoStore`] if
    /// the store is missing, [`Error::Beaten`], [`Error::CommitUnknown`], [`Error::OutOfTime`] if nothing
    /// could be committed before `options.deadline`, and errors of the store and of the local file system.
    /// Errors of single paths go to the monitor and into the report.
    pub async fn push(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        self.push_shared(options, monitor).await
    }

    /// Does what [`Mount::push`] does, for a shared mount; waits for exclusive access.
    pub(crate) async fn push_shared(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        self.refuse_push(options)?;
        let alone = match options.deadline {
            None => self.arriving.alone().await,
            // An abandoned job may not end before the deadline.
            Some(deadline) => timeout_at(deadline, self.arriving.alone())
                .await
                .map_err(|_| Error::OutOfTime { name: self.context.clone() })?,
        };
        let keeper = self.keep_status(options, monitor, TaskType::Upload);
        let before = self.store.usage();
        let mut result = self.push_in_time(options, &alone, &keeper).await;
        if self.forget_damaged_state(&alone, &result, &keeper)? {
            result = self.push_in_time(options, &alone, &keeper).await;
        }
        for _ in 1..EXCHANGES {
            if !matches!(result, Err(Error::Exchanged { .. })) {
                break;
            }
            result = self.push_in_time(options, &alone, &keeper).await;
        }
        if let Ok(report) = &mut result {
            self.recycle_after(report, options, &keeper).await;
            let once = options.dry_run || options.deadline.is_some() || options.quiesce.is_some();
            if report.recycled > 0 && !once {
                // The mount has to know what the context let go of, because another writer may put something else in
                // its place. If this fails, the next sync finds out.
                if let Ok(seen) = self.push_in_time(options, &alone, &Silent).await {
                    // The files that were just recycled are counted as such.
                    report.absorb(&SyncReport { withheld: report.withheld, ..seen });
                }
            }
        }
        keeper.finish(result, self.store.usage().since(&before))
    }

    pub(super) async fn push_all(
        &self,
        options: &SyncOptions,
        alone: &Alone<'_>,
        course: &Course,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let filter = self.filter(options, Towards::Store);
        let dir = self.open_dir(alone, Towards::Store, options, monitor).await?;
        if dir.is_none() && self.files.header()?.is_none() {
            let missing = io::Error::from(rustix::io::Errno::NOENT);
            return Err(Error::local("open the mount", &self.path, missing));
        }
        let early = match &dir {
            // With a quiesce hook, the walk starts later, so that programs are paused no longer than
            // necessary.
            Some(dir) if options.quiesce.is_none() => {
                self.walk_early(dir, &filter, options, Towards::Store)?
            }
            _ => None,
        };
        let (asked, before) = (Instant::now(), self.store.usage());
        let found = self.look_for_parent(options, monitor).await?;
        course.pace.note_trips(asked.elapsed(), self.store.usage().since(&before).requests);
        // If the user allows the deletions, a missing mount counts as an empty one.
        let stand_in = (dir.is_none() && options.allow_empty_mount).then(|| self.stand_in()).transpose()?;
        let Some(dir) = stand_in.as_ref().map(|(_, dir)| dir).or(dir.as_ref()) else {
            return self.without_mount(found, monitor).await;
        };
        let is_to_be_made = found.is_none();
        // A missing context is created while the mount is read.
        let (head, header) = found.unwrap_or_else(|| (self.nothing_yet(), None));
        course.pace.note_head(head.bytes.len() as u64);
        let damaged = self.find_damaged(&head, options, monitor).await?;
        let mut pushing = Pushing {
            mount: self,
            job: &Job { alone, dir, filter, options, monitor, course, damaged },
            walk: early.and_then(|early| early.over(header.as_ref())),
            head,
            header,
            is_to_be_made,
            is_stand_in: stand_in.is_some(),
            attempts: Attempts::new(&self.store, &self.context),
            told: false,
            in_rounds: true,
            may_gather: true,
            objects: Arc::default(),
        };
        loop {
            if let Some(report) = pushing.round().await? {
                return Ok(SyncReport { created: is_to_be_made && !options.dry_run, ..report });
            }
        }
    }

    /// Returns the packs of the head in which something is damaged, where that is to be healed.
    async fn find_damaged(
        &self,
        head: &Head,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<BTreeSet<PackId>, Error> {
        let Some(read_data) = options.heal.clone() else { return Ok(BTreeSet::new()) };
        monitor.phase(Phase::Checking);
        let damaged = self.store.damaged_parts(head, read_data, options.concurrency, options.memory).await?;
        Ok(damaged.packs)
    }

    /// Creates an empty directory in place of the mount.
    fn stand_in(&self) -> Result<(TempDir, MountDir), Error> {
        let nothing = tempfile::Builder::new().prefix("nothing-").tempdir_in(self.files.dir());
        let nothing = nothing.map_err(|e| Error::local("write", self.files.dir(), e))?;
        let dir = MountDir::open(nothing.path(), self.store.env());
        let dir = dir.map_err(|e| Error::local("open", nothing.path(), e))?;
        Ok((nothing, dir))
    }

    /// Ends a push of a mount that is gone.
    async fn without_mount(
        &self,
        found: Option<(Head, Option<BaseHeader>)>,
        monitor: &dyn Monitor,
    ) -> Result<SyncReport, Error> {
        let (head, header) = match found {
            Some(found) => found,
            None => (self.make_context().await?, None),
        };
        monitor.warning("the mount directory is gone; deletions are held back");
        let held_back = header.as_ref().map_or(0, |h| h.rows);
        Ok(SyncReport { snapshot: Some(head.key.number), held_back, ..SyncReport::default() })
    }

    /// Removes the journal of packs after a push. If a file failed after some of its chunks were sent, the
    /// last packs are kept in the journal, so that the next push need not send them again.
    async fn forget_packs(&self, sent_in_vain: bool) -> Result<(), Error> {
        let path = self.files.packs();
        if !sent_in_vain {
            PackJournal::drop_at(&path);
            return Ok(());
        }
        let store = self.store.meta().await?.store_id;
        let kept = PackJournal::read(&path, store, self.store.env()).and_then(|packs| {
            PackJournal::begin(&path, store, &packs[packs.len().saturating_sub(IN_VAIN)..])
        });
        if let Err(error) = kept {
            tracing::debug!(%error, "no packs are noted");
        }
        Ok(())
    }

    /// Finds the snapshot to succeed; creates the context if that is wanted.
    async fn find_parent(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<(Head, Option<BaseHeader>), Error> {
        match self.look_for_parent(options, monitor).await? {
            Some(found) => Ok(found),
            None => Ok((self.make_context().await?, None)),
        }
    }

    /// Finds the snapshot to succeed; `None` if the context is to be created.
    async fn look_for_parent(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<Option<(Head, Option<BaseHeader>)>, Error> {
        let (head, header) = self.find_newest(monitor).await?;
        // The store must exist before anything is said of a missing context, or created.
        let meta_id = match &head {
            Some(head) if head.is_live() => None,
            _ => Some(self.store.meta().await?.store_id),
        };
        let head = match head {
            Some(head) if head.is_live() => head,
            head if !options.create => {
                return Err(self.store.missing(&self.context, head.as_ref()));
            }
            _ if options.dry_run => self.nothing_yet(),
            _ => {
                let remembered = self.files.header()?;
                if remembered.is_some_and(|h| Some(h.store.store_id) != meta_id) {
                    return Err(Error::OtherStore { location: self.store.location().to_owned() });
                }
                if header.is_none() {
                    return Ok(None);
                }
                self.make_context().await?
            }
        };
        let header = self.check_base(header, &head, monitor)?;
        // A part that is missing is made.
        self.has_part(&head, header.as_ref()).await?;
        Ok(Some((head, header)))
    }

    async fn make_context(&self) -> Result<Head, Error> {
        Ok(self.store.create(&self.context).await?.0)
    }

    /// Returns the state of a context that a dry run would have to create.
    fn nothing_yet(&self) -> Head {
        let key = crate::store::HeadKey { number: 0, size: 0, e_tag: None, landed: 0 };
        let (store, lineage) = (StoreId([0; 16]), LineageId([0; 16]));
        let snapshot = Snapshot { number: 0, ..Snapshot::empty(store, self.context.clone(), lineage) };
        Head { key, digest: Digest([0; 32]), snapshot: Arc::new(snapshot), bytes: bytes::Bytes::new() }
    }

    async fn read_mount(
        &self,
        attempt: &Attempt<'_>,
        head: &Head,
        header: Option<&BaseHeader>,
        walk: Option<Walk>,
        sink: &mut PackSink,
        in_rounds: bool,
    ) -> Result<LocalDelta, Error> {
        attempt.job.monitor.phase(Phase::Scanning);
        let cache = self.cache();
        let absent = attempt.job.sent_again(head);
        let anew = !absent.is_empty() || attempt.job.options.heal.is_some();
        let lost = self.lost_here(head, header, attempt.job).await?.and(&attempt.objects);
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        let mut read =
            self.delta_options(attempt.job.dir, &attempt.job.filter, attempt.job.options, Towards::Store);
        // What is in packs that do not count has to be sent again, and so has to be read again.
        read.checksum |= anew || lost == Lost::Many;
        let base = || {
            let rows = self.base_rows(header, &attempt.job.filter, attempt.job.options)?;
            Ok(lost.unread(rows))
        };
        let walk = match walk.filter(|_| !anew && lost == Lost::Nothing) {
            Some(walk) => walk,
            None => Walk::start(&read, base()?),
        };
        let journal = self.files.packs();
        let concurrency = attempt.job.options.concurrency.get();
        let chunks = attempt.chunks.clone();
        let sending =
            Sending { sink, chunks, head: tree, absent: &absent, journal: &journal, in_rounds, concurrency };
        let sending = (!attempt.job.options.dry_run).then_some(sending);
        delta_at_rest(&read, walk, base, sending, attempt.job.monitor).await
    }

    /// Checks the mount as a whole: whether it was lost, whether too much was deleted, whether nothing is in
    /// scope.
    fn check_mount(
        &self,
        attempt: &mut Attempt<'_>,
        delta: &LocalDelta,
        header: Option<&BaseHeader>,
    ) -> bool {
        let stats = &delta.stats;
        self.warn_of(Topic::Unmounted, delta.away.warning(), attempt.job.monitor);
        if Self::looks_lost(attempt.job.dir, attempt.job.options, stats, header) {
            attempt.job.monitor.warning(
                "every synced file is missing from the mount; treating it as lost, deletions are held back",
            );
            attempt.hold = true;
            attempt.lost = true;
        }
        if self.guards(attempt.job.options, stats.deleted, stats.base) {
            attempt.job.monitor.warning(&format!(
                "{} of {} paths are deleted, more than the deletion guard allows; deletions are held back",
                stats.deleted, stats.base
            ));
            attempt.hold = true;
        }
        if stats.in_doubt > 0 && self.policy.delete_policy.sync_local_file {
            attempt.job.monitor.warning(&format!(
                "{} missing from directories that kept changing; what is deleted there is held back until a later push",
                count_are(stats.in_doubt, "path")
            ));
        }
        stats.found == 0
            && stats.base == 0
            && attempt.job.options.only.is_empty()
            && self.scope.names_parts()
            && holds_something(attempt.job.dir, &attempt.job.filter)
    }
}

/// A push, between its readings of the mount.
struct Pushing<'a> {
    mount: &'a Mount,
    job: &'a Job<'a>,
    head: Head,
    /// The base, if it matches the head.
    header: Option<BaseHeader>,
    /// Whether the context is created while the mount is read.
    is_to_be_made: bool,
    /// Whether an empty directory is read because the mount is gone.
    is_stand_in: bool,
    /// The walk, if it was started before the head was known.
    walk: Option<Walk>,
    attempts: Attempts<'a>,
    /// Whether the plan was already reported.
    told: bool,
    /// Whether a long push is committed in rounds.
    in_rounds: bool,
    /// Whether what the head has in many small packs may be gathered.
    may_gather: bool,
    /// Objects of git repositories that are read although they have not changed, since the head lacks them.
    objects: Arc<BTreeSet<TreePath>>,
}

impl Pushing<'_> {
    /// Reads the mount and commits what changed. `None` if it has to be read again: there is more to send, or
    /// what was read does not fit the head any more.
    async fn round(&mut self) -> Result<Option<SyncReport>, Error> {
        let (mount, job) = (self.mount, self.job);
        let Job { options, monitor, course, .. } = *job;
        let chunks = Arc::new(Chunks::default());
        let (pace, concurrency) = (course.pace.clone(), options.concurrency.get());
        let mut sink = PackSink::new(&mount.store, chunks.clone(), pace, options.memory, concurrency);
        let (flush, aging) = (None, mount.aging(options)?);
        let (hold, lost, cut, told) = (false, false, None, self.told);
        let (may_gather, objects) = (self.may_gather, self.objects.clone());
        let needed = Arc::default();
        let mut attempt =
            Attempt { job, chunks, flush, hold, lost, cut, told, may_gather, needed, objects, aging };
        let mut delta = self.read(&attempt, &mut sink).await?;
        // With a deadline there is no flush: it may have to wait for other programs that write to the same
        // file system.
        let below = delta.file_systems.all();
        if delta.has_rows()
            && !options.dry_run
            && !course.pace.has_deadline()
            && (mount.flushes_push(options)? || !below.is_empty())
        {
            attempt.flush = Some(Flush::begin(job.dir, below));
        }
        if !options.dry_run {
            mount.clear_below(job.alone, job.dir, &delta.file_systems, monitor);
        }
        let nothing_in_scope =
            delta.is_whole && mount.check_mount(&mut attempt, &delta, self.header.as_ref());
        let cut = mount.await_landing(&mut delta, (job.dir, &attempt.chunks), &mut sink, &self.head).await?;
        if let Some((cut, missing)) = &cut {
            (attempt.cut, attempt.hold) = (Some(*cut), true);
            if *cut == Cut::Deadline && !missing.leaves_something {
                mount.tell_missing(&mut delta, monitor)?;
                monitor.warning(&missing.warning());
                if let Some(end) = course.pace.end() {
                    sink.land_until(end).await;
                }
                return mount.out_of_time(course, monitor).map(Some);
            }
            sink.let_go().await;
        } else {
            sink.send_ahead().await?;
        }
        let Some(mut report) = self.commit(&mut attempt, &mut delta, &mut sink).await? else {
            tracing::debug!(
                "the new head lacks what was not sent, or the commit came late; the mount is read again"
            );
            (self.told, self.may_gather) = (attempt.told, attempt.may_gather);
            self.attempts.again()?;
            return Ok(None);
        };
        // The files of the context in scope are just pending.
        report.nothing_in_scope = nothing_in_scope && report.pending == 0;
        if report.nothing_in_scope {
            monitor.warning("no white list matches any file in the mount");
        }
        self.end(report, cut, delta.stats.sent_in_vain).await
    }

    /// Reads the mount, while the programs that write to it are paused.
    async fn read(&mut self, attempt: &Attempt<'_>, sink: &mut PackSink) -> Result<LocalDelta, Error> {
        let (mount, Job { dir, options, monitor, course, .. }) = (self.mount, self.job);
        let walk = self.walk.take();
        let still = course.quiesce(&mount.path, options, *monitor).await?;
        let (head, header) = (&self.head, self.header.as_ref());
        let read = async {
            let read = mount.read_mount(attempt, head, header, walk, sink, self.in_rounds).await;
            course.resume(still, *monitor).await;
            read
        };
        let delta = if std::mem::take(&mut self.is_to_be_made) {
            let (made, delta) = tokio::try_join!(mount.make_context(), read)?;
            self.head = made;
            delta
        } else {
            read.await?
        };
        // If the directory was moved away, the last reads may have been of a directory that is no longer the
        // mount.
        if !dir.is_in_place() && !self.is_stand_in {
            return Err(Error::Exchanged { mount: mount.path.clone() });
        }
        Ok(delta)
    }

    /// Commits what was read on the head; if another writer is first, on the new head. `None` if the mount
    /// has to be read again.
    async fn commit(
        &mut self,
        attempt: &mut Attempt<'_>,
        delta: &mut LocalDelta,
        sink: &mut PackSink,
    ) -> Result<Option<SyncReport>, Error> {
        let mount = self.mount;
        let read_at = mount.store.env().now().secs;
        let mut is_first = true;
        self.attempts.begin();
        loop {
            if !is_first || mount.store.env().now().secs - read_at > STALE_SECS {
                let read_against = self.header.take();
                self.find_parent().await?;
                // Of a context that was made again meanwhile, the base says nothing: all files are new there, not only
                // those that differ from the base.
                if self.header != read_against {
                    return Ok(None);
                }
            }
            is_first = false;
            match mount.commit(attempt, &self.head, self.header.as_ref(), delta, sink).await? {
                Attempted::Done(report) => return Ok(Some(*report)),
                Attempted::Beaten => {
                    self.attempts.beaten().await?;
                    sink.forget_gathered();
                }
                Attempted::Rehash => return Ok(None),
                Attempted::Objects(objects) => {
                    self.objects = Arc::new(self.objects.union(&objects).cloned().collect());
                    return Ok(None);
                }
                Attempted::Late => {
                    self.attempts.late(self.head.key.number + 1)?;
                    let warning = "the commit landed too late to count; everything is sent again";
                    attempt.job.monitor.warning(warning);
                    PackJournal::drop_at(&mount.files.packs());
                    self.find_parent().await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Ends the push, or a round of it; then `None` is returned.
    async fn end(
        &mut self,
        report: SyncReport,
        cut: Option<(Cut, Missing)>,
        sent_in_vain: bool,
    ) -> Result<Option<SyncReport>, Error> {
        let (mount, Job { options, monitor, course, .. }) = (self.mount, self.job);
        let committed = report.parent.is_some();
        let Some((cut, missing)) = cut else {
            if !options.dry_run && !report.stopped_by_conflict {
                mount.forget_packs(sent_in_vain).await?;
            }
            return Ok(Some(course.add(report)));
        };
        if report.stopped_by_conflict {
            return Ok(Some(course.add(report)));
        }
        if cut == Cut::Deadline {
            monitor.warning(&missing.warning());
            if !committed {
                return mount.out_of_time(course, *monitor).map(Some);
            }
            return Ok(Some(SyncReport { partial: true, ..course.add(report) }));
        }
        // What this round has committed need not be in the journal. A round that committed nothing would have
        // the same result when it is repeated.
        self.in_rounds = committed;
        if committed {
            self.objects = Arc::default();
            PackJournal::drop_at(&mount.files.packs());
            course.add(report);
        }
        self.find_parent().await?;
        Ok(None)
    }

    /// Finds the head again, and whether the base matches it.
    async fn find_parent(&mut self) -> Result<(), Error> {
        (self.head, self.header) = self.mount.find_parent(self.job.options, self.job.monitor).await?;
        Ok(())
    }
}

/// Whether the mount's directory has anything in it except files of the program.
fn holds_something(dir: &MountDir, filter: &Filter) -> bool {
    let is_own = |name: &[u8]| {
        let path = TreePath::new(name);
        is_staging(dir.root(), name) || path.is_ok_and(|path| filter.own.holding(&path).is_some())
    };
    rustix::fs::Dir::read_from(dir.root()).is_ok_and(|entries| {
        let mut entries = entries.flatten();
        entries
            .any(|e| !matches!(e.file_name().to_bytes(), b"." | b"..") && !is_own(e.file_name().to_bytes()))
    })
}
