//! The base of a mount and context in a file: a header of fixed length, then frames of rows.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use policy_core::{Digest, Entry, TreePath};

use super::file::{StateFile, read_whole};
use super::rows::{BaseRow, Held};
use super::spool::{FrameReader, FrameWriter};
use crate::env::Env;
use crate::format::wire::{Reader, Writer};
use crate::format::{FormatError, LineageId, Part, StoreId, StoreMeta, sha256};
use crate::store::HeadKey;

const MAGIC: [u8; 4] = *b"CSba";
/// Version 1 lacks the rows' file systems; otherwise it is the same.
const VERSION: u8 = 2;
/// This version is of a part of a context, which its header names; otherwise it is the same.
const VERSION_OF_PART: u8 = 3;
pub(super) const HEADER: usize = 512;
/// Where the header's fields end. The byte after them belongs to the kind of file that has the header.
const FIELDS: usize = HEADER - 33;
const MAX_E_TAG: usize = 256;

/// The facts about a base as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseHeader {
    pub(crate) store: StoreMeta,
    pub(crate) lineage: LineageId,
    /// The head when the base was written.
    pub(crate) head: HeadKey,
    pub(crate) digest: Digest,
    /// The digest of the scope that selected the rows.
    pub(crate) scope: Digest,
    /// The digest of the path of the part that the mount has; `None` if the mount has the whole context.
    pub(crate) part: Option<Digest>,
    /// Whether the rows are exactly what the head had in scope, so that the head need not be read.
    pub(crate) agrees: bool,
    pub(crate) rows: u64,
    /// The number of rows that count as not pulled, because their deletion is held back.
    pub(crate) held: u64,
    /// The total size of all files, in bytes.
    pub(crate) bytes: u64,
}

impl BaseHeader {
    /// Returns the header's bytes. `mark` is the byte for the kind of file: 0 for a base.
    pub(super) fn encode(&self, mark: u8) -> io::Result<[u8; HEADER]> {
        let mut w = Writer::with_capacity(HEADER);
        w.bytes(&MAGIC);
        w.u8(if self.part.is_some() { VERSION_OF_PART } else { VERSION });
        w.bytes(&self.store.store_id.0);
        w.varint(self.store.grace_seconds);
        w.zigzag(self.store.created);
        w.bytes(&self.lineage.0);
        w.varint(self.head.number);
        w.varint(self.head.size);
        w.zigzag(self.head.landed);
        // A longer tag is not kept; then the snapshot is read instead.
        let e_tag = self.head.e_tag.as_deref().filter(|t| t.len() <= MAX_E_TAG).unwrap_or_default();
        w.blob(e_tag.as_bytes());
        w.bytes(&self.digest.0);
        w.bytes(&self.scope.0);
        w.u8(u8::from(self.agrees));
        w.varint(self.rows);
        w.varint(self.held);
        w.varint(self.bytes);
        self.part.iter().for_each(|part| w.bytes(&part.0));
        let mut header = [0; HEADER];
        let body = w.as_slice();
        if body.len() > FIELDS {
            return Err(io::Error::other("the base's header is too long"));
        }
        header[..body.len()].copy_from_slice(body);
        header[FIELDS] = mark;
        let digest = sha256(&header[..HEADER - 32]);
        header[HEADER - 32..].copy_from_slice(&digest.0);
        Ok(header)
    }

    /// Decodes a header, and returns the byte for the kind of file.
    pub(super) fn decode(header: &[u8; HEADER]) -> Result<(Self, u8), FormatError> {
        if sha256(&header[..HEADER - 32]).0 != header[HEADER - 32..] {
            return Err(FormatError::Corrupt { part: Part::State });
        }
        let mut r = Reader::new(Part::State, &header[..FIELDS]);
        if r.array()? != MAGIC {
            return Err(r.invalid("it is no base"));
        }
        let version = r.u8()?;
        if !(1..=VERSION_OF_PART).contains(&version) {
            let (found, supported) = (u32::from(version), u32::from(VERSION_OF_PART));
            return Err(FormatError::UnsupportedVersion { part: Part::State, found, supported });
        }
        let store =
            StoreMeta { store_id: StoreId(r.array()?), grace_seconds: r.varint()?, created: r.zigzag()? };
        let lineage = LineageId(r.array()?);
        let (number, size, landed) = (r.varint()?, r.varint()?, r.zigzag()?);
        let len = r.count("a tag", 1)?;
        let e_tag = String::from_utf8(r.take(len)?.to_vec()).ok().filter(|t| !t.is_empty());
        let decoded = Self {
            store,
            lineage,
            head: HeadKey { number, size, e_tag, landed },
            digest: Digest(r.array()?),
            scope: Digest(r.array()?),
            agrees: r.u8()? != 0,
            rows: r.varint()?,
            held: r.varint()?,
            bytes: r.varint()?,
            part: if version == VERSION_OF_PART { Some(Digest(r.array()?)) } else { None },
        };
        Ok((decoded, header[FIELDS]))
    }
}

#[cfg(test)]
impl BaseHeader {
    /// Returns a header for tests.
    pub(super) fn example(number: u64) -> Self {
        Self {
            store: StoreMeta { store_id: StoreId([1; 16]), grace_seconds: 60, created: 0 },
            lineage: LineageId([2; 16]),
            head: HeadKey { number, size: 4, e_tag: None, landed: 0 },
            digest: Digest([5; 32]),
            scope: Digest([6; 32]),
            part: None,
            agrees: false,
            rows: 0,
            held: 0,
            bytes: 0,
        }
    }
}

/// Reads the rows of a base, in order.
pub(crate) struct BaseReader {
    frames: FrameReader<BaseRow, BufReader<StateFile>>,
    left: u64,
}

impl BaseReader {
    /// Opens a base; `None` if there is none.
    pub(super) fn open(path: &Path, env: &Env) -> io::Result<Option<(BaseHeader, Self)>> {
        let Some(mut file) = StateFile::open(path, env)? else { return Ok(None) };
        let mut header = [0; HEADER];
        read_whole(&mut file, &mut header)?;
        let (header, _) = BaseHeader::decode(&header).map_err(io::Error::other)?;
        let left = header.rows;
        let frames = FrameReader::new(BufReader::with_capacity(256 << 10, file));
        Ok(Some((header, Self { frames, left })))
    }
}

impl Iterator for BaseReader {
    type Item = io::Result<BaseRow>;

    fn next(&mut self) -> Option<io::Result<BaseRow>> {
        match self.frames.next() {
            Some(Ok(row)) if self.left > 0 => {
                self.left -= 1;
                Some(Ok(row))
            }
            // A base that is too short or too long is an error: missing rows must not look like deletions, or
            // like new files.
            Some(Ok(_)) => Some(Err(io::Error::other(FormatError::Corrupt { part: Part::State }))),
            None if self.left > 0 => {
                self.left = 0;
                Some(Err(io::Error::other(FormatError::Truncated { part: Part::State, offset: 0 })))
            }
            other => other,
        }
    }
}

/// Writes a base. It counts only after [`BaseWriter::finish`] has put it in place.
pub(crate) struct BaseWriter {
    path: PathBuf,
    file: BufWriter<File>,
    frames: FrameWriter<BaseRow>,
    /// A directory that is dropped if something below it follows, because it is then implied.
    pending: Option<BaseRow>,
    rows: u64,
    held: u64,
    bytes: u64,
}

impl BaseWriter {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file =
            File::options().write(true).read(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&[0; HEADER])?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(256 << 10, file),
            frames: FrameWriter::new(),
            pending: None,
            rows: 0,
            held: 0,
            bytes: 0,
        })
    }

    /// Adds a row, which must sort after all others.
    pub(crate) fn push(&mut self, row: BaseRow) -> io::Result<()> {
        if let Some(dir) = self.pending.take()
            && !row.path.is_below(&dir.path)
        {
            self.write(&dir)?;
        }
        if row.entry.is_dir() && row.entry.mode == Entry::IMPLIED_DIR.mode {
            self.pending = Some(row);
            return Ok(());
        }
        self.write(&row)
    }

    fn write(&mut self, row: &BaseRow) -> io::Result<()> {
        self.rows += 1;
        self.held += u64::from(row.held == Held::Here);
        if !row.entry.is_dir() {
            self.bytes += row.entry.size();
        }
        self.frames.push(row, &mut self.file)
    }

    /// Writes the header.
    pub(crate) fn finish(self, header: BaseHeader) -> io::Result<BaseHeader> {
        Ok(self.complete(header)?.0)
    }

    fn complete(mut self, header: BaseHeader) -> io::Result<(BaseHeader, File)> {
        if let Some(dir) = self.pending.take() {
            self.write(&dir)?;
        }
        self.frames.flush(&mut self.file)?;
        let header = BaseHeader { rows: self.rows, held: self.held, bytes: self.bytes, ..header };
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.encode(0)?)?;
        Ok((header, file))
    }
}

/// Writes the next base: the rows of the old one, except for the paths that are set.
///
/// That it can't be written, because the disk is full, is told at the end: a commit does without. That the old one can't be
/// read is told at once.
pub(crate) struct NextBase {
    old: std::iter::Peekable<Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>>,
    new: io::Result<BaseWriter>,
}

impl NextBase {
    /// Starts with the rows of `old`, which are kept for all paths that are not set.
    pub(crate) fn create(path: &Path, old: Box<dyn Iterator<Item = io::Result<BaseRow>> + Send>) -> Self {
        Self { old: old.peekable(), new: BaseWriter::create(path) }
    }

    fn push(&mut self, row: BaseRow) {
        if let Ok(new) = &mut self.new
            && let Err(error) = new.push(row)
        {
            self.new = Err(error);
        }
    }

    /// Sets or removes the row of a path; paths come in tree order.
    pub(crate) fn set(&mut self, path: &TreePath, row: Option<BaseRow>) -> io::Result<()> {
        while let Some(old) = self.old.next_if(|r| r.as_ref().map_or(true, |r| r.path < *path)) {
            self.push(old?);
        }
        if let Some(old) = self.old.next_if(|r| r.as_ref().is_ok_and(|r| r.path == *path)) {
            old?;
        }
        row.into_iter().for_each(|row| self.push(row));
        Ok(())
    }

    /// Takes over the rows of the old one that are left.
    pub(crate) fn take_rest(&mut self) -> io::Result<()> {
        while let Some(old) = self.old.next() {
            self.push(old?);
        }
        Ok(())
    }

    /// Writes the header, and if asked to, makes the file durable.
    ///
    /// # Errors
    /// The base can't be written.
    pub(crate) fn finish(self, header: BaseHeader, durably: bool) -> io::Result<BaseHeader> {
        let new = self.new?;
        let path = new.path.clone();
        let (header, file) = new.complete(header)?;
        if durably {
            file.sync_all()?;
            path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        }
        Ok(header)
    }
}

/// Whether a base was started but not finished: its header is written last.
pub(super) fn is_unfinished(path: &Path, env: &Env) -> io::Result<bool> {
    let Some(file) = StateFile::open(path, env)? else { return Ok(false) };
    let mut header = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut header)?;
    Ok(header.len() < HEADER || header.iter().all(|byte| *byte == 0))
}

/// Replaces the header of a finished base.
pub(crate) fn rewrite_header(path: &Path, header: &BaseHeader) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    file.write_all(&header.encode(0)?)?;
    file.sync_all()
}
