//! Whole directories in staging: the content of an archive, until it is put in place.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use policy_core::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, open_dir, open_file_at, read_link_at, stat_at};
use super::staged::{DIR, InstallError, exchange_name, move_over, names, only_mtime, remove_tree, set_times};
use super::staging::Staging;
use super::staging_id::StagingId;

/// A directory in the staging directory.
#[derive(Debug)]
pub(crate) struct StagedDir {
    name: String,
    inode: u64,
    /// Tells it from another one that gets its inode; `None` where that is not known.
    id: Option<StagingId>,
    pub(crate) dir: MountDir,
}

impl StagedDir {
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    pub(crate) fn id(&self) -> Option<StagingId> {
        self.id
    }

    /// Copies the content of a directory on another file system into this one. The caller removes the other
    /// one.
    pub(crate) fn fill(&self, from: &OwnedFd) -> io::Result<()> {
        self.dir.env().check_fault("write", self.dir.path())?;
        copy_all(&self.dir, from, self.dir.root())
    }
}

/// Copies the content of a directory with modes and times, and gives it to the owner of new files in `mount`.
fn copy_all(mount: &MountDir, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for name in names(from)? {
        let Some(stat) = stat_at(from, &name)? else { continue };
        let (mode, mtime) = (Mode::from_raw_mode(stat.st_mode & 0o7777), Fingerprint::of(&stat).mtime);
        let made = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                rustix::fs::symlinkat(&*read_link_at(from, &name)?, to, &*name)?;
                mount.give_link(to, &*name)?;
                rustix::fs::utimensat(to, &*name, &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
                continue;
            }
            FileType::Directory => {
                rustix::fs::chmodat(from, &*name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::mkdirat(to, &*name, Mode::RWXU)?;
                let made = open_dir(to, &name)?;
                copy_all(mount, &open_dir(from, &name)?, &made)?;
                made
            }
            _ => {
                rustix::fs::chmodat(from, &*name, Mode::RUSR, AtFlags::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut made = File::from(rustix::fs::openat(to, &*name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut open_file_at(from, &name)?.0, &mut made)?;
                made.into()
            }
        };
        // The owner comes first, because changing it clears mode bits.
        mount.give(&made)?;
        rustix::fs::fchmod(&made, mode)?;
        set_times(&made, mtime)?;
    }
    Ok(())
}

impl Staging {
    /// Creates an empty directory.
    pub(crate) fn new_dir(&self) -> io::Result<StagedDir> {
        let name = self.fresh_name().replacen("n-", DIR, 1);
        self.fault("mkdirat", &name)?;
        rustix::fs::mkdirat(&self.dir, name.as_str(), Mode::RWXU)
            .map_err(io::Error::from)
            .inspect_err(|e| self.see(e))?;
        let dir = open_dir(&self.dir, name.as_bytes())?;
        self.mount.give(&dir)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
        let (inode, id) = (rustix::fs::fstat(&dir)?.st_ino, StagingId::of(&dir));
        let path = self.mount.path().join(&self.name).join(&name);
        Ok(StagedDir { name, inode, id, dir: self.mount.inside(dir, path) })
    }

    /// Removes a directory with everything in it.
    pub(crate) fn discard_dir(&self, staged: &StagedDir) {
        // If this fails, the rest is removed with the staging directory, or by the next sync.
        if let Err(e) = remove_tree(&self.dir, staged.name.as_bytes()) {
            tracing::debug!(error = %e, "what came out of an archive is left behind");
        }
    }

    /// Moves a directory to a free path.
    pub(crate) fn install_dir(
        &self,
        staged: &StagedDir,
        parent: &OwnedFd,
        path: &TreePath,
    ) -> Result<(), InstallError> {
        self.mount.env().check_fault("renameat2", &self.shown.show(path))?;
        move_over(&self.dir, staged.name.as_bytes(), parent, path.name())
    }

    /// Replaces a file by a directory, if the file is the expected one.
    pub(crate) fn exchange_dir(
        &self,
        staged: &StagedDir,
        parent: &OwnedFd,
        path: &TreePath,
        expected: &Fingerprint,
    ) -> Result<(), InstallError> {
        self.mount.env().check_fault("renameat2", &self.shown.show(path))?;
        if !stat_at(parent, path.name())?.is_some_and(|stat| Fingerprint::of(&stat) == *expected) {
            return Err(InstallError::Changed);
        }
        // The name says what it is, before and after the exchange, if a crash comes here.
        let name = exchange_name(staged.inode, expected, &staged.name);
        rustix::fs::renameat(&self.dir, staged.name.as_str(), &self.dir, name.as_str())?;
        let exchange = || {
            rustix::fs::renameat_with(&self.dir, name.as_str(), parent, path.name(), RenameFlags::EXCHANGE)
        };
        match exchange() {
            Ok(()) if self.is_as_expected(&name, expected)? => {
                Ok(rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty())?)
            }
            Ok(()) => {
                exchange()?;
                Err(InstallError::Changed)
            }
            Err(Errno::NOENT) => Err(InstallError::Changed),
            Err(Errno::INVAL | Errno::NOSYS) => {
                // The file system can't exchange them: remove the file, and move the directory in.
                self.remove(parent, path, expected)?;
                move_over(&self.dir, name.as_bytes(), parent, path.name())
            }
            Err(e) => Err(e.into()),
        }
    }
}
