//! Staged files, distributed over several directories in the staging directory.
//!
//! If all were in one directory, each new file would be searched for among thousands, and a thread that
//! creates files would wait for one that moves files out.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use policy_core::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::mount_dir::{open_dir, stat_at};
use super::staged::{NewFile, SHELF, Staged, only_mtime};
use super::staging::Staging;
use crate::local::os;

/// The number of files in one directory.
const ROOM: usize = 128;
/// Creates staged files, for one thread at a time.
#[derive(Debug)]
pub(crate) struct Shelf {
    staging: Arc<Staging>,
    dir: Option<Arc<OwnedFd>>,
    room: usize,
}

impl Staging {
    /// Finds a directory that is empty again, or creates another.
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

    /// Sets a written file's owner, mode and time. The file is not durable before [`Staging::sync`].
    pub(crate) fn seal(&self, new: NewFile, mode: u16, mtime: Timestamp) -> io::Result<Staged> {
        let NewFile { file, dir, name, staging } = new;
        self.fault("fchmod", &name)?;
        // The owner comes first, because changing it clears mode bits.
        self.mount.give(&file)?;
        rustix::fs::fchmod(&file, os::mode(mode))?;
        rustix::fs::futimens(&file, &only_mtime(mtime))?;
        let inode = rustix::fs::fstat(&file)?.st_ino;
        Ok(Staged { dir, name, inode, staging })
    }

    /// Removes a file that is not needed.
    pub(crate) fn discard(&self, new: &NewFile) {
        // If this fails, the file is removed with the directory, or by the next sync.
        let _ = rustix::fs::unlinkat(&new.dir, new.name.as_str(), AtFlags::empty());
    }

    /// Removes a staged file that is not put in place.
    pub(crate) fn abandon(&self, staged: &Staged) {
        let _ = rustix::fs::unlinkat(&staged.dir, staged.name.as_str(), AtFlags::empty());
    }
}

impl Shelf {
    /// Returns a shelf; its directory is created with the first file.
    pub(crate) fn of(staging: Arc<Staging>) -> Self {
        Self { staging, dir: None, room: 0 }
    }

    /// Creates an empty file, open for writing and readable only by its owner.
    pub(crate) fn new_file(&mut self) -> io::Result<NewFile> {
        self.make_file().inspect_err(|e| self.staging.see(e))
    }

    /// Creates a link.
    pub(crate) fn new_symlink(&mut self, target: &[u8], mtime: Timestamp) -> io::Result<Staged> {
        self.make_symlink(target, mtime).inspect_err(|e| self.staging.see(e))
    }

    fn make_file(&mut self) -> io::Result<NewFile> {
        let (dir, name) = self.place()?;
        self.staging.fault("openat", &name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, name.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(NewFile { file: fd.into(), dir, name, staging: self.staging.id() })
    }

    fn make_symlink(&mut self, target: &[u8], mtime: Timestamp) -> io::Result<Staged> {
        let (dir, name) = self.place()?;
        self.staging.fault("symlinkat", &name)?;
        rustix::fs::symlinkat(target, &dir, name.as_str())?;
        self.staging.mount.give_link(&dir, &name)?;
        rustix::fs::utimensat(&dir, name.as_str(), &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = stat_at(&dir, name.as_bytes())?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Staged { dir, name, inode: stat.st_ino, staging: self.staging.id() })
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
