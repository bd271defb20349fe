//! How files are put into a mount and removed from it: whole, and only if the path is as the plan saw it.
//!
//! New files are written in a staging directory in the mount's root, on the same file system, and then
//! renamed into place. A file to be replaced or removed is first moved into the staging directory, checked,
//! and moved back if it is not the expected one. A crash leaves the staging directory behind. Its file names
//! tell [`super::recover`] which files it may delete, and which may be a user's only copy.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policy_core::{Timestamp, TreePath};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, open_dir, open_file_at, stat_at};
use super::recover::{clear, rescued_warning};
use super::staged::{
    Expected, InstallError, MARKER, NewFile, PREFIX, RESUMABLE, Staged, Unstaged, exchange_name, hide, mark,
    names, set_times,
};
use super::staging_id::StagingId;
use crate::local::os;

/// A staging directory in use.
#[derive(Debug)]
pub(crate) struct Staging {
    /// The directory that contains it.
    pub(super) mount: MountDir,
    /// The mount; messages show paths relative to it.
    pub(super) shown: MountDir,
    pub(super) dir: Arc<OwnedFd>,
    pub(super) name: String,
    next: AtomicU64,
    turn: Mutex<()>,
    pub(super) shelves: Mutex<Vec<Arc<OwnedFd>>>,
    /// Whether a flush failed, so that something may not be on the disk even if a later flush succeeds.
    failed: AtomicBool,
    /// Whether something in it turned out to be removed by another program.
    pub(super) was_hit: AtomicBool,
    /// Files of which this sync has removed a hard link, by inode, as they were then.
    links: Mutex<BTreeMap<u64, Fingerprint>>,
    /// The time of the mount's root before and after the staging directory was created in it.
    root_times: Option<[Timestamp; 2]>,
    /// Kept open, because its lock says that the directory is in use.
    _marker: OwnedFd,
    id: Option<StagingId>,
}

impl Staging {
    /// Creates a staging directory in the mount.
    pub(crate) fn create(mount: &MountDir) -> io::Result<Self> {
        let random: [u8; 8] = mount.env().random()?;
        let name = format!("{}{:016x}", String::from_utf8_lossy(PREFIX), u64::from_le_bytes(random));
        mount.env().check_fault("mkdirat", &mount.path().join(&name))?;
        let before = root_time(mount);
        rustix::fs::mkdirat(mount.root(), name.as_str(), Mode::RWXU)?;
        let dir = Arc::new(open_dir(mount.root(), name.as_bytes())?);
        let marker = mark(&dir)?;
        // The lock keeps a restore, or a sync with another state, from clearing the directory. Without locks, it may be
        // cleared, and this sync fails.
        if mount.env().check_locking().is_ok() {
            let _ = rustix::fs::flock(&marker, FlockOperation::NonBlockingLockExclusive);
        }
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
            was_hit: AtomicBool::new(false),
            links: Mutex::default(),
            root_times,
            id: StagingId::of(&marker),
            _marker: marker,
        })
    }

    /// Returns what tells it from its copies, where that can be told.
    pub(crate) fn id(&self) -> Option<StagingId> {
        self.id
    }

    /// Whether another program has removed it, or begun to: with `rm -rf .ctxsync*`, or with `git clean -fdx`.
    pub(super) fn is_gone(&self) -> bool {
        self.was_hit.load(Ordering::Relaxed)
            || stat_at(&self.dir, MARKER.as_bytes()).is_ok_and(|marker| marker.is_none())
    }

    /// Returns the error for something that is missing in it, and takes it out of use.
    fn hit(&self) -> InstallError {
        self.was_hit.store(true, Ordering::Relaxed);
        io::Error::other(Unstaged).into()
    }

    /// Looks at an error of a file that is created in it: if its directory is missing, it is taken out of use.
    pub(super) fn see(&self, e: &io::Error) {
        if e.kind() == io::ErrorKind::NotFound {
            self.was_hit.store(true, Ordering::Relaxed);
        }
    }

    /// Lets messages show paths relative to `mount`, although the staging directory is deeper.
    pub(super) fn shown_by(self, mount: &MountDir) -> Self {
        Self { shown: mount.clone(), ..self }
    }

    /// Waits for the turn to rename files across directories. The kernel does that one at a time per file
    /// system, and waiting threads would spin.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fresh_name(&self) -> String {
        format!("n-{:x}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn fault(&self, operation: &'static str, name: &str) -> io::Result<()> {
        self.mount.env().check_fault(operation, &self.mount.path().join(&self.name).join(name))
    }

    /// Opens a file under a name that a later sync will use too, with what an earlier sync left in it.
    pub(crate) fn resumable_file(&self, key: &str) -> io::Result<NewFile> {
        let name = format!("{RESUMABLE}{key}");
        self.fault("openat", &name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(io::Error::from)
            .inspect_err(|e| self.see(e))?;
        Ok(NewFile { file: fd.into(), dir: self.dir.clone(), name, staging: self.id })
    }

    /// Takes over the resumable files of abandoned staging directories.
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

    /// Makes all staged files durable, with one call for the whole file system.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let synced = self.fault("syncfs", "").and_then(|()| os::sync_all(&self.dir));
        synced.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    /// Puts a staged file in place if the path is as expected, and returns its new fingerprint: none if another
    /// program has replaced or removed it at once, or if it can't be looked at. After an error, the file is still
    /// in staging, and is removed with the directory; that tells a crash from a success.
    pub(crate) fn install(
        &self,
        staged: &Staged,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Expected,
    ) -> Result<Option<Fingerprint>, InstallError> {
        self.put(staged, parent, path, expected)?;
        let there = stat_at(parent, path.name()).ok().flatten();
        Ok(there.filter(|stat| stat.st_ino == staged.inode).map(|stat| Fingerprint::of(&stat)))
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
                let moved = self.move_in(&staged.dir, &staged.name, parent, path.name());
                moved.map_err(|e| if staged.is_there() { e } else { self.hit() })
            }
            Expected::Leaf(print) => {
                fault("fstatat")?;
                // A rename changes the ctime, which alone would show an edit that restored size and mtime.
                let there = stat_at(parent, path.name())?;
                if !there.is_some_and(|stat| self.is_still(&stat, print)) {
                    return Err(InstallError::Changed);
                }
                fault("renameat2")?;
                // The name says what the file is, before and after the exchange, if a crash comes here.
                let name = exchange_name(staged.inode, print, &staged.name);
                match rustix::fs::renameat(&staged.dir, staged.name.as_str(), &self.dir, name.as_str()) {
                    Err(Errno::NOENT) => return Err(self.hit()),
                    renamed => renamed?,
                }
                match rustix::fs::renameat_with(
                    &self.dir,
                    name.as_str(),
                    parent,
                    path.name(),
                    RenameFlags::EXCHANGE,
                ) {
                    Ok(()) => match self.is_as_expected(&name, print) {
                        Ok(false) => {
                            rustix::fs::renameat_with(
                                &self.dir,
                                name.as_str(),
                                parent,
                                path.name(),
                                RenameFlags::EXCHANGE,
                            )?;
                            Err(InstallError::Changed)
                        }
                        // The new file is in place. If the old one can't be looked at or removed, it stays in
                        // staging, and whoever clears that looks again whether it may be deleted.
                        as_expected => {
                            let _ = as_expected.and_then(|_| self.delete(&name));
                            Ok(())
                        }
                    },
                    Err(Errno::NOENT) if !self.has(&name) => Err(self.hit()),
                    Err(Errno::NOENT) => Err(InstallError::Changed),
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        // The file system can't exchange files: move the old file aside, check it, and move
                        // the new one in.
                        self.take_out(parent, path, print)?;
                        self.move_in(&self.dir, &name, parent, path.name())
                    }
                    Err(e) => Err(e.into()),
                }
            }
        }
    }

    /// Removes a file or link if it is the expected one.
    pub(crate) fn remove(
        &self,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Fingerprint,
    ) -> Result<(), InstallError> {
        self.take_out(parent, path, expected)
    }

    /// Moves a file out of the mount, checks it, and deletes it or moves it back.
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
            Some(stat) if !self.is_still(&stat, expected) => return Err(InstallError::Changed),
            Some(_) => {}
        }
        fault("unlinkat")?;
        let aside = exchange_name(0, expected, &self.fresh_name());
        match rustix::fs::renameat(parent, name, &self.dir, aside.as_str()) {
            Ok(()) => {}
            // Either the file is gone, or the staging directory.
            Err(Errno::NOENT) if stat_at(parent, name)?.is_some() => return Err(self.hit()),
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        if self.is_as_expected(&aside, expected)? {
            return Ok(self.delete(&aside)?);
        }
        self.move_in(&self.dir, &aside, parent, name)?;
        Err(InstallError::Changed)
    }

    /// Renames a staged file to a path that must be free.
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
                // Creating a hard link fails if the path exists, on every file system with hard links.
                match rustix::fs::linkat(dir, staged, parent, name, AtFlags::empty()) {
                    Ok(()) => Ok(rustix::fs::unlinkat(dir, staged, AtFlags::empty())?),
                    Err(Errno::EXIST) => Err(InstallError::Changed),
                    // It has none. What another program puts there between these two calls is replaced.
                    Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => match stat_at(parent, name)? {
                        Some(_) => Err(InstallError::Changed),
                        None => Ok(rustix::fs::renameat(dir, staged, parent, name)?),
                    },
                    Err(e) => Err(e.into()),
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a file is the expected one. That this sync has removed another hard link of it is no change.
    fn is_still(&self, stat: &Stat, expected: &Fingerprint) -> bool {
        let there = Fingerprint::of(stat);
        let links = || self.links.lock().unwrap_or_else(PoisonError::into_inner);
        there == *expected || there.same_but_moved(expected) && links().get(&there.inode) == Some(&there)
    }

    /// Deletes a file that was moved out of the mount, and notes how that changes its other hard links.
    fn delete(&self, name: &str) -> io::Result<()> {
        let linked = stat_at(&self.dir, name.as_bytes())?.filter(|stat| stat.st_nlink > 1);
        let open = linked.and_then(|_| open_file_at(&self.dir, name.as_bytes()).ok());
        rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?;
        if let Some(stat) = open.and_then(|(file, _)| rustix::fs::fstat(file).ok()) {
            let print = Fingerprint::of(&stat);
            self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(print.inode, print);
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        stat_at(&self.dir, name.as_bytes()).is_ok_and(|stat| stat.is_some())
    }

    pub(super) fn is_as_expected(&self, name: &str, expected: &Fingerprint) -> io::Result<bool> {
        Ok(stat_at(&self.dir, name.as_bytes())?.is_some_and(|s| Fingerprint::of(&s).same_but_moved(expected)))
    }

    /// Removes the staging directory and what a failed sync left in it, except for resumable files. Returns
    /// warnings for the user.
    pub(crate) fn finish(self, keep_resumable: bool) -> Vec<String> {
        let keep_resumable = keep_resumable && !self.failed.load(Ordering::Relaxed);
        // Creating and removing the staging directory must not count as changes of the mount.
        let root_time = self
            .root_times
            .and_then(|[before, after]| (root_time(&self.mount) == Some(after)).then_some(before));
        let warnings = match clear(self.mount.root(), self.name.as_bytes(), keep_resumable) {
            Ok(rescued) => rescued.iter().map(|name| rescued_warning(name)).collect(),
            // The mount was removed, and the staging directory with it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => {
                let path = self.mount.path().join(&self.name);
                vec![format!(
                    "{} is left behind: {e}; the next sync or restore here removes it",
                    path.display()
                )]
            }
        };
        if let Some(time) = root_time {
            let _ = set_times(self.mount.root(), time);
        }
        warnings
    }
}

/// Returns the mtime of the mount's root.
fn root_time(mount: &MountDir) -> Option<Timestamp> {
    Some(Fingerprint::of(&rustix::fs::fstat(mount.root()).ok()?).mtime)
}
