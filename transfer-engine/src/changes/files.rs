//! Reads files that may have changed: short ones in batches, long ones in steps.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use policy_core::{Entry, Node, Scope, TreePath, UploadMode};

use super::batch::{Batch, LONG, Work, hint_for};
use super::options::Sending;
use super::reading::{LongFile, Parents, Piece, ReadError, read_whole};
use super::stats::{DeltaStats, count_row};
use super::together::Together;
use crate::buffers::Buffers;
use crate::env::JobLost;
use crate::error::Error;
use crate::format::{
    ARCHIVE_MODE_LEVEL, ARCHIVE_MODE_TARGET, BlockBuilder, CHUNK_MAX, ChunkId, FILE_MODE_TARGET, SealedBlock,
    ZEROS, cut, file_digest,
};
use crate::local::sqlite::Member;
use crate::local::{Fingerprint, MountDir, ScanFilter};
use crate::monitor::{Monitor, PathProblem, Progress};
use crate::packing::detach;
use crate::packing::is_dense;
use crate::packing::{Added, Chunks, telling};
use crate::state::{DeltaRow, DeltaState, MemberRow};
use crate::tree::ChunkIndex;

/// Up to this many bytes, compressible and incompressible chunks share a block. Otherwise a small push would
/// have two blocks, which a pull may have to fetch separately.
const TOGETHER: usize = FILE_MODE_TARGET / 2;

/// The result of reading a batch.
#[derive(Default)]
pub(crate) struct Read {
    pub(crate) rows: Vec<DeltaRow>,
    /// Files that turned out to be long.
    pub(crate) long: Vec<Work>,
    /// Files that turned out to belong to a database.
    pub(crate) members: Vec<MemberRow>,
    pub(crate) together: Together,
    pub(crate) blocks: Vec<SealedBlock>,
    pub(crate) problems: Vec<PathProblem>,
    pub(crate) stats: DeltaStats,
    pub(crate) new_bytes: u64,
}

/// What the readers of files share.
#[derive(Clone)]
pub(crate) struct Readers {
    pub(crate) mount: MountDir,
    pub(crate) chunks: Option<(Arc<Chunks>, Option<Arc<ChunkIndex>>)>,
    pub(crate) mode: UploadMode,
    pub(crate) scope: Arc<Scope>,
    pub(crate) filter: Arc<dyn ScanFilter>,
    /// The directory for copies of files that can't be read in place.
    pub(crate) spool_dir: Arc<Path>,
    pub(crate) buffers: Buffers,
    /// How many bytes of new content a long file may have.
    pub(crate) allowance: u64,
}

impl Readers {
    pub(crate) fn read(&self, batch: Batch) -> Read {
        let (problems, stats, members) = (batch.problems, batch.stats, batch.members);
        let mut read = Read { problems, stats, members, ..Read::default() };
        let mut parents = Parents::new(&self.mount);
        let mut blocks = Blocks::new();
        for work in batch.work {
            match work {
                Work::Row(row) => read.rows.push(row),
                Work::File { path, print, base } => {
                    let env = self.mount.env();
                    let whole = env
                        .check_looking("read", || self.mount.show(&path))
                        .and_then(|()| parents.of(&path))
                        .map_err(ReadError::from)
                        .and_then(|dir| read_whole(&dir, path.name(), print, LONG, env));
                    let result = whole.map(|whole| {
                        read.stats.bytes_read += whole.bytes.len() as u64;
                        let chunks = self.chunk(&path, whole.bytes, batch.after, &mut blocks, &mut read);
                        (whole.print, whole.trusted, chunks)
                    });
                    match result {
                        Err(ReadError::Long { print }) => read.long.push(Work::File { path, print, base }),
                        Err(ReadError::Database) => read.members.push(database(path, base, print.size)),
                        result => finish_file(path, base, result, &mut read),
                    }
                }
            }
        }
        read.blocks = blocks.finish_of(read.stats.bytes_read);
        read
    }

    /// Cuts and hashes a file that is in memory, and adds the chunks that have to be sent.
    pub(crate) fn chunk(
        &self,
        path: &TreePath,
        bytes: Bytes,
        after: Option<u32>,
        blocks: &mut Blocks,
        read: &mut Read,
    ) -> Vec<(ChunkId, u32)> {
        let mut rest = bytes;
        let mut chunks = Vec::with_capacity(1);
        while let Some(len) = cut(&rest, true).filter(|len| *len > 0) {
            chunks.push(self.take_on(rest.split_to(len), after, |id, bytes| {
                read.new_bytes += bytes.len() as u64;
                blocks.push(id, bytes, self.is_archived(path));
            }));
        }
        chunks
    }

    fn is_archived(&self, path: &TreePath) -> bool {
        self.mode == UploadMode::Archive && !self.scope.archive_exclude_paths().contains(path)
    }

    /// Hashes a chunk, and passes it to `send` if this reader has to send it. For `after`, see
    /// [`Chunks::claim`].
    fn take_on(&self, bytes: Bytes, after: Option<u32>, send: impl FnOnce(ChunkId, Bytes)) -> (ChunkId, u32) {
        let id = ChunkId::of(&bytes);
        let len = bytes.len() as u32;
        if self.claims(id, bytes.len(), after) {
            send(id, bytes);
        }
        (id, len)
    }

    fn claims(&self, id: ChunkId, len: usize, after: Option<u32>) -> bool {
        self.chunks.as_ref().is_some_and(|(chunks, head)| chunks.claim(head.as_deref(), id, len, after))
    }
}

/// Returns the row of a file that turned out to be a database.
fn database(path: TreePath, base: Option<Entry>, size: u64) -> MemberRow {
    MemberRow { path, member: Member::Database, base, known: None, size }
}

pub(crate) fn finish_file(path: TreePath, base: Option<Entry>, result: FileRead, read: &mut Read) {
    let state = match result {
        Ok((print, trusted, chunks)) => {
            let node = Node::File {
                size: chunks.iter().map(|(_, len)| u64::from(*len)).sum(),
                digest: file_digest(chunks.iter().copied()),
            };
            let entry = Entry { node, mode: print.mode, mtime: print.mtime, uploaded: 0 };
            DeltaState::Present { entry, seen: Some(print), trusted, chunks, empty_dir: false }
        }
        Err(ReadError::Gone) => {
            read.stats.gone += 1;
            if base.is_none() {
                return;
            }
            DeltaState::InDoubt { met: true }
        }
        Err(ReadError::OutOfTime { size }) => DeltaState::Unsent { size },
        Err(error) => {
            let (message, hint) = match &error {
                ReadError::Io(e) => (format!("cannot be read: {e}"), hint_for(e)),
                other => (other.to_string(), "the next sync tries again"),
            };
            read.problems.push(PathProblem { path: path.clone(), message, hint: hint.to_owned() });
            read.stats.failed += 1;
            read.stats.note_unread(path.clone());
            DeltaState::Unreadable
        }
    };
    let row = DeltaRow { path, base, state };
    count_row(&row, &mut read.stats);
    read.rows.push(row);
}

/// The blocks of one batch: one for files stored as the mode says, one for files that are exempt from it, and
/// one for chunks that compression would not make smaller.
pub(crate) struct Blocks {
    small: BlockBuilder,
    large: BlockBuilder,
    dense: BlockBuilder,
    sealed: Vec<SealedBlock>,
}

impl Blocks {
    pub(crate) fn new() -> Self {
        Self {
            small: BlockBuilder::new(FILE_MODE_TARGET),
            large: BlockBuilder::new(ARCHIVE_MODE_TARGET).at_level(ARCHIVE_MODE_LEVEL),
            dense: BlockBuilder::new(FILE_MODE_TARGET).uncompressed(),
            sealed: Vec::new(),
        }
    }

    /// Makes the blocks of a long file. Whatever the mode, its chunks are not put into one block, so that a
    /// part of the file can be read alone.
    fn of_long(archived: bool) -> Self {
        let mut blocks = Self::new();
        if archived {
            blocks.small = blocks.small.at_level(ARCHIVE_MODE_LEVEL);
        }
        blocks
    }

    fn push(&mut self, id: ChunkId, bytes: Bytes, archived: bool) {
        let builder = if bytes.len() < FILE_MODE_TARGET && is_dense(&bytes) {
            &mut self.dense
        } else if archived {
            &mut self.large
        } else {
            &mut self.small
        };
        if !builder.takes(bytes.len()) {
            self.sealed.extend(builder.finish());
        }
        // A chunk is never empty, and `takes` said that there is room.
        let pushed = builder.push(id, bytes);
        debug_assert!(pushed.is_ok(), "{pushed:?}");
        if builder.is_full() {
            self.sealed.extend(builder.finish());
        }
    }

    /// Returns the blocks of a batch for which `bytes_read` bytes were read.
    pub(crate) fn finish_of(self, bytes_read: u64) -> Vec<SealedBlock> {
        detach(self.finish(), bytes_read)
    }

    fn finish(mut self) -> Vec<SealedBlock> {
        for builder in [&mut self.small, &mut self.large] {
            builder.absorb(&mut self.dense, TOGETHER);
        }
        self.sealed.extend(self.small.finish());
        self.sealed.extend(self.large.finish());
        self.sealed.extend(self.dense.finish());
        self.sealed
    }
}

/// Receives the progress of a long file.
pub(crate) struct Told<'a> {
    pub(crate) progress: &'a mut Progress,
    pub(crate) monitor: &'a dyn Monitor,
}

/// Reads a long file in steps. Each step is hashed and compressed while the next is read.
pub(crate) async fn read_long(
    readers: &Readers,
    work: Work,
    mut sending: Option<&mut Sending<'_, '_>>,
    mut told: Told<'_>,
) -> Result<Read, Error> {
    let mut read = Read::default();
    let Work::File { path, base, print } = work else { return Ok(read) };
    let lost = |e: JobLost| Error::local("read", readers.mount.show(&path), io::Error::from(e));
    let mut result = Err(ReadError::Unstable);
    for _ in 0..3 {
        let once = read_long_once(readers, &path, &mut sending, &mut read, &mut told).await;
        result = match once {
            Ok(result) => result,
            Err(LongError::Lost(e)) => return Err(lost(e)),
            Err(LongError::Store(e)) => return Err(e),
            // The caller adds up the bytes and reports the error.
            Err(LongError::TooMuch) => return Ok(read),
        };
        if !matches!(result, Err(ReadError::Unstable)) {
            break;
        }
    }
    read.stats.sent_in_vain |= result.is_err() && read.new_bytes > 0;
    match result {
        Err(ReadError::Database) => read.members.push(database(path, base, print.size)),
        result => finish_file(path, base, result, &mut read),
    }
    Ok(read)
}

pub(crate) enum LongError {
    Lost(JobLost),
    Store(Error),
    /// The file has more new content than is allowed.
    TooMuch,
}

/// The result of reading a file: its fingerprint, whether that can be trusted later, and its chunks.
pub(crate) type FileRead = Result<(Fingerprint, bool, Vec<(ChunkId, u32)>), ReadError>;

pub(crate) async fn read_long_once(
    readers: &Readers,
    path: &TreePath,
    sending: &mut Option<&mut Sending<'_, '_>>,
    read: &mut Read,
    told: &mut Told<'_>,
) -> Result<FileRead, LongError> {
    let opened = {
        let (mount, path, buffers) = (readers.mount.clone(), path.clone(), readers.buffers.clone());
        let open = move || {
            mount.env().check_looking("read", || mount.show(&path))?;
            LongFile::open(&mount.parent(&path)?, path.name(), &buffers, mount.env())
        };
        readers.mount.env().blocking(open).await.map_err(LongError::Lost)?
    };
    match opened {
        Ok(file) => stream(readers, path, file, sending, read, told).await,
        Err(e) => Ok(Err(e)),
    }
}

/// Reads an open file to its end, and sends its new chunks.
pub(crate) async fn stream(
    readers: &Readers,
    path: &TreePath,
    file: LongFile,
    sending: &mut Option<&mut Sending<'_, '_>>,
    read: &mut Read,
    told: &mut Told<'_>,
) -> Result<FileRead, LongError> {
    let (env, size) = (readers.mount.env(), file.size());
    let archived = readers.is_archived(path);
    // Steps are read one after the other, while earlier ones are hashed and compressed.
    let steps = futures::stream::unfold((Some(file), env.clone()), |(file, env)| async move {
        let mut file = file?;
        let step = env.blocking(move || {
            let next = file.next();
            (next, file)
        });
        match step.await {
            Ok((Ok(Piece::End), file)) => Some((Ok(Step::End(file)), (None, env))),
            Ok((Ok(piece), file)) => Some((Ok(Step::Next(piece)), (Some(file), env))),
            Ok((Err(e), _)) => Some((Ok(Step::Failed(e)), (None, env))),
            Err(lost) => Some((Err(lost), (None, env))),
        }
    });
    let hashed = steps
        .map(|step| {
            let (readers, env) = (readers.clone(), env.clone());
            async move {
                match step? {
                    Step::Next(piece) => {
                        env.blocking(move || readers.read_step(piece, archived)).await.map(Hashed::Chunks)
                    }
                    Step::End(file) => Ok(Hashed::End(file)),
                    Step::Failed(e) => Ok(Hashed::Failed(e)),
                }
            }
            .boxed()
        })
        .buffered(env.parallelism());
    let mut hashed = std::pin::pin!(hashed);
    let mut all = Vec::new();
    while let Some(step) = hashed.next().await {
        match step.map_err(LongError::Lost)? {
            Hashed::Chunks(step) => {
                read.new_bytes += step.new_bytes;
                read.stats.bytes_read += step.bytes_read;
                told.progress.bytes_done += step.bytes_read;
                if let Some(sending) = sending {
                    told.progress.bytes_sent = sending.sink.sent_so_far().bytes();
                    told.progress.bytes_packed = sending.sink.packed();
                }
                told.monitor.progress(told.progress);
                all.extend(step.chunks);
                if read.new_bytes > readers.allowance {
                    return Err(LongError::TooMuch);
                }
                if let Some(sending) = sending {
                    for block in step.blocks {
                        let (sent, progress) = (sending.sink.sent_so_far(), &mut *told.progress);
                        let tell = || {
                            progress.bytes_sent = sent.bytes();
                            told.monitor.progress(progress);
                        };
                        let added = telling(sending.sink.add_block(block), tell);
                        let added = added.await.map_err(LongError::Store)?;
                        if added == Added::TooLate {
                            return Ok(Err(ReadError::OutOfTime { size }));
                        }
                    }
                    if sending.sink.is_closed() {
                        return Ok(Err(ReadError::OutOfTime { size }));
                    }
                }
            }
            Hashed::Failed(e) => return Ok(Err(e)),
            Hashed::End(file) => {
                let finish = move || file.finish(&all).map(|(print, trusted)| (print, trusted, all));
                return env.blocking(finish).await.map_err(LongError::Lost);
            }
        }
    }
    Ok(Err(ReadError::Unstable))
}

pub(crate) enum Step {
    Next(Piece),
    End(LongFile),
    Failed(ReadError),
}

pub(crate) enum Hashed {
    Chunks(StepRead),
    End(LongFile),
    Failed(ReadError),
}

/// The result of one step of a long file.
pub(crate) struct StepRead {
    chunks: Vec<(ChunkId, u32)>,
    blocks: Vec<SealedBlock>,
    new_bytes: u64,
    bytes_read: u64,
}

impl Readers {
    fn read_step(&self, piece: Piece, archived: bool) -> StepRead {
        let mut blocks = Blocks::of_long(archived);
        let mut new_bytes = 0;
        let mut send = |id, bytes: Bytes| {
            new_bytes += bytes.len() as u64;
            blocks.push(id, bytes, false);
        };
        let mut bytes_read = 0;
        let chunks = match piece {
            Piece::Chunks(chunks) => {
                bytes_read = chunks.iter().map(|bytes| bytes.len() as u64).sum();
                chunks.into_iter().map(|bytes| self.take_on(bytes, None, &mut send)).collect()
            }
            Piece::Zeros(count) => {
                if self.claims(*ZEROS, CHUNK_MAX, None) {
                    send(*ZEROS, vec![0; CHUNK_MAX].into());
                }
                vec![(*ZEROS, CHUNK_MAX as u32); count]
            }
            Piece::End => Vec::new(),
        };
        StepRead { chunks, blocks: detach(blocks.finish(), bytes_read), new_bytes, bytes_read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::format::Codec;
    use crate::format::fixture::{SplitMix, text};

    /// Returns the codecs and raw lengths of the blocks for this many chunks of text and of random bytes.
    fn blocks_of(texts: u64, random: u64, len: usize, archived: bool) -> Vec<(Codec, usize)> {
        let mut blocks = Blocks::new();
        for seed in 0..texts.max(random) {
            let of = [(seed < texts, text(seed, len)), (seed < random, SplitMix(seed).bytes(len))];
            for (_, bytes) in of.into_iter().filter(|(is, _)| *is) {
                blocks.push(ChunkId::of(&bytes), bytes.into(), archived);
            }
        }
        blocks.finish().into_iter().map(|block| (block.codec, block.raw_len as usize)).collect()
    }

    struct All;

    impl ScanFilter for All {
        fn contains(&self, _: &TreePath, _: bool) -> bool {
            true
        }

        fn may_hold(&self, _: &TreePath) -> bool {
            true
        }

        fn enters(&self, _: &TreePath) -> bool {
            true
        }
    }

    #[test]
    fn a_chunk_that_is_kept_alone_does_not_keep_what_was_read_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Arc::new(Chunks::default());
        let buffers = Buffers::new(1 << 20);
        let readers = Readers {
            mount: MountDir::open(dir.path(), &Env::real()).unwrap(),
            chunks: Some((chunks.clone(), None)),
            mode: UploadMode::File,
            scope: Arc::new(Scope::new(&policy_core::SyncPolicy::default(), b"/m").unwrap()),
            filter: Arc::new(All),
            spool_dir: dir.path().into(),
            buffers: buffers.clone(),
            allowance: u64::MAX,
        };
        // Each file has three chunks, of which some are known and some are text.
        let cases = [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (0, 3)];
        for (seed, (known, texts)) in (0..).zip(cases) {
            let mut buffer = buffers.take();
            buffer.extend_from_slice(&text(seed, texts * 300_000));
            buffer.extend_from_slice(&SplitMix(seed).bytes(900_000 - buffer.len()));
            let place = buffer.as_ptr();
            let mut all = buffers.share(buffer);
            let step = [300_000, 300_000, 300_000].map(|len| all.split_to(len)).to_vec();
            drop(all);
            for bytes in step.iter().take(known) {
                assert!(chunks.claim(None, ChunkId::of(bytes), bytes.len(), None));
            }
            let StepRead { chunks: ids, blocks, new_bytes, .. } =
                readers.read_step(Piece::Chunks(step), false);
            assert_eq!((ids.len(), blocks.len(), new_bytes), (3, 3 - known, (3 - known as u64) * 300_000));
            let stored = blocks.iter().filter(|block| block.codec == Codec::Stored);
            assert_eq!(stored.clone().count(), 3 - known - texts);
            assert!(stored.into_iter().all(|block| block.bytes.len() == 300_000));
            // If the whole buffer is in use, copying would save nothing.
            let next = buffers.take();
            assert_eq!(next.as_ptr() == place, known + texts > 0);
        }
    }

    #[test]
    fn what_does_not_compress_has_its_own_blocks_unless_all_is_small() {
        for archived in [false, true] {
            assert_eq!(blocks_of(5, 5, 5_000, archived), [(Codec::Zstd, 50_000)]);
            assert_eq!(blocks_of(0, 5, 5_000, archived), [(Codec::Stored, 25_000)]);
            assert_eq!(blocks_of(5, 0, 5_000, archived), [(Codec::Zstd, 25_000)]);
            let apart = blocks_of(14, 14, 5_000, archived);
            assert_eq!(apart, [(Codec::Zstd, 70_000), (Codec::Stored, 70_000)]);
        }
    }
}
