//! A small change of a tree, another one in each round.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ctxsync_benches::Random;

use super::Set;
use crate::{Result, say, tree};

/// A file that is changed in place. Its content is restored in the end.
pub(crate) struct Changed {
    path: PathBuf,
    content: Vec<u8>,
    modified: SystemTime,
}

impl Changed {
    /// Records a file's content and time.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let (content, modified) = (std::fs::read(path)?, path.metadata()?.modified()?);
        Ok(Self { path: path.to_owned(), content, modified })
    }

    /// Appends some bytes to the recorded content, other ones in each round.
    pub(crate) fn change(&self, round: usize) -> Result<()> {
        let added = Random::new(7 + round as u64).bytes(1 + round);
        Ok(std::fs::write(&self.path, [self.content.as_slice(), &added].concat())?)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let back = std::fs::write(&self.path, &self.content)
            .and_then(|()| File::options().write(true).open(&self.path)?.set_modified(self.modified));
        if let Err(error) = back {
            say(&format!("{} stays changed: {error}", self.path.display()));
        }
    }
}

/// Changes 1% of the files: 4 KiB are appended to each, and 64 KiB of one large file are overwritten. For D2,
/// 1 KiB is inserted in the middle.
pub(crate) fn change(set: Set, tree: &Path, round: usize) -> Result<()> {
    let mut random = Random::new(7 + round as u64);
    let files = tree::files(tree)?;
    if set == Set::D2 {
        return files.iter().try_for_each(|file| insert(file, &random.bytes(1 << 10)));
    }
    let number = (files.len() / 100).max(1);
    let large = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 1 << 20);
    if let Some(path) = files.iter().filter(|path| large(path) && set == Set::D3).nth(3 + round % 4) {
        overwrite(path, &random.bytes(64 << 10))?;
    }
    for _ in 0..number {
        let path = &files[random.below(files.len() as u64) as usize];
        if !large(path) {
            let added = random.bytes(4 << 10);
            OpenOptions::new().append(true).open(path)?.write_all(&added)?;
        }
    }
    Ok(())
}

fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    file.seek(SeekFrom::Start(middle))?;
    Ok(file.write_all(bytes)?)
}

fn insert(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    file.seek(SeekFrom::Start(middle))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    file.seek(SeekFrom::Start(middle))?;
    file.write_all(bytes)?;
    Ok(file.write_all(&rest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_changed_in_its_place_is_what_it_was_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let was = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(was).unwrap();
        let changed = Changed::new(&path).unwrap();
        let contents = [0, 1].map(|round| {
            changed.change(round).unwrap();
            std::fs::read(&path).unwrap()
        });
        assert_eq!(contents.each_ref().map(Vec::len), [8, 9]);
        drop(changed);
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(path.metadata().unwrap().modified().unwrap(), was);
    }
}
