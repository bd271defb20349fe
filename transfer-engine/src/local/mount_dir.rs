//! The handle of a mount, through which all access goes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use policy_core::TreePath;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::busy::Busy;
use crate::env::{Env, JobLost};
use crate::local::os;

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// An open mount. No method follows a symbolic link or leaves the mount, whatever is in it.
#[derive(Debug, Clone)]
pub(crate) struct MountDir {
    root: Arc<OwnedFd>,
    path: Arc<Path>,
    env: Env,
    /// Old kernels and some sandboxes lack `openat2`. Then paths are opened component by component.
    has_openat2: Arc<AtomicBool>,
    /// The owner of new files and directories; `None` leaves them to the current user.
    owner: Option<(Uid, Gid)>,
    /// The running jobs that write to the mount.
    busy: Arc<Busy>,
}

impl MountDir {
    /// Opens the directory at `path`. The path may lead through links, since the user named it.
    pub(crate) fn open(path: &Path, env: &Env) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
            path: path.into(),
            env: env.clone(),
            has_openat2: Arc::new(AtomicBool::new(true)),
            owner: None,
            busy: Arc::default(),
        })
    }

    /// Returns the same directory with `busy` as the record of its jobs.
    #[must_use]
    pub(crate) fn with_busy(self, busy: Arc<Busy>) -> Self {
        Self { busy, ..self }
    }

    /// Runs `job` on a thread for blocking work, and returns its result. The job runs to its end even if
    /// nobody waits for it.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobLost> {
        let busy = self.busy.begin();
        let job = move || {
            let done = job();
            drop(busy);
            done
        };
        self.env.blocking(job).await
    }

    /// Waits until all jobs that were started before have ended.
    pub(crate) async fn quiet(&self) {
        self.busy.quiet().await;
    }

    /// Returns the same directory; new files and directories in it are given to a user and a group.
    #[must_use]
    pub(crate) fn owned_by(self, owner: Option<(u32, u32)>) -> Self {
        Self { owner: owner.map(|(user, group)| (Uid::from_raw(user), Gid::from_raw(group))), ..self }
    }

    /// Returns a directory inside this one as a mount of its own, with the same owner for new files.
    pub(crate) fn inside(&self, dir: OwnedFd, path: PathBuf) -> Self {
        Self { root: Arc::new(dir), path: path.into(), ..self.clone() }
    }

    /// Sets the owner of a new file or directory.
    pub(crate) fn give(&self, new: impl AsFd) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => Ok(rustix::fs::fchown(new, Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    /// Sets the owner of a new link.
    pub(crate) fn give_link(&self, dir: impl AsFd, name: impl rustix::path::Arg) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => {
                Ok(rustix::fs::chownat(dir, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the mount's path still leads to this directory.
    pub(crate) fn is_in_place(&self) -> bool {
        let own = rustix::fs::fstat(&self.root).map(|stat| (os::device_of(&stat), stat.st_ino));
        own.is_ok_and(|own| identity(&self.path) == Some(own))
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// Returns the absolute path of a tree path; for messages only.
    pub(crate) fn show(&self, path: &TreePath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.path.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Opens a directory of the mount.
    pub(crate) fn dir(&self, path: &TreePath) -> io::Result<OwnedFd> {
        if path.is_root() {
            return self.root.try_clone();
        }
        if self.has_openat2.load(Ordering::Relaxed) {
            match self.open_in_pieces(path.as_bytes()) {
                None => self.has_openat2.store(false, Ordering::Relaxed),
                Some(opened) => return opened,
            }
        }
        let mut dir = self.root.try_clone()?;
        for name in path.components() {
            dir = open_dir(&dir, name)?;
        }
        Ok(dir)
    }

    /// Opens a directory with few calls; `None` if the system can't. PATH_MAX limits the string of one call, and a call for
    /// each component would take minutes in a tree of many thousand levels.
    fn open_in_pieces(&self, mut path: &[u8]) -> Option<io::Result<OwnedFd>> {
        const LONGEST: usize = 4000;
        let mut dir: Option<OwnedFd> = None;
        loop {
            let end = match path.get(..LONGEST) {
                None => path.len(),
                // A component is much shorter than that.
                Some(begin) => begin.iter().rposition(|byte| *byte == b'/').unwrap_or(path.len()),
            };
            let opened = match os::open_beneath(dir.as_ref().unwrap_or(&self.root), &path[..end], OPEN_DIR)? {
                Ok(opened) => opened,
                Err(e) => return Some(Err(e)),
            };
            if end == path.len() {
                return Some(Ok(opened));
            }
            (dir, path) = (Some(opened), &path[end + 1..]);
        }
    }

    /// Opens the directory that holds `path`.
    pub(crate) fn parent(&self, path: &TreePath) -> io::Result<OwnedFd> {
        self.dir(&path.parent().unwrap_or_default())
    }

    /// Opens a directory, and creates what is missing of its path with mode 0755, whatever the umask.
    pub(crate) fn make_dirs(&self, path: &TreePath) -> io::Result<OwnedFd> {
        match self.dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut dir = self.root.try_clone()?;
        let mut made = TreePath::root();
        for name in path.components() {
            made = made.join(name).map_err(io::Error::other)?;
            dir = match open_dir(&dir, name) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.env.check_fault("mkdirat", &self.show(&made))?;
                    let _writable = writable(&dir);
                    match rustix::fs::mkdirat(&dir, name, Mode::from_bits_retain(0o755)) {
                        Ok(()) => {
                            let new = open_dir(&dir, name)?;
                            self.give(&new)?;
                            rustix::fs::fchmod(&new, Mode::from_bits_retain(0o755))?;
                            new
                        }
                        Err(Errno::EXIST) => open_dir(&dir, name)?,
                        Err(e) => return Err(e.into()),
                    }
                }
                other => other?,
            };
        }
        Ok(dir)
    }

    /// Makes everything durable that was done here so far, including renames, with one call for the whole
    /// file system.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.env.check_fault("syncfs", &self.path)?;
        os::sync_all(&self.root)
    }

    /// Returns the stat of `path`; `None` if nothing is there.
    pub(crate) fn stat(&self, path: &TreePath) -> io::Result<Option<Stat>> {
        if path.is_root() {
            return Ok(Some(rustix::fs::fstat(&self.root)?));
        }
        let parent = match self.parent(path) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            // A link in place of a directory: nothing below it belongs to the mount.
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(None),
            other => other?,
        };
        stat_at(&parent, path.name())
    }

    /// Opens a regular file for reading. Fails at once for anything else.
    pub(crate) fn open_file(&self, path: &TreePath) -> io::Result<(std::fs::File, Stat)> {
        open_file_at(&self.parent(path)?, path.name())
    }
}

/// Returns device and inode of the directory that a path leads to; `None` if it is no directory.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(path).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        .then_some((os::device_of(&stat), stat.st_ino))
}

/// A running flush of a mount's file system.
#[derive(Debug)]
pub(crate) struct Flush(oneshot::Receiver<io::Result<()>>);

impl Flush {
    /// Starts the flush, including the file systems that begin at the paths `below`.
    pub(crate) fn begin(dir: &MountDir, below: Vec<TreePath>) -> Self {
        let (done, result) = oneshot::channel();
        let job_dir = dir.clone();
        dir.env.spawn_detached(move || {
            // The receiver may have been dropped.
            let flushed = below.iter().try_for_each(|place| match job_dir.dir(place) {
                Ok(dir) => os::sync_all(dir),
                // It is gone, or is a file.
                Err(_) => Ok(()),
            });
            let _ = done.send(flushed.and_then(|()| job_dir.sync()));
        });
        Self(result)
    }

    pub(crate) async fn end(self) -> io::Result<()> {
        self.0.await.map_err(|_| JobLost)?
    }
}

/// Opens the directory `name` in `dir`, without following a link.
pub(crate) fn open_dir(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, OPEN_DIR, Mode::empty())?)
}

/// Opens the regular file `name` in `dir`. `O_NONBLOCK` prevents blocking if a FIFO has taken its place.
pub(crate) fn open_file_at(dir: impl AsFd, name: &[u8]) -> io::Result<(std::fs::File, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no longer a regular file"));
    }
    Ok((file.into(), stat))
}

/// Returns the stat of `name` in `dir`, without following a link; `None` if nothing is there.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Reads the target of the link `name` in `dir`.
pub(crate) fn read_link_at(dir: impl AsFd, name: &[u8]) -> io::Result<Box<[u8]>> {
    let target: CString = rustix::fs::readlinkat(dir, name, Vec::with_capacity(256))?;
    Ok(target.into_bytes().into())
}

/// Restores a directory's mode when it is dropped.
#[derive(Debug)]
pub(crate) struct Writable {
    dir: OwnedFd,
    mode: Mode,
}

impl Drop for Writable {
    fn drop(&mut self) {
        // The mode could be changed a moment ago. If this fails, the directory's owner keeps write
        // permission.
        let _ = rustix::fs::fchmod(&self.dir, self.mode);
    }
}

/// What the owner of a directory needs to change what is in it.
const NEEDED: u16 = 0o300;

/// Makes a directory writable for its owner as long as the value lives; `None` if it is writable already, or
/// if its mode can't be changed.
pub(crate) fn writable(dir: impl AsFd) -> Option<Writable> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let bits = os::mode_of(&rustix::fs::fstat(&dir).ok()?);
    if bits & NEEDED == NEEDED {
        return None;
    }
    rustix::fs::fchmod(&dir, os::mode(bits | NEEDED)).ok()?;
    Some(Writable { dir: dir.as_fd().try_clone_to_owned().ok()?, mode: os::mode(bits) })
}

/// Restores the mode of a directory that a killed process left [`writable`].
pub(crate) fn end_writable(dir: impl AsFd, mode: u16) -> io::Result<()> {
    let is_left = os::mode_of(&rustix::fs::fstat(&dir)?) == mode | NEEDED && mode & NEEDED != NEEDED;
    if is_left && !rustix::process::geteuid().is_root() {
        rustix::fs::fchmod(&dir, os::mode(mode))?;
    }
    Ok(())
}
