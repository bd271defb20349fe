//! Blocks of chunks that are in memory already.

use bytes::Bytes;

use crate::format::{BlockBuilder, ChunkId, Codec, FILE_MODE_TARGET, SealedBlock};

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
