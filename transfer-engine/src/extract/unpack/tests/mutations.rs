//! Damaged copies of good archives: thousands of them, made from a seed. None may cause a panic. Content
//! protected by a checksum is extracted unchanged or not at all.

use super::make::{self, Tar};
use super::{Case, ExtractLimits, Node, Tree, dir, file, link, tree};

/// How many copies of each kind are damaged; `CTXSYNC_MUTATIONS` asks for more.
fn rounds() -> u64 {
    std::env::var("CTXSYNC_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

/// Pseudorandom numbers (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n.max(1) as u64).unwrap()
    }
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = 0xff,
            3 => bytes[at] = 0,
            4 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
            5 => _ = bytes.remove(at),
            6 => {
                let end = (at + dice.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let end = (at + 8).min(bytes.len());
                bytes[at..end].fill(u8::try_from(dice.below(256)).unwrap());
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

fn sample() -> Tree {
    tree(&[
        ("d", dir()),
        ("d/a", file("some text ".repeat(40))),
        ("d/l", link("a")),
        ("e", file("")),
        ("ü", Node::File { content: (0..=255).collect(), mode: 0o755, mtime: make::MTIME }),
    ])
}

fn limits() -> ExtractLimits {
    // A false size has to be detected by the limits, and not after a long wait.
    ExtractLimits { total_bytes: 8 << 20, window: 16 << 20, ..ExtractLimits::default() }
}

fn try_all(name: &str, good: &[u8], mut check: impl FnMut(&Tree, &[u8])) {
    let case = Case { limits: limits(), ..Case::new(name) };
    for seed in 0..rounds() {
        let mut bytes = good.to_vec();
        damage(&mut bytes, &mut Dice(seed));
        if let Ok((_, tree)) = case.run(&bytes) {
            check(&tree, &bytes);
        }
    }
}

#[test]
fn damaged_archives_never_panic() {
    for suffix in super::kinds::SUFFIXES {
        let name = format!("x.{suffix}");
        let good = make::archive(&name, &sample());
        try_all(&name, &good, |_, _| {});
    }
}

/// After a change of one byte under a checksum, the result is the same tree, or an error.
#[test]
fn a_changed_byte_changes_nothing_or_is_noticed() {
    let whole = sample();
    for suffix in ["tar.gz", "tar.bz2", "tar.xz", "tar.zst"] {
        let name = format!("x.{suffix}");
        let good = make::archive(&name, &whole);
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            if let Ok((_, tree)) = Case::new(&name).run(&bytes) {
                assert_eq!(tree, whole, "{suffix}: byte {at}");
            }
        }
    }
    // Zip and 7z protect contents. Names and kinds have a checksum only if the writer added one.
    let contents = |tree: &Tree| -> Vec<Vec<u8>> {
        let content = |node: &Node| match node {
            Node::File { content, .. } => Some(content.clone()),
            _ => None,
        };
        tree.values().filter_map(content).collect()
    };
    let text = b"some text ".repeat(30);
    let expected = [text.clone(), Vec::new()];
    let zip = make::zip(&[make::Zipped::new("a", &text), make::Zipped::new("b", "")]);
    let seven = make::seven(&[("a", 0o100_644, &text), ("b", 0o100_644, b"")]);
    for (name, good) in [("x.zip", zip), ("x.7z", seven)] {
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            if let Ok((_, tree)) = (Case { limits: limits(), ..Case::new(name) }).run(&bytes) {
                let found = contents(&tree);
                assert!(found.iter().all(|content| expected.contains(content)), "{name}: byte {at}");
            }
        }
    }
}

/// Damage that the checksums do not show: in a 7z's directory, with corrected checksums.
#[test]
fn bad_directories_of_7z_never_panic() {
    let good = make::archive("x.7z", &sample());
    let case = Case { limits: limits(), ..Case::new("x.7z") };
    for seed in 0..rounds() * 4 {
        let mut bytes = good.clone();
        let mut dice = Dice(seed);
        let start = seven_directory(&bytes);
        let mut directory = bytes.split_off(start);
        damage(&mut directory, &mut dice);
        bytes.extend(directory);
        seal_seven(&mut bytes, start);
        let _ = case.run(&bytes);
    }
}

/// The same for tar headers.
#[test]
fn bad_headers_of_tar_never_panic() {
    let good = Tar::default()
        .dir("d/", 0o755)
        .pax(&[("path", b"d/long"), ("mtime", b"1.5"), ("size", b"3")])
        .file("a", "abc")
        .long(tar::EntryType::GNULongName, b"d/name")
        .file("b", "x")
        .symlink("l", "d")
        .hard_link("h", "d/name")
        .end();
    let case = Case { limits: limits(), ..Case::new("x.tar") };
    for seed in 0..rounds() * 4 {
        let mut bytes = good.clone();
        let mut dice = Dice(seed);
        for _ in 0..=dice.below(3) {
            let block = dice.below(bytes.len() / 512) * 512;
            let at = block + dice.below(512);
            bytes[at] = match dice.below(3) {
                0 => bytes[at] ^ (1 << dice.below(8)),
                1 => 0xff,
                _ => b"0123457SxgLK\0/."[dice.below(15)],
            };
            if bytes[block + 257..block + 262] == *b"ustar" {
                let sum = super::super::kind::checksum(&bytes[block..block + 512]);
                bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = case.run(&bytes);
    }
}

/// Returns the offset of a 7z's directory.
fn seven_directory(bytes: &[u8]) -> usize {
    32 + usize::try_from(u64::from_le_bytes(bytes[12..20].try_into().unwrap())).unwrap()
}

/// Corrects the checksums of a 7z's directory, which begins at `start`, and of its header.
fn seal_seven(bytes: &mut [u8], start: usize) {
    let sum = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let len = (bytes.len() - start) as u64;
    bytes[20..28].copy_from_slice(&len.to_le_bytes());
    let directory = sum(&bytes[start..]);
    bytes[28..32].copy_from_slice(&directory);
    let first = sum(&bytes[12..32]);
    bytes[8..12].copy_from_slice(&first);
}

/// Replaces bytes in a 7z's directory, and corrects the checksums.
pub(super) fn patch_seven(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let start = seven_directory(bytes);
    let at = bytes[start..].windows(from.len()).position(|window| window == from).unwrap() + start;
    bytes.splice(at..at + from.len(), to.iter().copied());
    seal_seven(bytes, start);
}
