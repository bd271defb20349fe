//! Where the list of a tree's entries is cut into segments.

use super::{MAX_SEGMENT_ENTRIES, TreeEntry};
use policy_core::Node;

/// The average number of entries between cuts: a power of two.
const AVG_ENTRIES: u64 = 1024;
/// The estimated length, in bytes, at which a segment is cut in any case.
const FULL: usize = 1 << 20;

/// Decides by the paths where segments begin, so that a change in a tree rewrites few segments.
///
/// An entry begins a segment if its path hashes to a multiple of 1024, if the segment before it has
/// [`MAX_SEGMENT_ENTRIES`] entries, or if that segment would exceed an estimated MiB. Readers do not depend
/// on any of this.
#[derive(Debug, Default, Clone)]
pub struct SegmentCutter {
    entries: usize,
    estimate: usize,
}

impl SegmentCutter {
    /// Starts before the first entry of a tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry, and returns whether it begins a new segment. If so, the segment of the entries
    /// before it is complete. For the first entry of a tree the answer is false.
    pub fn begins_segment(&mut self, entry: &TreeEntry) -> bool {
        let estimate = estimate(entry);
        let cut = self.entries > 0
            && (hash(entry.path.as_bytes()).is_multiple_of(AVG_ENTRIES)
                || self.entries >= MAX_SEGMENT_ENTRIES
                || self.estimate + estimate > FULL);
        if cut {
            *self = Self::default();
        }
        self.entries += 1;
        self.estimate += estimate;
        cut
    }
}

/// Estimates how many bytes an entry takes, rather too many than too few.
fn estimate(entry: &TreeEntry) -> usize {
    let target = match &entry.entry.node {
        Node::Symlink { target } => target.len(),
        Node::File { .. } | Node::Dir => 0,
    };
    16 + entry.path.as_bytes().len() + target + 40 * entry.chunks.len()
}

/// FNV-1a with 64 bits, the upper half folded into the lower: the low bits alone depend on too little of the
/// path.
fn hash(path: &[u8]) -> u64 {
    let hash = path
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^ (hash >> 32)
}
