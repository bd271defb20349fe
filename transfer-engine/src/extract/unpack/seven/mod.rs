//! 7z: members in a few long compressed runs, and a directory at the end.

mod census;

use std::io::{BufReader, Read};

use flate2::Crc;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{Filters, Stream};
use policy_core::escape;
use rustix::fs::FileType;
use sevenz_rust2::{ArchiveEntry, ArchiveReader, EncoderMethod, Error, Password};

use super::ExtractError;
use super::ExtractLimits;
use super::place::{Member, Placer};
use super::source::Source;
use super::trouble::Trouble;
use super::zip::{u32_at, u64_at, windows_time};
use crate::local::os;
use census::{Census, Coder};

const SIGNATURE: u64 = 32;
/// The largest directory, in bytes. The names of a million members fit.
const DIRECTORY: u64 = 64 << 20;
/// The longest target of a link, in bytes.
const TARGET: u64 = 4096;

/// Writes the members of a 7z with `placer`.
pub(super) fn extract(
    source: Source<'_>,
    limits: &ExtractLimits,
    trouble: &Trouble,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let Some(directory) = Directory::find(&source)? else { return Ok(()) };
    // The library allocates memory for what a directory claims to contain, so the claims are checked first.
    let census = Census::take(&directory.decoded(&source, limits, trouble)?)?;
    placer.would_fit(census.files, 0)?;
    for coders in &census.folders {
        check_coders(coders, limits)?;
    }
    let memory = usize::try_from(limits.window.max(DIRECTORY) / 1024).unwrap_or(usize::MAX) + 1024;
    let behind = directory.left_over;
    let mut reader = ArchiveReader::new_with_memory_limit(source, Password::empty(), memory)
        .map_err(|e| explain(e, trouble, "its directory"))?;
    // With threads of its own, it panics where the system refuses one, and takes the memory of a decoder for each.
    reader.set_thread_count(1);
    let total = reader.archive().files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size()));
    placer.would_fit(0, total)?;
    let mut last = String::from("its content");
    reader
        .for_each_entries(|entry, content| {
            last = format!("`{}`", escape(entry.name().as_bytes()));
            place(entry, content, trouble, placer).map(|()| true).map_err(|e| Error::from(trouble.keep(e)))
        })
        .map_err(|e| explain(e, trouble, &last))?;
    if let Some(n) = behind {
        placer.warn(format!("{n} bytes after the archive's end were left alone"));
    }
    Ok(())
}

fn place(
    entry: &ArchiveEntry,
    content: &mut dyn Read,
    trouble: &Trouble,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    const UNIX: u32 = 0x8000;
    const REPARSE: u32 = 0x400;
    let shown = escape(entry.name().as_bytes());
    if entry.is_anti_item() {
        return Err(ExtractError::unsupported(format!("`{shown}` is the deletion of a file")));
    }
    let attributes = if entry.has_windows_attributes { entry.windows_attributes() } else { 0 };
    let unix = (attributes & UNIX != 0).then_some(attributes >> 16);
    let mtime =
        entry.has_last_modified_date.then(|| windows_time(entry.last_modified_date().into())).flatten();
    let member = Member { name: entry.name().as_bytes(), mode: unix.map(|mode| mode & 0o7777), mtime };
    if entry.is_directory() {
        return placer.dir(&member);
    }
    match unix.map(os::kind_of) {
        None if attributes & REPARSE != 0 => {
            Err(ExtractError::unsupported(format!("`{shown}` is a link as Windows has them")))
        }
        None | Some(FileType::RegularFile) => placer.file(&member, Some(entry.size()), content),
        Some(FileType::Symlink) if entry.size() >= TARGET => {
            Err(ExtractError::hostile(member.name, "is a link with a target longer than any path"))
        }
        Some(FileType::Symlink) => {
            let mut target = Vec::new();
            let read = content.take(TARGET).read_to_end(&mut target);
            read.map_err(|e| trouble.explain(&e, &format!("`{shown}`")))?;
            placer.symlink(&member, &target)
        }
        Some(FileType::Directory) => {
            Err(ExtractError::damaged(format!("`{shown}` is a folder with content")))
        }
        Some(FileType::CharacterDevice | FileType::BlockDevice) => {
            Err(ExtractError::hostile(member.name, "is a device"))
        }
        Some(FileType::Fifo | FileType::Socket) => {
            Err(ExtractError::hostile(member.name, "is a FIFO or a socket"))
        }
        // No type is given.
        Some(FileType::Unknown) => placer.file(&member, Some(entry.size()), content),
    }
}

/// The position of the directory, as given at the archive's start.
struct Directory {
    at: u64,
    len: u64,
    crc: u32,
    left_over: Option<u64>,
}

impl Directory {
    /// Finds the directory; `None` if the archive has no members.
    fn find(source: &Source<'_>) -> Result<Option<Self>, ExtractError> {
        let mut start = [0; SIGNATURE as usize];
        if !source.exact(0, &mut start)? {
            return Err(ExtractError::damaged("it was cut short"));
        }
        let (fixed, rest) = start.split_at(12);
        if checksum(rest) != u32_at(fixed, 8) {
            return Err(ExtractError::damaged("its first bytes have a wrong checksum"));
        }
        let (offset, len, crc) = (u64_at(rest, 0), u64_at(rest, 8), u32_at(rest, 16));
        let at = SIGNATURE.checked_add(offset);
        let end = at.and_then(|at| at.checked_add(len)).filter(|end| *end <= source.end());
        let (Some(at), Some(end)) = (at, end) else {
            return Err(ExtractError::damaged("it has no directory at its end: it was cut short"));
        };
        if len > DIRECTORY {
            return Err(ExtractError::unsupported("its directory is larger than 64 MiB"));
        }
        let left_over = Some(source.end() - end).filter(|n| *n > 0);
        Ok((len > 0).then_some(Self { at, len, crc, left_over }))
    }

    /// Reads the directory, and unpacks it if it is compressed.
    fn decoded(
        &self,
        source: &Source<'_>,
        limits: &ExtractLimits,
        trouble: &Trouble,
    ) -> Result<Vec<u8>, ExtractError> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or_default()];
        source.exact(self.at, &mut bytes)?;
        if checksum(&bytes) != self.crc {
            return Err(ExtractError::damaged("its directory has a wrong checksum"));
        }
        let Some(packed) = census::packed_directory(&bytes)? else { return Ok(bytes) };
        let [coder] = &*packed.coders else {
            return Err(match packed.coders.iter().any(|coder| coder.is(EncoderMethod::ID_AES256_SHA256)) {
                true => ExtractError::unsupported("its directory is encrypted"),
                false => ExtractError::unsupported("its directory is compressed in more than one way"),
            });
        };
        if packed.size > DIRECTORY {
            return Err(ExtractError::unsupported("its directory is larger than 64 MiB"));
        }
        check_coders(&packed.coders, limits)?;
        let from = SIGNATURE.saturating_add(packed.at);
        let input = BufReader::new(source.part(from, from.saturating_add(packed.len)));
        let mut filters = Filters::new();
        let filled = match &*coder.method {
            EncoderMethod::ID_LZMA => filters.lzma1_properties(&coder.properties),
            EncoderMethod::ID_LZMA2 => filters.lzma2_properties(&coder.properties),
            _ => {
                return Err(ExtractError::unsupported(
                    "its directory is compressed by a method that is not known",
                ));
            }
        };
        let stream = filled.and_then(|filters| Stream::new_raw_decoder(filters));
        let stream = stream.map_err(|e| trouble.explain(&e.into(), "its directory"))?;
        let mut decoded = Vec::new();
        let read = XzDecoder::new_stream(input, stream).take(packed.size).read_to_end(&mut decoded);
        read.map_err(|e| trouble.explain(&e, "its directory"))?;
        if decoded.len() as u64 != packed.size {
            return Err(ExtractError::damaged("its directory ends too early"));
        }
        Ok(decoded)
    }
}

/// Refuses coders that together take more memory than one window, and coders that are not supported.
fn check_coders(coders: &[Coder], limits: &ExtractLimits) -> Result<(), ExtractError> {
    let mut window = 0_u64;
    for coder in coders {
        window = window.saturating_add(coder.window());
        if coder.is(EncoderMethod::ID_AES256_SHA256) {
            return Err(ExtractError::unsupported("it is encrypted"));
        }
    }
    if window > limits.window {
        return Err(ExtractError::unsupported(format!(
            "it needs a window of {} MiB, and {} are allowed",
            window >> 20,
            limits.window >> 20
        )));
    }
    Ok(())
}

fn explain(e: Error, trouble: &Trouble, about: &str) -> ExtractError {
    match e {
        Error::UnsupportedCompressionMethod(method) => match trouble.taken() {
            Some(kept) => kept,
            None => ExtractError::unsupported(format!("{about} is compressed by {method}")),
        },
        Error::PasswordRequired => ExtractError::unsupported("it is encrypted"),
        Error::MaxMemLimited { .. } => ExtractError::unsupported("it needs a larger window than is allowed"),
        e => trouble.explain(&std::io::Error::other(e.to_string()), about),
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
