//! The names that an archive has used.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// The kind of a member, for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    Dir,
    File,
    Link,
}

/// A set of names. It keeps a keyed hash of 8 bytes for each name, so that a million members fit in 20 MB.
/// Two of a million names collide once in 30 million archives; that archive is refused.
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

    /// Notes `path` as `what`; false if it was noted before.
    pub(super) fn note(&mut self, path: &[u8], what: What) -> bool {
        self.hashes.insert(self.hash(path, what))
    }
}
