//! Creates a directory that the user named, with its missing parents.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Gid, Uid};

/// Creates a directory and its missing parents, and gives the new ones to a user and a group. Existing
/// directories keep their owner.
pub(crate) fn make_all(dir: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let Some((user, group)) = owner else { return std::fs::create_dir_all(dir) };
    // Start with the topmost missing directory. One that another process creates meanwhile keeps its owner.
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => {
                let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
                rustix::fs::chownat(
                    CWD,
                    dir,
                    Some(user),
                    Some(group),
                    rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    // Fails with the right error if something else is in the directory's place.
    std::fs::create_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_made_is_given_away_and_what_is_there_is_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        make_all(&dir.path().join("a/b"), Some((1234, 1235))).unwrap();
        make_all(&dir.path().join("a/b/c"), Some((1236, 1237))).unwrap();
        let owner = |path: &str| {
            let stat = dir.path().join(path).metadata().unwrap();
            (stat.uid(), stat.gid())
        };
        assert_eq!([owner("a"), owner("a/b"), owner("a/b/c")], [(1234, 1235), (1234, 1235), (1236, 1237)]);
        assert_ne!(owner(""), (1234, 1235));
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(make_all(&dir.path().join("file/x"), Some((1, 1))).is_err());
        assert!(make_all(&dir.path().join("file"), Some((1, 1))).is_err());
    }
}
