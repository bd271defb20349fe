//! Where file systems are mounted below a mount.
//!
//! Which file system it is can't be identified reliably, because device numbers change with each boot. That
//! one begins at a directory can be told, by comparing what the kernel says of the directory and of its
//! parent.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::{PoisonError, RwLock};

use policy_core::TreePath;
use rustix::fs::{FileType, Stat};

use super::fingerprint::Fingerprint;
use super::mount_dir::{MountDir, stat_at};
use super::os;

/// The kernel's mount, and the device, that something is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystemId {
    /// `None` on old kernels.
    mount: Option<u64>,
    device: u64,
}

/// The facts about a name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked {
    pub(crate) kind: FileType,
    pub(crate) print: Fingerprint,
    pub(crate) file_system: FileSystemId,
}

impl Looked {
    /// Looks up `name` in `dir`, without following a link; `None` if it does not exist.
    pub(crate) fn at(dir: impl AsFd, name: &[u8]) -> io::Result<Option<Self>> {
        match with_mount::look(&dir, name) {
            Some(looked) => looked,
            None => Ok(stat_at(dir, name)?.map(|stat| Self::of_stat(&stat))),
        }
    }

    /// Looks up an open directory.
    pub(crate) fn of_dir(dir: impl AsFd) -> io::Result<Self> {
        match with_mount::look(&dir, b"") {
            Some(looked) => looked?.ok_or_else(|| io::ErrorKind::NotFound.into()),
            None => Ok(Self::of_stat(&rustix::fs::fstat(dir)?)),
        }
    }

    fn of_stat(stat: &Stat) -> Self {
        let device = os::device_of(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self { kind, print: Fingerprint::of(stat), file_system: FileSystemId { mount: None, device } }
    }

    /// Returns device and inode, in the form of other system calls.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.file_system.device, self.print.inode)
    }

    /// Whether a file system begins here; `above` is the place of the parent directory.
    pub(crate) fn begins(&self, above: &FileSystemId) -> bool {
        let other_mount = self.file_system.mount != above.mount;
        // A directory may be on another device without being a mount (a subvolume), and a rename can't cross
        // that either. For anything but directories, overlays report the devices of their layers.
        other_mount || self.kind == FileType::Directory && self.file_system.device != above.device
    }
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod with_mount {
    use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp};
    use rustix::io::Errno;

    use super::super::fingerprint::timestamp;
    use super::*;

    /// Looks up `name` in `dir`, or `dir` itself if it is empty, and says on which mount it is. The inner `None` stands
    /// for nothing, the outer one for a system that can't say.
    pub(super) fn look(dir: impl AsFd, name: &[u8]) -> Option<io::Result<Option<Looked>>> {
        let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
        let what = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        match rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, what) {
            Ok(stat) => Some(Ok(Some(looked(&stat)))),
            Err(Errno::NOENT) => Some(Ok(None)),
            // Some sandboxes do not support the call.
            Err(Errno::NOSYS | Errno::PERM) => None,
            Err(e) => Some(Err(e.into())),
        }
    }

    fn looked(stat: &Statx) -> Looked {
        let mount = (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id);
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let time = |time: StatxTimestamp| timestamp(time.tv_sec, time.tv_nsec);
        let print = Fingerprint {
            size: stat.stx_size,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            inode: stat.stx_ino,
            mode: stat.stx_mode & 0o7777,
        };
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        Looked { kind, print, file_system: FileSystemId { mount, device } }
    }
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod with_mount {
    use super::*;

    pub(super) fn look(_: impl AsFd, _: &[u8]) -> Option<io::Result<Option<Looked>>> {
        None
    }
}

/// The paths at which file systems begin, as far as known.
#[derive(Debug, Default)]
pub(crate) struct FileSystems(RwLock<BTreeSet<TreePath>>);

impl FileSystems {
    pub(crate) fn note(&self, path: TreePath) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(path);
    }

    /// Notes the file systems that begin at a directory of the mount or above it, as far as the directory
    /// exists. This is for operations that scan no whole tree.
    pub(crate) fn look(&self, mount: &MountDir, dir: &TreePath) -> io::Result<()> {
        let own = Looked::of_dir(mount.root())?.file_system;
        let mut at = dir.clone();
        let mut below: Option<(TreePath, Looked)> = None;
        loop {
            // An error is reported when something is written there.
            let here = mount.dir(&at).and_then(Looked::of_dir).ok();
            if let (Some(here), Some((path, below))) = (&here, below)
                && below.begins(&here.file_system)
            {
                self.note(path);
            }
            let Some(parent) = at.parent().filter(|_| here.is_none_or(|here| here.begins(&own))) else {
                return Ok(());
            };
            below = here.map(|here| (at, here));
            at = parent;
        }
    }

    /// Returns the path at which the file system of `path` begins; the root for the mount's own file system.
    pub(crate) fn begin_of(&self, path: &TreePath) -> TreePath {
        let begins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = Some(path.clone()).filter(|_| !begins.is_empty());
        while let Some(path) = at {
            if begins.contains(&path) {
                return path;
            }
            at = path.parent();
        }
        TreePath::root()
    }

    /// Returns the number of components of that path.
    pub(crate) fn depth_of(&self, path: &TreePath) -> u32 {
        depth(&self.begin_of(path))
    }

    /// Returns all known paths, in order.
    pub(crate) fn all(&self) -> Vec<TreePath> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

fn depth(path: &TreePath) -> u32 {
    if path.is_root() { 0 } else { u32::try_from(path.components().count()).unwrap_or(u32::MAX) }
}

/// Returns the first `depth` components of a path.
pub(crate) fn prefix(path: &TreePath, depth: u32) -> TreePath {
    let mut at = path.clone();
    while self::depth(&at) > depth {
        at = at.parent().unwrap_or_default();
    }
    at
}
