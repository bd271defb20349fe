//! Compressed streams, possibly several in sequence, as `cat a.gz b.gz` makes them.

use std::io::{self, BufReader, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::ExtractError;
use super::ExtractLimits;
use super::budget::Budget;
use super::kind::Compression;
use super::source::Source;
use super::trouble::Trouble;

const INPUT: usize = 64 << 10;
/// What xz's decoder needs besides its window; it counts against the decoder's limit.
const XZ_BESIDES: u64 = 1 << 20;

type Input<'a> = BufReader<Source<'a>>;

enum Stage<'a> {
    Plain(Input<'a>),
    Gzip(Box<GzDecoder<Input<'a>>>),
    Bzip2(BzDecoder<Input<'a>>),
    Xz(XzDecoder<Input<'a>>),
    Zstd(Box<zstd::Decoder<'static, Input<'a>>>),
    End,
}

/// The unpacked content of a compressed file. Memory is the decoder's window, which is limited.
pub(super) struct Unpacked<'a> {
    source: Source<'a>,
    packed: Compression,
    stage: Stage<'a>,
    window: u64,
    /// Counts the unpacked bytes, so that a stream of nothing but headers also ends.
    budget: Budget<'a>,
    trouble: &'a Trouble,
    left_over: Option<u64>,
}

impl<'a> Unpacked<'a> {
    pub(super) fn new(
        source: Source<'a>,
        packed: Compression,
        limits: &'a ExtractLimits,
        trouble: &'a Trouble,
    ) -> Result<Self, ExtractError> {
        let mut begin = [0; 6];
        source.exact(source.at(), &mut begin)?;
        if !packed.begins(&begin) {
            return Err(ExtractError::damaged("it does not begin as its name says"));
        }
        let budget = Budget::of_stream(limits, source.end());
        let stage = Stage::Plain(BufReader::with_capacity(INPUT, source.clone()));
        let mut unpacked =
            Self { source, packed, stage, window: limits.window, budget, trouble, left_over: None };
        if packed != Compression::None {
            unpacked.stage = unpacked.begin(unpacked.source.at())?;
        }
        Ok(unpacked)
    }

    /// Returns how many bytes follow the last stream and are neither another stream nor padding.
    pub(super) fn left_over(&self) -> Option<u64> {
        self.left_over
    }

    /// Opens the stream that begins at `at`.
    fn begin(&self, at: u64) -> Result<Stage<'a>, ExtractError> {
        let input = BufReader::with_capacity(INPUT, self.source.part(at, u64::MAX));
        let failed = |e: io::Error| ExtractError::local("set up a decoder", e);
        Ok(match self.packed {
            Compression::None => Stage::Plain(input),
            Compression::Gzip => Stage::Gzip(Box::new(GzDecoder::new(input))),
            Compression::Bzip2 => Stage::Bzip2(BzDecoder::new(input)),
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(self.window + XZ_BESIDES, 0);
                Stage::Xz(XzDecoder::new_stream(input, stream.map_err(|e| failed(e.into()))?))
            }
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input).map_err(failed)?.single_frame();
                decoder.window_log_max(self.window.max(1024).ilog2()).map_err(failed)?;
                Stage::Zstd(Box::new(decoder))
            }
        })
    }

    /// Continues after the end of a stream.
    fn next(&mut self) -> io::Result<()> {
        let input = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Plain(_) | Stage::End => return Ok(()),
            Stage::Gzip(decoder) => decoder.into_inner(),
            Stage::Bzip2(decoder) => decoder.into_inner(),
            Stage::Xz(decoder) => decoder.into_inner(),
            Stage::Zstd(mut decoder) => {
                decoder.finish_frame()?;
                decoder.finish()
            }
        };
        let at = input.get_ref().at() - input.buffer().len() as u64;
        self.after(at).map_err(|e| self.trouble.keep(e))
    }

    fn after(&mut self, at: u64) -> Result<(), ExtractError> {
        // Padding up to a tape's block size is normal. After xz's own padding there may be another stream.
        let Some(more) = self.source.first_not_zero(at)? else { return Ok(()) };
        let mut begin = [0; 6];
        let whole = self.source.exact(more, &mut begin)?;
        if whole && self.packed.begins(&begin) && (more == at || self.packed == Compression::Xz) {
            self.stage = self.begin(more)?;
        } else {
            self.left_over = Some(self.source.end() - more);
        }
        Ok(())
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let read = match &mut self.stage {
                Stage::Plain(input) => return input.read(buf),
                Stage::Gzip(decoder) => decoder.read(buf),
                Stage::Bzip2(decoder) => decoder.read(buf),
                Stage::Xz(decoder) => decoder.read(buf),
                Stage::Zstd(decoder) => decoder.read(buf),
                Stage::End => return Ok(0),
            }?;
            if read > 0 {
                self.budget.take(read as u64).map_err(|e| self.trouble.keep(e))?;
                return Ok(read);
            }
            self.next()?;
        }
    }
}
