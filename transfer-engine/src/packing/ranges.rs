//! Which byte ranges of which packs have the wanted chunks, in as few requests as is sensible.

use crate::format::{BlockRef, ChunkId, ChunkRef, PackId};
use crate::store::MAX_RANGE;

/// Blocks that are at most this many bytes apart are fetched together: the gap costs less than a request.
const GAP: u64 = 128 << 10;

/// A chunk that a file needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// The index of the caller's file.
    pub(crate) item: usize,
    pub(crate) chunk: ChunkRef,
    /// The chunk's offset in the file.
    pub(crate) at: u64,
}

/// A block, and the chunks that are needed from it.
#[derive(Debug)]
pub(crate) struct BlockNeeds {
    pub(crate) block: BlockRef,
    pub(crate) needs: Vec<Need>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct PackRange {
    pub(crate) pack: PackId,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) blocks: Vec<BlockNeeds>,
}

/// Groups needed chunks by block, and blocks into requests.
pub(crate) fn plan_ranges(mut needs: Vec<Need>) -> Vec<PackRange> {
    needs.sort_by_key(|n| (n.chunk.block.pack, n.chunk.block.offset, n.chunk.offset));
    let mut ranges: Vec<PackRange> = Vec::new();
    for need in needs {
        let block = need.chunk.block;
        let (start, end) = (u64::from(block.offset), u64::from(block.offset) + u64::from(block.stored_len));
        if let Some(range) = ranges.last_mut()
            && range.pack == block.pack
        {
            if let Some(last) = range.blocks.last_mut()
                && last.block == block
            {
                last.needs.push(need);
                continue;
            }
            if start >= range.end && start - range.end <= GAP && end - range.start <= MAX_RANGE {
                range.end = end;
                range.blocks.push(BlockNeeds { block, needs: vec![need] });
                continue;
            }
        }
        let blocks = vec![BlockNeeds { block, needs: vec![need] }];
        ranges.push(PackRange { pack: block.pack, start, end, blocks });
    }
    ranges
}

/// Returns a chunk from its unpacked block; `None` if the digest does not match.
pub(crate) fn verified<'a>(raw: &'a [u8], need: &Need) -> Option<&'a [u8]> {
    let (from, len) = (need.chunk.offset as usize, need.chunk.len as usize);
    let chunk = raw.get(from..from.checked_add(len)?)?;
    (ChunkId::of(chunk) == need.chunk.id).then_some(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Codec;

    fn need(pack: u8, offset: u32, stored_len: u32, chunk: u32) -> Need {
        let block =
            BlockRef { pack: PackId([pack; 16]), offset, stored_len, raw_len: 100, codec: Codec::Stored };
        let chunk = ChunkRef { id: ChunkId([0; 32]), len: 10, offset: chunk, block };
        Need { item: 0, chunk, at: 0 }
    }

    #[test]
    fn neighbours_share_a_request_and_blocks_are_fetched_once() {
        let ranges = plan_ranges(vec![
            need(1, 100, 50, 0),
            need(1, 0, 100, 10),
            need(2, 0, 100, 0),
            need(1, 0, 100, 0),
            need(1, 10_000_000, 50, 0),
        ]);
        let spans: Vec<_> = ranges.iter().map(|r| (r.pack.0[0], r.start, r.end, r.blocks.len())).collect();
        assert_eq!(spans, [(1, 0, 150, 2), (1, 10_000_000, 10_000_050, 1), (2, 0, 100, 1)]);
        assert_eq!(ranges[0].blocks[0].needs.len(), 2);
    }

    #[test]
    fn a_request_has_a_limit() {
        let ranges = plan_ranges((0..20).map(|i| need(1, i << 20, 1 << 20, 0)).collect());
        assert!(ranges.len() >= 3 && ranges.iter().all(|r| r.end - r.start <= MAX_RANGE));
        assert_eq!(ranges.iter().map(|r| r.blocks.len()).sum::<usize>(), 20);
    }
}
