//! Where a new tree puts segments that are not embedded in the snapshot.

use bytes::Bytes;
use policy_core::Digest;

use crate::error::Error;
use crate::format::{ChunkRef, PackId};

/// A pack that is in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PutPack {
    pub(crate) size: u64,
    pub(crate) footer_len: u32,
    /// When it landed, by the store's clock, in seconds since 1970.
    pub(crate) landed: i64,
    /// The time, by the store's clock, by which a snapshot that refers to it must land.
    pub(crate) land_by: i64,
}

/// Receives the segments of a new tree, and knows the packs that they are put into. Making a tree needs
/// nothing else, so it does not depend on how packs are filled and sent.
pub(crate) trait SegmentSink {
    /// Takes a segment; returns its pack and its offset there.
    fn add_segment(
        &mut self,
        bytes: Bytes,
        digest: Digest,
    ) -> impl Future<Output = Result<(PackId, u32), Error>> + Send;

    /// Copies a chunk to which the new tree may not refer where it is; returns the copy's position. The same
    /// chunk is copied only once.
    fn copy(&mut self, chunk: &ChunkRef) -> impl Future<Output = Result<ChunkRef, Error>> + Send;

    /// Returns the length of a stored segment, in bytes; 0 for one that was not added here.
    fn segment_len(&self, digest: &Digest) -> u32;

    /// Returns the facts about a pack that was put.
    fn put(&self, id: &PackId) -> Option<&PutPack>;
}
