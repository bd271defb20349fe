//! How files come into a mount and leave it: whole, and only in place of what the plan saw.
//!
//! New files are written in a directory of our own at the mount's root (the same file system, so that a
//! rename moves them) and renamed into place. What is replaced or removed is first moved in here, looked
//! at, and moved back if it is not what was expected. A crash leaves such a directory behind; its names
//! tell [`super::recover`] which of its files are ours to delete and which may hold a user's only copy.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Timestamp, TreePath};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, open_dir, stat_at};
use super::recover::clear;
use super::staged::{
    Expected, InstallError, NewFile, PREFIX, RESUMABLE, Staged, exchange_name, hide, mark, names, set_times,
};

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
