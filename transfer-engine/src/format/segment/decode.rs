//! Decodes a segment: as a whole or not at all.

use policy_core::{Digest, Entry, Node, Timestamp, TreePath};
use zstd::bulk::Decompressor;

use super::super::block::unpack;
use super::super::error::{FormatError, Part, at_most, check_version};
use super::super::wire::{Reader, unzigzag};
use super::super::{BlockRef, ChunkId, Codec, MAX_BLOCK_RAW, PackId, sha256};
use super::{
    ChunkRef, MAGIC, MAX_CHUNKS, MAX_PATH_LEN, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN, NANOS, Step, TreeEntry,
    VERSION, check_block, check_chunk, check_parent, column, file_node, head, not_after, step,
};

/// Decodes a segment whose bytes must hash to `digest`.
///
/// # Errors
/// [`FormatError::Corrupt`] if they do not; [`FormatError::UnsupportedVersion`] for a newer format; any other
/// [`FormatError`] if the segment breaks a rule, even one that only a malicious writer would break.
pub fn decode_segment(bytes: &[u8], digest: Digest) -> Result<Vec<TreeEntry>, FormatError> {
    at_most(Part::Segment, "a length", bytes.len() as u64, MAX_SEGMENT_LEN as u64)?;
    if sha256(bytes) != digest {
        return Err(FormatError::Corrupt { part: Part::Segment });
    }
    let mut r = Reader::new(Part::Segment, bytes);
    let Header { codec, entries, chunks, recycled, packs, blocks, lens } = Header::read(&mut r)?;
    let raw_len = lens.iter().sum();
    let ids = r.take(chunks * 32)?;
    let digests = r.take(recycled * 32)?;
    let packs = r.take(packs * 16)?;
    let stored = r.take(r.remaining())?;
    let mut raw = Vec::new();
    let metadata = match codec {
        Codec::Stored if stored.len() == raw_len => stored,
        Codec::Stored => return Err(r.invalid(format!("metadata of {raw_len} bytes takes {}", stored.len()))),
        Codec::Zstd => {
            unpack(&mut Decompressor::default(), Part::Segment, raw_len, stored, &mut raw)?;
            &raw
        }
    };
    let mut columns = Columns::split(metadata, lens);
    let blocks = read_blocks(&mut columns.0[column::BLOCKS], blocks, packs)?;
    let mut decoder = Decoder {
        columns,
        ids: Reader::new(Part::Segment, ids),
        digests: Reader::new(Part::Segment, digests),
        blocks,
        block: 0,
        end: 0,
    };
    let decoded = decoder.entries(entries)?;
    decoder.finish()?;
    Ok(decoded)
}

/// Returns the most memory that decoding a segment can take, by its own header: for the unpacked metadata and
/// the entries. Returns 0 if the header is invalid, since such a segment is refused before memory is
/// allocated.
pub(crate) fn claimed_memory(bytes: &[u8]) -> u64 {
    Header::read(&mut Reader::new(Part::Segment, bytes)).map_or(0, |header| header.memory())
}

/// Returns the memory that decoded entries take, in bytes.
pub(crate) fn memory_of(entries: &[TreeEntry]) -> u64 {
    let of = |entry: &TreeEntry| {
        let target = match &entry.entry.node {
            Node::Symlink { target } => target.len(),
            Node::File { .. } | Node::Dir => 0,
        };
        size_of::<TreeEntry>()
            + entry.path.as_bytes().len()
            + target
            + entry.chunks.len() * size_of::<ChunkRef>()
    };
    entries.iter().map(of).sum::<usize>() as u64
}

/// The numbers at the beginning of a segment; each is within its limit.
struct Header {
    codec: Codec,
    entries: usize,
    chunks: usize,
    recycled: usize,
    packs: usize,
    blocks: usize,
    lens: [usize; column::COUNT],
}

impl Header {
    fn read(r: &mut Reader<'_>) -> Result<Self, FormatError> {
        if r.array()? != MAGIC {
            return Err(r.invalid("no segment begins like this"));
        }
        let version = r.u8()?;
        check_version(Part::Segment, version.into(), VERSION.into())?;
        let codec = r.u8()?;
        let Some(codec) = Codec::from_code(codec) else {
            return Err(r.invalid(format!("no codec has the number {codec}")));
        };
        let entries = r.varint_max("a number of entries", MAX_SEGMENT_ENTRIES as u64)? as usize;
        if entries == 0 {
            return Err(r.invalid("a segment without entries"));
        }
        let chunks = r.varint_max("a number of chunks", MAX_CHUNKS as u64)? as usize;
        let recycled = r.varint_max("a number of recycled files", entries as u64)? as usize;
        let packs = r.varint_max("a number of packs", chunks as u64)? as usize;
        let blocks = r.varint_max("a number of blocks", chunks as u64)? as usize;
        let mut lens = [0; column::COUNT];
        let mut raw_len = 0;
        for len in &mut lens {
            *len = r.varint_max("a length of metadata", MAX_SEGMENT_LEN as u64)? as usize;
            raw_len += *len;
        }
        at_most(Part::Segment, "a length of metadata", raw_len as u64, MAX_SEGMENT_LEN as u64)?;
        // Each block and chunk takes at least one byte of its column, so these limits bound the memory
        // reserved for them.
        at_most(Part::Segment, "a number of blocks", blocks as u64, lens[column::BLOCKS] as u64)?;
        at_most(Part::Segment, "a number of chunks", chunks as u64, lens[column::CHUNKS] as u64)?;
        Ok(Self { codec, entries, chunks, recycled, packs, blocks, lens })
    }

    fn memory(&self) -> u64 {
        // A path can share all but one byte with the path before, so a few bytes of names can be many long
        // paths.
        let path = self.lens[column::NAMES].min(MAX_PATH_LEN);
        let decoded = self.entries * (size_of::<TreeEntry>() + path)
            + self.lens[column::TARGETS]
            + self.blocks * size_of::<BlockRef>()
            + self.chunks * size_of::<ChunkRef>();
        (self.lens.iter().sum::<usize>() + decoded) as u64
    }
}

/// A reader for each column.
struct Columns<'a>([Reader<'a>; column::COUNT]);

impl<'a> Columns<'a> {
    /// Splits `metadata` into columns; it is as long as all `lens` together.
    fn split(metadata: &'a [u8], lens: [usize; column::COUNT]) -> Self {
        let mut at = 0;
        Self(lens.map(|len| {
            let start = at;
            at += len;
            Reader::at(Part::Segment, &metadata[start..at], start as u64)
        }))
    }
}

fn read_blocks(r: &mut Reader<'_>, count: usize, packs: &[u8]) -> Result<Vec<BlockRef>, FormatError> {
    let mut blocks = Vec::with_capacity(count);
    let (mut number, mut end) = (0i64, 0u32);
    for _ in 0..count {
        let tag = r.varint()?;
        let pack_step = unzigzag(tag >> 2);
        number = number.wrapping_add(pack_step);
        let pack = usize::try_from(number).ok().and_then(|n| packs.chunks_exact(16).nth(n));
        let Some(pack) = pack.and_then(<[u8]>::first_chunk) else {
            return Err(r.invalid(format!("a block in pack {number} of {}", packs.len() / 16)));
        };
        let expected = if pack_step == 0 { end } else { 0 };
        let offset = if tag & 1 == 0 { expected } else { r.varint32("a block's offset", u32::MAX)? };
        let stored_len = r.varint32("a block length", MAX_BLOCK_RAW)?;
        let (codec, raw_len) = if tag & 2 == 0 {
            (Codec::Stored, stored_len)
        } else {
            (Codec::Zstd, r.varint32("a raw length", MAX_BLOCK_RAW)?)
        };
        let block = BlockRef { pack: PackId(*pack), offset, stored_len, raw_len, codec };
        check_block(&block).map_err(|what| r.invalid(what))?;
        end = offset + stored_len;
        blocks.push(block);
    }
    Ok(blocks)
}

struct Decoder<'a> {
    columns: Columns<'a>,
    ids: Reader<'a>,
    digests: Reader<'a>,
    blocks: Vec<BlockRef>,
    /// The block of the chunk before, and the chunk's end in it.
    block: i64,
    end: u32,
}

impl Decoder<'_> {
    fn entries(&mut self, count: usize) -> Result<Vec<TreeEntry>, FormatError> {
        let mut entries: Vec<TreeEntry> = Vec::with_capacity(count);
        let mut path = Vec::new();
        let (mut secs, mut uploaded) = (0i64, 0i64);
        for _ in 0..count {
            let tree_path = self.path(&mut path, entries.last())?;
            let columns = &mut self.columns.0;
            let head = columns[column::HEADS].u16()?;
            secs = secs.wrapping_add(columns[column::SECS].zigzag()?);
            let nanos = columns[column::NANOS].u32()?;
            if nanos >= NANOS {
                return Err(columns[column::NANOS].invalid(format!("`{tree_path}` has {nanos} nanoseconds")));
            }
            uploaded = uploaded.wrapping_add(columns[column::UPLOADED].zigzag()?);
            let (node, mode, chunks) = self.node(head, &tree_path)?;
            entries.push(TreeEntry {
                path: tree_path,
                entry: Entry { node, mode, mtime: Timestamp { secs, nanos }, uploaded },
                extracted: head & head::EXTRACTED != 0,
                recycled: head & head::RECYCLED != 0,
                chunks,
            });
        }
        Ok(entries)
    }

    /// Reads the next path into `path`, which contains the path before, and checks their order.
    fn path(&mut self, path: &mut Vec<u8>, prev: Option<&TreeEntry>) -> Result<TreePath, FormatError> {
        let columns = &mut self.columns.0;
        let shared = columns[column::SHARED].varint_max("a shared path length", path.len() as u64)? as usize;
        let len = columns[column::LENS].varint_max("a path length", (MAX_PATH_LEN - shared) as u64)? as usize;
        let names = &mut columns[column::NAMES];
        let name = names.take(len)?;
        // Without this check, the bytes compared below might not be the first ones that differ.
        if prev.is_some() && shared < path.len() && path.get(shared) == name.first() {
            return Err(names.invalid("a path that shares more than it says"));
        }
        if let Some(prev) = prev {
            let before = prev.path.as_bytes();
            path.truncate(shared);
            path.extend_from_slice(name);
            match step(before, path, shared) {
                Step::After => Ok(()),
                Step::Below => check_parent(prev),
                Step::NotAfter => match TreePath::new(path.as_slice()) {
                    Ok(next) => Err(not_after(prev, &next)),
                    Err(error) => Err(error.to_string()),
                },
            }
            .map_err(|what| names.invalid(what))?;
        } else {
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            return Err(names.invalid("an empty path"));
        }
        TreePath::new(path.as_slice()).map_err(|error| names.invalid(error.to_string()))
    }

    /// Reads what only this kind of entry has.
    fn node(&mut self, head: u16, path: &TreePath) -> Result<(Node, u16, Vec<ChunkRef>), FormatError> {
        let columns = &mut self.columns.0;
        let mode = head & head::MODE;
        let flags = head & (head::EXTRACTED | head::RECYCLED);
        match head & head::KIND {
            head::FILE if head & head::RECYCLED != 0 => {
                let size = columns[column::SIZES].varint_max("a file size", i64::MAX as u64)?;
                let digest = Digest(self.digests.array()?);
                Ok((Node::File { size, digest }, mode, Vec::new()))
            }
            head::FILE => {
                let left = (self.ids.remaining() / 32) as u64;
                let count = columns[column::SIZES].varint_max("a number of chunks", left)? as usize;
                let mut chunks = Vec::with_capacity(count);
                for _ in 0..count {
                    chunks.push(self.chunk()?);
                }
                Ok((file_node(&chunks), mode, chunks))
            }
            head::DIR if flags == 0 => Ok((Node::Dir, mode, Vec::new())),
            head::SYMLINK if flags == 0 && mode == 0 => {
                let target = columns[column::TARGETS].blob("a target length", MAX_PATH_LEN)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(columns[column::TARGETS].invalid(format!("`{path}` has no valid target")));
                }
                Ok((Node::Symlink { target: target.into() }, 0o777, Vec::new()))
            }
            _ => Err(columns[column::HEADS].invalid(format!("`{path}` has the kind and flags {head:#x}"))),
        }
    }

    #[inline]
    fn chunk(&mut self) -> Result<ChunkRef, FormatError> {
        let id = ChunkId(self.ids.array()?);
        let r = &mut self.columns.0[column::CHUNKS];
        let tag = r.varint()?;
        let step = unzigzag(tag >> 2);
        self.block = self.block.wrapping_add(step);
        let Some(block) = usize::try_from(self.block).ok().and_then(|n| self.blocks.get(n)) else {
            return Err(r.invalid(format!("a chunk in block {} of {}", self.block, self.blocks.len())));
        };
        let expected = if step == 0 { self.end } else { 0 };
        let offset = if tag & 2 == 0 { expected } else { r.varint32("a chunk's offset", MAX_BLOCK_RAW)? };
        let len = if tag & 1 == 0 {
            r.varint32("a chunk length", MAX_BLOCK_RAW)?
        } else {
            block.raw_len.saturating_sub(offset)
        };
        check_chunk(offset, len, block).map_err(|what| r.invalid(what))?;
        self.end = offset + len;
        Ok(ChunkRef { id, len, offset, block: *block })
    }

    /// Every column must be used up: further bytes would be content that belongs to no entry.
    fn finish(self) -> Result<(), FormatError> {
        self.columns.0.into_iter().chain([self.ids, self.digests]).try_for_each(Reader::finish)
    }
}
