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

use bytes::Bytes;
use futures::StreamExt;
use policy_core::{Entry, ListMarks, Node, Scope, TreePath, UploadMode};
use tokio::sync::mpsc;

use super::packs::{Chunks, PackSink};
use super::reading::{LongFile, Parents, ReadError, read_whole};
use crate::error::Error;
use crate::format::{
    ARCHIVE_MODE_TARGET, BlockBuilder, ChunkId, FILE_MODE_TARGET, MAX_PATH_LEN, PackId, SealedBlock, cut,
    file_digest,
};
use crate::local::{Fingerprint, Found, FoundKind, MountDir, Scan, ScanFilter};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::state::{BaseRow, DeltaRow, DeltaState, Spool};
use crate::tree::{ChunkIndex, Tree};

/// A file above this is read in steps; below, whole and together with others.
const LONG: u64 = 4 << 20;
/// A batch ends at this many bytes to be read, or at this many paths.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_PATHS: usize = 512;

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

/// A path to be looked at.
enum Work {
    /// Nothing has to be read.
    Row(DeltaRow),
    /// A file that may have changed.
    File { path: TreePath, print: Fingerprint, base: Option<Entry> },
}

#[derive(Default)]
struct Batch {
    work: Vec<Work>,
    bytes: u64,
    /// Long files of this batch.
    long: Vec<Work>,
    problems: Vec<PathProblem>,
    stats: DeltaStats,
}

/// What a batch comes to once it is read.
#[derive(Default)]
struct Read {
    rows: Vec<DeltaRow>,
    blocks: Vec<SealedBlock>,
    problems: Vec<PathProblem>,
    stats: DeltaStats,
    new_bytes: u64,
}

/// What the readers of files share.
#[derive(Clone)]
struct Readers {
    mount: MountDir,
    chunks: Option<(Arc<Chunks>, Option<Arc<ChunkIndex>>)>,
    mode: UploadMode,
    scope: Arc<Scope>,
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

/// The merge of scan and base.
struct Merge<'a> {
    scope: &'a Scope,
    marks: ListMarks,
    checksum: bool,
    out: &'a mpsc::Sender<Batch>,
    batch: Batch,
}

impl Merge<'_> {
    fn run(
        &mut self,
        scan: Scan,
        base: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>,
    ) -> io::Result<()> {
        let mut scan = scan.peekable();
        let mut base = base.peekable();
        // A directory that can't be listed: what was below it is neither there nor deleted.
        let mut frozen: Option<TreePath> = None;
        loop {
            let next_base = match base.peek() {
                Some(Ok(row)) => Some(&row.path),
                Some(Err(_)) => {
                    return Err(base
                        .next()
                        .and_then(Result::err)
                        .unwrap_or_else(|| io::ErrorKind::Other.into()));
                }
                None => None,
            };
            match (scan.peek().map(|f| &f.path), next_base) {
                (None, None) => break,
                (Some(found), Some(row)) if found == row => {
                    if let (Some(found), Some(Ok(row))) = (scan.next(), base.next()) {
                        self.batch.stats.base += 1;
                        self.batch.stats.present += 1;
                        self.both(found, row, &mut frozen);
                    }
                }
                (Some(found), row) if row.is_none_or(|row| found < row) => {
                    let implied = row.is_some_and(|row| row.is_below(found));
                    if let Some(found) = scan.next() {
                        self.only_found(found, implied.then_some(Entry::IMPLIED_DIR), &mut frozen);
                    }
                }
                (found, _) => {
                    let below = |row: &BaseRow| found.is_some_and(|f| f.is_below(&row.path));
                    if let Some(Ok(row)) = base.next() {
                        self.batch.stats.base += 1;
                        let implied = below(&row);
                        self.only_base(row, implied, frozen.as_ref());
                    }
                }
            }
            if (self.batch.bytes >= BATCH_BYTES || self.batch.work.len() >= BATCH_PATHS) && !self.send() {
                return Ok(());
            }
        }
        self.send();
        Ok(())
    }

    /// Sends the batch on; false once nobody listens any more.
    fn send(&mut self) -> bool {
        self.out.blocking_send(std::mem::take(&mut self.batch)).is_ok()
    }

    fn both(&mut self, found: Found, row: BaseRow, frozen: &mut Option<TreePath>) {
        let found = self.note(found);
        match &found.kind {
            FoundKind::File(print) => {
                let same = row.print.is_some_and(|p| p == *print) && !self.checksum;
                if same && matches!(row.entry.node, Node::File { .. }) {
                    self.batch.stats.unchanged += 1;
                    return;
                }
                self.file(found.path, *print, Some(row.entry));
            }
            FoundKind::Symlink { .. } | FoundKind::Dir { .. } => {
                let Some(entry) = found.kind.entry() else { return };
                if entry.agrees_with(&row.entry) {
                    self.batch.stats.unchanged += 1;
                    return;
                }
                self.bare(found.path, entry, &found.kind, Some(row.entry));
            }
            FoundKind::Unsupported(_) | FoundKind::Unreadable { .. } => {
                self.unreadable(found, Some(row.entry), frozen);
            }
        }
    }

    fn only_found(&mut self, found: Found, base: Option<Entry>, frozen: &mut Option<TreePath>) {
        let found = self.note(found);
        match &found.kind {
            FoundKind::File(print) => self.file(found.path, *print, base),
            FoundKind::Symlink { .. } | FoundKind::Dir { .. } => {
                if let Some(entry) = found.kind.entry() {
                    self.bare(found.path, entry, &found.kind, base);
                }
            }
            FoundKind::Unsupported(_) | FoundKind::Unreadable { .. } => self.unreadable(found, base, frozen),
        }
    }

    fn only_base(&mut self, row: BaseRow, implied: bool, frozen: Option<&TreePath>) {
        self.marks.note(self.scope, &row.path);
        let state = if frozen.is_some_and(|f| row.path.is_within(f)) {
            self.batch.stats.present += 1;
            DeltaState::Unreadable
        } else if implied {
            // Something is below it, so it is there: a directory of the mode that needs no row.
            self.batch.stats.present += 1;
            if row.entry.agrees_with(&Entry::IMPLIED_DIR) {
                self.batch.stats.unchanged += 1;
                return;
            }
            present(Entry::IMPLIED_DIR, None, false)
        } else {
            DeltaState::Absent
        };
        self.row(DeltaRow { path: row.path, base: Some(row.entry), state });
    }

    /// Counts what was found; a path that a tree can't hold counts as one that can't be read.
    fn note(&mut self, found: Found) -> Found {
        self.batch.stats.found += 1;
        self.marks.note(self.scope, &found.path);
        let target_len = match &found.kind {
            FoundKind::Symlink { target, .. } => target.len(),
            _ => 0,
        };
        if found.path.as_bytes().len().max(target_len) <= MAX_PATH_LEN {
            return found;
        }
        let error = io::Error::other(format!("its path or target is longer than {MAX_PATH_LEN} bytes"));
        let whole_dir = matches!(found.kind, FoundKind::Dir { .. });
        Found { kind: FoundKind::Unreadable { error, whole_dir }, ..found }
    }

    fn file(&mut self, path: TreePath, print: Fingerprint, base: Option<Entry>) {
        let size = print.size;
        let work = Work::File { path, print, base };
        if size > LONG {
            self.batch.long.push(work);
        } else {
            self.batch.bytes += size.max(1);
            self.batch.work.push(work);
        }
    }

    fn bare(&mut self, path: TreePath, entry: Entry, kind: &FoundKind, base: Option<Entry>) {
        let (seen, empty) = match kind {
            FoundKind::Symlink { print, .. } => (Some(*print), false),
            FoundKind::Dir { empty, .. } => (None, *empty),
            _ => (None, false),
        };
        self.row(DeltaRow { path, base, state: present(entry, seen, empty) });
    }

    fn unreadable(&mut self, found: Found, base: Option<Entry>, frozen: &mut Option<TreePath>) {
        let (message, hint, whole_dir) = match &found.kind {
            FoundKind::Unreadable { error, whole_dir } => {
                (format!("cannot be read: {error}"), hint_for(error), *whole_dir)
            }
            FoundKind::Unsupported(kind) => {
                (format!("it is {kind}, which a context can't hold"), "exclude it in the white list", false)
            }
            _ => return,
        };
        self.batch.problems.push(PathProblem { path: found.path.clone(), message, hint: hint.to_owned() });
        self.batch.stats.failed += 1;
        if whole_dir {
            *frozen = Some(found.path.clone());
        }
        self.row(DeltaRow { path: found.path, base, state: DeltaState::Unreadable });
    }

    fn row(&mut self, row: DeltaRow) {
        count_row(&row, &mut self.batch.stats);
        self.batch.work.push(Work::Row(row));
    }
}

fn count_row(row: &DeltaRow, stats: &mut DeltaStats) {
    match &row.state {
        DeltaState::Absent => stats.deleted += u64::from(row.base.is_some()),
        DeltaState::Present { .. } if row.is_change() => stats.changed += 1,
        DeltaState::Present { .. } => stats.unchanged += 1,
        DeltaState::Unreadable => {}
    }
}

fn present(entry: Entry, seen: Option<Fingerprint>, empty_dir: bool) -> DeltaState {
    DeltaState::Present { entry, seen, trusted: false, chunks: Vec::new(), empty_dir }
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give the user who runs this the right to read it, or exclude it",
        _ => "",
    }
}

impl Readers {
    fn read(&self, batch: Batch) -> Read {
        let mut read = Read { problems: batch.problems, stats: batch.stats, ..Read::default() };
        let mut parents = Parents::new(&self.mount);
        let mut blocks = Blocks::new();
        for work in batch.work {
            match work {
                Work::Row(row) => read.rows.push(row),
                Work::File { path, print, base } => {
                    let whole = parents
                        .of(&path)
                        .map_err(ReadError::from)
                        .and_then(|dir| read_whole(&dir, path.name(), print, LONG, self.mount.env()));
                    let result = whole.map(|whole| {
                        read.stats.bytes_read += whole.bytes.len() as u64;
                        let chunks = self.chunk(&path, whole.bytes, &mut blocks, &mut read);
                        (whole.print, whole.trusted, chunks)
                    });
                    finish_file(path, base, result, &mut read);
                }
            }
        }
        read.blocks = blocks.finish();
        read
    }

    /// Cuts and hashes a file that is in memory, and takes on what has to be sent.
    fn chunk(
        &self,
        path: &TreePath,
        bytes: Bytes,
        blocks: &mut Blocks,
        read: &mut Read,
    ) -> Vec<(ChunkId, u32)> {
        let mut rest = bytes;
        let mut chunks = Vec::with_capacity(1);
        while let Some(len) = cut(&rest, true).filter(|len| *len > 0) {
            chunks.push(self.take_on(rest.split_to(len), |id, bytes| {
                read.new_bytes += bytes.len() as u64;
                blocks.push(id, bytes, self.is_archived(path));
            }));
        }
        chunks
    }

    fn is_archived(&self, path: &TreePath) -> bool {
        self.mode == UploadMode::Archive && !self.scope.archive_exclude_paths().contains(path)
    }

    /// Hashes a chunk, and hands it over if it is this reader that has to send it.
    fn take_on(&self, bytes: Bytes, send: impl FnOnce(ChunkId, Bytes)) -> (ChunkId, u32) {
        let id = ChunkId::of(&bytes);
        let len = bytes.len() as u32;
        if let Some((chunks, head)) = &self.chunks
            && chunks.claim(head.as_deref(), id)
        {
            send(id, bytes);
        }
        (id, len)
    }
}

fn finish_file(path: TreePath, base: Option<Entry>, result: FileRead, read: &mut Read) {
    let state = match result {
        Ok((print, trusted, chunks)) => {
            let node = Node::File {
                size: chunks.iter().map(|(_, len)| u64::from(*len)).sum(),
                digest: file_digest(chunks.iter().copied()),
            };
            let entry = Entry { node, mode: print.mode, mtime: print.mtime, uploaded: 0 };
            DeltaState::Present { entry, seen: Some(print), trusted, chunks, empty_dir: false }
        }
        Err(ReadError::Gone) if base.is_none() => return,
        Err(ReadError::Gone) => DeltaState::Absent,
        Err(error) => {
            let (message, hint) = match &error {
                ReadError::Io(e) => (format!("cannot be read: {e}"), hint_for(e)),
                other => (other.to_string(), "the next sync tries it again"),
            };
            read.problems.push(PathProblem { path: path.clone(), message, hint: hint.to_owned() });
            read.stats.failed += 1;
            DeltaState::Unreadable
        }
    };
    let row = DeltaRow { path, base, state };
    count_row(&row, &mut read.stats);
    read.rows.push(row);
}

/// The blocks of one batch: files as the mode wants them, and those that are excepted from it.
struct Blocks {
    small: BlockBuilder,
    large: BlockBuilder,
    sealed: Vec<SealedBlock>,
}

impl Blocks {
    fn new() -> Self {
        Self {
            small: BlockBuilder::new(FILE_MODE_TARGET),
            large: BlockBuilder::new(ARCHIVE_MODE_TARGET),
            sealed: Vec::new(),
        }
    }

    fn push(&mut self, id: ChunkId, bytes: Bytes, archived: bool) {
        let builder = if archived { &mut self.large } else { &mut self.small };
        if !builder.takes(bytes.len()) {
            self.sealed.extend(builder.finish());
        }
        // A chunk is never empty, and `takes` has said that there is room.
        let pushed = builder.push(id, bytes);
        debug_assert!(pushed.is_ok(), "{pushed:?}");
        if builder.is_full() {
            self.sealed.extend(builder.finish());
        }
    }

    fn finish(mut self) -> Vec<SealedBlock> {
        self.sealed.extend(self.small.finish());
        self.sealed.extend(self.large.finish());
        self.sealed
    }
}

/// Reads a long file: one step after the other, each hashed and compressed while the next is read.
async fn read_long(
    readers: &Readers,
    env: &crate::env::Env,
    work: Work,
    mut sending: Option<&mut Sending<'_, '_>>,
    progress: &mut Progress,
    monitor: &dyn Monitor,
) -> Result<Read, Error> {
    let mut read = Read::default();
    let Work::File { path, base, .. } = work else { return Ok(read) };
    let lost = |e: crate::env::JobLost| Error::local("read", readers.mount.show(&path), io::Error::from(e));
    let mut result = Err(ReadError::Unstable);
    for _ in 0..3 {
        result = read_long_once(readers, env, &path, &mut sending, &mut read, progress, monitor)
            .await
            .map_err(|e| match e {
                LongError::Lost(e) => lost(e),
                LongError::Store(e) => e,
            })?;
        if !matches!(result, Err(ReadError::Unstable)) {
            break;
        }
    }
    finish_file(path, base, result, &mut read);
    Ok(read)
}

enum LongError {
    Lost(crate::env::JobLost),
    Store(Error),
}

/// What a file was found to be: its stat, whether that can be trusted later, its chunks.
type FileRead = Result<(Fingerprint, bool, Vec<(ChunkId, u32)>), ReadError>;

async fn read_long_once(
    readers: &Readers,
    env: &crate::env::Env,
    path: &TreePath,
    sending: &mut Option<&mut Sending<'_, '_>>,
    read: &mut Read,
    progress: &mut Progress,
    monitor: &dyn Monitor,
) -> Result<FileRead, LongError> {
    let opened = {
        let (mount, env_, path) = (readers.mount.clone(), env.clone(), path.clone());
        let open = move || LongFile::open(&*mount.parent(&path).map(Arc::new)?, path.name(), &env_);
        env.blocking(open).await.map_err(LongError::Lost)?
    };
    let file = match opened {
        Ok(file) => file,
        Err(e) => return Ok(Err(e)),
    };
    // Each step is read once the one before is, while those before are hashed and compressed.
    let steps = futures::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let step = env.blocking(move || {
            let next = file.next();
            (next, file)
        });
        match step.await {
            Ok((Ok(chunks), file)) if chunks.is_empty() => Some((Ok(Step::End(file)), None)),
            Ok((Ok(chunks), file)) => Some((Ok(Step::Chunks(chunks)), Some(file))),
            Ok((Err(e), _)) => Some((Ok(Step::Failed(e)), None)),
            Err(lost) => Some((Err(lost), None)),
        }
    });
    let hashed = steps
        .map(|step| async {
            match step? {
                Step::Chunks(chunks) => {
                    let readers = readers.clone();
                    env.blocking(move || readers.read_step(chunks)).await.map(Hashed::Chunks)
                }
                Step::End(file) => Ok(Hashed::End(file)),
                Step::Failed(e) => Ok(Hashed::Failed(e)),
            }
        })
        .buffered(env.parallelism());
    let mut hashed = std::pin::pin!(hashed);
    let mut all = Vec::new();
    while let Some(step) = hashed.next().await {
        match step.map_err(LongError::Lost)? {
            Hashed::Chunks((chunks, blocks, new_bytes)) => {
                let len: u64 = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
                read.new_bytes += new_bytes;
                read.stats.bytes_read += len;
                progress.bytes_done += len;
                monitor.progress(progress);
                all.extend(chunks);
                if let Some(sending) = sending {
                    for block in blocks {
                        sending.sink.add_block(block).await.map_err(LongError::Store)?;
                    }
                }
            }
            Hashed::Failed(e) => return Ok(Err(e)),
            Hashed::End(file) => return Ok(file.finish().map(|(print, trusted)| (print, trusted, all))),
        }
    }
    Ok(Err(ReadError::Unstable))
}

enum Step {
    Chunks(Vec<Bytes>),
    End(LongFile),
    Failed(ReadError),
}

enum Hashed {
    Chunks((Vec<(ChunkId, u32)>, Vec<SealedBlock>, u64)),
    End(LongFile),
    Failed(ReadError),
}

impl Readers {
    fn read_step(&self, chunks: Vec<Bytes>) -> (Vec<(ChunkId, u32)>, Vec<SealedBlock>, u64) {
        let mut blocks = Blocks::new();
        let mut new_bytes = 0;
        let ids = chunks
            .into_iter()
            .map(|bytes| {
                self.take_on(bytes, |id, bytes| {
                    new_bytes += bytes.len() as u64;
                    // Chunks of a long file are blocks of their own in either mode.
                    blocks.push(id, bytes, false);
                })
            })
            .collect();
        (ids, blocks.finish(), new_bytes)
    }
}
