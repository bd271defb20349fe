//! Archives into folders: one archive, decoded into an empty directory of our own staging.
//!
//! ```text
//!   kind    is this file an archive, and of which kind
//!     │
//!   source ──► stream ──► tar ─┐
//!     │           └────► single├──► place ──► files below the handle of an empty directory
//!     ├─────────────────► zip ─┤      │
//!     └───────────────► seven ─┘    links (where do they lead, once all is there)
//! ```
//!
//! The readers know formats and nothing of the file system; [`place`] knows the file system and no format. An
//! archive is taken as a whole or not at all: whatever goes wrong, the caller throws the directory away.
//!
//! Containers are read here where a library would hide what must be seen: `zip` keeps the last of two members
//! of one name, and believes one of two headers that disagree; `tar` ends the extended headers at the first
//! empty line and reads them into memory at any size. What is compressed is decoded by libraries alone.

mod blocks;
mod budget;
mod error;
mod folders;
mod kind;
mod links;
mod name;
mod place;
mod seen;
mod seven;
mod source;
mod sparse;
mod stream;
mod tar;
mod zip;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;

use policy_core::{Timestamp, TreePath};

use crate::local::MountDir;

pub use error::ExtractError;
pub(crate) use kind::{ArchiveKind, Compression};

use error::Trouble;
use place::{Member, Placer};
use source::Source;
use stream::Unpacked;

/// How much an archive may hold to be extracted; one that holds more is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractLimits {
    /// Bytes that may come out in all: 64 GiB.
    pub total_bytes: u64,
    /// Members: a million.
    pub members: u64,
    /// Folders in each other: 64.
    pub levels: u32,
    /// How many bytes may come out for each byte of the archive: 200.
    pub ratio: u64,
    /// How many bytes come out before the ratio counts: 64 MiB.
    pub ratio_from: u64,
    /// The memory in bytes that a decoder may take for its window: 128 MiB.
    pub window: u64,
}

impl Default for ExtractLimits {
    fn default() -> Self {
        Self {
            total_bytes: 64 << 30,
            members: 1_000_000,
            levels: 64,
            ratio: 200,
            ratio_from: 64 << 20,
            window: 128 << 20,
        }
    }
}

/// An archive, and where and how it is to come out.
pub(crate) struct Extraction<'a> {
    pub(crate) archive: &'a File,
    pub(crate) kind: ArchiveKind,
    /// The archive's own name, its last component: a single file takes its name from it.
    pub(crate) name: &'a [u8],
    /// An empty directory that nobody else uses. What it holds after an error is of no use.
    pub(crate) into: &'a MountDir,
    pub(crate) limits: &'a ExtractLimits,
    /// Whether a member takes part, by its path below the directory, and whether it is a folder.
    pub(crate) keep: &'a dyn Fn(&TreePath, bool) -> bool,
    /// Is asked often; once it says true, the extraction ends as [`ExtractError::Stopped`].
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// What came out of an archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// Files, links and folders that are members of the archive and now in the directory.
    pub(crate) members: u64,
    /// Bytes in the files.
    pub(crate) bytes: u64,
    /// How many members were left out, because [`Extraction::keep`] said no.
    pub(crate) left_out_total: u64,
    /// The first thousand of them.
    pub(crate) left_out: Vec<TreePath>,
    /// What the user should know, though the archive was extracted.
    pub(crate) warnings: Vec<String>,
}

impl Extraction<'_> {
    /// Decodes the archive into the directory: files with permission bits and times, folders likewise, links
    /// that stay inside. Nothing is durable yet. Memory is the decoder's window, a directory of a 7z or the
    /// offsets of a zip's members (8 bytes each), and a few MiB, whatever the size of the members.
    pub(crate) fn run(self) -> Result<Extracted, ExtractError> {
        let trouble = Trouble::default();
        let source = Source::whole(&self, &trouble)?;
        let mut placer = Placer::new(&self, &trouble, source.end());
        match self.kind {
            ArchiveKind::Zip => zip::extract(&source, self.limits, &trouble, &mut placer)?,
            ArchiveKind::SevenZip => seven::extract(source, self.limits, &trouble, &mut placer)?,
            ArchiveKind::Tar(packed) => {
                let mut stream = Unpacked::new(source, packed, self.limits, &trouble)?;
                tar::extract(&mut stream, &trouble, &mut placer)?;
                warn_of(stream.left_over(), &mut placer);
            }
            ArchiveKind::Single(packed) => self.single(source, packed, &trouble, &mut placer)?,
        }
        placer.finish()
    }

    /// Decodes a single compressed file, which keeps the archive's time.
    fn single(
        &self,
        source: Source<'_>,
        packed: Compression,
        trouble: &Trouble,
        placer: &mut Placer<'_>,
    ) -> Result<(), ExtractError> {
        let stat = rustix::fs::fstat(self.archive).map_err(|e| ExtractError::local("read the archive", e))?;
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        let mtime = Some(Timestamp { secs: stat.st_mtime, nanos });
        let mut stream = Unpacked::new(source, packed, self.limits, trouble)?;
        let member = Member { name: ArchiveKind::stem(self.name), mode: None, mtime };
        placer.file(&member, None, &mut stream)?;
        warn_of(stream.left_over(), placer);
        Ok(())
    }
}

fn warn_of(left_over: Option<u64>, placer: &mut Placer<'_>) {
    if let Some(n) = left_over {
        placer.warn(format!("{n} bytes after the archive's end were left alone"));
    }
}

/// Reads until `buf` is full or the reader ends, and returns how much it was.
fn fill(reader: &mut dyn Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut full = 0;
    while full < buf.len() {
        match reader.read(&mut buf[full..]) {
            Ok(0) => break,
            Ok(n) => full += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(full)
}
