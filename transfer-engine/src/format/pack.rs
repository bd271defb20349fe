//! Packs: many blocks in one object that lists its own content.

use bytes::Bytes;
use policy_core::Digest;

use super::block::{Codec, MAX_BLOCK_CHUNKS, MAX_BLOCK_RAW, SealedBlock};
use super::error::{FormatError, Part, at_most, check_version};
use super::segment::MAX_SEGMENT_LEN;
use super::wire::{Reader, Writer};
use super::{ChunkId, PackId, sha256};

/// Bytes at which a pack is full: 32 MiB.
pub const PACK_TARGET: u64 = 32 << 20;
/// The longest pack that a reader accepts, in bytes: 512 MiB. Only a pack with the segment of a huge file is
/// nearly as long.
pub const MAX_PACK_LEN: u64 = 512 << 20;
/// The longest footer that a reader accepts, with its trailer, in bytes: 64 MiB.
pub const MAX_FOOTER_LEN: u32 = 64 << 20;
/// The length of the trailer, the fixed end of a pack, in bytes.
pub const TRAILER_LEN: usize = 48;

const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ctxpack\n";

/// The position of a block of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// The pack.
    pub pack: PackId,
    /// The block's first byte in the pack.
    pub offset: u32,
    /// Its length in the pack, in bytes.
    pub stored_len: u32,
    /// The length of the unpacked block, in bytes.
    pub raw_len: u32,
    /// Whether the block is compressed.
    pub codec: Codec,
}

/// Gathers blocks and segments into one pack, without copying them.
#[derive(Debug)]
pub struct PackBuilder {
    id: PackId,
    parts: Vec<Bytes>,
    data_len: u64,
    blocks: usize,
    footer: Writer,
}

/// A pack that is ready to be sent.
#[derive(Debug, Clone)]
#[must_use]
pub struct SealedPack {
    /// The pack's id.
    pub id: PackId,
    /// Its bytes, in order.
    pub parts: Vec<Bytes>,
    /// The length of all parts together, in bytes.
    pub size: u64,
    /// How many bytes at its end are the footer and the trailer.
    pub footer_len: u32,
}

impl PackBuilder {
    /// Starts a pack. `id` is random and was never used.
    pub fn new(id: PackId) -> Self {
        Self { id, parts: Vec::new(), data_len: 0, blocks: 0, footer: Writer::new() }
    }

    /// Returns the pack's id.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// Returns the length that the pack would have if it were finished now, give or take a few bytes.
    pub fn len(&self) -> u64 {
        self.data_len + self.footer.len() as u64 + TRAILER_LEN as u64
    }

    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Whether the pack has reached [`PACK_TARGET`].
    pub fn is_full(&self) -> bool {
        self.len() >= PACK_TARGET
    }

    /// Appends a block of chunks, and returns its position.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] if the pack would be longer than [`MAX_PACK_LEN`]. It does not occur if the
    /// caller finishes full packs. After an error, the pack is unchanged.
    pub fn append(&mut self, block: SealedBlock) -> Result<BlockRef, FormatError> {
        let footer_len = 16 + block.chunks.len() as u64 * 36;
        let offset = self.room(block.bytes.len() as u64, footer_len)?;
        let stored_len = block.bytes.len() as u32;
        self.footer.u8(block.codec.code() << 1);
        self.footer.varint(u64::from(stored_len));
        if block.codec != Codec::Stored {
            self.footer.varint(u64::from(block.raw_len));
        }
        self.footer.varint(block.chunks.len() as u64);
        for (id, len) in &block.chunks {
            self.footer.bytes(&id.0);
            self.footer.varint(u64::from(*len));
        }
        self.add(block.bytes);
        let (raw_len, codec) = (block.raw_len, block.codec);
        Ok(BlockRef { pack: self.id, offset, stored_len, raw_len, codec })
    }

    /// Appends a segment, and returns its offset and length, in bytes.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub fn append_segment(&mut self, bytes: Bytes, digest: Digest) -> Result<(u32, u32), FormatError> {
        at_most(Part::Segment, "a length", bytes.len() as u64, MAX_SEGMENT_LEN as u64)?;
        let offset = self.room(bytes.len() as u64, 48)?;
        let len = bytes.len() as u32;
        self.footer.u8(KIND_SEGMENT);
        self.footer.varint(u64::from(len));
        self.footer.bytes(&digest.0);
        self.add(bytes);
        Ok((offset, len))
    }

    /// Returns the offset of the next part, if there is room for it.
    fn room(&self, data: u64, footer: u64) -> Result<u32, FormatError> {
        if data == 0 {
            return Err(FormatError::unwritable(Part::Footer, "a block without bytes"));
        }
        at_most(Part::Footer, "a pack length", self.len() + data + footer, MAX_PACK_LEN)?;
        let footer_len = (self.footer.len() + TRAILER_LEN) as u64 + footer;
        at_most(Part::Footer, "a length", footer_len, u64::from(MAX_FOOTER_LEN))?;
        Ok(self.data_len as u32)
    }

    fn add(&mut self, bytes: Bytes) {
        self.data_len += bytes.len() as u64;
        self.blocks += 1;
        self.parts.push(bytes);
    }

    /// Ends the pack with its footer and trailer.
    pub fn finish(mut self) -> SealedPack {
        let mut tail = Writer::with_capacity(self.footer.len() + 8 + TRAILER_LEN);
        tail.varint(self.blocks as u64);
        tail.bytes(self.footer.as_slice());
        tail.u32(tail.len() as u32);
        tail.u32(VERSION);
        let digest = sha256(tail.as_slice());
        tail.bytes(&digest.0);
        tail.bytes(&MAGIC);
        let footer_len = tail.len() as u32;
        self.parts.push(tail.into_vec().into());
        SealedPack { id: self.id, parts: self.parts, size: self.data_len + u64::from(footer_len), footer_len }
    }
}

/// The content of a pack, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// All blocks and segments; together they fill the pack up to the footer.
    pub blocks: Vec<FooterBlock>,
}

/// One block or segment of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FooterBlock {
    /// A block of chunks.
    Data {
        /// The block's first byte in the pack.
        offset: u32,
        /// The block's length in the pack, in bytes.
        stored_len: u32,
        /// The length of the unpacked block, in bytes.
        raw_len: u32,
        /// Whether the block is compressed.
        codec: Codec,
        /// The block's chunks in order, each with its length; together `raw_len` bytes.
        chunks: Vec<(ChunkId, u32)>,
    },
    /// A segment of a tree.
    Segment {
        /// The segment's first byte in the pack.
        offset: u32,
        /// The segment's length, in bytes.
        len: u32,
        /// The SHA-256 of the segment's bytes.
        digest: Digest,
    },
}

const KIND_SEGMENT: u8 = 1;

/// Returns how many bytes from the end of a pack [`parse_footer`] needs. `tail` is the end of the pack, at
/// least its last [`TRAILER_LEN`] bytes.
///
/// # Errors
/// [`FormatError::Truncated`] if `tail` is shorter; [`FormatError::Invalid`] if it is not the end of a pack;
/// [`FormatError::TooLarge`] if the length can't be right.
pub fn footer_len(tail: &[u8], pack_size: u64) -> Result<u32, FormatError> {
    let start = tail
        .len()
        .checked_sub(TRAILER_LEN)
        .ok_or(FormatError::Truncated { part: Part::Footer, offset: tail.len() as u64 })?;
    let mut trailer = Reader::at(Part::Footer, &tail[start..], start as u64);
    let body_len = trailer.u32()?;
    trailer.take(TRAILER_LEN - 4 - MAGIC.len())?;
    if trailer.array()? != MAGIC {
        return Err(trailer.invalid("no pack ends like this"));
    }
    at_most(Part::Footer, "a pack length", pack_size, MAX_PACK_LEN)?;
    let len = u64::from(body_len) + TRAILER_LEN as u64;
    at_most(Part::Footer, "a length", len, pack_size.min(u64::from(MAX_FOOTER_LEN)))?;
    Ok(len as u32)
}

/// Parses the footer of a pack of `pack_size` bytes. `tail` is the end of the pack, at least as many bytes as
/// [`footer_len`] or the snapshot says.
///
/// # Errors
/// Any [`FormatError`]: a footer is accepted as a whole or not at all.
pub fn parse_footer(tail: &[u8], pack_size: u64) -> Result<Footer, FormatError> {
    let len = footer_len(tail, pack_size)? as usize;
    let Some(start) = tail.len().checked_sub(len) else {
        return Err(FormatError::Truncated { part: Part::Footer, offset: tail.len() as u64 });
    };
    let (body, trailer) = tail[start..].split_at(len - TRAILER_LEN);
    let mut trailer = Reader::new(Part::Footer, trailer);
    trailer.u32()?;
    let version = trailer.u32()?;
    let digest = Digest(trailer.array()?);
    if sha256(&tail[start..start + body.len() + 8]) != digest {
        return Err(FormatError::Corrupt { part: Part::Footer });
    }
    check_version(Part::Footer, version, VERSION)?;
    parse_blocks(body, pack_size - len as u64)
}

/// Parses the list of blocks, which must fill `data_len` bytes exactly.
fn parse_blocks(body: &[u8], data_len: u64) -> Result<Footer, FormatError> {
    let mut r = Reader::new(Part::Footer, body);
    let count = r.count("a number of blocks", 3)?;
    let mut blocks = Vec::with_capacity(count);
    let mut end = 0;
    for _ in 0..count {
        let offset = end as u32;
        let tag = r.u8()?;
        let stored_len;
        if tag == KIND_SEGMENT {
            stored_len = r.varint32("a segment length", MAX_SEGMENT_LEN as u32)?;
            let digest = Digest(r.array()?);
            blocks.push(FooterBlock::Segment { offset, len: stored_len, digest });
        } else {
            let codec = match Codec::from_code(tag >> 1) {
                Some(codec) if tag & KIND_SEGMENT == 0 => codec,
                _ => return Err(r.invalid(format!("no block has the tag {tag}"))),
            };
            stored_len = r.varint32("a block length", MAX_BLOCK_RAW)?;
            let raw_len = match codec {
                Codec::Stored => stored_len,
                Codec::Zstd => r.varint32("a raw length", MAX_BLOCK_RAW)?,
            };
            let chunks = parse_chunks(&mut r, raw_len)?;
            blocks.push(FooterBlock::Data { offset, stored_len, raw_len, codec, chunks });
        }
        if stored_len == 0 {
            return Err(r.invalid("a block without bytes"));
        }
        end += u64::from(stored_len);
        if end > data_len {
            return Err(r.invalid("a block that reaches into the footer"));
        }
    }
    if end != data_len {
        return Err(r.invalid(format!("{} bytes that no block accounts for", data_len - end)));
    }
    r.finish()?;
    Ok(Footer { blocks })
}

fn parse_chunks(r: &mut Reader<'_>, raw_len: u32) -> Result<Vec<(ChunkId, u32)>, FormatError> {
    let count = r.count("a number of chunks", 33)?;
    at_most(Part::Footer, "a number of chunks", count as u64, MAX_BLOCK_CHUNKS as u64)?;
    let mut chunks = Vec::with_capacity(count);
    let mut sum = 0;
    for _ in 0..count {
        let id = ChunkId(r.array()?);
        let len = r.varint32("a chunk length", raw_len)?;
        if len == 0 {
            return Err(r.invalid("a chunk without bytes"));
        }
        sum += u64::from(len);
        chunks.push((id, len));
    }
    if sum != u64::from(raw_len) {
        return Err(r.invalid(format!("chunks of {sum} bytes in a block of {raw_len}")));
    }
    Ok(chunks)
}

/// Returns a footer and trailer with a valid digest.
#[cfg(any(test, fuzzing))]
pub(crate) fn signed(body: &[u8], version: u32) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(body);
    w.u32(body.len() as u32);
    w.u32(version);
    let digest = sha256(w.as_slice());
    w.bytes(&digest.0);
    w.bytes(&MAGIC);
    w.into_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::BlockBuilder;
    use super::super::fixture::{SplitMix, text};
    use super::*;

    fn block(data: &[&[u8]]) -> SealedBlock {
        // The footer has the compressed lengths, and the zstd level is not part of the format. So the test
        // fixes the level.
        let mut builder = BlockBuilder::new(1 << 20).at_level(1);
        for data in data {
            builder.push(ChunkId::of(data), Bytes::copy_from_slice(data)).unwrap();
        }
        builder.finish().unwrap()
    }

    fn pack() -> (Vec<u8>, SealedPack) {
        let mut builder = PackBuilder::new(PackId([0xab; 16]));
        let text = text(1, 2000);
        let first = builder.append(block(&[&text[..1000], &text[1000..]])).unwrap();
        let second = builder.append(block(&[&SplitMix(1).bytes(40)])).unwrap();
        let segment = builder.append_segment(Bytes::from_static(b"segment"), sha256(b"segment")).unwrap();
        assert_eq!((first.offset, first.raw_len, first.codec), (0, 2000, Codec::Zstd));
        assert_eq!((second.offset, second.stored_len), (first.stored_len, 40));
        assert_eq!(segment, (first.stored_len + 40, 7));
        let pack = builder.finish();
        (pack.parts.concat(), pack)
    }

    #[test]
    fn golden() {
        let (bytes, pack) = pack();
        assert_eq!(pack.size, bytes.len() as u64);
        let footer = &bytes[bytes.len() - pack.footer_len as usize..];
        let hex: String = footer.chunks(32).map(|l| format!("{}\n", hex(l))).collect();
        insta::assert_snapshot!(hex);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn explains_itself() {
        let (bytes, pack) = pack();
        assert_eq!(footer_len(&bytes[bytes.len() - TRAILER_LEN..], pack.size).unwrap(), pack.footer_len);
        let tail = &bytes[bytes.len() - pack.footer_len as usize..];
        let footer = parse_footer(tail, pack.size).unwrap();
        assert_eq!(parse_footer(&bytes, pack.size).unwrap(), footer);
        assert_eq!(footer.blocks.len(), 3);
        let FooterBlock::Data { offset, stored_len, raw_len, codec, chunks } = &footer.blocks[0] else {
            panic!("a block of chunks");
        };
        let stored = &bytes[*offset as usize..(offset + stored_len) as usize];
        let raw = super::super::open_block(*codec, *raw_len, stored).unwrap();
        assert_eq!(chunks[..], [(ChunkId::of(&raw[..1000]), 1000), (ChunkId::of(&raw[1000..]), 1000)]);
        let FooterBlock::Segment { offset, len, digest } = footer.blocks[2] else { panic!("a segment") };
        assert_eq!(sha256(&bytes[offset as usize..(offset + len) as usize]), digest);
    }

    #[test]
    fn an_empty_pack_round_trips() {
        let pack = PackBuilder::new(PackId([0; 16])).finish();
        assert!(parse_footer(&pack.parts.concat(), pack.size).unwrap().blocks.is_empty());
    }

    #[test]
    fn refuses_packs_beyond_the_limits() {
        let mut builder = PackBuilder::new(PackId([0; 16]));
        let part = Bytes::from(vec![0; 100 << 20]);
        for _ in 0..5 {
            builder.append_segment(part.clone(), Digest([0; 32])).unwrap();
        }
        assert!(builder.is_full());
        let error = builder.append_segment(part, Digest([0; 32])).unwrap_err();
        assert!(matches!(error, FormatError::TooLarge { .. }));
    }

    #[test]
    fn s4_flipped_or_truncated() {
        let (bytes, pack) = pack();
        let tail = &bytes[bytes.len() - pack.footer_len as usize..];
        for i in 0..tail.len() {
            parse_footer(&tail[i + 1..], pack.size).unwrap_err();
            parse_footer(&tail[..i], pack.size).unwrap_err();
            let mut tail = tail.to_vec();
            for bit in 0..8 {
                tail[i] ^= 1 << bit;
                parse_footer(&tail, pack.size).unwrap_err();
                tail[i] ^= 1 << bit;
            }
        }
        for size in [0, pack.size - 1, pack.size + 1, u64::MAX] {
            parse_footer(tail, size).unwrap_err();
        }
    }

    #[test]
    fn s5_future_format() {
        let tail = signed(&[0], 7);
        let error = parse_footer(&tail, tail.len() as u64).unwrap_err();
        assert_eq!(error, FormatError::UnsupportedVersion { part: Part::Footer, found: 7, supported: 1 });
        let tail = signed(&[0], 0);
        assert!(matches!(parse_footer(&tail, tail.len() as u64), Err(FormatError::Invalid { .. })));
    }

    #[test]
    fn s9_enormous_counts() {
        let mut w = Writer::new();
        w.varint(1 << 63);
        let tail = signed(w.as_slice(), VERSION);
        let error = parse_footer(&tail, tail.len() as u64).unwrap_err();
        insta::assert_snapshot!(
            error,
            @"pack footer has a number of blocks of 9223372036854775808, and 0 is the limit"
        );
        let tail = [&[0xff; 4][..], &signed(&[0], VERSION)[5..]].concat();
        assert!(matches!(parse_footer(&tail, 1 << 20), Err(FormatError::TooLarge { .. })));
    }

    #[test]
    fn s10_chunks_that_do_not_add_up() {
        let tail = |raw_len: u64, chunks: &[u64]| {
            let mut w = Writer::new();
            w.bytes(&[1, 2]);
            [50, raw_len, chunks.len() as u64].into_iter().for_each(|v| w.varint(v));
            for len in chunks {
                w.bytes(&[0; 32]);
                w.varint(*len);
            }
            signed(w.as_slice(), VERSION)
        };
        let parse = |raw_len, chunks: &[u64]| {
            let tail = tail(raw_len, chunks);
            parse_footer(&tail, 50 + tail.len() as u64)
        };
        parse(100, &[40, 60]).unwrap();
        for (raw_len, chunks) in [(100, &[40, 59][..]), (100, &[40, 61]), (100, &[]), (100, &[100, 0])] {
            parse(raw_len, chunks).unwrap_err();
        }
        let tail = tail(100, &[100]);
        parse_footer(&tail, 49 + tail.len() as u64).unwrap_err();
        parse_footer(&tail, 51 + tail.len() as u64).unwrap_err();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), size in 0..1000u64) {
            let _ = parse_footer(&body, size);
            let _ = parse_footer(&signed(&body, VERSION), size);
        }

        #[test]
        fn mutated_footers_do_not_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let (bytes, pack) = pack();
            let start = bytes.len() - pack.footer_len as usize;
            let mut body = bytes[start..bytes.len() - TRAILER_LEN].to_vec();
            let at = at.index(body.len());
            body[at] = value;
            if let Ok(footer) = parse_footer(&signed(&body, VERSION), pack.size) {
                let total: u64 = footer.blocks.iter().map(|block| match block {
                    FooterBlock::Data { stored_len, .. } => u64::from(*stored_len),
                    FooterBlock::Segment { len, .. } => u64::from(*len),
                }).sum();
                prop_assert_eq!(total, start as u64);
            }
        }
    }
}
