//! A sorted sequence of rows, kept in memory while it is small and in a file when it is not.
//!
//! Rows are stored in frames of about 64 KiB, each with its length and the first bytes of its SHA-256. Paths
//! are front-coded within a frame. The base has the same frames after its header.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::Path;

use policy_core::TreePath;
use tempfile::SpooledTempFile;

use super::file::read_whole;
use super::rows::Row;
use crate::format::wire::{Reader, Writer};
use crate::format::{FormatError, Part, sha256};

const FRAME: usize = 64 << 10;
/// A frame has at least one row, and a row may have all chunks of one file.
const MAX_FRAME: u32 = 1 << 30;
/// How many bytes a spool keeps in memory before it uses a file.
const IN_MEMORY: usize = 16 << 20;
const HEAD: usize = 24;

/// Writes rows in frames.
#[derive(Debug)]
pub(crate) struct FrameWriter<R> {
    body: Writer,
    rows: u32,
    last: Vec<u8>,
    row: PhantomData<R>,
}

impl<R: Row> FrameWriter<R> {
    pub(crate) fn new() -> Self {
        Self { body: Writer::new(), rows: 0, last: Vec::new(), row: PhantomData }
    }

    pub(crate) fn push(&mut self, row: &R, to: &mut impl Write) -> io::Result<()> {
        let path = row.path().as_bytes();
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        self.body.varint(shared as u64);
        self.body.blob(&path[shared..]);
        row.write(&mut self.body);
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
        self.rows += 1;
        if self.body.len() >= FRAME { self.flush(to) } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let body = std::mem::take(&mut self.body).into_vec();
        let mut head = Writer::with_capacity(HEAD);
        head.u32(u32::try_from(body.len()).map_err(io::Error::other)?);
        head.u32(self.rows);
        head.bytes(&sha256(&body).0[..16]);
        to.write_all(head.as_slice())?;
        to.write_all(&body)?;
        self.rows = 0;
        self.last.clear();
        Ok(())
    }
}

/// Reads frames.
#[derive(Debug)]
pub(crate) struct FrameReader<R, F> {
    from: F,
    rows: std::vec::IntoIter<R>,
    body: Vec<u8>,
    failed: bool,
}

impl<R: Row, F: Read> FrameReader<R, F> {
    pub(crate) fn new(from: F) -> Self {
        Self { from, rows: Vec::new().into_iter(), body: Vec::new(), failed: false }
    }

    /// Reads the rows of the next frame, and returns them with the frame's length in bytes. A frame that the
    /// end cuts off gives [`FormatError::Truncated`].
    pub(crate) fn frame(&mut self) -> io::Result<Option<(Vec<R>, u64)>> {
        let mut head = [0; HEAD];
        match self.from.read_exact(&mut head[..1]) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        read_whole(&mut self.from, &mut head[1..])?;
        let mut r = Reader::new(Part::State, &head);
        let (len, count) = (r.u32().map_err(io::Error::other)?, r.u32().map_err(io::Error::other)?);
        if len > MAX_FRAME || count > len {
            return Err(corrupt());
        }
        self.body.clear();
        (&mut self.from).take(u64::from(len)).read_to_end(&mut self.body)?;
        if self.body.len() != len as usize {
            return Err(io::Error::other(FormatError::Truncated { part: Part::State, offset: 0 }));
        }
        if sha256(&self.body).0[..16] != head[8..] {
            return Err(corrupt());
        }
        let rows = parse(&self.body, count).map_err(io::Error::other)?;
        Ok(Some((rows, HEAD as u64 + u64::from(len))))
    }
}

fn corrupt() -> io::Error {
    io::Error::other(FormatError::Corrupt { part: Part::State })
}

pub(super) fn parse<R: Row>(body: &[u8], count: u32) -> Result<Vec<R>, FormatError> {
    let mut r = Reader::new(Part::State, body);
    let mut rows = Vec::with_capacity(count as usize);
    let mut last: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = r.varint_max("a shared prefix", last.len() as u64)? as usize;
        let len = r.count("a path", 1)?;
        last.truncate(shared);
        last.extend_from_slice(r.take(len)?);
        let path = TreePath::new(last.as_slice()).map_err(|e| r.invalid(e.to_string()))?;
        rows.push(R::read(path, &mut r)?);
    }
    // The digest does not cover the count.
    r.finish()?;
    Ok(rows)
}

impl<R: Row, F: Read> Iterator for FrameReader<R, F> {
    type Item = io::Result<R>;

    fn next(&mut self) -> Option<io::Result<R>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            if self.failed {
                return None;
            }
            match self.frame() {
                Ok(Some((rows, _))) => self.rows = rows.into_iter(),
                Ok(None) => return None,
                Err(e) => {
                    self.failed = true;
                    return Some(Err(e));
                }
            }
        }
    }
}

/// Collects rows.
#[derive(Debug)]
pub(crate) struct Spool<R> {
    file: SpooledTempFile,
    frames: FrameWriter<R>,
    len: u64,
}

/// Reads the rows of a spool.
pub(crate) type SpoolReader<'a, R> = FrameReader<R, BufReader<&'a mut SpooledTempFile>>;

impl<R: Row> Spool<R> {
    /// Starts an empty spool. Its file is created in `dir` if needed.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { file: tempfile::spooled_tempfile_in(IN_MEMORY, dir), frames: FrameWriter::new(), len: 0 }
    }

    /// Starts an empty spool that is in a file of `dir` from the start.
    pub(crate) fn in_file(dir: &Path) -> Self {
        Self { file: tempfile::spooled_tempfile_in(0, dir), frames: FrameWriter::new(), len: 0 }
    }

    /// Adds a row, which must sort after all others.
    pub(crate) fn push(&mut self, row: &R) -> io::Result<()> {
        self.len += 1;
        self.frames.push(row, &mut self.file)
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads the rows from the first.
    pub(crate) fn read(&mut self) -> io::Result<SpoolReader<'_, R>> {
        self.frames.flush(&mut self.file)?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(FrameReader::new(BufReader::with_capacity(256 << 10, &mut self.file)))
    }
}
