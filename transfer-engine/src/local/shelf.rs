//! Files on their way into a mount, a few to a directory of the staging directory.
//!
//! In one directory for all, each new file would be searched for among thousands, and who makes files would
//! wait for who moves others out.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use policy_core::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::mount_dir::{open_dir, stat_at};
use super::staged::{NewFile, SHELF, Staged, only_mtime};
use super::staging::Staging;

/// Files in one directory.
const ROOM: usize = 128;
/// A place for new files, for one who makes them at a time.
#[derive(Debug)]
pub(crate) struct Shelf {
    staging: Arc<Staging>,
    dir: Option<Arc<OwnedFd>>,
    room: usize,
}

impl Staging {
    /// Finds a directory from which all files were moved out, or makes another.
    fn free_shelf(&self) -> io::Result<Arc<OwnedFd>> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = shelves.iter().find(|shelf| Arc::strong_count(shelf) == 1) {
            return Ok(free.clone());
        }
        let name = self.fresh_name().replacen("n-", SHELF, 1);
        self.fault("mkdirat", &name)?;
        rustix::fs::mkdirat(&self.dir, name.as_str(), Mode::RWXU)?;
        let shelf = Arc::new(open_dir(&self.dir, name.as_bytes())?);
        shelves.push(shelf.clone());
        Ok(shelf)
    }

    /// Gives a written file its mode and time. It is not durable before [`Staging::sync`].
    pub(crate) fn seal(&self, new: NewFile, mode: u16, mtime: Timestamp) -> io::Result<Staged> {
        let NewFile { file, dir, name } = new;
        self.fault("fchmod", &name)?;
        // First the owner: a change of it takes mode bits away.
        self.mount.give(&file)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(u32::from(mode)))?;
        rustix::fs::futimens(&file, &only_mtime(mtime))?;
        let inode = rustix::fs::fstat(&file)?.st_ino;
        Ok(Staged { dir, name, inode })
    }

    /// Throws a file away.
    pub(crate) fn discard(&self, new: &NewFile) {
        // What stays behind is removed with the directory, or by the next sync.
        let _ = rustix::fs::unlinkat(&new.dir, new.name.as_str(), AtFlags::empty());
    }

    /// Throws away a staged file that has no place to go to.
    pub(crate) fn abandon(&self, staged: &Staged) {
        let _ = rustix::fs::unlinkat(&staged.dir, staged.name.as_str(), AtFlags::empty());
    }
}

impl Shelf {
    /// Returns a place for new files; it is made with the first of them.
    pub(crate) fn of(staging: Arc<Staging>) -> Self {
        Self { staging, dir: None, room: 0 }
    }

    /// Makes an empty file, open for writing and readable by its owner only.
    pub(crate) fn new_file(&mut self) -> io::Result<NewFile> {
        let (dir, name) = self.place()?;
        self.staging.fault("openat", &name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(NewFile { file: fd.into(), dir, name })
    }

    /// Makes a link.
    pub(crate) fn new_symlink(&mut self, target: &[u8], mtime: Timestamp) -> io::Result<Staged> {
        let (dir, name) = self.place()?;
        self.staging.fault("symlinkat", &name)?;
        rustix::fs::symlinkat(target, &dir, name.as_str())?;
        self.staging.mount.give_link(&dir, &name)?;
        rustix::fs::utimensat(&dir, name.as_str(), &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = stat_at(&dir, name.as_bytes())?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Staged { dir, name, inode: stat.st_ino })
    }

    fn place(&mut self) -> io::Result<(Arc<OwnedFd>, String)> {
        let dir = match &self.dir {
            Some(dir) if self.room > 0 => dir.clone(),
            _ => {
                self.dir = None;
                self.room = ROOM;
                self.dir.insert(self.staging.free_shelf()?).clone()
            }
        };
        self.room -= 1;
        Ok((dir, self.staging.fresh_name()))
    }
}
