//! Trees from seeds, which are the same on all machines.

use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ctxsync_benches::Random;

use crate::Result;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// 20,000 files in 2,000 directories; sizes log-normal, median 2 KiB, mean 8 KiB, at most 4 MiB. Every second
/// file is text.
pub(super) fn many_small(tree: &Path, divide: u64) -> Result<()> {
    like_d1(tree, 20_000 / divide, 1)
}

/// A tree of D1's shape with this many files, a tenth as many directories, and sizes divided by `shrink`.
pub(crate) fn like_d1(tree: &Path, files: u64, shrink: u64) -> Result<()> {
    let mut random = Random::new(1001);
    let dirs = directories(&mut random, tree, files / 10);
    let sigma = (2.0 * 4f64.ln()).sqrt();
    for i in 0..files {
        let len = log_normal(&mut random, 2 * KIB / shrink, sigma, 16, 4 * MIB / shrink);
        // Every directory has at least one file.
        let dir = dirs.get(i as usize).unwrap_or_else(|| &dirs[random.below(dirs.len() as u64) as usize]);
        let (suffix, content) = if i % 2 == 0 {
            (["js", "rs", "py", "ts", "md"][random.below(5) as usize], text(&mut random, len))
        } else {
            (["png", "wasm", "bin", "gz"][random.below(4) as usize], random.bytes(len as usize))
        };
        write(&dir.join(format!("f{i:05}.{suffix}")), &content, i)?;
    }
    Ok(())
}

/// One file of 2 GiB.
pub(super) fn one_large(tree: &Path, divide: u64) -> Result<()> {
    write_random(&tree.join("big.bin"), &mut Random::new(2002), 2 * GIB / divide, 0)
}

/// 14 files of random bytes, 60 of about 1 MiB, 1,926 of code; 1 GiB in all.
pub(super) fn mixed(tree: &Path, divide: u64) -> Result<()> {
    let mut random = Random::new(3003);
    let mut left = GIB / divide;
    let models = [(2, 256), (4, 64), (8, 16)];
    for (i, mib) in models.iter().flat_map(|(n, mib)| std::iter::repeat_n(*mib, *n)).enumerate() {
        let len = mib * MIB / divide;
        let path = tree.join(format!("models/m{i:02}_{mib}M.safetensors"));
        write_random(&path, &mut random, len, i as u64)?;
        left -= len;
    }
    let dirs = directories(&mut random, &tree.join("code"), 180 / divide);
    for i in 0..1926 / divide {
        let len = log_normal(&mut random, 6 * KIB, 1.3, 32, 512 * KIB);
        let dir = dirs.get(i as usize).unwrap_or_else(|| &dirs[random.below(dirs.len() as u64) as usize]);
        let suffix = ["py", "rs", "yaml", "json"][random.below(4) as usize];
        write(&dir.join(format!("s{i:04}.{suffix}")), &text(&mut random, len), 100 + i)?;
        left = left.saturating_sub(len);
    }
    let data = (60 / divide).max(1);
    for i in 0..data {
        let len = left / data;
        let (suffix, content) = match i % 2 {
            0 => ("parquet", random.bytes(len as usize)),
            _ => ("csv", text(&mut random, len)),
        };
        write(&tree.join(format!("data/d{i:02}.{suffix}")), &content, 5000 + i)?;
    }
    Ok(())
}

/// A million files of 1 KiB on average in 30,000 directories, text.
pub(super) fn a_million(tree: &Path, divide: u64) -> Result<()> {
    let mut random = Random::new(6006);
    let pool = text(&mut random, 16 * MIB);
    for i in 0..1_000_000 / divide {
        let dir = i % (30_000 / divide).max(1);
        let path = tree.join(format!("d{:03}/e{dir:05}/f{i:07}.txt", dir % 173));
        let len = 256 + random.below(1536) as usize;
        let from = random.below((pool.len() - len) as u64) as usize;
        write(&path, &pool[from..from + len], i)?;
    }
    Ok(())
}

/// Returns directories like those of a project: most of them are below one of the latest.
fn directories(random: &mut Random, root: &Path, number: u64) -> Vec<PathBuf> {
    let mut dirs = vec![(root.to_owned(), 0)];
    while (dirs.len() as u64) < number.max(1) {
        let recent = if random.below(10) < 7 { dirs.len().min(400) } else { dirs.len() };
        let (parent, depth) = &dirs[dirs.len() - 1 - random.below(recent as u64) as usize];
        if *depth < 9 {
            let kind = ["pkg", "src", "lib", "test", "dist", "node"][random.below(6) as usize];
            dirs.push((parent.join(format!("{kind}{}", dirs.len())), depth + 1));
        }
    }
    dirs.into_iter().map(|(dir, _)| dir).collect()
}

fn log_normal(random: &mut Random, median: u64, sigma: f64, least: u64, most: u64) -> u64 {
    let unit = |random: &mut Random| (random.below(1 << 53) + 1) as f64 / (1u64 << 53) as f64;
    let (a, b) = (unit(random), unit(random));
    // The Box-Muller transform.
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    ((median as f64 * (sigma * normal).exp()) as u64).clamp(least, most)
}

const WORDS: &str = "let mut self fn impl return match async await pub struct enum where use crate const static \
    vec string option result error path file chunk hash size offset index buffer stream upload download policy \
    remote local config import from class def none true false print range dict list tuple value key item node \
    tree leaf root parent child module export require function var new this that with while for if else break \
    continue try catch";

/// Returns `len` bytes of lines of words, with some numbers.
fn text(random: &mut Random, len: u64) -> Vec<u8> {
    let words: Vec<&str> = WORDS.split(' ').collect();
    let mut out = String::with_capacity(len as usize + 256);
    while (out.len() as u64) < len {
        out.push_str(&"    ".repeat(random.below(4) as usize));
        let line: Vec<&str> =
            (0..3 + random.below(7)).map(|_| words[random.below(words.len() as u64) as usize]).collect();
        out.push_str(&line.join(" "));
        if random.below(5) == 0 {
            out.push_str(&format!(" = {};", random.number() as u32));
        }
        if random.below(20) == 0 {
            out.push_str(&format!(" // {:016x}", random.number()));
        }
        out.push('\n');
    }
    out.truncate(len as usize);
    out.into_bytes()
}

fn create(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    Ok(File::create(path)?)
}

fn write(path: &Path, content: &[u8], seconds: u64) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    set_time(&file, seconds)
}

fn write_random(path: &Path, random: &mut Random, len: u64, seconds: u64) -> Result<()> {
    let mut file = create(path)?;
    let mut left = len;
    while left > 0 {
        let piece = left.min(8 * MIB);
        file.write_all(&random.bytes(piece as usize))?;
        left -= piece;
    }
    set_time(&file, seconds)
}

fn set_time(file: &File, seconds: u64) -> Result<()> {
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds);
    Ok(file.set_times(FileTimes::new().set_modified(time))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_tree_with_the_sizes_that_are_promised() {
        let trees = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for tree in &trees {
            many_small(tree.path(), 10).unwrap();
        }
        crate::tree::compare(trees[0].path(), trees[1].path(), true).unwrap();
        let size = crate::tree::size(trees[0].path()).unwrap();
        assert_eq!(size.files, 2000);
        assert!((12_000_000..21_000_000).contains(&size.bytes), "{size:?}");
    }
}
