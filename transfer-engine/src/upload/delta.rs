//! Where a mount differs from its base: the scan, merged with the base; what may have changed is read, and
//! in an upload its new chunks are sent on the way.
//!
//! ```text
//! scan ─┐
//!       ├─► merge ─► batches ─► read, cut, hash, compress ─► rows, in order
//! base ─┘                                └──────────────────► blocks ─► packs
//! ```
//! With a deadline the batches are sorted by importance before they are read (`ordered.rs`).

use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use policy_core::{ListMarks, Scope, TreePath, UploadMode};
use tokio::sync::mpsc;

use super::away::AwayOnes;
use super::chunks::Chunks;
use super::files::{Read, Readers, read_long};
use super::head_paths::HeadPaths;
use super::merge::{Batch, Work};
use super::packs::PackSink;
use super::reading::step_buffers;
use super::resume::resume;
use super::specials::Specials;
use super::subtrees::Subtrees;
use super::units::{Together, by_database};
use super::unsent::Landed;
use super::walk::{Walk, Walked};
use crate::env::JobLost;
use crate::error::Error;
use crate::format::PackId;
use crate::local::{FileSystems, Look, MountDir, ScanFilter};
use crate::monitor::{Monitor, Progress};
use crate::report::SyncReport;
use crate::state::{DeltaRow, DeltaState, MemberRow, Runs, Spool};
use crate::store::Head;
use crate::tree::{ChunkIndex, Tree};

/// How the local side is to be read.
pub(crate) struct DeltaOptions<'a> {
    pub(crate) mount: &'a MountDir,
    pub(crate) scope: Arc<Scope>,
    pub(crate) filter: Arc<dyn ScanFilter>,
    pub(crate) spool_dir: &'a Path,
    /// Reads every file, trusting no fingerprint.
    pub(crate) checksum: bool,
    /// Believes that what was on file systems which are gone was deleted.
    pub(crate) allow_empty_mount: bool,
    /// Whether all in scope is dealt with, and not only what was asked for.
    pub(crate) is_of_all: bool,
    pub(crate) mode: UploadMode,
    /// The most bytes of new content; more is an error.
    pub(crate) max_upload: Option<u64>,
    /// The directory that is walked: the root, or one that is read on its own.
    pub(crate) from: TreePath,
    /// Where other file systems begin, as far as that is known before.
    pub(crate) file_systems: Arc<FileSystems>,
    /// Whether files are passed over that are there only while git works on them.
    pub(crate) leaves_passing: bool,
}

/// Where new chunks go; without it they are only counted.
pub(crate) struct Sending<'a, 'b> {
    pub(crate) sink: &'a mut PackSink,
    pub(crate) chunks: Arc<Chunks>,
    /// The head, whose chunks need not be sent,
    pub(crate) head: Tree<'b>,
    /// but for those in packs that do not count.
    pub(crate) absent: &'a [PackId],
    /// Where the packs are noted that no commit refers to yet.
    pub(crate) journal: &'a Path,
    /// Whether a long upload is to be committed in rounds.
    pub(crate) in_rounds: bool,
    /// Requests under way at once.
    pub(crate) concurrency: usize,
}

impl<'b> Sending<'_, 'b> {
    /// Returns the same for one of several readings.
    pub(super) fn once(&mut self) -> Sending<'_, 'b> {
        Sending {
            sink: &mut *self.sink,
            chunks: self.chunks.clone(),
            head: self.head.clone(),
            absent: self.absent,
            journal: self.journal,
            in_rounds: self.in_rounds,
            concurrency: self.concurrency,
        }
    }
}

/// The local differences, and what was counted on the way.
pub(crate) struct LocalDelta {
    pub(crate) rows: Spool<DeltaRow>,
    /// Rows that did not come in the order of the tree: those of long files, and with a deadline of all.
    pub(super) others: Runs<DeltaRow>,
    pub(crate) stats: DeltaStats,
    /// The lists that met something.
    pub(crate) marks: ListMarks,
    /// Short files that had grown long when they were read.
    pub(super) grown: Vec<Work>,
    pub(crate) together: Together,
    /// Where other file systems begin.
    pub(crate) file_systems: Arc<FileSystems>,
    /// What was on file systems that are not there.
    pub(crate) away: AwayOnes,
    /// Whether reading ended before everything was read.
    pub(super) cut_short: bool,
    /// Whether the mount was looked through to its end.
    pub(super) is_whole: bool,
    /// What is in the store, where not everything is.
    pub(super) landed: Option<Landed>,
    /// What is known of the moment at which the mount was looked through.
    pub(super) look: Arc<Look>,
    /// What the look before this one came to.
    pub(super) before: Option<Box<LocalDelta>>,
    /// Whether the mount was still changing when it was looked at last. Then what is in doubt is not taken as
    /// deleted.
    pub(crate) unsettled: bool,
    /// What is read on its own, each a part of the mount that nothing else here is about.
    pub(super) parts: Vec<LocalDelta>,
}

/// How many paths that can't be read are named.
const MAX_UNREAD: usize = 1000;

#[derive(Debug, Default, Clone)]
pub(crate) struct DeltaStats {
    /// Rows of the base that take part.
    pub(crate) base: u64,
    /// Those at whose path something still is.
    pub(crate) present: u64,
    pub(crate) deleted: u64,
    /// Those of them that are in doubt.
    pub(crate) in_doubt: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) failed: u64,
    /// Rows of the base on file systems that are not there; they are counted nowhere else.
    pub(crate) unmounted: u64,
    /// Files that vanished before they were read.
    pub(crate) gone: u64,
    /// What can't be read; the root alone where that is too much to name.
    pub(crate) unread: Vec<TreePath>,
    /// What no context can hold, at paths that the base does not have.
    pub(crate) specials: Specials,
    pub(crate) found: u64,
    pub(crate) bytes_read: u64,
    /// Whether something was sent that no row refers to: of a file that could not be read to its end.
    pub(crate) sent_in_vain: bool,
}

impl DeltaStats {
    pub(super) fn note_unread(&mut self, path: TreePath) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push(path);
        } else {
            self.unread = vec![TreePath::root()];
        }
    }

    /// Begins the report of a sync against this head.
    pub(crate) fn report(&self, head: &Head) -> SyncReport {
        SyncReport {
            snapshot: Some(head.key.number),
            unchanged: self.unchanged,
            failed: self.failed,
            unmounted: self.unmounted,
            bytes_read: self.bytes_read,
            total_bytes: head.snapshot.totals.bytes,
            ..SyncReport::default()
        }
    }
}

impl LocalDelta {
    pub(super) fn new(options: &DeltaOptions<'_>, look: Arc<Look>) -> Self {
        Self {
            rows: Spool::new(options.spool_dir),
            others: Runs::new(options.spool_dir, |a, b| a.path.cmp(&b.path)),
            stats: DeltaStats::default(),
            marks: ListMarks::new(&options.scope),
            grown: Vec::new(),
            together: Together::default(),
            file_systems: Arc::default(),
            away: AwayOnes::default(),
            cut_short: false,
            is_whole: true,
            landed: None,
            look,
            before: None,
            unsettled: false,
            parts: Vec::new(),
        }
    }

    /// Whether there are rows that say more than that something can't be held.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows.len() > self.stats.specials.total
            || !self.others.is_empty()
            || self.parts.iter().any(Self::has_rows)
    }

    /// Adds what was read of a part of the mount on its own.
    pub(super) fn add_part(&mut self, mut part: LocalDelta) {
        self.together.absorb(std::mem::take(&mut part.together));
        count(&mut self.stats, &part.stats);
        self.away.absorb(std::mem::take(&mut part.away));
        self.stats.unmounted = self.away.rows();
        self.marks.merge(&part.marks);
        self.cut_short |= part.cut_short;
        self.is_whole &= part.is_whole;
        self.parts.push(part);
    }

    /// Decides, after the last look, what is in doubt.
    pub(super) fn settle_doubts(&mut self) {
        self.before = None;
        if self.unsettled {
            let stats = &mut self.stats;
            stats.deleted = stats.deleted.saturating_sub(stats.in_doubt);
            stats.present += stats.in_doubt;
        } else {
            self.stats.in_doubt = 0;
        }
    }

    /// Reads all rows in order. A file of which something is not in the store is one that was not sent.
    pub(crate) fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<DeltaRow>> + Send> {
        let landed = self.landed.as_ref().map(Landed::judge);
        let stays = self.away.without();
        let tops = self.away.tops().into_iter().map(Ok).peekable();
        let rows = self.decided()?.map(move |row| match &landed {
            Some(judge) => row.map(|row| judge.settle(row)),
            None => row,
        });
        let rows = rows.filter(move |row| row.as_ref().map_or(true, &stays));
        Ok(MergedRows { in_order: rows.peekable(), others: tops })
    }

    /// Reads all rows in order, those of the parts as well, with what became of those in doubt.
    fn decided(&mut self) -> io::Result<Decided<'_>> {
        let believes = !self.unsettled;
        let found =
            MergedRows { in_order: self.rows.read()?.peekable(), others: self.others.read()?.peekable() };
        let mut all: Decided<'_> = Box::new(found.map(move |row| {
            let mut row = row?;
            if believes && matches!(row.state, DeltaState::InDoubt { .. }) {
                row.state = DeltaState::Absent;
            }
            Ok(row)
        }));
        for part in &mut self.parts {
            let part = part.decided()?.peekable();
            all = Box::new(MergedRows { in_order: all.peekable(), others: part });
        }
        Ok(all)
    }

    /// Reads all rows in order, as they were found.
    pub(super) fn found(&mut self) -> io::Result<impl Iterator<Item = io::Result<DeltaRow>>> {
        let others = self.others.read()?.peekable();
        Ok(MergedRows { in_order: self.rows.read()?.peekable(), others })
    }
}

type Decided<'a> = Box<dyn Iterator<Item = io::Result<DeltaRow>> + Send + 'a>;

struct MergedRows<A: Iterator, B: Iterator> {
    in_order: Peekable<A>,
    others: Peekable<B>,
}

impl<A, B> Iterator for MergedRows<A, B>
where
    A: Iterator<Item = io::Result<DeltaRow>>,
    B: Iterator<Item = io::Result<DeltaRow>>,
{
    type Item = io::Result<DeltaRow>;

    fn next(&mut self) -> Option<Self::Item> {
        // What was read apart holds: a database may have been found to be one only then.
        if let (Some(Ok(a)), Some(Ok(b))) = (self.in_order.peek(), self.others.peek())
            && a.path == b.path
        {
            self.in_order.next();
        }
        match (self.in_order.peek(), self.others.peek()) {
            (_, Some(Err(_))) | (None, Some(_)) => self.others.next(),
            (Some(Ok(a)), Some(Ok(b))) if b.path < a.path => self.others.next(),
            _ => self.in_order.next(),
        }
    }
}

/// What the local differences are for.
pub(crate) enum Purpose<'a, 'b> {
    /// They are only counted.
    Count,
    /// They are sent.
    Upload(Sending<'a, 'b>),
    /// They are compared with a head.
    Download(HeadPaths<'a>),
}

impl<'a, 'b> From<Option<Sending<'a, 'b>>> for Purpose<'a, 'b> {
    fn from(sending: Option<Sending<'a, 'b>>) -> Self {
        sending.map_or(Self::Count, Self::Upload)
    }
}

/// Compares the mount with the base that the walk was started with.
pub(crate) async fn local_delta(
    options: &DeltaOptions<'_>,
    walk: Walk,
    purpose: Purpose<'_, '_>,
    monitor: &dyn Monitor,
) -> Result<LocalDelta, Error> {
    let (sending, head) = match purpose {
        Purpose::Count => (None, None),
        Purpose::Upload(sending) => (Some(sending), None),
        Purpose::Download(head) => (None, Some(head)),
    };
    let mount = options.mount;
    let delta = LocalDelta::new(options, walk.look().clone());
    let readers = Readers {
        mount: mount.clone(),
        chunks: sending.as_ref().map(|s| (s.chunks.clone(), s.chunks.head())),
        mode: options.mode,
        scope: options.scope.clone(),
        filter: options.filter.clone(),
        spool_dir: options.spool_dir.into(),
        buffers: step_buffers(),
        allowance: u64::MAX,
    };
    let by_importance = sending.as_ref().is_some_and(|s| s.sink.pace().has_deadline());
    let progress = Progress::default();
    let sizes = options.max_upload.map(|_| Subtrees::default());
    let units = Runs::new(options.spool_dir, by_database);
    let mut reading =
        Reading { options, delta, readers, sending, head, progress, new_bytes: 0, sizes, units, monitor };
    let (mut batches, walked) = walk.split();
    let consume = async {
        let consumed = if by_importance {
            reading.by_importance(&mut batches).await
        } else {
            reading.in_order(&mut batches).await
        };
        let ended = match (consumed, reading.sizes.take()) {
            (Err(Error::UploadTooLarge { bytes, limit, .. }), Some(mut sizes)) => {
                while let Some(batch) = batches.recv().await {
                    sizes.note(&batch);
                }
                Err(Error::UploadTooLarge { bytes, limit, largest: sizes.largest() })
            }
            (consumed, _) => consumed,
        };
        // The walk waits until its batches are taken, or nobody wants them.
        drop(batches);
        ended
    };
    let (walked, consumed) = tokio::join!(walked, consume);
    consumed?;
    let mut delta = reading.delta;
    let Walked { marks, before, file_systems, mut away } =
        walked.map_err(|e| Error::local("scan", mount.path(), e))?;
    if away.has_file_systems() {
        let looking = mount.clone();
        let looked = mount.blocking(move || {
            away.look_again(&looking);
            away
        });
        away = looked.await.map_err(|e| Error::local("look at", mount.path(), io::Error::from(e)))?;
    }
    delta.stats.base -= away.rows_of_empty();
    delta.stats.deleted -= away.rows_of_empty();
    delta.stats.unmounted = away.rows();
    (delta.marks, delta.before, delta.file_systems, delta.away) = (marks, before, file_systems, away);
    Ok(delta)
}

/// Differences being read.
pub(super) struct Reading<'a, 'b, 'c> {
    pub(super) options: &'a DeltaOptions<'a>,
    pub(super) delta: LocalDelta,
    pub(super) readers: Readers,
    pub(super) sending: Option<Sending<'b, 'c>>,
    /// The head of a download.
    pub(super) head: Option<HeadPaths<'b>>,
    pub(super) progress: Progress,
    pub(super) new_bytes: u64,
    /// What may have to be sent, if there is a limit to it.
    pub(super) sizes: Option<Subtrees>,
    /// The files of databases that are still to be read.
    pub(super) units: Runs<MemberRow>,
    pub(super) monitor: &'a dyn Monitor,
}

impl Reading<'_, '_, '_> {
    /// Reads everything as it comes: short files in the order of the tree, long ones after them.
    async fn in_order(&mut self, incoming: &mut mpsc::Receiver<Batch>) -> Result<(), Error> {
        let env = self.options.mount.env().clone();
        let mut reading = futures::stream::FuturesOrdered::new();
        let width = env.parallelism() + 1;
        let mut long = Vec::new();
        let mut open = true;
        while open || !reading.is_empty() {
            if open && self.is_round_over() {
                // What was not met counts as it did before, and comes with the next round.
                incoming.close();
                (open, self.delta.is_whole) = (false, false);
            }
            tokio::select! {
                biased;
                Some(read) = reading.next(), if !reading.is_empty() => self.settle(read, false).await?,
                batch = incoming.recv(), if open && reading.len() < width => {
                    let Some(mut batch) = batch else { open = false; continue };
                    self.sizes.iter_mut().for_each(|sizes| sizes.note(&batch));
                    if let Some(head) = &mut self.head {
                        head.spare(&mut batch).await?;
                    }
                    let needs_chunks = batch.bytes > 0 || !batch.long.is_empty();
                    if needs_chunks {
                        self.learn_chunks().await?;
                    }
                    long.append(&mut batch.long);
                    let (readers, env) = (self.readers.clone(), env.clone());
                    reading.push_back(async move { env.blocking(move || readers.read(batch)).await });
                }
            }
        }
        self.delta.cut_short |= !self.delta.is_whole;
        for work in long.into_iter().chain(std::mem::take(&mut self.delta.grown)) {
            match work {
                Work::Row(row) => self.push(row, true)?,
                work if self.is_round_over() => self.leave_out(work)?,
                work => self.read_long(work).await?,
            }
        }
        self.read_units().await
    }

    fn is_round_over(&self) -> bool {
        self.sending.as_ref().is_some_and(|s| s.sink.is_round_over())
    }

    /// Reads what a file is about to be spared by, once there is one: the head's chunks, and those of packs
    /// that an earlier upload has put.
    pub(super) async fn learn_chunks(&mut self) -> Result<(), Error> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        if sending.chunks.head().is_none() {
            sending.chunks.set_head(Arc::new(ChunkIndex::build(&sending.head, sending.absent).await?));
            resume(sending).await?;
        }
        self.readers.chunks = Some((sending.chunks.clone(), sending.chunks.head()));
        Ok(())
    }

    pub(super) async fn read_long(&mut self, work: Work) -> Result<(), Error> {
        let env = self.options.mount.env();
        if let Some(limit) = self.options.max_upload {
            self.readers.allowance = limit.saturating_sub(self.new_bytes);
        }
        let sending = self.sending.as_mut();
        let read = read_long(&self.readers, env, work, sending, &mut self.progress, self.monitor).await?;
        self.settle(Ok(read), true).await
    }

    /// Takes what was read of a batch; its rows come in the order of the tree, or apart from it.
    pub(super) async fn settle(&mut self, read: Result<Read, JobLost>, apart: bool) -> Result<(), Error> {
        let read = read.map_err(|e| Error::local("read", self.options.mount.path(), io::Error::from(e)))?;
        self.new_bytes += read.new_bytes;
        check_limit(self.new_bytes, self.options)?;
        if let Some(sending) = &mut self.sending {
            sending.sink.pace().note_rows(read.rows.len() as u64);
            for block in read.blocks {
                sending.sink.add_block(block).await?;
            }
        }
        for row in read.rows {
            self.push(row, apart)?;
        }
        self.delta.grown.extend(read.long);
        self.delta.together.absorb(read.together);
        for member in read.members {
            let pushed = self.units.push(member);
            pushed.map_err(|e| Error::local("write to", self.options.spool_dir, e))?;
        }
        read.problems.iter().for_each(|p| self.monitor.problem(p));
        count(&mut self.delta.stats, &read.stats);
        self.progress.files_done = self.delta.stats.found;
        self.progress.bytes_done = self.delta.stats.bytes_read;
        self.monitor.progress(&self.progress);
        Ok(())
    }

    /// Notes a file that is not read any more.
    pub(super) fn leave_out(&mut self, work: Work) -> Result<(), Error> {
        self.delta.cut_short = true;
        let row = match work {
            Work::File { path, print, base } => {
                DeltaRow { path, base, state: DeltaState::Unsent { size: print.size } }
            }
            Work::Row(row) => row,
        };
        self.push(row, true)
    }

    pub(super) fn push(&mut self, row: DeltaRow, apart: bool) -> Result<(), Error> {
        let delta = &mut self.delta;
        let pushed = if apart { delta.others.push(row) } else { delta.rows.push(&row) };
        pushed.map_err(|e| Error::local("write to", self.options.spool_dir, e))
    }
}

fn check_limit(new_bytes: u64, options: &DeltaOptions<'_>) -> Result<(), Error> {
    match options.max_upload {
        Some(limit) if new_bytes > limit => {
            Err(Error::UploadTooLarge { bytes: new_bytes, limit, largest: Vec::new() })
        }
        _ => Ok(()),
    }
}

fn count(total: &mut DeltaStats, more: &DeltaStats) {
    total.base += more.base;
    total.present += more.present;
    total.deleted += more.deleted;
    total.in_doubt += more.in_doubt;
    total.changed += more.changed;
    total.unchanged += more.unchanged;
    total.failed += more.failed;
    total.gone += more.gone;
    for path in &more.unread {
        total.note_unread(path.clone());
    }
    total.specials.add(&more.specials);
    total.found += more.found;
    total.bytes_read += more.bytes_read;
    total.sent_in_vain |= more.sent_in_vain;
}
