//! The content of a staging directory: names, which say what may be deleted; moving and removing.

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
use super::staging_id::StagingId;

pub(super) const PREFIX: &[u8] = b".ctxsync-stage-";
/// Marks a staging directory, so that a user's directory with such a name is not mistaken for one.
pub(super) const MARKER: &str = ".ctxsync-stage";
pub(super) const IGNORED: &str = ".gitignore";
/// The prefix of a file that a later sync may resume.
pub(super) const RESUMABLE: &str = "p-";

/// What must be at a path for it to be replaced or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    Absent,
    /// The file or link with this fingerprint.
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

impl InstallError {
    /// Whether it is [`Unstaged`].
    pub(crate) fn is_unstaged(&self) -> bool {
        matches!(self, Self::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<Unstaged>()))
    }
}

/// Another program removed the staging directory, or what was in it. Another attempt gets a new one.
#[derive(Debug, thiserror::Error)]
#[error("something keeps removing the sync's own `.ctxsync-stage-*` directory")]
pub(crate) struct Unstaged;

impl From<Errno> for InstallError {
    fn from(e: Errno) -> Self {
        Self::Io(e.into())
    }
}

/// A complete file or link in the staging directory.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Its directory: the staging directory, or a directory in it.
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) inode: u64,
    pub(super) staging: Option<StagingId>,
}

impl Staged {
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Returns the id of the staging directory that it is in.
    pub(crate) fn staging(&self) -> Option<StagingId> {
        self.staging
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        stat_at(&self.dir, self.name.as_bytes()).is_ok_and(|stat| stat.is_some())
    }
}

/// The prefix of a directory that contains only new files of the program.
pub(super) const SHELF: &str = "s-";

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct NewFile {
    pub(crate) file: File,
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
    pub(super) staging: Option<StagingId>,
}

/// The prefix of a directory that contains only files of a staging directory.
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

/// Returns the name that first the new file has and then, after the exchange, the old one. `own` is the inode
/// of the new file, or 0 if there is none.
pub(super) fn exchange_name(own: u64, old: &Fingerprint, fresh: &str) -> String {
    let fresh = fresh.trim_start_matches("n-").trim_start_matches(RESUMABLE).trim_start_matches(DIR);
    format!("x-{own:x}-{:x}-{:x}-{:x}-{:x}-{fresh}", old.inode, old.size, old.mtime.secs, old.mtime.nanos)
}

/// Whether the file with this stat may be deleted, judging by its name.
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

/// Whether a name has the form of a staging directory's.
pub(crate) fn is_staging_name(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Whether `name` in a directory is a staging directory: it has the marker, or is empty, as it is for a
/// moment when it is created and when it is removed.
pub(crate) fn is_staging(dir: &OwnedFd, name: &[u8]) -> bool {
    is_staging_name(name)
        && open_dir(dir, name).is_ok_and(|dir| {
            let marked = stat_at(&dir, MARKER.as_bytes()).is_ok_and(|s| s.is_some());
            marked || names(&dir).is_ok_and(|names| names.is_empty())
        })
}

/// Returns the names in a directory.
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

/// Returns the fingerprints, by inode, of all staged files that were not put in place, and the ids of the staging
/// directories and of the directories of archives in them.
pub(crate) fn staged(mount: &MountDir) -> io::Result<(BTreeMap<u64, Fingerprint>, Vec<StagingId>)> {
    let (mut prints, mut ids) = (BTreeMap::new(), Vec::new());
    let mut note = |dir: &OwnedFd, name: &[u8]| -> io::Result<()> {
        let stat = stat_at(dir, name)?;
        prints.extend(stat.map(|stat| (stat.st_ino, Fingerprint::of(&stat))));
        Ok(())
    };
    for name in names(mount.root())? {
        if is_staging(mount.root(), &name) {
            let dir = open_dir(mount.root(), &name)?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let marker = rustix::fs::openat(&dir, MARKER, flags, Mode::empty());
            ids.extend(marker.ok().and_then(StagingId::of));
            for file in names(&dir)? {
                note(&dir, &file)?;
                if file.starts_with(DIR.as_bytes()) {
                    ids.extend(open_dir(&dir, &file).ok().and_then(StagingId::of));
                }
                if file.starts_with(SHELF.as_bytes()) {
                    let shelf = open_dir(&dir, &file)?;
                    for file in names(&shelf)? {
                        note(&shelf, &file)?;
                    }
                }
            }
        }
    }
    Ok((prints, ids))
}

/// Creates the marker.
pub(super) fn mark(dir: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, MARKER, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Gives a staging directory another id, before something in it is removed: from then on, what is missing in it need not
/// have been put in place.
pub(super) fn mark_anew(dir: &OwnedFd) -> io::Result<()> {
    const NEW: &str = "n-marker";
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, NEW, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(rustix::fs::renameat(dir, NEW, dir, MARKER)?)
}

/// Makes git, and tools that follow its rules, ignore the directory.
pub(super) fn hide(dir: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, IGNORED, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(file), b"*\n")
}

/// Moves a file, link or directory to a free path.
pub(crate) fn move_over(
    from: impl AsFd,
    name: &[u8],
    to: impl AsFd,
    new_name: &[u8],
) -> Result<(), InstallError> {
    // Moving a directory to another parent writes to it, since its `..` changes.
    let _writable = open_dir(&from, name).ok().and_then(writable);
    match rustix::fs::renameat_with(&from, name, &to, new_name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(InstallError::Changed),
        // The file system lacks this rename. A plain rename replaces nothing but an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) => match stat_at(&to, new_name)? {
            Some(_) => Err(InstallError::Changed),
            None => Ok(rustix::fs::renameat(&from, name, &to, new_name)?),
        },
        Err(e) => Err(e.into()),
    }
}

/// Removes a directory of the program with everything in it, whatever its modes are.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
    let dir = match open_dir(&parent, name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            open_dir(&parent, name)?
        }
        other => other?,
    };
    // The mode need not be restored.
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
