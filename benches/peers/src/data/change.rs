//! A small change of a tree, another one each round.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ctxsync_benches::Random;

use super::Set;
use crate::Result;
use crate::tree;

/// Changes 1% of the files: 4 KiB are appended to each, of one large file 64 KiB are overwritten. D2: 1 KiB is
/// inserted in the middle. D6: one file gets one byte more.
pub(crate) fn change(set: Set, tree: &Path, round: usize) -> Result<()> {
    let mut random = Random::new(7 + round as u64);
    let files = tree::files(tree)?;
    if set == Set::D2 {
        return files.iter().try_for_each(|file| insert(file, &random.bytes(1 << 10)));
    }
    let number = if set == Set::D6 { 1 } else { (files.len() / 100).max(1) };
    let large = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 1 << 20);
    if let Some(path) = files.iter().filter(|path| large(path) && set == Set::D3).nth(3 + round % 4) {
        overwrite(path, &random.bytes(64 << 10))?;
    }
    for _ in 0..number {
        let path = &files[random.below(files.len() as u64) as usize];
        if !large(path) {
            let added = random.bytes(if set == Set::D6 { 1 } else { 4 << 10 });
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
