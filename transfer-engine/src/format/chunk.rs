//! Where a file is cut, and what its pieces are called.

use std::fmt;

use fastcdc::v2020::{FastCDC, Normalization};
use policy_core::Digest;
use sha2::{Digest as _, Sha256};

/// The shortest chunk, in bytes, unless its file ends: 256 KiB.
pub const CHUNK_MIN: usize = 256 << 10;
/// The length around which chunks gather, in bytes: 1 MiB.
pub const CHUNK_AVG: usize = 1 << 20;
/// The longest chunk, in bytes: 4 MiB.
pub const CHUNK_MAX: usize = 4 << 20;

/// The name of a chunk: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// Returns the id of the chunk that consists of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(self.0).fmt(f)
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Digest(self.0).fmt(f)
    }
}

/// Returns the length of the first chunk of `buf`, or `None` where more bytes are needed to tell.
///
/// `buf` is what is left of a file, or its next bytes; `end_of_file` says which. A cut looks at no more than
/// [`CHUNK_MAX`] bytes, and is made only when these or the rest of the file are there, so it does not depend
/// on how the file is read. An empty file has no chunks: `None` at its end.
///
/// The cut points are FastCDC's (Xia et al. 2020), with normalization level 1, as in the crate `fastcdc`.
pub fn cut(buf: &[u8], end_of_file: bool) -> Option<usize> {
    if buf.is_empty() || (buf.len() < CHUNK_MAX && !end_of_file) {
        return None;
    }
    let window = &buf[..buf.len().min(CHUNK_MAX)];
    let chunker = FastCDC::with_level(window, CHUNK_MIN, CHUNK_AVG, CHUNK_MAX, Normalization::Level1);
    let (_, len) = chunker.cut(0, window.len());
    Some(len)
}

/// Returns the digest of a file that consists of `chunks`, given with their lengths in bytes.
///
/// It is the SHA-256 of each chunk's id followed by its length (4 bytes, little-endian). Files with equal
/// bytes have equal chunks and so equal digests, and no byte of a file is hashed twice.
pub fn file_digest(chunks: impl IntoIterator<Item = (ChunkId, u32)>) -> Digest {
    let mut chunks = chunks.into_iter();
    let mut hasher = Sha256::new();
    // Nearly every file is one chunk: hash it in one go.
    let mut record = [0; 36];
    for (id, len) in &mut chunks {
        record[..32].copy_from_slice(&id.0);
        record[32..].copy_from_slice(&len.to_le_bytes());
        hasher.update(record);
    }
    Digest(hasher.finalize().into())
}
