//! Reading files so that what was read is known to be one state of the file.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use policy_core::TreePath;
use rustix::fs::{FileType, Mode, OFlags};

use crate::buffers::Buffers;
use crate::env::Env;
use crate::format::{CHUNK_MAX, cut};
use crate::local::{Fingerprint, MountDir, open_file_at};

/// How often a file that changes while it is read is tried again.
const ATTEMPTS: u32 = 3;
/// What one step of a long file reads.
const STEP: usize = 4 << 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it vanished")]
    Gone,
    #[error("it keeps changing while it is read")]
    Unstable,
    #[error("there was no time to send it")]
    OutOfTime {
        /// Its length in bytes.
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

/// The content of a file, and the stat under which it had it.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) print: Fingerprint,
    pub(crate) trusted: bool,
}

/// Opens the directories of files that come in tree order: most are in the one of the file before.
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

/// Reads a file of at most `limit` bytes at once. `expected` is its stat of a moment ago.
pub(crate) fn read_whole(
    parent: &OwnedFd,
    name: &[u8],
    mut expected: Fingerprint,
    limit: u64,
    env: &Env,
) -> Result<Whole, ReadError> {
    for _ in 0..ATTEMPTS {
        let moment = env.now();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(io::Error::from)?;
        let mut file = File::from(fd);
        let size = expected.size.min(limit);
        // One byte more than there should be: that it can't be had is the end of the file, for one call.
        let mut bytes = Vec::with_capacity(size as usize + 1);
        (&mut file).take(size + 1).read_to_end(&mut bytes)?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ReadError::Unstable);
        }
        let print = Fingerprint::of(&stat);
        if print == expected && bytes.len() as u64 == print.size {
            return Ok(Whole { bytes: bytes.into(), print, trusted: !print.is_racy(moment) });
        }
        expected = print;
    }
    Err(ReadError::Unstable)
}

/// Returns buffers for the steps of long files.
pub(super) fn step_buffers() -> Buffers {
    Buffers::new(STEP + CHUNK_MAX)
}

/// A long file that is read in steps and cut into chunks.
pub(crate) struct LongFile {
    file: File,
    print: Fingerprint,
    trusted: bool,
    /// Bytes that were read so far.
    read: u64,
    tail: Bytes,
    ended: bool,
    buffers: Buffers,
}

impl LongFile {
    pub(crate) fn open(
        parent: &OwnedFd,
        name: &[u8],
        buffers: &Buffers,
        env: &Env,
    ) -> Result<Self, ReadError> {
        let moment = env.now();
        let (file, stat) = open_file_at(parent, name)?;
        let print = Fingerprint::of(&stat);
        let trusted = !print.is_racy(moment);
        Ok(Self { file, print, trusted, read: 0, tail: Bytes::new(), ended: false, buffers: buffers.clone() })
    }

    pub(crate) fn size(&self) -> u64 {
        self.print.size
    }

    /// Returns the next chunks, or none at the end of the file. One that has grown has no end: it may grow for ever,
    /// and faster than it is sent.
    pub(crate) fn next(&mut self) -> Result<Vec<Bytes>, ReadError> {
        if self.ended {
            return Ok(Vec::new());
        }
        let mut buf = self.buffers.take();
        buf.extend_from_slice(&self.tail);
        let wanted = (STEP + CHUNK_MAX - buf.len()) as u64;
        let read = (&mut self.file).take(wanted).read_to_end(&mut buf)? as u64;
        self.read += read;
        if self.read > self.print.size {
            return Err(ReadError::Unstable);
        }
        self.ended = read < wanted;
        let mut rest = self.buffers.share(buf);
        let mut chunks = Vec::new();
        while let Some(len) = cut(&rest, self.ended).filter(|len| *len > 0) {
            chunks.push(rest.split_to(len));
        }
        self.tail = rest;
        Ok(chunks)
    }

    /// Returns the stat under which the whole file was read, if it was one state.
    pub(crate) fn finish(self) -> Result<(Fingerprint, bool), ReadError> {
        let stat = rustix::fs::fstat(&self.file).map_err(io::Error::from)?;
        if Fingerprint::of(&stat) == self.print {
            Ok((self.print, self.trusted))
        } else {
            Err(ReadError::Unstable)
        }
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

    /// Reads to the end, and calls `meanwhile` before each step.
    fn read(mut file: LongFile, mut meanwhile: impl FnMut()) -> Result<usize, ReadError> {
        let mut len = 0;
        loop {
            meanwhile();
            let chunks = file.next()?;
            if chunks.is_empty() {
                return file.finish().map(|_| len);
            }
            len += chunks.iter().map(Bytes::len).sum::<usize>();
        }
    }

    #[test]
    fn l2_a_file_that_grows_as_fast_as_it_is_read_is_not_read_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = SplitMix(1).bytes(20 << 20);
        std::fs::write(&path, &first).unwrap();
        assert_eq!(read(open(dir.path(), "log"), || ()).unwrap(), first.len());
        for (grows, at_most) in [(STEP + CHUNK_MAX, 3), (1, 3)] {
            std::fs::write(&path, &first).unwrap();
            let file = open(dir.path(), "log");
            let mut steps = 0;
            let ended = read(file, || {
                steps += 1;
                assert!(steps < 20, "it never ends");
                File::options().append(true).open(&path).unwrap().write_all(&vec![7; grows]).unwrap();
            });
            assert!(matches!(ended, Err(ReadError::Unstable)), "{ended:?}");
            assert!(steps <= at_most, "{steps}");
        }
    }

    #[test]
    fn l1_a_file_that_gets_shorter_or_other_bytes_is_unstable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for len in [0, 5 << 20, 20 << 20] {
            std::fs::write(&path, SplitMix(2).bytes(20 << 20)).unwrap();
            // The file system's clock may not tick before it is changed.
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
