//! System calls that only Linux has, with what does their work elsewhere, or leaves it out.
//!
//! The feature `portable` uses the latter on Linux as well, so that they can be tested there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

#[cfg(feature = "archives")]
use rustix::fs::FileType;
use rustix::fs::{Mode, RawMode, Stat};

#[cfg(feature = "archives")]
pub(crate) use own::share_content;
pub(crate) use own::{
    COARSE_CLOCK, NAMES_OF_OPEN, clone_file, open_beneath, punch_hole, start_writing, sync_all,
};

/// Returns permission bits as system calls take them.
pub(crate) fn mode(bits: u16) -> Mode {
    Mode::from_raw_mode(RawMode::from(bits))
}

/// Returns the kind of a file from a mode as archives have it.
#[cfg(feature = "archives")]
pub(crate) fn kind_of(mode: u32) -> FileType {
    FileType::from_raw_mode(mode as RawMode)
}

/// Returns the permission bits of a stat.
pub(crate) fn mode_of(stat: &Stat) -> u16 {
    (stat.st_mode & 0o7777) as u16
}

/// Returns the device of a stat.
#[expect(clippy::allow_attributes, reason = "only some systems have another type there")]
pub(crate) fn device_of(stat: &Stat) -> u64 {
    #[allow(clippy::unnecessary_cast)]
    {
        stat.st_dev as u64
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod own {
    use std::num::NonZeroU64;

    use rustix::fs::{Advice, FallocateFlags, OFlags, ResolveFlags};
    use rustix::io::Errno;
    use rustix::time::ClockId;

    use super::*;

    /// The clock that file systems take their times from.
    pub(crate) const COARSE_CLOCK: ClockId = ClockId::RealtimeCoarse;
    /// A directory with the descriptors of this process as links.
    pub(crate) const NAMES_OF_OPEN: &str = "/proc/self/fd";

    /// Opens a directory below another one through no link; `None` if the system can't do that in one call.
    pub(crate) fn open_beneath(dir: &OwnedFd, path: &[u8], flags: OFlags) -> Option<io::Result<OwnedFd>> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(dir, path, flags, Mode::empty(), beneath) {
            Err(Errno::NOSYS | Errno::PERM) => None,
            other => Some(other.map_err(io::Error::from)),
        }
    }

    /// Makes everything durable that was written to the file system of `fd`.
    pub(crate) fn sync_all(fd: impl AsFd) -> io::Result<()> {
        Ok(rustix::fs::syncfs(fd)?)
    }

    /// Lets the disk start to write this part of a file.
    pub(crate) fn start_writing(file: &File, at: u64, len: usize) {
        let _ = rustix::fs::fadvise(file, at, NonZeroU64::new(len as u64), Advice::DontNeed);
    }

    /// Makes a hole; false if the file system can't.
    pub(crate) fn punch_hole(file: &File, at: u64, len: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes an empty file share the content of another one; false if the file system can't.
    #[cfg(feature = "archives")]
    pub(crate) fn share_content(copy: &File, file: &File) -> bool {
        rustix::fs::ioctl_ficlone(copy, file).is_ok()
    }

    /// Makes `copy`, an empty file, or an unnamed file in `dir` if that is on another file system, share the content of
    /// `file`. Returns the one that does; `None` if the file system can't.
    pub(crate) fn clone_file(copy: &File, file: &File, dir: &OwnedFd) -> io::Result<Option<File>> {
        match rustix::fs::ioctl_ficlone(copy, file) {
            Ok(()) => copy.try_clone().map(Some),
            Err(Errno::XDEV) => {
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let beside = rustix::fs::openat(dir, ".", flags, Mode::RUSR | Mode::WUSR);
                let cloned = beside.ok().filter(|beside| rustix::fs::ioctl_ficlone(beside, file).is_ok());
                Ok(cloned.map(File::from))
            }
            Err(_) => Ok(None),
        }
    }
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod own {
    use rustix::fs::OFlags;
    use rustix::time::ClockId;

    use super::*;

    pub(crate) const COARSE_CLOCK: ClockId = ClockId::Realtime;
    pub(crate) const NAMES_OF_OPEN: &str = "/dev/fd";

    pub(crate) fn open_beneath(_: &OwnedFd, _: &[u8], _: OFlags) -> Option<io::Result<OwnedFd>> {
        None
    }

    /// On macOS, the drive keeps what it was given in a cache of its own unless it is told otherwise: fcntl(2).
    pub(crate) fn sync_all(fd: impl AsFd) -> io::Result<()> {
        rustix::fs::sync();
        #[cfg(target_vendor = "apple")]
        rustix::fs::fcntl_fullfsync(fd)?;
        #[cfg(not(target_vendor = "apple"))]
        rustix::fs::fsync(fd)?;
        Ok(())
    }

    pub(crate) fn start_writing(_: &File, _: u64, _: usize) {}

    pub(crate) fn punch_hole(_: &File, _: u64, _: u64) -> io::Result<bool> {
        Ok(false)
    }

    #[cfg(feature = "archives")]
    pub(crate) fn share_content(_: &File, _: &File) -> bool {
        false
    }

    pub(crate) fn clone_file(_: &File, _: &File, _: &OwnedFd) -> io::Result<Option<File>> {
        Ok(None)
    }
}
