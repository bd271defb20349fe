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
    let mut hasher = Sha256::new();
    let mut record = [0; 36];
    for (id, len) in chunks {
        record[..32].copy_from_slice(&id.0);
        record[32..].copy_from_slice(&len.to_le_bytes());
        hasher.update(record);
    }
    Digest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{SplitMix, text};
    use super::*;

    fn lens(data: &[u8]) -> Vec<usize> {
        let mut rest = data;
        let mut lens = Vec::new();
        while let Some(len) = cut(rest, true) {
            lens.push(len);
            rest = &rest[len..];
        }
        lens
    }

    /// Changed cut points would be no error that anyone sees: only every file stored once more.
    #[test]
    fn golden_cut_points() {
        insta::assert_compact_debug_snapshot!(lens(&SplitMix(1).bytes(16 << 20)), @"[278755, 827435, 1633517, 1252205, 593103, 2103531, 805973, 1202200, 1619404, 1993092, 1534877, 1163367, 1263286, 506471]");
        insta::assert_compact_debug_snapshot!(lens(&text(1, 8 << 20)), @"[375146, 1674352, 674170, 1177258, 545531, 1350360, 1292453, 720068, 279178, 300092]");
        assert_eq!(lens(&vec![0; 9 << 20]), [CHUNK_MAX, CHUNK_MAX, 1 << 20]);
    }

    /// The words of `docs/format.md`, without the pairs of bytes by which the crate goes faster.
    #[test]
    fn cuts_as_the_format_says() {
        let (gear, _) = fastcdc::v2020::get_gear_with_seed(0);
        let slow = |left: &[u8]| {
            let end = left.len().min(CHUNK_MAX);
            let mut hash = 0u64;
            for at in CHUNK_MIN..end & !1 {
                hash = (hash << 1).wrapping_add(gear[left[at] as usize]);
                let mask = if at < CHUNK_AVG { 0x0000_d917_6753_7000 } else { 0x0000_d917_0753_7000 };
                if hash & mask == 0 {
                    return at;
                }
            }
            end
        };
        for seed in 0..4 {
            let mut data = &SplitMix(seed).bytes((6 << 20) + seed as usize)[..];
            while let Some(len) = cut(data, true) {
                assert_eq!(len, slow(data));
                data = &data[len..];
            }
        }
    }

    #[test]
    fn golden_file_digest() {
        let chunks = [(ChunkId::of(b"a"), 1), (ChunkId::of(b"bc"), 2)];
        insta::assert_snapshot!(file_digest(chunks).to_string(), @"e8d561db4c837aaea9e61e9cc607ccef6e4f3b57c9992b0689f3b8d0ee82f14f");
        assert_eq!(file_digest([]).to_string(), ChunkId::of(b"").to_string());
    }

    #[test]
    fn short_files_are_one_chunk_or_none() {
        assert_eq!(cut(&[], true), None);
        assert_eq!(cut(&[], false), None);
        assert_eq!(cut(&[7], true), Some(1));
        assert_eq!(cut(&[7], false), None);
        assert_eq!(lens(&SplitMix(2).bytes(CHUNK_MIN)), [CHUNK_MIN]);
        assert_eq!(cut(&vec![0; CHUNK_MAX - 1], false), None);
        assert_eq!(cut(&vec![0; CHUNK_MAX], false), Some(CHUNK_MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn cuts_do_not_depend_on_how_a_file_is_read(
            seed in any::<u64>(),
            len in 0..(12usize << 20),
            reads in proptest::collection::vec(1..(6usize << 20), 1..8),
        ) {
            let data = if seed % 2 == 0 { SplitMix(seed).bytes(len) } else { text(seed, len) };
            let (mut buf, mut at, mut cuts) = (Vec::new(), 0, Vec::new());
            for read in reads.iter().cycle() {
                let end = (at + read).min(len);
                buf.extend_from_slice(&data[at..end]);
                at = end;
                while let Some(n) = cut(&buf, at == len) {
                    cuts.push(n);
                    buf.drain(..n);
                }
                if at == len {
                    break;
                }
            }
            prop_assert_eq!(cuts.iter().sum::<usize>(), len);
            prop_assert!(cuts.iter().all(|n| (1..=CHUNK_MAX).contains(n)));
            prop_assert_eq!(cuts, lens(&data));
        }
    }
}
