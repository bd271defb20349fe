//! Which chunks a push need not send: those of the head, and those that it has claimed already.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::format::{BlockRef, ChunkId, ChunkRef, PackId};
use crate::tree::ChunkIndex;

/// A chunk of up to this many bytes is sent again if the last file with it was this many files ago: otherwise
/// a pull of both files would have to read a whole block for it.
const SMALL: usize = 2 << 10;
const FAR: u32 = 4096;

/// Stands for no block, and for no number of files.
const NONE: u32 = u32::MAX;

/// The table is split into parts, so that readers seldom wait for each other.
const PARTS: usize = 16;

/// The chunks that need not be sent: those of the head, and those that this push has claimed.
///
/// It is shared by the readers of files. The reader that claims a chunk sends it; the others only refer to
/// it.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    head: Mutex<Option<Arc<ChunkIndex>>>,
    claimed: [Mutex<Claimed>; PARTS],
    blocks: Mutex<Vec<BlockRef>>,
}

/// A part of the claimed chunks. It has to fit a million chunks. So a position has the number of its block,
/// and the chunks are in a tree: when a hash table grows by one chunk, it may take twice the memory, and
/// three times while it grows.
#[derive(Debug, Default)]
struct Claimed {
    chunks: BTreeMap<ChunkId, Claim>,
    /// Further positions of chunks that were sent again.
    others: BTreeMap<ChunkId, Vec<ChunkPlace>>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    /// The number of files before the last claim; [`NONE`] if the chunk is not to be sent again.
    after: u32,
    place: ChunkPlace,
}

#[derive(Debug, Clone, Copy)]
struct ChunkPlace {
    /// [`NONE`] until the block with the chunk is in a pack.
    block: u32,
    offset: u32,
    len: u32,
}

const NOWHERE: ChunkPlace = ChunkPlace { block: NONE, offset: 0, len: 0 };

impl Claimed {
    fn places(&self, id: &ChunkId) -> impl Iterator<Item = &ChunkPlace> {
        let others = self.others.get(id).into_iter().flatten();
        let first = self.chunks.get(id).map(|claim| &claim.place);
        first.filter(|place| place.block != NONE).into_iter().chain(others)
    }
}

impl ChunkPlace {
    fn resolve(&self, id: ChunkId, blocks: &[BlockRef]) -> Option<ChunkRef> {
        let block = *blocks.get(self.block as usize)?;
        Some(ChunkRef { id, len: self.len, offset: self.offset, block })
    }
}

impl Chunks {
    pub(crate) fn set_head(&self, index: Arc<ChunkIndex>) {
        *lock(&self.head) = Some(index);
    }

    pub(crate) fn head(&self) -> Option<Arc<ChunkIndex>> {
        lock(&self.head).clone()
    }

    /// Whether the caller has to send this chunk of `len` bytes, because no one else has sent or claimed it.
    /// A small chunk may be sent more than once, if the caller passes the number of files before it as
    /// `after`.
    pub(crate) fn claim(
        &self,
        head: Option<&ChunkIndex>,
        id: ChunkId,
        len: usize,
        after: Option<u32>,
    ) -> bool {
        if head.is_some_and(|h| h.may_hold(&id)) {
            return false;
        }
        let after = after.filter(|_| len <= SMALL).unwrap_or(NONE);
        match self.part(&id).chunks.entry(id) {
            Entry::Occupied(mut claim) => {
                let last = claim.get().after;
                // Files that come before the last claim but are read later use that position.
                let again = last != NONE && after != NONE && after.saturating_sub(last) > FAR;
                if again {
                    claim.get_mut().after = after;
                }
                again
            }
            Entry::Vacant(free) => {
                free.insert(Claim { after, place: NOWHERE });
                true
            }
        }
    }

    /// Returns the position of a chunk that this push sent.
    pub(crate) fn sent(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.sent_near(id, &mut 0)
    }

    /// Returns the position of a chunk that this push sent. If it has several, returns the one nearest to the
    /// block `near`, which is set to the block returned.
    pub(crate) fn sent_near(&self, id: &ChunkId, near: &mut u32) -> Option<ChunkRef> {
        let part = self.part(id);
        let place = part.places(id).min_by_key(|p| p.block.abs_diff(*near))?;
        *near = place.block;
        place.resolve(*id, &lock(&self.blocks))
    }

    /// Returns the position of a chunk in a pack for which `counts` is true.
    pub(crate) fn sent_in(&self, id: &ChunkId, counts: impl Fn(&PackId) -> bool) -> Option<ChunkRef> {
        let part = self.part(id);
        let blocks = lock(&self.blocks);
        part.places(id)
            .filter_map(|place| place.resolve(*id, &blocks))
            .find(|found| counts(&found.block.pack))
    }

    /// Whether a tree may refer to a chunk: the head has it, or this push has sent it.
    pub(crate) fn holds(&self, head: Option<&ChunkIndex>, id: &ChunkId) -> bool {
        self.sent(id).is_some() || head.is_some_and(|h| h.may_hold(id))
    }

    /// Forgets the chunks in packs for which `counts` is false, and those without a position.
    pub(crate) fn keep_only(&self, counts: impl Fn(&PackId) -> bool) {
        let kept: Vec<bool> = lock(&self.blocks).iter().map(|block| counts(&block.pack)).collect();
        let is_kept = |place: &ChunkPlace| kept.get(place.block as usize).is_some_and(|kept| *kept);
        for part in &self.claimed {
            let Claimed { chunks, others } = &mut *lock(part);
            others.retain(|_, places| {
                places.retain(is_kept);
                !places.is_empty()
            });
            chunks.retain(|id, claim| {
                if !is_kept(&claim.place) {
                    claim.place = others.get_mut(id).and_then(Vec::pop).unwrap_or(NOWHERE);
                }
                claim.place.block != NONE
            });
        }
    }

    /// Notes the position of a block in a pack.
    pub(crate) fn place(&self, block: BlockRef, chunks: &[(ChunkId, u32)]) {
        let block = {
            let mut blocks = lock(&self.blocks);
            blocks.push(block);
            u32::try_from(blocks.len() - 1).unwrap_or(NONE)
        };
        let mut offset = 0;
        for (id, len) in chunks {
            let place = ChunkPlace { block, offset, len: *len };
            offset += len;
            let mut part = self.part(id);
            let claim = part.chunks.entry(*id).or_insert(Claim { after: NONE, place: NOWHERE });
            if claim.place.block == NONE {
                claim.place = place;
            } else {
                part.others.entry(*id).or_default().push(place);
            }
        }
    }

    fn part(&self, id: &ChunkId) -> MutexGuard<'_, Claimed> {
        lock(&self.claimed[usize::from(id.0[0]) % PARTS])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Codec;

    const ID: ChunkId = ChunkId([7; 32]);
    const SHORT: usize = 100;

    fn block(pack: u8, offset: u32) -> BlockRef {
        BlockRef { pack: PackId([pack; 16]), offset, stored_len: 10, raw_len: 300, codec: Codec::Stored }
    }

    /// Notes a block in which another chunk of 50 bytes precedes this one.
    fn place(chunks: &Chunks, block: BlockRef) {
        chunks.place(block, &[(ChunkId([8; 32]), 50), (ID, SHORT as u32)]);
    }

    #[test]
    fn a_small_chunk_is_sent_again_far_away_only() {
        let chunks = Chunks::default();
        let claim = |len, after| chunks.claim(None, ID, len, after);
        assert!(claim(SHORT, Some(10)));
        assert!(!claim(SHORT, Some(10)) && !claim(SHORT, Some(10 + FAR)) && !claim(SHORT, None));
        assert!(claim(SHORT, Some(11 + FAR)));
        assert!(!claim(SHORT, Some(11 + FAR)) && !claim(SHORT, Some(10 + 2 * FAR)));
        assert!(claim(SHORT, Some(9 * FAR)));
        assert!(!claim(SHORT, Some(0)) && !claim(SHORT, Some(9 * FAR)));
        let chunks = Chunks::default();
        assert!(
            chunks.claim(None, ID, SMALL + 1, Some(0)) && !chunks.claim(None, ID, SMALL + 1, Some(9 * FAR))
        );
    }

    #[test]
    fn what_an_earlier_upload_sent_is_not_sent_again() {
        let chunks = Chunks::default();
        place(&chunks, block(1, 0));
        assert!(!chunks.claim(None, ID, SHORT, Some(9 * FAR)));
    }

    #[test]
    fn the_nearest_of_several_places_is_found() {
        let chunks = Chunks::default();
        assert_eq!(chunks.sent(&ID), None);
        assert!(chunks.claim(None, ID, SHORT, Some(0)));
        assert_eq!(chunks.sent(&ID), None);
        let blocks = [block(1, 0), block(1, 10), block(2, 0)];
        blocks.into_iter().for_each(|block| place(&chunks, block));
        let found = |near: u32| chunks.sent_near(&ID, &mut { near }).unwrap();
        assert_eq!([0, 1, 2, 3].map(|near| found(near).block), [blocks[0], blocks[1], blocks[2], blocks[2]]);
        assert_eq!((found(0).len, found(0).offset), (SHORT as u32, 50));
        let in_pack = |n| chunks.sent_in(&ID, |pack| *pack == PackId([n; 16])).map(|found| found.block);
        assert_eq!([1, 2, 3].map(in_pack), [Some(blocks[0]), Some(blocks[2]), None]);
        let mut near = 3;
        chunks.sent_near(&ID, &mut near);
        assert_eq!(near, 2);
    }

    #[test]
    fn only_packs_that_count_are_kept() {
        let chunks = Chunks::default();
        let pack = |n| move |id: &PackId| *id == PackId([n; 16]);
        [block(1, 0), block(2, 0), block(3, 0)].into_iter().for_each(|block| place(&chunks, block));
        chunks.keep_only(|id| !pack(1)(id));
        let packs = |near| chunks.sent_near(&ID, &mut { near }).map(|found| found.block.pack.0[0]);
        assert_eq!([packs(0), packs(9)], [Some(2), Some(3)]);
        chunks.keep_only(pack(3));
        assert_eq!([packs(0), packs(9)], [Some(3), Some(3)]);
        assert!(!chunks.claim(None, ID, SHORT, None));
        chunks.keep_only(pack(1));
        assert_eq!(chunks.sent(&ID), None);
        assert!(chunks.claim(None, ID, SHORT, None));
    }
}
