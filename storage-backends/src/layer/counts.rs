//! Counts and notes of a recording layer.

use std::ops::Sub;

use object_store::path::Path;

use super::Operation;

/// How many requests of each kind were sent, and how many bytes they moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Puts of whole objects.
    pub puts: u64,
    /// Reads of objects or ranges.
    pub gets: u64,
    /// Requests for an object's size and time.
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Deletions, each of up to 1000 keys.
    pub deletes: u64,
    /// Copies inside the store.
    pub copies: u64,
    /// Requests of uploads in parts.
    pub parts: u64,
    /// Keys to be deleted.
    pub deleted_keys: u64,
    /// Bytes of objects in all requests that began to be sent.
    pub bytes_sent: u64,
    /// Bytes of objects that answers announced.
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

    /// Returns the difference between later counts, on the left, and earlier ones, on the right.
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
    /// The kind of request.
    pub operation: Operation,
    /// The object, or the prefix of a listing.
    pub key: Path,
    /// Whether it was a put with the condition that the object does not exist yet.
    pub create: bool,
    /// Bytes of the object that were sent or announced.
    pub bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request has not ended, or the caller gave it up.
    Pending,
    /// The request was answered.
    Done,
    /// The request failed.
    Failed,
}
