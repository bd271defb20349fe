//! Which staging directory it is.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use crate::format::sha256;

/// Tells a staging directory from its copies, and from itself after it was cleared: the marker in it has another inode
/// then, or was made at another time. A directory of an archive has an id of its own, by its own inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StagingId(pub(crate) [u8; 8]);

impl StagingId {
    /// Returns the id of a staging directory by its open marker; `None` if it can't be told from its copies.
    pub(crate) fn of(marker: impl AsFd) -> Option<Self> {
        if is_numbered_anew(&marker) {
            return None;
        }
        let stat = File::from(marker.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        let made = stat.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        let made = made.map_or(0, |made| made.as_nanos());
        let mut id = [0; 8];
        id.copy_from_slice(&sha256(&[&stat.ino().to_le_bytes()[..], &made.to_le_bytes()].concat()).0[..8]);
        Some(Self(id))
    }
}

/// Whether the file's file system may number its inodes anew whenever it is mounted.
#[cfg(target_os = "linux")]
fn is_numbered_anew(file: impl AsFd) -> bool {
    /// By the numbers of statfs(2).
    const SUCH: [u64; 7] = [
        0x6573_5546, // FUSE
        0x0102_1997, // 9P
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB 2 and later
        0x517b,      // SMB 1
        0x4d44,      // FAT
        0x2011_bab0, // exFAT
    ];
    let kind = rustix::fs::fstatfs(file).map(|stat| stat.f_type as u64 & u64::from(u32::MAX));
    kind.is_ok_and(|kind| SUCH.contains(&kind))
}

/// Elsewhere that is not known, so that no inode is trusted after a kill.
#[cfg(not(target_os = "linux"))]
fn is_numbered_anew(_: impl AsFd) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_moved_or_written_to_keeps_its_id_and_a_copy_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let id = |path| StagingId::of(File::open(path).unwrap());
        fs::write(&first, "").unwrap();
        let is = id(&first);
        assert!(is.is_some());
        fs::rename(&first, &second).unwrap();
        fs::write(&second, "x").unwrap();
        assert_eq!(id(&second), is);
        fs::copy(&second, &first).unwrap();
        assert_ne!(id(&first), is);
    }
}
