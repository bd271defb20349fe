//! An index of the chunks of a tree, with 16 bytes per chunk.

use std::collections::HashMap;

use futures::TryStreamExt;

use super::Tree;
use crate::error::Error;
use crate::format::{ChunkId, ChunkRef, PackId, Snapshot};

/// The chunks of a tree: the first eight bytes of each id, and the segment that has the chunk's position.
#[derive(Debug, Default)]
pub(crate) struct ChunkIndex {
    slots: Vec<(u64, u32)>,
    /// The nonce of the snapshot to whose segments the numbers refer.
    of: [u8; 16],
}

impl ChunkIndex {
    /// Reads all segments of a tree. Chunks in the packs `absent` are left out.
    pub(crate) async fn build(tree: &Tree<'_>, absent: &[PackId]) -> Result<Self, Error> {
        let mut slots = Vec::new();
        let mut segments = std::pin::pin!(tree.segments(0..tree.snapshot.segments.len()));
        while let Some((index, entries)) = segments.try_next().await? {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let chunks = entries.iter().flat_map(|e| &e.chunks).filter(|c| !absent.contains(&c.block.pack));
            slots.extend(chunks.map(|c| (prefix(&c.id), index)));
        }
        slots.sort_unstable();
        slots.dedup_by_key(|slot| slot.0);
        Ok(Self { slots, of: tree.snapshot.nonce })
    }

    /// Whether the index was built for this snapshot: its segment numbers are meaningless in any other.
    pub(crate) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.of == snapshot.nonce
    }

    /// Whether the tree has the chunk. It may be wrong with a chance of one in 2^64 for each pair of chunks.
    pub(crate) fn may_hold(&self, id: &ChunkId) -> bool {
        self.segment_of(id).is_some()
    }

    /// Returns the segment that may refer to the chunk.
    pub(crate) fn segment_of(&self, id: &ChunkId) -> Option<usize> {
        let key = prefix(id);
        let at = self.slots.binary_search_by_key(&key, |slot| slot.0).ok()?;
        Some(self.slots[at].1 as usize)
    }
}

fn prefix(id: &ChunkId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(first)
}

/// Looks up chunks, and keeps the segments used last.
pub(crate) struct Lookup<'a> {
    tree: Tree<'a>,
    index: &'a ChunkIndex,
    recent: Vec<(usize, HashMap<ChunkId, ChunkRef>)>,
}

/// How many segments a lookup keeps: moved directories refer to few.
const RECENT: usize = 8;

impl<'a> Lookup<'a> {
    pub(crate) fn new(tree: Tree<'a>, index: &'a ChunkIndex) -> Self {
        Self { tree, index, recent: Vec::new() }
    }

    /// Returns the position of a chunk.
    pub(crate) async fn find(&mut self, id: &ChunkId) -> Result<Option<ChunkRef>, Error> {
        let Some(segment) = self.index.segment_of(id) else { return Ok(None) };
        if let Some(at) = self.recent.iter().position(|(index, _)| *index == segment) {
            let kept = self.recent.remove(at);
            self.recent.push(kept);
        } else {
            let entries = self.tree.segment(segment).await?;
            let chunks = entries.into_iter().flat_map(|e| e.chunks).map(|c| (c.id, c)).collect();
            if self.recent.len() == RECENT {
                self.recent.remove(0);
            }
            self.recent.push((segment, chunks));
        }
        Ok(self.recent.last().and_then(|(_, chunks)| chunks.get(id).copied()))
    }
}
