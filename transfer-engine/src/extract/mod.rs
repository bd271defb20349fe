//! Extracts an archive into an empty directory in staging.
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
//! archive is extracted completely or not at all: after an error, the caller discards the directory.
//!
//! Container formats are parsed here if a library would hide what must be checked. `zip` keeps only the last
//! of two members with the same name, and trusts one of two headers that disagree. `tar` ends extended
//! headers at the first empty line, and reads them into memory whatever their size. Decompression is left to
//! libraries.

mod blocks;
mod budget;
mod error;
mod folders;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
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

/// Limits for extraction. An archive that exceeds one is not extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractLimits {
    /// The total size of all members, in bytes: 64 GiB.
    pub total_bytes: u64,
    /// The number of members: a million.
    pub members: u64,
    /// The depth of nested directories: 64.
    pub levels: u32,
    /// The unpacked bytes per byte of the archive: 200.
    pub ratio: u64,
    /// The number of unpacked bytes from which the ratio is checked: 64 MiB.
    pub ratio_from: u64,
    /// The memory for a decoder's window, in bytes: 128 MiB.
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

/// An archive to extract, and where and how.
pub(crate) struct Extraction<'a> {
    pub(crate) archive: &'a File,
    pub(crate) kind: ArchiveKind,
    /// The last component of the archive's path. A single compressed file gets its name from it.
    pub(crate) name: &'a [u8],
    /// An empty directory for exclusive use. After an error, its content is useless.
    pub(crate) into: &'a MountDir,
    pub(crate) limits: &'a ExtractLimits,
    /// Whether a member takes part. The arguments are its path below the directory, and whether it is a
    /// directory.
    pub(crate) keep: &'a dyn Fn(&TreePath, bool) -> bool,
    /// Is called often; once it returns true, the extraction ends with [`ExtractError::Stopped`].
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// The result of an extraction.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// Members of the archive that are in the directory now: files, links and directories.
    pub(crate) members: u64,
    /// The total size of the files, in bytes.
    pub(crate) bytes: u64,
    /// How many members were left out because [`Extraction::keep`] returned false.
    pub(crate) left_out_total: u64,
    /// The first thousand of those.
    pub(crate) left_out: Vec<TreePath>,
    /// Messages for the user, although the archive was extracted.
    pub(crate) warnings: Vec<String>,
}

impl Extraction<'_> {
    /// Extracts the archive into the directory: files and directories with permission bits and times, and
    /// links that stay inside. The result is not durable yet. Memory does not depend on the size of the
    /// members: it is the decoder's window, the directory of a 7z or 8 bytes for each member of a zip, and a
    /// few MiB.
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

    /// Extracts a single compressed file, which gets the archive's time.
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

/// Reads until `buf` is full or the reader ends, and returns the number of bytes.
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
