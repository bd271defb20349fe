//! Reads files so that the content is known to be one state of the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use policy_core::TreePath;
use rustix::fs::{FileType, Mode, OFlags};

use crate::buffers::Buffers;
use crate::env::Env;
use crate::format::{CHUNK_MAX, ChunkId, ZEROS, cut};
use crate::local::{Fingerprint, MountDir, data_from, is_sparse, open_file_at, sqlite};

/// How often reading is retried if a file changes meanwhile.
const ATTEMPTS: u32 = 3;
/// How many bytes one step of a long file reads.
const STEP: usize = 4 << 20;
/// How many bytes are compared at once with what was read before.
const COMPARED: usize = 64 << 10;
/// The most chunks of one file, because its entry has to fit into one segment. With chunks of zeros, that is
/// 9.5 TiB.
const MAX_FILE_CHUNKS: usize = 2_500_000;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it vanished")]
    Gone,
    #[error("it keeps changing while it is read")]
    Unstable,
    /// The file has to be read in steps.
    #[error("it has grown long")]
    Long {
        /// The fingerprint with the new size.
        print: Fingerprint,
    },
    #[error("it belongs to a database")]
    Database,
    #[error("it is cut into more chunks than an entry can name")]
    TooLarge,
    #[error("there was no time to send it")]
    OutOfTime {
        /// The size of the file, in bytes.
        size: u64,
    },
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone,
            _ => Self::Io(e),
        }
    }
}

/// The content of a file, and its fingerprint at that time.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) print: Fingerprint,
    pub(crate) trusted: bool,
}

/// Opens the directories of files in tree order: most files are in the same directory as the file before.
pub(crate) struct Parents<'a> {
    mount: &'a MountDir,
    last: Option<(TreePath, Arc<OwnedFd>)>,
}

impl<'a> Parents<'a> {
    pub(crate) fn new(mount: &'a MountDir) -> Self {
        Self { mount, last: None }
    }

    pub(crate) fn of(&mut self, path: &TreePath) -> io::Result<Arc<OwnedFd>> {
        let parent = path.parent().unwrap_or_default();
        if let Some((last, dir)) = &self.last
            && *last == parent
        {
            return Ok(dir.clone());
        }
        let dir = Arc::new(self.mount.dir(&parent)?);
        self.last = Some((parent, dir.clone()));
        Ok(dir)
    }
}

/// Reads a file of at most `limit` bytes at once. `expected` is its fingerprint a moment ago. If the file
/// grows meanwhile, the result is what it had when it was opened.
pub(crate) fn read_whole(
    parent: &OwnedFd,
    name: &[u8],
    expected: Fingerprint,
    limit: u64,
    env: &Env,
) -> Result<Whole, ReadError> {
    let mut expected = Some(expected);
    for _ in 0..ATTEMPTS {
        let moment = env.now();
        if sqlite::is_held(parent, name) {
            return Err(ReadError::Database);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(io::Error::from)?;
        let mut file = File::from(fd);
        // The scan's fingerprint saves a system call. If the file does not match it, the file is read again
        // with a new one.
        let (before, is_of_scan) = match expected.take() {
            Some(print) => (print, true),
            None => (print_of(&file)?, false),
        };
        if before.size > limit {
            return Err(ReadError::Long { print: before });
        }
        // One byte more than expected is requested: if it is missing, the file has ended, without a further
        // call.
        let mut bytes = Vec::with_capacity(before.size as usize + 1);
        (&mut file).take(before.size + 1).read_to_end(&mut bytes)?;
        if sqlite::is_database(&bytes) {
            sqlite::let_go(file);
            return Err(ReadError::Database);
        }
        let after = print_of(&file)?;
        let is_as_it_was = after == before && bytes.len() as u64 == before.size;
        let has_grown = !is_of_scan && after.size > before.size && bytes.len() as u64 > before.size;
        bytes.truncate(before.size as usize);
        if is_as_it_was || (has_grown && holds(&file, &bytes)?) {
            return Ok(Whole {
                bytes: bytes.into(),
                print: before,
                trusted: !before.by_clock(env).is_racy(moment),
            });
        }
    }
    Err(ReadError::Unstable)
}

/// Returns the fingerprint of an open file. If it is no longer a regular file, it is being replaced.
fn print_of(file: &File) -> Result<Fingerprint, ReadError> {
    let stat = rustix::fs::fstat(file).map_err(io::Error::from)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Fingerprint::of(&stat)),
        _ => Err(ReadError::Unstable),
    }
}

/// Whether a file still begins with these bytes. A fingerprint does not distinguish an appended file from a
/// rewritten one.
fn holds(file: &File, bytes: &[u8]) -> io::Result<bool> {
    let mut again = vec![0; COMPARED.min(bytes.len())];
    let mut at = 0;
    for part in bytes.chunks(COMPARED) {
        let again = &mut again[..part.len()];
        match file.read_exact_at(again, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if again != part {
            return Ok(false);
        }
        at += part.len() as u64;
    }
    Ok(true)
}

/// Returns buffers for the steps of long files.
pub(crate) fn step_buffers() -> Buffers {
    Buffers::new(STEP + CHUNK_MAX)
}

/// A long file that is read in steps and cut into chunks.
pub(crate) struct LongFile {
    file: File,
    print: Fingerprint,
    trusted: bool,
    /// Whether the file may have holes.
    sparse: bool,
    /// The number of bytes read or skipped so far.
    read: u64,
    tail: Bytes,
    chunks: usize,
    buffers: Buffers,
    is_copy: bool,
}

/// The next part of a long file.
pub(crate) enum Piece {
    Chunks(Vec<Bytes>),
    /// This many chunks of [`CHUNK_MAX`] zeros, which need not be read.
    Zeros(usize),
    End,
}

impl LongFile {
    pub(crate) fn open(
        parent: &OwnedFd,
        name: &[u8],
        buffers: &Buffers,
        env: &Env,
    ) -> Result<Self, ReadError> {
        if sqlite::stands_for_database(parent, name) {
            return Err(ReadError::Database);
        }
        let moment = env.now();
        let (file, stat) = open_file_at(parent, name)?;
        let print = Fingerprint::of(&stat);
        let (trusted, sparse) = (!print.by_clock(env).is_racy(moment), is_sparse(&stat));
        let (tail, buffers) = (Bytes::new(), buffers.clone());
        Ok(Self { file, print, trusted, sparse, read: 0, tail, chunks: 0, buffers, is_copy: false })
    }

    /// Reads a copy of a file, which no one changes, in place of the file with this fingerprint.
    pub(crate) fn of_copy(
        mut copy: File,
        print: Fingerprint,
        trusted: bool,
        buffers: &Buffers,
    ) -> io::Result<Self> {
        let sparse = is_sparse(&rustix::fs::fstat(&copy)?);
        copy.seek(SeekFrom::Start(0))?;
        let (tail, buffers) = (Bytes::new(), buffers.clone());
        Ok(Self { file: copy, print, trusted, sparse, read: 0, tail, chunks: 0, buffers, is_copy: true })
    }

    pub(crate) fn size(&self) -> u64 {
        self.print.size
    }

    /// Returns the next part. Bytes that are appended from now on are not read: the file may grow for ever,
    /// and faster than it is sent.
    pub(crate) fn next(&mut self) -> Result<Piece, ReadError> {
        let piece = match self.skip_hole()? {
            0 => {
                let chunks = self.read_step()?;
                self.chunks += chunks.len();
                if chunks.is_empty() { Piece::End } else { Piece::Chunks(chunks) }
            }
            zeros => {
                self.chunks = self.chunks.saturating_add(zeros);
                Piece::Zeros(zeros)
            }
        };
        if self.chunks > MAX_FILE_CHUNKS {
            return Err(ReadError::TooLarge);
        }
        Ok(piece)
    }

    /// Skips the chunks that are entirely in a hole, and returns their number.
    fn skip_hole(&mut self) -> Result<usize, ReadError> {
        if !self.sparse {
            return Ok(0);
        }
        let from = self.read - self.tail.len() as u64;
        let zeros = (data_from(&self.file, from, self.print.size) - from) / CHUNK_MAX as u64;
        if zeros > 0 {
            self.read = from + zeros * CHUNK_MAX as u64;
            self.tail = Bytes::new();
        }
        self.file.seek(SeekFrom::Start(self.read))?;
        Ok(usize::try_from(zeros).unwrap_or(usize::MAX))
    }

    fn read_step(&mut self) -> Result<Vec<Bytes>, ReadError> {
        let mut buf = self.buffers.take();
        buf.extend_from_slice(&self.tail);
        let left = self.print.size - self.read;
        let wanted = ((STEP + CHUNK_MAX - buf.len()) as u64).min(left);
        let read = (&mut self.file).take(wanted).read_to_end(&mut buf)? as u64;
        if read < wanted {
            return Err(ReadError::Unstable);
        }
        self.read += read;
        let mut rest = self.buffers.share(buf);
        let mut chunks = Vec::new();
        while let Some(len) = cut(&rest, read == left).filter(|len| *len > 0) {
            chunks.push(rest.split_to(len));
        }
        self.tail = rest;
        Ok(chunks)
    }

    /// Returns the fingerprint of the file if the chunks are one state of it: it has not changed, or it has
    /// only grown.
    pub(crate) fn finish(self, chunks: &[(ChunkId, u32)]) -> Result<(Fingerprint, bool), ReadError> {
        if self.is_copy {
            return Ok((self.print, self.trusted));
        }
        let after = print_of(&self.file)?;
        if after == self.print || (after.size > self.print.size && self.holds(chunks)?) {
            Ok((self.print, self.trusted))
        } else {
            Err(ReadError::Unstable)
        }
    }

    /// Whether the file still begins with these chunks.
    fn holds(&self, chunks: &[(ChunkId, u32)]) -> io::Result<bool> {
        let mut again = self.buffers.take();
        let mut at = 0;
        for (id, len) in chunks {
            let end = at + u64::from(*len);
            let is_hole = || self.sparse && *id == *ZEROS && data_from(&self.file, at, end) == end;
            if !is_hole() {
                again.resize(*len as usize, 0);
                match self.file.read_exact_at(&mut again, at) {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                    other => other?,
                }
                if ChunkId::of(&again) != *id {
                    return Ok(false);
                }
            }
            at = end;
        }
        // This returns the buffer to its pool.
        drop(self.buffers.share(again));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::format::fixture::SplitMix;

    fn open(dir: &Path, name: &str) -> LongFile {
        let env = Env::real();
        let mount = MountDir::open(dir, &env).unwrap();
        LongFile::open(mount.root(), name.as_bytes(), &step_buffers(), &env).unwrap()
    }

    /// Reads to the end, and calls `meanwhile` before each step. Returns the chunks, and the number of bytes
    /// that were not read.
    fn read(
        mut file: LongFile,
        mut meanwhile: impl FnMut(),
    ) -> Result<(Vec<(ChunkId, u32)>, u64), ReadError> {
        let (mut chunks, mut skipped) = (Vec::new(), 0);
        loop {
            meanwhile();
            match file.next()? {
                Piece::Chunks(next) => chunks.extend(next.iter().map(|c| (ChunkId::of(c), c.len() as u32))),
                Piece::Zeros(count) => {
                    skipped += (count * CHUNK_MAX) as u64;
                    chunks.extend(std::iter::repeat_n((*ZEROS, CHUNK_MAX as u32), count));
                }
                Piece::End => return file.finish(&chunks).map(|_| (chunks, skipped)),
            }
        }
    }

    fn chunks_of(bytes: &[u8]) -> Vec<(ChunkId, u32)> {
        let (mut rest, mut chunks) = (bytes, Vec::new());
        while let Some(len) = cut(rest, true) {
            chunks.push((ChunkId::of(&rest[..len]), len as u32));
            rest = &rest[len..];
        }
        chunks
    }

    fn append(path: &Path, bytes: &[u8]) {
        File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn l29_of_a_long_file_that_grows_what_was_there_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = SplitMix(1).bytes(12 << 20);
        for grows in [0, 1, 3 * (STEP + CHUNK_MAX)] {
            std::fs::write(&path, &first).unwrap();
            let mut steps = 0;
            let read = read(open(dir.path(), "log"), || {
                steps += 1;
                assert!(steps < 20, "it never ends");
                append(&path, &vec![7; grows]);
            });
            assert_eq!(read.unwrap().0, chunks_of(&first));
        }
    }

    /// The file has grown, but the beginning has changed too, which the fingerprint does not show.
    #[test]
    fn l29_a_long_file_that_grows_and_changes_is_unstable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for at in [0, 7 << 20, (12 << 20) - 1] {
            let mut bytes = SplitMix(2).bytes(12 << 20);
            std::fs::write(&path, &bytes).unwrap();
            let mut steps = 0;
            let ended = read(open(dir.path(), "file"), || {
                steps += 1;
                if steps == 3 {
                    bytes[at] ^= 1;
                    bytes.push(1);
                    std::fs::write(&path, &bytes).unwrap();
                }
            });
            assert!(matches!(ended, Err(ReadError::Unstable)), "{at}: {ended:?}");
        }
    }

    /// A clock that runs something whenever it is asked, which is before each read.
    struct Meanwhile<F>(F);

    impl<F: Fn() + Send + Sync> crate::env::Clock for Meanwhile<F> {
        fn now(&self) -> policy_core::Timestamp {
            (self.0)();
            policy_core::Timestamp::default()
        }
    }

    #[test]
    fn l29_of_a_short_file_that_has_grown_what_was_there_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\n").unwrap();
        let mount = MountDir::open(dir.path(), &Env::real()).unwrap();
        let seen = Fingerprint::of(&mount.stat(&"log".parse().unwrap()).unwrap().unwrap());
        let log = path.clone();
        let env = Env::real().with_clock(Arc::new(Meanwhile(move || append(&log, b"more\n"))));
        let whole = read_whole(mount.root(), b"log", seen, 1000, &env).unwrap();
        assert!(whole.bytes.starts_with(b"one\nmore\n") && whole.print.size == whole.bytes.len() as u64);
        let long = read_whole(mount.root(), b"log", seen, 10, &env);
        assert!(matches!(long, Err(ReadError::Long { print }) if print.size > 10));
    }

    #[test]
    fn l29_what_grew_is_compared_with_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes = SplitMix(3).bytes(3 * COMPARED + 9);
        std::fs::write(&path, &bytes).unwrap();
        append(&path, b"more");
        let file = File::open(&path).unwrap();
        assert!(holds(&file, &bytes).unwrap() && holds(&file, &[]).unwrap());
        for at in [0, COMPARED - 1, COMPARED, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(!holds(&file, &other).unwrap(), "{at}");
        }
        assert!(!holds(&file, &SplitMix(3).bytes(4 * COMPARED)).unwrap());
    }

    #[test]
    fn l7_a_sparse_file_has_the_chunks_of_its_bytes_and_its_holes_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        const MIB: usize = 1 << 20;
        // The positions of data in a file of this size.
        let cases: [(usize, &[(usize, usize)]); 5] = [
            (16 * MIB, &[]),
            (16 * MIB + 5, &[(0, 4096)]),
            (20 * MIB, &[(9 * MIB + 8192, MIB + 77)]),
            (24 * MIB, &[(MIB, 100), (16 * MIB - 50, 100), (24 * MIB - 9, 9)]),
            (17 * MIB, &[(8 * MIB, MIB), (14 * MIB + 1, 1)]),
        ];
        for (case, (size, data)) in cases.into_iter().enumerate() {
            let file = File::create(&path).unwrap();
            file.set_len(size as u64).unwrap();
            for (at, len) in data {
                file.write_all_at(&SplitMix(*at as u64).bytes(*len), *at as u64).unwrap();
            }
            let whole = std::fs::read(&path).unwrap();
            let (chunks, skipped) = read(open(dir.path(), "image"), || ()).unwrap();
            assert_eq!(chunks, chunks_of(&whole), "{case}");
            let islands = data.len() + 1;
            assert!(skipped as usize + islands * (STEP + 2 * CHUNK_MAX) >= size, "{case}: {skipped}");
            if case > 2 {
                let (grown, _) = read(open(dir.path(), "image"), || append(&path, b"more")).unwrap();
                assert_eq!(grown, chunks, "{case}");
            }
        }
    }

    #[test]
    fn l7_a_file_of_more_chunks_than_an_entry_can_have_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endless");
        let most = (MAX_FILE_CHUNKS * CHUNK_MAX) as u64;
        for (len, fits) in [(most, true), (most + 1, false)] {
            // Some file systems do not support files of that length.
            if File::create(&path).unwrap().set_len(len).is_err() {
                return;
            }
            let ended = read(open(dir.path(), "endless"), || ());
            assert_eq!(ended.is_ok(), fits);
        }
    }

    #[test]
    fn l1_a_file_that_gets_shorter_or_other_bytes_is_unstable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for len in [0, 5 << 20, 20 << 20] {
            std::fs::write(&path, SplitMix(2).bytes(20 << 20)).unwrap();
            // Otherwise the file system's clock might not tick before the file is changed.
            File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            let file = open(dir.path(), "file");
            let mut steps = 0;
            let ended = read(file, || {
                steps += 1;
                if steps == 2 {
                    File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
                }
            });
            assert!(matches!(ended, Err(ReadError::Unstable)), "{len}: {ended:?}");
        }
    }
}
