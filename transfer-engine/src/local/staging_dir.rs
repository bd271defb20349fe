//! Whole directories in staging: what comes out of an archive, until it is put in its place.

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

/// A directory in the staging directory.
#[derive(Debug)]
pub(crate) struct StagedDir {
    name: String,
    inode: u64,
    pub(crate) dir: MountDir,
}

impl StagedDir {
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Copies what is in a directory of another file system into it. That one is of our own, and goes.
    pub(crate) fn fill(&self, from: &OwnedFd) -> io::Result<()> {
        self.dir.env().check_fault("write", self.dir.path())?;
        copy_all(&self.dir, from, self.dir.root())
    }
}

/// Copies what is in a directory, with modes and times, and gives it to the owner of what is new in `mount`.
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
        // First the owner: a change of it takes mode bits away.
        mount.give(&made)?;
        rustix::fs::fchmod(&made, mode)?;
        set_times(&made, mtime)?;
    }
    Ok(())
}

impl Staging {
    /// Makes an empty directory.
    pub(crate) fn new_dir(&self) -> io::Result<StagedDir> {
        let name = self.fresh_name().replacen("n-", DIR, 1);
        self.fault("mkdirat", &name)?;
        rustix::fs::mkdirat(&self.dir, name.as_str(), Mode::RWXU)?;
        let dir = open_dir(&self.dir, name.as_bytes())?;
        self.mount.give(&dir)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
        let inode = rustix::fs::fstat(&dir)?.st_ino;
        let path = self.mount.path().join(&self.name).join(&name);
        Ok(StagedDir { name, inode, dir: self.mount.inside(dir, path) })
    }

    /// Throws a directory away with all that is in it.
    pub(crate) fn discard_dir(&self, staged: &StagedDir) {
        // What stays behind is removed with the staging directory, or by the next sync.
        if let Err(e) = remove_tree(&self.dir, staged.name.as_bytes()) {
            tracing::debug!(error = %e, "what came out of an archive is left behind");
        }
    }

    /// Puts a directory in a place where nothing is.
    pub(crate) fn install_dir(
        &self,
        staged: &StagedDir,
        parent: &OwnedFd,
        path: &TreePath,
    ) -> Result<(), InstallError> {
        self.mount.env().check_fault("renameat2", &self.shown.show(path))?;
        move_over(&self.dir, staged.name.as_bytes(), parent, path.name())
    }

    /// Puts a directory in the place of a file, which goes, if it is what was expected.
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
        // The name tells a recovery what stands under it, before and after the exchange.
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
                // No exchange on this file system: aside, look, in.
                self.remove(parent, path, expected)?;
                move_over(&self.dir, name.as_bytes(), parent, path.name())
            }
            Err(e) => Err(e.into()),
        }
    }
}
