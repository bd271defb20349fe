//! Files that interrupted puts leave behind in a local store.

use std::fs;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;

use object_store::path::Path;

/// A file that a put was writing when its process died.
///
/// `object_store` writes `KEY#1`, or a higher number, and renames the file to `KEY` when it is complete. Its
/// listings leave such files out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// The file's path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
}

/// The most components that a key of a store has.
const DEPTH: usize = 4;

/// Returns the leftovers in a local store's directory that were last written before the time `before`.
/// `is_key` says which keys the program may have put; other files are left alone.
///
/// # Errors
/// The error of the file system. Files that vanish meanwhile are no error.
pub fn leftovers(
    dir: &FsPath,
    before: SystemTime,
    is_key: impl Fn(&Path) -> bool,
) -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let mut dirs = vec![(dir.to_owned(), Path::default(), 1)];
    while let Some((dir, prefix, depth)) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            // A directory such as `lost+found`: no put of this program wrote there.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH {
                if let Ok(below) = Path::parse(format!("{prefix}/{name}").trim_start_matches('/')) {
                    dirs.push((entry.path(), below, depth + 1));
                }
                continue;
            }
            let key = put_of(&name)
                .and_then(|name| Path::parse(format!("{prefix}/{name}").trim_start_matches('/')).ok());
            if !kind.is_file() || !key.is_some_and(|key| is_key(&key)) {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.modified()? < before => {
                    found.push(Leftover { path: entry.path(), size: meta.len() });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Returns the final name of a file that a put is writing; `None` for other files.
pub(crate) fn put_of(name: &str) -> Option<&str> {
    let (name, number) = name.split_once('#')?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_puts_left_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join("other")).unwrap();
        for name in ["a/b/x", "a/b/x#1", "a/b/x#", "a/b/x#1a", "a/y#22", "other/x#1", "z#3"] {
            fs::write(dir.path().join(name), "12345").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
        let ours = |key: &Path| key.as_ref().starts_with("a/") || key.as_ref() == "z";
        let later = SystemTime::now() + Duration::from_secs(5);
        let found = leftovers(dir.path(), later, ours).unwrap();
        let names: Vec<_> = found.iter().map(|l| l.path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, [FsPath::new("a/b/x#1"), FsPath::new("a/y#22"), FsPath::new("z#3")]);
        assert!(found.iter().all(|l| l.size == 5));
        let earlier = SystemTime::now() - Duration::from_secs(5);
        assert_eq!(leftovers(dir.path(), earlier, ours).unwrap(), []);
        assert_eq!(leftovers(&dir.path().join("none"), later, ours).unwrap(), []);
    }
}
