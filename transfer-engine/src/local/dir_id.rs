//! Which directory a mount is.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags};

use crate::format::sha256;

/// Tells a directory from its copies: they have another inode, or were made at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirId(pub(crate) [u8; 8]);

/// File systems that may number their inodes anew whenever they are mounted. The numbers are those of statfs(2).
const NUMBERED_ANEW: [u64; 7] = [
    0x6573_5546, // FUSE
    0x0102_1997, // 9P
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2 and later
    0x517b,      // SMB 1
    0x4d44,      // FAT
    0x2011_bab0, // exFAT
];

impl DirId {
    /// `None` if the directory can't be told from its copies.
    pub(crate) fn of(dir: impl AsFd) -> Option<Self> {
        let kind = rustix::fs::fstatfs(&dir).ok()?.f_type as u64 & u64::from(u32::MAX);
        if NUMBERED_ANEW.contains(&kind) {
            return None;
        }
        let what = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(&dir, "", AtFlags::EMPTY_PATH, what).ok()?;
        let made = (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then_some(stat.stx_btime);
        let (secs, nanos) = made.map_or((0, 0), |made| (made.tv_sec, made.tv_nsec));
        let all = [&stat.stx_ino.to_le_bytes()[..], &secs.to_le_bytes(), &nanos.to_le_bytes()].concat();
        let mut id = [0; 8];
        id.copy_from_slice(&sha256(&all).0[..8]);
        Some(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn id(path: &std::path::Path) -> Option<DirId> {
        DirId::of(File::open(path).unwrap())
    }

    #[test]
    fn a_directory_stays_the_same_when_it_is_moved_or_written_to_and_a_copy_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs::create_dir(&first).unwrap();
        let is = id(&first);
        assert!(is.is_some());
        fs::rename(&first, &second).unwrap();
        fs::write(second.join("file"), "").unwrap();
        assert_eq!(id(&second), is);
        fs::create_dir(&first).unwrap();
        assert_ne!(id(&first), is);
    }
}
