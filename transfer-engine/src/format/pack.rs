//! Many blocks in one object that explains itself.

use bytes::Bytes;
use policy_core::Digest;

use super::block::{Codec, MAX_BLOCK_CHUNKS, MAX_BLOCK_RAW, SealedBlock};
use super::error::{FormatError, Part, at_most};
use super::segment::MAX_SEGMENT_LEN;
use super::wire::{Reader, Writer};
use super::{ChunkId, PackId, sha256};

/// Bytes at which a pack is full: 32 MiB.
pub const PACK_TARGET: u64 = 32 << 20;
/// The longest pack that a reader accepts, in bytes: 512 MiB. Only the segment of a huge file comes near.
pub const MAX_PACK_LEN: u64 = 512 << 20;
/// The longest footer that a reader accepts, with its trailer, in bytes: 64 MiB.
pub const MAX_FOOTER_LEN: u32 = 64 << 20;
/// The length of the trailer, the fixed end of a pack, in bytes.
pub const TRAILER_LEN: usize = 48;

const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ctxpack\n";

/// Where a block of chunks lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// The pack.
    pub pack: PackId,
    /// The block's first byte in the pack.
    pub offset: u32,
    /// Its length in the pack, in bytes.
    pub stored_len: u32,
    /// The length of what it unpacks to, in bytes.
    pub raw_len: u32,
    /// How it lies there.
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

/// A pack that is ready to be put.
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

    /// The pack's id.
    pub fn id(&self) -> PackId {
        self.id
    }

    /// The length that the pack would have if it were finished now, in bytes (within a few).
    pub fn len(&self) -> u64 {
        self.data_len + self.footer.len() as u64 + TRAILER_LEN as u64
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Whether the pack has reached [`PACK_TARGET`].
    pub fn is_full(&self) -> bool {
        self.len() >= PACK_TARGET
    }

    /// Appends a block of chunks, and says where it lies.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] where the pack would be longer than [`MAX_PACK_LEN`], which does not happen
    /// to who finishes packs that are full. The pack stays as it was.
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

    /// Appends a segment, and says where it lies: the offset and the length, in bytes.
    ///
    /// # Errors
    /// As [`append`](Self::append).
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

    /// Returns where the next part begins, if there is room for it.
    fn room(&self, data: u64, footer: u64) -> Result<u32, FormatError> {
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

    /// Ends the pack with its footer.
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

/// What a pack holds, in the order in which it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Every block and segment; together they are all bytes before the footer.
    pub blocks: Vec<FooterBlock>,
}

/// One thing that a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FooterBlock {
    /// A block of chunks.
    Data {
        /// Its first byte in the pack.
        offset: u32,
        /// Its length in the pack, in bytes.
        stored_len: u32,
        /// The length of what it unpacks to, in bytes.
        raw_len: u32,
        /// How it lies there.
        codec: Codec,
        /// Its chunks in order, each with its length; together `raw_len`.
        chunks: Vec<(ChunkId, u32)>,
    },
    /// A segment of a tree.
    Segment {
        /// Its first byte in the pack.
        offset: u32,
        /// Its length, in bytes.
        len: u32,
        /// The SHA-256 of its bytes.
        digest: Digest,
    },
}

const KIND_SEGMENT: u8 = 1;

/// Returns how many bytes at the end of a pack [`parse_footer`] needs. `tail` is the end of the pack, at
/// least [`TRAILER_LEN`] bytes of it.
///
/// # Errors
/// [`FormatError::Truncated`] where `tail` is shorter; [`FormatError::Invalid`] where this is no pack's end;
/// [`FormatError::TooLarge`] where the length can't be right.
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

/// Parses the footer of a pack of `pack_size` bytes, of which `tail` is the end, as long as
/// [`footer_len`] or the snapshot says, or longer.
///
/// # Errors
/// Any [`FormatError`]: a footer is taken as a whole or not at all.
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
    if version != VERSION {
        return Err(FormatError::UnsupportedVersion {
            part: Part::Footer,
            found: version,
            supported: VERSION,
        });
    }
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
