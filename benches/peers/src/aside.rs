//! What is no longer needed. For a minute after many files were deleted, ext4 creates files about ten times
//! slower, because it does not reuse their inodes yet, but checks each of them. So trees of many files are
//! renamed, and deleted after all measurements.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walkdir::WalkDir;

use crate::{Result, say};

/// With less free space than this, in bytes, everything is deleted earlier.
const ROOM: u64 = 20 << 30;
/// How long ext4 does not reuse an inode (60 s), and a little more.
const SPARED: Duration = Duration::from_secs(65);
/// Files of at least this size, in bytes, are deleted at once: they are few, and their space is needed.
const LARGE: u64 = 256 << 10;
/// Up to this many files are deleted at once.
const FEW: usize = 500;

/// A directory for what will be deleted later, on the same file system.
pub(crate) struct Aside {
    dir: PathBuf,
}

impl Aside {
    /// Uses `dir`, and empties it.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let aside = Self { dir: dir.to_owned() };
        if dir.exists() {
            aside.empty()?;
            aside.wait();
        }
        std::fs::create_dir_all(dir)?;
        Ok(aside)
    }

    /// Renames a directory into this one, if it exists.
    pub(crate) fn put(&self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let mut left = 0;
        for entry in WalkDir::new(path) {
            let entry = entry?;
            if entry.file_type().is_file() && entry.metadata()?.len() >= LARGE {
                std::fs::remove_file(entry.path())?;
            } else {
                left += 1;
            }
        }
        if left < FEW {
            return Ok(std::fs::remove_dir_all(path)?);
        }
        let number = std::fs::read_dir(&self.dir)?.count();
        Ok(std::fs::rename(path, self.dir.join(number.to_string()))?)
    }

    /// Deletes everything if the disk is short of space, and waits until that no longer slows down others.
    pub(crate) fn make_room(&self) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        if disk.f_bavail * disk.f_frsize < ROOM && std::fs::read_dir(&self.dir)?.count() > 0 {
            self.empty()?;
            std::fs::create_dir_all(&self.dir)?;
            self.wait();
        }
        Ok(())
    }

    /// Deletes everything.
    pub(crate) fn empty(&self) -> Result<()> {
        say("deleting what was put aside");
        Ok(std::fs::remove_dir_all(&self.dir)?)
    }

    fn wait(&self) {
        rustix::fs::sync();
        std::thread::sleep(SPARED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_go_at_once_and_trees_of_many_are_kept_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let aside = Aside::new(&dir.path().join("aside")).unwrap();
        let (many, few) = (dir.path().join("many"), dir.path().join("few"));
        for i in 0..FEW {
            std::fs::create_dir_all(&many).unwrap();
            std::fs::write(many.join(i.to_string()), "x").unwrap();
        }
        std::fs::write(many.join("large"), vec![0; LARGE as usize]).unwrap();
        std::fs::create_dir(&few).unwrap();
        std::fs::write(few.join("one"), "x").unwrap();
        for path in [&many, &few, &dir.path().join("nothing")] {
            aside.put(path).unwrap();
            assert!(!path.exists());
        }
        let kept = crate::tree::files(&dir.path().join("aside")).unwrap();
        assert_eq!(kept.len(), FEW);
        aside.empty().unwrap();
    }
}
