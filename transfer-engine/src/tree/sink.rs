//! Where a new tree puts what its snapshot does not hold itself.

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
    /// The store time by which a snapshot that refers to it must have landed.
    pub(crate) land_by: i64,
}

/// Takes the segments of a new tree, and knows the packs that they went into. A tree asks for nothing else, so
/// that it can be made without knowing how packs are filled and sent.
pub(crate) trait SegmentSink {
    /// Takes a segment; returns its pack and its offset there.
    fn add_segment(
        &mut self,
        bytes: Bytes,
        digest: Digest,
    ) -> impl Future<Output = Result<(PackId, u32), Error>> + Send;

    /// Copies a chunk that the new tree may not refer to where it is; returns the copy's place. The same chunk
    /// is copied once.
    fn copy(&mut self, chunk: &ChunkRef) -> impl Future<Output = Result<ChunkRef, Error>> + Send;

    /// Returns the length under which a segment was stored; 0 for one that was not added here.
    fn segment_len(&self, digest: &Digest) -> u32;

    /// Returns what is known of a pack that was put.
    fn put(&self, id: &PackId) -> Option<&PutPack>;
}
