//! Copies of chunks that lie where a new snapshot may not look for them.

use std::io;

use bytes::Bytes;

use super::packs::PackSink;
use crate::error::Error;
use crate::format::{BlockBuilder, ChunkId, ChunkRef, FILE_MODE_TARGET, SealedBlock};

impl PackSink {
    /// Returns where a chunk lies among what was sent; one that was not is read where it is, and sent.
    pub(crate) async fn copy(&mut self, chunk: &ChunkRef) -> Result<ChunkRef, Error> {
        if let Some(sent) = self.sent(&chunk.id) {
            return Ok(sent);
        }
        let bytes = self.store().chunk(chunk).await?;
        let id = chunk.id;
        let sealed = self.store().env().blocking(move || seal(vec![(id, bytes)])).await;
        let sealed = sealed.map_err(|e| Error::local("compress", "a chunk", io::Error::from(e)))?;
        for block in sealed {
            self.add_block(block).await?;
        }
        let what = || "a chunk was sent nowhere".to_owned();
        self.sent(&id).ok_or_else(|| Error::Corrupt { key: id.to_string(), what: what() })
    }
}

/// Copies chunks out of a buffer of which they are only a part: one that is stored as it is would keep all of it for
/// as long as its pack is under way, and `memory` would count the chunk alone.
pub(crate) fn detach(chunks: Vec<(ChunkId, Bytes)>) -> Vec<(ChunkId, Bytes)> {
    chunks.into_iter().map(|(id, bytes)| (id, Bytes::copy_from_slice(&bytes))).collect()
}

/// Puts chunks into blocks: each long one is one of its own.
pub(crate) fn seal(chunks: Vec<(ChunkId, Bytes)>) -> Vec<SealedBlock> {
    let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
    let mut sealed = Vec::new();
    for (id, bytes) in chunks {
        if !builder.takes(bytes.len()) {
            sealed.extend(builder.finish());
        }
        // A chunk is never empty, and `takes` has said that there is room.
        let pushed = builder.push(id, bytes);
        debug_assert!(pushed.is_ok(), "{pushed:?}");
        if builder.is_full() {
            sealed.extend(builder.finish());
        }
    }
    sealed.extend(builder.finish());
    sealed
}
