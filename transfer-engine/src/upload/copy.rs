//! Copies of chunks that lie where a new snapshot may not look for them.

use std::io;

use bytes::Bytes;

use super::packs::PackSink;
use crate::error::Error;
use crate::format::{BlockBuilder, ChunkId, ChunkRef, Codec, FILE_MODE_TARGET, SealedBlock};

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

/// Copies blocks out of the `read` bytes that they are only a part of. A chunk that is stored as it is would keep all
/// of those for as long as its pack is under way, and `memory` would count the chunk alone.
pub(crate) fn detach(mut blocks: Vec<SealedBlock>, read: u64) -> Vec<SealedBlock> {
    // What is made of several chunks has bytes of its own.
    let keeps = |block: &SealedBlock| block.codec == Codec::Stored && block.chunks.len() == 1;
    let kept: u64 = blocks.iter().filter(|block| keeps(block)).map(|block| block.bytes.len() as u64).sum();
    if kept < read {
        for block in blocks.iter_mut().filter(|block| keeps(block)) {
            block.bytes = Bytes::copy_from_slice(&block.bytes);
        }
    }
    blocks
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
