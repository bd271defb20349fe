//! Chunks compressed together, so that small files share their redundancy.

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::ChunkId;
use super::error::{FormatError, Part, at_most};

/// Raw bytes at which a block of `uploadMode: File` is full: 256 KiB.
pub const FILE_MODE_TARGET: usize = 256 << 10;
/// Raw bytes at which a block of `uploadMode: Archive` is full: 4 MiB.
pub const ARCHIVE_MODE_TARGET: usize = 4 << 20;
/// The most raw bytes that any block holds: 8 MiB. Readers refuse more before they take memory.
pub const MAX_BLOCK_RAW: u32 = 8 << 20;
/// The most chunks in a block, so that tiny files can't make a footer larger than its pack.
pub const MAX_BLOCK_CHUNKS: usize = 16 << 10;

/// The zstd level of `uploadMode: File`: level 1 saves no measurable time, and level 3 costs a tenth more.
const FILE_MODE_LEVEL: i32 = 2;
/// The zstd level of `uploadMode: Archive`. Higher levels save little, and cost far more CPU time
/// (docs/upload-modes.md).
pub const ARCHIVE_MODE_LEVEL: i32 = 3;
/// The zstd level of metadata.
const METADATA_LEVEL: i32 = 1;

/// Of a long chunk, this many pieces of this many bytes are compressed first. If none of them gets smaller,
/// the rest is not tried: with random data, that saves a seventh of all CPU time of a push.
const SAMPLES: usize = 4;
const SAMPLE: usize = 16 << 10;

/// How a block is stored in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// Uncompressed: compression did not make it smaller.
    Stored,
    /// One zstd frame.
    Zstd,
}

impl Codec {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Stored => 0,
            Self::Zstd => 1,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Stored),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A block that is ready for a pack.
#[derive(Debug, Clone)]
#[must_use]
pub struct SealedBlock {
    /// How `bytes` encodes the chunks.
    pub codec: Codec,
    /// The length of all chunks together, in bytes.
    pub raw_len: u32,
    /// The bytes to append to the pack.
    pub bytes: Bytes,
    /// The chunks in order, each with its length; together `raw_len`.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// Gathers chunks into blocks, one after the other, with one compressor.
///
/// ```text
/// for chunk { if !takes(len) { finish() -> pack }; push(id, bytes); if is_full() { finish() -> pack } }
/// ```
#[derive(Debug)]
pub struct BlockBuilder {
    target: usize,
    /// A long chunk that is a block of its own; it is not copied.
    whole: Option<Bytes>,
    raw: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    zstd: Option<Zstd>,
}

impl BlockBuilder {
    /// Starts the first block; `target` is the number of raw bytes at which a block is full.
    pub fn new(target: usize) -> Self {
        Self {
            target: target.clamp(1, MAX_BLOCK_RAW as usize),
            whole: None,
            raw: Vec::new(),
            chunks: Vec::new(),
            zstd: None,
        }
        .at_level(FILE_MODE_LEVEL)
    }

    /// Sets the zstd level, on which readers do not depend.
    #[must_use]
    pub fn at_level(mut self, level: i32) -> Self {
        self.zstd = Some(Zstd { level, ..Zstd::default() });
        self
    }

    /// Turns compression off, for chunks that would not get smaller.
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.zstd = None;
        self
    }

    /// Whether a chunk of `len` bytes belongs in the current block. If not, the caller finishes the block
    /// first.
    pub fn takes(&self, len: usize) -> bool {
        self.is_empty()
            || (!self.is_full() && len < self.target && self.raw.len() + len <= MAX_BLOCK_RAW as usize)
    }

    /// Adds a chunk.
    ///
    /// The first chunk of a block is not copied if it fills the block alone.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] if the block would have more than [`MAX_BLOCK_RAW`] bytes or
    /// [`MAX_BLOCK_CHUNKS`] chunks. It does not occur if the caller asks [`takes`](Self::takes) first and
    /// pushes chunks made by [`cut`](super::cut). [`FormatError::Invalid`] for a chunk without bytes. After
    /// an error, the block is unchanged.
    pub fn push(&mut self, id: ChunkId, data: Bytes) -> Result<(), FormatError> {
        if data.is_empty() {
            return Err(FormatError::unwritable(Part::Block, "a chunk without bytes"));
        }
        let len = (self.raw_len() + data.len()) as u64;
        at_most(Part::Block, "a raw length", len, u64::from(MAX_BLOCK_RAW))?;
        at_most(Part::Block, "a number of chunks", self.chunks.len() as u64 + 1, MAX_BLOCK_CHUNKS as u64)?;
        self.chunks.push((id, data.len() as u32));
        if self.chunks.len() == 1 && data.len() >= self.target {
            self.whole = Some(data);
            return Ok(());
        }
        if let Some(whole) = self.whole.take() {
            self.raw.extend_from_slice(&whole);
        }
        self.raw.extend_from_slice(&data);
        Ok(())
    }

    /// Returns the number of raw bytes so far.
    pub fn raw_len(&self) -> usize {
        self.whole.as_ref().map_or(self.raw.len(), Bytes::len)
    }

    /// Whether the block has no chunks.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether the block has reached its target.
    pub fn is_full(&self) -> bool {
        self.raw_len() >= self.target || self.chunks.len() >= MAX_BLOCK_CHUNKS
    }

    /// Moves the chunks of `other` into this block, if both have some and together at most `most` raw bytes.
    pub(crate) fn absorb(&mut self, other: &mut Self, most: usize) {
        let both = !self.is_empty() && !other.is_empty() && self.whole.is_none() && other.whole.is_none();
        let chunks = self.chunks.len() + other.chunks.len();
        if both && self.raw_len() + other.raw_len() <= most && chunks <= MAX_BLOCK_CHUNKS {
            self.raw.append(&mut other.raw);
            self.chunks.append(&mut other.chunks);
        }
    }

    /// Compresses the block and begins the next; `None` if the block has no chunks.
    pub fn finish(&mut self) -> Option<SealedBlock> {
        if self.is_empty() {
            return None;
        }
        let chunks = std::mem::take(&mut self.chunks);
        let whole = self.whole.take();
        let raw = whole.as_deref().unwrap_or(&self.raw);
        let raw_len = raw.len() as u32;
        let zstd = self.zstd.as_mut();
        // If many chunks share a block, samples of some say nothing about the others.
        let worth_it = |zstd: &mut Zstd| whole.is_none() || zstd.gains_by_samples(raw);
        let packed = zstd.and_then(|zstd| if worth_it(zstd) { zstd.compress(raw) } else { None });
        let (codec, bytes) = match packed {
            Some(packed) => (Codec::Zstd, Bytes::copy_from_slice(packed)),
            None => (Codec::Stored, whole.unwrap_or_else(|| Bytes::from(std::mem::take(&mut self.raw)))),
        };
        self.raw.clear();
        Some(SealedBlock { codec, raw_len, bytes, chunks })
    }
}

/// A reusable compressor with its output buffer.
pub(crate) struct Zstd {
    level: i32,
    context: Option<Compressor<'static>>,
    out: Vec<u8>,
}

impl Default for Zstd {
    fn default() -> Self {
        Self { level: METADATA_LEVEL, context: None, out: Vec::new() }
    }
}

impl Zstd {
    /// Whether a long chunk is worth compressing.
    fn gains_by_samples(&mut self, raw: &[u8]) -> bool {
        let mut pieces = raw.chunks(SAMPLE).step_by((raw.len() / SAMPLE / SAMPLES).max(1));
        pieces.any(|piece| self.compress(piece).is_some())
    }

    /// Returns `raw` compressed, or `None` if that is not smaller. A compressor that fails for lack of memory
    /// counts as the same case, because storing the block uncompressed is always correct.
    pub(crate) fn compress(&mut self, raw: &[u8]) -> Option<&[u8]> {
        if self.context.is_none() {
            self.context = Compressor::new(self.level).ok();
        }
        let context = self.context.as_mut()?;
        self.out.clear();
        self.out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let len = context.compress_to_buffer(raw, &mut self.out).ok()?;
        if len < raw.len() { self.out.get(..len) } else { None }
    }
}

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

/// Unpacks blocks, one after the other, with one decompressor and one buffer.
#[derive(Default)]
pub struct BlockOpener {
    context: Decompressor<'static>,
    out: Vec<u8>,
}

impl BlockOpener {
    /// Returns an opener; it allocates memory with its first block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the raw bytes of a block, exactly `raw_len` of them. They are not verified: the caller does
    /// that chunk by chunk, with [`ChunkId::of`].
    ///
    /// # Errors
    /// Those of [`open_block`].
    pub fn open<'a>(
        &'a mut self,
        codec: Codec,
        raw_len: u32,
        stored: &'a [u8],
    ) -> Result<&'a [u8], FormatError> {
        at_most(Part::Block, "a raw length", u64::from(raw_len), u64::from(MAX_BLOCK_RAW))?;
        match codec {
            Codec::Stored => {
                if stored.len() != raw_len as usize {
                    return Err(wrong_length(raw_len, stored.len()));
                }
                Ok(stored)
            }
            Codec::Zstd => {
                unpack(&mut self.context, Part::Block, raw_len as usize, stored, &mut self.out)?;
                Ok(&self.out)
            }
        }
    }
}

impl std::fmt::Debug for BlockOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockOpener")
    }
}

/// Returns the raw bytes of a block whose bytes in the pack are `stored`.
///
/// # Errors
/// [`FormatError::TooLarge`] if `raw_len` is above [`MAX_BLOCK_RAW`]; [`FormatError::Invalid`] if the bytes
/// do not unpack, or not to exactly `raw_len` bytes. Never allocates more than `raw_len` bytes.
pub fn open_block(codec: Codec, raw_len: u32, stored: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut opener = BlockOpener::new();
    match codec {
        Codec::Stored => opener.open(codec, raw_len, stored).map(<[u8]>::to_vec),
        Codec::Zstd => {
            opener.open(codec, raw_len, stored)?;
            Ok(opener.out)
        }
    }
}

fn wrong_length(declared: u32, found: usize) -> FormatError {
    FormatError::Invalid {
        part: Part::Block,
        offset: 0,
        what: format!("it holds {found} bytes, and {declared} were declared"),
    }
}

/// The most bytes that one byte of zstd can unpack to: a zstd block of 4 bytes may stand for 128 KiB of one
/// value.
const MOST_FROM_A_BYTE: usize = 32 << 10;

/// Unpacks one zstd frame to exactly `raw_len` bytes in `out`. The caller has bounded `raw_len`.
pub(crate) fn unpack(
    context: &mut Decompressor<'static>,
    part: Part,
    raw_len: usize,
    stored: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FormatError> {
    out.clear();
    let invalid = |what: String| FormatError::Invalid { part, offset: 0, what };
    // No memory is allocated for a length that so few bytes can't unpack to.
    if raw_len > stored.len().saturating_mul(MOST_FROM_A_BYTE) {
        return Err(invalid(format!("{} bytes can't unpack to {raw_len}", stored.len())));
    }
    out.try_reserve_exact(raw_len).map_err(|e| invalid(format!("no memory for {raw_len} bytes: {e}")))?;
    // A reused buffer may be larger than this block. If it receives more than `raw_len` bytes, the check
    // below fails.
    context
        .decompress_to_buffer(stored, out)
        .map_err(|e| invalid(format!("it does not unpack to {raw_len} bytes: {e}")))?;
    if out.len() != raw_len {
        return Err(invalid(format!("it unpacks to {} bytes, and {raw_len} were declared", out.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{SplitMix, text};
    use super::*;

    fn push(builder: &mut BlockBuilder, data: Vec<u8>) {
        builder.push(ChunkId::of(&data), data.into()).unwrap();
    }

    #[test]
    fn compresses_what_gets_smaller_and_stores_the_rest() {
        let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
        push(&mut builder, text(1, 10_000));
        push(&mut builder, text(2, 10_000));
        let block = builder.finish().unwrap();
        assert_eq!((block.codec, block.raw_len), (Codec::Zstd, 20_000));
        let raw = open_block(block.codec, block.raw_len, &block.bytes).unwrap();
        assert_eq!(ChunkId::of(&raw[..10_000]), block.chunks[0].0);
        assert_eq!(ChunkId::of(&raw[10_000..]), block.chunks[1].0);

        push(&mut builder, SplitMix(1).bytes(5_000));
        let block = builder.finish().unwrap();
        assert_eq!((block.codec, block.bytes.len()), (Codec::Stored, 5_000));
        assert!(builder.finish().is_none());
    }

    #[test]
    fn long_chunks_stand_alone_and_are_not_copied() {
        let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
        push(&mut builder, text(1, 10));
        assert!(builder.takes(FILE_MODE_TARGET - 1) && !builder.takes(FILE_MODE_TARGET));
        assert_eq!(builder.finish().unwrap().chunks.len(), 1);
        assert!(builder.takes(FILE_MODE_TARGET));
        let data = Bytes::from(SplitMix(3).bytes(FILE_MODE_TARGET));
        builder.push(ChunkId::of(&data), data.clone()).unwrap();
        assert!(builder.is_full() && !builder.takes(1));
        assert_eq!(builder.finish().unwrap().bytes.as_ptr(), data.as_ptr());
    }

    #[test]
    fn two_begun_blocks_become_one_where_that_is_within_the_limits() {
        let begun = |chunks: &[&[u8]]| {
            let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
            chunks.iter().for_each(|chunk| push(&mut builder, chunk.to_vec()));
            builder
        };
        let (a, b) = (text(1, 600), SplitMix(1).bytes(400));
        let (mut one, mut other) = (begun(&[&a]), begun(&[&b]));
        one.absorb(&mut other, 999);
        assert_eq!((one.raw_len(), other.raw_len()), (600, 400), "too many bytes");
        one.absorb(&mut other, 1000);
        assert!(other.finish().is_none());
        let block = one.finish().unwrap();
        assert_eq!(block.chunks, [(ChunkId::of(&a), 600), (ChunkId::of(&b), 400)]);
        assert_eq!(open_block(block.codec, block.raw_len, &block.bytes).unwrap(), [a, b].concat());

        let (mut none, mut other) = (begun(&[]), begun(&[&[1]]));
        none.absorb(&mut other, 1000);
        assert!(none.is_empty() && !other.is_empty());

        let tiny: &[u8] = &[1];
        let (mut one, mut other) = (begun(&[tiny; MAX_BLOCK_CHUNKS - 1]), begun(&[tiny; 2]));
        one.absorb(&mut other, usize::MAX);
        assert_eq!(other.raw_len(), 2, "too many chunks");

        let (mut one, mut other) = (begun(&[tiny]), begun(&[&vec![2; FILE_MODE_TARGET]]));
        one.absorb(&mut other, usize::MAX);
        assert_eq!(one.raw_len(), 1, "what stands alone");
    }

    #[test]
    fn a_long_chunk_is_compressed_where_a_quarter_of_it_gets_smaller() {
        let len = 1 << 20;
        for quarter in 0..4 {
            let mut data = SplitMix(7).bytes(len);
            data[quarter * len / 4..][..len / 4].copy_from_slice(&text(quarter as u64, len / 4));
            let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
            push(&mut builder, data);
            let block = builder.finish().unwrap();
            assert_eq!(block.codec, Codec::Zstd, "quarter {quarter}");
            assert!(block.bytes.len() < len * 9 / 10, "{}", block.bytes.len());
        }
        assert!(!Zstd::default().gains_by_samples(&SplitMix(7).bytes(len)));

        // A chunk shorter than a sample is compressed as a whole.
        let mut builder = BlockBuilder::new(1000);
        push(&mut builder, text(1, 2000));
        assert_eq!(builder.finish().unwrap().codec, Codec::Zstd);

        // Samples would miss a few short compressible chunks among many random ones.
        let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
        for seed in 0..24 {
            let few = if seed % 3 == 1 { text(seed, 10_000) } else { SplitMix(seed).bytes(20_000) };
            push(&mut builder, few);
        }
        assert_eq!(builder.finish().unwrap().codec, Codec::Zstd);
    }

    #[test]
    fn refuses_blocks_beyond_the_limits() {
        let mut builder = BlockBuilder::new(usize::MAX);
        builder.push(ChunkId::of(b""), Bytes::new()).unwrap_err();
        push(&mut builder, vec![0; MAX_BLOCK_RAW as usize - 1]);
        builder.push(ChunkId::of(b"ab"), Bytes::from_static(b"ab")).unwrap_err();
        push(&mut builder, vec![1]);
        assert!(builder.is_full());
        assert_eq!(builder.finish().unwrap().raw_len, MAX_BLOCK_RAW);
        for _ in 0..MAX_BLOCK_CHUNKS {
            assert!(builder.takes(1));
            push(&mut builder, vec![1]);
        }
        assert!(builder.is_full());
        builder.push(ChunkId::of(b"a"), Bytes::from_static(b"a")).unwrap_err();
    }

    #[test]
    fn s12_unpacks_to_more_than_it_says() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        let mut opener = BlockOpener::new();
        assert!(opener.open(Codec::Zstd, 1000, &bomb).is_err());
        assert!(opener.open(Codec::Zstd, MAX_BLOCK_RAW, &bomb).is_err());
        let error = opener.open(Codec::Zstd, 64 << 20, &bomb).unwrap_err();
        insta::assert_snapshot!(error, @"block has a raw length of 67108864, and 8388608 is the limit");
        assert!(opener.out.capacity() <= MAX_BLOCK_RAW as usize);

        // One byte too many or too few fails, even if the buffer has room.
        let block = zstd::bulk::compress(&[7; 1000], 1).unwrap();
        for wrong in [0, 999, 1001] {
            assert!(opener.open(Codec::Zstd, wrong, &block).is_err());
            assert!(opener.open(Codec::Stored, wrong, &[7; 1000]).is_err());
        }
        assert_eq!(opener.open(Codec::Zstd, 1000, &block).unwrap(), [7; 1000]);
        // Two frames are refused, even if their lengths add up.
        let two = [zstd::bulk::compress(&[7; 600], 1).unwrap(), block].concat();
        assert!(opener.open(Codec::Zstd, 1000, &two).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw_len in 0..5000u32, stored in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut stored = stored;
            for magic in [true, false] {
                if magic && stored.len() >= 4 {
                    stored[..4].copy_from_slice(&0xfd2f_b528_u32.to_le_bytes());
                }
                for codec in [Codec::Stored, Codec::Zstd] {
                    if let Ok(raw) = open_block(codec, raw_len, &stored) {
                        prop_assert_eq!(raw.len(), raw_len as usize);
                    }
                }
            }
        }

        #[test]
        fn round_trips(lens in proptest::collection::vec(1..40_000usize, 1..20), seed in any::<u64>()) {
            let mut builder = BlockBuilder::new(64 << 10);
            let mut blocks = Vec::new();
            let mut chunks = Vec::new();
            for len in lens {
                let data = if len % 3 == 0 { SplitMix(seed).bytes(len) } else { text(seed, len) };
                if !builder.takes(len) {
                    blocks.extend(builder.finish());
                }
                chunks.push((ChunkId::of(&data), len as u32));
                builder.push(ChunkId::of(&data), data.into()).unwrap();
                if builder.is_full() {
                    blocks.extend(builder.finish());
                }
            }
            blocks.extend(builder.finish());
            let mut opener = BlockOpener::new();
            let mut found = Vec::new();
            for block in &blocks {
                prop_assert!(block.bytes.len() <= block.raw_len as usize);
                let mut raw = opener.open(block.codec, block.raw_len, &block.bytes).unwrap();
                for (_, len) in &block.chunks {
                    let (chunk, rest) = raw.split_at(*len as usize);
                    found.push((ChunkId::of(chunk), *len));
                    raw = rest;
                }
                prop_assert!(raw.is_empty());
            }
            prop_assert_eq!(found, chunks);
        }
    }
}
