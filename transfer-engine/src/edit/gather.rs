//! Moves scattered data: the chunks of a tree in many small packs, or in mostly dead packs, are sent again in
//! few packs.

use std::collections::{BTreeSet, HashSet};

use super::{Edit, Rewrite};
use crate::error::Error;
use crate::format::{PackId, PackUse, SegmentRef, Snapshot, TreeEntry};
use crate::options::Gathering;
use crate::packing::{Added, chunks_in, send_again};
use crate::tree::Tree;

/// A pack is mostly dead if less than one in this many of its bytes is used.
const DEAD: u64 = 4;
/// The most used bytes of packs whose chunks are in one list in memory.
const MOST_AT_ONCE: u64 = 256 << 20;
/// How many ranges of packs are read ahead.
const AHEAD: usize = 2;

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

/// Splits packs that a snapshot needs into groups whose chunks can be in one list in memory.
pub(super) fn groups(packs: &BTreeSet<PackId>, snapshot: &Snapshot) -> Vec<BTreeSet<PackId>> {
    let uses: Vec<&PackUse> = snapshot.packs.iter().filter(|pack| packs.contains(&pack.id)).collect();
    let (mut groups, mut rest) = (Vec::new(), uses.as_slice());
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|pack| {
            bytes += pack.live;
            bytes <= MOST_AT_ONCE
        });
        let (some, after) = rest.split_at(fits.count().max(1));
        rest = after;
        groups.push(some.iter().map(|pack| pack.id).collect());
    }
    groups
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
        let mut free = BTreeSet::new();
        for some in groups(&packs, tree.snapshot) {
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
        let needs = chunks_in(packs, tree, &self.chunks, stays).await?;
        match send_again(self.store, needs, AHEAD, &mut self.sink).await? {
            Added::Taken => Ok(()),
            Added::TooLate => Err(Error::OutOfTime { name: self.name.clone() }),
        }
    }
}
