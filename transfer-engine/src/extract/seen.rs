//! Which names an archive has used.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// What a member is, as far as names go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    Dir,
    File,
    Link,
}

/// A set of names. It keeps 8 bytes of a keyed hash for each, so that a million members fit in 20 MB; that two
/// of a million hash alike happens once in 30 million archives, and refuses that one.
#[derive(Debug, Default)]
pub(super) struct Seen {
    keys: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    fn hash(&self, path: &[u8], what: What) -> u64 {
        self.keys.hash_one((path, what))
    }

    /// Whether `path` was noted as `what`.
    pub(super) fn has(&self, path: &[u8], what: What) -> bool {
        self.hashes.contains(&self.hash(path, what))
    }

    /// Notes it; false where it was before.
    pub(super) fn note(&mut self, path: &[u8], what: What) -> bool {
        self.hashes.insert(self.hash(path, what))
    }
}
