//! What is not needed any more. ext4 makes files some ten times slower for a minute after it has lost many, as it
//! does not use the inodes of those again so soon and looks at each of them. So trees of many files are moved
//! away and deleted when nothing is measured any more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use walkdir::WalkDir;

use crate::{Result, say};

/// Below this much free space, in bytes, all is deleted before the end.
const ROOM: u64 = 20 << 30;
/// How long ext4 spares an inode (60 s), and a little.
const SPARED: Duration = Duration::from_secs(65);
/// Files of this size and more go at once: there are few, and they need the space.
const LARGE: u64 = 256 << 10;
/// So few files can go at once.
const FEW: usize = 500;

/// A place for what is to be deleted later, on the file system that it is on now.
pub(crate) struct Aside {
    dir: PathBuf,
}

impl Aside {
    /// Takes a directory for it, and empties it.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let aside = Self { dir: dir.to_owned() };
        if dir.exists() {
            aside.empty()?;
            aside.wait();
        }
        std::fs::create_dir_all(dir)?;
        Ok(aside)
    }

    /// Takes a directory away, if it is there.
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

    /// Deletes all if the disk is short of space, and waits until that is no burden any more.
    pub(crate) fn make_room(&self) -> Result<()> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        if disk.f_bavail * disk.f_frsize < ROOM && std::fs::read_dir(&self.dir)?.count() > 0 {
            self.empty()?;
            std::fs::create_dir_all(&self.dir)?;
            self.wait();
        }
        Ok(())
    }

    /// Deletes all.
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
