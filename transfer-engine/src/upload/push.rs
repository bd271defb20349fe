//! An upload: local differences are sent, planned against the head, and committed; planned again when
//! another writer is first.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy_core::{Decision, Digest, Entry, Reason, Towards, TreePath, Verdict, numbered_copy_path};

use super::delta::{LocalDelta, Sending, local_delta};
use super::packs::{Chunks, PackSink};
use crate::error::Error;
use crate::format::{ChunkRef, Kind, RecycleRules, Snapshot, StoreKey, TreeEntry};
use crate::local::MountDir;
use crate::monitor::{Action, Monitor, PathEvent, PathProblem, Phase, Side};
use crate::mount::Mount;
use crate::options::SyncOptions;
use crate::plan::{Filter, Plan, PlanStep, Remote};
use crate::report::SyncReport;
use crate::state::{BaseHeader, BaseRow, DeltaRow, DeltaState, NextBase};
use crate::status::TaskType;
use crate::store::{Committed, Head, unusable};
use crate::tree::{ChunkIndex, Lookup, Resolved, Tree, TreeUpdate};

/// How often a commit is tried against ever newer heads before giving up.
const ATTEMPTS: u32 = 100;
/// How often everything is sent again because the commit landed too late.
const LATE_ATTEMPTS: u32 = 3;
/// After this long, a newer head is looked for before the tree is written.
const STALE_SECS: i64 = 5;

/// What the attempts of one push share.
struct Attempt<'a> {
    filter: Arc<Filter>,
    options: &'a SyncOptions,
    monitor: &'a dyn Monitor,
    /// Whether deletions are held back.
    hold: bool,
    /// Whether what is planned has been told already.
    told: bool,
}

enum Outcome {
    Done(SyncReport),
    /// Another writer was first.
    Beaten,
    /// A chunk that was counted on is not in the new head: everything must be looked at again.
    Rehash,
    /// The commit landed, but too late for its packs to count.
    Late,
}

impl Mount {
    /// Uploads what changed in the mount, and commits it as a new snapshot; nothing changed, nothing is
    /// written.
    ///
    /// # Errors
    /// [`Error::NoContext`] where the context is missing and `options.create` is false, [`Error::NoStore`]
    /// where the store is, [`Error::Beaten`], [`Error::CommitUnknown`], and whatever the store and the local
    /// file system say. Trouble with single paths goes to the monitor and into the report.
    pub async fn push(&mut self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        let before = self.store.usage();
        let keeper = self.keep_status(options, monitor, TaskType::Upload);
        let mut result = self.push_all(options, &keeper).await;
        keeper.phase(Phase::Done);
        if let Ok(report) = &mut result {
            report.note_usage(self.store.usage().since(&before));
        }
        keeper.finish(&result);
        result
    }

    async fn push_all(&self, options: &SyncOptions, monitor: &dyn Monitor) -> Result<SyncReport, Error> {
        let filter = self.filter(options);
        let dir = self.open_dir(monitor)?;
        if dir.is_none() && self.files.header().is_none() {
            let missing = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::local("open the mount", &self.path, missing));
        }
        let (mut head, mut header) = self.find_parent(options, monitor).await?;
        let Some(dir) = dir else {
            monitor.warning("the mount is gone; its deletions are held back");
            let held_back = header.as_ref().map_or(0, |h| h.rows);
            return Ok(SyncReport { snapshot: Some(head.key.number), held_back, ..SyncReport::default() });
        };

        self.warn_of_expired(header.as_ref(), monitor)?;
        let mut attempt = Attempt { filter, options, monitor, hold: false, told: false };
        let (mut attempts, mut late) = (0, 0);
        loop {
            let chunks = Arc::new(Chunks::default());
            let concurrency = options.concurrency.get();
            let mut sink = PackSink::new(&self.store, chunks.clone(), options.memory, concurrency);
            let mut delta =
                self.read_mount(&dir, &attempt, &head, header.as_ref(), &chunks, &mut sink).await?;
            let in_scope_nothing = self.check_mount(&dir, &mut attempt, &delta);
            let read_at = self.store.env().now().secs;
            let mut first = true;
            loop {
                if !first || self.store.env().now().secs - read_at > STALE_SECS {
                    (head, header) = self.find_parent(options, monitor).await?;
                }
                first = false;
                let outcome =
                    self.commit(&mut attempt, &head, header.as_ref(), &mut delta, &chunks, &mut sink).await?;
                match outcome {
                    Outcome::Done(mut report) => {
                        report.nothing_in_scope = in_scope_nothing;
                        return Ok(report);
                    }
                    Outcome::Beaten => {}
                    Outcome::Rehash => break,
                    Outcome::Late => {
                        late += 1;
                        if late == LATE_ATTEMPTS {
                            let number = head.key.number + 1;
                            return Err(Error::TooLate { name: self.context.clone(), number });
                        }
                        monitor.warning("the commit landed too late to count; everything is sent again");
                        (head, header) = self.find_parent(options, monitor).await?;
                        break;
                    }
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(Error::Beaten { name: self.context.clone(), attempts });
                }
                self.back_off(attempts).await?;
            }
            attempts += 1;
            if attempts >= ATTEMPTS {
                return Err(Error::Beaten { name: self.context.clone(), attempts });
            }
        }
    }

    /// Waits a little, longer each time, and not in step with the other writers.
    async fn back_off(&self, attempts: u32) -> Result<(), Error> {
        let random: [u8; 4] = self.store.random()?;
        let most = 20 * (1u64 << attempts.min(6));
        let millis = u64::from(u32::from_le_bytes(random)) % most;
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    /// Finds the snapshot to succeed, making the context where that is wanted.
    async fn find_parent(
        &self,
        options: &SyncOptions,
        monitor: &dyn Monitor,
    ) -> Result<(Head, Option<BaseHeader>), Error> {
        let (key, header) = self.find_head(monitor).await?;
        let head = match key {
            Some(key) => Some(self.load_head(header.as_ref(), &key).await?),
            None => None,
        };
        let head = match head {
            Some(head) if head.is_live() => head,
            _ if !options.create => {
                // The difference between no store and no context makes another message.
                self.store.meta().await?;
                return Err(Error::NoContext {
                    name: self.context.clone(),
                    location: self.store.location().to_owned(),
                });
            }
            _ if options.dry_run => {
                self.store.meta().await?;
                self.nothing_yet()
            }
            _ => self.store.create(&self.context).await?.0,
        };
        let header = self.check_base(header, &head, monitor)?;
        Ok((head, header))
    }

    /// The state of a context that a dry run would have to make first.
    fn nothing_yet(&self) -> Head {
        let key = crate::store::HeadKey { number: 0, size: 0, e_tag: None, landed: 0 };
        let snapshot = Snapshot {
            number: 0,
            store_id: crate::format::StoreId([0; 16]),
            context: self.context.clone(),
            lineage: crate::format::LineageId([0; 16]),
            parent: None,
            kind: Kind::Normal,
            created: Default::default(),
            session: String::new(),
            nonce: [0; 16],
            policy: Digest([0; 32]),
            recycle: RecycleRules::default(),
            totals: Default::default(),
            changes: Default::default(),
            partial: false,
            packs: Vec::new(),
            segments: Vec::new(),
            inline: bytes::Bytes::new(),
        };
        Head { key, digest: Digest([0; 32]), snapshot: Arc::new(snapshot), bytes: bytes::Bytes::new() }
    }

    async fn read_mount(
        &self,
        dir: &MountDir,
        attempt: &Attempt<'_>,
        head: &Head,
        header: Option<&BaseHeader>,
        chunks: &Arc<Chunks>,
        sink: &mut PackSink,
    ) -> Result<LocalDelta, Error> {
        attempt.monitor.phase(Phase::Scanning);
        let cache = self.cache();
        let absent = head.late_packs();
        let tree = Tree { store: &self.store, snapshot: &head.snapshot, cache: Some(&cache) };
        let mut read = self.delta_options(dir, &attempt.filter, attempt.options);
        // What lies in packs that don't count has to be sent again, so it has to be read again.
        read.checksum |= !absent.is_empty();
        let base = self.base_rows(header, &attempt.filter)?;
        let sending = Sending { sink, chunks: chunks.clone(), head: tree, absent: &absent };
        let sending = (!attempt.options.dry_run).then_some(sending);
        local_delta(&read, base, sending, attempt.monitor).await
    }

    /// Looks at the mount as a whole: was it lost, is too much deleted, is nothing in scope?
    fn check_mount(&self, dir: &MountDir, attempt: &mut Attempt<'_>, delta: &LocalDelta) -> bool {
        let stats = &delta.stats;
        if Self::looks_lost(attempt.options, stats) {
            attempt.monitor.warning("nothing of what was brought is in the mount any more: it is taken as lost, and deletions are held back");
            attempt.hold = true;
        }
        if self.guards(attempt.options, stats.deleted, stats.base) {
            attempt.monitor.warning(&format!(
                "{} of {} paths are deleted, more than the guard allows; deletions are held back",
                stats.deleted, stats.base
            ));
            attempt.hold = true;
        }
        let nothing = stats.found == 0
            && stats.base == 0
            && attempt.options.only.is_empty()
            && !self.scope.lists().is_empty()
            && holds_something(dir);
        if nothing {
            attempt.monitor.warning("no white list matches anything in the mount, which is not empty");
        }
        nothing
    }

    async fn commit(
        &self,
        attempt: &mut Attempt<'_>,
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
            && late.is_empty();
        let stats = delta.stats.clone();
        let mut report = SyncReport {
            snapshot: Some(head.key.number),
            unchanged: stats.unchanged,
            failed: stats.failed,
            bytes_read: stats.bytes_read,
            total_bytes: head.snapshot.totals.bytes,
            ..SyncReport::default()
        };
        if as_base && !delta.has_rows() {
            return Ok(Outcome::Done(report));
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
        if !attempt.told && !as_base && options.only.is_empty() {
            let mut marks = delta.marks.clone();
            marks.merge(&tally.marks.take().unwrap_or_else(|| policy_core::ListMarks::new(&self.scope)));
            self.warn_unmatched(&marks, monitor);
        } else if !attempt.told && options.only.is_empty() {
            self.warn_unmatched(&delta.marks, monitor);
        }
        attempt.told = true;
        if tally.stopped {
            report.stopped_by_conflict = true;
            return Ok(Outcome::Done(report));
        }
        if options.dry_run {
            (report.added, report.changed, report.deleted) = (tally.added, tally.changed, tally.deleted);
            return Ok(Outcome::Done(report));
        }
        let copies = self.settle_copies(std::mem::take(&mut tally.copies), &tree, delta).await?;

        // Once more, this time for real. A file that can't stand beside what stays is left out, which
        // shows only at the end; then the tree is made again without it.
        let mut left_out: BTreeSet<TreePath> = BTreeSet::new();
        let (updated, next, agrees) = loop {
            let made = self
                .make_tree(attempt, &tree, header, delta, as_base, chunks, sink, &copies, &left_out, &late)
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
            left_out.extend(updated.blocked);
        };
        let agrees = agrees && left_out.is_empty() && copies.is_empty();

        let meta = self.store.meta().await?;
        let as_now = BaseHeader {
            store: meta,
            lineage: head.snapshot.lineage,
            head: head.key.clone(),
            digest: head.digest,
            scope: self.scope_digest(),
            agrees,
            rows: 0,
            bytes: 0,
        };
        let cannot_write = |e: io::Error| Error::local("write", self.files.next_base(), e);
        if updated.is_unchanged() {
            sink.flush().await?;
            let header = next.finish(as_now).map_err(cannot_write)?;
            self.files.adopt_next(&header)?;
            return Ok(Outcome::Done(report));
        }

        monitor.phase(Phase::Committing);
        sink.flush().await?;
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
            recycle: RecycleRules {
                lifecycle_days: self
                    .policy
                    .recycle_policy
                    .lifecycle
                    .days()
                    .and_then(|d| u16::try_from(d).ok()),
                paths: self.scope.recycle_paths().places().to_vec(),
            },
            totals: updated.totals,
            changes: updated.changes,
            partial: false,
            packs: listed.packs,
            segments: listed.segments,
            inline: listed.inline,
        };
        let land_by = snapshot.packs.iter().filter_map(|p| p.land_by).min();
        let key = StoreKey::Snapshot { context: self.context.clone(), number }.path();
        let encoded = snapshot.encode().map_err(|e| unusable(key, e))?;
        // From here on a crash leaves the choice between the base and the next one, and the store decides.
        let header = BaseHeader {
            head: crate::store::HeadKey { number, size: encoded.bytes.len() as u64, e_tag: None, landed: 0 },
            digest: encoded.digest,
            ..as_now
        };
        let header = next.finish(header).map_err(cannot_write)?;
        let committed =
            self.store.commit(&self.context, number, encoded.bytes.clone(), encoded.digest).await?;
        let Committed::Ours(key) = committed else {
            self.files.drop_next()?;
            return Ok(Outcome::Beaten);
        };
        let landed_late = land_by.is_some_and(|by| key.landed >= by);
        cache.put(&encoded.digest, &encoded.bytes);
        self.files.adopt_next(&BaseHeader { head: key.clone(), ..header })?;
        if landed_late {
            return Ok(Outcome::Late);
        }
        let new_head =
            Head { key, digest: encoded.digest, snapshot: Arc::new(snapshot), bytes: encoded.bytes };
        self.trim_cache(&new_head);
        report.snapshot = Some(number);
        report.parent = Some(head.key.number);
        report.added = updated.changes.added;
        report.changed = updated.changes.changed;
        report.deleted = updated.changes.deleted;
        report.total_bytes = updated.totals.bytes;
        report.bytes_stored = sink.stored + new_head.bytes.len() as u64;
        Ok(Outcome::Done(report))
    }

    fn plan<'a>(
        &self,
        attempt: &Attempt<'_>,
        tree: &Tree<'a>,
        header: Option<&BaseHeader>,
        delta: &'a mut LocalDelta,
        as_base: bool,
    ) -> Result<Plan<'a>, Error> {
        let local = delta.read().map_err(|e| Error::local("read", self.files.dir(), e))?;
        let remote = if as_base {
            Remote::AsBase
        } else {
            Remote::Segments(Box::pin(tree.segments(0..tree.snapshot.segments.len())))
        };
        let base = self.base_rows(header, &attempt.filter)?;
        let rules = self.rules(attempt.options, attempt.hold);
        Ok(Plan::new(rules, Towards::Store, base, Box::new(local), remote, attempt.filter.clone()))
    }

    /// Gives each conflict copy a name that nothing else has. One that is there already, from the same
    /// conflict met before, is not made again.
    async fn settle_copies(
        &self,
        copies: Vec<TreeEntry>,
        tree: &Tree<'_>,
        delta: &mut LocalDelta,
    ) -> Result<Vec<TreeEntry>, Error> {
        if copies.is_empty() {
            return Ok(copies);
        }
        let mut settled: BTreeMap<TreePath, TreeEntry> = BTreeMap::new();
        // Copies that have no name yet, by the one that is tried next, each with its first choice.
        let mut open: BTreeMap<TreePath, (TreePath, TreeEntry)> =
            copies.into_iter().map(|copy| (copy.path.clone(), (copy.path.clone(), copy))).collect();
        let cannot_read = |e: io::Error| Error::local("read", self.files.dir(), e);
        for number in 2.. {
            let mut taken: BTreeMap<TreePath, Entry> = BTreeMap::new();
            for row in delta.read().map_err(cannot_read)? {
                let row = row.map_err(cannot_read)?;
                if let Some((entry, _)) = present(&row)
                    && open.contains_key(&row.path)
                {
                    taken.insert(row.path.clone(), entry.clone());
                }
            }
            for (path, (first, copy)) in std::mem::take(&mut open) {
                let there = match taken.remove(&path) {
                    Some(entry) => Some(entry),
                    None => tree.find(&path).await?.map(|found| found.entry),
                };
                match there {
                    Some(there) if there.agrees_with(&copy.entry) => {}
                    None if !settled.contains_key(&path) => {
                        settled.insert(path.clone(), TreeEntry { path, ..copy });
                    }
                    _ => {
                        open.insert(numbered_copy_path(&first, number), (first, copy));
                    }
                }
            }
            if open.is_empty() {
                break;
            }
        }
        Ok(settled.into_values().collect())
    }

    /// Makes the new tree and the base that goes with it; `None` if a chunk is not where it was expected.
    #[expect(clippy::too_many_arguments, reason = "the one place where everything of an upload meets")]
    async fn make_tree<'t>(
        &self,
        attempt: &Attempt<'_>,
        tree: &Tree<'t>,
        header: Option<&BaseHeader>,
        delta: &mut LocalDelta,
        as_base: bool,
        chunks: &Arc<Chunks>,
        sink: &mut PackSink,
        copies: &[TreeEntry],
        left_out: &BTreeSet<TreePath>,
        late: &[crate::format::PackId],
    ) -> Result<Option<(crate::tree::UpdatedTree, NextBase, bool)>, Error> {
        let cannot_write = |e: io::Error| Error::local("write", self.files.next_base(), e);
        let old: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send> = match self.all_base_rows(header)? {
            Some(rows) => {
                let filter = attempt.filter.clone();
                Box::new(rows.filter(move |row| {
                    // A path that left the scope loses its base, so that its return is no deletion.
                    row.as_ref().map_or(true, |row| filter.in_scope(&row.path, row.entry.is_dir()))
                }))
            }
            None => Box::new(std::iter::empty()),
        };
        let mut next = NextBase::create(&self.files.next_base(), old).map_err(cannot_write)?;
        let index = match chunks.head() {
            Some(index) => index,
            None => Arc::new(ChunkIndex::default()),
        };
        let mut finder = Finder { chunks, lookup: Lookup::new(tree.clone(), &index) };
        let mut update = TreeUpdate::new(tree.clone());
        let mut copies = copies.iter().peekable();
        let uploaded = self.store.env().now().secs;
        // With a part of the scope only, nothing is known about the rest but what the base says.
        let mut agrees = match (as_base, attempt.options.only.is_empty()) {
            (true, _) => true,
            (false, only_is_empty) => only_is_empty,
        };
        let mut plan = self.plan(attempt, tree, header, delta, as_base)?;
        while let Some(mut step) = plan.next().await? {
            if left_out.contains(&step.path) {
                step.decision = Decision { verdict: Verdict::Withhold, reason: Reason::NeedsDeletion };
            }
            while let Some(copy) = copies.next_if(|c| c.path < step.path) {
                update.apply(Resolved::Put(copy.clone()), sink).await?;
            }
            let base_after = base_after(&step, uploaded);
            agrees &= agrees_after(&step, base_after.as_ref());
            let sends_again = !late.is_empty()
                && step.decision.verdict == Verdict::Nothing
                && step
                    .remote
                    .as_ref()
                    .is_some_and(|r| r.0.chunks.iter().any(|c| late.contains(&c.block.pack)));
            match step.decision.verdict {
                Verdict::Write | Verdict::KeepBoth => match step.local.as_ref().and_then(present) {
                    Some((entry, ids)) => {
                        let Some(put) = finder.resolve(&step.path, entry, ids, uploaded).await? else {
                            return Ok(None);
                        };
                        update.apply(Resolved::Put(put), sink).await?;
                    }
                    None => update.apply(Resolved::Delete(step.path.clone()), sink).await?,
                },
                Verdict::Delete => update.apply(Resolved::Delete(step.path.clone()), sink).await?,
                _ if sends_again => {
                    if let Some((entry, ids)) = step.local.as_ref().and_then(present)
                        && let Some(put) = finder.resolve(&step.path, entry, ids, uploaded).await?
                    {
                        update.apply(Resolved::Put(put), sink).await?;
                    }
                }
                _ => {}
            }
            if let Some(row) = base_after {
                next.set(&step.path, row).map_err(cannot_write)?;
            }
        }
        drop(plan);
        for copy in copies {
            update.apply(Resolved::Put(copy.clone()), sink).await?;
        }
        Ok(Some((update.finish(sink).await?, next, agrees)))
    }
}

fn present(row: &DeltaRow) -> Option<(&Entry, &[(crate::format::ChunkId, u32)])> {
    match &row.state {
        DeltaState::Present { entry, chunks, .. } => Some((entry, chunks)),
        DeltaState::Absent | DeltaState::Unreadable => None,
    }
}

/// Returns the row that the base has after the step: `None` leaves it as it was.
fn base_after(step: &PlanStep, uploaded: i64) -> Option<Option<BaseRow>> {
    let local = || {
        step.local.as_ref().and_then(|row| match &row.state {
            DeltaState::Present { entry, seen, trusted, .. } => Some(BaseRow {
                path: row.path.clone(),
                entry: Entry { uploaded, ..entry.clone() },
                print: seen.filter(|_| *trusted),
            }),
            DeltaState::Absent | DeltaState::Unreadable => None,
        })
    };
    match (step.decision.verdict, step.decision.reason) {
        (Verdict::Write | Verdict::KeepBoth, _) => Some(local()),
        (Verdict::Delete, _) | (Verdict::Nothing, Reason::DeletedOnBoth) => Some(None),
        (Verdict::Nothing, Reason::SameChange | Reason::Unchanged) => local().map(Some),
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
    lookup: Lookup<'a>,
}

impl Finder<'_> {
    async fn resolve(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        ids: &[(crate::format::ChunkId, u32)],
        uploaded: i64,
    ) -> Result<Option<TreeEntry>, Error> {
        let mut chunks: Vec<ChunkRef> = Vec::with_capacity(ids.len());
        for (id, _) in ids {
            let found = match self.chunks.sent(id) {
                Some(found) => Some(found),
                None => self.lookup.find(id).await?,
            };
            match found {
                Some(found) => chunks.push(found),
                None => return Ok(None),
            }
        }
        let entry = Entry { uploaded, ..entry.clone() };
        Ok(Some(TreeEntry { path: path.clone(), entry, extracted: false, recycled: false, chunks }))
    }
}

/// What a plan comes to.
#[derive(Default)]
struct Tally {
    added: u64,
    changed: u64,
    deleted: u64,
    stopped: bool,
    copies: Vec<TreeEntry>,
    marks: Option<policy_core::ListMarks>,
}

impl Tally {
    fn note(&mut self, step: &PlanStep, attempt: &Attempt<'_>, report: &mut SyncReport) {
        if step.remote.is_some() {
            let scope = &attempt.filter.scope;
            self.marks.get_or_insert_with(|| policy_core::ListMarks::new(scope)).note(scope, &step.path);
        }
        let local = step.local.as_ref().and_then(present).map(|(entry, _)| entry);
        let there = step.remote.as_ref().map(|r| &r.0.entry);
        let size = local.or(there).map_or(0, Entry::size);
        let (action, size) = match step.decision.verdict {
            Verdict::Nothing => return,
            Verdict::Write if there.is_some() => {
                self.changed += 1;
                (Action::Change, size)
            }
            Verdict::Write => {
                self.added += 1;
                (Action::Add, size)
            }
            Verdict::Delete => {
                self.deleted += 1;
                (Action::Delete, there.map_or(0, Entry::size))
            }
            Verdict::HoldBack => {
                report.held_back += 1;
                (Action::Keep, size)
            }
            Verdict::Keep => {
                report.pending += u64::from(step.decision.reason == Reason::NotYetBrought);
                (Action::Keep, size)
            }
            Verdict::KeepBoth => {
                report.conflicts += 1;
                if let (Some(copy), Some(remote)) = (&step.copy, &step.remote) {
                    self.copies.push(TreeEntry { path: copy.clone(), ..remote.0.clone() });
                }
                (Action::Conflict, size)
            }
            Verdict::Stop => {
                report.conflicts += 1;
                self.stopped = true;
                (Action::Conflict, size)
            }
            Verdict::Withhold => {
                if step.decision.reason == Reason::NeedsDeletion {
                    report.failed += 1;
                    attempt.monitor.problem(&PathProblem {
                        path: step.path.clone(),
                        message: step.decision.reason.to_string(),
                        hint: "let the deletion through, or move the new file".to_owned(),
                    });
                }
                (Action::Skip, size)
            }
        };
        if !attempt.told {
            let reason = step.decision.reason.to_string();
            attempt.monitor.path(&PathEvent {
                path: &step.path,
                action,
                side: Side::Store,
                reason: &reason,
                size,
            });
        }
    }
}

/// Whether the mount's directory has anything in it.
fn holds_something(dir: &MountDir) -> bool {
    rustix::fs::Dir::read_from(dir.root())
        .is_ok_and(|entries| entries.flatten().any(|e| !matches!(e.file_name().to_bytes(), b"." | b"..")))
}
