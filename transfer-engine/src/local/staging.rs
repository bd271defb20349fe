//! How files come into a mount and leave it: whole, and only in place of what the plan saw.
//!
//! New files are written in a directory of our own at the mount's root (the same file system, so that a
//! rename moves them) and renamed into place. What is replaced or removed is first moved in here, looked
//! at, and moved back if it is not what was expected. A crash leaves such a directory behind; its names
//! tell [`super::recover`] which of its files are ours to delete and which may hold a user's only copy.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Timestamp, TreePath};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, open_dir, stat_at};
use super::recover::clear;
use super::shelf::{NewFile, SHELF};
use super::staging_dir::DIR;

const PREFIX: &[u8] = b".ctxsync-stage-";
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
    #[error("it changed while the sync was under way; it is left as it is")]
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

/// A staging directory in use.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The directory that it is in.
    pub(super) mount: MountDir,
    /// The mount, by which paths are shown.
    pub(super) shown: MountDir,
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
    next: AtomicU64,
    turn: Mutex<()>,
    pub(super) shelves: Mutex<Vec<Arc<OwnedFd>>>,
    /// Whether something here may not be on the disk, whatever a later flush says.
    failed: AtomicBool,
    /// The time of the mount's root before and after the staging directory was made in it.
    root_times: Option<[Timestamp; 2]>,
    /// Held as long as somebody works here.
    marker: OwnedFd,
}

impl Staging {
    /// Makes a staging directory in the mount.
    pub(crate) fn create(mount: &MountDir) -> io::Result<Self> {
        let random: [u8; 8] = mount.env().random()?;
        let name = format!("{}{:016x}", String::from_utf8_lossy(PREFIX), u64::from_le_bytes(random));
        mount.env().check_fault("mkdirat", &mount.path().join(&name))?;
        let before = root_time(mount);
        rustix::fs::mkdirat(mount.root(), name.as_str(), Mode::RWXU)?;
        let dir = Arc::new(open_dir(mount.root(), name.as_bytes())?);
        let marker = mark(&dir)?;
        hide(&dir)?;
        let root_times = before.zip(root_time(mount)).map(Into::into);
        let next = AtomicU64::new(0);
        Ok(Self {
            mount: mount.clone(),
            shown: mount.clone(),
            dir,
            name,
            next,
            turn: Mutex::default(),
            shelves: Mutex::default(),
            failed: AtomicBool::new(false),
            root_times,
            marker,
        })
    }

    /// Says where things are by their paths below `mount`, though the directory lies deeper.
    pub(super) fn shown_by(self, mount: &MountDir) -> Self {
        Self { shown: mount.clone(), ..self }
    }

    /// Locks the marker, so that a sync of the mount that begins meanwhile leaves this alone. A sync needs no such
    /// lock: it has the mount's. Where the file system has no locks, the next sync clears this away.
    pub(crate) fn claim(&self) {
        let _ = rustix::fs::flock(&self.marker, FlockOperation::NonBlockingLockExclusive);
    }

    /// Waits for the turn to move things to other directories. The kernel lets one at a time do that on a file
    /// system, and lets the others burn the processor's time meanwhile.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fresh_name(&self) -> String {
        format!("n-{:x}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn fault(&self, operation: &'static str, name: &str) -> io::Result<()> {
        self.mount.env().check_fault(operation, &self.mount.path().join(&self.name).join(name))
    }

    /// Opens a file under a name that a later sync comes to as well, with what an earlier one left in it.
    pub(crate) fn resumable_file(&self, key: &str) -> io::Result<NewFile> {
        let name = format!("{RESUMABLE}{key}");
        self.fault("openat", &name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(NewFile { file: fd.into(), dir: self.dir.clone(), name })
    }

    /// Takes over the resumable files of staging directories that nobody uses any more.
    pub(crate) fn take_over(&self, left: &[Vec<u8>]) -> io::Result<()> {
        for old in left {
            let dir = match open_dir(self.mount.root(), old) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for name in names(&dir)? {
                if name.starts_with(RESUMABLE.as_bytes()) {
                    rustix::fs::renameat(&dir, &*name, &self.dir, &*name)?;
                }
            }
            clear(self.mount.root(), old, false)?;
        }
        Ok(())
    }

    /// Makes everything staged so far durable, with one call for the whole file system.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let synced = self.fault("syncfs", "").and_then(|()| Ok(rustix::fs::syncfs(&self.dir)?));
        synced.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    /// Puts a staged file in place, if there is what was expected, and returns its stat from there. If not,
    /// it stays in staging, which is how a crash is told from success; it goes with the directory.
    pub(crate) fn install(
        &self,
        staged: &Staged,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Expected,
    ) -> Result<Fingerprint, InstallError> {
        self.put(staged, parent, path, expected)?;
        match stat_at(parent, path.name())? {
            Some(stat) if stat.st_ino == staged.inode => Ok(Fingerprint::of(&stat)),
            // Somebody was quick: it is theirs now.
            _ => Err(InstallError::Changed),
        }
    }

    fn put(
        &self,
        staged: &Staged,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Expected,
    ) -> Result<(), InstallError> {
        let fault = |operation| self.mount.env().check_fault(operation, &self.shown.show(path));
        match expected {
            Expected::Absent => {
                fault("renameat2")?;
                self.move_in(&staged.dir, &staged.name, parent, path.name())
            }
            Expected::Leaf(print) => {
                fault("fstatat")?;
                // A rename hides the ctime, which alone shows an edit that put size and mtime back.
                if !is_still(parent, path.name(), print)? {
                    return Err(InstallError::Changed);
                }
                fault("renameat2")?;
                // The name tells a recovery whose content stands under it, before and after the exchange.
                let name = exchange_name(staged.inode, print, &staged.name);
                rustix::fs::renameat(&staged.dir, staged.name.as_str(), &self.dir, name.as_str())?;
                match rustix::fs::renameat_with(
                    &self.dir,
                    name.as_str(),
                    parent,
                    path.name(),
                    RenameFlags::EXCHANGE,
                ) {
                    Ok(()) => {
                        if self.is_as_expected(&name, print)? {
                            rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty())?;
                            return Ok(());
                        }
                        rustix::fs::renameat_with(
                            &self.dir,
                            name.as_str(),
                            parent,
                            path.name(),
                            RenameFlags::EXCHANGE,
                        )?;
                        Err(InstallError::Changed)
                    }
                    Err(Errno::NOENT) => Err(InstallError::Changed),
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        // No exchange on this file system: aside, look, in.
                        self.take_out(parent, path, print)?;
                        self.move_in(&self.dir, &name, parent, path.name())
                    }
                    Err(e) => Err(e.into()),
                }
            }
        }
    }

    /// Removes a file or link, if it is what was expected.
    pub(crate) fn remove(
        &self,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Fingerprint,
    ) -> Result<(), InstallError> {
        self.take_out(parent, path, expected)
    }

    /// Moves a file out of the mount, looks at it, and deletes it or moves it back.
    fn take_out(
        &self,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Fingerprint,
    ) -> Result<(), InstallError> {
        let (name, fault) = (path.name(), |op| self.mount.env().check_fault(op, &self.shown.show(path)));
        fault("fstatat")?;
        match stat_at(parent, name)? {
            None => return Ok(()),
            Some(stat) if Fingerprint::of(&stat) != *expected => return Err(InstallError::Changed),
            Some(_) => {}
        }
        fault("unlinkat")?;
        let aside = exchange_name(0, expected, &self.fresh_name());
        match rustix::fs::renameat(parent, name, &self.dir, aside.as_str()) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        if self.is_as_expected(&aside, expected)? {
            return Ok(rustix::fs::unlinkat(&self.dir, aside.as_str(), AtFlags::empty())?);
        }
        self.move_in(&self.dir, &aside, parent, name)?;
        Err(InstallError::Changed)
    }

    /// Renames a staged file to a place where nothing may be.
    fn move_in(
        &self,
        dir: &OwnedFd,
        staged: &str,
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), InstallError> {
        match rustix::fs::renameat_with(dir, staged, parent, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(InstallError::Changed),
            Err(Errno::INVAL | Errno::NOSYS) => {
                // A hard link is refused where something is, on every file system that has links.
                match rustix::fs::linkat(dir, staged, parent, name, AtFlags::empty()) {
                    Ok(()) => Ok(rustix::fs::unlinkat(dir, staged, AtFlags::empty())?),
                    Err(Errno::EXIST) => Err(InstallError::Changed),
                    Err(e) => Err(e.into()),
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn is_as_expected(&self, name: &str, expected: &Fingerprint) -> io::Result<bool> {
        Ok(stat_at(&self.dir, name.as_bytes())?.is_some_and(|s| Fingerprint::of(&s).same_but_moved(expected)))
    }

    /// Removes the staging directory and what a failed sync left in it, but for files to go on with later.
    pub(crate) fn finish(self, keep_resumable: bool) {
        let keep_resumable = keep_resumable && !self.failed.load(Ordering::Relaxed);
        // Our own coming and going is no change of the mount.
        let root_time = self
            .root_times
            .and_then(|[before, after]| (root_time(&self.mount) == Some(after)).then_some(before));
        // What can't be removed now, the next sync removes.
        if let Err(e) = clear(self.mount.root(), self.name.as_bytes(), keep_resumable) {
            tracing::debug!(error = %e, "a staging directory is left behind");
        }
        if let Some(time) = root_time {
            let _ = set_times(self.mount.root(), time);
        }
    }
}

/// The time of the mount's root, if it can be told.
fn root_time(mount: &MountDir) -> Option<Timestamp> {
    Some(Fingerprint::of(&rustix::fs::fstat(mount.root()).ok()?).mtime)
}

fn is_still(parent: &OwnedFd, name: &[u8], print: &Fingerprint) -> io::Result<bool> {
    Ok(stat_at(parent, name)?.is_some_and(|stat| Fingerprint::of(&stat) == *print))
}

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
fn hide(dir: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, IGNORED, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(file), b"*\n")
}
