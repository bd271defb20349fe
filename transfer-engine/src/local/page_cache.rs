//! Whether unflushed writes to a mount can have been lost.
//!
//! The kernel keeps written data in its page cache until it is on the disk, also after the process that wrote it has ended.
//! The data is lost only with the page cache: by a loss of power, a crash of the kernel, or the removal of the disk.

use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::os;
use crate::env::{BootId, Env};

/// One life of the page cache over a mount. While it is the same, nothing that was written there is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheLife {
    /// Changes with each start of the kernel.
    pub(crate) boot: BootId,
    /// The kernel's number of the mount, and the device. A disk that was taken away comes back as another mount.
    pub(crate) mount: u64,
    pub(crate) device: u64,
}

/// File systems that keep what was written in the page cache of this kernel, and only there. Others, such as FUSE, NFS
/// and 9P, may lose it together with a server that this kernel does not know. The numbers are those of statfs(2).
#[cfg(target_os = "linux")]
const IN_PAGE_CACHE: [u64; 8] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // zfs
    0x794c_7630, // overlayfs
    TMPFS,
];
#[cfg(target_os = "linux")]
const TMPFS: u64 = 0x0102_1994;

/// `STATX_MNT_ID_UNIQUE`: a number that no other mount gets until the next boot. Since Linux 6.8. Older kernels give
/// numbers away again, so that a disk that comes back may seem never to have been away.
#[cfg(target_os = "linux")]
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);

impl CacheLife {
    /// Returns the current life; `None` if there is no boot id, or if too little is known of the file system. The state
    /// has to be on the same file system as the mount, so that the mount is never there without what is noted of it.
    pub(crate) fn over(mount: &Path, state: &Path, env: &Env) -> Option<Self> {
        let boot = env.boot()?;
        // A mount that was removed was on the file system of what is left above it.
        let mount = mount.ancestors().find(|place| place.exists())?;
        let (here, state) = (rustix::fs::stat(mount).ok()?, rustix::fs::stat(state).ok()?);
        (here.st_dev == state.st_dev && is_in_page_cache(mount)).then_some(())?;
        Some(Self { boot, mount: mount_number(mount)?, device: os::device_of(&here) })
    }
}

#[cfg(target_os = "linux")]
fn is_in_page_cache(dir: &Path) -> bool {
    rustix::fs::statfs(dir).is_ok_and(|stat| {
        // The type is signed on some machines, and has 64 bits on others.
        let kind = stat.f_type as u64 & u64::from(u32::MAX);
        IN_PAGE_CACHE.contains(&kind)
    })
}

#[cfg(target_os = "linux")]
fn mount_number(dir: &Path) -> Option<u64> {
    let ask = |what| rustix::fs::statx(CWD, dir, AtFlags::empty(), what).ok();
    let known = |what: StatxFlags| ask(what).filter(|stat| stat.stx_mask & what.bits() != 0);
    known(UNIQUE_MOUNT).map(|stat| stat.stx_mnt_id)
}

/// Other systems do not tell enough, so that each sync waits for the disk.
#[cfg(not(target_os = "linux"))]
fn is_in_page_cache(_: &Path) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn mount_number(_: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_life_of_the_page_cache_ends_with_the_boot_and_with_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real().with_boot(Some(BootId([1; 16])));
        let life = CacheLife::over(dir.path(), dir.path(), &env).unwrap();
        assert_eq!(CacheLife::over(dir.path(), dir.path(), &env), Some(life));
        let again = CacheLife::over(dir.path(), dir.path(), &env.with_boot(Some(BootId([2; 16]))));
        assert!(again.is_some_and(|again| again != life && again.mount == life.mount));
    }

    #[test]
    fn nothing_is_kept_without_a_boot_id_or_on_a_file_system_of_another_kind() {
        let dir = tempfile::tempdir().unwrap();
        let known = Env::real().with_boot(Some(BootId([1; 16])));
        assert_eq!(CacheLife::over(dir.path(), dir.path(), &known.clone().with_boot(None)), None);
        assert_eq!(CacheLife::over(Path::new("/proc"), Path::new("/proc"), &known), None);
        assert_eq!(CacheLife::over(dir.path(), Path::new("/proc"), &known), None, "the state is elsewhere");
        let life = CacheLife::over(dir.path(), dir.path(), &known);
        assert_eq!(CacheLife::over(&dir.path().join("missing"), dir.path(), &known), life, "it was removed");
    }
}
