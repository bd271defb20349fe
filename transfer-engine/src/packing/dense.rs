//! Which chunks are not worth compressing: images, archives and the like.
//!
//! Put together with text they would spoil the statistics of its block, and be compressed in vain.

/// So many bytes, from the middle, tell.
const SAMPLE: usize = 4 << 10;
/// Of fewer bytes nothing can be told, and little is lost by them.
const LEAST: usize = 512;

/// Whether the bytes of a chunk are so evenly distributed that a code by their frequency saves less than some 2%.
///
/// The measure is how often two of them are the same: `n + n²/256` ordered pairs in random bytes, `n + n²/20` or so
/// in text. Repetitions are not looked for: who repeats random bytes in a short file is rare.
pub(crate) fn is_dense(bytes: &[u8]) -> bool {
    if bytes.len() < LEAST {
        return false;
    }
    let len = bytes.len().min(SAMPLE);
    let start = (bytes.len() - len) / 2;
    // Four tables: the same byte twice in a row would wait for itself.
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
    // A tenth and a quarter above what is expected of random bytes: some five standard deviations where there are
    // few of them.
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
        // Six bits in each byte, as in base64; seven, of which zstd saves an eighth.
        for bits in [6, 7] {
            let mut bytes = SplitMix(2).bytes(20_000);
            bytes.iter_mut().for_each(|byte| *byte >>= 8 - bits);
            assert!(!is_dense(&bytes), "{bits} bits");
        }
        // Floats: every fourth byte is nearly always the same.
        let mut bytes = SplitMix(3).bytes(20_000);
        bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte = 0x3f);
        assert!(!is_dense(&bytes));
        // A random head does not hide what follows.
        let mixed = [SplitMix(4).bytes(3_000), text(4, 20_000)].concat();
        assert!(!is_dense(&mixed));
    }
}
