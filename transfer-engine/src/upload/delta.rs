//! Where a mount differs from its base: the scan, merged with the base; what may have changed is read, and
//! in an upload its new chunks are sent on the way.
//!
//! ```text
//! scan ─┐
//!       ├─► merge ─► batches ─► read, cut, hash, compress ─► rows, in order
//! base ─┘                                └──────────────────► blocks ─► packs
//! ```

use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use policy_core::{ListMarks, Scope, UploadMode};
use tokio::sync::mpsc;

use super::files::{Read, Readers, read_long};
use super::merge::{Batch, Merge};
use super::packs::{Chunks, PackSink};
use super::reading::Buffers;
use crate::error::Error;
use crate::format::PackId;
use crate::local::{MountDir, Scan, ScanFilter};
use crate::monitor::{Monitor, Progress};
use crate::report::SyncReport;
use crate::state::{BaseRow, DeltaRow, Spool};
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
    pub(crate) mode: UploadMode,
    /// The most bytes of new content; more is an error.
    pub(crate) max_upload: Option<u64>,
}

/// Where new chunks go; without it they are only counted.
pub(crate) struct Sending<'a, 'b> {
    pub(crate) sink: &'a mut PackSink,
    pub(crate) chunks: Arc<Chunks>,
    /// The head, whose chunks need not be sent,
    pub(crate) head: Tree<'b>,
    /// but for those in packs that do not count.
    pub(crate) absent: &'a [PackId],
}

/// The local differences, and what was counted on the way.
pub(crate) struct LocalDelta {
    pub(crate) rows: Spool<DeltaRow>,
    /// Rows of long files, which take their own time; sorted.
    long: Vec<DeltaRow>,
    pub(crate) stats: DeltaStats,
    /// The lists that met something.
    pub(crate) marks: ListMarks,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct DeltaStats {
    /// Rows of the base that take part.
    pub(crate) base: u64,
    /// Those at whose path something still is.
    pub(crate) present: u64,
    pub(crate) deleted: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) failed: u64,
    pub(crate) found: u64,
    pub(crate) bytes_read: u64,
}

impl DeltaStats {
    /// Begins the report of a sync against this head.
    pub(crate) fn report(&self, head: &Head) -> SyncReport {
        SyncReport {
            snapshot: Some(head.key.number),
            unchanged: self.unchanged,
            failed: self.failed,
            bytes_read: self.bytes_read,
            total_bytes: head.snapshot.totals.bytes,
            ..SyncReport::default()
        }
    }
}

impl LocalDelta {
    /// Whether there are rows at all.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows.len() > 0 || !self.long.is_empty()
    }

    /// Reads all rows in order.
    pub(crate) fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<DeltaRow>>> {
        let long = self.long.iter().cloned().map(Ok).peekable();
        Ok(MergedRows { short: self.rows.read()?.peekable(), long })
    }
}

struct MergedRows<A: Iterator, B: Iterator> {
    short: Peekable<A>,
    long: Peekable<B>,
}

impl<A, B> Iterator for MergedRows<A, B>
where
    A: Iterator<Item = io::Result<DeltaRow>>,
    B: Iterator<Item = io::Result<DeltaRow>>,
{
    type Item = io::Result<DeltaRow>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.short.peek(), self.long.peek()) {
            (Some(Ok(a)), Some(Ok(b))) if b.path < a.path => self.long.next(),
            (None, Some(_)) => self.long.next(),
            _ => self.short.next(),
        }
    }
}

/// Compares the mount with `base`, whose rows come in tree order.
pub(crate) async fn local_delta(
    options: &DeltaOptions<'_>,
    base: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>,
    mut sending: Option<Sending<'_, '_>>,
    monitor: &dyn Monitor,
) -> Result<LocalDelta, Error> {
    let mount = options.mount;
    let env = mount.env().clone();
    let cannot_scan = |e: io::Error| Error::local("scan", mount.path(), e);
    let (batches, mut incoming) = mpsc::channel::<Batch>(8);
    let merge = {
        let (mount, filter, scope) = (mount.clone(), options.filter.clone(), options.scope.clone());
        let checksum = options.checksum;
        env.blocking(move || {
            let scan = Scan::start(&mount, filter)?;
            let mut merge = Merge {
                scope: &scope,
                marks: ListMarks::new(&scope),
                checksum,
                out: &batches,
                batch: Batch::default(),
            };
            merge.run(scan, base)?;
            Ok::<_, io::Error>(merge.marks)
        })
    };
    let mut delta = LocalDelta {
        rows: Spool::new(options.spool_dir),
        long: Vec::new(),
        stats: DeltaStats::default(),
        marks: ListMarks::new(&options.scope),
    };
    let mut readers = Readers {
        mount: mount.clone(),
        chunks: sending.as_ref().map(|s| (s.chunks.clone(), s.chunks.head())),
        mode: options.mode,
        scope: options.scope.clone(),
        buffers: Buffers::default(),
    };
    let mut progress = Progress::default();
    let mut new_bytes = 0;
    let mut long = Vec::new();

    let consume = async {
        let mut reading = futures::stream::FuturesOrdered::new();
        let width = env.parallelism() + 1;
        let mut open = true;
        while open || !reading.is_empty() {
            tokio::select! {
                biased;
                Some(read) = reading.next(), if !reading.is_empty() => {
                    let read: Result<Read, crate::env::JobLost> = read;
                    let read = read.map_err(|e| Error::local("read", mount.path(), io::Error::from(e)))?;
                    settle(read, &mut delta, &mut new_bytes, options, sending.as_mut(), &mut progress, monitor).await?;
                }
                batch = incoming.recv(), if open && reading.len() < width => {
                    let Some(mut batch) = batch else { open = false; continue };
                    let needs_chunks = batch.bytes > 0 || !batch.long.is_empty();
                    if needs_chunks && let Some(sending) = &mut sending {
                        load_index(sending, &mut readers).await?;
                    }
                    long.append(&mut batch.long);
                    let (readers, env) = (readers.clone(), env.clone());
                    reading.push_back(async move { env.blocking(move || readers.read(batch)).await });
                }
            }
        }
        for work in long {
            let read = read_long(&readers, &env, work, sending.as_mut(), &mut progress, monitor).await?;
            let Read { rows, problems, stats, new_bytes: new, .. } = read;
            delta.long.extend(rows);
            count(&mut delta.stats, &stats);
            problems.iter().for_each(|p| monitor.problem(p));
            new_bytes += new;
            check_limit(new_bytes, options)?;
        }
        Ok::<_, Error>(())
    };
    let (marks, consumed) = tokio::join!(merge, consume);
    let marks = marks.map_err(|e| cannot_scan(e.into()))?;
    consumed?;
    delta.marks = marks.map_err(cannot_scan)?;
    Ok(delta)
}

/// Reads the head's chunks once there is something that they may spare us to send.
async fn load_index(sending: &mut Sending<'_, '_>, readers: &mut Readers) -> Result<(), Error> {
    if sending.chunks.head().is_none() {
        sending.chunks.set_head(Arc::new(ChunkIndex::build(&sending.head, sending.absent).await?));
    }
    readers.chunks = Some((sending.chunks.clone(), sending.chunks.head()));
    Ok(())
}

async fn settle(
    read: Read,
    delta: &mut LocalDelta,
    new_bytes: &mut u64,
    options: &DeltaOptions<'_>,
    sending: Option<&mut Sending<'_, '_>>,
    progress: &mut Progress,
    monitor: &dyn Monitor,
) -> Result<(), Error> {
    *new_bytes += read.new_bytes;
    check_limit(*new_bytes, options)?;
    if let Some(sending) = sending {
        for block in read.blocks {
            sending.sink.add_block(block).await?;
        }
    }
    for row in &read.rows {
        delta.rows.push(row).map_err(|e| Error::local("write to", options.spool_dir, e))?;
    }
    read.problems.iter().for_each(|p| monitor.problem(p));
    count(&mut delta.stats, &read.stats);
    progress.files_done = delta.stats.found;
    progress.bytes_done = delta.stats.bytes_read;
    monitor.progress(progress);
    Ok(())
}

fn check_limit(new_bytes: u64, options: &DeltaOptions<'_>) -> Result<(), Error> {
    match options.max_upload {
        Some(limit) if new_bytes > limit => Err(Error::UploadTooLarge { bytes: new_bytes, limit }),
        _ => Ok(()),
    }
}

fn count(total: &mut DeltaStats, more: &DeltaStats) {
    total.base += more.base;
    total.present += more.present;
    total.deleted += more.deleted;
    total.changed += more.changed;
    total.unchanged += more.unchanged;
    total.failed += more.failed;
    total.found += more.found;
    total.bytes_read += more.bytes_read;
}
