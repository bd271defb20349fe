//! What a recording layer counts and notes.

use std::ops::Sub;

use object_store::path::Path;

use super::Operation;

/// How many requests of each kind were begun, and how many bytes they moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Puts of whole objects.
    pub puts: u64,
    /// Reads of objects or ranges.
    pub gets: u64,
    /// Questions for size and time.
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Deletions, each of up to 1000 keys.
    pub deletes: u64,
    /// Copies inside the store.
    pub copies: u64,
    /// Requests of uploads in parts.
    pub parts: u64,
    /// Keys that were to be deleted.
    pub deleted_keys: u64,
    /// Bytes of objects sent, in requests that were begun.
    pub bytes_sent: u64,
    /// Bytes of objects that answers promised.
    pub bytes_received: u64,
}

impl Counts {
    /// Returns the number of requests.
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.heads + self.lists + self.deletes + self.copies + self.parts
    }
}

impl Sub for Counts {
    type Output = Self;

    /// Returns what happened between an earlier snapshot, on the right, and a later one.
    fn sub(self, earlier: Self) -> Self {
        Self {
            puts: self.puts - earlier.puts,
            gets: self.gets - earlier.gets,
            heads: self.heads - earlier.heads,
            lists: self.lists - earlier.lists,
            deletes: self.deletes - earlier.deletes,
            copies: self.copies - earlier.copies,
            parts: self.parts - earlier.parts,
            deleted_keys: self.deleted_keys - earlier.deleted_keys,
            bytes_sent: self.bytes_sent - earlier.bytes_sent,
            bytes_received: self.bytes_received - earlier.bytes_received,
        }
    }
}

/// One request. A deletion of many keys is noted once for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// What was asked for.
    pub operation: Operation,
    /// The object, or the prefix of a listing.
    pub key: Path,
    /// Whether it was a put of an object that must not exist yet.
    pub create: bool,
    /// Bytes of the object that were sent or promised.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not ended, or whoever waited for it gave up.
    Pending,
    /// It was answered.
    Done,
    /// It failed.
    Failed,
}
