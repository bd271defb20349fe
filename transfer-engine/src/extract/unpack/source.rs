//! The archive's bytes, read by position.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::ExtractError;
use super::Extraction;
use super::trouble::Trouble;

/// A part of the archive file, as a reader with a position of its own. There may be several at once.
#[derive(Clone)]
pub(super) struct Source<'a> {
    file: &'a File,
    stop: &'a dyn Fn() -> bool,
    trouble: &'a Trouble,
    at: u64,
    end: u64,
}

impl<'a> Source<'a> {
    /// Returns the whole archive.
    pub(super) fn whole(job: &Extraction<'a>, trouble: &'a Trouble) -> Result<Self, ExtractError> {
        let meta = job.archive.metadata().map_err(|e| ExtractError::local("read the archive", e))?;
        Ok(Self { file: job.archive, stop: job.stop, trouble, at: 0, end: meta.len() })
    }

    /// Returns the bytes from `at` to `end`, or to the end of this source.
    pub(super) fn part(&self, at: u64, end: u64) -> Self {
        Self { at, end: end.min(self.end), ..self.clone() }
    }

    /// Returns the file position of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Returns the file position at which this source ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Fills `buf` from the position `at`; false if the source ends before.
    pub(super) fn exact(&self, at: u64, buf: &mut [u8]) -> Result<bool, ExtractError> {
        match self.part(at, self.end).read_exact(buf) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(self.trouble.explain(&e, "the archive")),
        }
    }

    /// Returns the position of the first non-zero byte from `at` on.
    pub(super) fn first_not_zero(&self, at: u64) -> Result<Option<u64>, ExtractError> {
        let mut rest = self.part(at, self.end);
        let mut buf = [0; 16 << 10];
        loop {
            let n = rest.read(&mut buf).map_err(|e| self.trouble.explain(&e, "the archive"))?;
            if n == 0 {
                return Ok(None);
            }
            if let Some(i) = buf[..n].iter().position(|&b| b != 0) {
                return Ok(Some(rest.at - n as u64 + i as u64));
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(self.trouble.keep(ExtractError::Stopped));
        }
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buf.len());
        loop {
            match self.file.read_at(&mut buf[..left], self.at) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.trouble.keep(ExtractError::local("read the archive", e))),
            }
        }
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
