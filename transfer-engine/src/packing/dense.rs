//! Which chunks are not worth compressing: images, archives and the like.
//!
//! In a block with text, they would spoil the compressor's statistics, and be compressed for nothing.

/// The number of bytes to examine, from the middle of the chunk.
const SAMPLE: usize = 4 << 10;
/// With fewer bytes than this, the result would be unreliable, and little is lost.
const LEAST: usize = 512;

/// Whether the bytes of a chunk are distributed so evenly that an entropy code would save less than some 2%.
///
/// The measure is how often two bytes are equal: there are `n + n²/256` ordered pairs in random bytes, and
/// about `n + n²/20` in text. Repetitions are not searched for, because repeated random bytes in a short file
/// are rare.
pub(crate) fn is_dense(bytes: &[u8]) -> bool {
    if bytes.len() < LEAST {
        return false;
    }
    let len = bytes.len().min(SAMPLE);
    let start = (bytes.len() - len) / 2;
    // There are four tables because counting the same byte twice in a row would stall the processor.
    let mut counts = [[0_u32; 256]; 4];
    for four in bytes[start..start + len].chunks_exact(4) {
        for (table, byte) in counts.iter_mut().zip(four) {
            table[usize::from(*byte)] += 1;
        }
    }
    let [a, b, c, d] = &counts;
    let each = a.iter().zip(b).zip(c.iter().zip(d)).map(|((a, b), (c, d))| u64::from(a + b + c + d));
    let pairs: u64 = each.map(|count| count * count).sum();
    let n = len as u64;
    // The limit is a tenth and a quarter above the value expected for random bytes. For a small number of
    // bytes, that is some five standard deviations.
    pairs * 20 < n * 25 + n * n * 22 / 256
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::format::fixture::{SplitMix, text};

    #[test]
    fn random_and_compressed_bytes_are_dense_of_any_length() {
        for seed in 0..200 {
            let len = LEAST + seed as usize * 37;
            assert!(is_dense(&SplitMix(seed).bytes(len)), "{len} random bytes of seed {seed}");
        }
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(&text(1, 100_000)).unwrap();
        let gz = gz.finish().unwrap();
        assert!(is_dense(&gz), "{} bytes of a gzip file", gz.len());
    }

    #[test]
    fn what_can_get_smaller_is_not_dense() {
        assert!(!is_dense(&text(1, 10_000)));
        assert!(!is_dense(&SplitMix(1).bytes(LEAST - 1)), "too short to tell");
        assert!(!is_dense(&[]));
        // Six random bits per byte, as in base64; and seven, of which zstd saves an eighth.
        for bits in [6, 7] {
            let mut bytes = SplitMix(2).bytes(20_000);
            bytes.iter_mut().for_each(|byte| *byte >>= 8 - bits);
            assert!(!is_dense(&bytes), "{bits} bits");
        }
        // Floats: every fourth byte is nearly always the same.
        let mut bytes = SplitMix(3).bytes(20_000);
        bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte = 0x3f);
        assert!(!is_dense(&bytes));
        // A random header does not hide the compressible rest.
        let mixed = [SplitMix(4).bytes(3_000), text(4, 20_000)].concat();
        assert!(!is_dense(&mixed));
    }
}
