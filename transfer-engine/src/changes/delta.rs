//! Finds where a mount differs from its base. The scan is merged with the base, and files that may have
//! changed are read. In a push, their new chunks are sent on the way.
//!
//! ```text
//! scan ─┐
//!       ├─► merge ─► batches ─► read, cut, hash, compress ─► rows, in order
//! base ─┘                                └──────────────────► blocks ─► packs
//! ```
//! With a deadline, the batches are sorted by importance before they are read (`ordered.rs`).

use std::io;
use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;

use super::batch::{Batch, Work};
use super::differences::LocalDelta;
use super::files::{Read, Readers, Told, read_long};
use super::head_paths::HeadPaths;
use super::options::{DeltaOptions, Sending};
use super::reading::step_buffers;
use super::resume::resume;
use super::stats::count;
use super::subtrees::Subtrees;
use super::together::by_database;
use super::walk::{Walk, Walked};
use crate::env::JobLost;
use crate::error::Error;
use crate::monitor::{Monitor, Progress};
use crate::packing::{Added, telling};
use crate::state::{DeltaRow, DeltaState, MemberRow, Runs};
use crate::tree::ChunkIndex;

/// What the local differences are needed for.
pub(crate) enum Purpose<'a, 'b> {
    /// To count them.
    Count,
    /// To send them.
    Upload(Sending<'a, 'b>),
    /// To compare them with a head.
    Download(HeadPaths<'a>),
}

impl<'a, 'b> From<Option<Sending<'a, 'b>>> for Purpose<'a, 'b> {
    fn from(sending: Option<Sending<'a, 'b>>) -> Self {
        sending.map_or(Self::Count, Self::Upload)
    }
}

/// Compares the mount with the base for which the walk was started.
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
        // The walk waits until its batches are taken or dropped.
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

/// The state while differences are read.
pub(crate) struct Reading<'a, 'b, 'c> {
    pub(crate) options: &'a DeltaOptions<'a>,
    pub(crate) delta: LocalDelta,
    pub(crate) readers: Readers,
    pub(crate) sending: Option<Sending<'b, 'c>>,
    /// The head of a pull.
    pub(crate) head: Option<HeadPaths<'b>>,
    pub(crate) progress: Progress,
    pub(crate) new_bytes: u64,
    /// The sizes of what may have to be sent, if there is a limit.
    pub(crate) sizes: Option<Subtrees>,
    /// The files of databases that have not been read yet.
    pub(crate) units: Runs<MemberRow>,
    pub(crate) monitor: &'a dyn Monitor,
}

impl Reading<'_, '_, '_> {
    /// Reads everything in the order of the walk: short files in tree order, long ones after them.
    async fn in_order(&mut self, incoming: &mut mpsc::Receiver<Batch>) -> Result<(), Error> {
        let env = self.options.mount.env().clone();
        let mut reading = futures::stream::FuturesOrdered::new();
        let width = env.parallelism() + 1;
        let mut long = Vec::new();
        let (mut open, mut found) = (true, 0);
        while open || !reading.is_empty() {
            if open && self.is_round_over() {
                // What was not scanned counts as unchanged, and belongs to the next round.
                incoming.close();
                (open, self.delta.is_whole) = (false, false);
            }
            tokio::select! {
                biased;
                Some(read) = reading.next(), if !reading.is_empty() => self.accept(read, false).await?,
                batch = incoming.recv(), if open && reading.len() < width => {
                    let Some(mut batch) = batch else {
                        // Everything has been found, and so the total is known.
                        (open, self.progress.total_bytes) = (false, found);
                        continue;
                    };
                    found += batch.work.iter().chain(&batch.long).map(Work::len).sum::<u64>();
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

    /// Loads what can spare the next file's chunks from being sent, before the first file is read: the chunks
    /// of the head, and of packs that an earlier push has put.
    pub(crate) async fn learn_chunks(&mut self) -> Result<(), Error> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        if sending.chunks.head().is_none() {
            sending.chunks.set_head(Arc::new(ChunkIndex::build(&sending.head, sending.absent).await?));
            resume(sending).await?;
        }
        self.readers.chunks = Some((sending.chunks.clone(), sending.chunks.head()));
        Ok(())
    }

    pub(crate) async fn read_long(&mut self, work: Work) -> Result<(), Error> {
        if let Some(limit) = self.options.max_upload {
            self.readers.allowance = limit.saturating_sub(self.new_bytes);
        }
        let sending = self.sending.as_mut();
        let told = Told { progress: &mut self.progress, monitor: self.monitor };
        let read = read_long(&self.readers, work, sending, told).await?;
        self.accept(Ok(read), true).await
    }

    /// Processes a batch that was read. Its rows are in tree order, or `apart` from it.
    pub(crate) async fn accept(&mut self, read: Result<Read, JobLost>, apart: bool) -> Result<(), Error> {
        let read = read.map_err(|e| Error::local("read", self.options.mount.path(), io::Error::from(e)))?;
        self.new_bytes += read.new_bytes;
        check_limit(self.new_bytes, self.options)?;
        if let Some(sending) = &mut self.sending {
            sending.sink.pace().note_rows(read.rows.len() as u64);
            for block in read.blocks {
                // The rows below then count as not sent, once it is known what has landed.
                let (sent, progress) = (sending.sink.sent_so_far(), &mut self.progress);
                let tell = || {
                    progress.bytes_sent = sent.bytes();
                    self.monitor.progress(progress);
                };
                let added = telling(sending.sink.add_block(block), tell).await?;
                self.delta.cut_short |= added == Added::TooLate;
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
        if let Some(sending) = &self.sending {
            self.progress.bytes_sent = sending.sink.sent_so_far().bytes();
            self.progress.bytes_packed = sending.sink.packed();
        }
        self.monitor.progress(&self.progress);
        Ok(())
    }

    /// Notes a file that is not read any more.
    pub(crate) fn leave_out(&mut self, work: Work) -> Result<(), Error> {
        self.delta.cut_short = true;
        let row = match work {
            Work::File { path, print, base } => {
                DeltaRow { path, base, state: DeltaState::Unsent { size: print.size } }
            }
            Work::Row(row) => row,
        };
        self.push(row, true)
    }

    pub(crate) fn push(&mut self, row: DeltaRow, apart: bool) -> Result<(), Error> {
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
