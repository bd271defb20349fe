//! Makes blocks of chunks that are in memory.

use bytes::Bytes;

use crate::format::{BlockBuilder, ChunkId, Codec, FILE_MODE_TARGET, SealedBlock};

/// Copies blocks out of the buffer of `read` bytes if they are only a part of it. An uncompressed block of
/// one chunk would keep the whole buffer until its pack is sent, while `memory` counts only the chunk.
pub(crate) fn detach(mut blocks: Vec<SealedBlock>, read: u64) -> Vec<SealedBlock> {
    // A block of several chunks, or a compressed one, has memory of its own.
    let keeps = |block: &SealedBlock| block.codec == Codec::Stored && block.chunks.len() == 1;
    let kept: u64 = blocks.iter().filter(|block| keeps(block)).map(|block| block.bytes.len() as u64).sum();
    if kept < read {
        for block in blocks.iter_mut().filter(|block| keeps(block)) {
            block.bytes = Bytes::copy_from_slice(&block.bytes);
        }
    }
    blocks
}

/// Puts chunks into blocks; each long chunk gets its own.
pub(crate) fn seal(chunks: Vec<(ChunkId, Bytes)>) -> Vec<SealedBlock> {
    let mut builder = BlockBuilder::new(FILE_MODE_TARGET);
    let mut sealed = Vec::new();
    for (id, bytes) in chunks {
        if !builder.takes(bytes.len()) {
            sealed.extend(builder.finish());
        }
        // A chunk is never empty, and `takes` said that there is room.
        let pushed = builder.push(id, bytes);
        debug_assert!(pushed.is_ok(), "{pushed:?}");
        if builder.is_full() {
            sealed.extend(builder.finish());
        }
    }
    sealed.extend(builder.finish());
    sealed
}
