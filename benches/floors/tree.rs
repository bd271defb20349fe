//! The tree to work on: generated or given, and in memory.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ctxsync_benches::{Random, text};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::Result;

/// Files of one directory in the generated tree.
const IN_A_DIRECTORY: u64 = 10;

/// Flags for opening a directory.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A directory with the files directly in it.
pub(crate) struct Directory {
    /// Its path below the tree; empty for the tree itself.
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<(CString, Vec<u8>)>,
}

/// A tree in memory.
pub(crate) struct Tree {
    /// Parents come first.
    pub(crate) dirs: Vec<Directory>,
}

impl Tree {
    /// Reads the regular files below `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut dirs = Vec::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(path) = waiting.pop() {
            let dir = open(root, &path)?;
            let mut files = Vec::new();
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if name == c"." || name == c".." {
                    continue;
                }
                let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => waiting.push(path.join(OsStr::from_bytes(name.to_bytes()))),
                    FileType::RegularFile => {
                        let file = rustix::fs::openat(&dir, name, OFlags::RDONLY, Mode::empty())?;
                        let mut bytes = Vec::with_capacity(stat.st_size.try_into()?);
                        File::from(file).read_to_end(&mut bytes)?;
                        files.push((name.to_owned(), bytes));
                    }
                    _ => {}
                }
            }
            dirs.push(Directory { path, files });
        }
        Ok(Self { dirs })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.dirs.iter().flat_map(|dir| dir.files.iter().map(|(_, bytes)| &**bytes))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files().map(|bytes| bytes.len() as u64).sum()
    }

    /// Returns the numbers of files and bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.files().count() as u64, self.bytes())
    }
}

/// Opens a directory below `root`.
pub(crate) fn open(root: &Path, path: &Path) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(root.join(path), DIRECTORY, Mode::empty())?)
}

/// Creates a tree like an installed npm package tree, half of it text, half of it random, and returns its
/// path.
pub(crate) fn make(root: &Path, files: u64) -> Result<PathBuf> {
    let mut random = Random::new(1);
    for n in 0..files {
        let dir = n / IN_A_DIRECTORY;
        let dir = root.join(format!("module-{:02}/part-{dir:05}", dir % 40));
        if n % IN_A_DIRECTORY == 0 {
            fs::create_dir_all(&dir)?;
        }
        let size = random.file_size();
        let bytes = if n % 2 == 0 { text(n, size) } else { Random::new(n).bytes(size) };
        fs::write(dir.join(format!("file-{n:06}.js")), bytes)?;
    }
    Ok(root.to_owned())
}
