//! Text that compresses about as well as source code.

use crate::Random;

const SYLLABLES: [&str; 24] = [
    "al", "be", "con", "de", "en", "fil", "get", "her", "in", "ja", "ki", "lo", "map", "net", "or", "pre",
    "qu", "ren", "set", "tri", "un", "ver", "wri", "ze",
];
const BETWEEN: [&str; 16] = [
    " ",
    " ",
    " ",
    " ",
    " ",
    ", ",
    ".",
    "(",
    ") ",
    " = ",
    ";\n",
    ";\n    ",
    "\n        ",
    " { ",
    " }\n",
    "\"",
];
/// The number of different words in a text.
const WORDS: u64 = 2000;

/// Returns `len` bytes of identifiers and punctuation. Texts of different seeds share their words, as the
/// files of one project do.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + 32);
    while out.len() < len {
        let word = random.mostly_low(WORDS);
        // A generator for each word, so that the same number is the same word in every text.
        let mut spelling = Random::new(word);
        for _ in 0..2 + spelling.below(3) {
            out.extend_from_slice(SYLLABLES[spelling.below(24) as usize].as_bytes());
        }
        out.extend_from_slice(BETWEEN[random.below(16) as usize].as_bytes());
    }
    out.truncate(len);
    out
}
