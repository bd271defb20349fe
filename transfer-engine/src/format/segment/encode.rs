//! Encodes a segment.

use std::collections::HashMap;

use bytes::Bytes;
use policy_core::{Digest, Node, TreePath};

use super::super::block::Zstd;
use super::super::error::{FormatError, Part, at_most};
use super::super::wire::{Writer, zigzag};
use super::super::{BlockRef, ChunkId, Codec, PackId, sha256};
use super::{
    ChunkRef, MAGIC, MAX_PATH_LEN, MAX_SEGMENT_ENTRIES, MAX_SEGMENT_LEN, NANOS, TreeEntry, VERSION,
    check_block, check_chunk, check_order, column, file_node, head,
};

/// A segment that is ready for a pack or a snapshot.
#[derive(Debug, Clone)]
#[must_use]
pub struct EncodedSegment {
    /// The path of its first entry.
    pub first: TreePath,
    /// How many entries it has.
    pub entries: u32,
    /// The bytes to store.
    pub bytes: Bytes,
    /// The SHA-256 of `bytes`.
    pub digest: Digest,
    /// The packs of its chunks, in the order of their ids, each with the number of stored bytes that the
    /// chunks take. Each chunk counts once; of a block, the chunks' share is counted, rounded up.
    pub packs: Vec<(PackId, u64)>,
}

/// Encodes a sorted run of entries; the same entries always give the same bytes.
///
/// # Errors
/// [`FormatError::Invalid`] if there are no entries, if one is not as [`TreeEntry`] requires, or if they are
/// not in order ([`check_order`]); [`FormatError::TooLarge`] beyond the limits. So
/// [`decode_segment`](super::decode_segment) accepts whatever this function writes.
pub fn encode_segment(entries: &[TreeEntry]) -> Result<EncodedSegment, FormatError> {
    let Some(first) = entries.first() else {
        return Err(FormatError::unwritable(Part::Segment, "a segment without entries"));
    };
    at_most(Part::Segment, "a number of entries", entries.len() as u64, MAX_SEGMENT_ENTRIES as u64)?;
    let mut prev: Option<&TreeEntry> = None;
    for entry in entries {
        check(entry)
            .map_err(|what| FormatError::unwritable(Part::Segment, format!("`{}` has {what}", entry.path)))?;
        if let Some(prev) = prev {
            check_order(prev, entry)?;
        }
        prev = Some(entry);
    }
    let (bytes, packs) = write(entries)?;
    let digest = sha256(&bytes);
    Ok(EncodedSegment { first: first.path.clone(), entries: entries.len() as u32, bytes, digest, packs })
}

/// Writes entries without checking them; tests use it to make what a malicious writer would. Returns the
/// bytes, and the number of live bytes in each pack.
pub(super) fn write(entries: &[TreeEntry]) -> Result<(Bytes, Vec<(PackId, u64)>), FormatError> {
    let mut encoder = Encoder::default();
    let mut prev: Option<&TreeEntry> = None;
    for entry in entries {
        encoder.entry(prev, entry)?;
        prev = Some(entry);
    }
    Ok((encoder.assemble(entries.len())?, encoder.tables.live()))
}

#[derive(Default)]
struct Encoder {
    columns: [Writer; column::COUNT],
    ids: Writer,
    recycled: Writer,
    tables: Tables,
}

impl Encoder {
    fn entry(&mut self, prev: Option<&TreeEntry>, entry: &TreeEntry) -> Result<(), FormatError> {
        let path = entry.path.as_bytes();
        at_most(Part::Segment, "a path length", path.len() as u64, MAX_PATH_LEN as u64)?;

        let (kind, mode) = match entry.entry.node {
            Node::File { .. } => (head::FILE, entry.entry.mode),
            Node::Dir => (head::DIR, entry.entry.mode),
            Node::Symlink { .. } => (head::SYMLINK, 0),
        };
        let extracted = if entry.extracted { head::EXTRACTED } else { 0 };
        let recycled = if entry.recycled { head::RECYCLED } else { 0 };
        self.columns[column::HEADS].u16(kind | mode | extracted | recycled);

        let before = prev.map_or(&[][..], |p| p.path.as_bytes());
        let shared = before.iter().zip(path).take_while(|(x, y)| x == y).count();
        self.columns[column::SHARED].varint(shared as u64);
        self.columns[column::LENS].varint((path.len() - shared) as u64);
        self.columns[column::NAMES].bytes(&path[shared..]);

        let (secs, uploaded) = prev.map_or((0, 0), |p| (p.entry.mtime.secs, p.entry.uploaded));
        self.columns[column::SECS].zigzag(entry.entry.mtime.secs.wrapping_sub(secs));
        self.columns[column::NANOS].u32(entry.entry.mtime.nanos);
        self.columns[column::UPLOADED].zigzag(entry.entry.uploaded.wrapping_sub(uploaded));

        match &entry.entry.node {
            Node::Dir => {}
            Node::Symlink { target } => {
                at_most(Part::Segment, "a target length", target.len() as u64, MAX_PATH_LEN as u64)?;
                self.columns[column::TARGETS].blob(target);
            }
            Node::File { size, digest } if entry.recycled => {
                self.columns[column::SIZES].varint(*size);
                self.recycled.bytes(&digest.0);
            }
            Node::File { .. } => {
                self.columns[column::SIZES].varint(entry.chunks.len() as u64);
                entry.chunks.iter().for_each(|chunk| self.chunk(chunk));
                let len = self.ids.len() + self.columns[column::CHUNKS].len();
                at_most(Part::Segment, "a length", len as u64, MAX_SEGMENT_LEN as u64)?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &ChunkRef) {
        let ChunkId(id) = &chunk.id;
        self.ids.bytes(id);
        let tables = &mut self.tables;
        let block = tables.block(&chunk.block, &mut self.columns[column::BLOCKS]);
        let step = block.wrapping_sub(tables.last_block);
        let expected = if step == 0 { tables.last_end } else { 0 };
        let explicit = chunk.offset != expected;
        let end = chunk.offset.wrapping_add(chunk.len);
        let to_end = end == chunk.block.raw_len;
        let column = &mut self.columns[column::CHUNKS];
        column.varint(zigzag(step) << 2 | u64::from(explicit) << 1 | u64::from(to_end));
        if explicit {
            column.varint(u64::from(chunk.offset));
        }
        if !to_end {
            column.varint(u64::from(chunk.len));
        }
        tables.last_block = block;
        tables.last_end = end;
        tables.uses.push((block as u32, chunk.offset, chunk.len));
    }

    fn assemble(&mut self, entries: usize) -> Result<Bytes, FormatError> {
        let mut metadata = Writer::with_capacity(self.columns.iter().map(Writer::len).sum());
        self.columns.iter().for_each(|c| metadata.bytes(c.as_slice()));
        at_most(Part::Segment, "a length of metadata", metadata.len() as u64, MAX_SEGMENT_LEN as u64)?;
        let mut zstd = Zstd::default();
        let packed = zstd.compress(metadata.as_slice());
        let codec = if packed.is_some() { Codec::Zstd } else { Codec::Stored };
        let stored = packed.unwrap_or(metadata.as_slice());

        let mut out = Writer::with_capacity(64 + self.ids.len() + self.recycled.len() + stored.len());
        out.bytes(&MAGIC);
        out.u8(VERSION);
        out.u8(codec.code());
        out.varint(entries as u64);
        out.varint((self.ids.len() / 32) as u64);
        out.varint((self.recycled.len() / 32) as u64);
        out.varint(self.tables.packs.len() as u64);
        out.varint(self.tables.blocks.len() as u64);
        self.columns.iter().for_each(|c| out.varint(c.len() as u64));
        out.bytes(self.ids.as_slice());
        out.bytes(self.recycled.as_slice());
        self.tables.packs.iter().for_each(|PackId(id)| out.bytes(id));
        out.bytes(stored);
        at_most(Part::Segment, "a length", out.len() as u64, MAX_SEGMENT_LEN as u64)?;
        Ok(out.into_vec().into())
    }
}

/// The packs and blocks of a segment, numbered in the order of their first use.
#[derive(Default)]
struct Tables {
    packs: Vec<PackId>,
    pack_numbers: HashMap<PackId, usize>,
    blocks: Vec<BlockRef>,
    block_numbers: HashMap<BlockRef, usize>,
    /// The block of the chunk before, and the chunk's end in it.
    last_block: i64,
    last_end: u32,
    /// The pack of the newest block, and the block's end in it.
    last_pack: i64,
    last_pack_end: u32,
    /// Block number, offset and length of each chunk.
    uses: Vec<(u32, u32, u32)>,
}

impl Tables {
    /// Returns the number of a block. A new block is written to `column` first.
    fn block(&mut self, block: &BlockRef, column: &mut Writer) -> i64 {
        if self.blocks.get(self.last_block as usize) == Some(block) {
            return self.last_block;
        }
        if let Some(number) = self.block_numbers.get(block) {
            return *number as i64;
        }
        let pack = *self.pack_numbers.entry(block.pack).or_insert_with(|| {
            self.packs.push(block.pack);
            self.packs.len() - 1
        }) as i64;
        let step = pack - self.last_pack;
        let expected = if step == 0 { self.last_pack_end } else { 0 };
        let explicit = block.offset != expected;
        column.varint(zigzag(step) << 2 | u64::from(block.codec.code()) << 1 | u64::from(explicit));
        if explicit {
            column.varint(u64::from(block.offset));
        }
        column.varint(u64::from(block.stored_len));
        if block.codec != Codec::Stored {
            column.varint(u64::from(block.raw_len));
        }
        self.last_pack = pack;
        self.last_pack_end = block.offset.wrapping_add(block.stored_len);
        let number = self.blocks.len();
        self.blocks.push(*block);
        self.block_numbers.insert(*block, number);
        number as i64
    }

    /// Returns for each pack how many stored bytes the chunks take.
    fn live(&mut self) -> Vec<(PackId, u64)> {
        self.uses.sort_unstable();
        self.uses.dedup();
        let mut raw = vec![0u64; self.blocks.len()];
        for (block, _, len) in &self.uses {
            raw[*block as usize] += u64::from(*len);
        }
        let mut live: HashMap<PackId, u64> = HashMap::with_capacity(self.packs.len());
        for (block, raw) in self.blocks.iter().zip(raw) {
            // Overlapping chunks could add up to more than the block.
            let raw = raw.min(u64::from(block.raw_len));
            *live.entry(block.pack).or_default() +=
                (raw * u64::from(block.stored_len)).div_ceil(u64::from(block.raw_len.max(1)));
        }
        let mut live: Vec<_> = live.into_iter().collect();
        live.sort_unstable();
        live
    }
}

/// Checks the requirements of [`TreeEntry`]; the error says what is wrong.
fn check(entry: &TreeEntry) -> Result<(), String> {
    let TreeEntry { path, entry, extracted, recycled, chunks } = entry;
    if path.is_root() {
        return Err("no components: the root is not listed".into());
    }
    if entry.mtime.nanos >= NANOS {
        return Err(format!("{} nanoseconds", entry.mtime.nanos));
    }
    if entry.mode & !head::MODE != 0 {
        return Err(format!("the mode {:o}", entry.mode));
    }
    match &entry.node {
        Node::File { size, .. } if *recycled => {
            if !chunks.is_empty() {
                return Err("chunks, and is recycled".into());
            }
            if *size > i64::MAX as u64 {
                return Err(format!("a size of {size}"));
            }
        }
        node @ Node::File { .. } => {
            if *node != file_node(chunks) {
                return Err("a size or digest that is not that of its chunks".into());
            }
            for ChunkRef { offset, len, block, .. } in chunks {
                check_block(block)?;
                check_chunk(*offset, *len, block)?;
            }
        }
        Node::Dir | Node::Symlink { .. } => {
            if *extracted || *recycled || !chunks.is_empty() {
                return Err("what only a file has: chunks or a flag".into());
            }
            if let Node::Symlink { target } = &entry.node
                && (entry.mode != 0o777 || target.is_empty() || target.contains(&0))
            {
                return Err("a mode or target that no symbolic link has".into());
            }
        }
    }
    Ok(())
}
