//! Trees of files on disk, and changes to them.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::{Random, paths, text};

/// A tree that can be written, and then changed by one percent any number of times.
pub trait Tree {
    /// The tree's name in the names of benchmarks.
    fn name(&self) -> &'static str;
    /// The number of its files.
    fn files(&self) -> u64;
    /// The total size of its files, in bytes.
    fn bytes(&self) -> u64;
    /// The number of files that a change affects.
    fn files_changed(&self) -> u64;
    /// Writes the tree below `dir`, which does not exist.
    fn write(&self, dir: &Path);
    /// Changes one percent of what is below `dir`, another one in each `round`.
    fn change(&self, dir: &Path, round: u64);
}

/// Many small text files, as in an installed npm tree.
#[derive(Debug)]
pub struct SmallFiles {
    files: Vec<(String, usize)>,
}

impl SmallFiles {
    /// A tree of `count` files.
    pub fn new(count: usize) -> Self {
        let mut random = Random::new(6);
        let sized = |path: policy_core::TreePath| (path.to_string(), random.file_size());
        Self { files: paths(count).into_iter().map(sized).collect() }
    }
}

impl Tree for SmallFiles {
    fn name(&self) -> &'static str {
        "small_files"
    }

    fn files(&self) -> u64 {
        self.files.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| *size as u64).sum()
    }

    fn files_changed(&self) -> u64 {
        self.files.len() as u64 / 100
    }

    fn write(&self, dir: &Path) {
        for (seed, (path, size)) in self.files.iter().enumerate() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text(seed as u64, *size)).unwrap();
        }
        settle(dir);
    }

    fn change(&self, dir: &Path, round: u64) {
        let first = (round % 100) as usize;
        let files = self.files.iter().skip(first).step_by(100).take(self.files_changed() as usize);
        for (n, (path, size)) in files.enumerate() {
            let seed = (round + 1) * 1_000_000 + n as u64;
            fs::write(dir.join(path), text(seed, *size)).unwrap();
        }
        settle(dir);
    }
}

/// One large file of random bytes.
#[derive(Debug)]
pub struct LargeFile {
    len: u64,
}

impl LargeFile {
    /// A file of `len` bytes.
    pub fn new(len: u64) -> Self {
        Self { len }
    }
}

impl Tree for LargeFile {
    fn name(&self) -> &'static str {
        "large_file"
    }

    fn files(&self) -> u64 {
        1
    }

    fn bytes(&self) -> u64 {
        self.len
    }

    fn files_changed(&self) -> u64 {
        1
    }

    fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("large.bin"), Random::new(7).bytes(self.len as usize)).unwrap();
        settle(dir);
    }

    fn change(&self, dir: &Path, round: u64) {
        let share = self.len / 100;
        let mut file = OpenOptions::new().write(true).open(dir.join("large.bin")).unwrap();
        // Consecutive rounds change places that are far apart.
        file.seek(SeekFrom::Start(round * 37 % 100 * share)).unwrap();
        file.write_all(&Random::new(8 + round).bytes(share as usize)).unwrap();
        drop(file);
        settle(dir);
    }
}

/// Writes `count` files of `len` random bytes each below `dir`, ten in each directory; returns the last path.
pub fn write_equal_files(dir: &Path, count: usize, len: usize) -> policy_core::TreePath {
    let mut last = String::new();
    for n in 0..count {
        last = format!("module-{:02}/part-{:05}/file-{n:06}.js", n / 10 % 40, n / 10);
        let path = dir.join(&last);
        if n % 10 == 0 {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, Random::new(n as u64).bytes(len)).unwrap();
    }
    settle(dir);
    last.parse().unwrap()
}

/// Creates `count` empty directories below `dir`, ten in each directory.
pub fn write_empty_dirs(dir: &Path, count: usize) {
    for n in 0..count {
        fs::create_dir_all(dir.join(format!("part-{:05}/empty-{n:06}", n / 10))).unwrap();
    }
    settle(dir);
}

/// Makes later syncs comparable: nothing is left that their flushes would have to write back, and no file is
/// so new that its times prove nothing.
pub fn settle(dir: &Path) {
    rustix::fs::syncfs(File::open(dir).unwrap()).unwrap();
    thread::sleep(Duration::from_millis(50));
}
