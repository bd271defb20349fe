//! Where the new segments of a merge go, and the packs that it takes over.

use std::collections::HashMap;

use bytes::Bytes;
use policy_core::Digest;

use crate::error::Error;
use crate::forks::Source;
use crate::format::{ChunkRef, PackId};
use crate::packing::PackSink;
use crate::tree::{PutPack, SegmentSink};

/// A sink that also knows the packs of the snapshot that is merged. Contents stay where they are.
pub(super) struct Taking {
    pub(super) own: PackSink,
    taken: HashMap<PackId, PutPack>,
}

impl Taking {
    pub(super) fn new(own: PackSink, source: &Source) -> Self {
        let taken = source.head.snapshot.packs.iter().map(|pack| {
            let (size, footer_len, land_by) = (pack.size, pack.footer_len, source.land_by);
            // Only a push asks when a pack has landed.
            (pack.id, PutPack { size, footer_len, landed: 0, land_by })
        });
        Self { own, taken: taken.collect() }
    }
}

impl SegmentSink for Taking {
    async fn add_segment(&mut self, bytes: Bytes, digest: Digest) -> Result<(PackId, u32), Error> {
        self.own.add_segment(bytes, digest).await
    }

    async fn copy(&mut self, chunk: &ChunkRef) -> Result<ChunkRef, Error> {
        self.own.copy(chunk).await
    }

    fn segment_len(&self, digest: &Digest) -> u32 {
        self.own.segment_len(digest)
    }

    fn put(&self, id: &PackId) -> Option<&PutPack> {
        self.own.put(id).or_else(|| self.taken.get(id))
    }
}
