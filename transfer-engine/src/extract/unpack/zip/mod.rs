//! Zip: members anywhere in the file, and a directory at the end with their positions.
//!
//! The directory is authoritative; each member's own header must agree with it. The directory is read twice:
//! so nothing is written if it is bad, and it is never kept in memory.

mod directory;
mod record;

use std::io::{self, BufReader, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use policy_core::escape;

use super::ExtractError;
use super::ExtractLimits;
use super::fill;
use super::place::{Member, Placer};
use super::source::Source;
use super::trouble::Trouble;
use directory::Directory;
use record::{Kind, Local, Record};

pub(super) use record::{u32_at, u64_at, windows_time};

const INPUT: usize = 64 << 10;
/// The longest target of a link, in bytes.
const TARGET: u64 = 4096;

/// Writes the members of a zip with `placer`.
pub(super) fn extract(
    source: &Source<'_>,
    limits: &ExtractLimits,
    trouble: &Trouble,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let directory = Directory::find(source)?;
    placer.would_fit(directory.count, 0)?;
    let starts = check(&directory, source, trouble, placer)?;
    let mut records = directory.records(source, trouble);
    while let Some(record) = records.next()? {
        let next = starts.partition_point(|start| *start <= record.at);
        let end = starts.get(next).copied().unwrap_or(directory.at);
        place(&record, end, source, limits, trouble, placer)?;
    }
    if let Some(n) = directory.left_over {
        placer.warn(format!("{n} bytes after the archive's end were left alone"));
    }
    Ok(())
}

/// Reads the directory once without writing anything, and returns the offsets of the members, in order.
fn check(
    directory: &Directory,
    source: &Source<'_>,
    trouble: &Trouble,
    placer: &Placer<'_>,
) -> Result<Vec<u64>, ExtractError> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut total = 0_u64;
    let mut records = directory.records(source, trouble);
    while let Some(record) = records.next()? {
        total = total.saturating_add(record.size);
        placer.would_fit(0, total)?;
        let begin = record.least_end().filter(|end| *end <= directory.at).map(|end| (record.at, end));
        ranges.push(begin.ok_or_else(|| {
            ExtractError::damaged(format!(
                "`{}` would lie beyond the archive's members",
                escape(&record.name)
            ))
        })?);
    }
    ranges.sort_unstable();
    // With members that share bytes, a small archive can expand beyond what the ratio shows.
    if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(ExtractError::Limit { what: "members that share their bytes, as bombs do", limit: 0 });
    }
    Ok(ranges.into_iter().map(|(begin, _)| begin).collect())
}

/// Writes a member, which has to end before `end`, an offset from the archive's start.
fn place(
    record: &Record,
    end: u64,
    source: &Source<'_>,
    limits: &ExtractLimits,
    trouble: &Trouble,
    placer: &mut Placer<'_>,
) -> Result<(), ExtractError> {
    let shown = escape(&record.name);
    let local = Local::read(record, source)?;
    if local.data.saturating_add(record.packed) > end {
        return Err(ExtractError::damaged(format!("`{shown}` reaches into the next member")));
    }
    let member = Member { name: &record.name, mode: record.mode, mtime: record.mtime };
    if record.kind == Kind::Dir {
        if record.size > 0 {
            return Err(ExtractError::damaged(format!("`{shown}` is a folder with content")));
        }
        return placer.dir(&member);
    }
    let input = BufReader::with_capacity(INPUT, source.part(local.data, end));
    let decoder = Decoder::new(record, input, limits)?;
    let mut content = Content { decoder, crc: Crc::new(), record, trouble, done: false };
    match record.kind {
        Kind::Link if record.size >= TARGET => {
            Err(ExtractError::hostile(&record.name, "is a link with a target longer than any path"))
        }
        Kind::Link => {
            let mut target = vec![0; usize::try_from(record.size).unwrap_or_default() + 1];
            let n =
                fill(&mut content, &mut target).map_err(|e| trouble.explain(&e, &format!("`{shown}`")))?;
            if n as u64 != record.size {
                return Err(ExtractError::damaged(format!("`{shown}` does not have the size that it says")));
            }
            placer.symlink(&member, &target[..n])
        }
        _ => placer.file(&member, Some(record.size), &mut content),
    }
}

enum Decoder<'a> {
    Stored(BufReader<Source<'a>>),
    Deflate(Box<DeflateDecoder<BufReader<Source<'a>>>>),
    Bzip2(bzip2::bufread::BzDecoder<BufReader<Source<'a>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Source<'a>>>>),
    Xz(liblzma::bufread::XzDecoder<BufReader<Source<'a>>>),
}

impl<'a> Decoder<'a> {
    fn new(
        record: &Record,
        input: BufReader<Source<'a>>,
        limits: &ExtractLimits,
    ) -> Result<Self, ExtractError> {
        let failed = |e: io::Error| ExtractError::local("set up a decoder", e);
        match record.method {
            0 => Ok(Self::Stored(input)),
            8 => Ok(Self::Deflate(Box::new(DeflateDecoder::new(input)))),
            12 => Ok(Self::Bzip2(bzip2::bufread::BzDecoder::new(input))),
            93 => {
                let mut decoder = zstd::Decoder::with_buffer(input).map_err(failed)?;
                decoder.window_log_max(limits.window.max(1024).ilog2()).map_err(failed)?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            95 => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(limits.window.saturating_add(1 << 20), 0);
                Ok(Self::Xz(liblzma::bufread::XzDecoder::new_stream(
                    input,
                    stream.map_err(|e| failed(e.into()))?,
                )))
            }
            other => Err(ExtractError::unsupported(format!(
                "`{}` is compressed by method {other}",
                escape(&record.name)
            ))),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(input) => input.read(buf),
            Self::Deflate(decoder) => decoder.read(buf),
            Self::Bzip2(decoder) => decoder.read(buf),
            Self::Zstd(decoder) => decoder.read(buf),
            Self::Xz(decoder) => decoder.read(buf),
        }
    }

    fn input(&self) -> &BufReader<Source<'a>> {
        match self {
            Self::Stored(input) => input,
            Self::Deflate(decoder) => decoder.get_ref(),
            Self::Bzip2(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.get_ref(),
        }
    }
}

/// A member's content. At the end it must have the checksum that the directory gives, and must have used all
/// of the member's bytes.
struct Content<'a> {
    decoder: Decoder<'a>,
    crc: Crc,
    record: &'a Record,
    trouble: &'a Trouble,
    done: bool,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf)?;
        self.crc.update(&buf[..n]);
        if n == 0 && !buf.is_empty() && !self.done {
            self.done = true;
            let shown = escape(&self.record.name);
            let input = self.decoder.input();
            if self.crc.sum() != self.record.crc {
                return Err(self
                    .trouble
                    .keep(ExtractError::damaged(format!("`{shown}` has a wrong checksum"))));
            }
            if !input.buffer().is_empty() || input.get_ref().at() < input.get_ref().end() {
                let what = format!("`{shown}` has fewer bytes of compressed data than it says");
                return Err(self.trouble.keep(ExtractError::damaged(what)));
            }
        }
        Ok(n)
    }
}
