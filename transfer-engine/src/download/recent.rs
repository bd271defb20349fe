//! Keeps recently fetched ranges. Files with the same content share a block, wherever they are in the tree,
//! and a copied directory needs the same blocks as its original.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::format::PackId;
use crate::packing::{Need, PackRange, plan_ranges};

/// The ranges used last, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Recent {
    ranges: BTreeMap<(PackId, u64), Kept>,
    /// The bytes of all ranges, and their limit.
    held: u64,
    most: u64,
    /// Counts uses, to find the range that was not used for longest.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    used: u64,
}

impl Recent {
    pub(crate) fn new(most: u64) -> Self {
        Self { ranges: BTreeMap::new(), held: 0, most, uses: 0 }
    }

    /// Keeps a range, and drops those that were not used for longest.
    pub(super) fn keep(&mut self, pack: PackId, start: u64, bytes: Bytes) {
        let len = bytes.len() as u64;
        if len > self.most {
            return;
        }
        self.uses += 1;
        self.held += len;
        if let Some(before) = self.ranges.insert((pack, start), Kept { bytes, used: self.uses }) {
            self.held -= before.bytes.len() as u64;
        }
        while self.held > self.most {
            let oldest = self.ranges.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
            let Some(forgotten) = oldest.and_then(|key| self.ranges.remove(&key)) else { return };
            self.held -= forgotten.bytes.len() as u64;
        }
    }

    /// Removes those needs from `needs` whose blocks are kept, and returns them as ranges. [`get`](Self::get)
    /// returns these ranges until they are dropped.
    pub(super) fn split(&self, needs: &mut Vec<Need>) -> Vec<PackRange> {
        let mut kept: BTreeMap<(PackId, u64), Vec<Need>> = BTreeMap::new();
        needs.retain(|need| {
            let found = self.find(need.chunk.block.pack, block_range(need));
            if let Some(key) = found {
                kept.entry(key).or_default().push(*need);
            }
            found.is_none()
        });
        kept.into_values().flat_map(plan_ranges).collect()
    }

    /// Returns the bytes of a range, if they are kept.
    pub(super) fn get(&mut self, pack: PackId, range: Range<u64>) -> Option<Bytes> {
        let key = self.find(pack, range.clone())?;
        let kept = self.ranges.get_mut(&key)?;
        self.uses += 1;
        kept.used = self.uses;
        let at = |offset: u64| (offset - key.1) as usize;
        Some(kept.bytes.slice(at(range.start)..at(range.end)))
    }

    /// Returns the kept range that contains this one.
    fn find(&self, pack: PackId, range: Range<u64>) -> Option<(PackId, u64)> {
        let (key, kept) = self.ranges.range((pack, 0)..=(pack, range.start)).next_back()?;
        (key.1 + kept.bytes.len() as u64 >= range.end).then_some(*key)
    }
}

fn block_range(need: &Need) -> Range<u64> {
    let block = need.chunk.block;
    let start = u64::from(block.offset);
    start..start + u64::from(block.stored_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BlockRef, ChunkId, ChunkRef, Codec};

    fn need(pack: u8, offset: u32) -> Need {
        let pack = PackId([pack; 16]);
        let block = BlockRef { pack, offset, stored_len: 10, raw_len: 10, codec: Codec::Stored };
        Need { item: 0, chunk: ChunkRef { id: ChunkId([0; 32]), len: 10, offset: 0, block }, at: 0 }
    }

    fn bytes(len: u8) -> Bytes {
        (0..len).collect::<Vec<u8>>().into()
    }

    /// Returns the offsets and bytes of the ranges that are served, and the number of needs that have to be
    /// fetched.
    fn serve<const N: usize>(recent: &mut Recent, of: [(u8, u32); N]) -> (Vec<(u64, Vec<u8>)>, usize) {
        let mut needs = of.map(|(pack, offset)| need(pack, offset)).to_vec();
        let kept = recent.split(&mut needs).into_iter();
        let mut bytes = |range: PackRange| recent.get(range.pack, range.start..range.end).unwrap().to_vec();
        (kept.map(|range| (range.start, bytes(range))).collect(), needs.len())
    }

    #[test]
    fn blocks_of_recent_ranges_are_not_fetched() {
        let mut recent = Recent::new(100);
        recent.keep(PackId([1; 16]), 100, bytes(40));
        let (served, left) = serve(&mut recent, [(1, 100), (1, 130), (1, 131), (1, 99), (2, 100)]);
        assert_eq!(left, 3);
        assert_eq!(served, [(100, (0..40).collect::<Vec<u8>>())]);
        assert_eq!(serve(&mut recent, [(1, 120)]), (vec![(120, (20..30).collect())], 0));
        assert_eq!(recent.get(PackId([1; 16]), 130..141), None);
    }

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut recent = Recent::new(100);
        recent.keep(PackId([1; 16]), 0, bytes(50));
        recent.keep(PackId([2; 16]), 0, bytes(50));
        assert_eq!(serve(&mut recent, [(1, 0)]).1, 0);
        recent.keep(PackId([3; 16]), 0, bytes(50));
        assert_eq!([1, 2, 3].map(|pack| serve(&mut recent, [(pack, 0)]).1), [0, 1, 0]);
        // Keeping the same range again takes no more room, and one that is too long is not kept.
        recent.keep(PackId([3; 16]), 0, bytes(50));
        recent.keep(PackId([4; 16]), 0, bytes(101));
        assert_eq!([1, 3, 4].map(|pack| serve(&mut recent, [(pack, 0)]).1), [0, 0, 1]);
    }
}
