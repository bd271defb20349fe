//! Segments: sorted runs of a tree's entries, with the positions of their chunks.

mod cutter;
mod decode;
mod encode;

use std::cmp::Ordering;

use policy_core::{Entry, Node, Timestamp, TreePath};

use super::block::MAX_BLOCK_RAW;
use super::error::{FormatError, Part};
use super::{BlockRef, ChunkId, Codec, file_digest};

pub use cutter::SegmentCutter;
pub use decode::decode_segment;
pub(crate) use decode::{claimed_memory, memory_of};
pub use encode::{EncodedSegment, encode_segment};

/// The most entries in a segment.
pub const MAX_SEGMENT_ENTRIES: usize = 4096;
/// The longest segment, in bytes, stored as well as unpacked: 128 MiB. It limits the size of one file to some
/// 3.5 TB.
pub const MAX_SEGMENT_LEN: usize = 128 << 20;
/// The longest path and the longest target of a symbolic link, in bytes: 16 KiB.
pub const MAX_PATH_LEN: usize = 16 << 10;

/// The most chunks in a segment: more would not fit its length.
const MAX_CHUNKS: usize = MAX_SEGMENT_LEN / 32;

const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"CSsg";
/// Nanoseconds per second; timestamps are below it.
const NANOS: u32 = 1_000_000_000;

/// The bits of an entry's head, a `u16`: the permission bits are the lowest, then come kind and flags.
mod head {
    pub(super) const MODE: u16 = 0o7777;
    pub(super) const KIND: u16 = 0b11 << 12;
    pub(super) const FILE: u16 = 0 << 12;
    pub(super) const DIR: u16 = 1 << 12;
    pub(super) const SYMLINK: u16 = 2 << 12;
    pub(super) const EXTRACTED: u16 = 1 << 14;
    pub(super) const RECYCLED: u16 = 1 << 15;
}

/// The columns of a segment's metadata. Each has one field of every entry.
mod column {
    pub(super) const HEADS: usize = 0;
    pub(super) const SHARED: usize = 1;
    pub(super) const LENS: usize = 2;
    pub(super) const NAMES: usize = 3;
    pub(super) const SECS: usize = 4;
    pub(super) const NANOS: usize = 5;
    pub(super) const UPLOADED: usize = 6;
    pub(super) const SIZES: usize = 7;
    pub(super) const TARGETS: usize = 8;
    pub(super) const BLOCKS: usize = 9;
    pub(super) const CHUNKS: usize = 10;
    pub(super) const COUNT: usize = 11;
}

/// An entry of a tree as it is stored.
///
/// [`decode_segment`] returns and [`encode_segment`] accepts only entries for which:
/// - the path is not the root, and no longer than [`MAX_PATH_LEN`];
/// - a file's size and digest are those of its chunks, unless it is recycled: then it has no chunks;
/// - directories and symbolic links have no chunks and no flags; a link's mode is `0o777`;
/// - the nanoseconds are below a second, the mode within `0o7777`, the size within 63 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// The entry's path.
    pub path: TreePath,
    /// Kind, content, mode and times.
    pub entry: Entry,
    /// Whether this is an archive that was extracted: later sessions do not extract it again.
    pub extracted: bool,
    /// Whether this is the placeholder of a recycled file: it has the size and digest, but not the content.
    pub recycled: bool,
    /// The file's chunks in order.
    pub chunks: Vec<ChunkRef>,
}

/// A chunk, and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The SHA-256 of its bytes.
    pub id: ChunkId,
    /// Its length, in bytes.
    pub len: u32,
    /// Its first byte in the unpacked block.
    pub offset: u32,
    /// The block that holds it.
    pub block: BlockRef,
}

impl TreeEntry {
    /// Returns the entry of a file that consists of `chunks`.
    pub fn file(path: TreePath, mode: u16, mtime: Timestamp, uploaded: i64, chunks: Vec<ChunkRef>) -> Self {
        let entry = Entry { node: file_node(&chunks), mode, mtime, uploaded };
        Self { path, entry, extracted: false, recycled: false, chunks }
    }

    /// Returns an entry without chunks: a directory, a symbolic link, or an empty file.
    pub fn bare(path: TreePath, entry: Entry) -> Self {
        Self { path, entry, extracted: false, recycled: false, chunks: Vec::new() }
    }

    /// Returns the placeholder of a file whose content the store has lost.
    #[must_use]
    pub fn lost(self) -> Self {
        Self { extracted: true, recycled: true, chunks: Vec::new(), ..self }
    }

    /// Whether this is the placeholder of a file whose content the store has lost. A recycled file is never marked as
    /// extracted, so the two marks together say it; a program that does not know this takes the file as recycled.
    pub fn is_lost(&self) -> bool {
        self.extracted && self.recycled
    }

    /// Whether this is a directory that is implied if anything is below it.
    fn is_plain_dir(&self) -> bool {
        self.entry.is_dir() && self.entry.mode == Entry::IMPLIED_DIR.mode
    }
}

/// Returns the size and digest of a file that consists of `chunks`.
fn file_node(chunks: &[ChunkRef]) -> Node {
    Node::File {
        size: chunks.iter().map(|c| u64::from(c.len)).sum(),
        digest: file_digest(chunks.iter().map(|c| (c.id, c.len))),
    }
}

/// Checks that `next` may directly follow `prev` in a tree, within one segment or across two.
///
/// `next` must sort after `prev`, and must not be below something that is not a directory. `prev` must not be
/// a directory that `next` implies.
///
/// Checking each pair of neighbours checks the whole tree: in tree order, everything below a path follows it
/// directly (if `p < r < q` and `q` is below `p`, so is `r`). So if anything is below `p`, the next entry is,
/// and the pair of the two shows it.
///
/// # Errors
/// [`FormatError::Invalid`], with the path.
pub fn check_order(prev: &TreeEntry, next: &TreeEntry) -> Result<(), FormatError> {
    let (a, b) = (prev.path.as_bytes(), next.path.as_bytes());
    let shared = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    match step(a, b, shared) {
        Step::After => Ok(()),
        Step::Below => check_parent(prev),
        Step::NotAfter => Err(not_after(prev, &next.path)),
    }
    .map_err(|what| FormatError::unwritable(Part::Segment, what))
}

/// The position of a path relative to the path before it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// After it, and not below it.
    After,
    /// Below it.
    Below,
    /// Equal or before.
    NotAfter,
}

/// Compares `next` with `prev`. They agree in exactly their first `shared` bytes.
fn step(prev: &[u8], next: &[u8], shared: usize) -> Step {
    match (prev.get(shared), next.get(shared)) {
        (None, Some(b'/')) => Step::Below,
        (None, Some(_)) => Step::After,
        (Some(b'/'), Some(_)) => Step::After,
        (Some(_), None | Some(b'/')) | (None, None) => Step::NotAfter,
        (Some(x), Some(y)) => match x.cmp(y) {
            Ordering::Less => Step::After,
            Ordering::Equal | Ordering::Greater => Step::NotAfter,
        },
    }
}

/// Whether `dir` may be listed if something is below it.
fn check_parent(dir: &TreeEntry) -> Result<(), String> {
    if !dir.entry.is_dir() {
        Err(format!("`{}` is no directory, and something is below it", dir.path))
    } else if dir.is_plain_dir() {
        Err(format!("the directory `{}` is implied by what is in it, and listed all the same", dir.path))
    } else {
        Ok(())
    }
}

fn not_after(prev: &TreeEntry, next: &TreePath) -> String {
    if prev.path == *next {
        format!("`{next}` is listed twice")
    } else {
        format!("`{next}` is listed after `{}`, out of order", prev.path)
    }
}

/// Checks that a block's numbers are consistent.
fn check_block(block: &BlockRef) -> Result<(), String> {
    let BlockRef { offset, stored_len, raw_len, codec, .. } = *block;
    if raw_len == 0 || raw_len > MAX_BLOCK_RAW {
        return Err(format!("a block of {raw_len} raw bytes, and 1 to {MAX_BLOCK_RAW} are allowed"));
    }
    if stored_len == 0 || stored_len > raw_len || (codec == Codec::Stored && stored_len < raw_len) {
        return Err(format!("a block of {raw_len} raw bytes that takes {stored_len}"));
    }
    if u64::from(offset) + u64::from(stored_len) > super::MAX_PACK_LEN {
        return Err(format!("a block at {offset}, beyond the end of any pack"));
    }
    Ok(())
}

/// Checks that a chunk lies within its block.
fn check_chunk(offset: u32, len: u32, block: &BlockRef) -> Result<(), String> {
    let end = u64::from(offset) + u64::from(len);
    if len == 0 || end > u64::from(block.raw_len) {
        return Err(format!("a chunk from {offset} to {end} in a block of {}", block.raw_len));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
