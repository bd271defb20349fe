//! The entries of a tree in the store.

use policy_core::{Timestamp, TreePath};
use transfer_engine::format::{
    BlockRef, ChunkId, ChunkRef, Codec, FILE_MODE_TARGET, PackId, PackUse, TreeEntry,
};

use crate::Random;

/// Blocks of a pack of 32 MiB; a block has 256 KiB before it is compressed.
const BLOCKS_PER_PACK: u32 = 512;
const STORED_LEN: u32 = 60 << 10;

/// Returns a file of one chunk for each of `paths`. Their chunks follow each other in blocks and packs, as
/// after a first push.
pub fn entries(paths: &[TreePath]) -> Vec<TreeEntry> {
    let mut random = Random::new(4);
    let mut pack = PackId(random.array());
    let (mut block, mut offset) = (0, 0);
    let mut entries = Vec::with_capacity(paths.len());
    for path in paths {
        let len = random.file_size() as u32;
        if offset + len > FILE_MODE_TARGET as u32 {
            (block, offset) = (block + 1, 0);
        }
        if block == BLOCKS_PER_PACK {
            (pack, block) = (PackId(random.array()), 0);
        }
        let place = BlockRef {
            pack,
            offset: block * STORED_LEN,
            stored_len: STORED_LEN,
            raw_len: FILE_MODE_TARGET as u32,
            codec: Codec::Zstd,
        };
        let chunk = ChunkRef { id: ChunkId(random.array()), len, offset, block: place };
        let mtime = Timestamp {
            secs: 1_700_000_000 + random.below(1_000_000) as i64,
            nanos: random.below(1_000_000_000) as u32,
        };
        entries.push(TreeEntry::file(path.clone(), 0o644, mtime, 1_710_000_000, vec![chunk]));
        offset += len;
    }
    entries
}

/// Returns `count` packs as they are listed in a snapshot.
pub fn pack_uses(count: usize) -> Vec<PackUse> {
    let mut random = Random::new(5);
    let pack = |random: &mut Random| PackUse {
        id: PackId(random.array()),
        size: 33 << 20,
        footer_len: 1 << 20,
        live: (16 << 20) + random.below(16 << 20),
        land_by: None,
    };
    (0..count).map(|_| pack(&mut random)).collect()
}
