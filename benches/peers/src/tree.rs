//! Trees on disk: their sizes, and comparing them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::Result;

/// The size of what is below a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Returns all regular files below a directory, sorted.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Returns the size of what is below a directory, which may be missing.
pub(crate) fn size(dir: &Path) -> Result<Size> {
    let mut size = Size::default();
    for entry in WalkDir::new(dir).into_iter().filter(|_| dir.exists()) {
        let meta = entry?.metadata()?;
        if meta.is_file() {
            size.files += 1;
            size.bytes += meta.len();
        }
    }
    Ok(size)
}

/// Fails unless both trees have the same files with the same content. With `whole`, links, times and modes
/// must be equal, too.
pub(crate) fn compare(a: &Path, b: &Path, whole: bool) -> Result<()> {
    let (of_a, of_b) = (listed(a, whole)?, listed(b, whole)?);
    if let Some((left, right)) = of_a.iter().zip(&of_b).find(|(left, right)| left != right) {
        return Err(format!("{} and {} differ: {left:?}, {right:?}", a.display(), b.display()).into());
    }
    if of_a.len() != of_b.len() {
        return Err(
            format!("{} has {} paths, {} {}", a.display(), of_a.len(), b.display(), of_b.len()).into()
        );
    }
    let files: Vec<&Row> = of_a.iter().filter(|row| row.link.is_none()).collect();
    let same = |row: &&Row| -> std::result::Result<(), String> {
        expect_same(&a.join(&row.path), &b.join(&row.path)).map_err(|e| e.to_string())
    };
    // On two threads, because a million files take minutes on one.
    let (left, right) = files.split_at(files.len() / 2);
    let (left, right) = std::thread::scope(|scope| {
        let left = scope.spawn(|| left.iter().try_for_each(same));
        let right = right.iter().try_for_each(same);
        (left.join(), right)
    });
    left.map_err(|_| "comparing failed")??;
    Ok(right?)
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    path: PathBuf,
    size: u64,
    link: Option<PathBuf>,
    mode: u32,
    mtime: i64,
}

fn listed(dir: &Path, whole: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let meta = entry.metadata()?;
        let path = entry.path().strip_prefix(dir)?.to_owned();
        if meta.is_symlink() && whole {
            let link = Some(std::fs::read_link(entry.path())?);
            rows.push(Row { path, size: 0, link, mode: 0, mtime: 0 });
        } else if meta.is_file() {
            let (mode, mtime) = if whole { (meta.mode(), meta.mtime()) } else { (0, 0) };
            rows.push(Row { path, size: meta.len(), link: None, mode, mtime });
        }
    }
    Ok(rows)
}

/// Fails unless two files have the same content.
pub(crate) fn expect_same(a: &Path, b: &Path) -> Result<()> {
    if !same_content(a, b)? {
        return Err(format!("{} is not the same as {}", a.display(), b.display()).into());
    }
    Ok(())
}

fn same_content(a: &Path, b: &Path) -> Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        if b.read_exact(&mut right[..read]).is_err() || left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for tree in [&a, &b] {
            std::fs::create_dir(tree).unwrap();
            for i in 0..5 {
                std::fs::write(tree.join(i.to_string()), "same").unwrap();
            }
        }
        compare(&a, &b, false).unwrap();
        for i in 0..5 {
            let path = b.join(i.to_string());
            std::fs::write(&path, "diff").unwrap();
            compare(&a, &b, false).unwrap_err();
            std::fs::write(&path, "same").unwrap();
        }
        std::fs::write(b.join("5"), "more").unwrap();
        compare(&a, &b, false).unwrap_err();
    }
}
