//! What lies in a staging directory: its names, which tell what may be deleted, and how it is moved and removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use policy_core::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, open_dir, stat_at, writable};

pub(super) const PREFIX: &[u8] = b".ctxsync-stage-";
/// Stands in each staging directory, so that a user's directory of such a name is not taken for one.
pub(super) const MARKER: &str = ".ctxsync-stage";
pub(super) const IGNORED: &str = ".gitignore";
/// Begins the name of a file that a later sync may go on with.
pub(super) const RESUMABLE: &str = "p-";

/// What must be at a path for it to be replaced or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    Absent,
    /// The file or link of which this stat was taken.
    Leaf(Fingerprint),
}

/// Why something was not put in place or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("it changed during the sync; it is left as it is")]
    Changed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for InstallError {
    fn from(e: Errno) -> Self {
        Self::Io(e.into())
    }
}

/// A file or link that is ready in the staging directory.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The directory that it is in: the staging directory, or one in it.
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) inode: u64,
}

impl Staged {
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }
}
/// Begins the name of a directory in which nothing but our own new files is.
pub(super) const SHELF: &str = "s-";

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: File,
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
}

/// Begins the name of a directory that nothing but a staging directory's own is in.
pub(super) const DIR: &str = "e-";

pub(super) fn only_mtime(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.secs, tv_nsec: i64::from(mtime.nanos) },
    }
}

/// Sets the modification time of an open file or directory.
pub(crate) fn set_times(dir: impl AsFd, mtime: Timestamp) -> io::Result<()> {
    Ok(rustix::fs::futimens(dir, &only_mtime(mtime))?)
}

/// A name under which first a new file and then the one that it replaced stands; `own` is the inode of the
/// new one, 0 where there is none.
pub(super) fn exchange_name(own: u64, old: &Fingerprint, fresh: &str) -> String {
    let fresh = fresh.trim_start_matches("n-").trim_start_matches(RESUMABLE).trim_start_matches(DIR);
    format!("x-{own:x}-{:x}-{:x}-{:x}-{:x}-{fresh}", old.inode, old.size, old.mtime.secs, old.mtime.nanos)
}

/// Whether the file of this stat may be deleted, by what its name says of it.
pub(super) fn is_disposable(name: &str, stat: &rustix::fs::Stat) -> bool {
    if name.starts_with("n-") || name.starts_with(RESUMABLE) {
        return true;
    }
    let fields: Vec<&str> = name.split('-').collect();
    let ["x", own, inode, size, secs, nanos, _] = fields[..] else { return false };
    let print = Fingerprint::of(stat);
    let hex = |field: &str, value: u64| u64::from_str_radix(field, 16) == Ok(value);
    hex(own, print.inode)
        || (hex(inode, print.inode)
            && hex(size, print.size)
            && format!("{:x}", print.mtime.secs) == secs
            && hex(nanos, u64::from(print.mtime.nanos)))
}

/// Whether a name is such as staging directories have.
pub(crate) fn is_staging_name(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether `name` in a directory is a staging directory: ours by its marker, or empty, as it is for a
/// moment when it is made and when it is removed.
pub(crate) fn is_staging(dir: &OwnedFd, name: &[u8]) -> bool {
    is_staging_name(name)
        && open_dir(dir, name).is_ok_and(|dir| {
            let marked = stat_at(&dir, MARKER.as_bytes()).is_ok_and(|s| s.is_some());
            marked || names(&dir).is_ok_and(|names| names.is_empty())
        })
}

/// Returns what is in a directory.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Returns the stats of all that is in staging directories, which was not put in place, by inode.
pub(crate) fn staged_prints(mount: &MountDir) -> io::Result<BTreeMap<u64, Fingerprint>> {
    let mut prints = BTreeMap::new();
    let mut note = |dir: &OwnedFd, name: &[u8]| -> io::Result<()> {
        let stat = stat_at(dir, name)?;
        prints.extend(stat.map(|stat| (stat.st_ino, Fingerprint::of(&stat))));
        Ok(())
    };
    for name in names(mount.root())? {
        if is_staging(mount.root(), &name) {
            let dir = open_dir(mount.root(), &name)?;
            for file in names(&dir)? {
                note(&dir, &file)?;
                if file.starts_with(SHELF.as_bytes()) {
                    let shelf = open_dir(&dir, &file)?;
                    for file in names(&shelf)? {
                        note(&shelf, &file)?;
                    }
                }
            }
        }
    }
    Ok(prints)
}

/// Makes the marker.
pub(super) fn mark(dir: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, MARKER, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Keeps git, and what goes by its rules, away from what is here.
pub(super) fn hide(dir: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, IGNORED, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(file), b"*\n")
}

/// Moves a file, link or directory to a place where nothing is.
pub(crate) fn move_over(
    from: impl AsFd,
    name: &[u8],
    to: impl AsFd,
    new_name: &[u8],
) -> Result<(), InstallError> {
    // A directory that gets another parent is written to: its `..` changes.
    let _writable = open_dir(&from, name).ok().and_then(writable);
    match rustix::fs::renameat_with(&from, name, &to, new_name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(InstallError::Changed),
        // No such rename on this file system. A plain one replaces nothing but an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) => match stat_at(&to, new_name)? {
            Some(_) => Err(InstallError::Changed),
            None => Ok(rustix::fs::renameat(&from, name, &to, new_name)?),
        },
        Err(e) => Err(e.into()),
    }
}

/// Removes a directory of our own with all that is in it, whatever its modes say.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let dir = match open_dir(&parent, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            open_dir(&parent, name)?
        }
        other => other?,
    };
    // Its mode need not come back.
    let _writable = writable(&dir);
    for inner in names(&dir)? {
        let is_dir = stat_at(&dir, &inner)?
            .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if is_dir {
            remove_tree(&dir, &inner)?;
        } else {
            rustix::fs::unlinkat(&dir, &*inner, AtFlags::empty())?;
        }
    }
    Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
}
