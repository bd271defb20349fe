//! The set of needed packs: 16 bytes for each, however often it is named.

use crate::format::PackId;

/// A set of packs, which is sorted when it is queried.
#[derive(Debug, Default)]
pub(super) struct PackSet {
    ids: Vec<PackId>,
    /// How many ids at the start are sorted and unique.
    sorted: usize,
    /// Which of them were met, after the first query.
    met: Vec<bool>,
}

/// How many ids are added before they are sorted.
const SLACK: usize = 4096;

impl PackSet {
    pub(super) fn extend(&mut self, ids: impl IntoIterator<Item = PackId>) {
        self.ids.extend(ids);
        // Snapshots name mostly the same packs. Together they must take at most twice the memory of one.
        if self.ids.len() > 2 * self.sorted + SLACK {
            self.sort();
        }
    }

    pub(super) fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.sorted = self.ids.len();
    }

    pub(super) fn into_ids(self) -> Vec<PackId> {
        self.ids
    }

    /// Whether the set, which must be sorted, contains a pack; notes that it was met.
    pub(super) fn meet(&mut self, id: &PackId) -> bool {
        debug_assert_eq!(self.sorted, self.ids.len());
        self.met.resize(self.ids.len(), false);
        let found = self.ids.binary_search(id);
        if let Ok(at) = found {
            self.met[at] = true;
        }
        found.is_ok()
    }

    /// Returns the packs that were not met.
    pub(super) fn not_met(&self) -> impl Iterator<Item = PackId> {
        let met = self.met.iter().copied().chain(std::iter::repeat(false));
        self.ids.iter().zip(met).filter(|(_, met)| !met).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pack_takes_its_place_once() {
        let id = |n: u32| PackId(u128::from(n.reverse_bits()).to_le_bytes());
        let mut set = PackSet::default();
        for _ in 0..100 {
            set.extend((0..1000).map(id));
            assert!(set.ids.len() <= 2 * 1000 + SLACK);
        }
        set.sort();
        assert_eq!(set.ids.len(), 1000);
        assert_eq!(set.not_met().count(), 1000);
        assert!((1..1000).all(|n| set.meet(&id(n))) && !set.meet(&id(1000)));
        assert_eq!(set.not_met().collect::<Vec<_>>(), [id(0)]);
    }
}
