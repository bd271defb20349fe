//! Where a file is cut into chunks, and the ids of chunks.

use std::fmt;
use std::sync::LazyLock;

use policy_core::Digest;
use sha2::{Digest as _, Sha256};

/// The shortest chunk, in bytes, unless its file ends: 256 KiB.
pub const CHUNK_MIN: usize = 256 << 10;
/// The average length of a chunk, in bytes: 1 MiB.
pub const CHUNK_AVG: usize = 1 << 20;
/// The longest chunk, in bytes: 4 MiB.
pub const CHUNK_MAX: usize = 4 << 20;

/// The id of a chunk: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// Returns the id of the chunk that consists of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// The chunk that long runs of zeros are cut into: [`CHUNK_MAX`] zeros, which contain no cut point.
pub(crate) static ZEROS: LazyLock<ChunkId> = LazyLock::new(|| ChunkId::of(&vec![0; CHUNK_MAX]));

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

/// The bits of the hash that are all zero at a cut, while the chunk is shorter than the average.
const MASK_SHORT: u64 = 0x0000_d917_6753_7000;
/// The same bits for a longer chunk.
const MASK_LONG: u64 = 0x0000_d917_0753_7000;
/// The number that each byte adds to the hash.
static GEAR: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut gear = [0; 256];
    gear.iter_mut().zip(fastcdc::v2020::get_gear_with_seed(0).0.iter()).for_each(|(to, from)| *to = *from);
    gear
});
/// The bytes of one of the four stretches that are hashed in parallel.
const STRETCH: usize = 4 << 10;
/// After this many more bytes, a byte no longer affects the bits that the masks test: they end at bit 47.
const MEMORY: usize = 64;

/// Returns the length of the first chunk of `buf`, or `None` if more bytes are needed to know it.
///
/// `buf` has the next bytes of a file; `end_of_file` says whether these are all that are left. The cut
/// depends only on the bytes before it, and on at most [`CHUNK_MAX`] bytes, so it does not depend on how the
/// file is read. An empty file has no chunks: `None` at its end.
///
/// The cut points are those of FastCDC (Xia et al. 2020) with normalization level 1, as in the crate
/// `fastcdc`, whose table this function uses.
pub fn cut(buf: &[u8], end_of_file: bool) -> Option<usize> {
    let window = &buf[..buf.len().min(CHUNK_MAX)];
    let is_whole = end_of_file || window.len() == CHUNK_MAX;
    find_cut(window).or_else(|| (is_whole && !window.is_empty()).then_some(window.len()))
}

/// Finds the first cut point after [`CHUNK_MIN`] bytes.
fn find_cut(window: &[u8]) -> Option<usize> {
    // Bytes are tested in pairs, as in the crate.
    let end = window.len() & !1;
    let gear = &*GEAR;
    let (mut at, mut hash) = (CHUNK_MIN, 0u64);
    for (until, mask) in [(end.min(CHUNK_AVG), MASK_SHORT), (end, MASK_LONG)] {
        while let Some(group) = window.get(at..at + 4 * STRETCH).filter(|g| at + g.len() <= until) {
            let Some(after) = side_by_side(group, hash, mask, gear) else { break };
            (at, hash) = (at + group.len(), after);
        }
        for (place, byte) in window.iter().enumerate().take(until).skip(at) {
            hash = step(hash, *byte, gear);
            if hash & mask == 0 {
                return Some(place);
            }
        }
        at = at.max(until);
    }
    None
}

fn step(hash: u64, byte: u8, gear: &[u64; 256]) -> u64 {
    (hash << 1).wrapping_add(gear[usize::from(byte)])
}

/// Returns the hash after a group of four stretches; `None` if there is a cut in one of them.
///
/// Each step of the hash depends on the step before, so hashing a single stretch leaves the processor idle
/// half of the time. A byte affects the hash only for a short while. So the hashes of the other three
/// stretches can start from zero, a few bytes before their stretch.
fn side_by_side(group: &[u8], hash: u64, mask: u64, gear: &[u64; 256]) -> Option<u64> {
    let (first, rest) = group.split_at(STRETCH);
    let (second, rest) = rest.split_at(STRETCH);
    let (third, fourth) = rest.split_at(STRETCH);
    let after = |before: &[u8]| before[STRETCH - MEMORY..].iter().fold(0, |hash, b| step(hash, *b, gear));
    let (mut a, mut b, mut c, mut d) = (hash, after(first), after(second), after(third));
    for (((w, x), y), z) in first.iter().zip(second).zip(third).zip(fourth) {
        (a, b, c, d) = (step(a, *w, gear), step(b, *x, gear), step(c, *y, gear), step(d, *z, gear));
        if a & mask == 0 || b & mask == 0 || c & mask == 0 || d & mask == 0 {
            return None;
        }
    }
    Some(d)
}

/// Returns the digest of a file that consists of `chunks`, each with its length in bytes.
///
/// It is the SHA-256 over each chunk's id and length (4 bytes, little-endian). Files with equal bytes have
/// equal chunks and so equal digests, and no byte of a file is hashed twice.
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

    /// Changed cut points would cause no visible error: every file would just be stored once more.
    #[test]
    fn golden_cut_points() {
        insta::assert_compact_debug_snapshot!(lens(&SplitMix(1).bytes(16 << 20)), @"[278755, 827435, 1633517, 1252205, 593103, 2103531, 805973, 1202200, 1619404, 1993092, 1534877, 1163367, 1263286, 506471]");
        insta::assert_compact_debug_snapshot!(lens(&text(1, 8 << 20)), @"[375146, 1674352, 674170, 1177258, 545531, 1350360, 1292453, 720068, 279178, 300092]");
        assert_eq!(lens(&vec![0; 9 << 20]), [CHUNK_MAX, CHUNK_MAX, 1 << 20]);
    }

    /// Cuts as `docs/format.md` describes it, without the crate's optimization for pairs of bytes.
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
                assert_eq!(len, crates(data));
                data = &data[len..];
            }
        }
    }

    fn crates(data: &[u8]) -> usize {
        let window = &data[..data.len().min(CHUNK_MAX)];
        let level = fastcdc::v2020::Normalization::Level1;
        let chunker = fastcdc::v2020::FastCDC::with_level(window, CHUNK_MIN, CHUNK_AVG, CHUNK_MAX, level);
        chunker.cut(0, window.len()).1
    }

    #[test]
    fn a_cut_is_found_as_soon_as_it_is_there_and_not_before() {
        let data = SplitMix(9).bytes(3 << 20);
        let len = cut(&data, false).unwrap();
        assert!(len < data.len() - 2);
        assert_eq!(cut(&data[..(len + 2) & !1], false), Some(len));
        assert_eq!(cut(&data[..len], false), None);
        assert_eq!(cut(&data[..len], true), Some(len));
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
            prop_assert_eq!(&cuts, &lens(&data));
            let mut rest = &data[..];
            for cut in cuts {
                prop_assert_eq!(cut, crates(rest));
                rest = &rest[cut..];
            }
        }
    }
}
