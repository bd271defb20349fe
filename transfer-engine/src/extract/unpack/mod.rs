//! Reads archives, and writes their members.
//!
//! ```text
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
mod folders;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod links;
mod name;
mod place;
mod seen;
mod seven;
mod source;
mod sparse;
mod stream;
mod tar;
mod trouble;
mod zip;

#[cfg(test)]
mod tests;

use std::io::Read;

use policy_core::Timestamp;

use super::kind::{self, Compression};
use super::{ArchiveKind, ExtractError, ExtractLimits, Extracted, Extraction};
use place::{Member, Placer};
use source::Source;
use stream::Unpacked;
use trouble::Trouble;

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
