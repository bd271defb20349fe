//! Moves scattered data: the chunks of a tree in many small packs, or in mostly dead packs, are sent again in
//! few packs.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Edit, Rewrite};
use crate::env::JobLost;
use crate::error::Error;
use crate::format::{BlockOpener, ChunkId, PackId, PackUse, SegmentRef, Snapshot, StoreKey, TreeEntry};
use crate::packing::seal;
use crate::packing::{Need, PackRange, plan_ranges, verified};
use crate::store::Store;
use crate::tree::Tree;

/// When a collection moves the data of a context to new packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// A pack is small if the head uses fewer bytes of it than this.
    pub small: u64,
    /// The number of small packs from which on all of them are merged into few.
    pub many: usize,
    /// The most stored bytes that are moved in one context at once.
    pub most: u64,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { small: 256 << 10, many: 64, most: 64 << 20 }
    }
}

/// A pack is mostly dead if less than one in this many of its bytes is used.
const DEAD: u64 = 4;
/// The most used bytes of packs whose chunks are in one list in memory.
const MOST_AT_ONCE: u64 = 256 << 20;
/// How many ranges of packs are read ahead.
const AHEAD: usize = 2;
/// The most unpacked bytes of a range, unless it is a single block.
const MAX_RAW: u64 = 16 << 20;
/// Chunks are packed once there are this many bytes, so that those of small packs share blocks.
const WORTH_SEALING: usize = 1 << 20;

/// Returns the packs of a snapshot whose data should be moved, and how many of their bytes it uses. With
/// `frees_space`, mostly dead packs are included, because no one else will use the rest.
pub(crate) fn scattered(snapshot: &Snapshot, rule: &Gathering, frees_space: bool) -> (BTreeSet<PackId>, u64) {
    let is_small = |pack: &PackUse| pack.live < rule.small;
    let is_dead =
        |pack: &PackUse| frees_space && pack.size >= rule.small && pack.live.saturating_mul(DEAD) < pack.size;
    // A pack that no segment refers to is only kept from being deleted, and has nothing to move.
    let used: HashSet<u32> = snapshot.segments.iter().flat_map(SegmentRef::refers_to).collect();
    let used = snapshot.packs.iter().zip(0u32..).filter(|(_, index)| used.contains(index));
    let used: Vec<&PackUse> = used.map(|(pack, _)| pack).collect();
    let are_many = used.iter().filter(|pack| is_small(pack)).count() >= rule.many;
    let mut packs: Vec<&PackUse> =
        used.into_iter().filter(|pack| (are_many && is_small(pack)) || is_dead(pack)).collect();
    // The packs that free the most for the least come first.
    packs.sort_by_key(|pack| (pack.live, pack.id));
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    for pack in packs {
        if bytes + pack.live > rule.most {
            break;
        }
        bytes += pack.live;
        ids.insert(pack.id);
    }
    (ids, bytes)
}

impl Edit<'_> {
    /// Sends the chunks in these packs that a tree still needs after a rewrite. Returns the packs that the new
    /// tree no longer needs: all except those that can't be read.
    pub(super) async fn part(
        &mut self,
        packs: BTreeSet<PackId>,
        tree: &Tree<'_>,
        rewrite: &dyn Rewrite,
    ) -> Result<BTreeSet<PackId>, Error> {
        let uses: Vec<&PackUse> =
            tree.snapshot.packs.iter().filter(|pack| packs.contains(&pack.id)).collect();
        let mut free = BTreeSet::new();
        let mut rest = uses.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|pack| {
                bytes += pack.live;
                bytes <= MOST_AT_ONCE
            });
            let (some, after) = rest.split_at(fits.count().max(1));
            rest = after;
            let some: BTreeSet<PackId> = some.iter().map(|pack| pack.id).collect();
            match self.gather(&some, tree, &|entry| rewrite.replacement(entry).is_none()).await {
                Ok(()) => free.extend(some),
                // A damaged or lost pack must not prevent other files from being recycled.
                Err(e) if e.is_of_object() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(free)
    }

    /// Sends the tree's chunks in these packs that entries need which stay.
    pub(super) async fn gather(
        &mut self,
        packs: &BTreeSet<PackId>,
        tree: &Tree<'_>,
        stays: &(dyn Fn(&TreeEntry) -> bool + Sync),
    ) -> Result<(), Error> {
        let (mut needs, mut met) = (Vec::new(), HashSet::new());
        let mut segments = std::pin::pin!(tree.segments(0..tree.snapshot.segments.len()));
        while let Some((_, entries)) = segments.try_next().await? {
            for chunk in entries.iter().filter(|entry| stays(entry)).flat_map(|entry| &entry.chunks) {
                if packs.contains(&chunk.block.pack)
                    && self.chunks.sent(&chunk.id).is_none()
                    && met.insert(chunk.id)
                {
                    needs.push(Need { item: 0, chunk: *chunk, at: 0 });
                }
            }
        }
        let (store, env) = (self.store, self.store.env().clone());
        let ranges = plan_ranges(needs).into_iter().flat_map(split);
        let mut ranges = futures::stream::iter(ranges)
            .map(|range| async move { chunks_of(store, range).await }.boxed())
            .buffered(AHEAD);
        let (mut held, mut held_bytes) = (Vec::new(), 0);
        loop {
            let read = ranges.try_next().await?;
            let is_end = read.is_none();
            let chunks = read.into_iter().flatten();
            held.extend(chunks.inspect(|(_, bytes)| held_bytes += bytes.len()));
            if is_end || held_bytes >= WORTH_SEALING {
                held_bytes = 0;
                let chunks = std::mem::take(&mut held);
                for block in env.blocking(move || seal(chunks)).await.map_err(lost)? {
                    self.add(block).await?;
                }
            }
            if is_end {
                return Ok(());
            }
        }
    }
}

/// Divides a range into parts that take little memory when they are unpacked.
fn split(range: PackRange) -> Vec<PackRange> {
    let mut parts: Vec<(PackRange, u64)> = Vec::new();
    for part in range.blocks {
        let raw = u64::from(part.block.raw_len);
        let start = u64::from(part.block.offset);
        let end = start + u64::from(part.block.stored_len);
        match parts.last_mut() {
            Some((last, held)) if *held + raw <= MAX_RAW => {
                *held += raw;
                last.end = end;
                last.blocks.push(part);
            }
            _ => parts.push((PackRange { pack: range.pack, start, end, blocks: vec![part] }, raw)),
        }
    }
    parts.into_iter().map(|(range, _)| range).collect()
}

fn lost(e: JobLost) -> Error {
    Error::local("compress", "chunks", std::io::Error::from(e))
}

/// Reads a range of a pack, and returns the needed chunks.
async fn chunks_of(store: &Store, range: PackRange) -> Result<Vec<(ChunkId, Bytes)>, Error> {
    let key = StoreKey::Pack(range.pack).path();
    let bytes = store.get_range(range.pack, range.start, range.end).await?;
    let opening = store.env().blocking(move || open(&bytes, &range));
    opening.await.map_err(lost)?.map_err(|offset| Error::Corrupt {
        key: key.to_string(),
        what: format!("the block at byte {offset} is not what it should be"),
    })
}

/// Unpacks the needed chunks of a range. The error is the offset of the first damaged block.
fn open(bytes: &Bytes, range: &PackRange) -> Result<Vec<(ChunkId, Bytes)>, u32> {
    let mut opener = BlockOpener::new();
    let mut chunks = Vec::new();
    for part in &range.blocks {
        let block = part.block;
        let from = (u64::from(block.offset) - range.start) as usize;
        let stored = bytes.get(from..from + block.stored_len as usize).ok_or(block.offset)?;
        let raw = opener.open(block.codec, block.raw_len, stored).map_err(|_| block.offset)?;
        for need in &part.needs {
            let chunk = verified(raw, need).ok_or(block.offset)?;
            chunks.push((need.chunk.id, Bytes::copy_from_slice(chunk)));
        }
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlockRef, Codec};
    use crate::packing::BlockNeeds;

    #[test]
    fn a_range_is_divided_by_what_it_holds_unpacked() {
        let pack = PackId([1; 16]);
        let block = |offset: u32, raw_len| {
            let block = BlockRef { pack, offset, stored_len: 100, raw_len, codec: Codec::Stored };
            BlockNeeds { block, needs: Vec::new() }
        };
        let large = u32::try_from(MAX_RAW).unwrap();
        let blocks = vec![block(0, large / 2), block(100, large / 2), block(300, 1), block(400, large + 1)];
        let parts = split(PackRange { pack, start: 0, end: 500, blocks });
        let spans: Vec<_> = parts.iter().map(|part| (part.start, part.end, part.blocks.len())).collect();
        assert_eq!(spans, [(0, 200, 2), (300, 400, 1), (400, 500, 1)]);
    }
}
