//! Shared test fixtures: reproducible bytes and small trees.

use policy_core::{Digest, Entry, Node, Timestamp, TreePath};

use super::{BlockRef, ChunkId, ChunkRef, Codec, PackId, TreeEntry};

/// SplitMix64 (Steele, Lea, Flood 2014). The golden tests depend on these exact numbers.
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// Words in lines, similar to text.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "the ", "context ", "of ", "a ", "session ", "is ", "kept ", "in ", "store ", "\n", "fn ", "{ ",
        "} ", "let ", "return ", "    ",
    ];
    let mut random = SplitMix(seed);
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        out.extend_from_slice(WORDS[(random.next() % 16) as usize].as_bytes());
    }
    out.truncate(len);
    out
}

pub(crate) fn path(s: &str) -> TreePath {
    s.parse().unwrap()
}

pub(crate) fn time(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 123_456_789 }
}

pub(crate) fn block(pack: u8, offset: u32) -> BlockRef {
    BlockRef { pack: PackId([pack; 16]), offset, stored_len: 100, raw_len: 400, codec: Codec::Zstd }
}

pub(crate) fn chunk(name: &str, offset: u32, len: u32, block: BlockRef) -> ChunkRef {
    ChunkRef { id: ChunkId::of(name.as_bytes()), len, offset, block }
}

pub(crate) fn file(at: &str, chunks: Vec<ChunkRef>) -> TreeEntry {
    TreeEntry::file(path(at), 0o644, time(1_700_000_000), 1_700_000_100, chunks)
}

pub(crate) fn dir(at: &str, mode: u16) -> TreeEntry {
    TreeEntry::bare(path(at), Entry { node: Node::Dir, mode, mtime: time(1_600_000_000), uploaded: 0 })
}

pub(crate) fn symlink(at: &str, target: &str) -> TreeEntry {
    let node = Node::Symlink { target: target.as_bytes().into() };
    TreeEntry::bare(path(at), Entry { node, mode: 0o777, mtime: time(-5), uploaded: 7 })
}

pub(crate) fn recycled(at: &str, size: u64) -> TreeEntry {
    let node = Node::File { size, digest: Digest([9; 32]) };
    let entry = Entry { node, mode: 0o600, mtime: time(1), uploaded: 2 };
    TreeEntry { recycled: true, ..TreeEntry::bare(path(at), entry) }
}

/// A tree with one entry of each kind.
pub(crate) fn tree() -> Vec<TreeEntry> {
    let mut archive = file("src/a.zip", vec![chunk("a.zip", 0, 400, block(2, 0))]);
    archive.extracted = true;
    let stored = BlockRef { codec: Codec::Stored, stored_len: 5000, raw_len: 5000, ..block(2, 100) };
    vec![
        file(".gitignore", vec![chunk("ignore", 0, 10, block(1, 0))]),
        file("empty", vec![]),
        dir("logs", 0o755),
        symlink("main", "src/main.rs"),
        recycled("old.bin", i64::MAX as u64),
        dir("private", 0o700),
        file("private/key", vec![chunk("key", 10, 90, block(1, 0))]),
        archive,
        file("src/big", vec![chunk("b1", 0, 5000, stored), chunk("b2", 100, 300, block(1, 0))]),
        file("src/copy", vec![chunk("key", 10, 90, block(1, 0))]),
        file("src-b", vec![chunk("last", 0, 1, block(3, 77))]),
    ]
}
