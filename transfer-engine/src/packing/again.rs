//! Sends chunks that are scattered over many packs again, in few.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Added, Chunks, Need, PackRange, PackSink, plan_ranges, seal, verified};
use crate::env::JobLost;
use crate::error::Error;
use crate::format::{BlockOpener, ChunkId, PackId, SegmentRef, StoreKey, TreeEntry};
use crate::store::Store;
use crate::tree::Tree;

/// The most unpacked bytes of a range, unless it is a single block.
const MAX_RAW: u64 = 16 << 20;
/// Chunks are packed once there are this many bytes, so that those of small packs share blocks.
const WORTH_SEALING: usize = 1 << 20;

/// Finds the chunks of a tree that are in these packs and were not sent, as far as entries need them that `stay`.
pub(crate) async fn chunks_in(
    packs: &BTreeSet<PackId>,
    tree: &Tree<'_>,
    chunks: &Chunks,
    stays: &(dyn Fn(&TreeEntry) -> bool + Sync),
) -> Result<Vec<Need>, Error> {
    let (mut needs, mut met) = (Vec::new(), HashSet::new());
    let all = &tree.snapshot.segments;
    let refers = |segment: &SegmentRef| tree.snapshot.needs_any(segment, |id| packs.contains(id));
    let mut begin = 0;
    for run in all.chunk_by(|a, b| refers(a) == refers(b)) {
        let range = begin..begin + run.len();
        begin = range.end;
        if !run.first().is_some_and(refers) {
            continue;
        }
        let mut segments = std::pin::pin!(tree.segments(range));
        while let Some((_, entries)) = segments.try_next().await? {
            for chunk in entries.iter().filter(|entry| stays(entry)).flat_map(|entry| &entry.chunks) {
                if packs.contains(&chunk.block.pack)
                    && chunks.sent(&chunk.id).is_none()
                    && met.insert(chunk.id)
                {
                    needs.push(Need { item: 0, chunk: *chunk, at: 0 });
                }
            }
        }
    }
    Ok(needs)
}

/// Reads chunks from the store, and sends them again. So many ranges of packs are read ahead.
pub(crate) async fn send_again(
    store: &Store,
    needs: Vec<Need>,
    ahead: usize,
    sink: &mut PackSink,
) -> Result<Added, Error> {
    let ranges = plan_ranges(needs).into_iter().flat_map(split);
    let mut ranges = futures::stream::iter(ranges)
        .map(|range| async move { chunks_of(store, range).await }.boxed())
        .buffered(ahead);
    let (mut held, mut held_bytes) = (Vec::new(), 0);
    loop {
        let read = ranges.try_next().await?;
        let is_end = read.is_none();
        let chunks = read.into_iter().flatten();
        held.extend(chunks.inspect(|(_, bytes)| held_bytes += bytes.len()));
        if is_end || held_bytes >= WORTH_SEALING {
            held_bytes = 0;
            let chunks = std::mem::take(&mut held);
            for block in store.env().blocking(move || seal(chunks)).await.map_err(lost)? {
                if sink.add_block(block).await? == Added::TooLate {
                    return Ok(Added::TooLate);
                }
            }
        }
        if is_end {
            return Ok(Added::Taken);
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
